"""What users really have: layouts, tables, texts and files reported in public, each with what its user rightly expects.

The names are those of the collection in ../shared/cases/corpora, where it is at hand; the corpora are made here.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_corpora import ALL, SENTENCES, assert_pairs, clips_of, number_of, speak
from small_media import encode, tone

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.metadata import MetadataReport, create_metadata, print_report
from xtts_ka.corpus.tables import read_drop_report, read_split

COLLECTION = Path(__file__).parents[3] / "shared/cases/corpora"
CASES: dict[str, Callable] = {}
ELSEWHERE = {  # cases of the base model, whose tests stand with their module
    "46-base-lfs-pointers": "tests/model/test_checkpoint.py",
    "53-base-hf-cache-symlinks": "tests/model/test_checkpoint.py",
}


def case(name: str) -> Callable:
    def enter(test: Callable) -> Callable:
        CASES[name] = test
        return test

    return enter


class Corpus:
    """A folder to fill, and what create_metadata makes of it."""

    def __init__(self, folder: Path):
        self.src, self.data = folder / "src", folder / "data"
        self.src.mkdir()

    def write(self, name: str, text: str, encoding: str = "utf-8") -> Path:
        path = self.src / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode(encoding))
        return path

    def pairs(self, count: int, suffix: str = "wav", folder: str = "") -> list[Path]:
        """Recordings with a .txt beside each."""
        paths = [speak(self.src / folder / f"{i:02d}.{suffix}", i, rate=16_000) for i in range(count)]
        for i, path in enumerate(paths):
            path.with_suffix(".txt").write_text(SENTENCES[i], "utf-8")
        return paths

    def wavs(self, count: int, pattern: str = "wavs/{:02d}.wav") -> None:
        for i in range(count):
            speak(self.src / pattern.format(i), i)

    def run(self, **options) -> MetadataReport:
        source = options.pop("source", self.src)
        self.report = create_metadata(source, self.data, options=replace(ALL, **options))
        return self.report

    @property
    def clips(self) -> dict:
        return clips_of(self.data)

    @property
    def speakers(self) -> set[str]:
        return {clip.speaker_id for clip in self.clips.values()}

    @property
    def texts(self) -> set[str]:
        return {clip.text for clip in self.clips.values()}

    def lines(self, action: str) -> list[tuple[str, ...]]:
        return [line for line in read_drop_report(self.data) if line[1] == action]

    def refused(self) -> str:
        with pytest.raises(UserError) as caught:
            self.run()
        assert "\n" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def corpus(tmp_path):
    return Corpus(tmp_path)


# ── layouts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@case("01-openslr-line_index")
def test_openslr(corpus):
    for gender, speakers in (("female", ("00011", "00013")), ("male", ("00012", "00014"))):
        rows = []
        for i, speaker in enumerate(speakers * 4):
            name = f"ka{gender[0]}_{speaker}_{i:011d}"
            speak(corpus.src / f"{name}.wav", i + 20 * (gender == "male"))
            rows.append(f"{name}\t{SENTENCES[i + 20 * (gender == 'male')]}\n")
        corpus.write(f"line_index_{gender}.tsv", "".join(rows))
    report = corpus.run()
    assert (report.kept, report.rows, report.corpora[0].format) == (16, 16, "openslr")
    assert corpus.speakers == {"00011", "00012", "00013", "00014"}


def test_esd(corpus):
    for i in range(16):
        speaker, mood = f"{1 + i % 2:04d}", ("Angry", "Happy")[i // 2 % 2]
        part = "test" if i > 13 else "evaluation" if i > 11 else "train"
        speak(corpus.src / f"{speaker}/{mood}/{part}/{speaker}_{i:06d}.wav", i)
        with open(corpus.src / speaker / f"{speaker}.txt", "a", encoding="utf-8") as table:
            table.write(f"{speaker}_{i:06d}\t{SENTENCES[i]}\t{mood}\n")
    report = corpus.run()
    assert (report.kept, report.dropped, report.mended, corpus.speakers) == (16, {}, {}, {"0001", "0002"})
    assert {number_of(clip.audio_path) for clip in read_split(corpus.data, "test")} == {14, 15}
    assert_pairs(corpus.data)
    one = corpus.run(source=corpus.src / "0002", official_splits="pool")
    assert (one.kept, corpus.speakers) == (8, {"0002"})


@case("02-vctk-0.92")
def test_vctk_takes_one_microphone(corpus):
    for i in range(12):
        name = f"p{225 + i % 3}/p{225 + i % 3}_{i:03d}"
        corpus.write(f"txt/{name}.txt", SENTENCES[i])
        for mic in (1, 2):
            speak(corpus.src / f"wav48_silence_trimmed/{name}_mic{mic}.flac", i + 30 * mic)
    report = corpus.run()
    assert (report.kept, report.dropped, corpus.speakers) == (12, {}, {"p225", "p226", "p227"})
    assert all("mic1" in str(clip.audio_path) for clip in corpus.clips.values())
    assert "12 further recordings" in report.corpora[0].remarks[0]


@case("03-mailabs")
@pytest.mark.parametrize("top", ["", "ka_GE"])
def test_mailabs(corpus, top):
    for book, (reader, gender) in enumerate((("nino", "female"), ("nino", "female"), ("giorgi", "male"))):
        folder = f"ka_GE/by_book/{gender}/{reader}/book{book}"
        numbers = range(5 * book, 5 * book + 5)
        for i in numbers:
            speak(corpus.src / f"{folder}/wavs/b{i}.wav", i)
        corpus.write(f"{folder}/metadata.csv", "".join(f"b{i}|{SENTENCES[i]}|{SENTENCES[i]}\n" for i in numbers))
    report = corpus.run(source=corpus.src / top)
    assert (report.kept, corpus.speakers) == (15, {"nino", "giorgi"})


@case("04-hf-audiofolder-csv")
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_audiofolder(corpus, kind):
    corpus.wavs(12, "data/{}.wav")
    if kind == "csv":
        rows = "".join(f"data/{i}.wav,{SENTENCES[i]}\n" for i in range(12))
        corpus.write("metadata.csv", f"file_name,transcription\n{rows}")
    else:
        rows = [json.dumps({"file_name": f"data/{i}.wav", "transcription": SENTENCES[i]}) for i in range(12)]
        corpus.write("metadata.jsonl", "\n".join(rows))
    report = corpus.run()
    assert (report.kept, report.mended, corpus.texts) == (12, {}, set(SENTENCES[:12]))


@case("06-piper-multispeaker")
@case("06b-piper-multispeaker-plain-id")
@case("07-ljspeech-id-with-folder")
@pytest.mark.parametrize(
    "row, folder, speakers",
    [
        ("wav/{i:02d}.wav|{who}|{text}", "wav", {"male1", "female1"}),
        ("{i:02d}|{who}|{text}", "wavs", {"male1", "female1"}),
        ("{i:02d}|{text}|{who}", "wavs", {"male1", "female1"}),
        ("wavs/{i:02d}.wav|{sid}|{text}", "wavs", {"0", "1"}),
        ("wavs/{i:02d}.wav|{who}|ka|{text}", "wavs", {"male1", "female1"}),
        ("wavs/{i:02d}.wav|{text}", "wavs", {"src"}),
        ("{i:02d}.wav|{text}|{text}", "wavs", {"src"}),
    ],
)
def test_tables_without_a_header(corpus, row, folder, speakers):
    corpus.wavs(12, folder + "/{:02d}.wav")
    who = ("male1", "female1")
    rows = [row.format(i=i, who=who[i % 2], sid=i % 2, text=SENTENCES[i]) for i in range(12)]
    corpus.write("metadata.csv", "\n".join(rows))
    report = corpus.run()
    assert (report.kept, report.dropped, report.mended) == (12, {}, {})
    assert corpus.speakers == speakers and corpus.texts == set(SENTENCES[:12])


@pytest.mark.parametrize(
    "name, row, folder, speakers",
    [
        ("filelists/train.txt", "DUMMY1/{i:02d}.wav|{sid}|{text}", "wavs", {"0", "1"}),  # VITS
        ("train.txt", "/home/bob/ds/wavs/{i:02d}.wav|{text}", "wavs", {"src"}),
        ("train.csv", "C:\\ds\\wavs\\{i:02d}.wav|{text}", "wavs", {"src"}),
        ("train.csv", "mydata/wavs/{i:02d}.wav|{text}", "wavs", {"src"}),
        ("ana.list", "E:\\GPT-SoVITS\\slicer\\{i:02d}.wav|ana|KA|{text}", "output", {"ana"}),  # GPT-SoVITS
        ("metadata.csv", "{i:02d}|{text}", "WAVS", {"src"}),
        ("list.csv", "{i:02d}|{text}", "Wavs", {"src"}),
        ("list.CSV", "{i:02d}|{text}", "take_22050/a", {"src"}),
    ],
    ids=["vits", "absolute", "windows", "prefix", "gpt_sovits", "upper", "upper_any_table", "any_folder"],
)
def test_tables_without_a_header_have_the_same_guesses_of_paths(corpus, name, row, folder, speakers):
    corpus.wavs(12, folder + "/{:02d}.wav")
    corpus.write(name, "\n".join(row.format(i=i, sid=i % 2, text=SENTENCES[i]) for i in range(12)))
    report = corpus.run()
    assert (report.kept, report.dropped, report.mended) == (12, {}, {"path": 12})
    assert corpus.speakers == speakers and corpus.texts == set(SENTENCES[:12])


def test_the_columns_of_a_small_table_are_those_of_the_others(corpus):
    corpus.wavs(12)
    for part, numbers in (("train", range(10)), ("val", range(10, 12))):
        rows = [f"DUMMY1/{i:02d}.wav|{i % 2}|{SENTENCES[i]}" for i in numbers]
        corpus.write(f"filelists/{part}.txt", "\n".join(rows))
    assert (corpus.run().kept, corpus.speakers) == (12, {"0", "1"})


@case("08-webui-metadata_train")
def test_webui_made_on_windows(corpus):
    corpus.wavs(14)
    for part, numbers in (("train", range(10)), ("eval", range(10, 14))):
        rows = "".join(f"wavs\\{i:02d}.wav|{SENTENCES[i]}|coqui\r\n" for i in numbers)
        corpus.write(f"metadata_{part}.csv", f"audio_file|text|speaker_name\r\n{rows}")
    corpus.write("lang.txt", "ka\n")
    report = corpus.run()
    assert (report.kept, report.dropped, report.mended, corpus.speakers) == (14, {}, {"path": 14}, {"coqui"})


@case("20-kaldi")
def test_kaldi_with_segments(corpus):
    rate, long = 16_000, [np.concatenate([tone(10 * k + i, 1.5) for i in range(6)]) for k in range(2)]
    for k, wave in enumerate(long):
        (corpus.src / "audio").mkdir(exist_ok=True)
        soundfile.write(corpus.src / f"audio/r{k}.wav", wave, rate)
    ids = [f"utt{k}{i}" for k in range(2) for i in range(6)]
    corpus.write("data/train/wav.scp", "r0 audio/r0.wav\nr1 cat audio/r1.wav |\n")
    corpus.write("data/train/text", "".join(f"{u} {SENTENCES[n]}\n" for n, u in enumerate(ids)))
    corpus.write("data/train/utt2spk", "".join(f"{u} spk{u[3]}\n" for u in ids))
    parts = [f"{u} r{u[3]} {int(u[4]) * 1.5:.2f} {int(u[4]) * 1.5 + 1.5:.2f}\n" for u in ids]
    corpus.write("data/train/segments", "".join(parts))
    report = corpus.run()
    assert (report.kept, report.dropped, corpus.speakers) == (12, {}, {"spk0", "spk1"})
    clip = corpus.clips["utt13"]
    samples, read = soundfile.read(clip.audio_path)
    assert (clip.duration, read) == (1.5, rate) and corpus.data in clip.audio_path.parents
    assert np.allclose(samples, tone(13, 1.5), atol=1e-3)
    before = clip.audio_path.stat().st_mtime_ns
    corpus.run()
    assert clip.audio_path.stat().st_mtime_ns == before


def test_kaldi_does_not_run_commands(corpus):
    corpus.wavs(12)
    corpus.write("wav.scp", "".join(f"u{i:02d} wavs/{i:02d}.wav\n" for i in range(12)) + "u99 touch hacked |\n")
    corpus.write("text", "".join(f"u{i:02d} {SENTENCES[i]}\n" for i in range(12)) + f"u99 {SENTENCES[20]}\n")
    report = corpus.run()
    assert (report.kept, report.dropped, report.unknown) == (12, {"bad_row": 1}, 12)
    assert "command, which is not run" in corpus.lines("dropped")[0][3]


@case("26-lab-files")
def test_lab_files(corpus):
    for i in range(12):
        speak(corpus.src / f"ana{i % 2}/{i}.wav", i).with_suffix(".lab").write_text(SENTENCES[i], "utf-8")
    assert (corpus.run().kept, corpus.speakers) == (12, {"ana0", "ana1"})


@case("27-folder-with-readme")
def test_what_macos_and_authors_leave_is_no_row(corpus):
    corpus.pairs(12, folder="ana")
    corpus.write("README.txt", "ეს არის ჩანაწერები")
    corpus.write("ana/LICENSE.txt", "CC0")
    corpus.write("ana/Thumbs.db", "x")
    for name in ("._00.wav", "._00.txt", "00.wav", "00.txt"):
        corpus.write(f"__MACOSX/ana/{name}", "Mac OS X")
    report = corpus.run()
    assert (report.kept, report.rows, corpus.speakers) == (12, 12, {"ana"})


@case("29-csv-header-variants")
@pytest.mark.parametrize(
    "header", ["audio\ttext\tspeaker_id", "ფაილი\tტექსტი\tსპიკერი", "Speaker ID\tFile Name\tSentence"]
)
def test_other_headers(corpus, header):
    corpus.wavs(12, "clips/{:02d}.mp3")
    cells = {"audio": "{:02d}.mp3", "text": "{}", "speaker_id": "s{}"}
    order = list(cells) if not header.startswith("Speaker") else ["speaker_id", "audio", "text"]
    rows = []
    for i in range(12):
        values = {"audio": f"{i:02d}.mp3", "text": SENTENCES[i], "speaker_id": f"s{i % 3}"}
        rows.append("\t".join(values[column] for column in order))
    corpus.write("data.tsv", "\n".join([header, *rows]))
    report = corpus.run()
    assert (report.kept, report.mended, corpus.speakers) == (12, {}, {"s0", "s1", "s2"})


@case("30-ljspeech-header-line")
def test_ljspeech_with_a_header(corpus):
    corpus.wavs(12)
    rows = "".join(f"{i:02d}|{SENTENCES[i]}|{SENTENCES[i]}\n" for i in range(12))
    corpus.write("metadata.csv", f"filename|text|normalized_text\n{rows}")
    report = corpus.run()
    assert (report.kept, report.rows) == (12, 12)


@case("35-speaker-folders-below-audio")
@pytest.mark.parametrize("top", ["wavs", "audio/train", "clips/female", "training", "test1", ""])
def test_speakers_are_the_folders_below_wavs(corpus, top):
    for i in range(12):
        path = speak(corpus.src / top / ("ana", "gio")[i % 2] / f"{i}.wav", i)
        path.with_suffix(".txt").write_text(SENTENCES[i], "utf-8")
    assert (corpus.run().kept, corpus.speakers) == (12, {"ana", "gio"})


def test_a_table_without_speakers_does_not_merge_folders(corpus):
    for i in range(12):
        speak(corpus.src / "wavs" / ("ana", "gio")[i % 2] / f"{i}.wav", i)
    corpus.write("metadata.csv", "".join(f"{('ana', 'gio')[i % 2]}/{i}|{SENTENCES[i]}\n" for i in range(12)))
    assert (corpus.run().kept, corpus.speakers) == (12, {"ana", "gio"})


def test_libritts(corpus):
    for i in range(12):
        speaker, chapter = 19 + i % 2, 198
        stem = f"train-clean-100/{speaker}/{chapter}/{speaker}_{chapter}_{i:06d}_000000"
        speak(corpus.src / f"LibriTTS/{stem}.wav", i)
        corpus.write(f"LibriTTS/{stem}.normalized.txt", SENTENCES[i])
        corpus.write(f"LibriTTS/{stem}.original.txt", f"{SENTENCES[i]} 12")
    report = corpus.run()
    assert (report.kept, report.rows, corpus.speakers, corpus.texts) == (12, 12, {"19", "20"}, set(SENTENCES[:12]))


@pytest.mark.parametrize("separator", [" ", "\t", ": "])
def test_one_list_of_transcripts(corpus, separator):
    corpus.wavs(12, "{:02d}.wav")
    corpus.write("transcripts.txt", "".join(f"{i:02d}.wav{separator}{SENTENCES[i]}\n" for i in range(12)))
    report = corpus.run()
    assert (report.kept, corpus.texts) == (12, set(SENTENCES[:12]))


def test_nemo_manifest_with_offsets(corpus):
    (corpus.src / "audio").mkdir()
    soundfile.write(corpus.src / "audio/long.wav", np.concatenate([tone(i) for i in range(12)]), 16_000)
    rows = [
        {"audio_filepath": "audio/long.wav", "offset": i, "duration": 1.0, "text": SENTENCES[i], "speaker": f"s{i % 2}"}
        for i in range(12)
    ]
    corpus.write("manifest.json", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    report = corpus.run()
    assert (report.kept, report.corpora[0].format, corpus.speakers) == (12, "jsonl", {"s0", "s1"})
    assert {clip.duration for clip in corpus.clips.values()} == {1.0}


@pytest.mark.parametrize("kind", ["cuts", "supervisions"])
def test_lhotse(corpus, kind):
    lhotse = pytest.importorskip("lhotse")
    corpus.wavs(12)
    recordings = [lhotse.Recording.from_file(path) for path in sorted((corpus.src / "wavs").glob("*.wav"))]
    supervisions = [
        lhotse.SupervisionSegment(
            f"s{r.id}", r.id, 0, r.duration, text=SENTENCES[i], speaker=f"p{i % 2}", language="ka"
        )
        for i, r in enumerate(recordings)
    ]
    recordings, supervisions = lhotse.RecordingSet.from_recordings(recordings), lhotse.SupervisionSet(supervisions)
    if kind == "cuts":
        lhotse.CutSet.from_manifests(recordings, supervisions).to_file(corpus.src / "cuts.jsonl.gz")
    else:
        recordings.to_file(corpus.src / "ka_recordings_all.jsonl.gz")
        supervisions.to_file(corpus.src / "ka_supervisions_all.jsonl.gz")
    report = corpus.run()
    assert (report.kept, report.corpora[0].format, corpus.speakers) == (12, "lhotse", {"p0", "p1"})


@case("41-parquet-shards")
def test_parquet_shards(corpus):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for shard, numbers in enumerate((range(8), range(8, 12))):
        rows = []
        for i in numbers:
            memory = io.BytesIO()
            soundfile.write(memory, tone(i), 16_000, format="WAV")
            rows.append(
                {"audio": {"bytes": memory.getvalue(), "path": f"{i}.wav"}, "text": SENTENCES[i], "speaker_id": i % 2}
            )
        (corpus.src / "data").mkdir(exist_ok=True)
        part = ("train", "test")[shard]
        parquet.write_table(pyarrow.Table.from_pylist(rows), corpus.src / f"data/{part}-00000-of-00001.parquet")
    before = sorted(corpus.src.rglob("*"))
    report = corpus.run()
    assert (report.kept, report.corpora[0].format, corpus.speakers) == (12, "parquet", {"0", "1"})
    assert sorted(corpus.src.rglob("*")) == before and report.splits["test"][0] >= 4
    corpus.write("data/train-00000-of-00001.parquet", "PAR1 broken")
    assert "train-00000-of-00001.parquet cannot be read as parquet" in corpus.refused()


@pytest.mark.parametrize("channels", [1, 2])
def test_parquet_with_samples(corpus, channels):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = []
    for i in range(12):
        wave = soundfile.read(speak(corpus.data.parent / "x.wav", i))[0].tolist()
        audio = {"array": wave if channels == 1 else [wave] * channels, "sampling_rate": 8_000 if i else None}
        rows.append({"audio": {"path": f"{i}.mp3", **audio}, "text": SENTENCES[i]})
    parquet.write_table(pyarrow.Table.from_pylist(rows), corpus.src / "train-00000-of-00001.parquet")
    report = corpus.run()
    assert (report.kept, report.dropped) == (11, {"bad_row": 1})
    assert_pairs(corpus.data)


@pytest.mark.parametrize(
    "beside",  # the columns that name a file, and how those of the recording and the text are called
    [
        ({"client_id": "c", "path": "cv_{}.mp3"}, "audio", "sentence"),
        ({"id": "{}", "path": "/x/{}.wav", "language": "Georgian"}, "audio", "transcription"),
        ({"file_name": "{}.wav"}, "audio", "text"),
        ({"name": "{}"}, "speech_16k", "text"),
    ],
    ids=["common_voice", "fleurs", "file_name", "another_name"],
)
def test_the_bytes_of_parquet_are_read_whatever_names_a_file_beside_them(corpus, beside):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns, audio, text = beside
    rows = []
    for i in range(12):
        wav = speak(corpus.data.parent / f"x/{i}.wav", i).read_bytes()
        names = {column: name.format(i) for column, name in columns.items()}
        rows.append({**names, audio: {"bytes": wav, "path": f"{i}.wav"}, text: SENTENCES[i]})
    parquet.write_table(pyarrow.Table.from_pylist(rows), corpus.src / "train-00000-of-00001.parquet")
    report = corpus.run()
    assert (report.kept, report.dropped, corpus.texts) == (12, {}, set(SENTENCES[:12]))


# ── Common Voice and FLEURS ──────────────────────────────────────────────────────────────────────────────────────────

CV = "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tlocale\tsegment"


def common_voice(folder: Path, count: int = 12, suffix: str = "mp3") -> list[str]:
    rows = []
    for i in range(count):
        speak(folder / f"clips/cv_{i}.{suffix}", i, rate=16_000)
        rows.append(f"{i % 3:0128d}\tcv_{i}.{suffix}\t{i}\t{SENTENCES[i]}\t\t2\t0\t\tka\t")
    (folder / "validated.tsv").write_text("\n".join([CV, *rows]) + "\n", "utf-8")
    return rows


@case("43-cv-unvalidated")
def test_common_voice_counts_each_clip_once_and_keeps_official_splits(corpus):
    rows = common_voice(corpus.src, 24)
    rows[3] = rows[3].replace("\t2\t0\t", "\t0\t2\t")
    rows[5] = rows[5].replace("\tka\t", "\tab\t")
    for name, part in (("validated", rows), ("train", rows[:12]), ("dev", rows[12:16]), ("test", rows[16:20])):
        corpus.write(f"{name}.tsv", "\n".join([CV, *part]))
    corpus.write("other.tsv", "\n".join([CV, rows[0].replace("cv_0", "cv_99")]))
    corpus.write("invalidated.tsv", CV)
    report = corpus.run()
    assert (report.rows, report.kept, report.dropped) == (24, 23, {"other_language": 1})
    assert [line[0] for line in corpus.lines("suspect") if line[2] == "voted_down"] == ["cv_3"]
    splits = {clip: split for split in ("train", "val", "test") for clip in corpus.clips if _in(corpus, clip, split)}
    assert {splits[f"cv_{i}"] for i in range(16, 20)} == {"test"} and {splits[f"cv_{i}"] for i in range(12, 16)} == {
        "val"
    }
    assert {splits[f"cv_{i}"] for i in range(12) if i != 5} == {"train"}
    corpus.run(official_splits="pool")
    assert {split for clip in corpus.clips for split in ("train", "val") if _in(corpus, clip, split)} == {
        "train",
        "val",
    }


def test_official_splits_keep_no_more_clips_than_are_asked_for_and_the_others_never_train(corpus):
    rows = common_voice(corpus.src, 60)
    for name, part in (("train", rows[:10]), ("dev", rows[10:35]), ("test", rows[35:])):
        corpus.write(f"{name}.tsv", "\n".join([CV, *part]))
    report = corpus.run(eval_clips=12, max_drop_fraction=0.1)
    spare = {line[0] for line in corpus.lines("dropped") if line[2] == "spare_evaluation"}
    assert report.dropped == {"spare_evaluation": len(spare)} and report.kept == 60 - len(spare)
    sizes = {split: clips for split, (clips, _) in report.splits.items()}
    assert sizes["train"] == 10 and 6 <= sizes["val"] <= 18 and 6 <= sizes["test"] <= 18
    before = {clip: split for split in sizes for clip in corpus.clips if _in(corpus, clip, split)}
    (corpus.src / "dev.tsv").write_text("\n".join([CV, *rows[10:20]]) + "\n", "utf-8")
    corpus.run(eval_clips=12, max_drop_fraction=0.1)  # the shares are recorded: nothing moves
    after = {clip: split for split in sizes for clip in corpus.clips if _in(corpus, clip, split)}
    assert all(before.get(clip, split) == split for clip, split in after.items() if int(clip[3:]) not in range(20, 35))


def _in(corpus: Corpus, clip: str, split: str) -> bool:
    return f"\n{clip}," in (corpus.data / f"split/{split}/{split}_metadata.csv").read_text("utf-8")


@case("24-cv-quotes-and-layout")
def test_common_voice_with_odd_quotes_and_damaged_rows(corpus):
    rows = common_voice(corpus.src, 20)
    rows[0] = rows[0].replace(SENTENCES[0], f'"{SENTENCES[0]}')
    rows[1] = rows[1].replace(SENTENCES[1], f'{SENTENCES[1]}"')
    rows[2] = rows[2].replace(SENTENCES[2], '"""ბიჭი,"" უთხრა გოგონამ ეზოში."')
    rows[3] = rows[3].replace(SENTENCES[3], "nan")
    rows[4] = rows[4].replace(SENTENCES[4], "")
    rows[7] = rows[7][:150]
    rows[8] = rows[8].replace(" ", "\t", 1)
    (corpus.src / "clips/cv_5.mp3").write_bytes(b"")
    speak(corpus.src / "clips/cv_6.mp3", 6, rate=16_000)
    soundfile.write(corpus.src / "clips/cv_6.mp3", tone(6, 0.1), 16_000)
    corpus.write("validated.tsv", "\r\n".join([CV, *rows]))
    report = corpus.run()
    assert report.kept == 14 and sum(report.dropped.values()) == 6
    assert report.dropped == {"bad_row": 2, "non_georgian_text": 1, "empty_text": 1, "empty_audio": 1, "too_short": 1}
    assert corpus.clips["cv_2"].text == "ბიჭი, უთხრა გოგონამ ეზოში." and corpus.clips["cv_0"].text == SENTENCES[0]


