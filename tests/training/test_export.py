"""The report, and the model card. That the exported folder is loaded by coqui is tested with the whole pipeline."""

import pytest
from small_index import make_index

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.jsonl import append_jsonl
from xtts_ka.training.checkpoint_manager import Checkpoint
from xtts_ka.training.export import write_card, write_report


@pytest.fixture
def report(tmp_path):
    """(figures, REPORT.md) of a run that logged these lines."""

    def make(lines=(), stand_ins=(), old=None):
        for line in ({"event": "start", "resumed": False}, *lines):
            append_jsonl(tmp_path / "metrics.jsonl", line)
        config = PretrainConfig(output_model_path=str(tmp_path / "model"))
        best = Checkpoint(tmp_path / "step_00000020", 20, "run", 3.5)
        clips = make_index(tmp_path, [22050 * 15] * 12)
        figures = write_report(config, tmp_path / "metrics.jsonl", clips, best, list(stand_ins), "epochs", old or {})
        return figures, (tmp_path / "model/REPORT.md").read_text("utf-8")

    return make


def metric(split, step, loss):
    return {"split": split, "step": step, "loss": loss}


def test_losses_are_told_from_first_to_best(report, capsys):
    lines = [
        metric("train", 10, 6.0),
        metric("val", 10, 5.0),
        metric("val", 20, 3.5),
        metric("train", 30, 2.0),
        metric("val", 30, 3.75),
    ]
    figures, text = report(lines)
    assert figures["first_train_loss"] == 6.0 and figures["last_train_loss"] == 2.0
    assert figures["first_val_loss"] == 5.0 and figures["best_val_loss"] == 3.5
    assert (figures["train_clips"], figures["train_hours"], figures["step"]) == (12, 0.05, 20)
    assert "Trained on: 12 clips, 0.05 h\nTraining loss: 6.0000 → 2.0000\n" in text
    assert "Validation loss: 5.0000 → 3.5000 (best, step 20)\nExported: step 20 to" in text
    assert (
        "Next: listen: python synthesize.py" in text
        and "more: raise epochs, run" in text
        and text in capsys.readouterr().out
    )


def test_the_loss_of_unseen_speakers_is_told_where_there_are_some(report):
    lines = [metric("val", 10, 5.0) | {"unseen_loss": 5.5}, metric("val", 20, 3.5) | {"unseen_loss": 3.75}]
    figures, text = report(lines)
    assert figures["unseen_loss"] == (5.5, 3.75)
    assert "Validation loss of speakers not trained on: 5.5000 → 3.7500 (step 20)\n" in text
    assert "not trained on" not in report([{"event": "start"}, *[metric("val", 20, 3.5)]])[1]


def test_a_run_too_short_to_log_has_no_losses(report):
    figures, text = report()
    assert figures["first_train_loss"] is None and figures["first_val_loss"] is None
    assert "too few steps to log" in text and "Validation loss" not in text


def test_stand_ins_are_named_and_what_to_do_about_them(report):
    figures, text = report(stand_ins=["synthetic speech"])
    assert figures["stand_ins"] == ["synthetic speech"]
    assert "h (STARTER: synthetic speech)\n" in text and "Next: this is a rehearsal with stand-ins." in text


OLD = {
    "old_rows": {
        "text_embedding": {"token": "a|b", "max_abs": 0.0123, "share_of_norm": 0.005},
        "text_head": {"token": "[de]", "max_abs": 0.2, "share_of_norm": 0.1},
    },
    "old_languages": {"de": {"clips": 50, "seconds": 211.7, "loss_text": [3.5, 4.25], "loss_mel": [4.0, 4.125]}},
}


