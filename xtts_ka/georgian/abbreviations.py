"""Reads Georgian abbreviations: with full stops (და ა.შ.), contracted (კმ, აშშ), clipped (ბ-ნი), slashed (ი/მ).

An abbreviation is a whole token, and what stands beside it decides between its readings: წმ. is წმინდა before a name
and წამი after a number. Letters without a vowel that are in no table are read by letters, each with -ე: ხმგ → ხემეგე.
To add one, put it in the table of its kind, or in the file of the setting `text.abbreviations`.
"""

from __future__ import annotations

import re

from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS, VOWELS, word_table
from xtts_ka.georgian.dates import of_year, read_spans
from xtts_ka.georgian.declension import (
    DROP,
    KEEP,
    agree,
    agreement,
    attach,
    case_before,
    decline,
    is_case_ending,
    stem_of,
)
from xtts_ka.georgian.sentences import ends_sentence, looks_like_verb

# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

# Written with full stops; a space in the key is a full stop with or without a space after it.
_SHORT = word_table(  # of these, some are units after a number, so they wait until the numbers are read
    "წ=წელი, წწ=წლები, სს=საუკუნეები, საუკ=საუკუნე, ტ=ტომი, ათ=ათასი, მლნ=მილიონი, მლრდ=მილიარდი, სთ=საათი, წთ=წუთი, "
    "წმ=წამი, ქ=ქალაქი, ს=სოფელი, ჩ კ=ჩაის კოვზი, ს კ=სუფრის კოვზი, კვ=კვირა, გრ=გრამი, დღ=დღე, ცალ=ცალი",
    ", ",
)
_LONG = word_table(
    "ა შ=ასე შემდეგ, ე ი=ესე იგი, ე წ=ეგრეთ წოდებული, მ შ=მათ შორის, ა წ=ამა წლის, გ წ=გასული წლის, "
    "მ წ=მიმდინარე წლის, მიმდ წ=მიმდინარე წლის, გას წ=გასული წლის, ძვ წ აღ=ძველი წელთაღრიცხვით, "
    "ძვ წ=ძველი წელთაღრიცხვით, ახ წ აღ=ახალი წელთაღრიცხვით, ახ წ=ახალი წელთაღრიცხვით, ჩვ წ აღ=ჩვენი წელთაღრიცხვით, "
    "ჩვ წ=ჩვენი წელთაღრიცხვით, ძვ სტ=ძველი სტილით, ახ სტ=ახალი სტილით, გვ=გვერდი, გვგვ=გვერდები, მაგ=მაგალითად, "
    "იხ=იხილე, შდრ=შეადარე, სხვ=სხვა, პროფ=პროფესორი, აკად=აკადემიკოსი, დოც=დოცენტი, დოქ=დოქტორი, გენ=გენერალი, "
    "პოლკ=პოლკოვნიკი, ლეიტ=ლეიტენანტი, ასისტ=ასისტენტი, დირ=დირექტორი, "
    "ტელ=ტელეფონი, მობ=მობილური, ელ ფოსტა=ელექტრონული ფოსტა, ელ=ელექტრონული, გამზ=გამზირი, შეს=შესახვევი, "
    "ჩიხ=ჩიხი, მოედ=მოედანი, სანაპ=სანაპირო, მიკრ=მიკრორაიონი, მიკრორ=მიკრორაიონი, კვარტ=კვარტალი, კორპ=კორპუსი, "
    "ბინ=ბინა, სართ=სართული, სადარბ=სადარბაზო, სად=სადარბაზო, აუდ=აუდიტორია, ინდ=ინდექსი, სოფ=სოფელი, "
    "მუნ=მუნიციპალიტეტი, რაიონ=რაიონი, რეგ=რეგიონი, საქ=საქართველოს, სახ=სახელობის, სახელმწ=სახელმწიფო, "
    "უნ=უნივერსიტეტი, "
    "უნივ=უნივერსიტეტი, ინსტ=ინსტიტუტი, ფაკ=ფაკულტეტი, კათ=კათედრა, სკ=სკოლა, კუნძ=კუნძული, ნახევარკ=ნახევარკუნძული, "
    "მდ=მდინარე, მთ=მთა, ტბ=ტბა, ზღ=ზღვა, სადგ=სადგური, მუხ=მუხლი, პუნ=პუნქტი, პ=პუნქტი, ქვეპ=ქვეპუნქტი, ნაწ=ნაწილი, "
    "აბზ=აბზაცი, თავ=თავი, სურ=სურათი, ნახ=ნახაზი, ცხრ=ცხრილი, დიაგ=დიაგრამა, დანარ=დანართი, რედ=რედაქტორი, "
    "მთარგმ=მთარგმნელი, თარგმ=თარგმანი, ელ ენერგია=ელექტროენერგია, ელ სადგური=ელექტროსადგური, ავტ=ავტორი, "
    "ვწყ სვ=ვერცხლისწყლის სვეტი, გამომც=გამომცემლობა, გამოც=გამოცემა, ჟურ=ჟურნალი, კრებ=კრებული, "
    "დაახლ=დაახლოებით, დაბ=დაბადებული, დაიბ=დაიბადა, გარდ=გარდაცვლილი, გარდაიც=გარდაიცვალა, წარმ=წარმოება, "
    "ლათ=ლათინურად, ინგლ=ინგლისურად, რუს=რუსულად, ბერძ=ბერძნულად, ფრანგ=ფრანგულად, გერმ=გერმანულად, იტალ=იტალიურად, "
    "თურქ=თურქულად, სომხ=სომხურად, სპარს=სპარსულად, ქართ=ქართულად, ჩრდ=ჩრდილოეთი, სამხ=სამხრეთი, აღმ=აღმოსავლეთი, "
    "დას=დასავლეთი, მს=მსოფლიო, შ შ=შემდეგში, იმპ=იმპერატორი, ეპ=ეპისკოპოსი, არქიეპ=არქიეპისკოპოსი, მიტრ=მიტროპოლიტი, "
    "დეკ=დეკემბერი, იანვ=იანვარი, თებ=თებერვალი, თებერვ=თებერვალი, აპრ=აპრილი, ივნ=ივნისი, ივლ=ივლისი, "
    "აგვ=აგვისტო, სექ=სექტემბერი, სექტ=სექტემბერი, ოქტ=ოქტომბერი, ნოე=ნოემბერი, ნოემ=ნოემბერი, ნოემბ=ნოემბერი, "
    "დეკემბ=დეკემბერი, ორშ=ორშაბათი, სამშ=სამშაბათი, ოთხშ=ოთხშაბათი, ხუთშ=ხუთშაბათი, პარ=პარასკევი, პარასკ=პარასკევი, "
    "შაბ=შაბათი, დოლ=დოლარი, თეთრ=თეთრი, რაოდ=რაოდენობა, საშ=საშუალოდ, პროც=პროცენტი, "
    "ფართ=ფართობი, გემოვნ=გემოვნებით, მაქს=მაქსიმუმ, უმც=უმცროსი, უფრ=უფროსი, პრეზ=პრეზიდენტის, სამინ=სამინისტროს, "
    "საერთ=საერთაშორისო, განათ=განათლების, სპ=სპორტის, მასწ=მასწავლებელი, ექ=ექიმი, წარმომ=წარმომადგენელი, "
    "განყ=განყოფილება, გაერთ=გაერთიანებული, რესპ=რესპუბლიკა, გუბ=გუბერნია, სტრ=სტრიქონი, მოთხ=მოთხრობა, "
    "დასახ=დასახლება, "
    "ხელმძღვ=ხელმძღვანელი, თანამშრ=თანამშრომელი, ადმინ=ადმინისტრაციული, მოქალ=მოქალაქე, კომპ=კომპანია, "
    "ორგ=ორგანიზაცია, "
    "არქ=არქიტექტორი, მხატვ=მხატვარი, რეჟ=რეჟისორი, კომპოზ=კომპოზიტორი, მსახ=მსახიობი, თბ=თბილისი, მეცნ=მეცნიერებათა, "
    "ფილოლ=ფილოლოგიის, ისტ=ისტორიის, იურიდ=იურიდიულ, შეთანხმ=შეთანხმებით, მოსწ=მოსწავლე, სტუდ=სტუდენტი, "
    "პენს=პენსიონერი, მინ=მინიმუმ, სამოქ=სამოქალაქო, ადმ=ადმინისტრაციული, დოკ=დოკუმენტი, გზატკ=გზატკეცილი",
    ", ",
)
_STOPPED = _SHORT | _LONG
# Written without full stops, or with one after each letter; alone or with a hyphenated ending.
_CONTRACTED = word_table(
    "კმ=კილომეტრი, სმ=სანტიმეტრი, მმ=მილიმეტრი, კგ=კილოგრამი, მგ=მილიგრამი, სთ=საათი, წთ=წუთი, წმ=წამი, მლ=მილილიტრი, "
    "კვტ=კილოვატი, მლნ=მილიონი, მლრდ=მილიარდი, ტრლნ=ტრილიონი, აშშ=ამერიკის შეერთებული შტატები, "
    "შპს=შეზღუდული პასუხისმგებლობის საზოგადოება, სს=სააქციო საზოგადოება, სსიპ=საჯარო სამართლის იურიდიული პირი, "
    "სსრკ=საბჭოთა კავშირი, ააიპ=არასამეწარმეო არაკომერციული იურიდიული პირი, შსს=შინაგან საქმეთა სამინისტრო, "
    "სსრ=საბჭოთა სოციალისტური რესპუბლიკა, მშპ=მთლიანი შიდა პროდუქტი, დღგ=დამატებული ღირებულების გადასახადი, "
    "თსუ=თბილისის სახელმწიფო უნივერსიტეტი, თსსუ=თბილისის სახელმწიფო სამედიცინო უნივერსიტეტი, "
    "სტუ=საქართველოს ტექნიკური უნივერსიტეტი, ბსუ=ბათუმის სახელმწიფო უნივერსიტეტი, ქსუ=ქუთაისის სახელმწიფო "
    "უნივერსიტეტი, "
    "შშმ=შეზღუდული შესაძლებლობის მქონე, რფ=რუსეთის ფედერაცია, გფრ=გერმანიის ფედერაციული რესპუბლიკა, "
    "სსკ=სისხლის სამართლის კოდექსი, სსსკ=სისხლის სამართლის საპროცესო კოდექსი, "
    "სმს=ესემესი, სკკპ=საბჭოთა კავშირის კომუნისტური პარტია, ცკ=ცენტრალური კომიტეტი, კპ=კომუნისტური პარტია",
    ", ",
)
_CLIPPED = {"ბ-ნ": "ბატონი", "ქ-ნ": "ქალბატონი", "რ-ნ": "რაიონი", "უნ-ტ": "უნივერსიტეტი", "ინ-ტ": "ინსტიტუტი"}
_CLIPPED |= {"კვ-ლ": "კვარტალი", "ს-ლო": "სასამართლო", "მუნ-ტ": "მუნიციპალიტეტი"}
_SLASHED = word_table(
    "ი/მ=ინდივიდუალური მეწარმე, მ/რ=მიკრორაიონი, მ/რაიონი=მიკრორაიონი, პ/ნ=პირადი ნომერი, ს/ნ=საიდენტიფიკაციო ნომერი, "
    "ა/წ=ამა წლის, გ/წ=გასული წლის, მ/წ=მიმდინარე წლის, ფ/პ=ფიზიკური პირი, ი/პ=იურიდიული პირი, ს/ს=სააქციო "
    "საზოგადოება, "
    "შ/პ/ს=შეზღუდული პასუხისმგებლობის საზოგადოება, ა/მ=ავტომანქანა, მ/შ=მათ შორის, ა/შ=ასე შემდეგ, ე/წ=ეგრეთ წოდებული, "
    "ე/ი=ესე იგი, ს/კ=საიდენტიფიკაციო კოდი, ჩ/კ=ჩაის კოვზი, ტ/კ=ტელეკომპანია, ა/ო=აქციონერული საზოგადოება, "
    "რ/ც=რეგიონული ცენტრი, "
    "ბ/ნ=ბატონი, ქ/ნ=ქალბატონი, სს/კ=სისხლის სამართლის კოდექსი, ს/მ=სოფლის მეურნეობა, კ/თ=კინოთეატრი, ა/ა=ანგარიში",
    ", ",
)
_SPOONS = {"ჩ/კ": "ჩაის კოვზი", "ს/კ": "სუფრის კოვზი"}
_FIRST_NAMES = word_table(
    "ალ=ალექსანდრე, გრ=გრიგოლ, ივ=ივანე, ვლ=ვლადიმერ, კონსტ=კონსტანტინე, ნიკ=ნიკოლოზ, მიხ=მიხეილ, აკ=აკაკი, იაკ=იაკობ, "
    "ექვთ=ექვთიმე, ვახტ=ვახტანგ, იოს=იოსებ, თედ=თედო, ვას=ვასილ, სიმ=სიმონ, თამ=თამარ, დიმ=დიმიტრი, გიორ=გიორგი",
    ", ",
)
# Their noun agrees with the name that follows: ქალაქი თბილისი, ქალაქ თბილისში, პროფესორ კიკნაძის.
_TITLES = frozenset(
    "ქ ს სოფ კუნძ აკად პროფ დოც დოქ გენ პოლკ ლეიტ იმპ ეპ არქიეპ მიტრ არქ მხატვ რეჟ კომპოზ მსახ მასწ ექ".split()
)
_OBLIQUE = ("ის", "იდან", "ისკენ", "ისგან", "ისთვის", "ით", "ს")

