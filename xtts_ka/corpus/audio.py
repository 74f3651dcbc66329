"""Reads recordings as mono samples with bounded memory, measures them, and writes wav files atomically.

libsndfile reads wav, flac, ogg (Vorbis, Opus), mp3, aiff, au, caf and w64 at any rate and channel count; what it cannot
read goes through PyAV (media.py): m4a, aac, webm, mp4, amr. The content decides, not the suffix. A header can be wrong
or hostile, so every limit is checked against the samples that are really decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import re
import stat
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import write_bytes
from xtts_ka.corpus.clipping import clipped_samples
from xtts_ka.corpus.content import kind_of
from xtts_ka.corpus.drop_reasons import Drop
from xtts_ka.corpus.excerpt import Excerpt, Recording
from xtts_ka.corpus.media import MediaError, MediaFile

RATES = (4_000, 384_000)  # Hz; a header with another rate is taken for damaged
MAX_CHANNELS = 64
MAX_SAMPLES = 2**27  # per channel, returned by one call at most: 512 MiB of float32, 1.7 hours at 22,050 Hz
FRAME_SECONDS = 0.02  # of which the level is measured
QUIET_END = 10 ** (-35 / 20)  # of the level that 5 % of the frames exceed: what is below it, at an end, is silence
STEADY_LEVEL, STEADY_RANGE = 10 ** (-40 / 20), 10 ** (3 / 20)  # of hiss: its highest level, and loud over quiet frames

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
    swing: float  # half the distance between the largest and the smallest sample: a constant offset has none
    silence_at_ends: float  # seconds in which nothing comes within QUIET_END of the loud parts
    steady: bool  # whether it is quiet and equally loud throughout: hiss, or nothing
    clipped_fraction: float  # share of the samples, over all channels: at full scale, or in flat tops (clipping.py)
    sha256: str  # of rate and mono samples: equal for a wav and its flac copy
    offset: float  # mean of the mono mix: the recording's direct current
    cancelled: float  # dB by which the mix is weaker than its channels: 0 for equal ones, 3 for unlike ones


def read_mono(path: Recording, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Read the first `max_seconds` of a recording or excerpt as (float32 samples (n,), rate in Hz), channels averaged.

    AudioError with reason MISSING_AUDIO, UNREADABLE_AUDIO, EMPTY_AUDIO (no samples), NON_FINITE_AUDIO, or TOO_LONG
    (more than MAX_SAMPLES, where no `max_seconds` is given).
    """
    if isinstance(path, Excerpt):
        return _read_excerpt(path, max_seconds)
    with _opened(path) as sound:
        rate = sound.samplerate
        limit = MAX_SAMPLES if max_seconds is None else min(MAX_SAMPLES, math.ceil(max_seconds * rate))
        # One sample more than allowed shows that it is longer.
        samples = np.concatenate([mono for mono, _ in _blocks(sound, path, limit + 1)])
    if max_seconds is None and len(samples) > limit:
        raise AudioError(path, Drop.TOO_LONG, f"longer than {limit / rate:.0f} s, which is no single clip")
    return samples[:limit], rate


def _read_excerpt(excerpt: Excerpt, max_seconds: float | None) -> tuple[np.ndarray, int]:
    """Decoded from the beginning, since seeking in an mp3 gives other samples than decoding up to there."""
    start, end, gain = excerpt.cut
    samples, rate = read_mono(excerpt.path, end if max_seconds is None else min(end, start + max_seconds))
    wanted = samples[round(start * rate) :]
    if not len(wanted):
        reason = f"it ends before {start:g} s, from where the table has it read: make the tables anew"
        raise AudioError(excerpt.path, Drop.UNREADABLE_AUDIO, reason)
    return (wanted * np.float32(10 ** (gain / 20)) if gain else wanted), rate


