"""Writes that are whole or absent, reads that execute nothing, manifests that notice."""

import errno
import hashlib
import json
import os
import pickle
import resource
import signal
import struct
import subprocess
import sys
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtts_ka.core import digests, jsonl, tensor_files
from xtts_ka.core import files as artifacts
from xtts_ka.core.errors import UserError

ROOT = Path(__file__).parents[2]


def python(script: str, *arguments: object) -> subprocess.CompletedProcess:
    head = f"import os, signal, sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\nfrom xtts_ka.core import files as artifacts\n"
    return subprocess.run(
        [sys.executable, "-c", head + script, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def listing(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


# ── atomic writes ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_write_replaces_the_file_and_leaves_nothing_else(tmp_path):
    artifacts.write_text(tmp_path / "new" / "a.txt", "one")
    artifacts.write_text(tmp_path / "new" / "a.txt", "ორი")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "ორი".encode()
    assert listing(tmp_path / "new") == ["a.txt"]


def test_a_reader_of_the_old_file_goes_on_reading_the_old_file(tmp_path):
    artifacts.write_text(tmp_path / "a.txt", "old")
    with open(tmp_path / "a.txt") as reader:
        artifacts.write_text(tmp_path / "a.txt", "new")
        assert reader.read() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"


def test_an_error_in_the_middle_keeps_the_old_file(tmp_path):
    artifacts.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError):
        with artifacts.atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            1 / 0
    assert (tmp_path / "a.txt").read_text() == "old" and listing(tmp_path) == ["a.txt"]


def test_a_kill_in_the_middle_keeps_the_old_file_and_what_is_left_is_swept(tmp_path):
    artifacts.write_text(tmp_path / "a.txt", "old")
    killed = python(
        "with artifacts.atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)",
        tmp_path / "a.txt",
    )
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "a.txt").read_text() == "old" and len(listing(tmp_path)) == 2
    artifacts.sweep_partials(tmp_path)
    assert listing(tmp_path) == ["a.txt"]


def test_a_killed_folder_never_appears_under_its_name(tmp_path):
    killed = python(
        "with artifacts.atomic_folder(Path(sys.argv[1])) as temporary:\n"
        "    (temporary / 'x').write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)",
        tmp_path / "step_00000001",
    )
    assert killed.returncode == -signal.SIGKILL
    assert listing(tmp_path) != [] and not (tmp_path / "step_00000001").exists()
    artifacts.sweep_partials(tmp_path)
    assert listing(tmp_path) == []


def test_writers_killed_at_any_moment_leave_old_or_new(tmp_path):
    """A child rewrites one file for ever with one letter repeated; whenever it dies, the file is of one letter."""
    script = (
        "n = 0\nwhile True:\n    n += 1\n    artifacts.write_text(Path(sys.argv[1]), 'ab'[n % 2] * 200_000)\n"
        "    print(n, flush=True)"
    )
    head = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\nfrom xtts_ka.core import files as artifacts\n"
    for turns in (1, 3, 7, 12):
        with subprocess.Popen(
            [sys.executable, "-c", head + script, str(tmp_path / "a.txt")], text=True, stdout=subprocess.PIPE
        ) as child:
            for _ in range(turns):
                child.stdout.readline()
            child.kill()
        assert (tmp_path / "a.txt").read_text() in ("a" * 200_000, "b" * 200_000)
        artifacts.sweep_partials(tmp_path)
        assert listing(tmp_path) == ["a.txt"]


def test_a_folder_appears_whole_and_never_over_another(tmp_path):
    with artifacts.atomic_folder(tmp_path / "step") as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "x").write_text("x")
        assert not (tmp_path / "step").exists()
    assert (tmp_path / "step" / "deep" / "x").read_text() == "x"
    with pytest.raises(OSError):
        with artifacts.atomic_folder(tmp_path / "step") as temporary:
            (temporary / "y").write_text("y")
    assert listing(tmp_path) == ["step"] and listing(tmp_path / "step") == ["deep"]


