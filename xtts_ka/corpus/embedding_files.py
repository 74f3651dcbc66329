"""Reads the user's voice embeddings (`.npy .npz .pt .pth .json`) and matches them to recordings and speakers.

The files are untrusted: no pickle is executed, and the unpacked size of a file is checked before it is read.
"""

from __future__ import annotations

import lzma
import os
import struct
import tokenize
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from xtts_ka.core.console import progress, warn
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json
from xtts_ka.core.tensor_files import load_torch
from xtts_ka.corpus.paths import AUDIO_SUFFIXES
from xtts_ka.corpus.tables import EMBEDDING_SUFFIXES, Clip, source_roots
from xtts_ka.corpus.tables import EMBEDDINGS_FOLDER as FOLDER

SPEAKERS_FILE = "speakers_base.pth"  # what the embeddings stage makes; the export writes speakers_xtts.pth from it
MAX_WIDTH = 16_384  # numbers in one vector; voice encoders give 192 to 2,048
MAX_JSON_BYTES = 2**27  # parsed JSON takes up to twenty times as much memory
MAX_ARRAY_BYTES = 2**31  # unpacked size of a file of another kind

_REMEDY = "replace or delete it"
_KEYS = ("speaker_embedding", "embedding")  # coqui's names for the vector inside a speaker's entry
# What NumPy and zipfile raise on damaged or hostile bytes.
_DAMAGE: tuple[type[Exception], ...] = (ArithmeticError, AssertionError, EOFError, LookupError, MemoryError, OSError)
_DAMAGE += (RuntimeError, SyntaxError, TypeError, ValueError)
_DAMAGE += (lzma.LZMAError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error)

Owner = tuple[str, str]  # ("utterances", file_id) or ("speakers", speaker_id)


@dataclass
class GivenVectors:
    """The user's voice embeddings, matched to recordings and speakers; all of one width.

    utterances: file_id → float32 (width,); speakers: speaker_id → float32 (width,); elsewhere: number of vectors that
    belong to other splits; unused: vectors whose name matches no recording or speaker, or several; unusable: `file:
    reason` of vectors that have no direction (zeros, NaN, infinity).
    """

    width: int = 0
    files: int = 0
    utterances: dict[str, np.ndarray] = field(default_factory=dict)
    speakers: dict[str, np.ndarray] = field(default_factory=dict)
    elsewhere: int = 0
    unused: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.utterances or self.speakers)


def find_embedding_files(data_dir: Path | str, named: Iterable[Path] = ()) -> list[Path]:
    """All embedding files below `data_dir/embeddings/embeddings` and those that clips name, sorted.

    named: as `tables.py` reads them, with the links in their folders resolved. UserError for a named file that is
    missing or of another kind, and for any file that lies, links followed, outside the data folder and the folders that
    the tables may point into.
    """
    root, homes = Path(data_dir) / FOLDER, tuple(f"{home}{os.sep}" for home in source_roots(data_dir))
    if root.exists() and not os.path.realpath(root).startswith(homes):
        raise UserError(f"{root} is a link that leads out of {data_dir}: put the folder itself there")
    found = {*named, *(file for file in _visible_files(root) if file.name.lower().endswith(EMBEDDING_SUFFIXES))}
    for path in found:
        if not path.is_file():
            remedy = "restore it, or clear the embedding_path of its recordings in the split tables"
            raise UserError(f"embedding file {path} does not exist or is no file: {remedy}")
        if path.suffix.lower() not in EMBEDDING_SUFFIXES:
            raise UserError(f"{path} is none of {' '.join(EMBEDDING_SUFFIXES)}: correct embedding_path in the tables")
        if not (os.path.realpath(path) if path.is_symlink() else str(path)).startswith(homes):
            raise UserError(f"embedding file {path} lies outside {data_dir}: copy it into {root}")
    return sorted(found)


def _visible_files(root: Path) -> list[Path]:
    folders = os.walk(os.path.realpath(root))
    return [Path(folder) / name for folder, _, names in folders for name in names if not name.startswith(".")]


def read_given(data_dir: Path | str, clips: Sequence[Clip], others: Sequence[Clip] = ()) -> GivenVectors:
    """Read every embedding file and match its vectors to `clips` and their speakers.

    others: recordings of other splits; vectors of theirs are counted, not kept.

    A file with one vector is named after its owner (`clip.npy`, `speaker/clip.npy`), or belongs to the clips whose
    `embedding_path` it is; in a file with several, each vector has a name. A name is a file_id, a speaker_id, or the
    name of one recording's audio file. UserError for files that are damaged, hostile or of different widths.
    """
    known = [*clips, *others]
    files = find_embedding_files(data_dir, [clip.embedding_path for clip in known if clip.embedding_path])
    folder = Path(data_dir) / FOLDER
    if not files and (others_there := _visible_files(folder)):
        kinds = " ".join(EMBEDDING_SUFFIXES)
        warn(f"{folder} holds {len(others_there)} files, none of them an embedding ({kinds})")
    named_by: dict[Path, list[Owner]] = {}
    for clip in known:
        if clip.embedding_path:
            named_by.setdefault(clip.embedding_path, []).append(("utterances", clip.file_id))
    root, owner_of = os.path.realpath(folder), _owners(known)
    wanted = {owner for c in clips for owner in (("utterances", c.file_id), ("speakers", c.speaker_id))}
    given = GivenVectors(files=len(files))
    origin: dict[Owner, str] = {}  # the vector that each owner got
    first = ""  # the vector that set the width
    for path in progress(files, what="reading embeddings", unit="file", shown=len(files) >= 500):
        vectors = _named_values(path)
        for name, value in vectors.items():
            label = f"{path} ({name[:80]})" if name else str(path)
            vector = _vector(value, label)
            if first and len(vector) != given.width:
                widths = f"{first} holds {given.width} numbers and {label} holds {len(vector)}"
                raise UserError(f"{widths}: give embeddings of one kind, all of the same width")
            first, given.width = first or label, len(vector)
            if fault := _fault(vector):
                given.unusable.append(f"{label}: {fault}")
                continue
            owners = _find_owner(owner_of, name)
            if not owners and len(vectors) == 1:
                own_name = os.path.relpath(path.with_suffix(""), root) if path.is_relative_to(root) else path.stem
                owners = named_by.get(path) or _find_owner(owner_of, own_name)
            given.unused += [] if owners else [label]
            kept = [owner for owner in owners if owner in wanted]
            given.elsewhere += len(owners) - len(kept)
            for kind, owner in kept:
                if (kind, owner) in origin:
                    raise UserError(f"{origin[kind, owner]} and {label} both give a vector for {owner}: delete one")
                origin[kind, owner] = label
                getattr(given, kind)[owner] = vector.astype(np.float32)
    return given


