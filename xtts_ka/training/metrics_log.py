"""Training metrics: each logged step goes to `metrics.jsonl`, to TensorBoard and to the console.

A line's `split` is train, val, or samples: what is heard in clips that were spoken from the weights of its step.
"""

from __future__ import annotations

import io
import math
import os
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtts_ka.core.console import duration, say
from xtts_ka.core.files import append_bytes
from xtts_ka.core.jsonl import append_jsonl, number, read_jsonl

METRICS = "metrics.jsonl"
BOARD = "tensorboard"
SAMPLES = "samples"  # the split of their lines, and the folder beside the log
_FORMS = {  # how the console shows a metric, in this order
    "loss": "loss {:.4f}",
    "loss_text": "text {:.3f}",
    "loss_mel": "audio {:.3f}",
    "lr": "lr {:.2e}",
    "grad_norm": "grad {:.2f}",
    "audio_s_per_s": "{:.1f} audio s/s",
    "data_wait_s": "data wait {:.2f} s",
    "unseen_loss": "unseen speakers {:.4f}",
    "cer": "CER {:.1%}",
    "recogniser_cer": "(the recogniser's own {:.1%})",
    "wer": "WER {:.1%}",
    "similarity": "voice similarity {:.3f}",
    "fault_rate": "clips with a fault {:.0%}",
    "seconds": "spoken and heard in {:.1f} s",
}


@dataclass(frozen=True)
class Sound:
    """A mono wav file's bytes. length: in samples."""

    wav: bytes
    rate: int
    length: int


@dataclass(frozen=True)
class Picture:
    """A PNG file's bytes."""

    png: bytes
    height: int
    width: int


class MetricsLog:
    """Appends to `folder/metrics.jsonl` and to TensorBoard event files in `folder/tensorboard`.

    fresh: begin a new log; an earlier run's is renamed to `metrics_N.jsonl`, `tensorboard_N` and `samples_N`.
    """

    def __init__(self, folder: Path | str, *, fresh: bool):
        self.file, board = Path(folder) / METRICS, Path(folder) / BOARD
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if fresh and self.file.exists():
            pattern = rf"(?:{METRICS[:-6]}|{BOARD}|{SAMPLES})_(\d+)(?:\.jsonl)?"
            earlier = [re.fullmatch(pattern, name) for name in os.listdir(folder)]
            last = max((int(found[1]) for found in earlier if found), default=0)
            for beside in (board, board.with_name(SAMPLES)):
                if beside.is_dir():
                    beside.rename(beside.with_name(f"{beside.name}_{last + 1}"))
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
        """Log the metrics of one step. split: train, val or samples; total: steps of the whole training.

        seconds_left: an estimate for the console.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        append_jsonl(self.file, {"step": step, "split": split, **values, "time": time.time()})
        points = [Summary.Value(tag=f"{split}/{name}", simple_value=value) for name, value in values.items()]
        self._to_board(step=step, summary=Summary(value=points))
        left = "" if seconds_left is None else f"  left {duration(seconds_left)}"
        say(_line(step, total, split, values) + left)

    def log_media(self, step: int, sounds: Mapping[str, Sound], pictures: Mapping[str, Picture]) -> None:
        """Put clips and mel pictures into TensorBoard, by their names. A tag there is of one kind only."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(
                tag=f"{SAMPLES}/{name}",
                audio=Summary.Audio(
                    sample_rate=sound.rate,
                    num_channels=1,
                    length_frames=sound.length,
                    encoded_audio_string=sound.wav,
                    content_type="audio/wav",
                ),
            )
            for name, sound in sounds.items()
        ]
        values += [
            Summary.Value(
                tag=f"{SAMPLES}_mel/{name}",
                image=Summary.Image(
                    height=picture.height, width=picture.width, colorspace=3, encoded_image_string=picture.png
                ),
            )
            for name, picture in pictures.items()
        ]
        self._to_board(step=step, summary=Summary(value=values))

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


@dataclass(frozen=True)
class TimeSpent:
    """Seconds since training began at step 0, without the pauses between restarts, and those that samples took."""

    training: float = 0.0
    samples: float = 0.0
    last_round: float = 0.0  # seconds of the last round of samples; 0: there was none
    last_step: int | None = None  # its step


def time_spent(file: Path) -> TimeSpent:
    """What a log says of the time up to its last line, since the run last began at step 0."""
    training, began, latest = 0.0, math.nan, math.nan
    rounds: list[dict[str, Any]] = []
    for line in read_jsonl(file):
        if line.get("event") == "start":
            training += max(0.0, latest - began) if latest >= began else 0.0
            began = number(line.get("time"))
            if not line.get("resumed"):
                training, rounds = 0.0, []
        if not math.isnan(now := number(line.get("time"))):
            latest = now
        if line.get("split") == SAMPLES and number(line.get("seconds")) >= 0:
            rounds.append(line)
    training += latest - began if latest >= began else 0.0
    seconds = [number(line["seconds"]) for line in rounds]
    step = rounds[-1].get("step") if rounds else None
    return TimeSpent(training, sum(seconds), seconds[-1] if seconds else 0.0, step if type(step) is int else None)


def rounds_of_samples(file: Path) -> list[dict[str, Any]]:
    """The lines of samples since the run last began at step 0, by step; of a step that was repeated the last one."""
    found: dict[int, dict[str, Any]] = {}
    for line in read_jsonl(file):
        if line.get("event") == "start" and not line.get("resumed"):
            found = {}
        elif line.get("split") == SAMPLES and type(line.get("step")) is int:
            found[line["step"]] = line
    return [found[step] for step in sorted(found)]


def _lines(file: Path, name: str) -> list[dict[str, Any]]:
    """The lines with a finite number of this name, since the run last began at step 0."""
    found: list[dict[str, Any]] = []
    for line in read_jsonl(file):
        if line.get("event") == "start" and not line.get("resumed"):
            found = []
        elif not math.isnan(number(line.get(name))) and line.get("split") in ("train", "val"):
            found.append(line)
    return found
