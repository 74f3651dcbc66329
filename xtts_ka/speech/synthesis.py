"""Speaks a text with a finished model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from xtts_ka.core.console import say
from xtts_ka.core.errors import UserError
from xtts_ka.core.stage_ledger import StageLedger
from xtts_ka.corpus.audio import check_written_format, write_sound
from xtts_ka.georgian.text import split_sentences
from xtts_ka.model.checkpoint import Xtts, load_xtts
from xtts_ka.model.coqui_georgian import FACTS_FILE, read_facts, register
from xtts_ka.model.speakers import read_speakers
from xtts_ka.speech.batch import Piece, derived_seed
from xtts_ka.speech.guard import ATTEMPTS, account, open_guard, speak_guarded
from xtts_ka.speech.lengths import USUAL_RATE, fewest_codes, folder_rates, most_codes

PAUSE = 10_000  # samples between two sentences, as in coqui's `Synthesizer`
_FILES = (FACTS_FILE, "config.json", "vocab.json", "speakers_xtts.pth", "model.pth")  # that speaking reads


def speak(
    model_dir: Path, text: str, speaker: str | None, output: Path, device: str, seed: int, attempts: int = ATTEMPTS
) -> float:
    """Write `output` (24 kHz, in the format of its suffix) and return its length in seconds.

    speaker: a name in `speakers_xtts.pth`; None takes the first. attempts: of the guard at each sentence at most; 0
    speaks without a guard. Raises UserError for an unknown speaker, a text with nothing to read, and a model that is
    missing or damaged.
    """
    check_written_format(output)
    if change := StageLedger(model_dir / "pretrain_progress.json", []).altered(*_FILES):
        raise UserError(f"{change}: run python run_pretrain.py, which makes it again")
    limit, reading = read_facts(model_dir / FACTS_FILE)
    speaker, voice = _voice(model_dir, speaker)
    texts = split_sentences(reading(text), limit)
    if not texts:
        raise UserError(f"--text {text!r} holds nothing to read aloud: give Georgian text")
    register()
    model = load_xtts(model_dir, device)
    guard = open_guard(model_dir, device, attempts) if attempts else None
    rate = folder_rates(model_dir / FACTS_FILE).get(speaker, USUAL_RATE) if guard else None
    pieces = [_piece(model, part, voice, derived_seed(seed, speaker, part), rate) for part in texts]
    waves: list[np.ndarray] = []
    for piece, guarded in zip(pieces, speak_guarded(model, pieces, guard), strict=True):
        waves += [guarded.spoken.wave, np.zeros(PAUSE, np.float32)]
        say(account(piece.text, guarded) if guard else f"{speaker} on {device}: {piece.text}", verbose=True)
    wave = np.concatenate(waves[:-1])
    rate_hz = model.config.model_args.output_sample_rate
    write_sound(output, wave, rate_hz)
    return len(wave) / rate_hz


def _voice(model_dir: Path, speaker: str | None) -> tuple[str, dict[str, Tensor]]:
    """The name and tensors of the voice that is to speak."""
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
    return speaker, voices[speaker]


def _piece(model: Xtts, text: str, voice: dict[str, Tensor], seed: int, rate: float | None) -> Piece:
    """One sentence, with the bounds of its length; without a rate the model's own limit alone holds."""
    most = most_codes(text, rate) if rate else model.gpt.max_gen_mel_tokens
    fewest = fewest_codes(text, rate) if rate else 0
    return Piece(text, voice["gpt_cond_latent"], voice["speaker_embedding"], seed, most, fewest)
