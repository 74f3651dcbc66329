"""One tiny base model and its recordings for all tests of the room; they leave the folders as they find them."""

import shutil

import pytest
import tiny

from xtts_ka.model.checkpoint import read_model
from xtts_ka.model.features import load_speech


@pytest.fixture(scope="session")
def tiny_recordings(tmp_path_factory):
    """Paths of twelve short recordings by two voices."""
    return tiny.write_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory, tiny_recordings):
    """The folder of a one-layer XTTS of width 64, all five files of the released model in it."""
    return tiny.write_base_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="session")
def base(base_folder):
    return read_model(base_folder)


@pytest.fixture(scope="session")
def speech(tiny_recordings):
    """The recordings as (1, samples) at 22,050 Hz."""
    return [load_speech(path) for path in tiny_recordings]


@pytest.fixture
def copied_base(base_folder, tmp_path):
    """A copy of the base model's folder, to be spoiled."""
    return shutil.copytree(base_folder, tmp_path / "base")


@pytest.fixture(scope="session")
def georgian_folder(tmp_path_factory, base):
    """A model folder as the export writes it, untrained, with a character limit of 40 (see tiny.py)."""
    return tiny.write_georgian_model(tmp_path_factory.mktemp("georgian") / "model", base)
