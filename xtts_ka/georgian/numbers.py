"""Georgian number words and their declension: cardinals, ordinals, fractions, and what a case ending does to
them.

Number words come from CLDR (through `unicode-rbnf`) up to 999 and are composed above that, with three
corrections:

* spelling: hundreds stand apart, as Georgians write them (`ას ერთი`, where CLDR glues `ასერთი`);
* CLDR's 18 has two letters swapped (`თრვამეტი` for `თვრამეტი`);
* 10¹² is `ტრილიონი` and 10¹⁵ `კვადრილიონი`, as in every Georgian newspaper; CLDR's long-scale `ბილიონი` would
  be understood as 10⁹.

Declension follows the norm of the literary language: a numeral before its noun keeps -ი in the nominative,
genitive and instrumental, takes -მა in the ergative and loses -ი in the dative and adverbial (`ხუთი ლარის,
ხუთმა ლარმა, ხუთ ლარს`); stems in -ა and -ე lose their vowel before -ის and -ით (`რვის`, `მეხუთის`); a few
nouns syncopate (`წელი → წლის`).
"""

from __future__ import annotations

from functools import cache, lru_cache

from unicode_rbnf import RbnfEngine
from unicode_rbnf.engine import FormatOptions

LARGEST = 10**18 - 1  # above this, numbers are read digit by digit
_SCALES = ((10**15, "კვადრილიონ"), (10**12, "ტრილიონ"), (10**9, "მილიარდ"), (10**6, "მილიონ"), (10**3, "ათას"))
_SCALE_WORDS = frozenset(stem + "ი" for _, stem in _SCALES)
_TWENTIES = ("ოთხმოცდა", "სამოცდა", "ორმოცდა", "ოცდა")

# ── number words ────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _engine() -> RbnfEngine:
    return RbnfEngine.for_language("ka")


@cache
def _below_thousand(n: int) -> str:
    """CLDR's word for 0 ≤ n < 1000, respaced; its soft hyphens mark where ას- and -და- are joined."""
    word = _engine().format_number(n, options=FormatOptions.PRESERVE_SOFT_HYPENS).text
    return word.replace("ას\u00ad", "ას ").replace("\u00ad", "").replace("თრვამეტი", "თვრამეტი")


@lru_cache(maxsize=100_000)
def cardinal(n: int) -> str:
    """The cardinal of `n`, hundreds spaced: 125 → `ას ოცდახუთი`; |n| ≥ 10¹⁸ is read digit by digit."""
    if n < 0:
        return "მინუს " + cardinal(-n)
    if n > LARGEST:
        return digits(str(n))
    parts = []
    for value, stem in _SCALES:
        count, n = divmod(n, value)
        if count:
            multiplier = "" if value == 1000 and count == 1 else _below_thousand(count) + " "
            parts.append(multiplier + stem + ("" if n else "ი"))
    if n or not parts:
        parts.append(_below_thousand(n))
    return " ".join(parts)


@lru_cache(maxsize=100_000)
def ordinal(n: int) -> str:
    """The ordinal of n ≥ 0: პირველი, მეორე, ოცდამეერთე, მეასე, ას მეერთე, მეათასე.

    The circumfix მე-…-ე goes around the last word, and inside it after the twenties (`ოცდა|მე|ხუთ|ე`).
    """
    if n < 2:
        return ("ნულოვანი", "პირველი")[n]
    head, _, last = cardinal(n).rpartition(" ")
    if head == "ერთი":  # ერთი მილიონი → მემილიონე
        head = ""
    twenties = next((prefix for prefix in _TWENTIES if last.startswith(prefix)), "")
    word = f"{twenties}მე{last[len(twenties) : -1]}ე"
    return f"{head} {word}" if head else word


def part(n: int) -> str:
    """The n-th part, n ≥ 2, as fractions use it: მეორედი, მეოთხედი, მეასედი."""
    return ordinal(n) + "დი"


def digits(text: str) -> str:
    """Each ASCII digit of `text` by its name, whatever stands between them."""
    return " ".join(_below_thousand(int(digit)) for digit in text if digit.isdigit())


def whole(text: str) -> str:
    """A run of ASCII digits read aloud: a cardinal, or digit by digit if zero-padded or beyond `LARGEST`."""
    if len(text) > 18 or (len(text) > 1 and text[0] == "0"):
        return digits(text)
    return cardinal(int(text))


