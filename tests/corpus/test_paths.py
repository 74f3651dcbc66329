"""Where a table's paths lead: as written first, then guesses that are told, never out of the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from xtts_ka.corpus.paths import PathFinder, PathProblem, Root


@pytest.fixture
def source(tmp_path) -> Path:
    names = ["wavs/one.wav", "wavs/two.wav", "one.wav", "ana/3.wav", "gio/4.wav", "wavs/Big.WAV", "wavs/a b.wav"]
    for name in (*names, "../outside.wav"):
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "src"


def find(source: Path, written: str, bare: bool = False):
    finder = PathFinder([Root(source)], bare_names=bare)
    return finder.find(written, [source], ("wavs",))


@pytest.mark.parametrize(
    "written, name, noted",
    [
        ("one.wav", "one.wav", ""),  # as written before any guess
        ("wavs/one.wav", "wavs/one.wav", ""),
        ("two", "wavs/two.wav", ""),
        ("./wavs/../one.wav", "one.wav", ""),
        ("wavs\\two.wav", "wavs/two.wav", "backslashes"),
        ("wavs/a%20b.wav", "wavs/a b.wav", "%-escapes"),
        ("wavs/big.wav", "wavs/Big.WAV", "letter case"),
        ("two.mp3", "wavs/two.wav", "another suffix"),
        ("/home/x/wavs/two.wav", "wavs/two.wav", "an absolute path"),
        ("D:\\x\\gio\\4.wav", "gio/4.wav", "an absolute path"),
        ("mydata/wavs/two.wav", "wavs/two.wav", "a path that is not in the source"),
        ("old\\mydata\\wavs\\two", "wavs/two.wav", "a path that is not in the source"),
        ("src/one.wav", "one.wav", "a path that is not in the source"),
    ],
)
def test_a_path_is_found_and_a_guess_is_told(source, written, name, noted):
    found = find(source, written)
    assert (found.name.removeprefix("./"), found.note[: len(noted)]) == (name, noted) and bool(found.note) == bool(
        noted
    )
    assert Path(found.path).is_relative_to(source)


@pytest.mark.parametrize(
    "written, reason, told",
    [
        ("../outside.wav", "outside_source", "outside"),
        ("/etc/passwd", "outside_source", "outside"),
        ("/nowhere/x.wav", "outside_source", "absolute"),
        ("wavs/tow.wav", "missing_audio", "wavs/two.wav is there"),
        ("https://a.ge/x.wav", "missing_audio", "web address"),
        ("ana/4.wav", "missing_audio", "does not exist"),  # gio/4.wav is another recording
        ("4.wav", "missing_audio", "does not exist; gio/4.wav is there"),
        ("x/4.wav", "missing_audio", "does not exist; gio/4.wav is there"),
        ("wavs/4.wav", "missing_audio", "does not exist; gio/4.wav is there"),
        ("", "bad_row", "names no recording"),
        ("a\x00b", "bad_row", "characters"),
    ],
)
def test_a_path_that_leads_nowhere_says_why(source, written, reason, told):
    with pytest.raises(PathProblem, match=told) as caught:
        find(source, written)
    assert caught.value.reason == reason


def test_a_bare_name_is_taken_from_any_folder_only_where_no_path_leads_anywhere(source):
    assert find(source, "4.wav", bare=True).name == "gio/4.wav"
    with pytest.raises(PathProblem):
        find(source, "ana/4.wav", bare=True)


def test_of_two_files_that_fit_none_is_taken_and_both_are_named(source):
    for folder in ("ana/wavs", "gio/wavs"):
        (source / folder).mkdir()
        (source / folder / "5.wav").touch()
    for written in ("5.wav", "mydata/wavs/5.wav", "/home/x/wavs/5.wav", "D:\\x\\5.wav"):
        with pytest.raises(
            PathProblem, match="2 files have its name .ana/wavs/5.wav, gio/wavs/5.wav.: write the folder"
        ):
            find(source, written, bare=True)
    (source / "gio/wavs/5.wav").unlink()
    with pytest.raises(PathProblem, match="ana/wavs/5.wav is there"):
        find(source, "gio/wavs/5.wav", bare=True)  # gio has such a folder: ana's file is another recording
    with pytest.raises(PathProblem, match="ana/wavs/5.wav is there"):
        find(source, "wavs/5.wav")
    assert find(source, "mydata/ana/wavs/5.wav").name == "ana/wavs/5.wav"
    with pytest.raises(PathProblem):
        find(source, "/home/x/gio/wavs/5.wav")


def test_a_file_that_is_there_but_outside_is_not_replaced_by_another(source):
    (source / "sub/b").mkdir(parents=True)
    (source / "sub/b/x.wav").touch()
    (source.parent / "b").mkdir()
    (source.parent / "b/x.wav").touch()
    with pytest.raises(PathProblem, match="is outside"):
        find(source, "../b/x.wav")


def test_links_out_of_the_source_are_refused(source):
    (source / "link.wav").symlink_to(source.parent / "outside.wav")
    (source / "inner.wav").symlink_to(source / "one.wav")
    with pytest.raises(PathProblem, match="a link that leads out"):
        find(source, "link.wav")
    assert find(source, "inner.wav").path == str(source / "one.wav")


def test_a_folder_that_may_be_omitted_comes_before_the_same_name_farther_away(source):
    (source / "ana/wavs").mkdir()
    (source / "ana/wavs/one.flac").touch()
    found = PathFinder([Root(source)]).find("one", [source / "ana", source], ("wavs",))
    assert found.name == "ana/wavs/one.flac"  # not src/one.wav
