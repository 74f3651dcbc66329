"""The split tables: what is read, what is refused and in which words, and what is written."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mutations import mutated

from xtts_ka.core.errors import UserError
from xtts_ka.corpus import tables as metadata_table
from xtts_ka.corpus.excerpt import Cut
from xtts_ka.corpus.tables import (
    COLUMNS,
    CUT_COLUMNS,
    DROP_REPORT,
    QUALITY_COLUMNS,
    SOURCES,
    SPLITS,
    Clip,
    has_metadata,
    is_safe_id,
    read_drop_report,
    read_split,
    replace_suspects,
    split_csv,
    write_drop_report,
    write_splits,
)

FUZZ_CASES = int(os.environ.get("FUZZ_CASES", 2000))
HEADER = ",".join(COLUMNS)
GOOD = "c1,გამარჯობა.,nino,1.5,audio/c1.wav,"


def put(data_dir: Path, content: str | bytes, split: str = "train") -> Path:
    table = split_csv(data_dir, split)
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    return table


def allow(data_dir: Path, *sources: object) -> None:
    """What create_metadata_files.py writes for the folders it was given, relative to split/."""
    (data_dir / SOURCES).write_text(json.dumps({"sources": sources}))


def refusal(data_dir: Path, content: str | bytes) -> str:
    table = put(data_dir, content)
    with pytest.raises(UserError) as caught:
        read_split(data_dir, "train")
    sentence = str(caught.value)
    assert str(table) in sentence and "\n" not in sentence and len(sentence) < 500 + len(str(table))
    return sentence.replace(str(table), "")


def test_a_table_is_read_in_order(tmp_path):
    row = 'c2,"დიახ, მოვალ.",გია,2,../../rec/c2.flac,../../emb/c2.npy'
    table = put(tmp_path, f"{HEADER}\n{row}\n\n{GOOD}\n")
    assert read_split(tmp_path, "train") == [
        Clip("c2", "დიახ, მოვალ.", "გია", 2.0, tmp_path / "rec/c2.flac", tmp_path / "emb/c2.npy"),
        Clip("c1", "გამარჯობა.", "nino", 1.5, table.parent / "audio/c1.wav", None),
    ]
    assert read_split(str(tmp_path), "train")[0].audio_path.is_absolute()


def test_bom_crlf_quotes_extra_and_reordered_columns(tmp_path):
    content = (
        "\ufeffduration,note,file_id,audio_path,embedding_path,speaker_id,text\r\n"
        '0.5,"a ""note""",c1,audio/c1.wav,,nino,"ა, ბ"\r\n'
    )
    put(tmp_path, content)
    (clip,) = read_split(tmp_path, "train")
    assert (clip.file_id, clip.text, clip.speaker_id, clip.duration) == ("c1", "ა, ბ", "nino", 0.5)


def test_whether_the_speaker_is_known_stands_in_the_last_column_and_old_tables_lack_it(tmp_path):
    clips = [
        Clip(name, "ა", name, 1.0, tmp_path / "split/train/a.wav", None, known)
        for name, known in (("nino", True), ("fleurs_male", False), ("fleurs_female", True))
    ]
    write_splits(tmp_path, {"train": clips, "val": clips, "test": []})
    assert split_csv(tmp_path, "train").read_text("utf-8").splitlines()[0] == f"{HEADER},speaker_known"
    assert read_split(tmp_path, "train") == clips
    speakers = "nino", "fleurs_male", "fleurs", "fleurs_x", "cv_e3b0c442"  # the last: of an empty client_id
    put(tmp_path, f"{HEADER}\n" + "".join(f"{name},ა,{name},1,a.wav,\n" for name in speakers))
    assert [clip.speaker_known for clip in read_split(tmp_path, "train")] == [True, False, False, True, False]
    assert "line 2, column speaker_known: '1'" in refusal(tmp_path, f"{HEADER},speaker_known\nc,ა,s,1,a.wav,,1\n")


