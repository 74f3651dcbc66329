"""Written numbers in context → words: money, measures, dates, times, telephones, ranges, Roman numerals.

`read_quantities` runs the passes in an order that matters: what has the most particular shape goes first, so
that the next pass never sees its digits. Where Georgian leaves a choice, this is what is read:

* a date, year first, as on the radio: 12.03.2026 → ორი ათას ოცდაექვსი წლის თორმეტი მარტი; the first of a
  month is პირველი;
* 14:30 → თოთხმეტი საათი და ოცდაათი წუთი; 14:00 → თოთხმეტი საათი; a ratio or score, 3:1 → სამი-ერთი;
* a range before a noun is the hyphenated pair, 5–7 წელი → ხუთი-შვიდი წელი; alone it is ხუთიდან შვიდამდე;
* 3,14 → სამი მთელი თოთხმეტი მეასედი; from the fourth place on digit by digit after მძიმე;
* the comma is the decimal sign and the full stop groups thousands where three digits follow (1.234 → 1234,
  but 0.125), and three digits that end in 0 are a group after a comma as well (12,500 → 12500), for nobody
  writes that zero;
* 1/2 → ერთი მეორედი; 24/7 → ოცდაოთხი შვიდზე; 2025/26 is a range of years;
* telephone numbers by groups with a pause between them, 599 12 34 56 → ხუთას ოთხმოცდაცხრამეტი, თორმეტი, …;
* a number zero-padded or longer than 18 digits, digit by digit.
"""

from __future__ import annotations

import re

from xtts_ka.georgian.numbers import (
    DROP,
    KEEP,
    agree,
    agreement,
    case_before,
    decline,
    digits,
    is_case_ending,
    ordinal,
    part,
    whole,
)

# ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────

_CURRENCIES = {  # written forms: unit, its hundredth
    "₾ GEL": ("ლარი", "თეთრი"),
    "$ US$ USD": ("დოლარი", "ცენტი"),
    "€ EUR": ("ევრო", "ცენტი"),
    "£ GBP": ("ფუნტი", "პენსი"),
    "₽ RUB": ("რუბლი", "კაპიკი"),
    "₺ TRY": ("ლირა", "ყურუში"),
    "¥ JPY": ("იენი", ""),
}
_MEASURES = {  # written forms: noun
    "კმ km": "კილომეტრი", "მ m": "მეტრი", "დმ": "დეციმეტრი", "სმ cm": "სანტიმეტრი", "მმ mm": "მილიმეტრი",
    "კგ kg": "კილოგრამი", "გ გრ g": "გრამი", "მგ mg": "მილიგრამი", "ტ t": "ტონა", "ლ l": "ლიტრი",
    "მლ ml": "მილილიტრი",
    "დღ": "დღე", "სთ h": "საათი", "წთ min": "წუთი", "წმ sec s": "წამი", "მწმ ms": "მილიწამი",
    "ჰა ha": "ჰექტარი",
    "ვტ W": "ვატი", "კვტ kW": "კილოვატი", "მვტ MW": "მეგავატი", "კვტ/სთ კვტ.სთ კვტსთ kWh": "კილოვატსაათი",
    "ვ V": "ვოლტი",
    "ჰც Hz": "ჰერცი", "კჰც kHz": "კილოჰერცი", "მჰც MHz": "მეგაჰერცი", "გჰც GHz": "გიგაჰერცი",
    "დბ dB": "დეციბელი",
    "კბ KB kB": "კილობაიტი", "მბ MB": "მეგაბაიტი", "გბ GB": "გიგაბაიტი", "ტბ TB": "ტერაბაიტი",
    "კალ": "კალორია",
    "კკალ kcal": "კილოკალორია", "ც/ძ ც.ძ": "ცხენის ძალა", "% პროც": "პროცენტი", "‰": "პრომილე",
    "° გრად": "გრადუსი", "°C": "გრადუსი", "°F": "გრადუსი",
}  # fmt: skip
_POWERS = {"2": "კვადრატული", "კვ": "კვადრატული", "3": "კუბური", "კუბ": "კუბური"}
_SCALE_TAILS = {"°C": " ცელსიუსით", "°F": " ფარენჰაიტით"}
_MAGNITUDES = {"ათას": "ათასი", "ათ": "ათასი", "მლნ": "მილიონი", "მილიონ": "მილიონი", "მლრდ": "მილიარდი"}
_MAGNITUDES |= {"მილიარდ": "მილიარდი", "ტრლნ": "ტრილიონი", "ტრილიონ": "ტრილიონი"}
_MAGNITUDES |= {"mln": "მილიონი", "bn": "მილიარდი"}
_MONTHS = ("იანვარი თებერვალი მარტი აპრილი მაისი ივნისი ივლისი აგვისტო სექტემბერი ოქტომბერი ნოემბერი დეკემბერი").split()
_SIGNS = {"-": "მინუს ", "–": "მინუს ", "+": "პლუს ", "±": "პლუს მინუს ", "~": "დაახლოებით "}
_SIGNS |= {"≈": "დაახლოებით ", "≤": "არაუმეტეს ", "≥": "არანაკლებ "}
_SYMBOLS = {
    "%": "პროცენტი", "‰": "პრომილე", "°": "გრადუსი", "&": "და", "§": "პარაგრაფი", "@": "ეთ", "+": "პლუს",
    "=": "უდრის", "±": "პლუს მინუს", "≈": "დაახლოებით", "~": "დაახლოებით", "≤": "არაუმეტეს", "≥": "არანაკლებ",
}  # fmt: skip

