"""Georgian text as it is read aloud: the one normalisation that every stage and synthesis share.

    python -m xtts_ka.georgian.text transcript.txt        # one reading per line, blank lines kept
    echo "2026 წლის 12 მარტს, 14:30-ზე" | python -m xtts_ka.georgian.text

`normalise` is a pipeline of named passes over one string. Text that is already plain (the 33 letters, spaces
and `PUNCTUATION`) goes straight to the last two; everything else is cleaned, its written numbers, addresses
and foreign words are read, and what is left that has no reading is dropped. The last passes run until nothing
changes, and they see nothing but plain text, which is why the whole is idempotent: a reading is its own
reading.

Decisions, where Georgian allows several readings, are documented beside the pass that takes them
(`georgian_quantities.py`, `georgian_foreign.py`, `georgian_numbers.py`).
"""

from __future__ import annotations

import argparse
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.console import note
from xtts_ka.core.errors import UserError
from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS, letter_folding
from xtts_ka.georgian.foreign import CYRILLIC, LATIN, read_addresses, transliterate
from xtts_ka.georgian.numbers import DROP, KEEP, agree, agreement, case_before, decline, stem_of
from xtts_ka.georgian.quantities import read_quantities

# ── cleaning: Unicode in, one known repertoire out ──────────────────────────────────────────────────────────


_FOLD_LETTERS = letter_folding()
_RESPELL = str.maketrans({"ჱ": "ე", "ჲ": "ი", "ჳ": "ვი", "ჴ": "ხ", "ჵ": "ო"})  # as modern editions print them
_FOLD_MARKS = str.maketrans(
    {
        **dict.fromkeys("‐‑‒−﹣－", "-"),
        **dict.fromkeys("–—―⸺⸻", "–"),
        **dict.fromkeys("[]{}<>〈〉《》⟨⟩|\\", ","),
        **dict.fromkeys("⁄∕", "/"),
        **dict.fromkeys("·•‧∙▪●◦", " "),
        **dict.fromkeys("’‘ʼʻ′`´", "'"),
        **dict.fromkeys('„“”‟«»‹›"″〝〞〟', None),
        **dict.fromkeys("™®©ªº", None),
        **dict.fromkeys("؟¿", "?"),
        **dict.fromkeys("¡", "!"),
        **dict.fromkeys("،、", ","),
        **dict.fromkeys("؛", ";"),
        **dict.fromkeys("。", "."),
        "№": "#",
        "⋅": "×",
        "∗": "*",
        "µ": "μ",
    }
)
_FOLDED_MARK = re.compile(f"[{re.escape(''.join(map(chr, _FOLD_MARKS)))}]")
_GEORGIAN_ELSEWHERE = re.compile("[\u10a0-\u10cf\u10f6-\u10ff\u1c90-\u1cbf\u2d00-\u2d2f]+")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_PARAGRAPH = re.compile(r"[^\S\n]*\n\s*\n\s*|\u2029")
_SQUARED, _CUBED = re.compile(r"(?<=\d)²"), re.compile(r"(?<=\d)³")
_VULGAR = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
_MARKS = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")
_OTHER_DIGIT = re.compile(r"[^\W\x00-\x7f\u10d0-\u10ff]")
_EMOTICON = re.compile(r"(?<!\S)[:;=]['-]?[)(DPp*]+(?!\S)")
_KNOWN = "ა-ჵ0-9 .,!?;:'()/%&@#§°‰€$£¥₾₽₺+=×*±~≈≤≥_–-"
_REPERTOIRE = re.compile(f"[A-Za-z{_KNOWN}]*")
_UNKNOWN = re.compile(f"[^{LATIN}{CYRILLIC}{_KNOWN}]+")


def _clean(text: str) -> str:
    """Unicode to the small repertoire that the passes know; other scripts, emoji, controls → spaces."""
    if not _REPERTOIRE.fullmatch(text):
        text = _fold(text)
    return _EMOTICON.sub(" ", text)


