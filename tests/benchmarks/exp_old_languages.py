"""Measures what training on Georgian does to the languages that the base model speaks, checkpoint by checkpoint.

A small XTTS GPT is trained on espeak-ng speech of three languages, and becomes the base model of an ordinary run of the
pipeline on Georgian starter speech, with held-out clips of the three languages as `replay_dir`. Printed: for every
checkpoint the Georgian validation loss, the losses on the held-out clips, and the largest change of an old text row.

    python tests/benchmarks/exp_old_languages.py --work /tmp/old_languages
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from exp_informed_init import base_sentences, speak

import create_metadata_files
import run_pretrain
from data_loader import CollateFunction, Draw, XTTSDataset, open_data
from xtts_ka.core.config import STARTER_MARK, PretrainConfig, StarterConfig, load_config
from xtts_ka.core.files import write_json
from xtts_ka.corpus.tables import Clip, Row
from xtts_ka.model.checkpoint import load_gpt, read_model, write_model
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.model.features import FeatureExtractor, load_speech
from xtts_ka.model.old_text import OldTextTokenizer
from xtts_ka.starter.base_model import make_base_model
from xtts_ka.starter.speech import read_sentences, speak_corpus
from xtts_ka.training.checkpoint_manager import CheckpointManager
from xtts_ka.training.clip_index import build_index
from xtts_ka.training.feature_cache import RECORD
from xtts_ka.training.gpt_trainer import build_accelerator
from xtts_ka.training.old_languages import largest_changes, measure_losses
from xtts_ka.training.optimizer import build_optimizer

LANGUAGES = ("de", "es", "tr")
VOICE_FRAMES = 130  # 1.5 s


class Features:
    """Codes and mels of clips in memory; takes the place of a FeatureCache."""

    def __init__(self, folder: Path, clips: list[Clip]):
        extract, speech = (
            FeatureExtractor(folder, read_model(folder).config),
            [load_speech(c.audio_path) for c in clips],
        )
        self.samples = [clip.shape[1] for clip in speech]
        found = [pair for i in range(0, len(speech), 16) for pair in extract(speech[i : i + 16])]
        self.held = [(codes.numpy().astype("<u2"), mel.numpy().T.astype("<f2")) for codes, mel in found]

    def find(self, keys):
        records = np.zeros(len(keys), RECORD)
        records["key"], records["samples"] = keys, [self.samples[key] for key in keys]
        return records

    def read(self, record, name):
        return self.held[int(record["key"])]


def make_base(work: Path, args: argparse.Namespace) -> None:
    """`base/`, trained on three languages; `replay/`, 25 clips of each that it has not heard."""
    pairs = [pair for pair in base_sentences(args.per_language) if pair[0] in LANGUAGES]
    clips = speak(work / "base_wavs", pairs, 3.0)
    held = {language: [c for code, c in clips if code == language][-25:] for language in LANGUAGES}
    for language, chosen in held.items():
        (work / "replay" / language).mkdir(parents=True)
        for clip in chosen:
            (work / "replay" / language / clip.audio_path.name).hardlink_to(clip.audio_path)
        rows = [f"{clip.audio_path.name}|{clip.text}|{clip.speaker_id}" for clip in chosen]
        table = "\n".join(["audio_file|text|speaker_name", *rows])
        (work / "replay" / language / "metadata.csv").write_text(table, "utf-8")
    unheard = {clip.file_id for chosen in held.values() for clip in chosen}
    heard = [(language, clip) for language, clip in clips if clip.file_id not in unheard]
    recordings = [clip.audio_path for _, clip in heard[:: max(1, len(heard) // 120)]]
    make_base_model(work / "base", StarterConfig(layers=args.layers, model_dim=args.dim, heads=2), recordings, seed=0)
    base, tokenizer = read_model(work / "base"), OldTextTokenizer(work / "base/vocab.json")
    rows = [Row(c.file_id, f"{i}", f"{lang}{c.speaker_id}", 0.0, "", "", "") for i, (lang, c) in enumerate(heard)]
    features = Features(work / "base", [clip for _, clip in heard])
    tokens = [np.array(tokenizer(clip.text, language), "<u4") for language, clip in heard]
    keyed = [(row, number) for number, row in enumerate(rows)]
    model_args = base.config.model_args
    index = build_index(
        work, "base", {}, keyed, features.find, lambda texts: [tokens[int(t)] for t in texts], model_args
    )
    data, collate = XTTSDataset(index, features, "same_speaker", 0), CollateFunction(model_args)
    model = CompactGPT(load_gpt(base), 0.1).train()
    optimizer, random = build_optimizer(model, PretrainConfig(learning_rate=1e-3)), np.random.default_rng(0)
    for step in range(args.base_steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 50, 1.1 - step / args.base_steps)
        batch = collate([data[Draw(int(clip), step, VOICE_FRAMES)] for clip in random.choice(len(index), 8, False)])
        text, audio = model(batch)
        (0.1 * text / len(batch["text_target"]) + audio / len(batch["audio_target"])).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    trained = {f"gpt.{name}": tensor for name, tensor in model.gpt.state_dict().items()}
    write_model(work / "base", base.config, {**{n: t.clone() for n, t in base.state.items()}, **trained})
    (work / "base" / STARTER_MARK).unlink()  # the config's number of steps holds


def adapt(work: Path, args: argparse.Namespace) -> PretrainConfig:
    """An ordinary run of the pipeline on Georgian; every checkpoint is kept."""
    sentences = read_sentences(Path(__file__).parents[2] / "data/starter_sentences_ka.txt")
    speak_corpus(sentences, work / "ka", seed=0, max_clips=args.georgian)
    assert create_metadata_files.main(["--source", str(work / "ka"), "--output_dir", str(work / "data")]) == 0
    config = {
        "base_model_path": "base",
        "output_model_path": "model",
        "replay_dir": "replay",
        "device": "cpu",
        "max_steps": args.steps,
        "epochs": None,
        "learning_rate": args.rate,
        "batch_seconds": 24,
        "phonemes": {"max_epochs": 1, "dim": 32},
        "language_model": {"max_epochs": 1},
        "text": {"new_tokens": 300},
        "training": {"keep_checkpoints": 99, "conditioning_seconds": [1.0, 2.0]},
    }
    write_json(work / "config.json", config)
    assert run_pretrain.main(["--config", str(work / "config.json")]) == 0
    return load_config(work / "config.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--base_steps", type=int, default=600)
    parser.add_argument("--per_language", type=int, default=130)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--georgian", type=int, default=200, help="Georgian clips")
    parser.add_argument("--steps", type=int, default=150, help="steps on Georgian")
    parser.add_argument("--rate", type=float, default=3e-4, help="peak learning rate on Georgian")
    args = parser.parse_args()
    began = time.time()
    args.work.mkdir(parents=True)
    make_base(args.work, args)
    config = adapt(args.work, args)
    show(args.work, config)
    print(f"\n{(time.time() - began) / 60:.1f} minutes")


def show(work: Path, config: PretrainConfig) -> None:
    """Print the table of all checkpoints."""
    base, data, accelerator = read_model(config.base_model_path), open_data(config), build_accelerator(config)
    manifest = max((work / "checkpoints").glob("step_*")) / "manifest.json"
    run_id = json.loads(manifest.read_text("utf-8"))["run_id"]
    checkpoints = CheckpointManager(config.checkpoint_dir, run_id).checkpoints()
    lines = map(json.loads, (work / "logs/metrics.jsonl").read_text("utf-8").splitlines())
    georgian = {line["step"]: line["loss_mel"] for line in lines if line.get("split") == "val"}
    print(
        f"\n| step | ka audio | {' | '.join(f'{code} text, audio' for code in LANGUAGES)} | largest change of a row |"
    )
    print(f"|---|---|{'---|' * len(LANGUAGES)}---|")
    trained = {checkpoint.step: checkpoint.weights() for checkpoint in checkpoints}
    found = measure_losses(config, base, list(trained.values()), data, accelerator)
    for place, (step, weights) in enumerate([(0, base.gpt_state()), *trained.items()]):
        cells = [f"{found[c]['loss_text'][place]:.2f}, {found[c]['loss_mel'][place]:.3f}" for c in LANGUAGES]
        changes = largest_changes(base, weights).values()
        rows = "; ".join(f"{c['max_abs']:.3f} at {c['token']!r} ({c['share_of_norm']:.1%})" for c in changes)
        print(f"| {step} | {georgian.get(step, float('nan')):.3f} | {' | '.join(cells)} | {rows} |")


if __name__ == "__main__":
    main()