# ── patterns ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_INITIALS = rf"(?:(?:[ა-ჵ]|{'|'.join(_FIRST_NAMES)})\. ?)"


def _stopped_pattern(table: dict[str, str]) -> re.Pattern[str]:
    """Any key of `table`: a key of one part needs its full stop, in a longer one the last may be missing."""
    patterns = []
    for key in sorted(table, key=len, reverse=True):
        *first, last = key.split()
        before = "".join(rf"{letters}\. ?" for letters in first)
        patterns.append(
            before
            + (
                rf"{last}(?:\.|(?![ა-ჵ]))"
                if first
                else rf"{last}(?:\.|(?=-[ა-ჵ]|:))"
                if len(last) > 2
                else rf"{last}\."
            )
        )
    key = "|".join(patterns)
    return re.compile(
        rf"(?<![ა-ჵ-])(?=[ა-ჵ]{{1,9}}[.:-])(?<!\b[ა-ჵ]\.)(?P<key>{key})(?:-(?P<ending>[ა-ჵ]+)(?![ა-ჵ.]))?(?= "
        rf"?(?P<names>{_INITIALS}*)(?P<next>[ა-ჵ]*))"
    )


_STOPPED_FORM, _LONG_FORM = _stopped_pattern(_STOPPED), _stopped_pattern(_LONG)
_CONSONANTS = "".join(letter for letter in GEORGIAN_LETTERS if letter not in VOWELS)
_WITH_VOWEL = "|".join(sorted((key for key in _CONTRACTED if set(key) & set(VOWELS)), key=len, reverse=True))
_UNITS = frozenset("კმ სმ მმ კგ მგ სთ წთ წმ მლ კვტ მლნ მლრდ ტრლნ".split())  # their full stop is theirs
_CONTRACTED_FORM = re.compile(
    rf"(?<![ა-ჵ-])(?P<key>[{_CONSONANTS}]{{2,6}}|{_WITH_VOWEL})(?:-(?P<ending>[ა-ჵ]+)|(?![ა-ჵ-]))(?P<stop>\.?)"
    r"(?=(?P<gap> ?)(?P<next>[ა-ჵ]*))"
)
_DOTTED_LETTERS = re.compile(r"(?<![ა-ჵ.-])((?:[ა-ჵ]\.){2,5}|[ა-ჵ](?:\.[ა-ჵ]){2,5})(?:-([ა-ჵ]+)|(?![ა-ჵ]))")
_CLIPPED_FORM = re.compile(rf"(?<![ა-ჵ-])({'|'.join(_CLIPPED)})([ა-ჵ]*)(?![ა-ჵ-])")
_SLASHED_FORM = re.compile(
    rf"(?<![\w/-])({'|'.join(sorted(_SLASHED, key=len, reverse=True))})\.?(?:-([ა-ჵ]+))?(?![\w/])"
)
_SPOON = re.compile(
    r"(?P<count>(?<![\d/])(?:(?P<fraction>(?:\d )?\d/\d)|(?P<whole>\d{1,3}(?:[.,]\d)?(?: ?[-–] ?\d{1,2})?)|ნახევარი?|"
    r"ერთი?|ორი|"
    r"სამი|ოთხი|ხუთი)) ?(?:(?P<tea>ჩ(?:აის)?(?:/|\. ?| )კ)|ს(?:უფრ(?:ის)?)?(?:/|\. ?| )კ)(?:ოვზ?)?"
    r"(?:\.(?!-)|\.?-(?P<ending>[ა-ჵ]+)|(?![ა-ჵ]))(?!:? ?№? ?\d{9})"
)
_SAINT = re.compile(
    r"(?<![\w-])(?<!\d )წმ(?:იდ)?(?:\. ?(?=[ა-ჵ]{3})| (?=(?:ნინო|გიორგი|მარიამ|ანდრია|დავით|ნიკოლოზ|ილია)))"
)
_HYPHENED_WORD = re.compile(
    r"(?<![ა-ჵ-])([ა-ჵ]{2,})-(ს|მა|მ|ის|ით|ში|ზე|დან|იდან|თან|სთან|თვის|სთვის|ისთვის|მდე|ამდე|ები|ების|ებს|ებმა|"
    r"ებში)(?![ა-ჵ-])"
)
_HYPHENED_ENDING = re.compile("-(?:[სმ]|ის|ით|ში|ზე|დან|იდან|თ|მდე|ამდე|ისთვის|ებ)")
_CLIPPED_LIKE = re.compile("[ბქრნვს]-[ნტლ]")
_ITS_YEAR = ("ამა ", "ამავე ", "იმავე ", "მიმდინარე ", "გასული ", "გასულ ", "წინა ", "შემდეგი ", "მომდევნო ")
_YEAR_FORM = re.compile(r"(?<![ა-ჵ-])(წწ?)-(ის|ს|ში|დან|იდან|მდე|ამდე|ისთვის|თვის|ად)(?![ა-ჵ-])")
_FIRST_NAME = re.compile(rf"(?<![ა-ჵ-])({'|'.join(_FIRST_NAMES)})\. ?(?=(?:[ა-ჵ]\. ?)?[ა-ჵ]{{3}})")
_INITIAL = re.compile(r"(?<![ა-ჵ-])([ა-ჵ])\. ?(?=[ა-ჵ])")
_SURNAME = re.compile(r".{2,}(?:ძე|ძის|ძემ|ძეს|ძეზე|შვილ(?:ი|ის|მა|ს|ზე|თან)?)$")
_QUARTER = re.compile("(?:მე[ა-ჵ]+ე|პირველი|ოცდამე[ა-ჵ]+|დასახლების|მასივის) $")
_AFTER_INITIAL = re.compile(r"(?<![ა-ჵ])[ა-ჵ]\.? $")
_CHIEF = ("რედაქტ", "სპეციალ", "ექიმ", "მწვრთნ", "ბუღალტ", "მოსამართლ", "ინჟინ", "პროკურ", "არქიტექტ")
_VOLUME = re.compile("მე[ა-ჵ]+ე(?:ს|მ|ში|ზე)?$|პირველ|ოცდამე")
_FIRST_PARTS = frozenset({key.split()[0] for key in (*_STOPPED, *_FIRST_NAMES)} | set(GEORGIAN_LETTERS))
_BEFORE_STOP = re.compile(r"(?<![ა-ჵ-])[ა-ჵ]{1,9}(?=[.:-])")
_CLOVE = re.compile(r"(?<=\d )კბ\.?(?= ნი?ორ)")
_SPELLED_POWER = re.compile("(?<=\\d )(კვ|კუბ)\\.? ?((?:კილო|სანტი)?მეტრ[ა-ჰ]*)")
_SPOON_LIKE = re.compile(r"[ჩს](?:აის|უფრ(?:ის)?)?[/. ]{1,2}კ")
_INTERJECTIONS = frozenset("ჰმ ჰმმ ბრ ბრრ ბრრრ ფრ თქ ჩშ".split())
_COUNT_BEFORE = re.compile(
    "(?:ერთი?|ორი?|სამი?|ოთხი?|ხუთი?|ექვსი?|შვიდი?|რვა|ცხრა|ათი?|მეტი?|ოცი?|ორმოცი?|სამოცი?|ასი?|ათასი?|რამდენიმე|"
    "ნულ(?:ი|ის)?|მეათედი?|მეასედი?|ნახევარი?) $"
)