def _fold(text: str) -> str:
    text = _INVISIBLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _PARAGRAPH.sub(" . ", text)
    text = _FOLDED_MARK.sub(_folded_mark, text)
    if not unicodedata.is_normalized("NFKC", text):
        text = _VULGAR.sub(" ", _SQUARED.sub(" კვადრატში", _CUBED.sub(" კუბში", text)))
        text = _FOLDED_MARK.sub(_folded_mark, unicodedata.normalize("NFKC", text))
    text = _GEORGIAN_ELSEWHERE.sub(lambda m: m[0].translate(_FOLD_LETTERS), text)
    text = _MARKS.sub("", text)
    text = _OTHER_DIGIT.sub(_ascii_digit, text)
    return _UNKNOWN.sub(" ", text)


def _folded_mark(match: re.Match) -> str:
    return _FOLD_MARKS[ord(match[0])] or ""


def _ascii_digit(match: re.Match) -> str:
    digit = unicodedata.digit(match[0], None)
    return match[0] if digit is None else str(digit)


# ── abbreviations ───────────────────────────────────────────────────────────────────────────────────────────

# written with full stops → read; a blank in the key is a stop with or without a space after it
_STOPPED = {
    "ა შ": "ასე შემდეგ", "ე ი": "ესე იგი", "ე წ": "ეგრეთ წოდებული", "მ შ": "მათ შორის", "ა წ": "ამა წლის",
    "გ წ": "გასული წლის", "მ წ": "მიმდინარე წლის", "ძვ წ აღ": "ძველი წელთაღრიცხვით",
    "ძვ წ": "ძველი წელთაღრიცხვით",
    "ახ წ აღ": "ახალი წელთაღრიცხვით", "ახ წ": "ახალი წელთაღრიცხვით", "ჩვ წ აღ": "ჩვენი წელთაღრიცხვით",
    "ჩვ წ": "ჩვენი წელთაღრიცხვით", "წ": "წელი", "წწ": "წლები", "სს": "საუკუნეები", "საუკ": "საუკუნე",
    "გვ": "გვერდი", "გვგვ": "გვერდები", "მაგ": "მაგალითად", "იხ": "იხილე", "შდრ": "შეადარე", "სხვ": "სხვა",
    "პროფ": "პროფესორი", "აკად": "აკადემიკოსი", "დოც": "დოცენტი", "დოქ": "დოქტორი", "გენ": "გენერალი",
    "ტელ": "ტელეფონი", "გამზ": "გამზირი", "კორპ": "კორპუსი", "ბინ": "ბინა", "მდ": "მდინარე", "მთ": "მთა",
    "მუხ": "მუხლი", "პუნ": "პუნქტი", "ტ": "ტომი", "თავ": "თავი", "სურ": "სურათი", "ნახ": "ნახაზი",
    "ცხრ": "ცხრილი",
    "რედ": "რედაქტორი", "მთარგმ": "მთარგმნელი", "გამომც": "გამომცემლობა", "დაახლ": "დაახლოებით",
    "დაბ": "დაბადებული", "გარდ": "გარდაცვლილი", "ლათ": "ლათინურად", "ინგლ": "ინგლისურად", "რუს": "რუსულად",
    "ბერძ": "ბერძნულად", "ფრანგ": "ფრანგულად", "გერმ": "გერმანულად", "ათ": "ათასი", "მლნ": "მილიონი",
    "მლრდ": "მილიარდი", "სთ": "საათი", "წთ": "წუთი", "წმ": "წამი", "ქ": "ქალაქი", "ს": "სოფელი",
}  # fmt: skip
# written without stops, alone or with a hyphenated ending → read
_CONTRACTED = {
    "კმ": "კილომეტრი", "სმ": "სანტიმეტრი", "მმ": "მილიმეტრი", "კგ": "კილოგრამი", "მგ": "მილიგრამი",
    "სთ": "საათი",
    "წთ": "წუთი", "წმ": "წამი", "მლ": "მილილიტრი", "კვტ": "კილოვატი", "მლნ": "მილიონი", "მლრდ": "მილიარდი",
    "ტრლნ": "ტრილიონი", "აშშ": "ამერიკის შეერთებული შტატები", "შპს": "შეზღუდული პასუხისმგებლობის საზოგადოება",
    "სს": "სააქციო საზოგადოება", "სსიპ": "საჯარო სამართლის იურიდიული პირი", "სსრკ": "საბჭოთა კავშირი",
    "ააიპ": "არასამეწარმეო არაკომერციული იურიდიული პირი",
}  # fmt: skip
_CLIPPED = {"ბ-ნ": "ბატონი", "ქ-ნ": "ქალბატონი", "რ-ნ": "რაიონი"}
_TITLES = {"ქ", "ს"}  # their noun agrees with the name that follows: ქალაქი თბილისი, ქალაქ თბილისში


