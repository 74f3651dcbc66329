"""Georgian text as it is read aloud: the one normalisation that every stage and synthesis share.

    python -m xtts_ka.georgian.text transcript.txt        # one reading per line, blank lines kept
    echo "2026 წლის 12 მარტს, 14:30-ზე" | python -m xtts_ka.georgian.text
    echo "2026 წლის 12 მარტს, 14:30-ზე" | python -m xtts_ka.georgian.text --explain    # which rule read what

`normalise` first cleans the text to a small set of characters. `PASSES` then read addresses, numbers, symbols and
foreign words; whatever still has no reading is dropped. Last, abbreviations are expanded and the marks tidied until
nothing changes. Text that is plain already (Georgian letters, spaces and `PUNCTUATION`) needs the last step only, so a
reading normalised again stays as it is.

Where Georgian allows several readings, the module of the pass says which one is taken, in its docstring or beside the
rule: `abbreviations`, `amounts`, `contacts`, `dates`, `foreign`, `numbers`, `ordinals`.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from functools import partial

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.console import say
from xtts_ka.core.files import text_lines
from xtts_ka.georgian.abbreviation_table import AbbreviationTable, load_abbreviations, table_of
from xtts_ka.georgian.abbreviations import may_abbreviate, read_abbreviations, read_long_abbreviations
from xtts_ka.georgian.alphabet import PUNCTUATION, RESPELLED, fold_letters
from xtts_ka.georgian.amounts import read_amounts, read_fractions, read_symbols
from xtts_ka.georgian.contacts import read_addresses, read_codes, read_phones
from xtts_ka.georgian.dates import read_abbreviated_dates, read_dates, read_roman_months, read_times
from xtts_ka.georgian.foreign import CYRILLIC, LATIN, transliterate
from xtts_ka.georgian.ordinals import ROMAN_LETTERS, read_ordinals, read_roman
from xtts_ka.georgian.places import read_places
from xtts_ka.georgian.raw_marks import read_raw_marks

# ── cleaning: any Unicode in, the characters that the passes know out ─────────────────────────────────────────────────

_MARK_SHAPES = {
    "‐‑‒−﹣－": "-", "–—―⸺⸻": "–", "[]{}<>〈〉《》⟨⟩|\\": ",", "⁄∕": "/", "·•‧∙▪●◦": " ", "’‘ʼʻ′`´": "'",
    '„“”‟«»‹›"″〝〞〟': "", "™®©ªº": "", "؟¿": "?", "¡": "!", "،、": ",", "؛": ";", "。": ".", "№": "#", "⋅": "×",
    "∗": "*", "µ": "μ",
}  # fmt: skip
_MARK = {shape: mark for shapes, mark in _MARK_SHAPES.items() for shape in shapes}
_MARK_SHAPE = re.compile(f"[{re.escape(''.join(_MARK))}]")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_PARAGRAPH = re.compile(r"[^\S\n]*\n\s*\n\s*|\u2029")
_VULGAR = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
_COMBINING = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")
_OTHER_DIGIT = re.compile(r"[^\W\x00-\x7f\u10d0-\u10ff]")
_EMOTICON = re.compile(r"(?<!\S)[:;=]['-]?[)(DPp*]+(?!\S)")
_KNOWN = "ა-ჵ0-9 .,!?;:'()/%&@#§°‰€$£¥₾₽₺+=×*±~≈≤≥_–-"
_REPERTOIRE = re.compile(f"[A-Za-z{_KNOWN}]*")
_UNKNOWN = re.compile(f"[^{LATIN}{CYRILLIC}{_KNOWN}]+")


def _clean(text: str) -> str:
    """Unicode to the characters of `_REPERTOIRE` and foreign letters; other scripts, emoji, controls → spaces."""
    if "°" in text or "''" in text or not _REPERTOIRE.fullmatch(text):
        text = _fold(read_raw_marks(text))
    return _EMOTICON.sub(" ", text)


def _fold(text: str) -> str:
    text = _INVISIBLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _PARAGRAPH.sub(" . ", text)
    text = _MARK_SHAPE.sub(lambda m: _MARK[m[0]], text)
    if not unicodedata.is_normalized("NFKC", text):
        text = _VULGAR.sub(" ", text)
        text = _MARK_SHAPE.sub(lambda m: _MARK[m[0]], unicodedata.normalize("NFKC", text))
    text = _COMBINING.sub("", fold_letters(text))
    text = _OTHER_DIGIT.sub(_ascii_digit, text)
    return _UNKNOWN.sub(" ", text)


def _ascii_digit(match: re.Match[str]) -> str:
    digit = unicodedata.digit(match[0], None)
    return match[0] if digit is None else str(digit)


# ── tidying ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_RUN = re.compile(r" *[.,!?;:–-][ .,!?;:–-]*|  +")
_CANONICAL_RUNS = frozenset({", ", ". ", "-", " - ", "! ", "? ", "; ", ": "})
_NEW_SENTENCE = re.compile(r"\.\.\. +\.")
_STRENGTH = "?!.;:,"  # of several marks in a row the first in this order is kept


def _tidy(text: str) -> str:
    """One mark where there were several, no space before it, one after; hyphens inside words, dashes spaced."""
    return _RUN.sub(_one_mark, text).lstrip(" .,!?;:-").rstrip(" -")


def _one_mark(match: re.Match[str]) -> str:
    run = match[0]
    if run in _CANONICAL_RUNS:
        return run
    if "..." in run and not run.strip("., -–") and match.end() < len(match.string) and not _NEW_SENTENCE.search(run):
        return ", "  # a pause: მერე... მერე წავიდა
    for mark in _STRENGTH:
        if mark in run:
            return mark + " "
    if run in ("-", "–"):
        return "-"
    dangling = run.strip() == "-" and not (run[0] == run[-1] == " ")  # მცირე- და საშუალო
    return " " if dangling or not run.strip() else " - "


# ── the pipeline ──────────────────────────────────────────────────────────────────────────────────────────────────────

# What a text must contain, and the passes that then apply. The order matters: a number of the most particular shape is
# read first, so that a later, more general pass does not see its digits.
PASSES: tuple[tuple[re.Pattern[str], tuple[Callable[[str], str], ...]], ...] = (
    (re.compile(r"\.[A-Za-z]|://"), (read_addresses,)),
    (re.compile(r"\d[./-] ?[IVX]"), (read_roman_months,)),
    (re.compile(r"\d"), (read_places, read_codes)),
    (re.compile(r"[./(–-]"), (read_abbreviated_dates, read_long_abbreviations)),
    (re.compile(f"[{ROMAN_LETTERS}]"), (read_roman,)),
    (re.compile(r"\d"), (read_phones, read_dates, read_times, read_ordinals, read_fractions, read_amounts)),
    (re.compile("[^ა-ჵ .,]"), (read_symbols,)),
    (re.compile(f"[{LATIN}{CYRILLIC}]"), (transliterate,)),
)
# Words with single spaces between them, each with a vowel and a mark behind it or none: only abbreviations can change.
_SAYABLE = "[ბ-დვ-თკ-ნპ-ტფ-ჰ]*+[აეიოუ][ა-ჰ]*+"
_SETTLED = re.compile(f"{_SAYABLE}(?:[{_STRENGTH}]? {_SAYABLE})*+[{_STRENGTH}]?")
_ABBREVIATED = may_abbreviate(_STRENGTH)
_PLAIN = re.compile(f"[ა-ჰ {PUNCTUATION}]*")
_PLAIN_OR_ARCHAIC = re.compile(f"[ა-ჵ {PUNCTUATION}]*")
NO_ABBREVIATIONS = AbbreviationTable({})
_ARCHAIC = re.compile("[ჱ-ჵ]")  # searched first, because str.translate is slow
_BRACKET, _TO_COMMA = re.compile("[()_]"), str.maketrans("()_", ",, ")
_LEFT_OVER = re.compile("[^ა-ჵ .,!?;:–-]+")


Trace = Callable[[str, str, str], None]  # called with a rule's name, and the text before and after it


def normalise(text: str, *, archaic: str = "respell", abbreviations: AbbreviationTable = NO_ABBREVIATIONS) -> str:
    """Return `text` as it is read aloud: Georgian letters, single spaces and `PUNCTUATION`, nothing else.

    `archaic` is "respell" (ჱ ჲ ჳ ჴ ჵ → ე ი ვი ხ ო) or "keep"; `abbreviations` are a user's own. Takes any string, is
    idempotent, and returns "" where nothing can be read. Raises ValueError for another value of `archaic`.
    """
    if archaic not in ("respell", "keep"):
        raise ValueError(f"archaic must be 'respell' or 'keep', not {archaic!r}")
    text = abbreviations.read(text)
    if _SETTLED.fullmatch(text) and _ABBREVIATED.isdisjoint(text.split(" ")):
        return text  # most sentences; this check takes a fifth of the time of the rest
    return _normalise(text, archaic, abbreviations, None)


def _normalise(text: str, archaic: str, abbreviations: AbbreviationTable, trace: Trace | None) -> str:
    if not (_PLAIN if archaic == "respell" else _PLAIN_OR_ARCHAIC).fullmatch(text):
        text = _read_everything(text, archaic, trace)
    while True:
        expanded = read_abbreviations(abbreviations.read(text))
        plain = _tidy(expanded)
        if trace:
            trace("abbreviations", text, expanded)
            trace("marks", expanded, plain)
        if plain == text:
            return text
        text = plain


def _read_everything(text: str, archaic: str, trace: Trace | None) -> str:
    before, text = text, _clean(text)
    if archaic == "respell" and _ARCHAIC.search(text):
        text = text.translate(RESPELLED)
    if trace:
        trace("characters", before, text)
    for needed, passes in PASSES:
        if needed.search(text):
            for read in passes:
                before, text = text, read(text)
                if trace and text != before:
                    trace(read.__name__.removeprefix("read_"), before, text)
    before, text = text, text.rstrip(" )")
    text = _LEFT_OVER.sub(" ", text.translate(_TO_COMMA) if _BRACKET.search(text) else text)
    if trace:
        trace("marks", before, text)
    return text


def explain(
    text: str, *, archaic: str = "respell", abbreviations: AbbreviationTable = NO_ABBREVIATIONS
) -> list[tuple[str, str, str]]:
    """Which rule read what: (rule, written, read) in the order in which `normalise` applies the rules."""
    steps: list[tuple[str, str, str]] = []

    def trace(rule: str, before: str, after: str) -> None:
        old, new = before.split(), after.split()
        for kind, i, i_end, j, j_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if kind != "equal":
                steps.append((rule, " ".join(old[i:i_end]), " ".join(new[j:j_end])))

    own = abbreviations.read(text)
    trace("own abbreviations", text, own)
    _normalise(own, archaic, abbreviations, trace)
    return steps


# ── splitting ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_BREAKS = tuple(map(re.compile, (r"(?<=[.!?]) +", r"(?<=[;:]) +", r"(?<=,) +| +(?=- )", " +")))


def split_sentences(text: str, max_characters: int) -> list[str]:
    """Split normalised `text` into sentences, none longer than `max_characters` (≥ 1).

    A sentence that is too long is cut at clauses (; and :, then commas and dashes), then between words, each piece
    filled as far as the limit allows; only a word longer than the limit is cut inside. The pieces joined by single
    spaces are `text` again, unless a word had to be cut. Raises ValueError for a limit below 1.
    """
    if max_characters < 1:
        raise ValueError(f"max_characters must be at least 1, not {max_characters}")
    sentences = _BREAKS[0].split(text.strip())
    return [piece for sentence in sentences for piece in _fit(sentence, max_characters, 1) if piece]


def _fit(text: str, limit: int, level: int) -> Iterator[str]:
    """Yield `text` in pieces of at most `limit` characters, cut at `_BREAKS[level]`, and at later ones where needed."""
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


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _print_readings(source: str, reading: Callable[[str], str], explained: Callable[[str], list] | None) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    lines = changed = silent = 0
    for lines, line in text_lines(source, "text"):  # noqa: B007
        read = reading(line)
        if explained:
            sys.stdout.write(f"{line}\n")
            sys.stdout.writelines(f"  {rule:20} {written} → {said}\n" for rule, written, said in explained(line))
            sys.stdout.write(f"= {read}\n")
        else:
            sys.stdout.write(read + "\n")
        changed, silent = changed + (read != line), silent + bool(line.strip() and not read)
    sys.stdout.flush()
    say(f"lines: {lines}, changed: {changed}, without any reading: {silent}", verbose=True, stream=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Read lines, print their readings; see the module docstring."""
    parser = argparse.ArgumentParser(
        description="Print the reading of each line of a Georgian text: everything in Georgian letters.",
        epilog="example: python -m xtts_ka.georgian.text transcript.txt > readings.txt",
    )
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="UTF-8 text (default: standard input)")
    parser.add_argument(
        "--archaic",
        choices=("keep", "respell"),
        default="respell",
        help="letters ჱ ჲ ჳ ჴ ჵ: as they are, or in modern spelling (default)",
    )
    parser.add_argument("--abbreviations", metavar="FILE", help="your abbreviations, lines of abbreviation<TAB>reading")
    parser.add_argument("--explain", action="store_true", help="print for each line which rule read which words")
    add_verbosity_flags(parser, quiet="print the readings, warnings and errors only")
    args = parser.parse_args(argv)

    def run() -> None:
        own = table_of(load_abbreviations(args.abbreviations)) if args.abbreviations else NO_ABBREVIATIONS
        settings = {"archaic": args.archaic, "abbreviations": own}
        _print_readings(
            args.file, partial(normalise, **settings), partial(explain, **settings) if args.explain else None
        )

    return run_cli(run, args)


if __name__ == "__main__":
    sys.exit(main())