def test_sweeping_touches_only_what_a_writer_left(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("p")
    folder = tmp_path / "folder"
    (folder / ".step_00000500.77.partial" / "deep").mkdir(parents=True)
    (folder / ".a.txt.12.partial").write_text("left")
    (folder / ".link.13.partial").symlink_to(outside)
    for kept in ("download.partial", ".notes.partial", ".a.txt.12.partial.bak", "a.txt"):
        (folder / kept).write_text("kept")
    artifacts.sweep_partials(folder)
    artifacts.sweep_partials(tmp_path / "missing")
    assert listing(folder) == [".a.txt.12.partial.bak", ".notes.partial", "a.txt", "download.partial"]
    assert (outside / "precious").read_text() == "p"


# ── a full disk ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_full_disk_keeps_the_old_file_and_names_it(tmp_path, monkeypatch):
    artifacts.write_text(tmp_path / "a.txt", "old")

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError) as caught:
        artifacts.write_text(tmp_path / "a.txt", "new")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old" and listing(tmp_path) == ["a.txt"]


def test_torch_on_a_full_disk_is_an_os_error_too(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")

    def onto_the_full_device(path, mode):
        Path(path).touch()
        return open("/dev/full", mode)

    monkeypatch.setattr(tensor_files, "open", onto_the_full_device, raising=False)
    with pytest.raises(OSError) as caught:
        tensor_files.save_torch(tmp_path / "w.pth", {"w": torch.zeros(100_000)})
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "w.pth")
    assert listing(tmp_path) == []


# ── JSON and JSONL ──────────────────────────────────────────────────────────────────────────────────────────


def test_json_is_readable_and_survives_odd_file_names(tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    artifacts.write_json(tmp_path / "a.json", {"ენა": "ქართული", "path": odd})
    assert '"ენა": "ქართული"' in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert artifacts.read_json(tmp_path / "a.json") == {"ენა": "ქართული", "path": odd}


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert artifacts.read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"9" * 5000, b"[" * 100_000, b'{"a": }'])
def test_damaged_json_is_one_sentence(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match="report .*a.json is not valid JSON .*: write it again"):
        artifacts.read_json(tmp_path / "a.json", "report", "write it again")


def test_missing_json_and_a_folder_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="report .* does not exist: write it again"):
        artifacts.read_json(tmp_path / "none.json", "report", "write it again")
    with pytest.raises(UserError, match="report .* cannot be read"):
        artifacts.read_json(tmp_path, "report")


def test_jsonl_lines_stand_one_after_the_other(tmp_path):
    for step in range(3):
        jsonl.append_jsonl(tmp_path / "log" / "m.jsonl", {"step": step})
    lines = (tmp_path / "log" / "m.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]
    assert list(jsonl.read_jsonl(tmp_path / "log" / "m.jsonl")) == [{"step": 0}, {"step": 1}, {"step": 2}]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_line_is_found(tmp_path, at, bit):
    """A digit that became another is no longer believed; only the name of the checksum itself may change unseen."""
    log = tmp_path / "m.jsonl"
    log.unlink(missing_ok=True)
    record = {"step": 12, "loss": 3.4217, "split": "val", "note": "ქართული"}
    jsonl.append_jsonl(log, record)
    raw = bytearray(log.read_bytes())
    raw[at % len(raw)] ^= 1 << bit
    log.write_bytes(raw)
    assert all(found.items() >= record.items() for found in jsonl.read_jsonl(log))


def test_a_line_without_a_checksum_is_believed(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"step": 2, "crc": "00000000"}\n')
    assert list(jsonl.read_jsonl(tmp_path / "m.jsonl")) == [{"step": 1}]


def test_a_torn_last_line_costs_only_itself(tmp_path):
    log = tmp_path / "m.jsonl"
    log.write_bytes(b'{"step": 0}\n{"step": 1, "lo')
    jsonl.append_jsonl(log, {"step": 2})
    assert log.read_bytes().startswith(b'{"step": 0}\n{"step": 1, "lo\n{"step": 2, ')
    assert [record["step"] for record in jsonl.read_jsonl(log)] == [0, 2]


def test_a_log_of_a_single_torn_byte_is_carried_on(tmp_path):
    (tmp_path / "m.jsonl").write_bytes(b"{")
    jsonl.append_jsonl(tmp_path / "m.jsonl", {"step": 1})
    assert (tmp_path / "m.jsonl").read_bytes().startswith(b'{\n{"step": 1, ')


def test_foreign_lines_are_passed_over(tmp_path):
    lines = [b"\0\0\0", b"\xff\xfe", b"[1]", b"7", b"", b"null", b"9" * 5000, b"[" * 100_000, b'{"step": 4}']
    (tmp_path / "m.jsonl").write_bytes(b"\n".join(lines))
    assert list(jsonl.read_jsonl(tmp_path / "m.jsonl")) == [{"step": 4}]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300))
