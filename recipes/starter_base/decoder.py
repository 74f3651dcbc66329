"""Step 9: the decoder, on latents of the GPT.

On a GPU it is trained beside the GPT, on latents of its last snapshots, and goes on behind it; else behind it alone.
The latents are computed anew for every step: with a GPT this small that is cheaper than keeping them.

    work/decoder/             checkpoints and metrics of the loop; a step that was stopped carries on from the last
    work/decoder.safetensors  the trained decoder
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from safetensors.torch import load_file
from torch import Tensor

from starter_base import sizes
from starter_base.feed import Clips, Feed, Step
from starter_base.figures import note
from starter_base.gpt import FOLDER, SNAPSHOTS, UNKNOWN_END, load_gpt
from starter_base.mels import waves_on
from starter_base.pack import half, write_network
from starter_base.speech import Speech
from starter_base.timed import TimedLoop
from xtts_ka.core.config import DecoderConfig, PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.core.errors import RunError
from xtts_ka.core.tensor_files import save_tensors
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.model import geometry as g
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.model.latents import SAMPLES_PER_LATENT
from xtts_ka.model.networks import build_speaker_encoder, build_vocoder
from xtts_ka.starter.trained_base import weights
from xtts_ka.training.decoder_trainer import LATENTS, VOICES, WAVES, DecoderPart
from xtts_ka.training.parts_loop import Batch, crop_start

DECODER = "decoder.safetensors"
BATCH = {"cpu": 6, "cuda": 32}  # pieces of a step
SEGMENT_CODES = 16
RATE = 8e-4
LATENT_NOISE = 0.05
VOICE_WEIGHT = 10.0  # of the speaker consistency loss: its gradient is then about half of the spectral ones'
SNAPSHOTS_USED = 3  # the newest is drawn as often as all others together
LOOK_EVERY = 25  # steps between looks for a new snapshot
FIRST_SNAPSHOT_MINUTES = 60.0  # how long to wait for it
EMBEDDINGS = 6  # of each voice, of EMBEDDED_SECONDS each
EMBEDDED_SECONDS = 6.0


class Snapshots:
    """The GPT at the last moments that its training has written down."""

    def __init__(self, work: Path, device: str):
        self.folder, self.device = work / FOLDER / SNAPSHOTS, device
        self._read: list[str] = []
        self._models: list[CompactGPT] = []

    def look(self) -> None:
        """Load the snapshots that are new."""
        names = sorted(file.name for file in self.folder.glob("*.safetensors"))[-SNAPSHOTS_USED:]
        for name in [name for name in names if name not in self._read]:
            self._models.append(CompactGPT(load_gpt(load_file(self.folder / name))).eval().to(self.device))
            self._read.append(name)
        self._models = self._models[-SNAPSHOTS_USED:]

    def wait(self) -> None:
        until = time.monotonic() + 60 * FIRST_SNAPSHOT_MINUTES
        while not self._models:
            self.look()
            if time.monotonic() > until:
                raise RunError(f"{self.folder} holds no snapshot of the GPT: run make_base.py --steps gpt first")
            time.sleep(0 if self._models else 1)

    def newest(self) -> CompactGPT:
        return self._models[-1]

    def any(self, random: np.random.Generator) -> CompactGPT:
        others = len(self._models) - 1
        return self._models[int(random.integers(0, others))] if others and random.random() < 0.5 else self.newest()


class LiveLatents:
    """The clips of one split as `DecoderPart` sees them. lengths: by kind, of each clip that is long enough."""

    def __init__(self, clips: Clips, numbers: np.ndarray):
        self.numbers = numbers[clips.spoken[numbers] & (clips.code_counts[numbers] >= SEGMENT_CODES)]
        counts = clips.code_counts[self.numbers]
        self.lengths = {LATENTS: counts, WAVES: np.round(counts * SAMPLES_PER_LATENT).astype(np.int64)}

    def __len__(self) -> int:
        return len(self.numbers)


class Sounds:
    """All waves (int16) and the embeddings of all voices, in the device's memory."""

    def __init__(self, work: Path, speech: Speech, feed: Feed):
        self.device = feed.clips.device
        self.waves = waves_on(work, speech, self.device)
        places = np.array([(clip.start, clip.samples) for clip in speech.clips])
        self.places = torch.from_numpy(places).to(self.device)
        self._to_decoder = torchaudio.transforms.Resample(g.SAMPLE_RATE, g.DECODER_RATE).to(self.device)
        self.encoder = build_speaker_encoder(**sizes.SPEAKER_ENCODER).eval().to(self.device)
        self.encoder.load_state_dict(load_file(work / "speaker_encoder.safetensors"))
        self.embeddings = self._embeddings(feed)

    @torch.no_grad()
    def _embeddings(self, feed: Feed) -> Tensor:
        """(voices, EMBEDDINGS, 512), each of train clips of the voice, joined."""
        resample = torchaudio.transforms.Resample(g.SAMPLE_RATE, g.SPEAKER_RATE).to(self.device)
        length, found = round(EMBEDDED_SECONDS * g.SAMPLE_RATE), []
        for voice in range(len(feed.clips.voice_names)):
            own = np.flatnonzero((feed.clips.voices == voice) & (feed.clips.splits == "train") & feed.clips.spoken)
            wave = torch.cat([self._whole(clip) for clip in own[: 12 * EMBEDDINGS].tolist()])
            wave = wave.repeat(-(-length * EMBEDDINGS // len(wave)))[: length * EMBEDDINGS]
            found.append(self.encoder(resample(wave.view(EMBEDDINGS, length)), l2_norm=True))
        return torch.stack(found)

    def _whole(self, clip: int) -> Tensor:
        start, samples = self.places[clip].tolist()
        return self.waves[start : start + samples].float() / 32768

    def pieces(self, clips: Tensor, starts: Tensor) -> Tensor:
        """(batch, samples) at 24 kHz of the pieces that begin at these codes of these clips; zeros behind a clip."""
        first, samples = self.places[clips].T
        inside = starts[:, None] * g.CODE_STRIDE + torch.arange(SEGMENT_CODES * g.CODE_STRIDE, device=self.device)
        found = self.waves[(first[:, None] + inside).clamp(max=len(self.waves) - 1)].float() / 32768
        whole = self._to_decoder(found * (inside < samples[:, None]))
        return whole[:, : int(SEGMENT_CODES * SAMPLES_PER_LATENT) // g.DECODER_HOP * g.DECODER_HOP]


class BaseDecoder(DecoderPart):
    """The vocoder on pieces whose latents the GPT's snapshots compute when they are drawn."""

    def __init__(self, vocoder: Any, feed: Feed, sounds: Sounds, snapshots: Snapshots, settings: DecoderConfig):
        self.feed, self.sounds, self.snapshots = feed, sounds, snapshots
        train, val = (LiveLatents(feed.clips, part.numbers) for part in (feed.train, feed.val))
        super().__init__(vocoder, [train], val, settings, 1, sounds.encoder)  # type: ignore[arg-type, list-item]

    def batch(self, step: int, rank: int, world: int) -> Batch:
        if step % LOOK_EVERY == 0:
            self.snapshots.look()
        return super().batch(step, rank, world)

    @torch.no_grad()
    def _cut(self, clips: Iterable[tuple[Any, int, int]]) -> Batch:
        drawn = list(clips)
        source, epoch, place = drawn[0]
        random = np.random.default_rng([self.seed, epoch, place])
        training = source is self.train[0][0]
        gpt = self.snapshots.any(random) if training else self.snapshots.newest()
        numbers = np.array([source.numbers[clip] for source, _, clip in drawn])
        lengths = self.feed.clips.code_counts[numbers].tolist()
        starts = [crop_start(n, SEGMENT_CODES, self.seed, e, c) for n, (_, e, c) in zip(lengths, drawn)]
        device = self.sounds.device
        first, rows = torch.tensor(starts, device=device), torch.from_numpy(numbers).to(device)
        voices = torch.from_numpy(self.feed.clips.voices[numbers]).to(device)
        which = torch.from_numpy(random.integers(0, EMBEDDINGS, len(numbers))).to(device)
        return {
            LATENTS: self._latents(gpt, Step(numbers, epoch, place), first),
            WAVES: self.sounds.pieces(rows, first),
            VOICES: self.sounds.embeddings[voices, which][..., None],
        }

    def _latents(self, gpt: CompactGPT, step: Step, starts: Tensor) -> Tensor:
        """(batch, codes, dim): as `teacher_forced_latents`, of a piece of each clip."""
        batch = self.feed.loaded(step, noisy=False, ended=True)
        with torch.autocast(self.sounds.device.split(":")[0], torch.bfloat16, enabled=self.sounds.device != "cpu"):
            hidden = gpt.hidden(batch)
        length = batch["shape"][1]
        texts = torch.from_numpy(self.feed.clips.token_counts[step.clips]).to(starts.device)
        row = torch.arange(len(texts), device=starts.device) * length + g.COND_POSITIONS + texts + 2
        places = (row + starts)[:, None] + torch.arange(SEGMENT_CODES, device=starts.device)
        return gpt.gpt.final_norm(hidden[places].float())


class DecoderLoop(TimedLoop):
    """Hands the network to `out`, if given, with each checkpoint."""

    def __init__(self, part: BaseDecoder, config: PretrainConfig, minutes: float, out: Path | None):
        super().__init__(part, config, "base", minutes)
        self.out = out

    def save(self, val_loss: float | None = None) -> None:
        super().save(val_loss)
        if self.out:
            write_network(self.out, "decoder", half(self.part.networks["model"].state_dict()))


def run(work: Path, options: Any) -> None:
    """Train the decoder for `options.minutes_decoder`."""
    began, device = time.monotonic(), choose_device(options.device)
    kind = device.split(":")[0]
    torch.backends.cudnn.benchmark = True
    speech = Speech.awaited(work) if options.await_speech else Speech(work)
    feed = Feed(work, device, 2048, seed=1, speech=speech)
    sounds, snapshots = Sounds(work, speech, feed), Snapshots(work, device)
    say(f"sounds      {time.monotonic() - began:.1f} s")
    snapshots.wait()
    settings = DecoderConfig(
        enabled=True,
        fresh=True,
        max_steps=UNKNOWN_END,
        batch_size=BATCH[kind],
        learning_rate=options.rate or RATE,
        segment_codes=SEGMENT_CODES,
        latent_noise=LATENT_NOISE,
        discriminator_width=0,
        voice_weight=VOICE_WEIGHT,
    )
    # The convolutions have few channels, which bf16 does not make faster.
    training: Any = {"precision": "float32", "log_interval": 20 if kind == "cpu" else 200, "final_learning_rate": 0.02}
    config = PretrainConfig(
        checkpoint_dir=str(work), log_dir=str(work / "decoder_logs"), device=device, seed=1, training=training
    )
    torch.manual_seed(1)
    vocoder = build_vocoder(sizes.GPT["model_dim"], **sizes.DECODER)
    if options.begin_with:
        vocoder.load_state_dict(weights(options.begin_with, "decoder"))
    part = BaseDecoder(vocoder, feed, sounds, snapshots, settings)
    minutes = options.minutes_decoder - (time.monotonic() - began) / 60 if options.beside else options.minutes_decoder
    loop = DecoderLoop(part, config, minutes, options.out)
    loop.start()
    loop.fit()
    save_tensors(work / DECODER, {name: value.detach().cpu() for name, value in vocoder.state_dict().items()})
    note(work, "decoder", {"steps": loop.step, "minutes": round(minutes, 1), **part.validate(loop.tools)})
