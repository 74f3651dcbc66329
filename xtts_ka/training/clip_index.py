"""A split ready for training, in memory-mapped files beside the feature cache: a second start computes nothing again.

A folder `index_<split>_<digest>` holds the clips that fit the model, in the table's order, as plain little-endian arrays:

    tokens, token_ends              token ids, clip after clip, and where each clip's end
    records                         the feature cache's record of each clip
    positions                       length in the GPT's sequence
    ids, id_ends, id_numbers        file_ids in UTF-8, where each one's ends, and 64 bits of it, the seed of its draws
    speakers                        speaker of each clip, numbered
    by_speaker, speaker_ends        clips ordered by speaker, and where each speaker's end
    names.txt                       the recordings of every row of the table, one a line
    manifest.json                   facts, sizes and checksums, and the key: digests of all that the content depends on

It appears whole or not at all, its checksums are verified when it is opened, and no array is read further than it is
used: memory does not grow with the number of clips.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xtts_ka.core.console import warn
from xtts_ka.core.digests import MANIFEST, hash_file, hash_value, read_manifest, write_manifest
from xtts_ka.core.errors import RunError
from xtts_ka.core.files import atomic_folder
from xtts_ka.corpus.tables import Row, collector_paused
from xtts_ka.model.geometry import COND_POSITIONS, SAMPLE_RATE, codes_of
from xtts_ka.training.feature_cache import RECORD

VERSION = 1  # raise when the same key would give other files
AUDIO_STOPS = 4  # coqui scores this many stop tokens behind the codes
FEATURES = "features"  # folder in the data folder
NAMES = "names.txt"
_CHUNK = 10_000  # rows worked on together
_TYPES = {
    "tokens": "<u4",
    "token_ends": "<u8",
    "records": RECORD,
    "positions": "<u4",
    "ids": "u1",
    "id_ends": "<u8",
    "id_numbers": "<u8",
    "speakers": "<u4",
    "by_speaker": "<u4",
    "speaker_ends": "<u8",
}


class MissingFeatures(RunError):
    """The feature cache has not got all clips."""


@dataclass(frozen=True)
class ModelLimits:
    """What the data must know of the model: its special tokens and longest inputs (in tokens and codes)."""

    start_text: int
    stop_text: int
    start_audio: int
    stop_audio: int
    max_text: int
    max_codes: int

    @classmethod
    def of(cls, args) -> ModelLimits:
        """Read them from coqui's XttsArgs; the stop tokens must fit in as well."""
        return cls(
            args.gpt_start_text_token,
            args.gpt_stop_text_token,
            args.gpt_start_audio_token,
            args.gpt_stop_audio_token,
            args.gpt_max_text_tokens - 1,
            args.gpt_max_audio_tokens - 1,
        )


class TrainingIndex:
    """An index opened for reading. facts: clips, speakers, seconds, shortest, longest, median_positions, left_out."""

    def __init__(self, folder: Path, facts: dict[str, Any]):
        self.folder, self.facts = folder, facts
        for name, kind in _TYPES.items():
            setattr(self, name, _mapped(folder / f"{name}.bin", kind))

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "facts": self.facts}  # a worker process maps the files itself

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def __len__(self) -> int:
        return len(self.positions)

    def text(self, clip: int) -> np.ndarray:
        """Token ids of a clip, without start and stop."""
        return self.tokens[_span(self.token_ends, clip)]

    def file_id(self, clip: int) -> str:
        """What the table calls a clip."""
        return self.ids[_span(self.id_ends, clip)].tobytes().decode()

    def clips_of(self, speaker: int) -> np.ndarray:
        """All clips of a speaker."""
        return self.by_speaker[_span(self.speaker_ends, speaker)]


def _mapped(file: Path, kind: str | np.dtype) -> np.ndarray:
    return np.asarray(np.memmap(file, kind, "r")) if file.stat().st_size else np.empty(0, kind)


def _span(ends: np.ndarray, number: int) -> slice:
    return slice(int(ends[number - 1]) if number else 0, int(ends[number]))


# ── finding ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def open_index(cache_folder: Path, split: str, key: dict[str, Any]) -> TrainingIndex | None:
    """The sound index with this key; None where there is none. One that is damaged is named in a warning.

    A part of the key that is None is taken for right.
    """
    for folder in sorted(cache_folder.glob(f"index_{split}_*")):
        manifest, reason = read_manifest(folder)
        if manifest is None:
            warn(f"the training index {folder} is damaged ({reason}): it is made anew")
        elif all(value in (None, manifest["key"].get(name)) for name, value in key.items()):
            return TrainingIndex(folder, manifest["facts"])
    return None


def recorded_names(data_dir: Path | str, split: str, table: str) -> Path | None:
    """The file of recordings' names that an index was made with from the table with this digest; None without one."""
    for folder in sorted((Path(data_dir) / FEATURES).glob(f"*/index_{split}_*")):
        manifest, _ = read_manifest(folder, hashes=False)
        if (
            manifest
            and manifest["key"]["table"] == table
            and hash_file(folder / NAMES) == manifest["files"][NAMES]["sha256"]
        ):
            return folder / NAMES
    return None


