"""Reading pronunciation lexicons: what is kept, counted and refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.core.errors import UserError
from xtts_ka.georgian.lexicon import Lexicon, read_lexicon


def _read(folder: Path, content: str | bytes) -> Lexicon:
    path, lexicon = folder / "lexicon.tsv", Lexicon()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    read_lexicon(path, lexicon)
    return lexicon


def test_the_first_pronunciation_is_kept_and_other_rows_are_counted(tmp_path):
    lexicon = _read(tmp_path, "კაცი\tk a t͡s i\nკაცი\tk ɑ ts i\n\n-ება\tɛ b ɑ\nსხვა\ts x v ɑ\n")
    assert lexicon.entries == {"კაცი": ["k", "a", "t͡s", "i"], "სხვა": ["s", "x", "v", "ɑ"]}
    assert lexicon.left_out == 2


def test_words_are_folded_and_byte_order_marks_ignored(tmp_path):
    lexicon = _read(tmp_path, "\ufeffᲙᲐᲪᲘ\tk a\r\nႠ\tɑ\r\n")
    assert lexicon.entries == {"კაცი": ["k", "a"], "ა": ["ɑ"]}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("კაცი\tk a\nსახლი s a\n", "line 2: 'სახლი s a' is not word<TAB>"),
        ("კაცი\tk a\tx\n", "line 1: .* is not word<TAB>"),
        ("კაცი\tk a\n\tk a\n", "line 2: .* is not word<TAB>"),
        ("კაცი\tk a\n\nსახლი\t \n", "line 3: .* is not word<TAB>"),
        ("კაცი\tk a\n".encode() + b"\xff\xfe\n", "line 2: not UTF-8"),
        ("", "no Georgian word"),
        ("hello\th e\n", "no Georgian word"),
    ],
)
def test_a_bad_lexicon_is_one_sentence_with_file_and_line(tmp_path, content, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        _read(tmp_path, content)
    assert "lexicon.tsv" in str(error.value) and "\n" not in str(error.value)


def test_a_missing_lexicon_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read lexicon .*nowhere\.tsv"):
        read_lexicon(tmp_path / "nowhere.tsv", Lexicon())


@given(st.binary(max_size=60))
def test_any_bytes_are_a_lexicon_or_a_user_error(tmp_path_factory, content):
    try:
        entries = _read(tmp_path_factory.getbasetemp(), content).entries
    except UserError:
        return
    assert entries and all(word and phones for word, phones in entries.items())
