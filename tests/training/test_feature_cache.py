import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtts_ka.core.errors import RunError
from xtts_ka.model.geometry import codes_of, frames_of
from xtts_ka.training import feature_filling
from xtts_ka.training.feature_cache import Clip, FeatureCache, clip_key
from xtts_ka.training.feature_filling import Tools


def fake_load(path):
    samples = int(Path(path).read_text())
    return torch.full((1, samples), samples / 1e5)


def fake_extract(speech):
    """Codes and mels that tell which clip they came from."""
    return [
        (torch.full((codes_of(s.shape[1]),), s.shape[1] % 1000), torch.full((80, frames_of(s.shape[1])), s[0, 0]))
        for s in speech
    ]


@pytest.fixture
def clips(tmp_path):
    made = []
    for number, samples in enumerate((5000, 70000, 1024, 22050, 33333)):
        path = tmp_path / f"{number}.txt"
        path.write_text(str(samples))
        made.append(Clip(key_of(path), path, samples / 22050))
    return made


def key_of(path):
    return clip_key(path.stem, path.stat().st_size, path.stat().st_mtime_ns)


def fill(cache, clips, load=fake_load, batch=16):
    """Compute what is missing; returns how many clips that was."""
    missing = cache.missing(clips)
    if missing:
        feature_filling.fill(cache, missing, Tools(load, lambda: fake_extract, batch))
    return len(missing)


def check(cache, clips, may_lack=False):
    for record, (_, path, _) in zip(cache.find([clip.key for clip in clips]), clips):
        if may_lack and record["samples"] == 0:
            continue
        samples = int(path.read_text())
        codes, mel = cache.read(record, path.stem)
        assert codes.shape == (codes_of(samples),) and (codes == samples % 1000).all()
        assert mel.shape == (frames_of(samples), 80) and np.allclose(mel, samples / 1e5, rtol=1e-3)


def test_fills_reads_back_and_computes_nothing_twice(tmp_path, clips):
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    assert fill(cache, clips, batch=2) == 5
    check(cache, clips)
    again = FeatureCache(tmp_path / "cache", "k" * 64)
    assert fill(again, clips, lambda path: pytest.fail("opened audio")) == 0
    check(again, clips)


def test_another_key_is_another_cache_and_says_so(tmp_path, clips, capsys):
    first = FeatureCache(tmp_path / "cache", "a" * 64)
    fill(first, clips)
    assert "computed anew" not in capsys.readouterr().out
    assert FeatureCache(tmp_path / "cache", "b" * 64).missing(clips) == clips
    assert f"computed anew: those in {first.folder} are of another dvae.pth" in capsys.readouterr().out
    FeatureCache(tmp_path / "cache", "b" * 64)
    assert capsys.readouterr().out == ""


def test_new_clips_are_appended(tmp_path, clips):
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    fill(cache, clips[:3])
    before = (cache.folder / "codes.bin").read_bytes()
    assert fill(cache, clips) == 2
    assert (cache.folder / "codes.bin").read_bytes().startswith(before)
    check(cache, clips)


def test_an_edited_recording_has_another_key(tmp_path, clips):
    key, path, _ = clips[0]
    path.write_text("123456")
    assert key_of(path) != key


@pytest.mark.parametrize("cut", [1, 17, 40, 60])
@pytest.mark.parametrize("file", ["index.bin", "codes.bin", "mels.bin"])
def test_a_torn_write_costs_clips_but_never_gives_wrong_ones(tmp_path, clips, file, cut):
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    fill(cache, clips, batch=1)
    path = cache.folder / file
    path.write_bytes(path.read_bytes()[:-cut])
    again = FeatureCache(tmp_path / "cache", "k" * 64)
    assert fill(again, clips) >= 1
    check(again, clips)
    assert fill(FeatureCache(tmp_path / "cache", "k" * 64), clips) == 0


def test_a_flipped_bit_in_the_index_drops_its_record(tmp_path, clips, capsys):
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    fill(cache, clips)
    path = cache.folder / "index.bin"
    data = bytearray(path.read_bytes())
    data[50] ^= 4
    path.write_bytes(data)
    again = FeatureCache(tmp_path / "cache", "k" * 64)
    assert fill(again, clips) == 1
    assert f"{path} holds damaged" in capsys.readouterr().err
    check(again, clips)


