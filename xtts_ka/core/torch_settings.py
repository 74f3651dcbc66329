"""Which device to use, and how many threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from xtts_ka.core.errors import RunError


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: results do not depend on the number of cores, and this network is no slower for it.

    Beside other work a second thread costs far more than it brings (measured on 2 busy cores: 1,200 words a second
    with two threads, 3,900 with one).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def choose_device(name: str) -> str:
    """auto → cuda where there is one, else cpu. RunError where a GPU is asked for and there is none."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not torch.cuda.is_available():
        raise RunError(
            f"device is {name!r} but PyTorch sees no CUDA GPU: set device to cpu or auto, or check the driver"
        )
    return name
