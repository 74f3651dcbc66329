import pytest
import torch

from xtts_ka.core.errors import RunError
from xtts_ka.core.out_of_memory import in_pieces, is_out_of_memory

CPU = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8"
)


def sums_of(items, most):
    """(results, lengths tried) of summing at most `most` items at a time."""
    tried = []

    def work(part):
        tried.append(len(part))
        if len(part) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sum(part)

    return in_pieces(work, items, "too small", "add memory"), tried


@pytest.mark.parametrize(
    "error, is_one",
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError(CPU), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_errors_of_memory_are_told_from_others(error, is_one):
    assert is_out_of_memory(error) == is_one


def test_torch_s_own_error_on_a_cpu_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_work_is_halved_until_it_fits_and_its_results_keep_their_order():
    assert sums_of(range(8), 8) == ([28], [8])
    assert sums_of(range(7), 2) == ([0, 3, 7, 11], [7, 3, 1, 2, 4, 2, 2])


def test_where_a_single_item_does_not_fit_it_is_one_sentence():
    with pytest.raises(RunError, match="^too small: add memory, then run the same command$"):
        sums_of(range(4), 0)


def test_another_error_is_not_taken_for_it():
    def work(items):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        in_pieces(work, [1, 2], "", "")
