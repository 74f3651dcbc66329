"""Speaks several pieces of text at once, as `Xtts.inference` speaks one, each with random numbers of its own.

But for rounding, a clip depends on its text, voice and seed alone, not on what is spoken beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache

from xtts_ka.model.checkpoint import Xtts

# The defaults of `Xtts.inference`.
TEMPERATURE, TOP_K, TOP_P, REPETITION_PENALTY = 0.75, 50, 0.85, 10.0
_PROMPT_FILLER = 1  # coqui counts its prompt as this code, so that the penalty holds for it from the beginning
TOGETHER = {"cpu": 8, "cuda": 32}  # pieces that a device speaks at once without running out of memory


@dataclass(frozen=True)
class Piece:
    """What is to be said: a normalised text within the model's character limit.

    cond_latent: (1, 32, model_dim); embedding: (1, 512, 1); most_codes: where the clip is cut if it has not ended;
    fewest_codes: with fewer it cannot hold the text, which speech/guard.py looks at. begun: the codes that the clip
    begins with, of an earlier attempt; the rest is drawn.
    """

    text: str
    cond_latent: Tensor
    embedding: Tensor
    seed: int
    most_codes: int
    fewest_codes: int = 0
    begun: tuple[int, ...] = ()


@dataclass(frozen=True)
class Drawn:
    """codes: without the stop token; stopped: the model ended by itself.

    stop_probability: of the stop token where the clip ends, at the temperature of the draw; 1 where it was cut.
    """

    codes: tuple[int, ...]
    stopped: bool
    stop_probability: float = 1.0


@dataclass(frozen=True)
class Spoken:
    """wave: float32 at the model's output rate; the others as in `Drawn`."""

    wave: np.ndarray
    codes: tuple[int, ...]
    stopped: bool


def derived_seed(*parts: object) -> int:
    """A seed of 56 bits that changes with each of `parts`."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


@torch.inference_mode()
def draw_together(model: Xtts, pieces: Sequence[Piece]) -> list[Drawn]:
    """The audio codes of `pieces`, spoken by a model that `xtts_ka.load_xtts` has loaded."""
    stop = model.gpt.stop_audio_token
    limits = [min(piece.most_codes, model.gpt.max_gen_mel_tokens - 1) for piece in pieces]
    generators = [torch.Generator().manual_seed(piece.seed) for piece in pieces]
    codes, stops = [list(piece.begun) for piece in pieces], [0.0] * len(pieces)
    rows, speaking = _Rows(model, pieces), list(range(len(pieces)))
    while speaking:
        scores = rows.scores() / TEMPERATURE
        chosen, ends = sample(scores, [generators[i] for i in speaking]), scores.softmax(dim=1)[:, stop].tolist()
        for i, code, end in zip(speaking, chosen.tolist(), ends, strict=True):
            codes[i].append(code)
            stops[i] = end
        left = [row for row, i in enumerate(speaking) if codes[i][-1] != stop and len(codes[i]) < limits[i]]
        speaking = [speaking[row] for row in left]
        rows.go_on(left, chosen, [len(codes[i]) for i in speaking])
    return [_drawn(*each, stop) for each in zip(codes, stops, strict=True)]


def _drawn(codes: list[int], stop_probability: float, stop: int) -> Drawn:
    stopped = codes[-1] == stop
    return Drawn(tuple(codes[: len(codes) - stopped]), stopped, stop_probability if stopped else 1.0)


class _Rows:
    """What the GPT has seen of each piece that is being drawn, and the codes that were used in it."""

    def __init__(self, model: Xtts, pieces: Sequence[Piece]):
        self.model, self.cache = model, DynamicCache()
        self.inputs, self.mask = _padded([_prefix(model, piece) for piece in pieces])
        self.used = torch.zeros(len(pieces), model.gpt.mel_head.out_features, dtype=torch.bool, device=model.device)
        for row, piece in enumerate(pieces):
            self.used[row, [_PROMPT_FILLER, model.gpt.start_audio_token, *piece.begun]] = True

    def scores(self) -> Tensor:
        """The logits of the next code with the repetition penalty, as transformers': (rows, codes), float32."""
        gpt = self.model.gpt
        output = gpt.gpt(
            inputs_embeds=self.inputs, attention_mask=self.mask, past_key_values=self.cache, use_cache=True
        )
        scores = gpt.mel_head(gpt.final_norm(output.last_hidden_state[:, -1])).float()
        penalised = torch.where(scores < 0, scores * REPETITION_PENALTY, scores / REPETITION_PENALTY)
        return torch.where(self.used, penalised, scores)

    def go_on(self, left: Sequence[int], chosen: Tensor, places: Sequence[int]) -> None:
        """Keep the rows `left`, and let the GPT see the code that was chosen in each.

        chosen: of all rows; places: of the rows left, the code's place counted from the start token.
        """
        kept = torch.tensor(left, dtype=torch.long, device=chosen.device)
        if len(kept) < len(chosen):
            self.cache.batch_select_indices(kept)
            self.mask, self.used, chosen = self.mask[kept], self.used[kept], chosen[kept]
        self.used.scatter_(1, chosen[:, None], True)
        self.inputs = _embedded(self.model, chosen, torch.tensor(places, dtype=torch.long, device=chosen.device))[
            :, None
        ]
        self.mask = F.pad(self.mask, (0, 1), value=1)


