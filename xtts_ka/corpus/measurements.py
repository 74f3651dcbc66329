"""Measures the quality of many recordings in several processes, and keeps what was measured.

`split/measurements.jsonl` in the output folder has a line for each recording, keyed by its path, size and time. What
stands there is not measured again: a run that was killed carries on, and one with other limits takes seconds.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from xtts_ka.core.console import say
from xtts_ka.core.errors import RunError
from xtts_ka.core.files import append_bytes, json_bytes
from xtts_ka.core.jsonl import read_jsonl
from xtts_ka.core.workers import begin_worker

if TYPE_CHECKING:
    from xtts_ka.corpus.quality import Sound, Unusable

RECORD = "split/measurements.jsonl"
TOGETHER = 16  # recordings that a process measures at once
WORTH_PROCESSES = 100  # recordings; starting processes takes longer than measuring fewer


class Measurements:
    """Sounds by recording. processes: how many measure; expected: recordings, about; rated: by DNSMOS too.

    Use it in a `with` statement, whose end stops the processes.
    """

    def __init__(self, data_dir: Path | str, max_seconds: float, processes: int, expected: int, rated: bool = True):
        from xtts_ka.corpus import dnsmos
        from xtts_ka.corpus.quality import VERSION, Sound

        self._record, self._max_seconds = Path(data_dir) / RECORD, max_seconds
        self._rated, self._version = rated and dnsmos.installed(), VERSION
        self._known: dict[str, Sound] = {}
        earlier: set[str] = set()
        if self._record.is_file():
            for line in read_jsonl(self._record):
                try:
                    if line["version"] != VERSION:
                        earlier.add(line["key"])
                    elif line["rated"] >= self._rated:
                        self._known[line["key"]] = Sound.from_json(line)
                except (KeyError, TypeError):
                    continue  # damaged: it is measured again
            say(f"quality of {len(self._known)} recordings is known from before ({self._record})")
            if anew := len(earlier - self._known.keys()):
                say(f"and of {anew} by the rules of an earlier version: they are measured anew")
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1 and expected - len(self._known) >= WORTH_PROCESSES:
            context = multiprocessing.get_context("spawn")  # forking a process that runs torch's threads may hang
            self._pool = ProcessPoolExecutor(processes, context, begin_worker, (os.getpid(),))
        self.processes = processes if self._pool else 1

    def __enter__(self) -> Measurements:
        import torch

        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)  # on clips, more threads wait for one another
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        import torch

        torch.set_num_threads(self._threads)
        if self._pool:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def __call__(self, paths: Sequence[Path]) -> list[Sound | Unusable]:
        """Of each recording, in this order. RunError where a process has died."""
        from xtts_ka.corpus.quality import Sound, measure_sounds

        keys = [recording_key(path) for path in paths]
        missing = [(key, path) for key, path in zip(keys, paths) if key not in self._known]
        groups = [missing[start : start + TOGETHER] for start in range(0, len(missing), TOGETHER)]
        work: Callable[[list[Path]], list[Sound | Unusable]]
        work = partial(measure_sounds, max_seconds=self._max_seconds, rate_sound=self._rated)
        found: dict[str, Sound | Unusable] = {}
        run = self._pool.map if self._pool else map
        try:
            for group, sounds in zip(groups, run(work, [[path for _, path in group] for group in groups])):
                found.update(zip([key for key, _ in group], sounds))
                self._keep([(key, sound) for (key, _), sound in zip(group, sounds) if isinstance(sound, Sound)])
        except BrokenProcessPool:
            few = "run the same command again, with a smaller --processes if memory ran out; what was measured is kept"
            raise RunError(f"a process that measured recordings has died: {few}") from None
        return [self._known.get(key) or found[key] for key in keys]

    def _keep(self, sounds: Sequence[tuple[str, Sound]]) -> None:
        head = {"version": self._version, "rated": self._rated}
        # A killed run may have left a torn line, which the line break keeps apart from what follows.
        lines = b"\n" + b"".join(json_bytes({**head, "key": key, **sound.to_json()}) for key, sound in sounds)
        append_bytes(self._record, lines)
        self._known.update(sounds)


def recording_key(path: Path) -> str:
    """Changes with the recording's place, size or time."""
    try:
        status = os.stat(path)
        facts = f"{os.path.realpath(path)}\0{status.st_size}\0{status.st_mtime_ns}"
    except (OSError, ValueError):
        facts = str(path)
    return hashlib.blake2b(facts.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
