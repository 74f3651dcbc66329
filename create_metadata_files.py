"""Turns recordings with transcripts into checked split tables and a drop report.

    python create_metadata_files.py --source ~/cv-corpus/ka --output_dir data
    python create_metadata_files.py --source studio cv-corpus/ka --output_dir data --max_seconds 11

Recognises the layout of the source (--format lists those that are known) and only reads it: what stands in archives or
in parquet files, and parts of long recordings, are written to audio/ in the output folder. Every recording is decoded
once; what cannot be used is dropped, counted by reason (see xtts_ka/corpus/drop_reasons.py) and listed in
split/drop_report.csv, as is every text or path that was mended and every row that looks wrong. split/speakers.csv has
the speakers' own names. The split of a clip is the corpus' official one, or is chosen by a hash of its sentence, and
some of many speakers are kept from training (xtts_ka/corpus/splits.py): adding recordings moves no clip to another
split, and the same sentence is never in two splits.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields

from xtts_ka.core.command_line import add_verbosity_flags, command, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG
from xtts_ka.core.console import say
from xtts_ka.core.errors import UserError
from xtts_ka.core.workers import cores
from xtts_ka.corpus.formats import FORMATS
from xtts_ka.corpus.metadata import Check, create_metadata, print_report
from xtts_ka.corpus.options import UNNAMED, MetadataOptions


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Turn recordings with transcripts into checked train, val and test tables.",
        epilog="example: python create_metadata_files.py --source ~/cv-corpus/ka --output_dir data",
    )
    add, default = parser.add_argument, "(default: %(default)s)"
    given = "folders or archives with recordings and transcripts; only read"
    add("--source", nargs="+", required=True, metavar="DIR", help=given)
    add("--output_dir", default="data", help=f"folder that gets split/ {default}")
    add("--format", choices=FORMATS, default="auto", help=f"layout of the source {default}")
    add("--embeddings_dir", metavar="DIR", help="embeddings named as clips (default: OUTPUT_DIR/embeddings/embeddings)")
    for option in fields(MetadataOptions):
        if option.metadata:
            text = f"{option.metadata['help']} {default if option.default is not None else '(default: no limit)'}"
            if option.name == "val_fraction":  # else it is raised as far as few clips need
                text = f"{option.metadata['help']} (default: {option.default}, or as much as gives two clips)"
            default_value = None if option.name == "val_fraction" else option.default
            add(f"--{option.name}", type=float, default=default_value, metavar="X", help=text)
    add("--archaic", choices=("respell", "keep"), default="respell", help=f"archaic letters in transcripts {default}")
    add("--official_splits", choices=("respect", "pool"), default="respect", help=f"splits of the corpora {default}")
    add("--no_quality", action="store_true", help="do not measure the recordings' quality, nor trim their silence")
    add("--no_dnsmos", action="store_true", help="measure without DNSMOS, which takes most of the time")
    add("--no_trim", action="store_true", help="read the silence at both ends of clips as well")
    add("--check_transcripts", action="store_true", help="hear whether the texts are what is said: minutes to hours")
    add("--base_model", metavar="DIR", help="an XTTS folder, whose speaker encoder compares voices with their speakers")
    add("--device", default="auto", help=f"of these two: auto, cpu, cuda or cuda:N {default}")
    add("--processes", type=int, metavar="N", help="how many processes measure quality (default: as many as cores)")
    add("--join_speakers", action="store_true", help="one speaker name in several sources is one person")
    unnamed = "who speaks where nothing names a speaker: one voice, that of the folder, or unknown"
    add("--unnamed_speakers", choices=UNNAMED, default="auto", help=f"{unnamed} {default}")
    add("--copy", action="store_true", help="copy the clips kept to audio/ beside each table, to do without the source")
    add_verbosity_flags(parser)
    return parser


def _checks(args: argparse.Namespace) -> list[Check]:
    """What finds more about clips than their sound alone tells; both need torch and, on many clips, time."""
    checks: list[Check] = []
    if (args.check_transcripts or args.base_model) and args.no_quality:
        raise UserError("--no_quality measures nothing: remove it, or --check_transcripts and --base_model")
    if args.check_transcripts:
        from xtts_ka.recognition.transcript_check import check_transcripts

        checks.append(lambda clips: check_transcripts(clips, args.output_dir, device=args.device))
    if args.base_model:
        from xtts_ka.model.voice_check import VoiceCheck

        checks.append(VoiceCheck(args.base_model, args.output_dir, args.device))
    return checks


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)

    def body() -> None:
        given = {option.name: getattr(args, option.name, None) for option in fields(MetadataOptions)}
        enough = given["val_fraction"] is None
        given |= {"quality": not args.no_quality, "dnsmos": not args.no_dnsmos, "trim": not args.no_trim}
        if args.processes is not None and args.processes < 1:
            raise UserError(f"--processes is {args.processes}: give 1 or more")
        options = MetadataOptions(**{name: value for name, value in given.items() if value is not None})
        report = create_metadata(
            args.source,
            args.output_dir,
            format=args.format,
            embeddings_dir=args.embeddings_dir,
            options=options,
            enough_validation=enough,
            processes=args.processes or cores(),
            checks=_checks(args),
        )
        print_report(report)
        say(f'\nset "data_dir": {json.dumps(args.output_dir)} in {DEFAULT_CONFIG}')
        say(f"next: {command('run_pretrain.py', '--config', DEFAULT_CONFIG)}")

    return run_cli(body, args)


if __name__ == "__main__":
    sys.exit(main())
