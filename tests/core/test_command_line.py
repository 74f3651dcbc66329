"""Scripts end with the right exit code and one line on standard error, whatever fails or stops them."""

import argparse
import errno
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xtts_ka.core.command_line import add_verbosity_flags, command, run_cli
from xtts_ka.core.console import say
from xtts_ka.core.errors import Interrupted, RunError, UserError

ROOT = Path(__file__).parents[2]
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)  # run_cli ignores Ctrl-C after an interruption


def raising(error: BaseException):
    def body():
        raise error

    return body


@pytest.mark.parametrize(
    "error, code, line",
    [
        (UserError("row 7 has no text: fill it in"), 2, "error: row 7 has no text: fill it in"),
        (RunError("the loss is not finite"), 1, "error: the loss is not finite"),
        (UserError("a name\nwith breaks\r\nin it"), 2, "error: a name with breaks in it"),
        (UserError("a name\x1b[2J\x07 that steers, ხმა \udcff"), 2, "error: a name [2J that steers, ხმა \\udcff"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), 1, "error: Permission denied: /data/x"),
        (OSError("something odd"), 1, "error: something odd"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/m/model.pth"),
            1,
            "error: the disk is full while writing /m/model.pth: free some space and run the same command; "
            "nothing finished is lost",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "error: the disk is full while writing to the output: free some space and run the same command; "
            "nothing finished is lost",
        ),
        (
            OSError(errno.EFBIG, "File too large", "/m/model.pth"),
            1,
            "error: the system allows no file as large as /m/model.pth would be: raise the limit (ulimit -f) or use "
            "another disk, and run the same command; nothing finished is lost",
        ),
        *(
            (
                error,
                1,
                "error: out of memory: close other programs or set a small batch_size in place of batch_seconds, then "
                "run the same command",
            )
            for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"))
        ),
        (Interrupted(signal.SIGTERM), 143, "stopped; run the same command to carry on"),
        (Interrupted(signal.SIGINT, "go on with: x"), 130, "interrupted; go on with: x"),
    ],
)
def test_each_failure_gives_one_line_and_an_exit_code(capsys, error, code, line):
    assert run_cli(raising(error)) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", line + "\n")


