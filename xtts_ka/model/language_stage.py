"""The language stage: from transcripts to the extended vocabulary, a language model and a list of odd transcripts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import write_json
from xtts_ka.core.tensor_files import write_pickle
from xtts_ka.core.torch_settings import choose_device, one_thread
from xtts_ka.corpus import odd_transcripts
from xtts_ka.corpus.odd_transcripts import MAX_SENTENCES, MEASURED_AT_MOST
from xtts_ka.corpus.tables import Clip
from xtts_ka.georgian.alphabet import READING_SYMBOLS, is_georgian, is_word
from xtts_ka.georgian.language_model import Segmenter, TokenModel, saved_network, train_network
from xtts_ka.georgian.reading import Reading
from xtts_ka.model import vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCABULARY, RESULTS = "vocab.json", "language_model_results.pkl"
MIN_SENTENCES = 3  # one each for training, development (early stopping) and measuring


def run_language_stage(config: PretrainConfig, clips: Sequence[Clip]) -> dict[str, Any]:
    """Write VOCABULARY and RESULTS, list surprising transcripts in the drop report, and return the stage's metrics.

    clips: train and val. The tokens are trained on the distinct training sentences, so a sentence that a hundred
    people have read counts once; development and held-out sentences must be new to the tokenizer too (on the starter's
    text, tokens trained on the development sentences made those 0.2 bits per character cheaper). Token frequencies
    count every clip, as training does. Raises UserError for a broken base vocabulary and for transcripts that are too
    few or hold no Georgian.
    """
    clips = _normalised(config, clips)
    parts = odd_transcripts.held_out_split([clip.text for clip in clips], config.language_model.heldout_fraction)
    train, _, held_out = parts
    sentences = sum(map(len, parts))
    if sentences < MIN_SENTENCES:
        raise UserError(
            f"the transcripts in {config.data_dir} hold {sentences} different sentences, and the language stage needs "
            f"{MIN_SENTENCES} at least: check the text column or add recordings"
        )
    extension = vocabulary.extend_vocabulary(
        Path(config.base_model_path) / "vocab.json",
        vocabulary.count_words(train),
        new_tokens=config.text.new_tokens,
        min_pair_count=config.text.min_pair_count,
        language=config.language,
        archaic_letters=config.text.archaic == "keep",
    )
    tokenizer = vocabulary.open_vocabulary(extension.vocabulary)
    network, measured, suspects = _language_model(config, tokenizer, extension.vocabulary, clips, parts)
    coverage = _coverage(tokenizer, clips, held_out, config.language)
    metrics = {
        "new_tokens": len(extension.new_ids),
        "vocabulary_size": extension.size,
        "limited_by": "the request" if len(extension.new_ids) >= config.text.new_tokens else "the text",
        "sentences": sentences,
        **coverage,
        **measured,
        "suspects": len(suspects),
    }
    sequences = vocabulary.encode_batch(tokenizer, [clip.text for clip in clips], config.language)
    out = Path(config.output_model_path)
    write_json(out / VOCABULARY, extension.vocabulary)
    results = {
        "schema": 1,
        "language": config.language,
        "new_ids": extension.new_ids,
        "new_tokens": extension.new_tokens,
        **token_frequencies(sequences, extension.new_ids),
        "character_limit": coverage["character_limit"],
        "metrics": metrics,
        "suspects": [(clip.file_id, rate) for clip, rate in suspects],
        "network": saved_network(network, config.language_model),
    }
    write_pickle(out / RESULTS, results)
    _report(metrics, config.text.new_tokens)
    return metrics


def _language_model(
    config: PretrainConfig,
    tokenizer: Tokenizer,
    extended: dict[str, Any],
    clips: Sequence[Clip],
    parts: Sequence[Sequence[str]],
) -> tuple[TokenModel, dict[str, Any], list[tuple[Clip, float]]]:
    """(network, what was measured, suspects): trains it, and lists the transcripts that surprise the better model."""
    train, development, held_out = parts
    segmenter = Segmenter(tokenizer)
    tokens = _compact_vocabulary(extended, segmenter, train[:MAX_SENTENCES])
    common = (development, segmenter, tokens, config.language_model, config.seed, choose_device(config.device))

    def fit(texts: Sequence[str]) -> TokenModel:
        return train_network(texts, *common)

    with one_thread():
        measure = odd_transcripts.compare_models
        network, measured = measure(fit, train[:MAX_SENTENCES], development, held_out[:MEASURED_AT_MOST])
        bits = odd_transcripts.bits_of_all([text for part in parts for text in part], measured, fit)
    suspects = odd_transcripts.surprising_transcripts(bits, clips)
    odd_transcripts.list_suspects(config, suspects, bits)
    return network, measured, suspects


def _normalised(config: PretrainConfig, clips: Sequence[Clip]) -> list[Clip]:
    """Clips with their text as training reads it; those without a readable text are left out."""
    # Asked of the raw text: normalising spells foreign words with Georgian letters.
    if clips and not any(is_georgian(clip.text) for clip in clips):
        raise UserError(
            f"the transcripts in {config.data_dir} hold no Georgian letter (the first is "
            f"{clips[0].text[:40]!r}): check the text column and its encoding"
        )
    reading = Reading.of(config.text)
    return [replace(clip, text=text) for clip in clips if (text := reading(clip.text))]


def token_frequencies(sequences: Iterable[Iterable[int]], new_ids: Sequence[int]) -> dict[str, list[Any]]:
    """How often each new token occurs in `sequences`, and the natural log of its share of all tokens.

    Half an occurrence is added to each for the share, so that none has a share of zero.
    """
    counts = Counter(token for sequence in sequences for token in sequence)
    new, total = [counts[i] for i in new_ids], counts.total() + 0.5 * len(new_ids)
    return {"token_counts": new, "log_frequencies": [math.log((count + 0.5) / total) for count in new]}


def _coverage(tokenizer: Tokenizer, clips: Sequence[Clip], held_out: Sequence[str], language: str) -> dict[str, Any]:
    """Characters per token on sentences the tokenizer has not seen, and the character limit of one call of synthesis.

    The limit is the 95th percentile of the texts trained on, if the model's positions hold so much. (Of 48 texts of 100
    to 111 letters, the 99th percentile, the adapted stand-in spoke 79 % with a fault; cut at the 95th, 46 %.)
    """
    texts, seconds = [clip.text for clip in clips], [clip.duration for clip in clips]
    unseen = vocabulary.coverage_report(tokenizer, held_out, language=language)
    spoken = vocabulary.coverage_report(tokenizer, texts, seconds, language)
    low = unseen["low_characters_per_token"], spoken["low_characters_per_second"]
    # A text longer than those trained on is where XTTS repeats itself and loses words: synthesis splits it.
    usual_longest = sorted(map(len, texts))[math.ceil(0.95 * len(texts)) - 1]
    return {
        "characters_per_token": unseen["characters_per_token"],
        "tokens_per_second": spoken["tokens_per_second"],
        "characters_per_second": spoken["characters_per_second"],
        "unknown_tokens": spoken["unknown"],
        "longest_transcript_tokens": spoken["longest"],
        "character_limit": min(usual_longest, vocabulary.measured_character_limit(*low)),
    }


def _compact_vocabulary(extended: dict[str, Any], segmenter: Segmenter, train: Sequence[str]) -> list[str]:
    """The language model's symbols: boundary, unknown, Georgian tokens, and the base tokens that the text needs."""
    georgian = [token for token in extended["model"]["vocab"] if is_word(token)]
    others = {token for text in (READING_SYMBOLS, *READING_SYMBOLS, *train) for token in segmenter.tokens(text)}
    return ["<s>", "<unk>", *georgian, *sorted(others - {*georgian, "[UNK]"})]


def _report(m: dict[str, Any], requested: int) -> None:
    added, size = m["new_tokens"], m["vocabulary_size"]
    say(
        f"{added} new tokens (at most {requested} asked for, limited by {m['limited_by']}), ids "
        f"{size - added} to {size - 1}; {m['characters_per_token']:.2f} characters per token, "
        f"{m['tokens_per_second']:.1f} tokens per second of speech, at most {m['character_limit']} characters in one "
        "call of synthesis"
    )
    network, ngram, lead = m["network_bits_per_character"], m["ngram_bits_per_character"], m["network_lead"]
    say(
        f"held-out bits per character on {m['heldout_sentences']} sentences: network {network:.3f}, Kneser–Ney "
        f"{m['ngram_order']}-gram {ngram:.3f}; the network is {'ahead' if lead > 0 else 'behind'} by {abs(lead):.3f} ± "
        f"{m['network_lead_standard_error']:.3f}"
    )
    if m["suspects"]:
        say(f"{m['suspects']} transcripts look odd to the {m['scorer']} model: see split/drop_report.csv")
