"""Computes audio codes, mel spectrograms and voices of recordings, as coqui computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from TTS.tts.configs.xtts_config import XttsConfig
from TTS.tts.layers.tortoise.arch_utils import TorchMelSpectrogram
from TTS.tts.layers.xtts.dvae import DiscreteVAE
from TTS.tts.models.xtts import Xtts

from xtts_ka.core.console import warn
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.core.out_of_memory import in_pieces, is_out_of_memory, release
from xtts_ka.core.tensor_files import load_torch
from xtts_ka.corpus.audio import read_mono
from xtts_ka.corpus.excerpt import Recording
from xtts_ka.corpus.resampling import resampled
from xtts_ka.model import geometry as g
from xtts_ka.model.checkpoint import extended_config, loading, restore_advice
from xtts_ka.model.narrow import slim_dvae, slim_speaker_encoder
from xtts_ka.model.networks import build_dvae

STYLE_FFT = 2048  # samples, of coqui's conditioning mel; the DVAE's mel has 1,024
REFLECTED = STYLE_FFT // 2  # samples of reflection before and after a clip; the clip itself must be longer
_FREE = "close other programs that use memory"
Result = TypeVar("Result")


def load_speech(path: Recording, max_seconds: float | None = None, rate: int = g.SAMPLE_RATE) -> Tensor:
    """Read a recording, or an excerpt of one, as float32 (1, samples) at `rate`.

    It is mixed to mono and clipped to ±1 as coqui's loader does.
    """
    samples, recorded = read_mono(path, max_seconds)
    return torch.from_numpy(resampled(samples, recorded, rate))[None].clip(-1, 1)


class VoiceEncoder:
    """Computes the two things that XTTS knows of a voice: the speaker embedding and the conditioning latents."""

    def __init__(self, config: XttsConfig, state: dict[str, Tensor], device: str = "cpu"):
        self._xtts = Xtts(extended_config(config, "ka", state["gpt.text_embedding.weight"].shape[0]))
        with loading("the model.pth that voices are computed with"):
            self._xtts.load_state_dict(state, strict=True)
        self._xtts.train(False)  # not .eval(), in which coqui builds the GPT's generation wrapper
        decoder = self._xtts.hifigan_decoder
        decoder.speaker_encoder = slim_speaker_encoder(decoder.speaker_encoder)
        self._device = device
        self._on_device_or_cpu(lambda: self._xtts.to(self._device))

    @classmethod
    def of(cls, xtts: Xtts) -> VoiceEncoder:
        """The voice encoder of a model that is loaded already."""
        encoder = cls.__new__(cls)
        encoder._xtts, encoder._device = xtts, str(next(xtts.parameters()).device)
        return encoder

    def speaker_embedding(self, speech: Tensor) -> Tensor:
        """(1, samples) at 22,050 Hz → (1, 512, 1) float32 of unit length: the decoder's input."""
        return self._on_device_or_cpu(lambda: self._xtts.get_speaker_embedding(speech, g.SAMPLE_RATE).float().cpu())

    def cond_latent(self, speech: Tensor) -> Tensor:
        """(1, samples) at 22,050 Hz, 0.33 s or more → (1, 32, model_dim) float32: the GPT's first positions."""
        return self._on_device_or_cpu(lambda: self._xtts.get_gpt_cond_latents(speech, g.SAMPLE_RATE).float().cpu())

    def _on_device_or_cpu(self, work: Callable[[], Result]) -> Result:
        """Do `work`; once the GPU's memory is too small for it, on the CPU. coqui cuts the speech into 6 s already."""
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if self._device.startswith("cpu"):
                raise RunError(f"out of memory while computing voices: {_FREE}, then run the same command") from error
        warn("out of GPU memory while computing voices: the CPU computes them, which is slower and gives the same")
        release()
        self._device = "cpu"
        self._xtts.to(self._device)
        return work()


