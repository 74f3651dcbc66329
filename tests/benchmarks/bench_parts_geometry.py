"""The DVAE and the decoder at the released geometry on a small machine: two training steps each, with discriminators.

    python tests/benchmarks/bench_parts_geometry.py --work /tmp/parts

Each part is trained in a process of its own, on features of random numbers (their size is what costs, not what they
say): pieces of 32 codes for the DVAE and of 16 codes for the decoder, whose latents are 1,024 wide as those of the
released GPT. Prints seconds a step, seconds of a validation and a checkpoint, and the peak of memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from xtts_ka.core.config import DecoderConfig, DvaeConfig, PretrainConfig, TrainingConfig


def config(work: Path, part: str) -> PretrainConfig:
    folders = {"checkpoint_dir": str(work / f"{part}_checkpoints"), "log_dir": str(work / f"{part}_logs")}
    return PretrainConfig(device="cpu", training=TrainingConfig(log_interval=1), **folders)


def trained(part, work: Path) -> None:
    """Two steps with what belongs to them, timed."""
    import torch

    from xtts_ka.training.gpt_trainer import build_accelerator
    from xtts_ka.training.parts_loop import PartsLoop

    settings = config(work, part.name)
    loop = PartsLoop(part, settings, "bench", build_accelerator(settings))
    loop.start()
    step, validate, seconds = loop._train_step, loop.validate, {"step": [], "validation": []}

    def timed(name, work):
        def run(*arguments):
            began = time.monotonic()
            result = work(*arguments)
            seconds[name].append(time.monotonic() - began)
            return result

        return run

    loop._train_step, loop.validate = timed("step", step), timed("validation", validate)
    began = time.monotonic()
    loop.fit()
    total = time.monotonic() - began
    weights = sum(p.numel() for network in part.networks.values() for p in network.parameters()) / 1e6
    shown = {name: " and ".join(f"{s:.1f}" for s in values) for name, values in seconds.items()}
    print(f"{part.name}: {weights:.1f} M weights in training, {torch.get_num_threads()} threads")
    print(f"  steps {shown['step']} s, validations {shown['validation']} s, all {total:.1f} s", flush=True)


def dvae(work: Path, batch: int) -> None:
    import torch

    from xtts_ka.model.networks import build_dvae
    from xtts_ka.training.clip_pieces import make_pieces
    from xtts_ka.training.dvae_trainer import MELS, DvaePart

    random = np.random.default_rng(0)
    clips = [{MELS: random.normal(size=(200, 80)).astype(np.float16)} for _ in range(8)]
    pieces = make_pieces(work / "mels", "bench", clips, list, "mels")
    val = make_pieces(work / "val_mels", "bench", clips[:2], list, "mels")
    settings = DvaeConfig(max_steps=2, batch_size=batch)
    trained(DvaePart(build_dvae(1024), pieces, val, settings, 1, torch.full((80,), 4.0)), work)


def decoder(work: Path, batch: int) -> None:
    from xtts_ka.model.latents import SAMPLES_PER_LATENT
    from xtts_ka.model.networks import build_vocoder
    from xtts_ka.training.clip_pieces import make_pieces
    from xtts_ka.training.decoder_trainer import LATENTS, VOICES, WAVES, DecoderPart

    random = np.random.default_rng(0)
    clips = [
        {
            LATENTS: random.normal(size=(40, 1024)).astype(np.float16),
            WAVES: (3000 * random.normal(size=round(40 * SAMPLES_PER_LATENT))).astype(np.int16),
            VOICES: random.normal(size=(1, 512)).astype(np.float32),
        }
        for _ in range(8)
    ]
    pieces = make_pieces(work / "latents", "bench", clips, list, "latents")
    val = make_pieces(work / "val_latents", "bench", clips[:2], list, "latents")
    settings = DecoderConfig(max_steps=2, batch_size=batch, discriminator_start=0, discriminator_minutes=0.0)
    trained(DecoderPart(build_vocoder(1024), [pieces], val, settings, 1), work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--part", choices=("dvae", "decoder"), help="only this part, in this process")
    parser.add_argument("--batch", type=int, help="pieces a step (default: the config's)")
    args = parser.parse_args()
    if args.part == "dvae":
        dvae(args.work, args.batch or DvaeConfig().batch_size)
    elif args.part == "decoder":
        decoder(args.work, args.batch or DecoderConfig().batch_size)
    else:
        more = ["--batch", str(args.batch)] if args.batch else []
        for part in ("dvae", "decoder"):
            process = subprocess.Popen([sys.executable, __file__, "--work", str(args.work), "--part", part, *more])
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                sys.exit(f"{part} failed")
            print(f"  peak memory of {part}: {usage.ru_maxrss / 2**20:.1f} GiB", flush=True)


if __name__ == "__main__":
    main()
