"""A small causal transformer over text tokens: its segmentation of text, training and scores."""

from __future__ import annotations

import copy
import json
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import LambdaLR

from xtts_ka.core.config import LanguageModelConfig
from xtts_ka.core.console import progress
from xtts_ka.core.tensor_files import tensors_to_bytes
from xtts_ka.georgian.alphabet import ARCHAIC_LETTERS, GEORGIAN_LETTERS, is_word
from xtts_ka.georgian.character_ngram import BOUNDARY, MAX_CHARACTERS, UNKNOWN, UNKNOWN_BITS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LETTERS = GEORGIAN_LETTERS + ARCHAIC_LETTERS
_PIECE = re.compile(f"[{_LETTERS}]+|[^{_LETTERS}]+")
_SCORED_TOGETHER = 64  # sequences per batch
_PATIENCE = 6  # epochs without gain on the development sentences before training stops
_SMALL_CORPUS = 200_000  # characters: up to this size, training in many random segmentations gives a better model
_SEGMENTATION_DROPOUT = (0.1, 0.2, 0.3, 0.5)  # drawn for each sentence and epoch of a small corpus


class Segmenter:
    """Normalised text → tokens, as the tokenizer does it, or at random with BPE-dropout.

    BPE-dropout (Provilkov et al. 2020) skips each merge with some probability, so that a small corpus is seen in many
    segmentations. The tokenizers library has it too, but without a seed.
    """

    def __init__(self, tokenizer: Tokenizer):
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        pairs = (tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges)
        self._rank = {pair: rank for rank, pair in enumerate(pairs) if pair[0][0] in _LETTERS}

        @lru_cache(maxsize=200_000)
        def whole(piece: str) -> list[str]:
            return tokenizer.encode(piece.replace(" ", "[SPACE]")).tokens

        self._whole = whole  # tokens of a word, or of what stands between words

    def tokens(self, text: str, dropout: float = 0.0, draw: random.Random | None = None) -> list[str]:
        """The tokens of `text`, without the language token; `draw` decides which merges are skipped."""
        tokens: list[str] = []
        for piece in _PIECE.findall(text):
            if draw and dropout and piece[0] in _LETTERS:
                tokens += self._merge(list(piece), dropout, draw)
            else:
                tokens += self._whole(piece)
        return tokens

    def _merge(self, symbols: list[str], dropout: float, draw: random.Random) -> list[str]:
        rank = self._rank
        while True:
            pairs = enumerate(pairwise(symbols))
            kept = [(rank[pair], i) for i, pair in pairs if pair in rank and draw.random() >= dropout]
            if not kept:
                return symbols
            at = min(kept)[1]
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]


