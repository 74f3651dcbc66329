"""Stock coqui reads Georgian as training did, through each of its entrances."""

import json

import numpy as np
import pytest
import soundfile
import tiny
import torch
from tiny import encode
from TTS.api import TTS
from TTS.tts.configs.xtts_config import XttsConfig
from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer
from TTS.tts.models import xtts
from TTS.tts.models.xtts import Xtts

from xtts_ka.core.errors import UserError
from xtts_ka.georgian.reading import Reading
from xtts_ka.georgian.text import normalise, split_sentences
from xtts_ka.model import coqui_georgian
from xtts_ka.model.coqui_georgian import read_facts, register
from xtts_ka.model.vocabulary import load_tokenizer

TEXTS = (
    "II მსოფლიო ომი",
    "USB",
    "20 MB",
    "XIV საუკუნე",
    "WHO",
    "10 °C",
    "ბ-ნი ი. ჭავჭავაძე დაიბადა 1837 წ.",
    "ᲡᲐᲥᲐᲠᲗᲕᲔᲚᲝ",
)
LONG = "ბ-ნი ი. ჭავჭავაძე დაიბადა 1837 წ. სოფ. ყვარელში. II მსოფლიო ომი მოგვიანებით იყო, და USB მაშინ არ არსებობდა!"


@pytest.fixture(scope="module")
def model(georgian_folder):
    """Loaded by coqui alone, and registered afterwards."""
    config = XttsConfig()
    config.load_json(str(georgian_folder / "config.json"))
    model = Xtts(config)
    model.load_checkpoint(config, checkpoint_dir=str(georgian_folder), strict=True)
    register()
    return model


@pytest.fixture(scope="module")
def voice(model):
    return next(iter(model.speaker_manager.speakers.values()))


@pytest.fixture(scope="module")
def tokenizer(georgian_folder):
    return load_tokenizer(georgian_folder / "vocab.json")


@pytest.fixture
def heard(monkeypatch):
    """Token ids that GPTs are given from now on; instead of generating speech they say two codes."""
    from TTS.tts.layers.xtts.gpt import GPT

    ids = []

    def generate(self, cond_latents, text_inputs, **settings):
        ids.append(text_inputs[0].tolist())
        return torch.tensor([[1, 2]])

    def compute_embeddings(self, cond_latents, text_inputs):
        ids.append(text_inputs[0].tolist())
        return text_inputs

    def get_generator(self, fake_inputs, **settings):
        return iter([(torch.tensor([1]), torch.zeros(1, 64))] * 2)

    for function in (generate, compute_embeddings, get_generator):
        monkeypatch.setattr(GPT, function.__name__, function)
    return ids


def expected(tokenizer, text, limit=None):
    reading = normalise(text)
    return [encode(tokenizer, piece) for piece in (split_sentences(reading, limit) if limit else [reading])]


@pytest.mark.parametrize("text", TEXTS)
def test_inference_and_streaming_read_as_training_did(model, voice, tokenizer, heard, text):
    model.inference(text, "ka", **voice)
    model.inference(text=text, language="ka-GE", **voice)
    list(model.inference_stream(text, "ka", **voice))
    assert heard == 3 * expected(tokenizer, text)


@pytest.mark.parametrize("text", [*TEXTS, LONG])
def test_text_splitting_splits_as_this_project_does(model, voice, tokenizer, heard, monkeypatch, text):
    monkeypatch.setitem(model.tokenizer.char_limits, "ka", 40)
    model.inference(text, "ka", enable_text_splitting=True, **voice)
    list(model.inference_stream(text, "ka", enable_text_splitting=True, **voice))
    assert heard == 2 * expected(tokenizer, text, 40)


@pytest.fixture(scope="module")
def api(georgian_folder, model):
    """Loaded by coqui after registering: the model's own character limit is known."""
    return TTS(model_path=str(georgian_folder), config_path=str(georgian_folder / "config.json"), progress_bar=False)


@pytest.mark.parametrize("text", [*TEXTS, LONG])
@pytest.mark.parametrize("split", [True, False])
def test_tts_api_reads_as_training_did(api, tokenizer, heard, text, split):
    api.tts(text, speaker="ეკა", language="ka", split_sentences=split)
    assert heard == expected(tokenizer, text, 40 if split else None)


def test_the_tts_command_reads_as_training_did(georgian_folder, tmp_path, tokenizer, heard):
    out = tmp_path / "a.wav"
    flags = f"--model_path {georgian_folder} --config_path {georgian_folder}/config.json --out_path {out}"
    with pytest.raises(SystemExit) as stop:
        coqui_georgian.tts_command([*flags.split(), "--language_idx", "ka", "--speaker_idx", "ეკა", "--text", LONG])
    assert stop.value.code == 0 and soundfile.info(out).samplerate == 24000
    assert heard == expected(tokenizer, LONG, 40)


