"""Decides which stages must run and why, runs them, and keeps the record `pretrain_progress.json`.

A stage's fingerprint is its code's version, the values of the config keys it reads, the digests of its other inputs
and the hashes of the files it wrote. The ledger compares the recorded fingerprint with the present one; the first
difference is the reason that is printed (`text.new_tokens 2000 → 3000`). The outputs of the stages above are among a
stage's inputs, so when a stage above runs again and writes the same bytes, the stages below do not run again.

Every file is hashed at every start, whatever its date says, so a flipped bit is found. The record on the disk is always
whole, even after SIGKILL: it is written atomically, as `running` before a stage's work and as `done` after its outputs
were verified.
"""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import say, warn
from xtts_ka.core.digests import file_digest, hash_value
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.core.files import write_bytes, write_json
from xtts_ka.core.lock import RunLock, utc_now

SCHEMA = 1
UP_TO_DATE = "up to date"
EDITED = "edited while its stage ran"  # recorded in place of the digest of an input that changed during the run


class Stage(ABC):
    """One stage of the pipeline with its config. A subclass states everything about its stage.

    name: as in the record and after `--only`. version: raise it when the same inputs would now give other outputs.
    reads: dotted config keys whose values the outputs depend on (a section's name means all of it). after: names of the
    stages whose outputs it reads; None means every stage before it.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ()
    after: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, config: PretrainConfig):
        self.config = config

    def inputs(self) -> dict[str, str]:
        """Name → digest of everything it reads besides the config and the outputs of other stages."""
        return {}

    @abstractmethod
    def outputs(self) -> list[Path]:
        """The files it writes, absolute. No two stages write the same file."""

    def amends(self) -> list[Path]:
        """Files of stages that it needs and changes beside its own outputs; the ledger then expects the new content."""
        return []

    def before_run(self, ledger: StageLedger, decision: Decision) -> None:  # noqa: B027 - most stages have nothing to do
        """Called while the record still tells of the last start, before it says `running`."""

    @abstractmethod
    def run(self) -> dict[str, Any]:
        """Do the work and return metrics that JSON can hold."""


class Fingerprint(BaseModel):
    """What a stage's result depends on, and the SHA-256 of each file it wrote (none until it is done)."""

    model_config = ConfigDict(strict=True)
    version: int = 0
    config: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}


class Record(BaseModel):
    """One stage's entry in the file. Other fields (`checksum` and `pid` of earlier versions) are ignored."""

    model_config = ConfigDict(strict=True)
    status: Literal["pending", "running", "done", "failed"]
    started: str | None = None
    finished: str | None = None
    seconds: float = 0.0
    error: str | None = None
    metrics: dict[str, Any] = {}
    fingerprint: Fingerprint = Fingerprint()


NO_RECORD = Record(status="pending")
Records = dict[str, Record]  # by stage name, as in the file's `stages`


@dataclass(frozen=True)
class Decision:
    """Whether a stage is to run and why. A `fixed` one (--force, --only) is not reconsidered while running."""

    stage: Stage
    run: bool
    reason: str
    fixed: bool = False


