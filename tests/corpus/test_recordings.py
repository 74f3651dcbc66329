"""Which recordings and embeddings there are, and whether they have changed."""

import os
import shutil
from dataclasses import replace

import pytest

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.recordings import embeddings_digest, listing, look_again
from xtts_ka.corpus.tables import Clip, split_csv, write_splits


@pytest.fixture(autouse=True)
def nothing_remembered():
    look_again()


@pytest.fixture
def data(tmp_path):
    """A data folder with two recordings to train on and one for validation."""
    clips = []
    for number, name in enumerate(("ა.wav", "deep/b.wav", "c.wav")):
        path = tmp_path / "wavs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100 + number))
        os.utime(path, ns=(0, 10**18 + number))
        clips.append(Clip(f"c{number}", "ტექსტი", "nino", 1.0, path, None))
    write_splits(tmp_path / "data", {"train": clips[:2], "val": clips[2:], "test": []}, [tmp_path / "wavs"])
    return tmp_path / "data"


def test_a_listing_has_size_and_time_of_every_recording_in_the_order_of_the_table(data):
    seen = listing(data, "train")
    assert seen.files["size"].tolist() == [100, 101] and seen.files["changed"].tolist() == [10**18, 10**18 + 1]
    assert listing(data, "val").files["size"].tolist() == [102]


def test_a_listing_is_remembered_until_look_again(data, tmp_path):
    first = listing(data, "train")
    (tmp_path / "wavs/ა.wav").write_bytes(b"edited")
    assert listing(data, "train") is first
    look_again()
    assert listing(data, "train").digest != first.digest and listing(data, "train").files["size"][0] == 6


@pytest.mark.parametrize(
    "change",
    [lambda wavs: (wavs / "ა.wav").write_bytes(bytes(99)), lambda wavs: os.utime(wavs / "deep/b.wav", ns=(0, 7))],
)
def test_the_digest_changes_with_size_and_with_time(data, tmp_path, change):
    before = listing(data, "train").digest, listing(data, "val").digest
    change(tmp_path / "wavs")
    look_again()
    assert listing(data, "train").digest != before[0] and listing(data, "val").digest == before[1]


def test_the_digest_is_the_one_that_older_stage_records_hold(data):
    assert listing(data, "train").digest == "f98b5c2fceff1f0ac3af33b55342feeefad4e725a05e0e72ea874a4dae226c2e"


def test_the_digest_does_not_change_with_the_texts_or_the_place_of_the_project(data, tmp_path):
    before = listing(data, "train").digest
    table = split_csv(data, "train")
    table.write_text(table.read_text("utf-8").replace("ტექსტი", "სხვა"), "utf-8")
    look_again()
    assert listing(data, "train").digest == before
    shutil.copytree(tmp_path, tmp_path.with_name("elsewhere"), copy_function=shutil.copy2)
    assert listing(tmp_path.with_name("elsewhere") / "data", "train").digest == before


@pytest.mark.parametrize("instead", ["nothing", "a folder", "no folder above it"])
def test_a_recording_that_is_not_there_is_named(data, tmp_path, instead):
    path = tmp_path / "wavs/deep/b.wav"
    path.unlink()
    if instead == "a folder":
        path.mkdir()
    elif instead == "no folder above it":
        path.parent.rmdir()
        path.parent.touch()
    with pytest.raises(UserError, match=f"recording {path} .*create_metadata_files.py"):
        listing(data, "train")


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(UserError, match="train_metadata.csv does not exist"):
        listing(tmp_path, "train")


def test_the_digest_of_the_embeddings_covers_the_folder_and_the_files_that_rows_name(data, tmp_path):
    def fresh_digest() -> str:
        look_again()
        return embeddings_digest(data)

    digests = [fresh_digest()]
    folder = data / "embeddings/embeddings"
    folder.mkdir(parents=True)
    (folder / "a.npy").write_bytes(b"1")
    assert embeddings_digest(data) == digests[0]  # remembered
    digests.append(fresh_digest())
    own = data / "own.npy"
    own.write_bytes(b"1")
    clips = [Clip(name, "ტექსტი", "nino", 1.0, tmp_path / "wavs/c.wav", None) for name in "ab"]
    named = {"train": [replace(clips[0], embedding_path=own)], "val": clips[1:], "test": []}
    write_splits(data, named, [tmp_path / "wavs"])
    digests.append(fresh_digest())
    own.write_bytes(b"12")
    digests.append(fresh_digest())
    assert len(set(digests)) == 4
