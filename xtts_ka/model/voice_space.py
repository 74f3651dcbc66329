"""Vectors of voices: do two sets share a space, how does one map into another, which labels sound wrong.

Numpy on vectors, no more; where they come from and what is done with the answers is the adapter's business.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

# Two encodings of one utterance by one encoder differ by resampling and trimming (cosine above 0.95); the
# axes of other encoders have nothing to do with XTTS's (cosine near 0).
IN_SPACE_COSINE = 0.9
IN_SPACE_GAP = 0.5  # and they must be nearer to their own recording than to other speakers' (`gap_closed`)
LEAST_PAIRS = 8
FOLDS = 5  # whole speakers are held out where there are as many
LEAST_GAIN = 0.1  # the share of the gap between the mean voice and the true one that a useful map closes
STRENGTHS = tuple(10.0**power for power in range(-5, 3))  # ridge penalties, in units of the mean eigenvalue

LEAST_TO_SUSPECT = 5  # utterances of a speaker, below which none of them stands out
MAD_LIMIT = 3.5  # modified z-score of Iglewicz & Hoaglin (1993)
LEAST_SPREAD = 0.02  # cosine; a smaller MAD counts as this
CLEARLY = 0.1  # how much closer to another speaker, in cosine
LEAST_TOLD_APART = 0.7  # share of utterances nearest to their own speaker; with less, labels are not judged
PROBES = 2000  # utterances that this share is measured on, about

# ── one space ───────────────────────────────────────────────────────────────────────────────────────────────


def unit(vectors: np.ndarray) -> np.ndarray:
    """(…, d) → float64 (…, d) of length one (a zero vector stays zero)."""
    vectors = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def gap_closed(cosine: float, chance: float) -> float:
    """How far a cosine goes from chance (0) to identity (1): comparable between spaces of any spread."""
    return (cosine - chance) / max(1 - chance, 1e-12)


@dataclass(frozen=True)
class SpaceVerdict:
    """Do given vectors live in XTTS's speaker space? Median cosines to its encodings of the same voices."""

    pairs: int
    own: float | None  # to the same recording's (or speaker's); None for another width than 512
    other: float | None  # to other speakers'; None with one speaker
    in_space: bool


def judge_space(given: np.ndarray, target: np.ndarray, speakers: Sequence[str]) -> SpaceVerdict:
    """Compare unit vectors (n, 512) with XTTS's own encodings (n, 512) of the same voices, row by row."""
    cosines = unit(given) @ target.T
    own = float(np.median(np.diag(cosines)))
    names = np.asarray(speakers)
    foreign = names[:, None] != names
    other = float(np.median(cosines[foreign])) if foreign.any() else None
    in_space = own >= IN_SPACE_COSINE and (other is None or gap_closed(own, other) >= IN_SPACE_GAP)
    return SpaceVerdict(len(names), own, other, in_space)


# ── from one space into another ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class RidgeMap:
    """A linear map between voice spaces: standardise, multiply, add the mean voice, normalise."""

    centre: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)
    weights: np.ndarray  # (d, 512)
    mean: np.ndarray  # (512,)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """(n, d) of any length → (n, 512) of unit length."""
        return unit((unit(vectors) - self.centre) / self.scale @ self.weights + self.mean)


def ridge_maps(given: np.ndarray, target: np.ndarray, strengths: Sequence[float]) -> list[RidgeMap]:
    """Ridge regressions from (n, d) to (n, 512), one for each penalty, from one eigendecomposition.

    Closed form W = (ZᵀZ + λI)⁻¹ZᵀY, or with fewer pairs than dimensions its equal Zᵀ(ZZᵀ + λI)⁻¹Y (Hoerl &
    Kennard 1970; Saunders et al. 1998): the Gram matrix is that of the smaller side. λ = strength × its mean
    eigenvalue.
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


def _best_strength(given: np.ndarray, target: np.ndarray, folds: np.ndarray) -> float:
    """The penalty with the highest summed cosine over left-out folds."""
    scores = np.zeros(len(STRENGTHS))
    for fold in np.unique(folds):
        out = folds == fold
        for place, ridge in enumerate(ridge_maps(given[~out], target[~out], STRENGTHS)):
            scores[place] += (ridge(given[out]) * target[out]).sum()
    return STRENGTHS[int(scores.argmax())]


@dataclass(frozen=True)
class RidgeReport:
    """How well a map carries vectors into XTTS's speaker space, on pairs it has not seen: mean cosines."""

    pairs: int
    held_out: str  # "speakers" or "utterances"
    cosine: float | None  # None: too few pairs to fit
    chance: float | None  # the mean voice's cosine on the same pairs
    strength: float | None
    useful: bool
    reason: str  # why it is not useful, or nothing


