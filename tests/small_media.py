"""Short recordings in the formats of telephones and browsers, encoded with PyAV."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def encode(path: Path, codec: str, wave: np.ndarray, rate: int = 16_000, format: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        stream.bit_rate = 64_000  # the encoder of WMA has no default
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = rate
        size = stream.codec_context.frame_size or None
        resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate, frame_size=size)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            for packet in stream.encode(part):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def tone(number: int, seconds: float = 1.0, rate: int = 16_000) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * (100 + 10 * number) * np.arange(round(seconds * rate)) / rate)
