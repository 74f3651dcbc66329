"""From captions as they are shown to what is said in each.

Three kinds of captions show more than the words that are spoken meanwhile: roll-up captions (YouTube's, broadcasters')
repeat the lines before, bilingual ones add a translation, and some name the speaker before a colon.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from xtts_ka.corpus.subtitles import Cue
from xtts_ka.corpus.transcripts import is_name, label_of
from xtts_ka.georgian.alphabet import is_georgian

SAME_TIME = 0.5  # of the shorter cue, from where on two are shown together
_ROLLING = 0.5  # share of the cues with new lines that repeat the one before first, from where on captions roll up
_BILINGUAL = 0.5  # share of the Georgian cues that have a translation
_LABELLED = 0.1  # share of the cues with a label, from where on one that recurs is a speaker whatever it is


def spoken_cues(cues: Sequence[Cue]) -> tuple[list[Cue], list[str]]:
    """(the cues in their order with what is said in each, remarks on what was left out)."""
    rolled = _without_repeats(cues)
    spoken, translated = _without_translation(rolled)
    remarks = []
    if len(rolled) < len(cues):
        remarks.append("its captions roll up: repeated lines count once")
    if translated:
        remarks.append(f"its captions have two languages: {translated:,} lines that are not Georgian are left out")
    return _with_speakers(spoken), remarks


def overlap_of(one: Cue, other: Cue) -> float:
    """The time that both share, as a share of the shorter one; negative where none."""
    both = min(one.end, other.end) - max(one.start, other.start)
    return both / min(one.end - one.start, other.end - other.start)


def _lines(cue: Cue) -> list[str]:
    return [line.strip() for line in cue.text.splitlines() if line.strip()]


# ── roll-up captions ─────────────────────────────────────────────────────────────────────────────────────────────────


def _without_repeats(cues: Sequence[Cue]) -> list[Cue]:
    """The cues with new lines only, where most begin with the last lines of the one before; else as they are."""
    found: list[Cue] = []
    rolling = 0
    shown: list[str] = []
    for cue in cues:
        lines = _lines(cue)
        repeated = next((n for n in range(len(lines), 0, -1) if shown[-n:] == lines[:n]), 0)
        new, shown = lines[repeated:], lines
        if new:
            rolling += bool(repeated)
            found.append(replace(cue, text="\n".join(new)))
    return found if rolling and rolling >= _ROLLING * (len(found) - 1) else list(cues)


# ── two languages ────────────────────────────────────────────────────────────────────────────────────────────────────


def _without_translation(cues: Sequence[Cue]) -> tuple[list[Cue], int]:
    """(the cues without lines, and without cues at the same time, in other letters; how many those were)."""
    georgian = ["\n".join(line for line in _lines(cue) if is_georgian(line)) for cue in cues]
    found, dropped, both = [], 0, 0
    for n, cue in enumerate(cues):
        neighbours = [m for m in (n - 1, n + 1) if 0 <= m < len(cues) and georgian[m]]
        foreign = sum(not is_georgian(line) and any(map(str.isalpha, line)) for line in _lines(cue))
        translates = not georgian[n] and any(overlap_of(cue, cues[m]) > SAME_TIME for m in neighbours)
        if foreign and (georgian[n] or translates):
            dropped, both = dropped + foreign, both + 1
        if not translates:
            found.append(replace(cue, text=georgian[n]) if foreign and georgian[n] else cue)
    return (found, dropped) if both and both >= _BILINGUAL * sum(map(bool, georgian)) else (list(cues), 0)


# ── speakers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _with_speakers(cues: Sequence[Cue]) -> list[Cue]:
    """The cues with the names before a colon as speakers; a dialogue in one cue gets dashes instead."""
    counts = Counter(found[0] for cue in cues for line in _lines(cue) if (found := label_of(line)))
    many = counts.total() >= _LABELLED * len(cues)
    names = {name for name, count in counts.items() if is_name(name) or (many and count > 1)}
    return [_with_speaker(cue, names) for cue in cues] if names else list(cues)


def _with_speaker(cue: Cue, names: set[str]) -> Cue:
    said = [(found if (found := label_of(line)) and found[0] in names else ("", line)) for line in _lines(cue)]
    speakers = [name for name, _ in said if name]
    if not speakers:
        return cue
    if len(speakers) == 1 and said[0][0]:
        return replace(cue, text="\n".join(text for _, text in said), speaker=cue.speaker or speakers[0])
    return replace(cue, text="\n".join(re.sub(r"^[-–—\s]*", "- ", text) for _, text in said))
