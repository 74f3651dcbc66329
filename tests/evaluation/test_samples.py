"""Rounds of samples in a real training of a tiny model: what they leave, and that they leave the training alone."""

import json
import multiprocessing
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from xtts_ka.core.errors import UserError
from xtts_ka.core.jsonl import read_jsonl
from xtts_ka.corpus.tables import read_split, write_splits
from xtts_ka.evaluation import samples as module
from xtts_ka.evaluation.samples import Samples, open_samples, plan_samples
from xtts_ka.model.checkpoint import load_gpt
from xtts_ka.recognition.recogniser import CtcNetwork, Recogniser
from xtts_ka.speech import lengths

FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module", autouse=True)
def short_clips():
    """An untrained model speaks up to its limit: half a second here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lengths, "LIMIT_FACTOR", 0.1)
        patch.setattr(lengths, "LIMIT_SECONDS", 0.2)
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    world = tiny.build_world(tmp_path_factory.mktemp("samples"))
    tiny.write_voices(world)
    samples = world.config.samples.model_copy(update={"sentences": 1})
    training = world.config.training.model_copy(update={"ema_decay": 0.9})
    changes = {"samples": samples, "training": training, "checkpoint_interval": 2, "max_steps": 4}
    world.config = world.config.model_copy(update=changes)
    return world


@pytest.fixture(scope="module")
def listener():
    """Untrained: it hears something, and always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = CtcNetwork(16, 1)
    held_out = {"cer": {"value": 0.9, "low": 0.8, "high": 1.0}}
    return Recogniser(network, {"fingerprint": "f" * 64, "settings": {"beam": 1}, "held_out": held_out})


@pytest.fixture(autouse=True)
def clean(world):
    for folder in (world.config.checkpoint_dir, world.config.log_dir):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def weights(world):
    return load_gpt(world.model).state_dict()


def run(world, listener=None, speaks=lambda step: step % 3 == 1):
    """Train, with samples of the steps that `speaks` names; returns them."""
    loop = world.loop()
    loop.sampler = Samples(loop.config, world.model, loop.log, "cpu", loop.total, listener)
    loop.sampler.due = speaks
    loop.start(loop.checkpoints.last())
    loop.fit()
    return loop.sampler


def saved(world, step=4):
    folder = Path(world.config.checkpoint_dir) / f"step_{step:08d}"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "manifest.json"}


def lines(world):
    log = Path(world.config.log_dir) / "metrics.jsonl"
    return [line for line in read_jsonl(log) if line.get("split") == "samples"] if log.exists() else []


def rounds(world):
    return sorted(path for path in Path(world.config.log_dir, "samples").iterdir() if path.is_dir())


def test_a_round_leaves_clips_pictures_figures_and_tensorboard(world, listener):
    run(world, listener)
    first, last = rounds(world)
    names = {f"01_speaker{voice}.{kind}" for voice in (0, 1) for kind in ("wav", "png")}
    assert {file.name for file in first.iterdir()} == names | {"samples.json"} and first.name == "step_00000001"
    samples, rate = soundfile.read(first / "01_speaker0.wav")
    assert rate == 24000 and len(samples) % 1024 == 0 and np.abs(samples).max() > 0.001
    facts = json.loads((last / "samples.json").read_text("utf-8"))
    assert facts["step"] == 4 and {clip["voice"] for clip in facts["clips"]} == {"speaker0", "speaker1"}
    logged = lines(world)
    assert [line["step"] for line in logged] == [1, 4]
    assert {"cer", "wer", "similarity", "fault_rate", "recogniser_cer", "seconds", "time"} <= logged[0].keys()
    assert logged[1]["cer"] == facts["figures"]["cer"] and -1 <= logged[0]["similarity"] <= 1
    page = (first.parent / "index.html").read_text("utf-8")
    assert page.index("step 4<") < page.index("step 1<") and page.count("<audio") == 4
    (events,) = Path(world.config.log_dir, "tensorboard").iterdir()
    media = [value for event in EventFileLoader(str(events)).Load() for value in event.summary.value]
    tags = [value.tag for value in media if value.tag.endswith("/01_speaker0")]
    assert sorted(tags) == ["samples/01_speaker0"] * 2 + ["samples_mel/01_speaker0"] * 2
    assert {value.tag for value in media} >= {"samples/cer", "samples/similarity"}


@pytest.fixture(scope="module")
def undisturbed(world):
    """The last checkpoint of a training without samples."""
    run(world, speaks=lambda step: False)
    return saved(world)


def test_weights_are_equal_bit_for_bit_with_samples_and_without(undisturbed, world, listener):
    run(world, listener, speaks=lambda step: step > 1)
    assert len(rounds(world)) == 3 and saved(world) == undisturbed


def test_killed_in_the_middle_of_a_round_training_carries_on_to_the_same_weights(
    undisturbed, world, listener, monkeypatch
):
    def killed():
        module.mel_picture = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        run(world, listener, speaks=lambda step: step == 3)

    process = FORK.Process(target=killed)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and not list(Path(world.config.log_dir, "samples").glob("step_*"))
    assert list(Path(world.config.log_dir, "samples").glob(".*.partial"))
    run(world, listener, speaks=lambda step: step == 4)
    assert [path.name for path in rounds(world)] == ["step_00000004"] and saved(world) == undisturbed
    assert not list(Path(world.config.log_dir, "samples").glob(".*"))


