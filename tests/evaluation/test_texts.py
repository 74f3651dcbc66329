from pathlib import Path

import pytest

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.tables import Clip
from xtts_ka.evaluation.texts import KEPT_SETS, read_texts, split_texts
from xtts_ka.georgian.reading import Reading

READING = Reading()
FOLDER = Path(__file__).parents[2] / "data/evaluation_sentences_ka"


@pytest.mark.parametrize("name", KEPT_SETS)
def test_each_kept_set_has_25_texts_of_its_kind(name):
    texts = read_texts(FOLDER / f"{name}.txt", READING, 100)
    assert len(texts) == 25 and {text.kind for text in texts} == {name}
    of_its_kind = {
        "short": lambda t: len(t.expected.split()) <= 4,
        "long": lambda t: 100 < len(t.text) < 200,
        "numbers": lambda t: any(c.isdigit() for c in t.text) and t.expected,
        "questions": lambda t: t.text.endswith("?"),
    }[name]
    assert [text.text for text in texts if not of_its_kind(text)] == []


def test_a_text_is_normalised_and_split_as_it_is_spoken(tmp_path):
    (tmp_path / "mine.txt").write_text("\n5 კატა!\n\nდიდი სახლი.\n", "utf-8")
    first, second = read_texts(tmp_path / "mine.txt", READING, 9)
    assert (first.kind, first.text, first.expected) == ("mine", "5 კატა!", "ხუთი კატა")
    assert second.pieces(100) == ["დიდი სახლი."] and len(second.pieces(6)) > 1


@pytest.mark.parametrize(
    "content, words",
    [
        ("", "hold none: give one text a line"),
        ("მზე\n☃☃\n", "line 2: '☃☃' holds nothing to read aloud"),
        ("\n \n", "hold none"),
    ],
)
def test_files_that_cannot_be_spoken_are_refused(tmp_path, content, words):
    (tmp_path / "t.txt").write_text(content, "utf-8")
    with pytest.raises(UserError, match=words):
        read_texts(tmp_path / "t.txt", READING, 1)


def test_the_test_splits_sentences_are_taken_once_and_in_the_same_order():
    clips = [Clip(f"c{n}", f"{n % 7} კატა", "s", 1.0, Path("a.wav"), None) for n in range(21)]
    some = split_texts(clips, READING, 4)
    assert len({text.expected for text in some}) == 4
    assert split_texts(clips[::-1], READING, 4) == some == split_texts(clips, READING, 9)[:4]
