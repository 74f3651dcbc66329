"""Reads what only Unicode marks show, before they are folded: superscripts, ½, primes, coordinates and footnotes.

* A superscript after an article, a point or an ordinal is Georgian law's "prima": მე-2¹ → მეორე პრიმა, 25² მუხლი →
  ოცდამეხუთე პრიმა ორი მუხლი. After another number it is a power (10⁶ → ათი მეექვსე ხარისხში), but ¹ is a footnote's.
* A superscript after a word, and a number in square brackets, [12], are footnotes: they are not read.
* ½ alone is ნახევარი; after a number it is a fraction (2½).
* A number with a double prime or a closing " is inches: 55″ → ორმოცდათხუთმეტი დიუმი.
"""

from __future__ import annotations

import re

from xtts_ka.georgian.declension import agree, case_before, decline
from xtts_ka.georgian.numbers import read_number

_SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_PLAIN = str.maketrans(_SUPERSCRIPT + "⁻", "0123456789-")
_LEGAL = "მუხლ|მუხ\\.|ქვეპუნქტ|პუნქტ|ნაწილ|ნაწ\\.|თავ|კარ"

_ANY = re.compile(rf"[{_SUPERSCRIPT}⁻½′″\"^°º]|\[\d|''")

# ── superscripts ─────────────────────────────────────────────────────────────────────────────────────────────────────

_CARET = re.compile(r"(?<=\d)\^(-?\d{1,3})(?!\d)")
_TO_SUPERSCRIPT = str.maketrans("0123456789-", _SUPERSCRIPT + "⁻")
_PRIMA = re.compile(
    rf"(?P<head>(?:{_LEGAL})[ა-ჵ]* (?:№ ?)?|§ "
    rf"?)?(?<![\d.,])(?P<me>მე-)?(?P<n>\d{{1,4}})(?P<sup>[{_SUPERSCRIPT}]{{1,2}})"
    rf"(?P<e>-?(?:ე|ლი)(?![ა-ჵ]))?(?:-(?P<ending>[ა-ჵ]+))?"
    rf"(?P<noun>(?=(?:(?:,|-?[–-]| და| ან) ?(?:მე-)?\d{{1,4}}[{_SUPERSCRIPT}]*(?:-ე)?)* (?:{_LEGAL})))?"
)
_ROMAN_PRIMA = re.compile(rf"(?<![A-Za-z])([IVX]+)([{_SUPERSCRIPT}]{{1,2}})(?![A-Za-z])")  # თავი II¹
_LETTERED_PRIMA = re.compile(rf"(?<![ა-ჵ])([ა-ლნ-ჰ])([“”»\"]?)([{_SUPERSCRIPT}]{{1,2}})(?![ა-ჵ])")  # „ა¹“ ქვეპუნქტი
_DEGREE = re.compile(r"(?<=\d) ?⁰ ?(?=C|F|[^\d⁰¹²³⁴-⁹]|$)")
_LATIN_POWER = re.compile("(?<![A-Za-z])(?!(?:[kcdm]?m|ft)[²³])([A-Za-z]{1,2})([²³])")  # E=mc²
_FOOTNOTE = re.compile(
    rf"(?P<unit>(?<![A-Za-zა-ჵ])(?:[კსდმ]?მ|[kcdm]?m|ft)[²³])|(?<=[^\W\d])[{_SUPERSCRIPT}]+"
    rf"|(?<=[.,!?;:)»“”\"])[{_SUPERSCRIPT}]+"
)
_POWER = re.compile(rf"(?<=\d)(⁻?[{_SUPERSCRIPT}]+)")


def _superscripts(text: str) -> str:
    text = _DEGREE.sub("°", text)
    text = _PRIMA.sub(_prima, text)
    text = _ROMAN_PRIMA.sub(lambda m: f"{m[1]} {_named_prima(m[2])}", text)
    text = _LETTERED_PRIMA.sub(lambda m: f"{m[1]}{m[2]} {_named_prima(m[3])}", text)
    text = _LATIN_POWER.sub(lambda m: f"{m[1]} {'კვადრატში' if m[2] == '²' else 'კუბში'}", text)
    text = _FOOTNOTE.sub(lambda m: m["unit"] or "", text)
    return _POWER.sub(_power, text)


