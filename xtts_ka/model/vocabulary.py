"""Georgian tokens for an XTTS vocabulary, added so that nothing the base model knows changes its meaning.

XTTS's tokenizer is a BPE over the letters of its languages, with `Whitespace` pre-tokenization, `[SPACE]` for
blanks and one special token per language. Georgian letters are unknown to it. `extend_vocabulary` appends `[ka]`,
the letters and trained merges after everything that is there: ids keep their numbers and their gaps, merges keep
their order, and as new merges join Georgian symbols only, text without a Georgian letter is tokenized exactly as
before. (One string apart: a literal `[ka]` in a text, which is now one special token, as `[en]` always was.)
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json
from xtts_ka.georgian.alphabet import ARCHAIC_LETTERS, GEORGIAN_LETTERS

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

SPECIAL_TOKENS = ("[STOP]", "[START]", "[SPACE]", "[UNK]")  # what XTTS needs to find in a vocabulary
MAX_TEXT_TOKENS = 402  # `gpt_max_text_tokens` of XTTS-v2; its inference wants strictly fewer
MAX_SPEECH_SECONDS = (605 - 2) * 1024 / 22050  # `gpt_max_audio_tokens`, less start and stop, of 1024 samples each
BLOCK_CHARACTERS = 200  # about what one call of synthesis is given

_GEORGIAN = re.compile("[ა-ჵ]+")
_FIRST_STAND_IN = 0xF0000  # a private-use plane: no text that reaches the trainer holds its characters
_REPEATS = 1000  # copies of a word in one line handed to the trainer
_REMEMBERED_WORDS = 2**18  # by a BatchEncoder: about 60 MB
_REMEDY = "take vocab.json from the XTTS-v2 checkpoint (hf download coqui/XTTS-v2)"

Merge = tuple[str, str]


@dataclass(frozen=True)
class VocabularyExtension:
    """A base vocabulary with Georgian in it.

    vocabulary: the tokenizer as JSON, to be written to `vocab.json`; new_ids and new_tokens: what was added, in id
    order, gapless from the base's largest id + 1 on; size: the rows a text embedding needs, largest id + 1; facts:
    for reports.
    """

    vocabulary: dict[str, Any]
    new_ids: list[int]
    new_tokens: list[str]
    size: int
    facts: dict[str, Any]


# ── extending ────────────────────────────────────────────────────────────────────────────────────────────────────────


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each unbroken run of Georgian letters occurs: the pieces that BPE works inside."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_GEORGIAN.findall(text))
    return counts


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

    base_vocab: a tokenizer JSON in XTTS's form; it is only read. counts: word → occurrences, normalised text (see
    `count_words`). new_tokens: how many to add at most, the language token and the letters included (those are always
    added); text too small for it gives fewer, as a pair of symbols must occur `min_pair_count` times to become a
    token. archaic_letters: add the five old letters too. Tokens that the base has already keep their ids. The result
    depends on the arguments alone: pairs of equal count are taken in the order of their symbols.

    Raises UserError for a vocabulary that is broken or not XTTS's, and for counts without a Georgian word.
    """
    raw = _read_vocabulary(Path(base_vocab))
    vocab, merges = raw["model"]["vocab"], _merge_pairs(raw["model"]["merges"])
    known = vocab | {entry["content"]: entry["id"] for entry in raw["added_tokens"]}
    if len(set(known.values())) < len(known):
        raise UserError(f"the base vocabulary {base_vocab} gives one id to two tokens: {_REMEDY}")
    alphabet = GEORGIAN_LETTERS + (ARCHAIC_LETTERS if archaic_letters else "")
    counts = _georgian_only(counts, alphabet)
    kept_merges = list(dict.fromkeys(reversed(merges)))[::-1]  # of duplicates the last one ranks: see the tests
    base_size = max(known.values()) + 1

    added = [token for token in (f"[{language}]", *alphabet) if token not in known]
    start = _with_tokens(raw, known, added, kept_merges, f"[{language}]")
    symbols = _segment(start, counts, kept_merges)
    trained = _train_merges(symbols, alphabet, new_tokens - len(added), min_pair_count)
    added += [token for token in dict.fromkeys(a + b for a, b in trained) if token not in known]

    vocabulary = _with_tokens(raw, known, added, kept_merges + trained, f"[{language}]")
    _verify(vocabulary, [*alphabet, *added], base_vocab)
    facts = {
        "requested": new_tokens,
        "added": len(added),
        "new_merges": len(trained),
        "base_entries": len(known),
        "base_size": base_size,
        "size": base_size + len(added),
        "words": sum(counts.values()),
        "distinct_words": len(counts),
        "duplicate_merges_removed": len(merges) - len(kept_merges),
        "limited_by": "the request" if len(added) >= new_tokens else "the text",
    }
    size = base_size + len(added)
    return VocabularyExtension(vocabulary, list(range(base_size, size)), added, size, facts)


