"""Reading recordings: formats, rates, channels, and headers that lie."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import small_media
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtts_ka.core.errors import UserError
from xtts_ka.corpus import audio
from xtts_ka.corpus.audio import AudioError, measure, read_mono, write_sound
from xtts_ka.corpus.content import kind_of


def tone(rate: int, seconds: float, amplitude: float = 0.5, hertz: float = 220.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def reason_of(call, *args) -> str:
    with pytest.raises(AudioError) as caught:
        call(*args)
    assert "\n" not in str(caught.value) and str(args[0]) in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    "suffix, rate",
    [
        ("wav", 8_000),
        ("wav", 22_050),
        ("flac", 96_000),
        ("ogg", 44_100),
        ("mp3", 48_000),
        ("mp3", 22_050),
        ("wav", 192_000),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_gives_mono_at_its_own_rate(tmp_path, suffix, rate, channels):
    path = tmp_path / f"clip.{suffix}"
    left = tone(rate, 1.5)
    soundfile.write(path, left if channels == 1 else np.stack([left, 0 * left], axis=1), rate)
    samples, read_rate = read_mono(path)
    assert (samples.dtype, samples.ndim, read_rate) == (np.float32, 1, rate)
    assert len(samples) / rate == pytest.approx(1.5, abs=0.05)
    assert np.abs(samples).max() == pytest.approx(0.5 / channels, abs=0.1)  # tone and silence: half
    content = measure(path, 2.0)
    assert (content.seconds, content.clipped_fraction) == (len(samples) / rate, 0)


@pytest.mark.parametrize("suffix, subtype", [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_16")])
def test_lossless_samples_come_back_exactly(tmp_path, suffix, subtype):
    path = tmp_path / f"clip.{suffix}"
    wanted = np.array([0.0, 0.25, -0.5, 0.75, -1.0, 0.125], dtype=np.float32)
    soundfile.write(path, wanted, 16_000, subtype=subtype)
    assert np.array_equal(read_mono(path)[0], wanted)
    assert measure(path, 1).clipped_fraction == pytest.approx(1 / 6)
    assert measure(path, 1).peak == 1.0


def test_channels_are_averaged(tmp_path):
    path = tmp_path / "eight.wav"
    soundfile.write(path, np.tile(np.arange(8) / 16, (100, 1)), 48_000, subtype="FLOAT")
    assert np.allclose(read_mono(path)[0], 3.5 / 16)


def test_max_seconds_takes_the_beginning(tmp_path):
    path = tmp_path / "clip.wav"
    ramp = np.linspace(-0.5, 0.5, 16_000, dtype=np.float32)
    soundfile.write(path, ramp, 16_000, subtype="FLOAT")
    assert np.array_equal(read_mono(path, 0.25)[0], ramp[:4_000])
    assert len(read_mono(path, 99)[0]) == 16_000


@pytest.mark.parametrize("name", ["a.wav", "a", "a.FLAC", "a.mp3", "a.ogg", "a.opus"])
def test_sound_is_written_as_its_name_says(tmp_path, name):
    wave = tone(24_000, 1).astype(np.float32)
    write_sound(tmp_path / name, wave, 24_000)
    read, rate = read_mono(tmp_path / name)
    kind = {"": "WAV", ".wav": "WAV", ".flac": "FLAC", ".mp3": "MP3"}.get(Path(name).suffix.lower(), "Ogg")
    # Lossy formats may begin earlier and end later, and Opus has 48 kHz.
    assert kind_of(tmp_path / name) == kind and len(read) / rate == pytest.approx(1, abs=0.1)
    assert np.std(read) == pytest.approx(np.std(wave), rel=0.1)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_sound_is_not_written_in_a_format_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="not written as .m4a: end the name with one of .wav, .flac"):
        write_sound(tmp_path / "a.m4a", tone(24_000, 1), 24_000)
    assert not list(tmp_path.iterdir())


def test_hash_is_of_the_content_not_the_file(tmp_path):
    wave = (tone(16_000, 1) * 32_767).astype(np.int16)  # formats round floats differently
    for name, data, rate in [
        ("a.wav", wave, 16_000),
        ("b.flac", wave, 16_000),
        ("c.wav", wave // 2, 16_000),
        ("d.wav", wave, 16_001),
    ]:
        soundfile.write(tmp_path / name, data, rate, subtype="PCM_16")
    a, b, c, d = (measure(tmp_path / name, 2).sha256 for name in ("a.wav", "b.flac", "c.wav", "d.wav"))
    assert a == b and len({a, c, d}) == 3


def test_missing_and_unreadable(tmp_path):
    (tmp_path / "noise.wav").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "text.mp3").write_text("ეს ხმა არ არის")
    (tmp_path / "samples.raw").write_bytes(b"\x01\x02" * 100)
    (tmp_path / "empty.wav").touch()
    os.mkfifo(tmp_path / "pipe.wav")  # opening it would wait for ever
    soundfile.write(tmp_path / "good.wav", tone(8_000, 1), 8_000)
    (tmp_path / "link.wav").symlink_to(tmp_path / "good.wav")
    for call in (read_mono, lambda path: measure(path, 5)):
        assert reason_of(call, tmp_path / "nothing.wav") == "missing_audio"
        assert reason_of(call, tmp_path / "noise.wav" / "inside") == "missing_audio"
        for name in ("noise.wav", "text.mp3", "samples.raw", "pipe.wav", "link.wav", "."):
            assert reason_of(call, tmp_path / name) == "unreadable_audio", name
        assert reason_of(call, tmp_path / "empty.wav") == "empty_audio"
    assert reason_of(read_mono, "a\0b.wav") == "missing_audio"


def test_no_samples_and_bad_samples(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 22_050)
    assert reason_of(read_mono, tmp_path / "none.wav") == "empty_audio"
    assert reason_of(measure, tmp_path / "none.wav", 5) == "empty_audio"
    for name, bad in [("nan", np.nan), ("inf", np.inf), ("huge", 3e38)]:
        wave = np.stack([tone(8_000, 1)] * 2, axis=1)
        wave[7_000] = bad  # twice 3e38 is more than float32 holds: the mean of the channels overflows
        soundfile.write(tmp_path / f"{name}.wav", wave, 8_000, subtype="FLOAT")
        assert reason_of(read_mono, tmp_path / f"{name}.wav") == "non_finite_audio", name
        assert reason_of(measure, tmp_path / f"{name}.wav", 5) == "non_finite_audio", name


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_a_file_that_was_cut_short_is_noticed(tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 22_050 * 4)
    soundfile.write(path, noise, 22_050)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert reason_of(measure, path, 10) == "unreadable_audio"
    assert reason_of(read_mono, path) == "unreadable_audio"


def wav_header(data_bytes: int, rate: int = 22_050, channels: int = 1, bits: int = 16) -> bytes:
    frame = channels * bits // 8
    return (
        struct.pack("<4sI4s", b"RIFF", min(36 + data_bytes, 2**32 - 1), b"WAVE")
        + struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, rate * frame % 2**32, frame, bits)
        + struct.pack("<4sI", b"data", data_bytes)
    )


def test_a_wav_header_that_claims_ten_hours(tmp_path):
    path = tmp_path / "bomb.wav"
    path.write_bytes(wav_header(10 * 3600 * 22_050 * 2) + b"\1\2" * 22_050)
    assert reason_of(measure, path, 11.6) == "unreadable_audio"
    assert reason_of(read_mono, path) == "unreadable_audio"


def test_a_wav_from_a_pipe_leaves_its_length_open(tmp_path):
    path = tmp_path / "streamed.wav"
    path.write_bytes(wav_header(2**32 - 1) + b"\1\2" * 22_050)
    assert measure(path, 11.6).seconds == 1.0


@pytest.mark.parametrize("claim", [{"rate": 0}, {"rate": 1}, {"rate": 2**31}, {"channels": 0}, {"channels": 1_000}])
def test_impossible_headers(tmp_path, claim):
    (tmp_path / "odd.wav").write_bytes(wav_header(2_000, **claim) + b"\0\1" * 1_000)
    assert reason_of(read_mono, tmp_path / "odd.wav") == "unreadable_audio"


def test_long_compressed_silence_is_read_in_bounded_memory(tmp_path):
    path = tmp_path / "bomb.flac"  # a minute at 192 kHz, 8 channels: 370 MB as float32 in a file below 1 MB
    with soundfile.SoundFile(path, "w", 192_000, 8, subtype="PCM_16") as sound:
        for _ in range(60):
            sound.write(np.zeros((192_000, 8), dtype=np.int16))
    tracemalloc.start()
    assert reason_of(measure, path, 11.6) == "too_long"
    assert reason_of(measure, path, 0.5) == "too_long"
    samples, _ = read_mono(path, 2.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(samples) == 384_000
    assert peak < 32 * 2**20


def test_read_mono_without_limit_refuses_what_is_no_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(audio, "MAX_SAMPLES", 1_000)
    soundfile.write(tmp_path / "fits.wav", tone(8_000, 0.125), 8_000)
    soundfile.write(tmp_path / "long.wav", tone(8_000, 0.126), 8_000)
    assert len(read_mono(tmp_path / "fits.wav")[0]) == 1_000
    assert reason_of(read_mono, tmp_path / "long.wav") == "too_long"
    assert len(read_mono(tmp_path / "long.wav", 5.0)[0]) == 1_000


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(["wav", "flac", "ogg", "mp3"]),
    keep=st.floats(0, 1),
    spots=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_files_give_samples_or_one_sentence(tmp_path, suffix, spots, keep):
    path = tmp_path / f"clip.{suffix}"
    soundfile.write(path, tone(16_000, 0.5), 16_000)
    data = bytearray(path.read_bytes())
    for where, value in spots:
        data[int(where * min(len(data), 400))] = value  # mostly headers: that is where the harm is
    path.write_bytes(data[: int(keep * len(data)) + 1])
    try:
        samples, _ = read_mono(path, 5)
        assert len(samples) and np.isfinite(samples).all()
    except AudioError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_written_wav_has_the_bytes_that_libsndfile_writes(tmp_path, kind):
    samples = np.clip(np.random.default_rng(0).standard_normal(5000), -1, 1).astype(kind)
    audio.write_wav(tmp_path / "ours.wav", samples, 22_050)
    soundfile.write(tmp_path / "theirs.wav", samples, 22_050, subtype="PCM_16")
    assert (tmp_path / "ours.wav").read_bytes() == (tmp_path / "theirs.wav").read_bytes()


# ── long recordings ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("suffix, seekable", [("wav", True), ("flac", True), ("m4a", False)])
def test_a_stream_in_blocks_and_parts_are_what_reading_at_once_gives(tmp_path, suffix, seekable):
    path, wave = tmp_path / f"long.{suffix}", np.random.default_rng(0).uniform(-0.5, 0.5, 16_000 * 7 + 123)
    if suffix == "m4a":
        small_media.encode(path, "aac", wave)
    else:
        soundfile.write(path, wave, 16_000)
    whole, rate = read_mono(path)
    assert audio.length(path) == (pytest.approx(len(whole) / rate, abs=0.1), seekable)
    blocks = [block for block, _ in audio.stream(path, 2)]
    assert [len(block) for block in blocks[:-1]] == [2 * rate] * (len(blocks) - 1)
    assert np.array_equal(np.concatenate(blocks), whole)
    middle = np.concatenate([block for block, _ in audio.stream(path, 1, 2.5, 3.0)])
    assert np.array_equal(middle, whole[round(2.5 * rate) : round(5.5 * rate)])
    spans = [(0.0, 0.5), (0.5, 1.25), (4.0, 6.5)]
    for (part, _), (start, end) in zip(audio.read_parts(path, spans), spans, strict=True):
        assert np.array_equal(part, whole[round(start * rate) : round(end * rate)])
    assert reason_of(lambda file: list(audio.read_parts(file, [(6.0, 9.0)])), path) == "unreadable_audio"


def test_a_stream_of_a_long_recording_holds_one_block_at_a_time(tmp_path):
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        for _ in range(600):
            file.write(np.zeros(8_000, np.float32))
    tracemalloc.start()
    assert sum(len(block) for block, _ in audio.stream(path, 10)) == 600 * 8_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12e6  # all of it would be 19 MB
