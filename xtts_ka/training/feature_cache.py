"""Audio codes and conditioning mels of every clip, computed once and memory-mapped ever after.

Three files in a folder named after everything that changes their content:

    codes.bin   uint16, one code per 1024 samples, clip after clip
    mels.bin    float16, frames × 80, one frame per 256 samples, clip after clip
    index.bin   one fixed record per clip: key, samples, where its codes and mels begin, checksums

Writers append data, flush it to the disk, and only then append the records that point at it: a kill costs at most the
clips of the last batch, and whatever data no record points at is cut off at the next start. Training never opens audio,
and holds no records: it has its own copy of those it needs (`training_index`). Voice samples are cut from the mels, where
coqui cuts the wave: the two frames at either end differ (docs/experiments.md has the figures).
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import compress, islice
from pathlib import Path

import numpy as np

from xtts_ka.core.console import progress, warn
from xtts_ka.core.digests import hash_file, hash_value
from xtts_ka.core.errors import RunError
from xtts_ka.core.files import append_bytes, write_bytes
from xtts_ka.model.geometry import MEL_BANDS, SAMPLE_RATE, codes_of, frames_of

VERSION = 1  # raise when the content of the files changes for the same key
RECORD = np.dtype(
    [("key", "<u8"), ("codes_at", "<u8"), ("mel_at", "<u8"), ("samples", "<u4"), ("crc", "<u4"), ("check", "<u8")]
)

Clip = tuple[int, Path | str]  # its key, and its audio


def clip_key(file_id: str, size: int, changed_ns: int) -> int:
    """64 bits that change when the recording does (its id, size in bytes, or modification time)."""
    name = f"{file_id}\0{size}\0{changed_ns}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


class FeatureCache:
    """The cache in `folder`; `key` is a digest of everything but the recordings that its content depends on."""

    def __init__(self, folder: Path, key: str):
        self.folder = folder / key[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._map()

    def _map(self) -> None:
        self._codes, self._mels, self._index = (self.folder / f"{name}.bin" for name in ("codes", "mels", "index"))
        self._codes_map, self._mels_map = (
            np.asarray(np.memmap(file, np.uint8, "r")) if _size(file) else np.empty(0, np.uint8)
            for file in (self._codes, self._mels)
        )

    def __getstate__(self) -> dict:
        return {"folder": self.folder}  # a worker process maps the files itself

    def __setstate__(self, state: dict) -> None:
        self.folder = state["folder"]
        self._map()

    # ── reading ──

    def state(self) -> str:
        """A digest that changes whenever records or the place of their data may have."""
        sizes = [_size(file) for file in (self._codes, self._mels, self._index)]
        return hash_value([hash_file(self._index) if sizes[2] else "", *sizes])

    def finder(self) -> Callable[[Sequence[int]], np.ndarray]:
        """A function from 64-bit keys to their records; one that the cache has not got is all zeros (`samples` 0)."""
        records = self._records()[0]
        records = records[np.argsort(records["key"], kind="stable")]

        def find(keys: Sequence[int]) -> np.ndarray:
            keys = np.asarray(keys, "<u8")
            found = np.zeros(len(keys), RECORD)
            if len(records):
                at = np.searchsorted(records["key"], keys)
                at[at == len(records)] = 0
                known = records["key"][at] == keys
                found[known] = records[at[known]]
            return found

        return find

    def read(self, record: np.void, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Codes (uint16, (codes,)) and mel (float16, (frames, 80)) of a record, checked against its checksum.

        Damaged data is a RunError about clip `name`; whatever is damaged is forgotten, so the next run computes it again.
        """
        if not self._holds(record):
            self._map()  # what others have appended since is not damaged
            records = self._records()[0]
            write_bytes(self._index, records[[self._holds(record) for record in records]].tobytes())
            raise RunError(
                f"the feature cache {self.folder} is damaged at clip {name}; what is damaged is forgotten, and "
                f"the same command computes it again and carries on"
            )
        codes, mel = self._data(record)
        return codes.view("<u2"), mel.view("<f2").reshape(-1, MEL_BANDS)

    def _data(self, record: np.void) -> tuple[np.ndarray, np.ndarray]:
        samples, codes_at, mel_at = int(record["samples"]), int(record["codes_at"]), int(record["mel_at"])
        return (
            self._codes_map[codes_at : codes_at + 2 * codes_of(samples)],
            self._mels_map[mel_at : mel_at + 2 * MEL_BANDS * frames_of(samples)],
        )

    def _holds(self, record: np.void) -> bool:
        """Whether the data that a record points at matches its checksum."""
        codes, mel = self._data(record)
        return zlib.crc32(mel, zlib.crc32(codes)) == record["crc"]

    def _records(self) -> tuple[np.ndarray, list[int], bool]:
        """The sound records, where the data they point to ends in either file, and whether every record is sound.

        Records that are torn or point outside the data are left out.
        """
        count, rest = divmod(_size(self._index), RECORD.itemsize)
        records = np.fromfile(self._index, RECORD, count) if count else np.empty(0, RECORD)
        ends = (
            records["codes_at"] + 2 * codes_of(records["samples"]).astype("<u8"),
            records["mel_at"] + 2 * MEL_BANDS * frames_of(records["samples"]).astype("<u8"),
        )
        sound = (records["check"] == _check(records)) & (ends[0] <= _size(self._codes)) & (ends[1] <= _size(self._mels))
        return records[sound], [int(end[sound].max(initial=0)) for end in ends], bool(sound.all()) and not rest

    # ── writing ──

    def missing(self, clips: Iterable[Clip]) -> list[Clip]:
        """Those of the clips that the cache has not got."""
        find, clips, lacking = self.finder(), iter(clips), []
        while chunk := list(islice(clips, 10_000)):
            lacking += compress(chunk, find([key for key, _ in chunk])["samples"] == 0)
        return lacking

    def fill(self, clips: Sequence[Clip], load: Callable, extract: Callable, batch_seconds: float = 60.0) -> None:
        """Compute `missing` clips.

        load(path) gives a (1, samples) tensor; extract(list of those) gives a (codes, mel (80, frames)) pair for each.
        """
        self._cut_loose_ends()
        with progress(total=len(clips), what="codes and mels", unit="clip") as bar:
            for keys, speech in _batches(clips, load, batch_seconds):
                self._append(keys, speech, extract(speech))
                bar.update(len(keys))
        self._map()

    def _append(self, keys, speech, features) -> None:
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
            append_bytes(file, data, sync=True)

    def _cut_loose_ends(self) -> None:
        """Cut off data that no sound record points at, and records that are not sound: what a kill left behind."""
        records, ends, whole = self._records()
        if not whole:
            warn(
                f"{self._index} holds damaged or unfinished records: they are left out, and their clips computed again"
            )
            write_bytes(self._index, records.tobytes())
        for file, end in zip((self._codes, self._mels), ends):
            if _size(file) > end:
                os.truncate(file, end)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _check(records: np.ndarray) -> np.ndarray:
    """A 64-bit mix of a record's other fields (multiply-xor, SplitMix64's constant): tells torn or zeroed records."""
    with np.errstate(over="ignore"):
        mixed = np.full(len(records), 0x9E3779B97F4A7C15 + VERSION, "<u8")
        for name in ("key", "codes_at", "mel_at", "samples", "crc"):
            mixed = (mixed ^ records[name].astype("<u8")) * np.uint64(0xBF58476D1CE4E5B9)
            mixed ^= mixed >> np.uint64(31)
    return mixed


def _batches(clips: Iterable[Clip], load: Callable, seconds: float) -> Iterator[tuple[list[int], list]]:
    """Load clips a little ahead in threads and group them into batches of about `seconds` of audio."""
    keys, speech, samples = [], [], 0
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 2) // 2)) as reader:
        for key, clip in _ahead(reader, load, clips):
            keys.append(key)
            speech.append(clip)
            samples += clip.shape[1]
            if samples > seconds * SAMPLE_RATE:
                yield keys, speech
                keys, speech, samples = [], [], 0
    if keys:
        yield keys, speech


def _ahead(reader: ThreadPoolExecutor, load: Callable, clips: Iterable[Clip], depth: int = 64) -> Iterator:
    """(key, loaded clip) of each (key, path), at most `depth` of them waiting."""
    waiting = deque()
    for key, path in clips:
        waiting.append((key, reader.submit(load, path)))
        if len(waiting) == depth:
            key, clip = waiting.popleft()
            yield key, clip.result()
    for key, clip in waiting:
        yield key, clip.result()
