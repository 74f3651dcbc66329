"""Audio codes and conditioning mels of every clip, computed once and memory-mapped from then on.

Three files in a folder named after a digest of what they depend on beside the recordings (the DVAE and its mel scale):

    codes.bin   uint16, one code per 1,024 samples, clip after clip
    mels.bin    float16, frames × 80, one frame per 256 samples, clip after clip
    index.bin   one record per clip: key, samples, where its codes and mels begin, checksums

One process appends what all compute (`feature_filling`): codes and mels, flushed to the disk, and only then the records
that point at them. The next start cuts off the data that no record points at. Training opens no audio. It cuts voice
samples from the mels, where coqui cuts the wave and computes the mel of that: the two frames at either end differ
(measured in docs/experiments.md).
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from itertools import compress, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xtts_ka.core.console import say, warn
from xtts_ka.core.digests import hash_file, hash_value
from xtts_ka.core.errors import RunError
from xtts_ka.core.files import append_bytes, write_bytes
from xtts_ka.corpus.excerpt import Cut
from xtts_ka.model.geometry import MEL_BANDS, codes_of, frames_of

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1  # raise when the content of the files changes for the same key
RECORD = np.dtype(
    [("key", "<u8"), ("codes_at", "<u8"), ("mel_at", "<u8"), ("samples", "<u4"), ("crc", "<u4"), ("check", "<u8")]
)


class Clip(NamedTuple):
    """A clip to compute. seconds: its length as the table has it, which need not be exact."""

    key: int
    audio: Path | str
    seconds: float = 0.0


class Unit(NamedTuple):
    """Codes and mels of a few clips, as bytes. The records lack their places, which `append` decides."""

    records: np.ndarray
    codes: list[bytes]
    mels: list[bytes]

    @classmethod
    def of(cls, keys: Sequence[int], speech: list[Tensor], features: list[tuple[Tensor, Tensor]]) -> Unit:
        """Of each clip: its key, its samples (1, samples), and its codes (codes,) and mel (80, frames)."""
        codes = [codes.numpy().astype("<u2").tobytes() for codes, _ in features]
        mels = [np.ascontiguousarray(mel.numpy().T.astype("<f2")).tobytes() for _, mel in features]
        records = np.zeros(len(keys), RECORD)
        records["key"], records["samples"] = keys, [clip.shape[1] for clip in speech]
        records["crc"] = [zlib.crc32(mel, zlib.crc32(code)) for code, mel in zip(codes, mels)]
        return cls(records, codes, mels)

    def only(self, wanted: np.ndarray) -> Unit:
        """The clips that `wanted` (bool, (clips,)) marks."""
        return Unit(self.records[wanted], list(compress(self.codes, wanted)), list(compress(self.mels, wanted)))

    def to_bytes(self) -> bytes:
        """A checksum of the rest and the number of clips (8 bytes each), then records, codes and mels."""
        count = len(self.records).to_bytes(8, "little")
        rest = b"".join((count, self.records.tobytes(), *self.codes, *self.mels))
        return zlib.crc32(rest).to_bytes(8, "little") + rest

    @classmethod
    def from_bytes(cls, data: bytes) -> Unit | None:
        """None where a byte is missing or wrong."""
        if len(data) < 16 or zlib.crc32(memoryview(data)[8:]) != int.from_bytes(data[:8], "little"):
            return None
        records = np.frombuffer(data, RECORD, int.from_bytes(data[8:16], "little"), 16)
        start = 16 + records.nbytes
        ends = start + np.cumsum(np.concatenate(_sizes(records)), dtype=np.int64)
        parts = [data[start:end] for start, end in pairwise((start, *ends.tolist()))]
        return cls(records.copy(), parts[: len(records)], parts[len(records) :])


def clip_key(file_id: str, size: int, changed_ns: int, cut: Cut | None = None) -> int:
    """64 bits that change when the recording does: its id, size in bytes, or modification time; or what of it is read.

    A recording that is read whole has the key of versions before 2026-11-26.
    """
    read = f"\0{cut.start:.4f}\0{cut.end:.4f}\0{cut.gain_db:.2f}" if cut else ""
    name = f"{file_id}\0{size}\0{changed_ns}{read}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


class FeatureCache:
    """The cache in `folder`; `key` is a digest of everything but the recordings that its content depends on."""

    def __init__(self, folder: Path, key: str):
        self.folder = folder / key[:16]
        if not self.folder.is_dir():
            for other in sorted(folder.glob("*/index.bin")):
                why = "another dvae.pth or mel_stats.pth, or of another version of this program"
                say(f"codes and mels are computed anew: those in {other.parent} are of {why}; delete them if unneeded")
            self.folder.mkdir(parents=True, exist_ok=True)
        self._map()

    def _map(self) -> None:
        self._codes, self._mels, self._index = (self.folder / f"{name}.bin" for name in ("codes", "mels", "index"))
        self._codes_map, self._mels_map = (
            np.asarray(np.memmap(file, np.uint8, "r")) if _size(file) else np.empty(0, np.uint8)
            for file in (self._codes, self._mels)
        )

    # ── reading ──

    def state(self) -> str:
        """A digest that changes whenever records, or the places of their data, may have changed."""
        sizes = [_size(file) for file in (self._codes, self._mels, self._index)]
        return hash_value([hash_file(self._index) if sizes[2] else "", *sizes])

    def find(self, keys: Sequence[int]) -> np.ndarray:
        """The records of these keys; that of a clip that is not there is all zeros (`samples` 0)."""
        records = np.append(self._records(), np.zeros(1, RECORD))
        places = {key: place for place, key in enumerate(records["key"][:-1].tolist())}
        return records[[places.get(key, -1) for key in keys]]

    def read(self, record: np.void, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Codes (uint16, (codes,)) and mel (float16, (frames, 80)) of a record, verified by its checksum.

        Damaged data is a RunError about clip `name`. All records of damaged data are removed, so the next run computes
        those clips again.
        """
        if not self._is_sound(record):
            self._map()  # what other processes have appended since is not damaged
            records = self._records()
            write_bytes(self._index, records[[self._is_sound(record) for record in records]].tobytes())
            what = f"the feature cache {self.folder} is damaged at clip {name}"
            raise RunError(f"{what}: the same command computes again what is damaged and carries on")
        codes, mel = self._data(record)
        return codes.view("<u2"), mel.view("<f2").reshape(-1, MEL_BANDS)

    def _data(self, record: np.void) -> tuple[np.ndarray, np.ndarray]:
        codes_end, mel_end = _ends(record)
        return self._codes_map[record["codes_at"] : codes_end], self._mels_map[record["mel_at"] : mel_end]

    def _is_sound(self, record: np.void) -> bool:
        codes, mel = self._data(record)
        return zlib.crc32(mel.data, zlib.crc32(codes.data)) == record["crc"]

    def _records(self) -> np.ndarray:
        """The sound records: not torn, and pointing at data that is there."""
        count = _size(self._index) // RECORD.itemsize
        records = np.fromfile(self._index, RECORD, count) if count else np.empty(0, RECORD)
        codes_end, mel_end = _ends(records)
        there = (codes_end <= _size(self._codes)) & (mel_end <= _size(self._mels))
        return records[there & (records["check"] == _check(records))]

    # ── writing ──

    def missing(self, clips: Sequence[Clip]) -> list[Clip]:
        """The clips that are not in the cache."""
        return list(compress(clips, self.find([clip.key for clip in clips])["samples"] == 0))

    def append(self, unit: Unit) -> None:
        """Add clips that are `missing`. One process at a time may do so."""
        records = unit.records.copy()
        for name, file, sizes in zip(("codes_at", "mel_at"), (self._codes, self._mels), _sizes(records)):
            records[name] = _size(file) + np.cumsum(sizes) - sizes
        records["check"] = _check(records)
        parts = (self._codes, unit.codes), (self._mels, unit.mels), (self._index, [records.tobytes()])
        for file, data in parts:
            append_bytes(file, b"".join(data), sync=True)

    def reopen(self) -> None:
        """Make readable what has been appended."""
        self._map()

    def cut_loose_ends(self) -> None:
        """Remove what a killed writer left: unsound records, and data behind the last that a sound record points at."""
        records = self._records()
        if records.nbytes < _size(self._index):
            warn(f"{self._index} holds damaged or unfinished records: their clips are computed again")
            write_bytes(self._index, records.tobytes())
        for file, ends in zip((self._codes, self._mels), _ends(records)):
            if _size(file) > (end := int(ends.max(initial=0))):
                os.truncate(file, end)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _sizes(record: Any) -> tuple[Any, Any]:
    """Bytes of the codes and of the mel of one record, or of each of several."""
    codes, frames = codes_of(record["samples"]).astype("<u8"), frames_of(record["samples"]).astype("<u8")
    return 2 * codes, 2 * MEL_BANDS * frames


def _ends(record: Any) -> tuple[Any, Any]:
    """Where the codes and the mel of one record, or of each of several, end in their files."""
    codes, mel = _sizes(record)
    return record["codes_at"] + codes, record["mel_at"] + mel


def _check(records: np.ndarray) -> np.ndarray:
    """A 64-bit mix of each record's other fields (multiply-xor, as in SplitMix64): finds torn or zeroed records."""
    with np.errstate(over="ignore"):
        mixed = np.full(len(records), 0x9E3779B97F4A7C15 + VERSION, "<u8")
        for name in ("key", "codes_at", "mel_at", "samples", "crc"):
            mixed = (mixed ^ records[name].astype("<u8")) * np.uint64(0xBF58476D1CE4E5B9)
            mixed ^= mixed >> np.uint64(31)
    return mixed