def read_part(path: Path | str, start: float, end: float | None) -> tuple[np.ndarray, int]:
    """Read the seconds from `start` to `end` (None: the end) of a recording; else as `read_mono`.

    AudioError with reason UNREADABLE_AUDIO where the recording ends before `end`.
    """
    with _opened(path) as sound:
        rate = sound.samplerate
        first = round(start * rate)
        wanted = min(MAX_SAMPLES, round(end * rate) - first if end is not None else MAX_SAMPLES)
        _skip(sound, first, 0)
        blocks = [mono for mono, _ in _blocks(sound, path, wanted, begun=True)]
    samples = np.concatenate(blocks)
    if end is not None and len(samples) < wanted - 0.1 * rate:
        raise AudioError(path, Drop.UNREADABLE_AUDIO, f"it ends before {end:g} s")
    return samples, rate


def length(path: Path | str) -> tuple[float | None, bool]:
    """(seconds as the header says, None where it does not say; whether reading can begin anywhere at no cost)."""
    with _opened(path) as sound:
        known = sound.frames / sound.samplerate if sound.frames < _UNKNOWN_FRAMES else None
        return known, _seekable(sound)


def tracks(path: Path | str) -> list[str]:
    """The languages of a film's sound tracks, of which one is read (media.py); none where the file has no tracks."""
    with _opened(path) as sound:
        return sound.tracks if isinstance(sound, MediaFile) else []


