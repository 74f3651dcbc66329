"""The recogniser's part in the preparation of long recordings: who listens, what was heard, and clips made of it."""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.digests import hash_file, hash_value
from xtts_ka.core.errors import UserError
from xtts_ka.core.jsonl import append_jsonl, read_jsonl
from xtts_ka.core.torch_settings import choose_device, one_thread
from xtts_ka.corpus import audio
from xtts_ka.corpus.planned_clips import Left, LeftOut, Limits, Passage, Plan, PlannedClip, plan_of
from xtts_ka.corpus.segmentation import Speech
from xtts_ka.corpus.tables import split_csv
from xtts_ka.georgian.reading import Reading
from xtts_ka.recognition.heard import Heard, letters_of
from xtts_ka.recognition.listener import Listener, open_listener
from xtts_ka.recognition.long_alignment import compared
from xtts_ka.recognition.recogniser import FACTS, Recogniser
from xtts_ka.recognition.symbols import BLANK, PLAIN, spoken_letters

OWN = ""  # the value of --asr for the project's recogniser
_QUIETER, _HISS, _LATER = 0.7, 0.003, 0.25  # how a clip differs when a foreign listener hears it a second time; seconds


@dataclass(frozen=True)
class Asr:
    """Who listens. folder: of the project's recogniser, None where `spec` names another listener."""

    folder: Path | None
    spec: str
    device: str
    reading: Reading = field(default=PLAIN, hash=False)
    fingerprint: str = ""

    @classmethod
    def of(cls, spec: str | None, settings: Callable[[], PretrainConfig]) -> Asr:
        """As `--asr` says: OWN or None for the recogniser of the config, which is trained where there is none.

        UserError where it cannot be had.
        """
        if spec:
            device = choose_device("auto")
            if (Path(spec) / FACTS).is_file():
                return cls(Path(spec), "", device, PLAIN, hash_file(Path(spec) / FACTS))
            open_listener(spec, folder="", device=device)  # says now what is wrong with it
            return cls(None, spec, device, PLAIN, hash_value(spec))
        from xtts_ka.recognition.train_recogniser import ensure_recogniser, recogniser_folder

        config = settings()
        try:
            if not split_csv(config.data_dir, "train").is_file():
                raise UserError(f"{split_csv(config.data_dir, 'train')} does not exist")
            recogniser = ensure_recogniser(config)
        except UserError as error:
            remedy = "give --asr a recogniser's folder, or --config one with training clips, such as Common Voice's"
            raise UserError(f"no recogniser of Georgian is at hand ({error}): {remedy}") from None
        reading = Reading.of(config.text)
        fingerprint = hash_value([recogniser.facts["fingerprint"], reading.facts()])
        return cls(recogniser_folder(config), OWN, recogniser.device, reading, fingerprint)


@functools.lru_cache(maxsize=1)
def own(folder: Path, device: str) -> Recogniser:
    return Recogniser.load(folder, device)


# ── without a text ───────────────────────────────────────────────────────────────────────────────────────────────────


def transcribe(path: Path, spans: Sequence[tuple[float, float]], pauses: Sequence[float], asr: Asr, log: Path) -> None:
    """Write what is said in each span, and how sure that is, to `log`; spans that stand there already are skipped.

    pauses: seconds of the middles of pauses, which part words.
    """
    done = sum(1 for _ in read_jsonl(log)) if log.is_file() else 0
    recogniser = own(asr.folder, asr.device) if asr.folder else None
    listener = recogniser or open_listener(asr.spec, folder="", device=asr.device)
    for (start, end), (wave, rate) in zip(spans[done:], audio.read_parts(path, spans[done:])):
        inner = [pause - start for pause in pauses[bisect_right(pauses, start) : bisect_left(pauses, end)]]
        with one_thread():
            found = _own_words(recogniser, wave, rate, inner) if recogniser else _words(listener, wave, rate)
        text, confidence = found
        append_jsonl(log, {"text": text, "confidence": confidence})


def _own_words(recogniser: Recogniser, wave: np.ndarray, rate: int, pauses: Sequence[float]) -> tuple[str, float]:
    """(text, geometric mean of the probabilities of its letters); pauses: seconds in the wave at which a word ends."""
    (log_probs,) = recogniser.log_probs([wave], rate)
    best, symbols = log_probs.max(dim=-1)
    said = best[symbols != BLANK]
    frames = [round(pause / recogniser.seconds_per_frame) for pause in pauses]
    parts = [recogniser.decode(part) for part in log_probs.tensor_split(frames)]
    return " ".join(filter(None, parts)), round(float(said.mean().exp()), 3) if len(said) else 0.0


def _words(listener: Listener, wave: np.ndarray, rate: int) -> tuple[str, float]:
    """(text, likeness of what a listener hears when it hears the same a second time, later, quieter and with hiss)"""
    hiss = np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    later = np.zeros(round(_LATER * rate), np.float32)
    text, again = listener.hear([wave, np.concatenate([later, _QUIETER * wave + _HISS * hiss])], rate)
    return text, round(Levenshtein.normalized_similarity(text, again), 3)


def plan_from_hearing(
    heard: Sequence[dict[str, Any]], runs: Sequence[range], speech: Sequence[Speech], seconds: float, limits: Limits
) -> Plan:
    """The clips of a recording without a text: each window with what was heard in it."""
    passages = []
    for run, found in zip(runs, heard, strict=True):
        problem = None if found["text"] else (Left.EMPTY_TEXT, "no words are heard")
        passages.append(Passage(run, found["text"], "", float(found["confidence"]), problem))
    return plan_of(passages, speech, seconds, limits)


# ── with a text ──────────────────────────────────────────────────────────────────────────────────────────────────────


def checked(plan: Plan, heard: Heard, asr: Asr, limits: Limits) -> Plan:
    """A plan whose clips are compared with what is heard in them: the confidence is that of the letters."""
    letters, times = letters_of(heard)
    clips: list[PlannedClip] = []
    left = list(plan.left)
    for clip in plan.clips:
        low, high = np.searchsorted(times, [clip.start, clip.end])
        said = letters[low:high]
        confidence, bad = compared("".join(spoken_letters(clip.text, asr.reading).split()), said)
        if bad or confidence < limits.min_confidence:
            left.append(LeftOut(clip.start, clip.end, Left.NOT_HEARD, f"heard: {said[:80]}", clip.text))
        else:
            clips.append(replace(clip, confidence=round(min(confidence, 1.0), 3)))
    return Plan(clips, left, plan.remarks)
