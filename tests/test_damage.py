"""Damaged files: whatever the pipeline wrote, truncated, zeroed or with one bit flipped, is found and named, and made
again, or the checkpoint before it is used.

Flipped bits in the stage record and random damage to the feature cache are tested in core/test_stage_ledger.py and
training/test_feature_cache.py. A changed digit in a line of metrics.jsonl is not noticed.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pipeline_run import MODEL_FILES, run_here, statuses

import synthesize
from pretrain_xtts_model import PretrainPipeline
from xtts_ka.core.config import load_config
from xtts_ka.core.digests import read_manifest
from xtts_ka.core.errors import UserError
from xtts_ka.model.checkpoint import read_config, read_model
from xtts_ka.model.features import FeatureExtractor
from xtts_ka.training.checkpoint_folders import read_checkpoints
from xtts_ka.training.checkpoint_manager import CheckpointManager

OUTPUTS = sorted({*MODEL_FILES, "speakers_base.pth", "g2p_mistakes.tsv", "REPORT.md"} - {"pretrain_progress.json"})
SPEECH_FILES = "xtts_v2_ka_config.json config.json vocab.json speakers_xtts.pth model.pth".split()
CHECKPOINT = ("model.safetensors", "optimizer.pt", "state.json", "config.json", "manifest.json")


def truncated(data: bytearray) -> bytearray:
    return data[: len(data) // 2]


def zeroed(data: bytearray) -> bytearray:
    return bytearray(len(data))


def zeroed_at_the_end(data: bytearray) -> bytearray:
    """As a file that was never flushed looks after a power cut."""
    rest = min(4096, len(data) // 2)
    return data[:-rest] + bytes(rest)


def flipped(data: bytearray) -> bytearray:
    data[len(data) // 2] ^= 4
    return data


DAMAGE = (truncated, zeroed, zeroed_at_the_end, flipped)
every_damage = pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
LARGE = ("dvae.pth", "model.pth", "xtts_v2_ka_combined.pkl")  # 100 MB each: tested with two kinds of damage only


def cases(*names: str) -> list:
    """Every file with every kind of damage that it is tested with."""
    return [
        pytest.param(name, damage, id=f"{name}-{damage.__name__}")
        for name in names
        for damage in ((truncated, flipped) if name in LARGE else DAMAGE)
    ]


def spoil(file: Path, damage) -> None:
    """Damage a file, its date left as it was."""
    status, whole = file.stat(), file.read_bytes()
    data = damage(bytearray(whole))
    assert data != whole
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextlib.contextmanager
def spoilt(file: Path, damage, aside: Path) -> Iterator[None]:
    """A file is damaged for a while; the whole one waits in the folder `aside`."""
    whole = aside / file.name
    shutil.move(file, whole)
    shutil.copy2(whole, file)
    try:
        spoil(file, damage)
        yield
    finally:
        os.replace(whole, file)


def plan(config_path: Path) -> dict[str, str]:
    """Stage → why it would run, for those that would."""
    pipeline = PretrainPipeline(load_config(config_path))
    return {decision.stage.name: decision.reason for decision in pipeline.ledger.plan() if decision.run}


@pytest.fixture
def model(finished) -> Path:
    return finished[0].parent / "models/xtts_v2_ka"


@pytest.fixture
def expendable(finished, tmp_path) -> Iterator[Path]:
    """The finished run's config, in its own place (its path is in its files); afterwards everything is as it was."""
    root = finished[0].parent
    shutil.copytree(root, tmp_path / "whole")
    try:
        yield finished[0]
    finally:
        shutil.rmtree(root)
        shutil.move(tmp_path / "whole", root)


# ── what the stages wrote ──


def test_every_file_of_the_model_is_on_record(finished, model):
    assert {file.name for file in model.iterdir()} == {
        *OUTPUTS,
        "pretrain.lock",
        "pretrain_progress.json",
        "resolved_config.json",
    }
    assert plan(finished[0]) == {}


@pytest.mark.parametrize("name, damage", cases(*OUTPUTS))
def test_a_damaged_artifact_is_named_and_its_stage_runs_again(finished, model, tmp_path, name, damage):
    owner = next(
        stage.name
        for stage in PretrainPipeline(load_config(finished[0])).ledger.stages
        if model / name in stage.outputs()
    )
    with spoilt(model / name, damage, tmp_path):
        reasons = plan(finished[0])
    assert reasons.pop(owner) == f"output {name} was altered"
    assert all(reason.endswith(" runs again") for reason in reasons.values())


