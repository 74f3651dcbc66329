"""From measured clips to the figures of a report: one set for each model, voice and kind of text.

Every figure is {"value", "low", "high"}: shares from 0 to 1, similarity from −1 to 1, and the bounds of its 95 %
interval. docs/evaluation.md says how each is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xtts_ka.evaluation.character_errors import Errors, mean, ratio
from xtts_ka.recognition.faults import KINDS


@dataclass(frozen=True)
class Measured:
    """One clip, spoken by a model or recorded, and all that was measured of it.

    model: its label, "" for a recording. heard, errors, faults: by the listener's name. similarity, nearest: None where
    the voice is not known. rate: letters a second between first and last sound, None where there is none. dnsmos: None
    where it was not measured. wav_key: of the clip, for the report's files. guard: as `KeptClip.guard`.
    """

    model: str
    voice: str
    kind: str
    text: str
    expected: str
    seed: int | None
    wav_key: str
    heard: dict[str, str]
    errors: dict[str, Errors]
    faults: dict[str, frozenset[str]]
    seconds: float
    rate: float | None
    stopped: bool
    codes: int | None
    similarity: float | None
    nearest: str | None
    dnsmos: float | None
    seconds_taken: float | None
    guard: dict[str, Any] | None = None


def figures(clips: Sequence[Measured], listener: str, voices: int) -> dict[str, Any]:
    """What a set of clips scores. voices: how many there are to choose from for `top1`, which needs two."""
    texts = [clip.expected for clip in clips]
    errors = [clip.errors[listener] for clip in clips]
    found = {
        "clips": len(clips),
        "texts": len(set(texts)),
        "cer": ratio([e.wrong_letters for e in errors], [e.letters for e in errors], texts),
        "wer": ratio([e.wrong_words for e in errors], [e.words for e in errors], texts),
        "perfect": mean([float(e.perfect) for e in errors], texts),
        "faults": {kind: mean([float(kind in c.faults[listener]) for c in clips], texts) for kind in KINDS},
        "any_fault": mean([float(bool(c.faults[listener])) for c in clips], texts),
        "similarity": _mean_of(clips, lambda clip: clip.similarity),
        "top1": _mean_of(clips, lambda clip: None if voices < 2 or not clip.nearest else clip.nearest == clip.voice),
        "letters_per_second": _mean_of(clips, lambda clip: clip.rate),
        "dnsmos": _mean_of(clips, lambda clip: clip.dnsmos),
        "guard": {name: _guard_share(clips, found) for name, found in GUARD.items()},
    }
    return found


GUARD: dict[str, Callable[[dict[str, Any]], bool]] = {
    "second_attempt": lambda guard: guard["attempts"] > 1,
    "faults_first": lambda guard: bool(guard["first"]),
    "faults_left": lambda guard: bool(guard["left"]),
}


def _guard_share(clips: Sequence[Measured], found: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The share of the clips, of those that a guard has seen, of which it found this."""
    return _mean_of(clips, lambda clip: None if clip.guard is None else found(clip.guard))


def grouped(clips: Sequence[Measured], listener: str, voices: int) -> dict[str, Any]:
    """`figures` of all clips, with those of each voice and each kind of text."""
    parts: dict[str, Any] = figures(clips, listener, voices)
    for name, of in (("by_voice", lambda clip: clip.voice), ("by_kind", lambda clip: clip.kind)):
        keys = dict.fromkeys(of(clip) for clip in clips)
        parts[name] = {key: figures([c for c in clips if of(c) == key], listener, voices) for key in keys}
    return parts


def real_time_factor(clips: Sequence[Measured]) -> float | None:
    """Seconds of computing per second of speech, over all clips that were spoken; below 1 is faster than speech."""
    taken = sum(clip.seconds_taken for clip in clips if clip.seconds_taken is not None)
    spoken = sum(clip.seconds for clip in clips if clip.seconds_taken is not None)
    return round(taken / spoken, 4) if spoken else None


def _mean_of(clips: Sequence[Measured], of: Callable[[Measured], float | None]) -> dict[str, Any]:
    known = [(value, clip.expected) for clip in clips if (value := of(clip)) is not None]
    return dict(mean([float(value) for value, _ in known], [text for _, text in known]))
