"""Which checkpoint folders are valid, and which of them are of this run, the best and the last."""

import json

import pytest
from run_folder import START, add_checkpoint

from xtts_ka.core.digests import write_manifest
from xtts_ka.training.checkpoint_folders import delete_folder, read_checkpoints


def test_best_and_last_are_sought_in_the_newest_run(tmp_path):
    add_checkpoint(tmp_path, 9000, 1.0, run_id="old", time=START)
    add_checkpoint(tmp_path, 500, 3.0, run_id="new", time=START + 10)
    add_checkpoint(tmp_path, 1000, None, run_id="new", time=START + 20)
    marks = {c.step: (c.best, c.last, c.of_this_run) for c in read_checkpoints(tmp_path)}
    assert marks == {500: (True, False, True), 1000: (False, True, True), 9000: (False, False, False)}


def test_a_folder_that_is_missing_or_empty_has_no_checkpoints(tmp_path):
    assert read_checkpoints(tmp_path / "none") == read_checkpoints(tmp_path) == []


def test_names_that_are_not_ours_are_no_checkpoints(tmp_path):
    for name in ("step_5", "step_000000500", ".step_00000500.7.partial", "superseded_1"):
        (tmp_path / name).mkdir()
    (tmp_path / "step_00000500").write_text("a file")
    assert read_checkpoints(tmp_path) == []


def rewritten(folder, **facts):
    manifest = json.loads((folder / "manifest.json").read_text())
    write_manifest(
        folder, {**{key: manifest[key] for key in ("schema", "step", "run_id", "val_loss", "time")}, **facts}
    )


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"schema": 1}, "it has schema 1, not 2"),
        ({"step": 600}, "manifest.json is that of another step"),
        ({"val_loss": "low"}, ""),
    ],
)
def test_the_manifest_must_fit(tmp_path, facts, problem):
    rewritten(add_checkpoint(tmp_path, 500, 3.0), **facts)
    (found,) = read_checkpoints(tmp_path)
    assert found.problem == problem and found.last == (not problem)
    if not problem:
        assert found.val_loss is None


def test_hashes_are_compared_only_when_asked_for(tmp_path):
    folder = add_checkpoint(tmp_path, 500, 3.0)
    (folder / "optimizer.pt").write_bytes(b"x" * 100)
    assert read_checkpoints(tmp_path)[0].problem == ""
    (found,) = read_checkpoints(tmp_path, hashes=True)
    assert found.problem == "optimizer.pt does not match its checksum" and "optimizer.pt" in found.files


def test_a_link_to_a_checkpoint_is_a_checkpoint(tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here/step_00000500").symlink_to(add_checkpoint(tmp_path / "there", 500, 3.0))
    assert [c.problem for c in read_checkpoints(tmp_path / "here")] == [""]


def test_a_deleted_folder_is_gone_and_a_missing_one_is_no_error(tmp_path):
    folder = add_checkpoint(tmp_path, 500)
    assert delete_folder(folder) and list(tmp_path.iterdir()) == [] and not delete_folder(folder)
