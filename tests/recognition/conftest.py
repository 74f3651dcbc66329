"""A recogniser that has learnt the language of tones, trained once for all tests of this folder."""

import pytest
import tone_speech
import torch

from xtts_ka.recognition.train_recogniser import ensure_recogniser


@pytest.fixture(scope="session")
def tones(tmp_path_factory):
    """(config, its trained recogniser)"""
    torch.set_num_threads(1)
    config = tone_speech.write_project(tmp_path_factory.mktemp("tones"))
    return config, ensure_recogniser(config)
