"""coqui's own GPTTrainer on our base model: the reference that tests and benchmarks compare with."""

from __future__ import annotations

import torch

from xtts_ka.model.checkpoint import XttsFiles
from xtts_ka.model.features import load_speech

_SHARED = (
    "gpt_layers",
    "gpt_n_model_channels",
    "gpt_n_heads",
    "decoder_input_dim",
    "gpt_num_audio_tokens",
    "gpt_start_audio_token",
    "gpt_stop_audio_token",
    "gpt_use_perceiver_resampler",
)


def build(model: XttsFiles, vocab_file: str, *, dropout: bool, **settings):
    """A GPTTrainer with `model`'s weights. Importing it sets torch to one thread; the caller's number is kept.

    coqui reads audio with torchcodec, which needs FFmpeg's libraries; here it reads with soundfile, as we do.
    """
    threads = torch.get_num_threads()
    from TTS.tts.configs.xtts_config import XttsAudioConfig
    from TTS.tts.layers.xtts.trainer import dataset
    from TTS.tts.layers.xtts.trainer.gpt_trainer import GPTArgs, GPTTrainer, GPTTrainerConfig

    torch.set_num_threads(threads)
    dataset.load_audio = lambda path, rate: load_speech(path)
    args = GPTArgs(
        **{name: getattr(model.config.model_args, name) for name in _SHARED},
        tokenizer_file=vocab_file,
        mel_norm_file=str(model.folder / "mel_stats.pth"),
        dvae_checkpoint=str(model.folder / "dvae.pth"),
        **settings,
    )
    trainer = GPTTrainer(
        GPTTrainerConfig(
            audio=XttsAudioConfig(),
            model_args=args,
            optimizer="AdamW",
            optimizer_params={"betas": [0.9, 0.96], "eps": 1e-8, "weight_decay": 1e-2},
            optimizer_wd_only_on_weights=True,
            languages=[*model.config.languages, "ka"],
        )
    )
    trainer.xtts.gpt.load_state_dict(model.gpt_state())
    trainer.eval()
    trainer.xtts.gpt.train()
    for module in trainer.xtts.gpt.modules():
        if isinstance(module, torch.nn.Dropout) and not dropout:
            module.p = 0.0
    return trainer
