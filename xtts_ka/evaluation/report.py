"""Writes report.json, results.csv and report.html. Two reports of the same clips differ in their times alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xtts_ka.core.files import json_bytes, write_bytes
from xtts_ka.core.lock import utc_now
from xtts_ka.evaluation.evaluate import Outcome
from xtts_ka.evaluation.figures import GUARD, Measured, figures, grouped, real_time_factor
from xtts_ka.evaluation.report_page import page
from xtts_ka.recognition.listener import Listener

SCHEMA = 1
NAMES = ("report.json", "results.csv", "report.html")


def write_report(outcome: Outcome, settings: dict[str, Any], output: Path) -> dict[str, Any]:
    """Write the three files into `output`, report.json last; returns what it holds. settings: what was asked for."""
    report = build_report(outcome, settings)
    audio = {clip.wav_key: output / "clips" / f"{clip.wav_key}.wav" for clip in outcome.clips}
    html = page(report, outcome, audio)
    write_bytes(output / "results.csv", results_table(outcome))
    write_bytes(output / "report.html", html.encode("utf-8"))
    write_bytes(output / "report.json", json_bytes(report, indent=2))
    return report


def build_report(outcome: Outcome, settings: dict[str, Any]) -> dict[str, Any]:
    """The figures by the first listener; with several models or listeners also those of each."""
    by_listener = {listener.name: _by(listener, outcome) for listener in outcome.listeners}
    first = by_listener[outcome.listeners[0].name]
    report = {"schema": SCHEMA, "notes": outcome.notes, **first}
    if len(by_listener) > 1:
        report["listeners"] = by_listener
    times = {label: real_time_factor([c for c in outcome.clips if c.model == label]) for label in outcome.labels}
    report["settings"] = {**settings, "voices_known": outcome.voices}
    report["times"] = {"written": utc_now(), "real_time_factor": times}
    return report


def _by(listener: Listener, outcome: Outcome) -> dict[str, Any]:
    """What one listener says of the recordings and the models."""
    name, voices = listener.name, outcome.voices
    floor = figures(outcome.floor, name, voices)
    recogniser = {"name": name, "cer": floor["cer"], "wer": floor["wer"], "clips": floor["clips"]}
    by_model = {
        label: grouped([clip for clip in outcome.clips if clip.model == label], name, voices)
        for label in outcome.labels
    }
    label = outcome.labels[0]
    found = {"recogniser": recogniser, "floor": floor, "model": {"label": label, **by_model[label]}}
    return found | ({"models": by_model} if len(by_model) > 1 else {})


# ── results.csv ──────────────────────────────────────────────────────────────────────────────────────────────────────

_COLUMNS: dict[str, Callable[[Measured, str], Any]] = {
    "model": lambda clip, name: clip.model or "recording",
    "voice": lambda clip, name: clip.voice,
    "kind": lambda clip, name: clip.kind,
    "seed": lambda clip, name: clip.seed,
    "text": lambda clip, name: clip.text,
    "expected": lambda clip, name: clip.expected,
    "listener": lambda clip, name: name,
    "heard": lambda clip, name: clip.heard[name],
    "letters": lambda clip, name: clip.errors[name].letters,
    "wrong_letters": lambda clip, name: clip.errors[name].wrong_letters,
    "words": lambda clip, name: clip.errors[name].words,
    "wrong_words": lambda clip, name: clip.errors[name].wrong_words,
    "faults": lambda clip, name: " ".join(sorted(clip.faults[name])),
    "similarity": lambda clip, name: _rounded(clip.similarity),
    "nearest_voice": lambda clip, name: clip.nearest,
    "seconds": lambda clip, name: _rounded(clip.seconds),
    "letters_per_second": lambda clip, name: _rounded(clip.rate),
    "codes": lambda clip, name: clip.codes,
    "stopped": lambda clip, name: int(clip.stopped),
    "dnsmos": lambda clip, name: _rounded(clip.dnsmos),
    "attempts": lambda clip, name: clip.guard and clip.guard["attempts"],
    "guard_first": lambda clip, name: clip.guard and " ".join(clip.guard["first"]),
    "guard_left": lambda clip, name: clip.guard and " ".join(clip.guard["left"]),
    "clip": lambda clip, name: f"clips/{clip.wav_key}.wav" if clip.model else clip.wav_key,
    "seconds_taken": lambda clip, name: clip.seconds_taken,
}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def results_table(outcome: Outcome) -> bytes:
    """A row for each clip and listener, the recordings last."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for clip in [*outcome.clips, *outcome.floor]:
        for listener in outcome.listeners:
            writer.writerow([_harmless(column(clip, listener.name)) for column in _COLUMNS.values()])
    return text.getvalue().encode("utf-8")


def _harmless(cell: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip()[:1] in tuple("=+-@") else cell


def summary_lines(report: dict[str, Any]) -> Sequence[str]:
    """The main figures for the terminal."""
    lines = []
    for name, part in (report.get("listeners") or {report["recogniser"]["name"]: report}).items():
        lines.append(f"heard by {name}")
        rows = [(f"{part['floor']['clips']} recordings", part["floor"])]
        rows += [
            (label, found) for label, found in (part.get("models") or {part["model"]["label"]: part["model"]}).items()
        ]
        for label, found in rows:
            shown = [f"{title} {shown_share(found[key])}" for title, key in _SUMMED]
            lines.append(f"  {label}: {', '.join(shown)}")
            lines.append("    faults: " + ", ".join(f"{kind} {shown_share(f)}" for kind, f in found["faults"].items()))
            if (guard := found["guard"])["second_attempt"]["value"] is not None:
                again, first, left = (shown_share(guard[name]) for name in GUARD)
                lines.append(f"    guard: spoken again {again}, with a fault at first {first}, at last {left}")
    return lines


_SUMMED = (("CER", "cer"), ("WER", "wer"), ("perfect", "perfect"), ("right voice", "top1"))


def shown_share(figure: dict[str, float | None]) -> str:
    """A share as percent with its interval, – where it was not measured."""
    if figure["value"] is None:
        return "–"
    value, low, high = (100 * (figure[part] or 0.0) for part in ("value", "low", "high"))
    return f"{value:.1f} % ({low:.1f}–{high:.1f})"
