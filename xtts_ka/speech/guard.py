"""Checks what the model is about to say, and lets it try again where it babbles, repeats or loses words.

A clip is checked before the vocoder makes a wave of it, in three ways: its number of audio codes against bounds from
the speaker's letters per second, the probability with which the model ended it, and what the recogniser hears in its
codes, aligned with the text letter by letter (`recognition/faults.py`). docs/guard.md defines the faults and says how
often the guard is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from xtts_ka.core.console import say
from xtts_ka.core.files import read_json
from xtts_ka.model.checkpoint import Xtts
from xtts_ka.recognition.faults import LONGEST_PAUSE, find_faults, longest_pause, sound_letters
from xtts_ka.recognition.heard import Heard, letters_of
from xtts_ka.recognition.recogniser import FACTS, FORMAT, REMEDY, Recogniser, greedy
from xtts_ka.recognition.symbols import spoken_letters
from xtts_ka.recognition.train_recogniser import FOLDER
from xtts_ka.speech.batch import TOGETHER, Drawn, Piece, Spoken, decode, derived_seed, draw_together
from xtts_ka.speech.code_sound import FILES, FRAME_SECONDS, CodeSound, mel_loudness

VERSION = 2  # of the checks and seeds: raise it where another attempt would be taken
ATTEMPTS = 3  # times that a text is spoken at most
UNSURE = 0.02  # probability of the stop token below which the model had no reason to end
MISHEARD = 0.5  # share of wrong letters above which something else was said
WHOLE_CLIP = frozenset({"silence", "misheard", "too_short"})  # with one of these faults another attempt keeps no codes


@dataclass(frozen=True)
class Attempt:
    """One draw of a text. faults: of `find_faults`, or "too_short", "unsure_end", "misheard"; wrong: edits a letter.

    good: how many of its codes say the words before the first fault.
    """

    drawn: Drawn
    faults: frozenset[str]
    wrong: float
    good: int = 0


@dataclass(frozen=True)
class Guarded:
    """All attempts at a text, in order, and the clip of the best."""

    attempts: tuple[Attempt, ...]
    spoken: Spoken

    @property
    def best(self) -> Attempt:
        return best_attempt(self.attempts)


def best_attempt(attempts: Sequence[Attempt]) -> Attempt:
    """The one with the fewest faults, then wrong letters; of equals the first."""
    return min(attempts, key=lambda attempt: (len(attempt.faults), attempt.wrong))


class Guard:
    """Judges audio codes.

    listener: None: no words are checked. sound: None: neither words nor silence are; lengths and ends always are.
    """

    def __init__(self, listener: Recogniser | None, sound: CodeSound | None, attempts: int = ATTEMPTS):
        self.listener, self.sound, self.attempts = listener, sound, attempts

    @property
    def key(self) -> str:
        """Changes with what it would decide."""
        who = self.listener.facts["fingerprint"] if self.listener else "no recogniser"
        return f"{VERSION} {who} {self.sound.key if self.sound else 'no sound'} {self.attempts}"

    def judge(self, pieces: Sequence[Piece], drawn: Sequence[Drawn]) -> list[Attempt]:
        """The faults of each draw."""
        if self.sound is None:
            return [self._judged(*each, frozenset()) for each in zip(pieces, drawn, strict=True)]
        mels = [self.sound.mel(each.codes) for each in drawn]
        pauses = [longest_pause(mel_loudness(mel), FRAME_SECONDS) for mel in mels]
        if self.listener is None:
            silent = [frozenset({"silence"} if pause > LONGEST_PAUSE else ()) for pause in pauses]
            return [self._judged(*each) for each in zip(pieces, drawn, silent, strict=True)]
        rows = self.listener.log_probs_of_mels(mels)
        return [self._heard(*each) for each in zip(pieces, drawn, rows, pauses, strict=True)]

    def _heard(self, piece: Piece, drawn: Drawn, row: Tensor, pause: float) -> Attempt:
        expected = spoken_letters(piece.text)
        found, wrong = heard_faults(expected, greedy(row), pause=pause, stopped=drawn.stopped)
        return self._judged(piece, drawn, found, wrong, _good_codes(expected, row, len(drawn.codes)))

    def _judged(self, piece: Piece, drawn: Drawn, found: frozenset[str], wrong: float = 0.0, good: int = 0) -> Attempt:
        """What the number of codes and the end say too."""
        told = {
            "no_stop": not drawn.stopped,
            "too_short": len(drawn.codes) < piece.fewest_codes,
            "unsure_end": drawn.stop_probability < UNSURE,
        }
        found |= {name for name, is_so in told.items() if is_so}
        return Attempt(drawn, found, wrong, 0 if found & WHOLE_CLIP else good)


def heard_faults(expected: str, heard: str, *, pause: float, stopped: bool) -> tuple[frozenset[str], float]:
    """The faults of `find_faults` and "misheard"; edits a letter. Arguments as of `find_faults`."""
    wrong = Levenshtein.distance(expected, heard) / max(1, len(expected))
    misheard = {"misheard"} if wrong > MISHEARD else set()
    return find_faults(expected, heard, pause=pause, stopped=stopped) | misheard, wrong


def _good_codes(expected: str, row: Tensor, codes: int) -> int:
    """How many of a clip's codes say the words before its first fault. row: the recogniser's, (frames, symbols)."""
    heard, frames = letters_of(Heard(row.numpy(), np.arange(len(row))))
    letters = sound_letters(expected, heard)
    return math.floor((frames[letters - 1] + 1) / len(row) * codes) if letters else 0


def speak_guarded(model: Xtts, pieces: Sequence[Piece], guard: Guard | None) -> list[Guarded]:
    """Speak any number of pieces; what has a fault is drawn again, `guard.attempts` times in all at most.

    Another attempt begins with the codes of the words before the fault and draws the rest with another seed, beside the
    first attempts of the pieces that still wait. The seeds follow from the piece's own, so the same pieces give the
    same attempts. Without a guard nothing is checked.
    """
    size = TOGETHER[model.device.type]
    attempts: list[tuple[Attempt, ...]] = [()] * len(pieces)
    waiting = sorted(range(len(pieces)), key=lambda i: -len(pieces[i].text))  # those drawn together take equally long
    while waiting:
        places, waiting = waiting[:size], waiting[size:]
        due = [next_piece(pieces[i], attempts[i]) for i in places]
        drawn = draw_together(model, due)
        judged = guard.judge(due, drawn) if guard else [Attempt(each, frozenset(), 0.0) for each in drawn]
        for i, attempt in zip(places, judged, strict=True):
            attempts[i] += (attempt,)
            if guard and attempt.faults and len(attempts[i]) < guard.attempts:
                waiting.append(i)
    clips = [decode(model, piece, best_attempt(tries).drawn) for piece, tries in zip(pieces, attempts, strict=True)]
    return [Guarded(*each) for each in zip(attempts, clips, strict=True)]


def next_piece(piece: Piece, before: tuple[Attempt, ...]) -> Piece:
    """What is drawn after the attempts `before`: with a seed of its own, from where the last one went wrong."""
    if not before:
        return piece
    last = before[-1]
    return replace(piece, seed=derived_seed(piece.seed, len(before)), begun=last.drawn.codes[: last.good])


def open_guard(model_dir: Path, device: str, attempts: int) -> Guard:
    """The guard of a model folder, with the recogniser and the DVAE in it, or without one, which is said."""
    folder = model_dir / FOLDER
    problem = "" if (folder / FACTS).is_file() else f"{folder} has no recogniser"
    facts = {} if problem else read_json(folder / FACTS, "the recogniser", REMEDY)
    if not problem and not (isinstance(facts, dict) and facts.get("format") == FORMAT):
        problem = f"the recogniser in {folder} is of another version of this project"
    if problem:
        say(f"guard: {problem}, so only lengths and silence are checked; python evaluate_model.py trains one")
    return Guard(None if problem else Recogniser.load(folder, device), open_sound([model_dir], device), attempts)


def open_sound(folders: Sequence[Path], device: str) -> CodeSound | None:
    """The DVAE in the first of the folders that has one; None where none has, which is said."""
    for folder in folders:
        if all((folder / name).is_file() for name in FILES):
            return CodeSound(folder, device)
    lacks = f"{folders[0]} lacks {' or '.join(FILES)}"
    say(f"guard: {lacks}, so only lengths are checked; copy both from the base model's folder")
    return None


def account(text: str, guarded: Guarded) -> str:
    """What the guard did about one text, for --verbose."""
    first, best = guarded.attempts[0], guarded.best
    if not first.faults:
        return f"{text}: no fault found"
    left = f"faults left: {', '.join(sorted(best.faults))}" if best.faults else "no fault left"
    found = "; ".join(", ".join(sorted(a.faults)) or "none" for a in guarded.attempts)
    return f"{text}: {len(guarded.attempts)} attempts ({found}); {left}"
