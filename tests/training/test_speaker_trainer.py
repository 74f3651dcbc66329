import numpy as np
import pytest
import torch
from part_runs import part_config, run, saved

from xtts_ka.core.errors import UserError
from xtts_ka.core.jsonl import read_jsonl
from xtts_ka.model.networks import build_speaker_encoder
from xtts_ka.training.clip_pieces import make_pieces
from xtts_ka.training.speaker_trainer import WAVES, SpeakerConfig, SpeakerPart, told_apart

SETTINGS = SpeakerConfig(max_steps=4, batch_size=16, learning_rate=1e-2, seconds=0.3, scale=10.0, margin=0.1)


def sounds(clips: int, seed: int):
    """Clips of four voices: over steady noise, bursts in the voice's own band; and whose each is.

    Not noises of different colour alone: the encoder takes the mean of each band away.
    """
    random = np.random.default_rng(seed)
    waves, voices = [], []
    for number in range(clips):
        time = np.arange(int(random.integers(4800, 8000)))
        spectrum = np.fft.rfft(random.normal(size=len(time)))
        band = np.abs(np.linspace(0, 1, len(spectrum)) - 0.2 * (1 + number % 4)) < 0.1
        bursts = 3 * np.fft.irfft(spectrum * band, len(time)) * (np.sin(time * 0.004 + random.uniform(0, 6)) > 0)
        waves.append(
            {WAVES: (2000 * (bursts + 0.3 * random.normal(size=len(time)))).clip(-32767, 32767).astype(np.int16)}
        )
        voices.append(f"voice{number % 4}")
    return waves, voices


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("waves"), []
    for name, clips in (("train", 24), ("val", 16)):
        waves, voices = sounds(clips, clips)
        found += [make_pieces(folder / name, name, waves, list, WAVES), voices]
    return found


def part(data, **changes):
    torch.manual_seed(0)
    return SpeakerPart(build_speaker_encoder((8, 16, 16, 16)), *data, SETTINGS.model_copy(update=changes), seed=1)


def test_it_learns_to_tell_voices_apart(data, tmp_path):
    run(part(data, max_steps=24), part_config(tmp_path))
    lines = list(read_jsonl(tmp_path / "logs/speaker_encoder/metrics.jsonl"))
    train = [line["loss"] for line in lines if line.get("split") == "train"]
    assert np.mean(train[-5:]) < 0.6 * train[0]
    assert [line["told_apart"] for line in lines if line.get("split") == "val"][-1] >= 0.75


def test_stopped_and_resumed_equals_uninterrupted(data, tmp_path):
    whole = run(part(data), part_config(tmp_path / "whole"))
    config = part_config(tmp_path / "stopped")
    run(part(data), config, stop_at=2)
    assert saved(run(part(data), config), 4) == saved(whole, 4)


def test_told_apart_leaves_the_clip_itself_out():
    right = torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]])
    assert told_apart(right, torch.tensor([0, 0, 1, 1])) == 1
    assert told_apart(right, torch.tensor([0, 1, 0, 1])) == 0
    assert told_apart(right, torch.tensor([0, 0, 1, 2])) == 1  # voices with one clip are not judged


def test_one_voice_is_refused(data):
    with pytest.raises(UserError, match="two voices or more"):
        part([data[0], ["one"] * 24, data[2], ["one"] * 16])
