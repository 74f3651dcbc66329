import pytest
import torch
from TTS.tts.layers.xtts.hifigan_decoder import HifiDecoder

from xtts_ka.model.latents import SAMPLES_PER_LATENT, code_nats, decode_latents, teacher_forced_latents
from xtts_ka.model.networks import build_gpt, build_vocoder, tiny_config


@pytest.fixture(scope="module")
def gpt():
    torch.manual_seed(0)
    return build_gpt(tiny_config(2, 64, 2, 300), 300).eval()


def rows():
    draw = torch.Generator().manual_seed(1)
    texts = [torch.randint(1, 260, (n,), generator=draw) for n in (5, 11)]
    codes = [torch.randint(0, 1024, (n,), generator=draw) for n in (17, 9)]
    return torch.randn(2, 32, 64, generator=draw), texts, codes


@torch.no_grad()
def test_latents_are_those_of_coquis_inference(gpt):
    voices, texts, codes = rows()
    for row, latents in enumerate(teacher_forced_latents(gpt, voices, texts, codes)):
        theirs = gpt(
            texts[row][None],
            torch.tensor([len(texts[row])]),
            codes[row][None],
            torch.tensor([len(codes[row]) * gpt.code_stride_len]),
            cond_latents=voices[row : row + 1],
            return_attentions=False,
            return_latent=True,
        )
        assert latents.shape == (len(codes[row]), 64)
        torch.testing.assert_close(latents[None], theirs, atol=2e-5, rtol=1e-4)


def test_code_nats_fall_for_codes_that_the_head_prefers(gpt):
    voices, texts, codes = rows()
    before = code_nats(gpt, voices, texts, codes)
    assert before == pytest.approx(6.93, abs=1.0)  # ln 1,026, of an untrained head
    with torch.no_grad():
        gpt.mel_head.bias[torch.cat(codes)] += 2.0
    assert code_nats(gpt, voices, texts, codes) < before - 1


@torch.no_grad()
def test_the_vocoder_reads_latents_as_coquis_decoder():
    decoder = HifiDecoder(decoder_input_dim=16).eval()
    vocoder = build_vocoder(16).eval()
    vocoder.load_state_dict(decoder.waveform_decoder.state_dict(), strict=True)
    latents, voices = torch.randn(2, 5, 16), torch.randn(2, 512, 1)
    wave = decode_latents(vocoder, latents, voices)
    torch.testing.assert_close(wave, decoder(latents, g=voices), atol=1e-5, rtol=1e-4)
    assert 0 <= 5 * SAMPLES_PER_LATENT - wave.shape[-1] < 256  # whole frames
