"""Reads fractions, versions, products, and numbers with or without a unit: money, measures, percentages, ranges.

* A range before a noun is a hyphenated pair, 5–7 წელი → ხუთი-შვიდი წელი; alone it is ხუთიდან შვიდამდე.
* 1/2 → ერთი მეორედი, before a noun ნახევარი; 24/7 → ოცდაოთხი შვიდზე; 2025/26 is a range of years.
* A mass or volume before an inflected noun agrees with it, as its number does: 2 ლ წყალში → ორ ლიტრ წყალში. A length
  before a measure is in the genitive: 5 კმ მანძილზე → ხუთი კილომეტრის მანძილზე.
* 12,50 ₾ → თორმეტი ლარი და ორმოცდაათი თეთრი.

To add a unit, put it in `_MEASURES`, a currency in `_CURRENCIES`, a sign that is read alone in `_SYMBOLS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from xtts_ka.georgian.alphabet import word_table
from xtts_ka.georgian.declension import (
    DROP,
    ERGATIVE,
    KEEP,
    agree,
    agreement,
    case_before,
    decline,
    head_noun,
    is_case_ending,
    stem_of,
)
from xtts_ka.georgian.numbers import (
    NUMBER,
    apart,
    cardinal,
    inflect_number,
    paired,
    part,
    read_number,
    split_number,
    value,
    whole,
)
from xtts_ka.georgian.ordinals import FOLLOWED
from xtts_ka.georgian.sentences import ends_sentence

# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_CURRENCIES = word_table(  # written forms: unit and its hundredth
    "₾ GEL=ლარი თეთრი, $ US$ USD=დოლარი ცენტი, € EUR=ევრო ცენტი, £ GBP=ფუნტი პენსი, ₽ RUB=რუბლი კაპიკი, "
    "₺ TRY=ლირა ყურუში, ¥ JPY=იენი",
    ", ",
)
_MEASURES = word_table(  # written forms, apart by spaces
    "კმ km=კილომეტრი, მ m=მეტრი, დმ=დეციმეტრი, სმ cm=სანტიმეტრი, მმ mm=მილიმეტრი, კგ kg=კილოგრამი, გ გრ g=გრამი, "
    "მგ mg=მილიგრამი, ტ t=ტონა, ჩ/კ ჩ.კ=ჩაის კოვზი, ს/კ ს.კ სუფრ.კ=სუფრის კოვზი, დიუმი დიუმ inch=დიუმი, ft=ფუტი, mAh "
    "მაჰ=მილიამპერსაათი, Ah=ამპერსაათი, Mbps მბიტ/წმ=მეგაბიტი წამში, MP Mp=მეგაპიქსელი, px=პიქსელი, "
    "ლ l=ლიტრი, მლ ml=მილილიტრი, დღ=დღე, სთ h=საათი, წთ min=წუთი, წმ sec s=წამი, "
    "მწმ ms=მილიწამი, ჰა ha=ჰექტარი, ვტ W=ვატი, კვტ kW=კილოვატი, მვტ MW=მეგავატი, "
    "კვტ/სთ კვტ.სთ კვტსთ kWh=კილოვატსაათი, ვ V=ვოლტი, "
    "ჰც Hz=ჰერცი, კჰც kHz=კილოჰერცი, მჰც MHz=მეგაჰერცი, გჰც GHz=გიგაჰერცი, დბ dB=დეციბელი, "
    "კბ KB kB=კილობაიტი, მბ MB=მეგაბაიტი, გბ GB=გიგაბაიტი, ტბ TB=ტერაბაიტი, კალ=კალორია, კკალ kcal=კილოკალორია, "
    "ც/ძ ც.ძ=ცხენის ძალა, ც.=ცალი, ჭ.=ჭიქა, გვ=გვერდი, % პროც=პროცენტი, ‰=პრომილე, ° გრად=გრადუსი, °C=გრადუსი, "
    "°F=გრადუსი",
    ", ",
)
_SUBSTANCES = frozenset("კგ kg გ გრ g მგ mg ტ t ლ l მლ ml ჩ/კ ჩ.კ ს/კ ს.კ სუფრ.კ ჰა ha".split())
_LENGTHS = frozenset("კმ km მ m სმ cm მმ mm".split())
_DIMENSIONS = "მანძილი სიმაღლე სიღრმე სიგრძე სიგანე რადიუსი დაშორება სისქე დიამეტრი".split()
_DIMENSION_STEMS = tuple(noun[:-1] for noun in _DIMENSIONS)
_POWERS = {"2": "კვადრატული", "კვ": "კვადრატული", "3": "კუბური", "კუბ": "კუბური"}
_SCALE_TAILS = {"°C": " ცელსიუსით", "°F": " ფარენჰაიტით"}
_MAGNITUDES = word_table(
    "ათას=ათასი ათ=ათასი მლნ=მილიონი მილიონ=მილიონი mln=მილიონი მლრდ=მილიარდი მილიარდ=მილიარდი bn=მილიარდი "
    "ტრლნ=ტრილიონი ტრილიონ=ტრილიონი"
)
_SYMBOLS = dict(
    zip(
        "%‰°&§@+=±≈~≤≥",
        "პროცენტი, პრომილე, გრადუსი, და, პარაგრაფი, ეთ, პლუს, უდრის, პლუს მინუს, დაახლოებით, დაახლოებით, არაუმეტეს, "
        "არანაკლებ".split(", "),
        strict=True,
    )
)
_SIGNS = {"-": "მინუს", "–": "მინუს"} | {sign: _SYMBOLS[sign] for sign in "+±~≈≤≥"}  # before a number
_MONEY = {form: names.split() for forms, names in _CURRENCIES.items() for form in forms.split()}
_UNITS = {form: noun for forms, noun in _MEASURES.items() for form in forms.split()}
_SYMBOLS |= {form: names[0] for form, names in _MONEY.items() if len(form) == 1}

# ── fractions, versions, products ────────────────────────────────────────────────────────────────────────────────────

_FRACTION = re.compile(
    r"(?<![\w/.,])(?:(\d{1,9}) )?(\d{1,4})/(\d{1,4})(?![\w/]|[.,]\d)(?:-(?P<ending>[ა-ჵ]+))?" + FOLLOWED
)
_VERSION_LIKE = re.compile(r"\.\d+\.\d")
_VERSION = re.compile(r"\b\d(?<![.,]\d)\d*(?:\.\d+){2,}(?!\d)")
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:\.\d{3})+")
_PRODUCT = re.compile(r"(?<=\d) ?[×*] ?(?=\d)")
_BY = re.compile(r"\b(?<![.,])(\d{1,6}) ?[xX] ?(\d{1,6})(?![\w])")


def read_fractions(text: str) -> str:
    """Read fractions and versions (1.2.3), and write products as endings that `read_amounts` reads."""
    if "/" in text:
        text = _FRACTION.sub(_fraction, text)
    if _VERSION_LIKE.search(text):
        text = _VERSION.sub(_version, text)
    if "×" in text or "*" in text:
        text = _PRODUCT.sub("-ჯერ ", text)
    if "x" in text or "X" in text:
        text = _BY.sub(_by, text)
    return text


def _by(match: re.Match[str]) -> str:
    """4x100 მ of a relay is four times a hundred metres, 10x15 სმ a size."""
    if "ესტაფეტ" in match.string:
        return f"{match[1]}-ჯერ {match[2]}"
    return f"{whole(match[1])} {match[2]}-ზე"


def _fraction(match: re.Match[str]) -> str:
    top, bottom, ending = int(match[2]), int(match[3]), match["ending"] or ""
    if top >= 1000:  # school years: 2025/26 is a range, which `read_amounts` reads
        return f"{match[1] + ' ' if match[1] else ''}{top}–{bottom}{'-' + ending if ending else ''}"
    if bottom < 2 or bottom > 1000 or top == bottom or (top > bottom and top > 20):
        reading = f"{whole(match[2])} {decline(whole(match[3]), 'ზე')}"
        return apart(match, f"{whole(match[1])} {reading}" if match[1] else reading)
    case = agreement(ending) if ending else case_before(match["next"] or "")
    if (top, bottom) == (1, 2) and match["next"] and not ending:
        half = agree("ნახევარი", case)
        return apart(match, f"{whole(match[1])} და {half}" if match[1] else half)
    if top == 1 and (match["next"] or "").startswith("ფინალ"):  # 1/8 ფინალში → მერვედ ფინალში
        return apart(match, part(bottom)[:-1])
    noun = decline(part(bottom), ending) if ending else agree(part(bottom), case)
    if top == 1 and not is_case_ending(ending):  # 1/4-ფინალი → მეოთხედფინალი
        return apart(match, noun)
    reading = f"{agree(cardinal(top), case)} {noun}"
    return apart(match, f"{whole(match[1])} მთელი {reading}" if match[1] else reading)


def _version(match: re.Match[str]) -> str:
    if _GROUPED.fullmatch(match[0]):
        return match[0]
    return apart(match, " წერტილი ".join(whole(group) for group in match[0].split(".")))


# ── numbers, ranges and their units ──────────────────────────────────────────────────────────────────────────────────


def _any_of(forms: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))


_SIGN_UNITS = [form for form in [*_MONEY, *_UNITS] if not form[0].isalpha()]
_WORD_UNITS = [form for form in [*_MONEY, *_UNITS] if form[0].isalpha()]
_PER_UNITS = word_table(
    "სთ=საათში საათი=საათში საათში=საათში h=საათში წმ=წამში s=წამში წთ=წუთში min=წუთში დღე=დღეში დღ=დღეში თვე=თვეში "
    "წელი=წელიწადში კაცი=კაცზე ღამე=ღამეში კგ=კილოგრამზე kg=კილოგრამზე ლ=ლიტრზე l=ლიტრზე მ2=კვადრატულ_მეტრზე "
    "მ=მეტრზე მლ=მილილიტრზე ცალი=ცალზე ც=ცალზე კმ=კილომეტრზე კმ2=კვადრატულ_კილომეტრზე ტ=ტონაზე ჰა=ჰექტარზე "
    "მ3=კუბურ_მეტრზე"
)
_PER = _any_of(_PER_UNITS)
_AMOUNT = re.compile(
    r"(?=[^ა-ჰ .,])"
    r"(?P<sign>(?<![^\s(,;:!?.])(?:[-+–](?=[\d$€£¥₾₽₺])|[±~≈≤≥] ?))?"
    r"(?P<label>(?:(?<![\w])N\.?|\#) ?)?"
    rf"(?:(?<![A-Za-z])(?P<currency>{_any_of(_MONEY)}) ?)?"
    rf"(?P<a>{NUMBER})(?:(?: ?– ?|-)(?P<b>{NUMBER})(?![-–]?\d))?"
    rf"(?: ?(?P<magnitude>{_any_of(_MAGNITUDES)})(?:ი(?!-)|(?P<own_stop>\.))?(?!\w|-[^ა-ჵ]))?"
    r"(?: ?(?:(?:(?P<square>კვ)|(?P<cube>კუბ))\.? ?(?=[კსმდ]?მ))?"
    rf"(?:(?P<unit>{_any_of(_SIGN_UNITS)})(?!\d)(?:/(?P<per>{_PER})(?![\w]))?|"
    rf"(?P<word>{_any_of(_WORD_UNITS)})(?P<power>[23])?(?:/(?P<word_per>{_PER}))?(?![\w])(?!\. ?[ა-ჵ]\.)(?P<stop>\.(?! "
    rf"?\d|\.|-))?))?"
    rf"(?:(?P<hyphen>[-–])?(?P<ending>[ა-ჵ]+)|(?P<plus>\+(?![\d])))?{FOLLOWED}"
)
_REPEATED_SIGN = re.compile(r"(?<=\d)(%|°C?) ?[-–] ?(?=\d+(?:[.,]\d+)?\1)")
_HYPHENED_UNIT = re.compile(r"(?<=\d)-(?=[ა-ჰ]{1,4}-იან)")  # 2-კგ-იანი
_SPELLED_MONEY = re.compile(r"(?<=[.,]\d\d) (ლარ|დოლარ|ევრო)(?![ა-ჵ]{5})([ა-ჵ]*)")
_SPELLED = {"ლარ": "₾", "დოლარ": "$", "ევრო": "€"}
_SPELLED_MAGNITUDES = "მილიონ|მილიარდ|ტრილიონ|ათას"
_PREFIXED = re.compile(  # the sign before an inflected magnitude: $350 მილიონს
    rf"(?P<sign>(?:US)?[$€£¥₾₽₺]) ?(?P<n>{NUMBER}(?: ?[-–] ?{NUMBER})?) ?(?P<magnitude>{_SPELLED_MAGNITUDES}|მლნ|მლრდ|"
    r"ტრლნ|ათ|[KMB](?![A-Za-z]))"
    r"(?:\.(?!-)|\.?-(?P<hyphen>[ა-ჵ]+)|(?P<ending>[ა-ჵ]*))(?![ა-ჵ])"
)
_SMALLER_MAGNITUDE = re.compile(r" \d{1,3} ?(?:ათ|მლნ|მილიონ)")
_LETTER_MAGNITUDES = {"K": "ათას", "M": "მლნ", "B": "მლრდ"}  # $3.5M
_HAVING = re.compile(  # 250 ლარიანი is written apart as often as 250-ლარიანი
    r"(\d) ((?:ლარ|თეთრ|დოლარ|ევრო|წლ|დღ|თვ|კვირ|საათ|წუთ|კაც|ადგილ|ოთახ|სართულ|კილომეტრ|მეტრ|სანტიმეტრ|პროცენტ|გრამ|"
    r"ლიტრ|"
    r"კილოგრამ|ტომ|გვერდ|სერი|პუნქტ|ნაწილ|მილიონ|ათას|ქულ|გრადუს)იან[ა-ჰ]*)"
)
_SPELLED_PER = re.compile(rf"(ლარი?|დოლარი?|ევრო|თეთრი?|ცალი|კალორია)/({_any_of(_PER_UNITS)})(?![\w])")
_LARI = re.compile(r"(?<![\w.,])(\d+[.,]\d\d) ?ლ\.?(?![\wა-ჵ])")
_SIGN_BEFORE = re.compile(r"[$€£¥₾₽₺] ?\d")
_LARI_AND_TETRI = re.compile(r"(?<![\w.,])(\d+) ?ლ\.? ?(?:და )?(\d\d?) ?თ\.?(?![ა-ჵ])")
_LINKED = re.compile(r" (?:და|ან|თუ) \d+(?:[.,]\d+)?(?= [ა-ჵ])")
_NO_NOUN = frozenset("და ან თუ არის იყო ხოლო რომ მაგრამ კი არა ან".split())  # a number does not agree with these


def read_amounts(text: str) -> str:
    """Read every number that is left, with its sign, currency, magnitude, unit and ending."""
    if "%" in text or "°" in text:
        text = _REPEATED_SIGN.sub("–", text)
    if "-იან" in text:
        text = _HYPHENED_UNIT.sub(" ", text)
    if "ფას" in text or "ღირ" in text:
        text = _LARI.sub(r"\1 ლარი", text)
    if "ლარ" in text or "ევრო" in text:
        text = _SPELLED_MONEY.sub(lambda m: f" {_SPELLED[m[1]]}{'-' * bool(m[2])}{m[2]}", text)
    if _SIGN_BEFORE.search(text):
        text = _PREFIXED.sub(_prefixed, text)
    if "იან" in text:
        text = _HAVING.sub(r"\1-\2", text)
    if "/" in text:
        text = _SPELLED_PER.sub(lambda m: f"{m[1]} {_PER_UNITS[m[2]].replace('_', ' ')}", text)
    if " თ" in text:
        text = _LARI_AND_TETRI.sub(_lari_and_tetri, text)
    return _AMOUNT.sub(_amount, text)


def _prefixed(match: re.Match[str]) -> str:
    ending = match["hyphen"] or match["ending"]
    if not match["hyphen"] and match["magnitude"] in ("ათ", "მლნ", "მლრდ", "ტრლნ") and ending:
        return match[0]
    ending = "" if ending == "ი" else ending
    magnitude = _LETTER_MAGNITUDES.get(match["magnitude"], match["magnitude"])
    return f"{match['n']} {magnitude} {match['sign']}{'-' if ending else ''}{ending}"


def _lari_and_tetri(match: re.Match[str]) -> str:
    return f"{read_number(match[1])} ლარი და {read_number(match[2])} თეთრი"


def _amount(match: re.Match[str]) -> str:
    ending, trailing = match["ending"] or "", ""
    if ending and not match["hyphen"] and not (is_case_ending(ending) or ending.startswith("იან")):
        ending, trailing = "", " " + ending  # 5კაცი: a word without its space, not an ending
    following = trailing.strip() or _counted(match)
    reading = _number_and_unit(match, ending, following if following not in _NO_NOUN else "")
    if match["label"]:
        reading = f"{'ნომერ' if case_before(following) == DROP else 'ნომერი'} {reading}"
    sign = _SIGNS[match["sign"].strip()] + " " if match["sign"] else ""
    own_stop = match["own_stop"] and match.end() == match.end("own_stop")
    stop = "." if (match["stop"] or own_stop) and ends_sentence(match.string, match.end()) else ""
    return apart(match, f"{sign}{reading}{' პლუს' if match['plus'] else ''}{trailing}{stop}")


def _counted(match: re.Match[str]) -> str:
    """The noun that the number counts: also behind an adjective in a vowel, or another number (5 და 7 მაისს)."""
    following = match["next"] or ""
    if following in ("და", "ან", "თუ") and (linked := _LINKED.match(match.string, match.end())):
        return head_noun(match.string, linked.end())
    return head_noun(match.string, match.end()) if following else ""


def _number_and_unit(match: re.Match[str], ending: str, following: str) -> str:
    """The number or range, its magnitude and unit, all in the case that `ending` asks for."""
    form = match["currency"] or match["unit"] or match["word"]
    magnitude = _MAGNITUDES.get(match["magnitude"], "")
    if form and ending == "ი":
        ending = ""
    derived = not is_case_ending(ending)
    if form in _MONEY and not magnitude and not match["b"] and not derived:
        change = split_number(match["a"])[1]
        if change and len(change) <= 2 and len(_MONEY[form]) == 2:
            return _money(match["a"], form, ending) + _per(match["per"])
    if form and not ending and not (match["per"] or match["word_per"]):
        ending = _ending_before(form, bool(match["power"] or match["square"]), following)
        if ending == "stem":
            return _with_stem(match, form, magnitude, case_before(following))
    case = DROP if derived else agreement(ending) if ending or form else case_before(following)
    if not form and not magnitude:
        return _bare(match["a"], match["b"], ending, following, case)
    number = _number_or_range(match, case)
    if magnitude:
        if not form and not ending and _SMALLER_MAGNITUDE.match(match.string, match.end()):
            return f"{number} {stem_of(magnitude)}"  # 2 მლნ 350 ათასი
        if derived and not form and " " not in number:
            return f"{number}{stem_of(magnitude)}{ending}"  # ხუთმილიონიანი
        number = agree(f"{number} {magnitude}", case)
        if not form:
            return f"{number.rpartition(' ')[0]} {decline(magnitude, ending)}" if ending else number
    noun = _MONEY[form][0] if form in _MONEY else _UNITS[form]
    adjective = _POWERS.get(match["power"] or match["square"] or match["cube"], "")
    if derived and (adjective or split_number(match["a"])[1]):  # 2,5%-იანი: the unit cannot be joined to the number
        number = _number_or_range(match, KEEP) + (f" {magnitude}" if magnitude else "")
        derived = False
    unit = agree(adjective, case) + " " if adjective else ""
    tail = _SCALE_TAILS.get(form, "") + _per(match["per"] or match["word_per"])
    return f"{number}{'' if derived else ' '}{unit}{decline(noun, ending)}{tail}"


def _ending_before(form: str, is_area: bool, following: str) -> str:
    """The case of a unit before an inflected noun: "stem" where it agrees, ის before a measure, "" where it stays."""
    if form in _LENGTHS and following.startswith(_DIMENSION_STEMS) and following not in _DIMENSIONS:
        return "ის"
    if (is_area or form in _SUBSTANCES) and following and not following.endswith("მდე") and following not in _NO_NOUN:
        return "stem" if case_before(following) != KEEP else ""
    return ""


def _with_stem(match: re.Match[str], form: str, magnitude: str, case: str) -> str:
    number = _number_or_range(match, case)
    if magnitude:
        number = agree(f"{number} {magnitude}", case)
    adjective = _POWERS.get(match["power"] or match["square"] or match["cube"], "")
    return f"{number} {agree(adjective, case) + ' ' if adjective else ''}{agree(_UNITS[form], case)}"


def _per(unit: str | None) -> str:
    return " " + _PER_UNITS[unit].replace("_", " ") if unit else ""


def _number_or_range(match: re.Match[str], case: str) -> str:
    first = read_number(match["a"], case)
    return paired(first, read_number(match["b"], case)) if match["b"] else first


def _bare(first: str, second: str | None, ending: str, following: str, case: str) -> str:
    """A number or range without a unit: with its ending, before its noun, or alone."""
    if not second:
        if ending in ("მა", "მ") and case_before(following) == ERGATIVE:
            ending, case = "", ERGATIVE  # 8-მა ბავშვმა → რვა ბავშვმა
        if ending:
            return inflect_number(first, ending)
        if first == "2000" and case == DROP and following.startswith("წ"):
            return "ორი ათას"
        return read_number(first, case)
    if ending:
        return paired(read_number(first, case), inflect_number(second, ending))
    if following or value(first) >= value(second):
        return paired(read_number(first, case), read_number(second, case))
    return f"{inflect_number(first, 'დან')} {inflect_number(second, 'მდე')}"


def _money(written: str, form: str, ending: str) -> str:
    """12,50 ₾ → თორმეტი ლარი და ორმოცდაათი თეთრი, both nouns in the case of `ending`."""
    unit, hundredth = _MONEY[form]
    integer, change = split_number(written)
    cents, case = int(change.ljust(2, "0")), agreement(ending)
    units = agree(whole(integer), case)
    coins = f"{agree(cardinal(cents), case)} {decline(hundredth, ending)}"
    if not cents:
        return f"{units} {decline(unit, ending)}"
    if not integer.strip("0"):
        return coins
    linked = "ად" if ending == "ად" else {DROP: "სა", KEEP: "ისა" if ending else ""}.get(case, "მა")
    return f"{units} {decline(unit, linked)} და {coins}"


# ── symbols ──────────────────────────────────────────────────────────────────────────────────────────────────────────

_RULE_LINE = re.compile(r"([=+*#/~&_%@°])\1+")
_SYMBOL = re.compile(f"[{re.escape(''.join(_SYMBOLS))}]")
_UNREAD = re.compile("[/*#×]")


def read_symbols(text: str) -> str:
    """Read the symbols that have a name; runs of one symbol (=====) and symbols without a name become spaces."""
    text = _RULE_LINE.sub(" ", text)
    return _UNREAD.sub(" ", _SYMBOL.sub(lambda m: f" {_SYMBOLS[m[0]]} ", text))
