"""How long a checkpoint of full size keeps the training loop waiting, on random tensors of the GPT's shapes.

    python tests/benchmarks/bench_checkpoint_writer.py --work /tmp/bench --layers 30 --dim 1024

The loop waits for the copy and for the parts of the writer thread's work that hold Python's global lock, since no
kernel is started on the GPU meanwhile. Both are timed for the checkpoint manager and for a simpler way: new memory for
each copy, and safetensors made as bytes before they are written. "held" sums the pauses over 10 ms of a thread that
only sleeps.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from xtts_ka.core.console import say
from xtts_ka.core.files import write_bytes
from xtts_ka.core.tensor_files import save_torch, tensors_to_bytes
from xtts_ka.training.checkpoint_manager import CheckpointManager

NAP, PAUSE = 0.0005, 0.01  # seconds


def tensors(layers: int, dim: int, device: str) -> dict[str, torch.Tensor]:
    """The matrices and norms of `layers` GPT-2 blocks."""
    shapes = {
        "c_attn": (dim, 3 * dim),
        "attn_proj": (dim, dim),
        "c_fc": (dim, 4 * dim),
        "mlp_proj": (4 * dim, dim),
        "ln": (dim,),
    }
    return {
        f"h.{layer}.{name}": torch.randn(shape, device=device)
        for layer in range(layers)
        for name, shape in shapes.items()
    }


def held(running: Callable[[], bool]) -> tuple[float, float]:
    """(seconds until `running` returns False, the seconds among these in which this thread could not run)."""
    began = last = time.perf_counter()
    pauses = 0.0
    while running():
        time.sleep(NAP)
        now = time.perf_counter()
        pauses += now - last if now - last > PAUSE else 0.0
        last = now
    return last - began, pauses


def managed(manager: CheckpointManager, step: int, weights: dict, optimizer: dict) -> tuple[float, float, float]:
    began = time.perf_counter()
    manager.save(step, {"model": weights}, optimizer, {"step": step}, {}, 1.0)
    copied = time.perf_counter() - began
    pending = manager._pending
    written, pauses = held(lambda: not pending.done())
    manager.wait()
    return copied, written, pauses


def plain(folder: Path, weights: dict, optimizer: dict) -> tuple[float, float, float]:
    began = time.perf_counter()
    weights, optimizer = torch.utils._pytree.tree_map_only(
        torch.Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), (weights, optimizer)
    )
    copied = time.perf_counter() - began

    def write() -> None:
        write_bytes(folder / "model.safetensors", tensors_to_bytes(weights))
        save_torch(folder / "optimizer.pt", optimizer)

    writer = threading.Thread(target=write)
    writer.start()
    return copied, *held(writer.is_alive)


def report(name: str, copied: float, written: float, pauses: float) -> None:
    say(f"{name:<8} copied in {copied:5.2f} s, written after {written:5.2f} s more, Python held {pauses:5.2f} s")
    say(f"{'':<8} in all {copied + pauses:5.2f} s of waiting")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    weights = tensors(args.layers, args.dim, args.device)
    moments = {
        name: {"step": torch.tensor(1.0), "exp_avg": torch.randn_like(w), "exp_avg_sq": torch.rand_like(w)}
        for name, w in weights.items()
    }
    optimizer = {"state": moments, "param_groups": [{"lr": 1e-4, "params": list(weights)}]}
    folder = args.work / "writer"
    shutil.rmtree(folder, ignore_errors=True)
    manager = CheckpointManager(folder / "managed", "bench")
    say(f"{12 * sum(w.numel() for w in weights.values()) / 1e9:.2f} GB a checkpoint, {args.device}")
    for step in range(1, args.saves + 1):
        report("plain", *plain(folder / "plain", weights, optimizer))
        report("managed", *managed(manager, step, weights, optimizer))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
