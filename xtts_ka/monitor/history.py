"""What a run has logged: `metrics.jsonl` read as it grows, with restarts merged, in bounded memory.

A refresh costs time proportional to the new lines only. After a crash the trainer logs again what it had done
since the last checkpoint; here each step appears once, with its last value. Damaged lines are counted and
passed over.

    history = RunHistory("logs/metrics.jsonl")
    history.refresh()
    history.train.table()["loss"]      # float64, one value per row; see `Track`
"""

from __future__ import annotations

import json
import math
import os
import re
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from xtts_ka.core.files import atomic_path, parse_jsonl, unsealed
from xtts_ka.core.console import UserError

TRAIN_METRICS = ("loss", "loss_text", "loss_mel", "lr", "grad_norm", "audio_s_per_s", "data_wait_s", "time")
VAL_METRICS = ("loss", "loss_text", "loss_mel", "time")
Table = dict[str, np.ndarray]

_LARGEST_STEP = 10**12
_LARGEST_VALUE = 1e30  # beyond it a number is damage, and would overflow the means


def number(value: Any) -> float:
    """`value` as a float; NaN for whatever is not a finite number of sensible size (text, null, true …)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST_VALUE:
        return math.nan
    return float(value)


# ── reading a file that grows ───────────────────────────────────────────────────────────────────────────────


class JsonlTail:
    """The lines appended to a JSONL file since the last call, and whether it is still the same file."""

    CHUNK = 1 << 20
    # a longer one is damage (such as a run of zeros after a power cut) and is skipped unread
    LONGEST_LINE = 1 << 20
    # bytes remembered from the start and from before the offset: an inode number may be given out again
    _SEAM = 64

    def __init__(self) -> None:
        self.offset = 0
        self._identity: tuple[int, int] | None = None
        self._head = self._seam = b""
        self._skipping = False

    def replaced(self, file: BinaryIO) -> bool:
        """True when `file` is not the one read so far, continued: renamed away, truncated or written anew."""
        status = os.fstat(file.fileno())
        if self._identity is None:
            return False
        if self._identity != (status.st_dev, status.st_ino) or status.st_size < self.offset:
            return True
        head = file.read(len(self._head))
        file.seek(self.offset - len(self._seam))
        return head != self._head or file.read(len(self._seam)) != self._seam

    def new_lines(self, file: BinaryIO) -> Iterator[tuple[list[dict | None], list[int], int]]:
        """Yield (objects, their byte offsets, bytes read) a chunk at a time; None is a damaged line."""
        status = os.fstat(file.fileno())
        self._identity = (status.st_dev, status.st_ino)
        file.seek(self.offset)
        rest = b""
        while block := file.read(self.CHUNK):
            read, block = len(block), rest + block
            if self._skipping:
                end = block.find(b"\n") + 1
                self.offset += end or len(block)
                block, self._skipping = (block[end:], False) if end else (b"", True)
            end = block.rfind(b"\n") + 1
            whole, rest = block[:end], block[end:]
            records, offsets = self._parse(whole)
            self.offset += end
            if len(rest) > self.LONGEST_LINE:
                records, offsets = [*records, None], [*offsets, self.offset]
                self.offset += len(rest)
                rest, self._skipping = b"", True
            yield records, offsets, read
        if (last := parse_jsonl(rest)) is not None:  # whole, though its newline is missing
            self.offset += len(rest)
            yield [last], [self.offset - len(rest)], 0
        self._remember(file)

    def _parse(self, whole: bytes) -> tuple[list[dict | None], list[int]]:
        lines = whole.split(b"\n")[:-1]
        offsets = list(accumulate((len(line) + 1 for line in lines), initial=self.offset))[:-1]
        if not all(map(bytes.strip, lines)):
            kept = [(line, offset) for line, offset in zip(lines, offsets) if line.strip()]
            lines, offsets = [line for line, _ in kept], [offset for _, offset in kept]
        try:  # a whole chunk at once is twice as fast as line by line
            records = json.loads((b"[" + b",\n".join(lines) + b"]").decode("utf-8"))
        except (ValueError, RecursionError):
            records = []
        if len(records) != len(lines):
            return [parse_jsonl(line) for line in lines], offsets
        pairs = zip(lines, records)
        return [unsealed(line, record) if isinstance(record, dict) else None for line, record in pairs], offsets

    def _remember(self, file: BinaryIO) -> None:
        file.seek(0)
        self._head = file.read(min(self._SEAM, self.offset))
        file.seek(max(0, self.offset - self._SEAM))
        self._seam = file.read(min(self._SEAM, self.offset))


# ── one split's lines ───────────────────────────────────────────────────────────────────────────────────────


class Track:
    """One split's lines with strictly increasing steps: the newest exactly, older ones as means of several.

    However long the run, at most 2·EXACT + COARSE rows are kept. `table()` returns float64 columns of equal
    length: `step` (the last of the row), `lines` (how many it stands for; 1 = exact), `session` (counts
    restarts), `low`, `low_step`, `high`, `high_step` (extremes of the loss), and one mean per metric, NaN
    where it was not logged.
    """

    EXACT, COARSE, FOLD = 8192, 4096, 16
    SHAPE = ("step", "lines", "session", "low", "low_step", "high", "high_step")

    def __init__(self, metrics: tuple[str, ...]):
        self.last = -1
        self.metrics = metrics
        self._nonfinite: list[int] = []
        self._get = itemgetter(*metrics)
        self._fresh: list[tuple] = []
        self._exact = self._coarse = np.empty((0, len(self.SHAPE) + len(metrics)))

    @property
    def nonfinite(self) -> list[int]:
        """Steps whose loss was NaN, infinite or null (of a long run, the newest 1000)."""
        self._flush()
        return self._nonfinite

    def append(self, step: int, session: int, record: dict, offset: int) -> None:
        """Add a line; `step` must be larger than `last`."""
        try:
            values = self._get(record)
        except KeyError:
            values = tuple(record.get(name, math.nan) for name in self.metrics)
        self._fresh.append((step, session, *values))
        self.last = step
        if len(self._fresh) >= self.EXACT:
            self._flush()

    def rewind(self, step: int, *, inclusive: bool) -> None:
        """Forget the lines after `step` (and the one at it, if `inclusive`): they were undone."""
        self._flush()
        side = "left" if inclusive else "right"
        self._exact = self._exact[: np.searchsorted(self._exact[:, 0], step, side)]
        self._coarse = self._coarse[: np.searchsorted(self._coarse[:, 0], step, side)]
        self._nonfinite = [bad for bad in self._nonfinite if bad < step + (not inclusive)]
        newest = self._exact if len(self._exact) else self._coarse
        self.last = int(newest[-1, 0]) if len(newest) else -1

    def table(self) -> Table:
        """The rows as named columns."""
        self._flush()
        rows = np.concatenate([self._coarse, self._exact])
        return dict(zip(self.SHAPE + self.metrics, rows.T.copy()))

    def _flush(self) -> None:
        if not self._fresh:
            return
        try:
            fresh = np.array(self._fresh, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            fresh = np.array([[number(value) for value in line] for line in self._fresh])
        self._fresh = []
        step, session, values = fresh[:, :1], fresh[:, 1:2], fresh[:, 2:]
        values[~(np.abs(values) <= _LARGEST_VALUE)] = np.nan
        values[np.abs(values) < 1 / _LARGEST_VALUE] = 0.0  # so that no ratio overflows
        loss = values[:, :1]
        self._nonfinite += step[np.isnan(loss)].astype(int).tolist()
        rows = np.hstack([step, np.ones_like(step), session, loss, step, loss, step, values])
        self._exact = np.concatenate([self._exact, rows])
        if len(self._exact) > 2 * self.EXACT:
            old, self._exact = self._exact[: -self.EXACT], self._exact[-self.EXACT:]
            self._coarse = np.concatenate([self._coarse, _merged(old, np.arange(len(old)) // self.FOLD)])
            del self._nonfinite[:-1000]
        if len(self._coarse) > self.COARSE:
            lines = self._coarse[:, 1]
            share = lines.sum() / (self.COARSE // 2)
            self._coarse = _merged(self._coarse, (np.cumsum(lines) - lines) // share)


def _merged(rows: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Merge the rows of each group (`groups` never decreases): means by lines, extremes of the loss."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    lines, values = rows[:, 1:2], rows[:, 7:]
    weights = np.where(np.isnan(values), 0.0, lines)
    weight = np.add.reduceat(weights, starts)
    total = np.add.reduceat(weights * np.nan_to_num(values), starts)
    merged = rows[np.append(starts[1:], len(rows)) - 1].copy()  # step and session of the last row
    merged[:, 1] = np.add.reduceat(lines[:, 0], starts)
    merged[:, 3:5] = rows[np.lexsort((rows[:, 3], groups))[starts], 3:5]  # NaN sorts last
    merged[:, 5:7] = rows[np.lexsort((-rows[:, 5], groups))[starts], 5:7]
    merged[:, 7:] = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    return merged


# ── the run ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Restart:
    """Where a run carried on after a stop: the step it began from, and when (unix seconds, or NaN)."""

    step: int
    time: float


class RunHistory:
    """A run's metrics, merged. Call `refresh()` as often as you like; it reads what is new.

    A `start` event with `resumed` undoes everything after its step. Should that line be damaged, two lines in
    a row that step back mean the same, while a single one is damage itself and dropped.
    """

    def __init__(self, path: Path | str, tracks: Callable[[tuple[str, ...]], Any] = Track):
        self.path = Path(path)
        self.version = 0  # grows whenever a refresh changed something
        self._new_track = tracks
        self.clear()

    def clear(self) -> None:
        """Forget everything; the next refresh reads from the start of the file."""
        self._log = JsonlTail()
        self._begin()
        self.damaged = 0  # lines that are no metric and no event

    def _begin(self) -> None:
        self.train, self.val = self._new_track(TRAIN_METRICS), self._new_track(VAL_METRICS)
        self.restarts: deque[Restart] = deque(maxlen=1000)
        self.restart_count = self._session = self.resumed_at = 0
        self.total_steps: int | None = None
        self.run_id: str | None = None
        self.last_event: str | None = None  # start, finish or stop, whichever came last
        self.last_time = math.nan
        self.skipped: list[int] = []  # steps that were skipped because they were not finite (the newest 1000)
        self.splits: list[tuple[int, int]] = []  # (step, pieces a batch is cut into since): the GPU's memory ran out
        self._suspect: tuple | None = None

    def refresh(self, on_bytes: Callable[[int], Any] | None = None) -> bool:
        """Read what was appended (all of it, if the file was replaced). True when anything changed."""
        try:
            file = open(self.path, "rb")
        except FileNotFoundError:
            changed = self._log.offset > 0
            self.clear()
            self.version += changed
            return changed
        changed = False
        with file:
            if self._log.replaced(file):
                self.clear()
                changed = True
            for records, offsets, read in self._log.new_lines(file):
                self._merge(records, offsets)
                changed = changed or bool(records)
                if on_bytes:
                    on_bytes(read)
        self.version += changed
        return changed

    def _merge(self, records: list[dict | None], offsets: list[int]) -> None:
        tracks = {"train": self.train, "val": self.val}
        for record, offset in zip(records, offsets):
            if record is None:
                self.damaged += 1
                continue
            split, step = record.get("split"), record.get("step")
            track = tracks.get(split) if isinstance(split, str) else None
            numbered = type(step) is int and 0 <= step <= _LARGEST_STEP
            if track is None or not numbered or "loss" not in record:
                self._event(record, step)
                tracks = {"train": self.train, "val": self.val}
            elif step <= track.last:
                self._step_back(track, step, record, offset)
            else:
                if self._suspect is not None:
                    self._suspect, self.damaged = None, self.damaged + 1
                track.append(step, self._session, record, offset)
        for record in reversed(records):
            if record is not None and not math.isnan(time := number(record.get("time"))):
                self.last_time = time
                break

    def _event(self, record: dict, step: Any) -> None:
        event = record.get("event")
        if not isinstance(event, str):
            self.damaged += 1
            return
        step = step if type(step) is int and 0 <= step <= _LARGEST_STEP else 0
        if event in ("start", "finish", "stop"):
            self.last_event = event
        elif event == "skip":
            self.skipped = [*self.skipped[-999:], step]
        elif event == "oom" and (parts := number(record.get("parts"))) >= 1:
            self.splits = [*self.splits[-999:], (step, int(parts))]
        if event != "start":
            return
        self.resumed_at = step
        if record.get("resumed") is True:
            self._undo(None, step)
            self._suspect = None
            self._restarted(step, number(record.get("time")))
        else:
            self._begin()
            self.last_event, self.resumed_at = event, step
        total = number(record.get("total_steps"))
        self.total_steps = int(total) if total >= 1 else self.total_steps
        self.run_id = record["run_id"] if isinstance(record.get("run_id"), str) else self.run_id

    def _step_back(self, track: Any, step: int, record: dict, offset: int) -> None:
        previous, self._suspect = self._suspect, (track, step, record, offset)
        if previous is None:
            return
        first, first_step, first_record, first_offset = previous
        self._undo(first, first_step)
        self._restarted(first_step, number(first_record.get("time")))
        first.append(first_step, self._session, first_record, first_offset)
        if step > track.last:
            track.append(step, self._session, record, offset)
            self._suspect = None

    def _undo(self, relogged: Any, step: int) -> None:
        """Forget what a restart at `step` undoes; the line at `step` itself comes again in `relogged`."""
        for track in (self.train, self.val):
            if track.last >= step:
                track.rewind(step, inclusive=track is relogged)
        self.skipped = [skipped for skipped in self.skipped if skipped <= step]
        self.splits = [split for split in self.splits if split[0] <= step]

    def _restarted(self, step: int, time: float) -> None:
        self._session += 1
        self.restart_count += 1
        self.restarts.append(Restart(step, time))


# ── smoothing and the time left ─────────────────────────────────────────────────────────────────────────────


def smooth(values: np.ndarray, weights: np.ndarray, window: int) -> np.ndarray:
    """Centred moving mean over `window` rows, weighted by lines; NaN is passed over."""
    if len(values) == 0:
        return values
    half = max(0, window // 2)
    weights = np.where(np.isnan(values), 0.0, weights)
    sums = np.stack([np.nan_to_num(values) * weights, weights])
    sums = np.concatenate([np.zeros((2, 1)), np.cumsum(sums, axis=1)], axis=1)
    index = np.arange(len(values))
    first, end = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    total, weight = sums[:, end] - sums[:, first]
    return np.divide(total, weight, out=np.full(len(values), np.nan), where=weight > 0)


@dataclass(frozen=True)
class Eta:
    """Seconds of training left, give or take `plus_minus`; and the present pace."""

    seconds: float
    plus_minus: float
    seconds_per_step: float


def estimate_time_left(train: Table, total_steps: int, *, lines: int = 500, enough: int = 40,
                       stretches: int = 20) -> Eta | None:
    """Time left at the pace of the newest lines, or None while there are fewer than four.

    The newest lines (of the newest session alone once it has `enough`: it may run on another machine) are cut
    into stretches; the pace is the mean of the middle half of their paces. So validation and checkpoints,
    which are in every stretch, count, while pauses (in a few stretches) and the way back after a restart
    (between sessions) do not. The uncertainty is the spread of the stretches' paces (1.48 × median absolute
    deviation): how far off the estimate is if the pace goes on varying as it did.
    """
    recent = slice(-lines, None)
    step, time, session = train["step"][recent], train["time"][recent], train["session"][recent]
    steps, seconds = np.diff(step), np.diff(time)
    usable = (np.diff(session) == 0) & (seconds > 0)  # NaN and a clock set back are not
    present = usable & (session[1:] == session[-1:])
    usable = present if present.sum() >= enough else usable
    steps, seconds = steps[usable], seconds[usable]
    if len(steps) < 3:
        return None
    parts = np.array_split(np.arange(len(steps)), min(stretches, max(3, len(steps) // 5)))
    pace = np.sort([seconds[part].sum() / steps[part].sum() for part in parts])
    quarter = max(1, len(pace) // 4)  # of three stretches, the middle one
    middle = float(pace[quarter: len(pace) - quarter].mean())
    spread = 1.4826 * float(np.median(np.abs(pace - np.median(pace))))
    left = max(0, total_steps - int(train["step"][-1]))
    return Eta(left * middle, left * spread, middle)


def training_seconds(train: Table) -> float:
    """Seconds spent in training: what lies between lines of one session, long pauses left out."""
    gaps, lines = np.diff(train["time"]), train["lines"][1:]
    usable = (gaps > 0) & (np.diff(train["session"]) == 0)
    gaps, lines = gaps[usable], lines[usable]
    if not len(gaps):
        return 0.0
    usual = float(np.median(gaps / lines))
    return float(gaps[gaps <= np.maximum(600.0, 20 * usual * lines)].sum())


# ── export ──────────────────────────────────────────────────────────────────────────────────────────────────

# also keeps spreadsheet formulas out of the header
_METRIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./]{0,63}")


class _OffsetTrack:
    """The lines of a split that survive the merging, as steps and byte offsets; and their metrics' names."""

    def __init__(self, metrics: tuple[str, ...]):
        self.last = -1
        self.metrics = metrics
        self.names: dict[str, None] = {}
        self.steps, self.offsets = array("q"), array("q")

    def append(self, step: int, session: int, record: dict, offset: int) -> None:
        self.last = step
        self.steps.append(step)
        self.offsets.append(offset)
        if not self.names.keys() >= record.keys():
            self.names.update(dict.fromkeys(record))

    def rewind(self, step: int, *, inclusive: bool) -> None:
        keep = int(np.searchsorted(np.frombuffer(self.steps, np.int64), step,
                                   "left" if inclusive else "right"))
        del self.steps[keep:], self.offsets[keep:]
        self.last = self.steps[-1] if keep else -1

    def columns(self) -> list[str]:
        """The known metrics first, in their order, then whatever else was logged."""
        logged = [name for name in self.names if name not in ("step", "split")
                  and _METRIC_NAME.fullmatch(name)]
        return [m for m in self.metrics if m in logged] + sorted(set(logged) - set(self.metrics))