def _stopped_pattern() -> re.Pattern:
    """Any key of `_STOPPED`: a one-part key needs its stop, in a longer one the last stop may be missing."""
    patterns = []
    for key in sorted(_STOPPED, key=len, reverse=True):
        *first, last = key.split()
        before = "".join(rf"{letters}\. ?" for letters in first)
        patterns.append(before + (rf"{last}(?:\.|(?![ა-ჵ]))" if first else rf"{last}\."))
    key = "|".join(patterns)
    return re.compile(rf"(?<![ა-ჵ-])(?P<key>{key})(?:-(?P<ending>[ა-ჵ]+))?(?: ?(?P<next>(?<= )[ა-ჵ]+))?")


_STOPPED_FORM = _stopped_pattern()
_CONTRACTED_KEYS = "|".join(sorted(_CONTRACTED, key=len, reverse=True))
_CONTRACTED_FORM = re.compile(rf"(?<![ა-ჵ-])({_CONTRACTED_KEYS})(?:-([ა-ჵ]+)|(?![ა-ჵ-]))")
_CLIPPED_FORM = re.compile(rf"(?<![ა-ჵ-])({'|'.join(_CLIPPED)})([ა-ჵ]*)(?![ა-ჵ-])")
_YEAR_FORM = re.compile(r"(?<![ა-ჵ-])წ-(ის|ს|ში|დან|იდან|მდე|ამდე|ისთვის|თვის|ად)(?![ა-ჵ-])")
_INITIAL = re.compile(r"(?<![ა-ჵ-])([ა-ჵ])\. ?(?=[ა-ჵ])")
_SURNAME = re.compile(r".{2,}(?:ძე|ძის|ძემ|ძეს|ძეზე|შვილ(?:ი|ის|მა|ს|ზე|თან)?)$")
_SENTENCE_OVER = re.compile(r" *(?:[.!?]|$)")


def _expand_abbreviations(text: str) -> str:
    """Read abbreviations; a stop that ended the text stays, that of an initial (ი. ჭავჭავაძე) goes."""
    text = _CONTRACTED_FORM.sub(_contracted, text)
    if "-" in text:
        text = _CLIPPED_FORM.sub(_clipped, text)
        text = _YEAR_FORM.sub(lambda m: decline("წელი", m[1]), text)
    if "." in text:
        text = _STOPPED_FORM.sub(_stopped, text)
        text = _INITIAL.sub(r"\1 ", text)
    return text


def _clipped(match: re.Match) -> str:
    noun, ending = _CLIPPED[match[1]], match[2]
    return decline(noun, ending) if ending else stem_of(noun)


def _contracted(match: re.Match) -> str:
    reading, ending = _CONTRACTED[match[1]], match[2] or ""
    *before, last = reading.split(" ")
    if before and before[-1].endswith("ული"):  # შეერთებულ შტატებში
        before[-1] = agree(before[-1], agreement(ending))
    return " ".join([*before, decline(last, ending)])


def _stopped(match: re.Match) -> str:
    key = match["key"].replace(".", " ").split()
    ending, following = match["ending"] or "", match["next"] or ""
    after = f" {following}" if following else ""
    reading = _STOPPED[" ".join(key)]
    if len(key[0]) == 1 and len(key) == 1 and _SURNAME.match(following):
        return f"{key[0]}{after}"  # an initial, not an abbreviation
    if key == ["ქ"] and not following:
        reading = "ქუჩა"
    elif key[0] in _TITLES and len(key) == 1:
        if case_before(following) != KEEP or following.endswith(_OBLIQUE):
            reading = stem_of(reading)
    elif key == ["ე", "წ"] and following and case_before(following) == DROP:
        reading = stem_of(reading)
    over = not following and _SENTENCE_OVER.match(match.string, match.end())
    over = over and match["key"].endswith(".") and not ending
    return f"{decline(reading, ending)}{after}{'.' if over else '' if following else ' '}"


