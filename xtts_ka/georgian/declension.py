"""Case endings on Georgian words, and the form that a numeral or adjective takes before a declined noun.

The norm of the literary language: a numeral before its noun keeps -ი in the nominative, genitive and instrumental,
takes -მა in the ergative and loses -ი in the dative and adverbial (`ხუთი ლარის, ხუთმა ლარმა, ხუთ ლარს`); stems in -ა
and -ე lose their vowel before -ის and -ით (`რვის`, `მეხუთის`); a few nouns syncopate (`წელი → წლის`).
"""

from __future__ import annotations

import re
from functools import lru_cache

from xtts_ka.georgian.alphabet import VOWELS, word_table

KEEP, DROP, ERGATIVE = "ი", "", "მა"  # what replaces the -ი of a numeral or adjective before its noun
SCALE_NOUNS = ("კვადრილიონი", "ტრილიონი", "მილიარდი", "მილიონი", "ათასი")

# ── endings ──────────────────────────────────────────────────────────────────────────────────────────────────────────

# The ending as written after a hyphen (several spellings); what a numeral before it does; the ending after a consonant,
# after a vowel that truncates (ა, ე), and after one that does not (ი, ო, უ). "<" removes the stem's own vowel.
_ENDING_ROWS = (
    ("ი", KEEP, "ი", "", ""),
    ("მა მ", ERGATIVE, "მა", "მ", "მ"),
    ("ს", DROP, "ს", "ს", "ს"),
    ("ის", KEEP, "ის", "<ის", "ს"),
    ("ით თი", KEEP, "ით", "<ით", "თი"),
    ("ად დ", DROP, "ად", "დ", "დ"),
    ("ში", DROP, "ში", "ში", "ში"),
    ("ზე", DROP, "ზე", "ზე", "ზე"),
    ("თან სთან", DROP, "თან", "სთან", "სთან"),
    ("დან იდან", KEEP, "იდან", "<იდან", "დან"),
    ("მდე ამდე", DROP, "ამდე", "მდე", "მდე"),
    ("თვის სთვის ისთვის", KEEP, "ისთვის", "<ისთვის", "სთვის"),
    ("გან სგან ისგან", KEEP, "ისგან", "<ისგან", "სგან"),
    ("კენ სკენ ისკენ", KEEP, "ისკენ", "<ისკენ", "სკენ"),
)
_ENDINGS = {written: tuple(forms) for spellings, *forms in _ENDING_ROWS for written in spellings.split()}
_CLITICS = ("ვე", "აც", "ც", "აა", "ა")  # -ვე (the very), -ც (too), -ა (is)
# Nouns that abbreviations and dates expand to and that lose a vowel before an ending that begins with one.
_SYNCOPATED = word_table(
    "წელ=წლ იანვარ=იანვრ თებერვალ=თებერვლ სექტემბერ=სექტემბრ ოქტომბერ=ოქტომბრ ნოემბერ=ნოემბრ დეკემბერ=დეკემბრ "
    "ჰექტარ=ჰექტრ ნახევარ=ნახევრ კვარტალ=კვარტლ სოფელ=სოფლ"
)


def stem_of(word: str) -> str:
    """`word` without its nominative -ი: ხუთი → ხუთ; რვა, მეხუთე and ევრო are their own stems."""
    return word.removesuffix("ი")


def agreement(ending: str) -> str:
    """KEEP, DROP or ERGATIVE: what a numeral does before a noun with this ending ("" is the nominative)."""
    base = _without_clitic(ending)
    return _ENDINGS[base][0] if base else KEEP


def is_case_ending(ending: str) -> bool:
    """True for a case ending or postposition, with or without a clitic; False for -იანი, -ჯერ, -წლიანი and such."""
    return not ending or bool(_without_clitic(ending))


