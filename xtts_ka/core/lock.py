"""The lock file that keeps a second process out of a folder that one process is writing.

The lock is the kernel's (`flock`, through the filelock library). It ends with the process, however that dies, so
there is no stale lock to clear by hand. A JSON file beside it says who holds it; it only serves the messages.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import write_json

# A read-only folder or file system, or one without locks.
_NO_LOCK_HERE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
# Seconds to wait for a taken lock: longer than `holder` looks at it and than a new holder needs to write its name.
PATIENCE = 0.5


class RunLock:
    """One lock file at `path`; `hold` it while writing beside it."""

    def __init__(self, path: Path):
        self.path = path
        self._info = path.with_name(f"{path.name}.json")
        self._lock = FileLock(path, timeout=PATIENCE, thread_local=False, fallback_to_soft=False)

    @property
    def held(self) -> bool:
        """True while this object holds the lock, in the process that took it."""
        return self._lock.is_locked

    def holder(self) -> dict[str, Any]:
        """{pid, host, since} of the process that holds the lock now; {} when nobody does. Writes nothing."""
        try:
            with open(self.path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._read_info()
        except OSError:  # no lock file, or one that this user may not open
            return {}
        return {}

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock. Raises UserError if another run holds it (naming that run) or if no lock can be made."""
        self._acquire()
        try:
            write_json(self._info, {"pid": os.getpid(), "host": socket.gethostname(), "since": utc_now()})
            yield
        finally:
            if self.held:  # a forked worker that leaves this block holds nothing
                self._info.unlink(missing_ok=True)
                self._lock.release()

    def _acquire(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            who = self._read_info()
            named = f" (pid {who.get('pid')} on {who.get('host')}, since {who.get('since')})" if who else ""
            raise UserError(f"another run{named} holds {self.path}: wait for it or stop it") from None
        except OSError as error:
            if error.errno not in _NO_LOCK_HERE:
                raise
            remedy = "make it writable, or choose a folder on another file system in the config"
            raise UserError(f"{self.path.parent} cannot be locked ({error.strerror}): {remedy}") from None

    def _read_info(self) -> dict[str, Any]:
        """What the info file says; {} where there is none or it is damaged."""
        try:
            info = json.loads(self._info.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return info if isinstance(info, dict) else {}


def utc_now() -> str:
    """The time as the lock and the stage record write it: 2026-11-23T05:40:00Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
