"""What a file is by its first bytes."""

import numpy as np
import pytest
import soundfile
from small_media import encode

from xtts_ka.corpus.content import is_pointer, kind_of, misnamed, suffix_of

WAVE = np.zeros(4800, np.float32)


@pytest.mark.parametrize(
    "format, kind", [("WAV", "WAV"), ("FLAC", "FLAC"), ("OGG", "Ogg"), ("MP3", "MP3"), ("AIFF", "AIFF"), ("AU", "AU")]
)
def test_what_soundfile_writes_is_known_whatever_its_name(tmp_path, format, kind):
    path = tmp_path / "a.bin"
    soundfile.write(path, WAVE, 16_000, format=format)
    assert kind_of(path) == kind
    named = path.rename(tmp_path / f"a{suffix_of(path.read_bytes())}")
    assert soundfile.info(named).format == format and misnamed(named) == ""
    plain = named.rename(tmp_path / "a")
    assert kind_of(plain) == kind and misnamed(plain) == ""


@pytest.mark.parametrize(
    "suffix, codec, kind",
    [(".m4a", "aac", "MP4 (AAC)"), (".aac", "aac", "AAC"), (".webm", "libopus", "WebM or Matroska")],
)
def test_what_ffmpeg_writes_is_known(tmp_path, suffix, codec, kind):
    path = tmp_path / f"a{suffix}"
    encode(path, codec, WAVE, 16_000)
    assert kind_of(path) == kind and misnamed(path) == ""
    assert misnamed(path.rename(tmp_path / "a.wav")) == kind


@pytest.mark.parametrize("start", [b"<!DOCTYPE html>", b"\xef\xbb\xbf\r\n<!doctype html>", b"<html lang=ka>"])
def test_a_page_in_place_of_a_recording_is_called_one(tmp_path, start):
    (tmp_path / "a.mp3").write_bytes(start + b"<title>404</title>")
    assert kind_of(tmp_path / "a.mp3") == "a web page"


def test_pointers_and_what_is_not_known(tmp_path):
    pointer, other = tmp_path / "b.wav", tmp_path / "c.wav"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    other.write_bytes(b"")
    assert is_pointer(pointer) and not is_pointer(other)
    assert kind_of(other) == kind_of(tmp_path / "none") == misnamed(other) == "" and suffix_of(b"") == ".wav"
