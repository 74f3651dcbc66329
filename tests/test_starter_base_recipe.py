"""The recipe of the stand-in base: recipes/starter_base."""

import json

import pytest
import torch
from safetensors.torch import load_file

from starter_base import sizes
from starter_base.pack import write_pack
from xtts_ka.core.digests import hash_file
from xtts_ka.core.errors import UserError
from xtts_ka.model.networks import build_dvae, build_gpt, build_speaker_encoder, build_vocoder, tiny_config


def untrained(layers: int = 1) -> dict:
    dim = sizes.GPT["model_dim"]
    return {
        "gpt": build_gpt(tiny_config(layers, dim, 4, 410), 410).state_dict(),
        "dvae": build_dvae(1024, **sizes.DVAE).state_dict(),
        "decoder": build_vocoder(dim, **sizes.DECODER).state_dict(),
        "speaker_encoder": build_speaker_encoder(**sizes.SPEAKER_ENCODER).state_dict(),
    }


def test_a_pack_says_what_it_holds(tmp_path):
    networks = untrained(layers=6)  # too large for one file
    write_pack(tmp_path, networks, torch.ones(80), {"dvae": {"cer": 0.08}})
    facts = json.loads((tmp_path / "base.json").read_text())
    assert {name: hash_file(tmp_path / name) for name in facts["files"]} == facts["files"]
    assert facts["geometry"]["gpt"] == {**sizes.GPT, "text_rows": 410} and facts["figures"] == {"dvae": {"cer": 0.08}}
    assert all((tmp_path / name).stat().st_size <= 16 * 2**20 for name in facts["files"])
    for name, weights in networks.items():
        stored = {
            key: value for file in tmp_path.glob(f"{name}*.safetensors") for key, value in load_file(file).items()
        }
        assert stored.keys() == weights.keys()
        assert all(torch.allclose(stored[key].to(value), value, rtol=1e-3, atol=1e-6) for key, value in weights.items())


def test_a_pack_that_is_too_large_is_refused(tmp_path):
    with pytest.raises(UserError, match="the pack has .* bytes"):
        write_pack(tmp_path, untrained(layers=9), torch.ones(80), {})
