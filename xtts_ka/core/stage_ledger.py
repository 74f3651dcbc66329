"""Stages that can say why they must run again: fingerprints, and `pretrain_progress.json`.

A stage's fingerprint is its code's version, the values of the config keys it reads, the digests of what it
reads, and the hashes of what it wrote. The ledger compares the recorded fingerprint with the present one; the
first difference is the reason that is printed (`text.new_tokens 2000 → 3000`). The hashes of the outputs of
the stages above are among a stage's inputs, so a stage above that runs again and writes the same bytes does
not make those below run again.

Every file is hashed at every start, whatever its date says: a flipped bit is found. What survives a SIGKILL
is always a whole record: `running` is written before a stage's work, `done` only after its outputs were
verified, each atomically.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtts_ka.core.config import DEFAULT_CONFIG, PretrainConfig
from xtts_ka.core.console import say, warn
from xtts_ka.core.digests import file_digest, hash_value
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.core.files import write_bytes, write_json
from xtts_ka.core.lock import RunLock, utc_now

SCHEMA = 1
Records = dict[str, dict[str, Any]]  # stage name → its record, as the file's `stages` has it
UP_TO_DATE = "up to date"
EDITED = "edited while its stage ran"  # stands in the place of a digest that is not to be trusted
LOCK_NAME = "pretrain.lock"


@dataclass(frozen=True)
class Stage:
    """One row of the stage table.

    `reads` are dotted config keys (a section's name means all of it); leave out keys that only say where
    things are. `inputs` names the digest of everything else that the stage reads, except what the stages
    above write. `outputs` are the files it writes, absolute; no two stages may write the same file. `run`
    does the work and returns JSON-able metrics. `after` names the stages whose outputs it reads; None means
    every stage before it in the table.
    """

    name: str
    version: int
    reads: tuple[str, ...]
    inputs: Callable[[PretrainConfig], dict[str, str]]
    outputs: Callable[[PretrainConfig], list[Path]]
    run: Callable[[PretrainConfig], dict]
    after: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Decision:
    """Whether a stage is to run and why. A `fixed` one (--force, --only) is not reconsidered."""

    stage: Stage
    run: bool
    reason: str
    fixed: bool = False


def describe(decisions: Sequence[Decision]) -> list[str]:
    """One line per decision, for `--dry-run`."""
    width = max((len(decision.stage.name) for decision in decisions), default=0)
    return [
        f"{decision.stage.name:<{width}}  {'runs' if decision.run else 'skip'}  {decision.reason}"
        for decision in decisions
    ]


def _details(entry: dict[str, Any]) -> list[str]:
    """What --verbose tells of a stage's record."""
    mark = entry["fingerprint"]
    return [
        *(f"  {name}: {value}" for name, value in entry["metrics"].items()),
        *(f"  read {name}  {digest[:16]}" for name, digest in mark["inputs"].items()),
        *(f"  wrote {name}  sha256 {digest[:16]}" for name, digest in mark["outputs"].items()),
    ]


class StageLedger:
    """The stage table beside its record on the disk (`path`, usually `pretrain_progress.json`)."""

    def __init__(self, path: Path, stages: Sequence[Stage]):
        self.path = Path(path).absolute()
        self.lock = RunLock(self.path.with_name(LOCK_NAME))
        self.stages = list(stages)
        for place, stage in enumerate(self.stages):
            before = [earlier.name for earlier in self.stages[:place]]
            if stage.name in before or not set(stage.after or ()) <= set(before):
                raise ValueError(f"stage {stage.name} stands twice in the table, or before a stage it needs")

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Hold the lock beside the record: `with ledger.locked(): ...`. See `run_lock.RunLock.hold`."""
        return self.lock.hold()

    # ── what has to run ─────────────────────────────────────────────────────────────────────────────────────

    def plan(
        self,
        config: PretrainConfig,
        *,
        only: str | None = None,
        force: bool = False,
        config_path: Path | str = DEFAULT_CONFIG,
    ) -> list[Decision]:
        """Decide for every stage, in the table's order; nothing is written.

        A stage below one that will run is forecast to run too ("phonemes runs again"); `run` reconsiders it
        once it can see what the stage above wrote. `config_path` only serves the command that an error names.

        Raises UserError for an unknown `only`, or one whose stages above are not done and unchanged.
        """
        self._check_table(config)
        records, damage, _ = self._read()
        for sentence in damage:
            warn(sentence)
        if only is not None:
            return self._plan_only(config, records, only, config_path)
        if force:
            return [Decision(stage, True, "--force", fixed=True) for stage in self.stages]
        return self._forecast(config, records, self.stages)

    def _forecast(self, config: PretrainConfig, records: Records, stages: list[Stage]) -> list[Decision]:
        decisions: list[Decision] = []
        for stage in stages:
            again = {decision.stage.name for decision in decisions if decision.run}
            above = next((name for name in self._needs(stage) if name in again), None)
            reason = self._reason(stage, config, records, above)
            decisions.append(Decision(stage, reason is not None, reason or UP_TO_DATE))
        return decisions

    def _plan_only(
        self, config: PretrainConfig, records: Records, only: str, config_path: Path | str
    ) -> list[Decision]:
        names = [stage.name for stage in self.stages]
        if only not in names:
            close = difflib.get_close_matches(only, names, 1, 0.5)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UserError(f"there is no stage {only!r}{hint}: choose one of {', '.join(names)}")
        wanted: set[str] = {only}
        for stage in reversed(self.stages):
            if stage.name in wanted:
                wanted.update(self._needs(stage))
        above = [stage for stage in self.stages if stage.name in wanted - {only}]
        for needed in self._forecast(config, records, above):
            if needed.run:
                command = f"python run_pretrain.py --config {config_path} --only {needed.stage.name}"
                raise UserError(
                    f"stage {only} needs {needed.stage.name}, which is not up to date "
                    f"({needed.reason}): run `{command}` first"
                )
        return [
            Decision(stage, True, "--only", fixed=True)
            if stage.name == only
            else Decision(stage, False, f"--only {only}", fixed=True)
            for stage in self.stages
        ]

    def _needs(self, stage: Stage) -> list[str]:
        """The stages whose outputs `stage` reads, in the table's order."""
        before = [earlier.name for earlier in self.stages[: self.stages.index(stage)]]
        return before if stage.after is None else [name for name in before if name in stage.after]

    def _reason(self, stage: Stage, config: PretrainConfig, records: Records, above: str | None) -> str | None:
        """Why `stage` must run, or None; `above` names a stage that it needs and that will run before it.

        The cheap causes come first, and what is not there yet (inputs that a stage above will make) is not
        looked at.
        """
        entry = records.get(stage.name)
        if entry is None:
            return "never run"
        if entry["status"] == "pending":
            return entry["error"] or "never run"
        if entry["status"] == "running":
            return self._running_reason(entry)
        if entry["status"] == "failed":
            return "failed last time"
        recorded = entry["fingerprint"]
        if recorded["version"] != stage.version:
            return f"its code changed (version {recorded['version']} → {stage.version})"
        if changes := _config_changes(recorded["config"], _config_values(stage, config)):
            return changes
        if above is not None:
            return f"{above} runs again"
        return _input_changes(recorded["inputs"], self._inputs(stage, config, records)) or self._output_changes(
            stage, config, recorded["outputs"]
        )

    def _running_reason(self, entry: dict) -> str:
        if not self.lock.held and (pid := self.lock.living_holder()):
            return f"is running now (pid {pid})"
        return "was interrupted"

    def _inputs(self, stage: Stage, config: PretrainConfig, records: Records) -> dict[str, str]:
        """Digests of what `stage` reads: its own inputs, and the outputs on record of the stages it needs."""
        digests = dict(stage.inputs(config))
        for name in self._needs(stage):
            written = records[name]["fingerprint"]["outputs"] if name in records else {}
            digests[f"stage {name}"] = hash_value(written)
        return digests

    def _output_changes(self, stage: Stage, config: PretrainConfig, recorded: dict[str, str]) -> str | None:
        """The first output that is missing or altered, whether it was declared now or when the stage ran."""
        declared = {self._relative(file) for file in stage.outputs(config)}
        for name in sorted(declared | recorded.keys()):
            file = self.path.parent / name
            if not file.is_file():
                return f"output {name} is missing"
            if name not in recorded:
                return f"output {name} is not in the record"
            if file_digest(file) != recorded[name]:
                return f"output {name} was altered"
        return None

    def _relative(self, file: Path) -> str:
        return os.path.relpath(file, self.path.parent)

    def _check_table(self, config: PretrainConfig) -> None:
        """Two stages that write one file would make each other run again for ever."""
        writers: dict[str, str] = {}
        for stage in self.stages:
            for file in stage.outputs(config):
                writer = writers.setdefault(self._relative(file), stage.name)
                if writer != stage.name:
                    raise ValueError(f"{file} is an output of {writer} and of {stage.name}")

    # ── running ─────────────────────────────────────────────────────────────────────────────────────────────

    def run(
        self,
        config: PretrainConfig,
        decisions: Sequence[Decision],
        *,
        before: Callable[[Decision], None] = lambda decision: None,
        after: Callable[[Decision, dict[str, Any]], None] = lambda decision, entry: None,
    ) -> None:
        """Run what was decided, keeping the record on the disk true at every moment. The lock must be held.

        `before` and `after` announce each stage, skipped ones too; `after` also gets the stage's record
        (`seconds`, `metrics`, `fingerprint`). Decisions that are not fixed are made again when their turn
        comes: a stage may be up to date after all (the stage above wrote the same bytes), or out of date by
        then.

        Whatever a stage raises is recorded and raised again. An input that was edited while its stage ran is
        warned of and recorded as such, so the next run runs the stage again, even if the edit was undone in
        between.
        """
        if not self.lock.held:
            raise RuntimeError("StageLedger.run needs the lock: call it inside `with ledger.locked():`")
        records = self._adopt()
        for planned in decisions:
            decision = planned if planned.fixed else self._decide_again(planned, config, records)
            before(decision)
            if decision.run:
                self._run_stage(decision.stage, config, records)
            entry = records[decision.stage.name]
            after(decision, entry)
            for line in _details(entry):
                say(line, verbose=True)

    def _decide_again(self, planned: Decision, config: PretrainConfig, records: Records) -> Decision:
        reason = self._reason(planned.stage, config, records, None)
        if reason is None and planned.run:
            return Decision(planned.stage, False, f"{UP_TO_DATE}: what it reads came out the same")
        return Decision(planned.stage, reason is not None, reason or UP_TO_DATE)

    def _run_stage(self, stage: Stage, config: PretrainConfig, records: Records) -> None:
        entry = _pending(None) | {"started": utc_now(), "pid": os.getpid()}
        records[stage.name] = entry
        clock = time.monotonic()
        try:
            entry["fingerprint"] = {
                "version": stage.version,
                "config": _config_values(stage, config),
                "inputs": self._inputs(stage, config, records),
                "outputs": {},
            }
            entry["status"] = "running"
            self._save(records)
            metrics = json.loads(json.dumps(stage.run(config) or {}))
            outputs = self._verified_outputs(stage, config)
            self._note_edits(stage, config, records)
        except BaseException as error:
            stopped = not isinstance(error, Exception)  # Ctrl-C or SIGTERM: no fault of the stage
            entry["status"] = "pending" if stopped else "failed"
            entry["error"] = "was interrupted" if stopped else str(error) or type(error).__name__
            entry |= {"finished": utc_now(), "seconds": round(time.monotonic() - clock, 3)}
            self._save_if_possible(records)
            raise
        del entry["pid"]
        entry["fingerprint"]["outputs"] = outputs
        entry |= {
            "status": "done",
            "finished": utc_now(),
            "seconds": round(time.monotonic() - clock, 3),
            "metrics": metrics,
        }
        self._save(records)

    def _verified_outputs(self, stage: Stage, config: PretrainConfig) -> dict[str, str]:
        digests = {}
        for file in stage.outputs(config):
            if not file.is_file():
                raise RunError(f"stage {stage.name} finished without writing {file}: a fault in the stage")
            digests[self._relative(file)] = file_digest(file)
        return digests

    def _note_edits(self, stage: Stage, config: PretrainConfig, records: Records) -> None:
        """Compare what the stage read with what stands there now; what differs will not count as seen."""
        seen = records[stage.name]["fingerprint"]["inputs"]
        present = self._inputs(stage, config, records)
        edited = {name: f"{name} changed" for name in present if present[name] != seen.get(name)}
        for upstream in (other for other in self.stages if other.name in self._needs(stage)):
            written = records[upstream.name]["fingerprint"]["outputs"]
            if change := self._output_changes(upstream, config, written):
                edited[f"stage {upstream.name}"] = change
        for name, change in edited.items():
            seen[name] = EDITED
            warn(f"{change} while stage {stage.name} was running: the next run will run it again")

    # ── the record ──────────────────────────────────────────────────────────────────────────────────────────

    def metrics(self, name: str) -> dict[str, Any]:
        """What stage `name` returned when it last finished; empty when it has not."""
        records, _, _ = self._read()
        return records[name]["metrics"] if name in records else {}

    def status(self, name: str) -> str:
        """`pending`, `running`, `done` or `failed`: what stands in the record."""
        records, _, _ = self._read()
        return records[name]["status"] if name in records else "pending"

    def changes(self, stage: Stage, config: PretrainConfig) -> set[str]:
        """The config keys and inputs (`stage NAME` for one it needs) whose values are not what `stage` last started with.

        Empty where no such start is on record: it never ran, or the record is lost.
        """
        records, _, _ = self._read()
        mark = records[stage.name]["fingerprint"] if stage.name in records else {}
        if not mark.get("version"):
            return set()
        old = _leaves(mark["config"]) | mark["inputs"] | {"version": mark["version"]}
        new = _leaves(_config_values(stage, config)) | self._inputs(stage, config, records) | {"version": stage.version}
        return {name for name in old.keys() | new.keys() if json.dumps(old.get(name)) != json.dumps(new.get(name))}

    def altered(self, *names: str) -> str | None:
        """Which of these files is not as a finished stage left it, in words; None where all are, or are not on record."""
        records, _, _ = self._read()
        written = {
            name: digest
            for entry in records.values()
            if entry["status"] == "done"
            for name, digest in entry["fingerprint"]["outputs"].items()
        }
        for name in names:
            file = self.path.parent / name
            if name in written and not (file.is_file() and file_digest(file) == written[name]):
                return f"{file} is not as its stage wrote it" if file.is_file() else f"{file} is missing"
        return None

    def _read(self) -> tuple[Records, list[str], bytes]:
        """Return (records, what is damaged in words, the file's bytes).

        A damaged record counts as nothing recorded, for one stage where the others are whole: running a stage
        again costs time, trusting a wrong record costs the model.
        """
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return {}, [], b""
        try:
            content = json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
            return self._nothing("its record was damaged", "is damaged", raw)
        if content.get("schema") != SCHEMA:
            schema = str(content.get("schema"))[:20]
            return self._nothing("its record has another schema", f"has schema {schema}, not {SCHEMA}", raw)
        records, damage = {}, []
        for name, entry in content["stages"].items():
            if _is_sound(entry):
                records[name] = {key: value for key, value in entry.items() if key != "checksum"}
            elif name in (stage.name for stage in self.stages):
                records[name] = _pending("its record was damaged")
                damage.append(f"the record of stage {name} in {self.path} is damaged: it will run again")
        return records, damage, raw

    def _nothing(self, error: str, what: str, raw: bytes) -> tuple[Records, list[str], bytes]:
        """`_read`'s answer for a file of which nothing can be used."""
        pending = {stage.name: _pending(error) for stage in self.stages}
        return pending, [f"{self.path} {what}: every stage will run again"], raw

    def _adopt(self) -> Records:
        """Read the record to go on writing it: a damaged one is kept aside, what never ran is `pending`."""
        records, damage, raw = self._read()
        if damage:
            aside = self.path.with_suffix(".damaged.json")
            write_bytes(aside, raw)
            warn(f"the damaged record is kept as {aside}")
        names = [stage.name for stage in self.stages]
        ordered = {name: records.get(name) or _pending(None) for name in names}
        return ordered | {name: entry for name, entry in records.items() if name not in names}

    def _save(self, records: Records) -> None:
        stages = {name: entry | {"checksum": _checksum(entry)} for name, entry in records.items()}
        write_json(self.path, {"schema": SCHEMA, "stages": stages})

    def _save_if_possible(self, records: Records) -> None:
        """Record a failure; when that fails too (a full disk), the first failure is the one to read.

        The record on the disk then still says `running`, which the next run reads as "was interrupted".
        """
        try:
            self._save(records)
        except OSError as error:
            warn(f"the failure could not be recorded in {self.path} ({error.strerror})")


# ── fingerprints ────────────────────────────────────────────────────────────────────────────────────────────


def _config_values(stage: Stage, config: PretrainConfig) -> dict[str, Any]:
    """The values of the keys the stage reads, as JSON gives them back."""
    return json.loads(json.dumps({key: config.value(key) for key in stage.reads}))


def _config_changes(recorded: dict[str, Any], present: dict[str, Any]) -> str | None:
    """`text.new_tokens 2000 → 3000` for each value that differs (three at most), or None."""
    old, new = _leaves(recorded), _leaves(present)
    differing = [
        key for key in sorted(old.keys() | new.keys()) if json.dumps(old.get(key)) != json.dumps(new.get(key))
    ]  # True is no 1 here, as in the file
    changes = [f"{key} {_shown(old.get(key))} → {_shown(new.get(key))}" for key in differing]
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return ", ".join(changes[:3]) + more if changes else None


def _leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        is_section = isinstance(value, dict) and value
        leaves.update(_leaves(value, f"{prefix}{name}.") if is_section else {f"{prefix}{name}": value})
    return leaves


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:28]}…{text[-28:]}"


