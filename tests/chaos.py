"""Kills the starter pipeline at random moments and checks that it always ends where an undisturbed run ends.

    python tests/chaos.py --work /tmp/chaos                                    50 kills, about 20 minutes on 2 cores
    python tests/chaos.py --work /tmp/chaos --kills 6 --per_round 3 --seed 7

Two undisturbed runs come first; if they differ from each other, the comparison would mean nothing and the script
stops. Then come rounds. Each starts from an empty folder: the pipeline is started and killed (SIGKILL to its whole
session), started again with the same command, killed again, and at last left to finish. The kills are spread evenly
over the phases of the pipeline, the moments between two stages included, and over two ways: at a random moment of a
phase, and just before a random one of its file operations (opening for writing, renaming, removing, …), where half-
written files would be left.

After each round every file is compared with the undisturbed run, byte for byte. Times are left out where files hold
them (`HOLDS_TIMES`); metrics and TensorBoard curves are compared with the restarts merged; the feature cache is
compared by clip, because its index holds the recordings' modification times. A file or folder more or less, a process
that outlives its session, or a failed restart ends in exit code 1, and the round's folder and log are kept.
"""

from __future__ import annotations

import argparse
import atexit
import csv
import hashlib
import itertools
import json
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ENVIRONMENT = dict(os.environ)  # copied before torch is imported, which adds to it
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.console import heading, say, style, warn
from xtts_ka.core.errors import RunError, UserError

CONFIG = {
    "device": "cpu",
    "batch_size": 4,
    "checkpoint_interval": 3,
    "starter": {
        "enabled": True,
        "base": "untrained",
        "clips": 80,
        "layers": 2,
        "model_dim": 64,
        "heads": 1,
        "max_steps": 36,
        "sentences": str(ROOT / "data/starter_sentences_ka.txt"),
    },
    "text": {"new_tokens": 100},
    "phonemes": {"max_epochs": 3},
    "language_model": {"max_epochs": 3, "dim": 32},
    "training": {
        "log_interval": 2,
        "validation_interval": 6,
        "ema_decay": 0.9,
    },  # a checkpoint every 3 splits metric windows
}
PATIENCE = 900.0  # seconds until a run counts as hanging

# The phases of a run in their order, each with the output line that begins it. In the first one a run imports its
# modules, takes the lock, deletes leftovers and skips the stages that are up to date.
PHASES = {
    "start": None,
    "starter speech": r"no recordings in",
    "starter metadata": r"found .*coqui",
    "starter base model": r"no base model in",
    "embeddings": r"── embeddings:",
    "after embeddings": r"embeddings done",
    "phonemes": r"── phonemes:",
    "after phonemes": r"phonemes done",
    "language": r"── language:",
    "after language": r"language done",
    "xtts_init": r"── xtts_init:",
    "after xtts_init": r"xtts_init done",
    "features": r"── full_pretrain:",
    "training set-up": r"train .* h .* speakers",
    "training, first half": r"step +\d+/36",
    "training, second half": r"step +(1[89]|[23]\d)/36",
    "export": r"exporting step",
    "report": r"# Georgian XTTS-v2",
    "after full_pretrain": r"full_pretrain done",
}
NAMES = tuple(PHASES)
WAYS = ("clock", "operation")

# ── one run of the pipeline ──────────────────────────────────────────────────────────────────────────────────────────


