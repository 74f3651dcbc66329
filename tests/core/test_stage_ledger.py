"""The ledger through its public functions, with stages that really write files."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtts_ka.core import stage_ledger
from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.errors import Interrupted, RunError, UserError
from xtts_ka.core.stage_ledger import Stage, StageLedger

ROOT = Path(__file__).parents[2]


class Letters(Stage):
    """Reads source.txt and writes it in lower case, so a change of case alone gives the same bytes again."""

    name, reads = "letters", ("text.archaic",)

    def __init__(self, work: "Work"):
        super().__init__(work.config)
        self.work = work

    def inputs(self):
        return {"source": hashlib.sha256((self.work.folder / "source.txt").read_bytes()).hexdigest()}

    def outputs(self):
        return [self.work.folder / "out" / f"{self.name}.txt"]

    def text(self):
        return (self.work.folder / "source.txt").read_text().lower()

    def run(self):
        self.work.ran.append(self.name)
        (self.work.folder / "out" / f"{self.name}.txt").write_text(self.text())
        self.work.during.get(self.name, lambda: None)()
        return {"characters": len(self.text())}


class Words(Letters):
    name, reads = "words", ("text.new_tokens",)

    def inputs(self):
        return {}

    def text(self):
        return f"{(self.work.folder / 'out/letters.txt').read_text()} {self.config.text.new_tokens}"


class Model(Words):
    name, reads = "model", ("training",)

    def text(self):
        return (self.work.folder / "out/words.txt").read_text()[::-1]


class Amending(Words):
    """Writes its own file and changes that of `words`."""

    name, reads = "amending", ("seed",)

    def amends(self):
        return [self.work.folder / "out/words.txt"]

    def run(self):
        self.amends()[0].write_text(f"amended by {self.config.seed}")
        return super().run()


class Work:
    """Three stages in a folder: `letters` reads source.txt, `words` and `model` read the stage before them.

    `ran` lists what ran; `during` has what happens while a stage runs, by name.
    """

    def __init__(self, folder: Path):
        self.folder, self.ran, self.during = folder, [], {}
        self.config = PretrainConfig()
        (folder / "source.txt").write_text("Some Text")
        self.table = [Letters(self), Words(self), Model(self)]

    @property
    def record(self) -> Path:
        return self.folder / "out" / "pretrain_progress.json"

    @property
    def ledger(self) -> StageLedger:
        return StageLedger(self.record, self.table)

    def run(self, **options) -> list[str]:
        """Plan and run under the lock; returns the stages that ran."""
        self.ran.clear()
        ledger = self.ledger
        with ledger.lock.hold():
            ledger.run(ledger.plan(**options))
        return list(self.ran)

    def reasons(self, **options) -> list[str]:
        return [decision.reason for decision in self.ledger.plan(**options)]

    def stages(self) -> dict:
        return json.loads(self.record.read_text())["stages"]


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path)


ALL = ["letters", "words", "model"]
FRESH = ["up to date"] * 3


# ── what runs, and why ──────────────────────────────────────────────────────────────────────────────────────


def test_the_first_run_runs_all_and_the_second_nothing(work):
    assert work.reasons() == ["never run"] * 3
    assert work.run() == ALL
    assert work.reasons() == FRESH
    assert work.run() == []


def test_the_record_has_the_documented_form(work):
    work.run()
    record = json.loads(work.record.read_text())
    assert record["schema"] == 1 and list(record["stages"]) == ALL
    words = record["stages"]["words"]
    assert words["status"] == "done" and words["error"] is None and words["metrics"] == {"characters": 14}
    assert words["seconds"] >= 0 and len(words["started"]) == len("2026-11-23T05:40:00Z")
    assert words["fingerprint"]["version"] == 1
    assert words["fingerprint"]["config"] == {"text.new_tokens": 2000}
    written = hashlib.sha256(b"some text 2000").hexdigest()
    assert words["fingerprint"]["outputs"] == {"words.txt": written}
    assert work.ledger.record("words").metrics == {"characters": 14}
    assert work.ledger.record("nonsense").status == "pending"
    assert {file.name for file in work.record.parent.iterdir()} == {
        "pretrain.lock",
        "pretrain_progress.json",
        *(f"{name}.txt" for name in ALL),
    }


def test_a_changed_config_value_is_named_with_both_values(work):
    work.run()
    work.config.text.new_tokens = 3000
    assert work.reasons() == ["up to date", "text.new_tokens 2000 → 3000", "words runs again"]
    assert work.run() == ["words", "model"]


def test_a_section_names_the_key_that_changed_in_it(work):
    work.run()
    work.config.training.weight_decay = 0.5
    work.config.training.gradient_checkpointing = True
    assert work.reasons()[2] == "training.gradient_checkpointing false → true, training.weight_decay 0.01 → 0.5"
    for name in ("clip_norm", "dropout", "warmup_steps"):
        setattr(work.config.training, name, 7)
    assert work.reasons()[2].endswith("and 2 more")


def test_what_differs_from_a_stages_last_start_is_listed_by_name(work):
    letters, words, model = work.table
    assert work.ledger.changes(model) == set()  # it never ran: nothing to compare with
    work.run()
    assert [work.ledger.changes(stage) for stage in work.table] == [set()] * 3
    work.config.training.dropout, work.config.text.new_tokens = 0.5, 3000
    (work.folder / "source.txt").write_text("Other text")
    assert work.ledger.changes(letters) == {"source"}
    assert work.ledger.changes(words) == {"text.new_tokens"}
    model.version = 2
    assert work.ledger.changes(model) == {"training.dropout", "version"}
    work.run(only="letters")
    assert work.ledger.changes(words) == {"text.new_tokens", "stage letters"}


def test_a_key_nobody_reads_changes_nothing(work):
    work.run()
    work.config.seed = 99
    assert work.reasons() == FRESH


def test_a_raised_version_runs_the_stage_again(work):
    work.run()
    work.table[1].version = 2
    assert work.reasons()[1] == "its code changed (version 1 → 2)"


def test_a_changed_input_is_named_with_both_digests(work):
    work.run()
    old = work.table[0].inputs()["source"][:8]
    (work.folder / "source.txt").write_text("Other text")
    new = work.table[0].inputs()["source"][:8]
    assert work.reasons() == [f"source changed ({old} → {new})", "letters runs again", "letters runs again"]
    assert work.run() == ALL


def test_a_missing_output_is_named(work):
    work.run()
    (work.folder / "out" / "words.txt").unlink()
    assert work.reasons() == ["up to date", "output words.txt is missing", "words runs again"]
    assert work.run() == ["words"]  # it wrote the same bytes, so the model stands


def test_one_flipped_bit_in_an_output_is_found_though_size_and_date_agree(work):
    work.run()
    file = work.folder / "out" / "words.txt"
    times = os.stat(file)
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert work.reasons()[1] == "output words.txt was altered"
    assert work.run() == ["words"]
    assert file.read_text() == "some text 2000"


def test_a_file_that_was_not_an_output_before_runs_the_stage_again(work):
    work.run()
    (work.folder / "out" / "extra.txt").write_text("")
    both = [work.folder / "out" / "words.txt", work.folder / "out" / "extra.txt"]
    work.table[1].outputs = lambda: both
    assert work.reasons()[1] == "output extra.txt is not in the record"


def test_a_recorded_output_that_is_no_longer_declared_is_still_looked_at(work):
    listing = work.table[1].outputs
    work.table[1].outputs = lambda: [f for f in listing() if f.exists()]
    work.run()
    (work.folder / "out" / "words.txt").unlink()
    assert work.reasons()[1] == "output words.txt is missing"


# ── early cutoff ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stage_that_writes_the_same_bytes_again_spares_those_below(work):
    work.run()
    (work.folder / "source.txt").write_text("SOME TEXT")
    assert work.reasons()[1:] == ["letters runs again"] * 2
    told = []
    with (ledger := work.ledger).lock.hold():
        work.ran.clear()
        ledger.run(ledger.plan(), before=told.append)
    assert work.ran == ["letters"]
    assert [decision.run for decision in told] == [True, False, False]
    assert told[1].reason == "up to date: what it reads came out the same"
    assert work.reasons() == FRESH


def test_the_cutoff_does_not_spare_a_stage_with_a_reason_of_its_own(work):
    work.run()
    (work.folder / "source.txt").write_text("SOME TEXT")
    work.config.text.new_tokens = 3000
    assert work.run() == ALL


def test_a_crash_between_two_stages_does_not_lose_the_rerun_of_the_lower_one(work):
    work.run()
    (work.folder / "source.txt").write_text("Other text")

    def crash():
        raise KeyboardInterrupt

    work.during["words"] = crash
    with pytest.raises(KeyboardInterrupt):
        work.run()
    work.during.clear()
    assert work.reasons() == ["up to date", "was interrupted", "words runs again"]
    assert work.run() == ["words", "model"]
    assert (work.folder / "out" / "model.txt").read_text() == "other text 2000"[::-1]


def test_a_stage_depends_only_on_the_stages_it_names(work):
    work.table[2].after = ("letters",)
    work.run()
    work.config.text.new_tokens = 3000
    assert work.reasons()[2] == "up to date"
    assert work.run() == ["words"]


def test_inputs_that_a_stage_above_will_make_are_not_looked_at_before(work):
    def needs_words():
        return {"words": hashlib.sha256((work.folder / "out" / "words.txt").read_bytes()).hexdigest()}

    work.table[2].inputs = needs_words
    assert work.run() == ALL  # planned on an empty folder


# ── --only and --force ──────────────────────────────────────────────────────────────────────────────────────


def test_force_runs_all(work):
    work.run()
    assert work.reasons(force=True) == ["--force"] * 3
    assert work.run(force=True) == ALL


def test_only_runs_one_stage_and_the_next_full_run_finds_those_below_out_of_date(work):
    work.run()
    work.config.text.new_tokens = 3000
    assert work.reasons(only="words") == ["--only words", "--only", "--only words"]
    assert work.run(only="words") == ["words"]
    assert work.reasons() == ["up to date", "up to date", "words wrote other files"]
    assert work.run() == ["model"]


def test_only_names_the_stage_that_is_missing_and_its_command(work):
    with pytest.raises(
        UserError,
        match=r"model needs letters, which is not up to date \(never run\).*"
        r"first run run_pretrain.py with the same --config and --only letters",
    ):
        work.ledger.plan(only="model")
    work.run()
    (work.folder / "out" / "words.txt").write_text("tampered")
    with pytest.raises(UserError, match="model needs words.*output words.txt was altered"):
        work.ledger.plan(only="model")


def test_only_looks_no_further_than_the_stages_it_needs(work):
    work.table[2].after = ("letters",)
    work.run(only="letters")
    (work.folder / "out" / "words.txt").write_text("no stage wrote this")
    assert work.run(only="model") == ["model"]


# ── failures ────────────────────────────────────────────────────────────────────────────────────────────────


def test_running_is_recorded_before_the_work(work):
    seen = []
    work.during["words"] = lambda: seen.append(work.stages())
    work.run()
    assert seen[0]["words"]["status"] == "running"
    assert seen[0]["letters"]["status"] == "done" and seen[0]["model"]["status"] == "pending"


def test_a_failure_is_recorded_with_its_sentence_and_raised_again(work):
    def fail():
        raise RunError("the words ran out")

    work.during["words"] = fail
    with pytest.raises(RunError, match="the words ran out"):
        work.run()
    assert work.stages()["words"]["status"] == "failed"
    assert work.stages()["words"]["error"] == "the words ran out"
    work.during.clear()
    assert work.reasons() == ["up to date", "failed last time", "never run"]
    assert work.run() == ["words", "model"]
    assert work.stages()["words"]["error"] is None


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted(signal.SIGTERM)])
def test_a_stop_is_no_failure(work, stop):
    def interrupt():
        raise stop

    work.during["letters"] = interrupt
    with pytest.raises(type(stop)):
        work.run()
    assert work.reasons()[0] == "was interrupted"
    assert work.stages()["letters"]["status"] == "pending"


def test_an_output_that_was_not_written_is_a_failure(work):
    work.table[0].run = dict
    with pytest.raises(RunError, match="letters finished without writing .*letters.txt"):
        work.run()
    assert work.stages()["letters"]["status"] == "failed"


def test_a_disk_that_is_full_for_the_record_too_keeps_the_first_error(work, monkeypatch, capsys):
    def fill():
        def full(path, value):
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(stage_ledger, "write_json", full)
        raise RunError("the first failure")

    work.during["letters"] = fill
    with pytest.raises(RunError, match="the first failure"):
        work.run()
    assert "could not be recorded" in capsys.readouterr().err
    monkeypatch.undo()
    work.during.clear()
    assert work.reasons()[0] == "was interrupted"
    assert work.run() == ALL


KILLED = """
import os, signal, sys
sys.path[:0] = [{root!r}, {tests!r}]
from pathlib import Path
from test_stage_ledger import Work
work = Work(Path({folder!r}))
work.during["words"] = lambda: os.kill(os.getpid(), signal.SIGKILL)
work.run()
"""


def test_a_killed_run_is_found_and_leaves_no_lock_to_clear(work):
    script = KILLED.format(root=str(ROOT), tests=str(Path(__file__).parent), folder=str(work.folder))
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == -signal.SIGKILL
    assert work.reasons() == ["up to date", "was interrupted", "never run"]
    assert work.run() == ["words", "model"]


def test_a_plan_beside_a_living_run_says_that_it_is_running(work):
    code = KILLED.replace("os.kill(os.getpid(), signal.SIGKILL)", "(print('now', flush=True), input())")
    script = code.format(root=str(ROOT), tests=str(Path(__file__).parent), folder=str(work.folder))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "now\n"
        try:
            assert work.reasons()[1] == f"is running now (pid {other.pid})"
            with pytest.raises(UserError, match=f"pid {other.pid} on"):
                work.run()
        finally:
            other.communicate("\n", timeout=30)
    assert work.reasons() == FRESH


# ── edited under its feet ───────────────────────────────────────────────────────────────────────────────────


def test_an_input_edited_during_the_run_is_warned_of_and_rerun(work, capsys):
    work.during["letters"] = lambda: (work.folder / "source.txt").write_text("Edited")
    work.run()
    assert "source changed while stage letters was running" in capsys.readouterr().err
    work.during.clear()
    assert work.reasons()[0] == "source was edited while its stage ran"
    (work.folder / "source.txt").write_text("Some Text")  # undone: what the stage saw is still unknown
    assert work.run() == ["letters"]
    assert work.reasons() == FRESH


def test_an_output_of_a_stage_above_edited_during_the_run_is_noticed(work, capsys):
    work.during["model"] = lambda: (work.folder / "out" / "words.txt").write_text("tampered")
    work.run()
    assert "output words.txt was altered while stage model was running" in capsys.readouterr().err
    work.during.clear()
    assert work.run() == ["words", "model"]
    assert work.reasons() == FRESH


def test_what_changed_between_plan_and_run_is_seen(work):
    work.run()
    with (ledger := work.ledger).lock.hold():
        plan = ledger.plan()
        (work.folder / "source.txt").write_text("Late")
        work.ran.clear()
        ledger.run(plan)
    assert work.ran == ALL


# ── a damaged record ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\0" * 400,
        b"{",
        b"[]",
        b'"x"',
        b"nul",
        b"\xff\xfe",
        b'{"schema": 1}',
        b"9" * 5000,
        b'{"schema": 1, "stages": []}',
        b'{"schema": 7, "stages": {}}',
        b'{"schema": 1, "stages": {"words": {"status": "done", "fingerprint": {"outputs": ["words.txt"]}}}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_record_is_kept_aside_and_everything_runs_again(work, damage, capsys):
    work.run()
    work.record.write_bytes(damage)
    assert work.reasons() == ["its record was damaged"] * 3
    assert "is damaged: every stage will run again" in capsys.readouterr().err
    assert work.run() == ALL
    assert work.record.with_suffix(".damaged.json").read_bytes() == damage
    assert work.reasons() == FRESH


def test_a_record_of_an_earlier_version_with_checksums_is_read_and_they_are_dropped(work):
    work.run()
    record = json.loads(work.record.read_text())
    for entry in record["stages"].values():
        entry |= {"pid": None, "checksum": "0" * 64}
    work.record.write_text(json.dumps(record))
    assert work.reasons() == FRESH and work.run(only="model") == ["model"]
    assert "checksum" not in work.record.read_text() and not work.record.with_suffix(".damaged.json").exists()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(["status", "started", "finished", "seconds", "error", "metrics", "fingerprint", "checksum"])
prints = st.dictionaries(st.sampled_from(["version", "config", "inputs", "outputs", "x"]), json_values)
garbage = (
    st.binary(max_size=200)
    | json_values.map(lambda v: json.dumps(v).encode())
    | st.dictionaries(st.sampled_from(ALL + ["x"]), st.dictionaries(fields, prints | json_values) | json_values).map(
        lambda stages: json.dumps({"schema": 1, "stages": stages}).encode()
    )
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=garbage)
def test_no_record_whatever_makes_the_plan_fail_or_calls_a_stage_done(work, raw):
    work.record.parent.mkdir(exist_ok=True)
    work.record.write_bytes(raw)
    assert all(decision.run for decision in work.ledger.plan())
    assert work.ledger.record("words").status in ("pending", "running", "done", "failed")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_leaves_a_plan(work, data):
    if not (work.folder / "whole.json").exists():
        work.run()
        (work.folder / "whole.json").write_bytes(work.record.read_bytes())
    raw = bytearray((work.folder / "whole.json").read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    work.record.write_bytes(raw)
    assert len(work.ledger.plan()) == 3


# ── the rest ────────────────────────────────────────────────────────────────────────────────────────────────


def test_run_needs_the_lock(work):
    with pytest.raises(RuntimeError, match="needs the lock"):
        work.ledger.run(work.ledger.plan())
    assert work.ran == []


def test_a_plan_writes_nothing(work):
    work.reasons()
    assert not work.record.parent.exists()


def test_metrics_that_are_no_json_fail_the_stage(work):
    run = work.table[0].run
    work.table[0].run = lambda: run() | {"x": object()}
    with pytest.raises(TypeError):
        work.run()
    assert work.stages()["letters"]["status"] == "failed"


def test_the_announcements_carry_the_record(work):
    told = []
    with (ledger := work.ledger).lock.hold():
        ledger.run(ledger.plan(), after=lambda decision, record: told.append((decision.stage.name, record.metrics)))
    assert told == [("letters", {"characters": 9}), ("words", {"characters": 14}), ("model", {"characters": 14})]


# ── a stage that changes a file of another ──


def test_what_a_later_stage_amends_is_expected_from_then_on(tmp_path):
    work = Work(tmp_path)
    work.table = [Letters(work), Words(work), Amending(work)]
    assert set(work.run()) == {"letters", "words", "amending"}
    assert work.run() == []
    work.table[2].config = work.config.model_copy(update={"seed": 5})
    assert work.run() == ["amending"]
    assert work.run() == []
    work.table[1].config = work.config.model_copy(
        update={"text": work.config.text.model_copy(update={"new_tokens": 50})}
    )
    assert work.run() == ["words", "amending"]  # the writer's new file lacks what was amended
    (tmp_path / "out/words.txt").write_text("somebody else's")
    assert work.run() == ["words", "amending"]
