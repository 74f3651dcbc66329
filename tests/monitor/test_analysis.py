"""Each kind of curve gets its verdict; slopes and intervals are those of known lines."""

import math
from pathlib import Path

import numpy as np
import pytest
from run_folder import curve, heard, started, write_log

from xtts_ka.monitor.analysis import Finding, analyse, data_wait_share, recommend, sen_slope, trend
from xtts_ka.monitor.history import Choice, RunHistory
from xtts_ka.training.checkpoint_folders import CheckpointFolder

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")  # numpy's would reach the user's screen


def judged(tmp_path, records):
    history = RunHistory(write_log(tmp_path / "m.jsonl", [started(), *records]))
    history.refresh()
    return analyse(history, clip_norm=1.0)


# ── one verdict for each kind of curve ──

VERDICTS = {
    "healthy": "healthy",
    "plateau": "plateau",
    "divergence": "divergence",
    "spikes": "spikes",
    "overfitting": "overfitting",
    "lr_noise": "learning-rate",
    "starvation": "data-starvation",
}


@pytest.mark.parametrize("kind", VERDICTS)
@pytest.mark.parametrize("seed", range(5))
def test_each_kind_of_curve_is_told_from_the_others(tmp_path, kind, seed):
    result = judged(tmp_path, curve(kind, 400, seed=seed))
    assert result.verdict == VERDICTS[kind]
    assert len(result.findings) == 1 and result.sentence == result.findings[0].sentence


@pytest.mark.parametrize("lines", [40, 100, 1500])
def test_a_healthy_run_is_healthy_from_early_on(tmp_path, lines):
    result = judged(tmp_path, curve("healthy", lines, max(400, lines)))
    assert (result.verdict, result.train_trend.direction, result.findings[0].severity) == ("healthy", "falling", "good")


def test_where_it_began_is_found(tmp_path):
    # the curve turns at step 2400
    assert abs(judged(tmp_path, curve("divergence", 400)).findings[0].step - 2400) <= 150
    # validation turns at step 1600
    assert abs(judged(tmp_path, curve("overfitting", 400)).findings[0].step - 1600) <= 200
    spiky = judged(tmp_path, curve("spikes", 400)).findings[0]
    assert spiky.step == 3700 and spiky.sentence.startswith("10 spikes")  # lines 37, 74, …, 370


def test_blame(tmp_path):
    assert "is the likely cause: halve it" in judged(tmp_path, curve("divergence", 400)).sentence
    assert "too high" in judged(tmp_path, curve("lr_noise", 400)).sentence
    assert "schedule is not the cause" in judged(tmp_path, curve("plateau", 400)).sentence
    assert "53%" in judged(tmp_path, curve("starvation", 400)).sentence  # 1.6 s of 3 s
    ended = curve("plateau", 400)
    for i, record in enumerate(ended):
        if "lr" in record:
            record["lr"] *= 1 if i < 200 else 0.05
    assert "end of the schedule" in judged(tmp_path, ended).sentence


def test_noise_that_falls_with_the_learning_rate_is_blamed_on_it(tmp_path):
    records = curve("healthy", 400)
    draw = np.random.default_rng(5)
    for record in records:
        if record["split"] == "train":
            record["loss"] = 3.0 + draw.normal(0, 0.9) * (1.0 if record["step"] < 3000 else 0.45)
            record["lr"] = 2e-5 if record["step"] < 3000 else 2e-6
    sentence = judged(tmp_path, records).sentence
    assert "times as much where the learning rate is high" in sentence


def test_uneven_batches_are_not_blamed_on_the_learning_rate(tmp_path):
    records = curve("healthy", 400)
    draw = np.random.default_rng(6)
    for record in records:
        if record["split"] == "train":
            record["loss"] += draw.normal(0, 0.6)
    assert "learning-rate" not in [f.kind for f in judged(tmp_path, records).findings]


def test_a_loss_that_is_no_number_any_more_is_divergence_and_one_that_recovered_is_not(tmp_path):
    records = curve("healthy", 100, 400)
    ended = [*records, {"step": 1010, "split": "train", "loss": math.nan, "lr": 2e-5}]
    result = judged(tmp_path, ended)
    assert result.verdict == "divergence" and "step 1010" in result.sentence
    records[50]["loss"] = math.nan
    assert judged(tmp_path, records).verdict == "non-finite"


def test_skipped_steps_are_a_warning_and_several_at_the_end_are_divergence(tmp_path):
    records = curve("healthy", 100, 400)
    one = judged(tmp_path, [*records, {"event": "skip", "step": 1002}])
    assert one.verdict == "non-finite" and "not a number at 1 step(s), the last 1002" in one.sentence
    ended = judged(tmp_path, [*records, *({"event": "skip", "step": step} for step in (400, 1001, 1002, 1003))])
    assert ended.verdict == "divergence" and ended.findings[0].step == 1001


def test_too_few_lines_say_nothing(tmp_path):
    assert judged(tmp_path, []).verdict == "too-early"
    assert judged(tmp_path, curve("healthy", 12, 400)).verdict == "too-early"


def test_a_constant_loss_and_missing_columns_are_no_crash(tmp_path):
    bare = [{"step": i, "split": "train", "loss": 0.0} for i in range(1, 100)]
    assert judged(tmp_path, bare).verdict in ("plateau", "unclear")
    assert judged(tmp_path, [{"step": i, "split": "val", "loss": 2.0} for i in range(1, 100)]).verdict == "too-early"


