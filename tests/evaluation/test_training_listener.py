"""Who listens to the samples of a training: rules of `samples.recogniser` and `training.best_by`."""

import pytest
import tone_speech

from xtts_ka.core.errors import UserError
from xtts_ka.evaluation.samples import training_listener
from xtts_ka.recognition import train_recogniser


def config_of(folder, best_by="loss", **samples):
    config = tone_speech.write_project(folder, tone_speech.SETTINGS.model_copy(update={"max_steps": 2, "dim": 8}))
    training = config.training.model_copy(update={"best_by": best_by})
    return config.model_copy(update={"training": training, "samples": config.samples.model_copy(update=samples)})


def test_on_a_cpu_only_a_present_recogniser_listens_unless_it_is_asked_for(tmp_path, capsys):
    config = config_of(tmp_path)
    assert training_listener(config, "cpu") is None
    assert "samples     without CER (recogniser: there is none yet)" in capsys.readouterr().out
    made = training_listener(config_of(tmp_path, recogniser=True), "cpu")
    assert training_listener(config, "cpu").name == made.name


def test_where_the_evaluation_needs_it_later_it_is_trained_first(tmp_path):
    config = config_of(tmp_path)
    evaluation = config.evaluation.model_copy(update={"enabled": True})
    assert training_listener(config.model_copy(update={"evaluation": evaluation}), "cpu").name


@pytest.mark.parametrize("device, wanted", [("cuda:0", {}), ("cpu", {"best_by": "cer"})], ids=["gpu", "by CER"])
def test_on_a_gpu_and_for_the_choice_by_cer_it_is_trained_first(tmp_path, device, wanted):
    assert training_listener(config_of(tmp_path, enabled=bool(not wanted), **wanted), device).name


def test_where_nothing_will_be_heard_nothing_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(train_recogniser, "_train", None)
    assert training_listener(config_of(tmp_path, enabled=False), "cuda") is None
    assert training_listener(config_of(tmp_path), "cuda", samples=False) is None
    assert training_listener(config_of(tmp_path, recogniser=False), "cuda") is None


def test_a_recogniser_that_cannot_be_trained_ends_a_run_only_where_it_was_asked_for(tmp_path, capsys):
    config = config_of(tmp_path)
    for split in ("val", "test"):
        (tone_speech.Path(config.data_dir) / f"split/{split}/{split}_metadata.csv").unlink(missing_ok=True)
    assert training_listener(config, "cuda") is None
    assert "have no clip to measure the recogniser on" in capsys.readouterr().out
    for asked in ({"recogniser": True}, {"best_by": "cer"}):
        wanted = config_of(tmp_path / "other", **asked)
        for split in ("val", "test"):
            (tone_speech.Path(wanted.data_dir) / f"split/{split}/{split}_metadata.csv").unlink(missing_ok=True)
        with pytest.raises(UserError, match="no clip to measure"):
            training_listener(wanted, "cuda")
