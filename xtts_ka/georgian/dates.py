"""Reads dates and times of day.

* A date is read year first, as on the radio: 12.03.2026 → ორი ათას ოცდაექვსი წლის თორმეტი მარტი; the first of a
  month is პირველი.
* 14:30 → თოთხმეტი საათი და ოცდაათი წუთი; 14:00 → თოთხმეტი საათი; a ratio or score, 3:1 → სამი-ერთი.
"""

from __future__ import annotations

import re

from xtts_ka.georgian.declension import DROP, KEEP, agree, agreement, case_before, decline
from xtts_ka.georgian.numbers import apart, cardinal, paired, whole

# ── dates ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_MONTHS = "იანვარი თებერვალი მარტი აპრილი მაისი ივნისი ივლისი აგვისტო სექტემბერი ოქტომბერი ნოემბერი დეკემბერი".split()
_MONTH = r"(?:იანვ|თებერვ|მარტ|აპრილ|მაის|ივნის|ივლის|აგვისტ|სექტემბ|ოქტომბ|ნოემბ|დეკემბ)[ა-ჵ]*"
_YEAR_ENDINGS = {"წლის": "ის", "წელს": "ს", "წლიდან": "დან", "წლამდე": "მდე"}
_DATE = re.compile(
    r"(?<![\w.,/-])(?:(?P<d>\d{1,2})(?P<s>[./-])(?P<m>\d{1,2})(?P=s)(?P<y>\d{4}|\d\d)"
    r"|(?P<Y>\d{4})-(?P<M>\d\d)-(?P<D>\d\d))(?![\d/]|[.,-]\d)"
    r"(?: ?წ\.(?=\W|$)| (?P<word>წელი|წლის|წელს|წლიდან|წლამდე)(?![ა-ჵ]))?(?:-(?P<ending>[ა-ჵ]+))?"
)
_DATE_LIKE = re.compile(r"\d[./-]\d\d?[./-]\d")  # searched first: it is several times as fast as _DATE
_FIRST = re.compile(rf"\b(?<![.,–-])0?1 (?=(?P<month>{_MONTH}))")
_PADDED_DAY = re.compile(rf"\b(?<![.,])0(?=[2-9] {_MONTH})")
_YEAR_STOP = re.compile(rf"(?<=\d) ?წ\.(?= ?(?:\d{{1,2}} )?{_MONTH})")


def read_dates(text: str) -> str:
    """Read numeric dates, and the day and year beside a month's name; other numbers beside it stay."""
    if _DATE_LIKE.search(text):
        text = _DATE.sub(_date, text)
    if "წ." in text:
        text = _YEAR_STOP.sub(" წლის", text)
    if "0" in text:
        text = _PADDED_DAY.sub("", text)
    return _FIRST.sub(lambda m: agree("პირველი", case_before(m["month"])) + " ", text) if "1 " in text else text


def _date(match: re.Match[str]) -> str:
    day, month = int(match["d"] or match["D"]), int(match["m"] or match["M"])
    if not (1 <= day <= 31 and 1 <= month <= 12) or (match["s"] == "-" and len(match["y"]) == 2):
        return match[0]
    year = whole((match["y"] or match["Y"]).lstrip("0") or "0")
    ending = match["ending"] or _YEAR_ENDINGS.get(match["word"], "")
    if ending == "ში":
        ending = "ს"  # on a day is the dative: თორმეტ მარტს
    count = agree("პირველი" if day == 1 else cardinal(day), agreement(ending))
    return apart(match, f"{year} წლის {count} {decline(_MONTHS[month - 1], ending)}")


# ── times ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_CLOCK = r"(?<![\w:.,])(?P<h>[01]?\d|2[0-4]){colon}(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d))?(?![\w:]|[.,]\d)"
_TIME = re.compile(
    _CLOCK.format(colon=":")
    + r"(?: ?[-–] ?(?P<h2>[01]?\d|2[0-4]):(?P<m2>[0-5]\d)(?!\d))?"
    + r"(?: ?სთ\.?| საათ(?P<word>[ა-ჵ]+))?(?:-(?P<ending>[ა-ჵ]+))?"
)
_DOTTED_TIME = re.compile(_CLOCK.format(colon=r"\.") + r"(?: ?სთ\.?-| საათ)(?P<ending>ზე|იდან|ამდე|ისთვის)(?![ა-ჵ])")
_RATIO = re.compile(r"(?<![\w:.,])(\d{1,6}):(\d{1,6})(?![\w:]|[.,]\d)")


def read_times(text: str) -> str:
    """Read times of day, ranges of them, and ratios; a dotted time (14.30) only beside the word for the hour."""
    if ":" in text:
        text = _TIME.sub(_time, text)
        text = _RATIO.sub(lambda m: paired(whole(m[1]), whole(m[2])), text)
    if "საათ" in text or "სთ" in text:
        text = _DOTTED_TIME.sub(lambda m: _clock(m["h"], m["m"], "0", m["ending"]), text)
    return text


def _time(match: re.Match[str]) -> str:
    ending = match["ending"] or ("" if match["word"] == "ი" else match["word"] or "")
    if match["h2"]:
        first = _clock(match["h"], match["m"], "0", "დან")
        return f"{first} {_clock(match['h2'], match['m2'], '0', ending or 'მდე')}"
    return apart(match, _clock(match["h"], match["m"], match["s"] or "0", ending))


def _clock(hour: str, minute: str, second: str, ending: str) -> str:
    """თოთხმეტი საათი და ოცდაათი წუთი, its last noun with `ending` and the others in the same case."""
    counts = [(int(hour), "საათი"), (int(minute), "წუთი"), (int(second), "წამი")]
    counts = [counts[0], *((n, noun) for n, noun in counts[1:] if n)]
    case = agreement(ending)
    linked = {DROP: "სა", KEEP: "ისა" if ending else "ი"}.get(case, "მა")  # საათსა და …, საათისა და …
    phrases = [f"{agree(cardinal(n), case)} {noun[:-1]}{linked}" for n, noun in counts[:-1]]
    n, noun = counts[-1]
    last = f"{agree(cardinal(n), case)} {decline(noun, ending)}"
    return f"{', '.join(phrases)} და {last}" if phrases else last
