"""Computes the clips that a feature cache lacks, with all processes of a job; the main one appends them to the cache.

    filling/keys.npy, audio.npy, audio_ends.npy, unit_ends.npy    the work: clips, longest first, cut into units
    filling/<digest of its clips' keys>.unit                      a computed unit that is not in the cache yet

Each process takes the next unit that none has taken, decodes its clips in threads while the extractor computes the
units before, and writes codes and mels into a file. The main process appends these files to the cache in the order of
the work. So the bytes of the cache depend neither on the number of processes nor on who computed what, one process has
three files open, and the next start, with any number of processes, finds what a kill left behind. A unit is a batch of
the extractor: on a GPU the last bits of a mel may depend on what stands beside the clip.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xtts_ka.core.console import progress, say
from xtts_ka.core.errors import RunError
from xtts_ka.core.files import sweep_partials, write_bytes
from xtts_ka.model.geometry import SAMPLE_RATE
from xtts_ka.training.feature_cache import Clip, FeatureCache, Unit

if TYPE_CHECKING:
    from torch import Tensor

    from xtts_ka.training.process_group import Peers

    Extract = Callable[[list[Tensor]], list[tuple[Tensor, Tensor]]]  # → codes (codes,) and mel (80, frames) of each

AHEAD = 2  # units being decoded while one is computed: with one, threads are idle during the last clips of each unit
_STALE = 1.25  # times `unit_seconds`: above that, recordings are longer than the table says, and the unit is cut up


@dataclass(frozen=True)
class Tools:
    """How clips are computed. A unit has at most `unit_clips`, and `unit_seconds` when padded to its longest clip.

    threads: how many decode.
    """

    load: Callable[[Any], Tensor]  # path → (1, samples)
    make_extractor: Callable[[], Extract]
    unit_clips: int = 16
    unit_seconds: float = 80.0
    threads: int = 1


class Filled(NamedTuple):
    """What `fill` did: seconds of speech and of time, and the share of it in which the extractor waited for audio."""

    speech: float
    seconds: float
    waited: float


def fill(cache: FeatureCache, clips: Sequence[Clip], tools: Tools, peers: Peers | None = None) -> Filled:
    """Compute clips that are `missing`. For the main process, holding the cache's lock; the others call `help_fill`.

    With peers, once in a job.
    """
    folder = cache.folder / "filling"
    folder.mkdir(exist_ok=True)
    sweep_partials(folder)
    cache.cut_loose_ends()
    _finish_torn_unit(cache, folder)
    units = plan_units(cache.missing(clips), tools)
    files = [folder / _unit_name([clip.key for clip in unit]) for unit in units]
    for left in set(folder.glob("*.unit")).difference(files):
        left.unlink()  # in the cache already, or of other tables
    pending = [unit for unit, file in zip(units, files) if _read_unit(file) is None]
    work, began = Work.of(pending), time.perf_counter()
    if peers:
        work.save(folder)
        announce(peers, len(pending), folder)
    with progress(total=sum(map(len, units)), what="codes and mels", unit="clip", shown=bool(units)) as bar:
        waited = _compute_and_join(cache, work, files, tools, peers, bar.update)
    for file in folder.glob("*.npy"):
        file.unlink()
    samples = cache.find([clip.key for unit in units for clip in unit])["samples"].sum(dtype=np.int64)
    filled = Filled(samples / SAMPLE_RATE, time.perf_counter() - began, waited)
    if units:
        rate = f"{filled.speech / 3600:.2f} h of speech in {filled.seconds:.0f} s"
        waiting = f"the extractor waited for decoded audio {100 * waited:.0f} % of the time"
        say(f"features    {rate}, {filled.speech / filled.seconds:.0f} × real time; {waiting}", verbose=True)
    return filled


def _compute_and_join(
    cache: FeatureCache,
    work: Work,
    files: Sequence[Path],
    tools: Tools,
    peers: Peers | None,
    advance: Callable[[int], object],
) -> float:
    """Append the units' files while this process computes its share of them; `Filled.waited`."""
    stopped = threading.Event()
    with _pool(1) as joiner:
        joining = joiner.submit(_join, cache, files, peers, stopped, advance)
        try:
            numbers = _numbers(len(work), peers.claim if peers else None)
            folder = cache.folder / "filling"
            waited = compute(work, numbers, tools, folder, lambda: joining.done() and joining.result())
            joining.result()
        finally:
            stopped.set()
    cache.reopen()
    return waited