def test_no_log_whatever_stops_its_reader_or_writer(tmp_path, raw):
    log = tmp_path / "m.jsonl"
    log.write_bytes(raw)
    before = list(jsonl.read_jsonl(log))
    jsonl.append_jsonl(log, {"step": 1})
    assert list(jsonl.read_jsonl(log)) == before + [{"step": 1}]


# ── pickles ─────────────────────────────────────────────────────────────────────────────────────────────────


class Hostile:
    """Unpickling it would run a command that leaves a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_pickle_of_builtins_comes_back_and_plain_pickle_reads_it(tmp_path):
    value = {"a": [1, 2.5, None, True], "b": (b"\0" * 9, "ენა"), "c": {"deep": [{}]}, "d": 2**80}
    tensor_files.write_pickle(tmp_path / "a.pkl", value)
    assert tensor_files.read_pickle(tmp_path / "a.pkl") == value
    with open(tmp_path / "a.pkl", "rb") as file:
        assert pickle.load(file) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path, protocol):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"metrics": Hostile(tmp_path / "ran")}, protocol=protocol))
    with pytest.raises(UserError, match=r"a.pkl is not a safe, whole pickle \(it names posix.system\)"):
        tensor_files.read_pickle(tmp_path / "a.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "raw",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"(i__main__\nX\n.",
        b"\x80\x02cos\nsystem\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93.",
        b"\x80\x02\x82\x01.",
        b"Pid\n.",
    ],
)
def test_every_way_to_name_a_global_is_refused(tmp_path, raw):
    (tmp_path / "a.pkl").write_bytes(raw)
    with pytest.raises(UserError, match="not a safe, whole pickle"):
        tensor_files.read_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("value", [Path("x"), OrderedDict(a=1), Counter("aab"), Hostile(Path("x"))])
def test_what_could_not_be_read_back_is_not_written(tmp_path, value):
    with pytest.raises(TypeError, match=f"builtins only, not {type(value).__name__}"):
        tensor_files.write_pickle(tmp_path / "a.pkl", {"metrics": [value]})
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x04Nr" + struct.pack("<I", 0x07FFFFFF) + b".",  # LONG_BINPUT: a memo of 2 GiB
        b"\x80\x04Np134217727\n.",  # PUT, in text
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",  # bytes of a tebibyte
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",  # a frame of a tebibyte
    ],
)
def test_a_pickle_bomb_takes_no_memory(tmp_path, bomb):
    (tmp_path / "a.pkl").write_bytes(bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="not a safe, whole pickle"):
        tensor_files.read_pickle(tmp_path / "a.pkl")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_a_missing_pickle_names_the_remedy(tmp_path):
    with pytest.raises(UserError, match="does not exist: run the stage that writes it"):
        tensor_files.read_pickle(tmp_path / "none.pkl")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_pickles_are_refused_or_builtins(tmp_path, data):
    raw = bytearray(pickle.dumps({"loss": [1.5] * 8, "words": {"ა": b"1234"}, "n": (1, None)}, protocol=4))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.pkl").write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        value = tensor_files.read_pickle(tmp_path / "a.pkl")
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert type(value).__module__ == "builtins"


# ── torch and tensors ───────────────────────────────────────────────────────────────────────────────────────


def test_torch_files_come_back(tmp_path):
    torch = pytest.importorskip("torch")
    tensor_files.save_torch(tmp_path / "w.pth", {"w": torch.arange(6.0).reshape(2, 3), "step": 7})
    for mmap in (False, True):
        loaded = tensor_files.load_torch(tmp_path / "w.pth", mmap=mmap)
        assert loaded["step"] == 7 and loaded["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert listing(tmp_path) == ["w.pth"]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_hostile_torch_file_is_refused_and_does_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"model": Hostile(tmp_path / "ran")}, tmp_path / "w.pth")
    with pytest.raises(
        UserError, match=r"not a safe, whole torch file \(it names posix.system\): fetch it again"
    ) as caught:
        tensor_files.load_torch(tmp_path / "w.pth", remedy="fetch it again")
    assert "weights_only" not in str(caught.value)  # torch's advice to load it anyway is not passed on
    (tmp_path / "p.pth").write_bytes(pickle.dumps({"model": Hostile(tmp_path / "ran")}))
    with pytest.raises(UserError, match="not a safe, whole torch file"):
        tensor_files.load_torch(tmp_path / "p.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore")
def test_damaged_torch_files_are_one_sentence(tmp_path):
    torch = pytest.importorskip("torch")
    file = tmp_path / "w.pth"
    tensor_files.save_torch(file, {"w": torch.ones(64)})
    whole = file.read_bytes()
    ones = struct.pack("<64f", *[1.0] * 64)
    other = whole.replace(ones, b"\1" + ones[1:])  # a weight that torch would load as another
    for damaged in (b"", b"garbage" * 50, whole[: len(whole) // 2], whole[:-1], b"\0" * len(whole), whole[100:], other):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="not a safe, whole torch file") as caught:
            tensor_files.load_torch(file)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="does not exist"):
        tensor_files.load_torch(tmp_path / "none.pth")


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_in_torch_files_never_raise_anything_else(tmp_path, data):
    torch = pytest.importorskip("torch")
    file = tmp_path / "whole.pth"
    if not file.exists():
        tensor_files.save_torch(file, {"w": torch.ones(8), "names": ["a", "b"]})
    raw = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "flipped.pth").write_bytes(raw)
    try:
        tensor_files.load_torch(tmp_path / "flipped.pth")
    except UserError as error:
        assert "\n" not in str(error)


def test_a_compressed_torch_file_is_refused_before_it_inflates(tmp_path):
    torch = pytest.importorskip("torch")
    tensor_files.save_torch(tmp_path / "w.pth", {"w": torch.zeros(1000)})
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as whole,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in whole.namelist():
            bomb.writestr(member, whole.read(member))
    with pytest.raises(UserError, match="its members are compressed"):
        tensor_files.load_torch(tmp_path / "bomb.pth")


def test_tensors_travel_as_bytes_and_damage_is_one_sentence():
    torch = pytest.importorskip("torch")
    data = tensor_files.tensors_to_bytes({"w": torch.arange(6).reshape(2, 3).T}, {"kind": "test"})
    assert tensor_files.tensors_from_bytes(data)["w"].tolist() == [[0, 3], [1, 4], [2, 5]]
    for damaged in (b"", data[:20], data[:-1], b"\xff" * len(data), "text", None):
        with pytest.raises(UserError, match="the weights of x are damaged"):
            tensor_files.tensors_from_bytes(damaged, "the weights of x")


def test_a_file_of_tensors_is_what_the_bytes_are_and_readable_for_those_who_may_read_any_other(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {
        "w": torch.arange(6).reshape(2, 3),
        "step": torch.tensor(3.0),
        "half": torch.ones(5, dtype=torch.bfloat16),
    }
    tensor_files.save_tensors(tmp_path / "w.safetensors", tensors)
    artifacts.write_text(tmp_path / "other", "")
    assert (tmp_path / "w.safetensors").read_bytes() == tensor_files.tensors_to_bytes(tensors)
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other", "w.safetensors"]


# ── hashes and manifests ────────────────────────────────────────────────────────────────────────────────────


def test_hashes_are_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert digests.hash_file(tmp_path / "abc") == known
    assert digests.hash_value({"b": 1, "a": [1, "ა"]}) == digests.hash_value({"a": [1, "ა"], "b": 1})
    assert digests.hash_value({"a": 1}) != digests.hash_value({"a": "1"})
    assert digests.hash_value("abc") == hashlib.sha256(b'"abc"').hexdigest()
    assert digests.hash_value(os.fsdecode(b"\xff"))  # an odd file name has a hash too


def test_a_listing_changes_with_names_sizes_and_dates(tmp_path):
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


def test_a_sound_manifest_gives_its_facts(checkpoint):
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


def test_every_kind_of_damage_to_the_files_has_its_reason(checkpoint):
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


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
