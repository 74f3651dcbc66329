"""Codes, mels and voices: as coqui computes them, and each clip's the same alone and in a batch."""

import math
import pickle

import numpy as np
import pytest
import soundfile
import torch
from TTS.tts.layers.tortoise.arch_utils import TorchMelSpectrogram
from TTS.tts.models.xtts import Xtts

from xtts_ka.core.errors import RunError, UserError
from xtts_ka.model.checkpoint import extended_config
from xtts_ka.model.features import FeatureExtractor, VoiceEncoder, load_speech
from xtts_ka.model.geometry import codes_of, frames_of


def coqui_mels(folder):
    """coqui's own spectrograms, as its GPTTrainer builds them: (for the DVAE, for conditioning)."""
    stats = {"mel_norm_file": str(folder / "mel_stats.pth"), "sampling_rate": 22050}
    style = {"filter_length": 2048, "hop_length": 256, "win_length": 1024, "normalize": False, "n_mel_channels": 80}
    return TorchMelSpectrogram(**stats), TorchMelSpectrogram(**style, mel_fmin=0, mel_fmax=8000, **stats)


def test_codes_and_mels_are_the_same_alone_and_in_a_batch_and_as_coqui_computes_them(base_folder, base, speech):
    extractor = FeatureExtractor(base_folder, base.config)
    dvae_mel, style_mel = coqui_mels(base_folder)
    clips = [*speech, speech[0][:, :1025], speech[1][:, :7000], speech[2][:, : 256 * 40], speech[3][:, : 256 * 40 - 1]]
    for clip, (codes, mel) in zip(clips, extractor(clips)):
        alone = extractor([clip])[0]
        theirs = extractor.dvae.get_codebook_indices(dvae_mel(clip))[0]
        assert torch.equal(codes, alone[0]) and torch.equal(codes, theirs[: codes_of(clip.shape[1])])
        torch.testing.assert_close(mel, style_mel(clip)[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mel, alone[1], rtol=1e-5, atol=1e-5)
        assert mel.shape == (80, frames_of(clip.shape[1]))


def test_vectors_are_what_the_codes_were_quantised_from(base_folder, base, speech):
    extractor = FeatureExtractor(base_folder, base.config)
    codebook = extractor.dvae.codebook.embed.T
    for vectors, (codes, _) in zip(extractor.vectors(speech[:3]), extractor(speech[:3])):
        assert vectors.shape == (len(codes), codebook.shape[1])
        assert torch.equal(torch.cdist(vectors, codebook).argmin(dim=1), codes)


def test_voice_encoder_gives_what_coqui_gives(base, speech):
    encoder = VoiceEncoder(base.config, base.state)
    embedding, latent = encoder.speaker_embedding(speech[0]), encoder.cond_latent(speech[0])
    assert embedding.shape == (1, 512, 1) and float(embedding.norm()) == pytest.approx(1, abs=1e-5)
    assert latent.shape == (1, 32, 64)
    reference = Xtts(extended_config(base.config, "ka", base.text_rows))
    reference.load_state_dict(base.state)
    torch.nn.Module.train(reference, False)
    torch.testing.assert_close(latent, reference.get_gpt_cond_latents(speech[0], 22050).cpu())
    assert torch.equal(VoiceEncoder.of(reference).cond_latent(speech[0]), latent)


def test_a_loaded_model_without_memory_for_a_voice_is_one_sentence_too(base, speech, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    encoder = VoiceEncoder.of(Xtts(extended_config(base.config, "ka", base.text_rows)))
    monkeypatch.setattr(Xtts, "get_gpt_cond_latents", full)
    with pytest.raises(RunError, match="out of memory while computing voices"):
        encoder.cond_latent(speech[0])


@pytest.fixture
def little_memory(monkeypatch):
    """The number of clips that the DVAE can encode at a time; more are out of memory."""
    most, dvae_encoder = [0], torch.nn.Conv1d.forward

    def forward(self, x):
        if len(x) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return dvae_encoder(self, x)

    def allow(clips):
        most[0] = clips
        monkeypatch.setattr(torch.nn.Conv1d, "forward", forward)

    return allow


def test_out_of_memory_fewer_clips_are_encoded_at_a_time_with_the_same_result(base_folder, base, speech, little_memory):
    extractor = FeatureExtractor(base_folder, base.config)
    whole = extractor(speech)
    little_memory(3)
    for (codes, mel), (expected, expected_mel) in zip(extractor(speech), whole, strict=True):
        assert torch.equal(codes, expected)
        torch.testing.assert_close(mel, expected_mel, rtol=1e-5, atol=1e-5)


def test_out_of_memory_for_a_single_clip_is_one_sentence(base_folder, base, speech, little_memory):
    extractor = FeatureExtractor(base_folder, base.config)
    little_memory(0)
    with pytest.raises(RunError, match="even of a single clip: close other programs that use memory, then run"):
        extractor(speech)


@pytest.mark.parametrize("where", ["to", "get_gpt_cond_latents"])
def test_voices_that_the_gpu_cannot_hold_are_computed_on_the_cpu(base, speech, monkeypatch, capsys, where):
    expected, original, moved = VoiceEncoder(base.config, base.state).cond_latent(speech[0]), Xtts.to, []

    def on_a_small_gpu(*args):
        if moved[-1] == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return work(*args)

    def to(self, device):  # there may be no GPU here
        moved.append(device)
        if device == "cuda" and where == "to":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, "cpu")

    work = Xtts.get_gpt_cond_latents
    monkeypatch.setattr(Xtts, "to", to)
    monkeypatch.setattr(Xtts, "get_gpt_cond_latents", on_a_small_gpu)
    latent = VoiceEncoder(base.config, base.state, "cuda").cond_latent(speech[0])
    assert moved[0] == "cuda" and set(moved[1:]) == {"cpu"} and "the CPU computes them" in capsys.readouterr().err
    torch.testing.assert_close(latent, expected)


def test_voices_that_the_cpu_cannot_hold_are_one_sentence(base, speech, monkeypatch):
    def full(*args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")

    monkeypatch.setattr(Xtts, "get_gpt_cond_latents", full)
    with pytest.raises(RunError, match="out of memory while computing voices: close other programs"):
        VoiceEncoder(base.config, base.state).cond_latent(speech[0])


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 44101, 48000])
def test_speech_of_any_rate_is_read_at_22050(tmp_path, rate):
    time = torch.arange(rate) / rate
    soundfile.write(tmp_path / "a.wav", (0.5 * torch.sin(2 * math.pi * 440 * time)).numpy(), rate)
    speech = load_speech(tmp_path / "a.wav")
    assert speech.shape[0] == 1 and abs(speech.shape[1] - 22050) <= 1
    assert abs(int(torch.fft.rfft(speech[0]).abs().argmax()) - 440) <= 1


