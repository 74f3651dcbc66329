"""libmpg123's own lines do not reach the terminal; what it says is told with the file's name."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
from small_corpora import ALL, SENTENCES, coqui

from xtts_ka.corpus.audio import read_mono
from xtts_ka.corpus.decoder_warnings import Overheard, decoder_warnings, named
from xtts_ka.corpus.metadata import create_metadata
from xtts_ka.corpus.tables import read_drop_report


def test_lines_of_the_decoder_are_collected_and_others_are_passed_on(capfd):
    with decoder_warnings() as heard:
        os.write(2, b"[src/libmpg123/layer3.c:1844] error: dequantization failed!\nNote: Trying to resync...\nours\n")
        print("also ours", file=sys.stderr)
    assert heard == ["error: dequantization failed!", "Note: Trying to resync..."]
    assert sorted(capfd.readouterr().err.splitlines()) == ["also ours", "ours"]


def test_the_descriptor_is_restored_after_an_error(capfd):
    with pytest.raises(ValueError), decoder_warnings():
        raise ValueError
    os.write(2, b"back\n")
    assert "back" in capfd.readouterr().err


def test_many_threads_are_overheard_and_the_one_that_complained_is_named(capfd):
    def read(name: str) -> str:
        if name == "bad":
            os.write(2, b"Note: Trying to resync...\n")
        return name.upper()

    with Overheard() as overheard, ThreadPoolExecutor(4) as pool:
        names = [f"good{i}" for i in range(50)] + ["bad"] + [f"fine{i}" for i in range(50)]
        assert list(pool.map(lambda name: overheard.during(read, name), names)) == [name.upper() for name in names]
        print("a bar", file=sys.stderr)
        assert capfd.readouterr().err == "a bar\n"
        os.write(2, b"a line of another library\n")
    assert capfd.readouterr().err == "a line of another library\n"
    assert overheard.complaints() == {"bad": "Note: Trying to resync..."}
    print("after", file=sys.stderr)
    os.write(2, b"wards\n")
    assert capfd.readouterr().err == "after\nwards\n"


def test_a_damaged_mp3_is_named(tmp_path, capfd):
    source = coqui(tmp_path / "src", 12)
    with open(source / "metadata.csv", "a", encoding="utf-8") as table:
        for i in (20, 21):
            wave = 0.4 * np.sin(np.arange(160_000) / (5 + i))
            soundfile.write(source / f"wavs/{i}.mp3", wave, 16_000)
            table.write(f"wavs/{i}.mp3|{SENTENCES[i]} {SENTENCES[i + 1]} {SENTENCES[i + 2]}|nino\n")
    data = bytearray((source / "wavs/20.mp3").read_bytes())
    data[9_000:9_020] = bytes(range(100, 120))
    (source / "wavs/20.mp3").write_bytes(data)
    create_metadata(source, tmp_path / "data", options=ALL)
    captured = capfd.readouterr()
    assert "Note:" not in captured.err and "mpg123" not in captured.err
    damaged = [
        line[0] for line in read_drop_report(tmp_path / "data") if line[2] in ("damaged_mp3", "unreadable_audio")
    ]
    assert damaged == ["20"]


def _damaged(path):
    soundfile.write(path, 0.4 * np.sin(np.arange(160_000) / 25), 16_000)
    data = bytearray(path.read_bytes())
    data[9_000:9_020] = bytes(range(100, 120))
    path.write_bytes(data)
    return path


def test_a_damaged_mp3_is_named_once_where_it_is_read(tmp_path, capfd):
    path = _damaged(tmp_path / "voice.mp3")
    assert len(named(read_mono, path)[0]) == len(named(read_mono, path)[0]) > 100_000
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("warning: damaged mp3") and str(path) in line
