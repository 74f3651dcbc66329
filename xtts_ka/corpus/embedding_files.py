"""Reads the user's voice embeddings (`.npy .npz .pt .pth .json`) and matches them to recordings and speakers.

The files are untrusted: no pickle is executed, and the memory that a header, an archive or a JSON text can ask for is
checked before anything is read.
"""

from __future__ import annotations

import lzma
import math
import os
import struct
import tokenize
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from xtts_ka.core.console import progress, warn
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json
from xtts_ka.core.tensor_files import load_torch
from xtts_ka.corpus.formats import AUDIO_SUFFIXES
from xtts_ka.corpus.tables import EMBEDDING_SUFFIXES, Clip, source_roots
from xtts_ka.corpus.tables import EMBEDDINGS_FOLDER as FOLDER

MAX_WIDTH = 16_384  # numbers in one vector; voice encoders give 192 to 2,048
MAX_JSON_BYTES = 2**27  # parsed JSON takes up to twenty times as much memory
MAX_ARCHIVE_BYTES = 2**31  # unpacked size of an .npz, .pt or .pth

_REMEDY = "replace or delete it"
_KEYS = ("speaker_embedding", "embedding")  # coqui's names for the vector inside a speaker's entry
# What NumPy's header parser and zipfile raise on damaged or hostile bytes.
_BROKEN_HEADER = (ValueError, TypeError, LookupError, SyntaxError, MemoryError, ArithmeticError, tokenize.TokenError)
_BROKEN_ZIP = (EOFError, RuntimeError, AssertionError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_BROKEN_ARRAY = _BROKEN_HEADER + _BROKEN_ZIP

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
    root, names = Path(os.path.realpath(folder)), _Names(known)
    wanted = {owner for c in clips for owner in (("utterances", c.file_id), ("speakers", c.speaker_id))}
    given = GivenVectors(files=len(files))
    origin: dict[Owner, str] = {}  # the vector that each owner got
    first = ""  # the file that set the width
    for path in progress(files, what="reading embeddings", unit="file", shown=len(files) >= 500):
        entries = 0
        for name, alone, vector in _vectors(path):
            entries += 1
            label = f"{path} ({name[:80]})" if name else str(path)
            if first and len(vector) != given.width:
                widths = f"{first} holds {given.width} numbers and {label} holds {len(vector)}"
                raise UserError(f"{widths}: give embeddings of one kind, all of the same width")
            first, given.width = first or label, len(vector)
            if fault := _fault(vector):
                given.unusable.append(f"{label}: {fault}")
                continue
            owners = names.owner_of(name)
            if not owners and alone:
                owners = named_by.get(path) or names.owner_of(_relative_stem(path, root))
            given.unused += [] if owners else [label]
            kept = [owner for owner in owners if owner in wanted]
            given.elsewhere += len(owners) - len(kept)
            for kind, owner in kept:
                if (kind, owner) in origin:
                    raise UserError(f"{origin[kind, owner]} and {label} both give a vector for {owner}: delete one")
                origin[kind, owner] = label
                getattr(given, kind)[owner] = vector.astype(np.float32)
        if not entries:
            raise UserError(f"{path} holds no vector: {_REMEDY}")
    return given


def _fault(vector: np.ndarray) -> str:
    """Why a vector has no usable direction, or nothing."""
    if np.isnan(vector).any():
        return "NaN among its numbers"
    size = np.abs(vector).max()
    if size > 1e30:  # its square would overflow float32
        return "infinite or overflowing numbers"
    return "all its numbers are zero" if size < 1e-15 else ""


class _Names:
    """Finds the recording (by file_id or audio file) or the speaker with a given name."""

    def __init__(self, clips: Iterable[Clip]):
        self.speakers: set[str] = set()
        self.file_ids: set[str] = set()
        self.audio: dict[str, str] = {}  # `stem` and `folder/stem` → file_id, or nothing where two share it
        for clip in clips:
            if clip.file_id in self.file_ids:
                raise UserError(f"file_id {clip.file_id} stands in two split tables: delete one of the rows")
            self.file_ids.add(clip.file_id)
            self.speakers.add(clip.speaker_id)
            stem = _plain(clip.audio_path.stem)
            for alias in (stem, f"{_plain(clip.audio_path.parent.name)}/{stem}"):
                self.audio[alias] = "" if alias in self.audio else clip.file_id

    def owner_of(self, name: str) -> list[Owner]:
        """The recording or speaker with this name; nothing where there is none, or several."""
        name = whole = _plain(name)
        if name.lower().endswith(AUDIO_SUFFIXES):
            name = name.rpartition(".")[0]
        parts = PurePosixPath(name.replace("\\", "/")).parts
        for candidate in dict.fromkeys((whole, name, "/".join(parts[-2:]), *parts[-1:])):
            if candidate in self.file_ids:
                return [("utterances", candidate)]
            if candidate in self.speakers:
                return [("speakers", candidate)]
            if self.audio.get(candidate):
                return [("utterances", self.audio[candidate])]
        return []


def _relative_stem(path: Path, root: Path) -> str:
    inside = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return inside.with_suffix("").as_posix()


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS decomposes file names


def _vectors(path: Path) -> Iterator[tuple[str, bool, np.ndarray]]:
    """Yield (name or nothing, whether it is the file's only one, float64 (d,)) of every vector in a file."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        with open(path, "rb") as file:
            yield "", True, _read_array(file, str(path))
    elif suffix == ".npz":
        yield from _archive(path)
    elif suffix == ".json":
        _check_size(path, path.stat().st_size, MAX_JSON_BYTES)
        yield from _structure(path, read_json(path, "embedding file", _REMEDY))
    else:
        _check_size(path, _unpacked_size(path), MAX_ARCHIVE_BYTES)
        yield from _structure(path, load_torch(path, remedy=_REMEDY))


def _archive(path: Path) -> Iterator[tuple[str, bool, np.ndarray]]:
    _check_size(path, _unpacked_size(path), MAX_ARCHIVE_BYTES)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for member in members:
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    vector = _read_array(file, f"{path} ({name[:80]})")
                yield name, len(members) == 1, vector
    except (*_BROKEN_ARRAY, OSError) as error:  # OSError: offsets before the file's start
        raise _refused(path, error) from None


def _read_array(file: IO[bytes], label: str) -> np.ndarray:
    """One array in NumPy's format as float64 (d,); its header is checked before the data are read."""
    try:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError("it is not a plain array")
        shape, _, dtype = readers[version](file)
        if dtype.hasobject or dtype.kind not in "fiu":
            raise ValueError(f"its elements are {dtype}, not numbers")
        width = _width(shape, label)
        data = file.read(width * dtype.itemsize)
        if len(data) < width * dtype.itemsize:
            raise ValueError("it is cut short")
        with np.errstate(over="ignore"):
            return np.frombuffer(data, dtype).astype(np.float64)
    except _BROKEN_ARRAY as error:
        raise _refused(label, error) from None


def _unpacked_size(path: Path) -> int:
    try:
        if not zipfile.is_zipfile(path):  # torch's old format is not compressed
            return path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    except (*_BROKEN_ARRAY, OSError) as error:
        raise _refused(path, error) from None


def _structure(path: Path, value: Any) -> Iterator[tuple[str, bool, np.ndarray]]:
    """The vectors in a JSON or torch file: one, {name: vector}, or {name: {"embedding": vector}}."""
    if not isinstance(value, dict):
        yield "", True, _numbers(value, str(path))
    elif key := next((key for key in _KEYS if key in value and not isinstance(value[key], dict)), None):
        yield "", True, _numbers(value[key], str(path))
    else:
        for name, entry in value.items():
            if not isinstance(name, str | int):
                raise UserError(f"{path}: names must be strings, one is a {type(name).__name__}: {_REMEDY}")
            label = f"{path} ({str(name)[:80]})"
            if isinstance(entry, dict):
                key = next((key for key in _KEYS if key in entry), None)
                if key is None:
                    raise UserError(f"{label} must be a vector or hold one as `embedding`: {_REMEDY}")
                entry = entry[key]
            yield str(name), len(value) == 1, _numbers(entry, label)


def _numbers(value: Any, label: str) -> np.ndarray:
    """A tensor or a list of numbers, up to singleton axes, as float64 (d,)."""
    if isinstance(value, list | tuple):
        depth = 0
        while len(value) == 1 and isinstance(value[0], list | tuple) and depth < 4:  # [[…]]
            value, depth = value[0], depth + 1
        _width((len(value),), label)
        while depth < 4 and all(isinstance(item, list | tuple) and len(item) == 1 for item in value):
            value, depth = [item[0] for item in value], depth + 1  # [[a], [b], …]
        if any(isinstance(item, bool) or not isinstance(item, int | float) for item in value):
            raise UserError(f"{label} is not a list of numbers: {_REMEDY}")
        return np.array([_as_float(item) for item in value])
    import torch

    if not isinstance(value, torch.Tensor):
        raise UserError(f"{label} is a {type(value).__name__}, not a vector: {_REMEDY}")
    odd = value.is_quantized or value.is_nested or value.is_complex() or value.dtype == torch.bool
    if odd or value.layout != torch.strided or value.device.type != "cpu":
        raise UserError(f"{label} is no plain tensor of numbers: {_REMEDY}")
    _width(tuple(value.shape), label)
    return value.detach().to(torch.float64).flatten().numpy()


def _as_float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:  # integers in JSON have any length
        return math.inf


def _width(shape: tuple[int, ...], label: str) -> int:
    """The length of the only axis longer than one; UserError where there is not just one, or out of range."""
    long = [size for size in shape if size != 1]
    if len(long) != 1 or not 2 <= long[0] <= MAX_WIDTH or len(shape) > 4:
        wanted = f"a voice embedding is one vector of 2 to {MAX_WIDTH} numbers, (d,), (1, d) or (1, d, 1)"
        raise UserError(f"{label} has shape {str(shape)[:60]}: {wanted}")
    return long[0]


def _check_size(path: Path, size: int, limit: int) -> None:
    if size > limit:
        sizes = f"{size / 2**20:.0f} MiB, more than the {limit / 2**20:.0f} that are read from such a file"
        raise UserError(f"{path} holds {sizes}: split it, or save one .npy per recording")


def _refused(label: Path | str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return UserError(f"{label} is not a safe, whole array file ({reason}): {_REMEDY}")
