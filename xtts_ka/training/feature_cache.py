"""Audio codes and conditioning mels of every clip, computed once and memory-mapped from then on.

Three files in a folder named after a digest of what they depend on beside the recordings (the DVAE and its mel scale):

    codes.bin   uint16, one code per 1,024 samples, clip after clip
    mels.bin    float16, frames × 80, one frame per 256 samples, clip after clip
    index.bin   one record per clip: key, samples, where its codes and mels begin, checksums

A writer appends codes and mels, flushes them to the disk, and only then appends the records that point at them. So a
kill costs the clips of one batch at most, and the next start cuts off the data that no record points at. Training opens
no audio. It cuts voice samples from the mels, where coqui cuts the wave and computes the mel of that: the two frames at
either end differ (measured in docs/experiments.md).
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xtts_ka.core.console import progress, say, warn
from xtts_ka.core.digests import hash_file, hash_value
from xtts_ka.core.errors import RunError
from xtts_ka.core.files import append_bytes, write_bytes
from xtts_ka.model.geometry import MEL_BANDS, codes_of, frames_of

if TYPE_CHECKING:
    from torch import Tensor

    Load = Callable[[Any], Tensor]  # path → (1, samples)
    Extract = Callable[[list[Tensor]], list[tuple[Tensor, Tensor]]]  # → codes (codes,) and mel (80, frames) of each

VERSION = 1  # raise when the content of the files changes for the same key
RECORD = np.dtype(
    [("key", "<u8"), ("codes_at", "<u8"), ("mel_at", "<u8"), ("samples", "<u4"), ("crc", "<u4"), ("check", "<u8")]
)

Clip = tuple[int, Path | str]  # its key, and its audio


def clip_key(file_id: str, size: int, changed_ns: int) -> int:
    """64 bits that change when the recording does: its id, size in bytes, or modification time."""
    name = f"{file_id}\0{size}\0{changed_ns}".encode()
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
        return list(compress(clips, self.find([key for key, _ in clips])["samples"] == 0))

    def fill(self, clips: Sequence[Clip], load: Load, extract: Extract, batch: int = 16) -> None:
        """Compute clips that are `missing`, `batch` at a time."""
        self._cut_loose_ends()
        threads = ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2))
        with threads, progress(total=len(clips), what="codes and mels", unit="clip") as bar:
            for start in range(0, len(clips), batch):
                keys, paths = zip(*clips[start : start + batch])
                speech = list(threads.map(load, paths))
                self._append(keys, speech, extract(speech))
                bar.update(len(keys))
        self._map()

    def _append(self, keys: Sequence[int], speech: list[Tensor], features: list[tuple[Tensor, Tensor]]) -> None:
        records = np.zeros(len(keys), RECORD)
        codes, mels, codes_end, mels_end = bytearray(), bytearray(), _size(self._codes), _size(self._mels)
        for record, key, clip, (code_row, mel) in zip(records, keys, speech, features):
            code_bytes = code_row.numpy().astype("<u2").tobytes()
            mel_bytes = np.ascontiguousarray(mel.numpy().T.astype("<f2")).tobytes()
            record["key"], record["samples"] = key, clip.shape[1]
            record["codes_at"], record["mel_at"] = codes_end + len(codes), mels_end + len(mels)
            record["crc"] = zlib.crc32(mel_bytes, zlib.crc32(code_bytes))
            codes += code_bytes
            mels += mel_bytes
        records["check"] = _check(records)
        for file, data in ((self._codes, codes), (self._mels, mels), (self._index, records.tobytes())):
            append_bytes(file, bytes(data), sync=True)

    def _cut_loose_ends(self) -> None:
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


def _ends(record: Any) -> tuple[Any, Any]:
    """Where the codes and the mel of one record, or of each of several, end in their files."""
    codes, frames = codes_of(record["samples"]).astype("<u8"), frames_of(record["samples"]).astype("<u8")
    return record["codes_at"] + 2 * codes, record["mel_at"] + 2 * MEL_BANDS * frames


def _check(records: np.ndarray) -> np.ndarray:
    """A 64-bit mix of each record's other fields (multiply-xor, as in SplitMix64): finds torn or zeroed records."""
    with np.errstate(over="ignore"):
        mixed = np.full(len(records), 0x9E3779B97F4A7C15 + VERSION, "<u8")
        for name in ("key", "codes_at", "mel_at", "samples", "crc"):
            mixed = (mixed ^ records[name].astype("<u8")) * np.uint64(0xBF58476D1CE4E5B9)
            mixed ^= mixed >> np.uint64(31)
    return mixed
