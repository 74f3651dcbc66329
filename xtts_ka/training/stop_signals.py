"""SIGINT and SIGTERM during training: noted, and obeyed when the step has ended."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any


class StopSignals:
    """received: the number of the signal that came while `noted`, or 0."""

    def __init__(self) -> None:
        self.received = 0

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note the first SIGINT or SIGTERM inside the block; a second one has its usual effect."""

        def note(number: int, frame: FrameType | None) -> None:
            self.received = number
            signal.signal(number, before[number])

        before: dict[int, Any] = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
