"""Training metrics: one dict a logged step goes to `metrics.jsonl`, to TensorBoard and to the console line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from artifacts import append_jsonl, read_jsonl
from console import say

METRICS = "metrics.jsonl"


class MetricsLog:
    """Appends to `folder/metrics.jsonl` and to TensorBoard event files beside it."""

    def __init__(self, folder: Path | str, *, fresh: bool):
        from torch.utils.tensorboard import SummaryWriter

        self.file = Path(folder) / METRICS
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if fresh and self.file.exists():
            numbers = [int(f.stem.split("_")[1]) for f in self.file.parent.glob("metrics_*.jsonl") if f.stem.split("_")[1].isdigit()]
            self.file.rename(self.file.with_name(f"metrics_{max(numbers, default=0) + 1}.jsonl"))
        self.board = SummaryWriter(str(self.file.parent / "tensorboard"))

    def event(self, name: str, **facts: Any) -> None:
        """Note a start, stop or finish."""
        append_jsonl(self.file, {"event": name, **facts, "time": time.time()})

    def log(self, step: int, split: str, values: dict[str, float], total: int) -> None:
        """Write one metric line everywhere. `split` is train or val."""
        append_jsonl(self.file, {"step": step, "split": split, **values, "time": time.time()})
        for name, value in values.items():
            self.board.add_scalar(f"{split}/{name}", value, step)
        self.board.flush()  # it would keep up to two minutes' curves in memory, which a kill would cut out of them for good
        say(_line(step, total, split, values))

    def close(self) -> None:
        self.board.close()


def _line(step: int, total: int, split: str, values: dict[str, float]) -> str:
    parts = [f"loss {values['loss']:.4f}", f"text {values['loss_text']:.3f}", f"audio {values['loss_mel']:.3f}"]
    if split == "train":
        parts += [f"lr {values['lr']:.2e}", f"grad {values['grad_norm']:.2f}", f"{values['audio_s_per_s']:.1f} audio s/s",
                  f"data wait {values['data_wait_s']:.2f} s"]
    return f"step {step:>6}/{total}  {split:<5}  " + "  ".join(parts)


def logged_run(folder: Path | str) -> str | None:
    """The id of the run that started last in a folder's log; None where there is no log."""
    file = Path(folder) / METRICS
    starts = [line for line in read_jsonl(file) if line.get("event") == "start"] if file.exists() else []
    return starts[-1].get("run_id") if starts else None


def first_and_best(file: Path) -> dict[str, dict[str, float] | None]:
    """The first train, first val and best val lines since the run last began at step 0, for the final report."""
    nothing: dict[str, dict[str, float] | None] = {"first_train": None, "last_train": None, "first_val": None, "best_val": None}
    found = dict(nothing)
    for line in read_jsonl(file) if file.exists() else ():
        if line.get("event") == "start" and not line.get("resumed"):
            found = dict(nothing)
        elif line.get("split") == "train":
            found["first_train"] = found["first_train"] or line
            found["last_train"] = line
        elif line.get("split") == "val":
            found["first_val"] = found["first_val"] or line
            if found["best_val"] is None or line["loss"] < found["best_val"]["loss"]:
                found["best_val"] = line
    return found
