"""Reads, checks, extends and writes XTTS-v2 model folders.

The base model's folder is only read: coqui's own loader rewrites a checkpoint that holds a pickled config, this one
does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from TTS.config.shared_configs import BaseDatasetConfig
from TTS.tts.configs.xtts_config import XttsArgs, XttsAudioConfig, XttsConfig
from TTS.tts.layers.xtts.gpt import GPT
from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer
from TTS.tts.models.xtts import Xtts

from xtts_ka.core.config import BASE_FILES, STARTER_MARK
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json, write_json
from xtts_ka.core.tensor_files import load_torch, save_torch
from xtts_ka.corpus.content import is_pointer
from xtts_ka.model.narrow import slim_speaker_encoder, slim_vocoder
from xtts_ka.model.networks import (
    HifiganGenerator,
    ResNetSpeakerEncoder,
    build_gpt,
    build_speaker_encoder,
    build_vocoder,
)
from xtts_ka.model.vocabulary import read_vocabulary, token_ids

VOCODER = "hifigan_decoder.waveform_decoder."  # prefix of the decoder's weights in an XTTS's
SPEAKER_ENCODER = "hifigan_decoder.speaker_encoder."
FETCH = "hf download coqui/XTTS-v2 --local-dir"
LICENCE = "the weights are under the Coqui Public Model License (non-commercial)"
_TO_SPEAK = ("config.json", "model.pth", "vocab.json")  # the other base files are for training
_EXPORT_AGAIN = "make it anew with: python run_pretrain.py --only full_pretrain"

# The released model.pth pickles these plain data classes beside its weights, two of them under a former module path.
_FORMER = [(kind, f"TTS.tts.models.xtts.{kind.__name__}") for kind in (XttsArgs, XttsAudioConfig)]
_PICKLED_CONFIG = (XttsConfig, XttsArgs, XttsAudioConfig, BaseDatasetConfig, *_FORMER)
# Weights that a checkpoint may hold besides the model's: the trainer's feature extractors, and the second names that
# coqui's generation wrapper gives to the GPT's.
_OTHER_WEIGHTS = ("torch_mel_spectrogram_", "dvae.", "gpt.gpt_inference.", "gpt.gpt.wte.")
# Upper bounds for the numbers in config.json, far above XTTS's own: the network that they describe is built before it
# is compared with the weights.
_LARGEST_NUMBER, _MOST_LAYERS = 2**17, 512


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class XttsFiles:
    """An XTTS-v2 model in memory.

    config: coqui's XttsConfig. state: parameter name → tensor, as in `Xtts.state_dict()`. folder: where it was read
    from; `vocab.json`, `dvae.pth` and `mel_stats.pth` are there too.
    """

    config: XttsConfig
    state: dict[str, Tensor]
    folder: Path

    @property
    def vocab_file(self) -> Path:
        return self.folder / "vocab.json"

    @property
    def text_rows(self) -> int:
        """Rows of `text_embedding`: the largest token id + 1, which is more than the number of tokens."""
        return self.state["gpt.text_embedding.weight"].shape[0]

    def gpt_state(self) -> dict[str, Tensor]:
        """The GPT's parameters, without their `gpt.` prefix."""
        return {name.removeprefix("gpt."): tensor for name, tensor in self.state.items() if name.startswith("gpt.")}

    def without_gpt(self) -> XttsFiles:
        """Copies the non-GPT weights (decoder, speaker encoder) out of the memory-mapped file."""
        kept = {name: tensor.clone() for name, tensor in self.state.items() if not name.startswith("gpt.")}
        return XttsFiles(self.config, kept, self.folder)


def missing_base_files(folder: Path | str) -> list[str]:
    """Names of the XTTS-v2 files that `folder` lacks (all of them if it does not exist)."""
    return [name for name in BASE_FILES if not (Path(folder) / name).is_file()]


def refuse_pointers(folder: Path | str) -> None:
    """UserError where a file of an XTTS-v2 folder is a Git LFS pointer, as `git clone` without git-lfs leaves it."""
    if found := [name for name in BASE_FILES if is_pointer(Path(folder) / name)]:
        remedy = f"run `git lfs pull` there, or {FETCH} {folder}"
        raise UserError(f"{Path(folder) / found[0]} is a Git LFS pointer, not the weights themselves: {remedy}")


def restore_advice(folder: Path) -> str:
    """How to replace a damaged base model."""
    if (folder / STARTER_MARK).is_file():
        return f"remove the folder {folder}, and starter mode makes it again"
    return f"fetch it again with: {FETCH} {folder}"


