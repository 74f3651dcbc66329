"""What a long recording is cut into: clips, and what is left out of them with its reason; rules that all ways share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.drop_reasons import Suspicion
from xtts_ka.corpus.segmentation import MARGIN, Speech
from xtts_ka.corpus.speaking_rate import UsualRate, letters_aloud
from xtts_ka.corpus.transcripts import read_transcript
from xtts_ka.georgian.alphabet import georgian_fraction

MAX_GAP = 1.0  # seconds of a pause inside a clip that is put together of several texts
MIN_GEORGIAN = 0.5  # share of a text's letters, as --min_georgian_fraction of create_metadata_files.py
_SENTENCE_ENDS = ".!?…:;"
_CLOSING = "\"'“”»«)]"


class Left(StrEnum):
    """Why a part of a recording, or of its text, is in no clip."""

    NO_SPEECH = "no_speech"  # nobody speaks where its times are
    NO_TEXT = "no_text"  # speech to which no text belongs
    NOT_READ = "not_read"  # text that is not heard anywhere
    NOT_HEARD = "not_heard"  # the recogniser hears something else than the text
    UNSURE = "unsure"  # its confidence is below --min_confidence
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"  # and there is no pause inside at which its text could be cut
    WRONG_LENGTH = "wrong_length"  # many more, or fewer, letters than are said in that time
    TWO_SPEAKERS = "two_speakers"  # several people's texts at the same time, or in one breath
    NOISE_TAG = "noise_tag"  # as in create_metadata_files.py
    UNCLEAR_SPEECH = "unclear_speech"
    MIXED_SCRIPT = "mixed_script"
    NOT_SPOKEN = "not_spoken"  # a caption with what may be a stage direction or a speaker's name
    BAD_TIMES = "bad_times"  # a caption without times, or that ends before it begins
    NON_GEORGIAN_TEXT = "non_georgian_text"
    EMPTY_TEXT = "empty_text"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long clips may be, in seconds, and how sure."""

    min_seconds: float = 1.0
    max_seconds: float = 20.0
    min_confidence: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds < self.max_seconds <= 60:
            given = f"--min_seconds {self.min_seconds:g} and --max_seconds {self.max_seconds:g}"
            raise UserError(f"{given} leave no clip: give 0 < min < max ≤ 60")
        if not 0 <= self.min_confidence <= 1:
            raise UserError(f"--min_confidence {self.min_confidence:g} is not between 0 and 1")


@dataclass(frozen=True, slots=True)
class PlannedClip:
    """start, end: where it is cut out, seconds of the recording; confidence: 0 to 1."""

    start: float
    end: float
    text: str
    speaker: str
    confidence: float


@dataclass(frozen=True, slots=True)
class LeftOut:
    """start, end: seconds of the recording, −1 where it is text only."""

    start: float
    end: float
    reason: Left
    detail: str
    text: str = ""


@dataclass
class Plan:
    clips: list[PlannedClip] = field(default_factory=list)
    left: list[LeftOut] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # about the recording as a whole


class RecordingProblem(UserError):
    """A recording, or its transcript as a whole, cannot be used; the run goes on with the others."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A text and the run of speech (indices of pieces) in which it is said; problem: why it is in no clip."""

    pieces: range
    text: str
    speaker: str = ""
    confidence: float = 1.0
    problem: tuple[Left, str] | None = None


def text_problem(text: str, caption: bool = False) -> tuple[str, tuple[Left, str] | None]:
    """(the text with its markup mended, why it cannot be trained on).

    caption: whether brackets and names before a colon are directions to the viewer rather than a part of the text.
    """
    read = read_transcript(text)
    if read.refused:
        return text, (Left(read.refused[0]), read.refused[1])
    if not any(map(str.isalnum, read.text)):
        return read.text, (Left.EMPTY_TEXT, "nothing in it is spoken")
    share = georgian_fraction(read.text)
    if share < MIN_GEORGIAN and any(map(str.isalpha, read.text)):
        return read.text, (Left.NON_GEORGIAN_TEXT, f"{share:.0%} of its letters are Georgian")
    marked = [detail for kind, detail in read.suspected if kind in (Suspicion.BRACKETS, Suspicion.LABEL)]
    return " ".join(read.text.split()), (Left.NOT_SPOKEN, marked[0]) if caption and marked else None


def plan_of(
    passages: Sequence[Passage], speech: Sequence[Speech], seconds: float, limits: Limits, unheard: bool = False
) -> Plan:
    """Clips of passages that stand in order: short ones and broken sentences joined, and everything left out listed.

    unheard: nobody has listened whether the texts are what is said, so their length is judged more closely.
    """
    checked = [_checked(passage, speech, limits) for passage in _with_usual_rate(passages, speech, unheard)]
    plan = Plan()
    for passage in _joined([passage for passage in checked if passage.pieces], speech, limits):
        first, last = speech[passage.pieces[0]], speech[passage.pieces[-1]]
        start, end = cut_around(passage.pieces, speech, seconds)
        problem = passage.problem
        if not problem and end - start < limits.min_seconds:
            problem = (Left.TOO_SHORT, f"{end - start:.2f} s, and nothing that it could be joined to is near")
        if problem:
            plan.left.append(LeftOut(first.start, last.end, *problem, passage.text))
        else:
            plan.clips.append(PlannedClip(start, end, passage.text, passage.speaker, passage.confidence))
    nowhere = [passage for passage in checked if not passage.pieces and passage.problem]
    plan.left += [LeftOut(-1, -1, *passage.problem, passage.text) for passage in nowhere if passage.problem]
    plan.left += unclaimed(checked, speech)
    return plan


