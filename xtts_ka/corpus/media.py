"""Reads what libsndfile cannot (m4a, aac, webm, mp4, amr, wma …) through PyAV.

`MediaFile` offers the part of soundfile.SoundFile's interface that audio.py uses. PyAV carries FFmpeg in its wheel, so
nothing else has to be installed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import numpy as np

from xtts_ka.corpus.content import kind_of

if TYPE_CHECKING:
    import av

GEORGIAN = ("ka", "kat", "geo", "georgian", "ka-ge", "ka_ge")  # how films and names of files call the language
UNKNOWN_FRAMES = 2**63 - 1  # as libsndfile reports where the header does not give the length


class MediaError(Exception):
    """A file that FFmpeg cannot decode; the message says why."""


class MediaFile:
    """An audio stream of a file, decoded block by block as float32. MediaError where it cannot be.

    That in Georgian, else the first. tracks: the languages of all, as the file says; und: undefined.
    """

    extra_info = ""

    def __init__(self, path: str):
        import av
        import av.logging

        av.logging.set_level(None)  # FFmpeg's own lines on standard error name no file
        self._errors = (av.FFmpegError, ValueError, EOFError)
        try:
            self._container = av.open(path, mode="r", metadata_errors="ignore", format=_demuxer(path))
        except self._errors as error:
            raise MediaError(_reason(error)) from None
        try:
            streams = self._container.streams.audio
            if not streams:
                raise MediaError("it holds no sound")
            self.tracks = [stream.metadata.get("language", "und").lower() for stream in streams]
            self._stream = next((one for one, code in zip(streams, self.tracks) if code in GEORGIAN), streams[0])
            self._frames = self._decoded()
            self._waiting = next(self._frames, None)
        except MediaError:
            self.close()
            raise
        if self._waiting is None:
            self.close()
            raise MediaError("it holds no sound that can be decoded")
        self.channels = self._waiting.shape[1]
        self.frames = self._claimed()

    def _decoded(self) -> Iterator[np.ndarray]:
        """Yield float32 blocks (samples, channels) at the rate of the first frame, which HE-AAC's header halves."""
        import av

        resampler = None
        try:
            for frame in self._sound():
                if resampler is None:
                    self.samplerate = frame.sample_rate
                    resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=frame.sample_rate)
                for part in resampler.resample(frame):
                    yield part.to_ndarray().T
            for part in resampler.resample(None) if resampler else ():
                yield part.to_ndarray().T
        except self._errors as error:
            raise MediaError(_reason(error)) from None

    def _sound(self) -> Iterator[av.AudioFrame]:
        """The frames of the audio stream.

        MediaError where a Matroska file ends early. It states the length of the longest stream, the picture of a film,
        so its end is sought in all streams.
        """
        if not self._container.format.name.startswith("matroska"):
            yield from self._container.decode(self._stream)
            return
        stated, seen = (self._container.duration or 0) / 1e6, 0.0
        for packet in self._container.demux():
            if packet.pts is not None and packet.time_base:
                seen = max(seen, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index == self._stream.index:
                yield from cast("list[av.AudioFrame]", packet.decode())
        if stated - seen > max(0.1, 0.01 * stated):
            raise MediaError(f"it is cut short, {seen:.2f} s of the {stated:.2f} s in its header")

    def _claimed(self) -> int:
        """The length that the container states of the sound, where it does so exactly; raw streams' is an estimate."""
        name, rate = self._container.format.name, self.samplerate
        if name.startswith(("mov", "caf")) and self._stream.duration:
            return round(float(self._stream.duration * (self._stream.time_base or 0)) * rate)
        return UNKNOWN_FRAMES

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """The next `frames` samples (n, channels), fewer at the end."""
        parts, count = [], 0
        while count < frames:
            block = self._waiting if self._waiting is not None else next(self._frames, None)
            self._waiting = None
            if block is None:
                break
            if block.shape[1] != self.channels:
                raise MediaError("its number of channels changes")
            taken = block[: frames - count]
            if len(taken) < len(block):
                self._waiting = block[len(taken) :]
            parts.append(taken)
            count += len(taken)
        return np.concatenate(parts) if parts else np.zeros((0, self.channels), np.float32)

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> MediaFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _demuxer(path: str) -> str:
    """FFmpeg's format, by content or suffix. FFmpeg itself would also read playlists, which name other files."""
    kind = kind_of(path)
    known = {"MP4 (AAC)": "mov", "WebM or Matroska": "matroska", "AMR": "amr", "CAF": "caf", "WMA": "asf", "Ogg": "ogg"}
    known |= {"MP3": "mp3", "AAC": "aac", "WAV": "wav", "FLAC": "flac", "AIFF": "aiff", "AU": "au", "AVI": "avi"}
    if kind in known:
        return known[kind]
    suffix = os.path.splitext(path)[1].lower()
    by_suffix = {".mp3": "mp3", ".aac": "aac", ".amr": "amr", ".wav": "wav", ".m4a": "mov", ".mp4": "mov"}
    if suffix in by_suffix:
        return by_suffix[suffix]
    raise MediaError(f"it is {kind}" if kind else "its content is of no kind that can be read")


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())[:160] or type(error).__name__
