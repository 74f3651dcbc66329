"""From a transcript as corpora write it to the words that are spoken in it.

What is only markup is mended, and each mending is told: HTML's entities and tags, marks of pauses, a line's number, and
letters of another script inside a Georgian word. What says that something else can be heard than the text (laughter,
noise, speech that nobody could understand) cannot be mended: the row is refused, because training on it would teach
sounds that the text does not ask for. Rows that are kept but look wrong are suspects.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from xtts_ka.corpus.drop_reasons import Drop, Mending, Suspicion
from xtts_ka.georgian.alphabet import fold_letters, is_georgian

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
# #uh, %um, @ეე; a longer #ქართული is a hashtag, and @nino a person
_MARKED = re.compile(r"(?<!\S)(?:[#%&](?:[A-Za-z]{1,15}|[ა-ჰ]{1,3})|@[ა-ჰ]{1,3})(?![\w-])")
_HASHTAG = re.compile(r"(?<!\S)#([ა-ჰ]+)")
# Brackets of other scripts, Whisper's <|noise|> and doubled signs (++noise++), which only annotators write.
_WIDE = str.maketrans("（）［］｛｝", "()[]{}")
_BRACKETS = re.compile(
    r"[＜【〔❰⟨]([^＜＞【】〔〕❰❱⟨⟩]{1,60})[＞】〕❱⟩]|<\|([^<>|]{1,60})\|>"
    r"|(\+\+|==|\|\||~~|%%|@@)([^\W\d][\w -]{0,40}?)\3"
)
# Words between two equal signs, /noise/, or in other languages' quotation marks.
_BETWEEN = re.compile(r"(?<!\w)(?:([/|+=~^\\_#%$])([^\W\d_][\w -]{0,40}?)\1|[‹「『《〈]([^\W\d]\w*)[›」』》〉])(?!\w)")
_UNCLOSED = re.compile(r"(?<!\w)[<\[{]\s?([^\W\d]\w*)|(?<!\w)([^\W\d]\w*)\s?[>\]}](?!\w)")
# Times of the recording, and Whisper's commands. In round brackets 12:30 may be a time of day.
_LONG = r"\d{1,3}:\d\d:\d\d(?:[.,]\d{1,3})?"
_TIME = rf"(?:{_LONG}|\d{{1,3}}:\d\d(?:[.,]\d{{1,3}})?)"
_EXACT = r"\d\d:\d\d:\d\d[.,]\d{2,3}"
_TO = r"\s*(?:-->|[-–—])\s*"
_STAMP = re.compile(
    rf"[\[<{{]\s*{_TIME}(?:{_TO}{_TIME})?\s*[\]>}}]|\({_LONG}(?:{_TO}{_LONG})?\)|^\s*\d\d:\d\d:\d\d(?=\s)"
    rf"|(?<![\w:.,]){_EXACT}(?:{_TO}{_EXACT})?(?![\w:])"
    r"|<\|(?:[\d.:]+|startof\w+|endoftext|transcribe|translate|notimestamps|ka)\|>"
)
# A stage direction is a verb (ოხრავს), or says how something is said (ირონიულად).
_DIRECTION = re.compile("(?:[ა-ჰ]+ ){0,2}[ა-ჰ]*(?:ის|ავს|ებს|ობს|ამს|ით|ულად)")
_LABEL = re.compile(r"\W*([^\W\d][\w.’'-]*(?: [\w.’'-]+){0,2}):(?=[\sა-ჰ„“«])")
# Who speaks in plays, interviews and files of tests; სთქვა and მაგალითად before a colon are spoken.
_PEOPLE = frozenset((
    "ავთანდილ ავტორი ალექსანდრე ანა ანი არჩილ ბავშვი ბებია ბექა ბიჭი გიგა გია გიო გიორგი გოგი გოგო დავით დათო დედა "
    "დიანა დიქტორი ეკა ეკატერინე ელენე ეკატერინა ექიმი ვანო ვახტანგ ზაზა ზურა ზურაბ თამარ თამთა თამუნა თეა თეკლე "
    "თორნიკე ია ილია ინტერვიუერი ირაკლი ირინა ირმა კაცი კახა კოტე ლადო ლანა ლაშა ლევან ლექსო ლია ლიზი ლუკა მაია მამა "
    "მანანა მარი მარიამ მასწავლებელი მაკა მერაბ მზია მთხრობელი მოსაუბრე მოსწავლე ნათია ნანა ნატო ნია ნიკა ნიკო "
    "ნიკოლოზ ნინა ნინო ნოდარ ნონა ნუცა ოთარ პაატა პაპა რამაზ რესპონდენტი რუსუდან საბა სალომე სანდრო სოფიკო სოფიო "
    "სოფო სპიკერი თათია თინა თინათინ ქალი ქეთევან ქეთი ქეთო შალვა შორენა ჟურნალისტი ცირა წამყვანი ხათუნა ხვიჩა ჯაბა"
).split())  # fmt: skip
_ADDRESS = re.compile(r"@|://|^www\.")
_NOBODY_KNOWS = re.compile(
    r"\(\s*(?:\*+|\?+|\.{3,}|…+|-+|_+)\s*\)|\[\s*(?:\*+|\?+|\.{3,}|…+|-+|_+)\s*\]|<\s*(?:\*+|\?+|\.{3,}|…+)\s*>"
    r"|\(\(.*?\)\)|\*{3,}|_{3,}|(?<![^\W_])x{3,}(?![^\W_])"  # XXX is a Roman number
    "|\ufffd"  # what a program writes for letters that it could not read
)
_ESCAPED = re.compile(r"\s*\\[nNrth](?![A-Za-z])\s*")  # a line break or a tab that a program wrote as two characters
_NUMBERED = re.compile(r"^\s*\d{1,5}[.)]?\t\s*")
_LATIN_OR_CYRILLIC = re.compile("[A-Za-zА-Яа-я]")
_INSIDE_WORDS = "b i u em strong span font sub sup s a mark small tt".split()  # no space stands where these do


def read_transcript(raw: str) -> Transcript:
    """The words of a transcript; see the module docstring."""
    mended: list[Note] = []

    def mend(new: str, old: str, kind: Mending, how: str) -> str:
        if new != old:
            mended.append((kind, how))
        return new

    text = mend(_NUMBERED.sub("", raw), raw, Mending.MARKUP, "a line's number before a tab is left out")
    text = mend(_unescaped(text), text, Mending.ENTITIES, "HTML entities are read")
    text = mend(_ESCAPED.sub(" ", text), text, Mending.MARKUP, "written line breaks are left out")
    text = text.replace("<<", "‹").replace(">>", "›")
    plain = _BRACKETS.sub(lambda m: f"[{m[1] or m[2] or m[4]}]", _STAMP.sub(" ", text).translate(_WIDE))
    if refused := _refusal(plain):
        return Transcript(text, tuple(mended), (), refused)
    plain = _TAG.sub(_untagged, plain)
    plain = _SQUARE.sub(lambda m: " " if _has(m[1] or m[2], _PAUSES, 4) else m[0], plain)
    plain = _ROUND.sub(lambda m: " " if _has(m[1], _PAUSES, 2) else m[0], plain)
    plain = _BETWEEN.sub(lambda m: " " if _has(m[m.lastindex or 0], _PAUSES, 2) else m[0], plain)
    plain = _STARS.sub(lambda m: f"({m[1]})" if _DIRECTION.fullmatch(m[1]) else m[1], plain)
    text = mend(" ".join(plain.split()) if plain != text else text, text, Mending.MARKUP, "markup is left out")
    whole, letters = mend_letters(text)
    text = mend(whole, text, Mending.HOMOGLYPHS, f"letters of another script in a Georgian word: {letters}")
    if split := unmendable_words(text):
        why = f"letters of two scripts in a word: {', '.join(split[:3])}"
        return Transcript(text, tuple(mended), (), (Drop.MIXED_SCRIPT, why))
    return Transcript(text, tuple(mended), tuple(_suspicions(text)))


def _suspicions(text: str) -> Iterator[Note]:
    """What looks wrong about a transcript that is kept."""
    if odd := mixed_words(text):
        yield Suspicion.MIXED_SCRIPT, f"letters of two scripts in a word: {', '.join(odd[:3])}"
    if mark := next(_doubtful(text), ""):
        yield Suspicion.BRACKETS, f"is this spoken? {mark[:40]}"
    if (label := label_of(text)) and (is_name(label[0]) or not is_georgian(label[0])):
        yield Suspicion.LABEL, f"is this the speaker's name? {label[0]}:"
    if _FOREIGN_LETTERS.search(text):
        yield Suspicion.OTHER_LANGUAGE, "it has letters of Mingrelian, Svan, Laz or Abkhaz, not of Georgian"


def _doubtful(text: str) -> Iterator[str]:
    """Marks around words, and stage directions."""
    for match in _SQUARE.finditer(text):
        if any(map(str.isalpha, match[0])):  # [12] is a footnote, which is not read
            yield match[0]
    yield from (match[0] for match in _BETWEEN.finditer(text) if match[1])
    yield from (match[0] for match in _UNCLOSED.finditer(_without_brackets(text)))
    yield from (match[0] for match in _HASHTAG.finditer(text) if match[1] in _SOUNDS)
    for match in _ROUND.finditer(text):
        before, behind = (any(map(str.isalnum, part)) for part in (text[: match.start()], text[match.end() :]))
        opens = is_georgian(match[1]) and behind and not before
        if opens or _DIRECTION.fullmatch(match[1].strip()):
            yield match[0]


def label_of(text: str) -> tuple[str, str] | None:
    """(the one to three words before a colon at the beginning, what follows), where a text has such."""
    match = _LABEL.match(text)
    return (match[1], text[match.end() :].strip()) if match else None


def is_name(label: str) -> bool:
    """Whether words before a colon are a Georgian person's name or part rather than of the sentence: ნინო, ექიმი."""
    name = fold_letters(label).rstrip("0123456789 ").split()
    return name[0] in _PEOPLE or name[0].removesuffix("ი") in _PEOPLE or name[-1].endswith(("შვილი", "აძე", "იძე"))


