"""Reads dates and times of day.

* A date is read year first, as on the radio: 12.03.2026 → ორი ათას ოცდაექვსი წლის თორმეტი მარტი; the first of a
  month is პირველი.
* 14:30 → თოთხმეტი საათი და ოცდაათი წუთი; 14:00 → თოთხმეტი საათი; a ratio, scale, verse or score, 3:1 → სამი-ერთი. A
  colon beside a word for a score (ანგარიშით 23:15) or a book of the Bible (იოანე 3:16) is no clock.
* წ. after a year is წლის before a month, a day or a noun that years describe (1921 წ. კონსტიტუცია), წელი at the end of
  a sentence without a verb before it, and else წელს; წწ. likewise is წლების, წლები or წლებში.
* Days and months in a row are the span: ორშ.–პარ. → ორშაბათიდან პარასკევამდე.
"""

from __future__ import annotations

import re
from functools import partial

from xtts_ka.georgian.alphabet import word_table
from xtts_ka.georgian.declension import DROP, KEEP, agree, agreement, case_before, decline
from xtts_ka.georgian.numbers import apart, cardinal, inflect_number, paired, read_number, whole
from xtts_ka.georgian.sentences import ends_sentence, looks_like_verb

# ── dates ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_MONTHS = "იანვარი თებერვალი მარტი აპრილი მაისი ივნისი ივლისი აგვისტო სექტემბერი ოქტომბერი ნოემბერი დეკემბერი".split()
_MONTH = r"(?:იანვ|თებერვ|მარტ|აპრილ|მაის|ივნის|ივლის|აგვისტ|სექტემბ|ოქტომბ|ნოემბ|დეკემბ)[ა-ჵ]*"
_YEAR_ENDINGS = {"წლის": "ის", "წელს": "ს", "წლიდან": "დან", "წლამდე": "მდე"}
_DATE = re.compile(
    r"(?<![\w.,/-])(?:(?P<d>\d{1,2})(?P<s>[./-])(?P<m>\d{1,2})(?P=s)(?P<y>\d{4}|\d\d)"
    r"|(?P<Y>\d{4})-(?P<M>\d\d)-(?P<D>\d\d))(?![\d/]|[.,-]\d)"
    r"(?: ?წ\.(?=\W|$)| (?P<word>წელი|წლის|წელს|წლიდან|წლამდე)(?![ა-ჵ]))?(?:-(?P<ending>[ა-ჵ]+))?"
)
_WORD = re.compile("[ა-ჵ]+")
_DAY_AND_MONTH = re.compile(  # only with a padded day: other numbers could be decimals
    r"(?<![\w.,/-])(?P<d>0[1-9])\.(?P<m>0[1-9]|1[0-2])-(?P<ending>დან|მდე|ს)(?![ა-ჵ])"
)
_DATE_LIKE = re.compile(r"\d[./-]\d\d?[./-]\d")  # searched first: it is several times as fast as _DATE
_FIRST = re.compile(rf"\b(?<![.,–-])0?1 (?=(?P<month>{_MONTH}))")
_PADDED_DAY = re.compile(rf"\b(?<![.,])0(?=[2-9] {_MONTH})")
_ROMAN_MONTH = re.compile(r"(?<![\w.,/-])(\d{1,2})(?P<s>[./-]) ?([IVX]{1,4})(?P=s) ?(\d{4}|\d\d)(?![\d])")
_ROMAN = "I II III IV V VI VII VIII IX X XI XII".split()


def read_roman_months(text: str) -> str:
    """Write the month of 5.V.1995 in Arabic digits, which `read_dates` reads."""
    return _ROMAN_MONTH.sub(_roman_month, text)


def _roman_month(match: re.Match[str]) -> str:
    if match[3] not in _ROMAN:
        return match[0]
    return f"{match[1]}.{_ROMAN.index(match[3]) + 1}.{match[4]}"


def read_dates(text: str) -> str:
    """Read numeric dates, and the day and year beside a month's name; other numbers beside it stay."""
    if _DATE_LIKE.search(text):
        text = _DATE.sub(_date, text)
    if "." in text and "-" in text:
        text = _DAY_AND_MONTH.sub(_day_and_month, text)
    if "0" in text:
        text = _PADDED_DAY.sub("", text)
    return _FIRST.sub(lambda m: agree("პირველი", case_before(m["month"])) + " ", text) if "1 " in text else text


def _day_and_month(match: re.Match[str]) -> str:
    count = "პირველი" if match["d"] == "01" else cardinal(int(match["d"]))
    noun = decline(_MONTHS[int(match["m"]) - 1], match["ending"])
    return apart(match, f"{agree(count, agreement(match['ending']))} {noun}")


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