def export_csv(log: Path, target: Path, on_rows: Callable[[int, int], Any] | None = None) -> int:
    """Write every logged metric to `target`, one row per step with restarts merged; returns how many rows.

    Columns: `step`, the training metrics under their own names, the validation metrics as `val_…`; a cell is
    empty where nothing was logged, `nan` or `inf` where that was. `on_rows(done, total)` is told how far it
    got.
    """
    import csv

    history = RunHistory(log, _OffsetTrack)
    history.refresh()
    train, val = history.train, history.val
    steps = np.union1d(np.array(train.steps, np.int64), np.array(val.steps, np.int64))
    if not len(steps):
        raise UserError(f"{log} holds no metrics to export yet: let the full_pretrain stage log "
                        "something first")
    with open(log, "rb") as file, atomic_path(target) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["step", *train.columns(), *(f"val_{name}" for name in val.columns())])
            cells = [_cells(file, track) for track in (train, val)]
            upcoming = [next(rows) for rows in cells]
            blanks = [[""] * len(track.columns()) for track in (train, val)]
            for done, step in enumerate(steps.tolist(), start=1):
                row = [step]
                for i, rows in enumerate(cells):
                    here = upcoming[i][0] == step
                    row += upcoming[i][1] if here else blanks[i]
                    upcoming[i] = next(rows) if here else upcoming[i]
                writer.writerow(row)
                if on_rows and (done % 100_000 == 0 or done == len(steps)):
                    on_rows(done, len(steps))
    return len(steps)


def _cells(file: BinaryIO, track: _OffsetTrack) -> Iterator[tuple[int, list]]:
    """Yield (step, cells) for each surviving line, then (-1, []) for ever."""
    columns = track.columns()
    for step, offset in zip(track.steps, track.offsets):
        file.seek(offset)
        record = parse_jsonl(file.readline()) or {}
        yield step, [_cell(record.get(name, "")) for name in columns]
    while True:
        yield -1, []


def _cell(value: Any) -> Any:
    """Numbers as they are, true as 1, null as NaN; texts and structures are no metrics and stay empty."""
    if value is None:
        return math.nan
    if isinstance(value, int):
        return int(value) if abs(value) < 2**63 else math.nan  # what a column of whole numbers can hold
    return value if isinstance(value, float) else ""
