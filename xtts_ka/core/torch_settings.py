"""Which device torch uses, what it is, and how many threads."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from xtts_ka.core.console import warn
from xtts_ka.core.errors import RunError

NVIDIA_DRIVER = Path("/proc/driver/nvidia")  # there where the driver is loaded; not under WSL, which has nvidia-smi
_UPDATE = (
    "update the NVIDIA driver, or install the PyTorch for the CUDA version that nvidia-smi shows "
    "(https://pytorch.org/get-started/locally)"
)


def choose_device(name: str) -> str:
    """The config's `device`; auto is cuda where there is a GPU, else cpu. RunError for cuda without a GPU.

    Warns where auto is the CPU although the machine has an NVIDIA card. On a GPU, cuDNN's attention is switched off.
    """
    if name == "cpu":
        return name
    if torch.cuda.is_available():
        # Steps of a small GPT took 0.5 s on an H200, less as shapes of batches came again (docs/experiments.md, «The
        # stand-in base: its GPT and decoder»). cuDNN's attention plans anew for each shape, which would explain it;
        # the other kernels need no plan. Not measured without it yet.
        torch.backends.cuda.enable_cudnn_sdp(False)
        return "cuda" if name == "auto" else name
    problem = _undriven_card()
    if name != "auto":
        none = "PyTorch sees no CUDA GPU: set it to cpu or auto, or check the driver"
        raise RunError(f"device is {name!r} but {f'{problem}: {_UPDATE}' if problem else none}")
    if problem:
        warn(f"THE GPU IS NOT USED, all work is done by the slow CPU: {problem}: {_UPDATE}")
    return "cpu"


def _undriven_card() -> str | None:
    """Why this PyTorch cannot use the machine's NVIDIA card; None without a card, or where the user hides it."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return None
    if not (NVIDIA_DRIVER.exists() or shutil.which("nvidia-smi")):
        return None
    why = "the reason is not known"
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:  # AssertionError: a PyTorch that was built without CUDA
        why = re.split(r"\.\s", str(error))[0]
    return f"PyTorch {torch.__version__} cannot drive this machine's NVIDIA card ({why})"


def describe_device(device: torch.device, precision: str, processes: int = 1) -> str:
    """The device's name and memory, or the CPU's threads, and the precision, in words."""
    threads = torch.get_num_threads()
    name = f"CPU, {threads} thread{'s' * (threads > 1)}"
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        name = f"{card.name}, {card.total_memory / 2**30:.1f} GiB"
    return f"{name}, {precision}" + (f", {processes} processes" if processes > 1 else "")


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, for small networks: results do not depend on the number of cores.

    It is no slower: on 2 busy cores the G2P network reads 3,900 words a second with one thread, 1,200 with two.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
