"""Steps `georgian` and `judge`: how well Georgian is understood through a DVAE that has heard none.

A recogniser is trained on natural Georgian speech of espeak-ng (the starter's voices and sentences, and random rows of
their words), over mels as the DVAE takes them in. It judges natural clips of other sentences, and the same clips as the
DVAE's decoder gives them back. Nothing of this speech goes into the base.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from starter_base import sizes
from starter_base.dvae import through_codes
from starter_base.figures import note
from starter_base.mels import MEL_STATS, Mels, load_mels
from starter_base.phonemes import PhonemeNetwork, PhonemePart, Symbols, hear, spoken, symbols_of, targets_of
from starter_base.speech import Speech, speak
from starter_base.texts import TEXTS, phonemes_of
from starter_base.timed import train_timed
from xtts_ka.core.console import say
from xtts_ka.core.files import read_json, write_bytes, write_json
from xtts_ka.core.tensor_files import save_tensors
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.model import geometry as g
from xtts_ka.model.networks import build_dvae
from xtts_ka.recognition.error_rates import Rate, character_error_rate
from xtts_ka.recognition.symbols import spoken_letters
from xtts_ka.starter.speech import read_sentences

DATA = Path(__file__).resolve().parents[2] / "data"
WEIGHTS, FACTS = "georgian_recogniser.safetensors", "georgian_recogniser.json"
SPOKEN, JUDGED = "georgian", "georgian_judged"  # work folders of their own
RANDOM_ROWS = 4000
DIM, LAYERS, STRIDES = 192, 8, (2, 2)  # as the project's own recogniser
BATCH_FRAMES = {"cuda": 10_000, "cpu": 2600}  # 30 s on a CPU


def judged_texts() -> list[str]:
    """100 sentences that the recogniser is not trained on, as their letters are spoken."""
    files = sorted((DATA / "evaluation_sentences_ka").glob("*.txt"))
    return [spoken_letters(sentence) for file in files for sentence in read_sentences(file)]


def training_texts(random_rows: int = RANDOM_ROWS) -> list[str]:
    rng = np.random.default_rng(14)
    sentences = [spoken_letters(text) for text in read_sentences(DATA / "starter_sentences_ka.txt")]
    words = sorted({word for sentence in sentences for word in sentence.split()})
    mixed = [" ".join(rng.choice(words, size=int(rng.integers(1, 9)))) for _ in range(random_rows)]
    return list(dict.fromkeys(sentences + mixed))


def speak_georgian(folder: Path, texts: Sequence[str], processes: int) -> Speech:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"text": text, "language": "ka", "phonemes": " ".join(phonemes_of(text, "ka"))} for text in texts]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_bytes(folder / TEXTS, gzip.compress(lines.encode("utf-8"), 9, mtime=0))
    speak(folder, processes)
    return Speech(folder)


def run(work: Path, options: Any) -> None:
    """Train the recogniser for `options.minutes_georgian`."""
    device, folder = choose_device(options.device), work / SPOKEN
    speech = speak_georgian(folder, training_texts(), options.processes)
    symbols = symbols_of(speech)
    numbers = [speech.of("train"), speech.of("val", "test")]
    mels = [load_mels(folder, speech, some, device) for some in numbers]
    targets = [[targets_of(symbols, speech, number) for number in some] for some in numbers]
    torch.manual_seed(14)
    network = _network(symbols)
    part = PhonemePart(network, mels[0], mels[1], targets, seed=14)
    part.batch_frames = BATCH_FRAMES[torch.device(device).type]
    network.load_state_dict(train_timed(part, folder, options.minutes_georgian, device, speech).weights())
    write_json(work / FACTS, symbols.lists())
    save_tensors(work / WEIGHTS, {name: tensor.cpu() for name, tensor in network.state_dict().items()})


def _network(symbols: Symbols) -> PhonemeNetwork:
    return PhonemeNetwork(len(symbols.phonemes), len(symbols.letters), DIM, LAYERS, STRIDES)


def judge(work: Path, options: Any) -> None:
    """Character error rates, spaces left out: of natural clips, and of these clips through the DVAE in `work`."""
    device = choose_device(options.device)
    speech = speak_georgian(work / JUDGED, judged_texts(), options.processes)
    symbols = Symbols(**read_json(work / FACTS, "the Georgian recogniser", "run make_base.py --steps georgian"))
    network = _network(symbols)
    network.load_state_dict(load_file(work / WEIGHTS))
    network.to(device).eval()
    clips = range(len(speech.clips))
    natural = load_mels(work / JUDGED, speech, clips, device)
    dvae = build_dvae(g.AUDIO_CODES, **sizes.DVAE)
    dvae.load_state_dict(load_file(work / "dvae.safetensors"))
    rows = [natural.log_mels(np.array([clip]))[0][0] for clip in clips]
    scale = load_file(work / MEL_STATS)["mel_stats"]
    through, use = through_codes(dvae.to(device).eval(), Mels.of(rows, scale, device), len(clips))
    rates = {
        "natural": rate(network, symbols, speech, natural),
        "through the codes": rate(network, symbols, speech, through),
    }
    for name, found in rates.items():
        say(f"judge       Georgian, {name}: CER {found}")
    note(work, "georgian", {**{name: found._asdict() for name, found in rates.items()}, **use})


def rate(network: PhonemeNetwork, symbols: Symbols, speech: Speech, mels: Mels) -> Rate:
    """Of all clips of `speech`, whose mels these are, each heard by itself; greedy decoding."""
    heard = [hear(network, symbols, *mels.log_mels(np.array([clip])))[0][1] for clip in range(len(mels))]
    said = [spoken(clip.text) for clip in speech.clips]
    return character_error_rate([text.replace(" ", "") for text in said], [text.replace(" ", "") for text in heard])
