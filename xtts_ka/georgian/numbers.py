"""Georgian number words, and the reading of a number written in digits.

Number words come from CLDR (through `unicode-rbnf`) up to 999 and are composed above that, with three corrections:

* spelling: hundreds are separate words, as Georgians write them (`ას ერთი`, where CLDR has `ასერთი`);
* CLDR's 18 has two letters swapped (`თრვამეტი` for `თვრამეტი`);
* 10¹² is `ტრილიონი` and 10¹⁵ `კვადრილიონი`, as in Georgian newspapers; CLDR's long-scale `ბილიონი` would be
  understood as 10⁹.

How written numbers are read:

* 3,14 → სამი მთელი თოთხმეტი მეასედი; with four or more decimal places digit by digit after მძიმე;
* the comma is the decimal sign, and the full stop groups thousands where three digits follow (1.234 → 1234, but 0.125);
  three digits that end in 0 are a group after a comma too (12,500 → 12500), because nobody writes that final zero;
* a number with leading zeros or more than 18 digits is read digit by digit.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

from unicode_rbnf import RbnfEngine
from unicode_rbnf.engine import FormatOptions

from xtts_ka.georgian.declension import KEEP, SCALE_NOUNS, agree, agreement, decline, is_case_ending, stem_of

# ── number words ─────────────────────────────────────────────────────────────────────────────────────────────────────

_SCALES = tuple(zip((10**15, 10**12, 10**9, 10**6, 10**3), SCALE_NOUNS, strict=True))
_TWENTIES = ("ოთხმოცდა", "სამოცდა", "ორმოცდა", "ოცდა")


@cache
def _engine() -> RbnfEngine:
    return RbnfEngine.for_language("ka")


@cache
def _below_thousand(n: int) -> str:
    """CLDR's word for 0 ≤ n < 1000 with its spaces corrected; its soft hyphens mark where ას- and -და- are joined."""
    word = _engine().format_number(n, options=FormatOptions.PRESERVE_SOFT_HYPENS).text
    return word.replace("ას\u00ad", "ას ").replace("\u00ad", "").replace("თრვამეტი", "თვრამეტი")


@lru_cache(maxsize=100_000)
def cardinal(n: int) -> str:
    """The cardinal of 0 ≤ n < 10¹⁸, hundreds spaced: 125 → `ას ოცდახუთი`."""
    parts = []
    for scale, noun in _SCALES:
        count, n = divmod(n, scale)
        if count:
            multiplier = "" if scale == 1000 and count == 1 else _below_thousand(count) + " "
            parts.append(multiplier + (noun[:-1] if n else noun))
    if n or not parts:
        parts.append(_below_thousand(n))
    return " ".join(parts)


@lru_cache(maxsize=100_000)
def ordinal(n: int) -> str:
    """The ordinal of n ≥ 0: პირველი, მეორე, ოცდამეერთე, მეასე, ას მეერთე, მეათასე.

    The circumfix მე-…-ე encloses the last word, and within it what follows the twenties (`ოცდა|მე|ხუთ|ე`).
    """
    if n < 2:
        return ("ნულოვანი", "პირველი")[n]
    head, _, last = cardinal(n).rpartition(" ")
    if head == "ერთი":  # ერთი მილიონი → მემილიონე
        head = ""
    twenties = next((prefix for prefix in _TWENTIES if last.startswith(prefix)), "")
    return f"{head} {twenties}მე{last[len(twenties) : -1]}ე".lstrip()


def part(n: int) -> str:
    """The n-th part, n ≥ 2, as fractions use it: მეორედი, მეოთხედი, მეასედი."""
    return ordinal(n) + "დი"


def digits(text: str) -> str:
    """Each ASCII digit of `text` by its name; anything between them is left out."""
    return " ".join(_below_thousand(int(digit)) for digit in text if digit.isdigit())


def whole(text: str) -> str:
    """A run of ASCII digits read aloud: a cardinal, or digit by digit if zero-padded or above 18 digits."""
    if len(text) > 18 or (len(text) > 1 and text[0] == "0"):
        return digits(text)
    return cardinal(int(text))


# ── numbers as they are written ──────────────────────────────────────────────────────────────────────────────────────

_GROUPS = r"(?:(?: \d{3})+|(?:\.\d{3})+|(?:,\d{3})+|(?:'\d{3})+)"
NUMBER = rf"(?:[1-9]\d{{0,2}}{_GROUPS}(?:[.,]\d+)?(?!\d)|\d+(?:[.,]\d+)?)"  # the pattern of a written number
_PLACES = {1: "მეათედი", 2: "მეასედი", 3: "მეათასედი"}


def split_number(written: str) -> tuple[str, str]:
    """Whole and fractional digits of a written number: "1.234,5" → ("1234", "5")."""
    separators = [c for c in written if not c.isdigit()]
    if not separators:
        return written, ""
    head, tail = written.rsplit(separators[-1], 1)
    if len(separators) == 1:
        groups = separators[0] in " '" or (
            len(tail) == 3 and head[0] != "0" and len(head) <= 3 and (separators[0] == "." or tail[-1] == "0")
        )
    else:
        groups = separators[-1] == separators[0]
    if groups:
        head, tail = head + tail, ""
    return "".join(c for c in head if c.isdigit()), tail


def value(written: str) -> float:
    """The value of a written number, for comparisons; the first 300 digits decide."""
    integer, fraction = split_number(written)
    return float(f"{integer[:300]}.{fraction[:300] or 0}")


def read_number(written: str, case: str = KEEP) -> str:
    """A written number before a noun (or alone): `case` says what its -ი becomes."""
    integer, fraction = split_number(written)
    if not fraction:
        return agree(whole(integer), case)
    if len(fraction) > 3:
        return f"{whole(integer)} მძიმე {agree(digits(fraction), case)}"
    count = agree(whole(fraction.lstrip("0") or "0"), case)
    return f"{whole(integer)} მთელი {count} {agree(_PLACES[len(fraction)], case)}"


def inflect_number(written: str, ending: str) -> str:
    """A written number with a case ending or suffix hyphenated to it: 2026-ში, 40-იანი, 2,5-ჯერ, 5-წლიანი."""
    integer, fraction = split_number(written)
    if not fraction:
        if integer == "2000" and is_case_ending(ending):  # the year: ორი ათასში, like ორი ათას ერთში
            return "ორი " + decline("ათასი", ending)
        if integer[-3:] == "000" and integer != "2000" and not is_case_ending(ending):  # 30 000-იანი, one word
            *front, multiplier, scale = ("", "", *whole(integer).split(" "))
            joined = f"{stem_of(multiplier)}{stem_of(scale)}{ending}"
            return " ".join([*front, joined]).strip()
        return decline(whole(integer), ending)
    if fraction == "5" and ending == "ჯერ":
        return decline(whole(integer), "ნახევარჯერ")
    head, last = read_number(written).rsplit(" ", 1)
    if is_case_ending(ending):
        head = agree(head, agreement(ending))
    return f"{head} {decline(last, ending)}"


# ── placing a reading in its text ────────────────────────────────────────────────────────────────────────────────────


def apart(match: re.Match[str], reading: str) -> str:
    """The reading of a match, with a space where the match touched a letter or another digit."""
    before = match.string[match.start() - 1 : match.start()]
    after = match.string[match.end() : match.end() + 1]
    return f"{' ' if before.isalnum() else ''}{reading}{' ' if after.isalnum() else ''}"


def paired(first: str, second: str) -> str:
    """Two readings as a hyphenated pair; with a spaced dash between them if either has several words."""
    return f"{first} - {second}" if " " in first or " " in second else f"{first}-{second}"