_MONEY = {form: names for forms, names in _CURRENCIES.items() for form in forms.split()}
_UNITS = {form: noun for forms, noun in _MEASURES.items() for form in forms.split()}
_SYMBOLS |= {form: names[0] for form, names in _MONEY.items() if len(form) == 1}


def _any_of(forms) -> str:
    return "|".join(map(re.escape, sorted(forms, key=len, reverse=True)))


def _apart(match: re.Match, reading: str) -> str:
    """The reading, with a space where the digits touched a letter or another digit."""
    before = match.string[match.start() - 1 : match.start()]
    after = match.string[match.end() : match.end() + 1]
    return f"{' ' if before.isalnum() else ''}{reading}{' ' if after.isalnum() else ''}"


def _join(first: str, second: str) -> str:
    """Two readings as a hyphenated pair; with a dash between them if either has several words."""
    return f"{first} - {second}" if " " in first or " " in second else f"{first}-{second}"


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────

_GROUPS = r"(?:(?: \d{3})+|(?:\.\d{3})+|(?:,\d{3})+|(?:'\d{3})+)"
_NUMBER = rf"(?:[1-9]\d{{0,2}}{_GROUPS}(?:[.,]\d+)?(?!\d)|\d+(?:[.,]\d+)?)"
_PLACES = {1: "მეათედი", 2: "მეასედი", 3: "მეათასედი"}


def _split_number(written: str) -> tuple[str, str]:
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


def _read_number(written: str, case: str = KEEP) -> str:
    """A number before a noun (or alone): `case` is what its -ი does."""
    integer, fraction = _split_number(written)
    if not fraction:
        return agree(whole(integer), case)
    if len(fraction) > 3:
        return f"{whole(integer)} მძიმე {agree(digits(fraction), case)}"
    count = agree(whole(fraction.lstrip("0") or "0"), case)
    return f"{whole(integer)} მთელი {count} {agree(_PLACES[len(fraction)], case)}"


def _inflect_number(written: str, ending: str) -> str:
    """A number with a case ending or suffix hyphenated to it: 2026-ში, 40-იანი, 2,5-ჯერ, 5-წლიანი."""
    integer, fraction = _split_number(written)
    if not fraction:
        if integer == "2000" and is_case_ending(ending):  # the year: ორი ათასში, as ორი ათას ერთში
            return "ორი " + decline("ათასი", ending)
        return decline(whole(integer), ending)
    if fraction == "5" and ending == "ჯერ":
        return decline(whole(integer), "ნახევარჯერ")
    head, last = _read_number(written).rsplit(" ", 1)
    if is_case_ending(ending):
        head = agree(head, agreement(ending))
    return f"{head} {decline(last, ending)}"


