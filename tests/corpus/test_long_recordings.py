"""Which recordings a folder has, the transcript of each, and shares of them for several machines."""

import os

import pytest

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.long_recordings import find_recordings, safe_key, share_of, subtitles_without_recording


def tree(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * (10 * len(name)))
    return folder


def transcripts(folder, given=None):
    return {each.name: each.transcript and each.transcript.name for each in find_recordings(folder, given)}


def test_transcripts_stand_beside_their_recordings(tmp_path):
    tree(tmp_path, "a.mp3", "a.srt", "b.MP4", "b.en.srt", "b.ka.srt", "ქ/c.wav", "ქ/c.wav.vtt", "d.wav", "d.TextGrid")
    tree(tmp_path, "d.txt", "e.flac", "E.txt", "f.ogg", ".hidden.wav", "notes.doc")
    assert transcripts(tmp_path) == {
        "a.mp3": "a.srt",
        "b.MP4": "b.ka.srt",
        "d.wav": "d.TextGrid",
        "e.flac": "E.txt",
        "f.ogg": None,
        "ქ/c.wav": "c.wav.vtt",
    }


def test_subtitles_without_a_recording_are_found(tmp_path):
    tree(tmp_path, "film.mp4", "film.ka.srt", "film.en.srt", "other.srt", "a/film.VTT", "a/b.TextGrid", "notes.txt")
    found = find_recordings(tmp_path)
    assert subtitles_without_recording(tmp_path, found) == ["a/b.TextGrid", "a/film.VTT", "other.srt"]


def test_transcripts_in_a_folder_of_their_own_or_one_for_all(tmp_path):
    tree(tmp_path, "sound/x/a.mp3", "sound/b.mp3", "text/x/a.srt", "text/b.txt", "book.txt")
    assert transcripts(tmp_path / "sound", tmp_path / "text") == {"b.mp3": "b.txt", "x/a.mp3": "a.srt"}
    assert transcripts(tmp_path / "sound", tmp_path / "book.txt") == {"b.mp3": "book.txt", "x/a.mp3": "book.txt"}
    with pytest.raises(UserError, match="belong to one recording"):
        find_recordings(tmp_path / "sound", tmp_path / "text/x/a.srt")
    (single,) = find_recordings(tmp_path / "sound/b.mp3", tmp_path / "text/x/a.srt")
    assert (single.name, single.transcript) == ("b.mp3", tmp_path / "text/x/a.srt")


def test_keys_are_safe_and_differ(tmp_path):
    names = ["a.mp3", "a.wav", "წიგნი 1/თავი.mp3", "წიგნი_1/თავი.mp3", "x" * 120 + ".mp3", "x" * 121 + ".mp3"]
    tree(tmp_path, *names)
    keys = [each.key for each in find_recordings(tmp_path)]
    assert len(set(keys)) == len(names) and all(len(key) <= 70 and "/" not in key and " " not in key for key in keys)
    assert safe_key("თავი_1") == "თავი_1"


def test_the_folder_below_the_source_is_the_speaker(tmp_path):
    tree(tmp_path, "ნინო/1/a.mp3", "b.mp3")
    assert {each.name: each.speaker for each in find_recordings(tmp_path)} == {"ნინო/1/a.mp3": "ნინო", "b.mp3": ""}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shares_are_disjoint_cover_all_and_weigh_alike(tmp_path, count):
    tree(tmp_path, *(f"{'x' * n}.wav" for n in range(1, 30)))
    found = find_recordings(tmp_path)
    shares = [share_of(found, (number, count)) for number in range(1, count + 1)]
    names = sorted(each.name for share in shares for each in share)
    assert names == sorted(each.name for each in found)
    weights = [sum(os.path.getsize(each.path) for each in share) for share in shares]
    assert max(weights) <= 1.2 * min(weights)
