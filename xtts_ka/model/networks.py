"""Builds coqui's networks: GPT, DVAE, and a whole XTTS, small ones too."""

from __future__ import annotations

from TTS.tts.configs.xtts_config import XttsArgs, XttsConfig
from TTS.tts.layers.xtts.dvae import DiscreteVAE
from TTS.tts.layers.xtts.gpt import GPT
from TTS.tts.models.xtts import Xtts


def build_gpt(config: XttsConfig, text_rows: int) -> GPT:
    """A fresh coqui GPT of this geometry with `text_rows` text tokens, randomly initialised by coqui."""
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


def build_xtts(config: XttsConfig) -> Xtts:
    """A fresh coqui Xtts (GPT, HiFi-GAN decoder, speaker encoder), randomly initialised by coqui."""
    return Xtts(config)


def tiny_config(layers: int, model_dim: int, heads: int, text_rows: int) -> XttsConfig:
    """XTTS-v2's config at another GPT size; everything that is not size is as in the released model."""
    return XttsConfig(
        model_args=XttsArgs(
            gpt_layers=layers,
            gpt_n_model_channels=model_dim,
            gpt_n_heads=heads,
            decoder_input_dim=model_dim,
            gpt_number_text_tokens=text_rows,
            gpt_start_text_token=261,
            gpt_stop_text_token=0,
            gpt_num_audio_tokens=1026,
            gpt_start_audio_token=1024,
            gpt_stop_audio_token=1025,
            gpt_use_masking_gt_prompt_approach=True,
            gpt_use_perceiver_resampler=True,
        )
    )


def build_dvae(codes: int) -> DiscreteVAE:
    """XTTS's DVAE geometry, as coqui's GPTTrainer builds it, with `codes` codebook entries."""
    return DiscreteVAE(
        channels=80,
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
