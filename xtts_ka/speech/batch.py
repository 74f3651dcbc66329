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

from xtts_ka.model.checkpoint import Xtts

# The defaults of `Xtts.inference`.
TEMPERATURE, TOP_K, TOP_P, REPETITION_PENALTY = 0.75, 50, 0.85, 10.0
TOGETHER = {"cpu": 8, "cuda": 32}  # pieces that a device speaks at once without running out of memory


@dataclass(frozen=True)
class Piece:
    """What is to be said: a normalised text within the model's character limit.

    cond_latent: (1, 32, model_dim); embedding: (1, 512, 1); most_codes: where the clip is cut if it has not ended;
    fewest_codes: with fewer it cannot hold the text, which speech/guard.py looks at.
    """

    text: str
    cond_latent: Tensor
    embedding: Tensor
    seed: int
    most_codes: int
    fewest_codes: int = 0


@dataclass(frozen=True)
class Spoken:
    """wave: float32 at the model's output rate; codes: without the stop token; stopped: the model ended by itself.

    stop_probability: of the stop token where the clip ends, at the temperature of the draw; 1 where it was cut.
    """

    wave: np.ndarray
    codes: int
    stopped: bool
    stop_probability: float = 1.0


def derived_seed(*parts: object) -> int:
    """A seed of 56 bits that changes with each of `parts`."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big")


@torch.inference_mode()
def speak_together(model: Xtts, pieces: Sequence[Piece]) -> list[Spoken]:
    """Speak `pieces` with a model that `xtts_ka.load_xtts` has loaded.

    The codes are drawn for all pieces together; latents and waves are computed one by one, as they have no use for each
    other and the decoder fills a processor with one clip.
    """
    device = model.device
    tokens = [
        torch.tensor(model.tokenizer.encode(piece.text.strip().lower(), lang="ka"), dtype=torch.int, device=device)
        for piece in pieces
    ]
    drawn, stops = _draw(model, pieces, tokens)
    return [_decode(model, *each) for each in zip(pieces, tokens, drawn, stops, strict=True)]


def _draw(model: Xtts, pieces: Sequence[Piece], tokens: Sequence[Tensor]) -> tuple[list[list[int]], list[float]]:
    """The audio codes of each piece, with the stop token if it was drawn, and its probability there."""
    gpt = model.gpt
    prefixes = []
    for piece, ids in zip(pieces, tokens, strict=True):
        gpt.compute_embeddings(piece.cond_latent.to(model.device), ids[None])
        prefixes.append(gpt.gpt_inference.cached_prefix_emb[0])
    longest = max(map(len, prefixes))
    padding = torch.tensor([longest - len(prefix) for prefix in prefixes], device=model.device)
    gpt.gpt_inference.store_prefix_emb(torch.stack([F.pad(p, (0, 0, longest - len(p), 0)) for p in prefixes]))
    prompt = torch.ones(len(pieces), longest + 1, dtype=torch.long, device=model.device)
    prompt[:, -1] = gpt.start_audio_token
    limits = [min(piece.most_codes, gpt.max_gen_mel_tokens - 1) for piece in pieces]
    sampler = _Sampler([piece.seed for piece in pieces], limits, gpt.stop_audio_token, longest + 1)
    sequences = gpt.gpt_inference.generate(
        prompt,
        attention_mask=(torch.arange(longest + 1, device=model.device) >= padding[:, None]).long(),
        bos_token_id=gpt.start_audio_token,
        pad_token_id=gpt.stop_audio_token,
        eos_token_id=gpt.stop_audio_token,
        max_length=longest + 1 + max(limits) + 1,
        do_sample=False,  # the sampler below draws; what it chose is then the largest score
        repetition_penalty=REPETITION_PENALTY,
        logits_processor=[sampler],
    )
    rows = sequences[:, longest + 1 :].tolist()
    drawn = [_until_stop(row, gpt.stop_audio_token, limit) for row, limit in zip(rows, limits, strict=True)]
    stops = torch.stack(sampler.stops, 1).cpu()
    return drawn, [float(row[len(codes) - 1]) for row, codes in zip(stops, drawn, strict=True)]


def _until_stop(codes: list[int], stop: int, limit: int) -> list[int]:
    end = codes.index(stop) + 1 if stop in codes else len(codes)
    return codes[: min(end, limit)]


class _Sampler:
    """Sampling with temperature, top-k and top-p, in that order as transformers does, by the Gumbel-max trick.

    Adding Gumbel noise to log-probabilities and taking the largest draws from the distribution, so each row can have a
    generator of its own. A row that has reached its limit draws the stop token. `stops`: for each step the probability
    of the stop token in every row, (rows,).
    """

    def __init__(self, seeds: Sequence[int], limits: Sequence[int], stop: int, prompt: int):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.limits, self.stop, self.prompt = torch.tensor(limits), stop, prompt
        self.stops: list[Tensor] = []

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        scores = scores.float() / TEMPERATURE
        self.stops.append(scores.softmax(dim=1)[:, self.stop])
        least = scores.topk(min(TOP_K, scores.shape[1])).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
        ranked, order = scores.sort(dim=1)
        unlikely = ranked.softmax(dim=1).cumsum(dim=1) <= 1 - TOP_P
        unlikely[:, -1] = False
        scores = scores.masked_fill(unlikely.scatter(1, order, unlikely), -torch.inf)
        uniform = torch.stack([torch.rand(scores.shape[1], generator=each) for each in self.generators])
        scores = scores - (-uniform.clamp_min(1e-20).log()).log().to(scores.device)
        over = (ids.shape[1] - self.prompt >= self.limits).to(scores.device)
        scores[over] = -torch.inf
        scores[over, self.stop] = 0.0
        return scores


def _decode(model: Xtts, piece: Piece, tokens: Tensor, codes: list[int], stop: float) -> Spoken:
    """Codes → latents → wave, with the stop token as the last code, as `Xtts.inference`."""
    gpt, device = model.gpt, model.device
    row = torch.tensor([codes], device=device)
    latents = gpt(
        tokens[None],
        torch.tensor([len(tokens)], device=device),
        row,
        torch.tensor([len(codes) * gpt.code_stride_len], device=device),
        cond_latents=piece.cond_latent.to(device),
        return_latent=True,
    )
    wave = model.hifigan_decoder(latents, g=piece.embedding.to(device)).float().cpu().reshape(-1).numpy()
    stopped = codes[-1] == gpt.stop_audio_token
    return Spoken(wave, len(codes) - stopped, stopped, stop if stopped else 1.0)