def test_spontaneous_speech(corpus):
    header = "client_id\taudio_id\taudio_file\tduration_ms\tprompt_id\tprompt\ttranscription\tvotes\tlanguage\tsplit"
    rows = [header]
    for i in range(12):
        speak(corpus.src / f"audios/spontaneous-speech-ka-{i}.mp3", i, rate=16_000)
        text = SENTENCES[i] if i else ""
        part = "test" if i > 9 else "train"
        rows.append(f"{i % 2:064d}\t{i}\tspontaneous-speech-ka-{i}.mp3\t600\t1\tრა არის?\t{text}\t2\tka\t{part}")
    corpus.write("ss-corpus-ka.tsv", "\n".join(rows))
    corpus.write("ss-reported-audios-ka.tsv", "audio_id\treason\n")
    report = corpus.run(val_fraction=0.6)
    assert (report.corpora[0].format, report.kept, report.dropped) == ("common_voice", 11, {"empty_text": 1})
    assert report.splits["test"][0] == 2 and report.splits["val"][0] >= 2 and report.speakers == 2


@case("49-nested-cv-two-languages")
def test_two_languages_side_by_side(corpus):
    for language in ("ka", "en"):
        common_voice(corpus.src / "cv" / language, 2)
    error = corpus.refused()
    assert f"{corpus.src}/cv/ka" in error and f"{corpus.src}/cv/en" in error and "--source" in error


