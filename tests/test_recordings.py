import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import recordings
from console import UserError
from metadata_table import Clip, read_rows, split_csv, write_splits
from recordings import embeddings_digest, listing, look_again
from small_index import LIMITS
from stage_ledger import file_digest
from training_index import RECORD, build_index


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

    build_index(data / "features" / "k", "train", {"table": file_digest(split_csv(data, "train"))},
                ((row, 0) for row in read_rows(data, "train")), find, lambda texts: [[1]] * len(texts), LIMITS)


def test_sizes_and_times_of_every_row_s_recording(data):
    seen = listing(data, "train")
    assert seen.sizes.tolist() == [100, 101] and seen.changed.tolist() == [10**18, 10**18 + 1]
    assert listing(data, "val").sizes.tolist() == [102]


def test_an_answer_stands_until_told_to_look_again(data, tmp_path):
    first = listing(data, "train")
    (tmp_path / "wavs/ა.wav").write_bytes(b"edited")
    assert listing(data, "train") is first
    look_again()
    assert listing(data, "train").digest != first.digest and listing(data, "train").sizes[0] == 6


@pytest.mark.parametrize("change", [lambda wavs: (wavs / "ა.wav").write_bytes(bytes(99)),
                                    lambda wavs: os.utime(wavs / "deep/b.wav", ns=(0, 7))])
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
    assert listing(data, "train").digest == before.digest and listing(data, "train").sizes.tolist() == [100, 101]


@pytest.mark.parametrize("harm", ["edited table", "damaged names", "no manifest"])
def test_a_recorded_list_that_is_not_to_be_trusted_is_not_used(data, tmp_path, harm):
    record_names(data)
    folder, = (data / "features/k").glob("index_*")
    if harm == "edited table":
        table = split_csv(data, "train")
        table.write_text("".join(table.read_text("utf-8").splitlines(True)[:2]), "utf-8")
    elif harm == "damaged names":
        (folder / "names.txt").write_bytes((folder / "names.txt").read_bytes().replace(b"deep/b", b"deep/x"))
    else:
        (folder / "manifest.json").unlink()
    look_again()
    assert listing(data, "train").sizes.tolist() == ([100] if harm == "edited table" else [100, 101])


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