def stream(
    path: Path | str, block_seconds: int, start: float = 0.0, seconds: float | None = None
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (float32 mono samples, rate) from `start` on in blocks of `block_seconds`, the last one shorter.

    seconds: how many are read; None: all. Memory is that of a block, however long the recording is. Errors as in
    `read_mono`, TOO_LONG excepted; a recording that ends before `start` is UNREADABLE_AUDIO.
    """
    with _opened(path) as sound:
        rate = sound.samplerate
        _skip(sound, round(start * rate), 0)
        limit = _UNKNOWN_FRAMES if seconds is None else round(seconds * rate)
        waiting: list[np.ndarray] = []
        count, size = 0, block_seconds * rate
        for mono, _ in _blocks(sound, path, limit, begun=start > 0):
            waiting.append(mono)
            count += len(mono)
            while count >= size:
                whole = np.concatenate(waiting)
                yield whole[:size], rate
                waiting, count = [whole[size:]], count - size
        if count:
            yield np.concatenate(waiting), rate


def read_parts(path: Path | str, parts: Sequence[tuple[float, float]]) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (float32 mono samples, rate) of each part (start, end in seconds), which stand in order.

    The recording is opened once and read forwards, so many parts of one that cannot be read from the middle cost no
    more than reading it. Errors as in `read_part`.
    """
    with _opened(path) as sound:
        rate, at = sound.samplerate, 0
        for start, end in parts:
            first, wanted = round(start * rate), round(end * rate) - round(start * rate)
            if not _seekable(sound) and first < at:
                raise ValueError(f"part {start}–{end} overlaps the one before it")
            _skip(sound, first, at)
            samples = np.concatenate([mono for mono, _ in _blocks(sound, path, wanted, begun=True)])
            at = first + len(samples)
            if len(samples) < wanted - 0.1 * rate:
                raise AudioError(path, Drop.UNREADABLE_AUDIO, f"it ends before {end:g} s")
            yield samples, rate


def _seekable(sound: soundfile.SoundFile | MediaFile) -> bool:
    return not isinstance(sound, MediaFile) and sound.seekable()


def _skip(sound: soundfile.SoundFile | MediaFile, frame: int, at: int) -> None:
    """Go to `frame`, forwards from `at` where the recording cannot be read from the middle."""
    if isinstance(sound, MediaFile) or not sound.seekable():
        for skipped in range(at, frame, _BLOCK_VALUES):
            sound.read(min(_BLOCK_VALUES, frame - skipped), dtype="float32", always_2d=True)
    else:
        sound.seek(min(frame, sound.frames))


def measure(path: Path | str, max_seconds: float) -> AudioContent:
    """Decode and measure a recording in blocks, reading at most `max_seconds` + 1.

    Errors as in `read_and_measure`.
    """
    return _measured(path, max_seconds, None)[0]


def read_and_measure(path: Path | str, max_seconds: float) -> tuple[AudioContent, np.ndarray, int]:
    """`measure`, and the mono samples (n,) with their rate.

    Errors as in `read_mono`, and AudioError with reason TOO_LONG where it is longer than `max_seconds`.
    """
    blocks: list[np.ndarray] = []
    content, rate = _measured(path, max_seconds, blocks)
    return content, np.concatenate(blocks), rate


def _measured(path: Path | str, max_seconds: float, kept: list[np.ndarray] | None) -> tuple[AudioContent, int]:
    """kept: where the blocks of the mono mix go."""
    with _opened(path) as sound:
        rate, channels = sound.samplerate, sound.channels
        digest = hashlib.sha256(rate.to_bytes(4, "big"))
        length, clipped, low, high = 0, 0, math.inf, -math.inf
        total, mixed, single = 0.0, 0.0, 0.0  # sums of samples, of the mix's power, of the channels' mean power
        levels, rest, frame = [], np.zeros(0, np.float32), max(1, round(FRAME_SECONDS * rate))
        for mono, block in _blocks(sound, path, math.ceil((max_seconds + 1) * rate)):
            digest.update(mono.tobytes())
            length += len(mono)
            clipped += clipped_samples(block)
            total += float(mono.sum(dtype=np.float64))
            mixed += float(mono @ mono)
            single += float(np.vdot(block, block)) / channels
            if kept is not None:
                kept.append(mono)
            low, high = min(low, float(mono.min())), max(high, float(mono.max()))
            rest = np.concatenate([rest, mono])
            whole = len(rest) // frame * frame
            levels.append(rest[:whole].reshape(-1, frame).std(axis=1))
            rest = rest[whole:]
        if length > max_seconds * rate:
            claim = f"; its header says {sound.frames / rate:.1f} s" if sound.frames < _UNKNOWN_FRAMES else ""
            raise AudioError(path, Drop.TOO_LONG, f"longer than {max_seconds:g} s{claim}")
    peak, level = max(high, -low), np.concatenate(levels)
    silence, steady = _silence_at_ends(level), _is_steady(level)
    clipped_fraction, offset = clipped / (length * channels), total / length
    centred = max(0.0, mixed - length * offset**2), max(0.0, single - length * offset**2)
    cancelled = 10 * math.log10((centred[1] + 1e-9) / (centred[0] + 1e-9)) if channels > 1 else 0.0
    content = AudioContent(
        length / rate,
        peak,
        (high - low) / 2,
        silence,
        steady,
        clipped_fraction,
        digest.hexdigest(),
        offset,
        max(0.0, cancelled),
    )
    return content, rate


def _silence_at_ends(level: np.ndarray) -> float:
    """Seconds of silence at both ends together, from the levels of frames."""
    if not len(level):
        return 0.0
    loud = np.flatnonzero(level > QUIET_END * np.percentile(level, 95))
    return FRAME_SECONDS * float(loud[0] + len(level) - 1 - loud[-1]) if len(loud) else FRAME_SECONDS * len(level)


def _is_steady(level: np.ndarray) -> bool:
    if len(level) < 20:
        return False
    quiet, loud = np.percentile(level, [10, 95])
    return bool(loud < STEADY_LEVEL and loud <= STEADY_RANGE * quiet)


def write_wav(path: Path | str, samples: np.ndarray, rate: int) -> None:
    """Write mono samples in [-1, 1] as a 16-bit wav, atomically.

    The bytes are libsndfile's, but not written by it: it reports a full disk as "System error" or not at all, and
    Ctrl-C while it writes into memory ends in a failed assertion of soundfile.
    """
    write_bytes(path, wav_bytes(np.floor(samples * 32768), rate))


# Suffix → libsndfile's format and subtype; wav is written by `write_wav`.
WRITTEN_FORMATS = {
    ".wav": None,
    "": None,
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
}


def check_written_format(path: Path | str) -> None:
    """UserError for a name whose suffix `write_sound` cannot write."""
    suffix = Path(path).suffix.lower()
    if suffix not in WRITTEN_FORMATS:
        known = ", ".join(name for name in WRITTEN_FORMATS if name)
        raise UserError(f"{path}: sound is not written as {suffix}: end the name with one of {known}")


def write_sound(path: Path | str, samples: np.ndarray, rate: int) -> None:
    """Write mono samples in [-1, 1] in the format that the suffix says, atomically."""
    check_written_format(path)
    encoding = WRITTEN_FORMATS[Path(path).suffix.lower()]
    if encoding is None:
        write_wav(path, samples, rate)
        return
    with tempfile.TemporaryDirectory(
        prefix="xtts_ka_"
    ) as folder:  # see `write_wav` for why libsndfile writes elsewhere
        temporary = Path(folder) / "sound"
        soundfile.write(temporary, np.clip(samples, -1, 1), rate, format=encoding[0], subtype=encoding[1])
        write_bytes(path, temporary.read_bytes())


def wav_bytes(levels: np.ndarray, rate: int) -> bytes:
    """A mono 16-bit wav. levels: whole numbers; those beyond 16 bits are clipped."""
    memory = io.BytesIO()
    with wave.open(memory, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes(np.clip(levels, -32768, 32767).astype("<i2").tobytes())
    return memory.getvalue()


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
        with _decoder(os.fspath(path)) as sound:
            if not RATES[0] <= sound.samplerate <= RATES[1] or sound.channels > MAX_CHANNELS:
                claim = f"its header says {sound.samplerate} Hz, {sound.channels} channels"
                raise AudioError(path, Drop.UNREADABLE_AUDIO, claim)
            cut = _WAV_CUT.search(sound.extra_info)  # the only place where libsndfile reports a wav that was cut short
            if cut and int(cut[2]) < int(cut[1]) < _OPEN_ENDED_BYTES:
                claim = f"cut short: {cut[2]} bytes of the {cut[1]} in its header"
                raise AudioError(path, Drop.UNREADABLE_AUDIO, claim)
            yield sound
    except (soundfile.SoundFileError, MediaError, UnicodeError, OSError) as error:
        text = " ".join(str(error).split())
        detail = text.partition(": ")[2] or text  # soundfile's messages begin with the path
        kind = kind_of(path)
        named = f"{kind} by its content, and cannot be decoded: " if kind else ""
        raise AudioError(path, Drop.UNREADABLE_AUDIO, named + detail) from None


def _decoder(path: str) -> soundfile.SoundFile | MediaFile:
    """libsndfile's reader, or PyAV's where it has none for the file; the first error where neither can read it."""
    try:
        return soundfile.SoundFile(path)
    except soundfile.SoundFileError as error:
        try:
            return MediaFile(path)
        except MediaError as other:
            raise (other if kind_of(path) else error) from None


def _blocks(
    sound: soundfile.SoundFile | MediaFile, path: Path | str, limit: int, begun: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (float32 mono block (n,), its channels (n, channels)) until the end or until `limit` frames were read.

    begun: whether `sound` does not stand at its beginning; then its length is not compared with its header.
    """
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
        yield mono, block
    if not given:
        raise AudioError(path, Drop.EMPTY_AUDIO, "it holds no samples")
    if given < limit and sound.frames < _UNKNOWN_FRAMES and not begun:  # the file has ended: compare with its header
        rate, claimed = sound.samplerate, sound.frames
        if claimed - given > max(0.1 * rate, 0.01 * claimed):
            seconds = f"{given / rate:.2f} s of the {claimed / rate:.2f} s in its header"
            raise AudioError(path, Drop.UNREADABLE_AUDIO, f"cut short: {seconds}")
