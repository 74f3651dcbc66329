"""Builds coqui's networks, of any size: the GPT, the DVAE, the HiFi-GAN decoder and the speaker encoder."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import nn
from TTS.encoder.models.resnet import ResNetSpeakerEncoder
from TTS.tts.configs.xtts_config import XttsArgs, XttsConfig
from TTS.tts.layers.xtts.dvae import DiscreteVAE
from TTS.tts.layers.xtts.gpt import GPT
from TTS.vocoder.models.hifigan_generator import HifiganGenerator, ResBlock1

from xtts_ka.model import geometry as g

logging.getLogger("transformers").setLevel(logging.ERROR)  # GPT2Config warns about token ids that XTTS never uses


def build_gpt(config: XttsConfig, text_rows: int) -> GPT:
    """A GPT of this geometry with `text_rows` text tokens and coqui's random initial weights."""
    args = config.model_args
    return GPT(
        layers=args.gpt_layers,
        model_dim=args.gpt_n_model_channels,
        heads=args.gpt_n_heads,
        start_text_token=args.gpt_start_text_token,
        stop_text_token=args.gpt_stop_text_token,
        max_text_tokens=args.gpt_max_text_tokens,
        max_mel_tokens=args.gpt_max_audio_tokens,
        max_prompt_tokens=args.gpt_max_prompt_tokens,
        number_text_tokens=text_rows,
        num_audio_tokens=args.gpt_num_audio_tokens,
        start_audio_token=args.gpt_start_audio_token,
        stop_audio_token=args.gpt_stop_audio_token,
        use_perceiver_resampler=args.gpt_use_perceiver_resampler,
        code_stride_len=args.gpt_code_stride_len,
    )


def tiny_config(layers: int, model_dim: int, heads: int, text_rows: int) -> XttsConfig:
    """XTTS-v2's config with another size of GPT; all else is as in the released model."""
    return XttsConfig(
        model_args=XttsArgs(
            gpt_layers=layers,
            gpt_n_model_channels=model_dim,
            gpt_n_heads=heads,
            decoder_input_dim=model_dim,
            gpt_number_text_tokens=text_rows,
            gpt_start_text_token=g.START_TEXT_TOKEN,
            gpt_stop_text_token=g.STOP_TEXT_TOKEN,
            gpt_num_audio_tokens=g.STOP_AUDIO_TOKEN + 1,
            gpt_start_audio_token=g.START_AUDIO_TOKEN,
            gpt_stop_audio_token=g.STOP_AUDIO_TOKEN,
            gpt_use_perceiver_resampler=True,
        )
    )


def build_dvae(codes: int, hidden: int = 512, codebook_dim: int = 512) -> DiscreteVAE:
    """XTTS's DVAE with `codes` codebook entries and random weights; the geometry is that of coqui's GPTTrainer.

    hidden, codebook_dim: of a narrow DVAE, fewer (see `narrow.py`).
    """
    return DiscreteVAE(
        channels=g.MEL_BANDS,
        normalization=None,
        positional_dims=1,
        num_tokens=codes,
        codebook_dim=codebook_dim,
        hidden_dim=hidden,
        num_resnet_blocks=3,
        kernel_size=3,
        num_layers=2,
        use_transposed_convs=False,
    )


DECODER_WIDTHS = (512, 256, 128, 64, 32)  # channels of the released HiFi-GAN: before and after each upsampling
DECODER_KERNELS = (3, 7, 11)  # of the residual blocks behind each upsampling
_UPSAMPLING = ((8, 16), (8, 16), (2, 4), (2, 4))  # rate, kernel
_DILATIONS = (1, 3, 5)
SPEAKER_FILTERS = (32, 64, 128, 256)  # channels of the released speaker encoder's four stages


def build_vocoder(
    inputs: int, widths: Sequence[int] = DECODER_WIDTHS, kernels: Sequence[int] = DECODER_KERNELS
) -> HifiganGenerator:
    """The HiFi-GAN of XTTS's decoder: latents (batch, inputs, frames) and a voice (batch, 512, 1) → wave.

    widths: channels before and after each of the four upsamplings, which need not halve. kernels: of the residual
    blocks; where there are fewer than three, the others pass their input through, which is what a block of the released
    geometry does whose weights are zero.
    """
    network = HifiganGenerator(
        in_channels=inputs,
        out_channels=1,
        resblock_type="1",
        resblock_dilation_sizes=[list(_DILATIONS)] * len(DECODER_KERNELS),
        resblock_kernel_sizes=list(DECODER_KERNELS),
        upsample_kernel_sizes=[kernel for _, kernel in _UPSAMPLING],
        upsample_initial_channel=16,  # every layer is replaced below: coqui can only halve the width
        upsample_factors=[rate for rate, _ in _UPSAMPLING],
        inference_padding=0,
        cond_channels=g.SPEAKER_WIDTH,
        conv_pre_weight_norm=False,
        conv_post_weight_norm=False,
        conv_post_bias=False,
        cond_in_each_up_layer=True,
    )
    norm = nn.utils.parametrizations.weight_norm
    network.conv_pre = nn.Conv1d(inputs, widths[0], 7, padding=3)
    network.cond_layer = nn.Conv1d(g.SPEAKER_WIDTH, widths[0], 1)
    network.conv_post = nn.Conv1d(widths[-1], 1, 7, padding=3, bias=False)
    for place, (wide, (rate, kernel), narrow) in enumerate(zip(widths, _UPSAMPLING, widths[1:])):
        network.ups[place] = norm(nn.ConvTranspose1d(wide, narrow, kernel, rate, padding=(kernel - rate) // 2))
        network.conds[place] = nn.Conv1d(g.SPEAKER_WIDTH, narrow, 1)
        for block in range(len(DECODER_KERNELS)):
            there = block < len(kernels)
            layer = ResBlock1(narrow, kernels[block], _DILATIONS) if there else nn.Identity()
            network.resblocks[place * len(DECODER_KERNELS) + block] = layer
    return network


def build_speaker_encoder(filters: Sequence[int] = SPEAKER_FILTERS) -> ResNetSpeakerEncoder:
    """XTTS's speaker encoder: a wave at 16 kHz (batch, samples) → (batch, 512). filters: channels of its stages."""
    return ResNetSpeakerEncoder(
        input_dim=64,
        proj_dim=g.SPEAKER_WIDTH,
        num_filters=list(filters),
        log_input=True,
        use_torch_spec=True,
        audio_config={
            "fft_size": 512,
            "win_length": 400,
            "hop_length": 160,
            "sample_rate": g.SPEAKER_RATE,
            "preemphasis": 0.97,
            "num_mels": 64,
        },
    )
