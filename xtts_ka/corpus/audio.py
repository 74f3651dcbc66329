"""Reads recordings as mono samples with bounded memory, measures them, and writes wav files atomically.

libsndfile reads wav, flac, ogg (Vorbis, Opus) and mp3 at any rate and channel count. A header can be wrong or hostile,
so every limit is checked against the samples that are really decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import re
import stat
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import write_bytes
from xtts_ka.corpus.drop_reasons import Drop

RATES = (4_000, 384_000)  # Hz; a header with another rate is taken for damaged
MAX_CHANNELS = 64
MAX_SAMPLES = 2**27  # per channel, returned by one call at most: 512 MiB of float32, 1.7 hours at 22,050 Hz
FULL_SCALE = 0.99  # a sample of this amplitude counts as clipped: 8-bit audio ends at 127/128, mp3 rounds peaks off

_BLOCK_VALUES = 2**19  # samples × channels decoded at a time: 2 MiB of float32
_UNKNOWN_FRAMES = 2**62  # libsndfile reports 2**63 - 1 where the header does not give the length
_OPEN_ENDED_BYTES = 0x7FFF0000  # the header of a wav written to a pipe claims this many data bytes, or more
_WAV_CUT = re.compile(r"data\s*:\s*(\d+) \(should be (\d+)\)")


class AudioError(UserError):
    """A recording cannot be used. reason: as in the drop report; detail: for people."""

    def __init__(self, path: Path | str, reason: Drop, detail: str):
        self.reason, self.detail = reason, detail
        super().__init__(f"{path}: {detail} ({reason})")


@dataclass(frozen=True, slots=True)
class AudioContent:
    """What a recording holds, measured on its decoded mono mix."""

    seconds: float
    peak: float  # largest absolute sample of the mono mix
    clipped_fraction: float  # share of the samples, over all channels, at or beyond `FULL_SCALE`
    sha256: str  # of rate and mono samples: equal for a wav and its flac copy


def read_mono(path: Path | str, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Read the first `max_seconds` of a recording as (float32 samples (n,), rate in Hz), channels averaged.

    AudioError with reason MISSING_AUDIO, UNREADABLE_AUDIO, EMPTY_AUDIO (no samples), NON_FINITE_AUDIO, or TOO_LONG
    (more than MAX_SAMPLES, where no `max_seconds` is given).
    """
    with _opened(path) as sound:
        rate = sound.samplerate
        limit = MAX_SAMPLES if max_seconds is None else min(MAX_SAMPLES, math.ceil(max_seconds * rate))
        # One sample more than allowed shows that it is longer.
        samples = np.concatenate([mono for mono, _ in _blocks(sound, path, limit + 1)])
    if max_seconds is None and len(samples) > limit:
        raise AudioError(path, Drop.TOO_LONG, f"longer than {limit / rate:.0f} s, which is no single clip")
    return samples[:limit], rate


def measure(path: Path | str, max_seconds: float) -> AudioContent:
    """Decode and measure a recording in blocks, reading at most `max_seconds` + 1.

    Errors as in `read_mono`, and AudioError with reason TOO_LONG where it is longer than `max_seconds`.
    """
    with _opened(path) as sound:
        rate, channels = sound.samplerate, sound.channels
        digest = hashlib.sha256(rate.to_bytes(4, "big"))
        length, clipped, peak = 0, 0.0, 0.0
        for mono, block_clipped in _blocks(sound, path, math.ceil((max_seconds + 1) * rate)):
            digest.update(mono.tobytes())
            length += len(mono)
            clipped += block_clipped
            peak = max(peak, float(np.abs(mono).max()))
        if length > max_seconds * rate:
            claim = f"; its header says {sound.frames / rate:.1f} s" if sound.frames < _UNKNOWN_FRAMES else ""
            raise AudioError(path, Drop.TOO_LONG, f"longer than {max_seconds:g} s{claim}")
    return AudioContent(length / rate, peak, clipped / (length * channels), digest.hexdigest())


def write_wav(path: Path | str, samples: np.ndarray, rate: int) -> None:
    """Write mono samples in [-1, 1] as a 16-bit wav, atomically.

    The bytes are libsndfile's, but not written by it: it reports a full disk as "System error" or not at all, and
    Ctrl-C while it writes into memory ends in a failed assertion of soundfile.
    """
    memory = io.BytesIO()
    with wave.open(memory, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes(np.clip(np.floor(samples * 32768), -32768, 32767).astype("<i2").tobytes())
    write_bytes(path, memory.getvalue())


@contextlib.contextmanager
def _opened(path: Path | str) -> Iterator[soundfile.SoundFile]:
    try:
        status = os.lstat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        raise AudioError(path, Drop.MISSING_AUDIO, "the file does not exist or cannot be reached") from None
    if stat.S_ISLNK(status.st_mode):  # may lead anywhere; a caller that trusts it resolves it first
        raise AudioError(path, Drop.UNREADABLE_AUDIO, "a symbolic link; put the recording itself there")
    # Opening a pipe would block, and a .raw file has no header.
    if not stat.S_ISREG(status.st_mode) or Path(path).suffix.lower() == ".raw":
        raise AudioError(path, Drop.UNREADABLE_AUDIO, "not an audio file")
    if status.st_size == 0:
        raise AudioError(path, Drop.EMPTY_AUDIO, "the file is empty")
    try:
        with soundfile.SoundFile(os.fspath(path)) as sound:
            if not RATES[0] <= sound.samplerate <= RATES[1] or sound.channels > MAX_CHANNELS:
                claim = f"its header says {sound.samplerate} Hz, {sound.channels} channels"
                raise AudioError(path, Drop.UNREADABLE_AUDIO, claim)
            cut = _WAV_CUT.search(sound.extra_info)  # the only place where libsndfile reports a wav that was cut short
            if cut and int(cut[2]) < int(cut[1]) < _OPEN_ENDED_BYTES:
                claim = f"cut short: {cut[2]} bytes of the {cut[1]} in its header"
                raise AudioError(path, Drop.UNREADABLE_AUDIO, claim)
            yield sound
    except (soundfile.SoundFileError, UnicodeError, OSError) as error:
        text = " ".join(str(error).split())
        detail = text.partition(": ")[2] or text  # soundfile's messages begin with the path
        raise AudioError(path, Drop.UNREADABLE_AUDIO, detail) from None


def _blocks(sound: soundfile.SoundFile, path: Path | str, limit: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (float32 mono block (n,), clipped samples in it) until the end or until `limit` frames were read."""
    step = max(1, _BLOCK_VALUES // sound.channels)
    given = 0
    while given < limit:
        block = sound.read(min(step, limit - given), dtype="float32", always_2d=True)
        if not len(block):
            break
        with np.errstate(over="ignore", invalid="ignore"):
            mono = block.mean(axis=1)
        if not np.isfinite(mono).all():
            raise AudioError(path, Drop.NON_FINITE_AUDIO, "it holds NaN or infinite samples")
        given += len(block)
        yield mono, int(np.count_nonzero(np.abs(block) >= FULL_SCALE))
    if not given:
        raise AudioError(path, Drop.EMPTY_AUDIO, "it holds no samples")
    if given < limit and sound.frames < _UNKNOWN_FRAMES:  # the file has ended: compare with its header
        rate, claimed = sound.samplerate, sound.frames
        if claimed - given > max(0.1 * rate, 0.01 * claimed):
            seconds = f"{given / rate:.2f} s of the {claimed / rate:.2f} s in its header"
            raise AudioError(path, Drop.UNREADABLE_AUDIO, f"cut short: {seconds}")
