"""Checkpoints come back as saved; damaged ones and those of other runs are never carried on from."""

import json
import shutil

import pytest
import torch

from xtts_ka.core.digests import write_manifest
from xtts_ka.core.errors import UserError
from xtts_ka.training import checkpoint_manager
from xtts_ka.training.checkpoint_manager import CheckpointManager


def save(manager, step, val_loss=None, value=None):
    weights = {"model": {"w": torch.full((3,), float(step if value is None else value))}}
    manager.save(step, weights, {"state": {0: {"exp_avg": torch.ones(2)}}}, {"step": step}, {"seed": 1}, val_loss)
    manager.wait()


def steps(folder):
    return sorted(int(f.name.split("_")[1]) for f in folder.glob("step_*"))


def test_a_checkpoint_is_read_back_as_saved(tmp_path):
    manager = CheckpointManager(tmp_path, "run")
    save(manager, 5, 1.25)
    last = manager.last()
    assert (last.step, last.val_loss, last.run_id) == (5, 1.25, "run")
    assert last.weights()["w"].tolist() == [5.0] * 3
    assert last.optimizer()["state"][0]["exp_avg"].tolist() == [1.0, 1.0]
    assert last.state() == {"step": 5}
    assert json.loads((last.folder / "config.json").read_text()) == {"seed": 1}


def test_changes_after_save_do_not_reach_the_file(tmp_path):
    manager = CheckpointManager(tmp_path, "run")
    weight = torch.zeros(1000)
    manager.save(1, {"model": {"w": weight}}, {}, {}, {}, None)
    weight += 1
    manager.wait()
    assert manager.last().weights()["w"].sum() == 0


def test_the_reused_memory_does_not_mix_saves(tmp_path):
    manager = CheckpointManager(tmp_path, "run", keep=3)
    saved = {1: torch.randn(3, 50_000), 2: torch.randn(3, 50_000), 3: torch.randn(3, 50_000)}
    for step, weight in saved.items():
        optimizer = {
            "state": {"w": {"step": torch.tensor(float(step)), "exp_avg": -weight}},
            "param_groups": [{"betas": (0.9, 0.96)}],
        }
        manager.save(step, {"model": {"w": weight}, "ema": {"w": 2 * weight}}, optimizer, {}, {}, None)
    manager.wait()
    for checkpoint, weight in zip(manager.checkpoints(), saved.values(), strict=True):
        optimizer = checkpoint.optimizer()
        assert torch.equal(checkpoint.weights()["w"], weight) and torch.equal(
            checkpoint.weights("ema")["w"], 2 * weight
        )
        assert (
            torch.equal(optimizer["state"]["w"]["exp_avg"], -weight)
            and optimizer["state"]["w"]["step"] == checkpoint.step
        )
        assert optimizer["param_groups"] == [{"betas": (0.9, 0.96)}]


def test_best_and_newest_are_kept(tmp_path):
    manager = CheckpointManager(tmp_path, "run", keep=2)
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, None), (5, 2.5)):
        save(manager, step, loss)
    assert steps(tmp_path) == [2, 4, 5]
    assert manager.best().step == 2 and manager.last().step == 5


def test_old_checkpoints_left_by_a_kill_are_deleted_with_the_next_save(tmp_path):
    manager = CheckpointManager(tmp_path / "run", "run", keep=2)
    save(manager, 1)
    shutil.copytree(manager.last().folder, tmp_path / "aside")
    save(manager, 2)
    save(manager, 3)
    (tmp_path / "aside").rename(tmp_path / "run/step_00000001")  # as if killed right before
    save(CheckpointManager(tmp_path / "run", "run", keep=2), 4)
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["step_00000003", "step_00000004"]


def test_at_least_two_are_kept(tmp_path):
    manager = CheckpointManager(tmp_path, "run", keep=1)
    for step in range(4):
        save(manager, step)
    assert steps(tmp_path) == [2, 3]


