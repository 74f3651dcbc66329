"""Which attention heads of the stand-in base's GPT look at the part of the text that is said next.

    python tests/benchmarks/exp_text_attention.py --work DIR GPT.safetensors...

DIR is the work folder of recipes/starter_base/make_base.py with the results of `speech`, `codes` and `alignments`; the
networks are narrow GPTs, such as its `gpt.safetensors` or `gpt/snapshots/*`. For each head, over validation clips of
all languages: the mean weight on the token said next and its two neighbours, the mean weight on all of the text, and
the share of codes at which the token with most weight is one of the three.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "recipes")]

import torch
from safetensors.torch import load_file
from torch import Tensor

from starter_base.alignments import UNKNOWN
from starter_base.feed import Feed
from starter_base.gpt import BaseGPT, codebook, load_gpt
from xtts_ka.model import geometry as g


@torch.no_grad()
def figures(model: BaseGPT, feed: Feed) -> Tensor:
    """(layers, heads, 3): the means of the docstring above."""
    layers, heads = len(model.gpt.gpt.h), model.gpt.heads
    sums, codes = torch.zeros(layers, heads, 3), 0
    for steps in feed.val.batches().values():
        batch = feed.loaded(steps[0], noisy=False)
        model.hidden(batch)
        known = batch["said"] != UNKNOWN
        words = torch.from_numpy(feed.clips.token_counts[steps[0].clips])[batch["audio_row"]][known]
        said, codes = batch["said"][known], codes + int(known.sum())
        for layer in range(layers):
            for head in range(heads):
                weights = model.log_attention(layer, batch, head)[known].exp()[:, g.COND_POSITIONS + 1 :]
                places = torch.arange(weights.shape[1])
                text = weights * (places < words[:, None])
                near = (places - said[:, None]).abs() <= 1
                best = (text.argmax(1) - said).abs() <= 1
                sums[layer, head] += torch.stack([(text * near).sum(), text.sum(), best.sum()])
    return sums / codes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR")
    parser.add_argument("networks", type=Path, nargs="+", metavar="GPT.safetensors")
    args = parser.parse_args()
    feed = Feed(args.work, "cpu", 2048, seed=1)
    for file in args.networks:
        found = figures(BaseGPT(load_gpt(load_file(file)), codebook(args.work)).eval(), feed)
        print(f"{file}\nlayer head  near  text  likeliest near")
        for layer, row in enumerate(found):
            for head, (near, text, best) in enumerate(row.tolist()):
                print(f"{layer:5} {head:4} {near:5.2f} {text:5.2f} {best:6.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
