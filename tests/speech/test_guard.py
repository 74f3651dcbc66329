"""The guard: what it finds in a clip, and which attempt it takes.

The listener is a stand-in that hears the text whose number is in the wave.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from xtts_ka.recognition.symbols import BLANK, SYMBOLS, encode
from xtts_ka.speech import guard as module
from xtts_ka.speech.batch import Piece, Spoken
from xtts_ka.speech.guard import Guard, account, open_guard, speak_guarded

RATE = 24_000
TEXT = "დღეს კარგი ამინდია."
SAID = "დღეს კარგი ამინდია"
MODEL = SimpleNamespace(config=SimpleNamespace(model_args=SimpleNamespace(output_sample_rate=RATE)))


class Oracle:
    """Hears in each wave the text that stands at the number in its first sample."""

    def __init__(self, texts, fingerprint="oracle"):
        self.texts, self.facts = list(texts), {"fingerprint": fingerprint}

    def log_probs(self, waves, rate):
        rows = []
        for wave in waves:
            text = self.texts[round(float(wave[0]) * 100)]
            ids = [symbol for letter in encode(text) for symbol in (letter, BLANK)] or [BLANK]
            rows.append(torch.eye(len(SYMBOLS))[ids])
        return rows


def clip(number: int = 0, codes: int = 40, stopped: bool = True, stop_probability: float = 0.9, pause: float = 0.0):
    wave = np.full(RATE, 0.5, np.float32)
    wave[1000 : 1000 + int(pause * RATE)] = 0
    wave[0] = number / 100
    return Spoken(wave, codes, stopped, stop_probability)


def piece(seed: int = 1, text: str = TEXT) -> Piece:
    return Piece(text, torch.zeros(1, 32, 4), torch.zeros(1, 512, 1), seed, 100, 10)


@pytest.mark.parametrize(
    ("heard", "clip_of", "faults"),
    [
        (SAID, clip(), set()),
        (SAID + " ბუხარი", clip(), {"babble"}),
        ("დღეს კარგი კარგი ამინდია", clip(), {"repetition"}),
        ("დღეს ამინდია", clip(), {"skipped"}),
        ("ბორბალი ზუზუნებს", clip(), {"misheard"}),
        (SAID, clip(codes=9), {"too_short"}),
        (SAID, clip(stopped=False, stop_probability=1.0), {"no_stop"}),
        (SAID, clip(stop_probability=1e-4), {"unsure_end"}),
    ],
    ids=["sound", "babble", "repetition", "skipped", "other_words", "too_short", "no_stop", "unsure_end"],
)
def test_each_fault_is_found(heard, clip_of, faults):
    (attempt,) = Guard(Oracle([heard])).judge([piece()], [clip_of], RATE)
    assert attempt.faults >= faults and bool(attempt.faults) == bool(faults)


def test_without_a_recogniser_lengths_ends_and_silence_are_looked_at():
    long = np.concatenate([clip().wave, np.zeros(2 * RATE, np.float32), clip().wave])
    clips = [clip(), clip(codes=9), clip(stopped=False), Spoken(long, 40, True, 0.9)]
    judged = Guard(None).judge([piece()] * 4, clips, RATE)
    assert [sorted(each.faults) for each in judged] == [[], ["too_short"], ["no_stop"], ["silence"]]


@pytest.fixture
def speaking(monkeypatch):
    """Let clips of numbers 0, 1, 2, … be spoken in turn; returns the pieces of each call."""
    calls = []

    def speak(model, pieces):
        first = sum(map(len, calls))
        calls.append(list(pieces))
        return [clip(first + n) for n in range(len(pieces))]

    monkeypatch.setattr(module, "speak_together", speak)
    return calls


def test_only_what_has_a_fault_is_spoken_again_with_a_seed_of_its_own(speaking):
    pieces = [piece(seed) for seed in (5, 6, 7)]
    guard = Guard(Oracle([SAID, "დღეს ამინდია", SAID, SAID]))
    found = speak_guarded(MODEL, pieces, guard)
    assert [len(each.attempts) for each in found] == [1, 2, 1]
    (again,) = speaking[1]
    assert again.text == TEXT and again.seed not in (5, 6, 7) and speaking[0] == pieces
    assert [round(float(each.spoken.wave[0]) * 100) for each in found] == [0, 3, 2]
    first = [one.seed for one in speaking[1]]
    speaking.clear()
    speak_guarded(MODEL, pieces, Guard(Oracle([SAID, "დღეს ამინდია", SAID, SAID])))
    assert [one.seed for one in speaking[1]] == first


def test_after_the_last_attempt_the_one_with_the_fewest_faults_and_errors_is_taken(speaking):
    heard = ["დღეს ამინდია ბუხარი", "დღეს ამინდიო", "დღეს ამინდია"]
    (found,) = speak_guarded(MODEL, [piece()], Guard(Oracle(heard), attempts=3))
    assert len(speaking) == 3 and len({one.seed for (one,) in speaking}) == 3
    assert found.best is found.attempts[2] and found.best.faults == {"skipped"}
    told = f"{TEXT}: 3 attempts (babble, misheard, skipped; skipped; skipped); faults left: skipped"
    assert account(TEXT, found) == told


def test_one_attempt_and_no_guard(speaking):
    (found,) = speak_guarded(MODEL, [piece()], Guard(Oracle(["დღეს ამინდია"]), attempts=1))
    assert len(found.attempts) == 1 and found.best.faults == {"skipped"}
    (plain,) = speak_guarded(MODEL, [piece()], None)
    assert not plain.best.faults and len(plain.attempts) == 1


def test_the_key_changes_with_recogniser_and_attempts():
    other = Oracle([], "another")
    assert len({g.key for g in (Guard(None), Guard(Oracle([])), Guard(other), Guard(other, 2), Guard(None, 2))}) == 5


def test_a_folder_without_a_recogniser_or_with_one_of_another_version_says_so(tmp_path, capsys):
    assert open_guard(tmp_path, "cpu", 2).listener is None
    assert "has no recogniser, so only lengths and silence are checked" in capsys.readouterr().out
    (tmp_path / "recogniser").mkdir()
    (tmp_path / "recogniser/recogniser.json").write_text('{"format": 0}')
    assert open_guard(tmp_path, "cpu", 2).listener is None
    assert "of another version" in capsys.readouterr().out