def test_stereo_is_mixed_and_loud_sound_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile(np.float32([[3.0, 0.5]]), (22050, 1)), 22050, subtype="FLOAT")
    assert torch.equal(load_speech(tmp_path / "a.wav", max_seconds=0.5), torch.ones(1, 11025))


def test_a_decoder_of_another_shape_is_one_sentence(base):
    for name in ("hifigan_decoder.waveform_decoder.conv_pre.bias", "hifigan_decoder.speaker_encoder.fc.weight"):
        for state in ({**base.state, name: torch.zeros(3)}, {k: v for k, v in base.state.items() if k != name}):
            with pytest.raises(UserError, match="damaged.*conv_pre|damaged.*fc.weight"):
                VoiceEncoder(base.config, state)


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("name", ["dvae.pth", "mel_stats.pth"])
def test_code_in_a_weights_file_is_refused_and_not_run(copied_base, base, tmp_path, name):
    marker = tmp_path / "executed"
    for content in ("torch", "pickle"):
        if content == "torch":
            torch.save({"model": Evil(marker)}, copied_base / name)
        else:
            (copied_base / name).write_bytes(pickle.dumps(Evil(marker)))
        with pytest.raises(UserError, match=name):
            FeatureExtractor(copied_base, base.config)
    assert not marker.exists()


def test_another_dvae_and_other_mel_stats_are_refused(copied_base, base):
    weights = torch.load(copied_base / "dvae.pth", weights_only=True)
    torch.save({**weights, "more": torch.zeros(1)}, copied_base / "dvae.pth")
    FeatureExtractor(copied_base, base.config)  # what it does not read does no harm
    weights["codebook.embed"] = weights["codebook.embed"][:, :100].clone()
    torch.save(weights, copied_base / "dvae.pth")
    with pytest.raises(UserError, match="is not the DVAE of this XTTS"):
        FeatureExtractor(copied_base, base.config)
    torch.save(torch.ones(81), copied_base / "mel_stats.pth")
    with pytest.raises(UserError, match="one tensor of 80 numbers"):
        FeatureExtractor(copied_base, base.config)
