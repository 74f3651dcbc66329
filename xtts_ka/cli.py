"""The installed command `xtts-ka`: coqui's `tts` command with Georgian in it."""

from __future__ import annotations

import argparse

import xtts_ka
from xtts_ka.core.command_line import run_cli


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="xtts-ka",
        description="Speak with a model folder that this project exported.",
        epilog="example: xtts-ka tts --model_path models/xtts_v2_ka --config_path models/xtts_v2_ka/config.json "
        "--language_idx ka --speaker_idx NAME --text 'გამარჯობა!' --out_path hello.wav",
    )
    parser.add_argument("--version", action="version", version=xtts_ka.__version__)
    parser.add_argument("command", choices=["tts"], help="coqui's `tts` command, which reads `ka` too")
    parser.add_argument("flags", nargs=argparse.REMAINDER, help="the flags of that command: see xtts-ka tts --help")
    flags = parser.parse_args(argv).flags

    def run() -> None:
        from xtts_ka.model.coqui_georgian import tts_command

        tts_command(flags)

    return run_cli(run)
