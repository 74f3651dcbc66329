"""Which device torch uses, and how many threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from xtts_ka.core.errors import RunError


def choose_device(name: str) -> str:
    """The config's `device`; auto is cuda where there is a GPU, else cpu. RunError for cuda without a GPU."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not torch.cuda.is_available():
        raise RunError(f"device is {name!r} but PyTorch sees no CUDA GPU: set it to cpu or auto, or check the driver")
    return name


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, for small networks: results do not depend on the number of cores.

    It is no slower: on 2 busy cores the G2P network reads 3,900 words a second with one thread, 1,200 with two.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
