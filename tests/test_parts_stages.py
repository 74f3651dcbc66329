"""The stages of the DVAE and the decoder, beside the others of a small project that was run without them."""

import json

import numpy as np
import pytest
import torch
from small_project import here, write_config

import checkpoint_monitor
import run_pretrain
import run_xtts_pretrain
import xtts_ka

PARTS = {
    "dvae": {"enabled": True, "max_steps": 2, "batch_size": 2, "segment_codes": 4, "learning_rate": 1e-4},
    "decoder": {
        **{"enabled": True, "max_steps": 2, "batch_size": 1, "segment_codes": 4, "discriminator_minutes": 0},
        **{"discriminator_width": 4, "discriminator_start": 1, "voice_weight": 1.0},
    },
}


def weights(file):
    state = torch.load(file, weights_only=True)
    return state.get("model", state)


@pytest.fixture(scope="module")
def tuned(small_project, tmp_path_factory):
    """The project with both stages enabled, run to the end; and what it said."""
    folder = small_project.copy(tmp_path_factory.mktemp("parts"))
    config = write_config(folder, **PARTS)
    result = here(run_pretrain.main, "--config", config)
    assert result.code == 0, result.out + result.err
    return folder, result


def test_they_run_in_their_places_and_then_nothing_is_due(tuned):
    folder, result = tuned
    assert "── dvae: never run" in result.out and "── decoder: never run" in result.out
    assert "── full_pretrain: dvae wrote other files" in result.out or "── full_pretrain: dvae runs again" in result.out
    assert "of the codes of 2 validation clips have changed; the base GPT's loss on them" in result.out
    listing = here(run_pretrain.main, "--config", folder / "config.json", "--dry-run")
    assert listing.out.count("skip  up to date") == 7, listing.out


def test_the_exported_model_holds_what_they_trained(tuned):
    out, base = tuned[0] / "models/xtts_v2_ka", tuned[0] / "models/base_xtts_v2"
    before, after = weights(base / "model.pth"), weights(out / "model.pth")
    vocoder = [name for name in after if name.startswith("hifigan_decoder.waveform_decoder.")]
    assert sum(not torch.equal(before[name], after[name]) for name in vocoder) > 0.9 * len(vocoder)
    encoder = [name for name in after if name.startswith("hifigan_decoder.speaker_encoder.")]
    assert encoder and all(torch.equal(before[name], after[name]) for name in encoder)
    old, new = weights(base / "dvae.pth"), weights(out / "dvae.pth")
    assert sum(not torch.equal(old[name], new[name]) for name in old if name.startswith("encoder.")) > 10
    assert (tuned[0] / "logs/decoder/samples/1_decoded.wav").is_file()
    trained = weights(out / "decoder.pth")
    assert all(torch.equal(after[f"hifigan_decoder.waveform_decoder.{name}"], trained[name]) for name in trained)


def test_the_model_speaks(tuned):
    model = xtts_ka.load_xtts(tuned[0] / "models/xtts_v2_ka")
    voice = next(iter(model.speaker_manager.speakers.values()))
    made = model.inference("გზა.", "ka", voice["gpt_cond_latent"], voice["speaker_embedding"])
    assert len(made["wav"]) and np.isfinite(made["wav"]).all()


def test_the_monitor_shows_a_part(tuned):
    config = tuned[0] / "config.json"
    shown = json.loads(here(checkpoint_monitor.main, "--config", config, "--part", "decoder", "--json").out)
    assert shown["training"]["step"] == 2 and [c["step"] for c in shown["checkpoints"]] == [1, 2]
    stages = [stage["name"] for stage in shown["stages"]]
    assert stages.index("dvae") < stages.index("full_pretrain") < stages.index("decoder")


def test_a_longer_training_carries_on_and_other_settings_start_anew(tuned):
    folder, _ = tuned
    decoder = PARTS["decoder"]
    config = write_config(folder, **PARTS | {"decoder": decoder | {"max_steps": 3}})
    result = here(run_pretrain.main, "--config", config)
    assert result.code == 0, result.err
    assert "── decoder: decoder.max_steps 2 → 3" in result.out and "carrying on from step 2" in result.out
    assert "── full_pretrain" not in result.out
    config = write_config(folder, **PARTS | {"decoder": decoder | {"learning_rate": 1e-3}})
    result = here(run_xtts_pretrain.main, "--config", config, "--step", "decoder")
    assert result.code == 0, result.err
    assert "superseded_1" in result.out and "carrying on" not in result.out
    assert here(run_pretrain.main, "--config", config, "--dry-run").out.count("skip  up to date") == 7


def test_a_stage_that_is_off_is_refused_with_the_key(small_project):
    for main, flag in ((run_pretrain.main, "--only"), (run_xtts_pretrain.main, "--step")):
        result = here(main, "--config", small_project.folder / "config.json", flag, "decoder")
        assert result.code == 2 and "decoder.enabled is false in the config: set it to true" in result.err
        assert len(result.err.splitlines()) == 1


def test_a_decoder_before_a_gpt_is_refused(project):
    config = write_config(project, decoder=PARTS["decoder"])
    (project / "models/xtts_v2_ka/pretrain_progress.json").unlink()
    result = here(run_xtts_pretrain.main, "--config", config, "--step", "decoder")
    assert result.code == 2 and len(result.err.splitlines()) == 1
    assert "stage decoder needs full_pretrain, which is not up to date" in result.err
