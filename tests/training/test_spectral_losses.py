import math

import torch
from torchaudio.transforms import MelSpectrogram

from xtts_ka.training.spectral_losses import SpectralLoss


def tone(frequency: float, loudness: float = 0.3, phase: float = 0.0) -> torch.Tensor:
    time = torch.arange(6000) / 24000
    return loudness * torch.sin(2 * math.pi * frequency * time + phase)[None]


def test_equal_waves_have_no_distance_and_phase_hardly_counts():
    loss = SpectralLoss(24000)
    assert [float(part) for part in loss(tone(440), tone(440))] == [0, 0]
    shifted, higher = loss(tone(440, phase=1.0), tone(440)), loss(tone(600), tone(440))
    assert all(2 * s < h for s, h in zip(shifted, higher))


def test_a_louder_wave_is_farther_by_its_level():
    mel, _ = SpectralLoss(24000)(tone(440, 0.3), tone(440, 0.03))
    assert 0.2 < mel < math.log(10)  # that is the difference of the bands above the floor


def test_silence_has_finite_gradients():
    wave = torch.zeros(1, 6000, requires_grad=True)
    mel, stft = SpectralLoss(24000)(wave, tone(440))
    (mel + stft).backward()
    assert torch.isfinite(wave.grad).all()
    mel, stft = SpectralLoss(24000)(tone(440), torch.zeros(1, 6000))
    assert math.isfinite(mel + stft)


def test_the_mel_is_slaneys():
    theirs = MelSpectrogram(24000, 1024, 1024, 256, n_mels=80, power=1.0, norm="slaney", mel_scale="slaney")
    wave = tone(440) + tone(3000)
    expected = theirs(wave).clamp(min=1e-5).log().transpose(1, 2)
    torch.testing.assert_close(SpectralLoss(24000).log_mel(wave), expected, atol=2e-3, rtol=1e-3)
