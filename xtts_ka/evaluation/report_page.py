"""report.html: one file that opens without a server, with players, marked letters, tables and plots."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from xtts_ka.core.console import progress
from xtts_ka.core.web_page import document
from xtts_ka.corpus.audio import read_mono
from xtts_ka.corpus.player import player
from xtts_ka.evaluation.character_errors import marked
from xtts_ka.evaluation.evaluate import Outcome
from xtts_ka.evaluation.figures import Measured
from xtts_ka.recognition.faults import KINDS

Found = Mapping[str, Any]
_STYLE = """
.note { background: #fff3cd; padding: .6em 1em } .wrong { background: #ffc9c9 } .extra { background: #d0ebff }
.missing { color: #c92a2a; text-decoration: line-through }
.fault { background: #e03131; color: white; border-radius: 3px; padding: 0 .3em; font-size: 85% }
figure { display: inline-block; margin: 0 2em 1em 0 }
"""
_ROWS = (  # title, key, percent?
    ("wrong letters (CER)", "cer", True),
    ("wrong words (WER)", "wer", True),
    ("perfect clips", "perfect", True),
    ("clips with a fault", "any_fault", True),
    ("voice similarity (cosine)", "similarity", False),
    ("nearest to the right voice", "top1", True),
    ("letters a second", "letters_per_second", False),
    ("DNSMOS (1–5)", "dnsmos", False),
)
_GUARD_ROWS = (
    ("spoken again by the guard", "second_attempt"),
    ("with a fault at first, by the guard", "faults_first"),
    ("with a fault at last, by the guard", "faults_left"),
)


def page(report: Found, outcome: Outcome, audio: Mapping[str, Path]) -> str:
    """The whole page. audio: clip's key → wav, of the clips that get a player."""
    parts = [f"<p class=note>{escape(note)}</p>" for note in report["notes"]]
    for name, found in (report.get("listeners") or {report["recogniser"]["name"]: report}).items():
        parts.append(f"<h2>As heard by {escape(name)}</h2>")
        parts += _figures(found)
    parts.append("<h2>Clips</h2>" + _LEGEND)
    parts.append(_clips(outcome, audio))
    factors = ", ".join(
        f"{escape(label)} {'–' if factor is None else factor}"
        for label, factor in report["times"]["real_time_factor"].items()
    )
    times = f"<p class=times>Written {report['times']['written']}. Real-time factor (below 1 is faster than speech): "
    parts.append(f"{times}{factors}.</p>")
    return document("Evaluation", [f"<h1>Evaluation of {escape(', '.join(outcome.labels))}</h1>", *parts], _STYLE)


# ── tables and plots ─────────────────────────────────────────────────────────────────────────────────────────────────


def _figures(found: Found) -> list[str]:
    models = found.get("models") or {found["model"]["label"]: found["model"]}
    columns = {"real recordings": found["floor"], **models}
    parts = [
        f"<p>The recordings are {found['floor']['clips']} of the test split, which nothing was trained on: what the "
        "listener gets wrong there is its own error. In brackets: 95 % intervals.</p>",
        _table(columns),
        _bars("Faults, share of clips", {kind: {k: v["faults"][kind] for k, v in columns.items()} for kind in KINDS}),
    ]
    for label, model in models.items():
        for title, key in (("kind of text", "by_kind"), ("voice", "by_voice")):
            parts.append(f"<h3>{escape(label)} by {title}</h3>")
            parts.append(_bars("Wrong letters (CER)", {name: {label: v["cer"]} for name, v in model[key].items()}))
            parts.append(_table(model[key]))
    return parts


def _table(columns: Mapping[str, Found]) -> str:
    """A column for each set of figures, a row for each figure."""
    head = "".join(
        f"<th>{escape(name)}<br><small>{found['clips']} clips</small></th>" for name, found in columns.items()
    )
    rows = [
        (title, [_cell(found[key], percent) for found in columns.values()])
        for title, key, percent in _ROWS
        if any(found[key]["value"] is not None for found in columns.values())
    ]
    rows += [
        (title, [_cell(found["guard"][key], True) for found in columns.values()])
        for title, key in _GUARD_ROWS
        if any(found["guard"][key]["value"] is not None for found in columns.values())
    ]
    rows += [(f"fault: {kind}", [_cell(found["faults"][kind], True) for found in columns.values()]) for kind in KINDS]
    body = "".join(f"<tr><th>{title}</th>{''.join(cells)}</tr>" for title, cells in rows)
    return f"<table><tr><th></th>{head}</tr>{body}</table>"


def _cell(figure: Found, percent: bool) -> str:
    if figure["value"] is None:
        return "<td class=n>–</td>"
    scale, form = (100, "{:.1f}") if percent else (1, "{:.2f}")
    value, low, high = (form.format(scale * figure[part]) for part in ("value", "low", "high"))
    return f"<td class=n>{value}{' %' * percent} <small>({low}–{high})</small></td>"


def _bars(title: str, groups: Mapping[str, Mapping[str, Found]]) -> str:
    """A bar with its interval for each share in each group, as SVG."""
    bars, y = [], 24
    colours = ("#adb5bd", "#1971c2", "#2f9e44", "#e8590c", "#9c36b5")
    for group, figures in groups.items():
        bars.append(f'<text x="150" y="{y + 12}" text-anchor="end">{escape(group)}</text>')
        for place, (name, figure) in enumerate(figures.items()):
            if figure["value"] is not None:
                value, low, high = (160 + 300 * min(1.0, figure[part]) for part in ("value", "low", "high"))
                colour = colours[(place + (len(figures) == 1)) % len(colours)]
                bars.append(
                    f'<rect x="160" y="{y}" width="{value - 160:.1f}" height="14" fill="{colour}">'
                    f"<title>{escape(name)}</title></rect>"
                    f'<path d="M{low:.1f} {y + 7}H{high:.1f}" stroke="#000"/>'
                    f'<text x="{max(value, high) + 6:.1f}" y="{y + 12}">{100 * figure["value"]:.1f} %</text>'
                )
            y += 17
        y += 5
    return (
        f'<figure><svg width="540" height="{y}"><text x="0" y="14">{escape(title)}</text>{"".join(bars)}</svg></figure>'
    )


# ── clips ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_LEGEND = (
    "<p>In what was heard: <span class=wrong>another letter</span>, <span class=extra>added</span>, "
    "<span class=missing>missing</span>.</p>"
)


def _clips(outcome: Outcome, audio: Mapping[str, Path]) -> str:
    names = [listener.name for listener in outcome.listeners]
    rows = [
        "<tr><th>Voice, kind</th><th></th><th>Text</th>"
        + "".join(f"<th>Heard by {escape(name)}</th>" for name in names)
        + "<th>Voice similarity</th></tr>"
    ]
    several = len(outcome.labels) > 1
    for clip in progress(outcome.clips, what="report", unit="clip"):
        who = f"{escape(clip.model)}<br>" * several + f"{escape(clip.voice)}<br><small>{clip.kind}, {clip.seed}</small>"
        cells = [who, _player(audio[clip.wav_key]), _text(clip), *(_heard(clip, name) for name in names)]
        similarity = "" if clip.similarity is None else f"{clip.similarity:.2f}"
        nearest = clip.nearest if clip.nearest and clip.nearest != clip.voice else ""
        cells.append(f"{similarity}<br><small>{'nearer to ' * bool(nearest)}{escape(nearest)}</small>")
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<table>{''.join(rows)}</table>"


def _text(clip: Measured) -> str:
    attempts = clip.guard["attempts"] if clip.guard else 1
    again = f", {attempts} attempts" if attempts > 1 else ""
    return f"{escape(clip.text)}<br><small>{clip.seconds:.1f} s{again}</small>"


def _heard(clip: Measured, listener: str) -> str:
    marks = "".join(
        escape(letters) if kind == "equal" else f"<span class={kind}>{escape(letters)}</span>"
        for kind, letters in marked(clip.expected, clip.heard[listener])
    )
    errors = clip.errors[listener]
    faults = "".join(f" <span class=fault>{kind}</span>" for kind in sorted(clip.faults[listener]))
    return f"{marks}<br><small>{errors.wrong_letters} of {errors.letters} wrong</small>{faults}"


def _player(wav: Path) -> str:
    return player(*read_mono(wav))