def read_model(folder: Path | str, remedy: str = "", needed: Collection[str] = BASE_FILES) -> XttsFiles:
    """Read and check an XTTS-v2 folder; the weights are memory-mapped and nothing in the folder is changed.

    Raises UserError for a missing file, a damaged or hostile one, or another architecture. remedy: what the error
    tells the user to do (default: to fetch the base model). needed: the files that may not be missing.
    """
    folder = Path(folder)
    remedy = remedy or restore_advice(folder)
    config = read_config(folder, remedy, needed)
    checkpoint = load_torch(folder / "model.pth", mmap=True, allowed=_PICKLED_CONFIG, remedy=remedy)
    state = checkpoint.get("model", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(n, str) and _is_plain(t) for n, t in state.items()):
        raise UserError(f"{folder / 'model.pth'} holds no model weights: {remedy}")
    state = {name.removeprefix("xtts."): tensor for name, tensor in state.items()}
    state = {name: tensor for name, tensor in state.items() if not name.startswith(_OTHER_WEIGHTS)}
    model = XttsFiles(config, state, folder)
    _check_architecture(model)
    largest = max(token_ids(read_vocabulary(model.vocab_file, remedy)).values())
    if largest + 1 != model.text_rows:  # new tokens are numbered from `largest + 1` on, new rows are appended
        raise UserError(
            f"{model.vocab_file} and model.pth do not belong together (largest token id {largest}, "
            f"{model.text_rows} text rows): {remedy}"
        )
    return model


def _is_plain(value: Any) -> bool:
    """Whether this is a dense tensor in memory: not sparse, not quantised, not on the meta device."""
    return isinstance(value, Tensor) and value.layout == torch.strided and value.is_cpu and not value.is_quantized


def read_config(folder: Path | str, remedy: str = "", needed: Collection[str] = BASE_FILES) -> XttsConfig:
    """The config of an XTTS-v2 folder that has the `needed` files, with the vocabulary's text start and stop tokens."""
    folder = Path(folder)
    remedy = remedy or restore_advice(folder)
    if missing := [name for name in missing_base_files(folder) if name in needed]:
        raise UserError(
            f"base model folder {folder} lacks {', '.join(missing)}: fetch it with: {FETCH} {folder} ({LICENCE})"
        )
    config = _parse_config(folder / "config.json", remedy)
    ids = token_ids(read_vocabulary(folder / "vocab.json", remedy))
    # As coqui does: the two tokens move between releases.
    config.model_args.gpt_start_text_token, config.model_args.gpt_stop_text_token = ids["[START]"], ids["[STOP]"]
    return config


def base_languages(folder: Path | str) -> list[str]:
    """The languages that the model in `folder` speaks besides Georgian, as its config.json says."""
    return [language for language in read_config(folder).languages if language != "ka"]


def _parse_config(path: Path, remedy: str) -> XttsConfig:
    raw = read_json(path, "base model config", remedy)
    kind = raw.get("model") if isinstance(raw, dict) else type(raw).__name__
    if kind != "xtts" or not isinstance(raw, dict):
        raise UserError(f"{path} describes a model of kind {kind!r}, not 'xtts': {remedy}")
    arguments = raw.get("model_args")
    for spec in dataclasses.fields(XttsArgs):
        value = arguments.get(spec.name) if isinstance(arguments, dict) else None
        most = _MOST_LAYERS if spec.name == "gpt_layers" else _LARGEST_NUMBER
        if spec.type is int and value is not None and not (type(value) is int and 0 <= value <= most):
            raise UserError(f"{path}: {spec.name} is {str(value)[:40]}, which is no number of XTTS's: {remedy}")
    config = XttsConfig()
    try:
        config.from_dict(raw)
    except (TypeError, ValueError, AttributeError, KeyError, AssertionError) as error:
        raise UserError(f"{path} is not an XTTS config ({error}): {remedy}") from None
    if not config.model_args.gpt_use_perceiver_resampler:
        raise UserError(f"{path} describes XTTS v1 (gpt_use_perceiver_resampler is false), not v2: {remedy}")
    return config


def _check_architecture(model: XttsFiles) -> None:
    """Compare the GPT's weights with the geometry in config.json, on the meta device, which takes no memory."""
    weights, config_file = model.folder / "model.pth", model.folder / "config.json"
    rows = model.state.get("gpt.text_embedding.weight")
    if rows is None or rows.ndim != 2:
        raise UserError(f"{weights} has no gpt.text_embedding.weight: it is not an XTTS checkpoint")
    try:
        with torch.device("meta"):
            gpt = build_gpt(model.config, model.text_rows)
    except (ValueError, TypeError, AssertionError, RuntimeError, ArithmeticError, LookupError) as error:
        reason = str(error).strip().partition("\n")[0][:160]
        remedy = "use the one that came with model.pth"
        raise UserError(f"the numbers in {config_file} make no XTTS ({reason}); {remedy}") from None
    with loading(weights):
        gpt.load_state_dict(model.gpt_state(), strict=True, assign=True)
    width, decoder = model.config.model_args.gpt_n_model_channels, model.config.model_args.decoder_input_dim
    if width != decoder:
        raise UserError(f"{config_file}: decoder_input_dim is {decoder}, but the GPT's width is {width}")


