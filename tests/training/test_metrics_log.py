"""Logged metrics reach metrics.jsonl, TensorBoard and the console at once, and survive a kill."""

import numpy as np

from xtts_ka.core.jsonl import read_jsonl
from xtts_ka.corpus.audio import wav_bytes
from xtts_ka.training.metrics_log import MetricsLog, Picture, Sound, losses, unfinished_run

TRAIN = {
    "loss": 2.0,
    "loss_text": 3.0,
    "loss_mel": 1.9,
    "lr": 1e-4,
    "grad_norm": 1.0,
    "audio_s_per_s": 9.0,
    "data_wait_s": 0.1,
}


def val(loss):
    return {"loss": loss, "loss_text": 3.0, "loss_mel": loss}


def board(folder, tag):
    """What TensorBoard shows: (step, value) pairs."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(scalar.step, scalar.value) for scalar in events.Scalars(tag)]


def test_one_dict_goes_to_the_file_the_board_and_the_screen(tmp_path, capsys):
    log = MetricsLog(tmp_path, fresh=True)
    log.event("start", step=0, total_steps=10)
    log.log(5, "train", TRAIN, 10, seconds_left=125)
    log.log(5, "val", val(1.5), 10)
    lines = list(read_jsonl(tmp_path / "metrics.jsonl"))
    assert (
        lines[0]["event"] == "start"
        and lines[1]["step"] == 5
        and lines[1]["loss"] == 2.0
        and lines[2]["split"] == "val"
    )
    assert all("time" in line for line in lines)
    assert board(tmp_path, "train/loss") == [(5, 2.0)] and board(tmp_path, "val/loss") == [(5, 1.5)]
    said = capsys.readouterr().out.splitlines()
    assert "step      5/10  train  loss 2.0000" in said[0] and said[0].endswith("  left 2 min 5 s")
    assert "val" in said[1] and "left" not in said[1]


def test_tensorboard_shows_each_value_as_soon_as_it_is_logged(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = MetricsLog(tmp_path, fresh=True)
    for step in range(1, 4):
        log.log(step, "val", val(1.0), 10)
        board = EventAccumulator(str(tmp_path / "tensorboard"))  # as it stands now, the log still open
        board.Reload()
        assert [event.step for event in board.Scalars("val/loss")] == list(range(1, step + 1))


def test_tensorboard_plays_clips_and_shows_their_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    wave = wav_bytes(np.zeros(2400), 24000)
    log = MetricsLog(tmp_path, fresh=True)
    log.log_media(7, {"a": Sound(wave, 24000, 2400)}, {"a": Picture(b"PNG", 160, 10)})
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    (sound,), (picture,) = board.Audio("samples/a"), board.Images("samples_mel/a")
    assert (sound.step, sound.encoded_audio_string, sound.sample_rate) == (7, wave, 24000)
    assert (picture.encoded_image_string, picture.height, picture.width) == (b"PNG", 160, 10)


def test_a_fresh_run_keeps_the_old_samples_beside_the_old_log(tmp_path):
    MetricsLog(tmp_path, fresh=True).event("start", step=0)
    (tmp_path / "samples/step_00000001").mkdir(parents=True)
    MetricsLog(tmp_path, fresh=True).event("start", step=0)
    (tmp_path / "samples").mkdir()
    MetricsLog(tmp_path, fresh=True)
    assert (tmp_path / "samples_1/step_00000001").is_dir() and (tmp_path / "samples_2").is_dir()
    assert not (tmp_path / "samples").exists() and (tmp_path / "metrics_2.jsonl").exists()


def test_a_fresh_run_keeps_the_old_log_under_another_name(tmp_path):
    for expected in (
        ["metrics.jsonl"],
        ["metrics.jsonl", "metrics_1.jsonl"],
        ["metrics.jsonl", "metrics_1.jsonl", "metrics_2.jsonl"],
    ):
        log = MetricsLog(tmp_path, fresh=True)
        log.log(1, "val", val(1.0), 10)
        assert sorted(file.name for file in tmp_path.glob("*.jsonl")) == expected
        assert len(list(tmp_path.glob("tensorboard*"))) == len(expected) and board(tmp_path, "val/loss") == [(1, 1.0)]
    MetricsLog(tmp_path, fresh=False)
    assert len(list(read_jsonl(tmp_path / "metrics.jsonl"))) == 1


def test_tensorboard_survives_a_kill_and_drops_the_steps_that_a_restart_repeats(tmp_path):
    killed = MetricsLog(tmp_path, fresh=True)
    killed.event("start", step=0, resumed=False)
    for step in (10, 20, 30):
        killed.log(step, "val", val(step), 40)
    assert board(tmp_path, "val/loss") == [(10, 10.0), (20, 20.0), (30, 30.0)]  # on the disk, though nothing was closed
    torn = next((tmp_path / "tensorboard").iterdir())
    torn.write_bytes(torn.read_bytes()[:-3])
    log = MetricsLog(tmp_path, fresh=False)
    log.event("start", step=10, resumed=True)
    for step in (20, 30, 40):
        log.log(step, "val", val(step + 0.5), 40)
    assert board(tmp_path, "val/loss") == [(10, 10.0), (20, 20.5), (30, 30.5), (40, 40.5)]


def test_losses_are_read_back_in_order(tmp_path):
    log = MetricsLog(tmp_path, fresh=True)
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0)):
        log.log(step, "train", {**TRAIN, "loss": loss}, 3)
        log.log(step, "val", val(loss), 3)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(
            '{"step": 4, "split": "val"}\n{"step": 5, "split": "val", "loss": "0.1"}\n'
        )  # of no use, and no fault
    assert losses(tmp_path / "metrics.jsonl") == ([3.0, 1.0, 2.0], [3.0, 1.0, 2.0])


def test_a_run_that_began_again_is_reported_from_its_beginning(tmp_path):
    log = MetricsLog(tmp_path, fresh=True)
    assert unfinished_run(tmp_path) is None
    for resumed, steps in ((False, (1, 2)), (False, (1, 2, 3)), (True, (3, 4))):
        log.event("start", step=steps[0] - 1, resumed=resumed, run_id="abc")
        for step in steps:
            log.log(step, "val", val(5.0 - step - resumed), 10)
    assert losses(tmp_path / "metrics.jsonl") == ([], [4.0, 3.0, 2.0, 1.0, 0.0])
    assert unfinished_run(tmp_path) == "abc"
    log.event("finish", step=4)
    assert unfinished_run(tmp_path) is None
