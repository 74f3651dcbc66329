import json
import pickle
import shutil

import pytest
import tiny
import torch
from TTS.tts.layers.tortoise.arch_utils import TorchMelSpectrogram

from xtts_ka.core.config import STARTER_MARK
from xtts_ka.core.errors import UserError
from xtts_ka.model.checkpoint import (
    XttsFiles,
    extended_config,
    grow_text_rows,
    missing_base_files,
    read_model,
    write_model,
)
from xtts_ka.model.features import FeatureExtractor, VoiceEncoder, load_speech
from xtts_ka.model.geometry import codes_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbone")
    recordings = tiny.write_recordings(root / "wavs")
    return tiny.write_base_model(root / "base", recordings), [load_speech(path) for path in recordings]


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder[0], tmp_path / "base")


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_reading_changes_nothing_in_the_folder(folder):
    before = content(folder[0])
    model = read_model(folder[0])
    assert content(folder[0]) == before
    assert model.text_rows == 410 and model.config.model_args.gpt_start_text_token == 261


def test_a_checkpoint_with_a_pickled_config_is_read_and_not_rewritten(copied, monkeypatch):
    """The released model.pth holds an XttsConfig, two of its classes under their former module path."""
    from TTS.tts.configs import xtts_config

    model = read_model(copied)
    state = {name: tensor.clone() for name, tensor in model.state.items()}
    for cls in (xtts_config.XttsArgs, xtts_config.XttsAudioConfig):
        monkeypatch.setattr(cls, "__module__", "TTS.tts.models.xtts")
    torch.save(
        {
            "model": {f"xtts.{name}": tensor for name, tensor in state.items()} | {"xtts.dvae.x": torch.ones(1)},
            "config": model.config,
        },
        copied / "model.pth",
    )
    monkeypatch.undo()
    before = content(copied)
    again = read_model(copied)
    assert again.state.keys() == state.keys() and all(torch.equal(again.state[name], state[name]) for name in state)
    assert content(copied) == before


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("name", ["model.pth", "dvae.pth", "mel_stats.pth"])
def test_code_in_a_weights_file_is_refused_and_not_run(copied, tmp_path, name):
    marker = tmp_path / "executed"
    torch.save({"model": Evil(marker)}, copied / name)
    with pytest.raises(UserError, match=name):
        FeatureExtractor(copied, read_model(copied).config)
    (copied / name).write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises(UserError, match=name):
        FeatureExtractor(copied, read_model(copied).config)
    assert not marker.exists()


def test_damage_is_mended_where_the_model_came_from(copied):
    (copied / "model.pth").write_bytes(b"")
    with pytest.raises(UserError, match="remove the folder .*starter mode makes it again"):
        read_model(copied)
    (copied / STARTER_MARK).unlink()
    with pytest.raises(UserError, match="fetch it again with: hf download coqui/XTTS-v2"):
        read_model(copied)


def test_each_fault_of_a_base_folder_is_one_sentence(copied, tmp_path):
    assert missing_base_files(tmp_path / "nowhere") == [
        "config.json",
        "model.pth",
        "vocab.json",
        "dvae.pth",
        "mel_stats.pth",
    ]
    with pytest.raises(UserError, match="hf download coqui/XTTS-v2"):
        read_model(tmp_path / "nowhere")
    raw = json.loads((copied / "config.json").read_text())
    for change, words in (
        ({"model": "vits"}, "'vits'"),
        ({"model_args": {**raw["model_args"], "gpt_n_model_channels": 128}}, "another architecture"),
        ({"model_args": {**raw["model_args"], "gpt_use_perceiver_resampler": False}}, "XTTS v1"),
    ):
        (copied / "config.json").write_text(json.dumps({**raw, **change}))
        with pytest.raises(UserError, match=words):
            read_model(copied)
    (copied / "config.json").write_text(json.dumps(raw))
    vocabulary = json.loads((copied / "vocab.json").read_text("utf-8"))
    for content in (
        "{}",
        "[]",
        "null",
        '{"model": 3}',
        '{"model": {"vocab": {"[START]": "1", "[STOP]": 0}}}',
        json.dumps({"model": {"vocab": vocabulary["model"]["vocab"] | {"ა": 2**31}}}),
    ):
        (copied / "vocab.json").write_text(content)
        with pytest.raises(UserError, match="vocab.json"):
            read_model(copied)


def test_numbers_that_would_fill_the_memory_are_refused_before_anything_is_built(copied):
    raw = json.loads((copied / "config.json").read_text())
    for name, value in (
        ("gpt_layers", 10**9),
        ("gpt_layers", 513),
        ("gpt_layers", 0),
        ("gpt_n_heads", 0),
        ("gpt_n_heads", 3),
        ("gpt_max_text_tokens", -1),
        ("gpt_max_audio_tokens", 10**12),
        ("gpt_num_audio_tokens", 1.5),
        ("gpt_n_model_channels", "64"),
        ("d_vector_dim", True),
        ("d_vector_dim", [1]),
        ("decoder_input_dim", 131072),
        ("gpt_code_stride_len", 10**30),
    ):
        (copied / "config.json").write_text(json.dumps(raw | {"model_args": raw["model_args"] | {name: value}}))
        with pytest.raises(UserError, match="config.json" if value else "config.json|model.pth"):
            read_model(copied)


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(folder, copied):
    model = read_model(folder[0])
    for hostile in (
        torch.zeros(1).expand(10**9, 64),
        torch.zeros(410, 64).to_sparse(),
        torch.zeros(410, 64, device="meta"),
    ):
        torch.save({"model": {**model.state, "gpt.text_embedding.weight": hostile}}, copied / "model.pth")
        with pytest.raises(UserError, match="model.pth"):
            read_model(copied)