def announce(peers: Peers, units: int, folder: Path | None = None) -> None:
    """Tell the other processes, which wait in `help_fill`, how many units there are to compute, and where."""
    peers.tell("features", json.dumps([units, str(folder)]))


def help_fill(tools: Tools, peers: Peers) -> None:
    """Wait for the main process's word, then compute units beside it until all are taken."""
    units, folder = json.loads(peers.hear("features"))
    numbers = _numbers(units, peers.claim)
    for first in numbers:  # without a unit there may be no folder any more
        compute(Work.opened(Path(folder)), chain([first], numbers), tools, Path(folder))


def _numbers(units: int, claim: Callable[[str], int] | None) -> Iterator[int]:
    """Numbers of units for this process, each taken when it is asked for."""
    return takewhile(lambda n: n < units, iter(lambda: claim("unit"), None)) if claim else iter(range(units))


# ── the work ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def plan_units(clips: Iterable[Clip], tools: Tools) -> list[list[Clip]]:
    """Cut clips into units, longest first: little padding, and memory runs out at the start if at all.

    A unit depends on its first clip and those behind it alone. So when the first units have been done, the others are
    the same again.
    """
    ordered = sorted({clip.key: clip for clip in clips}.values(), key=lambda clip: (-clip.seconds, str(clip.audio)))
    units: list[list[Clip]] = []
    start = 0
    while start < len(ordered):
        longest = max(ordered[start].seconds, tools.unit_seconds / tools.unit_clips)
        units.append(ordered[start : start + max(1, int(tools.unit_seconds / longest))])
        start += len(units[-1])
    return units


class Work:
    """Units of clips as arrays, which other processes map into memory: they read no table."""

    def __init__(self, keys: np.ndarray, audio: np.ndarray, audio_ends: np.ndarray, unit_ends: np.ndarray):
        self.columns = {"keys": keys, "audio": audio, "audio_ends": audio_ends, "unit_ends": unit_ends}

    @classmethod
    def of(cls, units: Sequence[Sequence[Clip]]) -> Work:
        clips = list(chain.from_iterable(units))
        paths = [os.fsencode(clip.audio) for clip in clips]
        ends = (np.cumsum([len(part) for part in parts], dtype=np.int64) for parts in (paths, units))
        return cls(np.array([clip.key for clip in clips], "<u8"), np.frombuffer(b"".join(paths), "u1"), *ends)

    @classmethod
    def opened(cls, folder: Path) -> Work:
        """What another process has saved."""
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in cls.of([]).columns))

    def __len__(self) -> int:
        return len(self.columns["unit_ends"])

    def save(self, folder: Path) -> None:
        for name, values in self.columns.items():
            buffer = io.BytesIO()
            np.save(buffer, values)
            write_bytes(folder / f"{name}.npy", buffer.getvalue())

    def unit(self, number: int) -> tuple[list[int], list[str]]:
        """Keys and paths of a unit's clips."""
        keys, audio, audio_ends, unit_ends = self.columns.values()
        start, end = _span(unit_ends, number)
        paths = (audio[slice(*_span(audio_ends, clip))].tobytes() for clip in range(start, end))
        return keys[start:end].tolist(), [os.fsdecode(path) for path in paths]


def _span(ends: np.ndarray, number: int) -> tuple[int, int]:
    return int(ends[number - 1]) if number else 0, int(ends[number])


