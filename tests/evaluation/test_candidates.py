"""Which kept checkpoint is exported by CER."""

from pathlib import Path

import pytest
import tiny
import torch

from xtts_ka.evaluation.candidates import choose_by_cer
from xtts_ka.evaluation.samples import plan_samples
from xtts_ka.speech import lengths
from xtts_ka.training.checkpoint_manager import CheckpointManager


class Listener:
    """Hears what it is told to, in the order of the checkpoints."""

    name, facts = "a listener", {}

    def __init__(self, *answers):
        self.answers = list(answers)

    def hear(self, waves, rate):
        return self.answers.pop(0)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    world = tiny.build_world(tmp_path_factory.mktemp("candidates"))
    tiny.write_voices(world)
    state = world.model.gpt_state()
    manager = CheckpointManager(world.config.checkpoint_dir, "run")
    for step, loss in ((10, 2.0), (20, 3.0), (30, None)):
        weights = {name: tensor + 0.001 * step for name, tensor in state.items()}
        manager.save(step, {"model": weights}, {}, {}, {}, loss)
    manager.close()
    return world


@pytest.fixture(autouse=True)
def short_clips(monkeypatch):
    monkeypatch.setattr(lengths, "LIMIT_FACTOR", 0.1)
    monkeypatch.setattr(lengths, "LIMIT_SECONDS", 0.2)


def choose(world, listener):
    kept = CheckpointManager(world.config.checkpoint_dir, "run").checkpoints()
    return choose_by_cer(world.config, world.model, kept, listener, "cpu")


def forget(world) -> None:
    """What an earlier test has heard."""
    (Path(world.config.log_dir) / "candidates/heard.jsonl").unlink(missing_ok=True)


def test_the_lowest_cer_is_first_whatever_the_loss_and_an_interrupted_choice_carries_on(world, capsys):
    forget(world)
    right = [task.text.expected for task in plan_samples(world.config, 8, 2).tasks()]
    nothing, half = [""] * len(right), [text[: len(text) // 2] for text in right]
    assert len(right) == 4
    heard = choose(world, Listener(nothing, right, half))
    assert [candidate.checkpoint.step for candidate in heard] == [20, 30, 10]
    first, second, third = (candidate.facts() for candidate in heard)
    assert (first["cer"]["value"], third["cer"]["value"], first["val_loss"], second["val_loss"]) == (
        0.0,
        1.0,
        3.0,
        None,
    )
    assert 0.4 < second["cer"]["low"] <= second["cer"]["value"] <= second["cer"]["high"] < 0.6
    assert 0 <= first["fault_rate"] <= 1 and -1 <= first["similarity"] <= 1
    shown = capsys.readouterr().out
    assert "step 20: CER 0.0% (0.0% to 0.0%), validation loss 3.0000" in shown and "not validated" in shown
    clips = {file: file.stat().st_mtime_ns for file in Path(world.config.log_dir).glob("candidates/clips/*")}
    assert len(clips) == 3 * 4 * 2
    assert [candidate.facts() for candidate in choose(world, Listener())] == [first, second, third]  # nothing is heard
    assert {file: file.stat().st_mtime_ns for file in clips} == clips


def test_of_equals_the_lower_loss_is_first(world):
    forget(world)
    nothing = [""] * len(plan_samples(world.config, 8, 2).tasks())
    heard = choose(world, Listener(nothing, nothing, nothing))
    assert [candidate.checkpoint.step for candidate in heard] == [10, 20, 30]
