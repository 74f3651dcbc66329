"""How far the voice of a made wave is from that of the true one: for the decoder."""

from __future__ import annotations

import torchaudio
from torch import Tensor, nn
from torch.nn import functional as F

from xtts_ka.model import geometry as g


class VoiceLoss(nn.Module):
    """1 - cosine of the speaker embeddings of waves (batch, samples) at 24 kHz, mean over the batch.

    It is the speaker consistency loss of YourTTS (Casanova et al. 2022), which XTTS's decoder was trained with too.
    encoder: XTTS's speaker encoder; its weights stay as they are.
    """

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self._resample = torchaudio.transforms.Resample(g.DECODER_RATE, g.SPEAKER_RATE)

    def train(self, mode: bool = True) -> VoiceLoss:
        """The encoder always computes as in use: its batch norms neither learn nor take statistics of a batch."""
        return self

    def forward(self, made: Tensor, true: Tensor) -> Tensor:
        return (1 - F.cosine_similarity(self._embedding(made), self._embedding(true).detach())).mean()

    def _embedding(self, wave: Tensor) -> Tensor:
        return self.encoder(self._resample(wave.float()))
