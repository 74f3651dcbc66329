import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from small_index import LIMITS

from xtts_ka.core.config import BASE_FILES, PretrainConfig
from xtts_ka.core.digests import file_digest
from xtts_ka.core.errors import UserError
from xtts_ka.corpus import recordings
from xtts_ka.corpus.recordings import embeddings_digest, listing, look_again, look_ahead
from xtts_ka.corpus.tables import Clip, read_rows, split_csv, write_splits
from xtts_ka.training.clip_index import build_index
from xtts_ka.training.feature_cache import RECORD


@pytest.fixture(autouse=True)
def nothing_seen():
    look_again()


@pytest.fixture
def data(tmp_path):
    """Three recordings of which two train."""
    clips = []
    for number, name in enumerate(("ა.wav", "deep/b.wav", "c.wav")):
        path = tmp_path / "wavs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100 + number))
        os.utime(path, ns=(0, 10**18 + number))
        clips.append(Clip(f"c{number}", "ტექსტი", "nino", 1.0, path, None))
    write_splits(tmp_path / "data", {"train": clips[:2], "val": clips[2:], "test": []}, [tmp_path / "wavs"])
    return tmp_path / "data"


def record_names(data):
    """A training index of the train table, which records its names."""
    import numpy as np

    def find(keys):
        return np.full(len(keys), np.array((0, 0, 0, 22050, 0, 0), RECORD))

    build_index(
        data / "features" / "k",
        "train",
        {"table": file_digest(split_csv(data, "train"))},
        ((row, 0) for row in read_rows(data, "train")),
        find,
        lambda texts: [np.array([1], "<u4")] * len(texts),
        LIMITS,
    )


def test_sizes_and_times_of_every_row_s_recording(data):
    seen = listing(data, "train")
    assert seen.files["size"].tolist() == [100, 101] and seen.files["changed"].tolist() == [10**18, 10**18 + 1]
    assert listing(data, "val").files["size"].tolist() == [102]


def test_a_disk_that_is_slow_to_answer_is_asked_by_many_at_once(tmp_path, monkeypatch):
    clips = [Clip(f"c{number}", "ტექსტი", "nino", 1.0, tmp_path / f"wavs/{number}.wav", None) for number in range(150)]
    (tmp_path / "wavs").mkdir()
    for clip in clips:
        clip.audio_path.write_bytes(bytes(len(clip.file_id)))
    write_splits(tmp_path / "data", {"train": clips, "val": clips[:1], "test": []}, [tmp_path / "wavs"])
    found = listing(tmp_path / "data", "train")
    look_again()
    askers, stat = set(), os.stat

    def slowly(path, **options):
        askers.add(threading.get_ident())
        time.sleep(0.002)
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", slowly)
    monkeypatch.setattr(recordings, "_SHARE", 2)
    again = listing(tmp_path / "data", "train")
    assert len(askers) > 1
    assert again.digest == found.digest and again.files.tolist() == found.files.tolist()
    clips[140].audio_path.unlink()
    look_again()
    with pytest.raises(UserError, match="140.wav is in the metadata but not on the disk"):
        listing(tmp_path / "data", "train")


def test_an_answer_stands_until_told_to_look_again(data, tmp_path):
    first = listing(data, "train")
    (tmp_path / "wavs/ა.wav").write_bytes(b"edited")
    assert listing(data, "train") is first
    look_again()
    assert listing(data, "train").digest != first.digest and listing(data, "train").files["size"][0] == 6


@pytest.mark.parametrize(
    "change",
    [lambda wavs: (wavs / "ა.wav").write_bytes(bytes(99)), lambda wavs: os.utime(wavs / "deep/b.wav", ns=(0, 7))],
)
def test_the_digest_changes_with_size_and_time(data, tmp_path, change):
    before = listing(data, "train").digest, listing(data, "val").digest
    change(tmp_path / "wavs")
    look_again()
    assert listing(data, "train").digest != before[0] and listing(data, "val").digest == before[1]


def test_it_does_not_change_where_only_the_texts_or_the_place_do(data, tmp_path):
    before = listing(data, "train").digest
    table = split_csv(data, "train")
    table.write_text(table.read_text("utf-8").replace("ტექსტი", "სხვა"), "utf-8")
    look_again()
    assert listing(data, "train").digest == before
    shutil.copytree(tmp_path, tmp_path.with_name("elsewhere"), copy_function=shutil.copy2)
    assert listing(tmp_path.with_name("elsewhere") / "data", "train").digest == before


def test_a_table_with_an_index_is_not_read_and_gives_the_same(data, monkeypatch):
    before = listing(data, "train")
    record_names(data)
    look_again()
    monkeypatch.setattr(recordings, "read_rows", lambda *_: pytest.fail("read the table"))
    assert listing(data, "train").digest == before.digest and listing(data, "train").files["size"].tolist() == [
        100,
        101,
    ]


