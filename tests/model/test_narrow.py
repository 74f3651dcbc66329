"""A narrow network and the same network expanded into the released geometry give the same output."""

import pytest
import torch
from torch import nn

from xtts_ka.core.errors import UserError
from xtts_ka.model.narrow import expanded, slim_dvae, slim_speaker_encoder, slim_vocoder
from xtts_ka.model.networks import build_dvae, build_speaker_encoder, build_vocoder


def shaken(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with every weight and statistic away from its initial value, as after training."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and "torch_spec" not in name and "discrete_loss" not in name:
            tensor += 0.03 * torch.randn(tensor.shape, generator=draw).abs()
    return network.eval()


def widened(narrow: nn.Module, wide: nn.Module) -> nn.Module:
    wide.load_state_dict(expanded(narrow.state_dict(), wide), strict=True)
    return wide.eval()


@torch.no_grad()
def test_the_vocoder():
    torch.manual_seed(0)  # some initial weights drive the wave to full scale
    narrow = shaken(build_vocoder(16, widths=(24, 16, 8, 6, 4), kernels=(3, 7)))
    wide = widened(narrow, build_vocoder(16))
    latents, voice = torch.randn(2, 16, 7), torch.randn(2, 512, 1)
    small, large = narrow(latents, g=voice), wide(latents, g=voice)
    assert small.shape == (2, 1, 7 * 256) and small.std() > 1e-3
    torch.testing.assert_close(large, small, atol=1e-5, rtol=0)


@torch.no_grad()
def test_coquis_decoder_runs_the_expanded_vocoder():
    from TTS.tts.layers.xtts.hifigan_decoder import HifiDecoder

    narrow = shaken(build_vocoder(16, widths=(24, 16, 8, 6, 4), kernels=(3, 7)))
    decoder = HifiDecoder(decoder_input_dim=16).eval()
    latents, voice = torch.randn(1, 9, 16), torch.randn(1, 512, 1)
    decoder.waveform_decoder.load_state_dict(expanded(narrow.state_dict(), decoder.waveform_decoder), strict=True)
    wave = decoder(latents, g=voice)
    decoder.waveform_decoder = narrow
    torch.testing.assert_close(wave, decoder(latents, g=voice), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_dvae_gives_the_same_codes_and_mels():
    narrow = shaken(build_dvae(64, hidden=16, codebook_dim=8))
    mels = torch.randn(2, 80, 24)
    wide = widened(narrow, build_dvae(64))
    assert torch.equal(wide.get_codebook_indices(mels), narrow.get_codebook_indices(mels))
    torch.testing.assert_close(wide.infer(mels)[0], narrow.infer(mels)[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_speaker_encoder():
    narrow = shaken(build_speaker_encoder((8, 16, 16, 24)))
    wave = 0.1 * torch.randn(2, 8000)
    wide = widened(narrow, build_speaker_encoder())
    voices = narrow(wave.clone(), l2_norm=True)
    assert (voices[0] - voices[1]).norm() > 1e-4  # the two waves are told apart
    torch.testing.assert_close(wide(wave.clone(), l2_norm=True), voices, atol=1e-5, rtol=0)


def test_the_released_geometry_is_coquis():
    from TTS.tts.layers.xtts.hifigan_decoder import HifiDecoder

    theirs, vocoder = HifiDecoder(decoder_input_dim=32), build_vocoder(32)
    ours = {f"waveform_decoder.{name}": tensor.shape for name, tensor in vocoder.state_dict().items()}
    ours |= {f"speaker_encoder.{name}": t.shape for name, t in build_speaker_encoder().state_dict().items()}
    assert ours == {name: tensor.shape for name, tensor in theirs.state_dict().items()}


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"nothing.weight": torch.zeros(1)}, "of another network"),
        ({"fc.weight": torch.zeros(512, 9000)}, "another geometry"),
        ({"fc.weight": torch.zeros(512)}, "another geometry"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, words):
    with pytest.raises(UserError, match=words):
        expanded(weights, build_speaker_encoder())


SMALL = {
    "vocoder": (slim_vocoder, build_vocoder, {"inputs": 16}, {"widths": (24, 16, 8, 6, 4), "kernels": (3, 7)}),
    "vocoder of all kernels": (slim_vocoder, build_vocoder, {"inputs": 16}, {"widths": (24, 16, 8, 6, 4)}),
    "dvae": (slim_dvae, build_dvae, {"codes": 64}, {"hidden": 16, "codebook_dim": 8}),
    "speaker encoder": (slim_speaker_encoder, build_speaker_encoder, {}, {"filters": (8, 16, 16, 24)}),
}

# Biases of channels of which others tell whether they are in use.
OUTER = {slim_vocoder: "resblocks.4.convs1.0.bias", slim_dvae: "encoder.3.net.0.bias"}
OUTER |= {slim_speaker_encoder: "layer3.1.bn1.bias"}


@pytest.mark.parametrize("part", SMALL)
def test_an_expanded_network_is_run_narrow_again(part):
    slim, build, common, small = SMALL[part]
    narrow = shaken(build(**common, **small))
    found = slim(widened(narrow, build(**common)))
    wanted = narrow.state_dict()
    assert found.state_dict().keys() == wanted.keys() and not found.training
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.state_dict().items())


@pytest.mark.parametrize("part", SMALL)
def test_a_network_that_uses_its_channels_stays(part):
    slim, build, common, small = SMALL[part]
    wide = shaken(build(**common))
    assert slim(wide) is wide
    nearly = widened(shaken(build(**common, **small)), build(**common))
    dict(nearly.named_parameters())[OUTER[slim]].data[-1] = 0.1
    assert slim(nearly) is nearly
