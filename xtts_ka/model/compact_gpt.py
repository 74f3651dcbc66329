"""XTTS's GPT on batches without padding: the losses of coqui's `GPT.forward`, on fused attention kernels.

coqui pads text and audio into two blocks and masks the padding, which rules out the fused causal kernels, and runs
every padded position through the output heads. Here each row is [conditioning | text | audio] without gaps (see
`data_loader.CollateFunction`), so plain causal attention is correct, and the heads see scored positions only.
tests/model/test_compact_gpt.py compares losses and gradients with coqui's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from TTS.tts.layers.xtts.gpt import GPT


class CompactGPT(nn.Module):
    """coqui's GPT (its parameters keep their names, after `gpt.`) with a forward pass for batches without padding.

    dropout: applied where GPT-2 has it on embeddings and residual branches. Dropout of attention weights is left out:
    the fused kernels of a CPU do not offer it.
    """

    gpt: GPT

    def __init__(self, gpt: GPT, dropout: float = 0.0, gradient_checkpointing: bool = False):
        super().__init__()
        self.gpt, self.dropout, self.gradient_checkpointing = gpt, dropout, gradient_checkpointing
        self._block = _transformer_block

    def compile_blocks(self) -> None:
        """Compile the transformer block, once for all layers and shapes."""
        self._block = torch.compile(_transformer_block, dynamic=True)

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Summed cross-entropies (text, audio) in nats over the batch's scored positions.

        batch: from `data_loader.CollateFunction`. Divide the sums by `len(batch["text_target"])` and
        `len(batch["audio_target"])`, over all ranks and micro-batches of the step, for coqui's mean losses.
        """
        return self.losses(batch, self.hidden(batch))

    def losses(self, batch: dict[str, Any], hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The same from `hidden` states."""
        gpt = self.gpt

        def summed_loss(head: nn.Module, kind: str) -> Tensor:
            scores = head(gpt.final_norm(hidden[batch[f"{kind}_scored"]]))
            return F.cross_entropy(scores.float(), batch[f"{kind}_target"], reduction="sum")

        return summed_loss(gpt.text_head, "text"), summed_loss(gpt.mel_head, "audio")

    def hidden(self, batch: dict[str, Any]) -> Tensor:
        """The hidden states of a batch's flat grid, (rows × length, dim), before `final_norm`."""
        gpt = self.gpt
        rows, length = batch["shape"]
        voice = voice_latents(gpt, batch["cond_mels"])[batch["cond_of"]]
        text = gpt.text_embedding(batch["text"]) + gpt.text_pos_embedding.emb(batch["text_position"])
        audio = gpt.mel_embedding(batch["audio"]) + gpt.mel_pos_embedding.emb(batch["audio_position"])
        filled = torch.cat([voice.flatten(0, 1), text.to(voice.dtype), audio.to(voice.dtype)])
        where = torch.cat([batch["cond_at"], batch["text_at"], batch["audio_at"]])
        grid = filled.new_zeros(rows * length, filled.shape[1]).index_copy(0, where, filled)
        return self.transform(grid.view(rows, length, -1)).flatten(0, 1)

    def transform(self, x: Tensor) -> Tensor:
        """GPT-2's blocks and last norm on (rows, length, dim) embeddings."""
        x = F.dropout(x, self.dropout if self.training else 0.0)
        for block in self.gpt.gpt.h:
            x = self.through(block, x)
        return self.gpt.gpt.ln_f(x)

    def through(self, block: Any, x: Tensor) -> Tensor:
        """One of these blocks."""
        if not self.training:
            return self._block(block, x, self.gpt.heads, 0.0)
        if self.gradient_checkpointing:
            return checkpoint(self._block, block, x, self.gpt.heads, self.dropout, use_reentrant=False)
        return self._block(block, x, self.gpt.heads, self.dropout)


def _transformer_block(block: Any, x: Tensor, heads: int, dropout: float) -> Tensor:
    """One block of GPT-2 (transformers' `GPT2Block`) on (rows, length, dim), with causal attention over each row."""
    rows, length, dim = x.shape
    projected = block.attn.c_attn(block.ln_1(x)).view(rows, length, 3, heads, dim // heads)
    query, key, value = projected.permute(2, 0, 3, 1, 4)
    mixed = _attention(query, key, value, causal=True)
    x = x + F.dropout(block.attn.c_proj(mixed.transpose(1, 2).reshape(rows, length, dim)), dropout)
    inner = F.gelu(block.mlp.c_fc(block.ln_2(x)), approximate="tanh")
    return x + F.dropout(block.mlp.c_proj(inner), dropout)


def _attention(query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> Tensor:
    """Attention over (rows, heads, length, width).

    On a CPU in bfloat16 two products and a softmax take 0.4 to 0.8 of the fused kernel's time, forward and back, with
    lengths of 128 to 512; in float32 they take longer.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores.softmax(-1) @ value


def voice_latents(gpt: GPT, mels: Tensor) -> Tensor:
    """(rows, 80, frames) mels → (rows, 32, dim) conditioning latents: coqui's `get_style_emb` with fused attention."""
    encoder = gpt.conditioning_encoder
    x = _pointwise(encoder.init, mels.transpose(1, 2))
    for block in encoder.attn:
        x = block.norm(x.transpose(1, 2)).transpose(1, 2)  # XTTS adds the attention to the normalised input
        rows, frames, dim = x.shape
        heads = block.num_heads
        query, key, value = _pointwise(block.qkv, x).view(rows, frames, heads, 3, dim // heads).permute(3, 0, 2, 1, 4)
        mixed = _attention(query, key, value)
        x = x + _pointwise(block.proj_out, mixed.transpose(1, 2).reshape(rows, frames, dim))
    return _resample(gpt.conditioning_perceiver, x)


def _pointwise(convolution: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution of width 1 on (rows, frames, channels), computed as a matrix product.

    Keeping channels last also suits the fused attention kernels of a CPU.
    """
    return F.linear(x, convolution.weight.squeeze(2), convolution.bias)


def _resample(perceiver: Any, context: Tensor) -> Tensor:
    """coqui's PerceiverResampler: 32 learned queries attend to themselves and to the context, (rows, frames, dim)."""
    latents = perceiver.latents.to(context.dtype).expand(len(context), -1, -1)
    context = perceiver.proj_context(context)
    for attention, feed_forward in perceiver.layers:
        seen = torch.cat([latents, context], dim=1)
        query, key, value = (
            part.unflatten(2, (attention.heads, -1)).transpose(1, 2)
            for part in (attention.to_q(latents), *attention.to_kv(seen).chunk(2, dim=2))
        )
        mixed = _attention(query, key, value).transpose(1, 2).flatten(2)
        latents = attention.to_out(mixed) + latents
        latents = feed_forward(latents) + latents
    return perceiver.norm(latents)