def _georgian_only(counts: Counter[str], alphabet: str) -> Counter[str]:
    runs: Counter[str] = Counter()
    pattern = re.compile(f"[{alphabet}]+")
    for word in sorted(counts):
        for run in pattern.findall(word):
            runs[run] += counts[word]
    if not counts:
        raise UserError("the transcripts hold no word at all: a tokenizer needs Georgian text, check the text column")
    if not runs:
        raise UserError(
            f"the transcripts hold no Georgian letter ({min(counts)!r} is one of their words): "
            "check the text column and its encoding"
        )
    return runs


def _with_tokens(
    raw: dict, known: dict[str, int], added: Sequence[str], merges: Sequence[Merge], special: str
) -> dict[str, Any]:
    """`raw` with `added` tokens numbered from the largest known id + 1 on, `merges`, and `special` marked special."""
    first = max(known.values()) + 1
    ids = known | {token: first + i for i, token in enumerate(added)}
    listed = list(raw["added_tokens"])
    if all(entry["content"] != special for entry in listed):
        listed.append(
            {
                "id": ids[special],
                "special": True,
                "content": special,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
        )
    as_pairs = any(isinstance(merge, list) for merge in raw["model"]["merges"])  # the form the base uses is kept
    written = [list(merge) if as_pairs else " ".join(merge) for merge in merges]
    return {**raw, "added_tokens": listed, "model": {**raw["model"], "vocab": ids, "merges": written}}


# ── the base vocabulary ──────────────────────────────────────────────────────────────────────────────────────────────


def _read_vocabulary(path: Path) -> dict[str, Any]:
    """The tokenizer JSON at `path`, known to be a BPE that the rest of this file understands."""
    raw = read_json(path, "base vocabulary", _REMEDY)
    model = raw.get("model") if isinstance(raw, dict) else None
    problem = (
        "it has no model"
        if not isinstance(model, dict)
        else f"its model is {model['type']}, not BPE"
        if model.get("type", "BPE") != "BPE"
        else _vocab_problem(model) or _added_problem(raw) or _loading_problem(raw)
    )
    if problem:
        raise UserError(f"the base vocabulary {path} is not XTTS's ({problem}): {_REMEDY}")
    return {**raw, "added_tokens": raw.get("added_tokens") or []}


def _vocab_problem(model: dict) -> str:
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list) or not vocab:
        return "its model lacks vocab or merges"
    if not all(type(i) is int and 0 <= i < 2**31 for i in vocab.values()):
        return "some ids in its vocab are not whole numbers"
    missing = [token for token in SPECIAL_TOKENS if token not in vocab]
    if missing:
        return f"it has no {', '.join(missing)}"
    if model.get("unk_token") != "[UNK]":
        return f"its unk_token is {model.get('unk_token')!r}, not '[UNK]'"
    odd = [name for name in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback") if model.get(name)]
    if odd:
        return f"it uses {odd[0]}"
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            return f"merge {str(merge)[:40]!r} is not a pair"
        lacking = [token for token in (*parts, "".join(parts)) if token not in vocab]
        if lacking:
            return f"merge {' '.join(parts)!r} needs {lacking[0]!r}, which has no id"
    return ""


def _added_problem(raw: dict) -> str:
    entries = raw.get("added_tokens") or []
    sound = isinstance(entries, list) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("content"), str)
        and type(entry.get("id")) is int
        and raw["model"]["vocab"].get(entry["content"], entry["id"]) == entry["id"]
        for entry in entries
    )
    return "" if sound else "its added_tokens contradict its vocab"


