"""Adds Georgian tokens to an XTTS vocabulary without changing how it reads the base model's languages.

XTTS's tokenizer is a BPE over the letters of its languages, with `Whitespace` pre-tokenization, `[SPACE]` for blanks
and one special token per language; to it, Georgian letters are unknown. `extend_vocabulary` appends `[ka]`, the
letters and trained merges: ids keep their numbers and their gaps, merges keep their order, and the new merges join
Georgian symbols only, so text without a Georgian letter is tokenized as before. (One exception: the characters `[ka]`
in a text are now one special token, as `[en]` always was.)
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json
from xtts_ka.georgian.alphabet import ARCHAIC_LETTERS, GEORGIAN_LETTERS, words
from xtts_ka.model.geometry import MAX_SPEECH_SECONDS, MAX_TEXT_TOKENS

_REQUIRED_TOKENS = ("[STOP]", "[START]", "[SPACE]", "[UNK]")
_BLOCK_CHARACTERS = 200  # about what one call of synthesis is given

_PRIVATE_USE = 0xF0000  # first character of a plane that no text contains
_REMEDY = "take vocab.json from the XTTS-v2 checkpoint (hf download coqui/XTTS-v2)"

Word = tuple[str, ...]  # as the symbols that it consists of


@dataclass(frozen=True)
class VocabularyExtension:
    """A base vocabulary with Georgian in it.

    vocabulary: the tokenizer as JSON, to be written to `vocab.json`. new_ids, new_tokens: what was added, in the order
    of the ids, which have no gaps and begin at the base's largest id + 1. size: rows of the text embedding, the
    largest id + 1.
    """

    vocabulary: dict[str, Any]
    new_ids: list[int]
    new_tokens: list[str]
    size: int


# ── extending ────────────────────────────────────────────────────────────────────────────────────────────────────────


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each unbroken run of Georgian letters occurs: merges are trained inside these."""
    return Counter(chain.from_iterable(map(words, texts)))


def extend_vocabulary(
    base_vocab: Path | str,
    counts: Counter[str],
    *,
    new_tokens: int,
    min_pair_count: int,
    language: str = "ka",
    archaic_letters: bool = False,
) -> VocabularyExtension:
    """Add `[language]`, the Georgian alphabet and trained BPE merges to a base vocabulary.

    base_vocab: a tokenizer JSON in XTTS's form. counts: word → occurrences in normalised text (see `count_words`).
    new_tokens: how many to add at most, `[language]` and the letters included; those are always added. min_pair_count:
    how often two symbols must stand side by side to become a token, so little text gives fewer tokens.
    archaic_letters: add the five old letters too. Tokens that the base has already keep their ids. Pairs of equal
    count are taken in the order of their symbols, so the result depends on the arguments alone.

    Raises UserError for a vocabulary that is broken or not XTTS's, and for no words.
    """
    if not counts:
        raise UserError("the transcripts hold no Georgian word: check the text column and its encoding")
    raw = read_vocabulary(Path(base_vocab))
    merges, known = raw["model"]["merges"], token_ids(raw)
    special, alphabet = f"[{language}]", GEORGIAN_LETTERS + (ARCHAIC_LETTERS if archaic_letters else "")
    kept_merges = list(dict.fromkeys(reversed(merges)))[::-1]  # the tokenizer ranks a repeated merge by its last place

    added = [token for token in (special, *alphabet) if token not in known]
    letters_only = open_vocabulary(_with_tokens(raw, known, added, kept_merges, special))
    encodings = letters_only.encode_batch(list(counts))  # letters, or longer tokens if the base has Georgian ones
    segmented = {tuple(encoding.tokens): n for encoding, n in zip(encodings, counts.values(), strict=True)}
    trained = _train_merges(segmented, alphabet, new_tokens - len(added), min_pair_count)
    joined = dict.fromkeys(merge.replace(" ", "") for merge in trained)
    added += [token for token in joined if token not in known]

    vocabulary = _with_tokens(raw, known, added, kept_merges + trained, special)
    _check_tokens(vocabulary, [*alphabet, *added], base_vocab)
    first = max(known.values()) + 1
    size = first + len(added)
    return VocabularyExtension(vocabulary, list(range(first, size)), added, size)