class Run:
    """The pipeline in a session of its own, whose output tells which phase it is in.

    inside: arguments of `run_inside`, which kills the run from within; without them it runs as a user would run it.
    """

    def __init__(self, folder: Path, log: Path, *inside: str):
        script = [__file__, "--inside", *inside] if inside else [str(ROOT / "run_pretrain.py")]
        self.phase, self.begun = 0, {NAMES[0]: time.monotonic()}
        self.operations: Counter[str] = Counter()  # phase → printed file operations
        self.last_operation = ""
        self._log, self._news, self._over = log, threading.Condition(), False
        self._process = subprocess.Popen(
            [sys.executable, *script, "--config", "config.json"],
            cwd=folder,
            start_new_session=True,
            env={**ENVIRONMENT, "TMPDIR": str(folder / "tmp")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        atexit.register(self.kill)  # Ctrl-C on this script does not reach another session
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with open(self._log, "a", encoding="utf-8") as log:
            for line in self._process.stdout:
                now, line = time.monotonic(), line.strip()
                log.write(f"{now - self.begun[NAMES[0]]:8.3f}  {line}\n" if line else "")
                with self._news:
                    if line.startswith(OPERATION):
                        self.last_operation = line.removeprefix(OPERATION)
                        self.operations[NAMES[self.phase]] += 1
                    for place in range(len(NAMES) - 1, self.phase, -1):
                        if re.match(PHASES[NAMES[place]], line):
                            self.phase = place
                            self.begun[NAMES[place]] = now
                            self._news.notify_all()
                            break
        with self._news:
            self._over = True
            self._news.notify_all()

    def reach(self, phase: int) -> None:
        """Waits until this phase or a later one has begun, or the run is over."""
        with self._news:
            if not self._news.wait_for(lambda: self.phase >= phase or self._over, PATIENCE):
                self.kill()
                raise RunError(f"the run hung: see {self._log}")

    def pause(self, seconds: float) -> None:
        """Waits for some seconds, or until the run is over."""
        with self._news:
            self._news.wait_for(lambda: self._over, seconds)

    def arm(self) -> None:
        """Makes `run_inside` count file operations from now on."""
        self._process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """SIGKILL to every process of the session that has not changed its group."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self) -> int:
        """The exit code. RunError for a run that hangs or leaves a process behind."""
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RunError(f"the run hung: see {self._log}") from None
        self._reader.join(5)
        for _ in range(50):
            if not (left := session_members(self._process.pid)):
                return code
            time.sleep(0.1)  # a killed process takes a moment to disappear
        raise RunError(f"the run ended and left processes behind: {left}")


def session_members(session: int) -> list[str]:
    """Living processes of a session, as `pid (command)`: proc(5), fields 3 and 6."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = stat.read_text(errors="replace").rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields.split()[0] not in "ZX" and int(fields.split()[3]) == session:
            members.append(f"{name})")
    return members


# ── a kill from inside, just before a file operation ──────────────────────────────────────────────────────────────────

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.utime"}
NOT_OURS = re.compile(r"tmp/|.*events\.out\.tfevents\.")  # opened again and again by Python and TensorBoard
OPERATION = "file operation: "


def run_inside(how: str, strike_at: int, arguments: list[str]) -> None:
    """Runs the pipeline's script in this process and sends SIGKILL to its session before its `strike_at`-th operation.

    how: `at-once` counts from the start, `when-told` from SIGUSR1; `list` kills nothing and prints all operations.
    """
    here, left = os.getcwd() + os.sep, itertools.repeat(1)

    def arm(*_: Any) -> None:
        nonlocal left
        left = itertools.count(strike_at - 1, -1)

    signal.signal(signal.SIGUSR1, arm)
    if how == "at-once":
        arm()

    def watch(event: str, values: tuple[Any, ...]) -> None:
        if event not in CHANGES and not (event == "open" and _writes(values)):
            return
        # shutil.rmtree names files relative to an open folder.
        target = os.fsdecode(values[0]) if isinstance(values[0], str | bytes | os.PathLike) else ""
        name = target.removeprefix(here)
        if not name or NOT_OURS.match(name) or (name == target and os.sep in target):
            return
        strike = next(left) == 0
        if strike or how == "list":
            os.write(1, f"\n{OPERATION}{event} {name}\n".encode("utf-8", "replace"))
        if strike:
            os.killpg(0, signal.SIGKILL)

    sys.argv, sys.path[0] = [str(ROOT / "run_pretrain.py"), *arguments], str(ROOT)
    sys.addaudithook(watch)
    runpy.run_path(sys.argv[0], run_name="__main__")


def _writes(values: tuple[Any, ...]) -> bool:
    _, mode, flags = values
    return bool(set(mode) & set("wax+")) if mode else bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


# ── the files of a run ───────────────────────────────────────────────────────────────────────────────────────────────

HOLDS_TIMES = ("pretrain_progress.json", "manifest.json")
# Keys with times, with digests of times, and with the digest that covers the recordings' modification times.
TIMES = {"started", "finished", "seconds", "time", "checksum", "recordings"}
INDEX = re.compile(r"/index_(train|val)_\w+")  # named after a digest that covers the recordings' modification times
PACE = ("audio_s_per_s", "data_wait_s", "time")  # metrics of the machine, not of the training


def artifacts(run: Path) -> dict[str, str]:
    """Relative name → digest of its content without times, for every file and folder of a run."""
    found = {
        "metrics, restarts merged": _digest(metrics(run)),
        "TensorBoard curves": _digest(curves(run)),
        **{f"features of {clip}": digest for clip, digest in features(run)},
    }
    for path in sorted(run.rglob("*")):
        name = INDEX.sub(r"/index_\1", path.relative_to(run).as_posix())
        if path.is_dir():
            found[f"{name}/"] = ""
        elif INDEX.search(path.as_posix()) and path.name in ("records.npy", "manifest.json"):
            found[name] = ""  # offsets and keys of the features, which are compared by clip above
        elif path.name in HOLDS_TIMES:
            found[name] = _digest(_without_times(json.loads(path.read_text("utf-8"))))
        elif name.startswith("logs/tensorboard/events.out.tfevents."):
            pass  # one for each start of the training
        elif name == "logs/metrics.jsonl" or re.fullmatch(r"data/features/\w+/index\.bin", name):
            found[name] = ""  # compared above
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(item) for key, item in value.items() if key not in TIMES}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def metrics(run: Path) -> list[dict[str, str]]:
    """The rows that the monitor exports, without the metrics of the machine."""
    from xtts_ka.monitor.csv_export import export_csv
    from xtts_ka.monitor.history import RunHistory

    history, table = RunHistory(run / "logs/metrics.jsonl"), run.parent / "metrics.csv"
    history.refresh()
    export_csv(history, table)
    with open(table, newline="") as rows:
        return [
            {name: cell for name, cell in row.items() if name.removeprefix("val_") not in PACE}
            for row in csv.DictReader(rows)
        ]


def curves(run: Path) -> dict[str, dict[int, float]]:
    """Tag → step → the latest value of that step in all event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run / "logs/tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    board.Reload()
    tags = [tag for tag in board.Tags()["scalars"] if tag.split("/")[1] not in PACE]
    return {tag: dict(sorted((event.step, event.value) for event in board.Scalars(tag))) for tag in sorted(tags)}


def features(run: Path) -> Iterator[tuple[str, str]]:
    """(clip, digest of its cached codes and mel), read as training reads them."""
    from data_loader import open_data
    from xtts_ka.core.config import load_config

    data = open_data(load_config(run / "config.json"))
    for split in (data.train, data.val):
        for clip in range(len(split)):
            file_id = split.index.file_id(clip)
            codes, mel = split.cache.read(split.index.records[clip], file_id)
            yield file_id, hashlib.sha256(codes.tobytes() + mel.tobytes()).hexdigest()


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """One line for each thing that is missing, left over or different."""
    return [
        f"{'missing' if name not in found else 'left over' if name not in expected else 'different'}: {name}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]


# ── rounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Chaos:
    """The undisturbed runs, then the rounds, all in `work/run`, because artifacts hold absolute paths."""

    def __init__(self, work: Path, seed: int):
        self.work, self.run, self.random = work, work / "run", random.Random(seed)
        self.kills: Counter[tuple[str, str]] = Counter()  # (phase, way) → kills
        self.failures: list[str] = []
        self.compared = 0
        self._planned: list[tuple[int, str]] = []  # (phase, way) of the next kills

    def undisturbed(self) -> None:
        """Runs twice without a kill, to learn the expected files, the length of each phase and its file operations."""
        self._clear()
        first = Run(self.run, self.work / "undisturbed.log")
        self._must_succeed(first)
        if unseen := [name for name in NAMES if name not in first.begun]:
            raise RunError(
                f"the pipeline's output lacks the lines that begin {', '.join(unseen)}: bring PHASES up to date"
            )
        begun = [*first.begun.values(), time.monotonic()]
        self.seconds = dict(zip(NAMES, (end - start for start, end in itertools.pairwise(begun))))
        self.expected = artifacts(self.run)
        say(f"undisturbed: {begun[-1] - begun[0]:.0f} s, {len(self.expected)} artifacts")
        self._clear(keep_as="undisturbed")
        second = Run(self.run, self.work / "undisturbed.log", "list", "0")
        self._must_succeed(second)
        self.operations = second.operations
        say(f"once more: {self.operations.total()} file operations")
        if unlike := differences(self.expected, artifacts(self.run)):
            raise RunError(f"two undisturbed runs differ, so kills cannot be judged: {'; '.join(unlike)}")

    def round(self, number: int, kills: int) -> None:
        """Runs from an empty folder to the end with up to `kills` kills on the way, and compares."""
        self._clear()
        log, began = self.work / f"round_{number}.log", time.monotonic()
        # In the pipeline's order; kills in the first phase, which every run has, come anywhere between.
        for phase, way in sorted(self._plan(kills), key=lambda kill: kill[0] or self.random.uniform(0, len(NAMES))):
            run = self._kill(phase, way, log)
            code = run.wait()
            if code == 0:  # it finished before the kill: the remaining kills go to another round
                break
            if code != -signal.SIGKILL:
                raise RunError(f"a restart failed with exit code {code}: see {log}")
            self.kills[NAMES[run.phase], way] += 1
            say(
                f"  kill {self.kills.total():>3} by the {way:<9}  {NAMES[run.phase]:<21}  {run.last_operation}".rstrip()
            )
        else:
            self._must_succeed(Run(self.run, log))
        unlike = [f"round {number}: {line}" for line in differences(self.expected, artifacts(self.run))]
        self.compared += len(self.expected)
        self.failures += unlike
        say(
            f"round {number}: {time.monotonic() - began:.0f} s, "
            + (style(f"{len(unlike)} differences", "red") if unlike else style("all equal", "green"))
        )
        for line in unlike:
            warn(line)
        if unlike:
            self._clear(keep_as=f"round_{number}")
        else:
            log.unlink()

    def _plan(self, kills: int) -> list[tuple[int, str]]:
        """The next kills of a shuffled list that holds every phase once for each way to kill in it."""
        every = [
            (phase, way) for phase, name in enumerate(NAMES) for way in WAYS if way == "clock" or self.operations[name]
        ]
        while len(self._planned) < kills:
            self._planned += self.random.sample(every, len(every))
        planned, self._planned = self._planned[:kills], self._planned[kills:]
        return planned

    def _kill(self, phase: int, way: str, log: Path) -> Run:
        """Starts a run and kills it in this phase, or in the next one that comes if this one is over already."""
        if way == "operation":
            strike_at = str(self.random.randint(1, self.operations[NAMES[phase]]))
            run = Run(self.run, log, "when-told" if phase else "at-once", strike_at)
            run.reach(phase)
            if phase:
                run.arm()
        else:
            run = Run(self.run, log)
            run.reach(phase)
            run.pause(self.random.random() * self.seconds[NAMES[run.phase]])
            run.kill()
        return run

    def _must_succeed(self, run: Run) -> None:
        if code := run.wait():
            raise RunError(f"a run that nobody killed failed with exit code {code}: see the logs in {self.work}")

    def _clear(self, keep_as: str | None = None) -> None:
        """Makes an empty run folder; the old one is removed, or kept under the name `keep_as`."""
        if keep_as:
            self.run.rename(self.work / keep_as)
        elif self.run.exists():
            shutil.rmtree(self.run)
        (self.run / "tmp").mkdir(parents=True)
        (self.run / "config.json").write_text(json.dumps(CONFIG, indent=1), "utf-8")


def chaos(args: argparse.Namespace) -> int:
    """Runs everything; returns 0 when every round ended where an undisturbed run ends."""
    work = args.work.resolve()
    if work.exists() and any(work.iterdir()):
        raise UserError(f"{work} is not empty: give --work a new folder")
    began, trial = time.monotonic(), Chaos(work, args.seed)
    heading("undisturbed")
    work.mkdir(parents=True, exist_ok=True)
    trial.undisturbed()
    heading(f"{args.kills} kills")
    rounds = 0
    while (left := args.kills - trial.kills.total()) > 0:
        rounds += 1
        trial.round(rounds, min(args.per_round, left))
    heading("result")
    say(f"{'killed in':<22} {'by the clock':>13} {'at an operation':>16}")
    for name in NAMES:
        say(f"{name:<22} {trial.kills[name, 'clock']:>13} {trial.kills[name, 'operation']:>16}")
    in_all = [sum(trial.kills[name, way] for name in NAMES) for way in WAYS]
    say(f"{'in all':<22} {in_all[0]:>13} {in_all[1]:>16}\n")
    say(
        f"{rounds} rounds, {trial.compared} artifacts compared, {len(trial.failures)} different, missing or left over; "
        f"{(time.monotonic() - began) / 60:.0f} minutes (seed {args.seed})"
    )
    for line in trial.failures:
        say(f"  {line}")
    if trial.failures:
        return 1
    say(style("every round ended exactly where an undisturbed run ends", "green"))
    shutil.rmtree(work)
    return 0


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["--inside"]:
        run_inside(arguments[1], int(arguments[2]), arguments[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a new folder for the runs; removed when all is well")
    parser.add_argument("--kills", type=int, default=50, help="how many kills in all (default: %(default)s)")
    parser.add_argument("--per_round", type=int, default=10, help="kills in one round (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random moments (default: %(default)s)")
    add_verbosity_flags(parser)
    args = parser.parse_args(arguments)
    return run_cli(lambda: chaos(args), args)


if __name__ == "__main__":
    sys.exit(main())
