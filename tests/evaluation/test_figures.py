import numpy as np
from measured_clips import CLIPS

from xtts_ka.evaluation.figures import figures, grouped, real_time_factor


def test_errors_are_summed_and_shares_counted():
    found = figures(CLIPS, "l", voices=2)
    assert (found["clips"], found["texts"]) == (4, 3)
    assert np.isclose(found["cer"]["value"], 6 / 20, atol=1e-6) and np.isclose(found["wer"]["value"], 2 / 5)
    assert found["perfect"]["value"] == 0.5 and found["any_fault"]["value"] == 0.5
    assert {kind: figure["value"] for kind, figure in found["faults"].items() if figure["value"]} == {
        "babble": 0.25, "skipped": 0.25, "no_stop": 0.25,
    }  # fmt: skip


def test_what_was_not_measured_is_left_out():
    found = figures(CLIPS, "l", voices=2)
    assert found["similarity"]["value"] == 0.5 and found["letters_per_second"]["value"] == 12.0
    assert np.isclose(found["top1"]["value"], 2 / 3, atol=1e-6)
    assert found["dnsmos"] == {"value": None, "low": None, "high": None}
    assert figures(CLIPS, "l", voices=1)["top1"]["value"] is None  # with one voice there is nothing to mistake
    assert figures([], "l", voices=2)["cer"]["value"] is None


def test_voices_and_kinds_are_told_apart():
    found = grouped(CLIPS, "l", voices=2)
    assert {name: part["clips"] for name, part in found["by_voice"].items()} == {"ეკა": 3, "დათო": 1}
    assert {name: part["clips"] for name, part in found["by_kind"].items()} == {"short": 3, "long": 1}
    assert real_time_factor(CLIPS) == 0.5 and real_time_factor([]) is None