def may_abbreviate(marks: str) -> frozenset[str]:
    """The words between spaces that can belong to an abbreviation without a hyphen, followed by one of `marks` or none.

    In a text of letters, single spaces and marks that holds none of them and no word without a vowel,
    `read_abbreviations` changes nothing.
    """
    contracted = {f"{key}{mark}" for key in _CONTRACTED for mark in ("", *marks)}
    with_colon = {f"{part}:" for part in _FIRST_PARTS if len(part) > 2}
    return frozenset(contracted | with_colon | {f"{part}." for part in _FIRST_PARTS})


# ── passes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_long_abbreviations(text: str) -> str:
    """Expand the abbreviations that are no units, before the numbers beside them are read."""
    if _SPOON_LIKE.search(text):
        text = _SPOON.sub(_spoon, text)
    if "(" in text:
        text = text.replace("ა(ა)იპ", "ააიპ")
    text = _CLOVE.sub("კბილი", text)
    text = _SPELLED_POWER.sub(_spelled_power, text)
    if "/" in text:
        text = _SLASHED_FORM.sub(_slashed, text.replace("მ/რ-ნ", "მ/რ-"))
    if not _FIRST_PARTS.isdisjoint(_BEFORE_STOP.findall(text)):
        text = _LONG_FORM.sub(_stopped, _FIRST_NAME.sub(_first_name, text))
    return text


