"""From recordings to split tables: reasons to drop a row, when no table is written, splits, ids."""

from __future__ import annotations

import csv
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from small_corpora import ALL, SENTENCES, WHAT, WHERE, WHO, add_row, clips_of, coqui, speak

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.metadata import create_metadata
from xtts_ka.corpus.options import MetadataOptions
from xtts_ka.corpus.splits import Asked, SplitPlan, sentence_of
from xtts_ka.corpus.tables import MAX_LINE_BYTES, SPLITS, has_metadata, read_drop_report, read_split, split_csv
from xtts_ka.model.geometry import MAX_SPEECH_SECONDS


def snapshot(folder: Path) -> dict:
    return {
        path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


# ── reasons to drop a row ────────────────────────────────────────────────────────────────────────────────


def one_drop(tmp_path: Path, options: MetadataOptions = ALL) -> tuple[str, ...]:
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=options)
    (row,) = read_drop_report(tmp_path / "data")
    assert report.dropped == {row[2]: 1} and report.kept == 20 and report.rows == 21
    assert row[1] == "dropped" and (not row[0] or row[0] not in clips_of(tmp_path / "data"))
    return row


def write_wave(path: Path, wave, rate: int = 8_000, **how) -> None:
    soundfile.write(path, wave, rate, **how)


NOISE = np.random.default_rng(1).uniform(-0.3, 0.3, 8_000)
BROKEN = {
    "unreadable_audio": lambda path: path.write_bytes(b"RIFF????WAVEnothing of the kind"),
    "empty_audio": lambda path: path.touch(),
    "empty_audio: silence": lambda path: write_wave(path, np.zeros(8_000)),
    "empty_audio: no samples": lambda path: write_wave(path, np.zeros(0)),
    "non_finite_audio": lambda path: write_wave(path, np.append(NOISE, np.nan), subtype="FLOAT"),
    "clipped_audio": lambda path: write_wave(path, np.clip(NOISE * 5, -1, 1)),
    "clipped_audio: turned down": lambda path: write_wave(path, np.clip(NOISE.repeat(4) * 5, -1, 1) / 2),
    "too_short": lambda path: write_wave(path, NOISE[:3_999]),
    "too_long": lambda path: write_wave(path, np.tile(NOISE, 12)),
    "too_long: 192 kHz, 8 channels": lambda path: write_wave(path, np.tile(NOISE[:, None], (288, 8)), 192_000),
}


@pytest.mark.parametrize("case", BROKEN)
def test_audio_that_cannot_be_used(tmp_path, case):
    source = coqui(tmp_path / "src")
    BROKEN[case](source / "wavs/bad.wav")
    add_row(source, f"wavs/bad.wav|{SENTENCES[30]}|nino")
    row = one_drop(tmp_path)
    assert row[:3] == ("bad", "dropped", case.partition(":")[0])
    assert row[3].startswith("metadata.csv, line 22: ")
    assert row[4:] == ("wavs/bad.wav", SENTENCES[30])


def test_limits_are_inclusive_and_can_be_moved(tmp_path):
    source = coqui(tmp_path / "src")
    write_wave(source / "wavs/half.wav", NOISE[:4_000])
    write_wave(source / "wavs/loud.wav", np.clip(NOISE * 5, -1, 1))
    add_row(source, f"wavs/half.wav|{SENTENCES[30]}|nino")
    assert create_metadata(source, tmp_path / "data", options=ALL).dropped == {}
    add_row(source, f"wavs/loud.wav|{SENTENCES[31]}|nino")
    options = MetadataOptions(max_clipped_fraction=0.9, min_seconds=0.51, val_fraction=0.3)
    assert create_metadata(source, tmp_path / "data", options=options).dropped == {"too_short": 1}


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "empty_text"),
        ("  ", "empty_text"),
        ("... ?!", "empty_text"),
        ("😀", "empty_text"),
        ("Good morning", "non_georgian_text"),
        ("Доброе утро, ნინო", "non_georgian_text"),
        ("=HYPERLINK(1)", "non_georgian_text"),
        ("ა" * 2_001, "bad_row"),
    ],
)
def test_text_that_cannot_be_used(tmp_path, text, reason):
    source = coqui(tmp_path / "src")
    speak(source / "wavs/bad.wav", 70)
    add_row(source, f"wavs/bad.wav|{text}|nino")
    row = one_drop(tmp_path)
    assert row[2] == reason and not row[5].startswith(("=", "+", "-", "@"))


