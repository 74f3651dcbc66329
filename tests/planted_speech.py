"""Long recordings of espeak speech with known boundaries: sentences of phrases, pauses, noise, tones, planted faults.

A phrase is one call of espeak without punctuation, trimmed at −40 dB, so it has no pause inside; where it stands is
known to the sample. Used by the tests of prepare_recordings.py and by benchmarks/exp_prepare.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xtts_ka.starter.speech import synthesise

RATE = 22_050
SENTENCES = Path(__file__).parents[1] / "data/starter_sentences_ka.txt"
VOICES = ("ka+f2", "ka+m1", "ka+m3")
# Planted faults: what stands in the transcript is not what is heard.
NOISE, TONES, MISSING, EXTRA, WRONG, TAG, ENGLISH = "noise tones missing extra wrong tag english".split()
FAULTS = (NOISE, TONES, MISSING, EXTRA, WRONG, TAG, ENGLISH)


@dataclass
class Planted:
    """One sentence: text of the transcript ("" where it has none), what is wrong with it, seconds, and its phrases'."""

    text: str
    fault: str
    start: float
    end: float
    phrases: list[tuple[float, float]] = field(default_factory=list)
    spoken: str = ""


@functools.cache
def words() -> list[str]:
    """The words of the starter's sentences, without marks."""
    text = SENTENCES.read_text("utf-8")
    found = {word.strip(".,!?:;-–—„“\"'()") for word in text.split()}
    return sorted(word for word in found if len(word) > 3 and all("ა" <= letter <= "ჰ" for letter in word))


@functools.lru_cache(maxsize=4096)
def phrase_wave(text: str, voice: str) -> np.ndarray:
    wave = synthesise(text, voice)
    loud = np.flatnonzero(np.abs(wave) > np.abs(wave).max() * 10 ** (-40 / 20))
    return wave[loud[0] : loud[-1] + 1] * (0.5 / np.abs(wave).max())


def sentence(rng: np.random.Generator) -> list[str]:
    """Phrases of random words: each sentence is another."""
    pool = words()
    return [
        " ".join(pool[rng.integers(len(pool))] for _ in range(rng.integers(2, 6))) for _ in range(rng.integers(1, 4))
    ]


class Tape:
    """A recording that grows at its end, in blocks: sound and what is known of it."""

    def __init__(self, seed: int, voice: str = "ka+f2", hiss: float = 0.002):
        self.rng, self.voice, self.hiss = np.random.default_rng(seed), voice, hiss
        self.samples = 0
        self.planted: list[Planted] = []
        self._waiting: list[np.ndarray] = []

    @property
    def now(self) -> float:
        return self.samples / RATE

    def add(self, wave: np.ndarray) -> None:
        noisy = wave + self.hiss * self.rng.standard_normal(len(wave))
        self._waiting.append(noisy.astype(np.float32))
        self.samples += len(wave)

    def taken(self) -> np.ndarray:
        """The sound since the last call."""
        wave = np.concatenate(self._waiting) if self._waiting else np.zeros(0, np.float32)
        self._waiting = []
        return wave

    def pause(self, low: float, high: float) -> None:
        self.add(np.zeros(round(self.rng.uniform(low, high) * RATE)))

    def interlude(self, kind: str, seconds: float) -> None:
        """Noise, or chords that fade as music does."""
        count = round(seconds * RATE)
        if kind == NOISE:
            self.add(0.05 * self.rng.standard_normal(count))
            return
        wave, place = np.zeros(count), 0
        while place < count:
            length = min(count - place, round(self.rng.uniform(0.2, 0.6) * RATE))
            time = np.arange(length) / RATE
            base = 220 * 2 ** (self.rng.integers(0, 18) / 12)
            wave[place : place + length] = sum(
                np.sin(2 * np.pi * base * ratio * time) for ratio in (1, 1.26, 1.5)
            ) * np.exp(-3 * time)
            place += length
        self.add(0.1 * wave)

    def say(self, phrases: Sequence[str]) -> list[tuple[float, float]]:
        spans = []
        for number, phrase in enumerate(phrases):
            if number:
                self.pause(0.2, 0.4)
            begin = self.now
            self.add(phrase_wave(phrase, self.voice))
            spans.append((begin, self.now))
        return spans

    def plant(self, phrases: Sequence[str], fault: str = "") -> Planted:
        """One sentence, as it should be or with a fault."""
        text = ", ".join(phrases) + "."
        start, spans, spoken = self.now, [], ""
        if fault in (NOISE, TONES):
            self.interlude(fault, self.rng.uniform(1.5, 4))
        elif fault == MISSING:
            self.pause(1.0, 2.5)
        elif fault == WRONG:
            other = sentence(self.rng)
            spans, spoken = self.say(other), ", ".join(other) + "."
        else:
            spans, spoken = self.say(phrases), text
        start, end = (spans[0][0], spans[-1][1]) if spans else (start, self.now)
        written = {EXTRA: "", TAG: f"{text} [სიცილი]", ENGLISH: "This was said in another language."}.get(fault, text)
        self.planted.append(Planted(written, fault, start, end, spans, spoken))
        return self.planted[-1]


def record(
    seconds: float,
    seed: int,
    faults: dict[str, float],
    voice: str = "ka+f2",
    together: float = 0.03,
    pauses: tuple[float, float] = (0.4, 1.2),
) -> Iterator[tuple[Tape, np.ndarray]]:
    """Yield (tape, new sound) until the tape has `seconds`. faults: the share of sentences with each."""
    tape = Tape(seed, voice)
    tape.pause(0.5, 1.0)
    kinds, shares = list(faults), np.cumsum(list(faults.values()))
    while tape.now < seconds:
        drawn = tape.rng.uniform()
        fault = next((kind for kind, share in zip(kinds, shares) if drawn < share), "")
        tape.plant(sentence(tape.rng), fault)
        if tape.rng.uniform() > together:
            tape.pause(*pauses)
        if tape.rng.uniform() < 0.04:
            tape.interlude(NOISE if tape.rng.uniform() < 0.5 else TONES, tape.rng.uniform(1, 3))
            tape.pause(0.3, 0.8)
        yield tape, tape.taken()
    tape.pause(0.5, 1.0)
    yield tape, tape.taken()


def srt(
    planted: Sequence[Planted], jitter: float, seed: int = 0, shift: float = 0.0, linger: float | None = None
) -> str:
    """Subtitles with times that are wrong by `jitter` (standard deviation) and stay a little too long.

    linger: they stay for so many seconds after the next begins, or 6 s after their end where that is earlier.
    """
    rng, blocks = np.random.default_rng(seed), []
    written = [each for each in planted if each.text]
    for number, each in enumerate(written, 1):
        start = max(0.0, each.start + rng.normal(0, jitter) + shift)
        end = max(start + 0.3, each.end + rng.normal(0, jitter) + 0.1 + shift)
        if linger is not None:
            end = min(end + 6, written[number].start + shift + linger if number < len(written) else math.inf)
        blocks.append(f"{number}\n{_clock(start)} --> {_clock(end)}\n{each.text}\n")
    return "\n".join(blocks)


def _clock(seconds: float) -> str:
    milliseconds = round(1000 * seconds)
    rest, milliseconds = divmod(milliseconds, 1000)
    return f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d},{milliseconds:03d}"
