"""The training loop: carrying on, batches, and what the loss ignores."""

import numpy as np
import pytest
import torch
from tone_speech import TRAINED, speak

from xtts_ka.core.config import RecogniserConfig
from xtts_ka.recognition import ctc_trainer
from xtts_ka.recognition.ctc_trainer import CtcTrainer, ctc_loss, fits
from xtts_ka.recognition.recogniser import at_rate, log_mel
from xtts_ka.recognition.symbols import SYMBOLS, encode

SETTINGS = RecogniserConfig(dim=16, layers=1, recurrent=1, batch_seconds=6.0, epochs=6, learning_rate=5e-3, noise=1.0)


class Spoken:
    """Spectrograms of the trained texts, and the numbers that were asked for."""

    def __init__(self):
        self._mels = [((log_mel(at_rate(speak(text), 16_000)) + 14) * 10).byte() for text in TRAINED]
        self.frames = np.array([len(mel) for mel in self._mels])
        self.asked = []

    def __getitem__(self, number):
        self.asked.append(number)
        return self._mels[number]


def trainer(file, sounds=None, identity="a", settings=SETTINGS):
    targets = [encode(text) for text in TRAINED]
    return CtcTrainer(sounds or Spoken(), targets, settings, 7, file, identity)


def test_a_training_that_was_killed_ends_with_the_same_weights(tmp_path, monkeypatch):
    whole = trainer(tmp_path / "whole.pt").train().state_dict()
    monkeypatch.setattr(ctc_trainer, "STATE_SECONDS", 0.0)

    class Killed(Spoken):
        def __getitem__(self, number):
            if len(self.asked) > 11:
                raise KeyboardInterrupt
            return super().__getitem__(number)

    for _ in range(2):  # the second is killed some steps behind the first
        with pytest.raises(KeyboardInterrupt):
            trainer(tmp_path / "state.pt", Killed()).train()
    carried_on = trainer(tmp_path / "state.pt")
    found = carried_on.train().state_dict()
    assert len(carried_on.sounds.asked) < len(TRAINED) * SETTINGS.epochs - 11
    assert all(found[name].equal(tensor) for name, tensor in whole.items())


def test_the_state_of_another_training_is_left_alone(tmp_path):
    first = trainer(tmp_path / "state.pt")
    first.step = 3
    first.save()
    assert trainer(tmp_path / "state.pt")._resume() == 3
    assert trainer(tmp_path / "state.pt", identity="b")._resume() == 0


def test_every_clip_is_in_every_epoch_and_short_ones_come_first(tmp_path):
    sounds = Spoken()
    training = trainer(tmp_path / "state.pt", sounds)
    first, second, third = (training._epoch(epoch) for epoch in range(3))
    for epoch in (first, second, third):
        assert sorted(i for batch in epoch for i in batch) == list(range(len(TRAINED)))
        assert all(len(b) == 1 or len(b) * sounds.frames[b].max() <= training.limit for b in epoch)
    assert [sounds.frames[i] for batch in first for i in batch] == sorted(sounds.frames)
    assert second != third


@pytest.mark.parametrize(("settings", "steps"), [({"max_steps": 4}, 4), ({"epochs": 1}, None)])
def test_it_ends_with_the_steps_or_the_epochs(tmp_path, settings, steps):
    training = trainer(tmp_path / "state.pt", settings=SETTINGS.model_copy(update=settings))
    training.train()
    assert training.step == training.total == (steps or int(np.ceil(training.sounds.frames.sum() / training.limit)))


def test_the_loss_is_per_letter_and_ignores_what_cannot_be():
    log_probs = torch.zeros(2, 6, len(SYMBOLS)).log_softmax(-1)
    lengths = torch.tensor([6, 1])
    loss = ctc_loss(log_probs, lengths, [torch.tensor([2, 3]), torch.tensor([2, 2, 2])])
    alone = ctc_loss(log_probs[:1], lengths[:1], [torch.tensor([2, 3])])
    assert loss.isfinite() and float(loss) == pytest.approx(float(alone) * 2 / 5)


def test_which_clips_are_long_enough():
    assert fits(100, 20) and not fits(100, 21)
