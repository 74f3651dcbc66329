"""The guard: what it finds in audio codes, and which attempt it takes.

The listener is a stand-in that hears the text whose number is the first code.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

from xtts_ka.recognition.symbols import BLANK, SYMBOLS, encode
from xtts_ka.speech import guard as module
from xtts_ka.speech.batch import Drawn, Piece, Spoken
from xtts_ka.speech.guard import Guard, account, open_guard, speak_guarded

TEXT = "დღეს კარგი ამინდია."
SAID = "დღეს კარგი ამინდია"
MODEL = SimpleNamespace(device=torch.device("cpu"))
QUIET = 999  # the code that is silence


class Oracle:
    """Hears in each mel the text that stands at the number in its first value."""

    def __init__(self, texts, fingerprint="oracle"):
        self.texts, self.facts = list(texts), {"fingerprint": fingerprint}

    def log_probs_of_mels(self, mels):
        rows = []
        for mel in mels:
            ids = [symbol for letter in encode(self.texts[int(mel[0, 1])]) for symbol in (letter, BLANK)] or [BLANK]
            rows.append(torch.eye(len(SYMBOLS))[ids])
        return rows


class Sound:
    """Five frames a code, loud or silent; the first one tells the first code."""

    key = "sound"

    def mel(self, codes):
        mel = torch.tensor([[-30.0 if code == QUIET else 0.0] * 80 for code in codes]).repeat_interleave(5, 0)
        mel[0, 1] = codes[0]
        return mel


def draw(number: int = 0, codes: int = 40, stopped: bool = True, stop_probability: float = 0.9, pause: int = 0):
    return Drawn((number, *[QUIET] * pause, *[1] * (codes - pause - 1)), stopped, stop_probability)


def piece(seed: int = 1, text: str = TEXT) -> Piece:
    return Piece(text, torch.zeros(1, 32, 4), torch.zeros(1, 512, 1), seed, 100, 10)


def guard_of(heard, attempts: int = 3) -> Guard:
    return Guard(Oracle(heard), Sound(), attempts)


@pytest.mark.parametrize(
    ("heard", "drawn", "faults"),
    [
        (SAID, draw(), set()),
        (SAID + " ბუხარი", draw(), {"babble"}),
        ("დღეს კარგი კარგი ამინდია", draw(), {"repetition"}),
        ("დღეს ამინდია", draw(), {"skipped"}),
        ("ბორბალი ზუზუნებს", draw(), {"misheard"}),
        (SAID, draw(codes=9), {"too_short"}),
        (SAID, draw(stopped=False, stop_probability=1.0), {"no_stop"}),
        (SAID, draw(stop_probability=1e-4), {"unsure_end"}),
    ],
    ids=["sound", "babble", "repetition", "skipped", "other_words", "too_short", "no_stop", "unsure_end"],
)
def test_each_fault_is_found(heard, drawn, faults):
    (attempt,) = guard_of([heard]).judge([piece()], [drawn])
    assert attempt.faults >= faults and bool(attempt.faults) == bool(faults)


@pytest.mark.parametrize(("sound", "silence"), [(Sound(), ["silence"]), (None, [])], ids=["sound", "no_sound"])
def test_without_a_recogniser_lengths_and_ends_are_looked_at_and_silence_where_there_is_sound(sound, silence):
    draws = [draw(), draw(codes=9), draw(stopped=False), draw(pause=21)]
    judged = Guard(None, sound).judge([piece()] * 4, draws)
    assert [sorted(each.faults) for each in judged] == [[], ["too_short"], ["no_stop"], silence]


@pytest.fixture
def speaking(monkeypatch):
    """Let codes that begin with 0, 1, 2, … be drawn in turn; returns the pieces of each call."""
    calls = []

    def drawn(model, pieces):
        first = sum(map(len, calls))
        calls.append(list(pieces))
        return [draw(first + n) for n in range(len(pieces))]

    monkeypatch.setattr(module, "draw_together", drawn)
    monkeypatch.setattr(module, "decode", lambda model, piece, of: Spoken(np.zeros(1), of.codes, of.stopped))
    return calls


def test_only_what_has_a_fault_is_spoken_again_with_a_seed_of_its_own(speaking):
    pieces = [piece(seed) for seed in (5, 6, 7)]
    guard = guard_of([SAID, "დღეს ამინდია", SAID, SAID])
    found = speak_guarded(MODEL, pieces, guard)
    assert [len(each.attempts) for each in found] == [1, 2, 1]
    (again,) = speaking[1]
    assert again.text == TEXT and again.seed not in (5, 6, 7) and speaking[0] == pieces
    assert [each.spoken.codes[0] for each in found] == [0, 3, 2]
    first = [one.seed for one in speaking[1]]
    speaking.clear()
    speak_guarded(MODEL, pieces, guard)
    assert [one.seed for one in speaking[1]] == first


def test_after_the_last_attempt_the_one_with_the_fewest_faults_and_errors_is_taken(speaking):
    heard = ["დღეს ამინდია ბუხარი", "დღეს ამინდიო", "დღეს ამინდია"]
    (found,) = speak_guarded(MODEL, [piece()], guard_of(heard))
    assert len(speaking) == 3 and len({one.seed for (one,) in speaking}) == 3
    assert found.best is found.attempts[2] and found.best.faults == {"skipped"}
    told = f"{TEXT}: 3 attempts (babble, misheard, skipped; skipped; skipped); faults left: skipped"
    assert account(TEXT, found) == told


def test_one_attempt_and_no_guard(speaking):
    (found,) = speak_guarded(MODEL, [piece()], guard_of(["დღეს ამინდია"], 1))
    assert len(found.attempts) == 1 and found.best.faults == {"skipped"}
    (plain,) = speak_guarded(MODEL, [piece()], None)
    assert not plain.best.faults and len(plain.attempts) == 1


def test_another_attempt_begins_with_the_codes_of_the_words_before_the_fault(speaking):
    heard = ["დღეს კარგი ამინდია და ანათებს", SAID]
    (found,) = speak_guarded(MODEL, [piece(text="დღეს კარგი ამინდია და მზე ანათებს.")], guard_of(heard * 2))
    first, again = speaking[0][0], speaking[1][0]
    assert first.begun == () and again.begun == found.attempts[0].drawn.codes[: found.attempts[0].good]
    assert 15 < len(again.begun) < 30  # of 40 codes
    (found,) = speak_guarded(MODEL, [piece()], guard_of(["ბორბალი ზუზუნებს"] * 6))
    assert speaking[-1][0].begun == ()  # nothing was right


def test_any_number_of_pieces_is_drawn_a_few_at_a_time_with_the_second_attempts_among_the_first(speaking):
    pieces = [piece(seed) for seed in range(20)]
    heard = ["დღეს ამინდია" if n < 3 else SAID for n in range(23)]
    found = speak_guarded(MODEL, pieces, guard_of(heard))
    assert [len(call) for call in speaking] == [8, 8, 7]
    assert [len(each.attempts) for each in found] == [2] * 3 + [1] * 17


def test_the_key_changes_with_recogniser_sound_and_attempts():
    listeners, sound = (None, Oracle([]), Oracle([], "another")), Sound()
    guards = [*(Guard(each, sound) for each in listeners), Guard(listeners[2], sound, 2), Guard(None, None)]
    assert len({guard.key for guard in guards}) == 5


def test_sound_is_that_of_the_first_folder_that_has_both_files(tmp_path, capsys):
    base = tiny.write_base_model(tmp_path / "base")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/dvae.pth").write_bytes(b"")
    sound = module.open_sound([tmp_path / "model", base], "cpu")
    assert sound.key == module.CodeSound(base, "cpu").key and "guard" not in capsys.readouterr().out


def test_a_folder_without_a_recogniser_or_with_one_of_another_version_says_so(tmp_path, capsys):
    assert open_guard(tmp_path, "cpu", 2).listener is None
    told = capsys.readouterr().out
    assert "has no recogniser, so only lengths and silence are checked" in told
    assert f"{tmp_path} lacks dvae.pth or mel_stats.pth, so only lengths are checked" in told
    (tmp_path / "recogniser").mkdir()
    (tmp_path / "recogniser/recogniser.json").write_text('{"format": 0}')
    assert open_guard(tmp_path, "cpu", 2).listener is None
    assert "of another version" in capsys.readouterr().out
