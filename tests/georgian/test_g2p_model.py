"""Alignment, the context table and the network, on lexicons small enough to reason about."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.core.config import PhonemesConfig
from xtts_ka.core.errors import UserError
from xtts_ka.georgian.g2p_alignment import ContextTable, align, edit_distance, error_rates, share
from xtts_ka.georgian.g2p_model import GraphemeToPhoneme, fit_g2p, train_g2p
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
    return train_g2p(lexicon, SMALL, seed=3, always={"ხ": ["x"]})


def test_alignment_gives_an_absorbed_letter_nothing():
    words = ("კვალი", "კალი", "ვაკე", "სვეტი", "სეტი", "გვარი", "გარი", "თვალი", "თალი")
    aligned = align({word: [p for chunk in narrow_chunks(word) for p in chunk] for word in words})
    assert aligned["კვალი"] == [("kʼʷ",), (), ("ɑ",), ("l",), ("i",)]
    assert aligned["სვეტი"] == [("sʷ",), (), ("ɛ",), ("tʼ",), ("i",)]


def test_alignment_of_a_letter_with_two_phones():
    aligned = align(
        {
            word: list(phones)
            for word, phones in {"xa": "ksa", "ax": "aks", "at": "at", "ta": "ta", "tat": "tat"}.items()
        }
    )
    assert aligned["xa"] == [("k", "s"), ("a",)] and aligned["ax"] == [("a",), ("k", "s")]


def test_a_word_with_too_many_phones_is_left_out():
    assert align({"აბ": ["x"] * 7, "ა": ["ɑ"]}) == {"ა": [("ɑ",)]}


@given(st.dictionaries(st.text("აბგ", min_size=1, max_size=5), st.text("xyz", max_size=9).map(list), max_size=6))
def test_alignment_keeps_every_phone_in_order(lexicon):
    aligned = align(lexicon)
    assert set(aligned) == {word for word, phones in lexicon.items() if len(phones) <= 3 * len(word)}
    for word, chunks in aligned.items():
        assert len(chunks) == len(word) and [p for chunk in chunks for p in chunk] == lexicon[word]


def test_table_backs_off_to_what_it_has_seen():
    table = ContextTable(
        {"აბგდე": [("a",), ("b",), ("g",), ("d",), ("e",)], "ბა": [("B",), ("a",)], "ბო": [("B",), ("o",)]}
    )
    assert table.phonemes("აბგდე") == ["a", "b", "g", "d", "e"]  # the whole context is known
    assert table.phonemes("ეაბგ") == ["e", "a", "b", "g"]  # ±1 letter decides for ბ
    assert table.phonemes("ებე") == ["e", "B", "e"]  # only the letter: its commonest chunk
    assert table.phonemes("ჟ") == []


def test_error_rates_count_words_and_edits():
    assert error_rates([["a", "b"], ["c"]], [["a", "b"], ["c"]]) == (0, 0)
    assert error_rates([["a", "b", "c"], ["d"]], [["a", "x"], ["d"]]) == (0.5, 0.5)
    assert error_rates([], []) == (None, None)
    assert edit_distance("kitten", "sitting") == 3


def test_hash_split_is_stable_and_fair():
    shares = [share(f"word{i}", "x") for i in range(2000)]
    assert all(0 <= value < 1 for value in shares) and 0.07 < sum(value < 0.1 for value in shares) / 2000 < 0.13
    assert share("ა", "x") == share("ა", "x") != share("ა", "y")


def test_network_learns_what_context_decides(trained, lexicon):
    report = trained.report
    assert report["heldout"] > 50 and report["wer"] <= 0.02 and report["per"] <= report["wer"]
    assert report["words"] == len(lexicon) and report["unaligned"] == 0 and 1 <= report["epochs"] <= 12
    assert len(trained.mistakes) == round(report["wer"] * report["heldout"])


def test_what_is_always_trained_on_is_known(trained):
    assert trained.model.knows("ხ") and trained.model.predict(["ხ"]) == [["x"]]
    assert not trained.model.knows("ჟ")
    with pytest.raises(UserError, match="ჟ"):
        trained.model.predict(["ჟ"])


def test_mistakes_are_the_held_out_words_that_differ(lexicon):
    lazy = PhonemesConfig(dim=16, layers=1, max_epochs=1, learning_rate=1e-4)
    result = train_g2p(lexicon, lazy, seed=1)
    assert result.mistakes and len(result.mistakes) == round(result.report["wer"] * result.report["heldout"])
    for word, expected, got in result.mistakes:
        assert expected == lexicon[word] != got and share(word, "g2p heldout") < lazy.heldout_fraction


def test_a_word_reads_the_same_in_any_batch(trained, lexicon):
    words = list(lexicon)[:40] + ["კ", ""]
    together = trained.model.predict(words)
    assert together == [trained.model.predict([word])[0] for word in words]
    assert together == trained.model.predict(words, batch_size=7)
    assert together[-1] == [] and trained.model.predict([]) == []


def test_neighbours_neither_drop_nor_double_a_sound():
    chunks = [(), ("k",), ("kʷ",), ("v",)]
    model = GraphemeToPhoneme(["კ", "ვ"], chunks, {"კ": [1, 2], "ვ": [0, 3]}, [2], [2], dim=8, layers=1)
    said = {"k v", "kʷ", "k", "kʷ v"}  # what letters by themselves could give
    with torch.no_grad():
        for seed in range(40):  # untrained networks of all opinions
            model.output.bias.copy_(3 * torch.randn(4, generator=torch.Generator().manual_seed(seed)))
            said_now = " ".join(model.predict(["კვ"])[0])
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
        first = fit_g2p(lexicon, quick, seed=5).model.state_dict()
        torch.set_num_threads(2)
        torch.manual_seed(2)
        before = torch.random.get_rng_state()
        again = fit_g2p(dict(reversed(lexicon.items())), quick, seed=5).model.state_dict()
        assert torch.get_num_threads() == 2 and torch.equal(before, torch.random.get_rng_state())
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = fit_g2p(lexicon, quick, seed=6).model.state_dict()
    assert not torch.equal(first["output.weight"], other["output.weight"])


def test_a_model_is_rebuilt_from_its_facts_and_weights(trained, lexicon):
    import json

    facts = json.loads(json.dumps(trained.model.facts()))
    rebuilt = GraphemeToPhoneme.rebuild(facts, trained.model.state_dict())
    assert rebuilt.predict(list(lexicon)) == trained.model.predict(list(lexicon))


@pytest.mark.parametrize(
    "change", [{"dim": 16}, {"format": 99}, {"letters": None}, {"allowed": {}}, {"chunks": [["x"]]}]
)
def test_facts_that_do_not_fit_the_weights_are_refused(trained, change):
    with pytest.raises(UserError, match="do not fit"):
        GraphemeToPhoneme.rebuild({**trained.model.facts(), **change}, trained.model.state_dict())


def test_a_lexicon_that_nothing_can_be_learned_from_is_refused():
    with pytest.raises(UserError, match="aligned"):
        fit_g2p({"ა": ["x"] * 9}, SMALL, seed=1)


def test_a_handful_of_words_trains_without_measuring():
    result = train_g2p({"ა": ["ɑ"], "ბა": ["b", "ɑ"]}, PhonemesConfig(max_epochs=2), seed=1)
    assert result.model.knows("აბ") and (result.report["wer"] is None) == (result.report["heldout"] == 0)
