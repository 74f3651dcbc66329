"""The monitor's screen: `run_status.read_status` as something to look at, in colour on a terminal."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from xtts_ka.core.command_line import command
from xtts_ka.core.config import DEFAULT_CONFIG
from xtts_ka.core.console import NOTHING, duration, size

MARKS = {
    "done": ("✓", "green"),
    "running": ("▶", "cyan"),
    "failed": ("✗", "red"),
    "interrupted": ("‖", "yellow"),
    "pending": ("·", "dim"),
}
STATES = {
    "running": "cyan",
    "starting": "cyan",
    "finished": "green",
    "stopped": "yellow",
    "interrupted": "yellow",
    "failed": "red",
}
ARROWS = {"falling": "↘", "rising": "↗", "flat": "→", "unclear": "~"}
MOST_CHECKPOINTS = 6  # rows; older ones are counted


def console() -> Console:
    """Standard output; plain when it is no terminal or NO_COLOR is set."""
    plain = bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()
    return Console(
        color_system=None if plain else "auto",
        highlight=False,
        emoji=False,
        markup=False,
        width=None if sys.stdout.isatty() else 100,
    )


def screen(status: dict[str, Any], watching: float | None = None, details: bool = False) -> RenderableType:
    """The whole screen. watching: seconds between refreshes, named in the title. details: every checkpoint and figure."""
    parts: list[RenderableType] = [_title(status, watching)]
    parts += [Text.assemble(("! ", "bold yellow"), (warning, "yellow")) for warning in status["warnings"]]
    if not _begun(status):
        parts += [
            Text(f"in {status['run_folder']}; begin with", "dim"),
            Text(command("run_pretrain.py", "--config", status.get("config", DEFAULT_CONFIG))),
        ]
    parts += [_stages(status["stages"], details)]
    if status["training"]:
        parts += [*_training(status["training"])]
    else:
        parts += [Text("Training has logged nothing yet.", "dim")]
    parts += [_checkpoints(status, details), _disk(status["disk"])]
    return Group(*parts)


def one_line(status: dict[str, Any]) -> str:
    """The same in one line, for a log or a pipe."""
    parts = [time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status["time"]))]
    training = status["training"]
    running = next((s["name"] for s in status["stages"] if s["status"] == "running"), None)
    if not training or running not in (None, "full_pretrain"):
        parts += [
            f"stage {running} is running" if running else "nothing is running",
            *([] if training else ["no metrics yet"]),
        ]
    else:
        train, val = training["loss"]["train"], training["loss"]["val"]
        parts += [
            training["state"],
            f"step {training['step']}/{training['total_steps']}",
            f"loss {figure(train['now'])}",
            f"val {figure(val['now'])}",
            f"best {figure(val['best'])} at {whole(val['best_step'])}",
            f"lr {figure(training['lr'])}",
            f"{figure(training['audio_s_per_s'], 3)} audio s/s",
            f"data wait {percent(training['data_wait_share'])}",
            f"left {_eta(training)}",
        ]
    if status["warnings"]:
        parts += [f"warnings: {'; '.join(status['warnings'])}"]
    return "  ".join(parts)


# ── parts ───────────────────────────────────────────────────────────────────────────────────────────────────


def _title(status: dict[str, Any], watching: float | None) -> Text:
    driver = status["driver"]
    text = Text.assemble(
        ("XTTS-v2 → Georgian", "bold"), f"  {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(status['time']))}  "
    )
    if driver["running"]:
        text.append(f"running (pid {driver['pid']} on {driver['host']})", "cyan")
    elif not _begun(status):
        text.append("nothing has been started yet", "yellow")
    elif not status["training"] or status["training"]["state"] != "running":
        text.append("not running", "dim")
    if watching:
        text.append(f"  every {watching:g} s, Ctrl-C ends", "dim")
    return text


def _begun(status: dict[str, Any]) -> bool:
    return bool(
        status["training"] or status["driver"]["running"] or any(s["status"] != "pending" for s in status["stages"])
    )


def _grid(*columns: str) -> Table:
    """Columns side by side; `>` right-aligns."""
    grid = Table.grid(padding=(0, 2))
    for column in columns:
        grid.add_column(
            justify="right" if column == ">" else "left",
            no_wrap=column != "wrap",
            overflow="fold" if column == "wrap" else "ellipsis",
        )
    return grid


def _section(title: str) -> Text:
    return Text(title, "bold")


def _stages(stages: list[dict[str, Any]], details: bool) -> RenderableType:
    grid = _grid("", "", "", ">")
    for stage in stages:
        mark, colour = MARKS[stage["status"]]
        grid.add_row(Text(mark, colour), stage["name"], Text(stage["status"], colour), duration(stage["seconds"]))
    figures = [
        Text(f"{stage['name']}: " + ", ".join(f"{name} {value}" for name, value in stage["metrics"].items()), "dim")
        for stage in stages
        if details and stage["metrics"]
    ]
    return Group(_section("Stages"), grid, *figures)


def _training(t: dict[str, Any]) -> list[RenderableType]:
    head = Text.assemble(("Training  ", "bold"), (t["state"], STATES[t["state"]]))
    if t["seconds"]:
        head.append(f"  for {duration(t['seconds'])}", "dim")
    if t["restarts"]:
        head.append(f"  restarted {t['restarts']}×", "dim")
    if t["last_line_age_seconds"] is not None:
        head.append(f"  last line {duration(t['last_line_age_seconds'])} ago", "dim")
    bar = _grid("", "", "")
    done = ProgressBar(
        total=1.0, completed=t["fraction"] or 0.0, width=40, complete_style="cyan", finished_style="green"
    )
    bar.add_row(f"step {t['step']} / {t['total_steps']}", done, percent(t["fraction"], 1))
    left = [] if t["state"] == "finished" else [Text(f"time left {_eta(t)}")]
    losses = _grid("", ">", ">", "", "wrap")
    losses.add_row(*(Text(name, "dim") for name in ("loss", "now", "best", "at step", "trend per 1000 steps")))
    for name, title in (("train", "train"), ("val", "validation")):
        row = t["loss"][name]
        losses.add_row(title, figure(row["now"]), figure(row["best"]), whole(row["best_step"]), _trend(row["trend"]))
    train, val = t["loss"]["train"], t["loss"]["val"]
    parts = Text(
        f"text {figure(train['now_text'])} / {figure(val['now_text'])}   audio "
        f"{figure(train['now_mel'])} / "
        f"{figure(val['now_mel'])}   (train / validation)",
        "dim",
    )
    wait = t["data_wait_share"]
    rates = Text.assemble(
        f"lr {figure(t['lr'], 3)}   gradient norm {figure(t['grad_norm'], 3)}   "
        f"{figure(t['audio_s_per_s'], 3)} s of audio per s   data wait ",
        (percent(wait), "yellow" if wait and wait > 0.2 else ""),
    )
    return [head, bar, *left, losses, parts, rates]


def _trend(trend: dict[str, Any] | None) -> Text:
    if trend is None:
        return Text("too few lines", "dim")
    colour = {"falling": "green", "rising": "red", "flat": "yellow", "unclear": "dim"}[trend["direction"]]
    return Text.assemble(
        (f"{ARROWS[trend['direction']]} {trend['direction']} ", colour),
        f"{trend['slope']:+.3g} ",
        (f"({trend['low']:+.3g} to {trend['high']:+.3g})", "dim"),
    )


def _eta(t: dict[str, Any]) -> str:
    if t["state"] == "finished":
        return "none"
    if t["eta_seconds"] is None:
        return "not known yet"
    text = f"{duration(t['eta_seconds'])} ± {duration(t['eta_plus_minus_seconds'])}"
    known = t["ends"] is not None and t["ends"] < 1e11
    when = time.strftime("%a %d %b %H:%M", time.localtime(t["ends"])) if known else ""
    return f"{text}, ends {when}" if known else f"{text} of training"


def _checkpoints(status: dict[str, Any], details: bool) -> RenderableType:
    found = status["checkpoints"]
    if not found and not status["unfinished_checkpoints"]:
        return Text.assemble(("Checkpoints", "bold"), ("  none yet", "dim"))
    shown = [c for i, c in enumerate(found) if details or i >= len(found) - MOST_CHECKPOINTS or c["best"]]
    grid = _grid(">", ">", ">", ">", "", "wrap")
    grid.add_row(*(Text(name, "dim") for name in ("step", "size", "age", "val loss", "valid", "")))
    for c in shown:
        marks = Text.assemble(("best ", "bold green") if c["best"] else "", ("last ", "bold cyan") if c["last"] else "")
        grid.add_row(
            whole(c["step"]),
            size(c["bytes"]),
            duration(c["age_seconds"]),
            figure(c["val_loss"]),
            Text("yes", "green") if c["valid"] else Text("NO", "bold red"),
            marks,
        )
    lines: list[RenderableType] = [_section("Checkpoints"), grid]
    if len(shown) < len(found):
        lines.append(Text(f"and {len(found) - len(shown)} older", "dim"))
    lines += [Text(f"being written or left by a kill: {name}", "dim") for name in status["unfinished_checkpoints"]]
    return Group(*lines)


def _disk(disk: dict[str, Any]) -> Text:
    text = Text.assemble(("Disk  ", "bold"), f"{size(disk['free_bytes'])} free of {size(disk['total_bytes'])}")
    if disk["growth_bytes_per_hour"]:
        text.append(
            f"; at the present {size(disk['growth_bytes_per_hour'])} per hour it is full in "
            f"{duration(disk['full_in_seconds'])}"
        )
    if disk["needed_bytes"]:
        text.append(f"; checkpoints need at most {size(disk['needed_bytes'])} more")
    return text


# ── figures ─────────────────────────────────────────────────────────────────────────────────────────────────


def figure(value: float | None, digits: int = 4) -> str:
    return NOTHING if value is None else f"{value:.{digits}g}"


def whole(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0f}"


def percent(value: float | None, digits: int = 0) -> str:
    return NOTHING if value is None else f"{100 * value:.{digits}f} %"
