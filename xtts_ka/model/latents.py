"""The GPT's latents of a clip whose codes are known, as `Xtts.inference` makes them, and how the decoder reads them.

coqui generates codes, then runs the GPT once more over [voice | text | codes] and hands the normed hidden states to the
decoder: the one that predicts a code stands for that code. tests/model/test_latents.py compares with coqui's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from xtts_ka.model import geometry as g
from xtts_ka.model.compact_gpt import CompactGPT

if TYPE_CHECKING:
    from TTS.tts.layers.xtts.gpt import GPT

FRAMES_PER_LATENT = g.FRAMES_PER_CODE * g.DECODER_RATE / g.SAMPLE_RATE  # of the decoder's input: 4.35
SAMPLES_PER_LATENT = FRAMES_PER_LATENT * g.DECODER_HOP  # of its wave at 24 kHz: 1,114.6


@torch.no_grad()
def teacher_forced_latents(gpt: GPT, voices: Tensor, texts: Sequence[Tensor], codes: Sequence[Tensor]) -> list[Tensor]:
    """The latents of each row's codes, float32 (codes, model_dim), on the GPT's device.

    voices: (rows, 32, model_dim) conditioning latents. texts, codes: int64 (n,) each, without start and stop. Rows of
    different length may be computed together: attention is causal, so what pads a row changes nothing before it.
    """
    device, rows = voices.device, []
    for text, row in zip(texts, codes):
        inner = F.pad(F.pad(text.to(device), (1, 0), value=gpt.start_text_token), (0, 1), value=gpt.stop_text_token)
        audio = F.pad(row.to(device)[:-1], (1, 0), value=gpt.start_audio_token)
        written = gpt.text_embedding(inner) + gpt.text_pos_embedding.emb.weight[: len(inner)]
        spoken = gpt.mel_embedding(audio) + gpt.mel_pos_embedding.emb.weight[: len(audio)]
        rows.append(torch.cat([written, spoken]))
    hidden = CompactGPT(gpt).eval().transform(torch.cat([voices, pad_sequence(rows, batch_first=True)], dim=1))
    ends = [g.COND_POSITIONS + len(row) for row in rows]
    return [
        gpt.final_norm(line[end - len(row) : end]).float() for line, end, row in zip(hidden, ends, codes, strict=True)
    ]


@torch.no_grad()
def code_nats(gpt: GPT, voices: Tensor, texts: Sequence[Tensor], codes: Sequence[Tensor]) -> float:
    """The GPT's mean cross-entropy in nats over all these codes. Arguments as above."""
    latents = teacher_forced_latents(gpt, voices, texts, codes)
    targets = torch.cat(list(codes)).to(voices.device)
    return float(F.cross_entropy(gpt.mel_head(torch.cat(latents)).float(), targets))


def decode_latents(vocoder: nn.Module, latents: Tensor, voices: Tensor) -> Tensor:
    """(batch, latents, model_dim) and voices (batch, 512, 1) → wave (batch, 1, samples).

    The two interpolations are those of coqui's HifiDecoder: from 21.5 latents a second to 86 frames, then to 94.
    """
    frames = F.interpolate(latents.transpose(1, 2), scale_factor=[g.FRAMES_PER_CODE], mode="linear")
    frames = F.interpolate(frames, scale_factor=[g.DECODER_RATE / g.SAMPLE_RATE], mode="linear")
    return vocoder(frames, g=voices)