# ── making ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def build_index(
    cache_folder: Path,
    split: str,
    key: dict[str, Any],
    rows: Iterable[tuple[Row, int]],
    find: Callable[[list[int]], np.ndarray],
    encode: Callable[[list[str]], list[np.ndarray]],
    limits: ModelLimits,
) -> TrainingIndex:
    """Write the index of `rows` in place of any other of this split in `cache_folder`; equal arguments, equal bytes.

    rows: a table's, each with its key in the feature cache, where `find` finds it. encode: texts → token ids, uint32.
    """
    for other in cache_folder.glob(f"index_{split}_*"):
        _remove(other)
    folder = cache_folder / f"index_{split}_{hash_value(key)[:16]}"
    with atomic_folder(folder) as temporary:
        with _Columns(temporary) as columns, collector_paused():
            left_out = _fill(columns, iter(rows), find, encode, limits)
        facts = {**_finish(temporary), "left_out": left_out}
        write_manifest(temporary, {"key": key, "facts": facts})
    return TrainingIndex(folder, facts)


def _remove(folder: Path) -> None:
    """Remove what we wrote in `folder`, and the folder unless something else is in it."""
    for name in (*(f"{column}.bin" for column in _TYPES), NAMES, MANIFEST):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


class _Columns(contextlib.ExitStack):
    """The files of an index, written chunk by chunk."""

    def __init__(self, folder: Path):
        super().__init__()
        self._files = {name: self.enter_context(open(folder / f"{name}.bin", "wb")) for name in _TYPES}
        self.names = self.enter_context(open(folder / NAMES, "w", encoding="utf-8", newline="\n"))
        self._totals = Counter()

    def add(self, **columns: Any) -> None:
        for name, values in columns.items():
            self._files[name].write(np.asarray(values, _TYPES[name]).tobytes())

    def add_lists(self, name: str, ends_name: str, lists: list[bytes] | list[np.ndarray]) -> None:
        """Append the items of each of `lists`, which are of the file's type, and where each list ends."""
        ends = self._totals[name] + np.cumsum([len(part) for part in lists])
        self._totals[name] = int(ends[-1])
        self._files[name].write(b"".join(lists))
        self.add(**{ends_name: ends})


def _fill(
    columns: _Columns, rows: Iterator[tuple[Row, int]], find: Callable, encode: Callable, limits: ModelLimits
) -> Counter[str]:
    """Write what follows the table's order; returns how many rows were left out for which reason."""
    left_out: Counter[str] = Counter()
    speakers: dict[str, int] = {}
    while pairs := list(itertools.islice(rows, _CHUNK)):
        chunk, keys = [row for row, _ in pairs], [key for _, key in pairs]
        columns.names.writelines(f"{row.recording}\n" for row in chunk)
        tokens, records = encode([row.text for row in chunk]), find(keys)
        if not records["samples"].all():
            raise MissingFeatures(
                f"clip {chunk[np.argmin(records['samples'])].file_id} was edited while features were "
                f"computed: run the same command again"
            )
        lengths, codes = np.array([len(ids) for ids in tokens]), codes_of(records["samples"].astype(np.int64))
        text_too_long = lengths > limits.max_text
        audio_too_long = ~text_too_long & (codes > limits.max_codes)
        left_out.update({"text too long": int(text_too_long.sum()), "audio too long": int(audio_too_long.sum())})
        fitting = np.flatnonzero(~text_too_long & ~audio_too_long).tolist()
        if fitting:
            names = [chunk[i].file_id.encode() for i in fitting]
            columns.add_lists("tokens", "token_ends", [tokens[i] for i in fitting])
            columns.add_lists("ids", "id_ends", names)
            columns.add(
                records=records[fitting],
                id_numbers=[_number(name) for name in names],
                positions=COND_POSITIONS + lengths[fitting] + 1 + codes[fitting] + AUDIO_STOPS,
                speakers=[speakers.setdefault(chunk[i].speaker_id, len(speakers)) for i in fitting],
            )
    return +left_out  # without reasons that left out nothing


def _number(name: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def _finish(folder: Path) -> dict[str, Any]:
    """Write what needs all clips at once, the order by speaker; returns the facts about the whole."""
    speakers, positions, records = (
        _mapped(folder / f"{name}.bin", _TYPES[name]) for name in ("speakers", "positions", "records")
    )
    ends = np.cumsum(np.bincount(speakers))
    for name, values in (("by_speaker", np.argsort(speakers, kind="stable")), ("speaker_ends", ends)):
        (folder / f"{name}.bin").write_bytes(values.astype(_TYPES[name]).tobytes())
    seconds = records["samples"] / SAMPLE_RATE
    longest = float(seconds.max(initial=0))
    return {
        "clips": len(positions),
        "speakers": len(ends),
        "seconds": float(seconds.sum()),
        "shortest": float(seconds.min(initial=longest)),
        "longest": longest,
        "median_positions": float(np.median(positions)) if len(positions) else 0.0,
    }