def _fault(vector: np.ndarray) -> str:
    """Why a vector has no usable direction, or nothing."""
    if np.isnan(vector).any():
        return "NaN among its numbers"
    size = np.abs(vector).max()
    if size > 1e30:  # its square would overflow float32
        return "infinite or overflowing numbers"
    return "all its numbers are zero" if size < 1e-15 else ""


def _owners(clips: Sequence[Clip]) -> dict[str, Owner | None]:
    """The owner of each name that a vector may have; None where two recordings' audio files share it."""
    owners: dict[str, Owner | None] = {}
    for clip in clips:
        stem = _plain(clip.audio_path.stem)
        for alias in (stem, f"{_plain(clip.audio_path.parent.name)}/{stem}"):
            owners[alias] = None if alias in owners else ("utterances", clip.file_id)
    for file_id, times in Counter(clip.file_id for clip in clips).most_common(1):
        if times > 1:
            raise UserError(f"file_id {file_id} stands in two split tables: delete one of the rows")
    owners |= {clip.speaker_id: ("speakers", clip.speaker_id) for clip in clips}
    return owners | {clip.file_id: ("utterances", clip.file_id) for clip in clips}


def _find_owner(owner_of: dict[str, Owner | None], name: str) -> list[Owner]:
    """The recording or speaker with this name; nothing where there is none, or several."""
    name = whole = _plain(name)
    if name.lower().endswith(AUDIO_SUFFIXES):
        name = name.rpartition(".")[0]
    parts = PurePosixPath(name.replace("\\", "/")).parts
    found = (owner_of.get(candidate) for candidate in (whole, name, "/".join(parts[-2:]), *parts[-1:]))
    return [owner for owner in found if owner][:1]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS decomposes file names


def _named_values(path: Path) -> dict[str, Any]:
    """The vectors in a file by their names, unchecked; "" is the name of one that stands alone.

    A file holds one vector, {name: vector}, or {name: {"embedding": vector}}.
    """
    value = _content(path)
    if not isinstance(value, dict):
        return {"": value}
    if key := next((key for key in _KEYS if key in value and not isinstance(value[key], dict)), None):
        return {"": value[key]}
    if not value:
        raise UserError(f"{path} holds no vector: {_REMEDY}")
    vectors: dict[str, Any] = {}
    for name, entry in value.items():
        if not isinstance(name, str | int):
            raise UserError(f"{path}: names must be strings, one is a {type(name).__name__}: {_REMEDY}")
        if isinstance(entry, dict):
            entry = next((entry[key] for key in _KEYS if key in entry), None)
        vectors[str(name)] = entry
    return vectors


def _content(path: Path) -> Any:
    suffix = path.suffix.lower()
    limit = MAX_JSON_BYTES if suffix == ".json" else MAX_ARRAY_BYTES
    try:
        size = path.stat().st_size
        if suffix != ".json" and zipfile.is_zipfile(path):  # torch's old format is no archive
            with zipfile.ZipFile(path) as archive:
                size = sum(member.file_size for member in archive.infolist())
        if size > limit:
            sizes = f"{size / 2**20:.0f} MiB, more than the {limit / 2**20:.0f} that are read from such a file"
            raise UserError(f"{path} holds {sizes}: split it, or save one .npy per recording")
        if suffix == ".json":
            return read_json(path, "embedding file", _REMEDY)
        if suffix in (".pt", ".pth"):
            return load_torch(path, remedy=_REMEDY)
        value = np.load(path, allow_pickle=False)
        return value if isinstance(value, np.ndarray) else dict(value)
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{path} is not a safe, whole array file ({reason}): {_REMEDY}") from None


def _vector(value: Any, label: str) -> np.ndarray:
    """A list, array or tensor of numbers as float64 (d,); all its axes but one must have the length 1."""
    try:
        if hasattr(value, "tolist"):  # of arrays and tensors, whatever their type
            _check_shape(value.shape, label)
            value = value.tolist()
        array = np.array(value)
    except (RuntimeError, TypeError, ValueError):  # ragged lists; sparse, quantised and meta tensors
        array = np.array(None)
    if array.dtype.kind not in "fiu":
        raise UserError(f"{label} is not a vector of numbers: {_REMEDY}")
    _check_shape(array.shape, label)
    return array.astype(np.float64).ravel()


def _check_shape(shape: Sequence[int], label: str) -> None:
    long = [size for size in shape if size != 1]
    if len(long) != 1 or not 2 <= long[0] <= MAX_WIDTH:
        wanted = f"a voice embedding is one vector of 2 to {MAX_WIDTH} numbers, (d,), (1, d) or (1, d, 1)"
        raise UserError(f"{label} has shape {str(tuple(shape))[:60]}: {wanted}")
