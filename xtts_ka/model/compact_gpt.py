"""XTTS's GPT on compact batches: the same weights and losses as coqui's `GPT.forward`, on the fused kernels.

coqui lays text and audio out in padded blocks and masks the holes, which rules out the fused causal kernels, and projects
every padded position through the heads. Here each row is [conditioning | text | audio] without holes (see
`data_loader.CollateFunction`), so causal attention alone is right, and the heads see scored positions only. That the
result is the same is tested against coqui in tests/test_gpt_step.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class CompactGPT(nn.Module):
    """Wraps coqui's GPT (its parameters keep their names under `gpt.`) with a forward for compact batches.

    dropout acts where GPT-2 has it on embeddings and residual branches; dropout on attention weights, which the fused
    kernels of a CPU cannot do, is left out.
    """

    def __init__(self, gpt: nn.Module, dropout: float = 0.0, gradient_checkpointing: bool = False):
        super().__init__()
        self.gpt, self.dropout, self.gradient_checkpointing = gpt, dropout, gradient_checkpointing

    def compile_blocks(self) -> None:
        """Compile the transformer block, once for all layers and shapes."""
        self._block = torch.compile(self._block, dynamic=True)

    def forward(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Summed cross-entropies (text, audio) in nats over the batch's scored positions.

        Divide by `len(batch["text_target"])` and `len(batch["audio_target"])` (over all ranks and micro-batches of the
        step) for coqui's mean losses.
        """
        gpt = self.gpt
        rows, length = batch["shape"]
        voice = voice_latents(gpt, batch["cond_mels"])
        text = gpt.text_embedding(batch["text"]) + gpt.text_pos_embedding.emb(batch["text_position"])
        audio = gpt.mel_embedding(batch["audio"]) + gpt.mel_pos_embedding.emb(batch["audio_position"])
        filled = torch.cat([voice.flatten(0, 1), text.to(voice.dtype), audio.to(voice.dtype)])
        where = torch.cat([batch["cond_at"], batch["text_at"], batch["audio_at"]])
        grid = filled.new_zeros(rows * length, filled.shape[1]).index_copy(0, where, filled)
        hidden = self.transform(grid.view(rows, length, -1)).flatten(0, 1)
        return (
            _summed_loss(gpt.text_head, gpt.final_norm, hidden[batch["text_scored"]], batch["text_target"]),
            _summed_loss(gpt.mel_head, gpt.final_norm, hidden[batch["audio_scored"]], batch["audio_target"]),
        )

    def transform(self, x: Tensor) -> Tensor:
        """GPT-2's blocks and last norm on (rows, length, dim) embeddings."""
        x = self._drop(x)
        for block in self.gpt.gpt.h:
            if self.gradient_checkpointing and self.training:
                x = checkpoint(self._block, block, x, use_reentrant=False)
            else:
                x = self._block(block, x)
        return self.gpt.gpt.ln_f(x)

    def _block(self, block: nn.Module, x: Tensor) -> Tensor:
        rows, length, dim = x.shape
        heads = self.gpt.heads
        query, key, value = (
            block.attn.c_attn(block.ln_1(x)).view(rows, length, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self._drop(block.attn.c_proj(mixed.transpose(1, 2).reshape(rows, length, dim)))
        inner = F.gelu(block.mlp.c_fc(block.ln_2(x)), approximate="tanh")
        return x + self._drop(block.mlp.c_proj(inner))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


def _summed_loss(head: nn.Module, norm: nn.Module, hidden: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(head(norm(hidden)).float(), target, reduction="sum")


def voice_latents(gpt: nn.Module, mels: Tensor) -> Tensor:
    """(rows, 80, frames) mels → (rows, 32, dim) conditioning latents: coqui's `get_style_emb`, attention fused."""
    encoder = gpt.conditioning_encoder
    x = _pointwise(encoder.init, mels.transpose(1, 2))
    for block in encoder.attn:
        x = block.norm(x.transpose(1, 2)).transpose(1, 2)  # XTTS adds the attention to the normed input
        rows, frames, dim = x.shape
        heads = block.num_heads
        query, key, value = _pointwise(block.qkv, x).view(rows, frames, heads, 3, dim // heads).permute(3, 0, 2, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + _pointwise(block.proj_out, mixed.transpose(1, 2).reshape(rows, frames, dim))
    return _resample(gpt.conditioning_perceiver, x)


def _pointwise(convolution: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution of width 1 as the matrix product that it is, on (rows, frames, channels).

    Channels last is also what the fused attention kernels of a CPU ask for.
    """
    return F.linear(x, convolution.weight.squeeze(2), convolution.bias)


def _resample(perceiver: nn.Module, context: Tensor) -> Tensor:
    """coqui's PerceiverResampler: 32 learned queries over (themselves and) the context, (rows, frames, dim)."""
    latents = perceiver.latents.to(context.dtype).expand(len(context), -1, -1)
    context = perceiver.proj_context(context)
    for attention, feed_forward in perceiver.layers:
        seen = torch.cat([latents, context], dim=1)
        query, key, value = (
            part.unflatten(2, (attention.heads, -1)).transpose(1, 2)
            for part in (attention.to_q(latents), *attention.to_kv(seen).chunk(2, dim=2))
        )
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        latents = attention.to_out(mixed) + latents
        latents = feed_forward(latents) + latents
    return perceiver.norm(latents)
