"""Archives: members that lead elsewhere, bombs, damage; nothing is left behind, and each ends in one sentence."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from small_corpora import ALL, SENTENCES, assert_pairs, coqui, number_of, speak

from xtts_ka.core.errors import UserError
from xtts_ka.corpus import archives
from xtts_ka.corpus.archives import find_archives, unpack
from xtts_ka.corpus.metadata import create_metadata


def tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_members_that_lead_elsewhere_are_left_out_and_counted(tmp_path, capsys):
    (tmp_path / "secret.txt").write_text("secret")
    names = ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "C:\\evil.txt", "..\\evil.txt", "x" * 300 + ".txt"]
    members = [(member(name), b"x") for name in names]
    members += [(member("link.txt", tarfile.SYMTYPE, str(tmp_path / "secret.txt")), b"")]
    members += [(member("hard.txt", tarfile.LNKTYPE, "../secret.txt"), b""), (member("dev.wav", tarfile.CHRTYPE), b"")]
    members += [
        (member("a/good.txt"), b"good"),
        (member("run.sh"), b"#!/bin/sh"),
        (member("__MACOSX/._good.txt"), b"x"),
    ]
    folder = unpack(tar(tmp_path / "odd.tar.gz", members), tmp_path / "out")
    assert files(folder) == {"a/good.txt"} and files(tmp_path) == {
        "secret.txt",
        "odd.tar.gz",
        f"out/{folder.name}.json",
        f"out/{folder.name}/a/good.txt",
    }
    said = capsys.readouterr().out
    assert "6 names that lead out of the archive" in said and "3 links or devices" in said


def test_a_link_in_a_zip_is_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("../up.txt", "x")
        archive.writestr("good.txt", "x")
    assert files(unpack(tmp_path / "odd.zip", tmp_path / "out")) == {"good.txt"}


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
def test_a_bomb_is_refused_and_leaves_nothing(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "FREE_OF_RATIO", 2**20)
    zeros = bytes(2**24)
    path = tmp_path / f"bomb.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("silence.wav", zeros)
    else:
        tar(path, [(member("silence.wav"), zeros)], f"w:{kind[4:]}")
    with pytest.raises(UserError, match="bomb.* is not unpacked: it unpacks to more than 100 times its size"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar"])
def test_a_damaged_archive_is_one_sentence_and_leaves_nothing(tmp_path, kind):
    source = coqui(tmp_path / "made", 12)
    path = Path(shutil.make_archive(str(tmp_path / "whole"), {"tar.gz": "gztar"}.get(kind, kind), source))
    broken = tmp_path / "src" / f"broken.{kind}"
    broken.parent.mkdir()
    for data in (path.read_bytes()[: path.stat().st_size // 2], b"", b"not an archive" * 50):
        broken.write_bytes(data)
        with pytest.raises(UserError, match=f"broken.{kind} cannot be unpacked .*download it again") as caught:
            create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
        assert "\n" not in str(caught.value) and files(tmp_path / "data") == set()


def test_an_encrypted_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "locked.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    data = bytearray((tmp_path / "locked.zip").read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    with pytest.raises(UserError, match="locked.zip cannot be unpacked .*encrypted"):
        unpack(tmp_path / "locked.zip", tmp_path / "out")


def test_a_full_disk_is_told_before_it_is_full(tmp_path, monkeypatch):
    path = tar(tmp_path / "a.tar", [(member("a.txt"), b"x")], "w")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(2**20))
    with pytest.raises(UserError, match="needs more room than the disk has"):
        unpack(path, tmp_path / "out")


def test_an_archive_that_changed_is_unpacked_again_and_one_that_did_not_is_not(tmp_path):
    path = tar(tmp_path / "a.tar", [(member("a.txt"), b"one")], "w")
    folder = unpack(path, tmp_path / "out")
    (folder / "a.txt").write_text("mine")
    assert (unpack(path, tmp_path / "out") / "a.txt").read_text() == "mine"
    tar(path, [(member("a.txt"), b"another")], "w")
    assert (unpack(path, tmp_path / "out") / "a.txt").read_text() == "another"


def test_archives_beside_an_unpacked_corpus_are_left_alone_and_named(tmp_path, capsys):
    source = coqui(tmp_path / "src", 12)
    (source / "download.tar.gz").write_bytes(b"never opened")
    assert create_metadata(source, tmp_path / "data", options=ALL).kept == 12
    assert "not unpacked, because a corpus lies beside it: download.tar.gz" in capsys.readouterr().out
    assert find_archives(source) == [source / "download.tar.gz"]
    assert not (tmp_path / "data/audio").exists()


def test_an_archive_without_a_corpus_says_so(tmp_path):
    (tmp_path / "src").mkdir()
    tar(tmp_path / "src/a.tar", [(member("readme.txt"), SENTENCES[0].encode())], "w")
    speak(tmp_path / "src/1.wav", 1)
    with pytest.raises(UserError, match="no recordings with transcripts .* 1 .wav, 1 .tar"):
        create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)


def test_clips_that_no_archive_holds_are_told_as_packed(tmp_path):
    """Not "20 of 20 rows missing_audio": the table is there, and its recordings are in none of the archives."""
    source = coqui(tmp_path / "src")
    shutil.rmtree(source / "wavs")
    tar(source / "wavs.tar", [], "w")
    with pytest.raises(UserError, match="that metadata.csv names is in .* or in wavs.tar: .*still packed elsewhere"):
        create_metadata(source, tmp_path / "data", options=ALL)


def packed_pairs(archive: Path, numbers: range, texts: dict[int, str] | None = None, folder: str = "") -> None:
    """An archive of 0000.wav, 0000.txt … with the sound and the sentence of `numbers`."""
    archive.parent.mkdir(exist_ok=True)
    members = []
    for i, number in enumerate(numbers):
        sound = speak(archive.parent.parent / "spoken.wav", number).read_bytes()
        text = (texts or {}).get(i, SENTENCES[number]).encode()
        members += [(member(f"{folder}{i:04d}.wav"), sound), (member(f"{folder}{i:04d}.txt"), text)]
    tar(archive, members, "w")


def test_equal_names_in_two_archives_keep_their_own_sound(tmp_path):
    """Texts that are dropped leave their recordings to nobody."""
    packed_pairs(tmp_path / "src/ana.tar", range(8), dict.fromkeys(range(4), "[laughter]"))
    packed_pairs(tmp_path / "src/gio.tar", range(10, 18))
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    assert (report.kept, report.dropped) == (12, {"noise_tag": 4})
    speakers = {number_of(c.audio_path): c.speaker_id for c in assert_pairs(tmp_path / "data").values()}
    assert speakers == dict.fromkeys(range(4, 8), "ana") | dict.fromkeys(range(10, 18), "gio")


@pytest.mark.parametrize("archives", [1, 2])
def test_a_text_without_sound_takes_none_from_elsewhere(tmp_path, archives):
    """Neither by its name, nor by the guess that it has another suffix."""
    sound = [(member(f"{i:04d}.wav"), speak(tmp_path / "spoken.wav", i).read_bytes()) for i in range(8)]
    texts = [(member(f"{i:04d}.txt"), SENTENCES[i].encode()) for i in range(10)]
    (tmp_path / "src").mkdir()
    tar(tmp_path / "src/ana.tar", sound + texts, "w")
    if archives > 1:
        packed_pairs(tmp_path / "src/gio.tar", range(20, 29))  # with a 0008.wav
    speak(tmp_path / "src/0009.mp3", 40, rate=16_000)
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    assert report.kept == 8 + 9 * (archives - 1) and report.dropped["missing_audio"] == 2
    assert_pairs(tmp_path / "data")


@pytest.mark.parametrize(
    "names, speakers, known",
    [
        (("000000", "000001"), {"src"}, True),  # as if they were one
        (("train-0", "test"), {"src"}, True),
        (("p225", "p226"), {"src_unknown"}, False),  # two voices, or two halves of a set: nobody says
        (("ana", "gio"), {"ana", "gio"}, True),
    ],
    ids=["shards", "splits", "digits", "names"],
)
def test_what_the_names_of_archives_tell_of_speakers(tmp_path, names, speakers, known):
    for i, name in enumerate(names):
        packed_pairs(tmp_path / f"src/{name}.tar", range(10 * i, 10 * i + 6))
    create_metadata(tmp_path / "src", tmp_path / "data", options=replace(ALL, official_splits="pool"))
    clips = assert_pairs(tmp_path / "data").values()
    assert len(clips) == 12 and {c.speaker_id for c in clips} == speakers
    assert {c.speaker_known for c in clips} == {known}


def test_two_archives_as_sources_are_two_voices(tmp_path):
    packed_pairs(tmp_path / "src/ana.tar", range(6))
    packed_pairs(tmp_path / "src/gio.tar", range(10, 16))
    create_metadata([tmp_path / "src/ana.tar", tmp_path / "src/gio.tar"], tmp_path / "data", options=ALL)
    clips = assert_pairs(tmp_path / "data").values()
    assert len(clips) == 12 and {c.speaker_id for c in clips} == {"ana", "gio"}


def test_a_name_that_two_archives_hold_is_told(tmp_path):
    packed_pairs(tmp_path / "src/a.tar", range(4), dict.fromkeys(range(4), ""), "wavs/")
    packed_pairs(tmp_path / "src/b.tar", range(3, 16), dict.fromkeys(range(13), ""), "wavs/")
    packed_pairs(tmp_path / "src/c.tar", range(3, 16), dict.fromkeys(range(13), ""), "wavs/")  # the same: no doubt
    rows = [f"wavs/{i:04d}.wav|{SENTENCES[i + 3]}\n" for i in range(13)]
    (tmp_path / "src/metadata.csv").write_text("audio_file|text\n" + "".join(rows), "utf-8")
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    assert (report.kept, report.dropped) == (9, {"ambiguous_audio": 4})
    assert "a/wavs/0000.wav and b/wavs/0000.wav are in different archives" in report.drop_report.read_text("utf-8")
    assert_pairs(tmp_path / "data")


@pytest.mark.parametrize("names", [("a.txt", "a.txt/0.wav"), ("a.txt/0.wav", "a.txt")], ids=["file", "folder"])
def test_a_name_that_is_a_file_and_a_folder_is_one_sentence_and_leaves_nothing(tmp_path, names):
    path = tar(tmp_path / "odd.tar", [(member(name), b"x") for name in names], "w")
    with pytest.raises(UserError, match=r"odd.tar cannot be unpacked \(a.txt is a file and a folder in it\)"):
        unpack(path, tmp_path / "data/audio")
    assert files(tmp_path) == {"odd.tar"} and not (tmp_path / "data").exists()


def test_an_archive_within_an_archive_is_named(tmp_path, capsys):
    inner = tar(tmp_path / "inner.tar", [(member("1.txt"), b"x")], "w").read_bytes()
    only = tar(tmp_path / "only.tar", [(member("x/inner.tar"), inner)], "w")
    with pytest.raises(UserError, match="only.tar holds another archive, x/inner.tar: unpack it"):
        unpack(only, tmp_path / "data/audio")
    assert not (tmp_path / "data").exists()
    unpack(tar(tmp_path / "both.tar", [(member("inner.tar"), inner), (member("1.txt"), b"x")], "w"), tmp_path / "out")
    assert "left out: 1 archives within it" in capsys.readouterr().out
