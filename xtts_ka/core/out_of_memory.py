"""When memory runs out: recognised, and the work done in smaller pieces."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from xtts_ka.core.errors import RunError

Item = TypeVar("Item")
Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is Python's MemoryError, or torch's error of a GPU or a CPU without enough free memory.

    torch has a class of its own for GPUs; for CPUs it raises a plain RuntimeError, known by its text. It is not
    imported here, since scripts answer `--help` without it.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(
        text in str(error) for text in ("can't allocate memory", "not enough memory")
    )


def release() -> None:
    """Give back what torch's GPU allocator holds unused."""
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_pieces(
    work: Callable[[Sequence[Item]], Result], items: Sequence[Item], problem: str, remedy: str
) -> list[Result]:
    """[work(items)]; where memory runs out, the results of its halves in order, halved again as often as needed.

    Where it runs out on a single item: RunError «problem: remedy».
    """
    try:
        return [work(items)]
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(items) == 1:
            raise RunError(f"{problem}: {remedy}, then run the same command") from error
    release()
    half = len(items) // 2
    return [result for part in (items[:half], items[half:]) for result in in_pieces(work, part, problem, remedy)]
