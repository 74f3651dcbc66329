"""Segmentation as the tokenizer's, training that repeats, and scores that are probabilities."""

import math
import random

import numpy as np
import pytest
import torch
from small_corpora import SENTENCES
from tiny import encode

from xtts_ka.core.config import LanguageModelConfig
from xtts_ka.core.files import write_json
from xtts_ka.corpus.odd_transcripts import held_out_split
from xtts_ka.georgian import language_model as lm
from xtts_ka.georgian.alphabet import is_word
from xtts_ka.georgian.language_model import CausalLanguageModel, Segmenter, TokenModel, train_network
from xtts_ka.model.vocabulary import count_words, extend_vocabulary, open_vocabulary
from xtts_ka.starter.base_model import starter_vocabulary

TINY = LanguageModelConfig(dim=32, layers=1, heads=2, dropout=0.1, max_epochs=4, batch_size=16)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("base") / "vocab.json"
    write_json(path, starter_vocabulary())
    return open_vocabulary(extend_vocabulary(path, count_words(SENTENCES), new_tokens=120, min_pair_count=2).vocabulary)


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    georgian = filter(is_word, tokenizer.get_vocab())
    return ["<s>", "<unk>", *sorted(georgian), "[SPACE]", "."]


# ── segmentation ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_segmentation_is_the_tokenizers(tokenizer):
    segmenter = Segmenter(tokenizer)
    for text in SENTENCES[:20] + ["ბიჭი, გოგონა - მოხუცი?!"]:
        ids = [tokenizer.token_to_id(token) for token in segmenter.tokens(text)]
        assert ids == encode(tokenizer, text)[1:]


def test_dropout_gives_the_same_text_in_other_pieces_and_none_merged_at_one(tokenizer):
    segmenter, text = Segmenter(tokenizer), SENTENCES[7]
    drawn = {tuple(segmenter.tokens(text, 0.5, random.Random(seed))) for seed in range(20)}
    assert len(drawn) > 5
    assert {"".join(tokens).replace("[SPACE]", " ") for tokens in drawn} == {text}
    assert segmenter.tokens("ბიჭი", 1.0, random.Random(0)) == list("ბიჭი")
    assert segmenter.tokens(text, 0.5, random.Random(3)) == segmenter.tokens(text, 0.5, random.Random(3))


# ── the network ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_network_sees_no_future(vocabulary):
    torch.manual_seed(0)
    network = CausalLanguageModel(vocabulary, 32, 2, 4, 0.0).eval()
    ids = torch.randint(len(vocabulary), (1, 12))
    changed = ids.clone()
    changed[0, 7] = (ids[0, 7] + 1) % len(vocabulary)
    one, other = network(ids), network(changed)
    assert torch.equal(one[:, :7], other[:, :7]) and not torch.allclose(one[:, 7:], other[:, 7:])


def test_training_is_the_same_twice_and_leaves_the_global_generator_alone(tokenizer, vocabulary):
    train, development, held_out = held_out_split(SENTENCES, 0.1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    models = [train_network(train, development, Segmenter(tokenizer), vocabulary, TINY, seed) for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), state)
    first, second, third = (model.bits(held_out) for model in models)
    assert np.array_equal(first, second) and not np.array_equal(first, third)


def test_training_learns_and_keeps_the_best_pass(tokenizer, vocabulary):
    train, development, held_out = held_out_split(SENTENCES, 0.1)
    torch.manual_seed(0)
    untrained = TokenModel(CausalLanguageModel(vocabulary, 32, 1, 2, 0.1), Segmenter(tokenizer))
    settings = LanguageModelConfig(dim=32, layers=1, heads=2, dropout=0.0, max_epochs=12, batch_size=8)
    trained = train_network(train, development, Segmenter(tokenizer), vocabulary, settings, 1)
    assert (
        lm.bits_per_character(trained.bits(held_out), held_out)
        < lm.bits_per_character(untrained.bits(held_out), held_out) / 2
    )
    assert 1 <= trained.epochs <= 12


def test_bits_are_the_sum_over_tokens_and_more_segmentations_only_lower_them(tokenizer, vocabulary):
    torch.manual_seed(0)
    model = TokenModel(CausalLanguageModel(vocabulary, 32, 1, 2, 0.0), Segmenter(tokenizer))
    text = SENTENCES[3]
    numbers = model.numbers(text)
    log_p = torch.log_softmax(model.network(torch.tensor([[0, *numbers]])), dim=-1)[0]
    by_hand = -sum(log_p[i, n].item() for i, n in enumerate([*numbers, 0])) / math.log(2)
    assert model.bits([text])[0] == pytest.approx(by_hand, rel=1e-5)
    assert (model.bits(SENTENCES[:5], samples=16) < model.bits(SENTENCES[:5])).all()
    assert model.bits([]).shape == (0,)
