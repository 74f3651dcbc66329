"""Step 5: the speaker encoder, which learns to tell the 140 voices apart."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchaudio.transforms import Resample

from starter_base import sizes
from starter_base.figures import note
from starter_base.mels import waves_on
from starter_base.speech import Speech
from starter_base.timed import train_timed
from xtts_ka.core.console import say
from xtts_ka.core.tensor_files import save_tensors
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.model import geometry as g
from xtts_ka.model.networks import build_speaker_encoder
from xtts_ka.training.speaker_trainer import WAVES, SpeakerConfig, SpeakerPart

WEIGHTS = "speaker_encoder.safetensors"
BATCH = {"cuda": 128, "cpu": 24}
VAL_CLIPS = 500


class Waves:
    """Waves of some clips on a device, with the members of `ClipPieces` that `SpeakerPart` reads."""

    def __init__(self, waves: Tensor, speech: Speech, numbers: list[int]):
        self.values = waves
        self.starts = np.array([speech.clips[number].start for number in numbers])
        self.samples = np.array([speech.clips[number].samples for number in numbers])
        self.voices = [speech.clips[number].voice for number in numbers]
        self.lengths = {WAVES: self.samples}

    def __len__(self) -> int:
        return len(self.starts)


class FastSpeakerPart(SpeakerPart):
    """The speaker encoder's trainer on waves at 22,050 Hz in the device's memory."""

    best_by_loss = False

    def __init__(self, encoder: Any, train: Waves, val: Waves, settings: SpeakerConfig, seed: int):
        super().__init__(encoder, train, train.voices, val, val.voices, settings, seed)  # type: ignore[arg-type]
        self._resample = Resample(g.SAMPLE_RATE, g.SPEAKER_RATE).to(train.values.device)

    def _cut(self, source: Waves, clips: Iterable[tuple[int, int]]) -> Tensor:  # type: ignore[override]
        """Random pieces (batch, samples) at 16 kHz; a clip that is too short is repeated."""
        drawn_clips = np.array(list(clips))
        size, chosen = int(self.settings.seconds * g.SAMPLE_RATE), drawn_clips[:, 1]
        rng = np.random.default_rng([self.seed, *drawn_clips[0].tolist(), 7])
        first = rng.integers(0, np.maximum(1, source.samples[chosen] - size + 1))
        device = source.values.device
        left = torch.from_numpy(source.samples[chosen]).to(device)[:, None]
        places = (torch.from_numpy(first).to(device)[:, None] + torch.arange(size, device=device)) % left
        waves = source.values[torch.from_numpy(source.starts[chosen]).to(device)[:, None] + places]
        return self._resample(waves.float() / 32768)


def run(work: Path, options: Any) -> None:
    """Train for `options.minutes_speakers`; measure how many new clips are nearest to their own voice."""
    speech, device = Speech(work), choose_device(options.device)
    waves = waves_on(work, speech, device)
    train = Waves(waves, speech, speech.of("train"))
    val = Waves(waves, speech, speech.of("val", "test")[:VAL_CLIPS])
    torch.manual_seed(14)
    encoder = build_speaker_encoder(**sizes.SPEAKER_ENCODER)
    settings = SpeakerConfig(max_steps=100_000, batch_size=BATCH[torch.device(device).type], learning_rate=2e-3)
    part = FastSpeakerPart(encoder, train, val, settings, seed=14)
    chosen = train_timed(part, work, options.minutes_speakers, device, speech)
    encoder.load_state_dict(chosen.weights())
    share = chosen.val_loss if chosen.val_loss is not None else 1.0
    say(
        f"speakers    {1 - share:.1%} of {len(val)} new clips are nearest to their own of {len(set(val.voices))} voices"
    )
    note(work, "speaker_encoder", {"told_apart": 1 - share, "clips": len(val), "voices": len(set(val.voices))})
    save_tensors(work / WEIGHTS, {name: tensor.cpu() for name, tensor in encoder.state_dict().items()})
