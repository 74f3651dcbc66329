"""When a recogniser is trained, why, and what is written about it."""

import json
import shutil

import pytest
import tone_speech
from tone_speech import HELD_OUT, RATE, TRAINED, speak

from xtts_ka.core.errors import UserError
from xtts_ka.core.lock import RunLock
from xtts_ka.corpus.audio import write_wav
from xtts_ka.recognition import train_recogniser
from xtts_ka.recognition.recogniser import Recogniser
from xtts_ka.recognition.train_recogniser import describe, ensure_recogniser, recogniser_folder, settled

QUICK = tone_speech.SETTINGS.model_copy(update={"max_steps": 6, "dim": 8})


@pytest.fixture
def quick(tmp_path):
    """A config whose recogniser is trained for six steps."""
    return tone_speech.write_project(tmp_path, QUICK)


def facts_of(config):
    return json.loads((recogniser_folder(config) / "recogniser.json").read_text())


def test_its_error_rates_on_held_out_recordings_are_kept_and_told(tones):
    config, recogniser = tones
    facts = facts_of(config)
    assert facts["held_out"]["clips"] == 2 and facts["trained_on"]["clips"] == 24
    assert facts["held_out"]["cer"] == {"value": 0.0, "low": 0.0, "high": 0.0} == facts["held_out"]["greedy_cer"]
    line = describe(recogniser)
    assert facts["fingerprint"][:8] in line and "CER 0.0 % (0.0–0.0)" in line and "2 recordings" in line
    assert not (recogniser_folder(config) / "work").exists()


def test_a_present_one_is_taken(quick, capsys):
    first = ensure_recogniser(quick)
    told = capsys.readouterr()
    assert "because there is none yet" in told.out
    assert "mishears more than 30% of the letters" in told.err  # after six steps
    weights = recogniser_folder(quick) / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert ensure_recogniser(quick).name == first.name and weights.stat().st_mtime_ns == written
    assert capsys.readouterr().out.count("\n") == 1  # its error rates are said each time


def change_table(config):
    table = tone_speech.Path(config.data_dir) / "split/train/train_metadata.csv"
    header, _, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *rows]) + "\n")
    return config


def change_recording(config):
    write_wav(tone_speech.Path(config.data_dir) / "wavs/00.wav", speak(TRAINED[0], 55)[:-9], RATE)
    return config


def change_setting(config):
    return config.model_copy(update={"recogniser": config.recogniser.model_copy(update={"layers": 1})})


def damage_weights(config):
    (recogniser_folder(config) / "model.safetensors").write_bytes(b"")
    return config


def delete_ngram(config):
    (recogniser_folder(config) / "ngram.safetensors").unlink()
    return config


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_table, "\nthe train table, its recordings changed"),
        (change_recording, "\nits recordings changed"),
        (change_setting, "\nrecogniser.layers changed"),
        (damage_weights, "/model.safetensors is missing or damaged"),
        (delete_ngram, "/ngram.safetensors is missing or damaged"),
    ],
    ids=["table", "recording", "setting", "weights", "ngram"],
)
def test_what_it_was_made_from_changes_and_it_is_made_anew(quick, capsys, change, reason):
    before = ensure_recogniser(quick)
    capsys.readouterr()
    after = ensure_recogniser(change(quick))
    assert f"{reason}\n" in capsys.readouterr().out.replace("training it on cpu, because ", "\n")
    assert (after.name == before.name) == (change in (damage_weights, delete_ngram))  # made of the same, it is the same


