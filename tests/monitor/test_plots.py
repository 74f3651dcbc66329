"""The plot is written whole or not at all, for any log, and the font has all its letters."""

import warnings

import numpy as np
import pytest
from run_folder import curve, heard, started, write_log

from xtts_ka.monitor.history import RunHistory
from xtts_ka.monitor.plots import draw_plot


def drawn(tmp_path, records, **more):
    from matplotlib.image import imread

    history = RunHistory(write_log(tmp_path / "m.jsonl", records))
    history.refresh()
    target = tmp_path / "plot.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a letter that the font lacks
        draw_plot(history, target, **more)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.jsonl", "plot.png"]
    return imread(target)


def colour_share(image, colour: str) -> float:
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float((np.abs(image[..., :3] - wanted).max(-1) < 0.1).mean())


def test_a_run_with_a_restart_shows_every_curve(tmp_path):
    records = [
        started(),
        *curve("healthy", 200, 400),
        started(1500, resumed=True),
        *[r for r in curve("healthy", 300, 400) if r["step"] > 1500],
    ]
    image = drawn(tmp_path, records, total_steps=4000, clip_norm=1.0)
    assert image.shape[:2] == (1500, 1800)
    # train, validation, best, text, restart
    for colour in ("#1f6fb4", "#d1495b", "#2a9d4a", "#e08a1e", "#8e5fb5"):
        assert colour_share(image, colour) > 2e-5, colour


def test_speakers_that_training_does_not_hear_have_a_curve_of_their_own(tmp_path):
    records = [started(), *curve("healthy", 100)]
    assert colour_share(drawn(tmp_path, records), "#7a5230") < 2e-5
    (tmp_path / "plot.png").unlink()
    for record in records:
        if record.get("split") == "val":
            record["unseen_loss"] = record["loss"] + 0.5
    assert colour_share(drawn(tmp_path, records), "#7a5230") > 2e-5


def test_a_run_without_restart_has_no_restart_line(tmp_path):
    assert colour_share(drawn(tmp_path, [started(), *curve("healthy", 50)]), "#8e5fb5") < 2e-5


@pytest.mark.parametrize(
    "records",
    [
        [{"step": 1, "split": "train", "loss": 2.0}],
        [{"step": 1, "split": "val", "loss": 2.0}],
        [{"step": s, "split": "train", "loss": float("nan"), "lr": 0.0} for s in range(1, 40)],
        [{"step": s, "split": "train", "loss": 1e29 * (-1) ** s, "lr": 1e-9, "grad_norm": 0.0} for s in range(1, 60)],
    ],
    ids=["one line", "validation only", "no number", "wild"],
)
def test_thin_and_wild_logs_are_drawn_too(tmp_path, records):
    assert drawn(tmp_path, records, clip_norm=1.0).shape[:2] == (1500, 1800)


def test_a_failed_drawing_leaves_the_old_picture(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    history = RunHistory(write_log(tmp_path / "m.jsonl", curve("healthy", 20)))
    history.refresh()
    target = tmp_path / "plot.png"
    target.write_bytes(b"old")

    def torn(self, path, **more):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", torn)
    with pytest.raises(OSError):
        draw_plot(history, target)
    assert target.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2


def test_samples_have_a_row_of_their_own(tmp_path):
    image = drawn(tmp_path, [started(), *curve("healthy", 400), *heard()])
    assert image.shape[:2] == (1875, 1800)
    below = image[1500:]
    assert all(colour_share(below, colour) > 0.0005 for colour in ("#d1495b", "#e08a1e", "#1f6fb4", "#7a5230"))
    alone = drawn(tmp_path, [started(), *curve("healthy", 400), *heard("similarity alone")])
    assert colour_share(alone[1500:], "#d1495b") == 0 and colour_share(alone[1500:], "#1f6fb4") > 0.0005
