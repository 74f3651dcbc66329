"""What is said of stand-ins that are there already."""

import json

import pytest

from xtts_ka.core.config import PretrainConfig, StarterConfig
from xtts_ka.core.errors import UserError
from xtts_ka.starter.existing import ignored_settings, refuse_unasked

GEOMETRY = {"layers": 2, "model_dim": 128, "heads": 2}


@pytest.fixture
def made(tmp_path):
    """Marks of an untrained base and of 12 clips, which are all that six voices make of two sentences."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base/STARTER.json").write_text(json.dumps({"what": "tiny", "geometry": GEOMETRY}))
    (tmp_path / "data/starter_recordings").mkdir(parents=True)
    (tmp_path / "data/starter_recordings/STARTER.json").write_text(json.dumps({"clips": 12}))
    (tmp_path / "sentences.txt").write_text("ერთი.\n\nორი.\n", "utf-8")
    return tmp_path


def config(folder, **starter):
    given = {"enabled": True, "base": "untrained", "clips": 360, "sentences": str(folder / "sentences.txt"), **GEOMETRY}
    return PretrainConfig(
        base_model_path=str(folder / "base"),
        data_dir=str(folder / "data"),
        starter=StarterConfig(**{**given, **starter}),
    )


def test_equal_settings_say_nothing(made):
    assert ignored_settings(config(made)) == []  # twelve clips are all there can be
    refuse_unasked(config(made))


@pytest.mark.parametrize(
    "starter, words",
    [
        ({"layers": 4}, "starter.layers 4 has no effect, since the stand-in in"),
        ({"base": "trained"}, "starter.base trained has no effect"),
        ({"clips": 20, "sentences": "none"}, "starter.clips 20 has no effect"),
    ],
)
def test_other_settings_are_told(made, starter, words):
    (sentence,) = ignored_settings(config(made, **starter))
    assert sentence.startswith(words) and "remove that folder" in sentence


def test_a_trained_base_has_its_own_geometry(made):
    (made / "base/STARTER.json").write_text(json.dumps({"base": "trained", "geometry": {"layers": 6}}))
    assert ignored_settings(config(made, base="trained")) == []


def test_with_starter_mode_off_its_base_is_refused(made):
    with pytest.raises(UserError, match="starter.enabled is false.*hf download"):
        refuse_unasked(config(made, enabled=False))
    (made / "base/STARTER.json").unlink()
    refuse_unasked(config(made, enabled=False))
    assert ignored_settings(config(made, layers=1)) == []