# ── abbreviated years, days and months ───────────────────────────────────────────────────────────────────────────────

_DAYS = word_table(
    "ორშ=ორშაბათი სამშ=სამშაბათი სამ=სამშაბათი ოთხშ=ოთხშაბათი ოთხ=ოთხშაბათი ხუთშ=ხუთშაბათი "
    "ხუთ=ხუთშაბათი პარ=პარასკევი პარასკ=პარასკევი შაბ=შაბათი კვ=კვირა კვირ=კვირა"
)
_SHORT_MONTHS = word_table(
    "იან=იანვარი იანვ=იანვარი თებ=თებერვალი თებერვ=თებერვალი მარ=მარტი აპრ=აპრილი მაის=მაისი "
    "ივნ=ივნისი ივლ=ივლისი აგვ=აგვისტო სექ=სექტემბერი სექტ=სექტემბერი ოქტ=ოქტომბერი ნოე=ნოემბერი ნოემ=ნოემბერი "
    "ნოემბ=ნოემბერი დეკ=დეკემბერი დეკემბ=დეკემბერი"
)


def _span(table: dict[str, str]) -> str:
    full = "|".join(sorted(set(table.values())))
    short = "|".join(sorted(table, key=len, reverse=True))
    return rf"(?:(?:{full})|(?:{short})(?![ა-ჵ])\.?)"


_SPANS = tuple(
    (re.compile(rf"(?<![ა-ჵ-])({_span(table)}) ?[-–] ?({_span(table)})(?![ა-ჵ])(?!-)"), table)
    for table in (_DAYS, _SHORT_MONTHS)
)
_SUNDAY = re.compile(r"(?<![ა-ჵ\d-])(?<!\d )(?<!ე )კვ\.(?= ?(?:\d\d?[:.]\d\d|დახურულ|ისვენ|დასვენ|არასამუშაო|[–-]))")
_ABBREVIATED_MONTH = re.compile(
    rf"(?<=\d )({'|'.join(_SHORT_MONTHS)})(?:\.(?!-)|\.?-(?P<ending>[ა-ჵ]+))(?P<next> ?\d{{4}})?"
)
_YEAR = re.compile(
    r"(?:(?P<before>[ა-ჵ]+),? )?(?P<n>(?<![\d.,])(?:\d{1,4} ?[-–] ?)?(?:\d{3,4}|(?<=[-–])\d\d|(?<=[-–] )\d\d|"
    r"\d{2,4}-იანი?)) ?(?P<years>წწ?)"
    r"(?:\.(?!-)|\.?-(?P<ending>ს|ში|ის|დან|იდან|მდე|ამდე|ისთვის|თვის|ით|ი)(?![ა-ჵ]))"
)
_YEARLY = re.compile(
    rf" *(?:(?:\d{{1,2}}(?:[-–]\d{{1,2}})?|მე-\d+|[IVX]+|პირველ|მეორე|მესამე|მეოთხე) ?(?:{_MONTH}|კვ\.|კვარტ|ნახევ|"
    rf"მდგომ)|(?:[ა-ჵ]+ )?{_MONTH}|"
    r"\d{1,2} [ა-ჵ]+(?:ს|ის|დან|მდე|ში)\b(?= )|(?:[ა-ჵ]+(?:ის|ო|ული|ური|ელი) )?(?:კონსტიტუც|კანონ|ომი|ომის|ომში|არჩევნ|"
    r"რევოლუც|აჯანყ|ბიუჯეტ|მონაცემ|აღწერ|"
    "მდგომარეობით|ზაფხულ|შემოდგომ|გაზაფხულ|ზამთ|დასაწყის|ბოლო|ბოლომდე|შუა|მოსავ|შემოსავ|ჩემპიონ|ოლიმპ|სეზონ|ხელშეკრულ|"
    "დადგენილ|ბრძანებ|განკარგულ|გადაწყვეტილ|ანგარიშ|გეგმ|რეფორმ|მიწისძვრ|ტრაგედ|მოვლენ|კვარტ|ნახევ|ჩათვლით|შემდეგ|"
    "განმავლობა|პერიოდ|მიხედვით|გამოცემ|გამოშვებ|მოდელ|ნიმუშ|დეკლარაც|მსოფლიო|თებ\\.|იანვ\\.|აპრ\\.|სექტ\\.|ოქტ\\.|"
    "ნოემბ\\.|დეკ\\.|"
    "აგვ\\.|ივლ\\.|ივნ\\.))"
)


