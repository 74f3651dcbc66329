"""Two real processes on gloo: the same curve as one, killed and resumed, and never left hanging."""

import multiprocessing
import os
import random
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from xtts_ka.core.command_line import run_cli
from xtts_ka.core.jsonl import read_jsonl
from xtts_ka.training import process_group
from xtts_ka.training.batch_plan import Room

FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny.build_world(tmp_path_factory.mktemp("processes"))


@pytest.fixture(autouse=True)
def clean(world):
    for folder in (world.config.checkpoint_dir, world.config.log_dir):
        shutil.rmtree(folder, ignore_errors=True)


def curve(world) -> dict[tuple[str, int], float]:
    """(split, step) → loss; the last line counts where a restart repeated a step."""
    file = Path(world.config.log_dir) / "metrics.jsonl"
    lines = read_jsonl(file) if file.exists() else ()
    return {(line["split"], line["step"]): line["loss"] for line in lines if "loss" in line}


class KeepsWeights:
    """A sampler that takes its time, and keeps what it was given."""

    def __init__(self, file: Path):
        self.file = file

    def due(self, step: int) -> bool:
        return step in (5, 10)

    def speak(self, step: int, weights) -> None:
        time.sleep(0.5)
        torch.save(dict(weights), self.file)


def train(world, steps: int = 10, until_killed: bool = False, **training) -> None:
    """What each process does: join, build the loop, carry on from the last checkpoint, train to the end."""
    training = world.config.training.model_copy(update={"new_rows_rate": 3.0, **training})
    steps_of_five_clips = {"batch_size": None, "batch_seconds": 9.0}
    changes = {"max_steps": steps, "checkpoint_interval": 2, "training": training, **steps_of_five_clips}
    config = world.config.model_copy(update=changes)
    with process_group.joined(config) as peers:
        loop = world.loop(**vars(config), log=peers.is_main)
        # Room for four clips: two micro-batches a step for one process and for two, so that their dropout is the same.
        loop.room = Room(int(4 * np.median(world.data.train.index.positions)))
        assert {len(loop._pieces(step)) for epoch in range(9) for step in loop.data.train_batches(epoch)} == {2}
        if peers.is_main:
            loop.sampler = KeepsWeights(Path(config.log_dir) / "heard.pt")
        loop.start(loop.checkpoints.last())
        if until_killed:
            tiny.wait_before_the_end(loop)
        loop.fit()


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def launch(body, processes: int = 2, log: Path | None = None) -> list:
    """Start `body(rank)` in processes that find each other as under torchrun."""
    # Below the ports that the kernel hands out: a connection of another test could take one before rank 0 listens.
    while not is_free(port := random.randrange(20_000, 30_000)):
        pass

    def child(rank):
        if log:
            sys.stderr = log.with_suffix(f".{rank}").open("w", buffering=1)
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(processes),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
        AcceleratorState._reset_state(reset_partial_state=True)  # a test before may have made it, for one process
        os._exit(run_cli(lambda: body(rank)))

    children = [FORK.Process(target=child, args=(rank,)) for rank in range(processes)]
    for process in children:
        process.start()
    return children


def finish(children, within: float = 120) -> list[int]:
    """Wait for all and return their exit codes; a hanging one is killed and fails the test."""
    deadline = time.monotonic() + within
    for process in children:
        process.join(max(0.1, deadline - time.monotonic()))
    hanging = [process.pid for process in children if process.is_alive()]
    for pid in hanging:
        os.kill(pid, signal.SIGKILL)
    assert not hanging
    return [process.exitcode for process in children]


def wait_for_lines(world, count: int, children: list) -> None:
    while len(curve(world)) < count:
        assert all(process.is_alive() for process in children)
        time.sleep(0.01)


@pytest.fixture(scope="module")
def alone(world):
    """The curve of one process with the same steps, of two accumulated micro-batches each."""
    assert finish(launch(lambda rank: train(world), processes=1)) == [0]
    return curve(world)


