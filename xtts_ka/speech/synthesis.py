"""Speaks a text with a finished model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from xtts_ka.core.console import say
from xtts_ka.core.errors import UserError
from xtts_ka.core.stage_ledger import StageLedger
from xtts_ka.corpus.audio import write_wav
from xtts_ka.georgian.text import split_sentences
from xtts_ka.model.checkpoint import load_xtts
from xtts_ka.model.coqui_georgian import FACTS_FILE, read_facts, register
from xtts_ka.model.speakers import read_speakers

PAUSE = 10_000  # samples between two sentences, as in coqui's `Synthesizer`
_FILES = (FACTS_FILE, "config.json", "vocab.json", "speakers_xtts.pth", "model.pth")  # that speaking reads


def speak(model_dir: Path, text: str, speaker: str | None, output: Path, device: str, seed: int) -> float:
    """Write `output` (a 24 kHz wav) and return its length in seconds.

    speaker: a name in `speakers_xtts.pth`; None takes the first. Raises UserError for an unknown speaker, a text with
    nothing to read, and a model that is missing or damaged.
    """
    if change := StageLedger(model_dir / "pretrain_progress.json", []).altered(*_FILES):
        raise UserError(f"{change}: run python run_pretrain.py, which makes it again")
    limit, reading = read_facts(model_dir / FACTS_FILE)
    voices = read_speakers(model_dir / "speakers_xtts.pth")
    if not voices:
        remedy = (
            f"speak after a recording: xtts-ka tts --model_path {model_dir} --config_path {model_dir / 'config.json'} "
            "--language_idx ka --speaker_wav VOICE.wav --text TEXT --out_path speech.wav"
        )
        raise UserError(f"{model_dir} has no voice, since no speaker of its recordings is known; {remedy}")
    if not speaker:
        speaker = next(iter(voices))
        say(f"voice: {speaker}, the first of {len(voices)}; --speaker NAME takes another")
    if speaker not in voices:
        names = ", ".join(voices)
        raise UserError(f"speaker {speaker!r} is not in {model_dir / 'speakers_xtts.pth'}: choose one of {names}")
    pieces = split_sentences(reading(text), limit)
    if not pieces:
        raise UserError(f"--text {text!r} holds nothing to read aloud: give Georgian text")
    register()
    model = load_xtts(model_dir, device)
    torch.manual_seed(seed)
    voice = voices[speaker]
    waves: list[np.ndarray] = []
    for piece in pieces:
        spoken = model.inference(piece, "ka", voice["gpt_cond_latent"], voice["speaker_embedding"])["wav"]
        waves += [np.atleast_1d(spoken), np.zeros(PAUSE, np.float32)]
        say(f"{speaker} on {device}: {piece}", verbose=True)
    wave = np.concatenate(waves[:-1])
    rate = model.config.model_args.output_sample_rate
    write_wav(output, wave, rate)
    return len(wave) / rate
