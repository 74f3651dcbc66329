"""Wrong transcripts are found by recognisers that were not trained on them, in the language of tones."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from tone_speech import RATE, SETTINGS, speak

from xtts_ka.corpus.audio import write_wav
from xtts_ka.corpus.tables import Clip
from xtts_ka.recognition import transcript_check
from xtts_ka.recognition.ctc_trainer import CtcTrainer
from xtts_ka.recognition.transcript_check import FOLDER, HEARD, check_transcripts

WORDS = ("მამა", "სიმი", "დადის", "იდის")
TEXTS = [" ".join(words) for words in itertools.permutations(WORDS, 2)] * 2 + [
    " ".join(words) for words in itertools.permutations(WORDS, 3)
]
WRONG = {3: "იდის სიმი მამა დადის მამა", 30: "მამა მამა"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder, clips = tmp_path_factory.mktemp("tones"), []
    for i, text in enumerate(TEXTS):
        wave = speak(text, i)
        write_wav(folder / f"{i}.wav", wave, RATE)
        clips.append(Clip(f"{i}", WRONG.get(i, text), "s", len(wave) / RATE, folder / f"{i}.wav", None))
    return clips


@pytest.fixture(autouse=True)
def little_speech_is_enough(monkeypatch):
    monkeypatch.setattr(transcript_check, "LEAST_TRAINED_ON", 10.0)


@pytest.fixture(scope="module")
def checked(clips, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transcript_check, "LEAST_TRAINED_ON", 10.0)
        return data, check_transcripts(clips, data, SETTINGS, "cpu")


def test_wrong_transcripts_have_most_errors(checked):
    found = {int(finding.file_id): finding for finding in checked[1]}
    right = [finding.value for i, finding in found.items() if i not in WRONG]
    assert len(found) == len(TEXTS) and np.mean(right) < 0.1 and max(right) < 0.5
    assert all(found[i].value >= 0.5 for i in WRONG)
    assert found[30].remark == f"heard: {TEXTS[30]}"


def test_none_is_judged_by_a_recogniser_that_has_learnt_its_sentence(clips, tmp_path, monkeypatch):
    trained, hear = [], transcript_check.hear

    class Noted(CtcTrainer):
        def __init__(self, sounds, targets, *rest):
            super().__init__(sounds, targets, *rest)
            trained.append(set(sounds._numbers))

    def noted(network, sounds, numbers, heard, device):
        sentences = {clips[i].text for i in trained[-1]}
        assert numbers and not sentences & {clips[i].text for i in numbers}
        hear(network, sounds, numbers, heard, device)

    monkeypatch.setattr(transcript_check, "CtcTrainer", Noted)
    monkeypatch.setattr(transcript_check, "hear", noted)
    check_transcripts(clips, tmp_path, SETTINGS.model_copy(update={"max_steps": 4}), "cpu")
    assert len(trained) == 2 and len(set.union(*trained)) > 0.9 * len(clips)


def test_what_was_heard_is_kept_until_a_clip_changes(checked, clips, monkeypatch):
    data, findings = checked
    monkeypatch.setattr(transcript_check, "CtcTrainer", None)
    assert check_transcripts(clips, data, SETTINGS, "cpu") == findings
    assert sorted(path.name for path in (data / FOLDER).iterdir()) == [HEARD, "identity"]
    with pytest.raises(TypeError):  # it would train again
        check_transcripts(clips[:-1], data, SETTINGS, "cpu")


def test_recognisers_that_hear_nothing_judge_nothing(clips, tmp_path, capsys):
    bad = SETTINGS.model_copy(update={"max_steps": 2})
    assert check_transcripts(clips, tmp_path, bad, "cpu") == []
    assert "cannot be checked" in capsys.readouterr().err
    assert len(json.loads((tmp_path / FOLDER / HEARD).read_text())["heard"]) == len(clips)


def test_too_little_speech_is_told(clips, tmp_path, capsys):
    assert check_transcripts(clips[:5], tmp_path, SETTINGS, "cpu") == []
    assert "minutes of speech are needed" in capsys.readouterr().err and not (tmp_path / FOLDER).exists()
