"""Adapt XTTS-v2 to Georgian: embeddings → phonemes → language → xtts_init → full_pretrain (→ evaluation).

The same command carries on after a crash. Heavy modules are imported inside the functions, so that Ctrl-C during the
seconds of their import already ends in one sentence.
"""

from __future__ import annotations

import signal
import sys
import textwrap
import time

from xtts_ka.core.command_line import add_verbosity_flags, command, run_cli
from xtts_ka.core.console import NOTHING, duration, heading, obey_verbosity, say, style
from xtts_ka.core.errors import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from pretrain_xtts_model import PretrainPipeline
    from xtts_ka.core.stage_ledger import Decision, Record

# stage → (the metric that sums it up, how the summary says it)
KEY_FIGURES = {
    "embeddings": ("speakers", "{:d} speakers"),
    "phonemes": ("heldout_per", "{:.2%} phoneme errors"),
    "language": ("new_tokens", "{:d} new tokens"),
    "xtts_init": ("new_rows", "{:d} new text rows"),
    "dvae": ("codes_changed", "{:.1%} of the codes changed"),
    "full_pretrain": ("best_val_loss", "validation loss {:.4g}"),
    "decoder": ("val_loss", "validation loss {:.4g}"),
    "evaluation": ("heard", "{}"),
}
COLOURS = {"done": "green", "up to date": "green", "failed": "red", "interrupted": "yellow"}


def build_parser() -> argparse.ArgumentParser:
    import argparse

    from xtts_ka.core.config import DEFAULT_CONFIG, OPTIONAL_STAGES, STAGES

    stages = " → ".join(f"({name})" if name in OPTIONAL_STAGES else name for name in STAGES)
    parser = argparse.ArgumentParser(
        description=f"Adapt XTTS-v2 to Georgian in stages: {stages}. After a crash, run it again.",
        epilog=f"example: python run_pretrain.py --config {DEFAULT_CONFIG} --dry-run",
    )
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="JSON config (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="run every stage again")
    parser.add_argument("--only", choices=STAGES, help="run this one stage again; those it needs must be done")
    parser.add_argument("--dry-run", action="store_true", help="say which stages would run, and why; change nothing")
    add_verbosity_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    return run_cli(lambda: run(argv))


def run(argv: list[str] | None) -> None:
    """Validate the config first, then import what is heavy."""
    args = build_parser().parse_args(argv)
    obey_verbosity(args)
    from xtts_ka.core.config import load_config

    config = load_config(args.config)
    if args.only:
        config.needs_stage(args.only)
    from pretrain_xtts_model import PretrainPipeline

    pipeline = PretrainPipeline(config)
    if args.only:
        pipeline.config.needs_stage(args.only)  # now that the base model is known
    act = dry_run if args.dry_run else run_stages
    act(pipeline, args)


def dry_run(pipeline: PretrainPipeline, args: argparse.Namespace) -> None:
    """Say per stage whether it would run, and why."""
    missing, outlook = pipeline.missing_inputs(), []
    pipeline.check_replay()
    for sentence in missing:
        say(f"starter would first make a stand-in, as {sentence.split(': ')[0]}")
    if missing:
        lines = [f"{name:<13}  runs  its inputs are made anew" for name in pipeline.config.stages()]
    else:
        pipeline.say_length()
        plan = pipeline.ledger.plan(only=args.only, force=args.force)
        lines = [f"{d.stage.name:<13}  {'runs' if d.run else 'skip'}  {d.reason}" for d in plan]
        outlook = [line for decision in plan for line in pipeline.outlook(decision)]
    say("\n".join(lines + outlook))
    due = sum(line.split()[1] == "runs" for line in lines)
    if due:
        say(f"\n{due} of {len(lines)} stages would run; nothing was changed\nnext: {_again(args)}")
    else:
        say("\nno stage would run: everything is up to date")


