"""What audio codes sound like, without the vocoder, which takes most of the time of speaking.

The DVAE turns codes into the mel spectrogram that they stand for. It has as many bands as the one that the recogniser
hears, over the same range, so a change of the frame rate is enough: the bands' scales differ by constants, and the
recogniser takes each band's mean away. docs/experiments.md says how much less it understands than of the wave.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xtts_ka.core.digests import file_digest, hash_value
from xtts_ka.model.checkpoint import read_config
from xtts_ka.model.features import load_dvae, read_mel_stats
from xtts_ka.model.geometry import FRAMES_PER_SECOND, MEL_BANDS
from xtts_ka.model.narrow import slim_dvae
from xtts_ka.recognition.recogniser import FLOOR, HOP, RATE

FILES = ("dvae.pth", "mel_stats.pth")
FRAME_SECONDS = HOP / RATE
_ABOVE_WAVE = 13.7  # dB by which the mel's power lies above the wave's (278 clips, standard deviation 1.6)


class CodeSound:
    """The DVAE of a model folder."""

    def __init__(self, folder: Path, device: str):
        """UserError where one of the FILES is damaged."""
        dvae = load_dvae(folder / "dvae.pth", read_config(folder, needed=FILES), "decoder")
        self.dvae = slim_dvae(dvae).eval().to(device)
        self.scale = read_mel_stats(folder / "mel_stats.pth").to(device)
        self.folder, self.device = folder, device

    @property
    def key(self) -> str:
        """Changes with the FILES."""
        return hash_value([file_digest(self.folder / name) for name in FILES])

    @torch.inference_mode()
    def mel(self, codes: Sequence[int]) -> Tensor:
        """Natural logarithm of mel power, (frames, 80), as the recogniser's `log_mel`, on the CPU."""
        known = [code for code in codes if code < self.dvae.num_tokens]
        if not known:
            return torch.full((1, MEL_BANDS), math.log(FLOOR))
        mel = self.dvae.decode(torch.tensor([known], device=self.device))[0] * self.scale[:, None]
        frames = max(1, round(mel.shape[-1] / FRAMES_PER_SECOND / FRAME_SECONDS))
        return F.interpolate(mel, size=frames, mode="linear")[0].T.cpu()


def mel_loudness(mel: Tensor) -> np.ndarray:
    """(frames, 80) of `CodeSound.mel` → dB of the wave's full scale of each frame of FRAME_SECONDS."""
    return 10 * np.log10(mel.exp().mean(1).numpy() + 1e-12) - _ABOVE_WAVE
