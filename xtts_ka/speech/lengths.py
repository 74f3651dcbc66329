"""How long a text may take: bounds in seconds and audio codes from a speaker's usual letters per second."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json
from xtts_ka.corpus.tables import Clip
from xtts_ka.georgian.alphabet import georgian_letters
from xtts_ka.model.geometry import CODE_STRIDE, SAMPLE_RATE

USUAL_RATE = 13.0  # letters a second, where a voice has no recordings to count in
LIMIT_FACTOR, LIMIT_SECONDS = 1.5, 1.0  # a clip may take this many times its usual time, and this much more
LEAST_FACTOR = 0.4  # of its usual time that it must take
RATES_KEY = "letters_per_second"  # in an exported model's facts: speaker → rate


def letter_rates(clips: Sequence[Clip]) -> dict[str, float]:
    """Letters a second of each known speaker, over all their recordings, pauses included."""
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for clip in clips:
        if clip.speaker_known:
            counts[clip.speaker_id][0] += len(georgian_letters(clip.text))
            counts[clip.speaker_id][1] += clip.duration
    return {name: letters / seconds for name, (letters, seconds) in counts.items() if letters}


def folder_rates(facts: Path) -> dict[str, float]:
    """What the export wrote of its speakers' rates into `facts`; {} for a folder from before, whose facts lack them."""
    found = read_json(facts).get(RATES_KEY, {})
    if not isinstance(found, dict) or not all(type(rate) in (int, float) and rate > 0 for rate in found.values()):
        raise UserError(f"{facts}: {RATES_KEY} must give a number above 0 for each speaker; restore the file")
    return {name: float(rate) for name, rate in found.items()}


def longest(text: str, rate: float) -> float:
    """The seconds that a clip of `text` may take, at a usual `rate` in letters a second."""
    return LIMIT_FACTOR * len(georgian_letters(text)) / rate + LIMIT_SECONDS


def most_codes(text: str, rate: float) -> int:
    """The audio codes at which a clip is cut: those of its `longest` time."""
    return math.ceil(longest(text, rate) * SAMPLE_RATE / CODE_STRIDE)


def fewest_codes(text: str, rate: float) -> int:
    """The audio codes below which a clip of `text` cannot hold it."""
    return math.floor(LEAST_FACTOR * len(georgian_letters(text)) / rate * SAMPLE_RATE / CODE_STRIDE)