def run_stages(pipeline: PretrainPipeline, args: argparse.Namespace) -> None:
    """Run what is due; in any case, end with what has become of each stage and the command that comes next."""
    summary = Summary(pipeline)
    try:
        pipeline.run(only=args.only, force=args.force, before=summary.before, after=summary.after)
    except (KeyboardInterrupt, Interrupted) as stop:
        summary.show("interrupted")
        number = stop.signum if isinstance(stop, Interrupted) else signal.SIGINT
        raise Interrupted(number, f"what is finished is kept; carry on with: {_again(args, summary.stage)}") from None
    except Exception:
        summary.show("failed")
        if summary.stage:
            say(f"\nonce the cause is removed, carry on with: {_again(args, summary.stage)}")
        raise
    summary.show()
    done = pipeline.ledger.record("full_pretrain").status == "done"
    say(f"\n{'the model stands' if done else 'what is done so far stands'} in {pipeline.config.output_model_path}")
    if pipeline.ledger.record("full_pretrain").status == "done":
        if said := listen_to(pipeline):
            say(said)
        example = ("--text", "გამარჯობა, მეგობარო!", "--output", "hello.wav")
        say("how well it speaks: " + command("evaluate_model.py", "--config", args.config))
        say("next: " + command("synthesize.py", "--config", args.config, *example))
    else:
        say("next: " + command("run_pretrain.py", "--config", args.config))


def listen_to(pipeline: PretrainPipeline) -> str:
    """Where the spoken sentences and the report page are, once the evaluation stage is done."""
    record = pipeline.ledger.record("evaluation")
    if "evaluation" not in pipeline.config.stages() or record.status != "done":
        return ""
    return "listen: {folder} ({clips} wavs); what was heard in each: {page}".format(**record.metrics)


def _again(args: argparse.Namespace, reached: str = "") -> str:
    """The command that carries on. Without --force where training is reached: with it, training would start anew."""
    only = ("--only", args.only) if args.only else ()
    force = ("--force",) if args.force and reached != "full_pretrain" else ()
    return command("run_pretrain.py", "--config", args.config, *only, *force)


class Summary:
    """Tells what becomes of each stage: a line when it ends, and a table at the end.

    stage: the name of the stage that is running, "" between two; rows: stage → status, seconds, key figure, and whether
    its files are there.
    """

    def __init__(self, pipeline: PretrainPipeline):
        self.files = {stage.name: [file.name for file in stage.outputs()] for stage in pipeline.ledger.stages}
        self._record = pipeline.ledger.record
        self.rows: dict[str, tuple[str, float | None, str, bool]] = {}
        self.stage, self._started = "", 0.0

    def before(self, decision: Decision) -> None:
        self.stage, self._started = decision.stage.name, time.monotonic()
        if decision.run:
            heading(f"{self.stage}: {decision.reason}")

    def after(self, decision: Decision, record: Record) -> None:
        status = "done" if decision.run else "left alone" if decision.fixed else "up to date"
        figure = _figure(self.stage, record)
        self.rows[self.stage] = (status, record.seconds or None, figure, record.status == "done")
        told = decision.reason if status == "up to date" else status
        say(style(f"{self.stage} {told}", COLOURS.get(status, "dim")) + f"  {figure}")
        self.stage = ""

    def show(self, end: str = "") -> None:
        """Print the table. end: what became of the stage that was running."""
        if self.stage:
            self.rows[self.stage] = (end, time.monotonic() - self._started, NOTHING, False)
        if not self.rows:
            return
        heading("summary")
        say(style(f"{'stage':<13}  {'status':<11}  {'time':>11}  key figure and files", "bold"))
        for stage, files in self.files.items():
            status, seconds, figure, there = self.rows.get(stage) or self._not_reached(stage)
            marked = style(f"{status:<11}", COLOURS.get(status, "dim"))
            say(f"{stage:<13}  {marked}  {duration(seconds):>11}  {figure}")
            if there:
                say(textwrap.indent(textwrap.fill(", ".join(files), 100), "    "))

    def _not_reached(self, stage: str) -> tuple[str, float | None, str, bool]:
        """The row of a stage that this run has not come to: an earlier one may have finished it."""
        record = self._record(stage)
        if record.status != "done":
            return "not run", None, NOTHING, False
        return "done before", record.seconds or None, _figure(stage, record), True


def _figure(stage: str, record: Record) -> str:
    """The metric that sums a stage up."""
    name, form = KEY_FIGURES[stage]
    value = record.metrics.get(name)
    return NOTHING if value is None else form.format(value)


if __name__ == "__main__":
    sys.exit(main())
