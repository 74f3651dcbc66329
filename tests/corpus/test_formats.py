"""From each layout of recordings and transcripts to split tables, and telling the layouts apart."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_corpora import ALL, SENTENCES, assert_pairs, clips_of, coqui, number_of, speak

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.formats import find_corpus
from xtts_ka.corpus.metadata import create_metadata, print_report
from xtts_ka.corpus.tables import SPLITS, read_split

# ── layouts ──────────────────────────────────────────────────────────────────────────────────────────────


def test_common_voice(tmp_path):
    source = tmp_path / "cv-corpus" / "ka"
    lines = ["client_id\tpath\tsentence\tup_votes"]
    for i in range(12):
        speak(source / f"clips/common_voice_ka_{i}.mp3", i, rate=48_000)
        lines.append(f'{"ab"[i % 2] * 128}\tcommon_voice_ka_{i}.mp3\t"{SENTENCES[i]}"\t2')
    (source / "validated.tsv").write_text("\n".join(lines), encoding="utf-8")
    (source / "train.tsv").write_text("\n".join(lines[:3]), encoding="utf-8")  # a part of validated.tsv
    (source / "other.tsv").write_text("\n".join(lines), encoding="utf-8")
    report = create_metadata(tmp_path / "cv-corpus", tmp_path / "data", options=ALL)  # ka is a level down
    assert [corpus.format for corpus in report.corpora] == ["common_voice"]
    assert (report.kept, report.rows, report.dropped, report.speakers) == (12, 12, {}, 2)
    clip = clips_of(tmp_path / "data")["common_voice_ka_3"]
    assert clip.text == SENTENCES[3] and clip.duration == pytest.approx(0.6, abs=0.05)
    assert clip.audio_path == source / "clips/common_voice_ka_3.mp3"
    # sha256 of 128 times "b", by `printf 'b%.0s' {1..128} | sha256sum`
    assert clip.speaker_id == "cv_" + "70ae1c53"


def test_common_voice_without_validated_joins_its_parts(tmp_path):
    source = tmp_path / "ka"
    for part, numbers in (("train", range(0, 6)), ("dev", range(6, 9)), ("test", range(9, 12))):
        for i in numbers:
            speak(source / f"clips/clip_{i}.mp3", i, rate=16_000)
        rows = [f"abc\tclip_{i}.mp3\t{SENTENCES[i]}\n" for i in numbers]
        (source / f"{part}.tsv").write_text("client_id\tpath\tsentence\n" + "".join(rows), encoding="utf-8")
    report = create_metadata(source, tmp_path / "data", options=ALL)
    assert (report.kept, report.speakers, report.corpora[0].format) == (12, 1, "common_voice")


def fleurs(folder: Path) -> Path:
    for part, numbers in (("train", range(0, 8)), ("dev", range(8, 10)), ("test", range(10, 12))):
        rows = []
        for i in numbers:
            speak(folder / f"audio/{part}/{1000 + i}.wav", i, rate=16_000)
            gender = "FEMALE" if i % 2 else "MALE"
            rows.append(f"{i}\t{1000 + i}.wav\t{SENTENCES[i]}\t{SENTENCES[i][:-1]}\tა ბ | გ |\t9600\t{gender}\n")
        (folder / f"{part}.tsv").write_text("".join(rows), encoding="utf-8")
    return folder


def test_fleurs(tmp_path):
    source = fleurs(tmp_path / "fleurs/data/ka_ge")
    report = create_metadata(tmp_path / "fleurs", tmp_path / "data", options=ALL)
    assert (report.corpora[0].format, report.corpora[0].folder, report.kept) == ("fleurs", source, 12)
    clips = {clip.audio_path.name: clip for clip in clips_of(tmp_path / "data").values()}
    assert clips["1009.wav"].audio_path == source / "audio/dev/1009.wav"
    assert (clips["1009.wav"].text, clips["1009.wav"].speaker_id) == (SENTENCES[9], "fleurs_female")


def test_ljspeech(tmp_path):
    source = tmp_path / "Nino-1.0"
    rows = []
    for i in range(12):
        speak(source / f"wavs/LJ{i:03d}.flac", i, rate=22_050)
        rows.append(f"LJ{i:03d}|სულ {i} კაცი|{SENTENCES[i]}" if i else f"LJ{i:03d}|{SENTENCES[0]}")
    (source / "metadata.csv").write_text("\r\n".join(rows), encoding="utf-8-sig")
    report = create_metadata(source, tmp_path / "data", options=ALL)
    assert (report.corpora[0].format, report.kept) == ("ljspeech", 12)
    clips = clips_of(tmp_path / "data")
    assert [clips[f"LJ{i:03d}"].text for i in range(12)] == SENTENCES[:12]
    assert {clip.speaker_id for clip in clips.values()} == {"Nino-1.0"}


def known_speakers(data_dir):
    """Whether the speaker is known, by file_id, and the ids of those who are."""
    clips = clips_of(data_dir)
    return {i: c.speaker_known for i, c in clips.items()}, {c.speaker_id for c in clips.values() if c.speaker_known}


def test_fleurs_does_not_tell_who_speaks(tmp_path, capsys):
    report = create_metadata(fleurs(tmp_path / "fleurs"), tmp_path / "data", options=ALL)
    known, speakers = known_speakers(tmp_path / "data")
    assert not any(known.values()) and speakers == set() and (report.speakers, report.unknown) == (0, 12)
    print_report(report)
    assert "the speaker of 12 clips is not known" in capsys.readouterr().out


@pytest.mark.parametrize("named, unknown", [(True, {"c03"}), (False, set())], ids=["column", "no_column"])
def test_an_empty_cell_is_an_unknown_speaker_and_no_column_is_one_voice(tmp_path, named, unknown):
    source = coqui(tmp_path / "studio")
    table = (source / "metadata.csv").read_text("utf-8").replace(f"{SENTENCES[3]}|გია", f"{SENTENCES[3]}| ")
    if not named:
        table = "".join(line.rpartition("|")[0] + "\n" for line in table.splitlines())
    (source / "metadata.csv").write_text(table, "utf-8")
    create_metadata(source, tmp_path / "data", options=ALL)
    known, speakers = known_speakers(tmp_path / "data")
    assert {i for i, is_known in known.items() if not is_known} == unknown
    assert speakers == ({"გია", "nino"} if named else {"studio"})


def test_json_lines_that_name_nobody_have_unknown_speakers_until_said_otherwise(tmp_path, capsys):
    rows = [
        f'{{"audio_filepath": "{speak(tmp_path / f"src/{i}.wav", i).name}", "text": "{SENTENCES[i]}"}}'
        for i in range(12)
    ]
    (tmp_path / "src/manifest.json").write_text("\n".join(rows), "utf-8")
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    assert (report.kept, report.speakers, report.unknown) == (12, 0, 12)
    assert (
        "no column names who speaks, so it is not known: name the speakers in a column speaker_name"
        in capsys.readouterr().out
    )
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=replace(ALL, unnamed_speakers="one"))
    assert (report.speakers, report.unknown, known_speakers(tmp_path / "data")[1]) == (1, 0, {"src"})


@pytest.mark.parametrize("header", ["file|text\n", ""], ids=["header", "no_header"])
def test_folders_that_may_be_speakers_are_neither_merged_nor_taken_for_them(tmp_path, capsys, header):
    rows = []
    for i in range(12):
        name = f"{('ana', 'gio')[i % 2]}/{i:02d}.wav"
        speak(tmp_path / "src" / name, i)
        rows.append(f"{name}|{SENTENCES[i]}\n")
    (tmp_path / "src/metadata.csv").write_text(header + "".join(rows), "utf-8")
    wanted = {"auto": (0, 12), "one": (1, 0), "folders": (2, 0), "unknown": (0, 12)}
    for unnamed, expected in wanted.items():
        options = replace(ALL, unnamed_speakers=unnamed)
        report = create_metadata(tmp_path / "src", tmp_path / "data", options=options)
        assert (report.speakers, report.unknown) == expected
        told = "the folders (ana, gio) names who speaks, so it is not known" in capsys.readouterr().out
        assert told == (unnamed == "auto")
    with pytest.raises(UserError, match="unnamed_speakers is 'x': it must be auto, one, folders or unknown"):
        replace(ALL, unnamed_speakers="x")


@pytest.mark.parametrize("names", [("nino_", "gio_"), ("ch", "ch"), ("", "")], ids=["people", "one_word", "numbers"])
def test_names_of_files_that_may_be_speakers_are_told(tmp_path, capsys, names):
    for i in range(12):
        file = speak(tmp_path / f"src/{names[i % 2]}{i:02d}.wav", i)
        file.with_suffix(".txt").write_text(SENTENCES[i], "utf-8")
    assert create_metadata(tmp_path / "src", tmp_path / "data", options=ALL).speakers == 1
    told = "one voice; if the first words of the file names (gio, nino) name who speaks" in capsys.readouterr().out
    assert told == (names[0] == "nino_")


@pytest.mark.parametrize(
    "row, speakers, unknown, told",
    [
        ("{i:02d}|spk{few}|{text}", {f"spk{k}" for k in range(8)}, 0, "(spk0, spk1, spk2, …) is taken for the speaker"),
        ("{i:02d}|{name}|{text}", {"ნინო ბერიძე", "გიორგი მაისურაძე"}, 0, "is taken for the speaker; if it is not"),
        ("{i:02d}|spk{i}|{text}", set(), 12, "may name the speakers or not"),
        ("{i:02d}|{text}|{gender}", set(), 12, "(male, female) may name the speakers or not"),
        (
            "{i:02d}|{text}|{mood}",
            {"src"},
            0,
            "(სიხარული, ბრაზი) is taken for no speaker; if it is one, name the columns",
        ),
        ("{i:02d}|{text}|{i:02d}", {"src"}, 0, ""),
    ],
    ids=["few_clips_each", "long_names", "one_clip_each", "genders", "moods", "ids"],
)
def test_a_column_without_a_header_is_never_a_speaker_or_none_in_silence(
    tmp_path, capsys, row, speakers, unknown, told
):
    lines = []
    for i in range(12):
        speak(tmp_path / f"src/wavs/{i:02d}.wav", i)
        of_two = {
            "name": ("ნინო ბერიძე", "გიორგი მაისურაძე"),
            "gender": ("male", "female"),
            "mood": ("სიხარული", "ბრაზი"),
        }
        words = {word: pair[i % 2] for word, pair in of_two.items()}
        lines.append(row.format(i=i, few=i * 2 // 3, text=SENTENCES[i], **words))
    (tmp_path / "src/metadata.csv").write_text("\n".join(lines), "utf-8")
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    assert (report.kept, report.unknown, {name for name, _ in report.voices.values()}) == (12, unknown, speakers)
    assert {clip.text for clip in clips_of(tmp_path / "data").values()} == set(SENTENCES[:12])
    out = capsys.readouterr().out
    assert told in out and ("taken for" in out or "may name" in out) == bool(told)


@pytest.mark.parametrize("nobody", ["unknown", "None", "N/A", "-1", "უცნობი"])
def test_a_word_for_nobody_is_no_speaker(tmp_path, nobody):
    source = coqui(tmp_path / "studio")
    table = (source / "metadata.csv").read_text("utf-8").replace("|გია", f"|{nobody}")
    (source / "metadata.csv").write_text(table, "utf-8")
    report = create_metadata(source, tmp_path / "data", options=ALL)
    assert (report.unknown, known_speakers(tmp_path / "data")[1]) == (10, {"nino"})


def test_a_recording_that_another_source_tests_does_not_train(tmp_path):
    audiofolder(tmp_path / "hf/src")
    for i in range(18):
        speak(tmp_path / f"own/{i}.wav", i).with_suffix(".txt").write_text(SENTENCES[i] + " ისევ.", "utf-8")
    create_metadata([tmp_path / "own", tmp_path / "hf"], tmp_path / "data", options=ALL)
    assert splits_by_number(tmp_path / "data") == OFFICIAL


def test_an_empty_client_id_is_an_unknown_speaker(tmp_path):
    rows = ["client_id\tpath\tsentence"]
    for i in range(12):
        speak(tmp_path / f"ka/clips/{i}.wav", i)
        rows.append(f"{'a' * (i % 2)}\t{i}.wav\t{SENTENCES[i]}")
    (tmp_path / "ka/validated.tsv").write_text("\n".join(rows), "utf-8")
    create_metadata(tmp_path / "ka", tmp_path / "data", options=ALL)
    known, speakers = known_speakers(tmp_path / "data")
    assert known == {str(i): bool(i % 2) for i in range(12)} and len(speakers) == 1


def test_coqui(tmp_path):
    source = coqui(tmp_path / "studio")
    report = create_metadata(source, tmp_path / "data", options=ALL)
    assert (report.corpora[0].format, report.kept, report.speakers, report.dropped) == ("coqui", 20, 2, {})
    clips = clips_of(tmp_path / "data")
    assert clips["c03"].text == SENTENCES[3] and clips["c03"].speaker_id == "გია"
    assert clips["c03"].duration == 0.6 and clips["c03"].embedding_path is None


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_coqui_with_other_delimiters_and_quotes(tmp_path, delimiter):
    source = tmp_path / "studio"
    for part, numbers in (("train", range(10)), ("eval", range(10, 14))):
        source.mkdir(exist_ok=True)
        with open(source / f"{part}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(["text", "audio_file"])
            writer.writerows(
                [SENTENCES[i].replace(" ", ", ") if delimiter != "\t" else SENTENCES[i], f"{i}"]
                for i in numbers
                if speak(source / f"{i}.wav", i)
            )
    report = create_metadata(source, tmp_path / "data", options=ALL)
    assert (report.corpora[0].format, report.kept, report.dropped) == ("coqui", 14, {})
    assert {clip.speaker_id for clip in clips_of(tmp_path / "data").values()} == {"studio"}


def test_plain_folder_with_every_kind_of_audio(tmp_path):
    source = tmp_path / "takes"
    kinds = itertools.cycle([("wav", 44_100, 2), ("flac", 48_000, 1), ("mp3", 22_050, 2), ("ogg", 16_000, 1)])
    for i, (suffix, rate, channels) in zip(range(16), kinds):
        speaker = ("ნინო", "გია კ")[i % 2]
        path = speak(source / speaker / f"take {i}.{suffix}", i, rate=rate, channels=channels)
        path.with_suffix(".txt").write_text(f"{SENTENCES[i]}\n", encoding="utf-8-sig")
    (source / "ნინო" / "._take 0.wav").write_bytes(b"what macOS leaves")
    (source / "notes").mkdir()
    (source / "notes" / "todo.txt").write_text("ეს ჩანაწერი არ არის")
    report = create_metadata(source, tmp_path / "data", options=ALL)
    assert (report.corpora[0].format, report.kept, report.dropped) == ("folder", 16, {})
    clips = clips_of(tmp_path / "data").values()
    assert {clip.text for clip in clips} == set(SENTENCES[:16])
    speakers = {clip.audio_path.parent.name: clip.speaker_id for clip in clips}
    assert speakers["ნინო"] == "ნინო" and speakers["გია კ"].startswith("გია_კ-")


def test_plain_folder_reports_what_has_no_partner(tmp_path):
    source = tmp_path / "takes"
    for i in range(12):
        speak(source / f"{i}.wav", i).with_suffix(".txt").write_text(SENTENCES[i], encoding="utf-8")
    (source / "3.txt").unlink()
    (source / "4.wav").unlink()
    (source / "5.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "secret.txt").write_text("საიდუმლო სიტყვა", encoding="utf-8")
    (source / "6.txt").unlink()
    (source / "6.txt").symlink_to(tmp_path / "secret.txt")
    report = create_metadata(source, tmp_path / "data", options=ALL)
    assert report.dropped == {"bad_row": 2, "empty_text": 1, "missing_audio": 1} and report.kept == 8
    assert "საიდუმლო" not in report.drop_report.read_text(encoding="utf-8")


def test_several_sources_are_joined(tmp_path):
    for name in ("one", "two"):
        coqui(tmp_path / name)
    for i in range(20):  # same names and sentences, other recordings
        speak(tmp_path / f"two/wavs/c{i:02d}.wav", 100 + i)
    report = create_metadata([tmp_path / "one", tmp_path / "two"], tmp_path / "data", options=ALL)
    assert (report.kept, len(report.corpora), report.speakers) == (40, 2, 4)  # one name in two corpora is two people
    clips = clips_of(tmp_path / "data").values()
    speakers = {name: {c.speaker_id for c in clips if f"/{name}/" in str(c.audio_path)} for name in ("one", "two")}
    assert speakers["one"] == {"გია", "nino"} and not speakers["one"] & speakers["two"] and len(clips) == 40
    joined = replace(ALL, join_speakers=True)
    sources = [tmp_path / "one", tmp_path / "two"]
    assert create_metadata(sources, tmp_path / "data", options=joined).speakers == 2


@pytest.mark.parametrize("kind", ["link", "path", "names_without_header"])
def test_a_source_of_recordings_alone_serves_the_tables_of_another(tmp_path, kind):
    source, recordings = tmp_path / "src", tmp_path / "aud"
    source.mkdir()
    for i in range(12):
        speak(recordings / f"{i:02d}.wav", i)
    if kind == "link":
        (source / "wavs").symlink_to(recordings)
    row = "../aud/{}.wav|{}" if kind == "path" else "{}.wav|{}"
    rows = [row.format(f"{i:02d}", SENTENCES[i]) for i in range(12)]
    (source / "list.csv").write_text("\n".join(["audio_file|text"] * (kind == "path") + rows), "utf-8")
    if kind == "path":
        with pytest.raises(UserError, match="is outside .*: give its own folder as a --source too"):
            create_metadata(source, tmp_path / "none", options=ALL)
    report = create_metadata([source, recordings], tmp_path / "data", options=ALL)
    assert (report.kept, report.dropped, len(report.corpora)) == (12, {}, 1)
    assert {clip.audio_path.parent for clip in clips_of(tmp_path / "data").values()} == {recordings}


def test_recordings_that_no_table_names_are_not_left_silently(tmp_path):
    coqui(tmp_path / "src")
    speak(tmp_path / "aud/new.wav", 1)
    with pytest.raises(UserError, match="found in .*/aud: .*no transcripts are there"):
        create_metadata([tmp_path / "src", tmp_path / "aud"], tmp_path / "data", options=ALL)
    with pytest.raises(UserError, match="found in .*/aud: .*no transcripts are there"):
        create_metadata([tmp_path / "aud"], tmp_path / "data", options=ALL)


def test_the_same_source_twice_gives_each_clip_once(tmp_path):
    source = coqui(tmp_path / "one")
    report = create_metadata([source, source], tmp_path / "data", options=ALL)
    assert (report.kept, report.dropped) == (20, {"duplicate_id": 20})
    assert len(clips_of(tmp_path / "data")) == 20


# ── auto ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_found_lists_what_was_looked_for(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "notes.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="audio_file.text.speaker_name.*id.text.* a .txt .*common_voice, fleurs"):
        find_corpus(tmp_path / "src")
    with pytest.raises(UserError, match="looked for ljspeech: metadata.csv"):
        find_corpus(tmp_path / "src", "ljspeech")
    with pytest.raises(UserError, match="nowhere is neither a folder nor an archive"):
        find_corpus(tmp_path / "nowhere")


def test_two_corpora_are_ambiguous_until_one_is_named(tmp_path):
    both = coqui(tmp_path / "both")
    (both / "validated.tsv").write_text("client_id\tpath\tsentence\n", encoding="utf-8")
    with pytest.raises(UserError, match="more than one corpus .common_voice in .*coqui in .*--format"):
        find_corpus(both)
    assert find_corpus(both, "coqui").format == "coqui"
    coqui(tmp_path / "parent/a")
    coqui(tmp_path / "parent/b")
    with pytest.raises(UserError, match="--source"):
        find_corpus(tmp_path / "parent")


def test_loose_takes_beside_a_corpus_are_not_forgotten_silently(tmp_path):
    coqui(tmp_path / "all/corpus")
    speak(tmp_path / "all/takes/1.wav", 1).with_suffix(".txt").write_text("ა")
    with pytest.raises(UserError, match="coqui in .*folder in"):
        find_corpus(tmp_path / "all")
    assert find_corpus(tmp_path / "all", "coqui").folder == tmp_path / "all/corpus"


def test_a_table_that_is_a_link_out_of_the_source_is_not_read(tmp_path):
    outside = coqui(tmp_path / "outside")
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "metadata.csv").symlink_to(outside / "metadata.csv")
    with pytest.raises(UserError, match="no recordings"):
        find_corpus(tmp_path / "src")


def test_parquet_shards_of_two_sources_with_one_name_keep_their_own_sound(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for source, numbers in (("one/ka", range(8)), ("two/ka", range(10, 18))):
        rows = []
        for i, number in enumerate(numbers):
            sound = speak(tmp_path / "spoken.wav", number).read_bytes()
            rows.append({"audio": {"bytes": sound, "path": f"{i}.wav"}, "text": SENTENCES[number]})
        (tmp_path / source).mkdir(parents=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / source / "train-00000-of-00001.parquet")
    options = replace(ALL, unnamed_speakers="one")
    report = create_metadata([tmp_path / "one/ka", tmp_path / "two/ka"], tmp_path / "data", options=options)
    assert (report.kept, report.speakers) == (16, 2)
    assert_pairs(tmp_path / "data")


# ── transcripts beside the recordings ────────────────────────────────────────────────────────────────────


def takes(folder: Path, count: int = 12, **others) -> Path:
    """Recordings with a .txt beside each; others: suffix → the content of clip i's file, None for no file."""
    for i in range(count):
        path = speak(folder / f"{i:06d}.wav", i)
        path.with_suffix(".txt").write_text(SENTENCES[i], "utf-8")
        for suffix, content in others.items():
            if content(i) is not None:
                path.with_suffix(f".{suffix}").write_text(content(i), "utf-8")
    return folder