class StageLedger:
    """The stages, in order, and their record at `path`.

    look_again: called before a plan and after each stage's work. It must make `Stage.inputs` look at the disk again
    instead of answering from memory.
    """

    def __init__(self, path: Path, stages: Sequence[Stage] = (), look_again: Callable[[], None] = lambda: None):
        self.path = Path(path).absolute()
        self.lock = RunLock(self.path.with_name("pretrain.lock"))
        self.stages, self._look_again = list(stages), look_again

    # ── what has to run ──────────────────────────────────────────────────────────────────────────────────────────────

    def plan(self, *, only: str | None = None, force: bool = False) -> list[Decision]:
        """Decide for every stage, in order; nothing is written.

        A stage below one that will run is expected to run too ("phonemes runs again"); `run` decides again when it can
        see what the stage above wrote. Raises UserError for an `only` that needs a stage which is not up to date.
        """
        self._look_again()
        records, damaged = self._read()
        if damaged is not None:
            warn(f"{self.path} is damaged: every stage will run again")
        if only is not None:
            return self._plan_only(records, only)
        if force:
            return [Decision(stage, True, "--force", fixed=True) for stage in self.stages]
        return self._forecast(records, self.stages)

    def _forecast(self, records: Records, stages: list[Stage]) -> list[Decision]:
        decisions: list[Decision] = []
        for stage in stages:
            again = {decision.stage.name for decision in decisions if decision.run}
            above = next((needed.name for needed in self._needs(stage) if needed.name in again), None)
            reason = self._reason(stage, records, above)
            decisions.append(Decision(stage, reason is not None, reason or UP_TO_DATE))
        return decisions

    def _plan_only(self, records: Records, only: str) -> list[Decision]:
        wanted = next(stage for stage in self.stages if stage.name == only)
        for needed in self._forecast(records, self._needs(wanted)):
            if needed.run:
                raise UserError(
                    f"stage {only} needs {needed.stage.name}, which is not up to date ({needed.reason}): first run "
                    f"run_pretrain.py with the same --config and --only {needed.stage.name}"
                )
        reasons = {stage: "--only" if stage is wanted else f"--only {only}" for stage in self.stages}
        return [Decision(stage, stage is wanted, reason, fixed=True) for stage, reason in reasons.items()]

    def _needs(self, stage: Stage) -> list[Stage]:
        """The stages whose outputs `stage` reads, in order."""
        before = self.stages[: self.stages.index(stage)]
        return before if stage.after is None else [other for other in before if other.name in stage.after]

    def _reason(self, stage: Stage, records: Records, above: str | None) -> str | None:
        """Why `stage` must run, or None. above: a stage that it needs and that will run before it.

        The cheap checks come first. Inputs are not read where a stage above will run, as it may yet have to make them.
        """
        record = records.get(stage.name, NO_RECORD)
        if record.status == "pending":
            return record.error or "never run"
        if record.status == "running":
            pid = None if self.lock.held else self.lock.holder().get("pid")
            return f"is running now (pid {pid})" if pid else "was interrupted"
        if record.status == "failed":
            return "failed last time"
        mark = record.fingerprint
        if mark.version != stage.version:
            return f"its code changed (version {mark.version} → {stage.version})"
        if changes := _config_changes(mark.config, _config_values(stage)):
            return changes
        if above is not None:
            return f"{above} runs again"
        return _input_changes(mark.inputs, self._inputs(stage, records)) or self._output_changes(stage, mark.outputs)

    def _inputs(self, stage: Stage, records: Records) -> dict[str, str]:
        """Digests of what `stage` reads: its own inputs, and the recorded outputs of the stages it needs."""
        above = {needed.name: records.get(needed.name, NO_RECORD) for needed in self._needs(stage)}
        wrote = {f"stage {name}": hash_value(record.fingerprint.outputs) for name, record in above.items()}
        return stage.inputs() | wrote

    def _output_changes(self, stage: Stage, recorded: dict[str, str]) -> str | None:
        """The first output that is missing or altered, of those declared now and those written when the stage ran."""
        for name in sorted({os.path.relpath(file, self.path.parent) for file in stage.outputs()} | recorded.keys()):
            file = self.path.parent / name
            if not file.is_file():
                return f"output {name} is missing"
            if name not in recorded:
                return f"output {name} is not in the record"
            if file_digest(file) != recorded[name]:
                return f"output {name} was altered"
        return None

    # ── running ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def run(
        self,
        decisions: Sequence[Decision],
        *,
        before: Callable[[Decision], None] = lambda decision: None,
        after: Callable[[Decision, Record], None] = lambda decision, record: None,
    ) -> None:
        """Run what was decided and keep the record on the disk true at every moment. The lock must be held.

        `before` and `after` are called for every decision, skipped ones too; `after` also gets the stage's record.
        Decisions that are not fixed are made again when their turn comes: the stage above may have written the same
        bytes, or an input may have changed since the plan. What a stage raises is recorded and raised again. An input
        that changes while its stage runs is warned of and recorded, so that the next run runs the stage again, even if
        the change was undone meanwhile.
        """
        if not self.lock.held:
            raise RuntimeError("StageLedger.run needs the lock: call it inside `with ledger.lock.hold():`")
        records = self._adopt()
        for planned in decisions:
            decision = planned if planned.fixed else self._decide_again(planned, records)
            before(decision)
            if decision.run:
                decision.stage.before_run(self, decision)
                self._run_stage(decision.stage, records)
            record = records[decision.stage.name]
            after(decision, record)
            for name, value in record.metrics.items():
                say(f"  {name}: {value}", verbose=True)

    def _decide_again(self, planned: Decision, records: Records) -> Decision:
        reason = self._reason(planned.stage, records, None)
        if reason is None and planned.run:
            return Decision(planned.stage, False, f"{UP_TO_DATE}: what it reads came out the same")
        return Decision(planned.stage, reason is not None, reason or UP_TO_DATE)

    def _run_stage(self, stage: Stage, records: Records) -> None:
        record = records[stage.name] = Record(status="running", started=utc_now())
        mark, clock = record.fingerprint, time.monotonic()
        try:
            mark.version, mark.config, mark.inputs = stage.version, _config_values(stage), self._inputs(stage, records)
            self._save(records)
            metrics = json.loads(json.dumps(stage.run() or {}))
            outputs = self._verified_outputs(stage)
            self._look_again()
            self._adopt_amendments(stage, records)
            self._note_edits(stage, records)
        except BaseException as error:
            stopped = not isinstance(error, Exception)  # Ctrl-C or SIGTERM: not a failure of the stage
            record.status = "pending" if stopped else "failed"
            record.error = "was interrupted" if stopped else str(error) or type(error).__name__
            record.finished, record.seconds = utc_now(), round(time.monotonic() - clock, 3)
            try:
                self._save(records)
            except OSError as full:  # the next run reads `running` as "was interrupted"
                warn(f"the failure could not be recorded in {self.path} ({full.strerror})")
            raise
        record.status, record.metrics, mark.outputs = "done", metrics, outputs
        record.finished, record.seconds = utc_now(), round(time.monotonic() - clock, 3)
        self._save(records)

    def _adopt_amendments(self, stage: Stage, records: Records) -> None:
        """Put the new digests of files that `stage` has amended on the record of the stages that wrote them."""
        names = {os.path.relpath(file, self.path.parent): file for file in stage.amends()}
        for needed in self._needs(stage) if names else ():
            outputs = records[needed.name].fingerprint.outputs
            outputs.update({name: file_digest(file) for name, file in names.items() if name in outputs})
            records[stage.name].fingerprint.inputs[f"stage {needed.name}"] = hash_value(outputs)

    def _verified_outputs(self, stage: Stage) -> dict[str, str]:
        digests = {}
        for file in stage.outputs():
            if not file.is_file():
                raise RunError(f"stage {stage.name} finished without writing {file}: please report this fault")
            digests[os.path.relpath(file, self.path.parent)] = file_digest(file)
        return digests

    def _note_edits(self, stage: Stage, records: Records) -> None:
        """Warn of inputs that changed since the stage started, and record them as EDITED."""
        seen, present = records[stage.name].fingerprint.inputs, self._inputs(stage, records)
        edited = {name: f"{name} changed" for name in present if present[name] != seen.get(name)}
        for needed in self._needs(stage):
            if change := self._output_changes(needed, records[needed.name].fingerprint.outputs):
                edited[f"stage {needed.name}"] = change
        for name, change in edited.items():
            seen[name] = EDITED
            warn(f"{change} while stage {stage.name} was running: the next run will run it again")

    # ── the record ───────────────────────────────────────────────────────────────────────────────────────────────────

    def record(self, name: str) -> Record:
        """The record of stage `name`; a pending one where there is none."""
        return self._read()[0].get(name, NO_RECORD)

    def changes(self, stage: Stage) -> set[str]:
        """The config keys and inputs (`stage NAME` for one it needs) that differ from when `stage` last started.

        Empty where no start is on record: it never ran, or the record is lost.
        """
        records = self._read()[0]
        mark = records.get(stage.name, NO_RECORD).fingerprint
        if not mark.version:
            return set()
        old = _leaves(mark.config) | mark.inputs | {"version": mark.version}
        new = _leaves(_config_values(stage)) | self._inputs(stage, records) | {"version": stage.version}
        return set(_differing(old, new))

    def altered(self, *names: str) -> str | None:
        """Says which of these files is not as a finished stage wrote it; None where all are, or are not on record."""
        done = [record for record in self._read()[0].values() if record.status == "done"]
        written = {name: digest for record in done for name, digest in record.fingerprint.outputs.items()}
        for name in names:
            file = self.path.parent / name
            if name in written and not (file.is_file() and file_digest(file) == written[name]):
                return f"{file} is not as its stage wrote it" if file.is_file() else f"{file} is missing"
        return None

    def _read(self) -> tuple[Records, bytes | None]:
        """Return (records, the file's bytes if it is damaged).

        A damaged record counts as nothing recorded: running a stage again costs time, trusting a wrong record costs
        the model.
        """
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return {}, None
        try:
            content = json.loads(raw.decode("utf-8"))
            if content["schema"] == SCHEMA:
                return TypeAdapter(Records).validate_python(content["stages"]), None
        except (ValueError, LookupError, TypeError, RecursionError):  # pydantic's ValidationError is a ValueError
            pass  # damaged, as below
        return {stage.name: Record(status="pending", error="its record was damaged") for stage in self.stages}, raw

    def _adopt(self) -> Records:
        """Read the record to continue it: a copy of a damaged one is kept, and every stage gets an entry, in order."""
        records, damaged = self._read()
        if damaged is not None:
            aside = self.path.with_suffix(".damaged.json")
            write_bytes(aside, damaged)
            warn(f"the damaged record is kept as {aside}")
        return {stage.name: records.pop(stage.name, NO_RECORD) for stage in self.stages} | records

    def _save(self, records: Records) -> None:
        stages = {name: record.model_dump() for name, record in records.items()}
        write_json(self.path, {"schema": SCHEMA, "stages": stages})


