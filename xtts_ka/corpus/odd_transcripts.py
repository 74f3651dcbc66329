"""Finds the transcripts that a language model of the other transcripts predicts worst."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.digests import hash_to_unit
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.corpus.tables import Clip, replace_suspects
from xtts_ka.georgian.character_ngram import MAX_CHARACTERS, CharacterNgram
from xtts_ka.georgian.language_model import Segmenter, TokenModel, bits_per_character, is_small, train_network

SUSPECT_REASON = "surprising_transcript"
SUSPECTS_LISTED = 200  # at most: more than a person reads
SUSPECT_DEVIATIONS = 3.5  # robust standard deviations above the median (Iglewicz & Hoaglin 1993)
NGRAM_ORDERS = (3, 4, 5, 6, 7)  # the development sentences choose
MEASURED_AT_MOST = 1000  # held-out sentences
SEGMENTATIONS = 32  # random ones added to the network's probability of a held-out sentence
MAX_SENTENCES = 100_000  # what the models learn from at most; the tokenizer sees every sentence


def held_out_split(texts: Iterable[str], fraction: float) -> tuple[list[str], list[str], list[str]]:
    """Distinct `texts` as (training, development, held-out) sentences, by a hash of each: more text moves none.

    `fraction` of them is held out and as much again is for development (early stopping, the n-gram's order); each part
    has a sentence at least if there are three.
    """
    places = {text: hash_to_unit(text) for text in texts}
    ordered = sorted(places, key=lambda text: (places[text], text))
    third = len(ordered) // 3
    held_out = min(max(1, sum(place < fraction for place in places.values())), third)
    development = min(max(1, sum(fraction <= place < 2 * fraction for place in places.values())), third)
    return ordered[held_out + development :], ordered[held_out : held_out + development], ordered[:held_out]


def cross_fitted_bits(
    texts: Sequence[str], fit: Callable[[list[str]], CharacterNgram | TokenModel], folds: int
) -> dict[str, float]:
    """−log₂ p of each distinct text under a model that `fit` made from the other folds' texts.

    A model remembers what it was trained on, oddities too: only one that has not seen a text can be surprised by it.
    """
    ordered = sorted(set(texts), key=lambda text: hashlib.sha256(text.encode("utf-8")).digest())
    bits: dict[str, float] = {}
    for fold in range(folds):
        scored = ordered[fold::folds]
        model = fit([text for i, text in enumerate(ordered) if i % folds != fold][:MAX_SENTENCES])
        bits |= dict(zip(scored, model.bits(scored).tolist(), strict=True))
    return bits


def surprising_transcripts(
    bits: dict[str, float], clips: Sequence[Clip], top: int = SUSPECTS_LISTED
) -> list[tuple[Clip, float]]:
    """(clip, bits per character) of the transcripts that stand out, most surprising first, at most `top`.

    bits: −log₂ p by text. What stands out is measured in robust standard deviations (1.4826 × the median absolute
    deviation) of surprise above the median. As a mean over n characters scatters with 1/√n, the excess per character is
    multiplied by √n first: otherwise every two-letter reply would be listed.
    """
    texts = list(bits)
    if len(texts) < 2:
        return []
    length = np.array([min(len(text), MAX_CHARACTERS) + 1 for text in texts])
    rate = np.array([bits[text] for text in texts]) / length
    excess = (rate - np.median(rate)) * np.sqrt(length)
    deviation = 1.4826 * np.median(np.abs(excess - np.median(excess)))
    if deviation <= 1e-9:
        return []
    odd = {
        texts[i]: (excess[i], rate[i] * length[i] / max(1, length[i] - 1))
        for i in range(len(texts))
        if excess[i] / deviation > SUSPECT_DEVIATIONS
    }
    listed = [(clip, float(odd[clip.text][1])) for clip in clips if clip.text in odd]
    return sorted(listed, key=lambda pair: (-odd[pair[0].text][0], pair[0].file_id))[:top]


def network_fitter(
    config: PretrainConfig, segmenter: Segmenter, tokens: Sequence[str], development: Sequence[str]
) -> Callable[[Sequence[str]], TokenModel]:
    settings, seed, device = config.language_model, config.seed, choose_device(config.device)
    return lambda texts: train_network(texts, development, segmenter, tokens, settings, seed, device)


def compare_models(
    fit: Callable[[Sequence[str]], TokenModel],
    train: Sequence[str],
    development: Sequence[str],
    held_out: Sequence[str],
) -> tuple[TokenModel, dict[str, Any]]:
    """Train the network and n-grams on the same sentences; bits per character of both on the same held-out ones."""
    candidates = [CharacterNgram(train, order) for order in NGRAM_ORDERS]
    ngram = min(candidates, key=lambda candidate: candidate.bits(development).sum())
    network = fit(train)
    by_ngram = ngram.bits(held_out)
    by_network = network.bits(held_out, SEGMENTATIONS if is_small(train) else 0)
    lead = by_ngram - by_network
    return network, {
        "heldout_sentences": len(held_out),
        "ngram_order": ngram.order,
        "ngram_bits_per_character": bits_per_character(by_ngram, held_out),
        "network_bits_per_character": bits_per_character(by_network, held_out),
        "network_bits_per_character_one_segmentation": bits_per_character(network.bits(held_out), held_out),
        "network_lead": bits_per_character(lead, held_out),
        "network_lead_standard_error": bits_per_character(lead.std() * np.sqrt([float(len(lead))]), held_out),
        "network_epochs": network.epochs,
        "scorer": "network" if lead.sum() > 0 else "ngram",
    }


def bits_of_all(
    texts: Sequence[str], measured: dict[str, Any], fit: Callable[[Sequence[str]], TokenModel]
) -> dict[str, float]:
    """Surprise of every sentence under the better model: n-grams are made in seconds, a network costs a training."""
    if measured["scorer"] == "network":
        return cross_fitted_bits(texts, fit, folds=2)
    return cross_fitted_bits(texts, lambda others: CharacterNgram(others, measured["ngram_order"]), folds=5)


def list_suspects(config: PretrainConfig, suspects: Sequence[tuple[Clip, float]], bits: dict[str, float]) -> None:
    usual = float(np.median([total / min(len(text), MAX_CHARACTERS) for text, total in bits.items()]))
    replace_suspects(
        config.data_dir,
        SUSPECT_REASON,
        [
            (clip.file_id, f"{rate:.2f} bits per character where {usual:.2f} is usual", str(clip.audio_path), clip.text)
            for clip, rate in suspects
        ],
    )