def test_what_is_read_of_a_recording_stands_in_the_table_with_its_quality(tmp_path):
    whole, part = (Clip(name, "ა", "s", 1.0, tmp_path / "split/train/a.wav", None) for name in "ab")
    part = replace(part, cut=Cut(0.25, 1.25, -3.5))
    measured = {"b": {"snr": 31.25, "dnsmos": None}}
    write_splits(tmp_path, {"train": [whole, part], "val": [part], "test": []}, measured=measured)
    assert read_split(tmp_path, "train") == [whole, part]
    columns = (*COLUMNS, "speaker_known", *CUT_COLUMNS, *QUALITY_COLUMNS)
    header, first, second = split_csv(tmp_path, "train").read_text("utf-8").splitlines()
    assert header == ",".join(columns) and first.endswith(",yes" + "," * len(CUT_COLUMNS + QUALITY_COLUMNS))
    assert dict(zip(columns, second.split(",")))["snr"] == "31.25" and "0.2500,1.2500,-3.50" in second


@pytest.mark.parametrize("cut", ["1,1,0", "-1,2,0", "a,2,0", "0,nan,0", "0,1,99", "0,1e9,0", "1,,"])
def test_a_wrong_cut_is_refused(tmp_path, cut):
    table = f"{HEADER},{','.join(CUT_COLUMNS)}\nc,ა,s,1,a.wav,,{cut}\n"
    assert "line 2, column read_from, read_to, gain_db" in refusal(tmp_path, table)


def test_a_linked_data_folder_reads_the_same(tmp_path):
    put(tmp_path / "data", f"{HEADER}\nc1,ა,s,1,../../../rec/c1.wav,\n")
    allow(tmp_path / "data", "../../rec")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(tmp_path / "data")
    assert read_split(tmp_path / "elsewhere" / "link", "train")[0].audio_path == tmp_path / "rec" / "c1.wav"


@pytest.mark.parametrize(
    "row, column, word",
    [
        (",ა,s,1,a.wav,", "file_id", "letters"),
        ("../c,ა,s,1,a.wav,", "file_id", "letters"),
        ("=c1,ა,s,1,a.wav,", "file_id", "letters"),
        (f"{'x' * 81},ა,s,1,a.wav,", "file_id", "80"),
        ("c0,ა,s,1,b.wav,", "file_id", "line 2"),
        ("c1,,s,1,a.wav,", "text", "empty"),
        ("c1,  ,s,1,a.wav,", "text", "empty"),
        ("c1,ა,,1,a.wav,", "speaker_id", "letters"),
        ("c1,ა,@s,1,a.wav,", "speaker_id", "letters"),
        ("c1,ა,s,,a.wav,", "duration", "above 0"),
        ("c1,ა,s,long,a.wav,", "duration", "above 0"),
        ("c1,ა,s,0,a.wav,", "duration", "above 0"),
        ("c1,ა,s,-1,a.wav,", "duration", "above 0"),
        ("c1,ა,s,nan,a.wav,", "duration", "above 0"),
        ("c1,ა,s,inf,a.wav,", "duration", "above 0"),
        ("c1,ა,s,1,,", "audio_path", "relative"),
        ("c1,ა,s,1,/etc/passwd,", "audio_path", "relative"),
        ("c1,ა,s,1,C:\\a.wav,", "audio_path", "relative"),
        ("c1,ა,s,1,\\\\host\\a.wav,", "audio_path", "relative"),
        ("c1,ა,s,1,a.wav,/root/e.npy", "embedding_path", "relative"),
    ],
)
def test_a_bad_cell_is_named_by_line_and_column(tmp_path, row, column, word):
    sentence = refusal(tmp_path, f"{HEADER}\nc0,ა,s,1,a.wav,\n{row}\n")
    assert "line 3" in sentence and f"column {column}" in sentence and word in sentence


