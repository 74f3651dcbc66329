"""Initial values for the new rows of the text embedding and the text head.

XTTS's text tokens are pieces of spelling, and its base languages write the sounds of Georgian in Latin letters. So a
new token is romanised, the base tokenizer splits the result, and the token's embedding starts as the
mean of those pieces' trained embeddings. Its row of the head starts at the mean head (measured in
docs/experiments.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from xtts_ka.georgian.phonology import romanise
from xtts_ka.model.checkpoint import XttsFiles, load_gpt
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.model.geometry import COND_POSITIONS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NOISE = 0.05  # of a row's norm: tokens that are romanised alike (კ, ქ) must not start equal


@dataclass(frozen=True)
class NewRows:
    """embedding, head: (new, model_dim); bias: (new,); anchored: how many tokens found base pieces (informed only)."""

    embedding: Tensor
    head: Tensor
    bias: Tensor
    anchored: int


def new_rows(
    method: str,
    tokens: list[str],
    state: dict[str, Tensor],
    tokenizer: Tokenizer,
    log_frequencies: list[float] | None,
    seed: int,
) -> NewRows:
    """Initial rows for new `tokens` (in id order).

    method: "informed", "mean" or "random". state: the base GPT's `text_embedding.weight`, `text_head.weight` and
    `text_head.bias`. tokenizer: the base one. log_frequencies: natural log of each token's share of the text, from
    which the biases are set; with None they start at the mean of the trained ones.
    """
    generator = torch.Generator().manual_seed(seed)
    trained = torch.tensor(sorted(set(tokenizer.get_vocab().values())))
    none: list[list[int]] = [[] for _ in tokens]
    pieces = [base_pieces(token, tokenizer) for token in tokens] if method == "informed" else none

    def rows_of(table: str, pieces: list[list[int]]) -> Tensor:
        rows = state[f"{table}.weight"].float()
        mean, spread = rows[trained].mean(dim=0), rows[trained].std(dim=0)
        drawn = torch.randn(len(pieces), rows.shape[1], generator=generator)
        if method == "random":
            start = mean + spread * drawn
        else:
            start = torch.stack([rows[ids].mean(dim=0) if ids else mean for ids in pieces])
            start = F.normalize(start, dim=1) + NOISE * F.normalize(drawn, dim=1)
        return rows[trained].norm(dim=1).median() * F.normalize(start, dim=1)

    embedding = rows_of("text_embedding", pieces)
    head = rows_of("text_head", none)  # heads that start in one direction are raised together, and learn far sooner
    bias = state["text_head.bias"].float()[trained].mean().expand(len(tokens)).clone()
    if log_frequencies is not None:
        shares = torch.tensor(log_frequencies)
        bias += shares - shares.mean()
    return NewRows(embedding, head, bias, sum(map(bool, pieces)))


def base_pieces(token: str, tokenizer: Tokenizer) -> list[int]:
    """Ids of the base tokens that spell a Georgian token's sound; for `[ka]`, those of all language tokens."""
    vocabulary = tokenizer.get_vocab()
    if token.startswith("["):
        return sorted(i for t, i in vocabulary.items() if t.startswith("[") and t.lower() == t)
    unknown = vocabulary["[UNK]"]
    return [i for i in tokenizer.encode(romanise(token)).ids if i != unknown]


def old_logits_change(base: XttsFiles, extended: XttsFiles, tokenizer: Tokenizer) -> dict[str, float]:
    """How much the extension changes the text logits of old tokens, at most: proof that old languages are untouched.

    Both GPTs read a sentence in each script that the base knows, without a voice (zeros as conditioning latents).
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
        x = torch.cat([x.new_zeros(1, COND_POSITIONS, x.shape[2]), x], dim=1)
        logits.append(gpt.text_head(gpt.final_norm(compact.transform(x)[0, COND_POSITIONS:])))
    return logits
