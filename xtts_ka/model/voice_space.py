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
IN_SPACE_GAP = 0.5  # at least, of the way from other speakers' vectors to identity (see `gap_closed`)
LEAST_PAIRS = 8
FOLDS = 5  # of the cross-validation; with so many speakers, whole speakers are held out
LEAST_GAIN = 0.1  # share of the gap between the mean voice and the true one that a useful map closes
STRENGTHS = tuple(10.0**power for power in range(-5, 3))  # ridge penalties, in units of the mean eigenvalue

LEAST_TO_SUSPECT = 5  # utterances of a speaker; among fewer, no outlier is named
MAD_LIMIT = 3.5  # modified z-score of Iglewicz & Hoaglin (1993)
LEAST_SPREAD = 0.02  # cosine; a smaller MAD is counted as this
CLEARLY = 0.1  # how much closer to another speaker, in cosine
LEAST_TOLD_APART = 0.7  # share of utterances nearest to their own speaker; below it, no label is called wrong
PROBES = 2000  # about how many utterances this share is measured on

# ── is it one space? ─────────────────────────────────────────────────────────────────────────────────────────────────


def unit(vectors: Any) -> Array:
    """(…, d) → float64 (…, d) of length one; a zero vector stays zero."""
    vectors = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def hashed_order(name: str) -> bytes:
    """A sorting key for drawing samples: unrelated to the names' own order, and the same when names are added."""
    return blake2b(name.encode("utf-8"), digest_size=8).digest()


def gap_closed(cosine: float, chance: float) -> float:
    """A cosine on a scale from chance (0) to identity (1), so that spaces of different spread can be compared."""
    return (cosine - chance) / max(1 - chance, 1e-12)


@dataclass(frozen=True)
class SpaceVerdict:
    """Whether vectors are in XTTS's speaker space, by their median cosines to XTTS's encodings of the same voices."""

    pairs: int
    own: float | None  # to the same recording's (or speaker's); None if the vectors' width is not 512
    other: float | None  # to other speakers'; None with one speaker
    in_space: bool


def judge_space(given: Array, target: Array, speakers: Sequence[str]) -> SpaceVerdict:
    """Compare vectors (n, 512) with XTTS's own unit encodings (n, 512) of the same voices, row by row."""
    cosines = unit(given) @ target.T
    own = float(np.median(np.diag(cosines)))
    names = np.asarray(speakers)
    foreign = names[:, None] != names
    other = float(np.median(cosines[foreign])) if foreign.any() else None
    in_space = own >= IN_SPACE_COSINE and (other is None or gap_closed(own, other) >= IN_SPACE_GAP)
    return SpaceVerdict(len(names), own, other, in_space)


# ── from one space into another ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class RidgeMap:
    """A linear map between voice spaces: standardise, multiply, add the mean voice, normalise."""

    centre: Array  # (d,)
    scale: Array  # (d,)
    weights: Array  # (d, 512)
    mean: Array  # (512,)

    def __call__(self, vectors: Array) -> Array:
        """(n, d) of any length → (n, 512) of unit length."""
        return unit((unit(vectors) - self.centre) / self.scale @ self.weights + self.mean)


def ridge_maps(given: Array, target: Array, strengths: Sequence[float]) -> list[RidgeMap]:
    """Ridge regressions from (n, d) to (n, 512), one for each penalty, from one eigendecomposition.

    Closed form W = (ZᵀZ + λI)⁻¹ZᵀY, or with fewer pairs than dimensions its equal Zᵀ(ZZᵀ + λI)⁻¹Y (Hoerl & Kennard
    1970; Saunders et al. 1998), so that the decomposed matrix is the smaller one. λ = strength × its mean eigenvalue.
    """
    given = unit(given)
    centre, mean = given.mean(axis=0), target.mean(axis=0)
    scale = given.std(axis=0)
    scale[scale < 1e-6 * max(scale.max(), 1e-12)] = 1
    z, y = (given - centre) / scale, target - mean
    few = len(z) < z.shape[1]
    values, vectors = np.linalg.eigh(z @ z.T if few else z.T @ z)
    rotated = vectors.T @ (y if few else z.T @ y)
    maps = []
    for strength in strengths:
        penalty = strength * max(values.mean(), 1e-12)
        solved = vectors @ (rotated / (np.maximum(values, 0) + penalty)[:, None])
        maps.append(RidgeMap(centre, scale, z.T @ solved if few else solved, mean))
    return maps


