"""Speak Georgian text with a trained model folder, through coqui's own `Xtts.inference`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from artifacts import atomic_path, read_json
from console import UserError, add_verbosity_flags, run_cli, say
from pretrain_config import DEFAULT_CONFIG, load_config


def speak(model_dir: Path, text: str, speaker: str | None, output: Path, device: str, seed: int) -> float:
    """Write `output` (24 kHz wav) and return its length in seconds."""
    georgian = read_json(model_dir / "xtts_v2_ka_config.json", "model folder's", "finish the full_pretrain stage first")
    import numpy as np
    import soundfile
    import torch

    from georgian_text import normalise, split_sentences
    from xtts_backbone import load_xtts, register_georgian

    register_georgian(georgian["character_limit"], georgian["archaic"])
    model = load_xtts(model_dir, device)
    voices = model.speaker_manager.speakers
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
    with atomic_path(output) as temporary:
        soundfile.write(temporary, wave, model.config.model_args.output_sample_rate, format="WAV")
    return len(wave) / model.config.model_args.output_sample_rate


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
