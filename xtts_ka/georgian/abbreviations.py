"""Reads Georgian abbreviations: with full stops (და ა.შ.), contracted (კმ, აშშ) and clipped (ბ-ნი).

To add one, put it in the table of its kind.
"""

from __future__ import annotations

import re

from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS, word_table
from xtts_ka.georgian.declension import DROP, KEEP, agree, agreement, case_before, decline, stem_of

# Written with full stops; a space in the key is a full stop with or without a space after it.
_STOPPED = word_table(
    "ა შ=ასე შემდეგ, ე ი=ესე იგი, ე წ=ეგრეთ წოდებული, მ შ=მათ შორის, ა წ=ამა წლის, გ წ=გასული წლის, "
    "მ წ=მიმდინარე წლის, ძვ წ აღ=ძველი წელთაღრიცხვით, ძვ წ=ძველი წელთაღრიცხვით, ახ წ აღ=ახალი წელთაღრიცხვით, "
    "ახ წ=ახალი წელთაღრიცხვით, ჩვ წ აღ=ჩვენი წელთაღრიცხვით, ჩვ წ=ჩვენი წელთაღრიცხვით, წ=წელი, წწ=წლები, "
    "სს=საუკუნეები, საუკ=საუკუნე, გვ=გვერდი, გვგვ=გვერდები, მაგ=მაგალითად, იხ=იხილე, შდრ=შეადარე, სხვ=სხვა, "
    "პროფ=პროფესორი, აკად=აკადემიკოსი, დოც=დოცენტი, დოქ=დოქტორი, გენ=გენერალი, ტელ=ტელეფონი, გამზ=გამზირი, "
    "კორპ=კორპუსი, ბინ=ბინა, მდ=მდინარე, მთ=მთა, მუხ=მუხლი, პუნ=პუნქტი, ტ=ტომი, თავ=თავი, სურ=სურათი, ნახ=ნახაზი, "
    "ცხრ=ცხრილი, რედ=რედაქტორი, მთარგმ=მთარგმნელი, გამომც=გამომცემლობა, დაახლ=დაახლოებით, დაბ=დაბადებული, "
    "გარდ=გარდაცვლილი, ლათ=ლათინურად, ინგლ=ინგლისურად, რუს=რუსულად, ბერძ=ბერძნულად, ფრანგ=ფრანგულად, "
    "გერმ=გერმანულად, ათ=ათასი, მლნ=მილიონი, მლრდ=მილიარდი, სთ=საათი, წთ=წუთი, წმ=წამი, ქ=ქალაქი, ს=სოფელი",
    ", ",
)
# Written without full stops, alone or with a hyphenated ending.
_CONTRACTED = word_table(
    "კმ=კილომეტრი, სმ=სანტიმეტრი, მმ=მილიმეტრი, კგ=კილოგრამი, მგ=მილიგრამი, სთ=საათი, წთ=წუთი, წმ=წამი, მლ=მილილიტრი, "
    "კვტ=კილოვატი, მლნ=მილიონი, მლრდ=მილიარდი, ტრლნ=ტრილიონი, აშშ=ამერიკის შეერთებული შტატები, "
    "შპს=შეზღუდული პასუხისმგებლობის საზოგადოება, სს=სააქციო საზოგადოება, სსიპ=საჯარო სამართლის იურიდიული პირი, "
    "სსრკ=საბჭოთა კავშირი, ააიპ=არასამეწარმეო არაკომერციული იურიდიული პირი",
    ", ",
)
_CLIPPED = {"ბ-ნ": "ბატონი", "ქ-ნ": "ქალბატონი", "რ-ნ": "რაიონი"}
_TITLES = ("ქ", "ს")  # their noun agrees with the name that follows: ქალაქი თბილისი, ქალაქ თბილისში
_OBLIQUE = ("ის", "იდან", "ისკენ", "ისგან", "ისთვის", "ით", "ს")


def _stopped_pattern() -> re.Pattern[str]:
    """Any key of `_STOPPED`: a key of one part needs its full stop, in a longer one the last may be missing."""
    patterns = []
    for key in sorted(_STOPPED, key=len, reverse=True):
        *first, last = key.split()
        before = "".join(rf"{letters}\. ?" for letters in first)
        patterns.append(before + (rf"{last}(?:\.|(?![ა-ჵ]))" if first else rf"{last}\."))
    key = "|".join(patterns)
    return re.compile(rf"(?<![ა-ჵ-])(?P<key>{key})(?:-(?P<ending>[ა-ჵ]+))?(?: ?(?P<next>(?<= )[ა-ჵ]+))?")