_OBLIQUE = ("ის", "იდან", "ისკენ", "ისგან", "ისთვის", "ით", "ს")

# ── tidying ─────────────────────────────────────────────────────────────────────────────────────────────────

_RUN = re.compile(r" *[.,!?;:–-][ .,!?;:–-]*|  +")
_CANONICAL_RUNS = frozenset({", ", ". ", "-", " - ", "! ", "? ", "; ", ": "})
_STRENGTH = "?!.;:,"


def _tidy(text: str) -> str:
    """One mark where several stood, no space before it, one after; hyphens inside words, dashes spaced."""
    return _RUN.sub(_one_mark, text).lstrip(" .,!?;:-").rstrip(" -")


def _one_mark(match: re.Match) -> str:
    run = match[0]
    if run in _CANONICAL_RUNS:
        return run
    for mark in _STRENGTH:
        if mark in run:
            return mark + " "
    if run in ("-", "–"):
        return "-"
    dangling = run.strip() == "-" and not (run[0] == run[-1] == " ")  # მცირე- და საშუალო
    return " " if dangling or not run.strip() else " - "


# ── the pipeline ────────────────────────────────────────────────────────────────────────────────────────────

# Words with single blanks between them, each with a mark behind it or none: nothing in them but abbreviations can change.
_SETTLED = re.compile(f"[ა-ჰ]++(?:[{_STRENGTH}]? [ა-ჰ]++)*+[{_STRENGTH}]?")
_SHORTENED = frozenset(
    [f"{key}{mark}" for key in _CONTRACTED for mark in ("", *_STRENGTH)]
    + [f"{key.split()[0]}." for key in _STOPPED]
    + [f"{letter}." for letter in GEORGIAN_LETTERS]
)
_PLAIN = re.compile("[ა-ჰ .,!?;:-]*")
_PLAIN_OR_ARCHAIC = re.compile("[ა-ჵ .,!?;:-]*")
_TO_COMMA = str.maketrans("()_", ",, ")
_FOREIGN = re.compile(f"[{LATIN}{CYRILLIC}]")
_LEFT_OVER = re.compile("[^ა-ჵ .,!?;:–-]+")


def normalise(text: str, *, archaic: str = "respell") -> str:
    """Return `text` as it is read aloud: Georgian letters, single spaces and `PUNCTUATION`, nothing else.

    `archaic` is "respell" (ჱ ჲ ჳ ჴ ჵ → ე ი ვი ხ ო) or "keep". Takes any string, is idempotent, and returns ""
    where nothing can be read. Raises ValueError for another value of `archaic`.
    """
    if archaic not in ("respell", "keep"):
        raise ValueError(f"archaic must be 'respell' or 'keep', not {archaic!r}")
    if _SETTLED.fullmatch(text) and _SHORTENED.isdisjoint(text.split(" ")):
        return text  # as most sentences are: a fifth of the time
    if not (_PLAIN if archaic == "respell" else _PLAIN_OR_ARCHAIC).fullmatch(text):
        text = _read_everything(text, archaic)
    while (plain := _tidy(_expand_abbreviations(text))) != text:
        text = plain
    return text


def _read_everything(text: str, archaic: str) -> str:
    text = _clean(text)
    if archaic == "respell":
        text = text.translate(_RESPELL)
    text = read_addresses(text)
    text = read_quantities(text)
    if _FOREIGN.search(text):
        text = transliterate(text)
    return _LEFT_OVER.sub(" ", text.rstrip(" )").translate(_TO_COMMA))


# ── looking at text ─────────────────────────────────────────────────────────────────────────────────────────

_GEORGIAN = re.compile(
    "[\u10a0-\u10c5\u10c7\u10cd\u10d0-\u10fa\u10fc-\u10ff\u1c90-\u1cba\u1cbd-\u1cbf\u2d00-\u2d25\u2d27\u2d2d]"
)
_LETTERS = re.compile("[ა-ჵ]+")


