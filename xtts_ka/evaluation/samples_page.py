"""The page `index.html` beside the rounds of samples: players, mel pictures, what was heard; the newest round first."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from xtts_ka.core.files import read_json, write_text
from xtts_ka.core.web_page import document
from xtts_ka.training.checkpoint_folders import STEP, subfolders

FACTS = "samples.json"
_STYLE = "img { height: 80px; max-width: 400px }"
_TITLES = {  # metric → its name and form
    "cer": ("wrong letters (CER)", "{:.1%}"),
    "recogniser_cer": ("the recogniser's own on real recordings", "{:.1%}"),
    "wer": ("wrong words", "{:.1%}"),
    "similarity": ("voice similarity", "{:.3f}"),
    "fault_rate": ("clips with a fault", "{:.0%}"),
}


def write_page(folder: Path) -> None:
    """Write `folder/index.html` of the rounds in it."""
    rounds = [path / FACTS for path, _ in reversed(subfolders(folder, STEP)) if (path / FACTS).is_file()]
    parts = [_round(read_json(path, "a round of samples", "delete its folder"), path.parent.name) for path in rounds]
    write_text(folder / "index.html", document("Samples", ["<h1>Samples while training</h1>", *parts], _STYLE))


def _round(facts: dict[str, Any], folder: str) -> str:
    found = [f"{title} {form.format(facts['figures'][name])}" for name, (title, form) in _TITLES.items()
             if name in facts["figures"]]  # fmt: skip
    rows = [_row(clip, f"{folder}/{clip['file'].removesuffix('.wav')}") for clip in facts["clips"]]
    listener = f" <small>heard by {escape(facts['listener'])}</small>"
    return f"<h2>step {facts['step']}</h2><p>{', '.join(found)}{listener}</p><table>{''.join(rows)}</table>"


def _row(clip: dict[str, Any], path: str) -> str:
    """path: of the clip's files, without their suffix."""
    player = f'<audio controls preload=none src="{escape(path)}.wav"></audio>'
    picture = f'<img loading=lazy alt="" src="{escape(path)}.png">'
    said = f"{escape(clip['text'])}<br><small>{escape(clip['heard'] or '')}</small>"
    cells = (escape(clip["voice"]), player, picture, said, ", ".join(clip["faults"]))
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