def read_abbreviations(text: str) -> str:
    """Expand abbreviations; a full stop that ended the text stays, that of an initial (ი. ჭავჭავაძე) is removed."""
    text = read_spans(text)
    stopped = not _FIRST_PARTS.isdisjoint(_BEFORE_STOP.findall(text))
    if stopped:
        text = _DOTTED_LETTERS.sub(_dotted_letters, text)
        text = _SAINT.sub(_saint, text)
    if _CLIPPED_LIKE.search(text):
        text = _CLIPPED_FORM.sub(_clipped, text)
    text = _CONTRACTED_FORM.sub(_contracted, text)
    if "წ-" in text:
        text = _YEAR_FORM.sub(lambda m: decline("წელი" if m[1] == "წ" else "წლები", m[2]), text)
    if stopped:
        text = _STOPPED_FORM.sub(_stopped, text)
        text = _FIRST_NAME.sub(_first_name, text)
        text = _INITIAL.sub(r"\1 ", text)
    return _HYPHENED_WORD.sub(_joined, text) if _HYPHENED_ENDING.search(text) else text


def _joined(match: re.Match[str]) -> str:
    """An acronym that is read as a word joins its ending: სუს-მა → სუსმა, გაერო-ს → გაეროს."""
    word, ending = match.groups()
    return match[0] if word == ending or word in _STOPPED else attach(word, ending)


