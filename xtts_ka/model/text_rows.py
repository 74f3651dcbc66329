"""Where the new text rows start: from what the base model already knows of their sound, or from its statistics.

XTTS's text tokens are pieces of spelling, and its base languages spell the sounds of Georgian in Latin letters: a new
token is transcribed, romanised, cut by the base tokenizer, and its embedding starts as the mean of those pieces' trained
rows. Its head starts at the mean head (see docs/experiments.md for what that is worth).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xtts_ka.georgian.phonology import broad_chunks, romanise
from xtts_ka.model.checkpoint import XttsFiles, load_gpt
from xtts_ka.model.compact_gpt import CompactGPT

NOISE = 0.05  # of a row's norm: keeps tokens of equal spelling (კ, ქ) apart


@dataclass(frozen=True)
class NewRows:
    """embedding, head: (new, model_dim); bias: (new,); anchored: tokens that found base pieces (informed only)."""

    embedding: Tensor
    head: Tensor
    bias: Tensor
    anchored: int


def new_rows(
    method: str, tokens: list[str], state: dict[str, Tensor], tokenizer, log_frequencies: list[float] | None, seed: int
) -> NewRows:
    """Start rows for new `tokens` (in id order).

    method: informed, mean or random. state: the base GPT's `text_embedding.weight`, `text_head.weight`,
    `text_head.bias`. tokenizer: the base one. log_frequencies: natural log of each token's share of the text, to set the
    biases from; None leaves them at the mean of the trained ones.
    """
    generator = torch.Generator().manual_seed(seed)
    trained = torch.tensor(sorted(set(tokenizer.get_vocab().values())))
    pieces = [base_pieces(token, tokenizer) for token in tokens] if method == "informed" else [[] for _ in tokens]
    tables = {}
    for name in ("text_embedding", "text_head"):
        rows = state[f"{name}.weight"].float()
        norm = rows[trained].norm(dim=1).median()
        # Only the input side is informed: heads that share one direction are raised together, and learn far sooner.
        start = _start(method, rows, trained, pieces if name == "text_embedding" else [[] for _ in tokens], generator)
        noise = torch.randn(start.shape, generator=generator)
        noise = noise / noise.norm(dim=1, keepdim=True)
        start = start / start.norm(dim=1, keepdim=True).clamp(min=1e-12) + (NOISE * noise if method != "random" else 0)
        tables[name] = norm * start / start.norm(dim=1, keepdim=True)
    bias = state["text_head.bias"].float()[trained].mean().expand(len(tokens)).clone()
    if log_frequencies is not None:
        shares = torch.tensor(log_frequencies)
        bias += shares - shares.mean()
    return NewRows(tables["text_embedding"], tables["text_head"], bias, sum(bool(p) for p in pieces))


def base_pieces(token: str, tokenizer) -> list[int]:
    """Ids of the base tokens that spell a Georgian token's sound, or of all language tokens for `[ka]`."""
    vocabulary = tokenizer.get_vocab()
    if token.startswith("["):
        return sorted(i for t, i in vocabulary.items() if t.startswith("[") and t.lower() == t)
    phonemes = [symbol for chunk in broad_chunks(token) for symbol in chunk]
    unknown = vocabulary["[UNK]"]
    return [i for i in tokenizer.encode(romanise(phonemes)).ids if i != unknown]


def _start(method: str, rows: Tensor, trained: Tensor, pieces: list[list[int]], generator: torch.Generator) -> Tensor:
    mean, spread = rows[trained].mean(dim=0), rows[trained].std(dim=0)
    if method == "random":
        return mean + spread * torch.randn(len(pieces), rows.shape[1], generator=generator)
    return torch.stack([rows[ids].mean(dim=0) if ids else mean for ids in pieces])


def old_logits_change(base: XttsFiles, extended: XttsFiles, tokenizer) -> dict[str, float]:
    """Proof that the extension leaves the base languages alone: text logits over the old tokens, before and after.

    Reads a sentence of each script the base knows through both GPTs (no voice: zero latents) and compares.
    """
    sentences = (
        "[en]the[SPACE]weather[SPACE]is[SPACE]fine[SPACE]today.",
        "[de]guten[SPACE]morgen,[SPACE]wie[SPACE]geht[SPACE]es?",
        "[es]¿qué[SPACE]hora[SPACE]es?",
        "[ru]доброе[SPACE]утро,[SPACE]друзья.",
    )
    encoded = [tokenizer.encode(sentence).ids for sentence in sentences]
    before, after = (_text_logits(model, encoded) for model in (base, extended))
    change = max(float((a[:, : b.shape[1]] - b).abs().max()) for b, a in zip(before, after))
    return {"old_logits_max_change": change, "old_logits_compared": sum(b.numel() for b in before)}


@torch.inference_mode()
def _text_logits(model: XttsFiles, encoded: list[list[int]]) -> list[Tensor]:
    """(tokens, text_rows) logits of each sentence."""
    gpt = load_gpt(model).eval()
    compact, logits = CompactGPT(gpt), []
    for ids in encoded:
        text = torch.tensor([[gpt.start_text_token, *ids]])
        x = gpt.text_embedding(text) + gpt.text_pos_embedding(text)
        x = torch.cat([x.new_zeros(1, 32, x.shape[2]), x], dim=1)
        logits.append(gpt.text_head(gpt.final_norm(compact.transform(x)[0, 32:])))
    return logits