# ── computing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def compute(
    work: Work, numbers: Iterable[int], tools: Tools, folder: Path, check: Callable[[], object] = lambda: None
) -> float:
    """Compute these units into files; the share of the time in which the extractor waited for decoded audio.

    check: called between units; what it raises ends the work.
    """
    if not len(work):
        return 0.0
    extract, waited, began = tools.make_extractor(), 0.0, time.perf_counter()
    with _pool(tools.threads, _one_torch_thread) as decoders, _pool(1) as writer:
        units, writing = _decoded(work, numbers, tools.load, decoders), deque[Future[None]]()
        while True:
            mark = time.perf_counter()
            unit = next(units, None)
            waited += time.perf_counter() - mark
            if unit is None:
                break
            keys, speech = unit
            features = list(chain.from_iterable(map(extract, _pieces(speech, tools.unit_seconds * _STALE))))
            writing.append(writer.submit(_write_unit, folder, keys, speech, features))
            while len(writing) > 1:
                writing.popleft().result()
            check()
        for written in writing:
            written.result()
    return waited / (time.perf_counter() - began)


def _decoded(
    work: Work, numbers: Iterable[int], load: Callable[[Any], Tensor], decoders: ThreadPoolExecutor
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Yield units as (keys, speech), while the clips of the next `AHEAD` are decoded."""
    ahead: deque[tuple[list[int], list[Future[Tensor]]]] = deque()
    for number in numbers:
        keys, paths = work.unit(number)
        ahead.append((keys, [decoders.submit(load, path) for path in paths]))
        if len(ahead) > AHEAD:
            keys, clips = ahead.popleft()
            yield keys, [clip.result() for clip in clips]
    for keys, clips in ahead:
        yield keys, [clip.result() for clip in clips]


def _pieces(speech: list[Tensor], most_seconds: float) -> Iterator[list[Tensor]]:
    """Cut a unit where its padded length would pass `most_seconds`."""
    piece: list[Tensor] = []
    for clip in speech:
        longest = max(clip.shape[1], *(other.shape[1] for other in piece), 0)
        if piece and (len(piece) + 1) * longest > most_seconds * SAMPLE_RATE:
            yield piece
            piece = []
        piece.append(clip)
    yield piece


def _write_unit(folder: Path, keys: list[int], speech: list[Tensor], features: list[tuple[Tensor, Tensor]]) -> None:
    write_bytes(folder / _unit_name(keys), Unit.of(keys, speech, features).to_bytes(), sync=False)


@contextlib.contextmanager
def _pool(threads: int, initializer: Callable[[], None] | None = None) -> Iterator[ThreadPoolExecutor]:
    """Threads that begin nothing more once the block has ended, by an error too."""
    pool = ThreadPoolExecutor(threads, initializer=initializer)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _one_torch_thread() -> None:
    """Else each decoding thread has torch's resampling start as many threads as there are cores."""
    import torch

    torch.set_num_threads(1)


# ── appending ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _unit_name(keys: Sequence[int]) -> str:
    return hashlib.blake2b(np.array(keys, "<u8").tobytes(), digest_size=12).hexdigest() + ".unit"


def _read_unit(file: Path) -> Unit | None:
    """None where it is missing or damaged."""
    return Unit.from_bytes(file.read_bytes()) if file.exists() else None


def _finish_torn_unit(cache: FeatureCache, folder: Path) -> None:
    """Append the rest of a unit in whose records a kill has struck: its file is still there."""
    for unit in filter(None, map(_read_unit, sorted(folder.glob("*.unit")))):
        lacking = cache.find(unit.records["key"].tolist())["samples"] == 0
        if lacking.any() and not lacking.all():
            cache.append(unit.only(lacking))


def _join(
    cache: FeatureCache,
    files: Sequence[Path],
    peers: Peers | None,
    stopped: threading.Event,
    advance: Callable[[int], object],
) -> None:
    """Append the units' files in this order, as soon as each is there, and delete them."""
    others, looked = range(1, peers.world if peers else 1), time.monotonic()
    for file in files:
        while not file.exists():
            if stopped.wait(0.02):
                return
            if peers and time.monotonic() - looked > 1:
                peers.expect(others)
                looked = time.monotonic()
        unit = _read_unit(file)
        if unit is None:
            raise RunError(f"{file} was damaged after it was written: run the same command, which computes it again")
        cache.append(unit)
        file.unlink()
        advance(len(unit.records))
