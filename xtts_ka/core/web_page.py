"""HTML pages that open without a server."""

from __future__ import annotations

from collections.abc import Sequence

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
