"""The language stage on a few sentences: its files, its metrics, and the texts it refuses."""

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tiny import encode

from xtts_ka.core.config import LanguageModelConfig, PretrainConfig, TextConfig
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import write_json
from xtts_ka.core.tensor_files import read_pickle, tensors_from_bytes
from xtts_ka.corpus.odd_transcripts import held_out_split
from xtts_ka.corpus.tables import Clip, read_drop_report, replace_suspects
from xtts_ka.georgian import language_model as lm
from xtts_ka.georgian.language_model import CausalLanguageModel, Segmenter, TokenModel
from xtts_ka.georgian.text import normalise
from xtts_ka.model.language_stage import run_language_stage, token_frequencies
from xtts_ka.model.vocabulary import load_tokenizer
from xtts_ka.starter.base_model import starter_vocabulary

SENTENCES = [
    f"{who} {where} {what}."
    for who, where, what in itertools.product(
        ("ბიჭი", "გოგონა", "მეზობელი", "მოხუცი", "მწყემსი"),
        ("ეზოში", "ტყეში", "სახლში", "ბაღში"),
        ("მღერის", "კითხულობს", "თამაშობს", "ისვენებს"),
    )
]
NONSENSE = "ჟჰღწ ძჭჯყ ხფცძ ქწჟე რტყ უჰჟ ფჯღ ჭჟჰყ"
TINY = LanguageModelConfig(dim=32, layers=1, heads=2, dropout=0.1, max_epochs=4, batch_size=16)


def clip(number: int, text: str, speaker: str = "ნინო", seconds: float = 2.0) -> Clip:
    return Clip(f"c{number:03d}", text, speaker, seconds, Path(f"/recordings/c{number:03d}.wav"), None)


def test_frequencies_by_hand():
    found = token_frequencies([[7, 7, 2], [2, 8, 7, 2, 2, 2]], [7, 9])  # 9 tokens, and a half for each new one
    logs = [math.log(3.5 / 10), math.log(0.5 / 10)]
    assert found == {"token_counts": [3, 0], "log_frequencies": pytest.approx(logs)}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage")
    config = _config(folder)
    clips = [clip(i, text, f"s{i % 2}") for i, text in enumerate([*SENTENCES, *SENTENCES[:20], NONSENSE])]
    replace_suspects(config.data_dir, "speaker", [("c001", "far away", "x.wav", "ტექსტი")])  # another stage's row
    return config, clips, run_language_stage(config, clips)


def _config(folder: Path) -> PretrainConfig:
    write_json(folder / "base/vocab.json", starter_vocabulary())
    return PretrainConfig(
        data_dir=str(folder / "data"),
        base_model_path=str(folder / "base"),
        device="cpu",
        output_model_path=str(folder / "out"),
        text=TextConfig(new_tokens=90),
        language_model=TINY,
    )


def test_stage_writes_a_vocabulary_and_results_that_belong_together(stage):
    config, clips, metrics = stage
    tokenizer = load_tokenizer(Path(config.output_model_path) / "vocab.json")
    results = read_pickle(Path(config.output_model_path) / "language_model_results.pkl")
    assert [tokenizer.id_to_token(i) for i in results["new_ids"]] == results["new_tokens"]
    assert len(results["new_tokens"]) == metrics["new_tokens"] == len(results["log_frequencies"])
    counts = Counter(i for c in clips for i in encode(tokenizer, normalise(c.text)))
    assert results["token_counts"] == [counts[i] for i in results["new_ids"]]
    assert results["token_counts"][results["new_tokens"].index("[ka]")] == len(clips)  # every clip, not every sentence
    assert metrics["unknown_tokens"] == 0
    assert isinstance(results["network"]["weights"], bytes) and tensors_from_bytes(results["network"]["weights"])


def test_stage_measures_both_models_and_names_the_better(stage):
    _, _, metrics = stage
    network, ngram = metrics["network_bits_per_character"], metrics["ngram_bits_per_character"]
    assert 0 < network < 20 and 0 < ngram < 20
    assert metrics["network_lead"] == pytest.approx(ngram - network)
    assert metrics["scorer"] == ("network" if network < ngram else "ngram")
    assert network <= metrics["network_bits_per_character_one_segmentation"]


def test_stage_limits_text_by_what_is_trained_on(stage):
    _, clips, metrics = stage
    lengths, limit = np.array([len(normalise(c.text)) for c in clips]), metrics["character_limit"]
    assert (lengths > limit).mean() <= 0.05 < (lengths >= limit).mean()


def test_stage_limits_text_by_speech_where_the_texts_are_longer(tmp_path):
    # 60 seconds a clip, of which the model holds 28: the slowest twentieth speaks less than a character a second
    config = _config(tmp_path)
    clips = [clip(i, text, seconds=60.0) for i, text in enumerate(SENTENCES)]
    slow = np.quantile([len(c.text) / 60.0 for c in clips], 0.05)
    limit = run_language_stage(config, clips)["character_limit"]
    assert limit == math.floor(slow * 603 * 1024 / 22050) < min(len(c.text) for c in clips)


def test_stage_lists_suspects_beside_those_of_other_stages(stage):
    config, clips, metrics = stage
    rows = {row[2]: row for row in read_drop_report(config.data_dir)}
    assert rows["speaker"][0] == "c001"
    assert (
        rows["surprising_transcript"][0] == clips[-1].file_id
        and "bits per character" in rows["surprising_transcript"][3]
    )
    assert metrics["suspects"] == 1


def test_the_saved_network_scores_as_the_trained_one(stage):
    config, clips, metrics = stage
    results = read_pickle(Path(config.output_model_path) / "language_model_results.pkl")
    saved = results["network"]
    network = CausalLanguageModel(saved["tokens"], saved["dim"], saved["layers"], saved["heads"], saved["dropout"])
    network.load_state_dict(tensors_from_bytes(saved["weights"]))
    model = TokenModel(network, Segmenter(load_tokenizer(Path(config.output_model_path) / "vocab.json")))
    _, _, held_out = held_out_split([c.text for c in clips], TINY.heldout_fraction)
    bits = lm.bits_per_character(model.bits(held_out), held_out)
    assert bits == pytest.approx(metrics["network_bits_per_character_one_segmentation"], rel=1e-5)


@pytest.mark.parametrize(
    ("texts", "named"),
    [([], "0 different sentences"), (["ბიჭი მღერის."] * 5, "1 different"), (["ა", "  ", "\u200b"], "1 different")],
)
def test_too_few_sentences_are_refused(tmp_path, texts, named):
    config = _config(tmp_path)
    with pytest.raises(UserError, match=named):
        run_language_stage(config, [clip(i, text) for i, text in enumerate(texts)])
    assert not Path(config.output_model_path).exists()


@pytest.mark.parametrize("texts", [["?", "!", ",", "."], ["good morning", "how are you", "see you soon", "bye"]])
def test_text_without_georgian_is_refused_though_it_can_be_transliterated(tmp_path, texts):
    with pytest.raises(UserError, match="no Georgian letter"):
        run_language_stage(_config(tmp_path), [clip(i, text) for i, text in enumerate(texts)])


def test_a_missing_base_vocabulary_is_refused(tmp_path):
    config = _config(tmp_path)
    (tmp_path / "base/vocab.json").unlink()
    with pytest.raises(UserError, match="vocabulary .*does not exist"):
        run_language_stage(config, [clip(i, text) for i, text in enumerate(SENTENCES)])