def _without_brackets(text: str) -> str:
    return _TAG.sub(" ", _ROUND.sub(" ", _SQUARE.sub(" ", text)))


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
    others = (*_BETWEEN.finditer(text), *_UNCLOSED.finditer(_without_brackets(text)))
    inside += [(match[0], match[match.lastindex or 0], 2) for match in others]
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
    if tag[0] == "(" or is_georgian(inner) or _ADDRESS.search(inner) or not _LATIN_OR_CYRILLIC.search(inner):
        return False  # <სახლი>: a poor keyboard's quotation marks
    if tag[0] + tag[-1] not in ("[]", "{}", "<>"):
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
    """(text with Georgian letters for others inside Georgian words, the words that were changed): გaმაrჯობა."""
    if text.isascii() or not _OTHER.search(text):
        return text, ""
    changed: list[str] = []

    def mend(match: re.Match[str]) -> str:
        word = match[0]
        if not _OTHER.search(word) or _keeps_letters(word) or not _is_mendable(word):
            return word
        changed.append(word)
        return "".join(_SAME.get(letter, letter) for letter in word)

    text = _TOKEN.sub(mend, text)
    return text, ", ".join(changed[:3])


_OTHER = re.compile("[A-Za-zÀ-ÖØ-öø-ɏͰ-ӿԱ-և]+")
_LONGEST_SLIP = 3  # letters: more in a row are a foreign word without a space before it, ჩემიfacebook


def _keeps_letters(word: str) -> bool:
    """Whether the letters of another script are meant: SMSი, სუპერVIP, and a single letter that is like no other."""
    runs = list(_OTHER.finditer(word))
    if len(runs) > 1 or (runs[0].start() and runs[0].end() < len(word)):
        return False
    run = runs[0][0]
    return run.isupper() or (len(run) > 1 and not runs[0].start()) or (len(run) == 1 and run not in _SAME)


def _is_mendable(word: str) -> bool:
    runs = _OTHER.findall(word)
    return all(len(run) <= _LONGEST_SLIP and all(letter in _SAME for letter in run) for run in runs)


def unmendable_words(text: str) -> list[str]:
    """Words of letters of two scripts in which nobody can tell what is meant; they would be read letter by letter."""
    return [word for word in _TOKEN.findall(text) if _OTHER.search(word) and not _keeps_letters(word)]


def mixed_words(text: str) -> list[str]:
    """Words with a single letter of another script before them, or others behind them; read letter by letter."""
    found = ((word, _OTHER.search(word)) for word in _TOKEN.findall(text))
    return [word for word, run in found if run and (run.start() or len(run[0]) == 1)]