def _without_clitic(ending: str) -> str:
    """The case ending before a clitic (საც → ს, შივე → ში), or "" where there is no case ending."""
    if ending in _ENDINGS:
        return ending
    for clitic in _CLITICS:
        base = ending.removesuffix(clitic)
        if base != ending and (base in _ENDINGS or not base):
            return base or "ი"
    return ""


@lru_cache(maxsize=50_000)
def attach(stem: str, ending: str) -> str:
    """Join a stem (without the nominative -ი) and a written ending: (ხუთ, დან) → ხუთიდან, (რვა, ის) → რვის."""
    base = _without_clitic(ending)
    truncates = stem[-1:] in ("ა", "ე") and len(stem) > 1
    if not base:  # a derived word: 40-იანი, 3-ჯერ, 100-ლარიანი
        return (stem[:-1] if truncates and ending.startswith("ი") else stem) + ending
    form = _ENDINGS[base][2 if truncates else 3 if stem[-1:] in VOWELS else 1]
    if form == "თი" and stem.endswith("ი"):
        form = "თ"  # ტაქსით, but ევროთი
    if form.startswith("<"):
        word = stem[:-1] + form[1:]
    else:
        word = (_SYNCOPATED.get(stem, stem) if form[:1] in ("ი", "ა") and form != "ი" else stem) + form
    if ending in _ENDINGS:
        return word
    clitic = ending.removeprefix(base)
    if clitic in ("ც", "აც"):
        return word + ("ც" if word[-1] in VOWELS else "აც")
    return word + ("ა" if clitic == "აა" and word[-1] in VOWELS else clitic)


# ── phrases ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def agree(phrase: str, case: str) -> str:
    """A numeral before its noun: its last word, and the multiplier of a closing ათასი, lose or change -ი.

    (ხუთი ათასი, DROP) → ხუთ ათას; (ორი ათას ოცდაექვსი, DROP) → ორი ათას ოცდაექვს; (რვა, ERGATIVE) → რვა.
    """
    head, last = _head_and_last(phrase, case)
    return head + _before_noun(last, case)


def decline(phrase: str, ending: str) -> str:
    """A numeral or noun phrase with an ending on its last word: (ორი ათას ოცდაექვსი, ში) → … ოცდაექვსში."""
    if not ending:
        return phrase
    head, last = _head_and_last(phrase, agreement(ending))
    return head + attach(stem_of(last), ending)


def _head_and_last(phrase: str, case: str) -> tuple[str, str]:
    """All but the last word, with its space, and the last word; the multiplier of a scale word agrees with `case`."""
    head, space, last = phrase.rpartition(" ")
    if last in SCALE_NOUNS:
        before, gap, multiplier = head.rpartition(" ")
        head = before + gap + _before_noun(multiplier, case)
    return head + space, last


def _before_noun(word: str, case: str) -> str:
    return word[:-1] + case if word.endswith("ი") else word


# ── agreement with the word that follows ─────────────────────────────────────────────────────────────────────────────

