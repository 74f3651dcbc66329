"""The choice of the device, and the context that runs torch on one thread."""

import pytest
import torch

from xtts_ka.core.errors import RunError
from xtts_ka.core.torch_settings import choose_device, one_thread


def test_with_a_gpu_auto_is_cuda_and_other_names_stay(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    names = ("auto", "cpu", "cuda", "cuda:1")
    assert [choose_device(name) for name in names] == ["cuda", "cpu", "cuda", "cuda:1"]


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [choose_device(name) for name in ("auto", "cpu")] == ["cpu", "cpu"]
    with pytest.raises(RunError, match="device is 'cuda:1' but PyTorch sees no CUDA GPU: set it to cpu or auto"):
        choose_device("cuda:1")


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