# ── declension ──────────────────────────────────────────────────────────────────────────────────────────────

KEEP, DROP, ERGATIVE = "ი", "", "მა"  # what becomes of a numeral's or adjective's -ი before its noun

# An ending as written after the hyphen → what a numeral before it does, and the ending after a consonant,
# after a vowel that truncates (ა, ე), after one that does not (ი, ო, უ). "<" takes the stem's own vowel away.
_ENDINGS = {
    "ი": (KEEP, "ი", "", ""),
    "მა": (ERGATIVE, "მა", "მ", "მ"),
    "მ": (ERGATIVE, "მა", "მ", "მ"),
    "ს": (DROP, "ს", "ს", "ს"),
    "ის": (KEEP, "ის", "<ის", "ს"),
    "ით": (KEEP, "ით", "<ით", "თი"),
    "თი": (KEEP, "ით", "<ით", "თი"),
    "ად": (DROP, "ად", "დ", "დ"),
    "დ": (DROP, "ად", "დ", "დ"),
    "ში": (DROP, "ში", "ში", "ში"),
    "ზე": (DROP, "ზე", "ზე", "ზე"),
    "თან": (DROP, "თან", "სთან", "სთან"),
    "სთან": (DROP, "თან", "სთან", "სთან"),
    "დან": (KEEP, "იდან", "<იდან", "დან"),
    "იდან": (KEEP, "იდან", "<იდან", "დან"),
    "მდე": (DROP, "ამდე", "მდე", "მდე"),
    "ამდე": (DROP, "ამდე", "მდე", "მდე"),
    "თვის": (KEEP, "ისთვის", "<ისთვის", "სთვის"),
    "სთვის": (KEEP, "ისთვის", "<ისთვის", "სთვის"),
    "ისთვის": (KEEP, "ისთვის", "<ისთვის", "სთვის"),
    "გან": (KEEP, "ისგან", "<ისგან", "სგან"),
    "სგან": (KEEP, "ისგან", "<ისგან", "სგან"),
    "ისგან": (KEEP, "ისგან", "<ისგან", "სგან"),
    "კენ": (KEEP, "ისკენ", "<ისკენ", "სკენ"),
    "სკენ": (KEEP, "ისკენ", "<ისკენ", "სკენ"),
    "ისკენ": (KEEP, "ისკენ", "<ისკენ", "სკენ"),
}
_SYNCOPE = {  # nouns this module is asked to decline that lose a vowel before an ending that begins with one
    "წელ": "წლ",
    "იანვარ": "იანვრ",
    "თებერვალ": "თებერვლ",
    "სექტემბერ": "სექტემბრ",
    "ოქტომბერ": "ოქტომბრ",
    "ნოემბერ": "ნოემბრ",
    "დეკემბერ": "დეკემბრ",
    "ჰექტარ": "ჰექტრ",
}
_VOWELS = "აეიოუ"


def stem_of(word: str) -> str:
    """`word` without its nominative -ი: ხუთი → ხუთ; რვა, მეხუთე and ევრო are their own stems."""
    return word[:-1] if word.endswith("ი") else word


def agreement(ending: str) -> str:
    """KEEP, DROP or ERGATIVE: what a numeral does before a noun with this ending ('' is the nominative)."""
    if not ending:
        return KEEP
    return _ENDINGS[_base_ending(ending)][0] if _base_ending(ending) else KEEP


def is_case_ending(ending: str) -> bool:
    """True for a case ending or postposition, clitics included; False for -იანი, -ჯერ, -წლიანი and such."""
    return not ending or bool(_base_ending(ending))


def _base_ending(ending: str) -> str:
    """The case ending under the clitics -ც (too), -ვე (very), -ა (is): საც → ს, შივე → ში; ''."""
    if ending in _ENDINGS:
        return ending
    for clitic in ("ვე", "აც", "ც", "აა", "ა"):
        base = ending.removesuffix(clitic)
        if base != ending and (base in _ENDINGS or not base):
            return base or "ი"
    return ""


