"""Faults planted in texts with simulated mishearing: what the thresholds in recognition/faults.py were chosen on.

    python tests/benchmarks/exp_fault_thresholds.py

No sound is made, so it takes seconds: in the kept sentences a word is left out (sometimes one of its letters stays), a
word is doubled, or syllables are added at the end; then letters are changed, lost and added at random, at 0, 4 and 8 %.
bench_faults.py does the same with real sound and a real recogniser.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench_faults import SENTENCES, SYLLABLES

from xtts_ka.evaluation.texts import KEPT_SETS, read_texts
from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS
from xtts_ka.georgian.reading import Reading
from xtts_ka.recognition.faults import find_faults

ROUNDS = 4


def main() -> int:
    texts = [text.expected for name in KEPT_SETS for text in read_texts(SENTENCES / f"{name}.txt", Reading(), 100)]
    texts = [text for text in texts if len(text.split()) > 2]
    for rate in (0.0, 0.04, 0.08):
        draw = random.Random(1)
        planted: Counter = Counter()
        reported: Counter = Counter()
        right: Counter = Counter()
        for kind, expected, said in (case for _ in range(ROUNDS) for text in texts for case in cases(text, draw)):
            found = find_faults(expected, misheard(said, draw, rate), pause=0.0, stopped=True)
            planted[kind] += 1
            reported.update(found)
            right.update(found & {kind})
        for kind in ("skipped", "repetition", "babble"):
            precision, recall = right[kind] / max(1, reported[kind]), right[kind] / planted[kind]
            print(f"{rate:.0%} misheard  {kind:<10}  precision {precision:.3f}  recall {recall:.3f}")
    return 0


def cases(text: str, draw: random.Random) -> list[tuple[str, str, str]]:
    """(kind, expected, what is said) of a sound clip and of each fault."""
    words = text.split()
    place = draw.choice([n for n, word in enumerate(words) if len(word) > 2])
    rest = [part for part in (draw.choice(["", "", words[place][:1], words[place][-1:]]),) if part]
    babble = "".join(draw.choices(SYLLABLES, k=5))
    said = {
        "sound": words,
        "skipped": words[:place] + rest + words[place + 1 :],
        "repetition": words[: place + 1] + words[place:],
        "babble": [*words, babble[: draw.randint(5, len(babble))]],
    }
    return [(kind, text, " ".join(parts)) for kind, parts in said.items()]


def misheard(text: str, draw: random.Random, rate: float) -> str:
    """Half of the errors change a letter, a quarter lose one, a quarter add one."""
    letters = []
    for letter in text:
        error = draw.random() / rate if rate else 1.0
        if error < 0.5:
            letters.append(draw.choice(GEORGIAN_LETTERS))
        elif error >= 0.75:
            letters.append(letter + (draw.choice(GEORGIAN_LETTERS) if error < 1 else ""))
    return "".join(letters)


if __name__ == "__main__":
    sys.exit(main())
