"""Reads ordinals (მე-5, 21-ე, 1-ლი), Roman numerals, which are ordinals in Georgian, and the centuries behind them."""

from __future__ import annotations

import re

from xtts_ka.georgian.declension import agree, agreement, case_before, decline
from xtts_ka.georgian.numbers import apart, ordinal, paired, part

FOLLOWED = r"(?:(?= (?P<next>[ა-ჵ]+)))?"  # captures the word that follows, which decides the case
_CENTURY = r"(?: ?(?P<century>სს?\.|საუკ\.|სს?(?=-))(?:-(?P<c_ending>[ა-ჵ]+))?(?P<more>(?= [ა-ჵIVX\d]))?)?"
_FIRST = "პირველი"

# ── ordinals in digits ───────────────────────────────────────────────────────────────────────────────────────────────

_ORDINAL = re.compile(
    r"(?<![\w-])(?:მე[-–]?(?P<a>\d{1,18})(?:[-–](?:მე-?)?(?P<b>\d{1,18}))?"
    r"(?:-?ე(?![ა-ჵ]))?(?:-(?P<ending>[ა-ჵ]+))?"
    r"|(?P<c>\d{1,18})(?:-?ე)?(?:[-–](?P<d>\d{1,18}))?-?ე(?P<e_ending>ს|მ|ში|ზე|დან|მდე|თან|ც)?(?![ა-ჵ])"
    rf"|(?P<first>0?1)(?:-ე?ლ|ე?ლ(?=[ა-ჵ]))(?P<f_ending>[ა-ჵ]*))(?!\d){_CENTURY}{FOLLOWED}"
)
_FRACTIONAL = re.compile(r"(?<![\w.,-])(?:მე-)?(\d{1,9})-ედ([ა-ჵ]*)")


def read_ordinals(text: str) -> str:
    """Read ordinals written with digits, and parts such as 4-ედი."""
    if "-ედ" in text:
        text = _FRACTIONAL.sub(_fractional, text)
    return _ORDINAL.sub(_ordinal, text)


def _fractional(match: re.Match[str]) -> str:
    n = int(match[1])
    return apart(match, part(n)[:-1] + match[2]) if n > 1 else match[0]


def _ordinal(match: re.Match[str]) -> str:
    if match["first"]:
        ending = match["f_ending"]
        reading = decline(_FIRST, "" if ending == "ი" else ending) if ending else _FIRST[:-1]
    else:
        numbers = [int(n) for n in (match["a"] or match["c"], match["b"] or match["d"]) if n]
        reading = _declined(numbers, match["ending"] or match["e_ending"] or "", match)
    return apart(match, reading + _century(match))


def _declined(numbers: list[int], ending: str, match: re.Match[str]) -> str:
    """One ordinal or a pair, the last with `ending`; პირველი before a noun agrees with it."""
    readings = [ordinal(n) for n in numbers]
    case = agreement(ending or match["c_ending"] or "")
    if match["next"] and not ending and not match["century"]:
        case = case_before(match["next"])
    readings = [agree(reading, case) if reading == _FIRST else reading for reading in readings]
    if ending:
        readings[-1] = decline(ordinal(numbers[-1]), ending)
    return paired(*readings) if len(readings) == 2 else readings[0]


def _century(match: re.Match[str]) -> str:
    """Read ს., სს., საუკ. after an ordinal; before another word it is the genitive (XIX ს. ბოლოს)."""
    if not match["century"]:
        return ""
    more = match["more"] is not None
    ending = match["c_ending"] or ("ის" if more else "")
    noun = "საუკუნეები" if match["century"].startswith("სს") else "საუკუნე"
    ends_sentence = not more and not match["c_ending"] and not match.string[match.end() :].strip()
    return f" {decline(noun, ending)}{'.' if ends_sentence else ''}"


# ── Roman numerals ───────────────────────────────────────────────────────────────────────────────────────────────────

_ROMAN_DIGITS = "IVXLCDMІХ"  # the last two are Cyrillic look-alikes
_SMALL = "ivxх"
ROMAN_LETTERS = _ROMAN_DIGITS + _SMALL
_ROMAN = re.compile(
    rf"(?<![\w°-])(?P<me>მე-)?(?P<a>[{_ROMAN_DIGITS}]+|[{_SMALL}]+(?=[-–{_SMALL}]* ?(?:საუკუნ|სს?\.)))"
    rf"(?: ?[-–] ?(?P<b>[{ROMAN_LETTERS}]+))?(?![A-Za-z0-9])"
    rf"(?:-ე(?![ა-ჵ]))?(?:-(?P<ending>[ა-ჵ]+))?{_CENTURY}{FOLLOWED}"
)
_CANONICAL = re.compile(r"(?=.)M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_LATIN_BEFORE = re.compile(r"[A-Za-z] ?$")
_LATIN_AFTER = re.compile(r"[ '-]?[A-Za-z]")
_GEORGIAN_BEFORE = re.compile(r"[ა-ჵ][,.]? $")


def read_roman(text: str) -> str:
    """Read Roman numerals as ordinals: XIX საუკუნე → მეცხრამეტე საუკუნე."""
    return _ROMAN.sub(_roman, text)


def _roman(match: re.Match[str]) -> str:
    numbers = [_roman_value(roman) for roman in (match["a"], match["b"]) if roman]
    if not all(numbers) or not _is_numeral(match):
        return match[0]
    ending = match["ending"] or ""
    if numbers[-1] == 1 and ending.startswith("ლ"):  # I-ლი, I-ლმა
        ending = ending[1:].removesuffix("ი")
    return apart(match, _declined(numbers, ending, match) + _century(match))


def _roman_value(roman: str) -> int:
    """The value of a canonical Roman numeral (Cyrillic look-alikes allowed), 0 for anything else."""
    roman = roman.upper().replace("І", "I").replace("Х", "X")
    if not _CANONICAL.fullmatch(roman):
        return 0
    values = [_VALUES[letter] for letter in roman]
    return sum(-v if v < following else v for v, following in zip(values, [*values[1:], 0], strict=True))


def _is_numeral(match: re.Match[str]) -> bool:
    """Whether Roman letters are a number here, not an initialism or an English word."""
    below_forty = not match["a"].strip("IVXІХ" + _SMALL)
    if match["me"] or match["century"] or (match["ending"] and below_forty):
        return True
    if (match["next"] or "").startswith("საუკუნ"):
        return True
    before = match.string[max(0, match.start() - 2) : match.start()]
    after = match.string[match.end() : match.end() + 2]
    if _LATIN_BEFORE.search(before) or _LATIN_AFTER.match(after):
        return False
    if not below_forty:
        return len(match["a"]) >= 4
    return len(match["a"]) > 1 or bool(match["b"] or match["next"] or _GEORGIAN_BEFORE.search(before))
