"""The pipeline's last stage, on a tiny untrained model and a recogniser of two steps."""

import json
from pathlib import Path

import pytest
from evaluation_project import evaluation_project

from xtts_ka.core.config import load_config
from xtts_ka.evaluation.final_samples import speak_samples
from xtts_ka.evaluation.texts import read_texts
from xtts_ka.georgian.reading import Reading


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = evaluation_project(tmp_path_factory.mktemp("evaluation"))
    recogniser = {"dim": 16, "layers": 1, "max_steps": 2}
    file.write_text(json.dumps({**json.loads(file.read_text()), "recogniser": recogniser, "evaluation": {"voices": 2}}))
    return load_config(file)


def test_each_sentence_in_each_voice_with_figures_and_a_page(config, tmp_path):
    sentences, folder = tmp_path / "sentences.txt", tmp_path / "samples"
    sentences.write_text("მზე!\nდილა.\n", "utf-8")
    found = speak_samples(config, sentences, folder)
    assert sorted(file.name for file in folder.glob("*.wav")) == [
        f"{text}_{voice}.wav" for text in (1, 2) for voice in ("1_დათო", "2_ეკა")
    ]
    assert (folder / "sentences.txt").read_text("utf-8") == "1  მზე!\n2  დილა.\n"
    assert found["clips"] == 4 and 0 <= found["cer"] <= 1 and 0 <= found["recordings_cer"] <= 1
    assert found["heard"].startswith(f"CER {100 * found['cer']:.1f} %") and "similarity" in found["heard"]
    page = Path(found["page"]).read_text("utf-8")
    assert "დილა" in page and page.count("<audio") >= 4
    sentences.write_text("მზე!\n", "utf-8")
    speak_samples(config, sentences, folder)
    assert len(list(folder.glob("*.wav"))) == 2  # what the first run has left is gone


def test_the_kept_sentences_are_five_of_all_lengths():
    from pretrain_xtts_model import SENTENCES

    letters = [len(text.expected) for text in read_texts(SENTENCES, Reading(), 100)]
    assert len(letters) == 5 and min(letters) < 40 and max(letters) > 60
