"""The log-mel spectrograms of all training clips in one file, made once and kept until the recogniser is trained.

A band of a frame takes one byte: steps of 0.1 neper (0.4 dB), 29 MB an hour, 4.3 GB for 150 hours. A killed run
carries on behind the last clip that was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xtts_ka.core.console import progress
from xtts_ka.core.files import append_bytes
from xtts_ka.corpus.audio import read_mono
from xtts_ka.corpus.tables import Clip
from xtts_ka.recognition.recogniser import MELS, at_rate, log_mel

STEP, LOWEST = 0.1, -14.0  # nepers a unit, and the value of 0; 255 is 11.5, above what full scale can reach
_AT_ONCE = 64  # clips appended together
_THREADS = 8  # decoding and transforming release Python's lock


class SoundCache:
    """Spectrograms by number. folder: of the files `mels.u8` and `frames.i4`, made for exactly these `clips`."""

    def __init__(self, folder: Path, clips: Sequence[Clip]):
        self._mels, self._frames = folder / "mels.u8", folder / "frames.i4"
        folder.mkdir(parents=True, exist_ok=True)
        self._fill(clips)
        self.frames = np.fromfile(self._frames, "<i4").astype(np.int64)
        self._ends = self.frames.cumsum()
        self._rows = np.memmap(self._mels, np.uint8, "r", shape=(int(self._ends[-1]), MELS))

    def _fill(self, clips: Sequence[Clip]) -> None:
        """Append the clips that are missing; whatever a kill left half-written is cut off first."""
        done = np.fromfile(self._frames, "<i4") if self._frames.exists() else np.zeros(0, "<i4")
        if len(done) and (not self._mels.exists() or self._mels.stat().st_size < int(done.sum()) * MELS):
            done = done[:0]  # the spectrograms did not reach the disk
        for file, size in ((self._frames, done.nbytes), (self._mels, int(done.sum()) * MELS)):
            with open(file, "ab") as opened:
                opened.truncate(size)
        left = clips[len(done) :]
        if not left:
            return
        with ThreadPoolExecutor(_THREADS) as pool, progress(what="listening", unit="clip", total=len(left)) as bar:
            for some in _batched(left):
                mels = list(pool.map(clip_mel, some))
                append_bytes(self._mels, b"".join(_packed(mel) for mel in mels))
                append_bytes(self._frames, np.array([len(mel) for mel in mels], "<i4").tobytes())
                bar.update(len(mels))

    def __getitem__(self, number: int) -> Tensor:
        """(frames, MELS) uint8 of clip `number`; `unpacked` makes nepers of it."""
        end = int(self._ends[number])
        return torch.from_numpy(np.array(self._rows[end - int(self.frames[number]) : end]))


def clip_mel(clip: Clip) -> Tensor:
    """The recording's log-mel spectrogram, (frames, MELS) float32. AudioError where it cannot be read."""
    return log_mel(at_rate(*read_mono(clip.sound)))


def _batched(clips: Sequence[Clip]) -> list[Sequence[Clip]]:
    return [clips[start : start + _AT_ONCE] for start in range(0, len(clips), _AT_ONCE)]


def _packed(mel: Tensor) -> bytes:
    return ((mel - LOWEST) / STEP).round().clamp(0, 255).to(torch.uint8).numpy().tobytes()


def unpacked(mels: Tensor) -> Tensor:
    """uint8 → float32 nepers."""
    return mels.float() * STEP + LOWEST