@pytest.mark.parametrize(
    "entry, speakers, unknown",
    [
        (lambda i: {"speaker_id": i % 2, "text": "სხვა"}, {"0", "1"}, 0),
        (lambda i: {"speaker": f"s{i % 2}"}, {"s0", "s1"}, 0),
        (lambda i: {"speaker": f"s{i % 2}"} if i < 9 else {"speaker": None}, {"s0", "s1"}, 3),
        (lambda i: {"speaker": f"s{i % 2}"} if i < 9 else None, {"s0", "s1"}, 3),
        (lambda i: {"segments": [1], "text": "სხვა"}, {"src"}, 0),
        (lambda i: [1], {"src"}, 0),
    ],
    ids=["text_too", "speaker_only", "empty", "some", "no_speaker", "no_object"],
)
def test_the_json_beside_a_text_names_the_speaker(tmp_path, entry, speakers, unknown):
    takes(tmp_path / "src", json=lambda i: None if entry(i) is None else json.dumps(entry(i)))
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    _, named = known_speakers(tmp_path / "data")
    assert (report.kept, named, report.unknown) == (12, speakers, unknown)
    assert_pairs(tmp_path / "data")  # the texts are those of the .txt


def test_recordings_named_by_their_words_are_no_table(tmp_path):
    for i in range(12):
        word = SENTENCES[i].replace(" ", "_")[:-1]
        speak(tmp_path / f"src/{word}.wav", i).with_suffix(".txt").write_text(f"{word}, კი.", "utf-8")
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    assert (report.kept, report.corpora[0].format) == (12, "folder")