def test_a_checkpoint_that_is_a_link_is_not_deleted(tmp_path):
    manager = CheckpointManager(tmp_path / "run", "run", keep=2)
    save(manager, 1)
    manager.last().folder.rename(tmp_path / "kept elsewhere")
    (tmp_path / "run/step_00000001").symlink_to(tmp_path / "kept elsewhere")
    for step in (2, 3, 4):
        save(manager, step)
    assert steps(tmp_path / "run") == [1, 3, 4] and (tmp_path / "kept elsewhere/state.json").is_file()


@pytest.mark.parametrize("name, content", [("state.json", b"[]"), ("model.safetensors", b"no weights")])
def test_a_file_that_was_written_wrongly_is_named_with_a_remedy(tmp_path, name, content):
    """The manifest's hashes hold."""
    manager = CheckpointManager(tmp_path, "run")
    save(manager, 1)
    folder = manager.last().folder
    (folder / name).write_bytes(content)
    facts = json.loads((folder / "manifest.json").read_text())
    del facts["checksum"]
    write_manifest(folder, facts)
    checkpoint = manager.last()
    assert checkpoint.has("model") and not checkpoint.has("ema")
    with pytest.raises(UserError, match="step_00000001.*move this checkpoint folder away"):
        checkpoint.state() if name == "state.json" else checkpoint.weights()


def damage_truncate(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def damage_flip(folder):
    file = folder / "optimizer.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def damage_manifest(folder):
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize("damage", [damage_truncate, damage_flip, damage_manifest])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, capsys, damage):
    manager = CheckpointManager(tmp_path, "run")
    save(manager, 1)
    save(manager, 2)
    damage(tmp_path / "step_00000002")
    assert manager.last().step == 1
    assert "step_00000002" in capsys.readouterr().err
    save(manager, 2, value=7)  # training comes by again and replaces it
    assert manager.last().weights()["w"].tolist() == [7.0] * 3


def test_runs_that_cannot_be_continued_are_set_aside_not_deleted(tmp_path):
    save(CheckpointManager(tmp_path, "old"), 3)
    manager = CheckpointManager(tmp_path, "new")
    assert manager.last() is None
    manager.set_aside_others()
    save(manager, 1)
    assert steps(tmp_path) == [1] and steps(tmp_path / "superseded_1") == [3]
    manager.set_aside_others(everything=True)
    assert steps(tmp_path) == [] and steps(tmp_path / "superseded_2") == [1]


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "step_mine").mkdir()
    manager = CheckpointManager(tmp_path, "run")
    manager.set_aside_others(everything=True)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["notes", "step_mine"]


def test_a_checkpoint_of_another_version_is_passed_over(tmp_path, capsys):
    manager = CheckpointManager(tmp_path, "run")
    save(manager, 1)
    save(manager, 2)
    facts = json.loads((tmp_path / "step_00000002/manifest.json").read_text())
    write_manifest(
        tmp_path / "step_00000002", {"schema": 1, **{key: facts[key] for key in ("step", "run_id", "val_loss")}}
    )
    assert manager.last().step == 1
    assert "step_00000002 is passed over: it has schema 1" in capsys.readouterr().err


def test_a_failed_write_is_raised_and_leaves_nothing(tmp_path, monkeypatch):
    from xtts_ka.training import checkpoint_manager

    def full(*_):
        raise OSError(28, "No space left on device", "optimizer.pt")

    manager = CheckpointManager(tmp_path, "run")
    save(manager, 1)
    monkeypatch.setattr(checkpoint_manager, "save_torch", full)
    manager.save(2, {"model": {"w": torch.zeros(1)}}, {}, {}, {}, None)
    with pytest.raises(OSError, match="No space left"):
        manager.wait()
    assert [f.name for f in tmp_path.iterdir()] == ["step_00000001"]


def test_losses_that_were_measured_in_different_ways_are_not_compared(tmp_path, monkeypatch):
    """A run of an earlier version that is carried on; its validation heard the clips themselves."""
    manager = CheckpointManager(tmp_path, "run")
    with monkeypatch.context() as then:
        then.setattr(checkpoint_manager, "VALIDATION", 1)
        for step, loss in ((1, 2.5), (2, 2.0)):
            save(manager, step, loss)
            manager.close()
    assert manager.best().step == 2
    for step, loss in ((3, 3.5), (4, 3.75)):
        save(manager, step, loss)
        manager.close()
    assert manager.best().step == 3
