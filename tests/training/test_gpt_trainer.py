import dataclasses
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from copy import copy
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

import data_loader
from data_loader import ValidationSet
from xtts_ka.core.digests import write_manifest
from xtts_ka.core.errors import Interrupted, RunError
from xtts_ka.core.files import write_json
from xtts_ka.core.jsonl import read_jsonl
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.training import gpt_trainer
from xtts_ka.training.batch_plan import PLAN_VERSION
from xtts_ka.training.gpt_trainer import Progress


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny.build_world(tmp_path_factory.mktemp("trainer"))


@pytest.fixture
def clean(world):
    """The world without what earlier tests trained."""
    for folder in (world.config.checkpoint_dir, world.config.log_dir):
        shutil.rmtree(folder, ignore_errors=True)
    return world


def metrics(world):
    return list(read_jsonl(Path(world.config.log_dir) / "metrics.jsonl"))


def saved(world, step):
    """What a checkpoint holds, file by file; its manifest holds the time."""
    folder = Path(world.config.checkpoint_dir) / f"step_{step:08d}"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "manifest.json"}


def run(world, **changes):
    loop = world.loop(**changes)
    loop.start(loop.checkpoints.last())
    loop.fit()
    return loop


# ── training ──


def test_training_learns_and_logs(clean):
    run(clean, max_steps=24)
    train = [line for line in metrics(clean) if line.get("split") == "train"]
    assert [line["step"] for line in train] == list(range(1, 25))
    assert train[-1]["loss"] < train[0]["loss"] - 0.3
    assert all(
        math.isfinite(line[key])
        for line in train
        for key in ("loss", "loss_text", "loss_mel", "lr", "grad_norm", "audio_s_per_s", "data_wait_s", "time")
    )
    assert train[0]["loss"] == pytest.approx(0.01 * train[0]["loss_text"] + train[0]["loss_mel"])
    assert {line["step"] for line in metrics(clean) if line.get("split") == "val"} >= {4, 8, 24}


def test_validation_measures_all_clips_and_its_parts_whatever_the_batch_size(clean):
    """Two more clips of a speaker whom training does not hear, and one of an unknown speaker."""
    val = clean.data.val
    index = copy(val.index)
    index.speakers = np.array([0, 0])
    unseen = ValidationSet(index, val.cache, clean.data.train.index)
    unseen.heard[:], unseen.hears_others[:] = (True, False), True
    data = copy(clean.data)
    data.val = unseen
    world = dataclasses.replace(clean, data=data)
    loss = [world.loop(batch_size=size, seed=size).validate() for size in (1, 3)]
    first, second = [line for line in metrics(clean) if line.get("split") == "val"]
    assert loss[0] == pytest.approx(loss[1], rel=1e-6) and first["loss"] == loss[0]
    tokens = [len(index.text(clip)) + 1 for clip in range(2)]
    mean = (tokens[0] * first["heard_loss_text"] + tokens[1] * first["unseen_loss_text"]) / sum(tokens)
    assert first["loss_text"] == pytest.approx(mean) and first["heard_loss"] != first["unseen_loss"]
    assert first["unseen_loss"] == pytest.approx(0.01 * first["unseen_loss_text"] + first["unseen_loss_mel"])
    assert "own_loss" not in first and second.keys() == first.keys()


def test_validation_takes_every_batch(clean, monkeypatch):
    whole = clean.loop(log=False).validate()
    monkeypatch.setattr(data_loader, "VALIDATION_ROWS", 1)
    assert len(clean.data.val.batches()["heard"]) == 2
    assert clean.loop(log=False).validate() == pytest.approx(whole, rel=1e-6)


def test_each_step_line_says_how_long_training_will_still_take(clean, capsys):
    run(clean, max_steps=4)
    run(clean, max_steps=8)  # carried on: the pace is that of the new process
    lines = [line for line in capsys.readouterr().out.splitlines() if "  train  " in line]
    assert len(lines) == 8 and all(re.search(r"  left (\d+ min )?\d+ s$", line) for line in lines)
    assert lines[3].endswith("  left 0 s") and lines[7].endswith("  left 0 s")


def test_a_full_size_model_on_a_cpu_is_a_loud_warning_with_the_expected_time(clean, capsys, monkeypatch):
    run(clean, max_steps=4)
    assert "FULL-SIZE" not in capsys.readouterr().err  # a tiny model
    monkeypatch.setattr(gpt_trainer, "FULL_SIZE", 1000)
    loop = clean.loop(max_steps=1_000_004)
    loop.start(loop.checkpoints.last())
    said = re.search(r"A FULL-SIZE MODEL ON A CPU: expect about (\d+) d \d+ h of training", capsys.readouterr().err)
    batch = clean.data.typical_batch()
    seconds = 1_000_000 * clean.config.training.accumulation * batch.rows * batch.codes * 1024 / 22050 * 17 / 6
    assert said and int(said[1]) == int(seconds / 86400)
    loop = clean.loop(max_steps=4)
    loop.start(loop.checkpoints.last())
    assert "FULL-SIZE" not in capsys.readouterr().err  # nothing is left to train


