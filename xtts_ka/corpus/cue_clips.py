"""From subtitles and speech between pauses to clips."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from xtts_ka.core.console import duration
from xtts_ka.corpus.cue_fitting import ENOUGH_CUES, FITS, USUAL_LETTERS, Fitted, fit_cues, fit_of, moved
from xtts_ka.corpus.planned_clips import Left, LeftOut, Limits, Passage, Plan, RecordingProblem, plan_of, text_problem
from xtts_ka.corpus.segmentation import MIN_PAUSE, Speech
from xtts_ka.corpus.speaking_rate import letters_aloud
from xtts_ka.corpus.spoken_lines import SAME_TIME, overlap_of, spoken_cues
from xtts_ka.corpus.subtitles import Cue

_SPOKEN = 0.5  # share of a cue's time with speech: that it got none is not for want of speech
_DIALOGUE = re.compile(r"^\s*[-–—]\s*\S", re.M)
_SUNG = re.compile("[♪♫♩♬]")


@dataclass(frozen=True, slots=True)
class _Line:
    """A cue that takes part in the fit, with its text mended and why it cannot be in a clip."""

    cue: Cue
    problem: tuple[Left, str] | None


def plan_from_cues(
    cues: Sequence[Cue], speech: Sequence[Speech], seconds: float, limits: Limits, unheard: bool = True
) -> Plan:
    """The clips of a recording with subtitles. RecordingProblem where they belong to another recording or language.

    unheard: as of `plan_of`.
    """
    timeless = [cue for cue in cues if not cue.has_times]
    shown, remarks = spoken_cues([cue for cue in cues if cue.has_times])
    lines = [_line(cue) for cue in _in_turn(_together(_phrases(shown)))]
    _check_language(lines)
    if lines and lines[0].cue.start > seconds:
        first = f"its first time, {duration(lines[0].cue.start)}, is behind the recording's end"
        raise RecordingProblem(f"{first}: let its times begin with the recording")
    heard = [line for line in lines if not line.problem or line.problem[0] not in (Left.EMPTY_TEXT, Left.NOISE_TAG)]
    silent = [line for line in lines if line.problem and line.problem[0] in (Left.EMPTY_TEXT, Left.NOISE_TAG)]
    if speech and heard:
        fit = fit_of([line.cue for line in heard], speech)
        if len(heard) >= ENOUGH_CUES and fit.score < FITS:
            raise RecordingProblem("its times fit the speech no better than chance: is it of another recording?")
        if len(heard) >= ENOUGH_CUES and (fit.shift or fit.ratio != 1.0):
            cues_there = moved([line.cue for line in heard], fit)
            heard = [_Line(cue, line.problem) for cue, line in zip(cues_there, heard)]
            late = f"{duration(abs(fit.shift))} {'early' if fit.shift > 0 else 'late'}" if abs(fit.shift) > 1 else ""
            drift = f"{fit.ratio:.4f} × as long as written" if fit.ratio != 1.0 else ""
            how = ", ".join(filter(None, [late, drift])) or f"{fit.shift:.2f} s"
            remarks.append(f"the times were corrected: {how}")
    fitted = fit_cues([line.cue for line in heard], speech)
    plan = plan_of([_passage(heard, unit, speech) for unit in fitted], speech, seconds, limits, unheard)
    silent_passages = [Passage(range(0), line.cue.text, problem=line.problem) for line in silent]
    plan.left += plan_of(silent_passages, [], seconds, limits).left
    reversed_ = (Left.BAD_TIMES, "it has no times, or ends before it begins")
    plan.left += [LeftOut(-1, -1, *reversed_, " ".join(cue.text.split())) for cue in timeless]
    plan.remarks += remarks
    return plan


def _phrases(cues: Sequence[Cue]) -> Sequence[Cue]:
    """Words with times, as aligners write them, put together where no pause is between; other cues as they are."""
    if len(cues) < 3 or median(len(cue.text.split()) for cue in cues) > 1:
        return cues
    found: list[Cue] = []
    for cue in cues:
        before = found[-1] if found else None
        if before and cue.start - before.end < MIN_PAUSE and cue.speaker == before.speaker:
            found[-1] = Cue(before.start, max(before.end, cue.end), f"{before.text} {cue.text}", cue.speaker)
        else:
            found.append(cue)
    return found


def _together(cues: Sequence[Cue]) -> list[tuple[Cue, bool]]:
    """Cues, those at the same time as one; and whether they were several."""
    found: list[tuple[Cue, bool]] = []
    for cue in cues:
        if found:
            before, _ = found[-1]
            if overlap_of(before, cue) > SAME_TIME and not _said_before(before, cue):
                if before.text.strip() == cue.text.strip():
                    continue
                whole = Cue(before.start, max(before.end, cue.end), f"{before.text} / {cue.text}", before.speaker)
                found[-1] = (whole, True)
                continue
        found.append((cue, False))
    return found


def _said_before(one: Cue, other: Cue) -> bool:
    """Whether a cue's text can be said before the other begins: then it only stays on the screen for reading."""
    return letters_aloud(one.text) / USUAL_LETTERS <= other.start - one.start


def _in_turn(found: Sequence[tuple[Cue, bool]]) -> list[tuple[Cue, bool]]:
    """The cues, each ending at the latest when the next begins: overlapping ones stay on the screen for reading."""
    nexts = [cue.start for cue, _ in found[1:]] + [math.inf]
    return [
        (replace(cue, end=begins if cue.start < begins < cue.end else cue.end), several)
        for (cue, several), begins in zip(found, nexts)
    ]


def _line(found: tuple[Cue, bool]) -> _Line:
    cue, several = found
    text, problem = text_problem(cue.text, caption=True)
    if several:
        problem = (Left.TWO_SPEAKERS, "two texts at the same time")
    elif len(_DIALOGUE.findall(cue.text)) > 1:
        problem = (Left.TWO_SPEAKERS, "a dialogue in one text")
    elif _SUNG.search(cue.text):
        problem = (Left.NOISE_TAG, "♪ marks music")
    return _Line(Cue(cue.start, cue.end, " ".join(text.split()).lstrip("-–— "), cue.speaker), problem)


def _check_language(lines: Sequence[_Line]) -> None:
    foreign = [line for line in lines if line.problem and line.problem[0] == Left.NON_GEORGIAN_TEXT]
    if len(foreign) * 2 > len(lines):
        raise RecordingProblem(f"its text is not in Georgian letters: {foreign[0].cue.text[:40]!r}")


def _passage(lines: Sequence[_Line], unit: Fitted, speech: Sequence[Speech]) -> Passage:
    mine = lines[unit.first : unit.last]
    text = " ".join(line.cue.text for line in mine)
    speakers = {line.cue.speaker for line in mine}
    problem = next((line.problem for line in mine if line.problem), None)
    if not unit.pieces:
        problem = problem or _nothing(mine[0].cue, speech)
    elif len(speakers) > 1 and not problem:
        problem = (Left.TWO_SPEAKERS, "two people without a pause between them")
    return Passage(unit.pieces, text, mine[0].cue.speaker, unit.confidence, problem)


def _nothing(cue: Cue, speech: Sequence[Speech]) -> tuple[Left, str]:
    """Why a cue got no speech."""
    spoken = sum(max(0.0, min(piece.end, cue.end) - max(piece.start, cue.start)) for piece in speech)
    where = f"at {cue.start:.1f} to {cue.end:.1f} s"
    if spoken > _SPOKEN * (cue.end - cue.start):
        return Left.WRONG_LENGTH, f"the speech {where} is not as long as its text takes"
    return Left.NO_SPEECH, f"nobody speaks {where}"