@pytest.mark.parametrize("sharding", [False, True])
def test_two_processes_reach_the_curve_of_one(world, alone, sharding):
    assert finish(launch(lambda rank: train(world, sharding=sharding))) == [0, 0]
    assert curve(world) == pytest.approx(alone, rel=1e-4)
    sampled = torch.load(Path(world.config.log_dir) / "heard.pt")  # by the main process, while the other waited
    saved = load_file(Path(world.config.checkpoint_dir) / "step_00000010/model.safetensors")
    assert sampled.keys() == saved.keys() and all(torch.equal(saved[name], w) for name, w in sampled.items())


@pytest.mark.parametrize("sharding", [False, True])
def test_killed_they_resume_and_so_does_another_number_of_them(world, alone, sharding):
    for lines in (4, 9):
        children = launch(lambda rank: train(world, until_killed=True, sharding=sharding))
        wait_for_lines(world, lines, children)
        for process in children:
            os.kill(process.pid, signal.SIGKILL)
        assert finish(children, within=20)[0] == -signal.SIGKILL
    assert finish(launch(lambda rank: train(world), processes=1)) == [0]
    assert curve(world) == pytest.approx(alone, rel=1e-4)


def test_when_one_is_killed_the_other_ends_with_a_sentence(world, tmp_path):
    children = launch(lambda rank: train(world), log=tmp_path / "errors")
    wait_for_lines(world, 3, children)
    os.kill(children[1].pid, signal.SIGKILL)
    assert finish(children, within=60) == [1, -signal.SIGKILL]
    message = (tmp_path / "errors.0").read_text()
    assert "run the same command" in message and "Traceback" not in message


def test_a_silent_process_ends_the_job_though_no_connection_breaks(world, tmp_path, monkeypatch):
    monkeypatch.setattr(process_group, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(process_group, "SILENCE_SECONDS", 2.0)
    children = launch(lambda rank: train(world), log=tmp_path / "errors")
    wait_for_lines(world, 3, children)
    os.kill(children[1].pid, signal.SIGSTOP)
    children[0].join(60)
    os.kill(children[1].pid, signal.SIGKILL)
    assert finish(children)[0] == 1
    assert "process 1 on" in (message := (tmp_path / "errors.0").read_text()) and "no sign of life" in message


def test_the_error_of_one_is_told_to_all(world, tmp_path, monkeypatch):
    monkeypatch.setattr(process_group, "BEAT_SECONDS", 0.2)

    def body(rank):
        with process_group.joined(world.config) as peers:
            if rank == 1:
                raise process_group.UserError("recording x.wav is not readable")
            peers.hear("a word that nobody says")

    children = launch(body, log=tmp_path / "errors")
    assert finish(children) == [1, 2]
    assert "process 1 on" in (message := (tmp_path / "errors.0").read_text()) and "x.wav is not readable" in message


def test_sigterm_to_one_stops_all_at_the_same_step(world):
    children = launch(lambda rank: train(world, steps=1000))
    wait_for_lines(world, 3, children)
    os.kill(children[1].pid, signal.SIGTERM)
    assert finish(children) == [143, 143]
    last = max(step for _, step in curve(world))
    assert (Path(world.config.checkpoint_dir) / f"step_{last:08d}/manifest.json").is_file()


def test_the_main_process_goes_first(tmp_path):
    def body(rank):
        from xtts_ka.core.config import PretrainConfig

        with process_group.joined(PretrainConfig(device="cpu")) as peers, peers.main_first("work"):
            if rank == 0:
                time.sleep(0.5)
                (tmp_path / "done").touch()
            elif not (tmp_path / "done").exists():
                raise process_group.UserError("too early")

    assert finish(launch(body)) == [0, 0]


def test_one_gpu_for_several_processes_is_refused(world, tmp_path):
    def body(rank):
        with process_group.joined(world.config.model_copy(update={"device": "cuda:1"})):
            pass

    assert finish(launch(body, log=tmp_path / "errors")) == [2, 2]
    assert "set device to auto" in (tmp_path / "errors.0").read_text()
