"""The CSV has each step once, every digit, and nothing that a spreadsheet would execute."""

import csv
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import mutated
from random_logs import any_line
from run_folder import curve, started, write_log

from xtts_ka.core.errors import UserError
from xtts_ka.monitor.csv_export import export_csv
from xtts_ka.monitor.history import RunHistory


def line(step: int, loss: float = 1.0, split: str = "train", **more) -> dict:
    return {"step": step, "split": split, "loss": loss, **more}


def read(path) -> RunHistory:
    history = RunHistory(path)
    history.refresh()
    return history


def export(log, target) -> int:
    return export_csv(read(log), target)


def test_export_has_each_step_once_and_right_types(tmp_path):
    log = write_log(
        tmp_path / "m.jsonl",
        [
            started(),
            line(10, 5.0, lr=1e-5, epoch=0),
            line(20, 4.0, lr=2e-5, epoch=0),
            line(20, 4.5, "val"),
            line(30, 3.0, lr=3e-5, epoch=1),
            started(20, resumed=True),
            line(30, 3.5, lr=4e-5, epoch=1),
            line(40, math.nan, lr=5e-5, epoch=1),
            line(45, 9.5, "val"),
            {"step": 45, "split": "samples", "cer": 0.25},
        ],
    )
    target = tmp_path / "out.csv"
    assert export(log, target) == 5
    frame = pd.read_csv(target)
    assert frame.columns.tolist() == ["step", "loss", "lr", "epoch", "val_loss", "samples_cer"]
    assert frame["step"].tolist() == [10, 20, 30, 40, 45] and frame["step"].dtype == np.int64
    assert frame["loss"].dtype == frame["lr"].dtype == frame["val_loss"].dtype == np.float64
    assert frame["loss"][:3].tolist() == [5.0, 4.0, 3.5] and frame["loss"][3:].isna().all()
    assert frame["samples_cer"].dropna().tolist() == [0.25]
    assert frame["val_loss"].dropna().tolist() == [4.5, 9.5]
    assert frame["epoch"][:4].tolist() == [0, 0, 1, 1]


def test_export_gives_back_every_digit(tmp_path):
    records = curve("healthy", 120)
    export(write_log(tmp_path / "m.jsonl", [started(), *records]), tmp_path / "out.csv")
    frame = pd.read_csv(tmp_path / "out.csv", float_precision="round_trip").set_index("step")
    for record in records:
        prefix = "val_" if record["split"] == "val" else ""
        for name, value in record.items():
            if name not in ("step", "split"):
                assert frame.loc[record["step"], prefix + name] == value


def test_export_keeps_formulas_and_texts_out_of_the_table(tmp_path):
    log = write_log(
        tmp_path / "m.jsonl", [line(10, 1.0, note="=cmd()", **{"=HYPERLINK(1)": 3, "ok": True, "big": 10**31})]
    )
    export(log, tmp_path / "out.csv")
    text = (tmp_path / "out.csv").read_text()
    assert "cmd" not in text and "HYPERLINK" not in text
    assert pd.read_csv(tmp_path / "out.csv")["note ok big".split()].isna().all(axis=None)  # no numbers


def test_export_of_nothing_is_a_clear_error_and_writes_nothing(tmp_path):
    with pytest.raises(UserError, match="holds no metrics"):
        export(tmp_path / "none.jsonl", tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []


GOOD_LOG = "".join(
    json.dumps(record) + "\n" for record in [started(), *curve("healthy", 12), started(step=60, resumed=True)]
)


@given(st.lists(any_line, max_size=12).map(b"\n".join) | mutated(GOOD_LOG) | mutated(GOOD_LOG, most=12))
def test_fuzz_export_agrees_with_the_history_or_says_there_is_nothing(tmp_path, content):
    path = tmp_path / "m.jsonl"
    path.write_bytes(content + b"\n")
    history = read(path)
    tracks = (history.train, history.val, history.samples)
    expected = sorted({step for track in tracks for step in track.table()["step"].tolist()})
    target = tmp_path / "out.csv"
    target.unlink(missing_ok=True)
    if not expected:
        with pytest.raises(UserError):
            export_csv(history, target)
    else:
        export_csv(history, target)
        with open(target, encoding="utf-8", newline="") as table:
            assert [int(row["step"]) for row in csv.DictReader(table)] == expected
    assert sorted(tmp_path.iterdir()) == sorted([path, target] if expected else [path])
