"""Reading the user's voice embeddings: formats, names, and files that are damaged or hostile."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mutations import mutated

from xtts_ka.core.errors import UserError
from xtts_ka.corpus import tables
from xtts_ka.corpus.embedding_files import FOLDER, read_given
from xtts_ka.corpus.tables import Clip

TAKES = 5  # of each of five speakers


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A data folder and the clips u00 … u44 of the speakers s0 … s4; the recordings themselves are not needed."""
    data = tmp_path_factory.mktemp("voices") / "data"
    names = [(speaker, take) for speaker in range(5) for take in range(TAKES)]
    audio = data / "split/train/audio"
    return data, [Clip(f"u{s}{t}", "ერთი", f"s{s}", 1.1, audio / f"u{s}{t}.wav", None) for s, t in names]


@pytest.fixture
def given_folder(recordings):
    """The embeddings folder, empty before and after."""
    folder = recordings[0] / FOLDER
    shutil.rmtree(recordings[0] / "embeddings", ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(recordings[0] / "embeddings")


VECTOR = np.array([0.5, -2.0, 3.0], np.float32)


def write(path: Path, value) -> None:
    """One vector, or a dictionary of them, in the format that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    named = isinstance(value, dict)
    if path.suffix == ".npy":
        np.save(path, value)
    elif path.suffix == ".npz":
        np.savez(path, **value) if named else np.savez(path, value)
    elif path.suffix == ".json":
        path.write_text(json.dumps({k: v.tolist() for k, v in value.items()} if named else value.tolist()))
    else:
        torch.save({k: torch.tensor(v) for k, v in value.items()} if named else torch.tensor(value), path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".pth", ".json"])
@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 3, 1)])
def test_one_vector_a_file(recordings, given_folder, suffix, shape):
    data, clips = recordings
    write(given_folder / f"u10{suffix}", VECTOR.reshape(shape))  # by file_id
    write(given_folder / f"s2{suffix}", 2 * VECTOR.reshape(shape))  # by speaker
    write(given_folder / "audio" / f"u11{suffix}", 3 * VECTOR.reshape(shape))  # by folder and name
    write(given_folder / f"nobody{suffix}", VECTOR.reshape(shape))
    found = read_given(data, clips)
    assert found.width == 3 and found.files == 4 and found.utterances.keys() == {"u10", "u11"}
    np.testing.assert_array_equal(found.utterances["u11"], 3 * VECTOR)
    np.testing.assert_array_equal(found.speakers["s2"], 2 * VECTOR)
    assert found.utterances["u10"].dtype == np.float32
    assert len(found.unused) == 1 and "nobody" in found.unused[0]


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".pth", ".json"])
def test_many_vectors_a_file(recordings, given_folder, suffix):
    data, clips = recordings
    vectors = {"u00": VECTOR, "u01.wav": 2 * VECTOR, "s3": 3 * VECTOR, "who": VECTOR}
    write(given_folder / f"all{suffix}", vectors)
    found = read_given(data, clips)
    assert found.utterances.keys() == {"u00", "u01"} and found.speakers.keys() == {"s3"}
    assert len(found.unused) == 1 and "who" in found.unused[0]


def test_coqui_speaker_files(recordings, given_folder):
    data, clips = recordings
    embedding = torch.tensor(VECTOR).reshape(1, 3, 1)
    voice = {"gpt_cond_latent": torch.zeros(1, 32, 8), "speaker_embedding": embedding}
    torch.save({"s0": voice}, given_folder / "speakers_xtts.pth")
    old = {"wavs/u12.wav": {"name": "s1", "embedding": VECTOR.tolist()}}
    (given_folder / "d_vectors.json").write_text(json.dumps(old))
    found = read_given(data, clips)
    assert found.speakers.keys() == {"s0"} and found.utterances.keys() == {"u12"}


def test_embedding_path_and_shared_audio_names(recordings, given_folder):
    data, _ = recordings
    write(given_folder / "x.npy", VECTOR)
    write(given_folder / "take.npy", VECTOR)
    pathed = [
        Clip("a", "ა", "s0", 1.0, data / "p" / "take.wav", given_folder / "x.npy"),
        Clip("b", "ა", "s1", 1.0, data / "q" / "take.wav", None),
    ]
    found = read_given(data, pathed)
    assert found.utterances.keys() == {"a"} and "take" in found.unused[0]  # two recordings bear it
    write(given_folder / "q" / "take.pt", VECTOR)
    assert read_given(data, pathed).utterances.keys() == {"a", "b"}
    (given_folder / "x.npy").unlink()
    with pytest.raises(UserError, match="x.npy does not exist"):
        read_given(data, pathed)


def test_vectors_of_other_splits_are_known_and_not_kept(recordings, given_folder):
    data, clips = recordings
    for name in ("u00", "u10", "s4", "nobody"):
        np.save(given_folder / f"{name}.npy", VECTOR)
    found = read_given(data, clips[:TAKES], clips[TAKES:])
    assert found.utterances.keys() == {"u00"} and not found.speakers and found.elsewhere == 2
    assert len(found.unused) == 1 and "nobody" in found.unused[0]


def test_links_that_leave_the_data_folder_are_refused(recordings, given_folder, tmp_path):
    np.save(tmp_path / "u00.npy", VECTOR)
    os.symlink(tmp_path / "u00.npy", given_folder / "u00.npy")
    with pytest.raises(UserError, match="u00.npy lies outside"):
        read_given(*recordings)


def test_vectors_in_a_folder_that_the_tables_may_point_into(tmp_path):
    data, own = tmp_path / "data", tmp_path / "vectors"
    write(own / "x.npy", VECTOR)
    clip = Clip("c1", "ა", "s0", 1.0, data / "c1.wav", own / "x.npy")
    (data / "embeddings").mkdir(parents=True)
    with pytest.raises(UserError, match="x.npy lies outside"):
        read_given(data, [clip])
    tables.write_splits(data, {"train": [clip], "val": [], "test": []}, [own])
    assert read_given(data, [clip]).utterances.keys() == {"c1"}
    (data / FOLDER).symlink_to(tmp_path)
    with pytest.raises(UserError, match="leads out of"):
        read_given(data, [clip])


def test_vectors_without_direction_are_named(recordings, given_folder):
    for name, value in (("u00", np.nan), ("u01", np.inf), ("u02", 0.0), ("u03", 1e200), ("u04", 1.0)):
        np.save(given_folder / f"{name}.npy", np.full(4, value))
    (given_folder / "u10.json").write_text("[NaN, 1, 2, 3]")
    found = read_given(*recordings)
    assert found.utterances.keys() == {"u04"}
    said = " ".join(found.unusable)
    assert len(found.unusable) == 5
    assert all(f"{name}." in said for name in ("u00", "u01", "u02", "u03", "u10"))


def refused(recordings, *words: str) -> None:
    with pytest.raises(UserError) as error:
        read_given(*recordings)
    assert all(word in str(error.value) for word in words), error.value


def test_widths_that_differ_and_vectors_given_twice(recordings, given_folder):
    np.save(given_folder / "u00.npy", np.ones(3))
    np.save(given_folder / "u01.npy", np.ones(4))
    refused(recordings, "u00.npy", "u01.npy", "3 numbers", "4")
    os.rename(given_folder / "u01.npy", given_folder / "u00.json")
    (given_folder / "u00.json").write_text("[1, 2, 3]")
    refused(recordings, "u00.npy", "u00.json", "u00")


class Bomb:
    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def test_nothing_hostile_runs(recordings, given_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    for name in ("u00.pt", "u00.pth", "u00.npy", "u00.npz", "u00.json"):
        (given_folder / name).write_bytes(pickle.dumps(Bomb()))
        refused(recordings, name)
        (given_folder / name).unlink()
    torch.save({"u00": Bomb()}, given_folder / "u00.pth")
    refused(recordings, "u00.pth")
    (given_folder / "u00.pth").unlink()
    np.save(given_folder / "u00.npy", np.array([Bomb(), 1], object), allow_pickle=True)
    refused(recordings, "u00.npy", "Object arrays")
    assert not (tmp_path / "exploded").exists()


def header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        header("(1000000000000,)"),
        header("(512, 100000)"),
        header("(3,)"),
        header("(-3,)"),
        header("()"),
        header("(1,)"),
        header("(3,)", "'|O'"),
        header("(3,)", "'<U9'"),
        header("(3,)", "[('a', '<f8')]"),
        header("(" * 3000),
        header("(3,)") + bytes(23),
        b"",
        b"\x93NUMPY",
    ],
)
def test_bad_array_headers(recordings, given_folder, content):
    (given_folder / "u00.npy").write_bytes(content)
    refused(recordings, "u00.npy")
    (given_folder / "u00.npy").unlink()
    with zipfile.ZipFile(given_folder / "u00.npz", "w") as archive:
        archive.writestr("a.npy", content)
    refused(recordings, "u00.npz")


def test_bombs_are_bounded(recordings, given_folder, monkeypatch):
    torch.save(torch.zeros(1).expand(10**12), given_folder / "u00.pt")  # a terabyte from four bytes
    refused(recordings, "u00.pt", "shape")
    (given_folder / "u00.pt").unlink()
    with zipfile.ZipFile(given_folder / "u00.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("a.npy", "w") as member:
            member.write(bytes(2**21))
    monkeypatch.setattr("xtts_ka.corpus.embedding_files.MAX_ARRAY_BYTES", 2**20)
    refused(recordings, "u00.npz", "MiB")
    os.rename(given_folder / "u00.npz", given_folder / "u00.pt")
    refused(recordings, "u00.pt", "MiB")
    (given_folder / "u00.pt").unlink()
    monkeypatch.setattr("xtts_ka.corpus.embedding_files.MAX_JSON_BYTES", 10)
    (given_folder / "u00.json").write_text("[1, 2, 3, 4, 5]")
    refused(recordings, "u00.json", "MiB")


@pytest.mark.parametrize(
    "value",
    [
        "[]",
        "{}",
        "3",
        "null",
        '"x"',
        "[1]",
        "[true, false]",
        '["1", "2"]',
        "[[1, 2], [3, 4]]",
        "[1, [2]]",
        "[1, 2",
        f"[1{'0' * 400}, 2]",
        '{"u00": {}}',
        '{"u00": "x"}',
        '{"embedding": {"a": {}}}',
        "[" * 100_000,
    ],
)
def test_bad_json(recordings, given_folder, value):
    (given_folder / "u00.json").write_text(value)
    refused(recordings, "u00.json")


def test_odd_tensors(recordings, given_folder):
    odd = [
        torch.ones(3, dtype=torch.complex64),
        torch.tensor([True, False]),
        torch.eye(3).to_sparse()[0],
        torch.ones(3, device="meta"),
        torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "text",
        [],
        {1.5: [1, 2]},
    ]
    for value in odd:
        torch.save(value, given_folder / "u00.pt")
        refused(recordings, "u00.pt")
    torch.save(torch.nn.Parameter(torch.ones(1, 3, dtype=torch.bfloat16)), given_folder / "u00.pt")
    assert read_given(*recordings).utterances["u00"].tolist() == [1, 1, 1]


keys = st.sampled_from(["u00", "s1", "embedding", "x"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


def read_or_refuse(recordings, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        found = read_given(*recordings)
    except UserError as error:
        assert path.name in str(error)
    else:
        vectors = [*found.utterances.values(), *found.speakers.values()]
        assert all(np.isfinite(vector).all() and vector.any() for vector in vectors)
    path.unlink()


@given(json_values)
def test_any_json_is_read_or_refused(recordings, given_folder, value):
    read_or_refuse(recordings, given_folder / "u00.json", json.dumps(value).encode())


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory):
    """Sound files of one vector and of several, as (suffix, bytes)."""
    folder = tmp_path_factory.mktemp("sound")
    for number, value in enumerate((VECTOR, {"u00": VECTOR, "s1": 2 * VECTOR})):
        for suffix in (".npy", ".npz", ".pt", ".json")[number:]:
            write(folder / f"{number}{suffix}", value)
    return [(path.suffix, path.read_bytes()) for path in sorted(folder.iterdir())]


@given(data=st.data())
def test_any_edit_of_a_sound_file_is_read_or_refused(recordings, given_folder, sound_files, data):
    suffix, content = data.draw(st.sampled_from(sound_files))
    edited = data.draw(mutated(content) | st.integers(0, len(content)).map(lambda end: content[:end]))
    read_or_refuse(recordings, given_folder / f"u00{suffix}", edited)
