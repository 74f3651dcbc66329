"""The recipe of the stand-in base: which token each code says."""

import numpy as np
import pytest
import torch

from starter_base.alignments import BLANK, aligned, load_alignments
from starter_base.phonemes import spoken
from starter_base.tokens import spoken_tokens, tokens_of
from xtts_ka.core.errors import UserError


def heard(frames: int, **said: int) -> torch.Tensor:
    """Log-probabilities in which frame "f1" has the given letter, and all others the blank."""
    scores = torch.zeros(frames, 9)
    scores[:, BLANK] = 5.0
    for frame, letter in said.items():
        scores[int(frame[1:]), [BLANK, letter]] = torch.tensor([0.0, 5.0])
    return scores.log_softmax(1)


def test_a_code_says_the_letter_whose_frame_is_nearest():
    assert aligned(heard(8, f1=3, f6=5), [3, 5]).tolist() == [0, 0, 1, 1]
    assert aligned(heard(8, f0=3, f2=4, f3=5), [3, 4, 5]).tolist() == [0, 1, 2, 2]
    assert aligned(heard(6, f4=7), [7]).tolist() == [0, 0, 0]
    assert aligned(heard(8, f0=3, f1=3, f5=3), [3, 3]).tolist() == [0, 0, 1, 1]


def test_a_clip_without_room_for_its_letters_says_none():
    assert aligned(heard(4), [1, 2, 3, 4, 5]) is None
    assert aligned(heard(4), [1, 1, 1]) is None  # equal ones need a blank between them
    assert aligned(heard(4), []) is None


def test_every_letter_has_the_token_that_holds_it():
    text = "Hola, ¿qué  tal?"
    ids = tokens_of([text, "Да."], ["es", "ru"])
    places = spoken_tokens(ids[0])
    assert len(places) == len(spoken(text)) and places == sorted(places)
    assert places[0] == 1 and places[-1] == len(ids[0]) - 2  # between the language and the question mark
    assert spoken_tokens(ids[1]) == [1, 2]


@pytest.mark.parametrize("content", [{"letters": np.zeros(5)}, {"tokens": np.zeros(4)}], ids=["earlier", "other codes"])
def test_alignments_that_do_not_fit_are_refused_with_the_remedy(tmp_path, content):
    assert load_alignments(tmp_path, 5).tolist() == [-1] * 5
    np.savez(tmp_path / "alignments.npz", **content)
    with pytest.raises(UserError, match="alignments.npz is of .*: remove it and run the step"):
        load_alignments(tmp_path, 5)
