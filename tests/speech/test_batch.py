"""Speaking together equals speaking alone, and speaking alone equals coqui's inference."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from TTS.tts.models.xtts import Xtts

import xtts_ka
from xtts_ka.model.checkpoint import read_model
from xtts_ka.speech import batch
from xtts_ka.speech.batch import Piece, Spoken, decode, draw_together

TEXTS = ("მზე.", "დღეს კარგი ამინდია.", "სად მიდიხარ, მეგობარო?")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("batch")
    base = read_model(tiny.write_base_model(root / "base"))
    return xtts_ka.load_xtts(tiny.write_georgian_model(root / "model", base), "cpu")


def piece(model, text: str, seed: int = 0, most_codes: int = 9, voice: str = "ეკა") -> Piece:
    latent, embedding = model.speaker_manager.speakers[voice].values()
    return Piece(text, latent, embedding, seed, most_codes)


def speak_together(model, pieces) -> list[Spoken]:
    return [decode(model, *each) for each in zip(pieces, draw_together(model, pieces), strict=True)]


def test_the_settings_are_coquis_defaults():
    defaults = {name: p.default for name, p in inspect.signature(Xtts.inference).parameters.items()}
    ours = (batch.TEMPERATURE, batch.TOP_K, batch.TOP_P, batch.REPETITION_PENALTY)
    assert ours == tuple(defaults[name] for name in ("temperature", "top_k", "top_p", "repetition_penalty"))


def test_without_chance_the_waves_are_those_of_inference(model, monkeypatch):
    monkeypatch.setattr(batch, "TOP_K", 1)
    together = speak_together(model, [piece(model, text, most_codes=8) for text in TEXTS])
    monkeypatch.setattr(model.gpt, "max_gen_mel_tokens", 8)
    for text, spoken in zip(TEXTS, together):
        voice = model.speaker_manager.speakers["ეკა"].values()
        alone = model.inference(text, "ka", *voice, top_k=1)["wav"]
        assert len(spoken.codes) == 8 and not spoken.stopped
        np.testing.assert_allclose(spoken.wave, alone, atol=1e-3)


def test_a_clip_depends_on_its_seed_and_not_on_its_neighbours(model):
    pieces = [piece(model, text, seed=5) for text in TEXTS]
    together = speak_together(model, pieces)
    alone = [speak_together(model, [one])[0] for one in pieces]
    for a, b in zip(together, alone):
        assert a.codes == b.codes and np.allclose(a.wave, b.wave, atol=1e-3)
    other = speak_together(model, [piece(model, TEXTS[1], seed=6)])[0]
    assert not np.allclose(other.wave, alone[1].wave, atol=1e-3)


def test_each_clip_has_its_own_limit_and_tells_whether_it_stopped(model, monkeypatch):
    short, longer = speak_together(model, [piece(model, TEXTS[1], most_codes=n) for n in (3, 6)])
    assert (len(short.codes), len(longer.codes)) == (3, 6) and not short.stopped and not longer.stopped
    assert abs(len(longer.wave) / len(short.wave) - 2) < 0.05
    head = model.gpt.mel_head.bias
    likely = head.detach().clone()
    likely[model.gpt.stop_audio_token] = 1e4
    monkeypatch.setattr(head, "data", likely)
    ended = speak_together(model, [piece(model, TEXTS[0])])[0]
    assert ended.stopped and ended.codes == () and len(ended.wave)


def test_without_chance_a_clip_that_goes_on_from_its_own_codes_is_the_same(model, monkeypatch):
    monkeypatch.setattr(batch, "TOP_K", 1)
    whole = draw_together(model, [piece(model, TEXTS[1], most_codes=60)])[0]
    for kept in (0, 1, 20, 59):
        going_on = replace(piece(model, TEXTS[1], most_codes=60), begun=whole.codes[:kept])
        again, _ = draw_together(model, [going_on, piece(model, TEXTS[0], most_codes=5)])
        assert again.codes == whole.codes and again.stopped == whole.stopped


def test_what_is_begun_with_stays_and_the_rest_is_drawn(model):
    before = draw_together(model, [piece(model, TEXTS[1], seed=1, most_codes=60)])[0]
    other = replace(piece(model, TEXTS[1], seed=2, most_codes=60), begun=before.codes[:30])
    after = draw_together(model, [other])[0]
    assert after.codes[:30] == before.codes[:30] and after.codes != before.codes


def test_draws_follow_the_distribution():
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    generator = torch.Generator().manual_seed(1)
    chosen = torch.cat([batch.sample(scores / batch.TEMPERATURE, [generator]) for _ in range(4000)])
    kept = torch.softmax(scores / batch.TEMPERATURE, dim=1)[0] * torch.tensor([1, 1, 1, 0])  # top-p drops the last
    kept = kept if kept[:2].sum() < batch.TOP_P else kept * torch.tensor([1, 1, 0, 0])
    shares = torch.bincount(chosen, minlength=4) / len(chosen)
    assert torch.allclose(shares, kept / kept.sum(), atol=0.03)