@pytest.mark.parametrize("column", ["audio_path", "embedding_path"])
@pytest.mark.parametrize(
    "path",
    [
        "../../../outside/x.wav",
        "../../../../../../../../etc/x.wav",
        "link/x.wav",
        "link/../x.wav",
        "../../../rec/../outside/x.wav",
        "../../../recordings/x.wav",
    ],
)
def test_a_path_out_of_the_known_folders_is_refused(tmp_path, path, column):
    data = tmp_path / "data"
    put(data, GOOD, "train")
    allow(data, "../../rec")
    (data / "split/train/link").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").mkdir()
    cells = f"{path}," if column == "audio_path" else f"a.wav,{path}"
    sentence = refusal(data, f"{HEADER}\n{GOOD}\nc2,ა,s,1,{cells}\n")
    assert f"line 3, column {column}" in sentence and "leads out of" in sentence and SOURCES in sentence
    assert "create_metadata_files.py --source FOLDER" in sentence


def test_links_to_folders_inside_are_followed(tmp_path):
    put(tmp_path / "data", f"{HEADER}\nc1,ა,s,1,a/1.wav,\nc2,ა,s,1,../../../rec/deep/2.wav,b/2.npy\n")
    allow(tmp_path / "data", "../../rec")
    for name, target in (("a", "data/audio"), ("b", "rec")):
        (tmp_path / target).mkdir()
        (tmp_path / "data/split/train" / name).symlink_to(tmp_path / target)
    one, two = read_split(tmp_path / "data", "train")
    assert (one.audio_path, two.audio_path) == (tmp_path / "data/audio/1.wav", tmp_path / "rec/deep/2.wav")
    assert two.embedding_path == tmp_path / "rec/2.npy"


@pytest.mark.parametrize(
    "content, word",
    [
        ({"sources": ["/"]}, "holds the data folder"),
        ({"sources": [".."]}, "holds the data folder"),
        ({"sources": ["../../rec", "../.."]}, "holds the data folder"),
        ({"sources": [1]}, "no list"),
        ({"sources": 3}, "no list"),
        ([], "no list"),
        ({}, "no list"),
        (None, "no list"),
        ({"sources": ["a\0b"]}, "no list"),
        ({"sources": ["\ud800"]}, "no list"),
    ],
)
def test_a_list_of_sources_that_is_none_or_allows_everything_is_refused(tmp_path, content, word):
    table = put(tmp_path, f"{HEADER}\n{GOOD}\n")
    (tmp_path / SOURCES).write_text(json.dumps(content))
    with pytest.raises(UserError, match="sources.json.*create_metadata_files.py") as caught:
        read_split(tmp_path, "train")
    assert word in str(caught.value) and table.is_file()


@pytest.mark.parametrize(
    "content, word",
    [
        ("", "file_id, text, speaker_id"),
        ("\n", "file_id, text, speaker_id"),
        ("file_id,text,speaker_id,audio_path,embedding_path\n", "lacks the column duration"),
        (f"{HEADER},text\n", "named twice"),
        (f"{HEADER}\n", "no rows"),
        (f"{HEADER}\nc1,ა,s,1,a.wav\n", "line 2: 5 cells where the header has 6"),
        (f"{HEADER}\nc1,ა,ბ,s,1,a.wav,\n", "line 2: 7 cells"),
        (f'{HEADER}\nc1,"ა,s,1,a.wav,\n', "line 2: not CSV"),
        (f"{HEADER}\nc1,ა\0ბ,s,1,a.wav,\n", "line 2: it holds a control character"),
        (f"{HEADER}\n{GOOD}\n".encode() + b"c2,\xff,s,1,b.wav,\n", "line 3: the line is not UTF-8"),
        (f"{HEADER}\nc1,{'ა' * 4_000_000},s,1,a.wav,\n", "line 2: the line is longer"),
        (f"{HEADER}\nc1,{'a' * 200_000},s,1,a.wav,\n", "line 2: not CSV"),
    ],
)
def test_a_bad_table_is_refused(tmp_path, content, word):
    assert word in refusal(tmp_path, content)


def test_a_missing_table_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError, match="val_metadata.csv does not exist: .*create_metadata_files.py --source"):
        read_split(tmp_path, "val")


def test_only_the_test_table_may_be_empty(tmp_path):
    put(tmp_path, f"{HEADER}\n", "test")
    assert read_split(tmp_path, "test") == []