# ── telephone numbers ───────────────────────────────────────────────────────────────────────────────────────

_PHONE = re.compile(
    r"(?<![\w.,/+-])(?:"
    r"\+\d{1,4}[ -]?(?:\(\d{1,4}\)[ -]?)?\d{1,4}(?:[ -]?\d{2,4}){1,4}"
    r"|\(\d{2,4}\)[ -]?\d{1,3}(?:[ -]?\d{2,3}){1,4}"
    r"|(?<!\d )0(?!0)\d{2,3}(?:[ -]\d{1,3})(?:[ -]?\d{2,3}){2,3}"
    r"|5\d\d(?:[ -]\d\d){3}|5\d\d[ -]\d{3}[ -]\d{3}|5\d\d[ -]\d{6}|5\d{8}(?<!000)(?! ?(?:[$€£¥₾₽₺%]|ლარ|დოლარ|ევრო|კაც|ადამიან))"
    r"|(?:[2-9]-)?\d\d-\d\d-\d\d|\d{3}-\d\d-\d\d"
    r")(?![\d/-]|[.,]\d)"
)


def _read_phones(text: str) -> str:
    return _PHONE.sub(_phone, text)


def _phone(match: re.Match) -> str:
    written = match[0]
    if len(re.sub(r"\D", "", written)) < 6:
        return written
    groups = [size for run in re.findall(r"\d+", written) for size in _phone_groups(run)]
    readings = [_phone_group(group) for group in groups]
    return _apart(match, ("პლუს " if written[0] == "+" else "") + ", ".join(readings))


def _phone_groups(run: str) -> list[str]:
    """Digits written together as they are dictated: 995599123456 → 995 599 12 34 56."""
    if len(run) <= 4 and len(run) != 4:
        return [run]
    if run.startswith("995") and len(run) > 9:
        return [run[:3], *_phone_groups(run[3:])]
    head = run[: 3 if len(run) % 2 else 2]
    return [head, *(run[i : i + 2] for i in range(len(head), len(run), 2))]


def _phone_group(group: str) -> str:
    zeros = len(group) - len(group.lstrip("0"))
    rest = group[zeros:]
    return " ".join(["ნული"] * zeros + ([whole(rest)] if rest else []))


# ── dates ───────────────────────────────────────────────────────────────────────────────────────────────────

_DATE = re.compile(
    r"(?<![\w.,/-])(?:(?P<d>\d{1,2})(?P<s>[./-])(?P<m>\d{1,2})(?P=s)(?P<y>\d{4}|\d\d)"
    r"|(?P<Y>\d{4})-(?P<M>\d\d)-(?P<D>\d\d))(?![\d/]|[.,-]\d)"
    r"(?: ?წ\.(?=\W|$)| (?P<word>წელი|წლის|წელს|წლიდან|წლამდე)(?![ა-ჵ]))?(?:-(?P<ending>[ა-ჵ]+))?"
)
_DATE_LIKE = re.compile(r"\d[./-]\d\d?[./-]\d")
_YEAR_ENDINGS = {"წლის": "ის", "წელს": "ს", "წლიდან": "დან", "წლამდე": "მდე"}
_MONTH_STEM = r"(?:იანვ|თებერვ|მარტ|აპრილ|მაის|ივნის|ივლის|აგვისტ|სექტემბ|ოქტომბ|ნოემბ|დეკემბ)[ა-ჵ]*"
_FIRST = re.compile(rf"\b(?<![.,–-])0?1 (?={_MONTH_STEM})(?P<month>(?=[ა-ჵ]+))")
_PADDED_DAY = re.compile(rf"\b(?<![.,])0(?=[2-9] {_MONTH_STEM})")
_YEAR_STOP = re.compile(rf"(?<=\d) ?წ\.(?= ?(?:\d{{1,2}} )?{_MONTH_STEM})")