def test_ctrl_c_gives_130_and_says_how_to_continue(capsys):
    assert run_cli(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted; run the same command to carry on\n"


def test_an_unforeseen_exception_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_cli(lambda: 1 // 0)


def test_the_exit_code_is_0_or_what_the_body_returns():
    assert run_cli(lambda: None) == 0
    assert run_cli(lambda: 3) == 3


@pytest.mark.parametrize("flags, seen", [([], "normal\n"), (["--quiet"], ""), (["--verbose"], "normal\ndetail\n")])
def test_the_verbosity_flags_are_obeyed(capsys, flags, seen):
    parser = argparse.ArgumentParser()
    add_verbosity_flags(parser)

    def body():
        say("normal")
        say("detail", verbose=True)

    assert run_cli(body, parser.parse_args(flags)) == 0
    assert capsys.readouterr().out == seen


def test_quiet_and_verbose_exclude_each_other(capsys):
    parser = argparse.ArgumentParser()
    add_verbosity_flags(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--quiet", "--verbose"])


SCRIPT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from xtts_ka.core.command_line import run_cli
from xtts_ka.core.console import heading, say, warn
from xtts_ka.core.errors import UserError
def body():
    heading("ენა")
    say("გამარჯობა " + chr(0xdcff))
    warn("ფრთხილად")
    raise UserError("ცუდი გზა")
sys.exit(run_cli(body))
"""


def test_an_ascii_terminal_gets_escapes_and_no_traceback():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, timeout=30, env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 2
    assert b"\\u10d2" in done.stdout and b"\\udcff" in done.stdout
    assert done.stderr.startswith(b"warning: \\u10e4") and b"Traceback" not in done.stderr


def test_a_utf8_terminal_gets_georgian():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, timeout=30, env=os.environ | {"PYTHONIOENCODING": "utf-8"}
    )
    assert "გამარჯობა \\udcff".encode() in done.stdout
    assert done.stderr.decode() == "warning: ფრთხილად\nerror: ცუდი გზა\n"


def on_a_terminal(**environment: str) -> str:
    """SCRIPT's whole output on a pseudo-terminal."""
    master, slave = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | environment
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=slave, stderr=slave, env=env) as child:
        os.close(slave)
        output = b""
        while True:
            try:
                block = os.read(master, 4096)
            except OSError:  # EIO: Linux's end of file for a terminal whose other side has closed
                break
            if not block:
                break
            output += block
    os.close(master)
    assert child.returncode == 2
    return output.decode("utf-8")


def test_a_real_terminal_has_colour_unless_no_color_is_set():
    coloured = on_a_terminal(PYTHONIOENCODING="utf-8")
    plain = on_a_terminal(PYTHONIOENCODING="utf-8", NO_COLOR="1")
    assert "\x1b[31;1merror: \x1b[0mცუდი გზა" in coloured
    assert "\x1b" not in plain and ANSI.sub("", coloured) == plain


INTERRUPTED = f"""
import importlib.machinery, os, signal, sys, time
sys.path.insert(0, {str(ROOT)!r})
from xtts_ka.core.command_line import run_cli

def me(number):
    os.kill(os.getpid(), number)

class Extension(importlib.machinery.ExtensionFileLoader):
    def exec_module(self, module):
        me(signal.SIGINT)
        time.sleep(0.2)
        print("loaded", flush=True)

class Gone:
    def __del__(self):
        me(signal.SIGINT)
        time.sleep(1)

def fork():
    child = os.fork()
    if child == 0:
        me(signal.SIGTERM)
        time.sleep(9)
    print("worker", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    me(signal.SIGTERM)

def body():
    BODY
    time.sleep(30)

sys.exit(run_cli(body))
"""


@pytest.mark.parametrize(
    "body, code, out",
    [
        ("me(signal.SIGINT)", 130, ""),
        ("me(signal.SIGTERM)", 143, ""),
        ("Extension('x', 'y').exec_module(None)", 130, "loaded\n"),  # an exception there would abort a C++ module
        ("Gone()", 130, ""),  # an exception there is swallowed
        ("fork()", 143, "worker -15\n"),
        (
            "import ctypes, threading\n"
            "    threading.Timer(0.5, me, [signal.SIGINT]).start(); ctypes.CDLL(None).sleep(1)",
            130,
            "",
        ),
    ],
)
def test_a_signal_is_never_lost_and_never_gives_a_traceback(body, code, out):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.replace("BODY", body)], capture_output=True, text=True, timeout=25
    )
    how = {130: "interrupted", 143: "stopped"}[code]
    assert (done.returncode, done.stdout, done.stderr) == (code, out, f"{how}; run the same command to carry on\n")


def test_a_command_works_from_any_folder(monkeypatch, tmp_path):
    line = command("synthesize.py", "--text", "it's გამარჯობა")
    assert shlex.split(line)[-2:] == ["--text", "it's გამარჯობა"]
    monkeypatch.chdir(tmp_path)
    assert shlex.split(command("synthesize.py"))[1] == str(ROOT / "synthesize.py")
    monkeypatch.chdir(ROOT)
    assert shlex.split(command("synthesize.py"))[1] == "synthesize.py"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shlex.split(command("synthesize.py"))[0] == sys.executable


def test_a_reader_that_closes_the_pipe_is_no_failure():
    script = SCRIPT.replace("raise UserError", "[say('x' * 1000) for _ in range(10_000)]; raise UserError")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.readline()
        child.stdout.close()
        err = child.stderr.read()
        assert child.wait(timeout=30) == 0
    assert b"Traceback" not in err and b"BrokenPipe" not in err
