"""A command that is asked what it hears: what it is given, what it prints, and every way in which it fails."""

import sys

import numpy as np
import pytest

from xtts_ka.core.errors import RunError, UserError
from xtts_ka.recognition.listener import open_listener

WAVES = [np.zeros(1600, np.float32), np.full(3200, 0.5, np.float32)]


def asr(tmp_path, body, place=""):
    """A command that runs Python code, with `wav` the path that it is given."""
    script = tmp_path / "asr.py"
    script.write_text(f"import sys, time, wave\nwav = sys.argv[-1]\n{body}\n", encoding="utf-8")
    return f"{sys.executable} '{script}'{place}"


@pytest.mark.parametrize("place", ["", " {wav}", " --file={wav}"])
def test_it_gets_the_wav_and_its_text_becomes_letters(tmp_path, place):
    body = """
with wave.open(wav.removeprefix("--file=")) as sound:
    count = {1600: "ერთი,", 3200: "Ორი - 3!"}[sound.getnframes()]
    assert sound.getframerate() == 16000
sys.stdout.reconfigure(encoding="utf-8")
print(count)
"""
    listener = open_listener(asr(tmp_path, body, place), folder=tmp_path)
    assert listener.hear(WAVES, 16_000) == ["ერთი", "ორი სამი"]
    assert "asr.py" in listener.name


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("time.sleep(60)", r"took longer than 0.5 s"),
        ("import subprocess; subprocess.run(['sleep', '60'])", r"took longer than 0.5 s"),
        ("sys.exit('no model\\nnot here')", r"ended with exit code 1 \(not here\)"),
        ("print('  ')", "printed nothing"),
        ("sys.stdout.buffer.write(b'\\xff')", "not UTF-8"),
    ],
    ids=["hangs", "child_hangs", "fails", "is_silent", "bytes"],
)
def test_a_command_that_fails_is_named_with_its_wav(tmp_path, body, what):
    listener = open_listener(asr(tmp_path, body), folder=tmp_path, seconds=0.5 if "sleep" in body else 60)
    with pytest.raises(RunError, match=rf"asr\.py.* {what} for .*00000\.wav"):
        listener.hear(WAVES, 16_000)


@pytest.mark.parametrize(
    ("command", "what"),
    [("nosuchprogram --x", "neither a folder nor a command"), ("a 'b", "its quotes"), (" ", "empty")],
)
def test_what_is_no_command_is_refused(tmp_path, command, what):
    with pytest.raises(UserError, match=what):
        open_listener(command, folder=tmp_path).hear(WAVES, 16_000)
