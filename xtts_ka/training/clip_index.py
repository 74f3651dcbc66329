"""The clips of one split that fit the model, in memory-mapped files beside the feature cache.

A second start needs no table, no audio and no tokenizer. A folder `index_<split>_<digest>` holds plain arrays:

    tokens.npy, token_ends.npy          token ids, clip after clip, and where each clip's end
    ids.npy, id_ends.npy                file_ids in UTF-8, in the same way
    by_speaker.npy, speaker_ends.npy    clip numbers, speaker after speaker, in the same way
    speakers.npy                        each clip's speaker, numbered; one whose speaker is not known has its own number
    known.npy                           whether each clip's speaker is known
    voices.npy                          a digest of each speaker's id, the same in every index
    positions.npy                       each clip's length in the GPT's sequence
    records.npy                         each clip's record in the feature cache
    manifest.json                       facts, sizes, checksums, and the key: digests of what the content depends on

The folder appears whole or not at all, and its checksums are verified when it is opened. Only what is drawn is read
from the disk, so the memory of a training process does not grow with the number of clips.
"""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xtts_ka.core.console import say, warn
from xtts_ka.core.digests import hash_value, read_manifest, write_manifest
from xtts_ka.core.errors import RunError
from xtts_ka.core.files import atomic_folder
from xtts_ka.corpus.tables import Row
from xtts_ka.model.geometry import COND_POSITIONS, SAMPLE_RATE, codes_of

if TYPE_CHECKING:
    from xtts_ka.model.checkpoint import XttsArgs

VERSION = 4  # raise when the same key would give other files
AUDIO_STOPS = 4  # coqui scores this many stop tokens after the codes
FEATURES = "features"  # the cache's folder in the data folder
_CHUNK = 10_000  # texts tokenized together: the tokenizer needs kilobytes for each


class TrainingIndex:
    """An index opened for reading. left_out: how many clips did not fit the model, by reason."""

    def __init__(self, folder: Path, left_out: dict[str, int]):
        self.folder, self.left_out = folder, left_out

        def column(name: str) -> np.ndarray:
            return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))  # np.memmap itself indexes slowly

        self.tokens, self._token_ends = column("tokens"), column("token_ends")
        self._ids, self._id_ends = column("ids"), column("id_ends")
        self._by_speaker, self._speaker_ends = column("by_speaker"), column("speaker_ends")
        self.speakers, self.known, self.voices = column("speakers"), column("known"), column("voices")
        self.positions, self.records = column("positions"), column("records")

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def seconds(self) -> np.ndarray:
        """Of every clip."""
        return self.records["samples"] / SAMPLE_RATE

    def text(self, clip: int) -> np.ndarray:
        """Token ids of a clip, without start and stop."""
        return self.tokens[_span(self._token_ends, clip)]

    def file_id(self, clip: int) -> str:
        """The clip's file_id in the table."""
        return self._ids[_span(self._id_ends, clip)].tobytes().decode()

    def number(self, clip: int) -> int:
        """64 bits of the file_id's digest, which seed the clip's draws, whatever its place in the table."""
        return _number(self._ids[_span(self._id_ends, clip)].tobytes())

    def clips_of(self, speaker: int) -> np.ndarray:
        """All clips of a speaker; of an unknown one, the clip alone."""
        return self._by_speaker[_span(self._speaker_ends, speaker)]

    @property
    def accompanied(self) -> np.ndarray:
        """Of every clip, whether its speaker has another one here."""
        return np.diff(self._speaker_ends, prepend=0)[self.speakers] > 1


