"""Latin and Cyrillic words in Georgian letters, by sound; e-mail and web addresses as they are dictated.

Whatever the spelling, the result is what a Georgian reader would say: familiar names as Georgians call them
(`Facebook → ფეისბუქი`), initialisms letter by letter (`USB → იუ ეს ბი`), everything else letter for letter
with the common digraphs (`shch`, `tch`, `sh`, `kh` …). A case ending after a hyphen is joined: `Facebook-ში →
ფეისბუქში`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from xtts_ka.georgian.numbers import attach, is_case_ending, stem_of, whole

# ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────

# What Georgians call it; a final -ი is the nominative ending and gives way to other endings.
_KNOWN = dict(
    pair.split("=")
    for pair in (
        "facebook=ფეისბუქი google=გუგლი youtube=იუთუბი instagram=ინსტაგრამი twitter=ტვიტერი tiktok=ტიკტოკი "
        "telegram=ტელეგრამი whatsapp=ვოთსაფი viber=ვაიბერი skype=სკაიპი zoom=ზუმი messenger=მესენჯერი "
        "microsoft=მაიკროსოფტი windows=ვინდოუსი word=ვორდი excel=ექსელი office=ოფისი apple=ეფლი "
        "iphone=აიფონი "
        "ipad=აიპედი android=ანდროიდი linux=ლინუქსი python=პითონი java=ჯავა javascript=ჯავასკრიპტი "
        "intel=ინტელი "
        "samsung=სამსუნგი sony=სონი amazon=ამაზონი netflix=ნეტფლიქსი wikipedia=ვიკიპედია bluetooth=ბლუთუსი "
        "wifi=ვაიფაი internet=ინტერნეტი email=იმეილი gmail=ჯიმეილი mail=მეილი online=ონლაინ offline=ოფლაინ "
        "website=ვებსაიტი web=ვებ site=საიტი blog=ბლოგი chat=ჩატი smartphone=სმარტფონი laptop=ლეპტოპი "
        "mouse=მაუსი "
        "hello=ჰელოუ ok=ოქეი okay=ოქეი covid=კოვიდი nato=ნატო fifa=ფიფა uefa=უეფა nasa=ნასა unesco=იუნესკო "
        "unicef=იუნისეფი opec=ოპეკი tesla=ტესლა toyota=ტოიოტა bmw=ბეემვე mercedes=მერსედესი adidas=ადიდასი "
        "nike=ნაიკი the=ზე and=ენდ of=ოფ london=ლონდონი paris=პარიზი george=ჯორჯი john=ჯონი james=ჯეიმსი "
        "michael=მაიკლი new=ნიუ york=იორკი chatgpt=ჩატჯიპიტი"
    ).split()
)
_LETTER_NAMES = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz",
        "ეი ბი სი დი ი ეფ ჯი ეიჩ აი ჯეი კეი ელ ემ ენ ო პი ქიუ არ ეს თი იუ ვი დაბლიუ იქს უაი ზეტ".split(),
        strict=True,
    )
)
_LATIN = dict(
    pair.split("=")
    for pair in (
        "shch=შჩ sch=შ tch=ჩ sh=შ ch=ჩ zh=ჟ kh=ხ gh=ღ ts=ც dz=ძ dj=ჯ th=თ ph=ფ ck=კ qu=კვ oo=უ ee=ი ou=უ "
        "ew=იუ wh=უ "
        "a=ა b=ბ c=კ d=დ e=ე f=ფ g=გ h=ჰ i=ი j=ჯ k=კ l=ლ m=მ n=ნ o=ო p=პ q=ქ r=რ s=ს t=ტ u=უ v=ვ w=ვ x=ქს "
        "y=ი z=ზ "
        "ß=ს æ=ე œ=ე ø=ო đ=დ ð=დ þ=თ ł=ლ ħ=ჰ ı=ი ə=ა ŋ=ნგ ĸ=კ ŧ=ტ"
    ).split()
)
_CYRILLIC = dict(
    pair.split("=")
    for pair in (
        "а=ა б=ბ в=ვ г=გ д=დ е=ე ё=იო ж=ჟ з=ზ и=ი й=ი к=კ л=ლ м=მ н=ნ о=ო п=პ р=რ с=ს т=ტ у=უ ф=ფ х=ხ ц=ც "
        "ч=ჩ "
        "ш=შ щ=შჩ ъ= ы=ი ь= э=ე ю=იუ я=ია і=ი ї=ი є=ე ґ=გ ў=უ ј=ი љ=ლ њ=ნ ђ=ჯ ћ=ჩ џ=ჯ ѕ=ძ ѓ=გ ќ=კ ғ=ღ қ=ყ "
        "ң=ნ ҳ=ჰ һ=ჰ "
        "ө=ო ү=უ ұ=უ ҷ=ჯ ә=ა ӏ= ѣ=ე ѳ=ფ ѵ=ი ѐ=ე ѝ=ი"
    ).split()
)
_ADDRESS_MARKS = {
    ".": "წერტილი",
    "@": "ეთ",
    "-": "დეფისი",
    "_": "ქვედა ტირე",
    "/": "დახრილი ხაზი",
    ":": "ორწერტილი",
    "?": "კითხვის ნიშანი",
    "=": "უდრის",
    "&": "და",
    "#": "ჰეში",
    "+": "პლუსი",
    "%": "პროცენტი",
    "~": "ტილდა",
}
_ADDRESS_PARTS = {"www": "ვე ვე ვე", "com": "კომ", "ge": "ჯი", "org": "ორგ", "net": "ნეტ", "info": "ინფო"}

# ── transliteration ─────────────────────────────────────────────────────────────────────────────────────────

LATIN = "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0259\u1e00-\u1eff"
CYRILLIC = "\u0400-\u0481\u048a-\u052f"
_WORD = re.compile(rf"([{LATIN}]+(?:['-][{LATIN}]+)*|[{CYRILLIC}]+)(?:-([ა-ჵ]+))?")
_LATIN_UNIT = re.compile("|".join(sorted(map(re.escape, _LATIN), key=len, reverse=True)))
_SOFT_C = re.compile("c(?=[eiy])")
_DOUBLED = re.compile(r"([bcdfghjklmnpqrstvwxz])\1")
_LATIN_VOWEL = re.compile("[aeiouy]")


def transliterate(text: str) -> str:
    """Replace every Latin and Cyrillic word of `text` by Georgian letters; everything else is left alone."""
    return _WORD.sub(_word, text)


def _word(match: re.Match) -> str:
    written, ending = match.groups()
    known = written.lower().replace("-", "") in _KNOWN
    word = _sound(written)
    if not ending:
        return _apart(match, word)
    if not word or (not is_case_ending(ending) and not ending.startswith("ი")):
        return _apart(match, f"{stem_of(word) if known else word}-{ending}")
    head, _, last = word.rpartition(" ")
    return _apart(match, f"{head} {attach(stem_of(last) if known else last, ending)}".lstrip())


def _apart(match: re.Match, reading: str) -> str:
    """The reading, with a space where the word touched a Georgian letter or a digit."""
    before = match.string[match.start() - 1 : match.start()]
    after = match.string[match.end() : match.end() + 1]
    return f"{' ' if before.isalnum() else ''}{reading}{' ' if after.isalnum() else ''}"


@lru_cache(maxsize=50_000)
def _sound(written: str) -> str:
    plain = written.replace("'", "")
    low = plain.lower()
    if low[:1] in _CYRILLIC:
        return "".join(_CYRILLIC.get(letter, "") for letter in low)
    if (joined := low.replace("-", "")) in _KNOWN:
        return _KNOWN[joined]
    if "-" in plain:
        return "-".join(filter(None, map(_sound, plain.split("-"))))
    low = "".join(c for c in unicodedata.normalize("NFD", low) if not unicodedata.combining(c))
    low = "".join(c for c in low if c in _LATIN)
    acronym = (plain.isupper() and len(low) <= 4) or (not _LATIN_VOWEL.search(low) and len(low) <= 6)
    if acronym and all(letter in _LETTER_NAMES for letter in low):
        return " ".join(_LETTER_NAMES[letter] for letter in low)
    low = _SOFT_C.sub("s", low.replace("sce", "se").replace("sci", "si"))
    low = _DOUBLED.sub(r"\1", low)
    return _LATIN_UNIT.sub(lambda unit: _LATIN[unit[0]], low)


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────────────

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
_ADDRESS_LIKE = re.compile(r"\.[A-Za-z]|://")
_ADDRESS_TOKEN = re.compile(r"[A-Za-z]+|\d+|[^A-Za-z\d]")


def read_addresses(text: str) -> str:
    """Dictate e-mail and web addresses: `info@site.ge → ინფო ეთ სიტე წერტილი ჯი`; the scheme is not read."""
    return _ADDRESS.sub(_address, text) if _ADDRESS_LIKE.search(text) else text


def _address(match: re.Match) -> str:
    address = match["rest"] or match["mail"] or match["site"]
    words = []
    for token in _ADDRESS_TOKEN.findall(address):
        if token.isdigit():
            words.append(whole(token))
        elif token.isalpha():
            words.append(_ADDRESS_PARTS.get(token.lower()) or _sound(token))
        else:
            words.append(_ADDRESS_MARKS.get(token, ""))
    reading = " ".join(filter(None, words))
    if match["ending"]:
        head, _, last = reading.rpartition(" ")
        reading = f"{head} {attach(last, match['ending'])}".lstrip()
    return f" {reading} "
