"""Readers of files with times: each format as its program writes it, and files that are none."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.subtitles import READERS, Cue, SubtitleError, has_times, plain_text, read_cues

SRT = """1
00:00:01,000 --> 00:00:02,500
<i>დილა</i> მშვიდობისა!

2
01:00:03,250 --> 01:00:04,000 X1:40
{\\an8}როგორ
ხარ?
"""
VTT = """WEBVTT

NOTE this is no cue

intro
00:01.000 --> 00:02.500 align:start
<v ნინო>დილა &amp; საღამო</v>

00:03.000 --> 00:04.000
<c.yellow>კი</c>

00:05.000 --> 00:06.000

"""
GRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 4.0
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 4.0
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 1.0
            text = "sil"
        intervals [2]:
            xmin = 1.0
            xmax = 1.5
            text = "თქვა"
        intervals [3]:
            xmin = 1.5
            xmax = 2.5
            text = "„კი“"
    item [2]:
        class = "IntervalTier"
        name = "sentences 2"
        xmin = 0
        xmax = 4.0
        intervals: size = 2
        intervals [1]:
            xmin = 1.0
            xmax = 2.5
            text = "თქვა: „კი“ "
        intervals [2]:
            xmin = 2.5
            xmax = 4.0
            text = ""
    item [3]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 4.0
        points: size = 1
        points [1]:
            number = 1.2
            mark = "a ""click"" here"
"""
SHORT_GRID = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n2.5\n<exists>\n1\n"IntervalTier"\n"ა"\n0\n2.5\n'
    '1\n1e0\n2.5\n"სახლი 5"\n'
)
ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT><TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="2500"/>
<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="3000"/><TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="4000"/></TIME_ORDER>
<TIER TIER_ID="A" PARTICIPANT="ნინო"><ANNOTATION><ALIGNABLE_ANNOTATION TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
<ANNOTATION_VALUE>დილა</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="B"><ANNOTATION><ALIGNABLE_ANNOTATION TIME_SLOT_REF1="ts3" TIME_SLOT_REF2="ts4">
<ANNOTATION_VALUE>საღამო</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>
"""
LABELS = "1.000000\t2.500000\tდილა\n\\\t100.0\t200.0\n3,0\t4,0\tსაღამო\n"
WHISPERX = json.dumps(
    {"segments": [{"start": 1, "end": 2.5, "text": " დილა", "speaker": "S0", "words": []}], "language": "ka"}
)

CHUNKS = json.dumps({"chunks": [{"timestamp": [1, 2.5], "text": "დილა"}, {"timestamp": [4, None], "text": "კი"}]})


def said(cues):
    return [(cue.start, cue.end, " ".join(cue.text.split()), cue.speaker) for cue in cues]


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("a.srt", SRT, [(1.0, 2.5, "დილა მშვიდობისა!", ""), (3603.25, 3604.0, "როგორ ხარ?", "")]),
        ("a.vtt", VTT, [(1.0, 2.5, "დილა & საღამო", "ნინო"), (3.0, 4.0, "კი", "")]),
        ("a.TextGrid", GRID, [(1.0, 2.5, "თქვა: „კი“", "")]),
        ("b.textgrid", SHORT_GRID, [(1.0, 2.5, "სახლი 5", "")]),
        ("a.eaf", ELAN, [(1.0, 2.5, "დილა", "ნინო"), (3.0, 4.0, "საღამო", "B")]),
        ("a.txt", LABELS, [(1.0, 2.5, "დილა", ""), (3.0, 4.0, "საღამო", "")]),
        ("a.json", WHISPERX, [(1.0, 2.5, "დილა", "S0")]),
        ("b.srt", SRT.replace("\n\n", "\n"), [(1.0, 2.5, "დილა მშვიდობისა!", ""), (3603.25, 3604.0, "როგორ ხარ?", "")]),
        ("b.srt", SRT.replace("\n", "\r\n"), [(1.0, 2.5, "დილა მშვიდობისა!", ""), (3603.25, 3604.0, "როგორ ხარ?", "")]),
        ("b.json", CHUNKS, [(0.0, 0.0, "კი", ""), (1.0, 2.5, "დილა", "")]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_each_format_gives_its_cues(tmp_path, name, content, expected, encoding, newline):
    path = tmp_path / name
    path.write_bytes(content.replace("\n", newline).encode(encoding))
    assert said(read_cues(path)) == expected


@pytest.mark.parametrize(
    "first, start, end",
    [
        ("00:00:01 --> 00:00:03", 1, 3),
        ("0:01-->0:03.5", 1, 3.5),
        ("00:00:01, 500 -> 00:00: 03,000", 1.5, 3),
        ("00:00:05,000 --> 00:00:03,000", 5, 3),
    ],
)
def test_times_as_careless_programs_write_them(tmp_path, first, start, end):
    (tmp_path / "a.srt").write_text(f"1\n{first}\nდილა\n\n2\n00:00:07,000 --> 00:00:08,000\nკი\n", "utf-8")
    assert [(cue.start, cue.end, cue.text.strip()) for cue in read_cues(tmp_path / "a.srt")] == [
        (start, end, "დილა"),
        (7, 8, "კი"),
    ]


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.srt", "1\n00:00:05,000 --> 00:00:01,000\nბოლო პირველია\n"),
        ("a.srt", ""),
        ("a.vtt", "WEBVTT\n"),
        ("a.TextGrid", "this is no grid"),
        ("a.eaf", "<ANNOTATION_DOCUMENT><TIER>"),
        ("a.json", '{"text": "დილა"}'),
        ("a.json", '{"segments": 5}'),
        ("a.json", "[" * 100_000),
        ("a.txt", "1.0\tno end\n"),
        ("a.doc", "დილა"),
    ],
)
def test_a_file_without_cues_is_one_sentence_that_names_it(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content, "utf-8")
    with pytest.raises(SubtitleError, match=name) as caught:
        read_cues(path)
    assert "\n" not in str(caught.value)


def test_entities_that_multiply_are_refused(tmp_path):
    path = tmp_path / "bomb.eaf"
    levels = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    path.write_text(f'<!DOCTYPE d [<!ENTITY e0 "ბომბი">{levels}]><d>&e11;</d>', "utf-8")
    with pytest.raises(SubtitleError, match=r"bomb\.eaf"):
        read_cues(path)


@pytest.mark.parametrize("suffix", sorted(READERS))
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_are_cues_or_a_sentence(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    try:
        assert all(isinstance(cue, Cue) and cue.start < cue.end and cue.text.strip() for cue in read_cues(path))
    except SubtitleError as error:
        assert path.name in str(error)


def test_a_text_is_told_from_labels(tmp_path):
    book, labels = tmp_path / "book.txt", tmp_path / "labels.txt"
    book.write_text("\n5 დილა იყო.\n", "utf-8")
    labels.write_text(LABELS, "utf-8-sig")
    assert (has_times(book), has_times(labels), has_times(tmp_path / "film.srt")) == (False, True, True)
    assert plain_text(book) == "\n5 დილა იყო.\n"
    book.write_text(" \n", "utf-8")
    with pytest.raises(UserError, match="empty"):
        plain_text(book)