def fit_ridge(given: np.ndarray, target: np.ndarray, speakers: Sequence[str]) -> tuple[RidgeReport, RidgeMap | None]:
    """Fit a map from (n, d) to (n, 512) and measure it by cross-validation; it comes back only if useful.

    Every pair is predicted by a map fitted without it (without its speaker, where there are five or more),
    with a penalty chosen likewise. Useful means: it closes a tenth of the gap between the mean voice and the
    true one, and beats the mean voice by two standard errors over the held-out speakers or utterances.
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
    reason = (
        ""
        if useful
        else (f"on held-out {held_out} a map reaches cosine {cosine:.4f} where the mean voice alone has {base:.4f}")
    )
    strength = _best_strength(given, target, folds)
    ridge = ridge_maps(given, target, [strength])[0] if useful else None
    return RidgeReport(len(given), held_out, cosine, base, strength, useful, reason), ridge


# ── labels that sound wrong ─────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Suspect:
    """An utterance that does not sound like its speaker. Cosines are of mean-centred vectors."""

    file_id: str
    speaker_id: str
    cosine: float  # to its speaker's other utterances
    limit: float  # what that speaker's utterances reach
    nearest: str  # the speaker it is closest to; empty where there is one speaker only
    nearest_cosine: float

    @property
    def detail(self) -> str:
        """The finding in one phrase, for the drop report."""
        closer = f", closer to {self.nearest} ({self.nearest_cosine:.2f})" if self.nearest else ""
        return f"cosine {self.cosine:.2f} to {self.speaker_id}, whose others reach {self.limit:.2f}{closer}"


def find_suspects(
    vectors: Mapping[str, np.ndarray], speaker_of: Mapping[str, str]
) -> tuple[list[Suspect], float | None]:
    """Utterances that are outliers among their speaker's and clearly closer to another speaker's centroid.

    vectors: file_id → (d,), all in one space. Voices share a large common part, so the mean over speakers is
    taken out first. An utterance is compared with the centroid of its speaker's typical half, itself left
    out; its cosine is an outlier when its modified z-score (0.6745 × deviation / MAD) is below -3.5. With one
    speaker that alone decides.

    The second result is the share of (about 2,000) utterances that are nearest to their own speaker, None
    where it cannot be told. A space in which it is below 0.7, such as an untrained encoder's, names none.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for file_id in sorted(vectors):
        groups[speaker_of[file_id]].append(file_id)
    names = sorted(groups)

    def stacked(name: str) -> np.ndarray:
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
    nearest_own = [_rival(centroids, row, vector)[1] < own for row, own, vector in probes]
    told_apart = float(np.mean(nearest_own)) if probes else None
    if probes and told_apart < LEAST_TOLD_APART:
        return [], told_apart
    suspects = []
    for row, own, vector, limit, file_id in outliers:
        nearest, cosine = _rival(centroids, row, vector)
        if nearest is None or cosine > own + CLEARLY:
            rival = "" if nearest is None else names[nearest]
            suspects.append(Suspect(file_id, names[row], float(own), limit, rival, cosine))
    return sorted(suspects, key=lambda suspect: suspect.file_id), told_apart


def _lower_limit(own: np.ndarray) -> float:
    """The cosine below which an utterance is an outlier among its speaker's; -inf where there are too few."""
    if len(own) < LEAST_TO_SUSPECT:
        return -np.inf
    median = float(np.median(own))
    return median - MAD_LIMIT / 0.6745 * max(float(np.median(np.abs(own - median))), LEAST_SPREAD)


def _rival(centroids: list[np.ndarray], row: int, vector: np.ndarray) -> tuple[int | None, float]:
    """The nearest centroid but `row`'s, and its cosine to `vector`; (None, -1) where there is no other."""
    cosines = np.stack(centroids) @ vector
    cosines[row] = -np.inf
    nearest = int(cosines.argmax())
    return (nearest, float(cosines[nearest])) if nearest != row else (None, -1.0)


def _left_out_cosines(stack: np.ndarray, core: np.ndarray) -> np.ndarray:
    """Cosine of each row of (n, d) to the sum of the `core` rows (boolean (n,)) other than itself."""
    rest = stack[core].sum(axis=0) - stack * core[:, None]
    return (unit(rest) * stack).sum(axis=1)


def _typical_half(stack: np.ndarray) -> np.ndarray:
    """A boolean mask of the half of the rows that agree best with the others: strays do not move its mean."""
    agreement = _left_out_cosines(stack, np.ones(len(stack), bool))
    core = np.zeros(len(stack), bool)
    core[np.argsort(-agreement, kind="stable")[: -(-len(stack) // 2)]] = True
    return core
