"""What became of long recordings: metadata.csv, left_out.csv and recordings_report.html."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from xtts_ka.core.console import duration, say
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import write_text
from xtts_ka.core.web_page import document, histogram
from xtts_ka.corpus.planned_clips import PlannedClip
from xtts_ka.corpus.preparation_store import WAVS, Outcome, wav_name

TABLE, LEFT_OUT, PAGE = "metadata.csv", "left_out.csv", "recordings_report.html"
HEADER = ("audio_file", "text", "speaker_name", "source_file", "source_start", "source_end", "confidence")
SHOWN = 20  # clips, and parts left out for each reason, on the page
_STYLE = "figure { display: inline-block; margin: 0 2em 1em 0 } .problem { color: #c92a2a }"


def write_results(output: Path, outcomes: Sequence[Outcome], recordings: int) -> None:
    """Write the three files over all finished recordings. UserError where none of them gave a clip."""
    clips = [(outcome, clip) for outcome in outcomes for clip in outcome.plan.clips]
    if not clips:
        raise UserError(_why_none(outcomes))
    _write_csv(output / TABLE, HEADER, (_row(outcome, clip) for outcome, clip in clips), "|")
    left = (
        (outcome.name, _time(each.start), _time(each.end), each.reason, each.detail, each.text)
        for outcome in outcomes
        for each in outcome.plan.left
    )
    problems = ((outcome.name, "", "", "recording", outcome.problem, "") for outcome in outcomes if outcome.problem)
    header = ("source_file", "source_start", "source_end", "reason", "detail", "text")
    _write_csv(output / LEFT_OUT, header, (*problems, *left), ",")
    write_text(output / PAGE, _page(outcomes, recordings))


def say_results(output: Path, outcomes: Sequence[Outcome], recordings: int) -> None:
    """Print what was made of how much, and why the rest was left out."""
    clips = [clip for outcome in outcomes for clip in outcome.plan.clips]
    reasons = Counter(each.reason.value for outcome in outcomes for each in outcome.plan.left)
    spoken = sum(clip.end - clip.start for clip in clips)
    total = sum(outcome.seconds for outcome in outcomes)
    say(f"\n{len(clips):,} clips, {duration(spoken)} of {duration(total)}, from {len(outcomes):,} recordings")
    if len(outcomes) < recordings:
        say(f"{recordings - len(outcomes):,} recordings are not finished: another shard's, or run the command again")
    if reasons:
        say("left out: " + ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common()))
    say(f"written: {', '.join(str(output / name) for name in (TABLE, LEFT_OUT, PAGE))}")


def _why_none(outcomes: Sequence[Outcome]) -> str:
    problems = [f"{outcome.name}: {outcome.problem}" for outcome in outcomes if outcome.problem]
    if problems:
        return f"no clip could be made: {'; '.join(problems[:3])}"
    reasons = Counter(each.reason.value for outcome in outcomes for each in outcome.plan.left)
    why = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(4)) or "no recording is finished"
    return f"no clip could be made ({why}): listen to a recording and compare it with its transcript"


def _row(outcome: Outcome, clip: PlannedClip) -> tuple[str, ...]:
    file = f"{WAVS}/{wav_name(outcome.key, clip)}"
    return (file, clip.text, clip.speaker, outcome.name, _time(clip.start), _time(clip.end), f"{clip.confidence:.3f}")


def _time(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds >= 0 else ""


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]], delimiter: str) -> None:
    table = io.StringIO()
    writer = csv.writer(table, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, table.getvalue())


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _page(outcomes: Sequence[Outcome], recordings: int) -> str:
    clips = [(outcome, clip) for outcome in outcomes for clip in outcome.plan.clips]
    seconds = [clip.end - clip.start for _, clip in clips]
    parts = [
        f"<p>{len(clips):,} clips, {duration(sum(seconds))} of {duration(sum(o.seconds for o in outcomes))}, from "
        f"{len(outcomes):,} of {recordings:,} recordings.</p>",
        histogram(seconds, 0.0, 20.0, "Length of the clips, seconds"),
        histogram([clip.confidence for _, clip in clips], 0.0, 1.0, "Confidence of the clips"),
        "<h2>Recordings</h2>" + _recordings(outcomes),
        "<h2>Left out</h2>" + _left(outcomes),
        f"<h2>The {SHOWN} least sure clips</h2>" + _least_sure(clips),
    ]
    return document("Recordings", ["<h1>Long recordings cut into clips</h1>", *parts], _STYLE)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _recordings(outcomes: Sequence[Outcome]) -> str:
    rows = []
    for outcome in outcomes:
        spoken = sum(clip.end - clip.start for clip in outcome.plan.clips)
        remarks = escape("; ".join(outcome.plan.remarks))
        problem = f"<span class=problem>{escape(outcome.problem)}</span>" if outcome.problem else remarks
        counts = (f"{len(outcome.plan.clips):,}", duration(spoken), f"{len(outcome.plan.left):,}")
        rows.append((escape(outcome.name), duration(outcome.seconds), *counts, problem))
    return _table(("Recording", "Length", "Clips", "Speech in clips", "Parts left out", ""), rows)


def _left(outcomes: Sequence[Outcome]) -> str:
    """Counts and hours of each reason, and its longest examples."""
    by_reason = defaultdict(list)
    for outcome in outcomes:
        for each in outcome.plan.left:
            by_reason[each.reason.value].append((outcome, each))
    parts = []
    for reason, found in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        length = sum(each.end - each.start for _, each in found)
        found.sort(key=lambda pair: (pair[1].start - pair[1].end, -len(pair[1].text)))
        rows = [
            (
                escape(outcome.name),
                f"{_time(each.start)}–{_time(each.end)}" if each.start >= 0 else "",
                escape(each.text[:300]),
                escape(each.detail),
            )
            for outcome, each in found[:SHOWN]
        ]
        parts.append(f"<h3>{escape(reason)}: {len(found):,}{f', {duration(length)}' if length >= 1 else ''}</h3>")
        parts.append(_table(("Recording", "Seconds", "Text", ""), rows))
    return "".join(parts) or "<p>Nothing.</p>"


def _least_sure(clips: Sequence[tuple[Outcome, PlannedClip]]) -> str:
    worst = sorted(clips, key=lambda pair: pair[1].confidence)[:SHOWN]
    rows = [
        (
            f'<audio controls preload="none" src="{WAVS}/{escape(wav_name(outcome.key, clip))}"></audio>',
            f"{clip.confidence:.2f}",
            escape(clip.text),
            f"<small>{escape(outcome.name)}, {clip.start:.1f} s</small>",
        )
        for outcome, clip in worst
    ]
    return _table(("", "Confidence", "Text", "From"), rows)
