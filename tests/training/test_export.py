"""The report's figures and sentences. That the exported folder is loaded by coqui is tested with the whole pipeline."""

import pytest
from small_index import make_index

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.jsonl import append_jsonl
from xtts_ka.training.checkpoint_manager import Checkpoint
from xtts_ka.training.export import write_report


@pytest.fixture
def report(tmp_path):
    """(figures, REPORT.md) of a run that logged these lines."""

    def make(lines=(), stand_ins=()):
        for line in ({"event": "start", "resumed": False}, *lines):
            append_jsonl(tmp_path / "metrics.jsonl", line)
        config = PretrainConfig(output_model_path=str(tmp_path / "model"))
        best = Checkpoint(tmp_path / "step_00000020", 20, "run", 3.5)
        figures = write_report(
            config, tmp_path / "metrics.jsonl", make_index(tmp_path, [22050 * 15] * 12), best, list(stand_ins)
        )
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
    assert "Next: listen: python synthesize.py" in text and text in capsys.readouterr().out


def test_a_run_too_short_to_log_has_no_losses(report):
    figures, text = report()
    assert figures["first_train_loss"] is None and figures["first_val_loss"] is None
    assert "too few steps to log" in text and "Validation loss" not in text


def test_stand_ins_are_named_and_what_to_do_about_them(report):
    figures, text = report(stand_ins=["synthetic speech"])
    assert figures["stand_ins"] == ["synthetic speech"]
    assert "h (STARTER: synthetic speech)\n" in text and "Next: this is a rehearsal with stand-ins." in text
