import pytest
import tiny

from xtts_ka.core.config import BASE_FILES, PretrainConfig, StarterConfig
from xtts_ka.core.digests import hash_file
from xtts_ka.core.errors import UserError
from xtts_ka.starter.stand_ins import MARK, RECORDINGS, make_stand_ins


@pytest.fixture
def config(tmp_path):
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("\n".join(tiny.SENTENCES + tuple(f"{s[:-1]}, ხომ?" for s in tiny.SENTENCES)), "utf-8")
    return PretrainConfig(
        data_dir=str(tmp_path / "data"),
        base_model_path=str(tmp_path / "models/base"),
        starter=StarterConfig(enabled=True, sentences=str(sentences), clips=48, layers=1, model_dim=64, heads=1),
    )


def test_stand_ins_are_whole_marked_and_not_made_twice(config, tmp_path):
    make_stand_ins(config)
    base = tmp_path / "models/base"
    assert sorted(f.name for f in base.iterdir()) == sorted([*BASE_FILES, MARK])
    assert (tmp_path / "data" / RECORDINGS / MARK).is_file()
    before = {f: hash_file(f) for f in [*base.iterdir(), *(tmp_path / "data").rglob("*.wav")]}
    make_stand_ins(config)
    assert before == {f: hash_file(f) for f in before}


def test_half_a_base_model_is_never_touched(config, tmp_path):
    base = tmp_path / "models/base"
    base.mkdir(parents=True)
    (base / "model.pth").write_bytes(b"half a download")
    with pytest.raises(UserError, match="lacks config.json.*hf download"):
        make_stand_ins(config)
    assert [f.name for f in base.iterdir()] == ["model.pth"] and (base / "model.pth").read_bytes() == b"half a download"