def fleurs(folder: Path) -> None:
    for part, numbers in (("train", range(8)), ("dev", range(8, 10)), ("test", range(10, 12))):
        rows = []
        for i in numbers:
            speak(folder / f"audio/{part}/{i}.wav", i)
            rows.append(f"{i}\t{i}.wav\t{SENTENCES[i]}\t{SENTENCES[i]}\tა |\t9600\tMALE\n")
        (folder / f"{part}.tsv").write_text("".join(rows), "utf-8")


@case("48-fleurs-hf-columns")
def test_fleurs_with_missing_cells_and_files(corpus):
    fleurs(corpus.src)
    (corpus.src / "audio/train/3.wav").unlink()
    with open(corpus.src / "train.tsv", "a", encoding="utf-8") as table:
        table.write(f"0\t0.wav\t{SENTENCES[0]}\tა\tბ\t9600\tMALE\n")
    text = (corpus.src / "dev.tsv").read_text("utf-8").replace("\tMALE", "")
    corpus.write("dev.tsv", text)
    report = corpus.run()
    assert (report.kept, report.dropped) == (11, {"missing_audio": 1, "duplicate_id": 1})
    assert all(f"/{i}.wav" in (corpus.data / "split/test/test_metadata.csv").read_text("utf-8") for i in (10, 11))


