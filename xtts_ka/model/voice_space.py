"""Compares sets of voice vectors: are they in one space, how does one space map into another, which labels are wrong.

Numpy on vectors only; `embedding_adapter.py` brings the vectors and acts on the results.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

Array = np.ndarray

# Two encodings of one utterance by one encoder differ by resampling and trimming only (cosine above 0.95). Vectors of
# other encoders have axes unrelated to XTTS's (cosine near 0).
IN_SPACE_COSINE = 0.9
IN_SPACE_GAP = 0.5  # at least, of the way from other speakers' vectors to identity
LEAST_PAIRS = 8
FOLDS = 5  # of the cross-validation; with so many speakers, whole speakers are held out
LEAST_GAIN = 0.1  # share of the gap between the mean voice and the true one that a useful map closes
STRENGTHS = tuple(10.0**power for power in range(-5, 3))  # ridge penalties, in units of the mean eigenvalue

SUSPECT = "suspect_speaker"  # the reason in the drop report
LEAST_TO_SUSPECT = 5  # utterances of a speaker; among fewer, no outlier is named
MAD_LIMIT = 3.5  # modified z-score of Iglewicz & Hoaglin (1993)
LEAST_SPREAD = 0.02  # cosine; a smaller MAD is counted as this
CLEARLY = 0.1  # how much closer to another speaker, in cosine
LEAST_TOLD_APART = 0.7  # share of utterances nearest to their own speaker; below it, no label is called wrong


def unit(vectors: Any) -> Array:
    """(…, d) → float64 (…, d) of length one; a zero vector stays zero."""
    vectors = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def hashed_order(name: str) -> bytes:
    """A sorting key for drawing samples: unrelated to the names' own order, and the same when names are added."""
    return blake2b(name.encode("utf-8"), digest_size=8).digest()


# ── is it one space? ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class SpaceVerdict:
    """Whether vectors are in XTTS's speaker space, by their median cosines to XTTS's encodings of the same voices."""

    pairs: int
    own: float  # to the same recording's (or speaker's)
    other: float | None  # to other speakers'; None with one speaker
    in_space: bool


def judge_space(given: Array, target: Array, speakers: Sequence[str]) -> SpaceVerdict:
    """Compare vectors (n, 512) with XTTS's own unit encodings (n, 512) of the same voices, row by row."""
    cosines = unit(given) @ target.T
    own = float(np.median(np.diag(cosines)))
    names = np.asarray(speakers)
    foreign = names[:, None] != names
    other = float(np.median(cosines[foreign])) if foreign.any() else None
    in_space = own >= IN_SPACE_COSINE and (other is None or own - other >= IN_SPACE_GAP * (1 - other))
    return SpaceVerdict(len(names), own, other, in_space)


# ── from one space into another ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class RidgeMap:
    """A map between voice spaces, weights (d, 512) and bias (512,), for vectors of any length."""

    weights: Array
    bias: Array

    def __call__(self, vectors: Array) -> Array:
        """(n, d) → (n, 512) of unit length."""
        return unit(unit(vectors) @ self.weights + self.bias)


def ridge_maps(given: Array, target: Array, strengths: Sequence[float] = STRENGTHS) -> list[RidgeMap]:
    """Ridge regressions from (n, d) to (n, 512), one for each penalty, from one singular value decomposition.

    W = V diag(s / (s² + λ)) Uᵀ Y for standardised inputs U diag(s) Vᵀ and centred targets Y (Hoerl & Kennard 1970),
    with λ = strength × the mean of s².
    """
    given = unit(given)
    centre, mean, scale = given.mean(axis=0), target.mean(axis=0), given.std(axis=0)
    scale[scale <= 1e-6 * scale.max()] = 1
    left, s, right = np.linalg.svd((given - centre) / scale, full_matrices=False)
    rotated = left.T @ (target - mean)
    maps = []
    for strength in strengths:
        shrunk = s / np.maximum(s**2 + strength * (s**2).mean(), 1e-12)
        weights = right.T @ (shrunk[:, None] * rotated) / scale[:, None]
        maps.append(RidgeMap(weights, mean - centre @ weights))
    return maps


@dataclass(frozen=True)
class RidgeReport:
    """How well a map predicts XTTS's encodings of voices that it was not fitted on: mean cosines."""

    pairs: int
    held_out: str  # "speakers" or "utterances"
    cosine: float | None  # None: too few pairs to fit
    chance: float | None  # the mean voice's cosine on the same pairs
    useful: bool
    reason: str  # why it is not useful, or empty