def _read_dates(text: str) -> str:
    if _DATE_LIKE.search(text):
        text = _DATE.sub(_date, text)
    if "წ." in text:
        text = _YEAR_STOP.sub(" წლის", text)
    if "0" in text:
        text = _PADDED_DAY.sub("", text)
    return _FIRST.sub(_first_of_month, text) if "1 " in text else text


def _date(match: re.Match) -> str:
    day, month = int(match["d"] or match["D"]), int(match["m"] or match["M"])
    if not (1 <= day <= 31 and 1 <= month <= 12) or (match["s"] == "-" and len(match["y"]) == 2):
        return match[0]
    year = whole((match["y"] or match["Y"]).lstrip("0") or "0")
    ending = match["ending"] or _YEAR_ENDINGS.get(match["word"] or "", "")
    if ending == "ში":
        ending = "ს"  # one is born on a day: თორმეტ მარტს
    count = agree("პირველი" if day == 1 else whole(str(day)), agreement(ending))
    return _apart(match, f"{year} წლის {count} {decline(_MONTHS[month - 1], ending)}")


def _first_of_month(match: re.Match) -> str:
    month = re.compile("[ა-ჵ]+").match(match.string, match.end())
    return agree("პირველი", case_before(month[0])) + " "


# ── times ───────────────────────────────────────────────────────────────────────────────────────────────────

_CLOCK = r"(?<![\w:.,])(?P<h>[01]?\d|2[0-4]){colon}(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d))?(?![\w:]|[.,]\d)"
_TIME = re.compile(
    _CLOCK.format(colon=":")
    + r"(?: ?[-–] ?(?P<h2>[01]?\d|2[0-4]):(?P<m2>[0-5]\d)(?!\d))?"
    + r"(?: ?სთ\.?| საათ(?P<word>[ა-ჵ]+))?(?:-(?P<ending>[ა-ჵ]+))?"
)
_DOTTED_TIME = re.compile(_CLOCK.format(colon=r"\.") + r"(?: ?სთ\.?-| საათ)(?P<ending>ზე|იდან|ამდე|ისთვის)(?![ა-ჵ])")
_RATIO = re.compile(r"(?<![\w:.,])(\d{1,6}):(\d{1,6})(?![\w:]|[.,]\d)")


def _read_times(text: str) -> str:
    if ":" in text:
        text = _TIME.sub(_time, text)
        text = _RATIO.sub(lambda m: _join(whole(m[1]), whole(m[2])), text)
    if "საათ" in text or "სთ" in text:
        text = _DOTTED_TIME.sub(lambda m: _clock(m["h"], m["m"], None, m["ending"]), text)
    return text


def _time(match: re.Match) -> str:
    ending = match["ending"] or (match["word"] or "").removeprefix("ი" if match["word"] == "ი" else "")
    if match["h2"]:
        first = _clock(match["h"], match["m"], None, "დან")
        return f"{first} {_clock(match['h2'], match['m2'], None, ending or 'მდე')}"
    return _apart(match, _clock(match["h"], match["m"], match["s"], ending))


def _clock(hour: str, minute: str, second: str | None, ending: str) -> str:
    """თოთხმეტი საათი და ოცდაათი წუთი, its last noun with `ending` and the others in the same case."""
    counts = [(int(hour), "საათი"), (int(minute), "წუთი"), (int(second or 0), "წამი")]
    counts = [counts[0], *((n, noun) for n, noun in counts[1:] if n)]
    case = agreement(ending)
    linked = {DROP: "სა", KEEP: "ისა" if ending else "ი"}.get(case, "მა")  # საათსა და …, საათისა და …
    phrases = [f"{agree(whole(str(n)), case)} {noun[:-1]}{linked}" for n, noun in counts[:-1]]
    n, noun = counts[-1]
    last = f"{agree(whole(str(n)), case)} {decline(noun, ending)}"
    return f"{', '.join(phrases)} და {last}" if phrases else last


# ── ordinals and Roman numerals ─────────────────────────────────────────────────────────────────────────────

