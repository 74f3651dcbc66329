"""Trains the HiFi-GAN that turns the GPT's latents into speech: from the base's weights, or from nothing.

It learns on latents of the trained GPT, computed as `Xtts.inference` computes them but with the recording's own codes,
beside the recording at 24 kHz and the speaker embedding. First by spectral distances alone; from `discriminator_start`
on with HiFi-GAN's discriminators and feature matching too. Then the last checkpoint is the one to export, not the one
with the lowest spectral distance, which does not say how natural a voice sounds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from xtts_ka.core.config import DecoderConfig, PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.core.digests import file_digest, hash_value
from xtts_ka.core.errors import UserError
from xtts_ka.core.tensor_files import save_torch
from xtts_ka.corpus.audio import write_wav
from xtts_ka.corpus.excerpt import Recording
from xtts_ka.corpus.tables import Clip, read_split
from xtts_ka.model import geometry as g
from xtts_ka.model.discriminators import Discriminators, adversarial_loss, discriminator_loss, feature_loss
from xtts_ka.model.latents import SAMPLES_PER_LATENT, decode_latents, teacher_forced_latents
from xtts_ka.training.checkpoint_folders import part_folder
from xtts_ka.training.clip_pieces import PARTS, Arrays, ClipPieces, chosen_names, make_pieces
from xtts_ka.training.parts_loop import Batch, Part, Tools, crop_start, drawn, part_optimizer, train_part
from xtts_ka.training.process_group import ALONE, Peers
from xtts_ka.training.spectral_losses import SpectralLoss
from xtts_ka.training.voice_loss import VoiceLoss

if TYPE_CHECKING:
    from accelerate import Accelerator

    from xtts_ka.model.checkpoint import XttsFiles
    from xtts_ka.model.features import VoiceEncoder
    from xtts_ka.model.networks import GPT

LATENTS, WAVES, VOICES = "latents", "waves", "voices"  # the kinds in pieces; waves are int16
SPECTRAL_WEIGHT = 15.0  # of the spectral distances beside the discriminators' losses (HiFi-GAN: 45 on the mel alone)
FEATURE_WEIGHT = 2.0  # HiFi-GAN's
VAL_CLIPS = 64
SAMPLES = 4
_FULL_SCALE = 32767


class DecoderPart(Part):
    """The vocoder on pieces of latents.

    train: one or more collections of clips as `latent_pieces` makes them, of several GPT checkpoints perhaps; a step
    draws from all. A clip shorter than a piece is left out. speaker_encoder: needed where `voice_weight` is not 0.
    """

    name = "decoder"
    settings: DecoderConfig
    clip_norm = 1000.0  # BigVGAN's; these losses have gradients of some hundred, which 1 would make all alike

    def __init__(
        self,
        vocoder: nn.Module,
        train: Sequence[ClipPieces],
        val: ClipPieces,
        settings: DecoderConfig,
        seed: int,
        speaker_encoder: nn.Module | None = None,
    ):
        self.vocoder, self.settings, self.seed = vocoder, settings, seed
        self.train, self.val = [_long_enough(source, settings) for source in train], _long_enough(val, settings)
        self._clips = [(source, clip) for source in range(len(train)) for clip in self.train[source][1]]
        self._check(sum(float(source.lengths[WAVES].sum()) for source in train) / g.DECODER_RATE / 60)
        self.networks, self.optimizers = {"model": vocoder}, {"model": part_optimizer(vocoder, settings.learning_rate)}
        self.judges: Discriminators | None = None
        if settings.discriminator_width:
            self.judges = Discriminators(settings.discriminator_width)
            self.networks["discriminators"] = self.judges
            self.optimizers["discriminators"] = part_optimizer(self.judges, settings.learning_rate)
        self.best_by_loss = self.judges is None or settings.discriminator_start >= settings.max_steps
        self.spectral = SpectralLoss(g.DECODER_RATE)
        self.voice: VoiceLoss | None = None
        if settings.voice_weight:
            assert speaker_encoder, "decoder.voice_weight needs a speaker encoder"
            self.voice = VoiceLoss(speaker_encoder)

    def _check(self, minutes: float) -> None:
        settings, remedy = self.settings, "add recordings, or lower decoder.segment_codes"
        for what, clips in (("training", self._clips), ("validation", self.val[1])):
            if not len(clips):
                raise UserError(f"no {what} clip is {settings.segment_codes} audio codes long: {remedy}")
        if settings.discriminator_width and minutes < settings.discriminator_minutes:
            problem = f"{minutes:.1f} minutes of recordings are too few for discriminators, which learn them by heart"
            raise UserError(
                f"{problem} (decoder.discriminator_minutes is {settings.discriminator_minutes:g}): add recordings, or "
                "set decoder.discriminator_width to 0"
            )

    # ── what a step draws ──

    def batch(self, step: int, rank: int, world: int) -> Batch:
        places = drawn(len(self._clips), self.settings.batch_size, self.seed, step, rank, world)
        return self._cut([(self.train[self._clips[p][0]][0], epoch, self._clips[p][1]) for epoch, p in places])

    def _cut(self, clips: Iterable[tuple[ClipPieces, int, int]]) -> Batch:
        """Random pieces: latents (batch, codes, dim), waves (batch, samples), voices (batch, 512, 1)."""
        size, rows = self.settings.segment_codes, []
        samples = int(size * SAMPLES_PER_LATENT) // g.DECODER_HOP * g.DECODER_HOP  # of the vocoder's wave
        for source, epoch, clip in clips:
            start = crop_start(int(source.lengths[LATENTS][clip]), size, self.seed, epoch, clip)
            first = round(start * SAMPLES_PER_LATENT)
            wave = source.read(clip, WAVES, first, first + samples)
            rows.append((source.read(clip, LATENTS, start, start + size), wave, source.read(clip, VOICES)[0]))
        latents, waves, voices = zip(*rows)
        return {
            LATENTS: torch.from_numpy(np.stack(latents)).float(),
            WAVES: torch.from_numpy(np.stack(waves)).float() / _FULL_SCALE,
            VOICES: torch.from_numpy(np.stack(voices)).float()[..., None],
        }

    # ── one step ──

    def train_step(self, batch: Batch, step: int, tools: Tools) -> dict[str, Tensor]:
        true = batch[WAVES][:, None]
        latents = batch[LATENTS]
        if self.settings.latent_noise:
            latents = latents + self.settings.latent_noise * latents.std() * torch.randn_like(latents)
        with tools.autocast():
            made = decode_latents(self.vocoder, latents, batch[VOICES])
        made = made.float()
        metrics: dict[str, Tensor] = {}
        if self.judges and step >= self.settings.discriminator_start:
            metrics |= self._train_judges(self.judges, made.detach(), true, tools)
        mel, stft = self.spectral.to(tools.device)(made[:, 0], true[:, 0])
        loss = SPECTRAL_WEIGHT * (mel + stft)
        if metrics:
            loss = loss + self._judged(self.judges, made, true, tools)
        if self.voice:
            metrics["voice"] = self.voice.to(tools.device)(made[:, 0], true[:, 0])
            loss = loss + self.settings.voice_weight * metrics["voice"]
        norm = tools.step(self.vocoder, self.optimizers["model"], loss)
        return {"loss": mel + stft, "mel": mel, "stft": stft, "grad_norm": torch.tensor(norm), **metrics}

    def _train_judges(self, judges: Discriminators, made: Tensor, true: Tensor, tools: Tools) -> dict[str, Tensor]:
        with tools.autocast():
            loss = discriminator_loss(judges(true)[0], judges(made)[0])
        tools.step(judges, self.optimizers["discriminators"], loss)
        return {"discriminators": loss}

    def _judged(self, judges: Any, made: Tensor, true: Tensor, tools: Tools) -> Tensor:
        with tools.autocast():
            with torch.no_grad():
                _, wanted = judges(true)
            scores, features = judges(made)
            return adversarial_loss(scores) + FEATURE_WEIGHT * feature_loss(wanted, features)

    @torch.no_grad()
    def validate(self, tools: Tools) -> dict[str, float]:
        """The spectral distances on one piece of each validation clip."""
        source, clips = self.val
        clips, size, sums = clips[:VAL_CLIPS], self.settings.batch_size, np.zeros(2)
        for first in range(0, len(clips), size):
            share = clips[first : first + size]
            batch = tools.on_device(self._cut([(source, 0, clip) for clip in share]))
            with tools.autocast():
                made = decode_latents(self.vocoder, batch[LATENTS], batch[VOICES])
            distances = self.spectral.to(tools.device)(made[:, 0], batch[WAVES])
            sums += len(share) * np.array([float(distance) for distance in distances])
        mel, stft = (sums / len(clips)).tolist()
        return {"loss": mel + stft, "mel": mel, "stft": stft}


def _long_enough(source: ClipPieces, settings: DecoderConfig) -> tuple[ClipPieces, list[int]]:
    return source, np.flatnonzero(source.lengths[LATENTS] >= settings.segment_codes).tolist()


# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

Voice = Mapping[str, Tensor]  # as in the speaker table: gpt_cond_latent (1, 32, dim), speaker_embedding (1, 512, 1)


class SpokenClip(NamedTuple):
    """A clip whose latents are to be computed. tokens, codes: without start and stop; voice: None for its own."""

    path: Recording
    tokens: np.ndarray
    codes: np.ndarray
    voice: Voice | None


def latent_pieces(
    folder: Path, key: Any, clips: Sequence[SpokenClip], gpt: GPT, own_voice: Callable[[Recording], Voice]
) -> ClipPieces:
    """Latents, recording and voice of clips, for `DecoderPart`.

    key: what says that recordings, texts, codes and GPT are unchanged. gpt: on the device that computes. own_voice: the
    voice of a recording.
    """
    from xtts_ka.model.features import load_speech

    device = next(gpt.parameters()).device

    def make(batch: Sequence[SpokenClip]) -> list[Arrays]:
        voices = [own_voice(clip.path) if clip.voice is None else clip.voice for clip in batch]
        conditions = torch.cat([voice["gpt_cond_latent"].float() for voice in voices]).to(device)
        texts = [torch.from_numpy(clip.tokens.astype(np.int64)) for clip in batch]
        codes = [torch.from_numpy(clip.codes.astype(np.int64)) for clip in batch]
        return [
            {
                LATENTS: row.cpu().half().numpy(),
                WAVES: _wave(load_speech(clip.path, g.MAX_SPEECH_SECONDS, g.DECODER_RATE)[0], len(row)),
                VOICES: voice["speaker_embedding"].float().reshape(1, g.SPEAKER_WIDTH).numpy(),
            }
            for clip, row, voice in zip(batch, teacher_forced_latents(gpt, conditions, texts, codes), voices)
        ]

    return make_pieces(folder, key, clips, make, LATENTS)


def _wave(speech: Tensor, latents: int) -> np.ndarray:
    """The wave that so many latents stand for, int16: with silence behind its end."""
    whole = np.zeros(round(latents * SAMPLES_PER_LATENT), np.int16)
    samples = (speech.clip(-1, 1) * _FULL_SCALE).round().short().numpy()[: len(whole)]
    whole[: len(samples)] = samples
    return whole


def gpt_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the GPT's weights in an XTTS's, whatever decoder stands beside them."""
    digest = hashlib.sha256()
    for name in sorted(name for name in state if name.startswith("gpt.")):
        digest.update(name.encode())
        digest.update(state[name].contiguous().numpy().data)
    return digest.hexdigest()


