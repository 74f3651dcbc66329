"""Processes that work side by side: how many, and how each begins."""

from __future__ import annotations

import os
import signal
import threading
import time


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def begin_worker(parent: int) -> None:
    """One thread of torch for each process; Ctrl-C is the parent's; a process whose parent has died ends.

    parent: the number of the process that started this one.
    """
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