def test_numbers_alone_are_text(tmp_path):
    source = coqui(tmp_path / "src")
    speak(source / "wavs/year.wav", 70)
    add_row(source, "wavs/year.wav|99|nino")
    create_metadata(source, tmp_path / "data", options=ALL)
    assert clips_of(tmp_path / "data")["year"].text == "ოთხმოცდაცხრამეტი"


@pytest.mark.parametrize(
    "name",
    [
        "../outside.wav",
        "/{tmp}/outside.wav",
        "wavs/link.wav",
        "/etc/passwd",
        "linked/outside.wav",
        "wavs/../../outside.wav",
        "linked/../outside.wav",
    ],
)
def test_recordings_outside_the_source_are_dropped(tmp_path, name):
    source = coqui(tmp_path / "src")
    speak(tmp_path / "outside.wav", 70)
    (source / "wavs/link.wav").symlink_to(tmp_path / "outside.wav")
    (source / "linked").symlink_to(tmp_path)
    add_row(source, f"{name.format(tmp=tmp_path)}|{SENTENCES[30]}|nino")
    assert one_drop(tmp_path)[2] == "outside_source"


@pytest.mark.parametrize("name", ["corpus\nka", "corpus\x1b[2Jka"])
def test_a_source_folder_with_control_characters_in_its_name_is_refused(tmp_path, name):
    coqui(tmp_path / name)
    with pytest.raises(UserError, match="rename it"):
        create_metadata(tmp_path / name, tmp_path / "data", options=ALL)
    assert not (tmp_path / "data").exists()


def test_pipes_and_devices_in_a_source_are_not_opened(tmp_path):
    source = coqui(tmp_path / "src")
    os.mkfifo(source / "wavs/pipe.wav")
    os.mkfifo(source / "other.csv")
    (source / "wavs/zero.wav").symlink_to("/dev/zero")
    add_row(source, f"wavs/pipe.wav|{SENTENCES[30]}|nino")
    add_row(source, f"wavs/zero.wav|{SENTENCES[31]}|nino")
    assert create_metadata(source, tmp_path / "data", options=ALL).dropped == {
        "unreadable_audio": 1,
        "outside_source": 1,
    }


def test_absolute_paths_and_links_inside_the_source_are_fine(tmp_path):
    source = coqui(tmp_path / "src")
    speak(source / "takes/a.wav", 70)
    speak(source / "takes/b.wav", 71)
    (source / "wavs/link.wav").symlink_to(source / "takes/a.wav")
    add_row(source, f"wavs/link.wav|{SENTENCES[30]}|nino")
    add_row(source, f"{source}/takes/b.wav|{SENTENCES[31]}|nino")
    report = create_metadata(source, tmp_path / "data", options=ALL)
    assert (report.kept, report.dropped) == (22, {})


