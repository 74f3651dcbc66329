"""Pickles, torch files and safetensors: written atomically, read without running any code that they name."""

from __future__ import annotations

import errno
import io
import os
import pickle
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import atomic_path

# What the readers of pickles and torch files raise on damaged or hostile bytes.
_DAMAGE: tuple[type[Exception], ...] = (ArithmeticError, AssertionError, AttributeError, EOFError, ImportError)
_DAMAGE += (LookupError, MemoryError, RuntimeError, TypeError, ValueError)
_DAMAGE += (pickle.UnpicklingError, struct.error, zipfile.BadZipFile)


class _BuiltinsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


class _BuiltinsPickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> NoReturn:
        """Called for everything that pickle would write as a name and arguments."""
        raise TypeError(f"a results pickle holds builtins only, not {type(value).__name__}")


def write_pickle(path: Path | str, value: Any) -> None:
    """Write dicts, lists, tuples, strings, bytes, numbers and None as a pickle; other types raise TypeError."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        _BuiltinsPickler(file, protocol=4).dump(value)


def read_pickle(path: Path | str) -> Any:
    """Read a pickle of builtins; one that names a class or function is a UserError, and nothing of it has run."""
    try:
        data = Path(path).read_bytes()
        for opcode, argument, _ in pickletools.genops(data):
            # The unpickler allocates a table as long as the largest index: 11 bytes could take 16 GiB. An honest index
            # counts objects, so it is smaller than the number of bytes.
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(data):
                raise pickle.UnpicklingError(f"it asks for a memo of {argument:,} entries")
        return _BuiltinsOnly(io.BytesIO(data)).load()
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
    """Write named CPU tensors atomically as safetensors; the library writes without holding Python's lock."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors would make the file readable for its owner only
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
    """Load a `.pt`/`.pth` on the CPU; a missing or damaged file and one that holds code is a UserError.

    allowed: plain data classes that this file may hold, for `torch.serialization.safe_globals`. Beyond what torch
    checks, the checksums in the zip are compared, and compressed members and tensors larger than their storage are
    refused: torch writes neither, and a few kilobytes of them could take gigabytes of memory.
    """
    import torch

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as members:
                _check_members(members)
        with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        _refuse_hollow_tensors(value)
        return value
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: {remedy}") from None
    except _DAMAGE as error:
        raise UserError(f"{path} is not a safe, whole torch file ({_torch_reason(error)}): {remedy}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # from torch's own seeking in a file that was cut short
            raise
        raise UserError(f"{path} is not a safe, whole torch file (it is cut short): {remedy}") from None


def _check_members(archive: zipfile.ZipFile) -> None:
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError("its members are compressed")
        if member.header_offset < 0:
            raise ValueError("its beginning is missing")
    if damaged := archive.testzip():
        raise ValueError(f"its member {damaged} does not match its checksum")


def _refuse_hollow_tensors(value: Any) -> None:
    """ValueError for a tensor that repeats the numbers of a smaller storage (strides of 0)."""
    import torch

    waiting, seen = [value], set()  # a damaged pickle can hold an object that contains itself
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
        elif isinstance(item, torch.Tensor) and item.nbytes > item.untyped_storage().nbytes():
            raise ValueError(f"a tensor of shape {tuple(item.shape)} claims more numbers than the file holds")


def _torch_reason(error: BaseException) -> str:
    """What is wrong, in a few words: torch's own message advises to load the file with weights_only=False."""
    message = str(error).strip() or "it is cut short"
    if named := re.search(r"GLOBAL:? ([\w.]+)", message):
        return f"it names {named[1]}"
    return "it is not torch's format" if message.startswith("Weights only") else message.splitlines()[0][:160]


def tensors_to_bytes(tensors: dict[str, Any]) -> bytes:
    """Named tensors as safetensors bytes, the form in which a `.pkl` holds them."""
    from safetensors.torch import save

    return save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})


def tensors_from_bytes(data: bytes) -> dict[str, Any]:
    """The tensors in `tensors_to_bytes`' bytes; damaged ones are a UserError."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    damage: tuple[type[Exception], ...] = (*_DAMAGE, SafetensorError)
    try:
        return load(data)
    except damage as error:
        raise UserError(f"the tensors of a results file are damaged ({error}): run its stage again") from None
