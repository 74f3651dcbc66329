"""What training did to old languages: on espeak's speech, with weights whose losses are known beforehand."""

import math
import sys
from pathlib import Path

import pytest
import tiny
import torch
from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.audio import write_wav
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.starter.speech import synthesise
from xtts_ka.training.gpt_trainer import build_accelerator
from xtts_ka.training.old_languages import check_replay, largest_changes, measure_losses

SPOKEN = {
    "de": ("Guten Morgen.", "Es kostet 20€.", "Das Wetter ist schön.", "Wie geht es dir?", "Ich lese ein Buch."),
    "en": ("The weather is fine.", "Dr. Smith is here."),
    "hi": ("12.5 लोग",),  # coqui 0.28 itself stops at this number
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("old")
    for language, sentences in SPOKEN.items():
        folder = home / "replay" / language
        (folder / "wavs").mkdir(parents=True)
        lines = ["audio_file|text|speaker_name"]
        for number, sentence in enumerate(sentences):
            write_wav(folder / f"wavs/{number}.wav", synthesise(sentence, language), 22050)
            lines.append(f"wavs/{number}.wav|{sentence}|{'eva' if language == 'de' else ''}")
        (folder / "metadata.csv").write_text("\n".join(lines) + "\n", "utf-8")
    (home / "replay/de/wavs/4.wav").write_bytes(b"RIFF")
    return tiny.build_world(home, replay_dir=str(home / "replay"))


@pytest.fixture
def trained(world):
    """A copy of the GPT with Georgian rows, whose old weights are the base model's."""
    return {name: tensor.clone().float() for name, tensor in world.model.gpt_state().items()}


@pytest.fixture
def measure(world):
    base = tiny.read_model(world.config.base_model_path)
    return lambda weights: measure_losses(world.config, base, [weights], world.data, build_accelerator(world.config))


def test_a_model_with_the_base_s_weights_has_the_base_s_losses(measure, trained):
    trained["text_head.bias"][-60:] = -1e4  # Georgian tokens are out of the question
    found = measure(trained)
    assert found.keys() == {"de", "en"}
    for figures in found.values():
        for before, after in (figures["loss_text"], figures["loss_mel"]):
            assert before > 1 and after == pytest.approx(before, rel=1e-6)


def test_losses_are_nats_a_token_of_each_model(measure, trained):
    rows = len(trained["text_head.bias"])
    for part in ("text_head.weight", "text_head.bias", "mel_head.weight", "mel_head.bias"):
        trained[part].zero_()
    found = measure(trained)
    for (before, after), chance in ((found["de"]["loss_text"], rows), (found["en"]["loss_mel"], 1026)):
        assert after == pytest.approx(math.log(chance), rel=1e-5) and before != pytest.approx(after, rel=1e-4)


def rows_of(batch, stop):
    """The text tokens of each row."""
    rows = [[]]
    for token in batch["text_target"].tolist():
        rows[-1].append(token)
        if token == stop:
            rows.append([])
    return sorted(row[:-1] for row in rows[:-1])


def test_text_is_tokenised_as_coqui_does_and_voices_are_other_clips_of_known_speakers(
    world, measure, trained, monkeypatch
):
    batches, forward = [], CompactGPT.forward

    def noted(self, batch):
        batches.append(batch)
        return forward(self, batch)

    monkeypatch.setattr(CompactGPT, "forward", noted)
    measure(trained)
    german, english, german_after, _ = batches
    tensors = [name for name in german if isinstance(german[name], torch.Tensor)]
    assert len(tensors) > 5 and all(torch.equal(german[name], german_after[name]) for name in tensors)
    coqui = VoiceBpeTokenizer(world.model.folder / "vocab.json")
    for language, batch in (("de", german), ("en", english)):
        wanted = sorted(coqui.encode(text, language) for text in SPOKEN[language][:4])
        assert rows_of(batch, world.model.config.model_args.gpt_stop_text_token) == wanted
    assert len(german["audio_target"]) == len(german["audio"]) and len(english["audio_target"]) < len(english["audio"])


def test_clips_that_cannot_be_read_are_named_and_passed_over(measure, trained, capsys):
    found = measure(trained)
    assert (found["de"]["clips"], found["en"]["clips"]) == (4, 2) and found["en"]["seconds"] > 1
    said = capsys.readouterr().err
    assert "1 clips in de cannot be read and are not measured: de/wavs/4.wav" in said and "1 clips in hi" in said


def test_out_of_memory_measures_fewer_clips_at_a_time_with_the_same_result(measure, trained, monkeypatch):
    whole, forward = measure(trained), CompactGPT.forward

    def small(self, batch):
        if batch["shape"][0] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, batch)

    monkeypatch.setattr(CompactGPT, "forward", small)
    for language, figures in measure(trained).items():
        for loss in ("loss_text", "loss_mel"):
            assert figures[loss] == pytest.approx(whole[language][loss], rel=1e-5)


def test_the_largest_change_of_an_old_row_is_named(world, trained):
    base = tiny.read_model(world.config.base_model_path)
    token = VoiceBpeTokenizer(base.vocab_file).tokenizer.token_to_id("[de]")
    trained["text_embedding.weight"][-1] += 9  # a new row is no old one
    trained["text_embedding.weight"][token, 3] -= 0.5
    before = base.state["gpt.text_embedding.weight"][token].float().norm()
    changes = largest_changes(base, trained)
    assert changes["text_embedding"] == {
        "token": "[de]",
        "max_abs": pytest.approx(0.5, rel=1e-3),
        "share_of_norm": pytest.approx(0.5 / float(before), rel=1e-3),
    }
    assert changes["text_head"]["max_abs"] == 0


def replay(world, folder, language, text):
    (folder / language).mkdir()
    (folder / language / "metadata.csv").write_text(f"audio_file|text\na.wav|{text}\n", "utf-8")
    return world.config.model_copy(update={"replay_dir": str(folder)})


def test_a_language_that_coqui_cannot_read_here_is_refused_beforehand(world, tmp_path, monkeypatch):
    check_replay(world.config.model_copy(update={"replay_dir": None}))
    with pytest.raises(UserError, match="coqui can read no text in hi"):
        check_replay(world.config)
    monkeypatch.setitem(sys.modules, "pypinyin", None)
    with pytest.raises(UserError, match=r'needs a package .*pypinyin.*"coqui-tts\[zh\]", or take zh-cn out'):
        check_replay(replay(world, tmp_path, "zh-cn", "你好"))


def test_georgian_alone_is_refused_beforehand(world, tmp_path):
    with pytest.raises(UserError, match=f"replay_dir {Path(tmp_path)} holds clips in Georgian only"):
        check_replay(replay(world, tmp_path, "ka", "გამარჯობა"))
