"""The only place that writes files that matter, and the safe way to read them back.

Every write goes to a temporary file beside the target, is flushed to the disk and renamed over it, so a reader sees the
old file or the new one and never half of one. Every read that could execute code (pickle, torch) refuses to.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import pickle
import pickletools
import re
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from xtts_ka.core.console import UserError

TEMPORARY_SUFFIX = ".partial"  # what an interrupted write leaves; `sweep_partials` removes it
MANIFEST = "manifest.json"
CHECKPOINT = re.compile(r"step_(\d{8})")  # name of a checkpoint's folder
CHECKPOINT_SCHEMA = 2  # of a checkpoint's manifest, for those who write and those who watch; 1 had moments by number

# What the readers of pickles and torch files raise on damaged or hostile bytes.
_DAMAGE = (pickle.UnpicklingError, EOFError, ValueError, LookupError, AttributeError, TypeError, RuntimeError,
           ImportError, ArithmeticError, AssertionError, MemoryError, struct.error, zipfile.BadZipFile)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a file system says that takes no more
_SEAL_BYTES = len(b', "crc": "01234567"}')

# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed to `path`, on failure removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with _errors_name(path, temporary):
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
            _fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(folder: Path | str) -> Iterator[Path]:
    """Like `atomic_path` for a whole folder: it appears under its name complete or not at all.

    `folder` must not exist yet, or be empty: nothing that is already there is ever replaced.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with _errors_name(folder, temporary):
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    with open(file, "rb") as written:
                        os.fsync(written.fileno())
                elif file.is_dir():
                    _fsync_folder(file)
            _fsync_folder(temporary)
            os.replace(temporary, folder)  # fails, and rightly so, where a non-empty folder stands
            _fsync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _errors_name(path: Path, temporary: Path) -> Iterator[None]:
    """An OSError about `temporary`, about a file in it or about nothing at all (a full disk) names `path` instead."""
    try:
        yield
    except OSError as error:
        copy = error.filename2 if error.errno in _FULL else None  # shutil names the source of a copy first
        name = str(copy or error.filename or temporary)
        inside = name.removeprefix(str(temporary))
        if error.errno is None or inside == name or inside[:1] not in ("", os.sep):
            raise
        raise OSError(error.errno, error.strerror, f"{path}{inside}") from error


def sweep_partials(folder: Path) -> None:
    """Remove what killed writers left directly in `folder`. Call it only while holding the pipeline's lock.

    Only names of the form `.<name>.<pid>.partial` are ours; any other file stays.
    """
    for left in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        if not re.fullmatch(r"\..+\.\d+" + re.escape(TEMPORARY_SUFFIX), left.name):
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` atomically as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` atomically as readable UTF-8 JSON (Georgian stays Georgian)."""
    write_bytes(path, _json_bytes(value, indent=2))


def _json_bytes(value: Any, indent: int | None = None) -> bytes:
    """One JSON value as UTF-8 and a line break. A file name's undecodable byte becomes JSON's own escape for it."""
    return json.dumps(value, ensure_ascii=False, indent=indent).encode("utf-8", "backslashreplace") + b"\n"


def append_jsonl(path: Path | str, record: dict) -> None:
    """Append one JSON object as one line, in a single write, so that a kill leaves at most one torn last line.

    A full disk raises OSError and leaves the log as it was. `crc`, the line's last key, tells a damaged line.
    """
    line = _json_bytes(record)
    if record:
        line = line[:-2] + _seal(line[:-2]) + b"\n"
    append_bytes(path, line if _ends_whole(path) else b"\n" + line)  # a torn line from a kill must not swallow it


def _ends_whole(path: Path | str) -> bool:
    """Whether `path` is missing, empty, or ends with a line break."""
    try:
        with open(path, "rb") as file:
            return file.seek(0, os.SEEK_END) == 0 or os.pread(file.fileno(), 1, file.tell() - 1) == b"\n"
    except FileNotFoundError:
        return True


def append_bytes(path: Path | str, data: bytes, *, sync: bool = False) -> None:
    """Append all of `data`, flushed to the disk with `sync`; a full disk raises OSError and leaves the file as it was."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        append_to(file, data, sync=sync)


