"""Audio codes and conditioning mels of every clip, computed once and memory-mapped ever after.

Three files in a folder named after everything that changes their content:

    codes.bin   uint16, one code per 1024 samples, clip after clip
    mels.bin    float16, frames × 80, one frame per 256 samples, clip after clip
    index.bin   one fixed record per clip: key, samples, where its codes and mels begin, checksums

Writers append data, flush it to the disk, and only then append the records that point at it: a kill costs at most the
clips of the last batch, and whatever data no record points at is cut off at the next start. Training never opens audio.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from artifacts import sweep_partials, write_bytes
from console import RunError, quiet

VERSION = 1  # raise when the content of the files changes for the same key
MELS = 80
_RECORD = np.dtype([("key", "<u8"), ("codes_at", "<u8"), ("mel_at", "<u8"), ("samples", "<u4"), ("crc", "<u4"), ("check", "<u8")])


def frames_of(samples: np.ndarray | int):
    """Mel frames of a clip: one per 256 samples and one more (centred windows)."""
    return samples // 256 + 1


def codes_of(samples: np.ndarray | int):
    """Audio codes of a clip: one per started 1024 samples."""
    return (samples + 1023) // 1024  # not -(-n // 1024): lengths are stored unsigned


def clip_key(file_id: str, audio: Path) -> int:
    """64 bits that change when the recording does (its id, size or modification time)."""
    status = audio.stat()
    name = f"{file_id}\0{status.st_size}\0{status.st_mtime_ns}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


class FeatureCache:
    """The cache in `folder`; `key` is a digest of everything but the recordings that its content depends on."""

    def __init__(self, folder: Path, key: str):
        self.folder = folder / key[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._codes, self._mels, self._index = (self.folder / f"{name}.bin" for name in ("codes", "mels", "index"))
        self._open()

    # ── reading ──

    def _open(self) -> None:
        """Map the files, leaving out records that are torn or point outside the data."""
        size = {file: file.stat().st_size if file.exists() else 0 for file in (self._codes, self._mels, self._index)}
        count = size[self._index] // _RECORD.itemsize
        records = np.fromfile(self._index, _RECORD, count) if count else np.empty(0, _RECORD)
        ends = (records["codes_at"] + 2 * codes_of(records["samples"]).astype("<u8"),
                records["mel_at"] + 2 * MELS * frames_of(records["samples"]).astype("<u8"))
        sound = (records["check"] == _check(records)) & (ends[0] <= size[self._codes]) & (ends[1] <= size[self._mels])
        self._whole = bool(sound.all()) and count * _RECORD.itemsize == size[self._index]
        records, self._ends = records[sound], [int(end[sound].max(initial=0)) for end in ends]
        order = np.argsort(records["key"], kind="stable")
        self.records = records[order]
        empty = np.empty(0, np.uint8)
        self.codes_map = np.memmap(self._codes, np.uint8, "r") if size[self._codes] else empty
        self.mels_map = np.memmap(self._mels, np.uint8, "r") if size[self._mels] else empty

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Rows of `records` for 64-bit `keys`, -1 where the cache has none."""
        at = np.searchsorted(self.records["key"], keys)
        at[at == len(self.records)] = 0
        return np.where(self.records["key"][at] == keys, at, -1) if len(self.records) else np.full(len(keys), -1)

    def read(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes (uint16, (codes,)) and mel (float16, (frames, 80)) of a row, checked against its checksum.

        Damaged data is a RunError; the record is forgotten, so the next run computes it again.
        """
        record = self.records[row]
        samples, codes_at, mel_at = int(record["samples"]), int(record["codes_at"]), int(record["mel_at"])
        codes = self.codes_map[codes_at : codes_at + 2 * codes_of(samples)]
        mel = self.mels_map[mel_at : mel_at + 2 * MELS * frames_of(samples)]
        if zlib.crc32(mel, zlib.crc32(codes)) != record["crc"]:
            self._rewrite_index(np.delete(self.records, row))
            raise RunError(f"the feature cache {self.folder} was damaged at one clip; the clip is forgotten, and the "
                           f"same command computes it again and carries on")
        return codes.view("<u2"), mel.view("<f2").reshape(-1, MELS)

    # ── writing ──

    def fill(self, clips: Sequence[tuple[int, Path]], load: Callable, extract: Callable, batch_seconds: float = 60.0) -> int:
        """Compute what is missing of `clips` ((key, audio path) pairs) and return how many clips that was.

        load(path) gives a (1, samples) tensor; extract(list of those) gives a (codes, mel (80, frames)) pair for each.
        """
        missing = [clip for clip, row in zip(clips, self.find(np.array([k for k, _ in clips], "<u8"))) if row < 0]
        if not missing:
            return 0
        self._cut_loose_ends()
        with (open(self._codes, "ab") as codes, open(self._mels, "ab") as mels, open(self._index, "ab") as index,
              tqdm(total=len(missing), desc="codes and mels", unit="clip", disable=quiet()) as bar):
            for keys, speech in _batches(missing, load, batch_seconds):
                features = extract(speech)
                self._append(codes, mels, index, keys, speech, features)
                bar.update(len(keys))
        self._open()
        return len(missing)

    def _append(self, codes, mels, index, keys, speech, features) -> None:
        records = np.zeros(len(keys), _RECORD)
        for record, key, clip, (code_row, mel) in zip(records, keys, speech, features):
            code_bytes = code_row.numpy().astype("<u2").tobytes()
            mel_bytes = np.ascontiguousarray(mel.numpy().T.astype("<f2")).tobytes()
            record["key"], record["samples"] = key, clip.shape[1]
            record["codes_at"], record["mel_at"] = codes.tell(), mels.tell()
            record["crc"] = zlib.crc32(mel_bytes, zlib.crc32(code_bytes))
            codes.write(code_bytes)
            mels.write(mel_bytes)
        records["check"] = _check(records)
        for file, tail in ((codes, b""), (mels, b""), (index, records.tobytes())):
            file.write(tail)
            file.flush()
            os.fsync(file.fileno())

    def _cut_loose_ends(self) -> None:
        """Cut off data that no sound record points at, and records that are not sound: what a kill left behind."""
        sweep_partials(self.folder)
        if not self._whole:
            self._rewrite_index(self.records)
        for file, end in zip((self._codes, self._mels), self._ends):
            if file.exists() and file.stat().st_size > end:
                os.truncate(file, end)

    def _rewrite_index(self, records: np.ndarray) -> None:
        write_bytes(self._index, records.tobytes())


def _check(records: np.ndarray) -> np.ndarray:
    """A 64-bit mix of a record's other fields (multiply-xor, SplitMix64's constant): tells torn or zeroed records."""
    with np.errstate(over="ignore"):
        mixed = np.full(len(records), 0x9E3779B97F4A7C15 + VERSION, "<u8")
        for name in ("key", "codes_at", "mel_at", "samples", "crc"):
            mixed = (mixed ^ records[name].astype("<u8")) * np.uint64(0xBF58476D1CE4E5B9)
            mixed ^= mixed >> np.uint64(31)
    return mixed


def _batches(clips: Iterable[tuple[int, Path]], load: Callable, seconds: float) -> Iterator[tuple[list[int], list]]:
    """Load clips a little ahead in a thread and group them into batches of about `seconds` of audio."""
    keys, speech, samples = [], [], 0
    with ThreadPoolExecutor(1) as reader:
        for key, clip in zip((k for k, _ in clips), _ahead(reader, load, [path for _, path in clips])):
            keys.append(key)
            speech.append(clip)
            samples += clip.shape[1]
            if samples > seconds * 22050:
                yield keys, speech
                keys, speech, samples = [], [], 0
    if keys:
        yield keys, speech


def _ahead(reader: ThreadPoolExecutor, load: Callable, paths: list[Path], depth: int = 64) -> Iterator:
    """`map(load, paths)` with at most `depth` results waiting."""
    waiting = [reader.submit(load, path) for path in paths[:depth]]
    for position in range(len(paths)):
        yield waiting[position % depth].result()
        if position + depth < len(paths):
            waiting[position % depth] = reader.submit(load, paths[position + depth])
