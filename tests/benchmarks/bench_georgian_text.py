"""Megabytes of text that `normalise` reads in a second of processor time, for three kinds of text.

python tests/benchmarks/bench_georgian_text.py
python tests/benchmarks/bench_georgian_text.py --megabytes 8
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from xtts_ka.georgian.text import normalise

VOCABULARY = (
    "დილით მზე მთის უკნიდან ამოვიდა და სოფელი გააღვიძა ბავშვები სკოლისკენ მიდიოდნენ ხოლო მდინარე ჩუმად "
    "მოედინებოდა "
    "ძველი ხიდის ქვეშ მასწავლებელმა კარი გააღო ყველას მიესალმა მერე დაფაზე დაწერა სიტყვა რომელიც არავის "
    "ახსოვდა"
).split()


def _expandable(draw: random.Random) -> str:
    """One freshly drawn token that needs reading, so that no cache has seen it."""
    n = draw.randrange(1, 10 ** draw.randrange(1, 7))
    day, month, year = draw.randrange(1, 29), draw.randrange(1, 13), draw.randrange(1900, 2030)
    return draw.choice(
        (
            f"{n}", f"{year}-ში", f"{year} წლის", f"{day:02}.{month:02}.{year}", f"{day % 24}:{month:02}",
            f"{n}-მა",
            f"{n % 100},{day}%-ით", f"{n} ₾", f"${n}.{day:02}", f"{n} კმ", f"მე-{day}", f"{day}-ე",
            f"{day}–{day + 3}",
            "XIX საუკუნის", "USB-ით", "Facebook", f"n{n}@site.ge", "და ა.შ.", f"გვ. {n}", "„სიტყვა“",
            "მოскვა", "Московская",
        )
    )  # fmt: skip


def make_text(expanded: float, megabytes: float, seed: int) -> list[str]:
    """Lines of about a dozen tokens, `expanded` of them in need of reading, `megabytes` of UTF-8 in all."""
    draw, lines, size = random.Random(seed), [], 0
    while size < megabytes * 1e6:
        chances = [draw.random() < expanded for _ in range(12)]
        tokens = [_expandable(draw) if chance else draw.choice(VOCABULARY) for chance in chances]
        lines.append(" ".join(tokens) + draw.choice(".?!"))
        size += len(lines[-1].encode()) + 1
    return lines


def main(argv: list[str] | None = None) -> int:
    """Print one line per kind of text."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--megabytes", type=float, default=3.0, help="size of each text (default: 3)")
    megabytes = parser.parse_args(argv).megabytes
    for name, expanded in (("plain", 0.0), ("5 % to expand", 0.05), ("numbers throughout", 0.6)):
        lines = make_text(expanded, megabytes, seed=1)
        size = sum(len(line.encode()) + 1 for line in lines) / 1e6
        start = time.process_time()
        for line in lines:
            normalise(line)
        seconds = time.process_time() - start
        print(f"{name:20} {size / seconds:6.2f} MB/s  ({size:.1f} MB, {len(lines)} lines, {seconds:.2f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