# ── the statistics ──


def test_sen_slope_of_a_line_with_one_wild_point():
    x = np.arange(10.0)
    y = 2.0 - 0.5 * x
    y[4] = 100.0
    slope, low, high, confidence = sen_slope(x, y)
    assert slope == pytest.approx(-0.5) and low <= -0.5 <= high < 0 and confidence > 0.95


def test_sen_slope_by_hand():
    # Slopes of (0,0) (1,2) (2,2): 2, 1, 0 → median 1; Kendall's S = 2, spread √(3·2·11/18), z = 1/1.915.
    slope, _, _, confidence = sen_slope(np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 2.0]))
    assert slope == 1.0 and confidence == pytest.approx(math.erf(1 / math.sqrt(66 / 18) / math.sqrt(2)))


def test_the_interval_holds_the_true_slope_about_as_often_as_it_says():
    draw, x, hits = np.random.default_rng(7), np.arange(24.0), 0
    for _ in range(300):
        _, low, high, _ = sen_slope(x, -0.02 * x + draw.normal(0, 0.1, 24))
        hits += low <= -0.02 <= high
    assert 0.92 <= hits / 300 <= 0.985


def test_trend_is_per_thousand_steps_over_the_last_third():
    step = np.arange(10.0, 3010.0, 10.0)
    loss = np.where(step < 2000, 9.0, 5.0 - 0.001 * (step - 2000))
    found = trend({"step": step, "loss": loss})
    assert found.slope == pytest.approx(-1.0) and found.direction == "falling"
    assert found.first >= 2000 and found.last == 3000
    flat = trend({"step": step, "loss": np.full_like(step, 4.0)})
    assert flat.direction == "flat" and flat.slope == 0.0
    assert trend({"step": step[:4], "loss": loss[:4]}) is None


def test_data_wait_is_a_share_of_the_time_between_lines():
    time = np.cumsum([0.0, 2.0, 2.0, 100.0, 2.0])
    table = {"time": time, "data_wait_s": np.array([0.0, 0.5, 0.5, 0.5, 0.5]), "session": np.array([0.0, 0, 0, 1, 1])}
    assert data_wait_share(table) == pytest.approx(0.25)
    assert math.isnan(data_wait_share({name: column[:0] for name, column in table.items()}))


# ── samples ──


@pytest.mark.parametrize("seed", range(5))
def test_errors_that_rise_while_the_validation_loss_falls_are_told(tmp_path, seed):
    result = judged(tmp_path, [*curve("healthy", 400, seed=seed), *heard("worse", seed=seed)])
    finding = result.findings[0]
    assert result.verdict == finding.kind == "worse-heard" and abs(finding.step - 1900) <= 400
    words = f"Heard: since step {finding.step} the CER of samples has risen from 0.6"
    assert finding.sentence.startswith(words) and "while the validation loss falls" in finding.sentence
    assert [found.kind for found in result.findings if found.severity == "warning"] == ["worse-heard"]


def test_likeness_that_falls_is_told(tmp_path):
    lines = [line | {"similarity": 1.2 - line["similarity"]} for line in heard("similarity alone")]
    result = judged(tmp_path, [*curve("healthy", 400), *lines])
    assert "the voice similarity of samples has fallen" in result.sentence


@pytest.mark.parametrize("seed", range(5))
def test_samples_that_improve_are_a_note_with_the_recognisers_own_errors(tmp_path, seed):
    result = judged(tmp_path, [*curve("healthy", 400, seed=seed), *heard(seed=seed)])
    assert result.verdict == "healthy" and [found.kind for found in result.findings] == ["healthy", "heard"]
    assert result.findings[1].sentence.startswith("20 rounds of samples: CER 0.8")
    assert "the recogniser's own CER on real recordings: 0.04" in result.findings[1].sentence
    alone = judged(tmp_path, [*curve("healthy", 400), *heard("similarity alone")])
    assert "CER" not in alone.findings[1].sentence and "voice similarity 0.5" in alone.findings[1].sentence


# ── the checkpoint to use ──


def listed(step, val_loss=None, valid=True):
    return CheckpointFolder(Path(f"step_{step:08d}"), step, val_loss=val_loss, of_this_run=valid)


def test_the_recommended_checkpoint():
    several = [listed(500, 3.0), listed(1000, 2.0), listed(1500, 2.5), listed(2000, 1.0, valid=False)]
    assert recommend(several, [])[0] == "step_00001000"
    fell_apart = [Finding("divergence", "bad", "", 900)]
    assert recommend(several, fell_apart)[0] == "step_00000500"
    name, reason = recommend(several[1:], fell_apart)
    assert name is None and "step 900" in reason
    assert recommend([listed(500), listed(1000)], [])[0] == "step_00001000"
    assert recommend([], [])[0] is None


def test_a_checkpoint_that_was_chosen_by_cer_is_recommended_and_says_so():
    several = [listed(500, 3.0), listed(1000, 2.0), listed(1500, 2.5)]
    name, reason = recommend(several, [], Choice(1500, 0.12, 3))
    assert name == "step_00001500" and "lowest CER (12.0%) of 3 heard" in reason
    assert "by validation loss it would be step_00001000" in reason
    name, reason = recommend(several[:2], [], Choice(1500, 0.12, 3))  # it was deleted
    assert name == "step_00001000" and "lowest validation loss" in reason
