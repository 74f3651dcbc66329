"""The choice and description of the device, and the context that runs torch on one thread."""

from types import SimpleNamespace

import pytest
import torch

from xtts_ka.core import torch_settings
from xtts_ka.core.errors import RunError
from xtts_ka.core.torch_settings import choose_device, describe_device, one_thread


def test_with_a_gpu_auto_is_cuda_and_other_names_stay(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    names = ("auto", "cpu", "cuda", "cuda:1")
    assert [choose_device(name) for name in names] == ["cuda", "cpu", "cuda", "cuda:1"]


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch_settings, "NVIDIA_DRIVER", tmp_path / "missing")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [choose_device(name) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    assert capsys.readouterr().err == ""
    with pytest.raises(RunError, match="device is 'cuda:1' but PyTorch sees no CUDA GPU: set it to cpu or auto"):
        choose_device("cuda:1")


@pytest.fixture
def old_driver(monkeypatch, tmp_path):
    """An NVIDIA card whose driver is too old for this PyTorch."""

    def init():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update it")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch_settings, "NVIDIA_DRIVER", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_a_card_that_torch_cannot_drive_is_a_loud_warning_under_auto(old_driver, capsys):
    assert choose_device("auto") == "cpu"
    said = capsys.readouterr().err
    assert (
        "warning: THE GPU IS NOT USED" in said and "is too old (found version 11040)): update the NVIDIA driver" in said
    )
    assert choose_device("cpu") == "cpu" and capsys.readouterr().err == ""


def test_a_card_that_torch_cannot_drive_is_an_error_under_cuda(old_driver):
    with pytest.raises(
        RunError, match="device is 'cuda' but PyTorch .* cannot drive .*11040.*: update the NVIDIA driver"
    ):
        choose_device("cuda")


def test_nvidia_smi_alone_tells_of_a_card_and_a_torch_without_cuda_says_so(old_driver, monkeypatch, tmp_path, capsys):
    def init():
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch_settings, "NVIDIA_DRIVER", tmp_path / "missing")
    (tmp_path / "nvidia-smi").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose_device("auto") == "cpu"
    assert "(Torch not compiled with CUDA enabled)" in capsys.readouterr().err


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_card_that_the_user_hides_is_not_missed(old_driver, monkeypatch, capsys, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert choose_device("auto") == "cpu" and capsys.readouterr().err == ""


def test_the_device_is_described_with_name_memory_and_precision(monkeypatch):
    card = SimpleNamespace(name="NVIDIA L4", total_memory=22.5 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    assert describe_device(torch.device("cuda"), "bf16") == "NVIDIA L4, 22.5 GiB, bf16"
    with one_thread():
        assert describe_device(torch.device("cpu"), "float32", 2) == "CPU, 1 thread, float32, 2 processes"


def test_one_thread_restores_the_number_of_threads_even_after_an_error():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ZeroDivisionError), one_thread():
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
