"""The command from a model folder to its report: carrying on, bad input, and reports that are equal but for times."""

import csv
import errno
import json
import os
import re
import shutil

import pytest
import torch
from evaluation_project import evaluation_project

import evaluate_model
from xtts_ka.corpus.audio import write_wav
from xtts_ka.evaluation import speak_all
from xtts_ka.speech import batch, guard

HEARS, OTHER = "sh -c 'echo მზე მზე' {wav}", "sh -c 'echo დილა' {wav}"
FIGURE = {"value", "low", "high"}


@pytest.fixture(scope="module", autouse=True)
def small_batches_without_ratings():
    """DNSMOS is an extra that takes seconds to load."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(speak_all.TOGETHER, "cpu", 2)
        patch.setattr("xtts_ka.corpus.dnsmos.installed", lambda: False)
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return evaluation_project(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("მზე!\nდილა.\n", "utf-8")
    return path


def run(config, *flags) -> int:
    guard = [] if "--attempts" in flags else ["--no-guard"]
    return evaluate_model.main(["--config", str(config), *guard, *map(str, flags)])


@pytest.fixture(scope="module")
def first(config, tmp_path_factory):
    """The output folder of one evaluation with everything usual, heard by two listeners."""
    output = tmp_path_factory.mktemp("out")
    texts = output / "mine.txt"
    texts.write_text("მზე!\nდილა.\n", "utf-8")
    flags = ("--texts", texts, "--asr", HEARS, "--asr", OTHER, "--output", output)
    assert run(config, *flags) == 0
    return output, flags


def without_times(folder) -> list[str]:
    report = json.loads((folder / "report.json").read_text("utf-8"))
    del report["times"]
    table = list(csv.DictReader((folder / "results.csv").read_text("utf-8").splitlines()))
    page = re.sub("<p class=times>.*", "", (folder / "report.html").read_text("utf-8"))
    return [json.dumps(report), str([row | {"seconds_taken": ""} for row in table]), page]


def figures_in(value) -> list[dict]:
    if isinstance(value, dict):
        return [value] if value.keys() == FIGURE else [f for part in value.values() for f in figures_in(part)]
    return []


def test_the_report_has_every_figure_with_its_interval(first):
    report = json.loads((first[0] / "report.json").read_text("utf-8"))
    shares = [report["recogniser"]["cer"], report["floor"]["cer"], *report["model"]["faults"].values()]
    shares += [report["model"][name] for name in ("cer", "wer", "perfect", "any_fault", "top1")]
    assert all(
        figure.keys() == FIGURE and 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1 for figure in shares
    )
    assert all(-1 <= report[who]["similarity"]["value"] <= 1 for who in ("floor", "model"))
    assert report["model"]["faults"].keys() == {"babble", "repetition", "skipped", "no_stop", "silence"}
    assert set(report["model"]["by_voice"]) == {"ეკა", "დათო"} and set(report["model"]["by_kind"]) == {"mine"}
    assert report["model"]["clips"] == 4 and report["model"]["texts"] == 2
    assert len(figures_in(report)) > 50


def test_two_listeners_stand_side_by_side(first):
    report = json.loads((first[0] / "report.json").read_text("utf-8"))
    one, other = report["listeners"].values()
    assert one["model"]["cer"] == report["model"]["cer"] != other["model"]["cer"]
    rows = csv.DictReader((first[0] / "results.csv").read_text("utf-8").splitlines())
    assert {row["listener"] for row in rows} == {f"command {HEARS!r}", f"command {OTHER!r}"}


def test_what_the_guard_did_is_counted(first, config, texts, tmp_path, capsys):
    alone = json.loads((first[0] / "report.json").read_text("utf-8"))["model"]["guard"]
    assert {figure["value"] for figure in alone.values()} == {None}  # there was none
    flags = ("--texts", texts, "--sentences", 1, "--speakers", "ეკა", "--asr", HEARS, "--output", tmp_path)
    assert run(config, *flags, "--attempts", 2) == 0
    model = json.loads((tmp_path / "report.json").read_text("utf-8"))["model"]
    told = {name: figure["value"] for name, figure in model["guard"].items()}
    assert told == {"second_attempt": 1.0, "faults_first": 1.0, "faults_left": 1.0}  # the model is untrained
    assert "guard: spoken again 100.0 %" in capsys.readouterr().out
    (row, *_) = csv.DictReader((tmp_path / "results.csv").read_text("utf-8").splitlines())
    assert row["attempts"] == "2" and "no_stop" in row["guard_first"] and "no_stop" in row["guard_left"]
    assert "spoken again by the guard" in (tmp_path / "report.html").read_text("utf-8")


def test_the_page_is_one_file_with_players_and_marks(first):
    page = (first[0] / "report.html").read_text("utf-8")
    assert page.count("data:audio/mpeg;base64,") == 4 and "<svg" in page
    assert not re.search('(src|href)=(?!"data:)', page) and "<span class=missing>" in page


def test_the_same_command_again_speaks_nothing_and_gives_the_same_report(first, config, monkeypatch):
    before = without_times(first[0])

    def never(*_):
        raise AssertionError("spoken again")

    monkeypatch.setattr(guard, "draw_together", never)
    assert run(config, *first[1]) == 0
    assert without_times(first[0]) == before


def test_an_interrupted_evaluation_carries_on_to_the_same_report(first, config, tmp_path, monkeypatch, capsys):
    calls = []

    def stopped(model, pieces):
        calls.append(len(pieces))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return batch.draw_together(model, pieces)

    flags = [tmp_path if flag == first[0] else flag for flag in first[1]]
    monkeypatch.setattr(guard, "draw_together", stopped)
    assert run(config, *flags) == 130 and "run the same command" in capsys.readouterr().err
    assert len(list((tmp_path / "clips").glob("*.json"))) == 2 and not (tmp_path / "report.json").exists()
    assert run(config, *flags) == 0
    assert sum(calls) == 2 + 2 + 2  # the batch that was stopped is spoken again
    assert without_times(tmp_path) == without_times(first[0])


def test_other_voices_are_cloned_from_references(config, texts, tmp_path):
    wav = next((config.parent / "wavs").glob("*.wav"))
    flags = ("--texts", texts, "--sentences", 1, "--asr", HEARS, "--output", tmp_path)
    assert run(config, *flags, "--reference", wav) == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert set(report["model"]["by_voice"]) == {wav.stem}


def test_with_one_voice_nobody_can_be_mistaken_for_another(config, texts, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(config.parent / "model", model, copy_function=os.link)
    voices = torch.load(model / "speakers_xtts.pth")
    (model / "speakers_xtts.pth").unlink()
    torch.save({"ეკა": voices["ეკა"]}, model / "speakers_xtts.pth")
    flags = ("--texts", texts, "--sentences", 1, "--asr", HEARS, "--output", tmp_path / "out")
    assert run(config, *flags, "--model", model, "--speakers", "ეკა") == 0
    report = json.loads((tmp_path / "out/report.json").read_text("utf-8"))
    assert set(report["model"]["by_voice"]) == {"ეკა"} and report["settings"]["voices_known"] == 1
    assert report["model"]["top1"]["value"] is None and -1 <= report["model"]["similarity"]["value"] <= 1
    assert run(config, *flags, "--model", model) == 2  # the usual voices are those of the tables


def test_a_full_disk_keeps_what_is_finished(config, texts, tmp_path, monkeypatch, capsys):
    written = []

    def write(path, wave, rate):
        if len(written) == 1:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        write_wav(path, wave, rate)

    monkeypatch.setattr("xtts_ka.evaluation.clip_store.write_wav", write)
    flags = ("--texts", texts, "--speakers", "ეკა", "--asr", HEARS, "--output", tmp_path / "out")
    assert run(config, *flags) == 1
    assert "the disk is full while writing" in capsys.readouterr().err
    assert len(list(tmp_path.glob("out/clips/*"))) == 2 and not list(tmp_path.glob("out/report*"))
    assert not list(tmp_path.glob("out/**/*.partial"))


def test_a_checkpoint_speaks_beside_the_exported_model(config, texts, tmp_path):
    flags = ("--texts", texts, "--sentences", 1, "--speakers", "ეკა", "--asr", HEARS, "--output", tmp_path)
    models = ("--model", config.parent / "model", "--checkpoints", config.parent / "checkpoints/step_00000001")
    assert run(config, *flags, *models) == 0
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert list(report["models"]) == ["model", "step_00000001"] and report["model"]["label"] == "model"
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text("utf-8").splitlines()))
    first, second = (row for row in rows if row["model"] != "recording")
    assert first["clip"] != second["clip"]  # its voices' latents are its own


@pytest.mark.parametrize(
    "flags, code, words",
    [
        (["--speakers", "ნინო"], 2, "--speakers 'ნინო' is not in"),
        (["--texts", "unreadable.txt"], 2, "line 1: '☃' holds nothing to read aloud"),
        (["--texts", "empty.txt"], 2, "hold none"),
        (["--texts", "missing.txt"], 2, "cannot read the texts missing.txt"),
        (["--reference", "missing.wav"], 2, "missing.wav: the file does not exist"),
        (["--model", "nowhere"], 2, "nowhere/xtts_v2_ka_config.json does not exist"),
        (["--checkpoints", "checkpoints/step_00000001"], 2, "cannot be used: there is none"),
        (["--asr", ""], 2, "--asr is empty"),
        (["--asr", "false"], 1, "ended with exit code 1"),
        (["--asr", "true"], 1, "printed nothing"),
        (["--asr", "folder"], 2, "folder has no config.json, so it is no transformers folder"),
        (["--asr", HEARS, "--asr", HEARS], 2, "--asr is given twice"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value)[:20],
)
def test_bad_input_is_one_sentence_and_leaves_no_report(
    config, texts, tmp_path, monkeypatch, capsys, flags, code, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "unreadable.txt").write_text("☃\n", "utf-8")
    (tmp_path / "empty.txt").write_text("\n", "utf-8")
    (tmp_path / "folder").mkdir()
    usual = {"--texts": texts, "--asr": HEARS}
    more = [part for flag, value in usual.items() if flag not in flags for part in (flag, value)]
    assert run(config, *more, *flags, "--output", tmp_path / "out") == code
    err = capsys.readouterr().err
    assert words in err and err.count("error: ") == 1
    assert not list(tmp_path.glob("out/report*"))


def test_without_a_test_split_it_asks_for_texts(config, tmp_path, capsys):
    shutil.copytree(config.parent / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data/split/test")
    other = tmp_path / "config.json"
    other.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"data_dir": str(tmp_path / "data")}), "utf-8")
    assert run(other, "--output", tmp_path / "out") == 2
    assert "has no sentences to speak" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_recording_that_is_gone_is_named(config, texts, tmp_path, capsys):
    shutil.copytree(config.parent / "data", tmp_path / "data")
    table = tmp_path / "data/split/test/test_metadata.csv"
    gone = table.read_text("utf-8").replace("clip11.wav", "gone.wav")
    table.write_text(gone, "utf-8")
    shutil.copytree(config.parent / "wavs", tmp_path / "wavs")
    other = tmp_path / "config.json"
    other.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"data_dir": str(tmp_path / "data")}), "utf-8")
    assert run(other, "--texts", texts, "--asr", HEARS, "--output", tmp_path / "out") == 2
    assert "gone.wav: the file does not exist" in capsys.readouterr().err
