"""The network, on lexicons small enough to check by hand."""

import itertools
import json

import pytest
import torch

from xtts_ka.core.config import PhonemesConfig
from xtts_ka.core.digests import hash_to_unit
from xtts_ka.core.errors import UserError
from xtts_ka.georgian.g2p_model import GraphemeToPhoneme, Tags, fit_g2p, train_g2p
from xtts_ka.georgian.phonology import narrow_chunks

SMALL = PhonemesConfig(level="narrow", dim=48, layers=2, max_epochs=12, batch_size=32, learning_rate=4e-3)


def _narrow_lexicon() -> dict[str, list[str]]:
    """Every consonant–vowel–consonant–ვ–vowel–consonant word over a few letters, narrowly transcribed."""
    words = map("".join, itertools.product("კსლგ", "აეო", "კლგდ", ("", "ვ"), "აიო", ("", "დ", "ს", "ლ")))
    return {word: [phone for chunk in narrow_chunks(word) for phone in chunk] for word in words}


@pytest.fixture(scope="module")
def lexicon() -> dict[str, list[str]]:
    return _narrow_lexicon()


@pytest.fixture(scope="module")
def trained(lexicon):
    return train_g2p({"ხ": ["x"], **lexicon}, SMALL, seed=3)


def test_network_learns_what_context_decides(trained, lexicon):
    report = trained.report
    assert report["heldout"] > 50 and report["heldout_wer"] <= 0.02 and report["heldout_per"] <= report["heldout_wer"]
    assert report["unaligned"] == 0 and 1 <= report["epochs"] <= 12
    assert len(trained.mistakes) == round(report["heldout_wer"] * report["heldout"])


def test_a_letter_by_itself_is_never_held_out_and_a_word_with_an_unknown_letter_is_left_out(trained):
    assert trained.model.known_phones(["ხ", "ჟ", "კაჟი"]) == {"ხ": ["x"]}


def test_mistakes_are_the_held_out_words_that_differ(lexicon):
    lazy = PhonemesConfig(dim=16, layers=1, max_epochs=1, learning_rate=1e-4)
    result = train_g2p(lexicon, lazy, seed=1)
    assert result.mistakes and len(result.mistakes) == round(result.report["heldout_wer"] * result.report["heldout"])
    for word, expected, got in result.mistakes:
        assert expected == lexicon[word] != got and hash_to_unit(f"g2p heldout\0{word}") < lazy.heldout_fraction


def test_a_word_reads_the_same_in_any_batch(trained, lexicon):
    words = list(lexicon)[:40] + ["კ", ""]
    together = trained.model.known_phones(words)
    assert together.keys() == set(words) and together[""] == []
    assert all(trained.model.known_phones([word]) == {word: phones} for word, phones in together.items())
    assert trained.model.known_phones([]) == {}


def test_neighbours_neither_drop_nor_double_a_sound():
    chunks = [(), ("k",), ("kʷ",), ("v",)]
    model = GraphemeToPhoneme(Tags(["კ", "ვ"], chunks, {"კ": [1, 2], "ვ": [0, 3]}, [2], [2]), dim=8, layers=1)
    said = {"k v", "kʷ", "k", "kʷ v"}  # what letters by themselves could give
    with torch.no_grad():
        for seed in range(40):  # untrained networks of all opinions
            model.output.bias.copy_(3 * torch.randn(4, generator=torch.Generator().manual_seed(seed)))
            said_now = " ".join(model.known_phones(["კვ"])["კვ"])
            assert said_now in {"k v", "kʷ"}
            said.discard(said_now)
    assert said == {"k", "kʷ v"}


def test_same_seed_same_weights_whatever_the_threads_and_the_random_state():
    lexicon = dict(list(_narrow_lexicon().items())[::4])
    quick = PhonemesConfig(dim=32, layers=2, max_epochs=3, batch_size=32)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        torch.manual_seed(1)
        first = fit_g2p(lexicon, quick, seed=5)[0].state_dict()
        torch.set_num_threads(2)
        torch.manual_seed(2)
        before = torch.random.get_rng_state()
        again = fit_g2p(dict(reversed(lexicon.items())), quick, seed=5)[0].state_dict()
        assert torch.get_num_threads() == 2 and torch.equal(before, torch.random.get_rng_state())
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = fit_g2p(lexicon, quick, seed=6)[0].state_dict()
    assert not torch.equal(first["output.weight"], other["output.weight"])


def test_a_model_is_rebuilt_from_its_facts_and_weights(trained, lexicon):
    facts = json.loads(json.dumps(trained.model.facts()))
    rebuilt = GraphemeToPhoneme.rebuild(facts, trained.model.state_dict())
    assert rebuilt.known_phones(lexicon) == trained.model.known_phones(lexicon)


@pytest.mark.parametrize(
    "change", [{"format": 99}, {"letters": None}, {"letters": ["კ"]}, {"allowed": {}}, {"chunks": [["x"]]}]
)
def test_facts_that_do_not_fit_the_weights_are_refused(trained, change):
    with pytest.raises(UserError, match="do not fit"):
        GraphemeToPhoneme.rebuild({**trained.model.facts(), **change}, trained.model.state_dict())


def test_a_lexicon_that_nothing_can_be_learned_from_is_refused():
    with pytest.raises(UserError, match="aligned"):
        fit_g2p({"ა": ["x"] * 9}, SMALL, seed=1)


def test_a_handful_of_words_trains_without_measuring():
    result = train_g2p({"ა": ["ɑ"], "ბა": ["b", "ɑ"]}, PhonemesConfig(max_epochs=10), seed=1)
    assert result.model.known_phones(["აბ"]) and (result.report["heldout_wer"] is None) == (
        result.report["heldout"] == 0
    )