_STOPPED_FORM = _stopped_pattern()
_CONTRACTED_KEYS = "|".join(sorted(_CONTRACTED, key=len, reverse=True))
_CONTRACTED_FORM = re.compile(rf"(?<![ა-ჵ-])({_CONTRACTED_KEYS})(?:-([ა-ჵ]+)|(?![ა-ჵ-]))")
_CLIPPED_FORM = re.compile(rf"(?<![ა-ჵ-])({'|'.join(_CLIPPED)})([ა-ჵ]*)(?![ა-ჵ-])")
_YEAR_FORM = re.compile(r"(?<![ა-ჵ-])წ-(ის|ს|ში|დან|იდან|მდე|ამდე|ისთვის|თვის|ად)(?![ა-ჵ-])")
_INITIAL = re.compile(r"(?<![ა-ჵ-])([ა-ჵ])\. ?(?=[ა-ჵ])")
_SURNAME = re.compile(r".{2,}(?:ძე|ძის|ძემ|ძეს|ძეზე|შვილ(?:ი|ის|მა|ს|ზე|თან)?)$")
_SENTENCE_OVER = re.compile(r" *(?:[.!?]|$)")


def may_abbreviate(marks: str) -> frozenset[str]:
    """The words between spaces that can belong to an abbreviation without a hyphen, followed by one of `marks` or none.

    In a text of letters, single spaces and marks that holds none of them, `read_abbreviations` changes nothing.
    """
    contracted = {f"{key}{mark}" for key in _CONTRACTED for mark in ("", *marks)}
    return frozenset(contracted | {f"{key.split()[0]}." for key in _STOPPED} | {f"{c}." for c in GEORGIAN_LETTERS})


def read_abbreviations(text: str) -> str:
    """Expand abbreviations; a full stop that ended the text stays, that of an initial (ი. ჭავჭავაძე) is removed."""
    text = _CONTRACTED_FORM.sub(_contracted, text)
    if "-" in text:
        text = _CLIPPED_FORM.sub(_clipped, text)
        text = _YEAR_FORM.sub(lambda m: decline("წელი", m[1]), text)
    if "." in text:
        text = _STOPPED_FORM.sub(_stopped, text)
        text = _INITIAL.sub(r"\1 ", text)
    return text


def _clipped(match: re.Match[str]) -> str:
    noun, ending = _CLIPPED[match[1]], match[2]
    return decline(noun, ending) if ending else stem_of(noun)


def _contracted(match: re.Match[str]) -> str:
    reading, ending = _CONTRACTED[match[1]], match[2] or ""
    *before, last = reading.split(" ")
    if before and before[-1].endswith("ული"):  # შეერთებულ შტატებში
        before[-1] = agree(before[-1], agreement(ending))
    return " ".join([*before, decline(last, ending)])


def _stopped(match: re.Match[str]) -> str:
    key = match["key"].replace(".", " ").split()
    ending, following = match["ending"] or "", match["next"] or ""
    after = f" {following}" if following else ""
    if len(key) == 1 and len(key[0]) == 1 and _SURNAME.match(following):
        return f"{key[0]}{after}"  # an initial, not an abbreviation
    reading = decline(_noun_before(key, following), ending)
    if following:
        return reading + after
    ends_sentence = match["key"].endswith(".") and not ending and _SENTENCE_OVER.match(match.string, match.end())
    return reading + ("." if ends_sentence else " ")


def _noun_before(key: list[str], following: str) -> str:
    """The reading of an abbreviation, its stem where the following word asks for that."""
    reading = _STOPPED[" ".join(key)]
    if key == ["ქ"] and not following:
        return "ქუჩა"
    if len(key) == 1 and key[0] in _TITLES:
        return stem_of(reading) if case_before(following) != KEEP or following.endswith(_OBLIQUE) else reading
    return stem_of(reading) if key == ["ე", "წ"] and case_before(following) == DROP else reading
