"""Running a script: flags that all scripts share, errors as one sentence, signals, exit codes.

Exit codes: 0 success, 1 something failed while running, 2 what the user gave cannot be used, 130 and 143 stopped by
Ctrl-C and SIGTERM in a state from which the same command carries on.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import Any, NoReturn

from xtts_ka.core.console import obey_verbosity, style
from xtts_ka.core.errors import Interrupted, RunError, UserError
from xtts_ka.core.out_of_memory import is_out_of_memory


def command(script: str, *arguments: str) -> str:
    """A command to paste into a shell: this Python, `script` of this repository, and its arguments."""
    name, folder = os.path.basename(sys.executable), os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
    python = name if shutil.which(name) == sys.executable else sys.executable
    return shlex.join([python, script if folder == os.path.realpath(".") else os.path.join(folder, script), *arguments])


def add_verbosity_flags(parser: argparse.ArgumentParser, quiet: str = "print warnings and errors only") -> None:
    """Give a script the `--quiet` and `--verbose` flags that `run_cli` obeys."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quiet", action="store_true", help=quiet)
    group.add_argument("--verbose", action="store_true", help="print details as well")


def run_cli(body: Callable[[], int | None], args: argparse.Namespace | None = None) -> int:
    """Run a script's body; the exit code, with one line on standard error for every foreseen failure."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # without UTF-8, Georgian is shown as escapes
            stream.reconfigure(errors="backslashreplace")
    if args is not None:
        obey_verbosity(args)
    try:
        with _interruptible():
            return body() or 0
    except (UserError, RunError) as error:
        return _fail(str(error), 2 if isinstance(error, UserError) else 1)
    except BrokenPipeError:  # the reader, such as `head`, has closed our output: no failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(_os_error_sentence(error), 1)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        remedy = "close other programs or set a small batch_size in place of batch_seconds, then run the same command"
        return _fail(f"out of memory: {remedy}", 1)
    except (KeyboardInterrupt, Interrupted) as stop:
        return _stopped(stop if isinstance(stop, Interrupted) else Interrupted(signal.SIGINT))


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt and SIGTERM Interrupted, so that locks are released and the state is reported.

    The signal is sent again 50 ms later where an exception would crash or be lost: a C++ extension module that is being
    loaded aborts on it, and a callback from C or a `__del__` swallows it.
    """
    default: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    process, print_unraisable = os.getpid(), sys.unraisablehook

    def again(number: int) -> None:
        timer = threading.Timer(0.05, os.kill, (process, number))
        timer.daemon = True
        timer.start()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked worker, which dies as it would without this handler
            signal.signal(number, default[number])
            os.kill(os.getpid(), number)
        elif _loading_extension(frame):
            again(number)
        else:
            raise KeyboardInterrupt if number == signal.SIGINT else Interrupted(number)

    def swallowed(what: sys.UnraisableHookArgs) -> None:
        if isinstance(what.exc_value, KeyboardInterrupt | Interrupted):
            again(getattr(what.exc_value, "signum", signal.SIGINT))
        else:
            print_unraisable(what)

    handled = [number for number in default if signal.getsignal(number) is default[number]]
    for number in handled:
        signal.signal(number, interrupt)
    sys.unraisablehook = swallowed
    try:
        yield
    finally:
        sys.unraisablehook = print_unraisable
        for number in handled:
            signal.signal(number, default[number])


def _loading_extension(frame: FrameType | None) -> bool:
    while frame and not isinstance(frame.f_locals.get("self"), ExtensionFileLoader):
        frame = frame.f_back
    return frame is not None


def _stopped(stop: Interrupted) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not break into the way out
    how = "interrupted" if stop.signum == signal.SIGINT else "stopped"
    newline = "\n" if sys.stderr.isatty() else ""  # after the ^C that the terminal has echoed
    print(f"{newline}{how}; {stop.advice}", file=sys.stderr, flush=True)
    return 128 + stop.signum


def abort(sentence: str) -> NoReturn:
    """End this process with exit code 1, from any thread, where waiting for others would never end."""
    os._exit(_fail(sentence, 1))


def _fail(sentence: str, code: int) -> int:
    # A library's message or a file name may hold line breaks and terminal control characters.
    shown = (c if c.isprintable() or "\ud800" <= c <= "\udfff" else " " for c in sentence)
    line = " ".join("".join(shown).split())
    print(style("error: ", "red", "bold", stream=sys.stderr) + line, file=sys.stderr, flush=True)
    return code


def _os_error_sentence(error: OSError) -> str:
    again = "run the same command; nothing finished is lost"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full while writing {error.filename or 'to the output'}: free some space and {again}"
    if error.errno == errno.EFBIG:
        remedy = f"raise the limit (ulimit -f) or use another disk, and {again}"
        return f"the system allows no file as large as {error.filename or 'the output'} would be: {remedy}"
    return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
