"""What is measured of a recording: planted silence, noise and bandwidth are found where they were put."""

import math

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from xtts_ka.corpus.drop_reasons import Drop
from xtts_ka.corpus.quality import MARGIN, Sound, Unusable, bandwidth, measure_sounds, speech_spans, trimmed
from xtts_ka.corpus.silero import SECONDS_PER_CHUNK

RATE = 22_050


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    from xtts_ka.starter.speech import synthesise

    wave = synthesise("პატარა ბიჭი დილით ეზოში თოვლში თამაშობს.", "ka+m1")
    loud = np.flatnonzero(np.abs(wave) > 0.003)
    return 0.3 * wave[loud[0] : loud[-1] + 1]


def measured(tmp_path, wave: np.ndarray, rate: int = RATE) -> Sound:
    soundfile.write(tmp_path / "clip.wav", np.clip(wave, -1, 1), rate)
    (sound,) = measure_sounds([tmp_path / "clip.wav"], 28.0, False)
    assert isinstance(sound, Sound)
    return sound


def with_noise(speech: np.ndarray, before: float, after: float, snr: float) -> np.ndarray:
    wave = np.concatenate([np.zeros(round(before * RATE)), speech, np.zeros(round(after * RATE))])
    return wave + speech.std() * 10 ** (-snr / 20) * np.random.default_rng(0).standard_normal(len(wave))


@pytest.mark.parametrize("before, after", [(1.0, 2.0), (0.05, 0.05), (0.0, 3.0)])
def test_silence_at_the_ends(tmp_path, speech, before, after):
    sound = measured(tmp_path, with_noise(speech, before, after, 40))
    seconds, quality = sound.content.seconds, sound.quality
    assert quality.silence_start == pytest.approx(before, abs=0.15)
    assert quality.silence_end == pytest.approx(after, abs=0.35)
    start, end = trimmed(quality, seconds)
    assert start <= before + 0.01 and end >= seconds - after - 0.01, "it cuts into the speech"
    assert start >= before - MARGIN - 0.15 and end <= seconds - after + MARGIN + 0.35
    assert (start == 0) == (before < 0.2)


def test_noise_is_not_trimmed_where_it_is_as_loud_as_speech(tmp_path, speech):
    sound = measured(tmp_path, with_noise(speech, 1.5, 1.5, 3))
    assert trimmed(sound.quality, sound.content.seconds) == (0.0, sound.content.seconds)


def test_a_recording_without_speech_is_left_whole(tmp_path):
    hiss = 0.01 * np.random.default_rng(0).standard_normal(2 * RATE)
    sound = measured(tmp_path, hiss)
    assert sound.quality.speech_seconds == 0 and sound.quality.silence_start == pytest.approx(2.0)
    assert trimmed(sound.quality, sound.content.seconds) == (0.0, sound.content.seconds)


@pytest.mark.parametrize("snr", [0, 10, 20, 30])
def test_speech_over_noise(tmp_path, speech, snr):
    sound = measured(tmp_path, with_noise(speech, 0.4, 0.4, snr))
    assert sound.quality.snr == pytest.approx(snr, abs=2.5)


@pytest.mark.parametrize("low", [8_000, 16_000])
def test_bandwidth_of_what_was_made_from_a_lower_rate(speech, low):
    common = math.gcd(low, RATE)
    narrow = resample_poly(speech, low // common, RATE // common)
    wide = resample_poly(narrow, 48_000 // low, 1)
    assert low / 2 * 0.9 <= bandwidth(wide, 48_000) <= low / 2 * 1.2
    assert bandwidth(speech, RATE) > 10_000
    assert bandwidth(np.zeros(4000), RATE) == 0


def test_channels_that_cancel_offset_and_loudness(tmp_path, speech):
    both = np.stack([speech, -0.8 * speech], axis=1)
    sound = measured(tmp_path, both)
    assert sound.content.cancelled == pytest.approx(20 * math.log10(math.hypot(1, 0.8) / math.sqrt(2) / 0.1), abs=0.5)
    assert measured(tmp_path, np.stack([speech, speech], axis=1)).content.cancelled == pytest.approx(0, abs=0.01)
    assert measured(tmp_path, np.stack([speech, 0 * speech], axis=1)).content.cancelled == pytest.approx(3, abs=0.02)
    plain, shifted = measured(tmp_path, speech), measured(tmp_path, speech + 0.1)
    assert shifted.content.offset - plain.content.offset == pytest.approx(0.1, abs=1e-3)
    louder = measured(tmp_path, 2 * speech)
    assert louder.quality.loudness - plain.quality.loudness == pytest.approx(6.02, abs=0.05)


def test_what_cannot_be_decoded_stands_in_its_place(tmp_path, speech):
    soundfile.write(tmp_path / "good.wav", speech, RATE)
    (tmp_path / "bad.wav").write_bytes(b"RIFFnonsense")
    paths = [tmp_path / "none.wav", tmp_path / "good.wav", tmp_path / "bad.wav"]
    none, good, bad = measure_sounds(paths, 28.0, False)
    assert isinstance(none, Unusable) and none.reason == Drop.MISSING_AUDIO
    assert isinstance(bad, Unusable) and bad.reason == Drop.UNREADABLE_AUDIO
    assert isinstance(good, Sound) and Sound.from_json(good.to_json()) == good


def test_clips_together_are_measured_as_alone(tmp_path, speech):
    soundfile.write(tmp_path / "a.wav", speech, RATE)
    soundfile.write(tmp_path / "b.wav", speech[: RATE // 2], RATE)
    together = measure_sounds([tmp_path / "a.wav", tmp_path / "b.wav"], 28.0, False)
    for sound, name in zip(together, "ab"):
        (alone,) = measure_sounds([tmp_path / f"{name}.wav"], 28.0, False)
        assert sound == alone


def test_stretches_of_speech():
    chance = np.array([0.1, 0.3, 0.9, 0.3, 0.1, 0.3, 0.4, 0.1, 0.6], np.float32)
    chunk = SECONDS_PER_CHUNK
    assert speech_spans(chance, 9 * chunk) == [(chunk, 4 * chunk), (8 * chunk, 9 * chunk)]
    assert speech_spans(chance[:0], 0.0) == []
