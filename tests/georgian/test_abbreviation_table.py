"""A user's own abbreviations."""

import pytest

from xtts_ka.core.errors import UserError
from xtts_ka.georgian.abbreviation_table import AbbreviationTable, load_abbreviations, table_of
from xtts_ka.georgian.text import main, normalise

LINES = "# ჩვენი\nკმპ.\tკომპანია\n\nბჯთ\tბიუჯეტი\nსამ.დეპ.\tსამეცნიერო დეპარტამენტი\nT&C\tპირობები\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "own.tsv"
    path.write_text(LINES, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("written", "reading"),
    [
        ("კმპ. „ალფა“", "კომპანია ალფა"),
        ("მუშაობს კმპ.", "მუშაობს კომპანია."),
        ("ბჯთ-ში 5 მლნ ლარია", "ბიუჯეტში ხუთი მილიონი ლარია"),
        ("ბჯთ-ის", "ბიუჯეტის"),
        ("ბჯთა", "ბჯთა"),
        ("სამ. დეპ. და სამ.დეპ-ში", "სამეცნიერო დეპარტამენტი და სამეცნიერო დეპარტამენტში"),
        ("T&C წაიკითხეთ", "პირობები წაიკითხეთ"),
    ],
)
def test_own_abbreviations_are_whole_tokens_and_declined(file, written, reading):
    table = table_of(load_abbreviations(file))
    assert normalise(written, abbreviations=table) == reading
    assert normalise(reading, abbreviations=table) == reading


def test_an_own_reading_comes_before_the_built_in_one(tmp_path):
    file = tmp_path / "own.tsv"
    file.write_text("სს\tსაერთო საცხოვრებელი\n", encoding="utf-8")
    assert normalise("სს-ში", abbreviations=table_of(load_abbreviations(file))) == "საერთო საცხოვრებელში"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("კმპ", "1 column,"),
        ("კმპ\tკომპანია\tმეტი", "3 columns"),
        ("კმ პ\tკომპანია", "without a space"),
        ("\tკომპანია", "without a space"),
        ("კმპ\tcompany", "Georgian letters"),
        ("კმპ\t", "Georgian letters"),
        ("ბჯთ\tსხვა", "stands in line 4 already"),
        ("ახალი\tბჯთ რამე", "holds an abbreviation"),
        ("ახალი\tკმ ბევრი", "holds an abbreviation"),
    ],
)
def test_a_bad_line_is_named_with_its_number(file, line, problem):
    file.write_text(LINES + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"own\.tsv, line 7: .*{problem}"):
        load_abbreviations(file)


def test_the_command_takes_a_table(file, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("ბჯთ-ით\n", encoding="utf-8")
    assert main([str(text), "--abbreviations", str(file)]) == 0
    assert capsys.readouterr().out == "ბიუჯეტით\n"
    assert main([str(text), "--abbreviations", str(tmp_path / "missing.tsv")]) == 2
    assert "missing.tsv" in capsys.readouterr().err


def test_an_empty_table_changes_nothing():
    assert AbbreviationTable({}).read("კმ ბჯთ.") == "კმ ბჯთ."
