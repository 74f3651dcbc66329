"""What the user sees: errors as one sentence, exit codes, and one style of message for every script.

Exit codes: 0 all is well, 1 something failed while running, 2 what the user gave cannot be used, 130/143 stopped by
Ctrl-C / SIGTERM with a state that the same command carries on from.

Only what is light is imported here: `run_cli` answers Ctrl-C from the moment it runs.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from types import FrameType
    from typing import Any, NoReturn, TextIO

_verbosity = 1  # 0 quiet: warnings and errors only; 1 normal; 2 verbose
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
NOTHING = "–"  # shown for what is not known
_LOG_SECONDS = 30.0  # between two progress lines where there is no terminal


class UserError(Exception):
    """What the user gave cannot be used: one sentence that names the thing and the remedy (exit code 2)."""


class RunError(Exception):
    """Something failed while running, through no fault of the input: one sentence (exit code 1)."""


class Interrupted(BaseException):
    """SIGTERM or SIGINT arrived and what is done is kept; the exit code is 128 + `signum`, `advice` how to carry on."""

    def __init__(self, signum: int, advice: str = "run the same command to carry on"):
        super().__init__(signum, advice)
        self.signum, self.advice = signum, advice


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


def command(script: str, *arguments: str) -> str:
    """A command for the user to paste: this Python, `script` of this folder, every argument quoted for the shell."""
    import shlex
    import shutil

    name, folder = os.path.basename(sys.executable), os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
    python = name if shutil.which(name) == sys.executable else sys.executable
    return shlex.join([python, script if folder == os.path.realpath(".") else os.path.join(folder, script), *arguments])


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


def progress(items: Collection | None = None, *, what: str, unit: str, total: int | None = None, initial: int = 0,
             shown: bool = True, **more: Any):
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
            print(f"{self.what}: {self.n}{of_all} {self.unit}s in {now - self._started:.0f} s", file=sys.stderr, flush=True)

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


def add_verbosity_flags(parser: argparse.ArgumentParser, quiet: str = "print warnings and errors only") -> None:
    """Give a script the `--quiet` and `--verbose` flags that `run_cli` obeys."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quiet", action="store_true", help=quiet)
    group.add_argument("--verbose", action="store_true", help="print details as well")


def obey_verbosity(args: argparse.Namespace) -> None:
    """Take up what `add_verbosity_flags` parsed."""
    global _verbosity
    _verbosity = 0 if args.quiet else 2 if args.verbose else 1


def run_cli(body: Callable[[], int | None], args: argparse.Namespace | None = None) -> int:
    """Run a script's body and turn every foreseen failure into one line on standard error and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without UTF-8 gets escapes, not a crash
            stream.reconfigure(errors="backslashreplace")
    if args is not None:
        obey_verbosity(args)
    try:
        with _interruptible():
            return body() or 0
    except UserError as error:
        return _fail(str(error), 2)
    except RunError as error:
        return _fail(str(error), 1)
    except BrokenPipeError:  # `| head` closed our output: that is no fault
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(_os_error_sentence(error), 1)
    except MemoryError:
        return _fail("out of memory: close other programs or make batch_size smaller, then run the same command", 1)
    except KeyboardInterrupt:
        return _stopped(Interrupted(signal.SIGINT))
    except Interrupted as stop:
        return _stopped(stop)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt and SIGTERM Interrupted, so that locks are let go and the state is told.

    They come again a moment later where they would do harm or be lost: an extension module that is being loaded aborts
    on an exception, and a callback from C or a `__del__` swallows it.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    owner, ignored = os.getpid(), sys.unraisablehook

    def again(number: int) -> None:
        timer = threading.Timer(0.05, os.kill, (owner, number))
        timer.daemon = True
        timer.start()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker takes it as it would without us
            signal.signal(number, usual[number])
            os.kill(os.getpid(), number)
        elif _loading_extension(frame):
            again(number)
        else:
            raise KeyboardInterrupt if number == signal.SIGINT else Interrupted(number)

    def swallowed(what: sys.UnraisableHookArgs) -> None:
        if issubclass(what.exc_type, (KeyboardInterrupt, Interrupted)):
            again(signal.SIGINT if what.exc_type is KeyboardInterrupt else what.exc_value.signum)
        else:
            ignored(what)

    in_main_thread = threading.current_thread() is threading.main_thread()
    ours = [number for number in usual if in_main_thread and signal.getsignal(number) is usual[number]]
    for number in ours:
        signal.signal(number, interrupt)
    sys.unraisablehook = swallowed
    try:
        yield
    finally:
        sys.unraisablehook = ignored
        for number in ours:
            signal.signal(number, usual[number])


def _loading_extension(frame: FrameType | None) -> bool:
    from importlib.machinery import ExtensionFileLoader

    while frame and not isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
        frame = frame.f_back
    return frame is not None


def _stopped(stop: Interrupted) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the way out is left: an impatient Ctrl-C must not break into it
    how = "interrupted" if stop.signum == signal.SIGINT else "stopped"
    below = "\n" if sys.stderr.isatty() else ""  # the ^C that the terminal has echoed
    print(f"{below}{how}; {stop.advice}", file=sys.stderr, flush=True)
    return 128 + stop.signum


def abort(sentence: str) -> NoReturn:
    """End this process at once, from any thread, where waiting for others would never end (exit code 1)."""
    os._exit(_fail(sentence, 1))


def _fail(sentence: str, code: int) -> int:
    # A library's message or a file's name may hold line breaks, and what would steer the terminal.
    shown = (c if c.isprintable() or "\ud800" <= c <= "\udfff" else " " for c in sentence)
    line = " ".join("".join(shown).split())
    print(style("error: ", "red", "bold", stream=sys.stderr) + line, file=sys.stderr, flush=True)
    return code


def _os_error_sentence(error: OSError) -> str:
    where = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (f"the disk is full while writing{where or ' to the output'}: free some space and run the same command; "
                "nothing finished is lost")
    if error.errno == errno.EFBIG:
        return (f"the system allows no file as large as{where or ' the output'} would be: raise the limit (ulimit -f) or "
                "use another disk, and run the same command; nothing finished is lost")
    return f"{error.strerror or error}:{where}" if where else str(error.strerror or error)