def cut_around(pieces: range, speech: Sequence[Speech], seconds: float) -> tuple[float, float]:
    """Where to cut a run of speech out of the recording: MARGIN from it, or half a pause that is shorter than two."""
    first, last = pieces[0], pieces[-1]
    before = (speech[first - 1].end + speech[first].start) / 2 if first else 0.0
    after = (speech[last].end + speech[last + 1].start) / 2 if last + 1 < len(speech) else seconds
    start, end = max(speech[first].start - MARGIN, before), min(speech[last].end + MARGIN, after)
    return round(start, 3), round(end, 3)  # milliseconds, as the table has them


def unclaimed(passages: Sequence[Passage], speech: Sequence[Speech]) -> list[LeftOut]:
    """The speech that belongs to no passage; runs of it are one line."""
    claimed = {piece for passage in passages for piece in passage.pieces}
    runs: list[list[int]] = []
    for number in range(len(speech)):
        if number in claimed:
            continue
        if runs and runs[-1][-1] == number - 1 and speech[number].start - speech[number - 1].end <= MAX_GAP:
            runs[-1].append(number)
        else:
            runs.append([number])
    spans = [(speech[run[0]].start, speech[run[-1]].end) for run in runs]
    return [LeftOut(start, end, Left.NO_TEXT, f"{end - start:.1f} s of speech without text") for start, end in spans]


def _with_usual_rate(passages: Sequence[Passage], speech: Sequence[Speech], closely: bool) -> list[Passage]:
    """The passages, those marked whose letters take much more or less time than the others'."""
    letters = [letters_aloud(passage.text) for passage in passages]
    seconds = [sum(speech[piece].seconds for piece in passage.pieces) for passage in passages]
    usual = UsualRate.of(letters, seconds, closely)
    found = []
    for passage, count, length in zip(passages, letters, seconds):
        if usual and not passage.problem and usual.is_odd(count, length):
            detail = f"{count / length:.1f} letters a second, where {usual.rate:.1f} are usual"
            passage = replace(passage, problem=(Left.WRONG_LENGTH, detail))
        found.append(passage)
    return found


def _checked(passage: Passage, speech: Sequence[Speech], limits: Limits) -> Passage:
    if passage.problem or not passage.pieces:
        return passage
    seconds = speech[passage.pieces[-1]].end - speech[passage.pieces[0]].start
    if seconds > limits.max_seconds:
        return replace(passage, problem=(Left.TOO_LONG, f"{seconds:.1f} s without a pause at which its text ends"))
    if passage.confidence < limits.min_confidence:
        return replace(passage, problem=(Left.UNSURE, f"confidence {passage.confidence:.2f}"))
    return passage


def _joined(passages: Sequence[Passage], speech: Sequence[Speech], limits: Limits) -> list[Passage]:
    """Passages put together while they are too short, or end amid a sentence where the text has punctuation."""
    marked = sum(ends_sentence(passage.text) for passage in passages) * 5 >= len(passages)
    found: list[Passage] = []
    for passage in passages:
        before = found[-1] if found else None
        if before and _fit_together(before, passage, speech, limits):
            short = any(_seconds(each.pieces, speech) < limits.min_seconds for each in (before, passage))
            if short or (marked and not ends_sentence(before.text)):
                found[-1] = replace(
                    before,
                    pieces=range(before.pieces.start, passage.pieces.stop),
                    text=f"{before.text} {passage.text}",
                    confidence=min(before.confidence, passage.confidence),
                )
                continue
        found.append(passage)
    return found


def _fit_together(one: Passage, other: Passage, speech: Sequence[Speech], limits: Limits) -> bool:
    if one.problem or other.problem or one.speaker != other.speaker or one.pieces.stop != other.pieces.start:
        return False
    gap = speech[other.pieces[0]].start - speech[one.pieces[-1]].end
    whole = range(one.pieces.start, other.pieces.stop)
    return gap <= MAX_GAP and _seconds(whole, speech) + 2 * MARGIN <= limits.max_seconds


def _seconds(pieces: range, speech: Sequence[Speech]) -> float:
    return speech[pieces[-1]].end - speech[pieces[0]].start


def ends_sentence(text: str) -> bool:
    """Whether a text ends in a mark that ends a sentence, quotation marks behind it left out."""
    return text.rstrip(_CLOSING + " ")[-1:] in tuple(_SENTENCE_ENDS)