def test_a_broken_json_beside_a_text_is_told(tmp_path):
    takes(tmp_path / "src", json=lambda i: "{" if i == 3 else '{"speaker": "ნინო"}')
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    assert (report.kept, report.dropped, report.speakers) == (11, {"bad_row": 1}, 1)
    assert "000003.txt: the .json beside the recording is no JSON" in report.drop_report.read_text("utf-8")


@pytest.mark.parametrize("told", [0, 4])
def test_a_class_is_no_speaker_and_casts_doubt_on_one_voice(tmp_path, capsys, told):
    takes(tmp_path / "src", cls=lambda i: str(i % 3), json=lambda i: '{"speaker": "ნინო"}' if i < told else None)
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    _, named = known_speakers(tmp_path / "data")
    assert (report.kept, named, report.unknown) == (12, {"ნინო"} if told else set(), 12 - told)
    assert "the number in a .cls file may be the speaker's or a label of another kind" in capsys.readouterr().out


# ── one corpus in several folders ────────────────────────────────────────────────────────────────────────


def audiofolder(folder: Path, names=("train", "validation", "test"), header="file_name,text", speaker="") -> Path:
    """Hugging Face's audiofolder with splits: 0 to 9 train, 10 to 13 validate, 14 to 17 test; each part has 0.wav …"""
    for part, numbers in zip(names, (range(10), range(10, 14), range(14, 18))):
        for i, number in enumerate(numbers):
            speak(folder / part / f"{i}.wav", number)
        rows = [f"{i}.wav,{SENTENCES[n]}{speaker and f',{speaker}{n % 2}'}" for i, n in enumerate(numbers)]
        (folder / part / "metadata.csv").write_text("\n".join([header, *rows]), "utf-8")
    return folder


