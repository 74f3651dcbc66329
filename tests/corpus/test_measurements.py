"""What was measured of recordings is kept, line by line."""

import numpy as np
import pytest
import soundfile

from xtts_ka.corpus import quality
from xtts_ka.corpus.measurements import RECORD, Measurements, recording_key


@pytest.fixture
def paths(tmp_path):
    found = []
    for number in range(3):
        found.append(tmp_path / "source" / f"{number}.wav")
        found[-1].parent.mkdir(exist_ok=True)
        soundfile.write(found[-1], 0.1 * (number + 1) * np.ones(4000), 16_000)
    return found


@pytest.fixture
def asked(monkeypatch):
    """The names of the recordings that are measured."""
    names, measure = [], quality.measure_sounds

    def listening(some, **more):
        names.extend(path.name for path in some)
        return measure(some, **more)

    monkeypatch.setattr(quality, "measure_sounds", listening)
    return names


def measure(tmp_path, paths):
    with Measurements(tmp_path, 28.0, 1, len(paths), rated=False) as measurements:
        return measurements(paths)


def test_only_what_is_new_or_has_changed_is_measured_and_the_rest_is_the_same(tmp_path, paths, asked):
    first = measure(tmp_path, paths[:2])
    soundfile.write(paths[1], 0.5 * np.ones(5000), 16_000)
    again = measure(tmp_path, paths)
    assert asked == ["0.wav", "1.wav", "1.wav", "2.wav"]
    assert again[0] == first[0] and again[1] != first[1]


def test_a_torn_line_and_one_of_another_version_are_measured_again(tmp_path, paths, asked, capsys):
    first = measure(tmp_path, paths)
    record = tmp_path / RECORD
    lines = [line for line in record.read_bytes().splitlines() if line]
    old = lines[1].replace(b'"version": 2', b'"version": 1')
    record.write_bytes(b"\n".join([lines[0], old, lines[2][:40]]))
    asked.clear()
    assert measure(tmp_path, paths) == first
    assert asked == ["1.wav", "2.wav"] and "of 1 by the rules of an earlier version" in capsys.readouterr().out
    asked.clear()
    assert measure(tmp_path, paths) == first and not asked and "earlier version" not in capsys.readouterr().out


def test_what_cannot_be_decoded_is_not_kept(tmp_path, paths, asked):
    paths[1].write_bytes(b"no sound")
    found = measure(tmp_path, paths)
    assert isinstance(found[1], quality.Unusable) and isinstance(found[2], quality.Sound)
    measure(tmp_path, paths)
    assert asked == ["0.wav", "1.wav", "2.wav", "1.wav"]


def test_a_recordings_key_changes_with_its_time_and_place(tmp_path, paths):
    key = recording_key(paths[0])
    assert recording_key(paths[0].parent / ".." / "source" / "0.wav") == key
    paths[0].touch()
    assert recording_key(paths[0]) != key != recording_key(paths[1])
    assert recording_key(tmp_path / "none") != recording_key(tmp_path / "nowhere")
