"""The file of spectrograms: near what was computed, and filled from where a kill left it."""

import pytest
import tone_speech
import torch

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.tables import read_split
from xtts_ka.recognition import sound_cache
from xtts_ka.recognition.sound_cache import STEP, SoundCache, clip_mel, unpacked


@pytest.fixture
def clips(tmp_path):
    return read_split(tone_speech.write_project(tmp_path).data_dir, "train")[:9]


def test_spectrograms_come_back_to_a_step(clips, tmp_path):
    cache = SoundCache(tmp_path / "work", clips)
    for number, clip in enumerate(clips):
        mel = clip_mel(clip)
        assert cache.frames[number] == len(mel)
        torch.testing.assert_close(unpacked(cache[number]), mel.clamp_min(-14), atol=STEP / 2 + 1e-4, rtol=0)


@pytest.mark.parametrize("cut", [("frames.i4", 2), ("mels.u8", 10_000), ("frames.i4", 0)])
def test_it_is_filled_from_where_it_was_left(clips, tmp_path, monkeypatch, cut):
    whole = SoundCache(tmp_path / "whole", clips)
    monkeypatch.setattr(sound_cache, "_AT_ONCE", 2)
    SoundCache(tmp_path / "work", clips[:5])
    name, size = cut
    with open(tmp_path / "work" / name, "ab") as file:
        file.truncate(size * 4 + 3 if name == "frames.i4" else size)
    found = SoundCache(tmp_path / "work", clips)
    assert found.frames.tolist() == whole.frames.tolist()
    assert all(found[i].equal(whole[i]) for i in range(len(clips)))


def test_it_is_not_made_twice(clips, tmp_path, monkeypatch):
    SoundCache(tmp_path / "work", clips)
    monkeypatch.setattr(sound_cache, "clip_mel", lambda clip: pytest.fail(f"{clip.file_id} is computed again"))
    SoundCache(tmp_path / "work", clips)


def test_a_recording_that_is_gone_is_named(clips, tmp_path):
    clips[3].audio_path.unlink()
    with pytest.raises(UserError, match=r"03\.wav: the file does not exist"):
        SoundCache(tmp_path / "work", clips)