@pytest.mark.parametrize("file", ["codes.bin", "mels.bin"])
def test_all_that_is_damaged_is_forgotten_at_once(tmp_path, clips, file):
    """A file that is damaged throughout costs one more run, not one for each of its clips."""
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    fill(cache, clips)
    path = cache.folder / file
    path.write_bytes(b"\x55" * path.stat().st_size)
    broken = FeatureCache(tmp_path / "cache", "k" * 64)
    with pytest.raises(RunError, match="damaged at clip"):
        check(broken, clips)
    again = FeatureCache(tmp_path / "cache", "k" * 64)
    assert fill(again, clips) == 5
    check(again, clips)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from(["codes.bin", "mels.bin", "index.bin"]),
    where=st.floats(0, 1, exclude_max=True),
    damage=st.sampled_from(["flip", "zero a page", "zero the rest", "cut", "remove"]),
    bit=st.integers(0, 7),
)
def test_no_damage_is_used(tmp_path, clips, file, where, damage, bit):
    """Whatever happens to the files, a clip is right, missing or refused; after one refusal all are computed again."""
    whole = FeatureCache(tmp_path / "whole", "k" * 64)
    fill(whole, clips)
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    shutil.copytree(tmp_path / "whole", tmp_path / "cache")
    path = tmp_path / "cache" / whole.folder.name / file
    data = bytearray(path.read_bytes())
    at = int(where * len(data))
    if damage == "flip":
        data[at] ^= 1 << bit
    elif damage != "remove":
        end = min(at + 64, len(data)) if damage == "zero a page" else len(data)
        data[at:end] = b"" if damage == "cut" else bytes(end - at)
    path.unlink() if damage == "remove" else path.write_bytes(data)
    try:
        check(FeatureCache(tmp_path / "cache", "k" * 64), clips, may_lack=True)
    except RunError as refusal:
        assert str(path.parent) in str(refusal)
    again = FeatureCache(tmp_path / "cache", "k" * 64)
    fill(again, clips)
    check(again, clips)


def test_damaged_data_is_named_forgotten_and_computed_again(tmp_path, clips):
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    fill(cache, clips)
    path = cache.folder / "mels.bin"
    data = bytearray(path.read_bytes())
    data[0] ^= 1  # of the longest clip, which stands first
    path.write_bytes(data)
    broken = FeatureCache(tmp_path / "cache", "k" * 64)
    with pytest.raises(RunError, match=f"{broken.folder} is damaged at clip 1"):
        check(broken, clips)
    again = FeatureCache(tmp_path / "cache", "k" * 64)
    assert fill(again, clips) == 1
    check(again, clips)


def test_its_state_changes_with_its_content_alone(tmp_path, clips):
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    states = [cache.state()]
    for part in (clips[:3], clips):
        fill(cache, part)
        states.append(cache.state())
    assert FeatureCache(tmp_path / "cache", "k" * 64).state() == cache.state()
    (cache.folder / "mels.bin").write_bytes((cache.folder / "mels.bin").read_bytes()[:-1])
    assert len({*states, cache.state()}) == 4


def test_the_files_of_version_1_are_read_whatever_becomes_of_the_code(tmp_path):
    """A cache from before this test was written: raise VERSION when this fails."""
    folder = tmp_path / ("k" * 16)
    folder.mkdir()
    codes, mel = np.array([7, 1023], "<u2"), np.linspace(0, 1, 6 * 80).astype("<f2").reshape(6, 80)
    crc = zlib.crc32(mel.tobytes(), zlib.crc32(codes.tobytes()))
    index = struct.pack("<QQQIIQ", 42, 0, 0, 1500, crc, 0x2657C66E572266B3)
    for name, data in (("codes", codes.tobytes()), ("mels", mel.tobytes()), ("index", index)):
        (folder / f"{name}.bin").write_bytes(data)
    cache = FeatureCache(tmp_path, "k" * 64)
    read = cache.read(cache.find([42])[0], "clip")
    assert (read[0] == codes).all() and (read[1] == mel).all()


def test_of_a_long_list_only_what_is_missing_is_loaded(tmp_path, clips):
    cache = FeatureCache(tmp_path / "cache", "k" * 64)
    fill(cache, clips[1:])
    many = [clips[0]] + clips[1:] * 6000
    assert cache.missing(many) == clips[:1]
    loaded = []
    assert fill(cache, many, lambda path: loaded.append(path) or fake_load(path)) == 1
    assert loaded == [str(clips[0].audio)]
