"""What a preparation has finished, on the disk: a folder for each recording, from which a killed run carries on.

work/<key>/source.json         size and time of the recording that the rest was made from
work/<key>/activity-0000.npz   where somebody speaks, of each stretch
work/<key>/plan.json           the clips, written before the first is cut
work/<key>/done.json           the plan again, once all clips are there; or why the recording cannot be used
wavs/<key>_<start in ms>.wav   the clips
"""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xtts_ka.core.digests import hash_value
from xtts_ka.core.files import read_json, sweep_partials, write_bytes, write_json
from xtts_ka.corpus.long_recordings import LongRecording
from xtts_ka.corpus.planned_clips import Left, LeftOut, Plan, PlannedClip

VERSION = 1  # of the listening and cutting: after a change recordings are prepared anew
PLANNING = 4  # of the rules by which clips are planned: after a change they are planned anew, without listening
WORK, WAVS = "work", "wavs"
_BROKEN = "the work file", "delete the work folder and run again"


@dataclass(frozen=True)
class Outcome:
    """What became of one recording. problem: why none of it can be used, or ""."""

    name: str
    key: str
    seconds: float
    plan: Plan
    problem: str = ""


class Store:
    """The work folder of one recording. asked: everything that its plan depends on besides the recording."""

    def __init__(self, output: Path, recording: LongRecording, asked: dict[str, Any]):
        self.output, self.recording = output, recording
        self.folder = output / WORK / recording.key
        self._source = self._facts(recording)
        self.identity = hash_value({"source": self._source, "asked": asked, "planning": PLANNING})

    @staticmethod
    def _facts(recording: LongRecording) -> dict[str, Any]:
        try:
            status = os.stat(recording.path)
        except OSError:
            return {"version": VERSION, "name": recording.name}
        facts = {"size": status.st_size, "changed": status.st_mtime_ns}
        return {"version": VERSION, "name": os.fsencode(recording.name).hex(), **facts}

    def open(self) -> None:
        """Make the folder; what was made from another version of the recording is deleted."""
        mark = self.folder / "source.json"
        if mark.is_file() and read_json(mark) == self._source:
            sweep_partials(self.folder)
            return
        self._forget_clips()
        if self.folder.exists():
            shutil.rmtree(self.folder)
        write_json(mark, self._source)

    def _forget_clips(self) -> None:
        if (self.folder / "plan.json").is_file():
            for clip in read_json(self.folder / "plan.json")["clips"]:
                self.wav(PlannedClip(**clip)).unlink(missing_ok=True)

    # ── stretches ────────────────────────────────────────────────────────────────────────────────────────────────────

    def has_array(self, name: str, number: int) -> bool:
        return self._array(name, number).is_file()

    def _array(self, name: str, number: int) -> Path:
        return self.folder / f"{name}-{number:04d}.npz"

    def save_arrays(self, name: str, number: int, **arrays: np.ndarray) -> None:
        memory = io.BytesIO()
        np.savez(memory, **arrays)  # type: ignore[arg-type]
        write_bytes(self._array(name, number), memory.getvalue())

    def load_arrays(self, name: str, number: int) -> dict[str, np.ndarray]:
        with np.load(self._array(name, number), allow_pickle=False) as arrays:
            return dict(arrays)

    # ── plan and clips ───────────────────────────────────────────────────────────────────────────────────────────────

    def wav(self, clip: PlannedClip) -> Path:
        return self.output / WAVS / wav_name(self.recording.key, clip)

    def plan(self) -> Outcome | None:
        """The plan of this identity, where it was made; clips of another one are deleted."""
        return self._read("plan.json")

    def done(self) -> Outcome | None:
        return self._read("done.json")

    @property
    def outdated(self) -> bool:
        """Whether it was finished by an earlier version, by other rules."""
        file = self.folder / "done.json"
        return file.is_file() and read_json(file, *_BROKEN).get("planning") != PLANNING

    def _read(self, name: str) -> Outcome | None:
        file = self.folder / name
        if not file.is_file():
            return None
        found = read_json(file, *_BROKEN)
        return _outcome(found, self.recording) if found["identity"] == self.identity else None

    def write_plan(self, outcome: Outcome) -> None:
        self._forget_clips()
        (self.folder / "done.json").unlink(missing_ok=True)
        write_json(self.folder / "plan.json", self._as_json(outcome))

    def write_done(self, outcome: Outcome) -> None:
        write_json(self.folder / "done.json", self._as_json(outcome))
        for file in self.folder.glob("heard_*-*.npz"):  # much larger than the rest
            file.unlink()

    def _as_json(self, outcome: Outcome) -> dict[str, Any]:
        plan = outcome.plan
        return {
            "identity": self.identity,
            "planning": PLANNING,
            "seconds": outcome.seconds,
            "problem": outcome.problem,
            "remarks": plan.remarks,
            "clips": [asdict(clip) for clip in plan.clips],
            "left": [asdict(left) for left in plan.left],
        }


def wav_name(key: str, clip: PlannedClip) -> str:
    return f"{key}_{round(1000 * clip.start):08d}.wav"


def _outcome(found: dict[str, Any], recording: LongRecording) -> Outcome:
    clips = [PlannedClip(**clip) for clip in found["clips"]]
    left = [LeftOut(**{**each, "reason": Left(each["reason"])}) for each in found["left"]]
    plan = Plan(clips, left, found["remarks"])
    return Outcome(recording.name, recording.key, found["seconds"], plan, found["problem"])
