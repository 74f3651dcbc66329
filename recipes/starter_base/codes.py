"""Step 6: the DVAE's codes of all clips, in `codes.npz`.

`codes` (uint16) holds those of all clips one behind the other, in the order of `Speech.clips`; `ends` (int64) says
where each clip's end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from TTS.tts.layers.tortoise.arch_utils import TorchMelSpectrogram

from starter_base import sizes
from starter_base.speech import Speech
from xtts_ka.core.console import progress, say
from xtts_ka.core.files import atomic_path
from xtts_ka.core.tensor_files import save_torch
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.model import geometry as g
from xtts_ka.model.features import FeatureExtractor
from xtts_ka.model.networks import build_dvae

CODES = "codes.npz"
AT_ONCE = 400  # seconds of audio that are encoded together


class NarrowFeatures(FeatureExtractor):
    """Codes of clips as `FeatureExtractor` computes them, by a narrow DVAE."""

    def __init__(self, dvae: torch.nn.Module, mel_stats: Path, device: str):
        self.dvae, self.device = dvae.eval().to(device), device
        self._dvae_mel = TorchMelSpectrogram(filter_length=g.MEL_WINDOW, mel_norm_file=str(mel_stats)).to(device)
        self._dvae_mel.mel_stft.spectrogram.center = False  # the clips are reflected already

    @torch.inference_mode()
    def codes(self, clips: list[Tensor]) -> list[np.ndarray]:
        """Codes of each clip (1, samples), uint16."""
        found = self.dvae.codebook(self._encoded(self._reflected(clips), clips))[1].cpu().numpy().astype(np.uint16)
        return [row[: g.codes_of(clip.shape[1])] for row, clip in zip(found, clips)]


def mel_stats_file(work: Path) -> Path:
    """`mel_stats.safetensors` as the file that coqui's mel wants."""
    file = work / "mel_stats.pth"
    if not file.is_file():
        save_torch(file, load_file(work / "mel_stats.safetensors")["mel_stats"])
    return file


def load_dvae(work: Path) -> torch.nn.Module:
    dvae = build_dvae(g.AUDIO_CODES, **sizes.DVAE)
    dvae.load_state_dict(load_file(work / "dvae.safetensors"))
    return dvae


def longest_first(lengths: Sequence[int], at_once: int) -> Iterator[list[int]]:
    """The clips in batches of at most `at_once` with their padding, so that memory runs out soon or never."""
    order = np.argsort(lengths, kind="stable").tolist()
    while order:
        count = max(1, at_once // max(1, lengths[order[-1]]))
        yield order[-count:]
        del order[-count:]


def run(work: Path, options: Any) -> None:
    """Write `work/codes.npz`."""
    device = choose_device(options.device)
    speech, extractor = Speech(work), NarrowFeatures(load_dvae(work), mel_stats_file(work), device)
    found: list[np.ndarray] = [np.zeros(0, np.uint16)] * len(speech.clips)
    with progress(total=len(found), what="codes", unit="clip") as bar:
        for batch in longest_first([clip.samples for clip in speech.clips], AT_ONCE * g.SAMPLE_RATE):
            for clip, codes in zip(batch, extractor.codes([speech.wave(clip) for clip in batch])):
                found[clip] = codes
            bar.update(len(batch))
    ends = np.cumsum([len(codes) for codes in found], dtype=np.int64)
    with atomic_path(work / CODES) as temporary, open(temporary, "wb") as file:
        np.savez(file, codes=np.concatenate(found), ends=ends)
    used = len(np.unique(np.concatenate(found)))
    say(f"codes       {ends[-1]:,} of {len(found):,} clips; {used} of the codebook's {g.AUDIO_CODES} are used")
