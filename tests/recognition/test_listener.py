"""Who hears, by what the user gave."""

import pytest

from xtts_ka.core.errors import UserError
from xtts_ka.recognition.listener import open_listener
from xtts_ka.recognition.train_recogniser import recogniser_folder


def test_without_a_name_the_projects_own_is_opened(tones, tmp_path):
    config, recogniser = tones
    assert open_listener(None, folder=recogniser_folder(config)).name == recogniser.name
    with pytest.raises(UserError, match=r"recogniser\.json does not exist: train it"):
        open_listener(None, folder=tmp_path)
