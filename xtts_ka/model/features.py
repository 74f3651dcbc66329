"""Audio codes, mel spectrograms and voices of recordings, computed as coqui computes them."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torchaudio
from torch import Tensor, nn
from TTS.tts.configs.xtts_config import XttsConfig
from TTS.tts.layers.tortoise.arch_utils import TorchMelSpectrogram
from TTS.tts.models.xtts import Xtts

from xtts_ka.core.errors import UserError
from xtts_ka.core.tensor_files import load_torch
from xtts_ka.corpus.audio import read_mono
from xtts_ka.model.checkpoint import extended_config, filling, restore_advice
from xtts_ka.model.geometry import MEL_HOP, SAMPLE_RATE, code_count
from xtts_ka.model.networks import build_dvae

REFLECTED = (
    1024  # samples by which a clip is reflected at its ends for its first and last mel frames; it must be longer
)


def load_speech(path: Path | str, max_seconds: float | None = None) -> Tensor:
    """Read a recording as float32 (1, samples) at 22,050 Hz, mixed to mono and clipped to ±1 as coqui's loader does."""
    samples, rate = read_mono(path, max_seconds)
    if rate // math.gcd(rate, SAMPLE_RATE) > 1000:  # torchaudio's filter bank for such a ratio would take gigabytes
        from scipy.signal import resample_poly

        samples = resample_poly(samples, SAMPLE_RATE, rate).astype("float32")
        rate = SAMPLE_RATE
    return torchaudio.functional.resample(torch.from_numpy(samples)[None], rate, SAMPLE_RATE).clip(-1, 1)


class VoiceEncoder:
    """What XTTS knows of a voice: the speaker embedding (for the decoder) and the conditioning latents (for the GPT)."""

    def __init__(self, config: XttsConfig, state: dict[str, Tensor], device: str = "cpu"):
        self._xtts = Xtts(extended_config(config, "ka", state["gpt.text_embedding.weight"].shape[0]))
        with filling("the model.pth that voices are computed with"):
            self._xtts.load_state_dict(state, strict=True)
        self._xtts.train(False)  # not .eval(): coqui's builds the generation wrapper there
        self._xtts.to(device)

    def speaker_embedding(self, speech: Tensor) -> Tensor:
        """(1, samples) at 22,050 Hz → (1, 512, 1) float32 of unit length."""
        return self._xtts.get_speaker_embedding(speech, SAMPLE_RATE).float().cpu()

    def cond_latent(self, speech: Tensor) -> Tensor:
        """(1, samples) at 22,050 Hz, a third of a second or more → (1, 32, model_dim) float32."""
        return self._xtts.get_gpt_cond_latents(speech, SAMPLE_RATE).float().cpu()


class FeatureExtractor:
    """DVAE codes and conditioning mels of recordings, batched, each clip exactly as if it were alone.

    In a padded batch a clip's end would depend on the company: its last mel frames would hear the padding where alone
    they hear the clip's own reflection, and a convolution would see its neighbour's. So each clip is reflected at its own
    ends before the batch is filled up, and all behind its end is zeroed before every convolution.
    """

    def __init__(self, folder: Path, config: XttsConfig, device: str = "cpu"):
        remedy = restore_advice(folder)
        mel_stats, weights = (load_torch(folder / name, remedy=remedy) for name in ("mel_stats.pth", "dvae.pth"))
        if not isinstance(mel_stats, Tensor) or mel_stats.shape != (80,):
            raise UserError(f"{folder / 'mel_stats.pth'} must hold one tensor of 80 numbers: {remedy}")
        self.dvae = build_dvae(config.model_args.gpt_num_audio_tokens - 2)
        wanted = {k: v for k, v in self.dvae.state_dict().items() if k.startswith(("encoder.", "codebook."))}
        if not isinstance(weights, dict) or any(
            getattr(weights.get(k), "shape", None) != v.shape for k, v in wanted.items()
        ):
            raise UserError(f"{folder / 'dvae.pth'} is not the DVAE of this XTTS: {remedy}")
        self.dvae.load_state_dict(weights, strict=False)
        self.dvae.eval().to(device)
        rate = {"mel_norm_file": str(folder / "mel_stats.pth"), "sampling_rate": SAMPLE_RATE}
        self._dvae_mel = TorchMelSpectrogram(**rate).to(device)
        self._style_mel = TorchMelSpectrogram(
            filter_length=2 * REFLECTED,
            hop_length=MEL_HOP,
            win_length=1024,
            normalize=False,
            mel_fmin=0,
            mel_fmax=8000,
            n_mel_channels=80,
            **rate,
        ).to(device)
        for mel in (self._dvae_mel, self._style_mel):
            mel.mel_stft.spectrogram.center = False  # clips come reflected
        self.device = device

    @torch.inference_mode()
    def __call__(self, clips: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """For each clip at 22,050 Hz, (1, samples) with samples > REFLECTED: its codes (int64, (code_count,)) and mel
        (float32, (80, frames))."""
        waves = self._reflected(clips)
        mels = self._style_mel(waves).cpu()
        codes = self.dvae.codebook(self._encoded(waves, clips))[1].cpu()
        return [
            (row[: code_count(clip.shape[1])], mel[:, : clip.shape[1] // MEL_HOP + 1])
            for row, mel, clip in zip(codes, mels, clips)
        ]

    @torch.inference_mode()
    def vectors(self, clips: list[Tensor]) -> list[Tensor]:
        """What becomes each clip's codes, before it is quantised: (codes, 512)."""
        return [
            row[: code_count(clip.shape[1])].cpu()
            for row, clip in zip(self._encoded(self._reflected(clips), clips), clips)
        ]

    def _reflected(self, clips: list[Tensor]) -> Tensor:
        waves = [nn.functional.pad(clip, (REFLECTED, REFLECTED), mode="reflect")[0] for clip in clips]
        return nn.utils.rnn.pad_sequence(waves, batch_first=True).to(self.device)

    def _encoded(self, waves: Tensor, clips: list[Tensor]) -> Tensor:
        """(batch, codes, 512) of reflected waves, what stands behind a clip's end unheard."""
        frames = torch.tensor([clip.shape[1] // MEL_HOP + 1 for clip in clips], device=self.device)
        shorter = REFLECTED - self._dvae_mel.filter_length // 2  # the DVAE's windows reach less far
        mels = self._dvae_mel(waves[:, shorter:])[:, :, : int(frames.max())]
        return _convolve(self.dvae.encoder, mels, frames)[0].transpose(1, 2)


def _convolve(layer: nn.Module, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Run a DVAE encoder layer on (batch, channels, time), silence kept silent behind each row's `lengths`."""
    if isinstance(layer, nn.Sequential):
        for part in layer:
            x, lengths = _convolve(part, x, lengths)
        return x, lengths
    if isinstance(layer, nn.Conv1d):
        inside = torch.arange(x.shape[2], device=x.device) < lengths[:, None]
        (stride,) = layer.stride
        return layer(x * inside[:, None]), (lengths + stride - 1) // stride
    if hasattr(layer, "net"):  # coqui's ResBlock
        return _convolve(layer.net, x, lengths)[0] + x, lengths
    return layer(x), lengths
