"""Normalisation for reading aloud: hand-written readings, invariants over any string, splitting, the CLI."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from georgian_readings import FOLDER, pairs, readings
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.georgian import text as georgian_text
from xtts_ka.georgian.alphabet import ARCHAIC_LETTERS, GEORGIAN_LETTERS, PUNCTUATION
from xtts_ka.georgian.text import main, normalise, split_sentences

ROOT = Path(__file__).parents[2]
SCRIPT = ["-m", "xtts_ka.georgian.text"]

# ── readings ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@readings("text")
def test_texts_are_read_as_a_georgian_reads_them_and_readings_stay_as_they_are(written, reading):
    assert normalise(written) == reading
    assert normalise(reading) == reading


def test_the_tables_of_readings_are_large_and_without_repetition():
    written = [text for table in FOLDER.glob("*.tsv") for text, _ in pairs(table.stem)]
    assert len(written) == len(set(written)) >= 800


def test_archaic_letters_are_respelled_or_kept():
    assert normalise("ჱჲჳჴჵ") == "ეივიხო"
    assert normalise("ჱჲჳჴჵ", archaic="keep") == "ჱჲჳჴჵ"
    assert normalise("Ⴡ", archaic="keep") == "ჱ"


def test_an_unknown_way_with_archaic_letters_is_refused():
    with pytest.raises(ValueError, match="archaic"):
        normalise("დედა", archaic="drop")


def test_paragraphs_end_sentences_and_line_breaks_do_not():
    assert normalise("პირველი ხაზი\nმეორე ხაზი\n\nახალი აბზაცი") == "პირველი ხაზი მეორე ხაზი. ახალი აბზაცი"


@pytest.mark.parametrize("nothing", ["", " ", "\n", "...", "—", "😀", "漢字", "\u200b", "()", "\ud800"])
def test_what_has_no_reading_is_empty(nothing):
    assert normalise(nothing) == ""


def test_punctuation_is_known_to_the_real_vocabulary():
    vocabulary = ROOT.parent / "shared" / "xtts_vocab_v1.1.json"
    if not vocabulary.exists():
        pytest.skip("the real XTTS vocabulary is not here")
    import json

    known = json.loads(vocabulary.read_text(encoding="utf-8"))["model"]["vocab"]
    assert all(mark in known for mark in PUNCTUATION)


# ── invariants over any string ────────────────────────────────────────────────────────────────────────────────────────

PIECES = st.sampled_from(
    "5 12 2026 - – ში მე- ე . , ა.შ. წ. ს. ქ. XIX II I კმ % ₾ $ € °C / : 14:30 12.03.2026 @ a Facebook "
    "Привет და ი გვ. ( ) «"
    " ½ ² № + x = ბ-ნი info@a.ge www.a.b მლნ e É ʼ 1,5 -ის ლარი 5-7 Х 😀 \u00ad \u0301 Ა ჱ \ufffd აშშ"
    " ¹ ⁻ ⁶ ^2 ″ ′ [3] °N … ... ჩ/კ ს.კ. ს/კ სოფ. სართ. წმ. წწ. ორშ. –კვ. თებ. მ/რ 37გ 12ა ა(ა)იპ ხმგ შ.პ.ს. -ს ივ. (დ."
    " people iOS SpaceX 1:50 V.1995 საათ 5.V.1995 სთ მუხლი მე-2¹ ჭიქა წყალში 405123456 ნ. ტ. კვ. პ.".split()
    + [" ", "  ", "\n", "\n\n", "1 000", "599 12 34 56"]
)
TEXT = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=14).map("".join))


@given(TEXT, st.sampled_from(["respell", "keep"]))
def test_any_string_reads_as_letters_spaces_and_punctuation_and_is_stable(text, archaic):
    reading = normalise(text, archaic=archaic)
    allowed = set(GEORGIAN_LETTERS + PUNCTUATION + " " + (ARCHAIC_LETTERS if archaic == "keep" else ""))
    assert set(reading) <= allowed
    assert reading == reading.strip() and "  " not in reading
    assert not any(f" {mark}" in reading for mark in ".,!?;:")
    assert normalise(reading, archaic=archaic) == reading


WORD = st.sampled_from(
    "კმ წ ა შ ძვ ახ აღ ს ქ გვ მლნ სს სსრკ აშშ ი ე მ გ ტ თავ გამომც ჭავჭავაძე თბილისში მოვიდა წელს".split()
)
SENTENCE = st.lists(
    st.tuples(WORD, st.sampled_from(["", "", ".", ",", "!", "?", ";", ":"])).map("".join), min_size=1, max_size=6
).map(" ".join)


@given(SENTENCE | TEXT)
def test_the_short_way_for_plain_sentences_gives_what_the_long_one_does(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(georgian_text, "_SETTLED", re.compile("(?!)"))
        long_way = normalise(text)
    assert normalise(text) == long_way


# ── splitting ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sentences_are_split_at_their_ends():
    assert split_sentences("მოვიდა. ნახა! რა ნახა? ზღვა.", 100) == ["მოვიდა.", "ნახა!", "რა ნახა?", "ზღვა."]


def test_long_sentences_are_cut_at_clauses_before_words():
    text = "როცა მზე ამოვიდა, ჩიტებმა გალობა დაიწყეს; მერე ყველაფერი ჩაწყნარდა."
    assert split_sentences(text, 45) == ["როცა მზე ამოვიდა, ჩიტებმა გალობა დაიწყეს;", "მერე ყველაფერი ჩაწყნარდა."]
    assert split_sentences(text, 26) == ["როცა მზე ამოვიდა,", "ჩიტებმა გალობა დაიწყეს;", "მერე ყველაფერი ჩაწყნარდა."]
    assert split_sentences("ერთი ორი სამი ოთხი ხუთი", 9) == ["ერთი ორი", "სამი ოთხი", "ხუთი"]


def test_a_word_longer_than_the_limit_is_cut():
    assert split_sentences("გადმოგვაკეთებინებინეს", 10) == ["გადმოგვაკე", "თებინებინე", "ს"]


def test_no_room_at_all_is_refused():
    with pytest.raises(ValueError, match="max_characters"):
        split_sentences("დედა", 0)


PLAIN = st.text(alphabet=GEORGIAN_LETTERS + "  .,!?;:-", max_size=200).map(normalise)


@given(PLAIN, st.integers(min_value=1, max_value=80))
def test_no_piece_is_too_long_and_no_letter_is_lost(text, limit):
    pieces = split_sentences(text, limit)
    assert all(0 < len(piece) <= limit for piece in pieces)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    if all(len(chunk) <= limit for chunk in text.split(" ")):
        assert " ".join(pieces) == text


# ── the command ───────────────────────────────────────────────────────────────────────────────────────────────────────


def run_script(*arguments, data=b""):
    command = [sys.executable, *SCRIPT, *arguments]
    return subprocess.run(command, input=data, capture_output=True, timeout=60, cwd=ROOT)


def test_a_file_gives_one_reading_per_line_and_keeps_blank_lines(tmp_path, capsys):
    file = tmp_path / "text.txt"
    file.write_bytes("\ufeff5 კაცი\r\n\n21-ე".encode())
    assert main([str(file)]) == 0
    assert capsys.readouterr().out == "ხუთი კაცი\n\nოცდამეერთე\n"


def test_standard_input_is_read_when_no_file_is_named():
    done = run_script(data="2026-ში\n\n😀\n".encode())
    assert (done.returncode, done.stdout.decode()) == (0, "ორი ათას ოცდაექვსში\n\n\n")


def test_explain_prints_which_rule_read_what(tmp_path, capsys):
    file = tmp_path / "text.txt"
    file.write_text("14:30-ზე 5 კაცი\nდედა\n", encoding="utf-8")
    assert main([str(file), "--explain"]) == 0
    lines = [line.split(None, 1) for line in capsys.readouterr().out.splitlines()]
    assert ["amounts", "5 → ხუთი"] in lines
    assert ["times", "14:30-ზე → თოთხმეტ საათსა და ოცდაათ წუთზე"] in lines
    assert lines[-2:] == [["დედა"], ["=", "დედა"]]


@given(TEXT)
def test_explain_tells_every_change_of_a_text_that_is_not_plain(text):
    from xtts_ka.georgian.text import explain

    steps = explain(text)
    assert all(written != read for _, written, read in steps)
    assert steps or normalise(text).split() == text.split()


def test_archaic_letters_can_be_kept(tmp_path, capsys):
    file = tmp_path / "text.txt"
    file.write_text("ჴელი\n", encoding="utf-8")
    assert main([str(file), "--archaic", "keep"]) == 0
    assert capsys.readouterr().out == "ჴელი\n"


def test_text_that_is_not_utf8_names_file_and_line(tmp_path, capsys):
    file = tmp_path / "bad.txt"
    file.write_bytes("კარგი\n".encode() + b"\xe0\xe1\n")
    assert main([str(file)]) == 2
    error = capsys.readouterr().err
    assert "bad.txt" in error and "line 2" in error and "UTF-8" in error and error.count("\n") == 1


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_a_file_that_cannot_be_read_is_one_clear_sentence(tmp_path, capsys, name):
    assert main([str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / name) in error and error.count("\n") == 1


def test_a_closed_pipe_ends_quietly(tmp_path):
    file = tmp_path / "long.txt"
    file.write_text("სტრიქონი 5\n" * 50_000, encoding="utf-8")
    arguments = [sys.executable, *SCRIPT, str(file)]
    command = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout.readline().decode() == "სტრიქონი ხუთი\n"
    command.stdout.close()
    assert command.stderr.read() == b""
    command.stderr.close()
    assert command.wait(timeout=60) == 0


def test_help_shows_an_example():
    done = run_script("--help")
    assert done.returncode == 0 and b"example:" in done.stdout
