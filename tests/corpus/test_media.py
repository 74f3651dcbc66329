"""What PyAV reads that libsndfile cannot, and how a file is told by its content."""

from __future__ import annotations

import av
import numpy as np
import pytest
import soundfile
from small_media import encode, tone

from xtts_ka.corpus.audio import AudioError, measure, read_mono, read_part, tracks
from xtts_ka.corpus.content import is_pointer, kind_of, misnamed, suffix_of


@pytest.mark.parametrize(
    "suffix, codec, rate",
    [("m4a", "aac", 44_100), ("webm", "libopus", 48_000), ("aac", "aac", 16_000), ("wma", "wmav2", 44_100)],
)
def test_sound_comes_back_at_its_own_rate(tmp_path, suffix, codec, rate):
    path = encode(tmp_path / f"a.{suffix}", codec, tone(7, 2.0, rate), rate)
    samples, read = read_mono(path)
    assert read == rate and len(samples) / rate == pytest.approx(2.0, abs=0.15)
    spectrum = np.abs(np.fft.rfft(samples[rate // 2 : rate // 2 + rate])) * 2 / rate  # a second: bins of 1 Hz
    assert spectrum.argmax() == pytest.approx(170, abs=1) and spectrum.max() == pytest.approx(0.4, abs=0.02)
    with pytest.raises(AudioError, match="longer than 1 s"):
        measure(path, 1.0)


@pytest.mark.parametrize("suffix, form", [("w64", "W64"), ("caf", "CAF"), ("au", "AU"), ("aiff", "AIFF")])
def test_formats_of_libsndfile(tmp_path, suffix, form):
    path, wave = tmp_path / f"a.{suffix}", tone(7, 2.0).astype(np.float32)
    soundfile.write(path, wave, 16_000, format=form, subtype="PCM_16")
    samples, rate = read_mono(path)
    assert rate == 16_000 and np.allclose(samples, wave, atol=1e-4)


def test_amr_of_telephones(tmp_path):
    """No encoder for it is in PyAV's wheel: 100 frames of 20 ms at 12.2 kbit/s, by RFC 4867, with any payload."""
    payload = np.random.default_rng(0).integers(0, 256, (100, 31), dtype=np.uint8)
    (tmp_path / "a.amr").write_bytes(b"#!AMR\n" + b"".join(b"\x3c" + frame.tobytes() for frame in payload))
    samples, rate = read_mono(tmp_path / "a.amr")
    assert rate == 8_000 and len(samples) == 16_000 and samples.std() > 0.001
    (tmp_path / "b.amr").write_bytes(b"#!AMR\n")
    with pytest.raises(AudioError):
        read_mono(tmp_path / "b.amr")


def test_a_file_cut_short_is_told(tmp_path):
    path = encode(tmp_path / "a.m4a", "aac", tone(7, 4.0))
    data = path.read_bytes()
    for part in (len(data) // 2, 100, 30):
        path.write_bytes(data[:part])
        with pytest.raises(AudioError) as caught:
            measure(path, 10)
        assert caught.value.reason == "unreadable_audio" and "MP4 (AAC) by its content" in caught.value.detail


def _film(path, seconds, more, video, audio):
    """A film whose picture lasts `more` seconds longer than its sound."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream(video, rate=10)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        sound = container.add_stream(audio, rate=48_000, layout="mono")
        for number in range(round(10 * (seconds + more))):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            frame.pts = number
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        wave = tone(7, seconds, 48_000).astype(np.float32)
        for start in range(0, len(wave), 960):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 960], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("suffix, video, audio", [("mkv", "mpeg4", "aac"), ("webm", "libvpx", "libopus")])
def test_a_film_whose_picture_lasts_longer_is_read_and_one_cut_short_is_told(tmp_path, suffix, video, audio):
    path = _film(tmp_path / f"a.{suffix}", 2.0, 1.5, video, audio)
    samples, rate = read_mono(path)
    assert len(samples) / rate == pytest.approx(2.0, abs=0.1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(AudioError, match="cut short"):
        read_mono(path)


def test_a_short_matroska_file_of_sound_only_is_read_and_one_cut_short_is_told(tmp_path):
    path = encode(tmp_path / "a.mkv", "aac", tone(7, 1.0))
    assert measure(path, 10).seconds == pytest.approx(1.0, abs=0.15)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match="cut short"):
        measure(path, 10)


def test_of_a_films_sound_tracks_the_georgian_one_is_read(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        streams = [container.add_stream("aac", rate=16_000, layout="mono") for _ in range(2)]
        streams[0].metadata["language"], streams[1].metadata["language"] = "rus", "geo"
        for stream, number in zip(streams, (10, 30)):
            frame = av.AudioFrame.from_ndarray(tone(number)[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16_000
            for part in (*stream.encode(frame), *stream.encode(None)):
                container.mux(part)
    samples, rate = read_mono(tmp_path / "a.mkv")
    assert np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples) == pytest.approx(400, abs=5)
    assert tracks(tmp_path / "a.mkv") == ["rus", "geo"]


def test_a_video_without_sound_is_told(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    with pytest.raises(AudioError, match="it holds no sound"):
        measure(tmp_path / "a.mp4", 10)


def test_playlists_that_name_other_files_are_not_read(tmp_path):
    soundfile.write(tmp_path / "secret.wav", tone(1), 16_000)
    lists = {"a.m4a": "ffconcat version 1.0\nfile secret.wav\n", "b.mp3": "#EXTM3U\n#EXTINF:1\nsecret.wav\n"}
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(AudioError):
            measure(tmp_path / name, 10)


@pytest.mark.parametrize("suffix", ["wav", "m4a"])
def test_a_part_of_a_recording(tmp_path, suffix):
    wave = np.concatenate([tone(1, 1.0), tone(40, 1.0), tone(1, 1.0)])
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, wave, 16_000) if suffix == "wav" else encode(path, "aac", wave)
    samples, rate = read_part(path, 1.2, 1.8)
    assert len(samples) == round(0.6 * rate)
    assert np.abs(np.fft.rfft(samples)).argmax() / 0.6 == pytest.approx(500, abs=4)
    with pytest.raises(AudioError, match="ends before 9 s"):
        read_part(path, 2.0, 9.0)


def test_kinds_by_content(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(1), 16_000, format="FLAC")
    assert (kind_of(tmp_path / "a.wav"), misnamed(tmp_path / "a.wav")) == ("FLAC", "FLAC")
    assert suffix_of((tmp_path / "a.wav").read_bytes()) == ".flac" and suffix_of(b"?" * 64) == ".wav"
    soundfile.write(tmp_path / "b.wav", tone(1), 16_000)
    assert (
        misnamed(tmp_path / "b.wav") == "" and kind_of(tmp_path / "none") == "" and not is_pointer(tmp_path / "b.wav")
    )