@case("32-hf-cache-symlinks")
def test_a_hugging_face_cache(corpus):
    fleurs(corpus.src / "real")
    snapshot = corpus.src / "datasets--google--fleurs/snapshots/ab12"
    blobs = corpus.src / "datasets--google--fleurs/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(p for p in (corpus.src / "real").rglob("*") if p.is_file())):
        link = snapshot / path.relative_to(corpus.src / "real")
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blobs / f"{number:040d}")
        link.symlink_to(f"{'../' * len(link.relative_to(blobs.parent).parts[:-1])}blobs/{number:040d}")
    shutil.rmtree(corpus.src / "real")
    for source in (snapshot, snapshot.parents[1]):
        report = corpus.run(source=source)
        assert (report.kept, report.corpora[0].format) == (12, "fleurs")
        assert "0" * 30 not in "".join(corpus.clips)  # ids come from the links' names, not from the blobs'


# ── archives ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@case("23-zipped")
@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
@pytest.mark.parametrize("named", ["folder", "file"])
def test_a_packed_corpus(corpus, kind, named):
    common_voice(corpus.data.parent / "cv-corpus-22.0/ka")
    archive = corpus.src / f"cv-corpus-22.0-ka.{kind}"
    shutil.make_archive(
        str(archive)[: -len(kind) - 1], {"tar.gz": "gztar"}.get(kind, kind), corpus.data.parent, "cv-corpus-22.0"
    )
    before = sorted(corpus.src.rglob("*"))
    report = corpus.run(source=archive if named == "file" else corpus.src)
    assert (report.kept, report.corpora[0].format, report.speakers) == (12, "common_voice", 3)
    assert sorted(corpus.src.rglob("*")) == before
    clip = next(iter(corpus.clips.values())).audio_path
    changed = clip.stat().st_mtime_ns
    assert corpus.data / "audio" in clip.parents
    corpus.run(source=archive if named == "file" else corpus.src)
    assert clip.stat().st_mtime_ns == changed  # not unpacked again


