"""Drops and suspects clips by their measured quality, and says what each limit would cost."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from xtts_ka.core.console import say, three_digits
from xtts_ka.corpus.drop_reasons import Flaw
from xtts_ka.corpus.excerpt import Cut
from xtts_ka.corpus.options import MetadataOptions
from xtts_ka.corpus.quality_limits import MEASURES, Measure
from xtts_ka.corpus.screening import Checked
from xtts_ka.corpus.tables import Clip
from xtts_ka.georgian.alphabet import georgian_letters

ENOUGH_CLIPS = 8  # of a speaker, for a median of letters a second
ENOUGH_LETTERS = 12  # of a text whose letters a second are judged; those of short ones vary
MOST_WITHOUT_SPEECH = 0.25  # of the clips; where silero-vad finds no speech in more, it does not fit these recordings
FULL_BAND = 0.8  # of half the file's sample rate: what is wider is not made from a lower rate, whatever its bandwidth
Values = dict[str, float | None]


@dataclass(frozen=True)
class Cost:
    """What a limit costs, or would cost of the clips kept.

    beyond: clips whose value is worse; seconds: theirs; known: clips that have a value.
    """

    measure: Measure
    limit: float
    is_set: bool
    beyond: int
    seconds: float
    known: int


def add_rates(clips: list[Clip], measured: Mapping[str, Values]) -> None:
    """Add `rate_ratio`: letters a second of speech over the speaker's median, or its inverse, at least 1.

    A speaker who is not known, or has few clips, is measured against all clips.
    """
    rates: dict[str, list[float]] = defaultdict(list)
    for clip in clips:
        if rate := measured[clip.file_id].get("letters_per_second"):
            rates[""].append(rate)
            if clip.speaker_known:
                rates[clip.speaker_id].append(rate)
    usual = {name: statistics.median(own) for name, own in rates.items() if len(own) >= ENOUGH_CLIPS}
    for clip in clips:
        values = measured[clip.file_id]
        rate = values.get("letters_per_second")
        median = usual.get(clip.speaker_id if clip.speaker_known else "", usual.get(""))
        if rate and median and len(georgian_letters(clip.text)) >= ENOUGH_LETTERS:
            values["rate_ratio"] = max(rate / median, median / rate)


def judge(checked: Checked, options: MetadataOptions) -> list[Cost]:
    """Drop the clips beyond the limits that are set, list those beyond the usual ones; what each limit costs."""
    measured = checked.measured or {}
    add_rates(checked.clips, measured)
    if not (trusted := _trusts_speech(checked)):
        checked.clips = [_untrimmed(clip, measured[clip.file_id]["seconds"] or clip.duration) for clip in checked.clips]
    dropped: dict[str, tuple[str, str]] = {}
    for clip in checked.clips:
        values = measured[clip.file_id]
        if trusted and options.min_speech_seconds and _speech(values) < options.min_speech_seconds:
            dropped[clip.file_id] = Flaw.NO_SPEECH, "nobody is heard to speak"
            continue
        for measure, limit in _limits(options):
            if _is_beyond(measure, values, limit):
                detail = _detail(measure, values, limit) + _remark(checked, clip, measure)
                dropped.setdefault(clip.file_id, (measure.flaw, detail))
    before = list(checked.clips)
    checked.drop(dropped)
    for clip in checked.clips:
        values = measured[clip.file_id]
        listed = set()
        if _speech(values) < 0.1:
            checked.suspect(clip.file_id, Flaw.NO_SPEECH, "nobody is heard to speak")
            listed = {Flaw.NO_SPEECH, Flaw.LITTLE_SPEECH, Flaw.LONG_SILENCE, Flaw.ODD_RATE}
        for measure in MEASURES:
            finding = checked.findings.get((clip.file_id, measure.column))
            if finding and finding.suspect is not None:
                odd, detail = finding.suspect, finding.remark
            else:
                odd = _is_beyond(measure, values, measure.usual)
                detail = _detail(measure, values, measure.usual) + _remark(checked, clip, measure) if odd else ""
            if odd and measure.flaw not in listed:
                listed.add(measure.flaw)
                checked.suspect(clip.file_id, measure.flaw, detail)
    return [
        _cost(checked.clips if limit is None else before, measured, measure, limit)
        for measure, limit in _limits(options)
    ]


def _speech(values: Values) -> float:
    return values["speech_seconds"] or 0.0


def _trusts_speech(checked: Checked) -> bool:
    """Whether clips without speech are dropped: not where there are many, which says more about the detector."""
    silent = sum(_speech(values) < 0.1 for values in (checked.measured or {}).values())
    total = len(checked.measured or {})
    if silent <= MOST_WITHOUT_SPEECH * total:
        return True
    few = f"silero-vad hears nobody speak in {silent} of {total} clips, so it does not fit these recordings"
    say(f"{few}: none is dropped or trimmed for it")
    return False


def _untrimmed(clip: Clip, seconds: float) -> Clip:
    gain = clip.cut.gain_db if clip.cut else 0.0
    return replace(clip, cut=Cut(0.0, seconds, gain) if gain else None, duration=seconds)


def _limits(options: MetadataOptions) -> Iterator[tuple[Measure, float | None]]:
    for measure in MEASURES:
        yield measure, getattr(options, measure.option)


def _is_beyond(measure: Measure, values: Values, limit: float | None) -> bool:
    value = values.get(measure.column)
    if measure.flaw == Flaw.NARROW_BAND and value is not None and limit == measure.usual:
        rate = values.get("rate") or 0.0  # a file of 16 kHz says what it is: by the usual limit it is no suspect
        return measure.beyond(value, limit) and value < FULL_BAND * rate / 2
    return measure.beyond(value, limit)


def _detail(measure: Measure, values: Values, limit: float | None) -> str:
    value = values[measure.column] or 0.0
    bound = "least" if measure.low else "most"
    return f"{measure.title} {three_digits(value)} {measure.unit}, where {limit:g} is the {bound}"


def _remark(checked: Checked, clip: Clip, measure: Measure) -> str:
    finding = checked.findings.get((clip.file_id, measure.column))
    return f"; {finding.remark}" if finding and finding.remark else ""


def _cost(clips: list[Clip], measured: Mapping[str, Values], measure: Measure, limit: float | None) -> Cost:
    wanted = measure.usual if limit is None else limit
    beyond, seconds, known = 0, 0.0, 0
    for clip in clips:
        value = measured[clip.file_id].get(measure.column)
        known += value is not None
        if measure.beyond(value, wanted):
            beyond += 1
            seconds += clip.duration
    return Cost(measure, wanted, limit is not None, beyond, seconds, known)