def _first_name(match: re.Match[str]) -> str:
    return _FIRST_NAMES[match[1]] + " "


def _spoon(match: re.Match[str]) -> str:
    """A spoon after a number is written as the unit that `read_amounts` knows, after a fraction in full."""
    unit = "ჩ/კ" if match["tea"] else "ს/კ"
    stop = "." if match[0].endswith(".") and ends_sentence(match.string, match.end()) else ""
    ending = match["ending"] or ""
    if match["whole"]:
        return f"{match['whole']} {unit}{'-' if ending else ''}{ending}{stop}"
    return f"{match['count']} {decline(_SPOONS[unit], ending)}{stop}"


def _saint(match: re.Match[str]) -> str:
    return match[0] if _COUNT_BEFORE.search(match.string, 0, match.start()) else "წმინდა "


def _spelled_power(match: re.Match[str]) -> str:
    """კვ. მეტრზე → კვადრატულ მეტრზე."""
    adjective = "კვადრატული" if match[1] == "კვ" else "კუბური"
    return f"{agree(adjective, case_before(match[2]))} {match[2]}"


def _slashed(match: re.Match[str]) -> str:
    if match[1] == "ს/კ" and _COUNT_BEFORE.search(match.string, 0, match.start()):
        return decline(_SPOONS["ს/კ"], match[2] or "")
    if match[1] in _SPOONS and match.string[: match.start()].rstrip()[-1:].isdigit():
        return match[0]
    return decline(_SLASHED[match[1]], match[2] or "")


