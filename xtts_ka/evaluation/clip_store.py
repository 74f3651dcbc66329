"""The spoken clips and what was heard in them, kept in the evaluation's folder so that the same command carries on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xtts_ka.core.console import progress
from xtts_ka.core.files import read_json, write_json
from xtts_ka.core.jsonl import append_jsonl, read_jsonl
from xtts_ka.corpus.audio import read_mono, write_wav
from xtts_ka.corpus.decoder_warnings import named
from xtts_ka.corpus.excerpt import Recording
from xtts_ka.recognition.listener import Listener

HEARD_TOGETHER = 16  # clips between two writes


@dataclass(frozen=True)
class KeptClip:
    """One spoken clip. seconds_taken: of computing; codes: audio codes; stopped: the model ended it by itself.

    guard: {"attempts", "first", "left"}, what the guard did and found at first and at last; None without one.
    """

    wav: Path
    codes: int
    stopped: bool
    seconds_taken: float
    guard: dict[str, Any] | None = None

    def read(self) -> tuple[np.ndarray, int]:
        """(float32 samples, rate in Hz)."""
        return read_mono(self.wav)


class ClipStore:
    """Clips by key, in `folder`. A clip is there once its .json is, which is written after its .wav."""

    def __init__(self, folder: Path):
        self.folder = folder

    def get(self, key: str) -> KeptClip | None:
        facts = self.folder / f"{key}.json"
        if not facts.is_file():
            return None
        found = read_json(facts, "the facts of a spoken clip", "delete it, and the clip is spoken again")
        return KeptClip(facts.with_suffix(".wav"), **found)

    def put(
        self,
        key: str,
        wave: np.ndarray,
        rate: int,
        *,
        codes: int,
        stopped: bool,
        seconds_taken: float,
        guard: dict[str, Any] | None = None,
    ) -> None:
        write_wav(self.folder / f"{key}.wav", wave, rate)
        facts = {"codes": codes, "stopped": stopped, "seconds_taken": round(seconds_taken, 4), "guard": guard}
        write_json(self.folder / f"{key}.json", facts)


def hear_all(
    listener: Listener, clips: Sequence[tuple[str, Recording]], record: Path, version: str = ""
) -> dict[str, str]:
    """What `listener` hears in each (key, wav): key → letters. What stands in `record` is not listened to again.

    version: changes with the listener, where its name does not.
    """
    who = {"listener": listener.name, "version": version}
    known = {}
    if record.is_file():
        lines = (line for line in read_jsonl(record) if {**line, **who} == line)
        known = {line["clip"]: line["heard"] for line in lines if {"clip", "heard"} <= line.keys()}
    missing = [(key, wav) for key, wav in dict(clips).items() if key not in known]
    with progress(total=len(missing), what=f"listening: {listener.name}", unit="clip") as bar:
        for start in range(0, len(missing), HEARD_TOGETHER):
            part = missing[start : start + HEARD_TOGETHER]
            for (key, _), text in zip(part, _hear(listener, [wav for _, wav in part]), strict=True):
                append_jsonl(record, {**who, "clip": key, "heard": text})
                known[key] = text
            bar.update(len(part))
    return known


def _hear(listener: Listener, wavs: Sequence[Recording]) -> list[str]:
    """What is heard, in the order of `wavs`; those of one sample rate are given together."""
    waves = [named(read_mono, wav) for wav in wavs]
    heard = [""] * len(wavs)
    for rate in sorted({rate for _, rate in waves}):
        places = [place for place, (_, own) in enumerate(waves) if own == rate]
        for place, text in zip(places, listener.hear([waves[place][0] for place in places], rate), strict=True):
            heard[place] = text
    return heard
