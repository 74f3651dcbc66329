"""Reads who says what when: SRT, WebVTT, TextGrid, ELAN (.eaf), Audacity's labels, WhisperX's JSON.

Each format is one small reader from text to cues. The times in such files are hints, not boundaries: subtitles stay on
the screen longer than the speech, and people place labels by eye (cue_fitting.py corrects them).
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.delimited import decode
from xtts_ka.georgian.alphabet import is_georgian

MAX_BYTES = 2**26  # of a file with times: a day of subtitles has 5 MB
_SILENCES = ("", "sp", "sil", "spn", "pau", "<eps>", "<p:>", "<sil>", "#")  # as aligners write them
_SAMPLE = 4096  # characters that tell whether a .txt file holds labels


@dataclass(frozen=True, slots=True)
class Cue:
    """One text with the seconds between which it is said, and who says it, "" where the file does not tell."""

    start: float
    end: float
    text: str
    speaker: str = ""

    @property
    def has_times(self) -> bool:
        return 0 <= self.start < self.end


class SubtitleError(UserError):
    """A file with times cannot be read: the sentence names it."""


def read_cues(path: Path | str) -> list[Cue]:
    """The cues of a file in their order in time; blank texts are left out. SubtitleError where there are none.

    Cues without times, or that end before they begin, are among them.
    """
    path = Path(path)
    text = _text(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise SubtitleError(f"{path} has no suffix of a file with times: rename it to one of {', '.join(READERS)}")
    try:
        cues = [cue for cue in reader(text) if _says_something(cue) and 0 <= cue.start + cue.end < math.inf]
    except (ValueError, LookupError, TypeError, AttributeError, ElementTree.ParseError, RecursionError) as error:
        raise SubtitleError(f"{path} is no valid {path.suffix} file ({error}): export it again") from None
    if not any(cue.has_times for cue in cues):
        raise SubtitleError(f"{path} holds no text with times: export it again, or delete it")
    return sorted(cues, key=lambda cue: (cue.start, cue.end))


def _says_something(cue: Cue) -> bool:
    return cue.text.strip().lower() not in _SILENCES


def has_times(path: Path) -> bool:
    """Whether a file is one with times, and not a plain text. A .txt file is one where its first line is a label."""
    suffix = path.suffix.lower()
    if suffix not in _BY_CONTENT:
        return suffix in READERS
    with open(path, "rb") as file:
        head = file.read(_SAMPLE)
    first = next((line for line in head.decode("utf-8-sig", "replace").splitlines() if line.strip()), "")
    return _LABEL.match(first) is not None


def plain_text(path: Path) -> str:
    """A book's text. UserError where it is not UTF-8 (or marked UTF-16), or is empty."""
    text = _text(path)
    if not text.strip():
        raise UserError(f"{path} is empty: give the text that is read")
    return text


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SubtitleError(f"{path} has {path.stat().st_size:,} bytes, which is no transcript: split it")
        return decode(path.read_bytes())
    except UnicodeDecodeError:
        raise SubtitleError(f"{path} is not UTF-8: save it as UTF-8") from None
    except OSError as error:
        raise SubtitleError(f"{path} cannot be read ({error.strerror})") from None


# ── SRT and WebVTT ───────────────────────────────────────────────────────────────────────────────────────────────────

_CLOCK = r"((?:\d+\s?:\s?)?\d+\s?:\s?\d+(?:\s?[.,]\s?\d+)?)"  # milliseconds are missing in some files
_TIMES = re.compile(rf"^\s*{_CLOCK}\s*-{{1,2}}>\s*{_CLOCK}(?!\d).*$", re.M)
_NUMBER = re.compile(r"(?:^|\n)\s*\d+\s*$")  # of the next cue, where no blank line is before it
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
_STYLES = re.compile(r"</?(?:[biuscv]|font|ruby|rt|lang)\b[^>]*>|<\d[\d:.]*>|\{\\[^}]*\}", re.I)


def _seconds(time: str) -> float:
    parts = "".join(time.split()).replace(",", ".").split(":")
    return sum(float(part) * 60**power for power, part in enumerate(reversed(parts)))


def _captions(text: str) -> Iterator[Cue]:
    """SRT and WebVTT: a line `00:01:02,345 --> 00:01:05,678` and the lines below it up to a blank one, or the next."""
    text = re.sub(r"\r{0,2}\n|\r", "\n", text)
    matches = list(_TIMES.finditer(text))
    nexts = [match.start() for match in matches[1:]] + [len(text)]
    for match, end in zip(matches, nexts):
        body, blank, _ = text[match.end() + 1 : end].partition("\n\n")
        if not blank and end < len(text):
            body = _NUMBER.sub("", body)
        if body.startswith("\n") or not body:
            continue  # a cue without text
        voice = _VOICE.search(body)
        said = html.unescape(_STYLES.sub("", body)).replace(r"\N", "\n")
        yield Cue(_seconds(match[1]), _seconds(match[2]), said, html.unescape(voice[1].strip()) if voice else "")