def test_the_same_weights_say_the_same_and_averaged_ones_are_spoken(world, listener, weights):
    spoken = run(world, listener, speaks=lambda step: step == 4)
    average = world.loop().checkpoints.last().weights("ema")
    before = {file.name: file.read_bytes() for file in rounds(world)[0].iterdir()}
    spoken.speak(5, average)
    again = {file.name: file.read_bytes() for file in rounds(world)[1].iterdir()}
    del before["samples.json"], again["samples.json"]
    assert again == before
    spoken.speak(6, weights)
    Samples(world.config, world.model, spoken.log, "cpu", 8, listener).speak(7, weights)  # a model built from them
    other, built = ((folder / "01_speaker0.wav").read_bytes() for folder in rounds(world)[2:])
    assert other == built != before["01_speaker0.wav"]


def test_out_of_memory_leaves_the_samples_out_and_raises_nothing(world, weights, monkeypatch, capsys):
    samples = Samples(world.config, world.model, world.loop().log, "cpu", 8, None)
    speak = module.speak_all

    def too_much(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "speak_all", too_much)
    samples.speak(3, weights)
    assert "step 3: out of memory while samples were spoken" in capsys.readouterr().err and not lines(world)
    assert samples.share.spent > 0
    monkeypatch.setattr(module, "speak_all", speak)
    drawn = torch.get_rng_state()
    samples.speak(4, weights)  # a later round is tried; it builds the model, which draws random weights first
    assert torch.equal(torch.get_rng_state(), drawn)
    (line,) = lines(world)
    assert line["step"] == 4 and "similarity" in line and not {"cer", "fault_rate"} & line.keys()  # nobody listened


def test_a_round_that_takes_too_long_is_left_out(world, weights, monkeypatch, capsys):
    monkeypatch.setattr(module, "LONGEST_ROUND", -1.0)
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    Samples(world.config, world.model, world.loop().log, "cpu", 8, None).speak(2, weights)
    assert "lower samples.sentences" in capsys.readouterr().err and not lines(world)


def test_any_other_error_is_not_swallowed(world, weights, monkeypatch):
    def broken(*_):
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(module, "speak_all", broken)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        Samples(world.config, world.model, world.loop().log, "cpu", 8, None).speak(2, weights)


# ── what is spoken ──


def with_samples(config, **changes):
    return config.model_copy(update={"samples": config.samples.model_copy(update=changes)})


def test_the_plan_takes_validation_sentences_and_the_most_recorded_voices(world):
    plan = plan_samples(world.config, 5, 1)
    assert {text.text for text in plan.texts} == {clip.text for clip in read_split(world.config.data_dir, "val")}
    seconds = {"speaker0": 0.0, "speaker1": 0.0}
    for clip in read_split(world.config.data_dir, "train"):
        seconds[clip.speaker_id] += clip.duration
    assert plan.voices == [max(seconds, key=seconds.get)] == list({clip.speaker_id for clip in plan.clips})
    assert plan_samples(world.config, 5, 1) == plan


def test_own_texts_and_voices(world, tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("გამარჯობა!\nნახვამდის.\n", "utf-8")
    plan = plan_samples(with_samples(world.config, texts=str(own), speakers=["speaker1"]), 9, 2)
    assert [text.text for text in plan.texts] == ["გამარჯობა!", "ნახვამდის."] and plan.voices == ["speaker1"]


def test_an_unknown_voice_is_named(world):
    with pytest.raises(UserError, match="samples.speakers has 'ნინო'"):
        open_samples(with_samples(world.config, speakers=["ნინო"]), world.model, world.loop().log, "cpu", 8, None)


@pytest.fixture
def other_data(world, tmp_path):
    """Writes changed tables; returns the config that reads them."""

    def write(val=None, **changes):
        splits = {name: read_split(world.config.data_dir, name) for name in ("train", "val")}
        clips = {name: [replace(clip, **changes) for clip in part] for name, part in splits.items()}
        roots = {clip.audio_path.parent for clip in splits["train"]}
        write_splits(tmp_path / "data", {**clips, "val": clips["val"] if val is None else val, "test": []}, roots)
        return world.config.model_copy(update={"data_dir": str(tmp_path / "data")})

    return write


def test_without_sentences_there_are_no_samples_and_it_is_said(world, other_data, capsys):
    assert open_samples(other_data(val=[]), world.model, world.loop().log, "cpu", 8, None) is None
    assert "no samples: " in capsys.readouterr().err


def test_where_no_speaker_is_known_recordings_are_the_voices(world, weights, other_data):
    config = other_data(speaker_known=False)
    log = world.loop().log
    samples = open_samples(config, world.model, log, "cpu", 8, None)
    names = samples.plan.voices
    assert len(names) == 2 and all(name.startswith("clip") for name in names)
    samples.speak(1, weights)
    assert {file.stem for file in rounds(world)[0].glob("*.wav")} == {f"01_{name}" for name in names}
    assert lines(world)[0]["similarity"] <= 1
