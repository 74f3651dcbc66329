"""The only file that imports coqui TTS: load, build, extend and export XTTS-v2, and teach coqui the language `ka`.

The base model's folder is read and never written: coqui's own loader rewrites a checkpoint that holds a pickled config,
this one does not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from TTS.config.shared_configs import BaseDatasetConfig
from TTS.tts.configs.xtts_config import XttsArgs, XttsAudioConfig, XttsConfig
from TTS.tts.layers.xtts.gpt import GPT
from TTS.tts.models.xtts import Xtts

from xtts_ka.core.config import BASE_FILES, STARTER_MARK
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json, write_json
from xtts_ka.core.tensor_files import load_torch, save_torch
from xtts_ka.model.networks import build_gpt, build_xtts

FETCH = "hf download coqui/XTTS-v2 --local-dir"
_AGAIN = "make it anew with: python run_pretrain.py --only full_pretrain"
LICENCE = "the weights are under the Coqui Public Model License (non-commercial)"

# The released checkpoint pickles these plain data classes beside its weights, two of them under a former module path.
_PICKLED_CONFIG = (
    XttsConfig,
    XttsArgs,
    XttsAudioConfig,
    BaseDatasetConfig,
    (XttsArgs, "TTS.tts.models.xtts.XttsArgs"),
    (XttsAudioConfig, "TTS.tts.models.xtts.XttsAudioConfig"),
)
# What a checkpoint may carry beside the model: the trainer's extractors and the generation wrapper's second references.
_FOREIGN_KEYS = (
    "torch_mel_spectrogram_style_encoder",
    "torch_mel_spectrogram_dvae",
    "dvae",
    "gpt.gpt_inference",
    "gpt.gpt.wte",
)

# What config.json asks for is built before it is compared with the weights: nothing in XTTS comes near these.
_LARGEST, _MOST_LAYERS = 2**17, 512

logging.getLogger("transformers").setLevel(logging.ERROR)  # GPT2Config warns about token ids that XTTS never uses

# ── the base model ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class XttsFiles:
    """An XTTS-v2 model in memory.

    config: coqui's XttsConfig. state: parameter name → tensor, as in `Xtts.state_dict()`. folder: where it came from,
    with `vocab.json`, `dvae.pth` and `mel_stats.pth` beside it.
    """

    config: XttsConfig
    state: dict[str, Tensor]
    folder: Path

    @property
    def vocab_file(self) -> Path:
        return self.folder / "vocab.json"

    @property
    def text_rows(self) -> int:
        """Rows of `text_embedding`: largest token id + 1, not the number of tokens."""
        return self.state["gpt.text_embedding.weight"].shape[0]

    def gpt_state(self) -> dict[str, Tensor]:
        """The GPT's own parameters, without their `gpt.` prefix."""
        return {name.removeprefix("gpt."): tensor for name, tensor in self.state.items() if name.startswith("gpt.")}

    def without_gpt(self) -> XttsFiles:
        """The decoder and the speaker encoder in memory of their own: what stays of a base model whatever becomes of its file."""
        return XttsFiles(
            self.config,
            {n: tensor.clone() for n, tensor in self.state.items() if not n.startswith("gpt.")},
            self.folder,
        )


def missing_base_files(folder: Path | str) -> list[str]:
    """Names of the XTTS-v2 files that `folder` lacks (all of them if it does not exist)."""
    return [name for name in BASE_FILES if not (Path(folder) / name).is_file()]


def restore_advice(folder: Path) -> str:
    """How to get a base model's damaged file back."""
    if (folder / STARTER_MARK).is_file():
        return f"remove the folder {folder}, and starter mode makes it again"
    return f"fetch it again with: {FETCH} {folder}"


