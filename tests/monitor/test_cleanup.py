"""A cleanup deletes old checkpoints and never the best, the last, or anything the pipeline did not write."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_folder import START, add_checkpoint

from xtts_ka.core.files import write_json
from xtts_ka.monitor.cleanup import plan
from xtts_ka.training.checkpoint_folders import delete_folder


@pytest.fixture
def folder(tmp_path):
    """Six checkpoints: 1500 is the best, 3000 the last."""
    folder = tmp_path / "checkpoints"
    for step, val in ((500, 3.9), (1000, 3.4), (1500, 3.1), (2000, 3.25), (2500, 3.2), (3000, None)):
        add_checkpoint(folder, step, val)
    return folder


def clean(folder, keep=2, **options):
    """Delete what is planned; returns the reasons of what is left alone."""
    items = plan(folder, keep, **options)
    doomed = [item for item in items if item.action == "delete"]
    assert all(delete_folder(item.path) for item in doomed)
    return {item.path.name: item.why for item in items if item.action == "leave"}


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_foreign_content_is_left_alone_and_named(folder, tmp_path):
    add_checkpoint(folder, 700, 3.6)
    (folder / ".step_00003500.77.partial").mkdir()  # being written
    (folder / "step_00000100").mkdir()  # no manifest
    (folder / "step_00000100/model.safetensors").write_bytes(b"mine")
    (folder / "step_00000500/notes.txt").write_text("mine too")
    write_json(add_checkpoint(folder, 200, 9.0) / "manifest.json", {"schema": 99, "step": 200, "files": {}})
    outside = add_checkpoint(tmp_path / "elsewhere", 300, 9.0)
    (folder / "step_00000300").symlink_to(outside)
    os.symlink(outside / "state.json", folder / "step_00001000/link")
    moved = tmp_path / "optimizer.pt"  # kept elsewhere by the user, with a link in its place
    (folder / "step_00000700/optimizer.pt").rename(moved)
    (folder / "step_00000700/optimizer.pt").symlink_to(moved)
    (folder / "backup").mkdir()
    (folder / "readme.txt").write_text("mine as well")
    add_checkpoint(folder, 9000, 0.5, run_id="another", time=START - 5)
    before = {*names(folder)}
    left = clean(folder)
    assert {*names(folder)} == before - {"step_00002000"} and (outside / "model.safetensors").exists()
    steps = (100, 200, 300, 500, 700, 1000, 9000)
    assert left.keys() == {f"step_{step:08d}" for step in steps} | {".step_00003500.77.partial", "backup", "readme.txt"}


def test_damaged_checkpoints_are_deleted_only_beside_a_valid_one(folder):
    for path in folder.glob("step_*/optimizer.pt"):
        path.write_bytes(b"damaged")
    clean(folder)
    assert len(names(folder)) == 6
    add_checkpoint(folder, 3500, 3.0)
    clean(folder)
    assert names(folder) == ["step_00003500"]


def test_replaced_runs_are_deleted_only_when_asked_for(folder):
    add_checkpoint(folder / "superseded_1", 700, 0.1)
    add_checkpoint(folder / "superseded_2", 800, 0.1)
    (folder / "superseded_2/mine.txt").write_text("mine")
    (folder / "superseded_3").symlink_to(folder / "superseded_1")
    assert "add --superseded to delete it" in clean(folder)["superseded_1"]
    assert (folder / "superseded_1").exists()
    left = clean(folder, superseded=True)
    assert not (folder / "superseded_1").exists()
    assert (folder / "superseded_2/step_00000800").exists()
    assert left["superseded_2"].startswith("it holds mine.txt")
    assert left["superseded_3"] == "it is a link"


@given(data=st.data())
def test_best_last_and_newest_are_never_deleted(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz") / "checkpoints"
    steps = data.draw(st.lists(st.integers(1, 50), unique=True, max_size=7))
    runs = {}
    for i, step in enumerate(sorted(steps)):
        val = data.draw(st.none() | st.floats(0, 5))
        target = add_checkpoint(folder, step, val, time=START + i, size=64)
        if damaged := data.draw(st.booleans()):
            (target / data.draw(st.sampled_from(["model.safetensors", "state.json", "optimizer.pt"]))).unlink()
        runs[step] = (val, not damaged)
    keep = data.draw(st.integers(1, 4))
    clean(folder, keep)
    left = {int(name[5:]) for name in names(folder)} if steps else set()
    valid = sorted(s for s in runs if runs[s][1])
    scored = [s for s in valid if runs[s][0] is not None]
    must = {*valid[-keep:], *([min(scored, key=lambda s: (runs[s][0], s))] if scored else [])}
    assert left == (must if valid else set(runs))


def test_the_checkpoint_that_was_exported_by_cer_is_kept(folder):
    (kept,) = [item for item in plan(folder, 2, chosen=1000) if item.path.name == "step_00001000"]
    assert kept.action == "keep" and kept.why == "exported by CER"
    clean(folder, chosen=1000)
    assert names(folder) == ["step_00001000", "step_00001500", "step_00002500", "step_00003000"]
