"""A small untrained base model in XTTS-v2's file layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xtts_ka.core.config import STARTER_MARK, StarterConfig
from xtts_ka.core.files import atomic_folder, write_json
from xtts_ka.core.tensor_files import save_torch
from xtts_ka.model.checkpoint import Xtts, write_model
from xtts_ka.model.codebook import k_means
from xtts_ka.model.features import FeatureExtractor, load_speech
from xtts_ka.model.geometry import MEL_BANDS, MEL_HOP, MEL_TOP, MEL_WINDOW, SAMPLE_RATE
from xtts_ka.model.narrow import expanded
from xtts_ka.model.networks import build_dvae, build_speaker_encoder, build_vocoder, tiny_config

# Its DVAE, speaker encoder and decoder have as few channels as this, and zeros in all others.
_DVAE = {"hidden": 64, "codebook_dim": 64}
_SPEAKER_FILTERS = (8, 16, 32, 64)
_DECODER_WIDTHS = (64, 32, 16, 8, 8)

# The ids of the released vocabulary; [STOP] and [START] must be 0 and 261.
_SPECIAL_IDS = """
    [STOP] 0  [UNK] 1  [SPACE] 2  [en] 259  [de] 260  [START] 261  [fr] 262  [ru] 267  [es] 284  [it] 285  [pt] 286
    [cs] 293  [pl] 294  [tr] 295  [nl] 297  [ar] 401  [zh-cn] 402  [hu] 404  [ko] 405  [ja] 408  [hi] 409
""".split()
_SPECIAL = dict(zip(_SPECIAL_IDS[::2], map(int, _SPECIAL_IDS[1::2])))
_LETTERS = "!'(),-.:;?abcdefghijklmnopqrstuvwxyzáäéíñóöúüçßабвгдежзийклмнопрстуфхцчшщъыьэюя"
# More letters of the ten languages of the trained stand-in (recipes/starter_base). New ones go to the end: ids stay.
_MORE_LETTERS = "àèìòùêëïâôãõąćęłńśźżčďěňřšťůýžőűçğışё¿¡" + "".join(
    map(chr, [*range(0x901, 0x904), *range(0x905, 0x93A)])
)
_MORE_LETTERS += "".join(map(chr, range(0x93C, 0x94E)))
_MERGES = (
    "t h,i n,th e,a n,e r,o u,s t,i n,s h,c h,k h,g h,t s,d z,z h,e n,r e,o n,a l,a r,i s,e s,с т,н о,о в,t h,in g,"
    "an d,q u,e i"
).split(",")


def starter_vocabulary() -> dict[str, Any]:
    """A tokenizer in XTTS's form with its oddities: gaps in the ids, languages between letters, merges listed twice."""
    vocab = dict(_SPECIAL)
    free = (i for i in range(3, 400) if i not in _SPECIAL.values() and i % 29)  # every 29th id stays unused
    for symbol in [*_LETTERS, *dict.fromkeys(merge.replace(" ", "") for merge in _MERGES), *_MORE_LETTERS]:
        if symbol not in vocab:
            vocab[symbol] = next(free)
    as_is = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": token, "special": True, **as_is} for token, i in _SPECIAL.items()],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "BPE", "unk_token": "[UNK]", "vocab": vocab, "merges": _MERGES},
    }


def make_base_model(folder: Path, starter: StarterConfig, recordings: Sequence[Path], seed: int) -> None:
    """Write a small, untrained XTTS-v2 into `folder` (which must not exist), with all five files of the real one.

    Its GPT is small; its other networks are narrow ones in the real geometry. The DVAE's codebook is fitted to
    `recordings` by k-means, so that its codes tell sounds apart.
    """
    vocabulary = starter_vocabulary()
    rows = max(vocabulary["model"]["vocab"].values()) + 1
    config = tiny_config(starter.layers, starter.model_dim, starter.heads, rows)
    with torch.random.fork_rng(devices=[]), atomic_folder(folder) as temporary:
        torch.manual_seed(seed)
        speech = [load_speech(path) for path in recordings]
        xtts = Xtts(config)
        for table in (xtts.gpt.text_embedding, xtts.gpt.mel_embedding):
            torch.nn.init.normal_(table.weight, std=0.02)  # GPT-2's scale; nn.Embedding's own is 50 times larger
        xtts.mel_stats.copy_(_mel_scale(speech))
        save_torch(temporary / "mel_stats.pth", xtts.mel_stats.clone())
        decoder, codes = xtts.hifigan_decoder, config.model_args.gpt_num_audio_tokens - 2
        _narrow(decoder.waveform_decoder, build_vocoder(starter.model_dim, _DECODER_WIDTHS))
        _narrow(decoder.speaker_encoder, build_speaker_encoder(_SPEAKER_FILTERS))
        dvae = build_dvae(codes)
        _narrow(dvae, build_dvae(codes, **_DVAE))
        save_torch(temporary / "dvae.pth", dvae.state_dict())
        save_torch(temporary / "dvae.pth", expanded(_fitted(FeatureExtractor(temporary, config), speech), dvae))
        write_json(temporary / "vocab.json", vocabulary)
        write_model(temporary, config, xtts.state_dict())
        what = "tiny untrained XTTS-v2 stand-in: good for trying the pipeline, useless as a voice"
        geometry = {"layers": starter.layers, "model_dim": starter.model_dim, "heads": starter.heads}
        write_json(temporary / STARTER_MARK, {"what": what, "geometry": geometry, "seed": seed})


def _mel_scale(speech: list[Tensor]) -> Tensor:
    """The mean absolute log-mel of each of the 80 bands: what XTTS divides its mels by."""
    import torchaudio

    mel = torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE, MEL_WINDOW, MEL_WINDOW, MEL_HOP, f_min=0, f_max=MEL_TOP, n_mels=MEL_BANDS, norm="slaney"
    )
    frames = torch.cat([mel(clip)[0].clamp(min=1e-5).log() for clip in speech], dim=1)
    return frames.abs().mean(dim=1)


def _fitted(extractor: FeatureExtractor, speech: list[Tensor]) -> dict[str, Tensor]:
    """The DVAE's weights with k-means centres of its encoder's output on `speech` in place of its random codebook."""
    points = torch.cat([extractor.vectors([clip])[0] for clip in speech])
    centres = k_means(points, extractor.dvae.num_tokens)
    codebook = dict.fromkeys(("codebook.embed", "codebook.embed_avg"), centres.T)
    return {**extractor.dvae.state_dict(), **codebook}


def _narrow(wide: nn.Module, narrow: nn.Module) -> None:
    """Give `wide` the weights of `narrow`, and zeros beside them."""
    wide.load_state_dict(expanded(narrow.state_dict(), wide))