def is_georgian(text: str) -> bool:
    """True if `text` has a letter of any Georgian alphabet (Mkhedruli, Mtavruli, Asomtavruli, Nuskhuri)."""
    return _GEORGIAN.search(text) is not None


def georgian_fraction(text: str) -> float:
    """The share, 0 to 1, of the letters (Unicode category L) of raw `text` that are Georgian; 0 for none."""
    letters = sum(map(str.isalpha, text))
    return len(_GEORGIAN.findall(text)) / letters if letters else 0.0


def words(text: str) -> list[str]:
    """The words of normalised `text`, letters only; a hyphenated word gives its parts."""
    return _LETTERS.findall(text)


# ── splitting ───────────────────────────────────────────────────────────────────────────────────────────────

_BREAKS = tuple(map(re.compile, (r"(?<=[.!?]) +", r"(?<=[;:]) +", r"(?<=,) +| +(?=- )", " +")))


def split_sentences(text: str, max_characters: int) -> list[str]:
    """Split normalised `text` into sentences, none longer than `max_characters` (≥ 1).

    A sentence that is too long is cut at clauses (; and :, then commas and dashes), then between words, each
    piece filled as far as the limit allows; only a word longer than the limit is cut inside. The pieces
    joined by single spaces are `text` again, unless a word had to be cut. Raises ValueError
    for a limit below 1.
    """
    if max_characters < 1:
        raise ValueError(f"max_characters must be at least 1, not {max_characters}")
    pieces = []
    for sentence in _BREAKS[0].split(text.strip()):
        pieces.extend(_fit(sentence, max_characters, 1))
    return [piece for piece in pieces if piece]


def _fit(text: str, limit: int, level: int) -> Iterator[str]:
    """Yield `text` in pieces of at most `limit` characters, at `_BREAKS[level]`, finer where needed."""
    if len(text) <= limit:
        yield text
        return
    if level == len(_BREAKS):
        yield from (text[start : start + limit] for start in range(0, len(text), limit))
        return
    line = ""
    for chunk in _BREAKS[level].split(text):
        for piece in _fit(chunk, limit, level + 1):
            if line and len(line) + 1 + len(piece) <= limit:
                line = f"{line} {piece}"
            else:
                if line:
                    yield line
                line = piece
    if line:
        yield line


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────


def _lines(stream: BinaryIO, name: str) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name}, line {number}: not UTF-8 (byte {error.start + 1} of the line); save it as UTF-8"
            ) from None


def _print_readings(file: Path | None, archaic: str) -> None:
    if file is None:
        name, stream = "standard input", sys.stdin.buffer
    else:
        name = str(file)
        try:
            stream = open(file, "rb")
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}; give a UTF-8 text file") from None
    sys.stdout.reconfigure(encoding="utf-8")
    lines = changed = silent = 0
    with stream:
        for line in _lines(stream, name):
            reading = normalise(line, archaic=archaic)
            sys.stdout.write(reading + "\n")
            lines, changed, silent = lines + 1, changed + (reading != line), silent + bool(line.strip() and not reading)
    sys.stdout.flush()
    note(f"{name}: lines: {lines}, read otherwise than written: {changed}, without any reading: {silent}")


def main(argv: list[str] | None = None) -> int:
    """Read lines, print their readings; see the module docstring."""
    parser = argparse.ArgumentParser(
        description="Print the reading of each line of a Georgian text: everything in Georgian letters.",
        epilog="example: python -m xtts_ka.georgian.text transcript.txt > readings.txt",
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="UTF-8 text (default: stdin)")
    parser.add_argument(
        "--archaic",
        choices=("keep", "respell"),
        default="respell",
        help="letters ჱ ჲ ჳ ჴ ჵ: as they are, or in modern spelling (default)",
    )
    add_verbosity_flags(parser, quiet="print the readings, warnings and errors only")
    args = parser.parse_args(argv)
    return run_cli(lambda: _print_readings(args.file, args.archaic), args)


if __name__ == "__main__":
    sys.exit(main())