def _loading_problem(raw: dict) -> str:
    try:
        open_vocabulary(raw)
    except Exception as error:
        if type(error) is not Exception:  # the library raises the bare class, so nothing narrower can be named
            raise
        return f"the tokenizers library says: {error}"
    return ""


def _merge_pairs(merges: Sequence[str | list[str]]) -> list[Merge]:
    return [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges]


def _verify(vocabulary: dict[str, Any], tokens: Sequence[str], base_vocab: Path | str) -> None:
    """Every token must come out of encoding its own text: one that cannot fire would be a row that never learns."""
    tokenizer, ids = open_vocabulary(vocabulary), vocabulary["model"]["vocab"]
    for token, encoding in zip(tokens, tokenizer.encode_batch(list(tokens)), strict=True):
        if encoding.ids != [ids[token]]:
            raise UserError(
                f"the base vocabulary {base_vocab} takes {token!r} apart into {encoding.tokens}, so "
                f"Georgian cannot be added to it: {_REMEDY}"
            )


# ── training merges ──────────────────────────────────────────────────────────────────────────────────────────────────


def _segment(vocabulary: dict[str, Any], counts: Counter[str], merges: Sequence[Merge]) -> Mapping[Sequence[str], int]:
    """Words as the symbols that training starts from: letters, or what the base makes of them if it knows Georgian."""
    if not any(_GEORGIAN.search(a + b) for a, b in merges):
        return counts
    tokenizer, words = open_vocabulary(vocabulary), list(counts)
    return {tuple(e.tokens): counts[word] for word, e in zip(words, tokenizer.encode_batch(words), strict=True)}


def _train_merges(symbols: Mapping[Sequence[str], int], alphabet: str, limit: int, min_pair_count: int) -> list[Merge]:
    """At most `limit` merges over `symbols`, most frequent pair first.

    The library's trainer knows single characters only, so each symbol travels as one private-use character.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    if limit <= 0:
        return []
    inventory = sorted({*alphabet, *(symbol for word in symbols for symbol in word)})
    stand_in = {symbol: chr(_FIRST_STAND_IN + i) for i, symbol in enumerate(inventory)}
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
    tokenizer.train_from_iterator(_lines(symbols, stand_in), trainer)
    merges = _merge_pairs(json.loads(tokenizer.to_str())["model"]["merges"])
    return [(a.translate(back), b.translate(back)) for a, b in merges]


def _lines(symbols: Mapping[Sequence[str], int], stand_in: dict[str, str]) -> Iterator[str]:
    """Each word as often as it was counted: the trainer takes text, not counts."""
    for word in sorted(symbols):
        spelt, left = "".join(stand_in[symbol] for symbol in word) + " ", symbols[word]
        while left > 0:
            yield spelt * min(left, _REPEATS)
            left -= _REPEATS


# ── encoding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def load_tokenizer(path: Path | str) -> Tokenizer:
    """Open a `vocab.json`, base or extended; UserError if it is not an XTTS vocabulary."""
    return open_vocabulary(_read_vocabulary(Path(path)))


def open_vocabulary(vocabulary: dict[str, Any]) -> Tokenizer:
    """The tokenizer that a tokenizer JSON describes."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(json.dumps(vocabulary))


def encode(tokenizer: Tokenizer, text: str, language: str = "ka") -> list[int]:
    """Token ids of normalised `text`, language token first: what coqui's tokenizer gives after its own cleaning."""
    return encode_batch(tokenizer, [text], language)[0]


def encode_batch(tokenizer: Tokenizer, texts: Sequence[str], language: str = "ka") -> list[list[int]]:
    """`encode` for many texts."""
    return [ids.tolist() for ids in BatchEncoder(tokenizer, language)(texts)]


