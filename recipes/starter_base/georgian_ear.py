"""Measures how well Georgian is understood through a DVAE that has heard none.

A recogniser is trained on natural Georgian speech of espeak-ng (the starter's voices and sentences, and random rows of
their words), over mels as the DVAE takes them in. It judges natural clips of other sentences, and the same clips as the
DVAE's decoder gives them back.

    python recipes/starter_base/georgian_ear.py --work DIR                    trains the recogniser
    python recipes/starter_base/georgian_ear.py --work DIR --base BASE        measures dvae.safetensors of that folder
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path

RECIPES = Path(__file__).resolve().parents[1]
if sys.path[:1] == [str(RECIPES / "starter_base")]:
    del sys.path[0]
for folder in (str(RECIPES), str(RECIPES.parent)):
    if folder not in sys.path:
        sys.path.insert(0, folder)

import numpy as np
import torch
from safetensors.torch import load_file

from starter_base import sizes
from starter_base.dvae import through_codes
from starter_base.mels import MEL_STATS, Mels, load_mels
from starter_base.phonemes import PhonemeNetwork, PhonemePart, Symbols, hear, spoken, symbols_of, targets_of
from starter_base.speech import Speech, speak
from starter_base.texts import TEXTS, phonemes_of
from starter_base.timed import train_timed
from xtts_ka.core.command_line import add_verbosity_flags, run_cli
from xtts_ka.core.console import say
from xtts_ka.core.files import write_bytes
from xtts_ka.core.tensor_files import save_tensors
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.model import geometry as g
from xtts_ka.model.networks import build_dvae
from xtts_ka.recognition.error_rates import Rate, character_error_rate
from xtts_ka.recognition.listener import spoken_letters
from xtts_ka.starter.speech import read_sentences

DATA = RECIPES.parent / "data"
WEIGHTS = "georgian_ear.safetensors"
RANDOM_ROWS = 2500
DIM, LAYERS, STRIDES, BATCH_FRAMES = 192, 8, (2, 2), 2600  # as the project's own recogniser: 30 s a batch


def judged_texts() -> list[str]:
    """100 sentences that the recogniser is not trained on."""
    return [s for file in sorted((DATA / "evaluation_sentences_ka").glob("*.txt")) for s in read_sentences(file)]


def write_georgian(work: Path, random_rows: int = RANDOM_ROWS) -> None:
    """`texts.jsonl.gz` as the step `texts` writes it: the judged sentences first, then those for training."""
    rng = np.random.default_rng(14)
    sentences = [spoken_letters(text) for text in read_sentences(DATA / "starter_sentences_ka.txt")]
    words = sorted({word for sentence in sentences for word in sentence.split()})
    mixed = [" ".join(rng.choice(words, size=int(rng.integers(1, 9)))) for _ in range(random_rows)]
    texts = [spoken_letters(text) for text in judged_texts()] + sentences + mixed
    rows = [{"text": text, "language": "ka", "phonemes": " ".join(phonemes_of(text, "ka"))} for text in texts]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_bytes(work / TEXTS, gzip.compress(lines.encode("utf-8"), 9, mtime=0))


def train(work: Path, minutes: float, device: str, processes: int) -> None:
    """Speak, train, write `georgian_ear.safetensors`."""
    if not (work / TEXTS).is_file():
        work.mkdir(parents=True, exist_ok=True)
        write_georgian(work)
    speak(work, processes)
    speech, judged = Speech(work), len(judged_texts())
    symbols = symbols_of(speech)
    numbers = [list(range(judged, len(speech.clips))), list(range(judged))]
    mels = [load_mels(work, speech, some, device) for some in numbers]
    targets = [[targets_of(symbols, speech, number) for number in some] for some in numbers]
    network = _network(symbols)
    part = PhonemePart(network, mels[0], mels[1], targets, seed=14)
    part.batch_frames = BATCH_FRAMES
    network.load_state_dict(train_timed(part, work, minutes, device, speech).weights())
    save_tensors(work / WEIGHTS, {name: tensor.cpu() for name, tensor in network.state_dict().items()})


def _network(symbols: Symbols) -> PhonemeNetwork:
    return PhonemeNetwork(len(symbols.phonemes), len(symbols.letters), DIM, LAYERS, STRIDES)


def judge(work: Path, base: Path | None, device: str) -> dict[str, Rate]:
    """Character error rates, spaces left out: of natural clips, and of these clips through the DVAE of `base`."""
    speech, judged = Speech(work), range(len(judged_texts()))
    symbols = symbols_of(speech)
    network = _network(symbols)
    network.load_state_dict(load_file(work / WEIGHTS))
    network.to(device).eval()
    natural = load_mels(work, speech, judged, device)
    rates = {"natural": _rate(network, symbols, speech, natural)}
    if base:
        scale = load_file(base / MEL_STATS)["mel_stats"]
        rows = [natural.log_mels(np.array([clip]))[0][0] for clip in judged]
        dvae = build_dvae(g.AUDIO_CODES, **sizes.DVAE)
        dvae.load_state_dict(load_file(base / "dvae.safetensors"))
        through, use = through_codes(dvae.to(device).eval(), Mels(rows, scale, device), len(judged))
        say(f"codes used {use['codes_used']:.0f}, perplexity {use['perplexity']:.0f}")
        rates["through the codes"] = _rate(network, symbols, speech, through)
    return rates


def _rate(network: PhonemeNetwork, symbols: Symbols, speech: Speech, mels: Mels) -> Rate:
    heard = [hear(network, symbols, *mels.log_mels(np.array([clip])))[0][1] for clip in range(len(mels))]
    said = [spoken(speech.clips[clip].text) for clip in range(len(mels))]
    return character_error_rate([text.replace(" ", "") for text in said], [text.replace(" ", "") for text in heard])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure how well Georgian is understood through the base's DVAE.")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder of the recogniser")
    parser.add_argument(
        "--base", type=Path, metavar="DIR", help="folder with dvae.safetensors and mel_stats.safetensors"
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="of training the recogniser (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="that speak side by side (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    add_verbosity_flags(parser)
    args = parser.parse_args(argv)
    return run_cli(lambda: measure(args), args)


def measure(args: argparse.Namespace) -> None:
    torch.manual_seed(14)
    device = choose_device(args.device)
    if not (args.work / WEIGHTS).is_file():
        train(args.work, args.minutes, device, args.processes)
    for name, rate in judge(args.work, args.base, device).items():
        say(f"Georgian, {name}: CER {rate}")


if __name__ == "__main__":
    sys.exit(main())