@pytest.mark.parametrize(
    "row, reason",
    [
        ("wavs/none.wav|ა ბ|nino", "missing_audio"),
        ("wavs|ა ბ|nino", "missing_audio"),  # becomes wavs.wav
        ("wavs/c01.wav|სხვა სიტყვები|nino", "duplicate_id"),
        ("wavs/./c01.wav|სხვა სიტყვები|nino", "duplicate_id"),
        ("wavs/copy.wav|სხვა სიტყვები|nino", "duplicate_audio"),
        ("wavs/copy.flac|სხვა სიტყვები|nino", "duplicate_audio"),
        ("wavs/x.wav|ა", "bad_row"),
        ("wavs/x.wav|ა|ბ|გ", "bad_row"),
        ("wavs/x\x01.wav|ა|ბ", "bad_row"),
        ("wavs/x\0.wav|ა|ბ", "bad_row"),
        (b"wavs/x.wav|\xff|b", "bad_row"),
        ("wavs/" + "x" * 5_000 + ".wav|ა ბ|nino", "missing_audio"),
        ("wavs/x.wav|" + "ა" * 10_000_000 + "|nino", "bad_row"),
        ("wavs/x.wav|" + "a" * (MAX_LINE_BYTES - 100) + "|nino", "bad_row"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path, row, reason):
    source = coqui(tmp_path / "src")
    samples, rate = soundfile.read(source / "wavs/c05.wav", dtype="int16")
    for copy in ("copy.wav", "copy.flac"):
        soundfile.write(source / "wavs" / copy, samples, rate)
    add_row(source, row)
    dropped = one_drop(tmp_path)
    assert dropped[2] == reason and "line 22" in dropped[3]


def test_lines_after_one_that_is_too_long_are_read(tmp_path):
    source = coqui(tmp_path / "src", count=18)
    add_row(source, "x|" + "ა" * 3_000_000)
    for i in (18, 19):
        speak(source / f"wavs/c{i}.wav", i)
        add_row(source, f"wavs/c{i}.wav|{SENTENCES[i]}|nino")
    assert one_drop(tmp_path)[3].startswith("metadata.csv, line 20: the line is longer")


def test_a_header_that_claims_ten_hours(tmp_path):
    source = coqui(tmp_path / "src")
    speak(source / "wavs/bomb.wav", 70)
    data = bytearray((source / "wavs/bomb.wav").read_bytes())
    data[40:44] = (10 * 3600 * 8_000 * 2).to_bytes(4, "little")  # the size of the data chunk
    (source / "wavs/bomb.wav").write_bytes(data)
    add_row(source, f"wavs/bomb.wav|{SENTENCES[30]}|nino")
    assert one_drop(tmp_path)[2] == "unreadable_audio"


# ── when to stop ─────────────────────────────────────────────────────────────────────────────────────────


def test_too_many_drops_write_the_report_and_leave_the_tables(tmp_path):
    source = coqui(tmp_path / "src")
    options = MetadataOptions(max_drop_fraction=0.1, val_fraction=0.2, test_fraction=0.1)
    create_metadata(source, tmp_path / "data", options=options)
    before = {split: split_csv(tmp_path / "data", split).read_bytes() for split in SPLITS}
    for i in range(3):
        (source / f"wavs/c{i:02d}.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"3 of 20 rows cannot be used \(empty_audio 3\).*drop_report.csv"):
        create_metadata(source, tmp_path / "data", options=options)
    assert [row[2] for row in read_drop_report(tmp_path / "data")] == ["empty_audio"] * 3
    assert before == {split: split_csv(tmp_path / "data", split).read_bytes() for split in SPLITS}
    with pytest.raises(UserError, match="3 of 20"):
        create_metadata(source, tmp_path / "fresh", options=options)
    assert not has_metadata(tmp_path / "fresh")
    (source / "wavs/c00.wav").unlink()
    speak(source / "wavs/c00.wav", 0)
    assert create_metadata(source, tmp_path / "fresh", options=options).kept == 18  # a tenth exactly may go


def test_a_table_without_rows(tmp_path):
    with pytest.raises(UserError, match="has no rows"):
        create_metadata(coqui(tmp_path / "src", count=0), tmp_path / "data")


def test_everything_dropped_is_an_error_at_any_limit(tmp_path):
    source = coqui(tmp_path / "src")
    for path in source.glob("wavs/*"):
        path.unlink()
    with pytest.raises(UserError, match="20 of 20 rows cannot be used .missing_audio 20"):
        create_metadata(source, tmp_path / "data", options=ALL)


def test_too_few_for_validation_says_which_share_is_enough(tmp_path):
    source = coqui(tmp_path / "src")
    with pytest.raises(UserError, match="needs 2: run again with --val_fraction") as caught:
        create_metadata(source, tmp_path / "data", options=MetadataOptions(val_fraction=0))
    assert not has_metadata(tmp_path / "data")
    share = float(str(caught.value).split()[-1])
    report = create_metadata(source, tmp_path / "data", options=MetadataOptions(val_fraction=share))
    assert report.splits["val"][0] >= 2
    with pytest.raises(UserError, match="needs 2"):
        create_metadata(source, tmp_path / "data", options=MetadataOptions(val_fraction=share - 0.02))
    tiny = coqui(tmp_path / "tiny", count=3)
    with pytest.raises(UserError, match="add recordings"):
        create_metadata(tiny, tmp_path / "tiny_data", options=MetadataOptions(val_fraction=0))


def test_no_clip_left_for_training(tmp_path):
    options = MetadataOptions(val_fraction=0.9, test_fraction=0.05)
    sentence = next(sentence for sentence in SENTENCES if split_of(sentence, val_fraction=0.9) == "val")
    source = coqui(tmp_path / "src", count=0)
    for i in range(9):
        speak(source / f"wavs/{i}.wav", i)
        add_row(source, f"wavs/{i}.wav|{sentence}|nino")  # one sentence: one split
    with pytest.raises(UserError, match="training: lower --val_fraction"):
        create_metadata(source, tmp_path / "data", options=options)


def test_temporary_files_of_a_killed_run_are_removed(tmp_path):
    source = coqui(tmp_path / "src")
    options = MetadataOptions(copy=True, val_fraction=0.2)
    for name in (".drop_report.csv.1.partial", "val/.val_metadata.csv.1.partial", "val/audio/.c01.wav.1.partial"):
        file = tmp_path / "data/split" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    create_metadata(source, tmp_path / "data", options=options)
    assert not list((tmp_path / "data").rglob("*.partial"))


@pytest.mark.parametrize(
    "wrong, word",
    [
        ({"min_seconds": -1}, "min_seconds"),
        ({"max_seconds": float("nan")}, "max_seconds"),
        ({"max_seconds": 1e9}, "between 0 and 600"),
        ({"val_fraction": 0.6, "test_fraction": 0.6}, "below 1"),
        ({"min_seconds": 5, "max_seconds": 4}, "not below"),
        ({"max_drop_fraction": 1.5}, "between 0 and 1"),
        ({"archaic": "sing"}, "respell or keep"),
    ],
)
def test_impossible_options(wrong, word):
    with pytest.raises(UserError, match=word):
        MetadataOptions(**wrong)


def test_the_output_may_not_lie_in_the_source(tmp_path):
    source = coqui(tmp_path / "src")
    before = snapshot(source)
    (tmp_path / "link").symlink_to(source)
    for output in (source, source / "data", tmp_path / "link" / "data"):
        with pytest.raises(UserError, match="which is read only"):
            create_metadata(source, output, options=ALL)
    with pytest.raises(UserError, match="is a file"):
        create_metadata(source, speak(tmp_path / "file.wav", 1), options=ALL)
    assert snapshot(source) == before


def test_the_clips_of_fleurs_are_kept(tmp_path):
    """60 recordings of FLEURS' lengths (12 s on average, a few over 20 s): the model holds 28 s, and they all train."""
    folder, rows = tmp_path / "ka_ge", []
    seconds = np.clip(np.random.default_rng(1).lognormal(2.43, 0.33, 60), 3, 40)
    for i, length in enumerate(seconds):
        path = folder / f"audio/train/{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.3 * np.sin(0.1 * (1 + i / 60) * np.arange(round(8000 * length))), 8000)
        rows.append(f"{i}\t{i}.wav\t{SENTENCES[i]}\t{SENTENCES[i]}\t\t0\tMALE\n")
    (folder / "train.tsv").write_text("".join(rows), "utf-8")
    report = create_metadata(folder, tmp_path / "data", options=MetadataOptions(val_fraction=0.1))
    assert 11 < seconds.mean() < 13 and report.kept >= 0.98 * 60, report.dropped
    assert MetadataOptions().max_seconds <= MAX_SPEECH_SECONDS < MetadataOptions().max_seconds + 0.01


# ── splits and ids ───────────────────────────────────────────────────────────────────────────────────────


def split_of(sentence: str, **fractions: float) -> str:
    shares = {"val_fraction": 0.05, "test_fraction": 0.05, **fractions}
    return SplitPlan(**shares, held_out_fraction=0.0, asked=Asked(0.05, 0.05, 1000)).of_sentence(sentence_of(sentence))


def test_splits_follow_the_sentence(tmp_path):
    many = [" ".join(words) for words in itertools.product(WHO + WHERE, WHERE + WHAT, WHO + WHAT + WHERE)]
    counted = [split_of(sentence, val_fraction=0.3, test_fraction=0.2) for sentence in many]
    assert counted.count("val") / len(many) == pytest.approx(0.3, abs=0.05)
    assert counted.count("test") / len(many) == pytest.approx(0.2, abs=0.05)
    for sentence in SENTENCES:
        assert split_of(sentence) == split_of(sentence.replace(" ", ", ").rstrip(".") + "!")  # words decide
        if split_of(sentence, test_fraction=0.1) == "test":
            assert split_of(sentence, test_fraction=0.1, val_fraction=0.4) == "test"
        if split_of(sentence, val_fraction=0.1) == "val":
            assert split_of(sentence, val_fraction=0.2) == "val"


def test_adding_rows_changes_no_split_and_no_id(tmp_path):
    source = coqui(tmp_path / "src", count=20)
    create_metadata(source, tmp_path / "data", options=ALL)
    before = {split: set(read_split(tmp_path / "data", split)) for split in SPLITS}
    rows = (source / "metadata.csv").read_text(encoding="utf-8").splitlines()
    for i in range(40):
        speak(source / f"wavs/a{i}.wav", 100 + i)
    added = [f"wavs/a{i}.wav|{SENTENCES[i % 50]}|ახალი" for i in range(40)]
    (source / "metadata.csv").write_text("\n".join([rows[0], *added, *rows[1:]]), encoding="utf-8")
    create_metadata(source, tmp_path / "data", options=ALL)
    after = {split: set(read_split(tmp_path / "data", split)) for split in SPLITS}
    assert all(before[split] <= after[split] for split in SPLITS) and sum(map(len, after.values())) == 60
    texts = [{clip.text for clip in clips} for clips in after.values()]
    assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]


def test_ids_are_unique_safe_and_stable(tmp_path):
    source = tmp_path / "src"
    names = [
        "plain",
        "two words",
        "ქართული",
        "a/b",
        "a_b",
        "x" * 90,
        "=sum",
        "-dash",
        "dot.ted",
        "ქართული (1)",
        "a",
        "B",
    ]
    for i, name in enumerate(names):
        path = speak(source / f"{name}.wav", i)
        path.parent.joinpath(path.name[:-4] + ".txt").write_text(SENTENCES[i], encoding="utf-8")
    speak(source / "plain.flac", 50)
    assert create_metadata(source, tmp_path / "data", options=ALL).dropped == {"bad_row": 1}
    ((*_, detail, audio, _),) = read_drop_report(tmp_path / "data")
    assert (detail, audio) == ("plain.flac: plain.wav has the same name and is used in its place", "plain.flac")
    clips = clips_of(tmp_path / "data").values()
    ids = {os.path.relpath(clip.audio_path, source): clip.file_id for clip in clips}
    assert ids["a_b.wav"] == "a_b" and ids["ქართული.wav"] == "ქართული" and ids["dot.ted.wav"] == "dot.ted"
    assert ids["a/b.wav"].startswith("a_b-") and ids["=sum.wav"].startswith("sum-")
    assert len(ids["x" * 90 + ".wav"]) == 80 and ids["plain.wav"] == "plain"


def test_source_is_untouched_and_order_does_not_depend_on_threads(tmp_path, monkeypatch):
    source = coqui(tmp_path / "src", count=40)
    for i in range(0, 40, 7):
        (source / f"wavs/c{i:02d}.wav").write_bytes((source / "wavs/c01.wav").read_bytes())
    before = snapshot(source)
    tables = []
    for threads in (1, 16):
        monkeypatch.setattr(os, "cpu_count", lambda count=threads: count)
        create_metadata(source, tmp_path / f"data{threads}", options=ALL)
        tables.append([path.read_bytes() for path in sorted((tmp_path / f"data{threads}").rglob("*.csv"))])
    assert tables[0] == tables[1] and len(tables[0]) == 5
    assert snapshot(source) == before
    dropped = [row[0] for row in read_drop_report(tmp_path / "data1")]
    assert dropped == [f"c{i:02d}" for i in (1, *range(7, 40, 7))]  # c00 is the first that sounds so


def test_embeddings_are_found_by_id_and_by_unique_stem(tmp_path):
    source = tmp_path / "src"
    for i in range(12):
        path = speak(source / ("ნინო" if i % 2 else "გია") / f"{i // 2 if i < 4 else i}.wav", i)
        path.with_suffix(".txt").write_text(SENTENCES[i], encoding="utf-8")
    folder = tmp_path / "data/embeddings/embeddings"
    folder.mkdir(parents=True)
    for name in ("0.npy", "5.pt", "5.npz", "6.json", "7.wav", "unused.npy"):
        (folder / name).touch()
    report = create_metadata(source, tmp_path / "data", options=ALL)
    clips = {
        str(clip.audio_path.relative_to(source).with_suffix("")): clip for clip in clips_of(tmp_path / "data").values()
    }
    assert clips["ნინო/5"].embedding_path == folder / "5.npz"
    assert clips["გია/6"].embedding_path == folder / "6.json"
    for name in ("ნინო/7", "ნინო/0", "გია/0"):  # 0.npy: whose would it be?
        assert clips[name].embedding_path is None
    assert report.embeddings == 2
    own = tmp_path / "vectors"
    own.mkdir()
    (own / f"{clips['გია/0'].file_id}.npy").touch()
    create_metadata(source, tmp_path / "data", embeddings_dir=own, options=ALL)
    assert [c.embedding_path for c in clips_of(tmp_path / "data").values() if c.embedding_path] == [
        own / f"{clips['გია/0'].file_id}.npy"
    ]
    with pytest.raises(UserError, match="embeddings folder .* does not exist"):
        create_metadata(source, tmp_path / "data", embeddings_dir=tmp_path / "none", options=ALL)


def test_with_copy_the_data_folder_does_not_need_the_source(tmp_path):
    source = coqui(tmp_path / "src")
    options = MetadataOptions(copy=True, val_fraction=0.2)
    create_metadata(source, tmp_path / "data", options=options)
    speak(source / "wavs/c03.wav", 60)  # the same size, other sound
    os.utime(source / "wavs/c03.wav", ns=(1, 1))
    create_metadata(source, tmp_path / "data", options=options)
    wanted = {path.stem: path.read_bytes() for path in source.glob("wavs/*")}
    source.rename(tmp_path / "away")
    (tmp_path / "data").rename(tmp_path / "moved")
    clips = clips_of(tmp_path / "moved")
    assert {name: clip.audio_path.read_bytes() for name, clip in clips.items()} == wanted
    assert all((tmp_path / "moved") in clip.audio_path.parents for clip in clips.values())


# ── anything ─────────────────────────────────────────────────────────────────────────────────────────────

TABLES = {
    "coqui": ("metadata.csv", "audio_file|text|speaker_name"),
    "common_voice": ("validated.tsv", "client_id\tpath\tsentence"),
    "fleurs": ("train.tsv", "1\tc1.wav\tა ბ გ\tა"),
    "ljspeech": ("metadata.csv", "c1|ა ბ გ"),
    "openslr": ("line_index.tsv", "c1\tა ბ გ"),
    "audiofolder": ("metadata.csv", "file_name|text|split|offset|duration"),
}
ODD = [
    "c1.wav",
    "c2",
    "../c1.wav",
    "/etc/passwd",
    "ა ბ",
    "დიახ",
    "|",
    "\t",
    '"',
    "\n",
    "\r\n",
    "=1+1",
    "\0",
    "ნინო",
    "wavs/c1.wav",
    ".",
]
row_lists = st.lists(st.lists(st.text(max_size=10) | st.sampled_from(ODD), max_size=6), max_size=6)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A corpus folder whose recordings stay while the tables change."""
    folder = tmp_path_factory.mktemp("library")
    for i in range(4):
        for place in ("wavs", "clips", "audio/train"):
            speak(folder / f"src/{place}/c{i}.wav", i)
    return folder


@given(layout=st.sampled_from(sorted(TABLES)), lines=row_lists, tail=st.binary(max_size=8))
def test_any_table_gives_a_report_or_one_sentence(library, layout, lines, tail):
    name, first = TABLES[layout]
    delimiter = "\t" if name.endswith("tsv") else "|"
    for old in (library / "src").glob("*.?sv"):
        old.unlink()
    text = "\n".join([first, *(delimiter.join(cells) for cells in lines)])
    (library / "src" / name).write_bytes(text.encode("utf-8", "surrogatepass") + tail)
    options = MetadataOptions(max_drop_fraction=1, val_fraction=0.7, test_fraction=0)
    try:
        report = create_metadata(library / "src", library / "data", format=layout, options=options)
    except UserError as error:
        assert "\n" not in str(error)
        return
    clips = clips_of(library / "data")
    assert report.kept == len(clips) and report.rows == report.kept + sum(report.dropped.values())
    assert all((library / "src") in clip.audio_path.parents for clip in clips.values())
    for table in (library / "data").rglob("*.csv"):
        with open(table, encoding="utf-8", newline="") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