def _best_strength(given: Array, target: Array, folds: Array) -> float:
    """The penalty with the highest summed cosine over left-out folds."""
    scores = np.zeros(len(STRENGTHS))
    for fold in np.unique(folds):
        out = folds == fold
        maps = ridge_maps(given[~out], target[~out], STRENGTHS)
        scores += [(ridge(given[out]) * target[out]).sum() for ridge in maps]
    return STRENGTHS[int(scores.argmax())]


@dataclass(frozen=True)
class RidgeReport:
    """How well a map predicts XTTS's encodings of voices that it was not fitted on: mean cosines."""

    pairs: int
    held_out: str  # "speakers" or "utterances"
    cosine: float | None  # None: too few pairs to fit
    chance: float | None  # the mean voice's cosine on the same pairs
    strength: float | None
    useful: bool
    reason: str  # why it is not useful, or empty


def fit_ridge(given: Array, target: Array, speakers: Sequence[str]) -> tuple[RidgeReport, RidgeMap | None]:
    """Fit a map from (n, d) to (n, 512) and measure it by cross-validation; the map is None if it is not useful.

    Every pair is predicted by a map that was fitted, and whose penalty was chosen, without it (with five speakers or
    more: without its speaker). Useful means: the map closes a tenth of the gap between the mean voice and the true
    one, and beats the mean voice by two standard errors over the held-out speakers or utterances.
    """
    names, rows = np.unique(np.asarray(speakers), return_inverse=True)
    by_speaker = len(names) >= FOLDS
    held_out = "speakers" if by_speaker else "utterances"
    if len(given) < LEAST_PAIRS:
        reason = f"there are {len(given)} vectors with recordings, and a map needs {LEAST_PAIRS}"
        return RidgeReport(len(given), held_out, None, None, None, False, reason), None
    units = rows if by_speaker else np.arange(len(given))
    folds = units % FOLDS
    mapped, chance = np.zeros(len(given)), np.zeros(len(given))
    for fold in range(FOLDS):
        out = folds == fold
        strength = _best_strength(given[~out], target[~out], folds[~out])
        (ridge,) = ridge_maps(given[~out], target[~out], [strength])
        mapped[out] = (ridge(given[out]) * target[out]).sum(axis=1)
        chance[out] = target[out] @ unit(target[~out].mean(axis=0))
    gains = np.bincount(units, mapped - chance) / np.bincount(units)
    sure = gains.mean() > 2 * gains.std(ddof=1) / len(gains) ** 0.5
    cosine, base = float(mapped.mean()), float(chance.mean())
    useful = bool(sure and gap_closed(cosine, base) >= LEAST_GAIN)
    strength = _best_strength(given, target, folds)
    reason = f"on held-out {held_out} a map reaches cosine {cosine:.4f} where the mean voice alone has {base:.4f}"
    report = RidgeReport(len(given), held_out, cosine, base, strength, useful, "" if useful else reason)
    return report, ridge_maps(given, target, [strength])[0] if useful else None


# ── which labels are wrong? ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Suspect:
    """An utterance that does not sound like its speaker. Cosines are of mean-centred vectors."""

    file_id: str
    speaker_id: str
    cosine: float  # to its speaker's other utterances
    limit: float  # below which this speaker's utterances are outliers
    nearest: str  # the speaker it is closest to; empty if there is only one speaker
    nearest_cosine: float

    @property
    def detail(self) -> str:
        """The finding in one phrase, for the drop report."""
        closer = f", closer to {self.nearest} ({self.nearest_cosine:.2f})" if self.nearest else ""
        return f"cosine {self.cosine:.2f} to {self.speaker_id}, whose others reach {self.limit:.2f}{closer}"


