"""A clip of another person than its table names is found by the voice; an untrained encoder says nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.audio import write_wav
from xtts_ka.corpus.tables import Clip
from xtts_ka.model.voice_check import VoiceCheck

RATE = 16_000


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    return tiny.write_base_model(folder / "base")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two "people", one of low and one of high tones; the first clip of the first is the other's."""
    folder, rng, clips = tmp_path_factory.mktemp("clips"), np.random.default_rng(0), []
    for i in range(16):
        low = i % 2 == 0 and i != 0
        tone = np.sin(2 * np.pi * (200 if low else 3000) * np.arange(RATE) / RATE + i)
        write_wav(folder / f"{i}.wav", 0.3 * tone + 0.02 * rng.standard_normal(RATE), RATE)
        clips.append(Clip(f"c{i}", "ა", "ab"[i % 2], 1.0, folder / f"{i}.wav", None))
    return clips


class Spectrum(torch.nn.Module):
    """Tells tones apart."""

    def forward(self, wave, l2_norm):
        power = torch.fft.rfft(wave[:, :1022]).abs()
        return torch.nn.functional.normalize(power, dim=1)


def test_another_voice_is_suspected(base, clips, tmp_path):
    check = VoiceCheck(base, tmp_path, "cpu")
    check._encoder = Spectrum()
    found = {finding.file_id: finding for finding in check(clips)}
    assert [file_id for file_id, finding in found.items() if finding.suspect] == ["c0"]
    assert found["c0"].value < 0 < 0.5 < min(finding.value for key, finding in found.items() if key != "c0")
    assert "closer to b" in found["c0"].remark
    check._encoder = None  # what was computed is kept, and a torn record cut off
    with open(check._kept, "ab") as file:
        file.write(b"torn")
    assert list(check(clips)) == list(found.values())
    again = VoiceCheck(base, tmp_path, "cpu")
    again._encoder = Spectrum()
    again([*clips, replace(clips[0], file_id="c16", duration=0.9, cut=(0.1, 1.0, 0.0))])
    assert check._kept.stat().st_size == 17 * (24 + 2 * 512)


def test_unknown_and_single_speakers_are_left_out(base, clips, tmp_path):
    check = VoiceCheck(base, tmp_path, "cpu")
    check._encoder = Spectrum()
    unknown = [replace(clip, speaker_known=False) for clip in clips[:4]]
    assert list(check([*unknown, replace(clips[5], speaker_id="alone")])) == []


def test_an_untrained_encoder_compares_nothing(base, clips, tmp_path, capsys):
    mixed = [replace(clip, speaker_id="ab"[i // 2 % 2]) for i, clip in enumerate(clips)]
    assert list(VoiceCheck(base, tmp_path, "cpu")(mixed)) == [] and "voices are not compared" in capsys.readouterr().out


def test_no_model(tmp_path):
    with pytest.raises(UserError):
        VoiceCheck(tmp_path / "none", tmp_path)