ODD = [
    "c1",
    "c2",
    "ა",
    "1.5",
    "-1",
    "nan",
    "1e999",
    "../x",
    "/x",
    '"',
    '""',
    "\n",
    "\r",
    "=1+1",
    "a.wav",
    "1_0",
    " ",
    "",
    "\ufeff",
]
cells = st.text(max_size=12) | st.sampled_from(ODD)
headers = st.just(list(COLUMNS)) | st.permutations(COLUMNS) | st.lists(cells, max_size=7)
tables = st.lists(st.lists(cells, min_size=5, max_size=7), max_size=4)


@settings(max_examples=FUZZ_CASES // 4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=headers, rows=tables, quoted=st.booleans(), tail=st.binary(max_size=6))
@example(header=list(COLUMNS), rows=[["c1", "ა", "s", "1", "a.wav", ""]], quoted=True, tail=b"")
def test_any_table_gives_clips_or_one_sentence(tmp_path, header, rows, quoted, tail):
    table = split_csv(tmp_path, "train")
    table.parent.mkdir(parents=True, exist_ok=True)
    with open(table, "w", encoding="utf-8", errors="surrogatepass", newline="") as file:
        if quoted:
            csv.writer(file).writerows([header, *rows])
        else:
            file.writelines(",".join(row) + "\n" for row in [header, *rows])
    with open(table, "ab") as file:
        file.write(tail)
    try:
        clips = read_split(tmp_path, "train")
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert clips and len({clip.file_id for clip in clips}) == len(clips)
    for clip in clips:
        assert is_safe_id(clip.file_id) and is_safe_id(clip.speaker_id) and clip.text.strip()
        assert 0 < clip.duration < float("inf") and clip.audio_path.is_absolute()
        assert clip.embedding_path is None or clip.embedding_path.is_absolute()


WHOLE = f"""{HEADER}
c1,გამარჯობა.,nino,1.5,audio/c1.wav,
c-2,"„დიახ, მოვალ.“",გია,2,../../rec/c2.flac,../../embeddings/embeddings/c2.npy
c3,"ხვალ ""ზღვაზე"" წავალთ!",nino,11.25,../../rec/deep/c3.mp3,
"""


@settings(max_examples=FUZZ_CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=mutated(WHOLE, most=2)
    | mutated(WHOLE.encode())
    | st.binary(max_size=200).map(f"{HEADER}\n{GOOD}\n".encode().__add__)
)
@example(content=WHOLE.encode())
def test_any_edit_of_a_good_table_gives_clips_or_one_sentence(tmp_path, content):
    put(tmp_path, content)
    try:
        clips = read_split(tmp_path, "train")
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return
    assert clips and len({clip.file_id for clip in clips}) == len(clips)
    for clip in clips:
        assert (
            is_safe_id(clip.file_id)
            and is_safe_id(clip.speaker_id)
            and clip.text.strip()
            and 0 < clip.duration < float("inf")
        )
        assert all(
            path.is_relative_to(tmp_path) and ".." not in path.parts
            for path in (clip.audio_path, clip.embedding_path)
            if path
        )


@pytest.mark.parametrize("longest", [200, 300, 1000])
def test_the_line_limit_and_line_numbers_with_cells_that_hold_line_breaks(tmp_path, monkeypatch, longest):
    monkeypatch.setattr(metadata_table, "MAX_LINE_BYTES", longest)
    texts = ["სიტყვა " * (i % 7 + 1) + "ორ\nხაზად" * (i % 5 == 0) for i in range(100)]
    rows = [f'c{i},"{text}",nino,1.5,audio/c{i}.wav,' for i, text in enumerate(texts)]
    put(tmp_path, "\ufeff" + "\n".join([HEADER, *rows]))
    clips = read_split(tmp_path, "train")
    assert [clip.file_id for clip in clips] == [f"c{i}" for i in range(100)] and [clip.text for clip in clips] == texts
    for harm, words in (
        (b"\x07", "control character"),
        (b"\xff", "not UTF-8"),
        (b"x" * longest, f"longer than {longest} bytes"),
    ):
        lines = put(tmp_path, "\n".join([HEADER, *rows])).read_bytes().splitlines(keepends=True)
        lines[77] = harm + lines[77]
        said = refusal(tmp_path, b"".join(lines))
        assert "line 78" in said and words in said


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────


def some_clips(folder: Path, *names: str) -> list[Clip]:
    return [Clip(name, f"ა, „{name}“", "nino", 1.25, folder / f"{name}.wav", None) for name in names]


def test_what_is_written_is_read_back(tmp_path):
    (val,) = some_clips(tmp_path / "rec", "c")
    val = replace(val, embedding_path=tmp_path / "data/embeddings/c.npy")
    splits = {"train": some_clips(tmp_path / "rec", "a", "b"), "val": [val], "test": []}
    data_dir = tmp_path / "data"
    assert not has_metadata(data_dir)
    write_splits(data_dir, splits, [tmp_path / "rec"])
    assert has_metadata(data_dir)
    assert {split: read_split(data_dir, split) for split in splits} == splits
    first = split_csv(data_dir, "val").read_text(encoding="utf-8").splitlines()
    columns, row = f"{HEADER},speaker_known", 'c,"ა, „c“",nino,1.2500,../../../rec/c.wav,../../embeddings/c.npy,yes'
    assert first == [columns, row]


def test_an_interrupted_write_leaves_the_old_tables(tmp_path):
    old = {split: some_clips(tmp_path, f"old_{split}") for split in SPLITS}
    write_splits(tmp_path, old)
    with pytest.raises(KeyError):
        write_splits(tmp_path, {"train": some_clips(tmp_path, "new"), "val": some_clips(tmp_path, "new2")})
    assert {split: read_split(tmp_path, split) for split in old} == old
    assert not [file for file in tmp_path.rglob("*") if "partial" in file.name]


@pytest.mark.parametrize("renames", [0, 1, 2, 3])
def test_at_no_moment_do_old_and_new_tables_look_whole_together(tmp_path, monkeypatch, renames):
    """Stop before each of the four renames: the tables are then all old, all new, or not all there."""
    write_splits(tmp_path, {split: some_clips(tmp_path, f"old_{split}") for split in SPLITS})
    done = []

    def replace_some(source, target, rename=os.replace):
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(target)
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace_some)
    with pytest.raises(KeyboardInterrupt):
        write_splits(tmp_path, {split: some_clips(tmp_path, f"new_{split}") for split in SPLITS})
    if has_metadata(tmp_path):
        assert len({read_split(tmp_path, split)[0].file_id[:3] for split in SPLITS}) == 1