# ── the stage ────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_decoder_stage(
    config: PretrainConfig, data: Any, accelerator: Accelerator, peers: Peers = ALONE
) -> dict[str, Any]:
    """Train on the exported GPT's latents; write `decoder.pth` and put the decoder into the exported model.

    data: the `data_loader.DataManager` of the GPT's training, whose tokens and codes are used.
    """
    from xtts_ka.model.checkpoint import load_speaker_encoder, load_vocoder, read_model
    from xtts_ka.model.narrow import expanded, slim_speaker_encoder, slim_vocoder
    from xtts_ka.model.networks import build_vocoder
    from xtts_ka.training.export import replace_decoder

    out, settings = Path(config.output_model_path), config.decoder
    exported = read_model(out, "train the GPT first, with: python run_pretrain.py")
    base = read_model(config.base_model_path)
    whole = build_vocoder(base.config.model_args.decoder_input_dim) if settings.fresh else load_vocoder(base)
    vocoder = whole if settings.fresh else slim_vocoder(whole)
    with peers.main_first(LATENTS):
        pieces = {split: _latents(config, data, split, exported, str(accelerator.device)) for split in ("train", "val")}
    voices = slim_speaker_encoder(load_speaker_encoder(exported)) if settings.voice_weight else None
    part = DecoderPart(vocoder, [pieces["train"]], pieces["val"], settings, config.seed, voices)
    facts = [file_digest(base.folder / "model.pth"), pieces["train"].folder.name, settings.fresh]
    if vocoder is not whole:
        facts.append("narrow")  # checkpoints of the whole network do not fit
    chosen = train_part(part, config, hash_value([*facts, settings.discriminator_width])[:16], accelerator, peers)
    if not peers.is_main:
        return {}
    vocoder.load_state_dict(chosen.weights())
    trained = expanded(vocoder.cpu().state_dict(), whole.cpu())
    save_torch(out / "decoder.pth", trained)
    replace_decoder(out, exported, trained)
    say(f"decoder     step {chosen.step} is now in {out / 'model.pth'}")
    folder = part_folder(config.log_dir, part.name) / "samples"
    write_samples(folder, vocoder.eval(), pieces["val"])
    say(f"            listen: {folder} holds validation clips as recorded and as it makes them of the GPT's latents")
    return {"step": chosen.step, "val_loss": chosen.val_loss, "train_clips": len(pieces["train"])}