def splits_by_number(data_dir: Path) -> dict[str, set[int]]:
    return {split: {number_of(c.audio_path) for c in read_split(data_dir, split)} for split in SPLITS}


OFFICIAL = {"train": set(range(10)), "val": set(range(10, 14)), "test": set(range(14, 18))}


@pytest.mark.parametrize("inside, sources", [("", [""]), ("data", [""]), ("", ["test", "train", "validation"])])
def test_an_audiofolder_with_splits_is_one_corpus_whose_test_clips_never_train(tmp_path, inside, sources):
    audiofolder(tmp_path / "src" / inside)
    report = create_metadata([tmp_path / "src" / part for part in sources], tmp_path / "data", options=ALL)
    assert (report.kept, report.dropped, len(report.corpora)) == (18, {}, 1)
    assert {c.speaker_id for c in assert_pairs(tmp_path / "data").values()} == {"src_unknown"}
    assert splits_by_number(tmp_path / "data") == OFFICIAL
    create_metadata(tmp_path / "src", tmp_path / "pooled", options=replace(ALL, official_splits="pool"))
    assert splits_by_number(tmp_path / "pooled") != OFFICIAL


@pytest.mark.parametrize(
    "files",  # name → a clip's line
    [
        {"data/{part}/wav.scp": "u{i:02d} wavs/{i:02d}.wav", "data/{part}/text": "u{i:02d} {text}"},
        {"all/wav.scp": "u{i:02d} wavs/{i:02d}.wav", "all/text": "u{i:02d} {text}"}
        | {"{part}/wav.scp": "u{i:02d} wavs/{i:02d}.wav", "{part}/text": "u{i:02d} {text}"},
        {"{part}_manifest.json": '{{"audio_filepath": "/x/wavs/{i:02d}.wav", "text": "{text}", "speaker": "s"}}'},
        {"filelists/{part}_filelist.txt": "wavs/{i:02d}.wav|{text}"},
        {"metadata.csv": "{i:02d}|{text}", "{part}.txt": "wavs/{i:02d}.wav|{text}"},
    ],
    ids=["kaldi", "kaldi_with_all", "nemo", "vits", "whole_and_parts"],
)
def test_splits_that_only_names_tell_are_official(tmp_path, files):
    for part, numbers in OFFICIAL.items():
        for i in numbers:
            speak(tmp_path / f"src/wavs/{i:02d}.wav", i)
            for name, row in files.items():
                table = tmp_path / "src" / name.format(part={"val": "dev"}.get(part, part))
                table.parent.mkdir(parents=True, exist_ok=True)
                with open(table, "a", encoding="utf-8") as file:
                    file.write(row.format(i=i, text=SENTENCES[i]) + "\n")
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    assert report.kept == 18
    assert_pairs(tmp_path / "data")
    assert splits_by_number(tmp_path / "data")["test"] == OFFICIAL["test"]
    assert splits_by_number(tmp_path / "data")["val"] >= OFFICIAL["val"]


