"""HTML pages that open without a server."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from xtts_ka.core.console import three_digits

_WIDTH, _HEIGHT = 600, 110  # of a histogram's bars, in pixels
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } th, td { padding: .3em .7em; border-bottom: 1px solid #ddd;
text-align: left; vertical-align: top } td.n { text-align: right; white-space: nowrap } small { color: #666 }
audio { width: 210px; height: 32px } svg text { font: 12px system-ui, sans-serif }
"""


def document(title: str, parts: Sequence[str], style: str = "") -> str:
    """A page of these pieces of HTML. title: of the window; style: CSS beside what all pages have."""
    head = f'<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}{style}</style>'
    return "\n".join(["<!doctype html>", head, *parts, "</html>", ""])


def histogram(values: Sequence[float], low: float, high: float, title: str = "", limit: float | None = None) -> str:
    """Forty bars with the counts of values from `low` to `high`, those outside in the outermost; `limit` as a line."""
    counts, edges = np.histogram(np.clip(values, low, high), 40, (low, high))
    width, tallest = _WIDTH / len(counts), max(1, int(counts.max()))
    bars = "".join(
        f'<rect x="{place * width:.1f}" y="{_HEIGHT - size:.1f}" width="{width - 1:.1f}" height="{size:.1f}" '
        f'fill="#74a9d8"><title>{three_digits(edge)} and more: {count:,}</title></rect>'
        for place, (count, edge) in enumerate(zip(counts.tolist(), edges))
        if (size := _HEIGHT * count / tallest)
    )
    if limit is not None:
        at = _WIDTH * (limit - low) / (high - low)
        bars += f'<path d="M{at:.1f} 0V{_HEIGHT}" stroke="#c92a2a"/>'
    ends = (
        f'<text x="0" y="{_HEIGHT + 16}">{three_digits(low)}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 16}" text-anchor="end">{three_digits(high)}</text>'
    )
    name = f"<figcaption>{escape(title)}</figcaption>" if title else ""
    return f'<figure>{name}<svg width="{_WIDTH + 20}" height="{_HEIGHT + 22}">{bars}{ends}</svg></figure>'