_DAY_BEFORE_TIME = re.compile(r"(?<![ა-ჵ])(სამ|ოთხ|ხუთ)\.(?= ?\d\d?:\d\d)")
_BORN = re.compile(r"(\(|^)(დ|გ|დაბ|გარდ)\. ?(?=\d\d)")
# Cheap searches that save most texts the patterns above.
_HYPHENED = re.compile(
    r"[ა-ჰ]\.? ?[-–] ?(?:ორშ|სამშ|ოთხშ|ხუთშ|(?:სამ|ოთხ|ხუთ)(?![ა-ჰ])|პარ|შაბ|კვ|იან|თებ|მარ|აპრ|მაის|ივ|აგვ|სექ|ოქტ|"
    r"ნოე|დეკ)"
)
_MONTH_LIKE = re.compile(r"\d [აიმნოსთდ][ა-ჰ]{1,6}[.-]")
_YEAR_LIKE = re.compile(r"წ[.-]")


_WORD_NEXT = re.compile(",? [ა-ჵ]{3}")


def read_abbreviated_dates(text: str) -> str:
    """Expand წ. and წწ. after a year, and days and months that are abbreviated; the numbers beside them stay."""
    text = read_spans(text)
    if "კვ." in text:
        text = _SUNDAY.sub("კვირა", text)
    if ":" in text:
        text = _DAY_BEFORE_TIME.sub(lambda m: _DAYS[m[1]], text)
    if _MONTH_LIKE.search(text):
        text = _ABBREVIATED_MONTH.sub(_month, text)
    if text.startswith(("დ", "გ")) or "(" in text:
        text = _BORN.sub(lambda m: m[1] + ("დაიბადა " if m[2].startswith("დ") else "გარდაიცვალა "), text)
    if _YEAR_LIKE.search(text):
        text = _YEAR.sub(_year, text)
    return text


def read_spans(text: str) -> str:
    """Read two days or two months with a dash between them, one of them abbreviated, as from the one to the other."""
    if _HYPHENED.search(text):
        for pattern, table in _SPANS:
            text = pattern.sub(partial(_from_to, table), text)
    return text


def _from_to(table: dict[str, str], match: re.Match[str]) -> str:
    if not set(match.groups()) - set(table.values()) and "-" in match[0] and " " not in match[0]:
        return match[0]  # ორშაბათი-პარასკევი is a reading already
    first, last = (table.get(name.rstrip("."), name) for name in match.groups())
    if last.endswith(("ი", "ა")) and first.endswith(("ი", "ა")):
        return f"{decline(first, 'დან')} {decline(last, 'მდე')}"
    return match[0]


def _month(match: re.Match[str]) -> str:
    noun = _SHORT_MONTHS[match[1]]
    over = not match["ending"] and not match["next"] and ends_sentence(match.string, match.end())
    on_a_day = not over and not match["next"] and _WORD_NEXT.match(match.string, match.end())  # 15 თებ. დავბრუნდებით
    return decline(noun, match["ending"] or ("ს" if on_a_day else "")) + (match["next"] or "") + ("." if over else "")


def of_year(text: str, end: int) -> bool:
    """Whether what follows belongs to the year that ends at `end`: a month, a day, or a noun like კონსტიტუცია."""
    return _YEARLY.match(text, end) is not None


def _year(match: re.Match[str]) -> str:
    """The number as it stands, and the form of წელი that the words around ask for."""
    before, number = match["before"] or "", f"{match['n']} "
    head = match[0][: match.start("n") - match.start()]
    singular = match["years"] == "წ"
    noun = "წელი" if singular else "წლები"
    if match["ending"]:
        ending = match["ending"]
        return f"{head}{number}{decline(noun, 'ს' if singular and ending == 'ში' else ending)}"
    over = ends_sentence(match.string, match.end())
    rest = match.string[match.end() :].lstrip()
    if match["n"].endswith("-იანი"):
        form = noun if over or not _WORD.match(rest) else "წლების"
    elif of_year(match.string, match.end()):
        form = "წლის" if singular else "წლების"
    elif looks_like_verb(before):
        form = "წელს" if singular else "წლებში"
    elif over or rest[:1] in (")", ";", "–", "-") or not _WORD.search(rest):
        form = noun
    elif _WORD.fullmatch(rest.rstrip(".!?")) and not looks_like_verb(rest.rstrip(".!?")) and case_before(rest) == KEEP:
        form = "წლის" if singular else "წლების"  # 1975 წ. ფილმი
    else:
        form = "წელს" if singular else "წლებში"
    return f"{head}{number}{form}{'.' if over else ''}"


# ── times ────────────────────────────────────────────────────────────────────────────────────────────────────────────