class CausalLanguageModel(nn.Module):
    """Small causal transformer over a compact vocabulary, input and output embeddings tied.

    tokens: the vocabulary; the first two are the sentence boundary and the unknown token. Two things help it learn from
    little text: a token's vector is its own embedding plus a projection of its first, its last and all its letters, and
    besides attention each position has a projection of the three tokens before it. Because of the latter there is no
    position embedding.
    """

    spelling: Tensor

    def __init__(self, tokens: Sequence[str], dim: int, layers: int, heads: int, dropout: float):
        super().__init__()
        self.tokens, self.dropout = list(tokens), dropout
        self.own = nn.Embedding(len(tokens), dim)
        spelling = _spelling(tokens)
        self.register_buffer("spelling", spelling, persistent=False)
        self.letters = nn.Linear(spelling.shape[1], dim, bias=False)
        self.before = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout, F.gelu, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        for block in self.blocks:
            block.dropout = nn.Identity()  # that within the feed-forward part: one after it is enough
        self.norm = nn.LayerNorm(dim)
        self.bias = nn.Parameter(torch.zeros(len(tokens)))
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, length) token numbers → (batch, length, vocabulary) logits for the token that follows each."""
        table = self.own.weight + self.letters(self.spelling)
        vectors = F.embedding(ids, table)
        x = vectors
        for distance, project in enumerate(self.before, start=1):
            x = x + F.pad(project(vectors), (0, 0, distance, 0))[:, : ids.shape[1]]
        x = F.dropout(x, self.dropout, self.training)
        causal = nn.Transformer.generate_square_subsequent_mask(ids.shape[1], ids.device)
        for block in self.blocks:
            x = block(x, src_mask=causal, is_causal=True)
        return self.norm(x) @ table.T + self.bias


def _spelling(tokens: Sequence[str]) -> Tensor:
    """(tokens, 3 · letters): first letter, last letter, share of each letter. Zero for tokens such as `[SPACE]`."""
    spelling = torch.zeros(len(tokens), 3, len(_LETTERS))
    for row, token in enumerate(tokens):
        if is_word(token):
            places = [_LETTERS.index(letter) for letter in token]
            spelling[row, 0, places[0]] = spelling[row, 1, places[-1]] = 1
            for place in places:
                spelling[row, 2, place] += 1 / len(token)
    return spelling.flatten(1)


@dataclass
class TokenModel:
    """A network and the segmentation of text into its vocabulary."""

    network: CausalLanguageModel
    segmenter: Segmenter
    epochs: int = 0  # the epoch whose weights were kept

    def __post_init__(self) -> None:
        self._numbers = {token: i for i, token in enumerate(self.network.tokens)}

    def numbers(self, text: str, dropout: float = 0.0, draw: random.Random | None = None) -> list[int]:
        """Vocabulary numbers of `text`, the first MAX_CHARACTERS of it."""
        tokens = self.segmenter.tokens(text[:MAX_CHARACTERS], dropout, draw)
        return [self._numbers.get(token, UNKNOWN) for token in tokens]

    def bits(self, texts: Sequence[str], samples: int = 0) -> np.ndarray:
        """−log₂ p of each text with its end, (len(texts),) float64, in the tokenizer's own segmentation.

        That is an upper bound, as other segmentations of the same text have some probability too. With `samples`, that
        many random segmentations are drawn and the probabilities of the different ones added, for a closer bound.
        """
        sequences: list[tuple[int, ...]] = []
        owners: list[int] = []
        for number, text in enumerate(texts):
            draw = random.Random(text)
            drawn = {tuple(self.numbers(text)), *(tuple(self.numbers(text, 0.1, draw)) for _ in range(samples))}
            sequences += sorted(drawn)
            owners += [number] * len(drawn)
        bits, owner = self._sequence_bits(sequences), np.array(owners, int)
        least = np.full(len(texts), np.inf)
        np.minimum.at(least, owner, bits)
        return least - np.log2(np.bincount(owner, np.exp2(least[owner] - bits), minlength=len(texts)))

    @torch.no_grad()
    def _sequence_bits(self, sequences: Sequence[Sequence[int]]) -> np.ndarray:
        """−log₂ p of each sequence of vocabulary numbers with its end."""
        self.network.eval()
        found = np.zeros(len(sequences))
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        for start in range(0, len(order), _SCORED_TOGETHER):
            chosen = order[start : start + _SCORED_TOGETHER]
            inputs, targets = _padded([sequences[i] for i in chosen], self.network.bias.device)
            losses = F.cross_entropy(self.network(inputs).transpose(1, 2), targets, reduction="none", ignore_index=-100)
            losses = losses.double().sum(dim=1) / math.log(2) + UNKNOWN_BITS * (targets == UNKNOWN).sum(dim=1)
            found[chosen] = losses.cpu().numpy()
        return found


def _padded(sequences: Sequence[Sequence[int]], device: torch.device | str) -> tuple[Tensor, Tensor]:
    """(batch, longest + 1) inputs that start with the boundary, and targets that end with it (padded with −100)."""
    inputs = pad_sequence([torch.tensor([BOUNDARY, *row]) for row in sequences], batch_first=True)
    targets = pad_sequence([torch.tensor([*row, BOUNDARY]) for row in sequences], batch_first=True, padding_value=-100)
    return inputs.to(device), targets.to(device)


def bits_per_character(bits: np.ndarray, texts: Sequence[str]) -> float:
    """Total bits, ends included, over total characters."""
    return float(bits.sum() / sum(min(len(text), MAX_CHARACTERS) for text in texts))


def is_small(texts: Sequence[str]) -> bool:
    """True for a corpus that is trained on in many segmentations, with a stronger weight decay."""
    return sum(map(len, texts)) <= _SMALL_CORPUS


def train_network(
    train: Sequence[str],
    development: Sequence[str],
    segmenter: Segmenter,
    tokens: Sequence[str],
    settings: LanguageModelConfig,
    seed: int,
    device: str = "cpu",
) -> TokenModel:
    """Train a network on sentences, keeping the weights that do best on `development`.

    tokens: the vocabulary, boundary and unknown token first. Stops after _PATIENCE epochs without gain. The result
    depends only on the arguments (on a CPU): weights, order, dropout and segmentations are all drawn from `seed`.
    """
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        network = CausalLanguageModel(tokens, settings.dim, settings.layers, settings.heads, settings.dropout)
        model = TokenModel(network.to(device), segmenter)
        matrices = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim < 2]
        decay = 0.5 if is_small(train) else 0.1
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98))
        steps = settings.max_epochs * math.ceil(len(train) / settings.batch_size)
        schedule = LambdaLR(optimizer, lambda step: _rate(step, steps))
        best_bits, best = math.inf, {}
        bar = progress(range(1, settings.max_epochs + 1), what="language model", unit="epoch")
        for epoch in bar:
            network.train()
            for inputs, targets in _batches(model, train, settings.batch_size, random.Random(f"{seed} {epoch}")):
                optimizer.zero_grad()
                F.cross_entropy(network(inputs).transpose(1, 2), targets, ignore_index=-100).backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            bits = bits_per_character(model.bits(development), development)
            bar.set_postfix(bits_per_character=f"{bits:.3f}", refresh=False)
            if bits < best_bits:
                best_bits, best, model.epochs = bits, copy.deepcopy(network.state_dict()), epoch
            elif epoch - model.epochs >= _PATIENCE:
                break
        bar.close()
        network.load_state_dict(best)
    return model


def _rate(step: int, total: int) -> float:
    """Linear warm-up over a twentieth of the steps, then a cosine to zero."""
    warm_up = max(1, total // 20)
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))


def _batches(
    model: TokenModel, train: Sequence[str], batch_size: int, draw: random.Random
) -> Iterator[tuple[Tensor, Tensor]]:
    """The inputs and targets of one epoch: `train` in random order, in random segmentations if it is small."""
    levels = _SEGMENTATION_DROPOUT if is_small(train) else (0.0,)
    order = draw.sample(train, len(train))
    for start in range(0, len(order), batch_size):
        numbers = [model.numbers(text, draw.choice(levels), draw) for text in order[start : start + batch_size]]
        yield _padded(numbers, model.network.bias.device)


def saved_network(model: TokenModel, settings: LanguageModelConfig) -> dict[str, Any]:
    """The network for `language_model_results.pkl`: its settings, vocabulary and weights as builtins."""
    weights = tensors_to_bytes(model.network.state_dict())
    return {**settings.model_dump(), "tokens": model.network.tokens, "epochs": model.epochs, "weights": weights}