@case("23b-zipped-clips")
@pytest.mark.parametrize("inner", ["clips/", ""])
def test_clips_still_packed_beside_their_table(corpus, inner):
    common_voice(corpus.src)
    with tarfile.open(corpus.src / "clips.tar", "w") as archive:
        for path in sorted((corpus.src / "clips").iterdir()):
            archive.add(path, f"{inner}{path.name}")
    shutil.rmtree(corpus.src / "clips")
    report = corpus.run()
    assert (report.kept, report.dropped) == (12, {})


def test_fleurs_partly_packed(corpus):
    fleurs(corpus.src)
    for part in ("dev", "test"):
        with tarfile.open(corpus.src / f"audio/{part}.tar.gz", "w:gz") as archive:
            archive.add(corpus.src / f"audio/{part}", part)
        shutil.rmtree(corpus.src / f"audio/{part}")
    report = corpus.run()
    assert (report.kept, report.mended) == (12, {})


def test_webdataset_shards(corpus):
    for shard in range(2):
        with tarfile.open(corpus.src / f"{shard:06d}.tar", "w") as archive:
            for i in range(6 * shard, 6 * shard + 6):
                wav = speak(corpus.data.parent / f"x/{i}.wav", i)
                text = json.dumps({"text": SENTENCES[i], "speaker": f"s{i % 2}"}).encode()
                for name, data in ((f"{i:04d}.json", text), (f"{i:04d}.wav", wav.read_bytes())):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    report = corpus.run()
    assert (report.kept, corpus.speakers) == (12, {"s0", "s1"})


