from xtts_ka.core.config import PretrainConfig
from xtts_ka.training.changes import TRAINING, new_defaults

READ = ("learning_rate", "training.conditioning", "training.shared_voices")


def test_a_new_default_is_no_change_and_a_value_of_ones_own_is():
    config = PretrainConfig()
    former = {"learning_rate": 2e-5, "training.conditioning": "same_clip"}  # shared_voices: not known then
    assert new_defaults(former, config, READ) == set(READ)
    assert new_defaults({**former, "learning_rate": 3e-5}, config, READ) == set(READ) - {"learning_rate"}
    own = config.model_copy(update={"learning_rate": 7e-5})
    assert new_defaults(former, own, READ) == set(READ) - {"learning_rate"}


def test_a_key_that_is_no_longer_read_is_no_change():
    assert "old_key" in new_defaults({"old_key": 1}, PretrainConfig(), READ)


def test_what_only_watches_is_not_what_training_depends_on():
    assert "training.log_interval" not in TRAINING and "training.clip_norm" in TRAINING