_CLOCK = r"(?<![\w:.,])(?P<h>[01]?\d|2[0-4]){colon}(?P<m>[0-5]\d)(?::(?P<s>[0-5]\d))?(?![\w:]|[.,]\d| \d{{3}}(?!\d))"
_TIME = re.compile(
    _CLOCK.format(colon=":")
    + r"(?: ?[-–] ?(?P<h2>[01]?\d|2[0-4]):(?P<m2>[0-5]\d)(?!\d))?"
    + r"(?: ?სთ\.?| საათ(?P<word>[ა-ჵ]+))?(?:-(?P<ending>[ა-ჵ]+))?"
)
_HOUR_WORD = r" ?სთ(?:\.(?! ?\d)|(?![ა-ჵ]))-?| საათ|-(?=ზე|დან|იდან|მდე|ისთვის)"
_DOTTED_TIME = re.compile(
    _CLOCK.format(colon=r"\.") + rf"(?: ?[-–] ?(?P<h2>[01]?\d|2[0-4])\.(?P<m2>[0-5]\d)(?!\d))?"
    rf"(?P<hour>{_HOUR_WORD})?(?P<ending>(?:ზე|იდან|დან|ამდე|მდე|ისთვის|ი)(?![ა-ჵ]))?"
)
_HOUR_BEFORE = re.compile(r"(?:დილის|საღამოს|ღამის|დღის|შუადღის|საათები:?|დრო:?|სთ\.?:?) $")
_RATIO = re.compile(
    r"(?<![\w:.,])(\d{1,6}):((?:\d{1,3}(?: \d{3})+)|(?:\d{1,3}(?:\.\d{3})+)|\d{1,7})(?:-(?P<ending>[ა-ჵ]+))?(?![\w:]|"
    r"[.,]\d)"
)
_COUNTED = re.compile(
    "ანგარიშ|მოიგ|მოუგ|წააგ|დაამარცხ|დამარცხ|გაიმარჯვ|სძლი|სეტ(?:ი|ში)|მასშტაბ|თანაფარდობ|პროპორცი|შეფარდებ|ფრედ|"
    "ხმით|აჯობ|გაანადგურ"
)
_VERSE = re.compile(
    "(?:მათე|მარკოზ|ლუკა|იოანე|საქმე|რომაელთა|კორინთელთა|გალატელთა|ეფესელთა|ებრაელთა|იაკობ|პეტრე|გამოცხადება|ფსალმუნ|"
    "დაბადება|გამოსვლა|ლევიანნი|ესაია|იერემია|ეზეკიელ|დანიელ|იგავნი|სახარება|მუხლი)[ა-ჵ]*[.,]? $"
)


def read_times(text: str) -> str:
    """Read times of day, ranges of them, and ratios; a dotted time (14.30) only beside the word for the hour."""
    if ":" in text:
        text = _TIME.sub(_time, text)
        text = _RATIO.sub(_ratio, text)
    if "." in text:
        text = _DOTTED_TIME.sub(_dotted_time, text)
    return text


def _ratio(match: re.Match[str]) -> str:
    second = inflect_number(match[2], match["ending"]) if match["ending"] else read_number(match[2])
    return apart(match, paired(whole(match[1]), second))


def _time(match: re.Match[str]) -> str:
    ending = match["ending"] or ("" if match["word"] == "ი" else match["word"] or "")
    if match["h2"]:
        first = _clock(match["h"], match["m"], "0", "დან")
        return f"{first} {_clock(match['h2'], match['m2'], '0', ending or 'მდე')}"
    bare = match.end() == match.end("m")
    if bare and (_counts(match) or _VERSE.search(match.string, 0, match.start())):
        return apart(match, paired(whole(match["h"]), whole(match["m"])))
    return apart(match, _clock(match["h"], match["m"], match["s"] or "0", ending))


def _counts(match: re.Match[str]) -> bool:
    """Whether a word for a score or a ratio stands near, as in ანგარიშით 23:15."""
    return _COUNTED.search(match.string, max(0, match.start() - 60), match.end() + 40) is not None


def _dotted_time(match: re.Match[str]) -> str:
    hour = match["hour"] or ""
    before = _HOUR_BEFORE.search(match.string, 0, match.start())
    if not before and (not hour or hour == "-"):
        return match[0]
    if hour == " საათ" and not match["ending"]:
        return match[0]
    ending = "" if match["ending"] == "ი" else match["ending"] or ""
    stop = "." if hour.endswith(".") and ends_sentence(match.string, match.end()) else ""
    if match["h2"]:
        last = _clock(match["h2"], match["m2"], "0", ending or "მდე")
        return f"{_clock(match['h'], match['m'], '0', 'დან')} {last}{stop}"
    return apart(match, _clock(match["h"], match["m"], "0", ending) + stop)


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
