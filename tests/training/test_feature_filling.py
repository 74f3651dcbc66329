"""Several processes fill a feature cache to the bytes of one, whatever is killed; decoding runs ahead."""

import os
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training.test_feature_cache import check, fake_extract, fake_load, key_of
from training.test_process_group import finish, launch

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.training import feature_filling, process_group
from xtts_ka.training.feature_cache import RECORD, Clip, FeatureCache, Unit
from xtts_ka.training.feature_filling import Tools, fill, help_fill, plan_units

FILES = ("codes.bin", "mels.bin", "index.bin")
SECONDS = 30  # of the test's patience


@pytest.fixture
def clips(tmp_path):
    made = []
    for number in range(30):
        path = tmp_path / f"{number}.txt"
        path.write_text(str(samples := 1100 + 700 * (number * 7 % 30)))
        made.append(Clip(key_of(path), path, samples / 22050))
    return made


def slow_extract(speech):
    time.sleep(0.03)
    return fake_extract(speech)


def tools(load=fake_load, extract=slow_extract, **sizes) -> Tools:
    return Tools(load, lambda: extract, **{"unit_clips": 2, **sizes})


def open_cache(folder: Path) -> FeatureCache:
    return FeatureCache(folder, "k" * 64)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (open_cache(folder).folder / name).read_bytes() for name in FILES}


def share(folder: Path, clips, made: Tools) -> None:
    """What each process of a job does."""
    with process_group.joined(PretrainConfig(device="cpu")) as peers:
        if peers.is_main:
            fill(open_cache(folder), clips, made, peers if peers.world > 1 else None)
            peers.tell("indexes", "made")
        else:
            help_fill(made, peers)
            peers.hear("indexes")


@pytest.fixture
def alone(tmp_path, clips) -> dict[str, bytes]:
    """What one process writes."""
    fill(open_cache(tmp_path / "alone"), clips, tools(extract=fake_extract))
    return bytes_of(tmp_path / "alone")


def wait_for(what) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_for_clips(folder: Path, count: int) -> None:
    index = folder / ("k" * 16) / "index.bin"
    wait_for(lambda: index.exists() and index.stat().st_size >= count * RECORD.itemsize)


def test_two_and_three_processes_write_the_bytes_of_one_and_each_takes_part(tmp_path, clips, alone):
    for processes in (2, 3):
        folder = tmp_path / f"by{processes}"

        def load(path, folder=folder):
            (folder / f"pid{os.getpid()}").touch()
            return fake_load(path)

        folder.mkdir()
        assert (
            finish(launch(lambda rank, f=folder, load=load: share(f, clips, tools(load)), processes)) == [0] * processes
        )
        assert bytes_of(folder) == alone
        assert len(list(folder.glob("pid*"))) == processes
        assert not list((folder / ("k" * 16) / "filling").iterdir())
    check(open_cache(tmp_path / "by3"), clips)


def test_killed_at_any_moment_another_number_of_processes_carries_on_to_the_same_bytes(tmp_path, clips, alone):
    folder, moments = tmp_path / "killed", ((3, 4), (1, 12), (2, 20))
    for processes, count in moments:
        children = launch(lambda rank: share(folder, clips, tools()), processes)
        wait_for_clips(folder, count)
        for process in children:
            os.kill(process.pid, signal.SIGKILL)
        assert finish(children) == [-signal.SIGKILL] * processes
        assert len(bytes_of(folder)["index.bin"]) < len(alone["index.bin"])
    computed = []
    fill(open_cache(folder), clips, tools(lambda path: computed.append(path) or fake_load(path)))
    assert bytes_of(folder) == alone and len(computed) <= 10


def written(folder: Path, unit: list[Clip]) -> Path:
    """The file of a computed unit."""
    folder.mkdir(exist_ok=True)
    file = folder / feature_filling._unit_name([clip.key for clip in unit])
    speech = [fake_load(clip.audio) for clip in unit]
    file.write_bytes(Unit.of([clip.key for clip in unit], speech, fake_extract(speech)).to_bytes())
    return file


@pytest.mark.parametrize("cut", [1, 40, 55])
def test_a_kill_within_the_writing_of_a_units_records_changes_no_byte(tmp_path, clips, alone, cut):
    """A kill leaves a part of the last unit's records; its file is still there, since it is deleted after them."""
    cache = open_cache(tmp_path / "torn")
    written(cache.folder / "filling", plan_units(clips, tools())[-1])
    for name, data in alone.items():
        (cache.folder / name).write_bytes(data[:-cut] if name == "index.bin" else data)
    fill(cache, clips, tools(lambda path: pytest.fail("computed again")))
    assert bytes_of(tmp_path / "torn") == alone


def test_a_damaged_unit_is_computed_again_and_one_of_other_tables_deleted(tmp_path, clips, alone):
    cache = open_cache(tmp_path / "cache")
    folder = cache.folder / "filling"
    file = written(folder, plan_units(clips, tools())[3])
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    (folder / "0123.unit").write_bytes(b"of other tables")
    fill(cache, clips, tools(extract=fake_extract))
    assert bytes_of(tmp_path / "cache") == alone and not list(folder.iterdir())


