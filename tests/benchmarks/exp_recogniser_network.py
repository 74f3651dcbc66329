"""Networks and training recipes for the recogniser, compared at equal CPU seconds on the starter's speech.

    python tests/benchmarks/exp_recogniser_network.py --work DIR --clips 2826 --cpu 150 --layers 3 --recurrent 2

Trains on the starter's train table for so many CPU seconds of one thread and measures on two sets of unseen sentences:
the kept ones of the evaluation, each by two voices, and val and test. The learning rate falls to 0 over the time given:
the seconds of a step are measured on the first steps, and the number of steps follows from them.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
from bench_recogniser import speech
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from xtts_ka.core.config import RecogniserConfig
from xtts_ka.corpus.audio import read_mono
from xtts_ka.corpus.tables import read_split
from xtts_ka.evaluation.texts import KEPT_SETS, read_texts
from xtts_ka.georgian.character_ngram import CharacterNgram
from xtts_ka.georgian.reading import Reading
from xtts_ka.recognition import augmentation
from xtts_ka.recognition.beam_search import beam_search
from xtts_ka.recognition.ctc_trainer import CtcTrainer, ctc_loss
from xtts_ka.recognition.error_rates import character_error_rate, word_error_rate
from xtts_ka.recognition.recogniser import HOP, MELS, RATE, Recogniser, centred, greedy, inside
from xtts_ka.recognition.sound_cache import SoundCache, unpacked
from xtts_ka.recognition.symbols import SYMBOLS, encode, spoken_letters
from xtts_ka.recognition.train_recogniser import settled
from xtts_ka.starter.speech import VOICES, synthesise, trim_silence

SENTENCES = Path(__file__).parents[2] / "data/evaluation_sentences_ka"


class Block(nn.Module):
    def __init__(self, dim: int, dilation: int, dropout: float, kernel: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.convolution = nn.Conv1d(dim, dim, kernel, padding=kernel // 2 * dilation, dilation=dilation)
        self.mixing = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        hidden = self.convolution((self.norm(x) * mask).transpose(1, 2)).transpose(1, 2)
        return x + self.dropout(self.mixing(F.gelu(hidden)))


class Recurrent(nn.Module):
    """Pre-norm residual bidirectional layer; each clip's backward direction begins at its own end."""

    def __init__(self, kind: str, dim: int, hidden: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        cell = {"gru": nn.GRU, "lstm": nn.LSTM}[kind]
        self.forth, self.back = (cell(dim, hidden, batch_first=True) for _ in range(2))
        self.out = nn.Linear(2 * hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        y = self.norm(x) * mask
        steps = torch.arange(x.shape[1])[None]
        flip = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)[..., None].to(x.device)
        forth = self.forth(y)[0]
        back = self.back(y.gather(1, flip.expand_as(y)))[0]
        back = back.gather(1, flip.expand_as(back))
        return x + self.dropout(self.out(torch.cat([forth, back], -1)))


class Network(nn.Module):
    def __init__(self, args):
        super().__init__()
        dim, k = args.dim, args.kernel
        self.strided = nn.ModuleList(
            nn.Conv1d(inputs, outputs, 5, stride=2, padding=2)
            for inputs, outputs in ((MELS, args.front or dim), (args.front or dim, dim))
        )
        self.blocks = nn.ModuleList(Block(dim, 2 ** (i % args.dilations), args.dropout, k) for i in range(args.layers))
        self.recurrent = nn.ModuleList(
            Recurrent(args.cell, dim, args.hidden or dim, args.dropout) for _ in range(args.recurrent)
        )
        self.norm = nn.LayerNorm(dim)
        self.output = nn.Linear(dim, len(SYMBOLS))

    def forward(self, mels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = centred(mels, lengths)
        for convolution in self.strided:
            x = F.gelu(convolution(x.transpose(1, 2)).transpose(1, 2))
            lengths = (lengths + 1) // 2
            x = x * (mask := inside(x, lengths))
        for block in self.blocks:
            x = block(x, mask)
        for layer in self.recurrent:
            x = layer(x, mask, lengths)
        return self.output(self.norm(x)).float().log_softmax(-1), lengths


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) in float32, convolutions as matrices of outputs × all else; rate scaled as torch's
    `match_rms_adamw`."""

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(m, group["momentum"]).flatten(1)
                update = orthogonal(update).view_as(p)
                rows, columns = p.shape[0], p[0].numel()
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(rows, columns)))


def orthogonal(g: Tensor) -> Tensor:
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (g.norm() + 1e-7)
    turned = x.shape[0] > x.shape[1]
    x = x.T if turned else x
    for _ in range(5):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if turned else x


def optimizers(network: nn.Module, args) -> list[torch.optim.Optimizer]:
    named = list(network.named_parameters())
    wide = [p for n, p in named if args.muon and p.ndim > 1 and not n.startswith("output")]
    rest = [p for n, p in named if not any(p is w for w in wide)]
    found: list = [torch.optim.AdamW(rest, args.rate, betas=(0.9, 0.98), weight_decay=args.decay, fused=True)]
    if wide:
        found.append(Muon(wide, args.muon, weight_decay=args.decay))
    for optimizer in found:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return found


def pace(share: float, args) -> float:
    if share < args.warm_up:
        return max(0.02, share / args.warm_up)
    left = (1 - share) / (1 - args.warm_up)
    return max(0.005, left if args.linear else 0.5 * (1 - math.cos(math.pi * left)))


def test_sets(data: Path) -> dict[str, tuple[list[str], list[np.ndarray]]]:
    texts = [text for name in KEPT_SETS for text in read_texts(SENTENCES / f"{name}.txt", Reading(), 100)]
    voices = [(text, VOICES[(n + 3 * turn) % 6]) for turn in (0, 1) for n, text in enumerate(texts)]
    waves = [trim_silence(synthesise(text.reading, v.voice, v.rate, v.pitch)) for text, v in voices]
    held_out = [*read_split(data, "val"), *read_split(data, "test")]
    return {
        "kept": ([text.expected for text, _ in voices], waves),
        "held out": ([spoken_letters(c.text) for c in held_out], [read_mono(c.audio_path)[0] for c in held_out]),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--work", type=Path, required=True)
    add("--clips", type=int, default=2826)
    add("--cpu", type=float, default=150)
    add("--seed", type=int, default=1)
    add("--dim", type=int, default=192)
    add("--front", type=int, default=0)
    add("--layers", type=int, default=8)
    add("--kernel", type=int, default=5)
    add("--dilations", type=int, default=4)
    add("--recurrent", type=int, default=0)
    add("--cell", default="gru")
    add("--hidden", type=int, default=0)
    add("--dropout", type=float, default=0.1)
    add("--rate", type=float, default=4e-3)
    add("--muon", type=float, default=0)
    add("--decay", type=float, default=0.01)
    add("--warm_up", type=float, default=0.1)
    add("--linear", action="store_true")
    add("--batch", type=float, default=10)
    add("--noisy", type=float, default=0.2)
    add("--crowded", type=float, default=0.06)
    add("--speed", type=float, default=augmentation.SPEED)
    add("--voice", type=float, default=augmentation.VOICE)
    add("--bands", type=int, default=augmentation.BANDS)
    add("--frames", type=int, default=augmentation.FRAMES)
    add("--search", action="store_true")
    add("--profile", action="store_true")
    add("--keep", type=Path)
    args = parser.parse_args(argv)
    for name in ("noisy", "crowded", "speed", "voice", "bands", "frames"):
        setattr(augmentation, name.upper(), getattr(args, name))
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    data = speech(args.work, args.clips)
    clips = read_split(data, "train")
    sounds = SoundCache(data / "work", clips)
    targets = [encode(spoken_letters(clip.text)) for clip in clips]
    network = Network(args)
    settings = settled(RecogniserConfig(dim=8, epochs=1, batch_seconds=args.batch), 1)
    order = CtcTrainer(sounds, targets, settings, args.seed, args.work / "none", "none")
    optims = optimizers(network, args)
    weights = sum(p.numel() for p in network.parameters()) / 1e6
    minutes = sounds.frames.sum() * HOP / RATE / 60
    total, step, epoch, began, loss = 10**6, 0, 0, time.process_time(), torch.zeros(())
    parts = {"augment": 0.0, "network": 0.0, "loss": 0.0, "backward": 0.0, "optimizer": 0.0}
    at = time.process_time()

    def spent(what):
        nonlocal at
        now = time.process_time()
        parts[what] += now - at
        at = now

    while step < total:
        for batch in order._epoch(epoch):
            if step >= total:
                break
            at = time.process_time()
            rng = np.random.default_rng((args.seed, step, 1))
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            mels = unpacked(pad_sequence([sounds[i] for i in batch], batch_first=True))
            lengths = torch.tensor([int(sounds.frames[i]) for i in batch])
            mels, lengths = augmentation.augment(mels, lengths, rng, generator)
            spent("augment")
            log_probs, frames = network.train()(mels, lengths)
            spent("network")
            loss = ctc_loss(log_probs, frames, [torch.tensor(targets[i]) for i in batch])
            spent("loss")
            for optimizer in optims:
                optimizer.zero_grad()
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * pace(step / total, args)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            spent("backward")
            if norm.isfinite():
                for optimizer in optims:
                    optimizer.step()
            spent("optimizer")
            step += 1
            used = time.process_time() - began
            if step in (100, 200, 300, 400, 600) or (total < 10**6 and step % 100 == 0):
                total = max(step + 1, round(step * args.cpu / used))
        epoch += 1
    used = time.process_time() - began
    shown = {k: v for k, v in vars(args).items() if v != parser.get_default(k) and k not in ("work", "keep")}
    print(f"\n{shown}\n{weights:.2f} M weights, {minutes:.0f} min, {step} steps, {epoch} epochs, CPU {used:.0f} s, "
          f"loss {float(loss.detach()):.3f}")  # fmt: skip
    print({k: round(v, 1) for k, v in parts.items()})
    ngram = CharacterNgram(sorted({spoken_letters(clip.text) for clip in clips}), 5)
    listener = Recogniser(network.eval(), {"fingerprint": "bench", "settings": {"beam": 1}})
    for name, (said, waves) in test_sets(data).items():
        rows = listener.log_probs(waves, 22_050)
        simple = [greedy(row) for row in rows]
        joined = [[t.replace(" ", "") for t in texts] for texts in (said, simple)]
        print(f"{name} ({len(said)}): greedy {character_error_rate(said, simple)}, no spaces "
              f"{character_error_rate(*joined)}, WER {word_error_rate(said, simple)}", flush=True)  # fmt: skip
        if args.search:
            searched = [beam_search(row, ngram) for row in rows]
            print(f"   beam {character_error_rate(said, searched)}, WER {word_error_rate(said, searched)}", flush=True)
            for weight in (0.15, 0.3, 0.5, 0.7):
                for bonus in (0.0, 0.3, 0.6, 1.0):
                    found = [beam_search(row, ngram, weight=weight, bonus=bonus) for row in rows]
                    print(f"   weight {weight} bonus {bonus}: {character_error_rate(said, found)}", flush=True)
    if args.keep:
        torch.save({"network": network.state_dict(), "args": vars(args)}, args.keep)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
