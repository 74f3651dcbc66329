"""From a transcript as corpora write it to the words that are spoken in it.

What is only markup is mended, and each mending is told: HTML's entities and tags, marks of pauses, a line's number, and
letters of another script inside a Georgian word. What says that something else can be heard than the text (laughter,
noise, speech that nobody could understand) cannot be mended: the row is refused, because training on it would teach
sounds that the text does not ask for. Rows that are kept but look wrong are suspects.
"""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass

from xtts_ka.corpus.drop_reasons import Drop, Mending, Suspicion
from xtts_ka.georgian.alphabet import is_georgian

Note = tuple[str, str]  # reason, detail


@dataclass(frozen=True, slots=True)
class Transcript:
    """text: with the markup mended; mended, suspected: notes for the drop report; refused: why the row is dropped."""

    text: str
    mended: tuple[Note, ...] = ()
    suspected: tuple[Note, ...] = ()
    refused: Note | None = None


# ── tags ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

# Tags that format the text, or say nothing but that there is a pause. All others in angle brackets tell of a sound.
_MARKUP = (
    "a abbr b big blockquote body br center cite code del div dfn em font h1 h2 h3 h4 h5 h6 hr html i img ins kbd "
    "li mark ol p pre q s small span strike strong sub sup table tbody td th tr tt u ul speak voice prosody "
    "emphasis say-as phoneme lang break pause sil silence sp short_pause long_pause breakpoint comma period "
    "question_mark exclamation_mark"
).split()  # fmt: skip
# Words between brackets, braces or asterisks that tell of a sound, in the languages in which annotators write.
_SOUNDS = frozenset((
    "applause breath breathing breaths cough coughing coughs laugh laughing laughs laughter chuckle chuckles "
    "giggle gasp inhale exhale lipsmack lip_smack music noise noises background_noise sigh sighs sneeze sniff sob "
    "yawn vocalized-noise смех шум музыка кашель вздох аплодисменты სიცილი იცინის იცინიან ხმაური ხმაურია ფონი "
    "ფონური მუსიკა ხველა ახველებს ცემინება ტაში აპლოდისმენტი აპლოდისმენტები ოვაცია სუნთქვა ამოსუნთქვა "
    "ამოისუნთქავს ოხვრა ამოოხრა ამოიოხრებს ტირილი ტირის ქვითინი სიმღერა კაკუნი სტვენა ღიღინი ჩურჩული ყვირილი "
    "ხითხითი ზარი რეკავს"
).split())  # fmt: skip
# Between square brackets and braces these do too; between round ones a text may explain a term with them.
_MORE_SOUNDS = frozenset((
    "aah ah background barking beep bell clap click cry crying door er filler foreign hes hesitation hmm horn "
    "knock mouth nonspeech non-speech overlap ring ringing sing singing smack spk spn static sta stutter throat "
    "tone typing uh um whistle"
).split())  # fmt: skip
_PAUSES = frozenset("pause sil silence sp პაუზა სიჩუმე დუმილი".split())
_UNCLEAR = frozenset((
    "unk unintelligible inaudible indistinct unclear incomprehensible crosstalk garbled oov unknown неразборчиво "
    "გაურკვეველი გაურკვეველია გაურკვევლად გაუგებარი გაუგებარია ბუნდოვანი ბუნდოვანია არ_ისმის ვერ_ისმის არასმის"
).split())  # fmt: skip