def fit_ridge(given: Array, target: Array, speakers: Sequence[str]) -> tuple[RidgeReport, RidgeMap | None]:
    """Fit a map from (n, d) to (n, 512) and measure it by cross-validation; the map is None if it is not useful.

    Every pair is predicted by maps that were fitted without it (with five speakers or more: without its speaker), and
    the penalty with the highest mean cosine is taken. Useful means: the map closes a tenth of the gap between the mean
    voice and the true one, and beats the mean voice by two standard errors over the held-out speakers or utterances.
    """
    names, rows = np.unique(np.asarray(speakers), return_inverse=True)
    by_speaker = len(names) >= FOLDS
    held_out = "speakers" if by_speaker else "utterances"
    if len(given) < LEAST_PAIRS:
        reason = f"there are {len(given)} vectors with recordings, and a map needs {LEAST_PAIRS}"
        return RidgeReport(len(given), held_out, None, None, False, reason), None
    units = rows if by_speaker else np.arange(len(given))
    cosines, chances = np.zeros((len(STRENGTHS), len(given))), np.zeros(len(given))
    for fold in range(FOLDS):
        out = units % FOLDS == fold
        maps = ridge_maps(given[~out], target[~out])
        cosines[:, out] = [(ridge(given[out]) * target[out]).sum(axis=1) for ridge in maps]
        chances[out] = target[out] @ unit(target[~out].mean(axis=0))
    best = int(cosines.mean(axis=1).argmax())
    gains = np.bincount(units, cosines[best] - chances) / np.bincount(units)
    sure = gains.mean() > 2 * gains.std(ddof=1) / len(gains) ** 0.5
    cosine, chance = float(cosines[best].mean()), float(chances.mean())
    useful = bool(sure and cosine - chance >= LEAST_GAIN * (1 - chance))
    reason = f"on held-out {held_out} a map reaches cosine {cosine:.4f} where the mean voice alone has {chance:.4f}"
    report = RidgeReport(len(given), held_out, cosine, chance, useful, "" if useful else reason)
    return report, ridge_maps(given, target)[best] if useful else None


# ── which labels are wrong? ──────────────────────────────────────────────────────────────────────────────────────────


def _centred(vectors: Mapping[str, Array], speaker_of: Mapping[str, str]) -> tuple[dict[str, list[str]], list[Array]]:
    """speaker → file_ids, and the speakers' vectors (utterances, d) without what all voices have in common."""
    groups: dict[str, list[str]] = defaultdict(list)
    for file_id in sorted(vectors):
        groups[speaker_of[file_id]].append(file_id)
    ordered = {name: groups[name] for name in sorted(groups)}
    stacks = [unit([vectors[file_id] for file_id in own]) for own in ordered.values()]
    middle = np.mean([unit(stack.mean(axis=0)) for stack in stacks], axis=0) if len(stacks) > 1 else 0.0
    return ordered, [unit(stack - middle) for stack in stacks]


def _to_others(stack: Array) -> Array:
    """The cosine of each row to the centroid of the others."""
    return (unit(stack.sum(axis=0) - stack) * stack).sum(axis=1)


def likeness(vectors: Mapping[str, Array], speaker_of: Mapping[str, str]) -> dict[str, float]:
    """file_id → the cosine to the centroid of its speaker's other utterances, as `find_suspects` compares them."""
    groups, stacks = _centred(vectors, speaker_of)
    return {
        file_id: float(cosine)
        for own, stack in zip(groups.values(), stacks)
        if len(own) > 1
        for file_id, cosine in zip(own, _to_others(stack))
    }


def find_suspects(vectors: Mapping[str, Array], speaker_of: Mapping[str, str]) -> tuple[dict[str, str], float | None]:
    """Utterances that are outliers among their speaker's and clearly closer to another speaker's centroid.

    vectors: file_id → (d,), all in one space. The mean over speakers is subtracted first, since all voices have a
    large part in common. An utterance is compared with the centroid of its speaker's other utterances; its cosine is an
    outlier when its modified z-score (0.6745 × deviation / MAD) is below -3.5. With one speaker that alone decides.

    Returns file_id → the finding in one phrase, and the share of utterances that are nearest to their own speaker,
    None where there is nothing to compare. Below 0.7, as with an untrained encoder, no utterance is named.
    """
    groups, stacks = _centred(vectors, speaker_of)
    names = list(groups)
    centroids = np.array([unit(stack.mean(axis=0)) for stack in stacks])
    suspects, told_apart = {}, []
    for row, (name, stack) in enumerate(zip(names, stacks)):
        own = _to_others(stack)
        others = stack @ centroids.T
        others[:, row] = -1
        nearest, closest = others.argmax(axis=1), others.max(axis=1)
        if len(names) > 1 and len(stack) > 1:
            told_apart += (own > closest).tolist()
        median = np.median(own)
        limit = median - MAD_LIMIT / 0.6745 * max(np.median(np.abs(own - median)), LEAST_SPREAD)
        outliers = (own < limit) & ((closest > own + CLEARLY) | (len(names) == 1))
        for i in np.flatnonzero(outliers) if len(own) >= LEAST_TO_SUSPECT else ():
            closer = f", closer to {names[nearest[i]]} ({closest[i]:.2f})" if len(names) > 1 else ""
            suspects[groups[name][i]] = f"cosine {own[i]:.2f} to {name}, whose others reach {limit:.2f}{closer}"
    share = float(np.mean(told_apart)) if told_apart else None
    return ({}, share) if share is not None and share < LEAST_TOLD_APART else (suspects, share)