def test_other_held_out_clips_or_another_beam_are_measured_without_training(quick, capsys):
    first = ensure_recogniser(quick)
    capsys.readouterr()
    (tone_speech.Path(quick.data_dir) / "split/test/test_metadata.csv").unlink()
    assert facts_of(quick)["held_out"]["clips"] == 2
    ensure_recogniser(quick)
    assert facts_of(quick)["held_out"]["clips"] == 1
    greedy = quick.model_copy(update={"recogniser": quick.recogniser.model_copy(update={"beam": 1})})
    assert ensure_recogniser(greedy).name == first.name
    assert facts_of(quick)["settings"]["beam"] == 1
    assert "training" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("hours", "dim", "steps"),
    [(0.05, 160, 1080), (0.26, 160, 2434), (2, 160, 2880), (9, 160, 12960), (150, 512, 33750)],
)
def test_open_settings_follow_the_amount_of_speech(hours, dim, steps):
    chosen = settled(tone_speech.RecogniserConfig(), hours * 3600)
    assert chosen.dim == dim and (chosen.layers, chosen.recurrent) == ((2, 2) if dim == 160 else (8, 0))
    assert chosen.epochs * hours * 3600 / chosen.batch_seconds == pytest.approx(steps, rel=0.05)
    own = {"dim": 64, "layers": 1, "recurrent": 0, "batch_seconds": 7.0, "epochs": 3, "learning_rate": 0.5}
    assert settled(tone_speech.RecogniserConfig(**own), hours * 3600).model_dump(include=set(own)) == own


def test_neither_val_nor_test_are_trained_on(quick, monkeypatch):
    trained = []
    build = train_recogniser.CtcTrainer

    def spy(sounds, targets, *rest):
        trained.extend(targets)
        return build(sounds, targets, *rest)

    monkeypatch.setattr(train_recogniser, "CtcTrainer", spy)
    ensure_recogniser(quick)
    from xtts_ka.recognition.symbols import decode

    assert {decode(target) for target in trained} == set(TRAINED) and not set(TRAINED) & set(HELD_OUT)


@pytest.fixture
def killed(quick, monkeypatch):
    """The steps of trainings, of which the first is killed behind its third, with every state saved."""
    monkeypatch.setattr("xtts_ka.recognition.ctc_trainer.STATE_SECONDS", 0.0)
    learn, steps = train_recogniser.CtcTrainer._learn, []

    def once(trainer, batch):
        steps.append(trainer.step)
        if len(steps) == 4:
            raise KeyboardInterrupt
        learn(trainer, batch)

    monkeypatch.setattr(train_recogniser.CtcTrainer, "_learn", once)
    with pytest.raises(KeyboardInterrupt):
        ensure_recogniser(quick)
    assert not (recogniser_folder(quick) / "recogniser.json").exists()
    return steps


@pytest.mark.parametrize("change", [None, change_table], ids=["same", "other_table"])
def test_a_killed_training_carries_on_if_nothing_has_changed(quick, killed, change):
    if change:
        change(quick)
    name = ensure_recogniser(quick).name
    assert killed == [0, 1, 2, 3, *((0, 1, 2, 3, 4, 5) if change else (3, 4, 5))]
    shutil.rmtree(recogniser_folder(quick))
    assert ensure_recogniser(quick).name == name  # what an uninterrupted training gives


def test_clips_without_letters_or_too_short_for_them_are_left_out(quick, capsys):
    table = tone_speech.Path(quick.data_dir) / "split/train/train_metadata.csv"
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace(TRAINED[0], "მამა " * 30)
    lines[2] = lines[2].replace(TRAINED[1], "?!")
    table.write_text("\n".join(lines) + "\n")
    ensure_recogniser(quick)
    assert facts_of(quick)["trained_on"]["clips"] == 22
    assert "2 of 24 clips" in capsys.readouterr().err


def test_one_that_was_killed_before_it_was_measured_says_so_and_is_measured(quick, monkeypatch):
    monkeypatch.setattr(train_recogniser, "measure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        ensure_recogniser(quick)
    assert "not measured" in describe(Recogniser.load(recogniser_folder(quick)))
    monkeypatch.undo()
    assert "CER" in describe(ensure_recogniser(quick))


def test_two_processes_do_not_train_it_at_once(quick):
    with RunLock(recogniser_folder(quick) / "work/lock").hold(), pytest.raises(UserError, match="another run"):
        ensure_recogniser(quick)
