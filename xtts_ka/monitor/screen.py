"""Shows the dict of `status.read_status` as text, in colour on a terminal."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Literal

from rich.console import Console, Group, OverflowMethod, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from xtts_ka.core.command_line import command
from xtts_ka.core.config import DEFAULT_CONFIG
from xtts_ka.core.console import NOTHING, duration, size, three_digits

MARKS = {"done": "✓", "running": "▶", "failed": "✗", "interrupted": "‖", "pending": "·"}
COLOURS = {"done": "green", "running": "cyan", "failed": "red", "interrupted": "yellow", "pending": "dim"}
COLOURS |= {"finished": "green", "starting": "cyan", "stopped": "yellow"}  # of training
TRENDS = {"falling": ("↘", "green"), "rising": ("↗", "red"), "flat": ("→", "yellow"), "unclear": ("~", "dim")}
MOST_CHECKPOINTS = 6  # rows; older checkpoints are only counted


def console() -> Console:
    """Standard output; without colour when it is no terminal or NO_COLOR is set."""
    width = None if sys.stdout.isatty() else 100
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    return Console(color_system=colours, highlight=False, emoji=False, markup=False, width=width)


def screen(status: dict[str, Any], watching: float | None = None, details: bool = False) -> RenderableType:
    """The whole screen.

    watching: seconds between refreshes, shown in the title. details: show every checkpoint and the stages' metrics.
    """
    parts: list[RenderableType] = [_title(status, watching)]
    parts += [Text.assemble(("! ", "bold yellow"), (warning, "yellow")) for warning in status["warnings"]]
    if not _begun(status):
        start = command("run_pretrain.py", "--config", status.get("config", DEFAULT_CONFIG))
        parts += [Text(f"in {status['run_folder']}; begin with", "dim"), Text(start)]
    parts += _stages(status["stages"], details)
    parts += _training(status["training"]) if status["training"] else [Text("Training has logged nothing yet.", "dim")]
    parts += _checkpoints(status, details)
    return Group(*parts, _disk(status["disk"]))


def one_line(status: dict[str, Any]) -> str:
    """The same in one line, for a log or a pipe."""
    parts = [_clock(status)]
    training = status["training"]
    running = next((s["name"] for s in status["stages"] if s["status"] == "running"), None)
    if not training or running not in (None, "full_pretrain"):
        parts.append(f"stage {running} is running" if running else "nothing is running")
        parts += [] if training else ["no metrics yet"]
    else:
        train, val = training["loss"]["train"], training["loss"]["val"]
        parts += [
            training["state"],
            f"step {training['step']}/{training['total_steps']}",
            f"loss {figure(train['now'])}",
            f"val {figure(val['now'])}",
            f"best {figure(val['best'])} at {figure(val['best_step'], 'd')}",
            *([f"CER {percent(training['samples']['cer'], '.1f')}"] if training["samples"] else []),
            f"lr {figure(training['lr'])}",
            f"{plain(training['audio_s_per_s'])} audio s/s",
            f"data wait {percent(training['data_wait_share'])}",
            f"left {_eta(training)}",
        ]
    if status["warnings"]:
        parts.append(f"warnings: {'; '.join(status['warnings'])}")
    return "  ".join(parts)


def _clock(status: dict[str, Any]) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status["time"]))


def _title(status: dict[str, Any], watching: float | None) -> Text:
    driver = status["driver"]
    text = Text.assemble(("XTTS-v2 → Georgian", "bold"), f"  {_clock(status)}  ")
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
    stages = any(stage["status"] != "pending" for stage in status["stages"])
    return bool(status["training"] or status["driver"]["running"] or stages)


def _grid(*columns: str, header: str = "") -> Table:
    """A table without lines. columns: `>` aligns right, `wrap` breaks long text; header: names between commas."""
    grid = Table.grid(padding=(0, 2))
    for kind in columns:
        wrap = kind == "wrap"
        overflow: OverflowMethod = "fold" if wrap else "ellipsis"
        grid.add_column(justify="right" if kind == ">" else "left", overflow=overflow, no_wrap=not wrap)
    if header:
        grid.add_row(*(Text(name, "dim") for name in header.split(",")))
    return grid


def _stages(stages: list[dict[str, Any]], details: bool) -> list[RenderableType]:
    grid = _grid("", "", "", ">")
    for stage in stages:
        status, colour = stage["status"], COLOURS[stage["status"]]
        grid.add_row(Text(MARKS[status], colour), stage["name"], Text(status, colour), duration(stage["seconds"]))
    shown = [stage for stage in stages if details and stage["metrics"]]
    metrics = [f"{stage['name']}: " + ", ".join(f"{k} {v}" for k, v in stage["metrics"].items()) for stage in shown]
    return [Text("Stages", "bold"), grid, *(Text(line, "dim") for line in metrics)]


def _training(t: dict[str, Any]) -> list[RenderableType]:
    head = Text.assemble(("Training  ", "bold"), (t["state"], COLOURS[t["state"]]))
    if t["seconds"]:
        head.append(f"  for {duration(t['seconds'])}", "dim")
    if t["restarts"]:
        head.append(f"  restarted {t['restarts']}×", "dim")
    if t["last_line_age_seconds"] is not None:
        head.append(f"  last line {duration(t['last_line_age_seconds'])} ago", "dim")
    bar = _grid("", "", "")
    done = ProgressBar(1.0, t["fraction"], width=40, complete_style="cyan", finished_style="green")
    bar.add_row(f"step {t['step']} / {t['total_steps']}", done, percent(t["fraction"], ".1f"))
    left = [] if t["state"] == "finished" else [Text(f"time left {_eta(t)}")]
    losses = _grid("", ">", ">", "", "wrap", header="loss,now,best,at step,trend per 1000 steps")
    train, val = t["loss"]["train"], t["loss"]["val"]
    rows = {"train": train, "validation": val}
    if (unseen := t["loss"]["unseen"])["best"] is not None:
        rows["unseen speakers"] = unseen
    for title, row in rows.items():
        figures = figure(row["now"]), figure(row["best"]), figure(row["best_step"], "d")
        losses.add_row(title, *figures, _trend(row["trend"]))
    text, audio = (f"{figure(train[name])} / {figure(val[name])}" for name in ("now_text", "now_mel"))
    wait = t["data_wait_share"]
    rates = Text.assemble(
        f"lr {figure(t['lr'], '.3g')}   gradient norm {plain(t['grad_norm'])}   "
        f"{plain(t['audio_s_per_s'])} s of audio per s   data wait ",
        (percent(wait), "yellow" if wait and wait > 0.2 else ""),
    )
    parts = Text(f"text {text}   audio {audio}   (train / validation)", "dim")
    return [head, bar, *left, losses, parts, *_heard(t), rates]


def _heard(t: dict[str, Any]) -> list[RenderableType]:
    """The newest round of samples, and the choice of the checkpoint by CER."""
    lines = []
    if s := t["samples"]:
        own = "" if s["recogniser_cer"] is None else f", the recogniser's own {percent(s['recogniser_cer'], '.1f')}"
        best = f"best {percent(s['best_cer'], '.1f')} at step {figure(s['best_step'], 'd')}"
        heard = f"CER {percent(s['cer'], '.1f')} ({best}{own})   clips with a fault {percent(s['fault_rate'])}   "
        lines.append(
            f"samples of step {s['step']}: {'' if s['cer'] is None else heard}voice similarity "
            f"{figure(s['similarity'], '.3f')}   {s['rounds']} rounds, {percent(s['share_of_time'], '.1f')} of the time"
        )
    if c := t["choice"]:
        lines.append(
            f"exported by CER: step {c['step']} ({percent(c['cer'], '.1f')}), of {c['candidates']} checkpoints"
        )
    return [Text(line) for line in lines]


def _trend(trend: dict[str, Any] | None) -> Text:
    if trend is None:
        return Text("too few lines", "dim")
    arrow, colour = TRENDS[trend["direction"]]
    interval = f"({trend['low']:+.3g} to {trend['high']:+.3g})"
    return Text.assemble((f"{arrow} {trend['direction']} ", colour), f"{trend['slope']:+.3g} ", (interval, "dim"))


def _eta(t: dict[str, Any]) -> str:
    if t["state"] == "finished":
        return "none"
    if t["eta_seconds"] is None:
        return "not known yet"
    left = f"{duration(t['eta_seconds'])} ± {duration(t['eta_plus_minus_seconds'])}"
    if t["ends"] is None or t["ends"] > 1e11:  # the calendar ends somewhere
        return f"{left} of training"
    return f"{left}, ends {time.strftime('%a %d %b %H:%M', time.localtime(t['ends']))}"


def _checkpoints(status: dict[str, Any], details: bool) -> list[RenderableType]:
    found = status["checkpoints"]
    if not found and not status["unfinished_checkpoints"]:
        return [Text.assemble(("Checkpoints", "bold"), ("  none yet", "dim"))]
    shown = [c for i, c in enumerate(found) if details or i >= len(found) - MOST_CHECKPOINTS or c["best"]]
    grid = _grid(">", ">", ">", ">", "", "wrap", header="step,size,age,val loss,valid,")
    for c in shown:
        marks = Text.assemble(("best ", "bold green") if c["best"] else "", ("last ", "bold cyan") if c["last"] else "")
        valid = Text("yes", "green") if c["valid"] else Text("NO", "bold red")
        facts = figure(c["step"], "d"), size(c["bytes"]), duration(c["age_seconds"]), figure(c["val_loss"])
        grid.add_row(*facts, valid, marks)
    lines = [f"being written or left by a kill: {name}" for name in status["unfinished_checkpoints"]]
    if len(shown) < len(found):
        lines.insert(0, f"and {len(found) - len(shown)} older")
    return [Text("Checkpoints", "bold"), grid, *(Text(line, "dim") for line in lines)]


def _disk(disk: dict[str, Any]) -> Text:
    text = Text.assemble(("Disk  ", "bold"), f"{size(disk['free_bytes'])} free of {size(disk['total_bytes'])}")
    if disk["needed_bytes"]:
        text.append(f"; checkpoints need at most {size(disk['needed_bytes'])} more")
    return text


def figure(value: float | None, form: str = ".4g") -> str:
    return NOTHING if value is None else f"{value:{form}}"


def plain(value: float | None) -> str:
    return NOTHING if value is None else three_digits(value)


def percent(value: float | None, form: str = ".0f") -> str:
    return NOTHING if value is None else f"{100 * value:{form}} %"
