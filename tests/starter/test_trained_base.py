"""The trained stand-in: a pack of narrow weights becomes a base model in the released layout."""

import json

import pytest
import torch

from xtts_ka.core.config import StarterConfig
from xtts_ka.core.digests import hash_file
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json, write_json
from xtts_ka.core.tensor_files import save_tensors
from xtts_ka.model.checkpoint import load_gpt, load_vocoder, missing_base_files, read_model
from xtts_ka.model.features import FeatureExtractor, VoiceEncoder
from xtts_ka.model.networks import build_dvae, build_gpt, build_speaker_encoder, build_vocoder, tiny_config
from xtts_ka.starter.base_model import starter_vocabulary
from xtts_ka.starter.trained_base import make_trained_base

GPT = {"layers": 1, "model_dim": 64, "heads": 1, "text_rows": 410}
DVAE, DECODER = {"hidden": 8, "codebook_dim": 8}, {"widths": [16, 8, 8, 8, 4], "kernels": [3]}
SPEAKER = {"filters": [8, 8, 8, 8]}


def narrow_networks() -> dict[str, torch.nn.Module]:
    return {
        "gpt": build_gpt(tiny_config(1, 64, 1, 410), 410),
        "dvae": build_dvae(1024, **DVAE),
        "decoder": build_vocoder(64, **DECODER),
        "speaker_encoder": build_speaker_encoder(**SPEAKER),
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(the narrow networks, rounded to float16 as the pack holds them; the pack's folder; the base model's)."""
    pack, base = tmp_path_factory.mktemp("pack"), tmp_path_factory.mktemp("models") / "base"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        networks = narrow_networks()
    shares = {}
    for name, network in networks.items():
        state = network.state_dict()
        half = {
            key: tensor.half() if tensor.ndim > 1 and "attn.bias" not in key else tensor
            for key, tensor in state.items()
        }
        network.load_state_dict({key: tensor.to(state[key].dtype) for key, tensor in half.items()})
        shares[name] = {key: tensor.contiguous().clone() for key, tensor in half.items()}
    first = dict(list(shares["gpt"].items())[:20])  # in two files, as a larger network is
    shares["gpt_2"] = {key: tensor for key, tensor in shares["gpt"].items() if key not in first}
    shares["gpt"] = first
    shares["mel_stats"] = {"mel_stats": torch.linspace(1, 3, 80)}
    for name, tensors in shares.items():
        save_tensors(pack / f"{name}.safetensors", tensors)
    write_json(pack / "vocab.json", starter_vocabulary())
    facts = {
        "format": 1,
        "what": "a stand-in for tests",
        "languages": ["es", "hi"],
        "geometry": {"gpt": GPT, "dvae": DVAE, "decoder": DECODER, "speaker_encoder": SPEAKER},
        "files": {file.name: hash_file(file) for file in pack.iterdir()},
        "figures": {},
    }
    write_json(pack / "base.json", facts)
    make_trained_base(base, StarterConfig(), pack)
    return networks, pack, base


def test_it_has_the_layout_of_the_released_model_and_says_what_it_is(made):
    _, pack, base = made
    assert missing_base_files(base) == []
    assert read_model(base).config.languages == ["es", "hi"]
    mark = read_json(base / "STARTER.json")
    assert mark["base"] == "trained" and mark["what"] == "a stand-in for tests" and mark["geometry"]["gpt"] == GPT
    assert mark["files"]["gpt.safetensors"] == hash_file(pack / "gpt.safetensors")


@torch.no_grad()
def test_its_networks_are_the_narrow_ones(made):
    networks, _, base = made
    model = read_model(base)
    gpt, found = networks["gpt"].state_dict(), load_gpt(model).state_dict()
    assert gpt.keys() == found.keys() and all(torch.equal(gpt[name], found[name]) for name in gpt)
    latents, voice = torch.randn(1, 64, 9), torch.randn(1, 512, 1)
    vocoder = load_vocoder(model).eval()
    assert vocoder.conv_pre.weight.shape == (512, 64, 7)  # the released width
    narrow = networks["decoder"].eval()
    torch.testing.assert_close(vocoder(latents, g=voice), narrow(latents, g=voice), atol=1e-5, rtol=0)
    speech = torch.rand(1, 22050) * 2 - 1
    encoder = VoiceEncoder(model.config, model.state)
    alone = networks["speaker_encoder"].eval()
    heard = encoder.speaker_embedding(speech).flatten()
    encoder._xtts.hifigan_decoder.speaker_encoder = alone
    torch.testing.assert_close(heard, encoder.speaker_embedding(speech).flatten(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_its_codes_are_those_of_the_narrow_dvae(made):
    networks, _, base = made
    extractor = FeatureExtractor(base, read_model(base).config)
    speech = torch.rand(1, 22050, generator=torch.Generator().manual_seed(1)) * 2 - 1
    codes, vectors = extractor([speech])[0][0], extractor.vectors([speech])[0]
    extractor.dvae = networks["dvae"].eval()
    assert torch.equal(extractor([speech])[0][0], codes) and vectors.shape == (22, 8)
    torch.testing.assert_close(extractor.vectors([speech])[0], vectors)


def copied(pack, target):
    target.mkdir()
    for file in pack.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_a_damaged_or_missing_file_is_refused_with_the_command_that_restores_it(made, tmp_path):
    pack = copied(made[1], tmp_path / "pack")
    weights = bytearray((pack / "decoder.safetensors").read_bytes())
    weights[-1] ^= 1
    (pack / "decoder.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match=r"decoder.safetensors.* is damaged: .*git checkout -- xtts_ka/starter/base"):
        make_trained_base(tmp_path / "base", StarterConfig(), pack)
    (pack / "decoder.safetensors").unlink()
    with pytest.raises(UserError, match=r"decoder.safetensors.* is missing: .*git checkout -- xtts_ka/starter/base"):
        make_trained_base(tmp_path / "base", StarterConfig(), pack)
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}', '{"format": 2, "what": ""}', None])
def test_damaged_facts_are_refused(made, tmp_path, text):
    pack = copied(made[1], tmp_path / "pack")
    if text is None:
        facts = json.loads((pack / "base.json").read_text())
        del facts["geometry"]["gpt"]["heads"]
        text = json.dumps(facts)
    (pack / "base.json").write_text(text)
    with pytest.raises(UserError, match=r"base.json .*git checkout -- xtts_ka/starter/base"):
        make_trained_base(tmp_path / "base", StarterConfig(), pack)


def test_another_geometry_is_refused(made, tmp_path):
    with pytest.raises(UserError, match=r"starter.layers is 6, but the trained .* has 1: .*starter.base"):
        make_trained_base(tmp_path / "base", StarterConfig(layers=6), made[1])
    make_trained_base(tmp_path / "base", StarterConfig(layers=1), made[1])