# ── Praat's TextGrid ─────────────────────────────────────────────────────────────────────────────────────────────────

_GRID_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<![\w.\[])(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\w.\]])')


def _text_grid(text: str) -> Iterator[Cue]:
    """Both of Praat's text formats: without their labels (`xmin =`) they are the same quoted texts and numbers."""
    tokens = iter([m[1].replace('""', '"') if m[2] is None else float(m[2]) for m in _GRID_TOKEN.finditer(text)])
    if next(tokens, "") != "ooTextFile" or next(tokens, "") != "TextGrid":
        raise ValueError("it does not begin as a TextGrid")
    tiers: list[tuple[str, list[Cue]]] = []
    for token in tokens:
        if token not in ("IntervalTier", "TextTier"):
            continue
        name, _, _, count = (next(tokens) for _ in range(4))
        rows = [tuple(next(tokens) for _ in range(3 if token == "IntervalTier" else 2)) for _ in range(int(count))]
        if token == "IntervalTier":
            tiers.append((str(name), [Cue(float(start), float(end), str(said)) for start, end, said in rows]))
    yield from _of_tiers(tiers)


# ── ELAN ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _elan(text: str) -> Iterator[Cue]:
    root = ElementTree.fromstring(text.encode("utf-8") if not text.startswith("<?xml") else text.partition("?>")[2])
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    tiers: list[tuple[str, list[Cue]]] = []
    for tier in root.iter("TIER"):
        cues = []
        for note in tier.iter("ALIGNABLE_ANNOTATION"):
            start, end = (times.get(note.get(f"TIME_SLOT_REF{i}")) for i in (1, 2))
            if start and end:
                cues.append(Cue(int(start) / 1000, int(end) / 1000, note.findtext("ANNOTATION_VALUE") or ""))
        tiers.append((tier.get("PARTICIPANT") or tier.get("TIER_ID") or "", cues))
    yield from _of_tiers(tiers)


def _of_tiers(tiers: Iterable[tuple[str, list[Cue]]]) -> Iterator[Cue]:
    """The cues of the tiers that hold what is said: those in Georgian, and of several on one speech the coarsest.

    A tier of words or phones repeats what stands in that of the sentences. Tiers that hold different speech are
    different people, and their names are kept.
    """
    spoken = [(name, [cue for cue in cues if _says_something(cue)]) for name, cues in tiers]
    georgian = [(name, cues) for name, cues in spoken if cues and _mostly_georgian(cues)]
    spoken = georgian or [(name, cues) for name, cues in spoken if cues]
    spoken.sort(key=lambda tier: len("".join(cue.text for cue in tier[1])) / len(tier[1]), reverse=True)
    chosen: list[tuple[str, list[Cue]]] = []
    for name, cues in spoken:
        if not any(_same_letters(cues, others) for _, others in chosen):
            chosen.append((name, cues))
    for name, cues in chosen:
        yield from (Cue(cue.start, cue.end, cue.text, name if len(chosen) > 1 else "") for cue in cues)


def _mostly_georgian(cues: list[Cue]) -> bool:
    return sum(is_georgian(cue.text) for cue in cues) * 2 > len(cues)


def _same_letters(cues: list[Cue], others: list[Cue]) -> bool:
    one, other = (re.sub(r"[\W_]+", "", "".join(cue.text for cue in tier)) for tier in (cues, others))
    return bool(one) and one == other


# ── Audacity, WhisperX ───────────────────────────────────────────────────────────────────────────────────────────────

_LABEL = re.compile(r"^\s*(\d+(?:[.,]\d+)?)\t(\d+(?:[.,]\d+)?)\t(.*)$")


def _labels(text: str) -> Iterator[Cue]:
    """Audacity's labels: start, end and text with tabs between; lines with a backslash hold frequencies."""
    for line in text.splitlines():
        if match := _LABEL.match(line):
            start, end = (float(match[i].replace(",", ".")) for i in (1, 2))
            yield Cue(start, end, match[3])


def _whisperx(text: str) -> Iterator[Cue]:
    """WhisperX's and Whisper's JSON: {"segments": [{"start", "end", "text", "speaker"}]}; transformers' "chunks".

    What has no time begins and ends at 0.
    """
    data: Any = json.loads(text)
    parts = data.get("segments", data.get("chunks")) if isinstance(data, dict) else data
    if not isinstance(parts, list):
        raise ValueError("it has no list of segments")
    for part in parts:
        start, end = part["timestamp"] if "timestamp" in part else (part["start"], part["end"])
        times = (0.0, 0.0) if start is None or end is None else (float(start), float(end))
        yield Cue(*times, str(part["text"]), str(part.get("speaker") or ""))


READERS: dict[str, Callable[[str], Iterator[Cue]]] = {
    ".srt": _captions,
    ".vtt": _captions,
    ".textgrid": _text_grid,
    ".eaf": _elan,
    ".json": _whisperx,
    ".txt": _labels,
    ".tsv": _labels,
}
_BY_CONTENT = (".txt", ".tsv")
