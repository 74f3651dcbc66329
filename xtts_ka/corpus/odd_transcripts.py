"""Finds transcripts that are probably wrong: those that a language model of the other transcripts predicts worst."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.digests import hash_to_unit
from xtts_ka.corpus.tables import Clip, replace_suspects
from xtts_ka.georgian.character_ngram import MAX_CHARACTERS, CharacterNgram
from xtts_ka.georgian.language_model import TokenModel, bits_per_character, is_small

SUSPECT_REASON = "surprising_transcript"  # in the drop report
SUSPECTS_LISTED = 200  # at most: nobody reads more
SUSPECT_DEVIATIONS = 3.5  # robust standard deviations above the median (Iglewicz & Hoaglin 1993)
NGRAM_ORDERS = (3, 4, 5, 6, 7)  # the one with the fewest bits on the development sentences is taken
MEASURED_AT_MOST = 1000  # held-out sentences
SEGMENTATIONS = 32  # random segmentations that the network's probability of a held-out sentence sums over
MAX_SENTENCES = 100_000  # the models are trained on at most; the tokenizer is trained on all

Fit = Callable[[Sequence[str]], TokenModel]  # trains a network on sentences


def held_out_split(texts: Iterable[str], fraction: float) -> tuple[list[str], list[str], list[str]]:
    """Distinct `texts` as (training, development, held-out) sentences, chosen by a hash: adding texts moves none.

    `fraction` of them is held out and as many are for development (early stopping, the n-gram's order); each part has
    at least one sentence if there are three.
    """
    ordered = sorted(set(texts), key=hash_to_unit)
    one, two = (bisect.bisect_left(ordered, parts * fraction, key=hash_to_unit) for parts in (1, 2))
    held_out, development = (min(max(1, size), len(ordered) // 3) for size in (one, two - one))
    return ordered[held_out + development :], ordered[held_out : held_out + development], ordered[:held_out]


def cross_fitted_bits(
    texts: Sequence[str], fit: Callable[[list[str]], CharacterNgram | TokenModel], folds: int
) -> dict[str, float]:
    """−log₂ p of each distinct text under a model that `fit` made from the texts of the other folds.

    A model gives a high probability to every text it was trained on, wrong ones included, so each text is scored by a
    model that has not seen it.
    """
    ordered = sorted(set(texts), key=hash_to_unit)
    bits: dict[str, float] = {}
    for fold in range(folds):
        scored = ordered[fold::folds]
        model = fit([text for i, text in enumerate(ordered) if i % folds != fold][:MAX_SENTENCES])
        bits |= dict(zip(scored, model.bits(scored).tolist(), strict=True))
    return bits


def surprising_transcripts(
    bits: dict[str, float], clips: Sequence[Clip], top: int = SUSPECTS_LISTED
) -> list[tuple[Clip, float]]:
    """(clip, bits per character) of the outliers among the transcripts, most improbable first, at most `top`.

    bits: −log₂ p by text. An outlier lies SUSPECT_DEVIATIONS robust standard deviations (1.4826 × the median absolute
    deviation) above the median of the bits per character. A mean over n characters scatters with 1/√n, so the excess
    over the median is multiplied by √n first: otherwise every reply of two letters would be listed.
    """
    texts = list(bits)
    length = np.array([min(len(text), MAX_CHARACTERS) + 1 for text in texts])  # with the end of the sentence
    rate = np.array([bits[text] for text in texts]) / length
    excess = (rate - np.median(rate)) * np.sqrt(length)
    deviation = 1.4826 * np.median(np.abs(excess - np.median(excess)))
    if deviation <= 1e-9:
        return []
    odd = {
        text: (above, mean * n / max(1, n - 1))
        for text, above, mean, n in zip(texts, excess, rate, length)
        if above / deviation > SUSPECT_DEVIATIONS
    }
    listed = [(clip, float(odd[clip.text][1])) for clip in clips if clip.text in odd]
    return sorted(listed, key=lambda pair: (-odd[pair[0].text][0], pair[0].file_id))[:top]


def compare_models(
    fit: Fit, train: Sequence[str], development: Sequence[str], held_out: Sequence[str]
) -> tuple[TokenModel, dict[str, Any]]:
    """Train the network and the n-grams on `train`; measure the bits per character of both on `held_out`."""
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


def bits_of_all(texts: Sequence[str], measured: dict[str, Any], fit: Fit) -> dict[str, float]:
    """−log₂ p of every sentence under the better model; an n-gram model is made in seconds, so it gets more folds."""
    if measured["scorer"] == "network":
        return cross_fitted_bits(texts, fit, folds=2)
    return cross_fitted_bits(texts, lambda others: CharacterNgram(others, measured["ngram_order"]), folds=5)


def list_suspects(config: PretrainConfig, suspects: Sequence[tuple[Clip, float]], bits: dict[str, float]) -> None:
    """Write the suspects of `surprising_transcripts` into the drop report."""
    usual = float(np.median([total / min(len(text), MAX_CHARACTERS) for text, total in bits.items()]))
    why = "{:.2f} bits per character where {:.2f} is usual"
    rows = [(clip.file_id, why.format(rate, usual), str(clip.audio_path), clip.text) for clip, rate in suspects]
    replace_suspects(config.data_dir, SUSPECT_REASON, rows)
