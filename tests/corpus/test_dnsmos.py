import numpy as np
import pytest

from xtts_ka.corpus import dnsmos
from xtts_ka.starter.speech import synthesise


def test_without_the_extra_nothing_is_rated(monkeypatch):
    monkeypatch.setattr(dnsmos, "installed", lambda: False)
    assert dnsmos.overall(np.zeros(24000, np.float32), 24000) is None


def test_speech_is_rated_above_noise():
    pytest.importorskip("speechmos")
    pytest.importorskip("onnxruntime")
    speech = synthesise("დღეს კარგი ამინდია.", "ka+f2")
    noise = (0.1 * np.random.default_rng(0).standard_normal(len(speech))).astype(np.float32)
    good, bad = (dnsmos.overall(wave, 22050) for wave in (speech, noise))
    assert 1 <= bad < good - 0.5 <= 5
    assert dnsmos.overall(speech[:100], 22050) is None


def test_as_speechmos_rates():
    reference = pytest.importorskip("speechmos.dnsmos")
    wave = synthesise("დღეს კარგი ამინდია და ყველა ბავშვი ეზოში თამაშობს.", "ka+m1")
    for seconds in (2.0, 11.5):
        sound = np.resize(wave, int(seconds * 16_000)).astype(np.float32)
        assert dnsmos.overall(sound, 16_000) == pytest.approx(reference.run(sound, sr=16_000)["ovrl_mos"], abs=1e-3)
