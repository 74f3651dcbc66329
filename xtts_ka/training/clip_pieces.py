"""Arrays of clips (mels, latents, waves), computed once in pieces of some hundred clips and kept on the disk.

A folder named after a digest of what the content depends on holds `piece_00000.safetensors`, …: for every kind of array
the clips' arrays one behind the other, `<kind>`, and where each ends, `<kind>.ends`. A piece appears whole or not at
all, so after a kill the pieces that are there are kept. Reading takes from the memory-mapped file what is asked for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from xtts_ka.core.console import progress, say, warn
from xtts_ka.core.digests import hash_value
from xtts_ka.core.errors import RunError
from xtts_ka.core.files import atomic_path
from xtts_ka.model.voice_space import hashed_order

PARTS = "parts"  # folder in the data folder that holds them
PIECE = 128  # clips of a file
BATCH = 8  # clips whose arrays are computed together
Item = TypeVar("Item")
Arrays = Mapping[str, np.ndarray]  # kind → (length, …)


class ClipPieces:
    """The arrays of some clips. `len` is the number of clips; `lengths[kind]` is the length of each clip's array."""

    def __init__(self, folder: Path, count: int):
        self.folder = folder
        self._files: list[Any] = []
        self._starts: list[dict[str, np.ndarray]] = []
        with ExitStack() as stack:
            for number in range(-(-count // PIECE)):
                file = stack.enter_context(_opened(_piece(folder, number)))
                kinds = [name for name in file.keys() if not name.endswith(".ends")]  # noqa: SIM118 - no dict
                self._starts.append({k: np.concatenate([[0], file.get_tensor(f"{k}.ends")]) for k in kinds})
                self._files.append(file)
            self._open = stack.pop_all()
        kinds = list(self._starts[0]) if self._starts else []
        self.lengths = {kind: np.concatenate([np.diff(starts[kind]) for starts in self._starts]) for kind in kinds}

    def __len__(self) -> int:
        return sum(len(next(iter(starts.values()))) - 1 for starts in self._starts)

    def read(self, clip: int, kind: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """`array[start:stop]` of this kind of a clip."""
        piece, place = divmod(clip, PIECE)
        first, end = self._starts[piece][kind][place : place + 2].tolist()
        stop = end if stop is None else min(end, first + stop)
        return self._files[piece].get_slice(kind)[first + start : stop]


def _piece(folder: Path, number: int) -> Path:
    return folder / f"piece_{number:05d}.safetensors"


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, FileNotFoundError) as error:
        raise RunError(f"{path} cannot be read ({error}): delete it and run the same command") from None


def chosen_names(names: Iterable[str], most: int) -> list[str]:
    """At most `most` of these ids, chosen by a hash, so that added recordings replace few."""
    return sorted(names, key=hashed_order)[:most]


def make_pieces(
    folder: Path, key: Any, items: Sequence[Item], make: Callable[[Sequence[Item]], list[Arrays]], what: str
) -> ClipPieces:
    """The arrays of `items`, in `folder/<digest of key and number of items>`; what is missing there is computed.

    key: everything that the arrays depend on, `items` included. make: the arrays of a few items. Other folders beside
    it, which hold the same of other recordings or weights, are deleted.
    """
    target = folder / hash_value([key, len(items)])[:16]
    for other in sorted(folder.glob("*/piece_00000.safetensors")):
        if other.parent != target:
            say(f"{what}: those in {other.parent} are out of date and are deleted")
            shutil.rmtree(other.parent)
    target.mkdir(parents=True, exist_ok=True)
    numbers = range(-(-len(items) // PIECE))
    missing = [number for number in numbers if not _is_whole(_piece(target, number))]
    with progress(
        total=sum(len(_share(items, n)) for n in missing), what=what, unit="clip", shown=bool(missing)
    ) as bar:
        for number in missing:
            arrays: list[Arrays] = []
            for batch in _batches(_share(items, number)):
                arrays += make(batch)
                bar.update(len(batch))
            _write(_piece(target, number), arrays)
    return ClipPieces(target, len(items))


def _share(items: Sequence[Item], number: int) -> Sequence[Item]:
    return items[number * PIECE : (number + 1) * PIECE]


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def _is_whole(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="numpy"):
            return True
    except SafetensorError as error:
        warn(f"{path} is damaged ({error}): it is made anew")
        return False


def _write(path: Path, arrays: list[Arrays]) -> None:
    content: dict[str, np.ndarray] = {}
    for kind in arrays[0]:
        content[kind] = np.concatenate([array[kind] for array in arrays])
        content[f"{kind}.ends"] = np.cumsum([len(array[kind]) for array in arrays], dtype=np.int64)
    with atomic_path(path) as temporary:
        save_file(content, temporary)
