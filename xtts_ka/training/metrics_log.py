"""Training metrics: each logged step goes to `metrics.jsonl`, to TensorBoard and to the console."""

from __future__ import annotations

import io
import math
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

from xtts_ka.core.console import duration, say
from xtts_ka.core.files import append_bytes
from xtts_ka.core.jsonl import append_jsonl, number, read_jsonl

METRICS = "metrics.jsonl"
BOARD = "tensorboard"
_FORMS = {  # how the console shows a metric, in this order
    "loss": "loss {:.4f}",
    "loss_text": "text {:.3f}",
    "loss_mel": "audio {:.3f}",
    "lr": "lr {:.2e}",
    "grad_norm": "grad {:.2f}",
    "audio_s_per_s": "{:.1f} audio s/s",
    "data_wait_s": "data wait {:.2f} s",
    "unseen_loss": "unseen speakers {:.4f}",
}


class MetricsLog:
    """Appends to `folder/metrics.jsonl` and to TensorBoard event files in `folder/tensorboard`.

    fresh: begin a new log; an earlier run's is renamed to `metrics_N.jsonl` and `tensorboard_N`.
    """

    def __init__(self, folder: Path | str, *, fresh: bool):
        self.file, board = Path(folder) / METRICS, Path(folder) / BOARD
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if fresh and self.file.exists():
            earlier = [re.fullmatch(rf"metrics_(\d+)\.jsonl|{BOARD}_(\d+)", name) for name in os.listdir(folder)]
            last = max((int(found[1] or found[2]) for found in earlier if found), default=0)
            if board.is_dir():
                board.rename(board.with_name(f"{BOARD}_{last + 1}"))
            self.file.rename(self.file.with_name(f"metrics_{last + 1}.jsonl"))
        self.board = board / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._to_board(file_version="brain.Event:2")

    def event(self, name: str, **facts: Any) -> None:
        """Log a start, stop, finish, skip (of a step that was not finite) or oom (out of GPU memory)."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        append_jsonl(self.file, {"event": name, **facts, "time": time.time()})
        if name == "start" and facts.get("resumed"):  # TensorBoard drops later steps of earlier files
            self._to_board(step=facts["step"] + 1, session_log=SessionLog(status=SessionLog.START))

    def log(
        self, step: int, split: str, values: dict[str, float], total: int, seconds_left: float | None = None
    ) -> None:
        """Log the metrics of one step. split: train or val; total: steps of the whole training.

        seconds_left: an estimate for the console.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        append_jsonl(self.file, {"step": step, "split": split, **values, "time": time.time()})
        points = [Summary.Value(tag=f"{split}/{name}", simple_value=value) for name, value in values.items()]
        self._to_board(step=step, summary=Summary(value=points))
        left = "" if seconds_left is None else f"  left {duration(seconds_left)}"
        say(_line(step, total, split, values) + left)

    def _to_board(self, **record: Any) -> None:
        """Append a record to the event file.

        torch's SummaryWriter writes from a thread, up to two minutes later: a kill would lose these records, and a full
        disk would end in a traceback.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        framed = io.BytesIO()
        RecordWriter(framed).write(Event(wall_time=time.time(), **record).SerializeToString())
        append_bytes(self.board, framed.getvalue())


def _line(step: int, total: int, split: str, values: dict[str, float]) -> str:
    shown = [form.format(values[name]) for name, form in _FORMS.items() if name in values]
    if "loss_text" not in values:  # a part's metrics; of the GPT's, the log file holds more than the console shows
        shown += [f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items() if name not in _FORMS]
    return f"step {step:>6}/{total}  {split:<5}  " + "  ".join(shown)


def unfinished_run(folder: Path | str) -> str | None:
    """The id of the run that wrote the log in `folder`; None where there is no log, or the run has finished."""
    file, run = Path(folder) / METRICS, None
    for line in read_jsonl(file) if file.exists() else ():
        if line.get("event") in ("start", "finish"):
            run = line.get("run_id") if line["event"] == "start" else None
    return run


def losses(file: Path) -> tuple[list[float], list[float]]:
    """The losses of training and of validation since the run last began at step 0, in the order of the log."""
    found = _lines(file, "loss")
    train, val = ([number(line["loss"]) for line in found if line["split"] == split] for split in ("train", "val"))
    return train, val


def unseen_losses(file: Path, step: int) -> tuple[float, float] | None:
    """Of speakers that training does not hear: the first loss, and the last that was logged for `step`."""
    found = _lines(file, "unseen_loss")
    at_step = [number(line["unseen_loss"]) for line in found if line.get("step") == step]
    return (number(found[0]["unseen_loss"]), at_step[-1]) if at_step else None


def _lines(file: Path, name: str) -> list[dict[str, Any]]:
    """The lines with a finite number of this name, since the run last began at step 0."""
    found: list[dict[str, Any]] = []
    for line in read_jsonl(file):
        if line.get("event") == "start" and not line.get("resumed"):
            found = []
        elif not math.isnan(number(line.get(name))) and line.get("split") in ("train", "val"):
            found.append(line)
    return found