def test_the_report_tells_what_training_did_to_the_old_languages(report):
    figures, text = report(old=OLD)
    assert figures["old_languages"] == OLD["old_languages"]
    assert "Loss in de, base → exported: text 3.5000 → 4.2500, audio 4.0000 → 4.1250 (50 clips, 212 s)\n" in text
    assert "length): text_embedding 0.012 at 'a|b' (0.50%), text_head 0.2 at '[de]' (10.00%)\n" in text
    assert "Loss in" not in report()[1] and "old text row" not in report()[1]


FIGURES = {
    "step": 20,
    "train_clips": 12,
    "voices": 1,
    "train_hours": 0.05,
    "first_train_loss": 6.0,
    "last_train_loss": 2.0,
    "first_val_loss": 5.0,
    "best_val_loss": 3.5,
    "stand_ins": [],
}


@pytest.fixture
def card(tmp_path):
    """(front matter, the rest) of the README.md made of FIGURES with changes."""
    base = tmp_path / "base"
    base.mkdir()
    config = PretrainConfig(output_model_path=str(tmp_path / "model"), base_model_path=str(base))

    def make(stand_in_base=False, **changes):
        if stand_in_base:
            (base / "STARTER.json").touch()
        write_card(config, FIGURES | changes)
        empty, front, text = (tmp_path / "model/README.md").read_text("utf-8").split("---\n", 2)
        assert empty == ""
        return front, text

    return make


def test_the_card_has_the_front_matter_that_hugging_face_reads(card):
    fields, tags = card()[0].split("tags:\n")
    facts = dict(line.split(": ", 1) for line in fields.splitlines())
    assert facts["language"] == "ka" and facts["pipeline_tag"] == "text-to-speech"
    assert facts["license"] == "other" and facts["license_name"] == "coqui-public-model-license"
    assert facts["license_link"].startswith("https://") and facts["base_model"] == "coqui/XTTS-v2"
    assert {"- xtts", "- georgian"} <= set(tags.splitlines())


def test_a_model_without_a_voice_says_so_and_speaks_after_a_recording(card):
    text = card(voices=0)[1]
    assert "get_conditioning_latents" in text and "speaker_manager" not in text and "did not tell who spoke" in text


def test_the_card_gives_data_figures_how_to_speak_and_the_optional_files(card):
    text = card()[1]
    assert "| Data | 12 clips, 0.05 h |" in text and "| Exported step | 20 |" in text
    assert "6.0000 → 2.0000" in text and "5.0000 → 3.5000" in text
    assert 'load_xtts("xtts_v2_ka")' in text and "--language_idx ka" in text and "non-commercial" in text
    assert "speaker_manager.speakers" in text and "only with their consent" in text
    needed, optional = text.split("All others")
    assert "`model.pth`" in needed and "`dvae.pth`" in optional and "STARTER" not in text


def test_a_starter_card_says_that_this_is_no_usable_voice(card):
    front, text = card(stand_in_base=True, stand_ins=["a tiny untrained base model", "synthetic speech"])
    assert text.startswith("\n# Georgian XTTS-v2 (STARTER: no usable voice)\n")
    assert "no usable voice.** It is" in text and "a tiny untrained base model, synthetic speech" in text
    assert "base_model" not in front and "license" not in front  # nothing of XTTS-v2's weights is in it


def test_synthetic_speech_alone_makes_a_starter_of_the_released_base_model(card):
    front, text = card(stand_ins=["synthetic speech"])
    assert "no usable voice" in text and "coqui/XTTS-v2" in front and "non-commercial" in text


def test_the_card_tells_what_training_did_to_the_old_languages(card):
    text = card(**OLD)[1]
    assert "| Loss in de, base → exported | text 3.5000 → 4.2500, audio 4.0000 → 4.1250 (50 clips, 212 s) |" in text
    assert "at 'a\\|b' (0.50%)" in text and "the more they have grown, the more was lost" in text


def test_a_card_without_losses_leaves_them_out(card):
    text = card(first_train_loss=None, last_train_loss=None, first_val_loss=None, best_val_loss=None)[1]
    assert "loss, first" not in text and "| Exported step | 20 |" in text