def _with_tokens(
    raw: dict[str, Any], known: dict[str, int], added: Sequence[str], merges: Sequence[str], special: str
) -> dict[str, Any]:
    """`raw` with `merges`, and `added` tokens numbered from the largest known id + 1 on, `special` marked special."""
    first = max(known.values()) + 1
    ids = known | {token: first + i for i, token in enumerate(added)}
    listed = list(raw["added_tokens"])
    if all(entry["content"] != special for entry in listed):
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        listed.append({"id": ids[special], "special": True, "content": special, **flags})
    return {**raw, "added_tokens": listed, "model": {**raw["model"], "vocab": ids, "merges": merges}}


def _check_tokens(vocabulary: dict[str, Any], tokens: Sequence[str], base_vocab: Path | str) -> None:
    """Each token must result from encoding its own text: the row of one that never does would never be trained."""
    tokenizer, ids = open_vocabulary(vocabulary), vocabulary["model"]["vocab"]
    for token, encoding in zip(tokens, tokenizer.encode_batch(list(tokens)), strict=True):
        if encoding.ids != [ids[token]]:
            raise UserError(
                f"the base vocabulary {base_vocab} takes {token!r} apart into {encoding.tokens}, so "
                f"Georgian cannot be added to it: {_REMEDY}"
            )


def _train_merges(words: Mapping[Word, int], alphabet: str, limit: int, min_pair_count: int) -> list[str]:
    """At most `limit` merges ("a b"), the most frequent pair first.

    The library's trainer begins with single characters, so each symbol is represented by one private-use character.
    """
    if limit <= 0:
        return []
    inventory = sorted({*alphabet, *chain.from_iterable(words)})
    stand_in = {symbol: chr(_PRIVATE_USE + i) for i, symbol in enumerate(inventory)}
    back = {ord(character): symbol for symbol, character in stand_in.items()}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=len(inventory) + limit,
        min_frequency=min_pair_count,
        show_progress=False,
        initial_alphabet=list(stand_in.values()),
        special_tokens=[],
    )
    spelt = Counter({"".join(map(stand_in.__getitem__, word)): count for word, count in words.items()})
    tokenizer.train_from_iterator(spelt.elements(), trainer)  # it takes text, not counts
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [" ".join(pair).translate(back) for pair in merges]


# ── reading a vocabulary ─────────────────────────────────────────────────────────────────────────────────────────────


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Open a `vocab.json`, base or extended; UserError if it is not an XTTS vocabulary."""
    return open_vocabulary(read_vocabulary(Path(path)))


def open_vocabulary(vocabulary: dict[str, Any]) -> Tokenizer:
    """The tokenizer that a tokenizer JSON describes."""
    return Tokenizer.from_str(json.dumps(vocabulary))


def read_vocabulary(path: Path, remedy: str = _REMEDY) -> dict[str, Any]:
    """The tokenizer JSON at `path`, its merges as "a b"; UserError, with the remedy, unless it is a BPE like XTTS's."""
    raw = read_json(path, "vocabulary", remedy)
    if problem := _problem_of(raw):
        raise UserError(f"the vocabulary {path} is not XTTS's ({problem}): {remedy}")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in raw["model"]["merges"]]
    return {**raw, "added_tokens": raw.get("added_tokens") or [], "model": {**raw["model"], "merges": merges}}


def token_ids(raw: dict[str, Any]) -> dict[str, int]:
    """Token → id of a vocabulary, special tokens included."""
    return raw["model"]["vocab"] | {entry["content"]: entry["id"] for entry in raw["added_tokens"]}


def _problem_of(raw: Any) -> str:
    """What is wrong with a vocabulary, or nothing.

    The tokenizers library ends the process on some broken files (such as merges of three parts), so it comes last.
    """
    model = raw.get("model") if isinstance(raw, dict) else None
    if not isinstance(model, dict):
        return "it has no model"
    if (kind := model.get("type", "BPE")) != "BPE":
        return f"its model is {kind}, not BPE"
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list) or not vocab:
        return "its model lacks vocab or merges"
    if not all(type(i) is int and 0 <= i < 2**31 for i in vocab.values()):
        return "some ids in its vocab are not whole numbers"
    if missing := [token for token in _REQUIRED_TOKENS if token not in vocab]:
        return f"it has no {', '.join(missing)}"
    if model.get("unk_token") != "[UNK]":
        return f"its unk_token is {model.get('unk_token')!r}, not '[UNK]'"
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(name):
            return f"it uses {name}"
    return _problem_of_merges(merges, vocab) or _problem_of_added(raw, vocab) or _problem_of_opening(raw)


