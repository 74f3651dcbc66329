"""A tiny XTTS base model and a few short recordings, made once per test session through the starter's real code."""

from __future__ import annotations

import functools
import shutil
import tempfile
import time
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from data_loader import DataManager, open_data
from xtts_ka.core.config import PretrainConfig, StarterConfig, TrainingConfig
from xtts_ka.core.files import write_json
from xtts_ka.core.tensor_files import save_torch, write_pickle
from xtts_ka.corpus.embedding_files import SPEAKERS_FILE
from xtts_ka.corpus.tables import Clip, read_split, write_splits
from xtts_ka.model.checkpoint import XttsFiles, extended_config, grow_text_rows, load_gpt, read_model, write_model
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.model.features import VoiceEncoder
from xtts_ka.model.speakers import clip_speech, speaker_table
from xtts_ka.model.text_rows import new_rows
from xtts_ka.model.vocabulary import count_words, extend_vocabulary, load_tokenizer
from xtts_ka.starter.base_model import make_base_model
from xtts_ka.starter.speech import VOICES, synthesise
from xtts_ka.training.checkpoint_manager import CheckpointManager
from xtts_ka.training.gpt_trainer import PretrainLoop, build_accelerator
from xtts_ka.training.metrics_log import MetricsLog

SENTENCES = (
    "დღეს კარგი ამინდია.",
    "ბავშვები ეზოში თამაშობენ.",
    "მზე ანათებს მთებს.",
    "სად მიდიხარ, მეგობარო?",
    "ჩვენ ვსვამთ ცხელ ჩაის.",
    "წიგნი მაგიდაზე დევს.",
    "ხვალ ზღვაზე წავალთ!",
    "ეს ძალიან გრძელი გზაა.",
    "ჟურნალი ჰაერში ფრიალებს.",
    "კატას რძე უყვარს.",
    "პატარა ჯიხვი კლდეზე დგას.",
    "ღამით წვიმა მოვიდა.",
)


def write_recordings(folder: Path) -> list[Path]:
    """One recording per sentence, by two voices in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, sentence in enumerate(SENTENCES):
        voice = VOICES[3 * (number % 2)]
        file = folder / f"clip{number:02d}.wav"
        soundfile.write(file, synthesise(sentence, voice.voice, voice.rate, voice.pitch), 22050)
        files.append(file)
    return files


def write_data(data_dir: Path, recordings: list[Path]) -> list[Clip]:
    """Split tables over the recordings: the last two validate."""
    clips = [
        Clip(file.stem, SENTENCES[i], f"speaker{i % 2}", float(soundfile.info(file).duration), file, None)
        for i, file in enumerate(recordings)
    ]
    write_splits(data_dir, {"train": clips[:-2], "val": clips[-2:], "test": []}, {file.parent for file in recordings})
    return clips


@functools.cache
def _made_base() -> tempfile.TemporaryDirectory:
    """Holds it in the folder `base`; removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="tiny_base_")
    make_base(Path(folder.name, "base"))
    return folder


def make_base(folder: Path) -> None:
    """Make a one-layer XTTS in the real file layout anew."""
    with tempfile.TemporaryDirectory() as beside:
        recordings = write_recordings(Path(beside))[:4]
        make_base_model(folder, StarterConfig(layers=1, model_dim=64, heads=2), recordings, seed=7)


def write_base_model(folder: Path) -> Path:
    """Copy a one-layer XTTS in the real file layout to `folder`."""
    return shutil.copytree(Path(_made_base().name, "base"), folder)