@given(cut=st.integers(0, 400), flip=st.integers(0, 399), bit=st.integers(0, 7))
def test_a_unit_s_bytes_are_whole_or_refused(cut, flip, bit):
    speech = [torch.full((1, samples), 0.5) for samples in (1100, 1500)]
    data = bytearray(Unit.of([1, 2], speech, fake_extract(speech)).to_bytes())
    assert Unit.from_bytes(bytes(data)).to_bytes() == data
    data[flip % len(data)] ^= 1 << bit
    assert Unit.from_bytes(bytes(data)) is None
    assert Unit.from_bytes(bytes(data[:cut])) is None


def test_when_one_process_is_killed_the_others_end_with_a_sentence_and_the_lock_free(tmp_path, clips, monkeypatch):
    monkeypatch.setattr(process_group, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(process_group, "SILENCE_SECONDS", 2.0)
    children = launch(lambda rank: share(tmp_path / "cache", clips, tools()), log=tmp_path / "errors")
    wait_for_clips(tmp_path / "cache", 4)
    os.kill(children[1].pid, signal.SIGKILL)
    codes = finish(children)
    message = (tmp_path / "errors.0").read_text()
    assert codes == [1, -signal.SIGKILL] and "run the same command" in message and "Traceback" not in message


def test_a_recording_that_one_process_cannot_read_ends_all_with_its_name(tmp_path, clips, monkeypatch):
    monkeypatch.setattr(process_group, "BEAT_SECONDS", 0.2)

    def body(rank):
        def load(path):
            if rank == 1:
                raise UserError(f"{path} is no recording")
            return fake_load(path)

        share(tmp_path / "cache", clips, tools(load))

    children = launch(body, log=tmp_path / "errors")
    assert finish(children) == [1, 2]
    for rank in (0, 1):
        said = (tmp_path / f"errors.{rank}").read_text()
        assert ".txt is no recording" in said and "Traceback" not in said


def test_sigterm_to_one_process_stops_all(tmp_path, clips):
    def body(rank):
        def extract(speech):
            if rank == 1:
                (tmp_path / "at work").touch()
                time.sleep(SECONDS)
            return fake_extract(speech)

        share(tmp_path / "cache", clips, tools(extract=extract if rank else slow_extract))

    children = launch(body, log=tmp_path / "errors")
    wait_for(lambda: (tmp_path / "at work").exists())
    os.kill(children[1].pid, signal.SIGTERM)
    assert finish(children) == [1, 143]
    assert "process 1 of 2 was stopped" in (tmp_path / "errors.0").read_text()


def test_a_full_disk_ends_the_filling_and_what_is_finished_is_kept(tmp_path, clips, alone, monkeypatch):
    appended = FeatureCache.append

    def no_room(self, unit):
        if self.find([clips[10].key])["samples"]:
            raise OSError(28, "No space left on device", "mels.bin")
        appended(self, unit)

    with monkeypatch.context() as full:
        full.setattr(FeatureCache, "append", no_room)
        with pytest.raises(OSError, match="No space"):
            fill(open_cache(tmp_path / "cache"), clips, tools())
    fill(open_cache(tmp_path / "cache"), clips, tools(extract=fake_extract))
    assert bytes_of(tmp_path / "cache") == alone


def test_the_next_unit_is_decoded_while_one_is_computed(tmp_path, clips):
    """The extractor of the first unit waits until a clip of the third is decoded, which needs decoding ahead of it."""
    units, ahead = plan_units(clips, tools()), threading.Event()

    def load(path):
        if path == str(units[2][0].audio):
            ahead.set()
        return fake_load(path)

    def extract(speech):
        assert ahead.wait(SECONDS)
        return fake_extract(speech)

    fill(open_cache(tmp_path / "cache"), clips, tools(load, extract))
    check(open_cache(tmp_path / "cache"), clips)


def test_recordings_longer_than_their_table_says_are_computed_in_pieces(tmp_path, clips):
    seen = []

    def extract(speech):
        seen.append((len(speech), max(clip.shape[1] for clip in speech)))
        return fake_extract(speech)

    wrong = [clip._replace(seconds=0.01) for clip in clips]
    fill(open_cache(tmp_path / "cache"), wrong, tools(extract=extract, unit_clips=10, unit_seconds=2.0))
    assert sum(count for count, _ in seen) == 30 and len(seen) > 3
    assert all(count * longest <= 1.25 * 2.0 * 22050 for count, longest in seen)
    check(open_cache(tmp_path / "cache"), clips)


clip_lengths = st.lists(st.floats(0, 30), max_size=40)


@given(seconds=clip_lengths, count=st.integers(1, 9), most=st.floats(1, 100))
def test_units_hold_every_clip_once_within_the_limits_and_stay_when_the_first_are_done(seconds, count, most):
    limits = tools(unit_clips=count, unit_seconds=most)
    clips = [Clip(number, str(number), length) for number, length in enumerate(seconds)]
    units = plan_units(clips + clips[:3], limits)
    assert sorted(clip for unit in units for clip in unit) == sorted(clips)
    assert all(len(unit) == 1 or (len(unit) <= count and len(unit) * unit[0].seconds <= most) for unit in units)
    assert all(a[-1].seconds >= b[0].seconds for a, b in pairwise(units))
    for done in range(len(units)):
        assert plan_units([clip for unit in units[done:] for clip in unit], limits) == units[done:]


def test_an_error_of_the_appending_thread_is_not_lost(tmp_path, clips, monkeypatch):
    monkeypatch.setattr(feature_filling, "_read_unit", lambda file: None)
    with pytest.raises(RunError, match=r"\.unit was damaged after it was written: run the same command"):
        fill(open_cache(tmp_path / "cache"), clips[:2], tools())
