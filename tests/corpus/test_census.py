"""What a refusal says of a folder without a corpus."""

import os

from xtts_ka.corpus.census import count_files, what_was_seen


def put(folder, *names: str, content: str = "x" * 400):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, "utf-8")


def test_recordings_alone_are_counted_and_the_remedy_is_theirs(tmp_path):
    put(tmp_path, "a.wav", "sub/b.WAV", "c.mp3", "packed.tar.gz", ".hidden", ".git/x.wav")
    census = count_files(tmp_path)
    assert census.suffixes == {".wav": 2, ".mp3": 1, ".tar.gz": 1} and census.recordings == 3
    said = what_was_seen(tmp_path)
    assert said.startswith("it holds 2 .wav, ") and "no transcripts are there" in said


def test_a_table_is_described_by_its_columns(tmp_path):
    put(tmp_path, "t.csv", content="clip,sentence\na.wav,დილა\n")
    said = what_was_seen(tmp_path)
    assert "t.csv begins with the columns clip, sentence, where" in said and "no recordings are there" in said


def test_a_table_that_is_no_text_does_not_end_the_census(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\x81\x8d\xff\x00\xfe" * 30)
    put(tmp_path, "a.wav")
    (tmp_path / "u.tsv").touch()
    said = what_was_seen(tmp_path)
    assert "t.csv has no line of text" in said and "u.tsv is empty" in said


def test_links_and_pointers_are_named_with_their_remedies(tmp_path):
    source = tmp_path / "source"
    put(source, "a.wav", "good/t.txt")
    os.symlink(source / "a.wav", source / "inside.wav")
    assert count_files(source).broken == ""
    os.symlink(source / "none.wav", source / "nowhere.wav")
    assert count_files(source).broken == str(source / "nowhere.wav")
    (source / "nowhere.wav").unlink()
    os.symlink(tmp_path / "elsewhere.wav", source / "z.wav")
    put(source, "p.wav", content="version https://git-lfs.github.com/spec/v1\n")
    said = what_was_seen(source)
    assert f"{source / 'z.wav'} is a link that leads out" in said and "cp -rL" in said
    assert f"{source / 'p.wav'} is a Git LFS pointer" in said and "git lfs pull" in said


def test_kaldi_and_an_empty_folder_are_recognised(tmp_path):
    assert what_was_seen(tmp_path) == "it holds no files"
    put(tmp_path, "wav.scp", "utt2spk")
    said = what_was_seen(tmp_path)
    assert "it looks like Kaldi (utt2spk, wav.scp)" in said
    assert "no recordings are there" in said and "no transcripts" not in said
