"""The lock that keeps a second driver out, and that nobody ever has to clear by hand.

The lock is the kernel's (`lockf`): it ends with the process, however that dies, and is not inherited by
worker processes that outlive it. The file's JSON (pid, host, boot_id, process_start, inode, since) says who
holds it, and decides where the kernel's lock cannot reach. A copy of the file, in a copied folder, is held by
nobody: its inode is another.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xtts_ka.core.console import say, warn
from xtts_ka.core.errors import UserError

BEAT_SECONDS = 5.0  # how often a living holder touches its lock
WATCH_SECONDS = 20.0  # how long another host's lock is watched before it counts as dead

_held: set[Path] = set()  # the kernel does not keep a process out of its own lock; this does


class RunLock:
    """One lock file; `hold` it while writing beside it."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def held(self) -> bool:
        """True while this process holds the lock."""
        return self.path.resolve() in _held

    def living_holder(self) -> int | None:
        """The pid in the lock file if that very process lives in this boot; not to be asked by the holder."""
        holder = _read_holder(self.path)
        return holder["pid"] if _lives(holder, self.path) else None

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock; raise UserError naming the holder (pid, host, since) if another run does.

        With the kernel's lock free, the file's last holder

        * keeps it if the same process (pid and start time) still lives in this boot;
        * loses it if it is dead, its pid belongs to a younger process, or this host has booted since;
        * is watched for 20 seconds if it is on another host, whose locks this file system may not show: a
          living one touches the file every 5. A spot machine that died thus leaves nothing to clear by hand.

        A file system without locks is a UserError.
        """
        key = self.path.resolve()
        if key in _held:
            raise UserError(_held_by(self.path, _whoami(0)))
        handle = _acquire(self.path)
        _held.add(key)
        owner, stop = os.getpid(), threading.Event()
        beat = threading.Thread(target=_beat, args=(handle, stop), name="run-lock", daemon=True)
        beat.start()
        try:
            yield
        finally:
            if os.getpid() == owner:  # a forked worker that unwinds through here owns nothing
                stop.set()
                beat.join()
                if _is_same_file(handle, self.path):
                    self.path.unlink(missing_ok=True)
                os.close(handle)
                _held.discard(key)


def _acquire(path: Path) -> int:
    """Take the kernel's lock on `path` and write who we are into it; returns the open file.

    Nothing else in this process may open and close `path` while it is held: that would drop a POSIX lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(handle, path):
                _question_last_holder(handle, path)
            if _is_same_file(handle, path):  # else its holder has just let go and removed it: once more
                os.ftruncate(handle, 0)
                os.pwrite(handle, (json.dumps(_whoami(os.fstat(handle).st_ino)) + "\n").encode("utf-8"), 0)
                return handle
        except BaseException as error:
            os.close(handle)
            if isinstance(error, OSError):
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise UserError(_held_by(path, _wait_for_holder(path))) from None
                if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                    raise UserError(
                        f"the file system of {path} has no locks ({error.strerror}): "
                        "put output_model_path on one that has"
                    ) from None
                error.filename = error.filename or str(path)
            raise
        os.close(handle)


def _question_last_holder(handle: int, path: Path) -> None:
    """With the kernel's lock in hand, look at who wrote the file last; UserError if they may still live."""
    last = _parse_holder(os.pread(handle, 4096, 0))
    if not last:
        return
    if _lives(last, path):
        raise UserError(_held_by(path, last))
    why = "which holds the folder that this one was copied from" if _is_copy(last, path) else "which is dead"
    if last.get("boot_id") != _boot_id():
        why = "which ended with that boot"
        if last.get("host") != socket.gethostname():
            say(
                f"{path} was last held on another host ({last.get('host')}): watching it for "
                f"{WATCH_SECONDS:.0f} s for a sign of life"
            )
            if _moves(path):
                raise UserError(_held_by(path, last))
            why = "which gives no sign of life"
    who = f"pid {last.get('pid')} on {last.get('host')} (since {last.get('since')})"
    say(f"took over the lock of {who}, {why}")


def _moves(path: Path) -> bool:
    """True when somebody touches `path` within the time in which a living holder would."""
    deadline, first = time.monotonic() + WATCH_SECONDS, None
    while time.monotonic() < deadline:
        try:
            present = os.stat(path).st_mtime_ns
        except FileNotFoundError:
            return False  # its holder has just let go
        first = present if first is None else first
        if present != first:
            return True
        time.sleep(WATCH_SECONDS / 40)
    return False


def _beat(handle: int, stop: threading.Event) -> None:
    """Touch the lock file until `stop`: a sign of life for other hosts."""
    while not stop.wait(BEAT_SECONDS):
        try:
            os.utime(handle)
        except OSError as error:
            warn(f"the lock file cannot be touched ({error.strerror}): another host may take it for dead")
            return


def utc_now() -> str:
    """The time as the lock and the record write it: 2026-11-23T05:40:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _whoami(inode: int) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "boot_id": _boot_id(),
        "process_start": _process_start(os.getpid()),
        "inode": inode,
        "since": utc_now(),
    }


def _held_by(path: Path, holder: dict[str, Any]) -> str:
    who = (
        f"pid {holder.get('pid')} on {holder.get('host')}, since {holder.get('since')}"
        if holder
        else "it has only just started"
    )
    return f"another run holds {path} ({who}): wait for it or stop it; there is no lock to clear by hand"


def _lives(holder: dict[str, Any], path: Path) -> bool:
    """True when the very process that wrote `holder` to `path` lives in this boot (a reused pid started later)."""
    pid, start = holder.get("pid"), holder.get("process_start")
    return (
        isinstance(pid, int)
        and bool(start)
        and holder.get("boot_id") == _boot_id()
        and not _is_copy(holder, path)
        and _process_start(pid) == start
    )


def _is_copy(holder: dict[str, Any], path: Path) -> bool:
    """True when `holder` was written to another file, of which the one at `path` is a copy."""
    try:
        return "inode" in holder and holder["inode"] != os.stat(path).st_ino
    except FileNotFoundError:
        return False


def _process_start(pid: int) -> str:
    """Clock ticks from the boot to the start of process `pid`; "" when there is none or it is a zombie.

    The fields follow the command's name, which may hold anything, in brackets: proc(5), fields 3 and 22.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if len(fields) < 20 or fields[0] in "ZX" else fields[19]


def _boot_id() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return boot.read_text().strip() if boot.exists() else ""


def _read_holder(path: Path) -> dict[str, Any]:
    try:
        return _parse_holder(path.read_bytes()[:4096])
    except FileNotFoundError:
        return {}


def _wait_for_holder(path: Path) -> dict[str, Any]:
    """Who holds the lock. It writes its name just after taking it, maybe over a dead one's: give it a second.

    What then stands there is the best answer: a holder on another host, or behind a container's own pids.
    """
    for _ in range(20):
        holder = _read_holder(path)
        if _lives(holder, path):
            break
        time.sleep(0.05)
    return holder


def _parse_holder(raw: bytes) -> dict[str, Any]:
    """The JSON in a lock file; {} for an empty or torn one, which a kill leaves before anything was begun."""
    try:
        holder = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        here, there = os.fstat(handle), os.stat(path)
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
