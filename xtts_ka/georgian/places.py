"""Reads what only postal addresses have: ქ. after a street's name, and house numbers with a letter or a slash.

* A house's letter is a letter, not a unit or an ending: ჭავჭავაძის გამზ. 37გ → … ოცდაჩვიდმეტი გ.
* A slash between house numbers is a pause: ქ. 4/6 → ქუჩა ოთხი, ექვსი.
* A letter after a number that is neither a unit nor an ending is a letter everywhere: 12ა. Of a school class the number
  is an ordinal: 5ბ კლასი → მეხუთე ბ კლასი.
"""

from __future__ import annotations

import re

from xtts_ka.georgian.declension import agree, case_before
from xtts_ka.georgian.numbers import apart, ordinal, paired, whole

_STREET = re.compile(r"(?<=ს )ქ\.(?= ?(?:#|N)? ?\d| ?[,;)]|$)|(?<![ა-ჵ])ქ\.(?= ?(?:#|N)? ?\d)")
_HOUSE_BEFORE = re.compile(
    r"(?:ქუჩა|ქუჩის|ქუჩაზე|გამზირი?|გამზირზე|გამზირის|შესახვევი|ჩიხი|მოედანი|ბინა|კორპუსი|კვარტალი|სახლი|სახლის|"
    r"მიკრორაიონი|დასახლება|სადარბაზო|ბლოკი|გზატკეცილი|სანაპირო|ხეივანი|გასასვლელი|აღმართი|"
    r"(?:გამზ|ბინ|კორპ|შეს|ჩიხ|მოედ|სანაპ|კვარტ)\.),? ?$"
)
_HOUSE = re.compile(
    r"(?<![\w.,/-])(?P<label>(?:#|N) ?)?(?P<n>\d{1,4})(?:-?(?P<letter>[ა-ჰ])(?![\w-])|(?P<declined>[ა-ჰ])(?=-(?:ში|ზე|"
    r"ს|დან|მდე|თან)(?![ა-ჵ]))|/(?P<second>\d{1,4})(?P<letter2>[ა-ჰ])?(?![\w/-])|[-–](?P<to>\d{1,4})(?![\w./-]))"
)
_HOUSE_LIKE = re.compile(r"\d(?:-?[ა-ჰ](?!\w)|[/–-]\d)")
_CLASS = re.compile(r"(?<![\w.,/-])(?:მე-)?(?P<n>\d{1,2})(?:-?ე)?[- ]?(?P<letter>[ა-ჰ])(?= კლას)")
_UNITS_AND_ENDINGS = frozenset("მგტლვსციე")
_FLAT = re.compile(r"(?<![ა-ჵ])(?P<short>სად|ბ|კ|ოთ)\. ?(?=(?:#|N)? ?\d{1,3}(?!\d))")
_STOREYS = re.compile(r"(?<![\w.,])(\d{1,3})-? ?(სართ|ოთახ|ადგ)\. (?P<noun>[ა-ჵ]+)")
_HAVING = {"სართ": "სართულიანი", "ოთახ": "ოთახიანი", "ადგ": "ადგილიანი"}
_FLATS = {"სად": "სადარბაზო", "ბ": "ბინა", "კ": "კორპუსი", "ოთ": "ოთახი"}


def read_places(text: str) -> str:
    """Read streets, houses and school classes; other numbers stay."""
    if "ქ." in text:
        text = _STREET.sub("ქუჩა", text)
    if "." in text:
        text = _STOREYS.sub(_storeys, text)
    text = _FLAT.sub(lambda m: _FLATS[m["short"]] + " ", text)
    if " კლას" in text:
        text = _CLASS.sub(lambda m: apart(m, f"{ordinal(int(m['n']))} {m['letter']}"), text)
    return _HOUSE.sub(_house, text) if _HOUSE_LIKE.search(text) else text


def _storeys(match: re.Match[str]) -> str:
    """5 სართ. სახლში: a house of five storeys, ხუთსართულიან სახლში."""
    noun = match["noun"]
    return f"{match[1]}-{agree(_HAVING[match[2]], case_before(noun))} {noun}"


def _house(match: re.Match[str]) -> str:
    number, letter = ("ნომერი " if match["label"] else "") + whole(match["n"]), match["letter"] or match["declined"]
    at_home = match["label"] or _HOUSE_BEFORE.search(match.string, max(0, match.start() - 20), match.start())
    if match["second"]:
        tail = f" {match['letter2']}" if match["letter2"] else ""
        return apart(match, f"{number}, {whole(match['second'])}{tail}") if at_home else match[0]
    if match["to"]:
        return apart(match, paired(number, whole(match["to"]))) if at_home and not match["label"] else match[0]
    if letter and "-" in match[0] and letter in "სმცეი":  # №3-ს is a case ending
        return match[0]
    is_clitic = letter == "ა" and "-" in match[0] and not number.endswith("ი")  # 8-ა is რვაა
    if at_home or not (letter in _UNITS_AND_ENDINGS or is_clitic):
        return apart(match, f"{number} {letter}")
    return match[0]
