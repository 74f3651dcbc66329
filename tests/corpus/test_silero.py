"""The network over whole clips gives what silero-vad gives chunk by chunk."""

import numpy as np
import pytest
import torch

from xtts_ka.corpus.silero import CHUNK, RATE, SpeechStream, speech_probabilities


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    from scipy.signal import resample_poly

    from xtts_ka.starter.speech import synthesise

    wave = resample_poly(synthesise("დილით მზე ამოვიდა და ჩიტები ამღერდნენ.", "ka+f2"), 320, 441)
    silence = np.zeros(RATE)
    return np.concatenate([silence, wave, silence]).astype(np.float32)


def original(wave: np.ndarray) -> np.ndarray:
    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad

    torch.set_num_threads(threads)
    model = load_silero_vad()
    padded = torch.from_numpy(np.pad(wave, (0, -len(wave) % CHUNK)))
    with torch.inference_mode():
        return np.array([model(chunk, RATE).item() for chunk in padded.split(CHUNK)])


def test_the_same_numbers_as_the_original(spoken):
    (found,) = speech_probabilities([spoken])
    assert np.abs(found - original(spoken)).max() < 1e-4
    assert found[:25].max() < 0.2 and found[40:60].min() > 0.3 and found[-20:].max() < 0.2


def test_a_clip_is_judged_alike_alone_and_among_others(spoken):
    short, nothing = spoken[: 2 * RATE], np.zeros(0, np.float32)
    together = speech_probabilities([short, nothing, spoken])
    assert np.allclose(together[0], speech_probabilities([short])[0], atol=1e-5)
    assert np.allclose(together[2], speech_probabilities([spoken])[0], atol=1e-5)
    assert len(together[1]) == 0
    assert speech_probabilities([nothing])[0].shape == (0,)


def test_a_stream_of_pieces_gives_what_the_whole_gives():
    rng = np.random.default_rng(2)
    wave = (rng.standard_normal(512 * 40) * np.repeat(rng.uniform(0, 0.3, 40), 512)).astype(np.float32)
    stream = SpeechStream()
    pieces = [stream(wave[512 * first : 512 * last]) for first, last in ((0, 3), (3, 3), (3, 30), (30, 40))]
    assert np.allclose(np.concatenate(pieces), speech_probabilities([wave])[0], atol=1e-6)
