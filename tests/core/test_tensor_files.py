"""Pickles, torch files and safetensors: they come back, and damaged or hostile ones are refused."""

import errno
import os
import pickle
import resource
import struct
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtts_ka.core import files, tensor_files
from xtts_ka.core.errors import UserError


def listing(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


class Hostile:
    """Unpickling it would run a command that leaves a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_pickle_of_builtins_is_read_back_also_by_pickle_load(tmp_path):
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
def test_other_types_are_not_written(tmp_path, value):
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
def test_a_pickle_that_asks_for_gigabytes_takes_no_memory(tmp_path, bomb):
    (tmp_path / "a.pkl").write_bytes(bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="not a safe, whole pickle"):
        tensor_files.read_pickle(tmp_path / "a.pkl")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB


def test_a_missing_pickle_names_the_remedy(tmp_path):
    with pytest.raises(UserError, match="does not exist: run the stage that writes it"):
        tensor_files.read_pickle(tmp_path / "none.pkl")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def test_torch_files_are_read_back(tmp_path):
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


def test_a_torch_file_cut_short_is_a_user_error_wherever_it_was_cut(tmp_path):
    import torch

    torch.save({"voice": torch.arange(3000.0)}, tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    for length in range(0, len(content), 97):
        (tmp_path / "a.pt").write_bytes(content[:length])
        with pytest.raises(UserError, match="a.pt"):
            tensor_files.load_torch(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore")
def test_damaged_torch_files_are_user_errors(tmp_path):
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
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_in_torch_files_raise_user_errors_only(tmp_path, data):
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


def test_tensors_are_read_back_from_bytes_and_damage_is_a_user_error():
    torch = pytest.importorskip("torch")
    data = tensor_files.tensors_to_bytes({"w": torch.arange(6).reshape(2, 3).T})
    assert tensor_files.tensors_from_bytes(data)["w"].tolist() == [[0, 3], [1, 4], [2, 5]]
    for damaged in (b"", data[:20], data[:-1], b"\xff" * len(data), "text", None):
        with pytest.raises(UserError, match="the tensors of a results file are damaged"):
            tensor_files.tensors_from_bytes(damaged)


def test_a_safetensors_file_equals_the_bytes_and_has_the_permissions_of_any_other_file(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {
        "w": torch.arange(6).reshape(2, 3),
        "step": torch.tensor(3.0),
        "half": torch.ones(5, dtype=torch.bfloat16),
    }
    tensor_files.save_tensors(tmp_path / "w.safetensors", tensors)
    files.write_text(tmp_path / "other", "")
    assert (tmp_path / "w.safetensors").read_bytes() == tensor_files.tensors_to_bytes(tensors)
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert sorted(file.name for file in tmp_path.iterdir()) == ["other", "w.safetensors"]


def test_torch_on_a_full_disk_raises_an_os_error(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")

    def onto_the_full_device(path, mode):
        Path(path).touch()
        return open("/dev/full", mode)

    monkeypatch.setattr(tensor_files, "open", onto_the_full_device, raising=False)
    with pytest.raises(OSError) as caught:
        tensor_files.save_torch(tmp_path / "w.pth", {"w": torch.zeros(100_000)})
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "w.pth")
    assert listing(tmp_path) == []