def test_a_woman_and_a_man_in_folders_by_gender_are_two(tmp_path):
    for i in range(12):
        path = speak(tmp_path / f"src/{('female', 'male')[i % 2]}/{i}.wav", i)
        path.with_suffix(".txt").write_text(SENTENCES[i], "utf-8")
    create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    assert known_speakers(tmp_path / "data")[1] == {"female", "male"}


def test_one_speaker_in_two_splits_is_one_person(tmp_path):
    audiofolder(tmp_path / "src", header="file_name,text,speaker", speaker="s")
    create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    assert known_speakers(tmp_path / "data")[1] == {"s0", "s1"}


def test_a_split_without_its_recording_does_not_take_another_archives(tmp_path):
    audiofolder(tmp_path / "made")
    (tmp_path / "made/train/1.wav").unlink()
    for part in ("train", "validation", "test"):
        (tmp_path / "src").mkdir(exist_ok=True)
        shutil.make_archive(str(tmp_path / "src" / part), "zip", tmp_path / "made" / part)
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    assert (report.kept, report.dropped) == (17, {"missing_audio": 1})
    assert_pairs(tmp_path / "data")
    assert splits_by_number(tmp_path / "data")["test"] == set(range(14, 18))


def test_genders_in_folders_are_one_corpus_and_other_names_are_not(tmp_path):
    for gender, first in (("female", 0), ("male", 10)):
        rows = []
        for i in range(first, first + 8):
            name = f"ka{gender[0]}_{101 + i % 2:05d}_{i:011d}"
            speak(tmp_path / f"src/ka_ge_{gender}/{name}.wav", i)
            rows.append(f"{name}\t{SENTENCES[i]}\n")
        (tmp_path / f"src/ka_ge_{gender}/line_index.tsv").write_text("".join(rows), "utf-8")
    report = create_metadata(tmp_path / "src", tmp_path / "data", options=ALL)
    assert (report.kept, report.corpora[0].format, report.speakers) == (16, "openslr", 4)  # two women, two men
    assert_pairs(tmp_path / "data")
    (tmp_path / "src/ka_ge_male").rename(tmp_path / "src/eu_es_male")
    with pytest.raises(UserError, match="name the folder or archive with --source .several that belong together"):
        find_corpus(tmp_path / "src")
