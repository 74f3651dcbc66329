import pytest
import torch

from xtts_ka.model.checkpoint import XttsFiles, grow_text_rows
from xtts_ka.model.text_rows import base_pieces, new_rows, old_logits_change
from xtts_ka.model.vocabulary import load_tokenizer

TOKENS = ["[ka]", "ა", "ბ", "ქ", "კ", "თი", "ში", "ჭა", "შვილი"]


@pytest.fixture(scope="module")
def tokenizer(base):
    return load_tokenizer(base.vocab_file)


def text_of(ids, tokenizer):
    return "".join(tokenizer.id_to_token(i) for i in ids)


@pytest.mark.parametrize(
    "token, spelling", [("ა", "a"), ("ბ", "b"), ("ქ", "k"), ("შვილი", "shvili"), ("ჭა", "cha"), ("ღზ", "ghz")]
)
def test_a_token_is_anchored_on_what_spells_its_sound(tokenizer, token, spelling):
    assert text_of(base_pieces(token, tokenizer), tokenizer) == spelling


def test_the_language_token_is_anchored_on_the_other_languages(tokenizer):
    found = {tokenizer.id_to_token(i) for i in base_pieces("[ka]", tokenizer)}
    assert {"[en]", "[ru]", "[zh-cn]"} <= found and not found & {"[STOP]", "[START]", "[UNK]", "[SPACE]"}


@pytest.mark.parametrize("method", ["informed", "mean", "random"])
def test_new_rows_start_at_the_scale_of_trained_rows(base, tokenizer, method):
    rows = new_rows(method, TOKENS, base.gpt_state(), tokenizer, None, seed=3)
    trained = torch.tensor(sorted(tokenizer.get_vocab().values()))
    for name, start in (("text_embedding", rows.embedding), ("text_head", rows.head)):
        usual = base.state[f"gpt.{name}.weight"][trained].norm(dim=1).median()
        torch.testing.assert_close(start.norm(dim=1), usual.expand(len(TOKENS)))
    assert (rows.bias == rows.bias[0]).all()


def test_informed_rows_lie_where_their_sound_lies(base, tokenizer):
    rows = new_rows("informed", TOKENS, base.gpt_state(), tokenizer, None, seed=3)
    table = base.state["gpt.text_embedding.weight"]

    def cosine(token, letter):
        return float(
            torch.cosine_similarity(rows.embedding[TOKENS.index(token)], table[tokenizer.token_to_id(letter)], dim=0)
        )

    assert cosine("ბ", "b") > 0.99 and cosine("ბ", "k") < 0.5
    assert not torch.equal(rows.embedding[TOKENS.index("ქ")], rows.embedding[TOKENS.index("კ")])  # both spelled k
    assert rows.anchored == len(TOKENS)


@pytest.mark.parametrize("method, least, most", [("mean", 0.99, 1), ("informed", 0.99, 1), ("random", -0.9, 0.9)])
def test_heads_begin_at_the_mean_of_trained_ones_or_at_random(base, tokenizer, method, least, most):
    rows = new_rows(method, TOKENS, base.gpt_state(), tokenizer, None, seed=3)
    trained = sorted(set(tokenizer.get_vocab().values()))
    mean = base.state["gpt.text_head.weight"][trained].mean(dim=0)
    likeness = torch.cosine_similarity(rows.head, mean, dim=1)
    assert (likeness > least).all() and (likeness < most).all()
    assert len(rows.head.unique(dim=0)) == len(TOKENS)
    torch.testing.assert_close(rows.bias, base.state["gpt.text_head.bias"][trained].mean().expand(len(TOKENS)))
    assert rows.anchored == (len(TOKENS) if method == "informed" else 0)


def test_embeddings_of_the_mean_begin_at_the_mean_of_trained_ones(base, tokenizer):
    rows = new_rows("mean", TOKENS, base.gpt_state(), tokenizer, None, seed=3)
    mean = base.state["gpt.text_embedding.weight"][sorted(set(tokenizer.get_vocab().values()))].mean(dim=0)
    assert (torch.cosine_similarity(rows.embedding, mean, dim=1) > 0.99).all()


def test_biases_follow_token_frequencies(base, tokenizer):
    shares = [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0, -9.0]
    rows = new_rows("mean", TOKENS, base.gpt_state(), tokenizer, shares, seed=3)
    usual = base.state["gpt.text_head.bias"][sorted(set(tokenizer.get_vocab().values()))].mean()
    torch.testing.assert_close(rows.bias, usual + torch.tensor(shares) + 5.0)  # around the mean of the shares, -5


def test_the_same_seed_gives_the_same_rows(base, tokenizer):
    first, second = (
        new_rows("informed", TOKENS, base.gpt_state(), load_tokenizer(base.vocab_file), None, seed=3) for _ in range(2)
    )
    assert torch.equal(first.embedding, second.embedding) and torch.equal(first.head, second.head)
    other = new_rows("informed", TOKENS, base.gpt_state(), tokenizer, None, seed=4)
    assert not torch.equal(first.embedding, other.embedding)


def test_the_extension_leaves_the_base_languages_alone_and_the_proof_can_fail(base, tokenizer):
    rows = new_rows("informed", TOKENS, base.gpt_state(), tokenizer, None, seed=3)
    state = grow_text_rows(base, rows.embedding, rows.head, rows.bias)
    assert (
        old_logits_change(base, XttsFiles(base.config, state, base.folder), tokenizer)["old_logits_max_change"] <= 1e-5
    )
    state["gpt.text_head.bias"] = state["gpt.text_head.bias"] + 0.5
    assert old_logits_change(base, XttsFiles(base.config, state, base.folder), tokenizer)["old_logits_max_change"] > 0.4
