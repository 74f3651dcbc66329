"""Writes the trained networks as the starter reads them: `xtts_ka/starter/base/`.

The folder holds

    gpt.safetensors, gpt_2.safetensors, …
                                 coqui's GPT (`build_gpt`), names without the prefix `gpt.`; files of at most 16 MiB
    dvae.safetensors             `build_dvae(1024, **geometry["dvae"])`
    decoder.safetensors          `build_vocoder(geometry["gpt"]["model_dim"], **geometry["decoder"])`
    speaker_encoder.safetensors  `build_speaker_encoder(**geometry["speaker_encoder"])`
    mel_stats.safetensors        `mel_stats`, (80,): what each band of the log-mel is divided by
    vocab.json                   the tokenizer
    base.json                    what these files are, see below
    README.md                    the card, written by hand

The weights are narrow state dicts (`xtts_ka.model.narrow.expanded` puts them into the released geometry): matrices in
float16, all else in float32. base.json:

    format      1
    what        one sentence
    languages   ids of the languages that the GPT was trained on
    geometry    {"gpt": {"layers", "model_dim", "heads", "text_rows"}, "dvae": {"hidden", "codebook_dim"},
                 "decoder": {"widths", "kernels"}, "speaker_encoder": {"filters"}}: arguments of the builders
    files       name of each file above, without base.json and README.md → SHA-256 of its bytes, in hex
    figures     what was measured while it was made
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from starter_base import sizes
from xtts_ka.core.digests import file_digest
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json, write_json
from xtts_ka.core.tensor_files import save_tensors
from xtts_ka.starter.base_model import starter_vocabulary

FORMAT = 1
NETWORKS = ("gpt", "dvae", "decoder", "speaker_encoder")
WHAT = "a small XTTS-v2, trained on speech of espeak-ng in ten languages: a stand-in for the released base model"
LARGEST_FILE, LARGEST_PACK = 16 * 2**20, 35_000_000  # bytes
_HALF_LIMIT = 60_000  # float16 ends at 65,504


def run(work: Path, options: Any) -> None:
    """Write `work/base/` of what the other steps left in `work`."""
    networks = {name: load_file(work / f"{name}.safetensors") for name in NETWORKS}
    mel_stats = load_file(work / "mel_stats.safetensors")["mel_stats"]
    figures = work / "figures.json"
    write_pack(work / "base", networks, mel_stats, read_json(figures) if figures.is_file() else {})


def write_pack(target: Path, networks: Mapping[str, Mapping[str, Tensor]], mel_stats: Tensor, figures: Any) -> None:
    """Write the files above, base.json last. networks: narrow state dicts by the names in NETWORKS."""
    target.mkdir(parents=True, exist_ok=True)
    files = [file for name in NETWORKS for file in write_network(target, name, half(networks[name]))]
    save_tensors(target / "mel_stats.safetensors", {"mel_stats": mel_stats.float().contiguous()})
    write_json(target / "vocab.json", starter_vocabulary())
    files += ["mel_stats.safetensors", "vocab.json"]
    if (size := sum((target / name).stat().st_size for name in files)) > LARGEST_PACK:
        raise UserError(f"the pack has {size:,} bytes, more than {LARGEST_PACK:,}: make sizes.py smaller")
    gpt = {**sizes.GPT, "text_rows": len(networks["gpt"]["text_embedding.weight"])}
    geometry = {"gpt": gpt, "dvae": sizes.DVAE, "decoder": sizes.DECODER, "speaker_encoder": sizes.SPEAKER_ENCODER}
    facts = {
        "format": FORMAT,
        "what": WHAT,
        "languages": list(sizes.LANGUAGES),
        "geometry": geometry,
        "files": {name: file_digest(target / name) for name in files},
        "figures": figures,
    }
    write_json(target / "base.json", facts)


def half(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as the pack holds them. Vectors are small and, as BatchNorm's variances, may be too small for float16."""
    return {name: _stored(value) for name, value in weights.items()}


def _stored(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    if not value.is_floating_point():
        return value
    fits = value.ndim >= 2 and float(value.abs().max()) < _HALF_LIMIT
    return value.to(torch.float16 if fits else torch.float32)


def write_network(folder: Path, name: str, weights: dict[str, Tensor]) -> list[str]:
    """Write a network's file or files into `folder` and return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, share in enumerate(_shares(weights), 1):
        names.append(f"{name}_{number}.safetensors" if number > 1 else f"{name}.safetensors")
        save_tensors(folder / names[-1], share)
    return names


def _shares(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The tensors of each file: none becomes larger than LARGEST_FILE, its header included."""
    shares: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, value in tensors.items():
        size += value.nbytes + 200  # of its entry in the header
        if size > LARGEST_FILE:
            shares.append({})
            size = value.nbytes + 200
        shares[-1][name] = value
    return shares
