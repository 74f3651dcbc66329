"""Georgian tokens in an XTTS vocabulary: nothing old changes, nothing Georgian is unknown, every new token fires."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import encode
from tokenizers import Tokenizer

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import write_json
from xtts_ka.georgian.alphabet import ARCHAIC_LETTERS, GEORGIAN_LETTERS, PUNCTUATION
from xtts_ka.model import vocabulary
from xtts_ka.model.geometry import MAX_TEXT_TOKENS
from xtts_ka.model.vocabulary import (
    count_words,
    coverage_report,
    encode_batch,
    extend_vocabulary,
    load_tokenizer,
    measured_character_limit,
)

REAL = Path(__file__).parents[2] / "shared" / "xtts_vocab_v1.1.json"
TEXTS = [
    "ბებია ეზოში ზის და ბავშვებს ზღაპრებს უყვება.",
    "ბავშვები ეზოში თამაშობენ, ბებია კი იცინის!",
    "გზა გრძელი იყო, მაგრამ ბავშვები არ დაღლილან.",
    "ბებიას ზღაპრები ბავშვებს ძალიან უყვართ.",
]
SPEECH = {  # own sentences, one per language
    "en": "The old bridge creaks when the wind blows from the north.",
    "de": "Im Garten blühen schon die ersten Rosen.",
    "fr": "La boulangère ferme sa boutique à midi.",
    "es": "Mañana subiremos a la montaña con los niños.",
    "it": "Il gatto dorme sempre vicino alla stufa.",
    "pt": "A avó contou uma história muito comprida.",
    "pl": "Wczoraj padał deszcz, więc zostaliśmy w domu.",
    "tr": "Çocuklar bahçede top oynuyor.",
    "ru": "Утром над рекой стоял густой туман.",
    "cs": "Starý mlýn stojí na kraji vesnice.",
    "nl": "De trein vertrekt vandaag een uur later.",
    "ar": "القمر ساطع فوق البحر هذه الليلة.",
    "zh-cn": "zuo2tian1 wo3men5 qu4 le5 hai3bian1",
    "ja": "kinou wa umi made arukimashita.",
    "hu": "A kertben már érik a cseresznye.",
    "ko": "eoje neun biga manhi wasseoyo.",
    "hi": "कल हम नदी के किनारे चले थे।",
}


def small_vocabulary(**extra: int) -> dict:
    """Gaps in the ids, special tokens between letters, merges listed twice in conflicting places."""
    vocab = {
        "[STOP]": 0,
        "[UNK]": 1,
        "[SPACE]": 2,
        "a": 3,
        "b": 5,
        "c": 6,
        "[en]": 9,
        "[START]": 10,
        "d": 11,
        "ab": 20,
        "bc": 21,
        "abc": 22,
        ".": 30,
        ",": 31,
        "!": 32,
        "[fr]": 40,
        "?": 41,
        "-": 42,
        ";": 43,
        ":": 44,
        "e": 50,
        **extra,
    }
    merges = ["a b", "b c", "a bc", "ab c", "a b"]  # the last `a b` ranks behind `b c`
    added = [
        {
            "id": vocab[t],
            "special": True,
            "content": t,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for t in vocab
        if t.startswith("[")
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def extend(folder: Path, base: dict, *, new_tokens: int = 80, min_pair_count: int = 2, archaic: bool = False):
    write_json(folder / "base.json", base)
    return extend_vocabulary(
        folder / "base.json",
        count_words(TEXTS),
        new_tokens=new_tokens,
        min_pair_count=min_pair_count,
        archaic_letters=archaic,
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    extension = extend(folder, small_vocabulary())
    write_json(folder / "vocab.json", extension.vocabulary)
    return extension, load_tokenizer(folder / "base.json"), load_tokenizer(folder / "vocab.json")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if not REAL.is_file():
        pytest.skip("the real vocabulary is not beside this checkout")
    extension = extend_vocabulary(REAL, count_words(TEXTS), new_tokens=120, min_pair_count=2)
    path = tmp_path_factory.mktemp("real") / "vocab.json"
    write_json(path, extension.vocabulary)
    return extension, load_tokenizer(REAL), load_tokenizer(path), path


# ── what must not change ─────────────────────────────────────────────────────────────────────────────────────────────


def test_of_a_merge_listed_twice_the_last_place_ranks(small):
    # Were the first place to count, `abc` would begin with `a b`; it begins with `b c`, and gives a + bc → abc.
    extension, _, _ = small
    for merges, expected in ((["a b", "b c"], ["ab", "c"]), (["a b", "b c", "a b"], ["a", "bc"])):
        raw = small_vocabulary()
        raw["model"]["merges"] = merges
        assert Tokenizer.from_str(json.dumps(raw)).encode("abc").tokens == expected
    merges = extension.vocabulary["model"]["merges"]
    assert merges[:4] == ["b c", "a bc", "ab c", "a b"] and len(merges) == len(set(merges))


def test_old_ids_and_gaps_stay_and_new_ids_follow_the_largest(small):
    extension, _, after = small
    old = small_vocabulary()["model"]["vocab"]
    new = extension.vocabulary["model"]["vocab"]
    assert {token: new[token] for token in old} == old
    assert (
        extension.new_ids == list(range(51, 51 + len(extension.new_ids)))
        and extension.size == extension.new_ids[-1] + 1
    )
    assert [new[token] for token in extension.new_tokens] == extension.new_ids
    assert len(set(new.values())) == len(new) and 4 not in new.values()
    assert after.get_vocab() == new


@given(st.text(max_size=60))
def test_text_without_georgian_letters_is_tokenized_as_before(small, text):
    _, before, after = small
    text = "".join(c for c in text if not "ა" <= c <= "ჵ").replace("[ka]", "")
    assert encode(before, text, "en") == encode(after, text, "en")


@given(st.text(alphabet="abcde.,! ", max_size=40))
def test_text_that_old_merges_fire_in_is_tokenized_as_before(small, text):
    _, before, after = small
    assert encode(before, text, "en") == encode(after, text, "en")


@pytest.mark.parametrize("language", SPEECH)
def test_real_vocabulary_reads_its_languages_as_before(real, language):
    _, before, after, _ = real
    text = SPEECH[language]
    for written in (text, text.lower()):
        ids = encode(before, written, language)
        assert ids == encode(after, written, language) and len(ids) > 5


def test_real_vocabulary_keeps_ids_and_gaps(real):
    extension, before, after, _ = real
    old, new = before.get_vocab(), after.get_vocab()
    assert {token: new[token] for token in old} == old
    assert not {5024, 5025} & set(new.values()) and extension.new_ids[0] == 5413
    merges = json.loads(after.to_str())["model"]["merges"]
    assert len({tuple(m) for m in merges}) == len(merges) > 5326


# ── what must be new ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_new_token_fires_by_itself(small, real):
    for extension, after in ((small[0], small[2]), (real[0], real[2])):
        for token, number in zip(extension.new_tokens, extension.new_ids, strict=True):
            assert after.encode(token).ids == [number]
        assert any(len(token) > 2 and token != "[ka]" for token in extension.new_tokens)


def test_tokens_are_counted_to_the_limit_and_learnt_from_frequent_pairs(tmp_path):
    # [ka] and 33 letters are 34; `ab`-like pairs of the one word then follow in the order of their letters.
    write_json(tmp_path / "base.json", small_vocabulary())
    made = extend_vocabulary(tmp_path / "base.json", Counter({"დედა": 5, "და": 3}), new_tokens=36, min_pair_count=2)
    assert made.new_tokens[:34] == ["[ka]", *GEORGIAN_LETTERS]
    assert made.new_tokens[34:] == ["და", "დე"]  # 8 times, then 5 times
    few = extend_vocabulary(tmp_path / "base.json", Counter({"დედა": 5, "და": 3}), new_tokens=99, min_pair_count=6)
    assert few.new_tokens[34:] == ["და"]


def test_the_language_token_is_one_special_token(small):
    extension, _, after = small
    entry = next(e for e in extension.vocabulary["added_tokens"] if e["content"] == "[ka]")
    assert entry["special"] is True and entry["normalized"] is False and entry["id"] == 51
    assert encode(after, "ა", "ka") == [51, after.token_to_id("ა")]


def decoded(tokenizer: Tokenizer, ids: list[int]) -> str:
    return "".join(tokenizer.id_to_token(i) for i in ids).replace("[SPACE]", " ")


@given(st.text(alphabet=GEORGIAN_LETTERS, min_size=1, max_size=30))
def test_no_georgian_word_is_unknown_and_all_decode_back(small, word):
    _, _, after = small
    ids = encode(after, word)
    assert after.token_to_id("[UNK]") not in ids
    assert decoded(after, ids) == f"[ka]{word}"


def test_sentences_decode_back_with_spaces_and_marks(real):
    _, _, after, _ = real
    for text in (*TEXTS, f"ა{PUNCTUATION[0]} ბ{PUNCTUATION[1]} გ-დ; ე: ვ? ზ!"):
        assert decoded(after, encode(after, text)) == f"[ka]{text}"


def test_archaic_letters_by_option(tmp_path):
    without, with_them = extend(tmp_path, small_vocabulary()), extend(tmp_path, small_vocabulary(), archaic=True)
    assert not set(ARCHAIC_LETTERS) & set(without.new_tokens) and set(ARCHAIC_LETTERS) <= set(with_them.new_tokens)


def test_the_result_does_not_depend_on_the_order_of_the_words(tmp_path):
    write_json(tmp_path / "base.json", small_vocabulary())
    counts = count_words(TEXTS)
    turned = Counter(dict(reversed(counts.items())))
    one, other = (
        extend_vocabulary(tmp_path / "base.json", c, new_tokens=90, min_pair_count=2) for c in (counts, turned)
    )
    assert one == other


def test_what_the_base_has_of_georgian_is_reused(tmp_path):
    base = small_vocabulary(**{"[ka]": 60, "ბ": 61, "ე": 62, "ბე": 63})
    base["model"]["merges"].append("ბ ე")
    made = extend(tmp_path, base)
    assert not {"[ka]", "ბ", "ე", "ბე"} & set(made.new_tokens) and made.new_ids[0] == 64
    write_json(tmp_path / "vocab.json", made.vocabulary)
    after = load_tokenizer(tmp_path / "vocab.json")
    assert after.encode("ბე").ids == [63] and encode(after, "ბებია")[0] == 60
    for token, number in zip(made.new_tokens, made.new_ids, strict=True):
        assert after.encode(token).ids == [number]


def test_the_base_file_is_not_touched_and_merges_given_as_pairs_are_read(tmp_path):
    base = small_vocabulary()
    expected = extend(tmp_path, base)
    base["model"]["merges"] = [merge.split(" ") for merge in base["model"]["merges"]]
    assert extend(tmp_path, base) == expected
    assert json.loads((tmp_path / "base.json").read_text("utf-8")) == base


def test_ids_are_those_of_coquis_own_tokenizer(real):
    tokenizer_module = pytest.importorskip("TTS.tts.layers.xtts.tokenizer")
    _, _, after, path = real
    coqui = tokenizer_module.VoiceBpeTokenizer(str(path))
    coqui.preprocess_text = lambda text, lang: text  # our text is normalised already
    for text in TEXTS:
        assert coqui.encode(text, "ka") == encode(after, text)
        assert coqui.decode(encode(after, text)) == f"[ka]{text}"


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


def broken(change) -> dict:
    base = small_vocabulary()
    change(base)
    return base


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda b: b.pop("model"), "model"),
        (lambda b: b["model"].update(type="WordLevel"), "WordLevel"),
        (lambda b: b["model"]["vocab"].pop("[START]"), r"\[START\]"),
        (lambda b: b["model"]["vocab"].pop("[SPACE]"), r"\[SPACE\]"),
        (lambda b: b["model"]["vocab"].update(x="7"), "whole numbers"),
        (lambda b: b["model"]["vocab"].update(x=3), "two tokens"),
        (lambda b: b["model"]["merges"].append("a e"), "'ae'"),
        (lambda b: b["model"]["merges"].append("a"), "not a pair"),
        (lambda b: b.update(added_tokens=[{"content": "[STOP]", "id": 77}]), "added_tokens contradict"),
        (lambda b: b.update(added_tokens=[{"content": "[new]", "id": 3}]), "two tokens"),
        (lambda b: b.update(added_tokens={"content": "[new]"}), "added_tokens contradict"),
        (lambda b: b["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (lambda b: b.update(pre_tokenizer={"type": "Nonsense"}), "tokenizers library"),
        (
            lambda b: b.update(
                pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
            ),
            "apart",
        ),
    ],
)
def test_a_vocabulary_that_is_not_xttss_is_refused_by_name(tmp_path, change, named):
    with pytest.raises(UserError, match=named) as error:
        extend(tmp_path, broken(change))
    assert "base.json" in str(error.value) and "hf download" in str(error.value)


def test_only_the_bare_exception_of_the_library_is_a_broken_vocabulary(tmp_path, monkeypatch):
    def fault(_):
        raise ValueError("our own fault")

    monkeypatch.setattr(vocabulary, "open_vocabulary", fault)
    with pytest.raises(ValueError, match="our own fault"):
        extend(tmp_path, small_vocabulary())


def test_a_missing_or_malformed_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_tokenizer(tmp_path / "vocab.json")
    (tmp_path / "vocab.json").write_text("{", "utf-8")
    with pytest.raises(UserError, match="not valid JSON"):
        load_tokenizer(tmp_path / "vocab.json")


def test_texts_without_georgian_words_are_refused(tmp_path):
    write_json(tmp_path / "base.json", small_vocabulary())
    with pytest.raises(UserError, match="no Georgian word"):
        extend_vocabulary(tmp_path / "base.json", count_words(["hello!"]), new_tokens=80, min_pair_count=2)


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_coverage_by_hand(tmp_path):
    write_json(tmp_path / "base.json", small_vocabulary())
    made = extend_vocabulary(tmp_path / "base.json", Counter({"და": 9}), new_tokens=35, min_pair_count=2)
    tokenizer = Tokenizer.from_str(json.dumps(made.vocabulary))
    found = coverage_report(tokenizer, ["და და.", "და"], [2.0, 1.0])  # და · blank · და · stop; და
    assert (found["longest"], found["unknown"]) == (5, 0)
    assert found["characters_per_token"] == 8 / 5 and found["tokens_per_second"] == 5 / 3
    assert found["characters_per_second"] == 8 / 3
    assert found["low_characters_per_second"] == pytest.approx(2.05)  # 5 % of the way from 2 to 3
    assert found["low_characters_per_token"] == pytest.approx(9 / 6)  # one stretch: "და და. და", six tokens


def test_character_limit_by_hand():
    assert measured_character_limit(1.5, 30.0) == 600  # 400 tokens
    assert measured_character_limit(2.0, 10.0) == 280  # 603 · 1024 / 22050 s of speech
    assert measured_character_limit(0.001, 10.0) == 1


@given(st.text(alphabet=GEORGIAN_LETTERS + " " + PUNCTUATION, max_size=400))
def test_four_hundred_characters_never_overflow_the_text_positions(small, text):
    assert len(encode(small[2], text)) < MAX_TEXT_TOKENS


@given(
    st.lists(
        st.lists(
            st.sampled_from(
                ["გზა", "გზა.", " ", "", "[SPACE]", "[SPACE", "ka]", "[ka]", "[en]", "\t", "-", "5", "ჱ", "x y", "é"]
            )
            | st.text(max_size=8),
            max_size=12,
        ).map("".join),
        max_size=5,
    )
)
def test_encoding_word_by_word_is_encoding_the_whole(small, texts):
    assert encode_batch(small[2], texts) == [encode(small[2], text) for text in texts]