@pytest.mark.parametrize("harm", ["edited table", "damaged names", "no manifest"])
def test_a_recorded_list_that_is_not_to_be_trusted_is_not_used(data, tmp_path, harm):
    record_names(data)
    (folder,) = (data / "features/k").glob("index_*")
    if harm == "edited table":
        table = split_csv(data, "train")
        table.write_text("".join(table.read_text("utf-8").splitlines(True)[:2]), "utf-8")
    elif harm == "damaged names":
        (folder / "names.txt").write_bytes((folder / "names.txt").read_bytes().replace(b"deep/b", b"deep/x"))
    else:
        (folder / "manifest.json").unlink()
    look_again()
    assert listing(data, "train").files["size"].tolist() == ([100] if harm == "edited table" else [100, 101])


@pytest.mark.parametrize("put", [None, Path.mkdir])
def test_a_recording_that_is_no_file_is_named(data, tmp_path, put):
    path = tmp_path / "wavs/deep/b.wav"
    path.unlink()
    if put:
        put(path)
    with pytest.raises(UserError, match=f"recording {path} .*create_metadata_files.py"):
        listing(data, "train")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UserError, match="train_metadata.csv does not exist"):
        listing(tmp_path, "train")


def test_the_digest_of_the_embeddings_stands_until_the_next_look_and_covers_those_that_rows_name(tmp_path):
    folder = tmp_path / "embeddings/embeddings"
    folder.mkdir(parents=True)
    (tmp_path / "own.npy").write_bytes(b"1")
    clip = Clip("a", "ტექსტი", "s", 1.0, tmp_path / "a.wav", None)
    write_splits(tmp_path, {"train": [clip], "val": [clip], "test": []})
    nothing = embeddings_digest(tmp_path)
    (folder / "a.npy").write_bytes(b"1")
    assert embeddings_digest(tmp_path) == nothing
    look_again()
    given = embeddings_digest(tmp_path)
    write_splits(tmp_path, {"train": [replace(clip, embedding_path=tmp_path / "own.npy")], "val": [clip], "test": []})
    look_again()
    named = embeddings_digest(tmp_path)
    (tmp_path / "own.npy").write_bytes(b"12")
    look_again()
    assert len({nothing, given, named, embeddings_digest(tmp_path)}) == 4


# ── ahead ──


@pytest.fixture
def config(data, tmp_path, monkeypatch):
    """Of a project that is large enough to look ahead in."""
    monkeypatch.setattr(recordings, "LARGE", 0)
    (tmp_path / "base").mkdir()
    for name in BASE_FILES:
        (tmp_path / "base" / name).write_bytes(name.encode())
    return PretrainConfig(data_dir=str(data), base_model_path=str(tmp_path / "base"))


def nobody_may_look(monkeypatch):
    def look(*_):
        raise AssertionError("looked at again")

    monkeypatch.setattr(recordings, "_look", look)


def test_what_was_looked_at_ahead_is_not_looked_at_again(config, monkeypatch):
    found = listing(config.data_dir, "train"), listing(config.data_dir, "val"), embeddings_digest(config.data_dir)
    look_ahead(config)
    look_again()
    nobody_may_look(monkeypatch)
    seen = listing(config.data_dir, "train"), listing(config.data_dir, "val"), embeddings_digest(config.data_dir)
    assert [part.digest for part in seen[:2]] == [part.digest for part in found[:2]] and seen[2] == found[2]
    assert seen[0].files["size"].tolist() == [100, 101] and seen[0].files["changed"].tolist() == [10**18, 10**18 + 1]


def test_a_table_that_is_edited_meanwhile_is_looked_at_again(config, data):
    look_ahead(config)
    table = split_csv(data, "train")
    table.write_text("".join(table.read_text("utf-8").splitlines(True)[:2]), "utf-8")
    look_again()
    assert listing(data, "train").files["size"].tolist() == [100]


def test_what_cannot_be_read_ahead_is_said_when_it_is_asked_for(config, tmp_path, capfd):
    (tmp_path / "wavs/c.wav").unlink()
    look_ahead(config)
    look_again()
    assert listing(config.data_dir, "train").files["size"].tolist() == [100, 101]
    with pytest.raises(UserError, match="recording .*c.wav .*not on the disk"):
        listing(config.data_dir, "val")
    assert capfd.readouterr().err == ""


def test_a_look_ahead_that_is_killed_costs_nothing_but_its_time(config):
    look_ahead(config)
    ((process, _),) = recordings._ahead
    process.kill()
    look_again()
    assert listing(config.data_dir, "train").files["size"].tolist() == [100, 101]


def test_ctrl_c_in_a_terminal_is_not_for_the_process_that_looks_ahead(config):
    look_ahead(config)
    ((process, _),) = recordings._ahead
    assert os.getpgid(process.pid) != os.getpgid(0)
    look_again()


def test_a_small_project_is_not_looked_at_ahead(data, tmp_path):
    look_ahead(PretrainConfig(data_dir=str(data), base_model_path=str(tmp_path)))
    assert not recordings._ahead
