"""Augmentation: what changes, what may not, and that it is a function of its generators."""

import numpy as np
import pytest
import torch

from xtts_ka.recognition import augmentation
from xtts_ka.recognition.augmentation import augment

LENGTHS = torch.tensor([120, 80, 40])


def mels(seed=0):
    return torch.randn(3, 120, 80, generator=torch.Generator().manual_seed(seed)) - 5


def augmented(seed, sounds=None):
    return augment(mels() if sounds is None else sounds, LENGTHS, np.random.default_rng(seed), torch.Generator())


def nothing(monkeypatch, *but):
    """Switch off every change except those named."""
    for name, off in (("SPEED", 0.0), ("VOICE", 0.0), ("NOISY", 0.0), ("CROWDED", 0.0), ("BANDS", 0), ("FRAMES", 0)):
        if name not in but:
            monkeypatch.setattr(augmentation, name, off)


def test_equal_generators_give_equal_sounds():
    (first, frames), (again, _), (other, _) = augmented(1), augmented(1), augmented(2)
    assert first.equal(again) and first.isfinite().all() and first.shape[1] == frames.max()
    assert first.shape != other.shape or not first.equal(other)


def test_without_any_change_the_sounds_stay(monkeypatch):
    nothing(monkeypatch)
    found, frames = augmented(1)
    assert frames.equal(LENGTHS)
    for row, before, count in zip(found, mels(), frames):
        torch.testing.assert_close(row[:count], before[:count], atol=1e-4, rtol=0)


def test_speed_moves_what_is_heard_in_time(monkeypatch):
    nothing(monkeypatch, "SPEED")
    sounds = torch.full((3, 120, 80), -10.0)
    for row, length in zip(sounds, LENGTHS):
        row[length // 2] = 0.0
    found, frames = augmented(5, sounds)
    assert not frames.equal(LENGTHS)
    assert all(0.85 < int(a) / int(b) < 1.17 for a, b in zip(frames, LENGTHS))
    for row, length in zip(found, frames):
        assert int(row[:length, 0].argmax()) == pytest.approx(int(length) / 2, abs=1.5)


def test_noise_only_adds_power(monkeypatch):
    nothing(monkeypatch, "NOISY")
    monkeypatch.setattr(augmentation, "NOISY", 1.0)
    found, _ = augmented(3)
    assert (found >= mels() - 1e-4).all() and (found > mels() + 1).any()


def test_noise_can_be_rarer():
    def noisy(share: float) -> int:
        rows = torch.full((200, 40, 80), -5.0)
        lengths = torch.full((200,), 40)
        found, _ = augment(rows, lengths, np.random.default_rng(0), torch.Generator(), share)
        return int((found.std((1, 2)) > 1e-5).sum())

    assert noisy(0.0) == 0 < 25 < noisy(0.4) < 75 < noisy(1.0) < 150


def test_another_clip_is_heard_behind(monkeypatch):
    nothing(monkeypatch)
    monkeypatch.setattr(augmentation, "CROWDED", 1.0)
    sounds = torch.full((3, 120, 80), -12.0)
    sounds[0, 5:10, 30:40] = 0.0
    found, _ = augmented(3, sounds)
    assert found[1, 5:10, 30:40].mean() > found[1, 20:60].mean() + 2


def test_masks_hide_at_most_their_share(monkeypatch):
    nothing(monkeypatch, "BANDS", "FRAMES")
    found, _ = augmented(4)
    changed = (found != mels()).float().mean()
    assert 0.02 < changed < 0.6


def test_a_batch_of_one_and_clips_of_one_frame():
    for lengths in ([1], [1, 3]):
        count = torch.tensor(lengths)
        sounds = torch.full((len(lengths), max(lengths), 80), -13.8)
        found, frames = augment(sounds, count, np.random.default_rng(0), torch.Generator())
        assert found.isfinite().all() and (frames >= 1).all()
