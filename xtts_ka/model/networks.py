"""Builds coqui's networks, of any size: the GPT and the DVAE."""

from __future__ import annotations

import logging

from TTS.tts.configs.xtts_config import XttsArgs, XttsConfig
from TTS.tts.layers.xtts.dvae import DiscreteVAE
from TTS.tts.layers.xtts.gpt import GPT

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


def build_dvae(codes: int) -> DiscreteVAE:
    """XTTS's DVAE with `codes` codebook entries and random weights; the geometry is that of coqui's GPTTrainer."""
    return DiscreteVAE(
        channels=g.MEL_BANDS,
        normalization=None,
        positional_dims=1,
        num_tokens=codes,
        codebook_dim=512,
        hidden_dim=512,
        num_resnet_blocks=3,
        kernel_size=3,
        num_layers=2,
        use_transposed_convs=False,
    )
