import dataclasses
import itertools
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
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

import data_loader
from data_loader import ValidationSet
from xtts_ka.core.config import TrainingConfig
from xtts_ka.core.digests import write_manifest
from xtts_ka.core.errors import Interrupted, RunError
from xtts_ka.core.files import write_json
from xtts_ka.core.jsonl import read_jsonl
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.training import gpt_trainer
from xtts_ka.training.batch_plan import PLAN_VERSION, Room
from xtts_ka.training.gpt_trainer import Progress
from xtts_ka.training.memory_estimate import ROOM_ON_CPU


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_loader, "GROUPS", 2)  # so that clips share voice samples in steps as small as these
        yield tiny.build_world(tmp_path_factory.mktemp("trainer"))


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
    assert all(line["audio_s_per_s"] > 0 and line["grad_norm"] > 0 for line in train)
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
    seconds = 1_000_000 * loop.data.step_seconds * 17 / 6
    assert said and int(said[1]) == int(seconds / 86400)
    loop = clean.loop(max_steps=4)
    loop.start(loop.checkpoints.last())
    assert "FULL-SIZE" not in capsys.readouterr().err  # nothing is left to train


def test_accumulated_small_batches_equal_one_large_batch(clean):
    """The same step as one micro-batch and as many: equal losses, equal gradients (dropout off)."""
    training = clean.config.training.model_copy(update={"dropout": 0.0})
    found = []
    for room in (10_000, 300, 1):
        loop = clean.loop(training=training, batch_size=None, batch_seconds=12.0, log=False)
        loop.room = Room(room)
        batches = next(loop._steps())
        found.append((len(batches), loop._backward(batches), {n: p.grad for n, p in loop.model.named_parameters()}))
    (one, sums, gradients), *others = found
    assert one == 1 and [count for count, *_ in others] == [
        4,
        sum(len(b.clips) for b in loop.data.train_batches(0)[:1]),
    ]
    for _, again, accumulated in others:
        torch.testing.assert_close(again, sums, rtol=1e-4, atol=1e-4)
        for name, gradient in gradients.items():
            torch.testing.assert_close(accumulated[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_the_clips_of_each_step_are_the_same_whatever_the_memory_and_the_processes(clean):
    def clips(room, processes):
        loop = clean.loop(batch_size=None, batch_seconds=7.0, log=False)
        loop.room, loop.data.processes = room, processes
        steps = itertools.islice(loop._planned_steps(), 9)
        return [sorted(clip for batch, _ in share for clip in batch.clips.tolist()) for _, share in steps]

    expected = clips(Room(10_000), 1)
    assert clips(Room(100), 1) == clips(Room(300, 50), 1) == clips(Room(300), 8) == expected
    assert len(expected[0]) < 10 and expected[0] != expected[1]


def test_the_older_keys_give_the_batch_of_all_processes(clean):
    median = float(np.median(clean.data.train.index.seconds))
    for accumulation, processes in ((None, 1), (2, 1), (2, 4)):
        training = clean.config.training.model_copy(update={"accumulation": accumulation})
        data = clean.loop(training=training, log=False).data
        data.processes = processes
        assert data.step_seconds == pytest.approx(3 * (accumulation or 1) * processes * median)
    loop = clean.loop(batch_size=None, batch_seconds=7.0, log=False)
    assert loop.data.step_seconds == 7 and loop.room == ROOM_ON_CPU
    training = clean.config.training.model_copy(update={"accumulation": 2})  # batch_size was 8 where it was not given
    assert clean.loop(batch_size=None, training=training, log=False).data.step_seconds == pytest.approx(16 * median)


def test_a_step_that_is_not_finite_is_skipped_and_many_stop_the_run(clean):
    loop = clean.loop(log=False)
    loop.start(None)
    batches = next(loop._steps())
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


def test_other_batch_seconds_go_on_with_the_next_epoch(clean, capsys):
    run(clean, max_steps=3)
    loop = clean.loop(max_steps=5, batch_size=6)
    loop.start(loop.checkpoints.last())
    assert (loop.progress.step, loop.progress.epoch, loop.progress.offset) == (3, 1, 0)
    assert "planned anew" in capsys.readouterr().out
    loop.fit()


@pytest.mark.parametrize(
    "lacks, plan",
    [
        ("plan", {}),
        ("plan", {"plan": PLAN_VERSION - 1}),
        ("shared_voices", {}),
        ("shared_voices", {"shared_voices": 2}),
    ],
)
def test_a_checkpoint_of_an_older_plan_goes_on_with_the_next_epoch(clean, capsys, lacks, plan):
    """Its `offset` counts batches that are no longer planned; the oldest checkpoints do not name their plan at all."""
    folder = run(clean, max_steps=3).checkpoints.last().folder
    state, facts = (json.loads((folder / name).read_text()) for name in ("state.json", "manifest.json"))
    assert (state["epoch"], state["offset"], state["plan"], state["shared_voices"]) == (0, 3, PLAN_VERSION, 4)
    del state[lacks]
    write_json(folder / "state.json", {**state, **plan})
    del facts["checksum"]
    write_manifest(folder, facts)
    loop = clean.loop(max_steps=5)
    loop.start(loop.checkpoints.last())
    progress = loop.progress
    assert (progress.step, progress.epoch, progress.offset, progress.plan) == (3, 1, 0, PLAN_VERSION)
    assert "training goes on with the next epoch, planned anew" in capsys.readouterr().out
    first = next(loop._steps())
    assert progress.epoch == 1
    planned = clean.data.train_batches(1)[0]
    assert sum(batch["shape"][0] for batch in first) == len(planned.clips)
    loop.fit()
    assert loop.checkpoints.last().state()["plan"] == PLAN_VERSION


def test_the_count_of_cuts_is_forgotten_on_another_gpu(clean):
    run(clean, max_steps=3).progress.parts = 4
    loop = clean.loop(max_steps=5, log=False)
    loop.room = Room(loop.room.positions + 1)
    loop.start(loop.checkpoints.last())
    assert (loop.progress.step, loop.progress.epoch, loop.progress.offset) == (3, 0, 3)  # the same steps go on
    assert loop.progress.parts == 1 and loop.progress.budget == loop.room.positions


def test_a_record_of_too_little_memory_is_heeded_for_its_budget(clean):
    record = Path(clean.config.checkpoint_dir) / "memory.json"
    planned = clean.loop(log=False).room.positions
    for budget, parts in ((planned, 4), (planned + 1, 1)):
        write_json(record, {"parts": 4, "budget": budget})
        loop = clean.loop(log=False)
        loop.start(None)
        assert loop.progress.parts == parts


# ── minutes of work ──


def _set_clock(monkeypatch, clock):
    """Set the loop's clock alone: whatever else waits in this process needs the real one."""
    monkeypatch.setattr(gpt_trainer, "time", SimpleNamespace(monotonic=clock))


@pytest.fixture
def ten_seconds_a_step(monkeypatch):
    """Of a clock that the loop's steps move."""
    loops = []
    _set_clock(monkeypatch, lambda: 10.0 * loops[-1].progress.step if loops else 0.0)
    return loops


def validated(world):
    return [line["step"] for line in metrics(world) if line.get("split") == "val"]


def test_validation_minutes_become_steps_once_and_the_run_keeps_them(clean, ten_seconds_a_step, capsys):
    training = clean.config.training.model_copy(update={"validation_interval": None, "validation_minutes": 1.0})
    for total in (70, 80):
        loop = clean.loop(training=training, max_steps=total, checkpoint_interval=None)
        ten_seconds_a_step.append(loop)
        loop.start(loop.checkpoints.last())
        loop.fit()
        training = training.model_copy(update={"validation_minutes": 99.0})  # measured once in a run
    assert validated(clean) == [*range(18, 70, 6), 70, 72, 78, 80]
    assert loop.checkpoints.last().state()["interval"] == 6
    assert capsys.readouterr().out.count("validation  every 6 steps, at 10 s a step") == 1


def test_checkpoint_minutes_is_the_longest_time_between_two_checkpoints(clean, ten_seconds_a_step):
    training = clean.config.training.model_copy(
        update={"validation_interval": 10, "checkpoint_minutes": 0.6, "keep_checkpoints": 99}
    )
    loop = clean.loop(training=training, max_steps=20, checkpoint_interval=10)
    ten_seconds_a_step.append(loop)
    loop.start(None)
    loop.fit()
    steps = [checkpoint.step for checkpoint in loop.checkpoints.checkpoints()]
    assert steps == [4, 8, 12, 16, 20] and validated(clean) == [4, 8, 10, 12, 16, 20]
    loop = clean.loop(
        training=training.model_copy(update={"checkpoint_minutes": 0.4}), max_steps=40, checkpoint_interval=10
    )
    ten_seconds_a_step.append(loop)
    loop.start(loop.checkpoints.last())
    loop.fit()
    steps = [checkpoint.step for checkpoint in loop.checkpoints.checkpoints()][5:]
    assert steps == [23, 24, 27, 30, 32, 35, 38, 40]  # three steps after the last at the latest


@pytest.mark.parametrize("minutes, extra", [(19.9, []), (20.1, [1, 3, 5])])
def test_by_default_no_more_than_twenty_minutes_lie_between_checkpoints(clean, monkeypatch, minutes, extra):
    """A step takes `minutes`; validated checkpoints come every two steps, a fifth of the run."""
    loop = clean.loop(training=TrainingConfig(keep_checkpoints=99), max_steps=6, checkpoint_interval=None)
    _set_clock(monkeypatch, lambda: 60 * minutes * loop.progress.step)
    loop.start(None)
    loop.fit()
    assert [c.step for c in loop.checkpoints.checkpoints()] == sorted([*extra, 2, 4, 6])


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


def logged(world):
    """The steps of all metric lines."""
    exists = (Path(world.config.log_dir) / "metrics.jsonl").exists()
    return [line["step"] for line in metrics(world) if "loss" in line] if exists else []


def run_until_killed(world):
    loop = world.loop()
    loop.start(loop.checkpoints.last())
    tiny.wait_before_the_end(loop)
    loop.fit()


@pytest.mark.parametrize("seed", range(3))
def test_killed_anywhere_it_ends_with_the_same_checkpoint_bit_for_bit(world, undisturbed, seed):
    for folder in (world.config.checkpoint_dir, world.config.log_dir):
        shutil.rmtree(folder, ignore_errors=True)
    dice = random.Random(seed)
    fork = multiprocessing.get_context("fork")
    for _ in range(3):
        process = fork.Process(target=run_until_killed, args=(world,), daemon=True)
        before, lines = len(logged(world)), dice.randint(2, 7)
        process.start()
        while process.is_alive() and len(now := logged(world)) < before + lines and now[-1:] != [9]:
            time.sleep(0.005)
        time.sleep(dice.random() * 0.1)
        os.kill(process.pid, signal.SIGKILL)
        process.join(20)
        code = process.exitcode
        process.kill()  # else the session could not end, where the line above failed
        assert code == -signal.SIGKILL
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


def rates(world):
    return [line["lr"] for line in metrics(world) if line.get("split") == "train"]


def test_a_longer_training_does_not_jump_and_resumes_exactly_in_its_climb(clean):
    """30 steps, then 200: the rate climbs over the 17 steps of a warm-up; stopped at 40, it goes on bit for bit."""
    settings = {"training": clean.config.training.model_copy(update={"keep_checkpoints": 99}), "checkpoint_interval": 5}
    run(clean, max_steps=30, **settings)

    def longer(until):
        loop = clean.loop(max_steps=200, **settings)
        loop.start(loop.checkpoints.last())
        step = loop._train_step

        def train_step(batches):
            step(batches)
            if loop.progress.step + 1 == until:
                loop._signals.received = signal.SIGTERM

        loop._train_step = train_step
        with pytest.raises(Interrupted):
            loop.fit()

    longer(until=45)
    whole, expected = saved(clean, 45), rates(clean)
    assert expected[30] == pytest.approx(expected[29]) and max(np.diff(expected[29:])) < 1.2e-3 / 17
    assert max(expected[30:]) > 0.75e-3 and json.loads(whole["state.json"])["schedule"]["since"] == 30
    for step in (35, 40, 45):
        shutil.rmtree(Path(clean.config.checkpoint_dir) / f"step_{step:08d}")
    longer(until=40)
    longer(until=45)
    assert saved(clean, 45) == whole and rates(clean)[-15:] == expected[30:]


def test_progress_survives_a_checkpoint(clean):
    loop = run(clean, max_steps=4, checkpoint_interval=2)
    state = loop.checkpoints.last().state()
    assert {name: state[name] for name in vars(Progress())} == vars(loop.progress)
    config = json.loads((loop.checkpoints.last().folder / "config.json").read_text("utf-8"))
    assert config["seed"] == clean.config.seed
