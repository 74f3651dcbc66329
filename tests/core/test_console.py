"""Messages obey the verbosity; colour and progress bars only on a terminal; figures with units."""

import argparse
import io
import re
import sys
import time

import pytest
from tqdm import tqdm
from tqdm._monitor import TMonitor

from xtts_ka.core import console
from xtts_ka.core.console import first_few, heading, obey_verbosity, progress, say, style, three_digits, warn


@pytest.fixture(autouse=True)
def normal_verbosity(monkeypatch):
    monkeypatch.setattr(console, "_verbosity", 1)
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.parametrize("level", ["normal", "quiet", "verbose"])
def test_verbosity_decides_what_is_printed_but_never_hides_a_warning(capsys, level):
    obey_verbosity(argparse.Namespace(quiet=level == "quiet", verbose=level == "verbose"))
    say("normal")
    say("detail", verbose=True)
    say("aside", verbose=True, stream=sys.stderr)
    warn("careful")
    expected = {"normal": "normal\n", "quiet": "", "verbose": "normal\ndetail\n"}[level]
    assert capsys.readouterr() == (expected, "aside\n" * (level == "verbose") + "warning: careful\n")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_styles_are_used_on_terminals_only_and_not_with_no_color(monkeypatch):
    assert style("x", "red", "bold", stream=Terminal()) == "\x1b[31;1mx\x1b[0m"
    assert style("x", "red", stream=io.StringIO()) == "x"
    assert style("x", stream=Terminal()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert style("x", "red", stream=Terminal()) == "x"


def test_a_heading_fills_the_line(capsys):
    heading("Stages")
    assert re.fullmatch(r"\n── Stages ─{68}\n", capsys.readouterr().out)


def test_progress_in_a_log_is_a_line_every_30_seconds(monkeypatch, capsys):
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)
    for _ in progress("abcde", what="reading", unit="letter"):
        now[0] += 20
    assert capsys.readouterr().err.splitlines() == [
        "reading: 2 of 5 letters in 40 s",
        "reading: 4 of 5 letters in 80 s",
    ]
    with progress(what="counting", unit="sheep", total=3, initial=1) as bar:
        bar.update(2)
        bar.set_postfix(loss=1.5, refresh=False)
        assert bar.n == 3
    monkeypatch.setattr(console, "_verbosity", 0)
    assert list(progress("abcdef", what="reading", unit="letter")) == list("abcdef")
    assert capsys.readouterr().err == ""


def test_a_long_step_and_a_bar_within_print_no_line_twice_in_a_log(monkeypatch, capsys):
    now = [1000.0]
    if tqdm.monitor:
        tqdm.monitor.exit()  # the next bar starts one that reads the clock of this test
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr(TMonitor, "_test", {"time": lambda: now[0]})
    monkeypatch.setattr(tqdm, "monitor_interval", 0.01)
    with progress(total=100, what="training", unit="step") as bar:
        for _ in range(45):
            now[0] += 1
            bar.update()
        for _ in progress("ab", what="validation", unit="clip"):
            now[0] += 20
        while tqdm.monitor.woken < now[0]:  # until tqdm's monitor thread has looked at the bar
            time.sleep(0.01)
        bar.update()
    tqdm.monitor.exit()
    assert capsys.readouterr().err.splitlines() == [
        "training: 30 of 100 steps in 30 s",
        "validation: 2 of 2 clips in 40 s",
        "training: 46 of 100 steps in 85 s",
    ]


def test_durations_and_sizes_have_units():
    seconds = (None, 0, 59.6, 61, 3600, 7320, 86400 * 3 + 3600 * 4, 86400 * 250)
    durations = "–, 0 s, 1 min 0 s, 1 min 1 s, 1 h 0 min, 2 h 2 min, 3 d 4 h, 250 d 0 h"
    assert ", ".join(console.duration(s) for s in seconds) == durations
    sizes = "–, 999 B, 1.5 kB, 5.3 GB, 2500 TB"
    assert ", ".join(console.size(b) for b in (None, 999, 1500, 5_300_000_000, 2.5e15)) == sizes


@pytest.mark.parametrize(
    "value, shown", [(12094.0, "12100"), (8000, "8000"), (0.0000267, "0.0000267"), (-23.456, "-23.5"), (0.0, "0.00")]
)
def test_three_digits_never_have_an_exponent(value, shown):
    assert float(three_digits(value)) == float(shown) and "e" not in three_digits(value)


def test_names_are_cut_and_it_is_shown():
    assert first_few(["ა", "ბ", "გ"]) == "ა, ბ, გ" and first_few(["ა", "ბ", "გ"], 2) == "ა, ბ, …"