def write_georgian_model(folder: Path, base: XttsFiles) -> Path:
    """A model folder as the export writes it: the base model with new tokens, untrained; the voices ეკა and დათო."""
    folder.mkdir()
    extension = extend_vocabulary(base.vocab_file, count_words(SENTENCES), new_tokens=60, min_pair_count=2)
    rows = new_rows("informed", extension.new_tokens, base.gpt_state(), load_tokenizer(base.vocab_file), None, seed=1)
    state = grow_text_rows(base, rows.embedding, rows.head, rows.bias)
    write_model(folder, extended_config(base.config, "ka", extension.size), state)
    write_json(folder / "vocab.json", extension.vocabulary)
    write_json(folder / "xtts_v2_ka_config.json", {"character_limit": 40, "archaic": "respell"})
    for name in ("dvae.pth", "mel_stats.pth"):
        shutil.copy(base.folder / name, folder)
    draw = torch.Generator().manual_seed(0)
    parts = {"gpt_cond_latent": (1, 32, base.config.model_args.gpt_n_model_channels), "speaker_embedding": (1, 512, 1)}
    voices = {
        name: {part: torch.randn(shape, generator=draw) for part, shape in parts.items()} for name in ("ეკა", "დათო")
    }
    torch.save(voices, folder / "speakers_xtts.pth")
    return folder


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """Quiet deterministic noise at 22,050 Hz."""
    return (0.1 * np.random.default_rng(seed).standard_normal(int(seconds * 22050))).astype(np.float32)


@dataclass
class World:
    """A tiny base model, extended to Georgian, with cached data: everything the training loop is handed."""

    config: PretrainConfig
    model: XttsFiles
    data: DataManager
    old_rows: int  # text rows of the base model

    def loop(self, *, log: bool = True, **changes) -> PretrainLoop:
        """A fresh loop over this world, `changes` applied to the config."""
        config = self.config.model_copy(update=changes)
        accelerator = build_accelerator(config)
        data = copy(self.data)
        data.config, data.processes = config, accelerator.num_processes
        checkpoints = CheckpointManager(config.checkpoint_dir, "run", config.training.keep_checkpoints)
        return PretrainLoop(
            CompactGPT(load_gpt(self.model), config.training.dropout),
            data,
            checkpoints,
            MetricsLog(config.log_dir, fresh=False) if log else None,
            config,
            accelerator,
            config.max_steps,
            self.old_rows,
        )


def wait_before_the_end(loop: PretrainLoop) -> None:
    """Makes the loop sleep before its last step, so that a kill never comes too late."""
    step = loop._train_step

    def train_step(batches: list[dict]) -> None:
        if loop.progress.step + 1 == loop.total:
            time.sleep(600)
        step(batches)

    loop._train_step = train_step  # type: ignore[method-assign]


def build_world(folder: Path, **settings) -> World:
    """Make it all in `folder`, through the same code as the pipeline."""
    recordings = write_recordings(folder / "wavs")
    clips = write_data(folder / "data", recordings)
    base = read_model(write_base_model(folder / "base"))
    extension = extend_vocabulary(
        base.vocab_file, count_words(c.text for c in clips), new_tokens=60, min_pair_count=2, archaic_letters=False
    )
    write_json(folder / "vocab.json", extension.vocabulary)
    rows = new_rows("random", extension.new_tokens, base.gpt_state(), load_tokenizer(base.vocab_file), None, seed=1)
    model = XttsFiles(base.config, grow_text_rows(base, rows.embedding, rows.head, rows.bias), base.folder)
    config = PretrainConfig(
        data_dir=str(folder / "data"),
        checkpoint_dir=str(folder / "checkpoints"),
        log_dir=str(folder / "logs"),
        output_model_path=str(folder),
        base_model_path=str(base.folder),
        device="cpu",
        batch_size=3,
        learning_rate=1e-3,
        max_steps=8,
        training=TrainingConfig(log_interval=1, validation_interval=4, conditioning_seconds=[0.5, 1.0]),
        **settings,
    )
    return World(config, model, open_data(config), base.text_rows)


def write_voices(world: World) -> None:
    """What the stages before training leave for speaking: the speaker table and the limit of characters."""
    base, folder = read_model(world.config.base_model_path), Path(world.config.output_model_path)
    clips = read_split(world.config.data_dir, "train")
    encoder = VoiceEncoder(base.config, base.state)
    speech = {clip.speaker_id: clip_speech(clip) for clip in reversed(clips)}
    voices = {name: encoder.speaker_embedding(sound) for name, sound in speech.items()}
    save_torch(folder / SPEAKERS_FILE, speaker_table(clips, encoder, voices))
    write_pickle(folder / "language_model_results.pkl", {"character_limit": 60})


def encode(tokenizer, text: str, language: str = "ka") -> list[int]:
    """Token ids of a normalised text after the language token, as coqui's tokenizer encodes them."""
    return tokenizer.encode(f"[{language}]{text}".replace(" ", "[SPACE]")).ids