# ── comparing fingerprints ───────────────────────────────────────────────────────────────────────────────────────────


def _config_values(stage: Stage) -> dict[str, Any]:
    return {key: stage.config.value(key) for key in stage.reads}


def _leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key → value: sections taken apart."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        is_section = isinstance(value, dict) and value
        leaves |= _leaves(value, f"{prefix}{name}.") if is_section else {f"{prefix}{name}": value}
    return leaves


def _differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The keys whose values differ, sorted. Compared as JSON, where True is not 1."""
    return [key for key in sorted(old.keys() | new.keys()) if json.dumps(old.get(key)) != json.dumps(new.get(key))]


def _config_changes(recorded: dict[str, Any], present: dict[str, Any]) -> str | None:
    """`text.new_tokens 2000 → 3000` for each value that differs (three at most), or None."""
    old, new = _leaves(recorded), _leaves(present)
    changes = [f"{key} {_shown(old.get(key))} → {_shown(new.get(key))}" for key in _differing(old, new)]
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return ", ".join(changes[:3]) + more if changes else None


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:28]}…{text[-28:]}"


def _input_changes(recorded: dict[str, str], present: dict[str, str]) -> str | None:
    """The first input that differs, with the beginnings of its digests, or None."""
    for name in _differing(recorded, present):
        old, new = recorded.get(name, "nothing"), present.get(name, "nothing")
        if old == EDITED:
            return f"{name} was {EDITED}"
        if name.startswith("stage "):
            return f"{name.removeprefix('stage ')} wrote other files"
        return f"{name} changed ({old[:8]} → {new[:8]})"
    return None
