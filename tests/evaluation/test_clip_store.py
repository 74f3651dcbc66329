import numpy as np
import pytest

from xtts_ka.core.errors import RunError
from xtts_ka.corpus.audio import write_wav
from xtts_ka.evaluation.clip_store import HEARD_TOGETHER, ClipStore, hear_all


class Counting:
    """A listener that hears how many samples a clip has, and fails at its `fails`-th clip."""

    def __init__(self, name: str = "counting", fails: int = 0):
        self.name, self.asked, self.fails = name, [], fails

    def hear(self, waves, rate):
        for wave in waves:
            self.asked.append(len(wave))
            if len(self.asked) == self.fails:
                raise RunError("deaf")
        return ["ა" * (len(wave) // 100) for wave in waves]


@pytest.fixture
def clips(tmp_path):
    found = []
    for n in range(HEARD_TOGETHER + 4):
        wav = tmp_path / f"{n}.wav"
        write_wav(wav, np.zeros(100 * (n + 1), np.float32), 24000 if n % 2 else 22050)
        found.append((f"k{n}", wav))
    return found


def test_a_clip_is_there_once_its_facts_are(tmp_path):
    store = ClipStore(tmp_path)
    write_wav(tmp_path / "a.wav", np.zeros(9, np.float32), 24000)
    assert store.get("a") is None
    store.put("a", np.full(9, 0.5, np.float32), 24000, codes=3, stopped=False, seconds_taken=1.0)
    kept = store.get("a")
    assert (kept.codes, kept.stopped, kept.seconds_taken) == (3, False, 1.0)
    assert kept.read()[0].tolist() == [0.5] * 9 and kept.read()[1] == 24000


def test_clips_of_several_rates_are_heard_in_their_order(clips, tmp_path):
    heard = hear_all(Counting(), clips, tmp_path / "heard.jsonl")
    assert heard == {f"k{n}": "ა" * (n + 1) for n in range(len(clips))}


def test_what_was_heard_before_a_failure_is_kept(clips, tmp_path):
    failing, second, third = Counting(fails=HEARD_TOGETHER + 2), Counting(), Counting("another")
    with pytest.raises(RunError, match="deaf"):
        hear_all(failing, clips, tmp_path / "heard.jsonl")
    hear_all(second, clips, tmp_path / "heard.jsonl")
    assert len(second.asked) == 4
    hear_all(third, clips, tmp_path / "heard.jsonl")
    assert len(third.asked) == len(clips)
    again = Counting()
    hear_all(again, clips, tmp_path / "heard.jsonl", version="2")
    assert len(again.asked) == len(clips)
