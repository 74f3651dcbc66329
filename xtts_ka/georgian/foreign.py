"""Reads Latin and Cyrillic words in Georgian letters, by sound.

Familiar names are read as Georgians call them (`Facebook → ფეისბუქი`), initialisms letter by letter (`USB → იუ ეს ბი`),
English words by their pronunciation (`people → პიპლი`, see `english`), everything else letter for letter with the
common digraphs (`shch`, `tch`, `sh`, `kh` …).

* A case ending after a hyphen is joined to the stem: `Facebook-ში → ფეისბუქში`. The ending says what the stem is: with
  -მ, -თი or -სთვის it ends in a vowel (`ChatGPT-მ → ჩატჯიპიტიმ`), with -მა or -ის in a consonant.
* An English word in a consonant without an ending takes the nominative -ი where it ends a phrase (`კითხულობს Guardian`
  has its mark behind it), and none before a word that it describes: `smart ტელევიზორი → სმარტ ტელევიზორი`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from xtts_ka.georgian.alphabet import LATIN_LETTER_NAMES, VOWELS, word_table
from xtts_ka.georgian.declension import attach, is_case_ending, stem_of
from xtts_ka.georgian.english import english
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
    "john=ჯონი james=ჯეიმსი michael=მაიკლი new=ნიუ york=იორკი chatgpt=ჩატჯიპიტი spacex=სპეისიქსი ios=აიოსი "
    "macos=მაკოსი "
    "ipados=აიპედოსი ebay=იბეი linkedin=ლინკდინი openai=ოუფენეიაი playstation=ფლეისთეიშენი xbox=იქსბოქსი huawei=ხუავეი "
    "xiaomi=შაომი lenovo=ლენოვო asus=ასუსი nokia=ნოკია motorola=მოტოროლა bolt=ბოლტი wolt=ვოლტი glovo=გლოვო uber=უბერი "
    "spotify=სპოტიფაი airbnb=ეარბიენბი visa=ვიზა mastercard=მასტერქარდი paypal=პეიპალი carrefour=კარფური ikea=იკეა "
    "mcdonalds=მაკდონალდსი starbucks=სტარბაქსი cocacola=კოკა-კოლა pepsi=პეპსი ford=ფორდი volkswagen=ფოლკსვაგენი "
    "audi=აუდი hyundai=ჰიუნდაი kia=კია nissan=ნისანი honda=ჰონდა lexus=ლექსუსი porsche=პორშე ferrari=ფერარი "
    "renault=რენო "
    "peugeot=პეჟო citroen=სიტროენი opel=ოპელი boeing=ბოინგი airbus=ეარბასი nvidia=ენვიდია siemens=სიმენსი bosch=ბოში "
    "philips=ფილიპსი reuters=როიტერი bloomberg=ბლუმბერგი euronews=ევრონიუსი disney=დისნეი marvel=მარველი oscar=ოსკარი "
    "grammy=გრემი eurovision=ევროვიზია real=რეალი madrid=მადრიდი barcelona=ბარსელონა napoli=ნაპოლი milan=მილანი "
    "juventus=იუვენტუსი chelsea=ჩელსი arsenal=არსენალი liverpool=ლივერპული manchester=მანჩესტერი bayern=ბაიერნი "
    "tbilisi=თბილისი georgia=ჯორჯია georgian=ჯორჯიან photoshop=ფოტოშოპი powerpoint=ფაუერფოინთი wordpress=ვორდპრესი "
    "github=გიტჰაბი design=დიზაინი manager=მენეჯერი premium=პრემიუმ video=ვიდეო album=ალბომი pizza=პიცა burger=ბურგერი "
    "aquarium=აკვარიუმ metallica=მეტალიკა beatles=ბითლზი queen=ქუინი youtuber=იუთუბერი iban=იბანი swift=სვიფტი "
    "friday=ფრაიდეი off=ოფ "
    "vip=ვიპი radio=რადიო euro=ევრო club=კლუბი hostel=ჰოსტელი hotel=ჰოტელი bar=ბარი cafe=კაფე restaurant=რესტორანი "
    "park=პარკი plaza=პლაზა wine=ვაინი khachapuri=ხაჭაპური supra=სუფრა berlin=ბერლინი roma=რომა porto=პორტო "
    "moscow=მოსკოვი washington=ვაშინგტონი einstein=აინშტაინი newton=ნიუტონი mozart=მოცარტი shakespeare=შექსპირი "
    "goethe=გოეთე beethoven=ბეთჰოვენი bach=ბახი schiller=შილერი nietzsche=ნიცშე dumas=დიუმა hugo=ჰიუგო cannes=კანი "
    "louvre=ლუვრი sorbonne=სორბონა versailles=ვერსალი faust=ფაუსტი michelin=მიშლენი chanel=შანელი dior=დიორი "
    "giorgi=გიორგი david=დავითი nino=ნინო mariam=მარიამი ana=ანა levan=ლევანი irakli=ირაკლი tamar=თამარი"
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
_CAMEL = re.compile("[A-Z]?[a-z']+|[A-Z]+(?![a-z])")
_AFTER_VOWEL = frozenset("მ თი სთან სთვის სგან სკენ".split())  # what these endings follow is a vowel
_LATIN_NEXT = re.compile(f" (?=[{LATIN}])")  # before it a name has no -ი: New York Times
_PHRASE_END = re.compile(" *(?:[.,!?;:)–]|$| - )")
_LATIN_VOWEL = re.compile("[aeiouy]")


def transliterate(text: str) -> str:
    """Replace every Latin and Cyrillic word of `text` by Georgian letters; everything else stays."""
    return _WORD.sub(_word, text)


def _word(match: re.Match[str]) -> str:
    written, ending = match.groups()
    word = sound(written)
    if not ending:
        if _LATIN_NEXT.match(match.string, match.end()):
            return apart(match, stem_of(word) if _is_known(written) and written[-1] not in "iI" else word)
        phrase_ends = _PHRASE_END.match(match.string, match.end())
        return apart(match, word + ("ი" if phrase_ends and _is_english(written) and word[-1:] not in VOWELS else ""))
    inflects = _is_known(written) and ending not in _AFTER_VOWEL and word[-2:-1] not in VOWELS  # not ვაიფაი
    stem = stem_of(word) if inflects else word
    if not word or (not is_case_ending(ending) and not ending.startswith(("ი", "ებ"))):
        return apart(match, f"{stem}-{ending}")
    head, space, last = stem.rpartition(" ")
    return apart(match, head + space + attach(last, ending))


def _is_known(written: str) -> bool:
    return written.lower().replace("-", "").replace("'", "") in _KNOWN


def _is_english(written: str) -> bool:
    """Whether `sound` reads the (last) word by the dictionary: not by the table, by letters or by spelling."""
    last = written.rpartition("-")[2]
    return last.lower() not in _KNOWN and not _by_letters(last) and _english(last) is not None


def _english(plain: str) -> str | None:
    """An English word, or a name made of several (PowerPoint), by the dictionary; the stem, without -ი."""
    low = plain.replace("'", "").lower()
    if len(low) < 2 or not low.isascii():
        return None
    parts = _CAMEL.findall(plain) if not plain.isupper() else []
    if len(parts) > 1 and english(low) is None:
        stems = [stem_of(sound(part)) if part.lower() in _KNOWN else english(part.lower()) for part in parts]
        return "".join(filter(None, stems)) if all(stems) else None
    return english(low)


def _by_letters(plain: str) -> bool:
    low = plain.lower()
    if plain.isupper() and len(low) <= 4 and all(letter in LATIN_LETTER_NAMES for letter in low):
        return len(low) < 4 or english(low) is None
    return not _LATIN_VOWEL.search(low) and len(low) <= 6 and all(letter in LATIN_LETTER_NAMES for letter in low)


@lru_cache(maxsize=50_000)
def sound(written: str, *, by_spelling: bool = False) -> str:
    """One Latin or Cyrillic word in Georgian letters; an initialism gives several words.

    by_spelling: read an unknown word letter for letter, as an address is dictated, not as English.
    """
    plain = written.replace("'", "")
    low = plain.lower()
    if low[:1] in _CYRILLIC:
        return "".join(_CYRILLIC.get(letter, "") for letter in low)
    if (joined := low.replace("-", "")) in _KNOWN:
        return _KNOWN[joined]
    if "-" in plain:
        return "-".join(filter(None, (sound(part, by_spelling=by_spelling) for part in plain.split("-"))))
    if not by_spelling and not _by_letters(plain) and (stem := _english(written)):
        return stem
    low = "".join(c for c in unicodedata.normalize("NFD", low) if c in _LATIN)
    if _by_letters(plain if low == plain.lower() else low) and low:
        return " ".join(LATIN_LETTER_NAMES[letter] for letter in low)
    low = _SOFT_C.sub("s", low.replace("sce", "se").replace("sci", "si"))
    low = _DOUBLED.sub(r"\1", low)
    return _LATIN_UNIT.sub(lambda unit: _LATIN[unit[0]], low)
