"""Tables of cells: quotes, line breaks, encodings; what pandas and the csv module write is read back."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.corpus.delimited import common_delimiter, decode, read_cells, text_lines, trimmed


def cells_of(path, delimiter=",", width=3):
    return [cells for _, cells, problem in read_cells(path, delimiter, lambda count: count == width) if not problem]


@pytest.mark.parametrize("delimiter", ",;|\t")
@given(data=st.data())
def test_what_the_csv_module_writes_is_read_back(delimiter, data, tmp_path_factory):
    cell = st.text(alphabet='აბ გ"a' + delimiter, min_size=1, max_size=8).map(str.strip).filter(bool)
    rows = data.draw(st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=6))
    memory = io.StringIO()
    csv.writer(memory, delimiter=delimiter, lineterminator="\n").writerows(rows)
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_text(memory.getvalue(), "utf-8")
    assert cells_of(path, delimiter) == [[" ".join(c.split("\n")) for c in row] for row in rows]


def test_unbalanced_quotes_swallow_nothing(tmp_path):
    (tmp_path / "t.tsv").write_text('a\t"ბ\tx\nb\tგ"\tx\nc\t"დ" ე\tx\nd\t"ვ""ზ"\tx\n', "utf-8")
    assert [row[1] for row in cells_of(tmp_path / "t.tsv", "\t")] == ['"ბ', 'გ"', '"დ" ე', 'ვ"ზ']


def test_a_quote_that_nothing_closes_ends_after_a_hundred_lines(tmp_path):
    rows = ['a,"open,x', *(f"b{i},ბ,x" for i in range(300))]
    (tmp_path / "t.csv").write_text("\n".join(rows), "utf-8")
    assert len(cells_of(tmp_path / "t.csv")) == 301


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path, encoding, end):
    (tmp_path / "t.csv").write_bytes(end.join(["a.wav,ბიჭი,x", "b.wav,გოგონა,x", ""]).encode(encoding))
    assert cells_of(tmp_path / "t.csv") == [["a.wav", "ბიჭი", "x"], ["b.wav", "გოგონა", "x"]]
    assert decode("ბიჭი 1".encode(encoding)).lstrip("\ufeff") == "ბიჭი 1"


def test_lines_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "t.csv").write_bytes("a,ბ,x\n".encode() + b"\xff\xff\n" + "c,დ,x\n".encode())
    problems = [problem for _, _, problem in text_lines(tmp_path / "t.csv")]
    assert [bool(problem) for problem in problems] == [False, True, False] and "not UTF-8" in problems[1]


def test_padding_is_cut_only_as_far_as_the_header_is_padded():
    assert trimmed(["a", "b", "", ""], 2, 4) == ["a", "b"]
    assert trimmed(["a", "b", ""], 2, 2) == ["a", "b", ""] and trimmed(["a", "b", "c", ""], 2, 4) == ["a", "b", "c", ""]


@pytest.mark.parametrize(
    "lines, delimiter",
    [
        (["a|b, c", "d|e, f"], "|"),
        (["a", "b"], ""),
        ([""], ""),
        (['a|"ბ', 'გ, დ"', "b|ე", 'c|"ვ', "", 'ზ"'], "|"),  # three rows in six lines
        (['a,"ბ', 'გ"', 'b,"დ', 'ე"'], ","),
    ],
)
def test_a_delimiter_stands_in_the_rows_not_in_the_lines(tmp_path, lines, delimiter):
    (tmp_path / "t.csv").write_text("\n".join(lines), "utf-8")
    assert common_delimiter(tmp_path / "t.csv") == delimiter
