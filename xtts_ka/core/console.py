"""What the user sees: errors as one sentence, exit codes, and one style of message for every script.

Exit codes: 0 all is well, 1 something failed while running, 2 what the user gave cannot be used, 130/143 stopped by
Ctrl-C / SIGTERM with a state that the same command carries on from.

Only what is light is imported here: `run_cli` answers Ctrl-C from the moment it runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Collection, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any, TextIO

_verbosity = 1  # 0 quiet: warnings and errors only; 1 normal; 2 verbose
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
NOTHING = "–"  # shown for what is not known
_LOG_SECONDS = 30.0  # between two progress lines where there is no terminal


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def style(text: str, *names: str, stream: TextIO | None = None) -> str:
    """Wrap `text` in ANSI styles when `stream` (standard output) is a terminal and NO_COLOR is not set."""
    stream = stream or sys.stdout
    if not names or os.environ.get("NO_COLOR") or not stream.isatty():
        return text
    return f"\x1b[{';'.join(_STYLES[n] for n in names)}m{text}\x1b[0m"


def say(message: str = "", *, verbose: bool = False) -> None:
    """Print one line of normal (or, with `verbose`, of detailed) output, flushed so that logs stay in order."""
    if _verbosity < (2 if verbose else 1):
        return
    with _bars_aside():
        print(message, flush=True)


def note(message: str) -> None:
    """Print one detail on standard error with `--verbose`: for scripts whose standard output is their result."""
    if _verbosity == 2:
        print(message, file=sys.stderr, flush=True)


def heading(title: str) -> None:
    """Print a ruled section title."""
    say("\n" + style(f"── {title} " + "─" * max(4, 74 - len(title)), "bold", "cyan"))


def warn(message: str) -> None:
    """Print one warning line on standard error, whatever the verbosity."""
    with _bars_aside():
        print(style("warning: ", "yellow", stream=sys.stderr) + message, file=sys.stderr, flush=True)


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def size(value: float | None) -> str:
    """Bytes in decimal units."""
    if value is None:
        return NOTHING
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}" if value < 1000 * scale else f"{value / scale:.0f} {unit}"
    return f"{value:.0f} B"


def duration(seconds: float | None) -> str:
    """Seconds in the two largest units that matter."""
    if seconds is None:
        return NOTHING
    seconds = round(seconds)
    if seconds >= 100 * 86400:
        return f"{seconds // 86400} d"
    if seconds < 60:
        return f"{seconds} s"
    for large, small, unit, part in ((86400, 3600, "d", "h"), (3600, 60, "h", "min"), (60, 1, "min", "s")):
        if seconds >= large:
            rest = seconds % large // small
            return f"{seconds // large} {unit} {rest} {part}"
    raise AssertionError(seconds)


# ── progress ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def quiet() -> bool:
    """True when only warnings and errors are wanted."""
    return _verbosity == 0


def verbose() -> bool:
    """True when details are wanted."""
    return _verbosity == 2


def progress(
    items: Collection | None = None,
    *,
    what: str,
    unit: str,
    total: int | None = None,
    initial: int = 0,
    shown: bool = True,
    **more: Any,
):
    """A bar on a terminal (tqdm, to which `more` goes); in a log, a plain line every half minute; nothing with --quiet.

    Iterate over `items`, or give `total` and call `update(n)`; it is a context manager too.
    """
    shown = shown and not quiet()
    total = len(items) if total is None and items is not None else total
    if not shown or not sys.stderr.isatty():
        return _Lines(items, what, unit, total, initial, shown)
    from tqdm import tqdm

    return tqdm(items, desc=what, unit=unit, total=total, initial=initial, **more)


class _Lines:
    """Progress for a log: as much of tqdm as this project uses."""

    def __init__(self, items: Collection | None, what: str, unit: str, total: int | None, initial: int, shown: bool):
        self.items, self.what, self.unit, self.total, self.n, self.shown = items, what, unit, total, initial, shown
        self._started = self._told = time.monotonic()

    def __iter__(self) -> Iterator:
        for item in self.items:
            yield item
            self.update()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        self.n += n
        now = time.monotonic()
        if self.shown and now - self._told >= _LOG_SECONDS:
            self._told = now
            of_all = f" of {self.total}" if self.total else ""
            print(
                f"{self.what}: {self.n}{of_all} {self.unit}s in {now - self._started:.0f} s",
                file=sys.stderr,
                flush=True,
            )

    def set_postfix(self, **facts: Any) -> None:
        """A bar's passing figures are not for a log."""

    def close(self) -> None:
        """Nothing is left on the screen to take away."""


def _bars_aside() -> contextlib.AbstractContextManager:
    """While a line is printed, take progress bars off the screen: they must not run into it."""
    if "tqdm" in sys.modules and sys.stderr.isatty():
        return sys.modules["tqdm"].tqdm.external_write_mode(sys.stdout)
    return contextlib.nullcontext()


# ── running a script ─────────────────────────────────────────────────────────────────────────────────────────────────


def obey_verbosity(args: argparse.Namespace) -> None:
    """Take up what `add_verbosity_flags` parsed."""
    global _verbosity
    _verbosity = 0 if args.quiet else 2 if args.verbose else 1
