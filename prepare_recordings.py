"""Cuts hours-long recordings into clips of 1 to 20 seconds at pauses, with the text of each.

    python prepare_recordings.py --source audiobook --output_dir clips
    python prepare_recordings.py --source film.mp4 --transcript film.srt --output_dir clips --speaker ნინო

The transcript of a recording stands beside it: subtitles (.srt, .vtt), labels of Praat (.TextGrid), ELAN (.eaf) or
Audacity (.txt), or WhisperX's .json, whose times are hints: boundaries are moved to the pauses. Or a plain text (.txt),
which the project's recogniser finds in the recording; or none, and --asr writes down what is said. Writes metadata.csv
beside wavs/, which create_metadata_files.py reads, left_out.csv and recordings_report.html. Every clip is kept when it
is cut: run the same command again to carry on.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from xtts_ka.core.command_line import add_verbosity_flags, command, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, load_config
from xtts_ka.core.console import say


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Cut long recordings into clips at pauses, with the text of each.",
        epilog="example: python prepare_recordings.py --source audiobook --output_dir clips",
    )
    add, default = parser.add_argument, "(default: %(default)s)"
    add("--source", type=Path, required=True, metavar="DIR|FILE", help="recordings or films; only read")
    add("--output_dir", type=Path, required=True, metavar="DIR", help="folder that gets metadata.csv and wavs/")
    beside = "(default: beside each recording, with its name)"
    add("--transcript", type=Path, metavar="FILE|DIR", help=f"subtitles, labels or text, or their folder {beside}")
    who = "the subtitles' own, else the folder below the source, else unknown"
    add("--speaker", default="", metavar="NAME", help=f"one voice speaks in all recordings (default: {who})")
    add("--min_seconds", type=float, default=1.0, metavar="X", help=f"shortest clip {default}")
    add("--max_seconds", type=float, default=20.0, metavar="X", help=f"longest clip {default}")
    add("--min_confidence", type=float, default=0.5, metavar="X", help=f"less sure clips are left out {default}")
    asr = "write down what is said where there is no transcript, and check those with times"
    which = "without a value by the project's recogniser, else as in evaluate_model.py"
    add("--asr", nargs="?", const="", metavar="DIR|COMMAND", help=f"{asr}: {which}")
    add("--config", type=Path, default=DEFAULT_CONFIG, help=f"the pipeline's config, for its recogniser {default}")
    add("--processes", type=_count, metavar="N", help="processes that share the work (default: the cores)")
    shard = "the i-th of n shares of the recordings, for n machines with one output folder"
    add("--shard", type=_shard, default=(1, 1), metavar="i/n", help=f"{shard} (default: 1/1, all)")
    add_verbosity_flags(parser)
    return parser


def _count(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) <= 1000):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000")
    return int(text)


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no share like 1/4 or 4/4")
    return int(match[1]), int(match[2])


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)

    def body() -> None:
        from xtts_ka.corpus.planned_clips import Limits
        from xtts_ka.recognition.preparation import Request, prepare
        from xtts_ka.starter.own_values import with_section_values

        request = Request(
            source=args.source,
            output=args.output_dir,
            settings=lambda: with_section_values(load_config(args.config)),
            transcript=args.transcript,
            speaker=args.speaker,
            limits=Limits(args.min_seconds, args.max_seconds, args.min_confidence),
            processes=args.processes,
            asr=args.asr,
            shard=args.shard,
        )
        prepare(request)
        say(f"next: {command('create_metadata_files.py', '--source', str(args.output_dir), '--output_dir', 'data')}")

    return run_cli(body, args)


if __name__ == "__main__":
    sys.exit(main())
