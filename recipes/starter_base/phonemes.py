"""Step 3: a recogniser of phonemes and letters over the DVAE's mels, trained on natural speech of the ten languages.

It is a loss for the DVAE (`dvae.py`: what can still be heard through the codes), and its letters judge what the base
says in the old languages. `work/phonemes.safetensors` holds the weights, `phonemes.json` the symbols and the sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from starter_base.figures import note
from starter_base.mels import Mels, load_mels
from starter_base.speech import Speech
from starter_base.timed import train_timed
from starter_base.tokens import UNSPOKEN
from xtts_ka.core.config import PartConfig
from xtts_ka.core.console import say
from xtts_ka.core.files import read_json, write_json
from xtts_ka.core.tensor_files import save_tensors
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.recognition.augmentation import augment
from xtts_ka.recognition.ctc_trainer import ctc_loss
from xtts_ka.recognition.error_rates import character_error_rate
from xtts_ka.recognition.recogniser import CtcNetwork
from xtts_ka.training.parts_loop import Batch, Part, Tools, part_optimizer

WEIGHTS, FACTS = "phonemes.safetensors", "phonemes.json"
DIM, LAYERS = 256, 8
STRIDES = (2, 1)  # a frame of 23 ms: at 46 ms, espeak's fastest phonemes would have none
BATCH_FRAMES = {"cuda": 24_000, "cpu": 4_000}  # mel frames of a padded batch
SHAPES = 64  # frames; a batch's length is a multiple of it
NEIGHBOURS = 1500  # clips of similar length that a batch is drawn from
VAL_CLIPS = 300
RATE = 2e-3


Target = tuple[Tensor, Tensor]  # ids of phonemes and of letters


class Symbols:
    """Ids of phonemes and letters; 0 is CTC's blank in both."""

    def __init__(self, phonemes: list[str], letters: list[str]):
        self.phonemes, self.letters = phonemes, letters
        self._phoneme_ids = {name: number for number, name in enumerate(phonemes, 1)}
        self._letter_ids = {letter: number for number, letter in enumerate(letters, 1)}

    def phoneme_ids(self, phonemes: str) -> list[int]:
        return [self._phoneme_ids[name] for name in phonemes.split()]

    def letter_ids(self, text: str) -> list[int]:
        return [self._letter_ids[letter] for letter in spoken(text)]

    def lists(self) -> dict[str, list[str]]:
        """What `Symbols(**lists)` takes."""
        return {"phonemes": self.phonemes, "letters": self.letters}


def spoken(text: str) -> str:
    """Letters and single spaces."""
    return " ".join("".join(c for c in text.lower() if c not in UNSPOKEN).split())