class FeatureExtractor:
    """Computes DVAE codes and conditioning mels of clips in batches, each clip's result as if it were alone.

    Padding a batch with zeros would change the end of every shorter clip: its last mel frames would contain zeros where
    coqui reflects the clip, and the DVAE's convolutions would mix in what stands behind its end. So each clip is
    reflected at its own ends before the batch is padded, and everything behind its end is set to zero before every
    convolution.
    """

    def __init__(self, folder: Path, config: XttsConfig, device: str = "cpu", dvae: Path | None = None):
        """dvae: a file of another DVAE than the folder's `dvae.pth`."""
        read_mel_stats(folder / "mel_stats.pth")
        self.dvae = slim_dvae(load_dvae(dvae or folder / "dvae.pth", config)).eval().to(device)
        self._dvae_mel, self._style_mel = (
            TorchMelSpectrogram(
                filter_length=fft, sampling_rate=g.SAMPLE_RATE, mel_norm_file=str(folder / "mel_stats.pth")
            ).to(device)
            for fft in (g.MEL_WINDOW, STYLE_FFT)
        )
        for mel in (self._dvae_mel, self._style_mel):
            mel.mel_stft.spectrogram.center = False  # the clips are reflected already
        self.device = device

    def __call__(self, clips: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Codes (int64, (codes,)) and conditioning mel (float32, (80, frames)) of each clip.

        clips: (1, samples) each at 22,050 Hz, with samples > REFLECTED. Where memory runs out, fewer at a time.
        """
        problem = "out of memory while computing codes and mels, even of a single clip"
        remedy = _FREE if self.device == "cpu" else f"{_FREE}, or set device to cpu"
        return list(chain.from_iterable(in_pieces(self._features, clips, problem, remedy)))

    @torch.inference_mode()
    def _features(self, clips: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        waves = self._reflected(clips)
        mels = self._style_mel(waves).cpu()
        codes = self.dvae.codebook(self._encoded(waves, clips))[1].cpu()
        return [
            (row[: g.codes_of(clip.shape[1])], mel[:, : g.frames_of(clip.shape[1])])
            for row, mel, clip in zip(codes, mels, clips)
        ]

    @torch.inference_mode()
    def vectors(self, clips: list[Tensor]) -> list[Tensor]:
        """The DVAE encoder's output for each clip before it is quantised: (codes, codebook's width)."""
        encoded = self._encoded(self._reflected(clips), clips)
        return [row[: g.codes_of(clip.shape[1])].cpu() for row, clip in zip(encoded, clips)]

    def _reflected(self, clips: Sequence[Tensor]) -> Tensor:
        waves = [nn.functional.pad(clip, (REFLECTED, REFLECTED), mode="reflect")[0] for clip in clips]
        return nn.utils.rnn.pad_sequence(waves, batch_first=True).to(self.device)

    def _encoded(self, waves: Tensor, clips: Sequence[Tensor]) -> Tensor:
        """(batch, codes, codebook's width) of reflected waves; nothing behind a clip's end takes part."""
        frames = torch.tensor([g.frames_of(clip.shape[1]) for clip in clips], device=self.device)
        surplus = REFLECTED - g.MEL_WINDOW // 2  # the DVAE's mel windows are shorter
        mels = self._dvae_mel(waves[:, surplus:])[:, :, : int(frames.max())]
        return _convolve(self.dvae.encoder, mels, frames)[0].transpose(1, 2)


def read_mel_stats(path: Path) -> Tensor:
    """What XTTS divides the log-mel of each band by, (80,)."""
    remedy = restore_advice(path.parent)
    mel_stats = load_torch(path, remedy=remedy)
    if not isinstance(mel_stats, Tensor) or mel_stats.shape != (g.MEL_BANDS,):
        raise UserError(f"{path} must hold one tensor of {g.MEL_BANDS} numbers: {remedy}")
    return mel_stats


def load_dvae(path: Path, config: XttsConfig, side: str = "encoder") -> DiscreteVAE:
    """The DVAE in a `dvae.pth`; UserError where its codebook or this side ("decoder") is not of XTTS's geometry."""
    remedy = restore_advice(path.parent)
    weights = load_torch(path, remedy=remedy)
    dvae = build_dvae(config.model_args.gpt_num_audio_tokens - 2)
    wanted = {k: v.shape for k, v in dvae.state_dict().items() if k.startswith((f"{side}.", "codebook."))}
    if not isinstance(weights, dict) or any(getattr(weights.get(k), "shape", None) != v for k, v in wanted.items()):
        raise UserError(f"{path} is not the DVAE of this XTTS: {remedy}")
    dvae.load_state_dict(weights, strict=False)
    return dvae


@torch.inference_mode()
def dvae_mels(clips: Sequence[Tensor], mel_stats: Path, device: str = "cpu") -> list[Tensor]:
    """The mels that the DVAE takes in, float32 (80, frames) of each clip (1, samples) at 22,050 Hz, on the CPU."""
    mel = TorchMelSpectrogram(filter_length=g.MEL_WINDOW, sampling_rate=g.SAMPLE_RATE, mel_norm_file=str(mel_stats)).to(
        device
    )
    return [mel(clip.to(device))[0].cpu() for clip in clips]


def _convolve(layer: nn.Module, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Run a DVAE encoder layer on (batch, channels, time), with zeros behind each row's length at every convolution."""
    if isinstance(layer, nn.Sequential):
        for part in layer:
            x, lengths = _convolve(part, x, lengths)
        return x, lengths
    if isinstance(layer, nn.Conv1d):
        inside = torch.arange(x.shape[2], device=x.device) < lengths[:, None]
        (stride,) = layer.stride
        return layer(x * inside[:, None]), (lengths + stride - 1) // stride
    if isinstance(residual := getattr(layer, "net", None), nn.Module):  # coqui's ResBlock
        return _convolve(residual, x, lengths)[0] + x, lengths
    return layer(x), lengths
