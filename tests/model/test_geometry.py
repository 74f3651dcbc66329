import numpy as np
import pytest
import torch
from TTS.tts.configs.xtts_config import XttsArgs, XttsAudioConfig

from xtts_ka.model import geometry as g
from xtts_ka.model.networks import build_gpt, tiny_config


@pytest.mark.parametrize("samples, codes, frames", [(1, 1, 1), (1024, 1, 5), (1025, 2, 5), (22050, 22, 87)])
def test_codes_and_frames_of_a_clip_by_hand(samples, codes, frames):
    assert (g.codes_of(samples), g.frames_of(samples)) == (codes, frames)


def test_lengths_stored_as_unsigned_numbers_count_alike():
    lengths = np.array([1, 1023, 1024, 1025, 600_000, 2**32 - 1024], np.uint32)
    assert g.codes_of(lengths).tolist() == [g.codes_of(int(n)) for n in lengths]
    assert g.frames_of(lengths).tolist() == [g.frames_of(int(n)) for n in lengths]


def test_the_numbers_are_those_of_coquis_released_model():
    args, audio = XttsArgs(), XttsAudioConfig()
    assert (audio.sample_rate, args.gpt_code_stride_len) == (g.SAMPLE_RATE, g.CODE_STRIDE)
    assert (args.gpt_max_text_tokens, args.gpt_max_audio_tokens) == (g.MAX_TEXT_TOKENS, g.MAX_AUDIO_TOKENS)
    assert args.d_vector_dim == g.SPEAKER_WIDTH and pytest.approx(28.0, abs=0.01) == g.MAX_SPEECH_SECONDS


def test_the_conditioning_positions_are_the_perceivers():
    gpt = build_gpt(tiny_config(1, 64, 2, 300), 300)
    with torch.inference_mode():
        assert gpt.get_style_emb(torch.zeros(1, g.MEL_BANDS, 50)).shape == (1, 64, g.COND_POSITIONS)
