"""Speak Georgian text with a trained model folder, through coqui's own `Xtts.inference`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xtts_ka.core.files import read_json
from xtts_ka.core.console import UserError, add_verbosity_flags, run_cli, say
from xtts_ka.core.config import DEFAULT_CONFIG, load_config
from xtts_ka.core.stage_ledger import StageLedger

MODEL_FILES = ("xtts_v2_ka_config.json", "config.json", "vocab.json", "speakers_xtts.pth", "model.pth")  # what speaking reads


def speak(model_dir: Path, text: str, speaker: str | None, output: Path, device: str, seed: int) -> float:
    """Write `output` (24 kHz wav) and return its length in seconds. A damaged model is a UserError, not noise."""
    if change := StageLedger(model_dir / "pretrain_progress.json", []).altered(*MODEL_FILES):
        raise UserError(f"{change}: run python run_pretrain.py, which makes it again")
    georgian = _read_facts(model_dir / "xtts_v2_ka_config.json")
    import numpy as np
    import torch

    from xtts_ka.corpus.audio import write_wav
    from embedding_adapter import read_speakers
    from xtts_ka.georgian.text import normalise, split_sentences
    from xtts_ka.model.vocabulary import load_tokenizer
    from xtts_ka.model.checkpoint import load_xtts, register_georgian

    register_georgian(georgian["character_limit"], georgian["archaic"])
    load_tokenizer(model_dir / "vocab.json")  # coqui opens it without a look
    voices = read_speakers(model_dir / "speakers_xtts.pth")
    model = load_xtts(model_dir, device)
    speaker = speaker or next(iter(voices))
    if speaker not in voices:
        raise UserError(f"speaker {speaker!r} is not in {model_dir / 'speakers_xtts.pth'}: choose one of {', '.join(voices)}")
    pieces = split_sentences(normalise(text, archaic=georgian["archaic"]), georgian["character_limit"])
    if not pieces:
        raise UserError(f"--text {text!r} holds nothing to read aloud: give Georgian text")
    torch.manual_seed(seed)
    voice = voices[speaker]
    waves = []
    for piece in pieces:
        waves.append(model.inference(piece, "ka", voice["gpt_cond_latent"], voice["speaker_embedding"])["wav"])
        say(f"{speaker} on {device}: {piece}", verbose=True)
    wave = np.concatenate([np.atleast_1d(w) for w in waves])
    rate = model.config.model_args.output_sample_rate
    write_wav(output, wave, rate)
    return len(wave) / rate


def _read_facts(path: Path) -> dict:
    remedy = "finish the full_pretrain stage first"
    facts = read_json(path, "the model's Georgian config", remedy)
    if not isinstance(facts, dict) or type(facts.get("character_limit")) is not int or facts.get("archaic") not in ("keep", "respell"):
        raise UserError(f"{path} does not say how the model reads Georgian: {remedy}")
    return facts


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Speak Georgian text with the trained model.",
                                     epilog="example: python synthesize.py --text 'გამარჯობა, მეგობარო!' --output hello.wav")
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="the pipeline's config (default: %(default)s)")
    parser.add_argument("--text", required=True, help="what to say; numbers and abbreviations are read out")
    parser.add_argument("--speaker", help="a name in speakers_xtts.pth (default: the first)")
    parser.add_argument("--output", default="speech.wav", help="wav file to write (default: %(default)s)")
    add_verbosity_flags(parser)
    args = parser.parse_args(argv)

    def run() -> None:
        config = load_config(args.config)
        device = "cpu" if config.device == "auto" else config.device
        seconds = speak(Path(config.output_model_path), args.text, args.speaker, Path(args.output), device, config.seed)
        say(f"{args.output}: {seconds:.1f} s")

    return run_cli(run, args)


if __name__ == "__main__":
    sys.exit(main())
