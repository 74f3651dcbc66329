"""recordings_report.html: how good the recordings are, what each limit would cost, and the worst clips to listen to."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from xtts_ka.core.console import progress, three_digits
from xtts_ka.core.files import write_text
from xtts_ka.core.web_page import document, histogram
from xtts_ka.corpus.audio import read_mono
from xtts_ka.corpus.player import player
from xtts_ka.corpus.quality_judging import Cost
from xtts_ka.corpus.screening import Checked
from xtts_ka.corpus.tables import Clip

PAGE = "recordings_report.html"
WORST = 20  # clips of each measure that get a player
HEARD = 12.0  # seconds of each, at most
_STYLE = "figure { margin: 0 } .gone { color: #c92a2a } summary { cursor: pointer }"


def write_page(output_dir: Path, checked: Checked, costs: Sequence[Cost]) -> Path:
    """Write the page into the output folder; return its path. Every clip that was measured is in it, kept or not."""
    clips = [*checked.clips, *checked.gone]
    reasons: dict[str, list[str]] = {}
    for file_id, action, reason, *_ in checked.lines:
        if action != "mended":
            reasons.setdefault(file_id, []).append(f"{'dropped' if action == 'dropped' else 'listed'}: {reason}")
    hours = math.fsum(clip.duration for clip in checked.clips) / 3600
    known = [cost for cost in costs if cost.known]
    # One element for each clip, which may be among the worst of several measures.
    player_of = functools.cache(lambda path: player(*read_mono(path, HEARD)))
    parts = [
        "<h1>The recordings</h1>",
        f"<p>{len(checked.clips)} clips are kept, {hours:.2f} hours of what is read. {len(checked.gone)} were dropped "
        f"for their quality. The columns of the same names in the split tables hold the figures.</p>",
        "<h2>What limits cost</h2>",
        _costs(known),
    ]
    for cost in progress(known, what="recordings report", unit="measure"):
        parts.append(_section(cost, clips, checked, reasons, player_of))
    page = output_dir / PAGE
    write_text(page, document("Recordings", parts, _STYLE))
    return page


def _costs(costs: Sequence[Cost]) -> str:
    rows = ["<tr><th>Measure</th><th>Option</th><th>Limit</th><th>Clips beyond</th><th>Hours</th></tr>"]
    for cost in costs:
        measure = cost.measure
        state = "set" if cost.is_set else "usual; off, so that such clips are kept and listed"
        rows.append(
            f"<tr><td>{escape(measure.title)}</td><td><code>--{measure.option}</code></td>"
            f"<td>{cost.limit:g} {escape(measure.unit)} <small>{state}</small></td>"
            f"<td class=n>{cost.beyond} of {cost.known}</td><td class=n>{cost.seconds / 3600:.2f}</td></tr>"
        )
    return f"<table>{''.join(rows)}</table>"


def _section(
    cost: Cost, clips: Sequence[Clip], checked: Checked, reasons: dict[str, list[str]], player_of: Callable[[Path], str]
) -> str:
    measure, measured = cost.measure, checked.measured or {}
    valued = [(value, clip) for clip in clips if (value := measured[clip.file_id].get(measure.column)) is not None]
    valued.sort(key=lambda pair: (pair[0], pair[1].file_id), reverse=not measure.low)
    worst = valued[:WORST]
    remarks = {
        clip.file_id: checked.findings[clip.file_id, measure.column].remark
        for _, clip in worst
        if (clip.file_id, measure.column) in checked.findings
    }
    rows = [
        _row(value, clip, player_of(clip.audio_path), reasons.get(clip.file_id, []), remarks.get(clip.file_id, ""))
        for value, clip in worst
    ]
    table = f"<table><tr><th>Value</th><th></th><th>Clip</th><th>Text</th></tr>{''.join(rows)}</table>"
    return (
        f"<h2>{escape(_opened(measure.title))}</h2><p>{escape(_opened(measure.about))} ({escape(measure.unit)})."
        f"</p>{_histogram([value for value, _ in valued], cost)}"
        f"<details><summary>the {len(rows)} {'lowest' if measure.low else 'highest'}</summary>{table}</details>"
    )


def _opened(words: str) -> str:
    """With a capital first letter."""
    return words[:1].upper() + words[1:]


def _row(value: float, clip: Clip, sound: str, reasons: Sequence[str], remark: str) -> str:
    why = "".join(f"<br><small class=gone>{escape(reason)}</small>" for reason in reasons)
    return (
        f"<tr><td class=n>{three_digits(value)}</td><td>{sound}</td>"
        f"<td>{escape(clip.file_id)}<br><small>{escape(clip.speaker_id)}, {clip.duration:.1f} s</small>{why}</td>"
        f"<td>{escape(clip.text[:300])}<br><small>{escape(remark[:300])}</small></td></tr>"
    )


def _histogram(values: Sequence[float], cost: Cost) -> str:
    """Counts of the values, the outermost hundredth at either end in the outermost bars, and the limit as a line."""
    low, high = np.percentile(values, [1, 99])
    low, high = min(low, cost.limit), max(high, cost.limit)
    return histogram(values, low, high if high > low else low + 1, limit=cost.limit)