# Words that end like a noun in an oblique case but do not change a numeral before them.
_NOT_OBLIQUE = frozenset(
    "აქვს ჰყავს ყავს ღირს სურს ჭამს სვამს წერს კვადრატში კუბში მარში ტუში ნიში მზე აქამდე მანამდე რომ კამ იმ ამ "
    "მინუს პლუს ვარ ხარ ვერ აღარ ჯერ ერთხელ ორჯერ სამჯერ კვლავ გარდა ჩანს დგას ხელახლა მაინც შინ მაშინ ახლახან".split()
)
_NOMINATIVE_IN_MA = tuple("ფორმა ნორმა ფირმა თერმა ფარმა ტრავმა დოგმა პლაზმა ასთმა ხმა პალმა კარმა".split())
_LOCATIVE = ("ში", "ზე", "თან", "მდე", "შიც", "ზეც", "საც")
_VERBAL = ("ებს", "ობს", "ავს", "ევს", "ოდეს", "იდეს", "ნდეს", "ლის", "ის")
_TRUNCATED_ADJECTIVES = ("ლ", "რ", "იან", "ოვან", "დიდ", "მსგავს", "მოქმედ", "მცხოვრებ", "შავ", "ლურჯ", "უცნობ", "კარგ")
# A numeral agrees with an adverbial in -ად only where that is a noun; most words in -ად are adverbs (სოფლად, ერთად).
_COUNTED_AS = re.compile(
    "(?:ნაწილ|ჯგუფ|ტომ|ეტაპ|კატეგორი|ნაჭრ|ლარ|დოლარ|თეთრ|ცალ|წილ|ადგილ|კაც|კლას|ფენ|ფაზ|რიგ|ხმ|სვეტ|მწკრივ|ლუკმ|სახეობ|"
    "ნივთ|ოთახ|"
    "სახელმწიფო|რაიონ|ოლქ|პროცენტ|ევრო|მხარ|სართულ|ქვეყნ|ერთეულ|თანრიგ)(?:ებ)?(?:ად|დ)$"
)
# Adjectives in a vowel, which show no case: the noun behind them does (15 საუკეთესო მოთამაშეს).
_UNCHANGING = re.compile(
    "(?:სა[ა-ჵ]{3,}ო|უ[ა-ჵ]{3,}ო|პატარა|ახალგაზრდა|სხვა|სხვადასხვა|ბოლო|წინა|მომდევნო|მიმდინარე|მძიმე|მწვანე|მოკლე|"
    "მსოფლიო|"
    "ნახევრად|ყველაზე|ძალიან|აშშ|ჭიქა|ტონა|მუჭა|ცალი|კოვზი)$"
)
_NOUNS_IN_O = frozenset("სასტუმრო საავადმყოფო საწარმო სამინისტრო სააგენტო საზოგადო სარკინიგზო სანაპირო სათბურო".split())
_WORDS_AFTER = re.compile(" ([ა-ჵ]+)(?: ([ა-ჵ]+))?")


@lru_cache(maxsize=50_000)
def case_before(word: str) -> str:
    """KEEP, DROP or ERGATIVE: what a bare numeral does before `word`, judged by the word's ending.

    ლარი, წლის, კილომეტრით → KEEP; წელს, ქალაქში, ნაწილად, ლარამდე → DROP; კაცმა, მოსამართლემ → ERGATIVE.
    """
    if word in ("მის", "მათ"):
        return DROP
    if len(word) < 3 or word in _NOT_OBLIQUE:
        return KEEP
    if word.endswith("მა"):
        return KEEP if word[-3] in VOWELS or word.endswith(_NOMINATIVE_IN_MA) else ERGATIVE
    if word.endswith("მ"):
        return ERGATIVE if word[-2] in VOWELS else KEEP
    if word.endswith("ს"):
        return KEEP if word.endswith(_VERBAL) else DROP
    if word.endswith(("ისაც", "ისა", "ჯერ", "ხელ")):
        return KEEP
    if word.endswith("დ") and not word.endswith(_TRUNCATED_ADJECTIVES):
        return DROP if _COUNTED_AS.search(word) else KEEP
    if len(word) < 4 and word != "დიდ" and word != "შავ":
        return DROP if word.endswith(_LOCATIVE) else KEEP
    return DROP if word.endswith(_LOCATIVE + _TRUNCATED_ADJECTIVES) else KEEP


def head_noun(text: str, end: int) -> str:
    """The noun that a numeral which ends at `end` counts: the next word, or the one behind an unchanging adjective."""
    words = _WORDS_AFTER.match(text, end)
    if not words:
        return ""
    first, second = words.groups()
    if first == "მათ" and second == "შორის":
        return ""
    if first.endswith("სა") and second == "და" and not first.endswith("ისა"):  # 21 სოფელსა და ქალაქს
        return first[:-1]
    skipped = second and first not in _NOUNS_IN_O and _UNCHANGING.match(first)
    return second if skipped and case_before(first) == KEEP else first
