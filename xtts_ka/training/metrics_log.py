"""Training metrics: one dict a logged step goes to `metrics.jsonl`, to TensorBoard and to the console line."""

from __future__ import annotations

import io
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

from xtts_ka.core.console import say
from xtts_ka.core.files import append_to
from xtts_ka.core.jsonl import append_jsonl, read_jsonl

METRICS = "metrics.jsonl"
BOARD = "tensorboard"


class MetricsLog:
    """Appends to `folder/metrics.jsonl` and to TensorBoard event files in `folder/tensorboard`.

    fresh: a run that continues no other; what an earlier one logged is kept as `metrics_N.jsonl` and `tensorboard_N`.
    """

    def __init__(self, folder: Path | str, *, fresh: bool):
        self.file, board = Path(folder) / METRICS, Path(folder) / BOARD
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if fresh and self.file.exists():
            asides = [re.fullmatch(rf"metrics_(\d+)\.jsonl|{BOARD}_(\d+)", name) for name in os.listdir(folder)]
            number = 1 + max((int(found[1] or found[2]) for found in asides if found), default=0)
            if board.is_dir():
                board.rename(board.with_name(f"{BOARD}_{number}"))
            self.file.rename(self.file.with_name(f"metrics_{number}.jsonl"))
        self.board = EventFile(board)

    def event(self, name: str, **facts: Any) -> None:
        """Note a start, stop, finish, skipped step or lack of memory."""
        append_jsonl(self.file, {"event": name, **facts, "time": time.time()})
        if name == "start" and facts.get("resumed"):
            self.board.restart(facts["step"])

    def log(self, step: int, split: str, values: dict[str, float], total: int) -> None:
        """Write one metric line everywhere. `split` is train or val."""
        append_jsonl(self.file, {"step": step, "split": split, **values, "time": time.time()})
        self.board.scalars({f"{split}/{name}": value for name, value in values.items()}, step)
        say(_line(step, total, split, values))

    def close(self) -> None:
        self.board.close()


class EventFile:
    """One TensorBoard event file, each record on the disk when its call returns.

    torch's SummaryWriter writes in a thread, up to two minutes later: a kill loses that, and a full disk is a traceback.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(folder / name, "xb", buffering=0)
        self._write(file_version="brain.Event:2")

    def scalars(self, values: dict[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(step=step, summary=Summary(value=points))

    def restart(self, step: int) -> None:
        """Tell TensorBoard to forget what earlier files hold of the steps after `step`: they come again."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._write(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def _write(self, **record: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        framed = io.BytesIO()
        RecordWriter(framed).write(Event(wall_time=time.time(), **record).SerializeToString())
        append_to(self._file, framed.getvalue())

    def close(self) -> None:
        self._file.close()


def _line(step: int, total: int, split: str, values: dict[str, float]) -> str:
    parts = [f"loss {values['loss']:.4f}", f"text {values['loss_text']:.3f}", f"audio {values['loss_mel']:.3f}"]
    if split == "train":
        parts += [
            f"lr {values['lr']:.2e}",
            f"grad {values['grad_norm']:.2f}",
            f"{values['audio_s_per_s']:.1f} audio s/s",
            f"data wait {values['data_wait_s']:.2f} s",
        ]
    return f"step {step:>6}/{total}  {split:<5}  " + "  ".join(parts)


def unfinished_run(folder: Path | str) -> str | None:
    """The id of the run that a folder's log is of; None where there is no log, or one of a run that came to its end."""
    file, run = Path(folder) / METRICS, None
    for line in read_jsonl(file) if file.exists() else ():
        if line.get("event") in ("start", "finish"):
            run = line.get("run_id") if line["event"] == "start" else None
    return run


def first_and_best(file: Path) -> dict[str, dict[str, float] | None]:
    """The first train, first val and best val lines since the run last began at step 0, for the final report."""
    nothing: dict[str, dict[str, float] | None] = {
        "first_train": None,
        "last_train": None,
        "first_val": None,
        "best_val": None,
    }
    found = dict(nothing)
    for line in read_jsonl(file) if file.exists() else ():
        if line.get("event") == "start" and not line.get("resumed"):
            found = dict(nothing)
        elif not isinstance(line.get("loss"), int | float):
            continue
        elif line.get("split") == "train":
            found["first_train"] = found["first_train"] or line
            found["last_train"] = line
        elif line.get("split") == "val":
            found["first_val"] = found["first_val"] or line
            if found["best_val"] is None or line["loss"] < found["best_val"]["loss"]:
                found["best_val"] = line
    return found