@lru_cache(maxsize=50_000)
def attach(stem: str, ending: str) -> str:
    """Join a stem (no nominative -ი) and a written ending: (ხუთ, დან) → ხუთიდან, (რვა, ის) → რვის."""
    base = _base_ending(ending)
    truncates = stem[-1:] in ("ა", "ე") and len(stem) > 1
    if not base:  # a derived word: 40-იანი, 3-ჯერ, 100-ლარიანი
        return (stem[:-1] if truncates and ending.startswith("ი") else stem) + ending
    form = _ENDINGS[base][2 if truncates else 3 if stem[-1:] in _VOWELS else 1]
    if form == "თი" and stem.endswith("ი"):
        form = "თ"  # ტაქსით, but ევროთი
    if form.startswith("<"):
        word = stem[:-1] + form[1:]
    else:
        word = (_SYNCOPE.get(stem, stem) if form[:1] in ("ი", "ა") and form != "ი" else stem) + form
    clitic = "" if ending in _ENDINGS else ending.removeprefix(base) if ending.startswith(base) else ending
    if clitic in ("ც", "აც"):
        clitic = "ც" if word[-1] in _VOWELS else "აც"
    elif clitic == "აა" and word[-1] in _VOWELS:
        clitic = "ა"
    return word + clitic


def agree(phrase: str, case: str) -> str:
    """A numeral before its noun: its last word, and the multiplier of a closing ათასი, lose or change -ი.

    (ხუთი ათასი, DROP) → ხუთ ათას; (ორი ათას ოცდაექვსი, DROP) → ორი ათას ოცდაექვს; (რვა, ERGATIVE) → რვა.
    """
    if case == KEEP:
        return phrase
    *head, last = phrase.split(" ")
    if last in _SCALE_WORDS and head:
        *before, multiplier = head
        head = [*before, _before_noun(multiplier, case)]
    return " ".join([*head, _before_noun(last, case)])


def _before_noun(word: str, case: str) -> str:
    return word[:-1] + case if word.endswith("ი") else word


def decline(phrase: str, ending: str) -> str:
    """A numeral or noun phrase with an ending on its last word: (ორი ათას ოცდაექვსი, ში) → … ოცდაექვსში."""
    if not ending:
        return phrase
    head, _, last = phrase.rpartition(" ")
    word = attach(stem_of(last), ending)
    if not head:
        return word
    if last in _SCALE_WORDS:
        before, _, multiplier = head.rpartition(" ")
        head = f"{before} {_before_noun(multiplier, agreement(ending))}".lstrip()
    return f"{head} {word}"


# ── agreement with the word that follows ────────────────────────────────────────────────────────────────────

# Words that look like a noun in an oblique case but leave a numeral before them alone.
_NOT_OBLIQUE = frozenset(
    "აქვს ჰყავს ყავს ღირს სურს ჭამს სვამს წერს კვადრატში კუბში მარში ტუში ნიში მზე "
    "სრულად ზუსტად ნამდვილად მხოლოდ საკმაოდ ერთად ბევრად მეტად ნაკლებად კარგად ცუდად ხშირად დღემდე აქამდე "
    "მანამდე".split()
)
_NOMINATIVE_IN_MA = tuple("ფორმა ნორმა ფირმა თერმა ფარმა ტრავმა დოგმა პლაზმა ასთმა".split())
_DATIVE_AND_ADVERBIAL = ("ში", "ზე", "თან", "მდე", "ად", "შიც", "ზეც", "საც")
_VERBAL = ("ებს", "ობს", "ავს", "ევს", "ოდეს", "იდეს", "ნდეს")
_TRUNCATED_ADJECTIVES = ("ურ", "ულ", "იან", "ელ", "ოვან", "დიდ", "ახალ", "ძველ", "მთავარ", "პატარ", "მსგავს")


@lru_cache(maxsize=50_000)
def case_before(word: str) -> str:
    """KEEP, DROP or ERGATIVE: what a bare numeral does before `word`, judged by the word's ending.

    ლარი, წლის, კილომეტრით → KEEP; წელს, ქალაქში, ნაწილად, ლარამდე → DROP; კაცმა → ERGATIVE.
    """
    if len(word) < 3 or word in _NOT_OBLIQUE:
        return KEEP
    if word.endswith("მა"):
        ergative = word[-3] not in _VOWELS and not word.endswith(_NOMINATIVE_IN_MA)
        return ERGATIVE if ergative else KEEP
    if word.endswith("ს"):
        return KEEP if word.endswith("ის") or word.endswith(_VERBAL) else DROP
    if word.endswith("ისაც"):
        return KEEP
    return DROP if word.endswith(_DATIVE_AND_ADVERBIAL) or word.endswith(_TRUNCATED_ADJECTIVES) else KEEP
