import json

import tiny
import torch

from xtts_ka.model.checkpoint import read_model
from xtts_ka.model.features import FeatureExtractor, load_speech
from xtts_ka.model.vocabulary import load_tokenizer
from xtts_ka.starter.base_model import starter_vocabulary


def test_the_vocabulary_has_the_oddities_of_real_ones(tmp_path):
    vocabulary = starter_vocabulary()
    ids = vocabulary["model"]["vocab"]
    assert len(ids) == len(set(ids.values())) and max(ids.values()) + 1 > len(ids)  # gaps
    assert ids["[STOP]"] == 0 and ids["[START]"] == 261 and ids["[en]"] == 259
    assert len(vocabulary["model"]["merges"]) > len(
        set(vocabulary["model"]["merges"])
    )  # listed twice, as in the real ones
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    assert load_tokenizer(tmp_path / "vocab.json").encode("the thing").tokens == ["the", "th", "ing"]


def test_the_codebook_follows_the_sound(tmp_path):
    recordings = tiny.write_recordings(tmp_path / "wavs")
    base = tiny.write_base_model(tmp_path / "base")
    extractor = FeatureExtractor(base, read_model(base).config)
    codes = torch.cat([codes for codes, _ in extractor([load_speech(r) for r in recordings])])
    assert len(codes.unique()) > len(codes) / 4  # speech does not collapse on a few codes
    silence = extractor([torch.zeros(1, 22050)])[0][0]
    assert len(silence.unique()) <= 4  # and equal sound has equal codes


def test_the_same_seed_gives_the_same_base_model(tmp_path):
    tiny.write_base_model(tmp_path / "a")
    tiny.make_base(tmp_path / "b")
    first, second = (read_model(tmp_path / name).state for name in ("a", "b"))
    assert all(torch.equal(first[key], second[key]) for key in first)