def test_accumulated_small_batches_equal_one_large_batch(clean):
    """Two batches of an accumulated step and the same clips in one batch: same losses (dropout off)."""
    training = clean.config.training.model_copy(update={"dropout": 0.0, "accumulation": 2})
    loop = clean.loop(training=training, log=False)
    batches, used = next(loop._steps())
    assert used == 2
    sums = loop._backward(batches)
    model = loop.accelerator.unwrap_model(loop.model)
    separately = [model.eval()(batch) for batch in batches]
    assert sums[0].item() == pytest.approx(sum(text.item() for text, _ in separately), rel=1e-4)
    assert float(sums[3]) == sum(len(batch["audio_target"]) for batch in batches)


def test_a_step_that_is_not_finite_is_skipped_and_many_stop_the_run(clean):
    loop = clean.loop(log=False)
    loop.start(None)
    batches, _ = next(loop._steps())
    before = {name: p.detach().clone() for name, p in loop.model.named_parameters()}
    for batch in batches:
        batch["cond_mels"][:] = float("nan")
    for _ in range(4):
        loop._train_step(batches)
    assert loop.progress.skipped == 4
    assert all(torch.equal(before[name], p) for name, p in loop.model.named_parameters())
    with pytest.raises(RunError, match="lower learning_rate"):
        loop._train_step(batches)


def test_out_of_memory_cuts_batches_and_trains_the_same(clean, capsys):
    training = clean.config.training.model_copy(update={"dropout": 0.0})
    plain = run(clean, training=training, max_steps=4)
    expected = {name: p.detach().clone() for name, p in plain.model.named_parameters()}
    shutil.rmtree(clean.config.checkpoint_dir)
    loop = clean.loop(training=training, max_steps=4)
    loop.start(None)
    forward = loop.model.forward

    def too_small(batch):
        if loop.model.training and batch["shape"][0] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(batch)

    loop.model.forward = too_small
    loop.fit()
    assert loop.progress.parts > 1 and "out of GPU memory" in capsys.readouterr().err
    assert loop.checkpoints.last().state()["parts"] == loop.progress.parts
    for name, parameter in loop.model.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-3, atol=1e-4)


def test_out_of_memory_validates_smaller_batches_with_the_same_loss(clean, monkeypatch):
    loop, forward = clean.loop(log=False), CompactGPT.forward
    whole = loop.validate()

    def too_small(self, batch):
        if batch["shape"][0] > allowed:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, batch)

    monkeypatch.setattr(CompactGPT, "forward", too_small)
    allowed = 1
    assert loop.validate() == pytest.approx(whole, rel=1e-6)
    allowed = 0
    with pytest.raises(RunError, match="while a single clip is measured: close other programs .*, then run the same"):
        loop.validate()


def test_the_running_average_is_validated_saved_and_carried_on(clean):
    training = clean.config.training.model_copy(update={"ema_decay": 0.9})
    whole = run(clean, training=training, max_steps=8, checkpoint_interval=4)
    checkpoint = whole.checkpoints.last()
    averaged, live = checkpoint.weights("ema"), checkpoint.weights()
    assert any(not torch.equal(averaged[name], live[name]) for name in live)
    loop = clean.loop(training=training.model_copy(update={"ema_decay": 0.0}), log=False)
    loop.bare.gpt.load_state_dict(averaged)
    assert loop.validate() == pytest.approx(checkpoint.val_loss, rel=1e-5)

    shutil.rmtree(clean.config.checkpoint_dir)
    run(clean, training=training, max_steps=8, checkpoint_interval=4)  # the same run, stopped after half
    shutil.rmtree(Path(clean.config.checkpoint_dir) / "step_00000008")
    again = run(clean, training=training, max_steps=8, checkpoint_interval=4)
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in again.checkpoints.last().weights("ema").items())


def test_another_batch_size_goes_on_with_the_next_epoch(clean, capsys):
    run(clean, max_steps=3)
    data = copy(clean.data)
    data.budget *= 2
    loop = dataclasses.replace(clean, data=data).loop(max_steps=5)
    loop.start(loop.checkpoints.last())
    assert (loop.progress.step, loop.progress.epoch, loop.progress.offset) == (3, 1, 0)
    assert "planned anew" in capsys.readouterr().out
    loop.fit()


