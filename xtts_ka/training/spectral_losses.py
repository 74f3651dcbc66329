"""How far a made wave is from the true one, by their spectra: for the decoder.

Both losses ignore phase, which no latent determines; the discriminators judge the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import melscale_fbanks

RESOLUTIONS = (
    (512, 50, 240),
    (1024, 120, 600),
    (2048, 240, 1200),
)  # FFT, hop, window in samples (Yamamoto et al. 2020)
_FLOOR = 1e-5  # of magnitudes, as HiFi-GAN's log


class SpectralLoss(nn.Module):
    """Log-mel distance (HiFi-GAN) and multi-resolution STFT distance (Parallel WaveGAN), of waves (batch, samples).

    rate: of the waves in Hz; the mel has 80 bands up to half of it.
    """

    mel_bands: Tensor

    def __init__(self, rate: int):
        super().__init__()
        bands = melscale_fbanks(513, 0.0, rate / 2, 80, rate, norm="slaney", mel_scale="slaney")
        self.register_buffer("mel_bands", bands, persistent=False)
        for fft, _, window in {*RESOLUTIONS, (1024, 256, 1024)}:
            self.register_buffer(f"window{fft}_{window}", torch.hann_window(window), persistent=False)

    def forward(self, made: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        """(mel, STFT): mean absolute difference of log-mels; spectral convergence + log magnitudes, mean over three."""
        made, true = made.float(), true.float()
        mel = F.l1_loss(self.log_mel(made), self.log_mel(true))
        return mel, torch.stack([self._distance(made, true, *shape) for shape in RESOLUTIONS]).mean()

    def log_mel(self, wave: Tensor) -> Tensor:
        """(batch, frames, 80), a frame every 256 samples."""
        magnitudes = self._magnitudes(wave, 1024, 256, 1024)
        return (magnitudes.transpose(1, 2) @ self.mel_bands).clamp(min=_FLOOR).log()

    def _distance(self, made: Tensor, true: Tensor, fft: int, hop: int, window: int) -> Tensor:
        made, true = self._magnitudes(made, fft, hop, window), self._magnitudes(true, fft, hop, window)
        convergence = (true - made).norm(dim=(1, 2)) / true.norm(dim=(1, 2)).clamp(min=1.0)  # 1: of near silence
        return convergence.mean() + F.l1_loss(made.log(), true.log())

    def _magnitudes(self, wave: Tensor, fft: int, hop: int, window: int) -> Tensor:
        shape = getattr(self, f"window{fft}_{window}")
        spectrum = torch.stft(wave, fft, hop, window, shape, return_complex=True)
        return (spectrum.real.square() + spectrum.imag.square()).clamp(min=_FLOOR**2).sqrt()
