"""Hashes, and the manifest of a folder."""

import hashlib
import json
import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtts_ka.core import digests


def test_hashes_are_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert digests.hash_file(tmp_path / "abc") == known
    assert digests.hash_value({"b": 1, "a": [1, "ა"]}) == digests.hash_value({"a": [1, "ა"], "b": 1})
    assert digests.hash_value({"a": 1}) != digests.hash_value({"a": "1"})
    assert digests.hash_value("abc") == hashlib.sha256(b'"abc"').hexdigest()
    assert digests.hash_value(os.fsdecode(b"\xff"))  # an odd file name has a hash too


def test_a_listing_hash_changes_with_names_sizes_and_times(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    files = [tmp_path / "b", tmp_path / "a"]
    first = digests.hash_listing(files, tmp_path)
    assert digests.hash_listing(reversed(files), tmp_path) == first
    os.utime(tmp_path / "a", ns=(0, 1))
    second = digests.hash_listing(files, tmp_path)
    (tmp_path / "b").rename(tmp_path / "c")
    third = digests.hash_listing([tmp_path / "a", tmp_path / "c"], tmp_path)
    assert len({first, second, third}) == 3


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "step_00000500"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    (folder / "deep" / "manifest.json").write_text("a file like any other")
    digests.write_manifest(folder, {"schema": 1, "step": 500, "val_loss": 2.25})
    return folder


def test_a_manifest_is_read_back(checkpoint):
    manifest, reason = digests.read_manifest(checkpoint)
    assert reason == "" and manifest["step"] == 500 and manifest["val_loss"] == 2.25
    assert manifest["files"]["model.safetensors"] == {
        "bytes": 256,
        "sha256": hashlib.sha256(bytes(range(256))).hexdigest(),
    }
    assert set(manifest["files"]) == {"model.safetensors", "deep/manifest.json"}


def test_a_manifest_without_a_checksum_is_read_too(checkpoint):
    manifest, _ = digests.read_manifest(checkpoint)
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    assert digests.read_manifest(checkpoint) == (manifest, "")


def test_each_kind_of_damage_to_a_file_is_named(checkpoint):
    file = checkpoint / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert digests.read_manifest(checkpoint) == (None, "model.safetensors is 255 bytes, not 256")
    file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert digests.read_manifest(checkpoint) == (None, "model.safetensors does not match its checksum")
    assert digests.read_manifest(checkpoint, hashes=False)[1] == ""
    file.unlink()
    assert digests.read_manifest(checkpoint) == (None, "model.safetensors is missing")
    file.mkdir()
    assert digests.read_manifest(checkpoint) == (None, "model.safetensors is missing")


def test_a_missing_manifest_is_an_unfinished_write(checkpoint):
    (checkpoint / "manifest.json").unlink()
    assert digests.read_manifest(checkpoint) == (None, "manifest.json is missing (an unfinished write)")


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "deep/../../outside"])
def test_a_manifest_that_names_a_file_outside_is_refused(checkpoint, name):
    (checkpoint.parent / "outside").write_bytes(b"abc")
    entry = {"bytes": 3, "sha256": hashlib.sha256(b"abc").hexdigest()}
    (checkpoint / "manifest.json").write_text(json.dumps({"step": 1, "files": {name: entry}}))
    assert digests.read_manifest(checkpoint) == (None, f"manifest.json names {name}, which is outside the folder")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"files": []}',
        b'{"files": {"a": 1}}',
        b"\xff",
        b"9" * 5000,
        b'{"files": {"a": {"bytes": Infinity, "sha256": ""}}}',
        b"[" * 100_000,
    ],
)
def test_a_garbage_manifest_is_damaged(checkpoint, content):
    (checkpoint / "manifest.json").write_bytes(content)
    assert digests.read_manifest(checkpoint) == (None, "manifest.json is damaged")


def test_a_manifest_that_cannot_be_read_says_so(checkpoint):
    (checkpoint / "manifest.json").unlink()
    (checkpoint / "manifest.json").mkdir()
    assert digests.read_manifest(checkpoint)[1].startswith("manifest.json cannot be read")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_bit_in_a_manifest_is_found_or_harmless(checkpoint, data):
    sound = checkpoint.parent / "sound.json"
    if not sound.exists():
        sound.write_bytes((checkpoint / "manifest.json").read_bytes())
    raw = bytearray(sound.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (checkpoint / "manifest.json").write_bytes(raw)
    manifest, reason = digests.read_manifest(checkpoint)
    if reason == "":
        facts = json.loads(sound.read_text())
        assert all(manifest[key] == facts[key] for key in ("schema", "step", "val_loss", "files"))


def test_a_settled_file_is_hashed_once_and_again_when_touched(tmp_path, monkeypatch):
    file = tmp_path / "big.bin"
    file.write_bytes(b"abc")
    calls = []
    whole = digests.hash_file
    monkeypatch.setattr(digests, "hash_file", lambda path: calls.append(path) or whole(path))
    expected = hashlib.sha256(b"abc").hexdigest()
    assert digests.file_digest(file) == digests.file_digest(file) == expected
    assert len(calls) == 2  # too fresh to be remembered
    monkeypatch.setattr(digests, "SETTLED_SECONDS", 0.01)
    time.sleep(0.05)
    assert digests.file_digest(file) == digests.file_digest(file) == expected
    assert len(calls) == 3
    file.write_bytes(b"abd")
    assert digests.file_digest(file) == hashlib.sha256(b"abd").hexdigest()