def _number(name: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def _span(ends: np.ndarray, number: int) -> slice:
    return slice(int(ends[number - 1]) if number else 0, int(ends[number]))


def open_index(cache_folder: Path, split: str, key: dict[str, Any]) -> TrainingIndex | None:
    """The sound index with this key; None where there is none. A part of the key that is None matches anything."""
    for folder in sorted(cache_folder.glob(f"index_{split}_*")):
        manifest, _ = read_manifest(folder)
        if manifest and not _changes(manifest["key"], key):
            return TrainingIndex(folder, manifest["facts"]["left_out"])
    return None


def _changes(old: dict[str, Any], key: dict[str, Any]) -> list[str]:
    return [name for name, value in key.items() if value not in (None, old.get(name))]


# ── making ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def build_index(
    cache_folder: Path,
    split: str,
    key: dict[str, Any],
    rows: Sequence[tuple[Row, int]],
    find: Callable[[Sequence[int]], np.ndarray],
    encode: Callable[[list[str]], list[np.ndarray]],
    args: XttsArgs,
) -> TrainingIndex:
    """Write the index of `rows` in place of the split's other indexes in `cache_folder`; equal arguments, equal bytes.

    rows: a table's, each with its key in the feature cache. find: keys → records. encode: texts → token ids, uint32.
    args: what coqui's config says of the model; of what it takes in, one place is kept for the stop token.
    """
    _remove_old(cache_folder, split, key)
    clips = [row for row, _ in rows]
    records, tokens = find([key for _, key in rows]), []
    for start in range(0, len(clips), _CHUNK):
        tokens += encode([row.text for row in clips[start : start + _CHUNK]])
    if not records["samples"].all():
        lost = clips[int(np.argmin(records["samples"]))].file_id
        raise RunError(f"the feature cache has lost clip {lost} while it was in use: run the same command again")
    lengths, codes = np.array([len(ids) for ids in tokens]), codes_of(records["samples"].astype(np.int64))
    text_too_long = lengths >= args.gpt_max_text_tokens
    audio_too_long = ~text_too_long & (codes >= args.gpt_max_audio_tokens)
    counts = {"text too long": int(text_too_long.sum()), "audio too long": int(audio_too_long.sum())}
    left_out = {reason: count for reason, count in counts.items() if count}
    fitting = np.flatnonzero(~text_too_long & ~audio_too_long)

    ids = [clips[i].file_id.encode() for i in fitting]
    numbers: dict[tuple[str, str], int] = {}
    voices = [(clips[i].speaker_id, "" if clips[i].speaker_known else clips[i].file_id) for i in fitting]
    speakers = np.array([numbers.setdefault(voice, len(numbers)) for voice in voices], "<u4")
    columns = {
        "tokens": np.concatenate([np.empty(0, "<u4"), *(tokens[i] for i in fitting)]),
        "token_ends": lengths[fitting].cumsum(),
        "ids": np.frombuffer(b"".join(ids), "u1"),
        "id_ends": np.array([len(name) for name in ids], np.int64).cumsum(),
        "by_speaker": np.argsort(speakers, kind="stable").astype("<u4"),
        "speaker_ends": np.bincount(speakers).cumsum(),
        "speakers": speakers,
        "voices": np.array([_number("\0".join(voice).encode()) for voice in numbers], "<u8"),
        "known": np.array([clips[i].speaker_known for i in fitting], bool),
        "positions": (COND_POSITIONS + lengths + 1 + codes + AUDIO_STOPS)[fitting].astype("<u4"),
        "records": records[fitting],
    }
    folder = cache_folder / f"index_{split}_{hash_value(key)[:16]}"
    with atomic_folder(folder) as temporary:
        for name, values in columns.items():
            buffer = io.BytesIO()  # straight to a file, np.save can miss that the disk is full
            np.save(buffer, values)
            # Not getbuffer: where the write of a view fails, Python 3.12.1 crashes later.
            (temporary / f"{name}.npy").write_bytes(buffer.getvalue())
        write_manifest(temporary, {"key": key, "facts": {"left_out": left_out}})
    return TrainingIndex(folder, left_out)


def _remove_old(cache_folder: Path, split: str, key: dict[str, Any]) -> None:
    """Delete the split's indexes, saying why each is made anew."""
    for old in sorted(cache_folder.glob(f"index_{split}_*")):
        manifest, damage = read_manifest(old)
        if manifest is None:
            warn(f"the training index {old} is damaged ({damage}): it is made anew")
        else:
            changes = ", ".join(_changes(manifest["key"], key))
            say(f"the training index {old.name} is made anew; changed since it was made: {changes}")
        shutil.rmtree(old)
