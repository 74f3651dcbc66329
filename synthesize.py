"""Speaks Georgian text with a trained model folder, through coqui's own `Xtts.inference`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, load_config
from xtts_ka.core.console import say


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Speak Georgian text with the trained model.",
        epilog="example: python synthesize.py --text 'გამარჯობა, მეგობარო!' --output hello.wav",
    )
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="the pipeline's config (default: %(default)s)")
    parser.add_argument("--text", required=True, help="what to say; numbers and abbreviations are read out")
    parser.add_argument("--speaker", help="a name in speakers_xtts.pth (default: the first)")
    parser.add_argument("--output", default="speech.wav", help="wav file to write (default: %(default)s)")
    add_verbosity_flags(parser)
    args = parser.parse_args(argv)

    def run() -> None:
        config = load_config(args.config)
        from xtts_ka.core.torch_settings import choose_device
        from xtts_ka.speech.synthesis import speak

        model_dir, device = Path(config.output_model_path), choose_device(config.device)
        seconds = speak(model_dir, args.text, args.speaker, Path(args.output), device, config.seed)
        say(f"{args.output}: {seconds:.1f} s")

    return run_cli(run, args)


if __name__ == "__main__":
    sys.exit(main())