def test_a_voice_is_cloned_without_ffmpeg(api, tmp_path, heard, monkeypatch):
    def no_ffmpeg(*_, **__):
        raise RuntimeError("Could not load libtorchcodec")

    monkeypatch.setattr("torchaudio.load", no_ffmpeg)
    sound = np.stack([tiny.noise(2.0), tiny.noise(2.0, 1)], axis=1)
    for suffix in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(tmp_path / f"a.{suffix}", sound, 22050)
        api.tts("USB", speaker_wav=str(tmp_path / f"a.{suffix}"), language="ka", split_sentences=False)
    assert len(heard) == 4
    with pytest.raises(RuntimeError, match="libtorchcodec"):
        xtts.load_audio(tmp_path / "a.m4a", 22050)
    expected = torch.from_numpy(soundfile.read(tmp_path / "a.wav", dtype="float32")[0].mean(axis=1))
    torch.testing.assert_close(xtts.load_audio(str(tmp_path / "a.wav"), 22050)[0], expected)
    assert xtts.load_audio(tmp_path / "a.wav", 16000).shape == (1, 32000)


def test_other_languages_are_read_as_before(model, voice, tokenizer, heard):
    model.inference("Hello THERE, 5 friends.", "en", **voice)
    assert heard == [encode(tokenizer, "hello there, five friends.", "en")]
    assert xtts.split_sentence("Hello THERE.", "en", 30) == ["Hello THERE."]


def test_a_text_with_nothing_to_read_is_one_sentence(model, api, voice, heard):
    for speak in (lambda: model.inference("!?", "ka", **voice), lambda: api.tts("!?", speaker="ეკა", language="ka")):
        with pytest.raises(UserError, match="nothing to read aloud"):
            speak()
    assert heard == []


def test_registering_twice_changes_nothing(model):
    before = Xtts.inference, VoiceBpeTokenizer.__init__, xtts.split_sentence
    register()
    assert (Xtts.inference, VoiceBpeTokenizer.__init__, xtts.split_sentence) == before


def test_old_letters_are_read_as_the_model_was_trained(georgian_folder, tmp_path, model):
    assert VoiceBpeTokenizer(georgian_folder / "vocab.json").preprocess_text("ჴელი", "ka") == "ხელი"
    vocabulary = json.loads((georgian_folder / "vocab.json").read_text("utf-8"))
    vocabulary["model"]["vocab"] |= {letter: 5000 + i for i, letter in enumerate("ჱჲჳჴჵ")}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    kept = VoiceBpeTokenizer(tmp_path / "vocab.json")
    assert kept.preprocess_text("ჴელი", "ka") == "ჴელი" and "ka" not in kept.char_limits
    (tmp_path / "xtts_v2_ka_config.json").write_text('{"character_limit": 70, "archaic": "respell"}')
    told = VoiceBpeTokenizer(tmp_path / "vocab.json")
    assert told.preprocess_text("ჴელი", "ka") == "ხელი" and told.char_limits["ka"] == 70


def test_a_model_s_own_abbreviations_are_read_as_in_training(georgian_folder, tmp_path):
    (tmp_path / "vocab.json").write_bytes((georgian_folder / "vocab.json").read_bytes())
    facts = {"character_limit": 70, **Reading("respell", {"ბჯთ": "ბიუჯეტი"}).facts()}
    (tmp_path / "xtts_v2_ka_config.json").write_text(json.dumps(facts))
    assert VoiceBpeTokenizer(tmp_path / "vocab.json").preprocess_text("ბჯთ-ში", "ka") == "ბიუჯეტში"
    (tmp_path / "xtts_v2_ka_config.json").write_text(json.dumps(facts | {"abbreviations": {"ბჯთ": 5}}))
    with pytest.raises(UserError, match="does not say how the model reads Georgian"):
        read_facts(tmp_path / "xtts_v2_ka_config.json")


@pytest.mark.parametrize("facts", ["[]", "{}", '{"character_limit": 0, "archaic": "keep"}', '{"character_limit": 9}'])
def test_facts_that_say_nothing_are_refused(tmp_path, facts):
    (tmp_path / "xtts_v2_ka_config.json").write_text(facts)
    with pytest.raises(UserError, match="does not say how the model reads Georgian: finish the full_pretrain stage"):
        read_facts(tmp_path / "xtts_v2_ka_config.json")


def test_another_version_of_coqui_is_announced(monkeypatch):
    monkeypatch.setattr(coqui_georgian, "version", lambda name: "0.99.1")
    monkeypatch.setattr(coqui_georgian, "_wrap", lambda *_: None)
    with pytest.warns(UserWarning, match=r"tested with coqui-tts 0\.28\.x, and 0\.99\.1 is installed"):
        register.__wrapped__()
