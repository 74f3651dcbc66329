"""What captions show and what is said in them: roll-up, two languages, names before a colon."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.corpus.spoken_lines import spoken_cues
from xtts_ka.corpus.subtitles import Cue, read_cues

LINES = ["ბიჭი ეზოში მღერის.", "გოგონა წიგნს კითხულობს.", "დედა პურს აცხობს.", "მამა გვიან დაბრუნდა."]


def shown(*texts: str) -> list[Cue]:
    return [Cue(2.0 * n, 2.0 * n + 1.5, text) for n, text in enumerate(texts)]


def said(cues: list[Cue]) -> list[str]:
    return [cue.text for cue in spoken_cues(cues)[0]]


def test_youtubes_captions_count_each_line_once(tmp_path):
    parts, before = ["WEBVTT", "Kind: captions", ""], " "
    for n, line in enumerate(LINES):
        first, *rest = line.split()
        words = first + "".join(f"<00:00:0{2 * n}.500><c> {word}</c>" for word in rest)
        parts += [f"00:00:0{2 * n}.000 --> 00:00:0{2 * n + 1}.990 align:start position:0%", before, words, ""]
        parts += [f"00:00:0{2 * n + 1}.990 --> 00:00:0{2 * n + 2}.000 align:start position:0%", line, " ", ""]
        before = line
    (tmp_path / "a.vtt").write_text("\n".join(parts), "utf-8")
    cues, remarks = spoken_cues(read_cues(tmp_path / "a.vtt"))
    assert [cue.text for cue in cues] == LINES and [cue.start for cue in cues] == [0, 2, 4, 6]
    assert "roll up" in remarks[0]


def test_broadcasters_captions_of_three_lines_roll_up_too():
    assert said(shown(*("\n".join(LINES[max(0, n - 2) : n + 1]) for n in range(4)))) == LINES


def test_what_is_said_twice_stays():
    texts = ["არა!", "არა!", LINES[0], LINES[1], LINES[1]]
    assert said(shown(*texts)) == texts and said(shown(*["კი."] * 5)) == ["კი."] * 5


def test_a_translation_below_or_beside_is_left_out_and_said():
    cues, remarks = spoken_cues(shown(*(f"{line}\nThis is English." for line in LINES), "OK"))
    assert [cue.text for cue in cues] == [*LINES, "OK"] and "4 lines" in remarks[0]
    beside = [Cue(cue.start, cue.end, "По-русски.") for cue in shown(*LINES)]
    both = sorted(shown(*LINES) + beside, key=lambda cue: cue.start)
    assert said(both) == LINES


def test_single_foreign_lines_stay():
    texts = [LINES[0], f"{LINES[1]}\nHello!", LINES[2], LINES[3], "Hello!"]
    assert said(shown(*texts)) == texts


@pytest.mark.parametrize("name", ["ნინო", "Nino", "ბატონი კაკო"])
def test_names_that_recur_are_speakers(name):
    cues, _ = spoken_cues(shown(f"{name}: {LINES[0]}", LINES[1], f"- {name}: {LINES[2]}", LINES[3]))
    assert [cue.text for cue in cues] == LINES
    assert [cue.speaker for cue in cues] == [name, "", name, ""]


def test_a_single_label_is_a_speaker_only_where_it_is_a_name():
    cues, _ = spoken_cues(shown(f"გიორგი: {LINES[0]}", f"მან თქვა: {LINES[1]}", *[LINES[2]] * 30))
    assert [(cue.text, cue.speaker) for cue in cues[:2]] == [(LINES[0], "გიორგი"), (f"მან თქვა: {LINES[1]}", "")]


def test_two_names_in_a_cue_are_a_dialogue():
    assert said(shown(f"ნინო: {LINES[0]}\nგიო: {LINES[1]}")) == [f"- {LINES[0]}\n- {LINES[1]}"]
    assert said(shown(f"{LINES[0]}\nგიო: {LINES[1]}")) == [f"- {LINES[0]}\n- {LINES[1]}"]


@given(st.lists(st.text(alphabet="აბab:\n -", max_size=12), max_size=8))
def test_any_captions_are_read_and_no_georgian_word_is_new(texts):
    found = "".join(said(shown(*texts)))
    assert {c for c in found if c.isalpha()} <= set("".join(texts))
