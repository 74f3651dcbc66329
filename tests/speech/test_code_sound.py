"""The mel of audio codes: as long as the clip, as loud, and what the recogniser hears of a recording."""

import numpy as np
import pytest
import tiny
import torch

from xtts_ka.core.errors import UserError
from xtts_ka.recognition.recogniser import MELS
from xtts_ka.speech.code_sound import FRAME_SECONDS, CodeSound, mel_loudness


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write_base_model(tmp_path_factory.mktemp("sound") / "base")


def test_the_mel_is_the_dvaes_at_the_recognisers_frame_rate(folder):
    sound = CodeSound(folder, "cpu")
    codes = torch.randint(0, sound.dvae.num_tokens, (43,), generator=torch.Generator().manual_seed(1))
    mel = sound.mel(codes.tolist())
    assert mel.shape == (round(43 * 1024 / 22050 / FRAME_SECONDS), MELS)
    with torch.inference_mode():
        own = (sound.dvae.decode(codes[None])[0][0] * sound.scale[:, None]).T
    assert torch.allclose(mel.mean(0), own.mean(0), atol=0.05 * float(own.std()))


def test_start_and_stop_tokens_sound_like_nothing(folder):
    sound = CodeSound(folder, "cpu")
    codes = [3, 1, 4]
    assert torch.equal(sound.mel([3, sound.dvae.num_tokens, 1, sound.dvae.num_tokens + 1, 4]), sound.mel(codes))
    for nothing in ((), (sound.dvae.num_tokens,)):
        assert sound.mel(nothing).shape == (1, MELS) and mel_loudness(sound.mel(nothing))[0] < -60


def test_loudness_is_in_decibels():
    mel = torch.zeros(2, MELS)
    mel[1] = np.log(100.0)
    quiet, loud = mel_loudness(mel)
    assert loud - quiet == pytest.approx(20, abs=1e-3)


def test_a_dvae_without_its_decoder_is_refused(folder, tmp_path):
    for name in ("config.json", "vocab.json", "mel_stats.pth"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    weights = torch.load(folder / "dvae.pth")
    torch.save(
        {name: value for name, value in weights.items() if not name.startswith("decoder.")}, tmp_path / "dvae.pth"
    )
    with pytest.raises(UserError, match="dvae.pth is not the DVAE of this XTTS"):
        CodeSound(tmp_path, "cpu")


def test_the_key_changes_with_the_dvae_and_its_scale(folder, tmp_path):
    one = CodeSound(folder, "cpu")
    assert CodeSound(folder, "cpu").key == one.key
    (tmp_path / "other").mkdir()
    for name in ("config.json", "vocab.json", "dvae.pth", "mel_stats.pth"):
        (tmp_path / "other" / name).write_bytes((folder / name).read_bytes())
    torch.save(torch.load(folder / "mel_stats.pth") + 1, tmp_path / "other/mel_stats.pth")
    assert CodeSound(tmp_path / "other", "cpu").key != one.key
