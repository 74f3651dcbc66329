"""Reads Latin and Cyrillic words in Georgian letters, by sound.

Familiar names are read as Georgians call them (`Facebook → ფეისბუქი`), initialisms letter by letter (`USB → იუ ეს ბი`),
everything else letter for letter with the common digraphs (`shch`, `tch`, `sh`, `kh` …). A case ending after a hyphen
is joined: `Facebook-ში → ფეისბუქში`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from xtts_ka.georgian.alphabet import LATIN_LETTER_NAMES, word_table
from xtts_ka.georgian.declension import attach, is_case_ending, stem_of
from xtts_ka.georgian.numbers import apart

# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

# What Georgians call it; a final -ი is the nominative ending, which other endings replace.
_KNOWN = word_table(
    "facebook=ფეისბუქი google=გუგლი youtube=იუთუბი instagram=ინსტაგრამი twitter=ტვიტერი tiktok=ტიკტოკი "
    "telegram=ტელეგრამი whatsapp=ვოთსაფი viber=ვაიბერი skype=სკაიპი zoom=ზუმი messenger=მესენჯერი "
    "microsoft=მაიკროსოფტი windows=ვინდოუსი word=ვორდი excel=ექსელი office=ოფისი apple=ეფლი iphone=აიფონი ipad=აიპედი "
    "android=ანდროიდი linux=ლინუქსი python=პითონი java=ჯავა javascript=ჯავასკრიპტი intel=ინტელი samsung=სამსუნგი "
    "sony=სონი amazon=ამაზონი netflix=ნეტფლიქსი wikipedia=ვიკიპედია bluetooth=ბლუთუსი wifi=ვაიფაი internet=ინტერნეტი "
    "email=იმეილი gmail=ჯიმეილი mail=მეილი online=ონლაინ offline=ოფლაინ website=ვებსაიტი web=ვებ site=საიტი blog=ბლოგი "
    "chat=ჩატი smartphone=სმარტფონი laptop=ლეპტოპი mouse=მაუსი hello=ჰელოუ ok=ოქეი okay=ოქეი covid=კოვიდი nato=ნატო "
    "fifa=ფიფა uefa=უეფა nasa=ნასა unesco=იუნესკო unicef=იუნისეფი opec=ოპეკი tesla=ტესლა toyota=ტოიოტა bmw=ბეემვე "
    "mercedes=მერსედესი adidas=ადიდასი nike=ნაიკი the=ზე and=ენდ of=ოფ london=ლონდონი paris=პარიზი george=ჯორჯი "
    "john=ჯონი james=ჯეიმსი michael=მაიკლი new=ნიუ york=იორკი chatgpt=ჩატჯიპიტი"
)
_LATIN = word_table(
    "shch=შჩ sch=შ tch=ჩ sh=შ ch=ჩ zh=ჟ kh=ხ gh=ღ ts=ც dz=ძ dj=ჯ th=თ ph=ფ ck=კ qu=კვ oo=უ ee=ი ou=უ ew=იუ wh=უ "
    "a=ა b=ბ c=კ d=დ e=ე f=ფ g=გ h=ჰ i=ი j=ჯ k=კ l=ლ m=მ n=ნ o=ო p=პ q=ქ r=რ s=ს t=ტ u=უ v=ვ w=ვ x=ქს y=ი z=ზ "
    "ß=ს æ=ე œ=ე ø=ო đ=დ ð=დ þ=თ ł=ლ ħ=ჰ ı=ი ə=ა ŋ=ნგ ĸ=კ ŧ=ტ"
)
_CYRILLIC = word_table(
    "а=ა б=ბ в=ვ г=გ д=დ е=ე ё=იო ж=ჟ з=ზ и=ი й=ი к=კ л=ლ м=მ н=ნ о=ო п=პ р=რ с=ს т=ტ у=უ ф=ფ х=ხ ц=ც ч=ჩ ш=შ щ=შჩ "
    "ъ= ы=ი ь= э=ე ю=იუ я=ია і=ი ї=ი є=ე ґ=გ ў=უ ј=ი љ=ლ њ=ნ ђ=ჯ ћ=ჩ џ=ჯ ѕ=ძ ѓ=გ ќ=კ ғ=ღ қ=ყ ң=ნ ҳ=ჰ һ=ჰ ө=ო ү=უ ұ=უ "
    "ҷ=ჯ ә=ა ӏ= ѣ=ე ѳ=ფ ѵ=ი ѐ=ე ѝ=ი"
)

# ── transliteration ──────────────────────────────────────────────────────────────────────────────────────────────────

LATIN = "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0259\u1e00-\u1eff"
CYRILLIC = "\u0400-\u0481\u048a-\u052f"
_WORD = re.compile(rf"([{LATIN}]+(?:['-][{LATIN}]+)*|[{CYRILLIC}]+)(?:-([ა-ჵ]+))?")
_LATIN_UNIT = re.compile("|".join(sorted(map(re.escape, _LATIN), key=len, reverse=True)))
_SOFT_C = re.compile("c(?=[eiy])")
_DOUBLED = re.compile(r"([bcdfghjklmnpqrstvwxz])\1")
_LATIN_VOWEL = re.compile("[aeiouy]")


def transliterate(text: str) -> str:
    """Replace every Latin and Cyrillic word of `text` by Georgian letters; everything else stays."""
    return _WORD.sub(_word, text)


def _word(match: re.Match[str]) -> str:
    written, ending = match.groups()
    word = sound(written)
    if not ending:
        return apart(match, word)
    stem = stem_of(word) if written.lower().replace("-", "") in _KNOWN else word
    if not word or (not is_case_ending(ending) and not ending.startswith("ი")):
        return apart(match, f"{stem}-{ending}")
    head, space, last = stem.rpartition(" ")
    return apart(match, head + space + attach(last, ending))


@lru_cache(maxsize=50_000)
def sound(written: str) -> str:
    """One Latin or Cyrillic word in Georgian letters; an initialism gives several words."""
    plain = written.replace("'", "")
    low = plain.lower()
    if low[:1] in _CYRILLIC:
        return "".join(_CYRILLIC.get(letter, "") for letter in low)
    if (joined := low.replace("-", "")) in _KNOWN:
        return _KNOWN[joined]
    if "-" in plain:
        return "-".join(filter(None, map(sound, plain.split("-"))))
    low = "".join(c for c in unicodedata.normalize("NFD", low) if c in _LATIN)
    acronym = (plain.isupper() and len(low) <= 4) or (not _LATIN_VOWEL.search(low) and len(low) <= 6)
    if acronym and all(letter in LATIN_LETTER_NAMES for letter in low):
        return " ".join(LATIN_LETTER_NAMES[letter] for letter in low)
    low = _SOFT_C.sub("s", low.replace("sce", "se").replace("sci", "si"))
    low = _DOUBLED.sub(r"\1", low)
    return _LATIN_UNIT.sub(lambda unit: _LATIN[unit[0]], low)
