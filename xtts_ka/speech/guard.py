"""Checks what the model has spoken, and lets it speak again with another seed where it babbled, repeated or lost words.

A clip is checked in three ways: its number of audio codes against bounds from the speaker's letters per second, the
probability with which the model ended it, and what the recogniser hears in it, aligned with the text letter by letter
(`recognition/faults.py`). docs/evaluation.md defines the faults and says how often the guard is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rapidfuzz.distance import Levenshtein

from xtts_ka.core.console import say
from xtts_ka.core.files import read_json
from xtts_ka.model.checkpoint import Xtts
from xtts_ka.recognition.faults import LONGEST_PAUSE, find_faults, longest_pause
from xtts_ka.recognition.recogniser import FACTS, FORMAT, REMEDY, Recogniser, greedy
from xtts_ka.recognition.symbols import spoken_letters
from xtts_ka.recognition.train_recogniser import FOLDER
from xtts_ka.speech.batch import Piece, Spoken, derived_seed, speak_together

VERSION = 1  # of the checks and seeds: raise it where another attempt would be taken
ATTEMPTS = 3  # times that a text is spoken at most
UNSURE = 0.02  # probability of the stop token below which the model had no reason to end
MISHEARD = 0.5  # share of wrong letters above which something else was said


@dataclass(frozen=True)
class Attempt:
    """One clip of a text. faults: of `find_faults`, or "too_short", "unsure_end", "misheard"; wrong: edits a letter."""

    spoken: Spoken
    faults: frozenset[str]
    wrong: float


@dataclass(frozen=True)
class Guarded:
    """All attempts at a text, in order, and the one that is taken: with the fewest faults, then wrong letters."""

    attempts: tuple[Attempt, ...]

    @property
    def best(self) -> Attempt:
        """Of equals the first."""
        return min(self.attempts, key=lambda attempt: (len(attempt.faults), attempt.wrong))

    @property
    def spoken(self) -> Spoken:
        return self.best.spoken


class Guard:
    """Judges clips. listener: None where there is no recogniser; then length, end and silence are all it looks at."""

    def __init__(self, listener: Recogniser | None, attempts: int = ATTEMPTS):
        self.listener, self.attempts = listener, attempts

    @property
    def key(self) -> str:
        """Changes with what it would decide."""
        who = self.listener.facts["fingerprint"] if self.listener else "no recogniser"
        return f"{VERSION} {who} {self.attempts}"

    def judge(self, pieces: Sequence[Piece], spoken: Sequence[Spoken], rate: int) -> list[Attempt]:
        """The faults of each clip. rate: of the waves, in Hz."""
        if self.listener is None:
            return [self._judged(piece, clip, rate, None) for piece, clip in zip(pieces, spoken, strict=True)]
        rows = self.listener.log_probs([clip.wave for clip in spoken], rate)
        heard = [greedy(row) for row in rows]
        return [self._judged(*each) for each in zip(pieces, spoken, [rate] * len(pieces), heard, strict=True)]

    def _judged(self, piece: Piece, clip: Spoken, rate: int, heard: str | None) -> Attempt:
        found, wrong = set(), 0.0
        if heard is None:
            found |= {"silence"} if longest_pause(clip.wave, rate) > LONGEST_PAUSE else set()
            found |= {"no_stop"} if not clip.stopped else set()
        else:
            expected = spoken_letters(piece.text)
            found |= find_faults(expected, heard, clip.wave, rate, stopped=clip.stopped)
            wrong = Levenshtein.distance(expected, heard) / max(1, len(expected))
            found |= {"misheard"} if wrong > MISHEARD else set()
        if clip.codes < piece.fewest_codes:
            found.add("too_short")
        if clip.stop_probability < UNSURE:
            found.add("unsure_end")
        return Attempt(clip, frozenset(found), wrong)


def speak_guarded(model: Xtts, pieces: Sequence[Piece], guard: Guard | None) -> list[Guarded]:
    """`speak_together`, and again with other seeds what has a fault, `guard.attempts` times in all at most.

    The seeds follow from the piece's own, so the same pieces give the same attempts. Without a guard nothing is
    checked.
    """
    if guard is None:
        return [Guarded((Attempt(clip, frozenset(), 0.0),)) for clip in speak_together(model, pieces)]
    rate = model.config.model_args.output_sample_rate
    attempts: list[tuple[Attempt, ...]] = [()] * len(pieces)
    due = list(range(len(pieces)))
    for turn in range(guard.attempts):
        again = [replace(pieces[i], seed=_seed(pieces[i].seed, turn)) for i in due]
        for i, attempt in zip(due, guard.judge(again, speak_together(model, again), rate), strict=True):
            attempts[i] += (attempt,)
        due = [i for i in due if attempts[i][-1].faults]
        if not due:
            break
    return [Guarded(each) for each in attempts]


def _seed(seed: int, turn: int) -> int:
    """The first attempt has the piece's own seed."""
    return derived_seed(seed, turn) if turn else seed


def open_guard(model_dir: Path, device: str, attempts: int) -> Guard:
    """The guard of a model folder, with the recogniser in it, or without one, which is said."""
    folder = model_dir / FOLDER
    problem = "" if (folder / FACTS).is_file() else f"{folder} has no recogniser"
    facts = {} if problem else read_json(folder / FACTS, "the recogniser", REMEDY)
    if not problem and not (isinstance(facts, dict) and facts.get("format") == FORMAT):
        problem = f"the recogniser in {folder} is of another version of this project"
    if problem:
        say(f"guard: {problem}, so only lengths and silence are checked; python evaluate_model.py trains one")
    return Guard(None if problem else Recogniser.load(folder, device), attempts)


def account(text: str, guarded: Guarded) -> str:
    """What the guard did about one text, for --verbose."""
    first, best = guarded.attempts[0], guarded.best
    if not first.faults:
        return f"{text}: no fault found"
    left = f"faults left: {', '.join(sorted(best.faults))}" if best.faults else "no fault left"
    found = "; ".join(", ".join(sorted(a.faults)) or "none" for a in guarded.attempts)
    return f"{text}: {len(guarded.attempts)} attempts ({found}); {left}"
