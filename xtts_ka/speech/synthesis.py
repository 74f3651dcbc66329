"""Speaks a text with a finished model."""

from __future__ import annotations

from pathlib import Path

from xtts_ka.core.console import say
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json
from xtts_ka.core.stage_ledger import StageLedger

MODEL_FILES = (
    "xtts_v2_ka_config.json",
    "config.json",
    "vocab.json",
    "speakers_xtts.pth",
    "model.pth",
)  # what speaking reads


def speak(model_dir: Path, text: str, speaker: str | None, output: Path, device: str, seed: int) -> float:
    """Write `output` (24 kHz wav) and return its length in seconds. A damaged model is a UserError, not noise."""
    if change := StageLedger(model_dir / "pretrain_progress.json", []).altered(*MODEL_FILES):
        raise UserError(f"{change}: run python run_pretrain.py, which makes it again")
    georgian = _read_facts(model_dir / "xtts_v2_ka_config.json")
    import numpy as np
    import torch

    from xtts_ka.corpus.audio import write_wav
    from xtts_ka.georgian.text import normalise, split_sentences
    from xtts_ka.model.checkpoint import load_xtts
    from xtts_ka.model.coqui_georgian import register_georgian
    from xtts_ka.model.speakers import read_speakers
    from xtts_ka.model.vocabulary import load_tokenizer

    register_georgian(georgian["character_limit"], georgian["archaic"])
    load_tokenizer(model_dir / "vocab.json")  # coqui opens it without a look
    voices = read_speakers(model_dir / "speakers_xtts.pth")
    model = load_xtts(model_dir, device)
    speaker = speaker or next(iter(voices))
    if speaker not in voices:
        raise UserError(
            f"speaker {speaker!r} is not in {model_dir / 'speakers_xtts.pth'}: choose one of {', '.join(voices)}"
        )
    pieces = split_sentences(normalise(text, archaic=georgian["archaic"]), georgian["character_limit"])
    if not pieces:
        raise UserError(f"--text {text!r} holds nothing to read aloud: give Georgian text")
    torch.manual_seed(seed)
    voice = voices[speaker]
    waves = []
    for piece in pieces:
        waves.append(model.inference(piece, "ka", voice["gpt_cond_latent"], voice["speaker_embedding"])["wav"])
        say(f"{speaker} on {device}: {piece}", verbose=True)
    wave = np.concatenate([np.atleast_1d(w) for w in waves])
    rate = model.config.model_args.output_sample_rate
    write_wav(output, wave, rate)
    return len(wave) / rate


def _read_facts(path: Path) -> dict:
    remedy = "finish the full_pretrain stage first"
    facts = read_json(path, "the model's Georgian config", remedy)
    if (
        not isinstance(facts, dict)
        or type(facts.get("character_limit")) is not int
        or facts.get("archaic") not in ("keep", "respell")
    ):
        raise UserError(f"{path} does not say how the model reads Georgian: {remedy}")
    return facts