def read_model(folder: Path | str, remedy: str = "") -> XttsFiles:
    """Load and check an XTTS-v2 folder without changing it; weights are memory-mapped.

    Raises UserError for a missing file, a damaged or hostile one, or another architecture, with the `remedy` (default: to
    fetch the base model).
    """
    folder = Path(folder)
    remedy = remedy or restore_advice(folder)
    config = read_config(folder, remedy)
    checkpoint = load_torch(folder / "model.pth", mmap=True, allowed=_PICKLED_CONFIG, remedy=remedy)
    state = checkpoint.get("model", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(n, str) and _is_plain(t) for n, t in state.items()):
        raise UserError(f"{folder / 'model.pth'} holds no model weights: {remedy}")
    state = {name.removeprefix("xtts."): tensor for name, tensor in state.items()}
    state = {
        name: tensor for name, tensor in state.items() if not name.startswith(tuple(k + "." for k in _FOREIGN_KEYS))
    }
    _check_architecture(folder, config, state)
    _check_vocabulary(folder, state, remedy)
    return XttsFiles(config, state, folder)


def _check_vocabulary(folder: Path, state: dict[str, Tensor], remedy: str) -> None:
    """The text table has a row for every id up to the largest: new rows are appended where new ids begin."""
    largest, rows = max(_token_ids(folder / "vocab.json", remedy).values()), len(state["gpt.text_embedding.weight"])
    if largest + 1 != rows:
        raise UserError(
            f"{folder / 'vocab.json'} and model.pth do not belong together: the largest token id is {largest}, and "
            f"there are {rows} text rows: {remedy}"
        )


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def read_config(folder: Path | str, remedy: str = "") -> XttsConfig:
    """The config of an XTTS-v2 folder with all its files, its text start and stop tokens taken from the vocabulary."""
    folder = Path(folder)
    remedy = remedy or restore_advice(folder)
    missing = missing_base_files(folder)
    if missing:
        raise UserError(
            f"base model folder {folder} lacks {', '.join(missing)}: fetch it with: {FETCH} {folder} ({LICENCE})"
        )
    config = _parse_config(folder / "config.json", remedy)
    _read_special_tokens(folder / "vocab.json", config, remedy)
    return config


def _parse_config(path: Path, remedy: str) -> XttsConfig:
    raw = read_json(path, "base model config", remedy)
    if not isinstance(raw, dict) or raw.get("model") != "xtts":
        kind = raw.get("model") if isinstance(raw, dict) else type(raw).__name__
        raise UserError(f"{path} describes a model of kind {kind!r}, not 'xtts': {remedy}")
    arguments = raw.get("model_args")
    for spec in dataclasses.fields(XttsArgs) if isinstance(arguments, dict) else ():
        value, most = arguments.get(spec.name), _MOST_LAYERS if spec.name == "gpt_layers" else _LARGEST
        if spec.type is int and value is not None and not (type(value) is int and 0 <= value <= most):
            raise UserError(f"{path}: {spec.name} is {str(value)[:40]}, which is no number of XTTS's: {remedy}")
    config = XttsConfig()
    try:
        config.from_dict(raw)
    except (TypeError, ValueError, AttributeError, KeyError, AssertionError) as error:
        raise UserError(f"{path} is not an XTTS config ({error}): {remedy}") from None
    if not config.model_args.gpt_use_perceiver_resampler:
        raise UserError(
            f"{path} describes XTTS v1 (gpt_use_perceiver_resampler is false); this pipeline needs v2: {remedy}"
        )
    return config


def _read_special_tokens(path: Path, config: XttsConfig, remedy: str) -> None:
    """Set the text start and stop tokens from the vocabulary, as coqui does: they move between releases."""
    ids = _token_ids(path, remedy)
    config.model_args.gpt_start_text_token, config.model_args.gpt_stop_text_token = ids["[START]"], ids["[STOP]"]


def _token_ids(path: Path, remedy: str) -> dict[str, int]:
    """Token → id of a vocabulary that has XTTS's start and stop tokens."""
    try:
        raw = read_json(path, "vocabulary", remedy)
        ids = raw["model"]["vocab"] | {entry["content"]: entry["id"] for entry in raw.get("added_tokens") or ()}
        if {"[START]", "[STOP]"} <= ids.keys() and all(type(i) is int and i >= 0 for i in ids.values()):
            return ids
    except (KeyError, TypeError, AttributeError):
        pass
    raise UserError(
        f"{path} is not an XTTS vocabulary (no tokens, among them [START] and [STOP], with numbers): {remedy}"
    )


