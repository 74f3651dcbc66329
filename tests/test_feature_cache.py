import numpy as np
import pytest
import torch

from console import RunError
from feature_cache import FeatureCache, clip_key, codes_of, frames_of


def fake_load(path):
    samples = int(path.read_text())
    return torch.full((1, samples), samples / 1e5)


def fake_extract(speech):
    """Codes and mels that tell which clip they came from."""
    return [(torch.full((codes_of(s.shape[1]),), s.shape[1] % 1000), torch.full((80, frames_of(s.shape[1])), s[0, 0]))
            for s in speech]


@pytest.fixture
def clips(tmp_path):
    made = []
    for number, samples in enumerate((5000, 70000, 1024, 22050, 33333)):
        path = tmp_path / f"{number}.txt"
        path.write_text(str(samples))
        made.append((clip_key(path.stem, path), path))
    return made


def keys_of(clips):
    return np.array([key for key, _ in clips], "<u8")


def check(cache, clips):
    for row, (_, path) in zip(cache.find(keys_of(clips)), clips):
        samples = int(path.read_text())
        codes, mel = cache.read(row)
        assert codes.shape == (codes_of(samples),) and (codes == samples % 1000).all()
        assert mel.shape == (frames_of(samples), 80) and np.allclose(mel, samples / 1e5, rtol=1e-3)


def test_fills_reads_back_and_computes_nothing_twice(tmp_path, clips):
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    assert cache.fill(clips, fake_load, fake_extract, batch_seconds=2) == 5
    check(cache, clips)
    again = FeatureCache(tmp_path / "cache", "k" * 64)
    assert again.fill(clips, lambda path: pytest.fail("opened audio"), fake_extract) == 0
    check(again, clips)


def test_another_key_is_another_cache(tmp_path, clips):
    FeatureCache(tmp_path / "cache", "a" * 64).fill(clips, fake_load, fake_extract)
    assert (FeatureCache(tmp_path / "cache", "b" * 64).find(keys_of(clips)) == -1).all()


def test_what_a_killed_writer_left_is_swept(tmp_path, clips):
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    left, foreign = cache.folder / ".index.bin.123.partial", cache.folder / "notes.partial"
    for file in (left, foreign):
        file.write_bytes(b"half")
    cache.fill(clips, fake_load, fake_extract)
    assert not left.exists() and foreign.exists()


def test_new_clips_are_appended(tmp_path, clips):
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    cache.fill(clips[:3], fake_load, fake_extract)
    before = (cache.folder / "codes.bin").read_bytes()
    assert cache.fill(clips, fake_load, fake_extract) == 2
    assert (cache.folder / "codes.bin").read_bytes().startswith(before)
    check(cache, clips)


def test_an_edited_recording_has_another_key(tmp_path, clips):
    key, path = clips[0]
    path.write_text("123456")
    assert clip_key(path.stem, path) != key


@pytest.mark.parametrize("cut", [1, 17, 40, 60])
@pytest.mark.parametrize("file", ["index.bin", "codes.bin", "mels.bin"])
def test_a_torn_write_costs_clips_but_never_gives_wrong_ones(tmp_path, clips, file, cut):
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    cache.fill(clips, fake_load, fake_extract, batch_seconds=0.1)
    path = cache.folder / file
    path.write_bytes(path.read_bytes()[:-cut])
    again = FeatureCache(tmp_path / "cache", "k" * 64)
    assert again.fill(clips, fake_load, fake_extract) >= 1
    check(again, clips)
    assert FeatureCache(tmp_path / "cache", "k" * 64).fill(clips, fake_load, fake_extract) == 0


def test_a_flipped_bit_in_the_index_drops_its_record(tmp_path, clips):
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    cache.fill(clips, fake_load, fake_extract)
    path = cache.folder / "index.bin"
    data = bytearray(path.read_bytes())
    data[50] ^= 4
    path.write_bytes(data)
    again = FeatureCache(tmp_path / "cache", "k" * 64)
    assert again.fill(clips, fake_load, fake_extract) == 1
    check(again, clips)


def test_damaged_data_is_named_forgotten_and_computed_again(tmp_path, clips):
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    cache.fill(clips, fake_load, fake_extract)
    path = cache.folder / "mels.bin"
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    broken = FeatureCache(tmp_path / "cache", "k" * 64)
    with pytest.raises(RunError, match=str(broken.folder)):
        check(broken, clips)
    again = FeatureCache(tmp_path / "cache", "k" * 64)
    assert again.fill(clips, fake_load, fake_extract) == 1
    check(again, clips)