# ── networks with their weights ──────────────────────────────────────────────────────────────────────────────────────


def load_gpt(model: XttsFiles) -> GPT:
    """The model's GPT with a copy of its weights in float32, ready to train."""
    gpt = build_gpt(model.config, model.text_rows)
    gpt.load_state_dict(model.gpt_state(), strict=True)
    return gpt


def load_vocoder(model: XttsFiles) -> HifiganGenerator:
    """The HiFi-GAN of the model's decoder with a copy of its weights, ready to train; UserError for another geometry.

    torch reads the names of its former weight_norm (`weight_g`, `weight_v`) too, which the released weights have.
    """
    vocoder = build_vocoder(model.config.model_args.decoder_input_dim)
    with loading(model.folder / "model.pth"):
        vocoder.load_state_dict(_part_of(model, VOCODER), strict=True)
    return vocoder


def load_speaker_encoder(model: XttsFiles) -> ResNetSpeakerEncoder:
    """The speaker encoder of the model's decoder with a copy of its weights; UserError for another geometry."""
    encoder = build_speaker_encoder()
    try:
        encoder.load_state_dict(_part_of(model, SPEAKER_ENCODER))
    except RuntimeError:
        remedy = "give the folder of an XTTS-v2"
        raise UserError(f"{model.folder / 'model.pth'} holds no speaker encoder of XTTS: {remedy}") from None
    return encoder


def _part_of(model: XttsFiles, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in model.state.items() if name.startswith(prefix)}


def load_xtts(folder: Path | str, device: str = "cpu") -> Xtts:
    """A whole XTTS for inference, from a folder that this project wrote.

    Everything is read and checked here before coqui's own loader, which checks nothing (and would rewrite a model.pth
    that holds a pickled config, as the released one does).
    """
    folder = Path(folder)
    config = read_model(folder, _EXPORT_AGAIN, _TO_SPEAK).config
    load_torch(folder / "speakers_xtts.pth", remedy=_EXPORT_AGAIN)
    model = Xtts(config)
    with loading(folder / "model.pth"):
        model.load_checkpoint(config, checkpoint_dir=str(folder), strict=True)
    return _slimmed(model).to(device)


def build_xtts(config: XttsConfig, state: dict[str, Tensor], vocab_file: Path, device: str = "cpu") -> Xtts:
    """A whole XTTS for inference from weights in memory; it has no speaker table."""
    model = Xtts(config)
    model.tokenizer = VoiceBpeTokenizer(vocab_file=str(vocab_file))
    with loading("the weights"):
        model.load_state_dict(state, strict=True)
    model.eval()
    return _slimmed(model).to(device)


def _slimmed(model: Xtts) -> Xtts:
    """The model with narrow networks where outer channels are not in use: the stand-in base speaks 8 times faster."""
    decoder = model.hifigan_decoder
    decoder.waveform_decoder = slim_vocoder(decoder.waveform_decoder)
    decoder.speaker_encoder = slim_speaker_encoder(decoder.speaker_encoder)
    return model


@contextlib.contextmanager
def loading(label: Path | str) -> Iterator[None]:
    """Turns the RuntimeError of a `load_state_dict` (missing, unknown or misshapen weights) into a UserError."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{label} is damaged, or of another architecture than its config.json says ({reason})"
        ) from None


# ── extending and writing ────────────────────────────────────────────────────────────────────────────────────────────


def grow_text_rows(model: XttsFiles, embedding: Tensor, head: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """The state with new rows appended to `text_embedding` and `text_head`; every other tensor is the same object.

    embedding, head: (new, model_dim); bias: (new,).
    """
    state = dict(model.state)
    for name, rows in (("text_embedding.weight", embedding), ("text_head.weight", head), ("text_head.bias", bias)):
        state[f"gpt.{name}"] = torch.cat([state[f"gpt.{name}"], rows.to(state[f"gpt.{name}"].dtype)])
    return state


def extended_config(config: XttsConfig, language: str, text_rows: int) -> XttsConfig:
    """A copy of `config` with `language` among its languages and the text table's new size."""
    copy = XttsConfig()
    copy.from_dict(config.to_dict())
    copy.languages = list(dict.fromkeys([*config.languages, language]))
    copy.model_args.gpt_number_text_tokens = text_rows
    return copy


def write_model(folder: Path, config: XttsConfig, state: dict[str, Tensor]) -> None:
    """Write `config.json` and `model.pth` in coqui's layout, the config as a plain dict: coqui rewrites nothing."""
    plain = config.to_dict()
    save_torch(folder / "model.pth", {"model": state, "config": plain})
    write_json(folder / "config.json", plain)