def _input_changes(recorded: dict[str, str], present: dict[str, str]) -> str | None:
    """What the first input that differs is, with the heads of its digests, or None."""
    for name in sorted(recorded.keys() | present.keys()):
        old, new = recorded.get(name), present.get(name)
        if old == EDITED:
            return f"{name} was {EDITED}"
        if old != new:
            if name.startswith("stage "):
                return f"{name.removeprefix('stage ')} wrote other files"
            return f"{name} changed ({(old or 'nothing')[:8]} → {(new or 'nothing')[:8]})"
    return None


def _pending(error: str | None) -> dict[str, Any]:
    return {
        "status": "pending",
        "started": None,
        "finished": None,
        "seconds": 0.0,
        "error": error,
        "metrics": {},
        "fingerprint": {"version": 0, "config": {}, "inputs": {}, "outputs": {}},
    }


def _checksum(entry: dict[str, Any]) -> str:
    """Covers a stage's record, so that a damaged metric or hash in it is found."""
    return hash_value({key: value for key, value in entry.items() if key != "checksum"})


def _is_sound(entry: Any) -> bool:
    """True when a stage's record has every field with its type, and its checksum, where it has one, holds."""
    try:
        mark = entry["fingerprint"]
        digests = [*mark["inputs"].items(), *mark["outputs"].items()]
        return (
            entry["status"] in ("pending", "running", "done", "failed")
            and all(isinstance(entry[key], str | None) for key in ("started", "finished", "error"))
            and isinstance(entry["seconds"], int | float)
            and isinstance(entry["metrics"], dict)
            and isinstance(mark["version"], int)
            and isinstance(mark["config"], dict)
            and all("\0" not in name and isinstance(digest, str) for name, digest in digests)
            and entry.get("checksum", _checksum(entry)) == _checksum(entry)
        )
    except (TypeError, KeyError, AttributeError, RecursionError):
        return False
