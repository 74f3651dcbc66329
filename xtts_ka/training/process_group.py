"""Several processes as one training: they join, give each other signs of life, and wait for the first without a clock.

torchrun and accelerate launch start the processes and say where their common store is (RANK, WORLD_SIZE, MASTER_ADDR,
MASTER_PORT). A collective that waits for a dead process may wait for ever (NCCL) or ten minutes (its watchdog); so every
process also signs in the store, watches the next one in a ring, and ends with a sentence when that one falls silent.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from xtts_ka.core.command_line import abort
from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.errors import Interrupted, RunError, UserError

SIGN_SECONDS = 3.0  # between two signs of life
SILENCE_SECONDS = 30.0  # after which a silent process counts as dead
COLLECTIVE_TIMEOUT = timedelta(minutes=10)  # for processes that live and yet do not come
AGAIN = "run the same command: it carries on from the last checkpoint"


class Peers:
    """This process among those of its job: `rank` of `world`, and the store they share (None for a single one)."""

    def __init__(self, rank: int = 0, world: int = 1, store: dist.Store | None = None):
        self.rank, self.world, self._store = rank, world, store

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def tell(self, name: str, value: str) -> None:
        """Leave a word for the others."""
        if self._store:
            self._store.set(name, value)

    def hear(self, name: str) -> str:
        """Wait for a word, however long that takes: the main process may have hours of work before it."""
        while not self.heard([name]):
            time.sleep(0.2)
        return self._store.get(name).decode("utf-8")

    def heard(self, names: list[str]) -> bool:
        """Whether all these words have been said."""
        return self._store.check(names)

    @contextlib.contextmanager
    def main_first(self, name: str) -> Iterator[None]:
        """The main process runs the block first, the others when it is through; no collective, so no timeout."""
        if not self.is_main:
            self.hear(name)
        yield
        if self.is_main:
            self.tell(name, "through")


ALONE = Peers()


def world_size() -> int:
    """Processes in this job, as the launcher says."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextlib.contextmanager
def joined(config: PretrainConfig) -> Iterator[Peers]:
    """Join the processes of this job for the time of the block.

    What ends one of them ends all: its error is told to the others, and a silent one is noticed by its neighbour.
    """
    if world_size() == 1:
        yield ALONE
        return
    if config.device.startswith("cuda:"):
        raise UserError(
            f"device is {config.device!r}, one GPU, but {world_size()} processes were started: set device to auto"
        )
    store, rank, world = next(dist.rendezvous("env://", timeout=timedelta(minutes=5)))
    peers = Peers(rank, world, dist.PrefixStore("words", store))
    on_cpu = config.device == "cpu" or not torch.cuda.is_available()
    if not on_cpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group(
        "gloo" if on_cpu else "nccl",
        store=dist.PrefixStore("group", store),
        rank=rank,
        world_size=world,
        timeout=COLLECTIVE_TIMEOUT,
    )
    watch = _Watch(dist.PrefixStore("watch", store.clone()), rank, world)
    watch.start()
    try:
        yield peers
        _part(peers, watch)
    except Interrupted:  # all leave at the same step; but before the training it may be this one alone that was told to
        _part(peers, watch, patience=10)
        raise
    except (UserError, RunError) as error:
        watch.end_all(str(error))
        raise
    except RuntimeError as error:  # what a collective raises when its connection breaks
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            watch.end_all(f"{type(error).__name__}: {error}")
            raise
        raise RunError(f"process {rank} of {world} lost the others: one of them has died; {AGAIN}") from error
    except BaseException as error:
        watch.end_all(type(error).__name__)
        raise
    finally:
        if dist.is_initialized() and watch.left:
            dist.destroy_process_group()


def _part(peers: Peers, watch: _Watch, patience: float = math.inf) -> None:
    """Leave; the main process last, since it may be the one that keeps the store, if the others come within `patience` s."""
    others, deadline = [f"left/{other}" for other in range(1, peers.world)], time.monotonic() + patience
    while peers.is_main and not peers.heard(others) and time.monotonic() < deadline:
        time.sleep(0.2)
    watch.leave()
    peers.tell(f"left/{peers.rank}", "left")


class _Watch(threading.Thread):
    """Signs for this process, and watches the next in the ring: three requests to the store at a time, however many
    processes there are."""

    def __init__(self, store: dist.Store, rank: int, world: int):
        super().__init__(name="watch", daemon=True)
        self._store, self._rank, self._next = store, rank, (rank + 1) % world
        self._gone, self.left = threading.Event(), False
        store.set_timeout(timedelta(seconds=SILENCE_SECONDS))
        store.set(f"host/{rank}", socket.gethostname())

    def run(self) -> None:
        count, seen, since = 0, b"", time.monotonic()
        while not self._gone.wait(SIGN_SECONDS):
            count += 1
            try:
                self._store.set(f"sign/{self._rank}", str(count))
                self._heed()
                sign = self._sign()
            except RuntimeError as error:  # torch's DistStoreError and DistNetworkError are RuntimeErrors
                abort(
                    f"the job's common store cannot be reached any more ({str(error).splitlines()[0][:120]}): the launcher or "
                    f"the first machine is gone; {AGAIN}"
                )
            if sign != seen:
                seen, since = sign, time.monotonic()
            elif sign != b"left" and time.monotonic() - since > SILENCE_SECONDS:
                self.end_all(f"no sign of life for {SILENCE_SECONDS:.0f} s; {AGAIN}", of=self._next)
                self._heed()

    def _heed(self) -> None:
        """End this process when somebody said that all is over."""
        if self._store.check(["over"]):
            abort(self._store.get("over").decode("utf-8"))

    def _sign(self) -> bytes:
        key = f"sign/{self._next}"
        return self._store.get(key) if self._store.check([key]) else b""

    def end_all(self, why: str, of: int | None = None) -> None:
        """Tell the others that process `of` (this one) has ended and why; the first word stands."""
        who = self._rank if of is None else of
        with contextlib.suppress(RuntimeError):  # without a store they notice by themselves
            host = self._store.get(f"host/{who}").decode("utf-8")
            self._store.compare_set("over", "", f"process {who} on {host} has ended: {why}")
        if of is None:
            self._gone.set()

    def leave(self) -> None:
        """The work is done: nobody need miss this process."""
        self._gone.set()
        self.join()
        self.left = True
        with contextlib.suppress(RuntimeError):  # the others may be gone already, and the store with them
            self._store.set(f"sign/{self._rank}", "left")