def _prima(match: re.Match[str]) -> str:
    ordinal = bool(match["me"] or match["e"]) or match["noun"] is not None
    if not (ordinal or match["head"]):
        return match[0]
    n, ending = int(match["n"]), match["ending"]
    number = ("1-ლი" if n == 1 else f"{n}-ე") if ordinal else str(n)
    prima = _named_prima(match["sup"])
    prima = decline(prima, ending) if ending else prima
    return f"{match['head'] or ''}{number} {prima}"


def _named_prima(superscript: str) -> str:
    index = superscript.translate(_PLAIN)
    return "პრიმა" if index == "1" else f"პრიმა {read_number(index)}"


def _power(match: re.Match[str]) -> str:
    power = match[1].translate(_PLAIN)
    if power in ("2", "3"):
        return " კვადრატში" if power == "2" else " კუბში"
    if power.strip("-0") in ("", "1") and power != "-1":
        return ""
    return f" {'მინუს ' * power.startswith('-')}მე-{power.strip('-')} ხარისხში"


# ── fractions, inches, coordinates, footnotes in brackets ────────────────────────────────────────────────────────────

_HALF = re.compile(r"(?<![\d/])(?<!\d )½(?:-(?P<ending>[ა-ჵ]+))?(?= ?(?P<next>[ა-ჵ]*))")
_BRACKETED = re.compile(r" ?\[\d{1,3}(?:[,;–-] ?\d{1,3})*\]")
_INCHES = re.compile(r"(?<=[\d½¼¾]) ?(?:″|′′|'')(?! ?[NSEWჩსად])(?:-(?P<ending>[ა-ჵ]+))?")
_QUOTED_INCHES = re.compile(r'(?<=[\d½¼¾])"(?:-(?P<ending>[ა-ჵ]+))?')
_SIDES = {"N": "ჩრდილოეთ", "S": "სამხრეთ", "E": "აღმოსავლეთ", "W": "დასავლეთ"}
_SIDES |= {"ჩ": "ჩრდილოეთ", "ს": "სამხრეთ", "ა": "აღმოსავლეთ", "დ": "დასავლეთ"}
_COORDINATE = re.compile(
    r"(?P<d>\d{1,3}(?:[.,]\d+)?) ?[°º](?: ?(?P<m>\d{1,2}(?:[.,]\d+)?) ?['′’](?: ?(?P<s>\d{1,2}(?:[.,]\d+)?) ?"
    r"(?:″|\"|''|′′|”))?)? ?(?P<side>[NSEW](?![A-Za-z])|(?:[ჩსად]|ჩრდ|სამხ|აღმ|დას)\. ?[გს]\.)?"
)


def read_raw_marks(text: str) -> str:
    """Read superscripts, ½, inches and coordinates; drop footnote marks. Other text stays as it is."""
    if not _ANY.search(text):
        return text
    text = _CARET.sub(lambda m: m[1].translate(_TO_SUPERSCRIPT), text)
    text = _BRACKETED.sub("", text)
    text = _COORDINATE.sub(_coordinate, text)
    text = _HALF.sub(_half, text)
    text = _superscripts(text)
    text = _INCHES.sub(_inches, text)
    return _QUOTED_INCHES.sub(_quoted_inches, text) if '"' in text else text


def _half(match: re.Match[str]) -> str:
    ending = match["ending"]
    reading = decline("ნახევარი", ending) if ending else agree("ნახევარი", case_before(match["next"]))
    return reading if ending or not match["next"] or match.string[match.end()] == " " else reading + " "


def _inches(match: re.Match[str]) -> str:
    return f" დიუმი-{match['ending']}" if match["ending"] else " დიუმი"


def _quoted_inches(match: re.Match[str]) -> str:
    """A " after a number closes a quotation if one is open before it."""
    open_quotation = match.string.count('"', 0, match.start()) % 2
    return match[0] if open_quotation else _inches(match)


def _coordinate(match: re.Match[str]) -> str:
    if not match["m"] and not match["side"]:
        return match[0]
    parts = ((match["d"], "გრადუსი"), (match["m"], "წუთი"), (match["s"], "წამი"))
    reading = " ".join(f"{read_number(number)} {noun}" for number, noun in parts if number)
    if not match["side"]:
        return f"{reading} "
    letter = match["side"][0]
    return f"{reading} {_SIDES[letter]} {'განედი' if letter in 'NSჩს' else 'გრძედი'} "