def _problem_of_merges(merges: list[Any], vocab: dict[str, int]) -> str:
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if (
            not isinstance(parts, list)
            or len(parts) != 2
            or not all(isinstance(p, str) and " " not in p for p in parts)
        ):
            return f"merge {str(merge)[:40]!r} is not a pair"
        if lacking := [token for token in (*parts, "".join(parts)) if token not in vocab]:
            return f"merge {' '.join(parts)!r} needs {lacking[0]!r}, which has no id"
    return ""


def _problem_of_added(raw: dict[str, Any], vocab: dict[str, int]) -> str:
    entries = raw.get("added_tokens") or []
    ids = dict(vocab)
    for entry in entries if isinstance(entries, list) else [entries]:
        token, number = (entry.get("content"), entry.get("id")) if isinstance(entry, dict) else (None, None)
        if not isinstance(token, str) or type(number) is not int or ids.setdefault(token, number) != number:
            return "its added_tokens contradict its vocab"
    return "it gives one id to two tokens" if len(set(ids.values())) < len(ids) else ""


def _problem_of_opening(raw: dict[str, Any]) -> str:
    try:
        open_vocabulary(raw)
    except Exception as error:
        if type(error) is not Exception:  # the library raises the bare class, so nothing narrower can be named
            raise
        return f"the tokenizers library says: {error}"
    return ""


# ── encoding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def encode_batch(tokenizer: Tokenizer, texts: Sequence[str], language: str = "ka") -> list[list[int]]:
    """Token ids of normalised `texts` after the language token: what coqui's tokenizer gives after its own cleaning.

    `[SPACE]` separates words, so each different word is encoded once: ten times as fast as whole sentences.
    """
    split = [text.split(" ") for text in texts]
    words = list(set(chain.from_iterable(split)))
    first, space = tokenizer.encode(f"[{language}]").ids, tokenizer.encode("[SPACE]").ids
    spaced = {word: space + encoding.ids for word, encoding in zip(words, tokenizer.encode_batch(words), strict=True)}
    return [first + list(chain.from_iterable(map(spaced.__getitem__, text)))[len(space) :] for text in split]


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def coverage_report(
    tokenizer: Tokenizer, texts: Sequence[str], seconds: Sequence[float] | None = None, language: str = "ka"
) -> dict[str, Any]:
    """How compactly normalised `texts` (one or more) are tokenized, the language token not counted.

    seconds: length of each text's recording. Besides the means there are two low quantiles for character limits:
    `low_characters_per_token`, exceeded by 99 in 100 stretches of 200 characters, and `low_characters_per_second`,
    exceeded by 95 in 100 recordings.
    """
    ids = encode_batch(tokenizer, texts, language)
    tokens, characters = sum(map(len, ids)) - len(ids), sum(map(len, texts))
    unknown = tokenizer.token_to_id("[UNK]")
    blocks = _blocks(texts)
    block_ids = encode_batch(tokenizer, blocks, language)
    dense = [len(block) / (len(sequence) - 1) for block, sequence in zip(blocks, block_ids, strict=True)]
    report = {
        "longest": max(map(len, ids)),
        "unknown": sum(token == unknown for sequence in ids for token in sequence),
        "characters_per_token": characters / tokens,
        "low_characters_per_token": float(np.quantile(dense, 0.01)),
    }
    if seconds:
        report["tokens_per_second"], report["characters_per_second"] = tokens / sum(seconds), characters / sum(seconds)
        rates = [len(text) / s for text, s in zip(texts, seconds, strict=True)]
        report["low_characters_per_second"] = float(np.quantile(rates, 0.05))
    return report


def _blocks(texts: Sequence[str]) -> list[str]:
    """Neighbouring texts joined to stretches of about 200 characters: single sentences vary too much for a limit."""
    blocks, block = [], ""
    for text in texts:
        block = f"{block} {text}".strip()
        if len(block) >= _BLOCK_CHARACTERS:
            blocks.append(block)
            block = ""
    return blocks or [block]


def measured_character_limit(chars_per_token: float, chars_per_second: float) -> int:
    """The longest text, in characters, to give to XTTS in one call, for the low figures of `coverage_report`.

    The smaller of ⌊chars_per_token · 400⌋, as inference wants fewer than 402 tokens and one of them is the language
    token, and ⌊chars_per_second · 28.0 s⌋, the speech for which XTTS-v2 has audio positions.
    """
    return max(1, math.floor(min(chars_per_token * (MAX_TEXT_TOKENS - 2), chars_per_second * MAX_SPEECH_SECONDS)))
