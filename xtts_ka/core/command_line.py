"""Running a script: flags that all scripts share, exit codes, signals, errors as one sentence."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from xtts_ka.core.console import obey_verbosity, style
from xtts_ka.core.errors import Interrupted, RunError, UserError


def command(script: str, *arguments: str) -> str:
    """A command for the user to paste: this Python, `script` of this folder, every argument quoted for the shell."""
    import shlex
    import shutil

    name, folder = os.path.basename(sys.executable), os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
    python = name if shutil.which(name) == sys.executable else sys.executable
    return shlex.join([python, script if folder == os.path.realpath(".") else os.path.join(folder, script), *arguments])


def add_verbosity_flags(parser: argparse.ArgumentParser, quiet: str = "print warnings and errors only") -> None:
    """Give a script the `--quiet` and `--verbose` flags that `run_cli` obeys."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quiet", action="store_true", help=quiet)
    group.add_argument("--verbose", action="store_true", help="print details as well")


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
        return (
            f"the disk is full while writing{where or ' to the output'}: free some space and run the same command; "
            "nothing finished is lost"
        )
    if error.errno == errno.EFBIG:
        return (
            f"the system allows no file as large as{where or ' the output'} would be: raise the limit (ulimit -f) or "
            "use another disk, and run the same command; nothing finished is lost"
        )
    return f"{error.strerror or error}:{where}" if where else str(error.strerror or error)