@pytest.mark.parametrize("damage", [truncated, flipped], ids=["truncated", "flipped"])
@pytest.mark.parametrize("name", SPEECH_FILES)
def test_a_damaged_model_does_not_speak(finished, model, tmp_path, capsys, name, damage):
    with spoilt(model / name, damage, tmp_path):
        code = synthesize.main(["--config", str(finished[0]), "--text", "დილა", "--output", str(tmp_path / "a.wav")])
    assert code == 2 and not (tmp_path / "a.wav").exists()
    assert f"{model / name} is not as its stage wrote it" in capsys.readouterr().err


# ── the user's base model ──


@pytest.mark.parametrize("name, damage", cases("model.pth", "dvae.pth", "mel_stats.pth", "config.json", "vocab.json"))
def test_a_damaged_base_model_is_named_and_its_weights_refused(finished, tmp_path, name, damage):
    folder = finished[0].parent / "models/base_xtts_v2"
    with spoilt(folder / name, damage, tmp_path):
        reasons = plan(finished[0])
        assert any(reason.startswith(f"base model {name} changed (") for reason in reasons.values())
        if name.endswith(".pth"):  # in text, a flipped bit may make another good word
            with pytest.raises(UserError, match=f"{name} .*remove the folder .*starter mode") as refusal:
                read_model(folder)
                FeatureExtractor(folder, read_config(folder))
            assert "\n" not in str(refusal.value)


# ── checkpoints ──


@every_damage
@pytest.mark.parametrize("name", CHECKPOINT)
def test_the_checkpoint_before_a_damaged_one_is_used(finished, tmp_path, capsys, name, damage):
    folder = finished[0].parent / "checkpoints"
    before, last = sorted(folder.iterdir())
    manager = CheckpointManager(folder, read_manifest(last)[0]["run_id"])
    with spoilt(last / name, damage, tmp_path):
        assert manager.last().folder == before and manager.best().folder == before
        listed = {checkpoint.folder: not checkpoint.problem for checkpoint in read_checkpoints(folder, hashes=True)}
    warning = capsys.readouterr().err
    assert f"checkpoint {last} is passed over: {name} " in warning
    assert listed == {before: True, last: False}
    assert manager.last().folder == last


# ── carrying on ──


def artifacts_of(config: Path) -> dict[str, bytes]:
    return {name: (config.parent / "models/xtts_v2_ka" / name).read_bytes() for name in OUTPUTS}


def differing(config: Path, before: dict[str, bytes]) -> list[str]:
    return [name for name, data in artifacts_of(config).items() if data != before[name]]


def test_training_carries_on_around_damage(expendable):
    """Damage to the newest checkpoint, the model and a validation clip's features: a sentence, then the same model."""
    root, before = expendable.parent, artifacts_of(expendable)
    last = max((root / "checkpoints").iterdir())
    spoil(last / "optimizer.pt", flipped)
    spoil(root / "models/xtts_v2_ka/model.pth", truncated)
    cache = next((root / "data/features").glob("*/mels.bin")).parent
    heard = int(np.load(next(cache.glob("index_val_*/records.npy")))["mel_at"][0])
    spoil(cache / "mels.bin", lambda data: data[:heard] + bytes(4096) + data[heard + 4096 :])

    failed = run_here(expendable)
    assert failed.returncode == 1 and "Traceback" not in failed.stderr and failed.stderr.count("error: ") == 1
    assert "feature cache" in failed.stderr and "the same command" in failed.stderr
    assert statuses(expendable)["full_pretrain"] == "failed"
    done = run_here(expendable)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"checkpoint {last} is passed over: optimizer.pt does not match" in failed.stderr
    assert "carrying on from step 16" in failed.stdout + done.stdout
    assert differing(expendable, before) == [] and plan(expendable) == {}


def test_everything_damaged_is_made_again(expendable):
    """Damage to the record, outputs, cache index, log, curves and a superseded checkpoint: one command repairs it."""
    root, before = expendable.parent, artifacts_of(expendable)
    model, logs = root / "models/xtts_v2_ka", root / "logs"
    shutil.copytree(root / "checkpoints/step_00000016", root / "checkpoints/superseded_1/step_00000016")
    for file in (
        model / "pretrain_progress.json",
        model / "resolved_config.json",
        *(model / name for name in OUTPUTS),
        next((root / "data/features").glob("*/index.bin")),
        next((logs / "tensorboard").iterdir()),
        root / "checkpoints/superseded_1/step_00000016/state.json",
    ):
        spoil(file, zeroed)
    spoil(logs / "metrics.jsonl", flipped)  # costs one line at most; a digit that became another is not noticed

    done = run_here(expendable)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is damaged: every stage will run again" in done.stderr and "pretrain_progress.damaged.json" in done.stderr
    assert "index.bin holds damaged" in done.stderr
    assert not any((model / "pretrain_progress.damaged.json").read_bytes())
    assert differing(expendable, before) == [] and plan(expendable) == {}
    assert json.loads((model / "resolved_config.json").read_text())["max_steps"] == 20