def test_drop_report_is_safe_for_spreadsheets(tmp_path):
    rows = [
        ("c1", "dropped", "bad_row", "x", "a.wav", formula)
        for formula in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "ჩვეულებრივი, ტექსტი", "a\nb\0c", "x" * 1000)
    ]
    assert write_drop_report(tmp_path, rows) == tmp_path / DROP_REPORT
    texts = [row[5] for row in read_drop_report(tmp_path)]
    assert texts == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "' =1", "' =1", "ჩვეულებრივი, ტექსტი", "a b c", "x" * 300]


def test_suspects_of_one_reason_are_replaced(tmp_path):
    assert read_drop_report(tmp_path) == []
    replace_suspects(tmp_path, "far_from_speaker", [("c1", "0.2", "a.wav", "ა")])
    dropped = ("c9", "dropped", "too_long", "12 s", "b.wav", "ბ")
    other = ("c2", "suspect", "other", "", "", "")
    write_drop_report(tmp_path, [dropped, *read_drop_report(tmp_path), other])
    replace_suspects(tmp_path, "far_from_speaker", [("c3", "0.1", "c.wav", "გ"), ("c4", "0.3", "d.wav", "დ")])
    assert read_drop_report(tmp_path) == [
        dropped,
        other,
        ("c3", "suspect", "far_from_speaker", "0.1", "c.wav", "გ"),
        ("c4", "suspect", "far_from_speaker", "0.3", "d.wav", "დ"),
    ]
    replace_suspects(tmp_path, "far_from_speaker", [])
    assert read_drop_report(tmp_path) == [dropped, other]
