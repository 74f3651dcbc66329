"""A language of tones: each letter is a chord of its own, so that a tiny recogniser learns words in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xtts_ka.core.config import PretrainConfig, RecogniserConfig
from xtts_ka.corpus.audio import write_wav
from xtts_ka.corpus.tables import Clip, write_splits

RATE = 16_000
LETTERS = "აიმსდ"
TRAINED = ["მამა", "სიმი", "დადის", "მამა სიმი", "სიმი დადის", "დადის მამა", "მამა დადის", "სიმი მამა"]
HELD_OUT = ["დადის სიმი", "მამა დადის სიმი"]
SETTINGS = RecogniserConfig(dim=32, layers=2, recurrent=0, batch_seconds=4.0, epochs=40, learning_rate=5e-3)


def speak(text: str, seed: int = 0) -> np.ndarray:
    """160 ms for each letter, 120 ms of near silence for a space."""
    rng = np.random.default_rng(seed)
    parts = [rng.normal(0, 1e-3, RATE // 20)]
    for letter in text:
        if letter == " ":
            parts.append(np.zeros(RATE * 12 // 100))
            continue
        time = np.arange(RATE * 16 // 100) / RATE
        base = 250 * 1.45 ** LETTERS.index(letter)
        tone = np.sin(2 * np.pi * base * time) + 0.5 * np.sin(2 * np.pi * 2.6 * base * time)
        parts.append(0.3 * tone * np.hanning(len(time)))
    wave = np.concatenate([*parts, np.zeros(RATE // 20)])
    return (wave + rng.normal(0, 1e-3, len(wave))).astype(np.float32)


def write_project(folder: Path, settings: RecogniserConfig = SETTINGS) -> PretrainConfig:
    """Split tables over spoken texts, each trained one three times, and the config that reads them."""
    splits: dict[str, list[Clip]] = {"train": [], "val": [], "test": []}
    spoken = [("train", text) for text in TRAINED * 3] + [("val", HELD_OUT[0]), ("test", HELD_OUT[1])]
    for number, (split, text) in enumerate(spoken):
        file, wave = folder / f"data/wavs/{number:02d}.wav", speak(text, number)
        write_wav(file, wave, RATE)
        splits[split].append(Clip(f"c{number:02d}", text, "s1", len(wave) / RATE, file, None))
    write_splits(folder / "data", splits)
    model = str(folder / "model")
    return PretrainConfig(data_dir=str(folder / "data"), output_model_path=model, device="cpu", recogniser=settings)
