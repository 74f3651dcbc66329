"""What is spoken in an evaluation: texts by kind, checked before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xtts_ka.core.digests import hash_to_unit
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import text_lines
from xtts_ka.corpus.tables import Clip
from xtts_ka.georgian.reading import Reading
from xtts_ka.georgian.text import split_sentences
from xtts_ka.recognition.symbols import spoken_letters

TEST = "test"  # the kind of the test split's sentences
KEPT_SETS = ("short", "long", "numbers", "questions")  # files in data/evaluation_sentences_ka


@dataclass(frozen=True)
class Text:
    """expected: the letters that should be heard; reading: the normalised text that is spoken."""

    kind: str
    text: str
    reading: str
    expected: str

    def pieces(self, limit: int) -> list[str]:
        """The text in parts of at most `limit` characters, as synthesize.py speaks it."""
        return split_sentences(self.reading, limit)


def read_texts(path: Path | str, reading: Reading, most: int) -> list[Text]:
    """The first `most` lines of a UTF-8 file, their kind the file's name. UserError for lines without Georgian words.

    All lines are checked, also those that are not taken.
    """
    texts = []
    for number, line in text_lines(path, "the texts"):
        if line.strip():
            texts.append(_text(Path(path).stem, line.strip(), reading))
            if not texts[-1].expected:
                raise UserError(
                    f"the texts {path}, line {number}: {line.strip()[:80]!r} holds nothing to read aloud: "
                    "give Georgian text or delete the line"
                )
    if not texts:
        raise UserError(f"the texts {path} hold none: give one text a line")
    return _distinct(texts)[:most]


def split_texts(clips: Sequence[Clip], reading: Reading, most: int) -> list[Text]:
    """`most` different sentences of recorded clips, chosen by hash, which adding recordings hardly changes."""
    chosen = sorted({clip.text for clip in clips}, key=lambda text: (hash_to_unit(text), text))
    texts = (_text(TEST, text, reading) for text in chosen)
    return _distinct(text for text in texts if text.expected)[:most]


def _text(kind: str, text: str, reading: Reading) -> Text:
    return Text(kind, text, reading(text), spoken_letters(text, reading))


def _distinct(texts: Iterable[Text]) -> list[Text]:
    """Without those that sound the same as one before."""
    return list({text.expected: text for text in reversed(list(texts))}.values())[::-1]
