"""The recipe of the stand-in base: of which phoneme each code is."""

import numpy as np
import torch

from starter_base.alignments import BLANK, aligned


def heard(frames: int, **said: int) -> torch.Tensor:
    """Log-probabilities in which frame "f1" has the given phoneme, and all others the blank."""
    scores = torch.zeros(frames, 9)
    scores[:, BLANK] = 5.0
    for frame, phoneme in said.items():
        scores[int(frame[1:]), [BLANK, phoneme]] = torch.tensor([0.0, 5.0])
    return scores.log_softmax(1)


def test_a_code_has_the_phoneme_whose_frame_is_nearest():
    assert aligned(heard(8, f1=3, f6=5), [3, 5]).tolist() == [3, 3, 5, 5]
    assert aligned(heard(8, f0=3, f2=4, f3=5), [3, 4, 5]).tolist() == [3, 4, 5, 5]
    assert aligned(heard(6, f4=7), [7]).tolist() == [7, 7, 7]


def test_a_clip_without_room_for_its_phonemes_has_none():
    assert not aligned(heard(4), [1, 2, 3, 4, 5]).any()
    assert not aligned(heard(4), [1, 1, 1]).any()  # equal ones need a blank between them
    assert np.array_equal(aligned(heard(4), []), np.zeros(2))