def _clipped(match: re.Match[str]) -> str:
    noun, ending = _CLIPPED[match[1]], match[2]
    return decline(noun, ending) if ending else stem_of(noun)


def _dotted_letters(match: re.Match[str]) -> str:
    """შ.პ.ს. is read like შპს, and unknown letters by their names; those of `_STOPPED` (ა.შ.) wait for their turn."""
    parts = match[1].strip(".").split(".")
    letters, ending = "".join(parts), match[2] or ""
    known = (
        " ".join(parts[:count]) in _STOPPED or " ".join(parts[-count:]) in _STOPPED
        for count in range(2, len(parts) + 1)
    )
    if any(known) and letters not in _CONTRACTED:
        return match[0]
    if letters in _CONTRACTED:
        stop = "." if match[1].endswith(".") and not ending and ends_sentence(match.string, match.end()) else ""
        gap = "" if stop or match.string[match.end() : match.end() + 1] in ("", " ") else " "
        return f"{letters}{'-' if ending else ''}{ending}{stop}{gap}"
    return match[0]


def _contracted(match: re.Match[str]) -> str:
    key, ending = match["key"], match["ending"] or ""
    if key not in _CONTRACTED:
        return _by_letters(match, key, ending)
    if (ending == "ს" or match[0] == "აშშ") and match["gap"] and _is_noun(match["next"]):
        ending = "ის"  # აშშ პრეზიდენტი, მშპ-ს ზრდა
    *before, last = _CONTRACTED[key].split(" ")
    if before and before[-1].endswith("ული"):  # შეერთებულ შტატებში
        before[-1] = agree(before[-1], agreement(ending))
    own_stop = key in _UNITS and match["stop"] and not ends_sentence(match.string, match.end())
    return " ".join([*before, decline(last, ending)]) + ("" if own_stop else match["stop"])


