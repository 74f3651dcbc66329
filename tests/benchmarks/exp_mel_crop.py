"""Measures what changes when voice samples are cut out of the cached mel, not out of the wave as by coqui's GPTTrainer.

    python tests/benchmarks/exp_mel_crop.py --config xtts_pretrain_config.json

Needs a finished run. coqui computes the mel of a crop of the wave, reflected at its cut ends; ours is a crop of the
whole clip's mel, stored in float16. Prints the relative difference by frame, of the conditioning latents, and of
the loss, on training batches as they are drawn.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch import Tensor

from data_loader import DataManager, Draw, open_data
from xtts_ka.core.config import load_config
from xtts_ka.core.console import say
from xtts_ka.core.tensor_files import load_torch
from xtts_ka.corpus.tables import read_split
from xtts_ka.model.checkpoint import XttsFiles, load_gpt, read_config
from xtts_ka.model.compact_gpt import CompactGPT, voice_latents
from xtts_ka.model.features import FeatureExtractor, load_speech
from xtts_ka.model.geometry import MEL_HOP
from xtts_ka.training.memory_estimate import ROOM_ON_CPU

EDGE = 4  # frames shown one by one at each end


def crops(data: DataManager, extractor: FeatureExtractor, count: int) -> list[tuple[dict, dict]]:
    """Training batches in pairs: with our voice samples, and with coqui's of the same stretches of the same clips."""
    paths = {clip.file_id: clip.audio_path for clip in read_split(data.config.data_dir, "train")}
    plan, pairs = [], []
    for step in data.train_batches(0)[:count]:
        plan.append(step.cut(data.train.index.positions, ROOM_ON_CPU)[0])
    for planned, batch in zip(plan, data.loader(data.train, plan)):
        voices = [wave_mel(data, draw, paths, extractor) for draw in planned.draws()]
        pairs.append((batch, {**batch, "cond_mels": torch.stack(voices)}))
    return pairs


def wave_mel(data: DataManager, draw: Draw, paths: dict[str, Path], extractor: FeatureExtractor) -> Tensor:
    """(80, frames) of the crop that `draw` asks for, cut out of the wave: frame i is centred at sample 256·i."""
    clip_mel = torch.from_numpy(data.train.cache.read(data.train.index.records[draw.clip], "")[1].astype("float32"))
    voice = torch.from_numpy(data.train[draw].cond_mel.astype("float32"))
    windows = clip_mel.unfold(0, len(voice), 1).transpose(1, 2)
    (start,) = (windows == voice).all(dim=(1, 2)).nonzero()[0].tolist()
    speech = load_speech(paths[data.train.index.file_id(draw.clip)])
    return extractor([speech[:, MEL_HOP * start : MEL_HOP * (start + len(voice) - 1)]])[0][1]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--batches", type=int, default=12, help="training batches to compare")
    args = parser.parse_args()
    config = load_config(args.config)
    data = open_data(config)
    base = read_config(config.base_model_path)
    state = load_torch(Path(config.output_model_path) / "model.pth")["model"]
    model = CompactGPT(load_gpt(XttsFiles(base, state, Path(config.base_model_path)))).eval()
    pairs = crops(data, FeatureExtractor(Path(config.base_model_path), base), args.batches)

    errors = [
        ((ours["cond_mels"] - theirs["cond_mels"]).norm(dim=1), theirs["cond_mels"].norm(dim=1))
        for ours, theirs in pairs
    ]
    frames = [e.shape[1] for e, _ in errors]
    say(f"{sum(len(e) for e, _ in errors)} voice samples of {min(frames)} to {max(frames)} frames")
    for name, part in [
        *((f"frame {i}", slice(i, i + 1)) for i in range(EDGE)),
        ("inside", slice(EDGE, -EDGE)),
        *((f"frame {i - EDGE}", slice(i - EDGE, i - EDGE + 1 or None)) for i in range(EDGE)),
        ("all", slice(None)),
    ]:
        error, size = (torch.cat([pair[kind][:, part].flatten() for pair in errors]) for kind in (0, 1))
        say(f"  {name:<9} relative difference {float((error.square().sum() / size.square().sum()).sqrt()):.2e}")
    latents = [[voice_latents(model.gpt, batch["cond_mels"]) for batch in pair] for pair in pairs]
    apart = torch.cat([(ours - theirs).norm(dim=(1, 2)) / theirs.norm(dim=(1, 2)) for ours, theirs in latents])
    other = torch.cat(
        [
            (theirs - theirs.roll(1, 0)).norm(dim=(1, 2)) / theirs.norm(dim=(1, 2))
            for _, theirs in latents
            if len(theirs) > 1
        ]
    )
    say(
        f"conditioning latents: relative difference {float(apart.mean()):.2e} on average, "
        f"{float(apart.max()):.2e} at most; between two clips {float(other.mean()):.2e}"
    )
    losses = torch.tensor([[float(model(batch)[1]) for batch in pair] for pair in pairs])
    codes = sum(len(ours["audio_target"]) for ours, _ in pairs)
    mean = losses.sum(dim=0) / codes
    apart = (losses[:, 0] - losses[:, 1]).abs() / losses[:, 1]
    say(
        f"audio loss: {float(mean[0]):.6f} ours, {float(mean[1]):.6f} cut from the wave; by batch they differ by "
        f"{float(apart.mean()):.1e} of it on average, {float(apart.max()):.1e} at most"
    )


if __name__ == "__main__":
    main()