@pytest.mark.parametrize("plan", [{}, {"plan": PLAN_VERSION - 1}])
def test_a_checkpoint_of_an_older_plan_goes_on_with_the_next_epoch(clean, capsys, plan):
    """Its `offset` counts batches that are no longer planned; the oldest checkpoints do not name their plan at all."""
    folder = run(clean, max_steps=3).checkpoints.last().folder
    state, facts = (json.loads((folder / name).read_text()) for name in ("state.json", "manifest.json"))
    assert (state["epoch"], state["offset"], state.pop("plan")) == (0, 3, PLAN_VERSION)
    write_json(folder / "state.json", {**state, **plan})
    del facts["checksum"]
    write_manifest(folder, facts)
    loop = clean.loop(max_steps=5)
    loop.start(loop.checkpoints.last())
    progress = loop.progress
    assert (progress.step, progress.epoch, progress.offset, progress.plan) == (3, 1, 0, PLAN_VERSION)
    assert "training goes on with the next epoch, planned anew" in capsys.readouterr().out
    first, used = next(loop._steps())
    assert used == 1 and progress.epoch == 1
    planned = clean.data.train_batches(1)[0]
    assert first[0]["shape"][0] == len(planned.clips)
    loop.fit()
    assert loop.checkpoints.last().state()["plan"] == PLAN_VERSION


def test_a_record_of_too_little_memory_is_heeded_for_its_budget(clean):
    record = Path(clean.config.checkpoint_dir) / "memory.json"
    for budget, parts in ((clean.data.budget, 4), (clean.data.budget + 1, 1)):
        write_json(record, {"parts": 4, "budget": budget})
        loop = clean.loop(log=False)
        loop.start(None)
        assert loop.progress.parts == parts


# ── stopping and carrying on ──


@pytest.fixture(scope="module")
def undisturbed(world):
    """The last checkpoint of a run that was never stopped, dropout on, steps of two accumulated batches."""
    for folder in (world.config.checkpoint_dir, world.config.log_dir):
        shutil.rmtree(folder, ignore_errors=True)
    training = world.config.training.model_copy(update={"accumulation": 2})
    world.config = world.config.model_copy(update={"max_steps": 10, "checkpoint_interval": 2, "training": training})
    run(world)
    return saved(world, 10)


@pytest.mark.parametrize("seed", range(3))
def test_killed_anywhere_it_ends_with_the_same_checkpoint_bit_for_bit(world, undisturbed, seed):
    for folder in (world.config.checkpoint_dir, world.config.log_dir):
        shutil.rmtree(folder, ignore_errors=True)
    dice = random.Random(seed)
    fork = multiprocessing.get_context("fork")
    for _ in range(3):
        process = fork.Process(target=run, args=(world,))
        process.start()
        log, lines = Path(world.config.log_dir) / "metrics.jsonl", dice.randint(2, 7)
        before = len(metrics(world)) if log.exists() else 0
        while process.is_alive() and (len(metrics(world)) if log.exists() else 0) < before + lines:
            time.sleep(0.005)
        time.sleep(dice.random() * 0.1)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
    process = fork.Process(target=run, args=(world,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert saved(world, 10) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_says_so_and_is_reported(clean, number, capsys):
    loop = clean.loop(max_steps=1000)
    loop.start(None)
    original, calls = loop._train_step, []

    def step_and_signal(batches):
        calls.append(1)
        original(batches)
        if len(calls) == 3:
            os.kill(os.getpid(), number)

    loop._train_step = step_and_signal
    with pytest.raises(Interrupted) as stop:
        loop.fit()
    assert stop.value.signum == number
    assert loop.checkpoints.last().step == 3
    assert loop.checkpoints.last().state()["step"] == 3
    assert "stopped at step 3" in capsys.readouterr().out
    assert metrics(clean)[-1]["event"] == "stop"


def test_a_checkpoint_between_two_metric_lines_changes_neither(clean):
    """Lines every three steps, a checkpoint at step 4: carrying on from it must log step 6 as it was logged."""
    training = clean.config.training.model_copy(update={"log_interval": 3, "keep_checkpoints": 9})
    settings = {"training": training, "max_steps": 9, "checkpoint_interval": 2}
    loop = run(clean, **settings)
    for checkpoint in loop.checkpoints.checkpoints():
        if checkpoint.step != 4:
            shutil.rmtree(checkpoint.folder)
    assert run(clean, **settings).progress.step == 9
    lines = [(line["step"], line["loss"], line["grad_norm"]) for line in metrics(clean) if line.get("split") == "train"]
    assert [step for step, *_ in lines] == [3, 6, 9, 6, 9] and lines[3:] == lines[1:3]


def test_progress_survives_a_checkpoint(clean):
    loop = run(clean, max_steps=4, checkpoint_interval=2)
    state = loop.checkpoints.last().state()
    assert {name: state[name] for name in vars(Progress())} == vars(loop.progress)
    config = json.loads((loop.checkpoints.last().folder / "config.json").read_text("utf-8"))
    assert config["seed"] == clean.config.seed
