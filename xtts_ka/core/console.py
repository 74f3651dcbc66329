"""What the user sees: messages, figures with units, progress.

Only light modules are imported at the top, since every script imports this one before it can answer Ctrl-C.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Collection, Sequence
from decimal import Decimal

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing
if TYPE_CHECKING:
    import argparse
    from typing import Any, TextIO

    from tqdm import tqdm

NOTHING = "–"  # shown for an unknown figure
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_verbosity = 1  # 0 quiet: warnings and errors only; 1 normal; 2 verbose


def obey_verbosity(args: argparse.Namespace) -> None:
    """Apply the flags of `command_line.add_verbosity_flags`."""
    global _verbosity
    _verbosity = 0 if args.quiet else 2 if args.verbose else 1


def style(text: str, *names: str, stream: TextIO | None = None) -> str:
    """Wrap `text` in ANSI styles when `stream` (standard output) is a terminal and NO_COLOR is not set."""
    if not names or os.environ.get("NO_COLOR") or not (stream or sys.stdout).isatty():
        return text
    return f"\x1b[{';'.join(_STYLES[n] for n in names)}m{text}\x1b[0m"


def say(message: str = "", *, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Print a line on `stream` (standard output), with `verbose` a detail that only `--verbose` shows.

    It is flushed, so that it keeps its place among errors.
    """
    if _verbosity >= (2 if verbose else 1):
        with _no_bars():
            print(message, file=stream, flush=True)


def heading(title: str) -> None:
    """Print a ruled section title."""
    say("\n" + style(f"── {title} " + "─" * max(4, 74 - len(title)), "bold", "cyan"))


def warn(message: str) -> None:
    """Print a warning on standard error, whatever the verbosity."""
    with _no_bars():
        print(style("warning: ", "yellow", stream=sys.stderr) + message, file=sys.stderr, flush=True)


def three_digits(value: float) -> str:
    """A number to three significant digits, without an exponent."""
    return format(Decimal(f"{value:.3g}"), "f")


def first_few(names: Sequence[str], count: int = 3) -> str:
    """Up to `count` of the names, and whether there are more."""
    return ", ".join(names[:count]) + ", …" * (len(names) > count)


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
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def progress(
    items: Collection | None = None, *, what: str, unit: str, total: int | None = None, shown: bool = True, **more: Any
) -> tqdm:
    """A tqdm bar (`more` are its options) on a terminal; elsewhere a line every 30 seconds; nothing with --quiet.

    Iterate over it, or give `total` and call `update(n)` inside a with statement.
    """
    from tqdm import tqdm

    if not sys.stderr.isatty():
        line = "{desc}: {n_fmt} of {total_fmt} {unit}s in {elapsed_s:.0f} s"
        # miniters: else tqdm's monitor thread prints the bar during a long step, and the step's end prints it again.
        # position: else a bar within another moves the cursor, which is an escape sequence in the log.
        more |= {"file": _Log(), "bar_format": line, "leave": False, "miniters": 1, "position": 0}
        more |= dict.fromkeys(("mininterval", "delay"), 30.0)
    return tqdm(items, desc=what, unit=unit, total=total, disable=not (shown and _verbosity), **more)


class _Log(io.StringIO):
    """Standard error for a bar: without its carriage returns, and without the spaces that would erase it."""

    def write(self, text: str) -> int:
        if line := text.strip():
            print(line, file=sys.stderr, flush=True)
        return len(text)


def _no_bars() -> contextlib.AbstractContextManager:
    """Takes progress bars off the terminal while a line is printed."""
    if "tqdm" in sys.modules and sys.stderr.isatty():
        return sys.modules["tqdm"].tqdm.external_write_mode(sys.stdout)
    return contextlib.nullcontext()
