import numpy as np
import pytest
import torch

from xtts_ka.model.networks import build_speaker_encoder
from xtts_ka.training.voice_loss import VoiceLoss


@pytest.fixture(scope="module")
def loss():
    torch.manual_seed(0)
    return VoiceLoss(build_speaker_encoder([4, 8, 8, 8]))


def waves(seed=0):
    return torch.from_numpy(0.1 * np.random.default_rng(seed).standard_normal((3, 17_664)).astype(np.float32))


def test_it_is_0_for_the_same_sound_and_more_for_another(loss):
    one, other = waves(), torch.sin(torch.arange(17_664) * 0.05).expand(3, -1)
    assert float(loss(one, one)) == pytest.approx(0, abs=1e-5)
    assert float(loss(other, one)) > 0.01
    assert float(loss(other, one)) == pytest.approx(float(loss(one, other)), rel=1e-4)


def test_a_quieter_copy_is_the_same_voice(loss):
    assert float(loss(0.25 * waves(), waves())) < 1e-2


def test_its_gradient_reaches_the_made_wave_alone_and_leaves_the_encoder_as_it_is(loss):
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    made, true = waves(1).requires_grad_(), waves(2).requires_grad_()
    loss.train()(made, true).backward()
    assert made.grad.abs().max() > 0 and true.grad is None
    assert all(weight.grad is None for weight in loss.parameters())
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_half_precision_is_computed_in_full(loss):
    with torch.autocast("cpu", torch.bfloat16):
        assert float(loss(waves(), waves())) == pytest.approx(0, abs=1e-2)
