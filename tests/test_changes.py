"""What was edited between two runs, or during one: the pipeline runs again what depends on it, and nothing else.

One training of a tiny model on the tests' own recordings serves the whole file. Tests that only ask what would run do so in
its folder, and put back what they edited; tests that run something work on a copy.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile

import checkpoint_monitor
import run_pretrain
import starter_kit
import tiny

ROOT = Path(__file__).parents[1]
STAGES = run_pretrain.STAGE_NAMES
SETTINGS = {
    "device": "cpu", "batch_size": 4, "max_steps": 6, "checkpoint_interval": 2, "learning_rate": 1e-3, "text": {"new_tokens": 60},
    "phonemes": {"max_epochs": 1, "dim": 32}, "language_model": {"max_epochs": 1, "dim": 32, "layers": 1},
    "training": {"log_interval": 1, "validation_interval": 3, "conditioning_seconds": [0.5, 1.0]}}


def write_config(folder: Path, **changes) -> Path:
    """The tests' settings with `changes`; a section's changes are laid over the section."""
    merged = SETTINGS | {key: SETTINGS[key] | value if isinstance(value, dict) and key in SETTINGS else value
                         for key, value in changes.items()}
    path = folder / "config.json"
    path.write_text(json.dumps(merged), "utf-8")
    return path


@dataclass
class Outcome:
    code: int
    out: str
    err: str


def driver(config: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(ROOT / "run_pretrain.py"), "--config", str(config)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def outcome(process: subprocess.Popen) -> Outcome:
    out, err = process.communicate(timeout=300)
    return Outcome(process.returncode, out, err)


def here(main, *flags: str) -> Outcome:
    """What a script's `main` says in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(list(flags))
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A project run to its end, and what other commands said while its driver was at work."""
    folder = tmp_path_factory.mktemp("project")
    recordings = tiny.write_recordings(folder / "wavs")
    tiny.write_data(folder / "data", recordings)
    base = tiny.write_base_model(folder / "models/base_xtts_v2", recordings)
    (base / starter_kit.MARK).unlink()  # else the starter's training length would stand in for the config's
    config = write_config(folder)
    running = driver(config)
    try:
        seen = ""
        while "voices are computed from the recordings" not in seen:  # the embeddings stage says so when it is under way
            line = running.stdout.readline()
            assert line, running.stderr.read()
            seen += line
        os.kill(running.pid, signal.SIGSTOP)  # so that it is surely at work while the others look
        beside = {"second": outcome(driver(config)),
                  "listing": here(run_pretrain.main, "--config", str(config), "--dry-run"),
                  "monitor": here(checkpoint_monitor.main, "--config", str(config), "--json")}
    finally:
        os.kill(running.pid, signal.SIGCONT)
    end = outcome(running)
    assert end.code == 0, end.err
    return folder, running.pid, beside, seen + end.out


@pytest.fixture
def project(first, tmp_path):
    """A copy of the finished project; models and checkpoints, which are only ever replaced, are hard links."""
    for name, copy in (("wavs", shutil.copy2), ("data", shutil.copy2), ("logs", shutil.copy2), ("models", os.link),
                       ("checkpoints", os.link)):
        shutil.copytree(first[0] / name, tmp_path / name, copy_function=copy)
    write_config(tmp_path)
    return tmp_path


def run(folder: Path, *flags: str, **changes) -> Outcome:
    return here(run_pretrain.main, "--config", str(write_config(folder, **changes)), *flags)


def reasons(folder: Path, **changes) -> dict[str, str]:
    """Stage → why it would run, for those that would; nothing is written."""
    listing = run(folder, "--dry-run", **changes)
    assert listing.code == 0, listing.err
    rows = [line.split(maxsplit=2) for line in listing.out.splitlines()]
    assert [row[0] for row in rows] == list(STAGES)
    return {name: reason for name, verdict, reason in rows if verdict == "runs"}


def steps(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def trained(folder: Path) -> list[int]:
    """The steps in the log since the last start."""
    lines = [json.loads(line) for line in (folder / "logs/metrics.jsonl").read_text("utf-8").splitlines()]
    begin = max(at for at, line in enumerate(lines) if line.get("event") == "start")
    return [line["step"] for line in lines[begin:] if line.get("split") == "train"]


# ── two drivers ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_driver_names_the_first_and_leaves(first):
    _, pid, beside, out = first
    second = beside["second"]
    assert second.code == 2 and second.out == "" and second.err.startswith("error: another run holds ")
    assert f"pid {pid} on {os.uname().nodename}, since 20" in second.err and len(second.err.splitlines()) == 1
    assert all(f"── {name}:" in out for name in STAGES)  # and the first was not disturbed


def test_looking_is_possible_beside_a_running_driver(first):
    _, pid, beside, _ = first
    listing = beside["listing"]
    assert listing.code == 0, listing.err
    assert f"is running now (pid {pid})" in listing.out.splitlines()[0]
    assert beside["monitor"].code == 0 and json.loads(beside["monitor"].out)["stages"]


# ── edited between two runs ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_finished_project_and_its_copy_are_up_to_date(first, project):
    assert reasons(first[0]) == reasons(project) == {}


@pytest.mark.parametrize("changes", [
    {"log_dir": "elsewhere"}, {"device": "auto"}, {"checkpoint_interval": 1}, {"monitor": {"keep": 7}}, {"starter": {"clips": 99}},
    *({"training": {key: value}} for key, value in {
        "log_interval": 5, "validation_interval": 2, "keep_checkpoints": 9, "checkpoint_minutes": 1.5, "max_bad_steps": 2,
        "gradient_checkpointing": True, "compile": True, "sharding": True}.items())], ids=str)
def test_keys_that_do_not_change_the_model_run_nothing(first, changes):
    assert reasons(first[0], **changes) == {}


@pytest.mark.parametrize("changes, expected", [
    ({"learning_rate": 2e-3}, {"full_pretrain": "learning_rate 0.001 → 0.002"}),
    ({"training": {"dropout": 0.2}}, {"full_pretrain": "training.dropout 0.1 → 0.2"}),
    ({"max_steps": 8}, {"full_pretrain": "max_steps 6 → 8"}),
    ({"phonemes": {"level": "narrow"}}, {"phonemes": "phonemes.level broad → narrow", "full_pretrain": "phonemes runs again"}),
    ({"xtts_init": {"method": "random"}}, {"xtts_init": "xtts_init.method mean → random", "full_pretrain": "xtts_init runs again"}),
    ({"text": {"new_tokens": 50}}, {"language": "text.new_tokens 60 → 50", "xtts_init": "language runs again",
                                    "full_pretrain": "language runs again"}),
], ids=lambda value: str(value)[:40])
def test_a_changed_key_runs_what_reads_it(first, changes, expected):
    assert reasons(first[0], **changes) == expected


@contextlib.contextmanager
def put_back(path: Path):
    """Whatever happens to the file inside, it is as before afterwards, its date too."""
    content, status = path.read_bytes(), path.stat()
    try:
        yield
    finally:
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def touch(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def revoice(path: Path) -> None:
    """Other samples, of the same length, in a recording; it gets a new date."""
    samples, rate = soundfile.read(path, dtype="float32")
    soundfile.write(path, samples[::-1] * 0.9, rate)
    touch(path)


def reword(path: Path) -> None:
    path.write_text(path.read_text("utf-8").replace("კატას რძე უყვარს.", "კატას თევზი უყვარს."), "utf-8")


def rename_a_token(path: Path) -> None:
    content = json.loads(path.read_text("utf-8"))
    content["model"]["vocab"]["ʒ"] = content["model"]["vocab"].pop("я")
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def resave(path: Path) -> None:
    """Another value in a torch file of one tensor, or of a dictionary of tensors."""
    import torch

    content = torch.load(path, weights_only=True)
    weights = content.get("model", content) if isinstance(content, dict) else {"": content}
    next(tensor for tensor in weights.values() if tensor.is_floating_point()).mul_(1.001)
    torch.save(content, path)


@pytest.mark.parametrize("name, edit, stages", [
    ("wavs/clip03.wav", revoice, "embeddings full_pretrain"),
    ("data/split/train/train_metadata.csv", reword, "embeddings phonemes language xtts_init full_pretrain"),
    ("models/base_xtts_v2/vocab.json", rename_a_token, "language xtts_init full_pretrain"),
    ("models/base_xtts_v2/model.pth", resave, "embeddings xtts_init full_pretrain"),
    ("models/base_xtts_v2/dvae.pth", resave, "full_pretrain"),
    ("models/base_xtts_v2/mel_stats.pth", resave, "full_pretrain"),
], ids=str)
def test_an_edited_file_runs_what_reads_it(first, name, edit, stages):
    path = first[0] / name
    with put_back(path):
        edit(path)
        found = reasons(first[0])
    assert list(found) == stages.split()
    kind = {"wavs": "recordings", "data": "train metadata", "models": f"base model {path.name}"}[name.split("/")[0]]
    assert found[stages.split()[0]].startswith(f"{kind} changed (")


def test_an_equal_size_with_the_old_date_is_the_documented_blind_spot(first):
    """Recordings are known by name, size and date (`artifacts.hash_listing`): a million of them cannot be hashed each time."""
    path = first[0] / "wavs/clip03.wav"
    before = path.stat()
    with put_back(path):
        revoice(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size and reasons(first[0]) == {}


# ── and then run ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_more_steps_carry_on_and_an_edit_meanwhile_is_noticed_and_trained_anew(project, monkeypatch):
    from data_loader import DataManager

    describe = DataManager.describe

    def edited_meanwhile(self):
        revoice(project / "wavs/clip03.wav")
        return describe(self)

    monkeypatch.setattr(DataManager, "describe", edited_meanwhile)
    longer = run(project, max_steps=8, checkpoint_interval=2)
    monkeypatch.undo()
    assert longer.code == 0, longer.err
    assert "full_pretrain: max_steps 6 → 8" in longer.out and "carrying on from step 6" in longer.out
    assert trained(project) == [7, 8]
    assert "recordings changed while stage full_pretrain was running: the next run will run it again" in longer.err
    assert "step_00000008" in steps(project)
    again = run(project, max_steps=8)
    assert again.code == 0, again.err
    for stage, reason in (("embeddings", "recordings changed ("), ("phonemes", "up to date"), ("language", "up to date"),
                          ("xtts_init", "up to date"), ("full_pretrain", "recordings was edited while its stage ran")):
        assert f"── {stage}: {reason}" in again.out, stage
    assert trained(project) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert "superseded_1" in steps(project)
    assert reasons(project, max_steps=8) == {}


def test_other_settings_train_a_finished_model_anew_even_after_a_kill(project, monkeypatch):
    from pretrain_xtts_model import XTTSPretrainer

    def interrupted(self):
        raise KeyboardInterrupt

    kept = [name for name in steps(project) if name.startswith("step_")]
    with monkeypatch.context() as killed:
        killed.setattr(XTTSPretrainer, "run", interrupted)
        assert run(project, learning_rate=5e-4).code == 130
    assert sorted(path.name for path in (project / "checkpoints/superseded_1").iterdir()) == kept
    result = run(project, learning_rate=5e-4)
    assert result.code == 0, result.err
    assert trained(project) == [1, 2, 3, 4, 5, 6] and "superseded_2" not in steps(project)


def test_a_stage_that_only_the_export_reads_does_not_train_anew(project):
    result = run(project, phonemes={"level": "narrow"})
    assert result.code == 0, result.err
    assert "phonemes: phonemes.level broad → narrow" in result.out and "nothing left to train: step 6 of 6" in result.out
    assert trained(project) == [] and not any("superseded" in name for name in steps(project))


def test_a_proof_that_fails_is_our_failure_and_writes_nothing(project, monkeypatch):
    import token_init

    before = (project / "models/xtts_v2_ka/xtts_init_results.pkl").stat().st_ino
    for change in (1.0, float("nan")):
        monkeypatch.setattr(token_init, "old_logits_change", lambda *_, change=change: {"old_logits_max_change": change})
        result = run(project, "--only", "xtts_init")
        assert result.code == 1 and result.err.count("error:") == 1 and "must not happen" in result.err
    assert (project / "models/xtts_v2_ka/xtts_init_results.pkl").stat().st_ino == before
