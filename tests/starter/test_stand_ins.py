import functools
from pathlib import Path

import pytest
import tiny

from xtts_ka.core.config import BASE_FILES, PretrainConfig, StarterConfig
from xtts_ka.core.digests import hash_file
from xtts_ka.core.errors import UserError
from xtts_ka.corpus.tables import SPLITS, read_split
from xtts_ka.starter.stand_ins import MARK, RECORDINGS, make_stand_ins
from xtts_ka.starter.trained_base import check_trained_base

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path):
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("\n".join(tiny.SENTENCES + tuple(f"{s[:-1]}, ხომ?" for s in tiny.SENTENCES)), "utf-8")
    return PretrainConfig(
        data_dir=str(tmp_path / "data"),
        base_model_path=str(tmp_path / "models/base"),
        starter=StarterConfig(
            enabled=True, base="untrained", sentences=str(sentences), clips=48, layers=1, model_dim=64, heads=1
        ),
    )


def test_stand_ins_are_whole_marked_and_not_made_twice(config, tmp_path):
    make_stand_ins(config)
    base = tmp_path / "models/base"
    assert sorted(f.name for f in base.iterdir()) == sorted([*BASE_FILES, MARK])
    assert (tmp_path / "data" / RECORDINGS / MARK).is_file()
    before = {f: hash_file(f) for f in [*base.iterdir(), *(tmp_path / "data").rglob("*.wav")]}
    make_stand_ins(config)
    assert before == {f: hash_file(f) for f in before}


@pytest.fixture(scope="module")
def base_model(tmp_path_factory):
    return tiny.write_base_model(tmp_path_factory.mktemp("models") / "base")


@pytest.mark.parametrize("clips, seed", [(20, 1234), (21, 42), (27, 0), (40, 7)])
def test_few_clips_still_give_training_and_validation_clips(tmp_path, base_model, clips, seed):
    config = PretrainConfig(
        data_dir=str(tmp_path / "data"),
        base_model_path=str(base_model),
        seed=seed,
        starter=StarterConfig(enabled=True, sentences=str(ROOT / "data/starter_sentences_ka.txt"), clips=clips),
    )
    make_stand_ins(config)
    sizes = {name: len(read_split(tmp_path / "data", name)) for name in SPLITS}
    assert sum(sizes.values()) == clips and sizes["val"] >= 2 and sizes["train"] > clips / 2


def test_one_sentence_for_all_clips_cannot_be_split(config, base_model):
    Path(config.starter.sentences).write_text(tiny.SENTENCES[0], "utf-8")
    with pytest.raises(UserError, match="add recordings of more sentences"):
        make_stand_ins(config.model_copy(update={"base_model_path": str(base_model)}))


def test_half_a_base_model_is_never_touched(config, tmp_path):
    base = tmp_path / "models/base"
    base.mkdir(parents=True)
    (base / "model.pth").write_bytes(b"half a download")
    with pytest.raises(UserError, match="lacks config.json.*hf download"):
        make_stand_ins(config)
    assert [f.name for f in base.iterdir()] == ["model.pth"] and (base / "model.pth").read_bytes() == b"half a download"


def test_a_damaged_pack_is_refused_before_anything_is_spoken(config, tmp_path, monkeypatch):
    missing = functools.partial(check_trained_base, pack=tmp_path / "pack")
    monkeypatch.setattr("xtts_ka.starter.stand_ins.check_trained_base", missing)
    starter = StarterConfig(enabled=True, base="trained", sentences=config.starter.sentences)
    with pytest.raises(UserError, match=r"base.json .*git checkout -- xtts_ka/starter/base"):
        make_stand_ins(config.model_copy(update={"starter": starter}))
    assert not (tmp_path / "data").exists() and not (tmp_path / "models").exists()