_TAG = re.compile(r"<(/?)([^\W\d][^<>]{0,60}?)\s*/?>")
_SQUARE = re.compile(r"\[([^\[\]]{1,60})\]|\{([^{}]{1,60})\}")
_ROUND = re.compile(r"\(([^()]{1,60})\)")
_STARS = re.compile(r"(?<![\w*])\*([^*\s][^*]{0,40}?)\*(?![\w*])")
_MARKED = re.compile(r"(?<!\S)[#%&]([A-Za-z]{1,15}|[ა-ჰ]{1,3})(?![\w-])")  # #uh, %um; a longer #ქართული is a hashtag
_ADDRESS = re.compile(r"@|://|^www\.")
_NOBODY_KNOWS = re.compile(
    r"\(\s*(?:\*+|\?+|\.\.\.|…|-+|_+)\s*\)|\[\s*(?:\*+|\?+|\.\.\.|…|-+|_+)\s*\]|<\s*(?:\*+|\?+|\.\.\.|…)\s*>"
    r"|\(\(.*?\)\)|\*{3,}|_{3,}|(?<![^\W_])x{3,}(?![^\W_])"  # XXX is a Roman number
)
_QUOTED = re.compile("<<|>>")
_NUMBERED = re.compile(r"^\s*\d{1,5}[.)]?\t\s*")
_LATIN_OR_CYRILLIC = re.compile("[A-Za-zА-Яа-я]")
_INSIDE_WORDS = "b i u em strong span font sub sup s a mark small tt".split()  # no space stands where these do


def read_transcript(raw: str) -> Transcript:
    """The words of a transcript; see the module docstring."""
    mended: list[Note] = []
    suspected: list[Note] = []

    def mend(new: str, old: str, kind: Mending, how: str) -> str:
        if new != old:
            mended.append((kind, how))
        return new

    text = mend(_NUMBERED.sub("", raw), raw, Mending.MARKUP, "a line's number before a tab is left out")
    text = mend(_unescaped(text), text, Mending.ENTITIES, "HTML entities are read")
    text = _QUOTED.sub(" ", text)
    if refused := _refusal(text):
        return Transcript(text, tuple(mended), (), refused)
    plain = _TAG.sub(_untagged, text)
    plain = _SQUARE.sub(lambda m: " " if _has(m[1] or m[2], _PAUSES, 4) else m[0], plain)
    plain = _ROUND.sub(lambda m: " " if _has(m[1], _PAUSES, 2) else m[0], plain)
    plain = _STARS.sub(r"\1", plain)
    text = mend(" ".join(plain.split()) if plain != text else text, text, Mending.MARKUP, "markup is left out")
    whole, letters = mend_letters(text)
    text = mend(whole, text, Mending.HOMOGLYPHS, f"letters of another script in a Georgian word: {letters}")
    if odd := mixed_words(text):
        suspected.append((Suspicion.MIXED_SCRIPT, f"letters of two scripts in a word: {', '.join(odd[:3])}"))
    if (match := _SQUARE.search(text)) and any(map(str.isalpha, match[0])):  # [12] is a footnote, which is not read
        suspected.append((Suspicion.BRACKETS, f"is this spoken? {match[0]}"))
    if _FOREIGN_LETTERS.search(text):
        suspected.append(
            (Suspicion.OTHER_LANGUAGE, "it has letters of Mingrelian, Svan, Laz or Abkhaz, not of Georgian")
        )
    return Transcript(text, tuple(mended), tuple(suspected))


def _unescaped(text: str) -> str:
    """`text` with HTML's entities read, also where they were escaped twice (&amp;quot;)."""
    if "&" not in text:
        return text
    return html.unescape(html.unescape(text)).replace("\xa0", " ")


def _refusal(text: str) -> Note | None:
    """Why a transcript with tags cannot be used."""
    if match := _NOBODY_KNOWS.search(text):
        return Drop.UNCLEAR_SPEECH, f"{match[0][:40]} marks speech that is not written down"
    inside = [(match[0], match[1] or match[2], 4) for match in _SQUARE.finditer(text)]
    inside += [(match[0], match[1], 2) for match in (*_ROUND.finditer(text), *_STARS.finditer(text))]
    inside += [(match[0], match[2], 4) for match in _TAG.finditer(text)]
    for tag, inner, at_most in inside:
        if _has(inner, _UNCLEAR, at_most):
            return Drop.UNCLEAR_SPEECH, f"{tag[:40]} marks speech that is not written down"
        if _is_sound(tag, inner, at_most):
            return Drop.NOISE_TAG, f"{tag[:40]} marks a sound that is not speech"
    if match := _MARKED.search(text):
        return Drop.NOISE_TAG, f"{match[0]} marks a sound"
    return None


