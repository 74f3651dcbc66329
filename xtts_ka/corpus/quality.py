"""Measures how good recordings are: speech and silence, level, noise, bandwidth. `measure_sounds` measures files.

All figures are of the mono mix, at the file's own rate unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xtts_ka.corpus import dnsmos
from xtts_ka.corpus.audio import AudioContent, AudioError, read_and_measure
from xtts_ka.corpus.decoder_warnings import decoder_warnings
from xtts_ka.corpus.drop_reasons import Drop
from xtts_ka.corpus.loudness import loudness
from xtts_ka.corpus.silero import RATE, SECONDS_PER_CHUNK, speech_probabilities

VERSION = 2  # raise when the same recording would be measured otherwise: stored values are then measured anew
SPEAKS, STILL_SPEAKS = 0.5, 0.2  # probabilities at which speech begins, and down to which it goes on
FRAME_SECONDS = 0.01
MARGIN = 0.15  # seconds left before and after what is not quiet, or is speech
LEAST_TRIMMED = 0.1  # seconds at an end; less is left as it is
QUIET = 10 ** (-35 / 20)  # of the loud frames' level; what is below it holds nothing of a voice
NEAR_FLOOR, NOISY = 2.0, 0.3  # times the noise's level, and of the loud frames' at most, counts as quiet too
BAND = 250.0  # Hz, of the spectrum in which the bandwidth is looked for
BAND_FLOOR = 55.0  # dB below the strongest band: what is weaker is resampling's rest or the last bits' noise
SNR_LIMITS = -10.0, 80.0  # dB


@dataclass(frozen=True, slots=True)
class Quality:
    """What is measured of a recording's sound. All seconds are from its beginning, or of its length."""

    speech_seconds: float
    silence_start: float  # seconds before the first speech; the whole length where there is none
    silence_end: float  # after the last
    quiet_start: float  # seconds at the beginning in which there is neither speech nor anything but background
    quiet_end: float  # likewise at the end
    loudness: float  # LUFS
    bandwidth: float  # Hz: the highest frequency at which there is anything
    rate: int  # Hz, of the file
    snr: float  # dB: speech over what is heard between it
    dnsmos: float | None  # 1 to 5; None where it is not installed or was not asked for


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording that could be decoded. complaint: the decoder's first warning, or ""."""

    content: AudioContent
    quality: Quality
    complaint: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Sound:
        """TypeError or KeyError for another object."""
        return cls(AudioContent(**value["content"]), Quality(**value["quality"]), value["complaint"])


@dataclass(frozen=True, slots=True)
class Unusable:
    """A recording that could not be decoded."""

    reason: Drop
    detail: str


def measure_sounds(paths: Sequence[Path | str], max_seconds: float, rate_sound: bool) -> list[Sound | Unusable]:
    """Decode and measure recordings, together since that is faster. rate_sound: by DNSMOS."""
    decoded = [_decoded(path, max_seconds) for path in paths]
    waves = [_at_16k(wave, rate) for found in decoded if not isinstance(found, Unusable) for wave, rate in [found[1:3]]]
    probabilities = iter(speech_probabilities(waves))
    sounds: list[Sound | Unusable] = []
    for found in decoded:
        if isinstance(found, Unusable):
            sounds.append(found)
        else:
            content, wave, rate, complaint = found
            sounds.append(Sound(content, measure_quality(wave, rate, next(probabilities), rate_sound), complaint))
    return sounds


def _decoded(path: Path | str, max_seconds: float) -> tuple[AudioContent, np.ndarray, int, str] | Unusable:
    try:
        with decoder_warnings() as heard:
            content, wave, rate = read_and_measure(path, max_seconds)
    except AudioError as error:
        return Unusable(error.reason, error.detail)
    return content, wave, rate, heard[0] if heard else ""


def _at_16k(wave: np.ndarray, rate: int) -> np.ndarray:
    from scipy.signal import resample_poly

    return wave if rate == RATE else resample_poly(wave, RATE, rate).astype(np.float32)


def measure_quality(wave: np.ndarray, rate: int, probabilities: np.ndarray, rate_sound: bool = False) -> Quality:
    """Measure mono samples (n,) at `rate` Hz, n > 0. probabilities: of speech, as silero.py gives them."""
    seconds = len(wave) / rate
    spans = speech_spans(probabilities, seconds)
    first, last = (spans[0][0], spans[-1][1]) if spans else (seconds, 0.0)
    levels = _levels(wave, rate)
    begin, end = _sounding(levels, first, last, seconds)
    return Quality(
        speech_seconds=sum(end - begin for begin, end in spans),
        silence_start=first,
        silence_end=seconds - last,
        quiet_start=begin if spans else seconds,
        quiet_end=seconds - end if spans else seconds,
        loudness=loudness(wave, rate),
        bandwidth=bandwidth(wave, rate),
        rate=rate,
        snr=_snr(levels, probabilities),
        dnsmos=dnsmos.overall(wave, rate) if rate_sound else None,
    )


