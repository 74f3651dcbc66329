"""Turns recordings with transcripts into checked split tables and a drop report.

    python create_metadata_files.py --source ~/cv-corpus/ka --output_dir data
    python create_metadata_files.py --source studio cv-corpus/ka --output_dir data --max_seconds 11

Recognises the layouts of Common Voice, FLEURS, LJSpeech and coqui, and plain folders of audio with .txt files. It only
reads the source. Every recording is decoded once; what cannot be used is dropped, counted by reason (see
xtts_ka/corpus/drop_reasons.py) and listed in split/drop_report.csv. The split of a clip is chosen by a hash of its
sentence, and some of many speakers are kept from training (xtts_ka/corpus/splits.py): adding recordings moves no clip
to another split, and the same sentence is never in two splits.
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
    add, default = parser.add_argument, "(default: %(default)s)"
    add("--source", nargs="+", required=True, metavar="DIR", help="folders with recordings and transcripts; only read")
    add("--output_dir", default="data", help=f"folder that gets split/ {default}")
    add("--format", choices=FORMATS, default="auto", help=f"layout of the source {default}")
    add("--embeddings_dir", metavar="DIR", help="embeddings named as clips (default: OUTPUT_DIR/embeddings/embeddings)")
    for option in fields(MetadataOptions):
        if option.metadata:
            text = f"{option.metadata['help']} {default}"
            add(f"--{option.name}", type=float, default=option.default, metavar="X", help=text)
    add("--archaic", choices=("respell", "keep"), default="respell", help=f"archaic letters in transcripts {default}")
    add("--copy", action="store_true", help="copy the clips kept to audio/ beside each table, to do without the source")
    add_verbosity_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)

    def body() -> None:
        options = MetadataOptions(**{option.name: getattr(args, option.name) for option in fields(MetadataOptions)})
        report = create_metadata(
            args.source, args.output_dir, format=args.format, embeddings_dir=args.embeddings_dir, options=options
        )
        print_report(report)
        say(f'\nset "data_dir": {json.dumps(args.output_dir)} in {DEFAULT_CONFIG}')
        say(f"next: {command('run_pretrain.py', '--config', DEFAULT_CONFIG)}")

    return run_cli(body, args)


if __name__ == "__main__":
    sys.exit(main())
