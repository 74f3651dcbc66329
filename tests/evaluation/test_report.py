"""Parts of the report that an evaluation of two tiny texts (tests/test_evaluate_model.py) does not reach."""

import csv
import io
from dataclasses import replace
from types import SimpleNamespace

from measured_clips import CLIPS

from xtts_ka.evaluation.evaluate import Outcome
from xtts_ka.evaluation.report import build_report, results_table, summary_lines


def outcome(clips=CLIPS, floor=(), labels=("m",)) -> Outcome:
    return Outcome(list(clips), list(floor), [SimpleNamespace(name="l")], list(labels), 2)


def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe():
    table = results_table(outcome([replace(CLIPS[0], text="=1+1"), CLIPS[1]])).decode("utf-8")
    first, second = csv.DictReader(io.StringIO(table))
    assert first["text"] == "'=1+1" and second["text"] == "დილა" and second["faults"] == "babble"
    assert first["dnsmos"] == "" and first["similarity"] == "0.5"


def test_several_models_stand_beside_the_first():
    other = [replace(clip, model="n") for clip in CLIPS[:1]]
    report = build_report(outcome([*CLIPS, *other], labels=("m", "n")), {})
    assert report["model"]["label"] == "m" and report["models"]["n"]["cer"]["value"] == 0.0
    assert report["times"]["real_time_factor"] == {"m": 0.5, "n": 0.5}


def test_without_recordings_the_floor_is_unknown():
    report = build_report(outcome(), {})
    assert report["floor"]["cer"]["value"] is None and report["recogniser"]["clips"] == 0
    lines = "\n".join(summary_lines(report))
    assert "0 recordings: CER –" in lines and "m: CER 30.0 %" in lines