def test_the_folder_that_only_packs_a_zip_is_no_speaker(corpus):
    with zipfile.ZipFile(corpus.src / "studio.zip", "w") as archive:
        for i in range(12):
            name = f"studio/{('ana', 'gio')[i % 2]}/{i}"
            archive.write(speak(corpus.data.parent / f"x/{i}.wav", i), f"{name}.wav")
            archive.writestr(f"{name}.txt", SENTENCES[i])
            archive.writestr(f"__MACOSX/{name}.wav", "Mac OS X")
    report = corpus.run()
    assert (report.kept, report.rows, corpus.speakers) == (12, 12, {"ana", "gio"})


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@case("09-utf16-excel-table")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", "|\t;")
def test_a_table_saved_by_excel(corpus, encoding, delimiter):
    corpus.wavs(12)
    rows = ["audio_file|text|speaker_name||", *(f"wavs/{i:02d}.wav|{SENTENCES[i]}|nino||" for i in range(12))]
    corpus.write("metadata.csv", "\r\n".join(rows).replace("|", delimiter), encoding)
    assert (corpus.run().kept, corpus.speakers) == (12, {"nino"})


@case("09b-utf16-txt")
def test_transcripts_saved_by_notepad(corpus):
    for i, path in enumerate(corpus.pairs(12)):
        path.with_suffix(".txt").write_bytes(SENTENCES[i].encode(("utf-16", "utf-8-sig")[i % 2]))
    assert (corpus.run().kept, corpus.texts) == (12, set(SENTENCES[:12]))


@case("10-quoted-newline-csv")
@pytest.mark.parametrize("delimiter", ",;|\t")
def test_line_breaks_in_quotes(corpus, delimiter):
    corpus.wavs(14)
    rows = [["audio_file", "text", "speaker_name"]]
    for i in range(14):
        text = SENTENCES[i].replace(" ", "\n", 1) if i % 4 == 0 else SENTENCES[i]
        rows.append([f"wavs/{i:02d}.wav", f'"{text}"' if i % 2 == 0 else text, "nino"])
    corpus.write("metadata.csv", "\n".join(delimiter.join(row) for row in rows))
    report = corpus.run()
    assert (report.kept, report.dropped, corpus.texts) == (14, {}, set(SENTENCES[:14]))


@pytest.mark.parametrize("delimiter", ",;|\t")
@pytest.mark.parametrize("every", [1, 3])
def test_line_breaks_in_quotes_of_a_table_without_a_header(corpus, delimiter, every):
    corpus.wavs(12)
    texts = [f'"{SENTENCES[i].replace(" ", chr(10), 1)}"' if i % every == 0 else SENTENCES[i] for i in range(12)]
    corpus.write("metadata.csv", "".join(f"{i:02d}{delimiter}{text}\n" for i, text in enumerate(texts)))
    report = corpus.run()
    assert (report.kept, report.dropped, corpus.texts) == (12, {}, set(SENTENCES[:12]))


@case("11-pandas-pipe-quotes")
def test_quotes_as_pandas_writes_them(corpus):
    pandas = pytest.importorskip("pandas")
    corpus.wavs(12)
    texts = [f'მან თქვა: "{SENTENCES[i]}"' if i % 2 else SENTENCES[i] for i in range(12)]
    texts[4] = "ბიჭი | გოგონა"
    frame = pandas.DataFrame(
        {"audio_file": [f"wavs/{i:02d}.wav" for i in range(12)], "text": texts, "speaker_name": "x"}
    )
    frame.to_csv(corpus.src / "metadata_train.csv", sep="|", index=False)
    assert corpus.run().kept == 12 and '"' not in "".join(corpus.texts)
    assert "ბიჭი, გოგონა" in corpus.texts and f"მან თქვა: {SENTENCES[1]}" in corpus.texts


@case("45-absolute-paths")
def test_absolute_paths_of_another_machine(corpus):
    corpus.wavs(14)
    rows = [f"/home/bob/tts/wavs/{i:02d}.wav|{SENTENCES[i]}|n" for i in range(10)]
    rows += [f"C:\\Users\\bob\\wavs\\{i:02d}.wav|{SENTENCES[i]}|n" for i in (10, 11)]
    rows += [f"{corpus.src}/wavs/{i:02d}.wav|{SENTENCES[i]}|n" for i in (12, 13)]
    rows += [f"/home/bob/tts/other/99.wav|{SENTENCES[20]}|n"]
    corpus.write("metadata.csv", "\n".join(["audio_file|text|speaker_name", *rows]))
    report = corpus.run()
    assert (report.kept, report.mended, report.dropped) == (14, {"path": 12}, {"outside_source": 1})
    assert all("an absolute path that is not in the source: wavs/" in line[3] for line in corpus.lines("mended"))
    assert "the path is absolute" in corpus.lines("dropped")[0][3]