def _is_sound(tag: str, inner: str, at_most: int) -> bool:
    if _has(inner, _PAUSES, at_most):
        return False
    if _has(inner, _SOUNDS, at_most):
        return True
    if tag[0] in "(" or is_georgian(inner) or _ADDRESS.search(inner) or not _LATIN_OR_CYRILLIC.search(inner):
        return False  # <სახლი>: a poor keyboard's quotation marks
    if tag[0] == "*":
        return _has(inner, _MORE_SOUNDS, at_most)
    return tag[0] != "<" or _tag_name(inner) not in _MARKUP


def _has(inner: str, words: frozenset[str], at_most: int) -> bool:
    """Whether one of at most so many words in a bracket is among `words`."""
    parts = [part.strip(".,:;!?-/") for part in inner.lower().replace("_", " ").split()]
    return len(parts) <= at_most and ("_".join(parts) in words or any(part in words for part in parts))


def _tag_name(inner: str) -> str:
    return re.split(r"[\s=:/]", inner.lower(), maxsplit=1)[0]


def _untagged(match: re.Match[str]) -> str:
    """What stays of a tag that is only markup: nothing, or a space where it breaks the line."""
    if _ADDRESS.search(match[2]):
        return match[0]
    if is_georgian(match[2]):
        return f" {match[2]} "
    return "" if _tag_name(match[2]) in _INSIDE_WORDS else " "


# ── letters of other scripts ─────────────────────────────────────────────────────────────────────────────────────────

# What the keys of the Georgian keyboard write when it is not switched on; o is also what ო looks like.
_KEYS = dict(zip("abgdevziklmnoprstufqyxjhcwTJRSCZW", "აბგდევზიკლმნოპრსტუფქყხჯჰცწთჟღშჩძჭ", strict=True))
# What looks like, or is, the same letter in Cyrillic and Greek.
_LIKE = dict(zip("оОοΟ" + "аеисктмнбвгдзлпрфхцчшжυα", "ოოოო" + "აეისკტმნბვგდზლპრფხცჩშჟუა", strict=True))
_SAME = {**_KEYS, **_LIKE}
_FOREIGN_LETTERS = re.compile("[ჶჷჸჹჺჼ]")
_TOKEN = re.compile(r"[^\W\d_]*[ა-ჰ][^\W\d_]*")


def mend_letters(text: str) -> tuple[str, str]:
    """(text with Georgian letters for single others inside Georgian words, the words that were changed).

    A word is mended where Georgian letters stand on both sides of the others or only one stands at its end, and at
    least two thirds of the word are Georgian: გამარჯoბა. SMSი is a foreign word with an ending and stays.
    """
    if text.isascii() or not _HAS_OTHER.search(text):
        return text, ""
    changed: list[str] = []

    def mend(match: re.Match[str]) -> str:
        word = match[0]
        others = [letter for letter in word if not is_georgian(letter) and not unicodedata.combining(letter)]
        if not others or len(others) * 3 > len(word) or not all(letter in _SAME for letter in others):
            return word
        edge = [not is_georgian(letter) for letter in (word[0], word[-1])]
        if any(edge) and (len(others) > 1 or word[0].isupper()):
            return word
        changed.append(word)
        return "".join(_SAME.get(letter, letter) for letter in word)

    text = _TOKEN.sub(mend, text)
    return text, ", ".join(changed[:3])


_HAS_OTHER = re.compile("[A-Za-zͰ-ӿ]")


def mixed_words(text: str) -> list[str]:
    """Words of Georgian letters with single letters of another script inside or before them."""
    if not _HAS_OTHER.search(text):
        return []
    return [word for word in _TOKEN.findall(text) if _is_mixed(word)]


def _is_mixed(word: str) -> bool:
    """Whether others than a foreign stem with a Georgian ending (SMSი) stand in it."""
    others = [not is_georgian(letter) for letter in word]
    stem = others.index(False)
    return any(others) and (stem < 2 or any(others[stem:]))
