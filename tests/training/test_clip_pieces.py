import numpy as np
import pytest

from xtts_ka.core.errors import RunError
from xtts_ka.training import clip_pieces
from xtts_ka.training.clip_pieces import ClipPieces, make_pieces


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(clip_pieces, "PIECE", 3)
    monkeypatch.setattr(clip_pieces, "BATCH", 2)


def arrays(item: int) -> dict[str, np.ndarray]:
    return {"mels": np.full((item + 1, 2), item, np.float16), "voice": np.full((1, 4), item, np.float32)}


def make(items):
    return [arrays(item) for item in items]


def test_every_clip_reads_back_whole_and_in_parts(tmp_path):
    pieces = make_pieces(tmp_path, "key", range(8), make, "mels")
    assert len(pieces) == 8 and pieces.lengths["mels"].tolist() == list(range(1, 9))
    for item in range(8):
        np.testing.assert_array_equal(pieces.read(item, "mels"), arrays(item)["mels"])
        np.testing.assert_array_equal(pieces.read(item, "voice"), arrays(item)["voice"])
    assert pieces.read(6, "mels", 2, 5).shape == (3, 2)
    assert pieces.read(6, "mels", 5, 50).shape == (2, 2)  # not into the next clip
    assert set(pieces.read(5, "mels", 0, 50).flatten()) == {5}


def test_a_kill_costs_one_piece_and_a_second_start_computes_nothing(tmp_path):
    asked = []

    def dying(items):
        asked.extend(items)
        if 7 in items:
            raise KeyboardInterrupt
        return make(items)

    with pytest.raises(KeyboardInterrupt):
        make_pieces(tmp_path, "key", range(8), dying, "mels")
    assert asked == list(range(8))
    asked.clear()

    def counted(items):
        asked.extend(items)
        return make(items)

    make_pieces(tmp_path, "key", range(8), counted, "mels")
    assert asked == [6, 7]
    make_pieces(tmp_path, "key", range(8), counted, "mels")
    assert asked == [6, 7]


def test_another_key_replaces_and_a_damaged_piece_is_made_anew(tmp_path, capsys):
    first = make_pieces(tmp_path, "key", range(4), make, "mels")
    second = make_pieces(tmp_path, "other", range(4), make, "mels")
    assert not first.folder.exists() and "out of date" in capsys.readouterr().out
    file = second.folder / "piece_00000.safetensors"
    file.write_bytes(file.read_bytes()[:40])
    assert len(make_pieces(tmp_path, "other", range(4), make, "mels")) == 4
    assert "is made anew" in capsys.readouterr().err


def test_a_missing_piece_is_one_sentence(tmp_path):
    pieces = make_pieces(tmp_path, "key", range(4), make, "mels")
    (pieces.folder / "piece_00001.safetensors").unlink()
    with pytest.raises(RunError, match=r"piece_00001.safetensors cannot be read"):
        ClipPieces(pieces.folder, 4)
