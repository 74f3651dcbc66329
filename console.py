"""What the user sees: errors as one sentence, exit codes, and one style of message for every script.

Exit codes: 0 all is well, 1 something failed while running, 2 what the user gave cannot be used, 130/143 stopped by
Ctrl-C / SIGTERM with a state that the same command carries on from.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

_verbosity = 1  # 0 quiet: warnings and errors only; 1 normal; 2 verbose
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class UserError(Exception):
    """What the user gave cannot be used: one sentence that names the thing and the remedy (exit code 2)."""


class RunError(Exception):
    """Something failed while running, through no fault of the input: one sentence (exit code 1)."""


class Interrupted(BaseException):
    """SIGTERM or SIGINT arrived and the state was saved; `signum` decides the exit code (128 + signum)."""

    def __init__(self, signum: int):
        self.signum = signum


def style(text: str, *names: str, stream=None) -> str:
    """Wrap `text` in ANSI styles when `stream` (standard output) is a terminal and NO_COLOR is not set."""
    stream = stream or sys.stdout
    if not names or os.environ.get("NO_COLOR") or not stream.isatty():
        return text
    return f"\x1b[{';'.join(_STYLES[n] for n in names)}m{text}\x1b[0m"


def say(message: str = "", *, verbose: bool = False) -> None:
    """Print one line of normal (or, with `verbose`, of detailed) output, flushed so that logs stay in order."""
    if _verbosity < (2 if verbose else 1):
        return
    if "tqdm" in sys.modules:  # a progress bar on the screen must not run into the line
        with sys.modules["tqdm"].tqdm.external_write_mode(sys.stdout):
            print(message, flush=True)
    else:
        print(message, flush=True)


def heading(title: str) -> None:
    """Print a ruled section title."""
    say("\n" + style(f"── {title} " + "─" * max(4, 74 - len(title)), "bold", "cyan"))


def warn(message: str) -> None:
    """Print one warning line on standard error, whatever the verbosity."""
    print(style("warning: ", "yellow", stream=sys.stderr) + message, file=sys.stderr, flush=True)


def quiet() -> bool:
    """True when progress bars and other chatter should stay off."""
    return _verbosity == 0


def add_verbosity_flags(parser: argparse.ArgumentParser) -> None:
    """Give a script the `--quiet` and `--verbose` flags that `run_cli` obeys."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    group.add_argument("--verbose", action="store_true", help="print details as well")


def run_cli(body: Callable[[], int | None], args: argparse.Namespace | None = None) -> int:
    """Run a script's body and turn every foreseen failure into one line on standard error and an exit code."""
    global _verbosity
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without UTF-8 gets escapes, not a crash
            stream.reconfigure(errors="backslashreplace")
    if args is not None:
        _verbosity = 0 if getattr(args, "quiet", False) else 2 if getattr(args, "verbose", False) else 1
    try:
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
        print("\ninterrupted; run the same command to carry on", file=sys.stderr, flush=True)
        return 128 + signal.SIGINT
    except Interrupted as stop:
        print("stopped; run the same command to carry on", file=sys.stderr, flush=True)
        return 128 + stop.signum


def abort(sentence: str) -> NoReturn:
    """End this process at once, from any thread, where waiting for others would never end (exit code 1)."""
    os._exit(_fail(sentence, 1))


def _fail(sentence: str, code: int) -> int:
    line = " ".join(sentence.split())  # a library's message or a file's name may hold line breaks
    print(style("error: ", "red", "bold", stream=sys.stderr) + line, file=sys.stderr, flush=True)
    return code


def _os_error_sentence(error: OSError) -> str:
    where = f" {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (f"the disk is full while writing{where}: free some space and run the same command; "
                "nothing finished is lost")
    return f"{error.strerror or error}:{where}" if where else str(error.strerror or error)
