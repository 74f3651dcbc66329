"""Runs the starter pipeline on a disk that is always a little too small, and checks the end against an undisturbed run.

    python tests/chaos_disk_full.py --work /tmp/full        as root: it mounts a tmpfs; about 20 minutes

A run in an ordinary folder comes first. Then a tmpfs too small for a single file is mounted at the same path
(artifacts hold absolute paths). Each start must fail with exit code 1 and one sentence that names the file that did
not fit; nothing half-written may be left, and the outputs of finished stages must be unchanged. Then the disk grows
by the size of that file, which is too little for the next one, and the same command runs again, until it succeeds.
The stand-ins, whose large files need room for a moment only, are made first, on a disk that grows separately.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from chaos import artifacts, differences
from pipeline_run import run, write_config

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.console import heading, say, style
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.core.files import TEMPORARY_SUFFIX
from xtts_ka.core.stage_ledger import StageLedger

MODEL = "models/xtts_v2_ka"
FULL = re.compile(r"error: the disk is full while writing (\S+): free some space and run the same command; .*")
PAGE = 4096
MOST_STARTS = 200


class SmallDisk:
    """A tmpfs at `place`."""

    def __init__(self, place: Path):
        self.place = place
        self._mount("-t", "tmpfs", "-o", f"size={2 * PAGE}", "tmpfs")

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(["mount", *arguments, str(self.place)], capture_output=True, text=True)
        if done.returncode:
            raise UserError(
                f"a tmpfs cannot be mounted at {self.place} ({done.stderr.strip()}): run this as root, and in a "
                f"container only if that may mount"
            )

    def used(self) -> int:
        blocks = os.statvfs(self.place)
        return (blocks.f_blocks - blocks.f_bfree) * blocks.f_frsize

    def leave_room(self, room: int) -> None:
        """Sets the size to what is used plus `room` bytes."""
        self._mount("-o", f"remount,size={self.used() + room}")

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.place)], check=True)  # a file on it may still be open


# ── after a failure ──────────────────────────────────────────────────────────────────────────────────────────────────


def check_failure(done: subprocess.CompletedProcess, place: Path) -> Path:
    """Returns the file that the failed run names. RunError for more than one sentence or a half-written file."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    named = FULL.fullmatch(errors[0]) if len(errors) == 1 else None
    if done.returncode != 1 or not named or "Traceback" in done.stderr:
        raise RunError(f"exit code {done.returncode}, and no single sentence that names a file: {done.stderr[-3000:]}")
    file = Path(named[1])
    if not file.is_relative_to(place):
        raise RunError(f"{file} is named, which is not on the full disk")
    if left := [str(path) for path in place.rglob(f"*{TEMPORARY_SUFFIX}")]:
        raise RunError(f"left half-written: {', '.join(left)}")
    record = place / MODEL / "pretrain_progress.json"
    outputs = os.listdir(record.parent) if record.exists() else []
    if change := StageLedger(record, []).altered(*outputs):
        raise RunError(f"a finished stage's work was lost: {change}")
    return file


# ── the growing disk ─────────────────────────────────────────────────────────────────────────────────────────────────


def grow(args: argparse.Namespace) -> int:
    """Runs everything; returns 0 when every failure was as it should be and the end equals the undisturbed run."""
    work = args.work.resolve()
    if work.exists() and any(work.iterdir()):
        raise UserError(f"{work} is not empty: give --work a new folder")
    place, whole = work / "run", work / "undisturbed"
    place.mkdir(parents=True)
    heading("undisturbed")
    if (done := run(write_config(place))).returncode:
        raise RunError(f"the undisturbed run failed: {done.stderr[-2000:]}")
    expected = artifacts(place)
    place.rename(whole)
    place.mkdir()
    disk = SmallDisk(place)
    try:
        config = write_config(place)
        named = fill(disk, config, whole, "--only", "phonemes")
        disk.leave_room(0)
        named += fill(disk, config, whole)
        unlike, size = differences(expected, artifacts(place)), disk.used()
    finally:
        disk.unmount()
    heading("result")
    say(f"{len(named)} starts found the disk full, at {len(set(named))} files; {size / 2**20:.0f} MiB at the end")
    say(f"{len(expected)} artifacts compared, {len(unlike)} different, missing or left over")
    for line in unlike:
        say(f"  {line}")
    if unlike:
        return 1
    say(style("it ended exactly where the undisturbed run ended", "green"))
    shutil.rmtree(work)
    return 0


def fill(disk: SmallDisk, config: Path, whole: Path, *flags: str) -> list[str]:
    """Starts the pipeline until it succeeds, growing the disk each time; returns the files that it named."""
    heading(f"a disk that grows: run_pretrain.py {' '.join(flags)}")
    began, named, repeats = time.monotonic(), [], 0
    for _ in range(MOST_STARTS):
        done = run(config, *flags)
        so_far = f"{time.monotonic() - began:7.0f} s  {disk.used() / 2**20:8.2f} MiB  "
        if done.returncode == 0:
            say(so_far + "done")
            return named
        name = check_failure(done, disk.place).relative_to(disk.place).as_posix()
        say(f"{so_far}full at {name}")
        repeats = repeats + 1 if named[-1:] == [name] else 0  # other files came before it, or it is written twice
        disk.leave_room(size_of(whole, name) + 2 * PAGE * 16**repeats)
        named.append(name)
    raise RunError(f"{MOST_STARTS} starts, and it is not done: the last file named is {named[-1]}")


def size_of(whole: Path, name: str) -> int:
    """Bytes that a file takes in the undisturbed run: of all recordings for one, of the largest checkpoint for any."""
    pattern = re.sub(r"step_\d+", "step_*", name.partition("/wavs/")[0])
    return max(
        (
            sum(file.stat().st_size + PAGE for file in (path, *path.rglob("*")) if file.is_file())
            for path in whole.glob(pattern)
        ),
        default=0,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a new folder for the runs; removed when all is well")
    add_verbosity_flags(parser)
    args = parser.parse_args(argv)
    return run_cli(lambda: grow(args), args)


if __name__ == "__main__":
    sys.exit(main())