class PhonemeNetwork(nn.Module):
    """log-mels in nepers (batch, frames, 80) → log-probabilities of phonemes and of letters."""

    def __init__(self, phonemes: int, letters: int, dim: int, layers: int, strides: tuple[int, int] = STRIDES):
        super().__init__()
        self.body = CtcNetwork(dim, layers, symbols=phonemes + 1, strides=strides)
        self.letters = nn.Linear(dim, letters + 1)

    def forward(self, mels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(log-probabilities of phonemes, of letters, their lengths); lengths as in `CtcNetwork`."""
        hidden, lengths = self.body.hidden(mels, lengths)
        return log_probs(self.body.output, hidden), log_probs(self.letters, hidden), lengths


def log_probs(output: nn.Linear, hidden: Tensor) -> Tensor:
    return output(hidden).float().log_softmax(-1)


class PhonemePart(Part):
    """The recogniser on whole clips of similar length, with the recogniser's usual augmentation."""

    name = "phonemes"
    best_by_loss = False

    def __init__(self, network: PhonemeNetwork, train: Mels, val: Mels, targets: Sequence[Sequence[Target]], seed: int):
        """targets: of the training clips and of the validation's, (phonemes, letters) of each."""
        self.batch_frames = BATCH_FRAMES[torch.device(train.device).type]
        self.network, self.train, self.val, self.seed = network, train, val, seed
        self.targets, self.val_targets = targets
        self.settings = PartConfig(max_steps=100_000, learning_rate=RATE)
        self.networks = {"model": network}
        self.optimizers = {"model": part_optimizer(network, RATE)}
        self._by_length = np.argsort(train.frames, kind="stable")

    def batch(self, step: int, rank: int, world: int) -> Batch:
        """Which clips: they are read from the device's memory in the step."""
        rng = np.random.default_rng([self.seed, step, 5])
        middle, count = int(rng.integers(len(self.train))), min(NEIGHBOURS, len(self.train))
        first = min(max(0, middle - count // 2), len(self.train) - count)
        near = self._by_length[first : first + count]
        size = max(1, min(count, self.batch_frames // _up(int(1.1 * self.train.frames[near].mean()))))
        chosen = rng.choice(near, size=size, replace=False)
        return {"clips": torch.from_numpy(chosen)}

    def train_step(self, batch: Batch, step: int, tools: Tools) -> dict[str, Tensor]:
        clips = batch["clips"].cpu().numpy()
        mels, lengths = self.train.log_mels(clips)
        rng = np.random.default_rng([self.seed, step, 6])
        generator = torch.Generator(mels.device).manual_seed(int(rng.integers(2**62)))
        mels, lengths = augment(mels, lengths, rng, generator)
        mels = F.pad(mels, (0, 0, 0, _up(mels.shape[1]) - mels.shape[1]))
        loss = self._loss(mels, lengths, [self.targets[clip] for clip in clips])
        return {"loss": loss, "grad_norm": torch.tensor(tools.step(self.network, self.optimizers["model"], loss))}

    def _loss(self, mels: Tensor, lengths: Tensor, targets: Sequence[Target]) -> Tensor:
        phonemes, letters, frames = self.network(mels, lengths)
        wanted = [list(kind) for kind in zip(*targets)]
        return ctc_loss(phonemes, frames, wanted[0]) + 0.5 * ctc_loss(letters, frames, wanted[1])

    @torch.no_grad()
    def validate(self, tools: Tools) -> dict[str, float]:
        losses = []
        for clips in np.array_split(np.argsort(self.val.frames)[:VAL_CLIPS], 10):
            if len(clips):
                losses.append(float(self._loss(*self.val.log_mels(clips), [self.val_targets[c] for c in clips])))
        return {"loss": float(np.mean(losses))}


def _up(frames: int) -> int:
    """The next of few lengths: cuDNN plans anew for every shape, which takes longer than a step."""
    return -(-frames // SHAPES) * SHAPES


def run(work: Path, options: Any) -> None:
    """Train for `options.minutes_phonemes`; measure on clips whose texts were not trained on."""
    speech, device = Speech(work), choose_device(options.device)
    symbols = symbols_of(speech)
    numbers = {split: speech.of(split) for split in ("train", "val")}
    mels = {split: load_mels(work, speech, numbers[split], device) for split in numbers}
    targets = [[targets_of(symbols, speech, number) for number in numbers[split]] for split in numbers]
    network = PhonemeNetwork(len(symbols.phonemes), len(symbols.letters), DIM, LAYERS)
    part = PhonemePart(network, mels["train"], mels["val"], targets, seed=14)
    chosen = train_timed(part, work, options.minutes_phonemes, device, speech)
    network.load_state_dict(chosen.weights())
    figures = error_rates(network.eval(), symbols, speech, numbers["val"][:VAL_CLIPS], mels["val"])
    wrong = f"phonemes {figures['phonemes']:.1%}, letters {figures['letters']:.1%}"
    say(f"phonemes    errors on {figures['clips']} new clips: {wrong}")
    note(work, "phonemes", figures)
    write_json(work / FACTS, {**symbols.lists(), "dim": DIM, "layers": LAYERS})
    save_tensors(work / WEIGHTS, {name: tensor.cpu() for name, tensor in network.state_dict().items()})


def symbols_of(speech: Speech) -> Symbols:
    phonemes = sorted({name for clip in speech.clips for name in clip.phonemes.split()})
    return Symbols(phonemes, sorted({letter for clip in speech.clips for letter in spoken(clip.text)}))


def targets_of(symbols: Symbols, speech: Speech, number: int) -> Target:
    clip = speech.clips[number]
    return torch.tensor(symbols.phoneme_ids(clip.phonemes)), torch.tensor(symbols.letter_ids(clip.text))


def load_phonemes(work: Path, device: str) -> tuple[PhonemeNetwork, Symbols]:
    """The trained recogniser, frozen."""
    facts = read_json(work / FACTS, "the phoneme recogniser", "run make_base.py --steps phonemes")
    symbols = Symbols(facts["phonemes"], facts["letters"])
    network = PhonemeNetwork(len(symbols.phonemes), len(symbols.letters), facts["dim"], facts["layers"])
    network.load_state_dict(load_file(work / WEIGHTS))
    return network.to(device).eval().requires_grad_(False), symbols


@torch.no_grad()
def hear(network: PhonemeNetwork, symbols: Symbols, mels: Tensor, lengths: Tensor) -> list[tuple[str, str]]:
    """Greedily: the phonemes, one character each, and the letters of every row. mels: (batch, frames, 80) in nepers."""
    phonemes, letters, frames = network(mels, lengths)
    rows = []
    for row, other, count in zip(phonemes.argmax(-1).cpu(), letters.argmax(-1).cpu(), frames.tolist()):
        heard = "".join(symbols.letters[i - 1] for i in _merged(other[:count]))
        rows.append(("".join(chr(0x4E00 + i) for i in _merged(row[:count])), " ".join(heard.split())))
    return rows


def _merged(best: Tensor) -> list[int]:
    return [i for i in torch.unique_consecutive(best).tolist() if i]


def error_rates(
    network: PhonemeNetwork, symbols: Symbols, speech: Speech, numbers: Sequence[int], mels: Mels
) -> dict[str, Any]:
    """Error rates of phonemes and letters on the first clips of `mels`, which are `numbers` of `speech`."""
    heard = []
    for clips in np.array_split(np.arange(len(numbers)), max(1, len(numbers) // 30)):
        heard += hear(network, symbols, *mels.log_mels(clips))
    wanted = [speech.clips[number] for number in numbers]
    phonemes = ["".join(chr(0x4E00 + i) for i in symbols.phoneme_ids(clip.phonemes)) for clip in wanted]
    letters = [spoken(clip.text) for clip in wanted]
    rates = [
        character_error_rate(said, [row[kind] for row in heard]).value for kind, said in enumerate((phonemes, letters))
    ]
    return {"clips": len(numbers), "phonemes": rates[0], "letters": rates[1]}