_CENTURY = r"(?: ?(?P<century>სს?\.|საუკ\.|ს(?=-))(?:-(?P<c_ending>[ა-ჵ]+))?(?P<more>(?= [ა-ჵ]))?)?"
_FOLLOWED = r"(?:(?= (?P<next>[ა-ჵ]+)))?"
_ORDINAL = re.compile(
    r"(?<![\w-])(?:მე[-–]?(?P<a>\d{1,18})(?:[-–](?:მე-?)?(?P<b>\d{1,18}))?"
    r"(?:-?ე(?![ა-ჵ]))?(?:-(?P<ending>[ა-ჵ]+))?"
    r"|(?P<c>\d{1,18})(?:-?ე)?(?:[-–](?P<d>\d{1,18}))?-?ე(?P<e_ending>ს|მ|ში|ზე|დან|მდე|თან|ც)?(?![ა-ჵ])"
    rf"|(?P<first>0?1)-?ე?ლ(?P<f_ending>[ა-ჵ]*))(?!\d){_CENTURY}{_FOLLOWED}"
)
_FRACTIONAL = re.compile(r"(?<![\w.,-])(?:მე-)?(\d{1,9})-ედ([ა-ჵ]*)")
_ROMAN_DIGITS = "IVXLCDMІХ"
_ROMAN = re.compile(
    rf"(?<![\w°-])(?P<me>მე-)?(?P<a>[{_ROMAN_DIGITS}]+|[ivxх]+(?=[-–ivxх]* ?(?:საუკუნ|სს?\.)))"
    rf"(?: ?[-–] ?(?P<b>[{_ROMAN_DIGITS}ivxх]+))?(?![A-Za-z0-9])"
    rf"(?:-ე(?![ა-ჵ]))?(?:-(?P<ending>[ა-ჵ]+))?{_CENTURY}{_FOLLOWED}"
)
_ROMAN_FORM = re.compile(r"(?=.)M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_LATIN_BEFORE = re.compile(r"[A-Za-z] ?$")
_LATIN_AFTER = re.compile(r"[ '-]?[A-Za-z]")
_GEORGIAN_BEFORE = re.compile(r"[ა-ჵ][,.]? $")


def _read_ordinals(text: str) -> str:
    if "-ედ" in text:
        text = _FRACTIONAL.sub(_fractional, text)
    return _ORDINAL.sub(_ordinal, text)


def _fractional(match: re.Match) -> str:
    n = int(match[1])
    return _apart(match, part(n)[:-1] + match[2]) if n > 1 else match[0]


def _ordinal(match: re.Match) -> str:
    if match["first"]:
        ending = "" if match["f_ending"] == "ი" else match["f_ending"]
        reading = decline("პირველი", ending) if match["f_ending"] else "პირველ"
    else:
        numbers = [int(n) for n in (match["a"] or match["c"], match["b"] or match["d"]) if n]
        reading = _ordinals(numbers, match["ending"] or match["e_ending"] or "", match)
    return _apart(match, reading + _century(match))


def _ordinals(numbers: list[int], ending: str, match: re.Match) -> str:
    readings = [ordinal(n) for n in numbers]
    case = agreement(ending or match["c_ending"] or "")
    if match["next"] and not ending and not match["century"]:
        case = case_before(match["next"])
    readings = [agree(reading, case) if reading == "პირველი" else reading for reading in readings]
    if ending:
        readings[-1] = decline(ordinal(numbers[-1]), ending)
    return _join(*readings) if len(readings) == 2 else readings[0]


def _century(match: re.Match) -> str:
    """Read ს., სს., საუკ. after an ordinal; before another word it is the genitive (XIX ს. ბოლოს)."""
    if not match["century"]:
        return ""
    more = match["more"] is not None
    ending = match["c_ending"] or ("ის" if more else "")
    noun = "საუკუნეები" if match["century"] == "სს." else "საუკუნე"
    over = not more and not match["c_ending"] and not match.string[match.end() :].strip()
    return f" {decline(noun, ending)}{'.' if over else ''}"


def _roman_value(roman: str) -> int:
    """The value of a canonical Roman numeral (Cyrillic look-alikes allowed), 0 for anything else."""
    roman = roman.upper().replace("І", "I").replace("Х", "X")
    if not _ROMAN_FORM.fullmatch(roman):
        return 0
    values = [_ROMAN_VALUES[letter] for letter in roman]
    return sum(-v if v < following else v for v, following in zip(values, [*values[1:], 0], strict=True))


def _read_roman(text: str) -> str:
    return _ROMAN.sub(_roman, text)


def _roman(match: re.Match) -> str:
    numbers = [_roman_value(roman) for roman in (match["a"], match["b"]) if roman]
    if not all(numbers) or not _is_numeral(match):
        return match[0]
    return _apart(match, _ordinals(numbers, match["ending"] or "", match) + _century(match))


def _is_numeral(match: re.Match) -> bool:
    """Whether Roman letters are a number here, not an initialism or an English word."""
    small = not match["a"].strip("IVXІХivxх")
    if match["me"] or match["century"] or (match["ending"] and small):
        return True
    if (match["next"] or "").startswith("საუკუნ"):
        return True
    before = match.string[max(0, match.start() - 2) : match.start()]
    after = match.string[match.end() : match.end() + 2]
    if _LATIN_BEFORE.search(before) or _LATIN_AFTER.match(after):
        return False
    if not small:
        return len(match["a"]) >= 4
    return len(match["a"]) > 1 or bool(match["b"] or match["next"] or _GEORGIAN_BEFORE.search(before))


# ── fractions, versions, products ───────────────────────────────────────────────────────────────────────────

_FRACTION = re.compile(
    r"(?<![\w/.,])(?:(\d{1,9}) )?(\d{1,4})/(\d{1,4})(?![\w/]|[.,]\d)(?:-(?P<ending>[ა-ჵ]+))?" + _FOLLOWED
)
_VERSION_LIKE = re.compile(r"\.\d+\.\d")
_VERSION = re.compile(r"\b\d(?<![.,]\d)\d*(?:\.\d+){2,}(?!\d)")
_GROUPED = re.compile(r"[1-9]\d{0,2}(?:\.\d{3})+")
_PRODUCT = re.compile(r"(?<=\d) ?[×*] ?(?=\d)")
_BY = re.compile(r"\b(?<![.,])(\d{1,6}) ?[xX] ?(\d{1,6})(?![\w])")


def _read_fractions(text: str) -> str:
    if "/" in text:
        text = _FRACTION.sub(_fraction, text)
    if _VERSION_LIKE.search(text):
        text = _VERSION.sub(_version, text)
    if "×" in text or "*" in text:
        text = _PRODUCT.sub("-ჯერ ", text)
    if "x" in text or "X" in text:
        text = _BY.sub(r"\1 \2-ზე", text)
    return text


def _fraction(match: re.Match) -> str:
    top, bottom, ending = int(match[2]), int(match[3]), match["ending"] or ""
    if top >= 1000:  # school years: 2025/26 is a range, and the pass for ranges reads it
        return f"{match[1] + ' ' if match[1] else ''}{top}–{bottom}{'-' + ending if ending else ''}"
    if bottom < 2 or bottom > 1000 or top == bottom or (top > bottom and top > 20):
        reading = f"{whole(match[2])} {decline(whole(match[3]), 'ზე')}"
        return _apart(match, f"{whole(match[1])} {reading}" if match[1] else reading)
    case = agreement(ending) if ending else case_before(match["next"]) if match["next"] else KEEP
    noun = decline(part(bottom), ending) if ending else agree(part(bottom), case)
    if top == 1 and not is_case_ending(ending):  # 1/4-ფინალი → მეოთხედფინალი
        return _apart(match, noun)
    reading = f"{agree(whole(str(top)), case)} {noun}"
    return _apart(match, f"{whole(match[1])} მთელი {reading}" if match[1] else reading)


def _version(match: re.Match) -> str:
    if _GROUPED.fullmatch(match[0]):
        return match[0]
    return _apart(match, " წერტილი ".join(whole(group) for group in match[0].split(".")))


# ── quantities ──────────────────────────────────────────────────────────────────────────────────────────────

_SIGN_UNITS = [form for form in [*_MONEY, *_UNITS] if not form[0].isalpha()]
_WORD_UNITS = [form for form in [*_MONEY, *_UNITS] if form[0].isalpha()]
_QUANTITY = re.compile(
    r"(?=[^ა-ჰ .,])"
    r"(?P<sign>(?<![^\s(,;:!?.])(?:[-+–](?=[\d$€£¥₾₽₺])|[±~≈≤≥] ?))?"
    r"(?P<label>(?:(?<![\w])N\.?|\#) ?)?"
    rf"(?:(?<![A-Za-z])(?P<currency>{_any_of(_MONEY)}) ?)?"
    rf"(?P<a>{_NUMBER})(?:(?: ?– ?|-)(?P<b>{_NUMBER})(?![-–]?\d))?"
    rf"(?: ?(?P<magnitude>{_any_of(_MAGNITUDES)})(?:ი|\.)?(?![\w-]))?"
    r"(?: ?(?:(?:(?P<square>კვ)|(?P<cube>კუბ))\.? ?(?=[კსმდ]?მ))?"
    rf"(?:(?P<unit>{_any_of(_SIGN_UNITS)})(?!\d)|(?P<word>{_any_of(_WORD_UNITS)})"
    r"(?P<power>[23])?(?:/(?P<per>სთ|წმ|წთ|h|s|min|კგ|ლ|მ))?(?![\w])))?"
    rf"(?:(?P<hyphen>[-–])?(?P<ending>[ა-ჵ]+)|(?P<plus>\+(?![\d])))?{_FOLLOWED}"
)
_REPEATED_SIGN = re.compile(r"(?<=\d)(%|°C?) ?[-–] ?(?=\d+(?:[.,]\d+)?\1)")
_SPELLED_MONEY = re.compile(r"(?<=[.,]\d\d) (ლარ|დოლარ|ევრო)(?![ა-ჵ]{5})([ა-ჵ]*)")
_SPELLED = {"ლარ": "₾", "დოლარ": "$", "ევრო": "€"}
_STREET = re.compile(r"(?<![ა-ჵ])ქ\. ?(?=#? ?\d)")
_NO_NOUN = frozenset("და ან თუ არის იყო ხოლო რომ მაგრამ კი არა ან".split())


def _read_amounts(text: str) -> str:
    text = _REPEATED_SIGN.sub("–", text)
    text = _SPELLED_MONEY.sub(lambda m: f" {_SPELLED[m[1]]}{'-' * bool(m[2])}{m[2]}", text)
    text = _STREET.sub("ქუჩა ", text)
    return _QUANTITY.sub(_quantity, text)


def _quantity(match: re.Match) -> str:
    ending, trailing = match["ending"] or "", ""
    if ending and not match["hyphen"] and not (is_case_ending(ending) or ending.startswith("იან")):
        ending, trailing = "", " " + ending  # 5კაცი: a word that has lost its space, not an ending
    following = trailing.strip() or match["next"] or ""
    reading = _amount(match, ending, following if following not in _NO_NOUN else "")
    if match["label"]:
        reading = f"{'ნომერ' if case_before(following) == DROP else 'ნომერი'} {reading}"
    sign, plus = _SIGNS.get((match["sign"] or "").strip(), ""), " პლუს" if match["plus"] else ""
    return _apart(match, f"{sign}{reading}{plus}{trailing}")


def _amount(match: re.Match, ending: str, following: str) -> str:
    """The number or range of a quantity, its magnitude and unit, all in the case that `ending` asks for."""
    form = match["currency"] or match["unit"] or match["word"]
    magnitude = _MAGNITUDES.get(match["magnitude"] or "", "")
    if form and ending == "ი":
        ending = ""
    derived = not is_case_ending(ending)
    if form in _MONEY and not magnitude and not match["b"] and not derived:
        change = _split_number(match["a"])[1]
        if change and len(change) <= 2 and _MONEY[form][1]:
            return _money(match, *_MONEY[form], ending)
    case = DROP if derived else agreement(ending) if ending or form else case_before(following)
    if not form and not magnitude:
        return _bare(match, ending, following, case)
    number = _range(match, case)
    if magnitude:
        number = agree(f"{number} {magnitude}", case)
        if not form:
            return f"{number.rpartition(' ')[0]} {decline(magnitude, ending)}" if ending else number
    noun = _MONEY[form][0] if form in _MONEY else _UNITS[form]
    adjective = _POWERS.get(match["power"] or match["square"] or match["cube"], "")
    if derived and (adjective or _split_number(match["a"])[1]):  # 2,5%-იანი: nothing to join the unit to
        number = _range(match, KEEP) + (f" {magnitude}" if magnitude else "")
        derived = False
    unit = agree(adjective, case) + " " if adjective else ""
    tail = _SCALE_TAILS.get(form, "") + _per(match["per"])
    return f"{number}{'' if derived else ' '}{unit}{decline(noun, ending)}{tail}"


def _per(unit: str | None) -> str:
    if not unit:
        return ""
    noun = _UNITS[unit]
    return " " + decline(noun, "ში" if noun in ("საათი", "წამი", "წუთი") else "ზე")


def _bare(match: re.Match, ending: str, following: str, case: str) -> str:
    """A number or range without a unit: with its ending, before its noun, or alone."""
    first, second = match["a"], match["b"]
    if not second:
        if ending:
            return _inflect_number(first, ending)
        if first == "2000" and case == DROP and following.startswith("წ"):
            return "ორი ათას"
        return _read_number(first, case)
    if ending:
        return _join(_read_number(first, case), _inflect_number(second, ending))
    if following or _value(first) >= _value(second):
        return _join(_read_number(first, case), _read_number(second, case))
    return f"{_inflect_number(first, 'დან')} {_inflect_number(second, 'მდე')}"


def _value(written: str) -> float:
    integer, fraction = _split_number(written)
    return float(f"{integer[:300]}.{fraction[:300] or 0}")


def _range(match: re.Match, case: str) -> str:
    first = _read_number(match["a"], case)
    return _join(first, _read_number(match["b"], case)) if match["b"] else first


def _money(match: re.Match, unit: str, hundredth: str, ending: str) -> str:
    """12,50 ₾ → თორმეტი ლარი და ორმოცდაათი თეთრი, both nouns in the case of `ending`."""
    integer, change = _split_number(match["a"])
    cents, case = int(change.ljust(2, "0")), agreement(ending)
    units = agree(whole(integer), case)
    coins = f"{agree(whole(str(cents)), case)} {decline(hundredth, ending)}"
    if not cents:
        return f"{units} {decline(unit, ending)}"
    if not integer.strip("0"):
        return coins
    linked = {DROP: "სა", KEEP: "ისა" if ending else ""}.get(case, "მა")
    return f"{units} {decline(unit, linked) if linked else unit} და {coins}"


# ── the passes ──────────────────────────────────────────────────────────────────────────────────────────────

_HAS_DIGIT = re.compile(r"\d")
_HAS_ROMAN = re.compile(f"[{_ROMAN_DIGITS}ivxх]")
_RULE_LINE = re.compile(r"([=+*#/~&_%@°])\1+")
_SYMBOL = re.compile(f"[{re.escape(''.join(_SYMBOLS))}]")
_UNREAD = str.maketrans("/*#×", "    ")


def read_quantities(text: str) -> str:
    """Replace every written number of cleaned `text` by words, then the symbols that have a name."""
    if _HAS_ROMAN.search(text):
        text = _read_roman(text)
    if _HAS_DIGIT.search(text):
        for read in (_read_phones, _read_dates, _read_times, _read_ordinals, _read_fractions, _read_amounts):
            text = read(text)
    text = _RULE_LINE.sub(" ", text)
    return _SYMBOL.sub(lambda m: f" {_SYMBOLS[m[0]]} ", text).translate(_UNREAD)