def test_a_near_twin_is_named_and_names_are_mended(corpus):
    corpus.wavs(12)
    names = {0: "wavs/დილა ერთი.wav", 1: "wavs/Nino.WAV", 2: "wavs/e\u0301.wav"}
    for i, name in names.items():
        (corpus.src / f"wavs/{i:02d}.wav").rename(corpus.src / name)
    rows = [f"wavs/{i:02d}.wav|{SENTENCES[i]}|n" for i in range(3, 12)]
    rows += [
        f"wavs/%E1%83%93%E1%83%98%E1%83%9A%E1%83%90%20ერთი.wav|{SENTENCES[0]}|n",
        f"wavs/nino.wav|{SENTENCES[1]}|n",
    ]
    rows += [f"wavs/\u00e9.wav|{SENTENCES[2]}|n", f"wavs/3.wav|{SENTENCES[30]}|n", f"wavs/04.flac|{SENTENCES[31]}|n"]
    corpus.write("metadata.csv", "\n".join(["audio_file|text|speaker_name", *rows]))
    report = corpus.run()
    assert (report.kept, report.mended, report.dropped) == (12, {"path": 3}, {"missing_audio": 1, "duplicate_id": 1})
    missing = next(line for line in corpus.lines("dropped") if line[2] == "missing_audio")
    assert "wavs/03.wav is there" in missing[3]


@case("50-txt-with-speaker-suffix-and-folder-names")
def test_transcripts_in_other_encodings(corpus):
    corpus.pairs(14)
    corpus.write("03.txt", "добрый день", "cp1251")
    corpus.write("04.txt", "дом", "cp1251")
    corpus.write("05.txt", "")
    corpus.write("06.txt", f"1.\t{SENTENCES[6]}\n\n\n")
    corpus.write("07.txt", SENTENCES[7].replace(" ", "\n", 1))
    report = corpus.run()
    assert (report.kept, report.dropped) == (11, {"bad_row": 2, "empty_text": 1})
    assert {SENTENCES[6], SENTENCES[7]} <= corpus.texts
    assert all("not UTF-8" in line[3] for line in corpus.lines("dropped") if line[2] == "bad_row")


@case("25-few-sentences-many-speakers")
def test_ten_sentences_of_many_speakers(corpus):
    rows = ["audio_file|text|speaker_name"]
    for i in range(60):
        speak(corpus.src / f"wavs/{i}.wav", i)
        rows.append(f"wavs/{i}.wav|{SENTENCES[i % 10]}|s{i // 10}")
    corpus.write("metadata.csv", "\n".join(rows))
    report = create_metadata(corpus.src, corpus.data, enough_validation=True)  # as the command does
    assert report.kept == 60 and report.splits["val"][0] >= 2 and report.splits["train"][0] > 30


# ── texts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@case("38-noise-tags")
def test_noise_tags_are_never_words(corpus):
    tags = ["<noise>", "<unk>", "[laughter]", "[music]", "{breath}", "*cough*", "#uh"]
    mended = ["&nbsp;", "&quot;", "<b>", "</b>"]
    corpus.wavs(24)
    texts = [f"{tag} {SENTENCES[i]}" for i, tag in enumerate(tags)]
    texts += [f"{SENTENCES[7 + i]}{mark}" for i, mark in enumerate(mended)]
    texts += SENTENCES[len(texts) : 24]
    corpus.write("metadata.csv", "".join(f"{i:02d}|{text}\n" for i, text in enumerate(texts)))
    report = corpus.run()
    assert (report.kept, report.dropped) == (17, {"noise_tag": 6, "unclear_speech": 1})
    assert corpus.texts == set(SENTENCES[7:24]) and sum(report.mended.values()) == 4


@case("18-mixed-script")
def test_letters_of_other_scripts(corpus):
    corpus.wavs(14)
    texts = list(SENTENCES[:14])
    texts[0] = "ᲑᲘᲭᲘ ᲔᲖᲝᲨᲘ ᲛᲦᲔᲠᲘᲡ."
    texts[1] = "ბი\u200bჭი ე\u00adზოში თამაშობს."
    texts[2] = "თბილისo ლამაზია."
    texts[3] = "გამარჯoბა, მეზობელო."
    texts[4] = "ჩემი USB დისკი."
    corpus.write("metadata.csv", "".join(f"{i:02d}|{text}\n" for i, text in enumerate(texts)))
    report = corpus.run()
    assert (report.kept, report.mended) == (14, {"homoglyphs": 2})
    assert {"ბიჭი ეზოში მღერის.", "ბიჭი ეზოში თამაშობს.", "თბილისო ლამაზია.", "გამარჯობა, მეზობელო."} <= corpus.texts


def test_a_latin_third_column_is_not_the_text(corpus):
    corpus.wavs(12)
    corpus.write("metadata.csv", "".join(f"{i:02d}|{SENTENCES[i]}|bichi ezoshi mgheris {i}\n" for i in range(12)))
    assert (corpus.run().kept, corpus.texts) == (12, set(SENTENCES[:12]))


@case("17-text-audio-mismatch")
@case("47-text-longer-than-audio-or-limit")
def test_texts_that_cannot_belong_to_their_recordings(corpus):
    texts = [SENTENCES[i] for i in range(16)]
    for i in range(16):
        soundfile.write(corpus.src / f"{i:02d}.wav", tone(i, {0: 0.6, 1: 9.0, 2: 3.0}.get(i, 2.0)), 16_000)
    texts[0], texts[1], texts[2], texts[3] = SENTENCES[0] + SENTENCES[1], "კი.", SENTENCES[2] * 70, SENTENCES[3] * 150
    for i, text in enumerate(texts):
        corpus.write(f"{i:02d}.txt", text)
    report = corpus.run()
    assert report.dropped == {"wrong_length": 2, "bad_row": 1}
    assert [line[0] for line in corpus.lines("suspect")] == ["00"] and "letters in 0.60 s" in corpus.lines("suspect")[
        0
    ][3]


