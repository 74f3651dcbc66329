"""Speaks Georgian text with a trained model folder. A guard listens, and has faulty sentences spoken again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, load_config
from xtts_ka.core.console import say


def _count(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) <= 100):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 100")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Speak Georgian text with the trained model.",
        epilog="example: python synthesize.py --text 'გამარჯობა, მეგობარო!' --output hello.wav",
    )
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="the pipeline's config (default: %(default)s)")
    parser.add_argument("--text", required=True, help="what to say; numbers and abbreviations are read out")
    parser.add_argument("--speaker", help="a name in speakers_xtts.pth (default: the first)")
    parser.add_argument(
        "--output", default="speech.wav", help="file to write: .wav, .flac, .mp3, .ogg or .opus (default: %(default)s)"
    )
    parser.add_argument(
        "--attempts",
        type=_count,
        default=3,
        metavar="N",
        help="times that a sentence with babble, repeated or lost words is spoken at most (default: %(default)s)",
    )
    parser.add_argument("--no-guard", action="store_true", help="speak every sentence once, and check nothing")
    add_verbosity_flags(parser)
    args = parser.parse_args(argv)

    def run() -> None:
        config = load_config(args.config)
        from xtts_ka.core.torch_settings import choose_device
        from xtts_ka.speech.synthesis import speak

        model_dir, device = Path(config.output_model_path), choose_device(config.device)
        attempts = 0 if args.no_guard else args.attempts
        seconds = speak(model_dir, args.text, args.speaker, Path(args.output), device, config.seed, attempts)
        say(f"{args.output}: {seconds:.1f} s")

    return run_cli(run, args)


if __name__ == "__main__":
    sys.exit(main())