def _tokens(model: Xtts, piece: Piece) -> Tensor:
    return torch.tensor(model.tokenizer.encode(piece.text.strip().lower(), lang="ka"), device=model.device)


def _prefix(model: Xtts, piece: Piece) -> Tensor:
    """What the first drawn code follows: voice, text, start token, the codes begun with. (length, model_dim)"""
    gpt = model.gpt
    gpt.compute_embeddings(piece.cond_latent.to(model.device), _tokens(model, piece)[None])
    codes = torch.tensor([gpt.start_audio_token, *piece.begun], device=model.device)
    places = torch.arange(len(codes), device=model.device)
    return torch.cat([gpt.gpt_inference.cached_prefix_emb[0], _embedded(model, codes, places)])


def _embedded(model: Xtts, codes: Tensor, places: Tensor) -> Tensor:
    """Codes at places, counted from the start token: (n,) → (n, model_dim)."""
    return model.gpt.mel_embedding(codes) + model.gpt.mel_pos_embedding.emb(places)


def _padded(prefixes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Prefixes with zeros before the shorter ones, (n, longest, model_dim), and which places count, (n, longest)."""
    longest = max(map(len, prefixes))
    rows = torch.stack([F.pad(prefix, (0, 0, longest - len(prefix), 0)) for prefix in prefixes])
    lengths = torch.tensor([len(prefix) for prefix in prefixes], device=rows.device)
    return rows, (torch.arange(longest, device=rows.device) >= longest - lengths[:, None]).long()


def sample(scores: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one of the scores (rows, codes), which stand divided by the temperature, in each row: (rows,).

    Of top-k and of top-p among those, as transformers does, by the Gumbel-max trick: adding Gumbel noise to
    log-probabilities and taking the largest draws from the distribution, so each row can have its own generator.
    """
    least = scores.topk(min(TOP_K, scores.shape[1])).values[:, -1:]
    scores = scores.masked_fill(scores < least, -torch.inf)
    ranked, order = scores.sort(dim=1)
    unlikely = ranked.softmax(dim=1).cumsum(dim=1) <= 1 - TOP_P
    unlikely[:, -1] = False
    scores = scores.masked_fill(unlikely.scatter(1, order, unlikely), -torch.inf)
    uniform = torch.stack([torch.rand(scores.shape[1], generator=each) for each in generators])
    return (scores - (-uniform.clamp_min(1e-20).log()).log().to(scores.device)).argmax(dim=1)


@torch.inference_mode()
def decode(model: Xtts, piece: Piece, drawn: Drawn) -> Spoken:
    """Codes → latents → wave, with the stop token as the last code, as `Xtts.inference`.

    Clips are decoded one by one: they have no use for each other, and one fills a processor.
    """
    gpt, device = model.gpt, model.device
    tokens = _tokens(model, piece)
    codes = [*drawn.codes, gpt.stop_audio_token] if drawn.stopped else drawn.codes
    latents = gpt(
        tokens[None],
        torch.tensor([len(tokens)], device=device),
        torch.tensor([codes], device=device),
        torch.tensor([len(codes) * gpt.code_stride_len], device=device),
        cond_latents=piece.cond_latent.to(device),
        return_latent=True,
    )
    wave = model.hifigan_decoder(latents, g=piece.embedding.to(device)).float().cpu().reshape(-1).numpy()
    return Spoken(wave, drawn.codes, drawn.stopped)