def find_suspects(vectors: Mapping[str, Array], speaker_of: Mapping[str, str]) -> tuple[list[Suspect], float | None]:
    """Utterances that are outliers among their speaker's and clearly closer to another speaker's centroid.

    vectors: file_id → (d,), all in one space. The mean over speakers is subtracted first, since all voices have a
    large part in common. An utterance is compared with the centroid of its speaker's typical half, itself left out;
    its cosine is an outlier when its modified z-score (0.6745 × deviation / MAD) is below -3.5. With one speaker that
    alone decides.

    The second result is the share of (about 2,000) utterances that are nearest to their own speaker, None where there
    is nothing to compare. Below 0.7, as with an untrained encoder, no utterance is named.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for file_id in sorted(vectors):
        groups[speaker_of[file_id]].append(file_id)
    names = sorted(groups)

    def stacked(name: str) -> Array:
        return unit([vectors[file_id] for file_id in groups[name]])

    middle = np.mean([unit(stacked(name).mean(axis=0)) for name in names], axis=0) if len(names) > 1 else 0.0
    centroids, probes, outliers = [], [], []
    for row, name in enumerate(names):
        stack = unit(stacked(name) - middle)
        core = _typical_half(stack)
        centroids.append(unit(stack[core].mean(axis=0)))
        own = _left_out_cosines(stack, core)
        if len(names) > 1 and len(stack) > 1:
            probes += [(row, own[i], stack[i]) for i in range(min(len(stack), max(1, PROBES // len(names))))]
        limit = _lower_limit(own)
        outliers += [(row, own[i], stack[i], limit, groups[name][i]) for i in np.flatnonzero(own < limit)]
    told_apart = float(np.mean([_rival(centroids, row, v)[1] < own for row, own, v in probes])) if probes else None
    if told_apart is not None and told_apart < LEAST_TOLD_APART:
        return [], told_apart
    suspects = []
    for row, own, vector, limit, file_id in outliers:
        nearest, cosine = _rival(centroids, row, vector)
        if nearest is None or cosine > own + CLEARLY:
            rival = "" if nearest is None else names[nearest]
            suspects.append(Suspect(file_id, names[row], float(own), limit, rival, cosine))
    return sorted(suspects, key=lambda suspect: suspect.file_id), told_apart


def _lower_limit(own: Array) -> float:
    """The cosine below which an utterance is an outlier among its speaker's; -inf where there are too few."""
    if len(own) < LEAST_TO_SUSPECT:
        return -np.inf
    median = float(np.median(own))
    return median - MAD_LIMIT / 0.6745 * max(float(np.median(np.abs(own - median))), LEAST_SPREAD)


def _rival(centroids: list[Array], row: int, vector: Array) -> tuple[int | None, float]:
    """The nearest centroid other than `row`'s, and its cosine to `vector`; (None, -1) if there is no other."""
    cosines = np.stack(centroids) @ vector
    cosines[row] = -np.inf
    nearest = int(cosines.argmax())
    return (nearest, float(cosines[nearest])) if nearest != row else (None, -1.0)


def _left_out_cosines(stack: Array, core: Array) -> Array:
    """Cosine of each row of (n, d) to the sum of the `core` rows (boolean (n,)) other than itself."""
    rest = stack[core].sum(axis=0) - stack * core[:, None]
    return (unit(rest) * stack).sum(axis=1)


def _typical_half(stack: Array) -> Array:
    """A boolean mask of the half of the rows that agree best with the others; outliers do not shift its mean."""
    agreement = _left_out_cosines(stack, np.ones(len(stack), bool))
    core = np.zeros(len(stack), bool)
    core[np.argsort(-agreement, kind="stable")[: -(-len(stack) // 2)]] = True
    return core
