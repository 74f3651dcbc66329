"""Reads e-mail and web addresses as they are dictated, and telephone numbers by their groups of digits.

A telephone number is read group by group with a pause between them: 599 12 34 56 → ხუთას ოთხმოცდაცხრამეტი, თორმეტი, ….
"""

from __future__ import annotations

import re

from xtts_ka.georgian.declension import attach
from xtts_ka.georgian.foreign import sound
from xtts_ka.georgian.numbers import apart, digits, ordinal, whole

# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────────────────

_MARKS = dict(
    zip(
        ".@-_/:?=&#+%~",
        "წერტილი, ეთ, დეფისი, ქვედა ტირე, დახრილი ხაზი, ორწერტილი, კითხვის ნიშანი, უდრის, და, ჰეში, პლუსი, პროცენტი, "
        "ტილდა".split(", "),
        strict=True,
    )
)
_PARTS = {"www": "ვე ვე ვე", "com": "კომ", "ge": "ჯი", "org": "ორგ", "net": "ნეტ", "info": "ინფო"}
_TOP_LEVEL = "com|ge|org|net|edu|gov|io|info|ru|eu|uk|de|fr|tv|me|ai|app|dev|biz|am|az|ua|tr|us"
_ADDRESS = re.compile(
    r"(?<![A-Za-z0-9@._-])(?:"
    r"(?P<scheme>https?://|ftp://)(?P<rest>[!-~]*[A-Za-z0-9])/?"
    r"|(?P<mail>[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,})"
    rf"|(?P<site>(?:www\.[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*"
    rf"|[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*\.(?:{_TOP_LEVEL}))"
    r"(?![A-Za-z0-9])(?:/[!-~]*[A-Za-z0-9])?)/?"
    r")(?:-(?P<ending>[ა-ჵ]+))?"
)
_TOKEN = re.compile(r"[A-Za-z]+|\d+|[^A-Za-z\d]")


def read_addresses(text: str) -> str:
    """Dictate e-mail and web addresses: `info@site.ge → ინფო ეთ სიტე წერტილი ჯი`; the scheme is not read."""
    return _ADDRESS.sub(_address, text)


def _address(match: re.Match[str]) -> str:
    tokens = _TOKEN.findall(match["rest"] or match["mail"] or match["site"])
    reading = " ".join(filter(None, map(_address_part, tokens)))
    if match["ending"]:
        head, space, last = reading.rpartition(" ")
        reading = head + space + attach(last, match["ending"])
    return f" {reading} "


def _address_part(token: str) -> str:
    if token.isdigit():
        return whole(token)
    if token.isalpha():
        return _PARTS.get(token.lower()) or sound(token, by_spelling=True)
    return _MARKS.get(token, "")


# ── telephone numbers ────────────────────────────────────────────────────────────────────────────────────────────────

_PHONE = re.compile(
    r"(?<![\w.,/+-])(?:"
    r"\+\d{1,4}[ -]?(?:\(\d{1,4}\)[ -]?)?\d{1,4}(?:[ -]?\d{2,4}){1,4}"
    r"|\(\d{2,4}\)[ -]?\d{1,3}(?:[ -]?\d{2,3}){1,4}"
    r"|(?<!\d )0(?!0)\d{2,3}(?:[ -]\d{1,3})(?:[ -]?\d{2,3}){2,3}"
    r"|5\d\d(?:[ -]\d\d){3}|5\d\d[ -]\d{3}[ -]\d{3}|5\d\d[ -]\d{6}"
    r"|5\d{8}(?<!000)(?! ?(?:[$€£¥₾₽₺%]|ლარ|დოლარ|ევრო|კაც|ადამიან))"
    r"|(?:[2-9]-)?\d\d-\d\d-\d\d|\d{3}-\d\d-\d\d"
    r")(?![\d/-]|[.,]\d)"
)


def read_phones(text: str) -> str:
    """Read telephone numbers; the groups are those that are written, long ones divided as Georgians dictate them."""
    return _PHONE.sub(_phone, text)