def append_to(file: FileIO, data: bytes, *, sync: bool = False) -> None:
    """`append_bytes` for a file that is open, without a buffer."""
    end, rest = file.seek(0, os.SEEK_END), memoryview(data)
    try:
        while rest:
            rest = rest[file.write(rest):]  # a nearly full disk takes a part and refuses the rest
        if sync:
            os.fsync(file.fileno())
    except OSError as error:
        file.truncate(end)
        raise OSError(error.errno, error.strerror, os.fspath(file.name)) from error


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_json(path: Path | str, what: str = "file", remedy: str = "restore it or delete it and run again") -> Any:
    """Read a UTF-8 JSON file; a missing or malformed one is a UserError that names `what` it is and the `remedy`."""
    try:
        return json.loads(Path(path).read_bytes().decode("utf-8-sig"))  # Windows editors write a byte-order mark
    except FileNotFoundError:
        raise UserError(f"{what} {path} does not exist: {remedy}") from None
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read ({error.strerror}): {remedy}") from None
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, a number of 5,000 digits
        raise UserError(f"{what} {path} is not valid JSON ({error}): {remedy}") from None


def read_jsonl(path: Path | str) -> Iterator[dict]:
    """Yield the objects of a JSONL file, passing over torn or foreign lines (a kill may leave one)."""
    with open(path, "rb") as log:
        for line in log:
            if (record := parse_jsonl(line)) is not None:
                yield record


def parse_jsonl(line: bytes) -> dict | None:
    """The object that a line of a JSONL file holds, or None for a damaged or foreign one."""
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return unsealed(line, record) if isinstance(record, dict) else None


def unsealed(line: bytes, record: dict) -> dict | None:
    """`record`, read from `line`, without its checksum; None where that does not match. A line without one is believed."""
    if record.pop("crc", None) is None:
        return record
    line = line.rstrip()
    return record if line.endswith(_seal(line[:-_SEAL_BYTES])) else None


def _seal(line: bytes) -> bytes:
    """The end of a JSONL line whose beginning is `line`: a checksum of that as the last key of the object."""
    return b', "crc": "%08x"}' % zlib.crc32(line)


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


def load_torch(path: Path | str, *, mmap: bool = False, allowed: Iterable[Any] = (),
               remedy: str = "restore it from its source") -> Any:
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


# ── hashing and manifests ────────────────────────────────────────────────────────────────────────────────────────────


def hash_file(path: Path | str) -> str:
    """SHA-256 of a file's content, as hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_value(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("ascii")).hexdigest()


def hash_listing(files: Iterable[Path], root: Path) -> str:
    """SHA-256 over the relative names, sizes and modification times of `files`: cheap enough for a million clips."""
    digest = hashlib.sha256()
    for file in sorted(files):
        status = file.stat()
        facts = f"{os.path.relpath(file, root)}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(facts.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Write `manifest.json`, last of all: `facts` plus the size and SHA-256 of every other file in `folder`.

    `checksum` covers the manifest itself, so that a damaged step or loss is found too.
    """
    files = {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": hash_file(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != folder / MANIFEST and not file.name.endswith(TEMPORARY_SUFFIX)
    }
    manifest = json.loads(json.dumps({**facts, "files": files}))
    write_json(folder / MANIFEST, {**manifest, "checksum": hash_value(manifest)})


def read_manifest(folder: Path, *, hashes: bool = True) -> tuple[dict[str, Any] | None, str]:
    """Return (manifest, "") of a sound folder, or (None, reason) for one whose manifest or files do not hold.

    `hashes=False` compares sizes only (for a quick look at many checkpoints).
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes().decode("utf-8"))
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
        checksum = manifest.pop("checksum", None)
    except FileNotFoundError:
        return None, f"{MANIFEST} is missing (an unfinished write)"
    except OSError as error:
        return None, f"{MANIFEST} cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None, f"{MANIFEST} is damaged"
    if checksum is not None and checksum != hash_value(manifest):
        return None, f"{MANIFEST} is damaged"
    try:
        reason = _unsound_file(folder, files, hashes)
    except OSError as error:
        reason = f"{error.filename or folder} cannot be read ({error.strerror})"
    return (None, reason) if reason else (manifest, "")


def _unsound_file(folder: Path, files: dict[str, tuple[int, str]], hashes: bool) -> str:
    """Say what is wrong with the first file that is not as its manifest has it; "" when all are."""
    for name, (size, sha256) in files.items():
        file = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            return f"{MANIFEST} names {name}, which is outside the folder"
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} is {file.stat().st_size} bytes, not {size}"
        if hashes and hash_file(file) != sha256:
            return f"{name} does not match its checksum"
    return ""