def _by_letters(match: re.Match[str], letters: str, ending: str) -> str:
    """Letters without a vowel that no table has: ხმგ → ხემეგე, as people say them."""
    stop = match["stop"]
    if (stop and letters in _FIRST_PARTS) or letters in _INTERJECTIONS or len(set(letters)) == 1:
        return match[0]
    reading = _STOPPED.get(letters) or "".join(letter + "ე" for letter in letters)
    return decline(reading, ending) + stop


def _is_noun(word: str) -> bool:
    return (
        len(word) > 3
        and word not in ("ხოლო", "მაგრამ", "თუმცა", "უკვე", "ასევე", "როგორც", "შორის")
        and not looks_like_verb(word)
    )


def _stopped(match: re.Match[str]) -> str:
    key = match["key"].replace(".", " ").split()
    ending, following = match["ending"] or "", match["next"]
    if ending and not is_case_ending(ending):
        return match[0]
    if len(key) == 1 and len(key[0]) == 1 and _is_initial(match, key[0], following):
        return f"{key[0]} "  # an initial, not an abbreviation
    reading = _noun_before(key, following, match)
    if ending and reading.endswith("წელთაღრიცხვით"):
        reading = reading.removesuffix("ით") + "ა"
    reading = decline(reading, ending)
    if not match["key"].endswith(".") or ending:
        return reading + " " * (not ending)
    return reading + ("." if ends_sentence(match.string, match.end()) else " ")