# ── sound ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@case("12-m4a-voice-notes")
@case("12b-only-m4a")
@case("28-ogg-telegram")
def test_voice_notes_of_every_kind(corpus):
    kinds = [
        ("m4a", "aac"),
        ("aac", "aac"),
        ("webm", "libopus"),
        ("mp4", "aac"),
        ("3gp", "aac"),
        ("oga", None),
        ("opus", None),
    ]
    for i, (suffix, codec) in enumerate(kinds * 2):
        path = corpus.src / f"AUD-{i:02d}.{suffix}"
        if codec:
            rate = 48_000 if codec == "libopus" else 16_000
            encode(path, codec, tone(i, rate=rate), rate)
        else:
            soundfile.write(path, tone(i), 16_000, format="OGG", subtype="OPUS")
        path.with_suffix(".txt").write_text(SENTENCES[i], "utf-8")
    report = corpus.run()
    assert (report.kept, report.dropped) == (14, {})
    assert all(clip.duration == pytest.approx(1.0, abs=0.15) for clip in corpus.clips.values())


def test_media_that_cannot_be_decoded_is_named(corpus):
    corpus.pairs(12)
    head = b"\0\0\0\x1cftypM4A \0\0\0\0M4A mp42isom"
    for name, data in (("20.m4a", head + bytes(4000)), ("21.webm", b""), ("22.wav", head + bytes(4000))):
        (corpus.src / name).write_bytes(data)
        corpus.write(f"{name[:2]}.txt", SENTENCES[int(name[:2])])
    report = corpus.run()
    assert report.dropped == {"unreadable_audio": 2, "empty_audio": 1}
    assert all(
        "MP4 (AAC) by its content" in line[3] for line in corpus.lines("dropped") if line[2] == "unreadable_audio"
    )


@case("13-wrong-suffix")
def test_the_content_decides_not_the_suffix(corpus):
    for i in range(16):
        path = corpus.src / f"{i:02d}.{('wav', 'mp3', 'mp3', 'wav')[i % 4]}"
        soundfile.write(path, tone(i), 16_000, format=("MP3", "WAV", "OGG", "WAV")[i % 4])
        if i == 15:
            encode(path, "aac", tone(i), format="mp4")
        corpus.write(f"{i:02d}.txt", SENTENCES[i])
    report = corpus.run()
    assert (report.kept, report.suspected["wrong_suffix"]) == (16, 13)


@case("31-mp3-id3-art")
def test_mp3_with_much_before_and_behind(corpus):
    for i, path in enumerate(corpus.pairs(12, "mp3")):
        picture = b"APIC" + (300_000).to_bytes(4, "big") + bytes(2) + bytes(range(1, 250)) * 1205
        size = len(picture)
        id3 = b"ID3\x04\0\0" + bytes((size >> shift) & 127 for shift in (21, 14, 7, 0)) + picture
        before = (id3, b"", b"\0garbage\0")[i % 3]
        path.write_bytes(before + path.read_bytes() + (b"", b"TAG" + bytes(125))[i % 2])
    report = corpus.run()
    assert (report.kept, report.dropped) == (12, {})


@case("52-durations-of-vbr-and-padded-mp3")
def test_mp3_that_were_cut_off(corpus):
    for i, path in enumerate(corpus.pairs(14, "mp3")):
        soundfile.write(path, tone(i, 3.0), 16_000)
        if i < 3:
            data = path.read_bytes()
            path.write_bytes(data[: len(data) * 2 // 3])
    report = corpus.run()
    cut = {line[0]: line for line in corpus.lines("dropped")}
    short = [clip for clip in corpus.clips.values() if clip.duration < 2.9]
    assert len(cut) + len(short) == 3 and all(clip.duration < 2.2 for clip in short)
    assert report.kept == 14 - len(cut) and all("cut short" in line[3] for line in cut.values())


@case("16-silence-dc-quiet")
def test_recordings_without_speech(corpus):
    rate, rng = 16_000, np.random.default_rng(0)
    voice = [tone(i, 2.0) * (0.6 + 0.4 * np.sin(np.arange(2 * rate) / 1500)) for i in range(20)]
    waves = list(voice)
    waves[0] = np.concatenate([np.zeros(4 * rate), voice[0], np.zeros(4 * rate)])
    waves[4] = voice[4] * 0.5 + 0.3
    waves[8] = np.full(2 * rate, 0.3)
    waves[10] = 10 ** (-55 / 20) * rng.standard_normal(2 * rate)
    waves[12] = voice[12] * 10 ** (-50 / 20)
    for i, wave in enumerate(waves):
        soundfile.write(corpus.src / f"{i:02d}.wav", wave, rate, subtype="PCM_24")
        corpus.write(f"{i:02d}.txt", SENTENCES[i])
    corpus.run()
    told = {(line[0], line[2]) for line in read_drop_report(corpus.data) if line[2] != "odd_length"}
    assert told == {("00", "long_silence"), ("08", "empty_audio"), ("10", "no_speech")}


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_refusal_says_what_was_seen(corpus):
    corpus.wavs(5, "take{}.wav")
    assert "5 .wav" in corpus.refused() and "no transcripts are there" in corpus.refused()
    corpus.write("list.csv", "nummer;satz\n1;ა\n")
    assert "list.csv begins with the columns nummer, satz" in corpus.refused()
    for name, told in (
        ("list.xlsx", "list.xlsx is not read: save it as CSV"),
        ("more.7z", "more.7z is an archive that is not read"),
        ("clips.tar.gz.aa", "clips.tar.gz.aa is an archive that is not read, or a part of one"),
        ("9.wv", "9.wv is sound of a kind that is not looked for: convert"),
    ):
        corpus.write(name, "x")
        assert told in corpus.refused()
    corpus.write("utt2spk", "a b\n")
    assert "it looks like Kaldi (utt2spk)" in corpus.refused()
    corpus.write("9.wav", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert "Git LFS pointer" in corpus.refused()


def test_names_of_speakers_are_printed_and_listed(corpus, capsys):
    common_voice(corpus.src)
    print_report(corpus.run())
    assert "speakers, with their clips: cv_" in capsys.readouterr().out
    table = (corpus.data / "split/speakers.csv").read_text("utf-8").splitlines()
    assert table[0].startswith("speaker_id,name,") and any(f"{2:0128d}" in line for line in table[1:])


# ── the collection ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(not COLLECTION.is_dir(), reason="the collection of cases is not at hand")
def test_every_case_of_the_collection_has_a_test():
    assert {path.name for path in COLLECTION.iterdir() if path.is_dir()} == CASES.keys() | ELSEWHERE.keys()