def speech_spans(probabilities: np.ndarray, seconds: float) -> list[tuple[float, float]]:
    """The stretches (start, end in seconds) in which somebody speaks, from the probability of each chunk.

    A stretch goes on while the probability stays above STILL_SPEAKS, and reaches SPEAKS somewhere.
    """
    above = np.concatenate([[False], probabilities > STILL_SPEAKS, [False]])
    edges = np.flatnonzero(np.diff(above.astype(np.int8))).reshape(-1, 2)
    return [
        (float(start * SECONDS_PER_CHUNK), min(seconds, float(end * SECONDS_PER_CHUNK)))
        for start, end in edges
        if probabilities[start:end].max() >= SPEAKS
    ]


def _levels(wave: np.ndarray, rate: int) -> np.ndarray:
    """The level of each frame: the root of its variance."""
    size = max(1, round(FRAME_SECONDS * rate))
    whole = len(wave) // size * size
    return wave[:whole].reshape(-1, size).std(axis=1, dtype=np.float64) if whole else np.array([float(wave.std())])


def _sounding(levels: np.ndarray, first: float, last: float, seconds: float) -> tuple[float, float]:
    """From where to where there is speech, or anything louder than the background: (start, end) in seconds."""
    loud, floor = np.percentile(levels, [95, 10])
    quiet = max(QUIET * loud, min(NEAR_FLOOR * floor, NOISY * loud))
    sounding = np.flatnonzero(levels > quiet)
    if not len(sounding):
        return min(first, seconds), last
    return min(first, sounding[0] * FRAME_SECONDS), max(last, min(seconds, (sounding[-1] + 1) * FRAME_SECONDS))


def trimmed(quality: Quality, seconds: float) -> tuple[float, float]:
    """What of a recording is read, (start, end) in seconds: without the quiet at its ends, but for MARGIN."""
    start, end = max(0.0, quality.quiet_start - MARGIN), min(seconds, seconds - quality.quiet_end + MARGIN)
    if quality.speech_seconds == 0 or start >= end:
        return 0.0, seconds
    return start if start >= LEAST_TRIMMED else 0.0, end if seconds - end >= LEAST_TRIMMED else seconds


def bandwidth(wave: np.ndarray, rate: int) -> float:
    """The upper edge, in Hz, of the highest band whose power is within BAND_FLOOR of the strongest band's.

    A band's power is that which a fifteenth of the frames exceed: s and sh last no longer, and are high up alone.
    """
    size = min(2048, 1 << max(5, len(wave).bit_length() - 1))
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, (0, max(0, size - len(wave)))), size)[:: size // 2]
    window = np.blackman(size).astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    width = max(1, round(BAND * size / rate))
    whole = power.shape[1] // width * width
    bands = np.percentile(power[:, :whole].reshape(len(power), -1, width).mean(axis=2), 93, axis=0)
    strong = np.flatnonzero(bands > bands[1:].max(initial=1e-30) * 10 ** (-BAND_FLOOR / 10))
    return float(min(rate / 2, (strong[-1] + 1) * width * rate / size)) if len(strong) else 0.0


def _snr(levels: np.ndarray, probabilities: np.ndarray) -> float:
    """Speech over noise in dB: the mean power of the frames with speech, and the power between them.

    The noise is that of the chunks without speech; where they last less than 0.2 s, the quietest twentieth of all.
    """
    power = levels**2
    chunks = np.minimum((np.arange(len(power)) * FRAME_SECONDS / SECONDS_PER_CHUNK).astype(int), len(probabilities) - 1)
    speech, rest = probabilities[chunks] >= SPEAKS, probabilities[chunks] < STILL_SPEAKS / 2
    noise = float(np.median(power[rest])) if rest.sum() >= 0.2 / FRAME_SECONDS else float(np.percentile(power, 5))
    loud = float(power[speech].mean()) if speech.any() else float(power.mean())
    ratio = 10 * math.log10(max(loud - noise, 1e-12) / max(noise, 1e-12))
    return min(max(ratio, SNR_LIMITS[0]), SNR_LIMITS[1])
