"""The trained stand-in for the base model: the package's narrow weights, written in XTTS-v2's file layout.

The folder `base/` beside this module holds a small XTTS that was trained on espeak-ng's speech in ten languages, none
of them Georgian (`recipes/starter_base/` made it; its README.md has the figures): safetensors in float16, `vocab.json`
and `base.json`, which says the geometry and the SHA-256 of each file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import load_file
from torch import Tensor, nn

from xtts_ka.core.config import STARTER_MARK, StarterConfig
from xtts_ka.core.digests import hash_file
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import atomic_folder, read_json, write_json
from xtts_ka.core.tensor_files import save_torch
from xtts_ka.model.checkpoint import Xtts, loading, write_model
from xtts_ka.model.narrow import expanded
from xtts_ka.model.networks import build_dvae, tiny_config

PACK = Path(__file__).parent / "base"
FACTS = "base.json"
RESTORE = "restore it with: git checkout -- xtts_ka/starter/base (or install the package again)"


class Geometry(BaseModel):
    """Sizes of the narrow networks. Those of the others than the GPT follow from the weights."""

    model_config = ConfigDict(extra="ignore")
    layers: int
    model_dim: int
    heads: int
    text_rows: int


class Facts(BaseModel):
    """What base.json says, as far as it is needed. files: name → SHA-256."""

    model_config = ConfigDict(extra="ignore")
    format: Literal[1]
    what: str
    languages: list[str]
    geometry: dict[str, Any]
    files: dict[str, str]

    @property
    def gpt(self) -> Geometry:
        return Geometry.model_validate(self.geometry["gpt"])


def read_facts(pack: Path = PACK) -> Facts:
    """base.json of a pack, with every file's hash compared. UserError for a missing or damaged file."""
    raw = read_json(pack / FACTS, "the trained stand-in base model", RESTORE)
    try:
        facts = Facts.model_validate(raw)
        facts.gpt  # noqa: B018 - checked here
    except (ValidationError, KeyError):
        raise UserError(f"{pack / FACTS} does not describe a stand-in base model: {RESTORE}") from None
    for name, digest in facts.files.items():
        if not (pack / name).is_file():
            raise UserError(f"{pack / name}, of the trained stand-in base model, is missing: {RESTORE}")
        if hash_file(pack / name) != digest:
            raise UserError(f"{pack / name}, of the trained stand-in base model, is damaged: {RESTORE}")
    return facts


def make_trained_base(folder: Path, starter: StarterConfig, pack: Path = PACK) -> None:
    """Write the trained base model into `folder` (which must not exist), with all five files of XTTS-v2.

    UserError for a damaged pack, and where the config asks for another geometry than the weights have.
    """
    facts = check_trained_base(starter, pack)
    gpt = facts.gpt
    config = tiny_config(gpt.layers, gpt.model_dim, gpt.heads, gpt.text_rows)
    config.languages = facts.languages
    with torch.random.fork_rng(devices=[]), atomic_folder(folder) as temporary:
        xtts = Xtts(config)
        decoder = xtts.hifigan_decoder
        _load(xtts.gpt, weights(pack, "gpt"), pack)
        _load(decoder.waveform_decoder, expanded(weights(pack, "decoder"), decoder.waveform_decoder), pack)
        _load(decoder.speaker_encoder, expanded(weights(pack, "speaker_encoder"), decoder.speaker_encoder), pack)
        xtts.mel_stats.copy_(weights(pack, "mel_stats")["mel_stats"])
        dvae = build_dvae(config.model_args.gpt_num_audio_tokens - 2)
        save_torch(temporary / "dvae.pth", expanded(weights(pack, "dvae"), dvae))
        save_torch(temporary / "mel_stats.pth", xtts.mel_stats.clone())
        write_json(temporary / "vocab.json", read_json(pack / "vocab.json", "the vocabulary", RESTORE))
        write_model(temporary, config, xtts.state_dict())
        mark = {"what": facts.what, "base": "trained", "geometry": facts.geometry, "languages": facts.languages}
        write_json(temporary / STARTER_MARK, {**mark, "files": facts.files})


def check_trained_base(starter: StarterConfig, pack: Path = PACK) -> Facts:
    """What the pack says. UserError where it is damaged, or where the config asks for another geometry."""
    facts = read_facts(pack)
    for name in ("layers", "model_dim", "heads"):
        asked, there = getattr(starter, name), getattr(facts.gpt, name)
        if name in starter.model_fields_set and asked != there:
            raise UserError(
                f"starter.{name} is {asked}, but the trained stand-in base model has {there}: remove the setting, or "
                'set starter.base to "untrained" for a base of that size'
            )
    return facts


def weights(pack: Path, name: str) -> dict[str, Tensor]:
    """A network's weights in float32, out of `name.safetensors` and, where it is large, `name_2.safetensors` and on."""
    state: dict[str, Tensor] = {}
    for file in [pack / f"{name}.safetensors", *sorted(pack.glob(f"{name}_[0-9].safetensors"))]:
        state |= {
            key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in load_file(file).items()
        }
    return state


def _load(network: nn.Module, state: dict[str, Tensor], pack: Path) -> None:
    with loading(pack):
        network.load_state_dict(state, strict=True)
