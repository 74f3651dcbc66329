import pytest

from xtts_ka.core.config import PretrainConfig
from xtts_ka.training.length import FEW_STEPS, training_length


def length(told=False, stand_in=False, an_epoch=40, **limits):
    return training_length(PretrainConfig(**limits), an_epoch, stand_in, told)


def test_the_smaller_of_two_limits_holds(capsys):
    assert length(max_steps=1000, epochs=10, told=True) == (400, "epochs")
    assert "steps       400 by epochs, 10 epochs; max_steps would allow 1,000" in capsys.readouterr().out
    assert length(max_steps=300, epochs=10) == (300, "max_steps")
    assert length(max_steps=None, epochs=2) == (80, "epochs")


def test_a_stand_in_is_trained_by_the_starters_key():
    assert length(max_steps=300, epochs=None, stand_in=True) == (300, "starter.max_steps")


@pytest.mark.parametrize("steps", [FEW_STEPS - 1, FEW_STEPS])
def test_few_steps_are_warned_of_unless_intended(steps, capsys):
    for stand_in in (False, True):
        length(max_steps=steps, epochs=None, stand_in=stand_in, told=True)
        shown = capsys.readouterr()
        assert ("teach little" in shown.out + shown.err) == (steps < FEW_STEPS and not stand_in)