def test_a_decoder_of_another_shape_is_one_sentence(folder):
    model = read_model(folder[0])
    for name in ("hifigan_decoder.waveform_decoder.conv_pre.bias", "hifigan_decoder.speaker_encoder.fc.weight"):
        for state in ({**model.state, name: torch.zeros(3)}, {k: v for k, v in model.state.items() if k != name}):
            with pytest.raises(UserError, match="not whole.*conv_pre|not whole.*fc.weight"):
                VoiceEncoder(model.config, state)


def test_growing_touches_only_the_text_table_and_its_head(folder, tmp_path):
    model = read_model(folder[0])
    state = grow_text_rows(model, torch.ones(3, 64), torch.full((3, 64), 2.0), torch.full((3,), 3.0))
    changed = {name for name, tensor in state.items() if tensor is not model.state[name]}
    assert changed == {"gpt.text_embedding.weight", "gpt.text_head.weight", "gpt.text_head.bias"}
    for name, value in zip(sorted(changed), (1.0, 3.0, 2.0)):
        assert torch.equal(state[name][:-3], model.state[name]) and (state[name][-3:] == value).all()
    config = extended_config(model.config, "ka", 413)
    assert config.languages[-1] == "ka" and "ka" not in model.config.languages
    for name in ("dvae.pth", "mel_stats.pth"):
        shutil.copy(folder[0] / name, tmp_path)
    vocabulary = json.loads((folder[0] / "vocab.json").read_text("utf-8"))
    vocabulary["model"]["vocab"] |= {"ა": 410, "ბ": 411, "გ": 412}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    write_model(tmp_path, config, state)
    again = read_model(tmp_path)
    assert again.text_rows == 413 and all(torch.equal(again.state[name], state[name]) for name in state)


def coqui_mels(base):
    """coqui's own spectrograms, as its GPTTrainer builds them: (for the DVAE, for conditioning)."""
    stats = {"mel_norm_file": str(base / "mel_stats.pth"), "sampling_rate": 22050}
    return TorchMelSpectrogram(**stats), TorchMelSpectrogram(
        filter_length=2048,
        hop_length=256,
        win_length=1024,
        normalize=False,
        mel_fmin=0,
        mel_fmax=8000,
        n_mel_channels=80,
        **stats,
    )


def test_codes_and_mels_are_the_same_alone_and_in_company_and_as_coqui_computes_them(folder):
    base, speech = folder
    extractor = FeatureExtractor(base, read_model(base).config)
    dvae_mel, style_mel = coqui_mels(base)
    speech = [*speech, speech[0][:, :1025], speech[1][:, :7000], speech[2][:, : 256 * 40], speech[3][:, : 256 * 40 - 1]]
    for clip, (codes, mel) in zip(speech, extractor(speech)):
        alone = extractor([clip])[0]
        theirs = extractor.dvae.get_codebook_indices(dvae_mel(clip))[0]
        assert torch.equal(codes, alone[0]) and torch.equal(codes, theirs[: codes_of(clip.shape[1])])
        torch.testing.assert_close(mel, style_mel(clip)[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mel, alone[1], rtol=1e-5, atol=1e-5)
        assert mel.shape == (80, clip.shape[1] // 256 + 1)


def test_voice_encoder_gives_what_coqui_gives(folder):
    base, speech = folder
    model = read_model(base)
    encoder = VoiceEncoder(model.config, model.state)
    embedding, latent = encoder.speaker_embedding(speech[0]), encoder.cond_latent(speech[0])
    assert embedding.shape == (1, 512, 1) and float(embedding.norm()) == pytest.approx(1, abs=1e-5)
    assert latent.shape == (1, 32, 64)
    from TTS.tts.models.xtts import Xtts

    reference = Xtts(extended_config(model.config, "ka", model.text_rows))
    reference.load_state_dict(model.state)
    torch.nn.Module.train(reference, False)
    torch.testing.assert_close(latent, reference.get_gpt_cond_latents(speech[0], 22050).cpu())


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 44101, 48000])
def test_speech_of_any_rate_comes_out_at_22050(tmp_path, rate):
    import math

    import soundfile

    time = torch.arange(rate) / rate
    soundfile.write(tmp_path / "a.wav", (0.5 * torch.sin(2 * math.pi * 440 * time)).numpy(), rate)
    speech = load_speech(tmp_path / "a.wav")
    assert speech.shape[0] == 1 and abs(speech.shape[1] - 22050) <= 1
    spectrum = torch.fft.rfft(speech[0]).abs()
    assert abs(int(spectrum.argmax()) - 440) <= 1


def test_gap_ids_need_rows_too(folder):
    vocabulary = json.loads((folder[0] / "vocab.json").read_text())["model"]["vocab"]
    model = read_model(folder[0])
    assert isinstance(model, XttsFiles) and model.text_rows == max(vocabulary.values()) + 1 > len(vocabulary)
