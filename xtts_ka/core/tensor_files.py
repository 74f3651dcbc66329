"""Pickles and torch files: written atomically, read without running any code they name."""

from __future__ import annotations

import mmap
import os
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import atomic_path

# What the readers of pickles and torch files raise on damaged or hostile bytes.
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    RuntimeError,
    ImportError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
)


class _BuiltinsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _refuse_memory_bombs(data: mmap.mmap) -> None:
    """Refuse a pickle whose memo indices its length cannot justify.

    `LONG_BINPUT` with a large index makes the unpickler allocate and clear a table of that size: 11 bytes can take
    16 GiB. An honest index counts objects, so it is smaller than the number of bytes.
    """
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(data):
            raise pickle.UnpicklingError(f"it asks for a memo of {argument:,} entries")


def write_pickle(path: Path | str, value: Any) -> None:
    """Write builtins (dict, list, str, bytes, numbers, …) as a pickle that plain `pickle.load` reads anywhere."""
    _require_builtins(value)  # refuse to write what we would refuse to read
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        pickle.dump(value, file, protocol=4)


def _require_builtins(value: Any) -> None:
    if type(value) is dict:  # a subclass such as OrderedDict is pickled by the name of its class
        for pair in value.items():
            _require_builtins(pair)
    elif type(value) in (list, tuple):
        for item in value:
            _require_builtins(item)
    elif type(value) not in (str, bytes, int, float, bool, type(None)):
        raise TypeError(f"a results pickle holds builtins only, not {type(value).__name__}")


def read_pickle(path: Path | str) -> Any:
    """Read a pickle of builtins; one that names any global is refused before anything of it runs."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _refuse_memory_bombs(data)
            data.seek(0)
            return _BuiltinsOnly(data).load()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: run the stage that writes it") from None
    except _DAMAGE as error:
        raise UserError(f"{path} is not a safe, whole pickle ({error}): delete it and run its stage again") from None


def save_torch(path: Path | str, value: Any) -> None:
    """Write a tensor structure atomically in torch's zip format."""
    import torch

    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(value, file)  # through Python's file, a full disk is an OSError; torch's own writer hides it
        except RuntimeError as error:  # from closing the archive that could not be written
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def save_tensors(path: Path | str, tensors: dict[str, Any]) -> None:
    """Write named CPU tensors atomically as safetensors, without keeping other threads waiting while it does."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # a new file's; the library would make it ours alone
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:
            if number := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1])), str(temporary)) from None
            raise
        temporary.chmod(mode)


def load_torch(
    path: Path | str, *, mmap: bool = False, allowed: Iterable[Any] = (), remedy: str = "restore it from its source"
) -> Any:
    """Load a `.pt`/`.pth` with `weights_only=True` on the CPU; one that holds code or is damaged is a UserError.

    So is one with compressed members, or with a tensor that repeats a few numbers under a large shape: torch does not write
    the former, and of either a few kilobytes could inflate without bound. The checksums in a zip are compared here, since
    torch does not.

    `allowed` names the few plain data classes that this one file may hold, as `torch.serialization.safe_globals` takes
    them.
    """
    import torch

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as members:
                _check_members(members)
        with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on odd files in many lines; what is wrong is said in one
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        _refuse_hollow_tensors(value)
        return value
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: {remedy}") from None
    except _DAMAGE as error:
        raise UserError(f"{path} is not a safe, whole torch file ({_torch_reason(error)}): {remedy}") from None


def _check_members(archive: zipfile.ZipFile) -> None:
    """ValueError for members that are compressed, cut off, or not as their checksums say."""
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError("its members are compressed")
        if member.header_offset < 0:  # a place before the file's first byte
            raise ValueError("its beginning is missing")
    if damaged := archive.testzip():
        raise ValueError(f"its member {damaged} does not match its checksum")


def _refuse_hollow_tensors(value: Any) -> None:
    """Refuse a structure in which a tensor has more numbers than its storage; an object met twice is looked at once."""
    import torch

    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
        elif isinstance(item, torch.Tensor) and item.layout == torch.strided and item.device.type == "cpu":
            if item.numel() * item.element_size() > item.untyped_storage().nbytes():
                raise ValueError(f"a tensor of shape {tuple(item.shape)} claims more numbers than the file holds")


def _torch_reason(error: BaseException) -> str:
    """What is wrong, in a few words: torch's own message advises to load the file anyway."""
    message = str(error).strip()
    if named := re.search(r"GLOBAL:? ([\w.]+)", message):
        return f"it names {named[1]}"
    if not message or message.startswith("Weights only load failed"):
        return "it is not torch's format" if message else "it is cut short"
    return message.splitlines()[0][:160]


def tensors_to_bytes(tensors: dict[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    """Serialise named tensors as safetensors bytes: how tensors travel inside a `.pkl`."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)


def tensors_from_bytes(data: bytes, what: str = "the tensors in a results file") -> dict[str, Any]:
    """The inverse of `tensors_to_bytes`; damaged bytes are a UserError that names `what` they are."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, *_DAMAGE) as error:
        raise UserError(f"{what} are damaged ({error}): delete the file and run its stage again") from None
