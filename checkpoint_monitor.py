"""Shows the state of a run, plots and analyses its curves, exports its metrics, and deletes old checkpoints.

    python checkpoint_monitor.py --config xtts_pretrain_config.json --watch

Works while training runs, after it, and on a copied folder: relative paths in the config are relative to the config's
folder. Only `--plot`, `--export` and `--cleanup` write or delete anything.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.config import DEFAULT_CONFIG, OPTIONAL_STAGES, PretrainConfig, load_config
from xtts_ka.core.console import say, size, style, warn
from xtts_ka.core.errors import UserError

if TYPE_CHECKING:
    from xtts_ka.monitor.history import RunHistory


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Show how a run is doing: stages, training, checkpoints, disk and warnings.",
        epilog="example: python checkpoint_monitor.py --config xtts_pretrain_config.json --watch --plot",
    )
    add = parser.add_argument
    add("--config", default=DEFAULT_CONFIG, help="JSON config of the run (default: %(default)s)")
    add("--part", choices=OPTIONAL_STAGES, help="show the training of this part instead of the GPT's")
    add("--watch", action="store_true", help="refresh until Ctrl-C")
    add("--interval", type=float, metavar="N", help="seconds between refreshes (monitor.interval)")
    add("--plot", nargs="?", const="", metavar="FILE.png", help="draw the curves (training_plot.png in log_dir)")
    add("--analyze", action="store_true", help="say what the curves mean and which checkpoint to use")
    add("--export", metavar="FILE.csv", help="write every logged metric, one row per step")
    add("--cleanup", action="store_true", help="delete old checkpoints, after asking; never best or last")
    add("--keep", type=int, metavar="N", help="with --cleanup: newest checkpoints to keep (default: monitor.keep)")
    add("--superseded", action="store_true", help="with --cleanup: also the runs that were replaced")
    add("--yes", action="store_true", help="with --cleanup: do not ask")
    add("--verify", action="store_true", help="compare the checksums of every checkpoint file (slow)")
    add("--json", action="store_true", help="print one JSON object (with --watch: one a line)")
    add_verbosity_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.interval is not None and not 0.1 <= args.interval <= 86400:
        parser.error("--interval must be between 0.1 and 86400 seconds")
    if args.keep is not None and args.keep < 1:
        parser.error("--keep must be 1 or more")
    if args.watch and (args.analyze or args.export or args.cleanup):
        parser.error("--watch goes with --plot and --json only")
    if not args.cleanup and (args.yes or args.superseded or args.keep is not None):
        parser.error("--keep, --superseded and --yes go with --cleanup")
    if args.cleanup and args.quiet and not args.yes:
        parser.error("--cleanup --quiet needs --yes: it would ask about what it has not shown")
    if args.json:  # standard output is the JSON alone
        args.quiet, args.verbose = True, False
    return run_cli(lambda: run(args), args)


def run(args: argparse.Namespace) -> int:
    """Do what was asked; without a task, show the screen."""
    config = load_config(args.config)
    if args.part:
        config = _of_part(config, args.part)
    from xtts_ka.monitor.history import RunHistory

    history = RunHistory(Path(config.log_dir) / "metrics.jsonl")
    if args.watch:
        return watch(args, config, history)
    history.refresh()
    tasks = {"plot": plot, "analyze": analyze, "export": export, "cleanup": cleanup}
    asked = {name: task for name, task in tasks.items() if getattr(args, name) not in (None, False)}
    report = _status(args, config, history) if args.json or not asked else {}
    report |= {name: task(args, config, history) for name, task in asked.items()}
    if args.json:
        _print_json(report)
    elif not asked:
        _show(args, report)
    return 0


def _of_part(config: PretrainConfig, part: str) -> PretrainConfig:
    """The config with the folders and the length of a part's training in place of the GPT's."""
    from xtts_ka.training.checkpoint_folders import part_folder

    folders = {key: str(part_folder(config.value(key), part)) for key in ("checkpoint_dir", "log_dir")}
    return config.model_copy(update={**folders, "max_steps": config.value(f"{part}.max_steps")})


def _status(args: argparse.Namespace, config: PretrainConfig, history: RunHistory) -> dict[str, Any]:
    from xtts_ka.monitor.status import read_status

    return {"config": str(args.config), **read_status(config, history, verify=args.verify)}


def _print_json(report: dict[str, Any]) -> None:
    print(json.dumps(report, ensure_ascii=False, allow_nan=False), flush=True)


def _show(args: argparse.Namespace, status: dict[str, Any]) -> None:
    if args.quiet:
        for warning in status["warnings"]:
            warn(warning)
        return
    from xtts_ka.monitor.screen import console, screen

    console().print(screen(status, details=args.verbose))


def watch(args: argparse.Namespace, config: PretrainConfig, history: RunHistory) -> int:
    """Refresh until Ctrl-C: in place on a terminal, otherwise one line each time."""
    from rich.live import Live

    from xtts_ka.monitor.screen import console, one_line, screen

    interval = args.interval or config.monitor.interval
    terminal = console()
    in_place = terminal.is_terminal and not args.json and not args.quiet
    live = Live(console=terminal, auto_refresh=False, vertical_overflow="crop")
    warned: list[str] = []
    try:
        with live if in_place else contextlib.nullcontext():
            while True:
                started = time.monotonic()
                changed = history.refresh()
                status = _status(args, config, history)
                if in_place:
                    live.update(screen(status, interval, args.verbose), refresh=True)
                elif args.json:
                    _print_json(status)
                elif args.quiet:
                    for warning in status["warnings"]:
                        if warning not in warned:
                            warn(warning)
                    warned = status["warnings"]
                else:
                    say(one_line(status))
                if args.plot is not None and changed:
                    plot(args, config, history)
                time.sleep(max(0.05, interval - (time.monotonic() - started)))
    except KeyboardInterrupt:
        return 0


def plot(args: argparse.Namespace, config: PretrainConfig, history: RunHistory) -> str | None:
    """Draw the curves; returns the file written, or None when there is nothing to draw yet."""
    from xtts_ka.monitor.plots import draw_plot

    target = Path(args.plot) if args.plot else Path(config.log_dir) / "training_plot.png"
    if not history.train.records and not history.val.records:
        if not args.watch:
            warn(f"nothing is logged in {history.path} yet, so there is nothing to plot")
        return None
    total = history.total_steps or config.max_steps or 0
    draw_plot(history, target, total_steps=total, clip_norm=config.training.clip_norm)
    if not args.watch:
        say(f"wrote {target}")
    return str(target)


def analyze(args: argparse.Namespace, config: PretrainConfig, history: RunHistory) -> dict[str, Any]:
    """Print the verdict, the findings behind it, and the checkpoint to use."""
    from xtts_ka.monitor.analysis import analyse
    from xtts_ka.training.checkpoint_folders import read_checkpoints

    checkpoints = read_checkpoints(Path(config.checkpoint_dir), hashes=args.verify)
    result = analyse(history, clip_norm=config.training.clip_norm, checkpoints=checkpoints)
    colour = {"bad": "red", "warning": "yellow", "note": "cyan", "good": "green"}
    say(style(f"verdict: {result.verdict}", "bold", colour[result.findings[0].severity]))
    for finding in result.findings:
        say(f"  {style('●', colour[finding.severity])} {finding.sentence}")
    for name, trend in (("training loss", result.train_trend), ("validation loss", result.val_trend)):
        if trend:
            say(f"  {name}: {trend.direction}, {trend}")
    chosen = f"use {result.checkpoint}: " if result.checkpoint else ""
    say(f"checkpoint: {chosen}{result.checkpoint_reason}")
    return asdict(result)


def export(args: argparse.Namespace, config: PretrainConfig, history: RunHistory) -> dict[str, Any]:
    """Write the logged metrics as CSV."""
    from xtts_ka.monitor.csv_export import export_csv

    target = Path(args.export)
    if target.resolve() == history.path.resolve():
        raise UserError(f"--export {target} is the log itself: choose another file")
    rows = export_csv(history, target)
    say(f"wrote {rows} rows to {target}")
    return {"file": str(target), "rows": rows}


def cleanup(args: argparse.Namespace, config: PretrainConfig, history: RunHistory) -> dict[str, Any]:
    """Say what would be deleted and how much space that frees, ask, delete. --json never asks: it needs --yes."""
    from xtts_ka.monitor.cleanup import Item, plan
    from xtts_ka.training.checkpoint_folders import delete_folder

    def items() -> list[Item]:
        return plan(
            Path(config.checkpoint_dir),
            args.keep or config.monitor.keep,
            superseded=args.superseded,
            chosen=history.choice.step if history.choice else None,
        )

    planned = items()
    doomed = [item for item in planned if item.action == "delete"]
    for item in planned:
        say(str(item))
    total = f"{len(doomed)} to delete, which frees {size(sum(item.bytes for item in doomed))}"
    say(total if doomed else "there is nothing to delete")
    agreed = bool(doomed) and (args.yes or (not args.json and _agreed()))
    # Training may have written a new best checkpoint while the question was open, so plan again.
    deleted = [item for item in items() if item in doomed and delete_folder(item.path)] if agreed else []
    freed = sum(item.bytes for item in deleted)
    if doomed:
        say(f"deleted {len(deleted)}, freed {size(freed)}" if agreed else "nothing was deleted")
    return {
        "would_delete": [{"name": item.path.name, "bytes": item.bytes, "why": item.why} for item in doomed],
        "left_alone": {item.path.name: item.why for item in planned if item.action == "leave"},
        "deleted": [item.path.name for item in deleted],
        "freed_bytes": freed,
    }


def _agreed() -> bool:
    try:
        return input("delete these? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:  # standard input is closed: nobody can answer
        say()
        return False


if __name__ == "__main__":
    sys.exit(main())
