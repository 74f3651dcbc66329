"""What a preparation keeps on the disk, and when it is used again."""

import os

import numpy as np
import pytest

from xtts_ka.core.errors import UserError
from xtts_ka.corpus import preparation_store
from xtts_ka.corpus.long_recordings import LongRecording
from xtts_ka.corpus.planned_clips import Left, LeftOut, Plan, PlannedClip
from xtts_ka.corpus.preparation_store import Outcome, Store, wav_name

CLIPS = [PlannedClip(1.25, 3.5, "ერთი.", "ნინო", 0.9), PlannedClip(4.0, 6.0, "ორი.", "", 0.8)]
LEFT = [LeftOut(-1, -1, Left.NOT_READ, "2 words are not heard", "სამი ოთხი"), LeftOut(7.0, 8.0, Left.NO_TEXT, "1.0 s")]


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "source" / "r.flac"
    path.parent.mkdir()
    path.write_bytes(b"sound")
    return LongRecording(path, "r.flac", "r", None)


def store(tmp_path, recording, **asked) -> Store:
    opened = Store(tmp_path / "out", recording, {"limits": [1, 20], **asked})
    opened.open()
    return opened


def planned(kept: Store) -> Outcome:
    outcome = Outcome("r.flac", "r", 9.5, Plan(list(CLIPS), list(LEFT), ["the times were corrected"]))
    kept.write_plan(outcome)
    for clip in outcome.plan.clips:
        kept.wav(clip).parent.mkdir(exist_ok=True)
        kept.wav(clip).write_bytes(b"wave")
    return outcome


def test_what_was_written_is_read_and_done_only_when_all_clips_are_there(tmp_path, recording):
    kept = store(tmp_path, recording)
    assert kept.plan() is None
    outcome = planned(kept)
    assert store(tmp_path, recording).plan() == outcome and kept.done() is None
    kept.write_done(outcome)
    assert store(tmp_path, recording).done() == outcome


def test_arrays_survive_but_what_was_heard_goes_when_all_is_done(tmp_path, recording):
    kept = store(tmp_path, recording)
    kept.save_arrays("activity", 1, level=np.arange(4.0))
    kept.save_arrays("heard_abc", 1, times=np.zeros(3))
    kept.write_done(planned(kept))
    again = store(tmp_path, recording)
    assert again.has_array("activity", 1) and not again.has_array("activity", 0)
    assert again.load_arrays("activity", 1)["level"].tolist() == [0, 1, 2, 3]
    assert not again.has_array("heard_abc", 1)


def test_with_other_settings_the_plan_is_none_and_its_clips_go_with_the_next(tmp_path, recording):
    first = store(tmp_path, recording)
    first.write_done(planned(first))
    other = store(tmp_path, recording, limits=[1, 5])
    assert other.plan() is None and other.done() is None and first.wav(CLIPS[0]).is_file()
    other.write_plan(Outcome("r.flac", "r", 9.5, Plan(CLIPS[:1])))
    assert not list((tmp_path / "out/wavs").iterdir())
    assert store(tmp_path, recording).done() is None


def test_a_changed_recording_is_listened_to_anew(tmp_path, recording):
    kept = store(tmp_path, recording)
    kept.save_arrays("activity", 0, level=np.zeros(1))
    planned(kept)
    os.utime(recording.path, ns=(1, 1))
    again = store(tmp_path, recording)
    assert not again.has_array("activity", 0) and again.plan() is None and not list((tmp_path / "out/wavs").iterdir())


def test_other_rules_plan_anew_without_listening(tmp_path, recording, monkeypatch):
    kept = store(tmp_path, recording)
    kept.save_arrays("activity", 0, level=np.zeros(1))
    kept.write_done(planned(kept))
    assert not kept.outdated
    monkeypatch.setattr(preparation_store, "PLANNING", preparation_store.PLANNING + 1)
    later = store(tmp_path, recording)
    assert later.outdated and later.done() is None and later.has_array("activity", 0)


def test_a_damaged_file_is_named_with_the_remedy(tmp_path, recording):
    kept = store(tmp_path, recording)
    (kept.folder / "plan.json").write_text("{")
    with pytest.raises(UserError, match="plan.json is not valid JSON.*delete the work folder"):
        kept.plan()


def test_names_of_clips_sort_by_time():
    names = [wav_name("r", PlannedClip(start, start + 1, "", "", 1.0)) for start in (0.0004, 9.5, 100.0, 35_999.0)]
    assert names == sorted(names) and names[1] == "r_00009500.wav"
