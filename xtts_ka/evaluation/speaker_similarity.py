"""How near a clip is to the voice it should have, and which of all voices it is nearest to.

Both rest on the embeddings of XTTS's own speaker encoder. Similarity is their cosine, as others report it. The nearest
voice is found by Mahalanobis distance under the covariance that clips have within one voice (linear discriminant
analysis with a common covariance; the whitening is that of A. Hatch et al., "Within-class covariance normalization",
2006). A trained encoder hardly needs that; an untrained one's cosines hardly differ (tests/benchmarks/bench_faults.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

SHRINKAGE = 0.1  # of the mean variance, added to every variance: there are fewer clips than dimensions


class VoiceJudge:
    """Knows the voices: name → embedding (512,), of any length.

    heard: embeddings of real recordings, (clips, 512), of the speakers `speakers`, from which the covariance is
    estimated. Without any voice that was heard twice, the nearest voice is that of the largest cosine.
    """

    def __init__(self, voices: Mapping[str, np.ndarray], heard: np.ndarray, speakers: Sequence[str]):
        self.names = sorted(voices)
        self._unit = {name: _unit(voices[name]) for name in self.names}
        table = np.array([self._unit[name] for name in self.names])
        labels = np.array(speakers)
        means, deviations = {}, []
        for name in dict.fromkeys(speakers):
            own = heard[labels == name]
            means[name] = own.mean(axis=0)
            if len(own) > 1:
                deviations.append(own - means[name])
        self._whitening = _whitening(np.concatenate(deviations)) if deviations else np.eye(table.shape[1])
        # Means of unit vectors are shorter than 1: voices known by their embedding alone are shortened as much.
        length = np.mean([np.linalg.norm(mean) for mean in means.values()]) if means else 1.0
        centres = [means.get(name, length * self._unit[name]) for name in self.names]
        self._centres = np.array(centres) @ self._whitening

    def similarity(self, embedding: np.ndarray, voice: str) -> float:
        """Cosine, −1 to 1."""
        return float(_unit(embedding) @ self._unit[voice])

    def nearest(self, embedding: np.ndarray) -> str:
        """The voice that the clip is nearest to."""
        distances = np.linalg.norm(self._centres - _unit(embedding) @ self._whitening, axis=1)
        return self.names[int(distances.argmin())]


def _unit(vector: np.ndarray) -> np.ndarray:
    vector = np.asarray(vector, np.float64).ravel()
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _whitening(deviations: np.ndarray) -> np.ndarray:
    """W with W Wᵀ the inverse of the shrunk covariance, so that distances of x W are Mahalanobis distances."""
    covariance = deviations.T @ deviations / len(deviations)
    covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return np.linalg.cholesky(np.linalg.inv(covariance))