class BatchEncoder:
    """`encode_batch` for a corpus that comes in parts; gives arrays of uint32.

    `[SPACE]` keeps words apart, so each different word is encoded once, on all cores, and remembered for later parts.
    """

    def __init__(self, tokenizer: Tokenizer, language: str = "ka"):
        self._tokenizer = tokenizer
        self._first, self._space = (_as_bytes(tokenizer.encode(token)) for token in (f"[{language}]", "[SPACE]"))
        self._spaced: dict[str, bytes] = {}  # a word's ids, those of a blank before them

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        split = [text.split(" ") for text in texts]
        if len(self._spaced) > _REMEMBERED_WORDS:
            self._spaced.clear()
        new = [word for word in set(chain.from_iterable(split)) if word not in self._spaced]
        for word, encoding in zip(new, self._tokenizer.encode_batch(new), strict=True):
            self._spaced[word] = self._space + _as_bytes(encoding)
        spaced = (b"".join(map(self._spaced.__getitem__, words)) for words in split)
        return [np.frombuffer(self._first + ids[len(self._space) :], "<u4") for ids in spaced]


def _as_bytes(encoding: Encoding) -> bytes:
    return np.array(encoding.ids, "<u4").tobytes()


def decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of `ids`, as coqui decodes: `[SPACE]` is a blank, the language token stays, `[STOP]` and `[UNK]` go."""
    text = tokenizer.decode(list(ids), skip_special_tokens=False).replace(" ", "")
    return text.replace("[SPACE]", " ").replace("[STOP]", "").replace("[UNK]", "")


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def coverage_report(
    tokenizer: Tokenizer, texts: Sequence[str], seconds: Sequence[float] | None = None, language: str = "ka"
) -> dict[str, Any]:
    """How compactly normalised `texts` are tokenized, the language token not counted.

    seconds: length of each text's recording. Besides the means there are two cautious figures for character limits:
    `low_characters_per_token`, which 99 in 100 stretches of BLOCK_CHARACTERS exceed, and `low_characters_per_second`,
    which 95 in 100 recordings exceed (both None without the data for it).
    """
    import numpy as np

    ids = encode_batch(tokenizer, texts, language)
    tokens, characters = sum(map(len, ids)) - len(ids), sum(map(len, texts))
    unknown = tokenizer.token_to_id("[UNK]")
    blocks = _blocks(texts)
    block_ids = encode_batch(tokenizer, blocks, language)
    dense = [len(block) / (len(sequence) - 1) for block, sequence in zip(blocks, block_ids, strict=True)]
    report = {
        "texts": len(texts),
        "characters": characters,
        "tokens": tokens,
        "longest": max(map(len, ids), default=0),
        "unknown": sum(sequence.count(unknown) for sequence in ids),
        "characters_per_token": characters / tokens if tokens else None,
        "low_characters_per_token": float(np.quantile(dense, 0.01)) if dense else None,
        "tokens_per_second": None,
        "characters_per_second": None,
        "low_characters_per_second": None,
    }
    if seconds is not None and sum(seconds):
        rates = [len(text) / duration for text, duration in zip(texts, seconds, strict=True) if duration]
        report |= {
            "tokens_per_second": tokens / sum(seconds),
            "characters_per_second": characters / sum(seconds),
            "low_characters_per_second": float(np.quantile(rates, 0.05)),
        }
    return report


def _blocks(texts: Sequence[str]) -> list[str]:
    """Neighbouring texts joined to stretches of about BLOCK_CHARACTERS: single sentences vary too much for a limit."""
    blocks, block = [], ""
    for text in texts:
        block = f"{block} {text}".strip()
        if len(block) >= BLOCK_CHARACTERS:
            blocks.append(block)
            block = ""
    return blocks or [block] * bool(block)


def measured_character_limit(
    chars_per_token: float, max_text_tokens: int = MAX_TEXT_TOKENS, *, chars_per_second: float | None = None
) -> int:
    """The longest text, in characters, to hand to XTTS at once.

    limit = ⌊chars_per_token · (max_text_tokens − 2)⌋: one position goes to the language token, and inference wants
    strictly fewer than `max_text_tokens`. With chars_per_second it is at most ⌊chars_per_second · 28.0 s⌋ as well, the
    speech that fits XTTS-v2's audio positions, which usually binds first. Hand in cautious figures (the low ones of
    `coverage_report`), not means. As no token covers less than one character, a limit up to 400 can never overflow.
    """
    limit = chars_per_token * (max_text_tokens - 2)
    if chars_per_second is not None:
        limit = min(limit, chars_per_second * MAX_SPEECH_SECONDS)
    return max(1, math.floor(limit))
