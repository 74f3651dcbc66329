"""Measures one clip: what was heard against what should be, faults, likeness, pace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xtts_ka.evaluation.character_errors import count_errors
from xtts_ka.evaluation.figures import Measured
from xtts_ka.evaluation.speaker_similarity import VoiceJudge
from xtts_ka.evaluation.texts import Text
from xtts_ka.recognition.faults import find_faults, longest_pause, sounding_seconds, wave_loudness


def measure_clip(
    wave: np.ndarray, rate: int, text: Text, heard: Mapping[str, str], judge: VoiceJudge, embedding: np.ndarray | None,
    *, voice: str, stopped: bool, key: str, model: str = "", seed: int | None = None, codes: int | None = None,
    seconds_taken: float | None = None, dnsmos: float | None = None, guard: dict[str, Any] | None = None,
) -> Measured:  # fmt: skip
    """heard: by the listener's name. embedding: of the clip, None where its voice is not known."""
    sounding, pause = sounding_seconds(wave, rate), longest_pause(wave_loudness(wave, rate))
    return Measured(
        model=model,
        voice=voice,
        kind=text.kind,
        text=text.text,
        expected=text.expected,
        seed=seed,
        wav_key=key,
        heard=dict(heard),
        errors={name: count_errors(text.expected, said) for name, said in heard.items()},
        faults={name: find_faults(text.expected, said, pause=pause, stopped=stopped) for name, said in heard.items()},
        seconds=len(wave) / rate,
        rate=len(text.expected.replace(" ", "")) / sounding if sounding else None,
        stopped=stopped,
        codes=codes,
        similarity=None if embedding is None else judge.similarity(embedding, voice),
        nearest=None if embedding is None else judge.nearest(embedding),
        dnsmos=dnsmos,
        seconds_taken=seconds_taken,
        guard=guard,
    )