def _phone(match: re.Match[str]) -> str:
    written = match[0]
    runs = re.findall(r"\d+", written)
    if len("".join(runs)) < 6:
        return written
    readings = [_group_reading(group) for run in runs for group in _groups(run)]
    return apart(match, ("პლუს " if written[0] == "+" else "") + ", ".join(readings))


def _groups(run: str) -> list[str]:
    """Digits written together as they are dictated: 995599123456 → 995 599 12 34 56."""
    if len(run) < 4:
        return [run]
    if run.startswith("995") and len(run) > 9:
        return [run[:3], *_groups(run[3:])]
    head = run[: 3 if len(run) % 2 else 2]
    return [head, *(run[i : i + 2] for i in range(len(head), len(run), 2))]


def _group_reading(group: str) -> str:
    rest = group.lstrip("0")
    return " ".join(["ნული"] * (len(group) - len(rest)) + ([whole(rest)] if rest else []))


# ── codes ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_CODE_NAMES = (
    "საიდენტიფიკაციო (?:კოდი|ნომერი)|საიდ\\. ?(?:კოდი|ნომერი|კ\\.|ნ\\.)|პირადი ნომერი|ს[/.] ?კ|ს[/.] ?ნ|პ[/.] ?ნ"
)
_CODE = re.compile(
    rf"(?P<name>(?<![ა-ჵ\w])(?:{_CODE_NAMES})[ა-ჵ]*)\.?(?P<mark>:?) ?(?:№|#|N)? ?(?P<digits>\d[\d -]{{6,14}}\d)(?![\w])"
)
_POSTCODE = re.compile(
    r"(?P<name>(?<![ა-ჵ])(?:(?:საფოსტო )?ინდექს[ა-ჵ]*|ინდ\.|პინ(?:-?კოდ[ა-ჵ]*)?|კოდ[ა-ჵ]*):? "
    r")(?P<digits>\d{4,6})(?![\w.,]\d)"
)
_NUMBERED = re.compile(r"(?<![\w])(?P<label>#|N) ?(?P<parts>\d+(?:[-/]\d+)+)(?P<tail>[-/][ა-ჰ]{1,2}(?![ა-ჵ]))?(?![\w])")
_ROMAN_SERIES = re.compile(r"(?<=\d)-(?P<roman>I{1,3}|IV|VI{0,3}|IX|X)(?P<letters>[ა-ჰ]{1,2})(?![ა-ჵ])")
_SERIES = re.compile(r"(?<![\w])(?P<label>#|N) ?(?P<n>\d+)-(?P<letters>[რმ]ს)(?![ა-ჵ])")
_FULL = {"ს/კ": "საიდენტიფიკაციო კოდი", "ს/ნ": "საიდენტიფიკაციო ნომერი", "პ/ნ": "პირადი ნომერი"}


def read_codes(text: str) -> str:
    """Read identification codes, personal numbers and postcodes digit by digit: ს/კ 204545678."""
    if "#" in text or "N" in text:
        text = _ROMAN_SERIES.sub(_roman_series, text)
        text = _SERIES.sub(lambda m: f"ნომერი {whole(m['n'])} {' '.join(m['letters'])}", text)
        text = _NUMBERED.sub(_numbered, text)
    return _POSTCODE.sub(lambda m: f"{m['name']}{digits(m['digits'])}", _CODE.sub(_code, text))


def _numbered(match: re.Match[str]) -> str:
    """№01-25/ნ, №3/1/659: the parts of a document's number one by one."""
    parts = ", ".join(whole(part) for part in re.findall(r"\d+", match["parts"]))
    return f"ნომერი {parts}{' ' + match['tail'][1:] if match['tail'] else ''}"


def _roman_series(match: re.Match[str]) -> str:
    """№ 1234-Iს: a law of the first session."""
    values = "I II III IV V VI VII VIII IX X".split()
    return f" {ordinal(values.index(match['roman']) + 1)} {' '.join(match['letters'])}"


def _code(match: re.Match[str]) -> str:
    name = match["name"].replace(".", "/").replace(" ", "") if len(match["name"]) < 5 else match["name"]
    return f"{_FULL.get(name, match['name'])}{match['mark']} {digits(match['digits'])}"