@torch.no_grad()
def write_samples(folder: Path, vocoder: nn.Module, clips: ClipPieces) -> None:
    """Write SAMPLES clips as `N_recorded.wav` and as the vocoder makes them, `N_decoded.wav`, at 24 kHz."""
    for clip in range(min(SAMPLES, len(clips))):
        latents = torch.from_numpy(clips.read(clip, LATENTS)).float()[None]
        voice = torch.from_numpy(clips.read(clip, VOICES)).float()[..., None]
        recorded = clips.read(clip, WAVES).astype(np.float32) / _FULL_SCALE
        write_wav(folder / f"{clip}_recorded.wav", recorded, g.DECODER_RATE)
        write_wav(
            folder / f"{clip}_decoded.wav", decode_latents(vocoder, latents, voice).flatten().numpy(), g.DECODER_RATE
        )


def _latents(config: PretrainConfig, data: Any, split: str, exported: XttsFiles, device: str) -> ClipPieces:
    """Latents of at most `decoder.clips` clips of a split, chosen by a hash of their ids."""
    from xtts_ka.model.checkpoint import load_gpt
    from xtts_ka.model.speakers import read_speakers

    index, cache = getattr(data, split).index, data.train.cache
    places = {index.file_id(place): place for place in range(len(index))}
    chosen = chosen_names(places, config.decoder.clips if split == "train" else VAL_CLIPS)
    table = {clip.file_id: clip for clip in read_split(config.data_dir, split) if clip.file_id in places}
    speakers = read_speakers(exported.folder / "speakers_xtts.pth")

    def spoken(clip: Clip) -> SpokenClip:
        place = places[clip.file_id]
        voice = speakers.get(clip.speaker_id) if clip.speaker_known else None
        return SpokenClip(clip.sound, index.text(place), cache.read(index.records[place], clip.file_id)[0], voice)

    key = [index.folder.name, chosen, gpt_digest(exported.state)]
    clips = [spoken(table[name]) for name in chosen]
    folder = Path(config.data_dir) / PARTS / f"{LATENTS}_{split}"
    return latent_pieces(folder, key, clips, load_gpt(exported).to(device).eval(), _OwnVoice(exported, device))


class _OwnVoice:
    """The voice of a recording by itself; the encoder is built for the first one, since most corpora need none."""

    def __init__(self, exported: XttsFiles, device: str):
        self._exported, self._device = exported, device
        self._encoder: VoiceEncoder | None = None

    def __call__(self, path: Recording) -> Voice:
        from xtts_ka.model.features import VoiceEncoder, load_speech

        self._encoder = self._encoder or VoiceEncoder(self._exported.config, self._exported.state, self._device)
        speech = load_speech(path, g.MAX_SPEECH_SECONDS)
        latent, embedding = self._encoder.cond_latent(speech), self._encoder.speaker_embedding(speech)
        return {"gpt_cond_latent": latent, "speaker_embedding": embedding}
