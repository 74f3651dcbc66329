"""Several processes as one training: they join, watch each other, and wait for the main one without a time limit.

torchrun and accelerate launch start the processes and say where their common store is (RANK, WORLD_SIZE, MASTER_ADDR,
MASTER_PORT). A collective operation that waits for a dead process may wait for ever, or for ten minutes until NCCL's
watchdog ends it without a word. So every process also counts up a heartbeat in the store, watches that of the next
rank, and ends with one sentence when it stops.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from xtts_ka.core.command_line import abort
from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.errors import Interrupted, RunError, UserError
from xtts_ka.core.torch_settings import choose_device

BEAT_SECONDS = 3.0  # between two heartbeats
SILENCE_SECONDS = 30.0  # without a heartbeat, after which a process counts as dead
COLLECTIVE_TIMEOUT = timedelta(minutes=10)  # for processes that live, but do not take part
AGAIN = "run the same command: it carries on from the last checkpoint"


class Peers:
    """This process among those of its job: `rank` of `world`, and the store they share (None for a single one)."""

    def __init__(self, rank: int = 0, world: int = 1, store: dist.Store | None = None):
        self.rank, self.world, self._store = rank, world, store
        self._claimed: Counter[str] = Counter()  # without a store

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def tell(self, name: str, value: str) -> None:
        """Leave a message for the others."""
        if self._store:
            self._store.set(name, value)

    def hear(self, name: str) -> str:
        """Wait for a message, however long that takes: the main process may have hours of work before it."""
        assert self._store, "a single process has nobody to hear from"
        while not self.have_said([name]):
            self.expect([0])
            time.sleep(0.2)
        return self._store.get(name).decode("utf-8")

    def expect(self, ranks: Iterable[int]) -> None:
        """RunError if one of these processes was stopped (by Ctrl-C or SIGTERM) and has left the job."""
        for rank in ranks:
            if self._store and self.have_said([f"left/{rank}"]):
                raise RunError(f"process {rank} of {self.world} was stopped: {AGAIN}")

    def claim(self, name: str) -> int:
        """0, 1, 2, ...: a number that no other process of the job gets for this name."""
        if self._store:
            return self._store.add(f"claim/{name}", 1) - 1
        self._claimed[name] += 1
        return self._claimed[name] - 1

    def have_said(self, names: list[str]) -> bool:
        """Whether all these messages are there."""
        return self._store is None or self._store.check(names)

    @contextlib.contextmanager
    def main_first(self, name: str) -> Iterator[None]:
        """The main process runs the block first, the others once it has finished; no collective, so no timeout."""
        if not self.is_main:
            self.hear(name)
        yield
        if self.is_main:
            self.tell(name, "done")


ALONE = Peers()


def world_size() -> int:
    """Processes in this job, as the launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def joined(config: PretrainConfig) -> Iterator[Peers]:
    """Join the processes of this job for the time of the block.

    An error that ends one of them ends all, with the same sentence; a process that falls silent is noticed by another.
    """
    if world_size() == 1:
        yield ALONE
        return
    if config.device.startswith("cuda:"):
        processes = f"{world_size()} processes were started"
        raise UserError(f"device is {config.device!r}, one GPU, but {processes}: set device to auto")
    on_cpu = choose_device(config.device) == "cpu"
    store, rank, world = next(dist.rendezvous("env://", timeout=timedelta(minutes=5)))
    if not on_cpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    group_store, backend = dist.PrefixStore("group", store), "gloo" if on_cpu else "nccl"
    dist.init_process_group(backend, store=group_store, rank=rank, world_size=world, timeout=COLLECTIVE_TIMEOUT)
    peers = Peers(rank, world, dist.PrefixStore("messages", store))
    watch = _Watch(dist.PrefixStore("watch", store.clone()), rank, world)
    watch.start()
    try:
        yield peers
        _leave(peers, watch)
    except Interrupted:  # all stop at the same step; but before training only one process may have got the signal
        _leave(peers, watch, patience=10)
        raise
    except BaseException as error:
        if isinstance(error, RuntimeError) and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            # A collective operation whose connection broke.
            raise RunError(f"process {rank} of {world} lost the others: one of them has died; {AGAIN}") from error
        watch.end_all(str(error) or type(error).__name__)
        raise


def _leave(peers: Peers, watch: _Watch, patience: float = math.inf) -> None:
    """Leave the job. The main process may keep the store, so it waits `patience` s at most for the others."""
    others, deadline = [f"left/{rank}" for rank in range(1, peers.world)], time.monotonic() + patience
    while peers.is_main and not peers.have_said(others) and time.monotonic() < deadline:
        time.sleep(0.2)
    watch.stop()
    peers.tell(f"left/{peers.rank}", "left")
    dist.destroy_process_group()


class _Watch(threading.Thread):
    """Writes this process's heartbeat and checks the next rank's: few requests, however many processes there are."""

    def __init__(self, store: dist.Store, rank: int, world: int):
        super().__init__(name="watch", daemon=True)
        self._store, self._rank, self._next = store, rank, (rank + 1) % world
        self._stopped = threading.Event()
        store.set_timeout(timedelta(seconds=SILENCE_SECONDS))
        store.set(f"host/{rank}", socket.gethostname())

    def run(self) -> None:
        count, seen, since, watched = 0, b"", time.monotonic(), f"beat/{self._next}"
        while not self._stopped.wait(BEAT_SECONDS):
            count += 1
            try:
                self._store.set(f"beat/{self._rank}", str(count))
                self._obey()
                beat = self._store.get(watched) if self._store.check([watched]) else b""
            except RuntimeError as error:  # torch's DistStoreError and DistNetworkError are RuntimeErrors
                what = f"the job's common store is out of reach ({str(error).splitlines()[0][:120]})"
                abort(f"{what}: the launcher or first machine is gone; {AGAIN}")
            if beat != seen:
                seen, since = beat, time.monotonic()
            elif beat != b"left" and time.monotonic() - since > SILENCE_SECONDS:
                self._announce(self._next, f"no sign of life for {SILENCE_SECONDS:.0f} s; {AGAIN}")

    def _obey(self) -> None:
        """End this process if one has announced the end of all."""
        if self._store.check(["over"]):
            abort(self._store.get("over").decode("utf-8"))

    def _announce(self, rank: int, why: str) -> None:
        """Tell all that process `rank` has ended and why; the first announcement stands."""
        host = self._store.get(f"host/{rank}").decode("utf-8")
        self._store.compare_set("over", "", f"process {rank} on {host} has ended: {why}")

    def end_all(self, why: str) -> None:
        """Tell the others that this process has ended and why."""
        with contextlib.suppress(RuntimeError):  # without a store they notice by themselves
            self._announce(self._rank, why)
        self._stopped.set()

    def stop(self) -> None:
        """The work is done: the process that watches this one need not wait for more."""
        self._stopped.set()
        self.join()
        with contextlib.suppress(RuntimeError):  # the others may be gone already, and the store with them
            self._store.set(f"beat/{self._rank}", "left")
