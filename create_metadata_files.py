"""Recordings and transcripts → checked split tables and a drop report.

    python create_metadata_files.py --source ~/cv-corpus/ka --output_dir data
    python create_metadata_files.py --source studio cv-corpus/ka --output_dir data --max_seconds 11

Knows Common Voice, FLEURS, LJSpeech and coqui layouts and plain folders of audio with .txt files
(corpus_formats.py). The source is only read. Every recording is decoded once; what cannot be used is dropped,
counted by reason, and listed in split/drop_report.csv. Where a clip goes is decided by a hash of its
sentence: adding recordings never moves one, and the same sentence never stands in two splits.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields

from xtts_ka.core.command_line import add_verbosity_flags, command, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG
from xtts_ka.core.console import say
from xtts_ka.corpus.formats import FORMATS
from xtts_ka.corpus.metadata import MetadataOptions, create_metadata, print_report


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Turn recordings with transcripts into checked train, val and test tables.",
        epilog="example: python create_metadata_files.py --source ~/cv-corpus/ka --output_dir data",
    )
    parser.add_argument(
        "--source",
        nargs="+",
        required=True,
        metavar="DIR",
        help="folder with recordings and transcripts (several are joined); only read",
    )
    parser.add_argument("--output_dir", default="data", help="folder that gets split/ (default: %(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="auto", help="layout of the source (default: %(default)s)")
    parser.add_argument(
        "--embeddings_dir",
        metavar="DIR",
        help="embeddings named as the clips (default: OUTPUT_DIR/embeddings/embeddings)",
    )
    for spec in fields(MetadataOptions):
        if spec.metadata:
            parser.add_argument(
                f"--{spec.name}",
                type=float,
                default=spec.default,
                metavar="X",
                help=f"{spec.metadata['help']} (default: %(default)s)",
            )
    parser.add_argument(
        "--archaic",
        choices=("respell", "keep"),
        default="respell",
        help="archaic letters in transcripts (default: %(default)s)",
    )
    parser.add_argument(
        "--copy",
        action="store_true",
        help="copy the clips kept to audio/ beside each table: OUTPUT_DIR then stands alone",
    )
    add_verbosity_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)

    def body() -> None:
        options = MetadataOptions(**{spec.name: getattr(args, spec.name) for spec in fields(MetadataOptions)})
        report = create_metadata(
            args.source, args.output_dir, format=args.format, embeddings_dir=args.embeddings_dir, options=options
        )
        print_report(report)
        say(
            f'\nset "data_dir": {json.dumps(args.output_dir)} in {DEFAULT_CONFIG}'
            f"\nnext: {command('run_pretrain.py', '--config', DEFAULT_CONFIG)}"
        )

    return run_cli(body, args)


if __name__ == "__main__":
    sys.exit(main())