def _is_initial(match: re.Match[str], letter: str, following: str) -> bool:
    if _AFTER_INITIAL.search(match.string, 0, match.start()) and following:
        return True
    if _SURNAME.match(following) or (letter == "ტ" and following and not _VOLUME.match(following)):
        return True
    return letter == "პ" and bool(following)


def _quarter(following: str) -> str:
    """III კვ. შედეგები is of the quarter."""
    return "კვარტლის" if following and _is_noun(following) and case_before(following) == KEEP else "კვარტალი"


def _noun_before(key: list[str], following: str, match: re.Match[str]) -> str:
    """The reading of an abbreviation, its stem where the following word asks for that."""
    reading = _STOPPED[" ".join(key)]
    if key == ["წ"] and match.string.endswith(_ITS_YEAR, 0, match.start()):
        return "წლის" if of_year(match.string, match.end()) else "წელს"
    if key == ["კვ"] and _QUARTER.search(match.string, 0, match.start()):
        return _quarter(following)
    if key == ["კვარტ"]:
        return _quarter(following)
    if key == ["ს"] and match.string.endswith(("გასული ", "მიმდინარე ", "იმავე ", "წინა "), 0, match.start()):
        return "საუკუნის" if following else "საუკუნე"
    if key == ["ქ"] and not following:
        return "ქუჩა"
    if key == ["მთ"] and following.startswith(_CHIEF):
        return agree("მთავარი", case_before(following))
    if key == ["დირ"] and following.startswith("მოადგილ"):
        return "დირექტორის"
    if reading.endswith("ულად") or reading.endswith("ურად"):  # ქართ. ენა, but ლათ. at the end
        return reading[:-2] + "ი" if following.startswith("ენ") else reading
    if key == ["სახ"] and following.startswith(("არტისტ", "პოეტ", "მხატვ", "დამცველ")):
        return "სახალხო"
    if key == ["ინდ"] and following.startswith("მეწარმ"):
        return agree("ინდივიდუალური", case_before(following))
    if key == ["საქ"] and following in ("", "ნომერი"):
        return "საქმე"
    if reading.endswith("წლის") and looks_like_verb(following):
        return reading.replace("გასული", "გასულ").removesuffix("წლის") + "წელს"
    if key[0] in ("ჩრდ", "სამხ", "აღმ", "დას") and following:
        return stem_of(reading) if following not in ("და", "ან") else reading
    if len(key) == 1 and key[0] in _TITLES:
        oblique = case_before(following) != KEEP or following.endswith(_OBLIQUE)
        return stem_of(reading) if oblique else reading
    return stem_of(reading) if key == ["ე", "წ"] and case_before(following) == DROP else reading