def _check_architecture(folder: Path, config: XttsConfig, state: dict[str, Tensor]) -> None:
    """Compare the weights with the geometry that config.json promises, on the meta device: costs no memory."""
    rows = state.get("gpt.text_embedding.weight")
    if rows is None or rows.ndim != 2:
        raise UserError(f"{folder / 'model.pth'} has no gpt.text_embedding.weight: it is not an XTTS checkpoint")
    try:
        with torch.device("meta"):
            expected = build_gpt(config, rows.shape[0]).state_dict()
    except (ValueError, TypeError, AssertionError, RuntimeError, ArithmeticError, LookupError) as error:
        reason = str(error).strip().partition("\n")[0][:160]
        raise UserError(
            f"the numbers in {folder / 'config.json'} make no XTTS ({reason}); use the one that came with model.pth"
        ) from None
    for name, tensor in expected.items():
        found = state.get(f"gpt.{name}")
        if found is None or found.shape != tensor.shape:
            shape = "missing" if found is None else tuple(found.shape)
            raise UserError(
                f"{folder} holds another architecture than its config.json: gpt.{name} is {shape}, "
                f"expected {tuple(tensor.shape)}; use the config.json that came with model.pth"
            )
    wide, decoder = config.model_args.gpt_n_model_channels, config.model_args.decoder_input_dim
    if wide != decoder:
        raise UserError(
            f"{folder / 'config.json'}: decoder_input_dim is {decoder}, and the decoder hears a GPT of width {wide}"
        )
    unknown = sorted(n for n in state if n.startswith("gpt.") and n.removeprefix("gpt.") not in expected)
    if unknown:
        raise UserError(f"{folder / 'model.pth'} holds weights that XTTS-v2 has not, such as {unknown[0]}")


def load_gpt(model: XttsFiles) -> GPT:
    """The model's GPT with its weights, in float32 memory of its own, ready to train."""
    gpt = build_gpt(model.config, model.text_rows)
    gpt.load_state_dict(model.gpt_state(), strict=True)
    return gpt


def load_xtts(folder: Path | str, device: str = "cpu") -> Xtts:
    """A whole XTTS of ours for inference, through coqui's own loader; since that checks nothing, all is read here first.

    Only for folders this project wrote: coqui rewrites a model.pth that holds a pickled config.
    """
    folder = Path(folder)
    config = read_model(folder, _AGAIN).config
    load_torch(folder / "speakers_xtts.pth", remedy=_AGAIN)
    model = build_xtts(config)
    with filling(folder / "model.pth"):
        model.load_checkpoint(config, checkpoint_dir=str(folder), strict=True)
    return model.to(device)


@contextlib.contextmanager
def filling(label: Path | str) -> Iterator[None]:
    """Turn what `load_state_dict` says of weights that are missing, too many or of another shape into a UserError."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{label} is not whole, or of another architecture than its config.json says ({reason})"
        ) from None


# ── extending and exporting ──────────────────────────────────────────────────────────────────────────────────────────


def grow_text_rows(model: XttsFiles, embedding: Tensor, head: Tensor, bias: Tensor) -> dict[str, Tensor]:
    """The state with new rows appended to `text_embedding` and `text_head`, every other tensor untouched.

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
    copy.languages = [*config.languages, *([language] if language not in config.languages else [])]
    copy.model_args.gpt_number_text_tokens = text_rows
    return copy


def write_model(folder: Path, config: XttsConfig, state: dict[str, Tensor]) -> None:
    """Write `config.json` and `model.pth` in coqui's layout (plain dict config, so coqui loads it without a rewrite)."""
    plain = config.to_dict()
    save_torch(folder / "model.pth", {"model": state, "config": plain})
    write_json(folder / "config.json", plain)


# ── Georgian in coqui ────────────────────────────────────────────────────────────────────────────────────────────────


# ── hearing ──────────────────────────────────────────────────────────────────────────────────────────────────────────
