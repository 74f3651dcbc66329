from types import SimpleNamespace

import numpy as np
import torch

from xtts_ka.core.files import write_text
from xtts_ka.evaluation import speak_all
from xtts_ka.evaluation.clip_store import ClipStore
from xtts_ka.evaluation.speak_all import Task, clip_keys
from xtts_ka.evaluation.subjects import Subject
from xtts_ka.evaluation.texts import read_texts
from xtts_ka.georgian.reading import Reading
from xtts_ka.speech import guard
from xtts_ka.speech.batch import Drawn, Spoken
from xtts_ka.speech.guard import Guard
from xtts_ka.speech.synthesis import PAUSE


def subject(key: str = "weights", tint: float = 0.0) -> Subject:
    voices = {
        name: {"gpt_cond_latent": torch.zeros(1, 32, 4) + tint, "speaker_embedding": torch.ones(1, 512, 1)}
        for name in ("ეკა", "დათო")
    }
    config = SimpleNamespace(model_args=SimpleNamespace(output_sample_rate=24000))
    model = SimpleNamespace(config=config, device=torch.device("cpu"))
    return Subject("m", model, None, voices, 30, Reading(), key)


def decode(model, piece, drawn) -> Spoken:
    """A hundred samples a code."""
    return Spoken(np.full(100 * len(drawn.codes), 0.5, np.float32), drawn.codes, drawn.stopped)


def test_a_clips_key_changes_with_all_that_it_depends_on(tmp_path):
    write_text(tmp_path / "t.txt", "დილა\nმზე\n")
    first, second = read_texts(tmp_path / "t.txt", Reading(), 9)
    rates = {"ეკა": 14.0}
    key = clip_keys(subject(), [Task("ეკა", first, 1)], rates)[0]
    others = [
        clip_keys(subject(), [Task("ეკა", second, 1), Task("დათო", first, 1), Task("ეკა", first, 2)], rates),
        clip_keys(subject("other"), [Task("ეკა", first, 1)], rates),
        clip_keys(subject(tint=1.0), [Task("ეკა", first, 1)], rates),
        clip_keys(subject(), [Task("ეკა", first, 1)], {"ეკა": 7.0}),
    ]
    assert clip_keys(subject(), [Task("ეკა", first, 1)], rates) == [key]
    others.append(clip_keys(subject(), [Task("ეკა", first, 1)], rates, Guard(None, None)))
    assert len({key, *(other for keys in others for other in keys)}) == 8


def test_the_parts_of_a_long_text_are_joined_and_one_that_did_not_stop_counts(tmp_path, monkeypatch):
    write_text(tmp_path / "t.txt", "დღეს კარგი ამინდია ქალაქში. ხვალ მთაში წავალთ ყველანი.\n")
    (text,) = read_texts(tmp_path / "t.txt", Reading(), 1)
    assert len(text.pieces(30)) == 2
    asked = []

    def fake(model, pieces):
        asked.extend(pieces)
        return [Drawn((1, 2, 3), n == 0) for n in range(len(pieces))]

    monkeypatch.setattr(guard, "draw_together", fake)
    monkeypatch.setattr(guard, "decode", decode)
    store = ClipStore(tmp_path / "clips")
    (key,) = speak_all.speak_all(subject(), [Task("ეკა", text, 1)], {"ეკა": 14.0}, store, "cpu")
    kept = store.get(key)
    wave, rate = kept.read()
    assert (kept.codes, kept.stopped, rate, len(wave)) == (6, False, 24000, 600 + PAUSE)
    assert (wave[300 : 300 + PAUSE] == 0).all() and len({piece.seed for piece in asked}) == 2
    speak_all.speak_all(subject(), [Task("ეკა", text, 1)], {"ეკა": 14.0}, store, "cpu")
    assert len(asked) == 2  # nothing was spoken again


def test_what_the_guard_did_is_kept_with_the_clip(tmp_path, monkeypatch):
    write_text(tmp_path / "t.txt", "დღეს კარგი ამინდია ქალაქში. ხვალ მთაში წავალთ ყველანი.\n")
    (text,) = read_texts(tmp_path / "t.txt", Reading(), 1)
    calls = []

    def fake(model, pieces):
        calls.append(len(pieces))
        return [Drawn((1,) * (2 if len(calls) == 1 and n else 90), True) for n in range(len(pieces))]

    monkeypatch.setattr(guard, "draw_together", fake)
    monkeypatch.setattr(guard, "decode", decode)
    store = ClipStore(tmp_path / "clips")
    (key,) = speak_all.speak_all(subject(), [Task("ეკა", text, 1)], {}, store, "cpu", Guard(None, None))
    assert calls == [2, 1] and store.get(key).guard == {"attempts": 2, "first": ["too_short"], "left": []}
    assert store.get(key).codes == 180
