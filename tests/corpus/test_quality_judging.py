"""create_metadata with the quality measured: what is dropped, listed, trimmed, written and remembered."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from small_corpora import SENTENCES

from xtts_ka.corpus import measurements, quality
from xtts_ka.corpus.metadata import create_metadata, print_report
from xtts_ka.corpus.options import MetadataOptions
from xtts_ka.corpus.quality_limits import MEASURES, Finding
from xtts_ka.corpus.tables import CUT_COLUMNS, QUALITY_COLUMNS, SPLITS, read_drop_report, read_split, split_csv

RATE = 22_050
OPTIONS = MetadataOptions(quality=True, dnsmos=False, val_fraction=0.4, max_drop_fraction=1.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """16 good clips, one with 4 s of silence before the speech, one of hiss, one of channels that cancel."""
    from xtts_ka.starter.speech import synthesise

    folder = tmp_path_factory.mktemp("source")
    rng, rows = np.random.default_rng(0), []
    for i in range(19):
        wave = 0.3 * synthesise(SENTENCES[i], ("ka+f2", "ka+m1")[i % 2])
        if i == 16:
            wave = np.concatenate([np.zeros(4 * RATE), wave])
        elif i == 17:
            wave = 0.01 * rng.standard_normal(2 * RATE)
        clip = np.stack([wave, -0.98 * wave], axis=1) if i == 18 else wave
        soundfile.write(folder / f"c{i:02d}.wav", clip, RATE)
        text = f"{SENTENCES[i]} {SENTENCES[i + 1]} {SENTENCES[i + 2]}" if i == 15 else SENTENCES[i]
        rows.append(f"c{i:02d}.wav|{text}|{'ab'[i % 2]}\n")
    (folder / "metadata.csv").write_text("audio_file|text|speaker_name\n" + "".join(rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def measured(source, tmp_path_factory):
    """The record of the clips' measures, made once."""
    data = tmp_path_factory.mktemp("measured")
    create_metadata(source, data, options=OPTIONS)
    return (data / measurements.RECORD).read_bytes()


def with_record(data, measured):
    """The folder `data`, in which the clips have been measured."""
    (data / measurements.RECORD).parent.mkdir(parents=True, exist_ok=True)
    (data / measurements.RECORD).write_bytes(measured)
    return data


@pytest.fixture
def data(tmp_path, measured):
    return with_record(tmp_path, measured)


def listed(data, action):
    return {(row[0], row[2]) for row in read_drop_report(data) if row[1] == action}


def clips(data):
    return {clip.file_id: clip for split in SPLITS for clip in read_split(data, split)}


def cells(data):
    rows = [row for split in SPLITS for row in csv.DictReader(split_csv(data, split).read_text("utf-8").splitlines())]
    return {row["file_id"]: row for row in rows}


def test_dropped_listed_trimmed_and_written(source, data):
    report = create_metadata(source, data, options=OPTIONS)
    assert listed(data, "dropped") == {("c17", "no_speech"), ("c18", "channels_cancel")}
    assert {("c16", "long_silence"), ("c15", "odd_rate")} <= listed(data, "suspect")
    late = clips(data)["c16"]
    assert 3.5 < late.cut.start < 4.05 and late.duration == pytest.approx(late.cut.end - late.cut.start, abs=1e-3)
    row = cells(data)["c16"]
    assert float(row["silence_start"]) == pytest.approx(4.05, abs=0.2) and float(row["snr"]) > 40
    assert -40 < float(row["loudness"]) < -15 and float(row["bandwidth"]) > 10_000 and row["dnsmos"] == ""
    assert {cost.measure.column for cost in report.costs} <= set(QUALITY_COLUMNS)
    silent = next(cost for cost in report.costs if cost.measure.column == "silence_start")
    assert silent.beyond == 1 and not silent.is_set and silent.seconds == pytest.approx(late.duration)


def test_the_report_has_histograms_costs_and_players(source, data, capsys):
    report = create_metadata(source, data, options=OPTIONS)
    print_report(report)
    said = capsys.readouterr().out
    assert "--max_silence 3" in said and "1 clips" in said and str(report.page) in said
    page = report.page.read_text("utf-8")
    titles = [measure.title for measure in MEASURES if measure.column not in ("dnsmos", "cer", "voice_similarity")]
    assert all(f"<h2>{title[0].upper()}{title[1:]}</h2>" in page for title in titles)
    assert page.count("<svg") == len(titles) and page.count("<audio") == len(titles) * 18  # c18 cannot be measured
    assert "dropped: no_speech" in page and "listed: long_silence" in page
    assert re.search(r"--max_silence</code></td><td>3 s <small>usual; off[^<]*</small></td><td class=n>1 of 17", page)


def test_without_measuring_the_table_is_as_before(source, tmp_path):
    create_metadata(source, tmp_path, options=replace(OPTIONS, quality=False))
    row = cells(tmp_path)["c16"]
    assert not {*CUT_COLUMNS, *QUALITY_COLUMNS} & row.keys() and list(row)[-1] == "speaker_known"
    assert clips(tmp_path)["c16"].cut is None and clips(tmp_path)["c16"].duration > 5
    assert not (tmp_path / measurements.RECORD).exists()


def test_limits_that_are_set_drop(source, data):
    options = replace(OPTIONS, max_silence=2.0, max_rate_ratio=1.5, trim=False, min_snr=0.0, min_speech_seconds=0.0)
    create_metadata(source, data, options=options)
    dropped = listed(data, "dropped")
    assert {("c16", "long_silence"), ("c15", "odd_rate"), ("c18", "channels_cancel")} <= dropped
    assert ("c17", "no_speech") in listed(data, "suspect") or ("c17", "noisy") in dropped
    assert all(clip.cut is None for clip in clips(data).values())


def test_what_checks_find_is_listed_and_dropped(source, data):
    def check(clips):
        yield Finding("c01", "cer", 0.9, "heard: სხვა რამ")
        yield Finding("c02", "cer", 0.7, "heard: რამ")
        yield Finding("c03", "voice_similarity", 0.6, "closer to b", True)
        yield Finding("c04", "voice_similarity", -0.5, "", False)

    report = create_metadata(source, data, options=replace(OPTIONS, max_cer=0.8), checks=[check])
    assert ("c01", "wrong_text") in listed(data, "dropped")
    assert {("c02", "wrong_text"), ("c03", "other_voice")} <= listed(data, "suspect")
    assert ("c04", "other_voice") not in listed(data, "suspect")
    details = {row[0]: row[3] for row in read_drop_report(data) if row[2] == "wrong_text"}
    assert "heard: სხვა რამ" in details["c01"] and "heard: რამ" in report.page.read_text("utf-8")
    assert cells(data)["c02"]["cer"] == "0.7" and cells(data)["c03"]["cer"] == ""


def test_loudness_is_levelled(source, data):
    from xtts_ka.corpus.audio import read_mono
    from xtts_ka.corpus.loudness import loudness

    create_metadata(source, data, options=replace(OPTIONS, loudness=-30.0))
    found = [loudness(*read_mono(clip.sound)) for clip in clips(data).values()]
    assert np.allclose(found, -30.0, atol=0.7)


def test_what_was_measured_is_not_measured_again(source, tmp_path, monkeypatch):
    create_metadata(source, tmp_path, options=OPTIONS)
    first = {split: split_csv(tmp_path, split).read_bytes() for split in SPLITS}
    record = tmp_path / measurements.RECORD
    with open(record, "ab") as file:
        file.write(b'{"key": "torn')
    calls = []
    measure = quality.measure_sounds
    monkeypatch.setattr(quality, "measure_sounds", lambda paths, **more: calls.extend(paths) or measure(paths, **more))
    create_metadata(source, tmp_path, options=OPTIONS)
    assert calls == [] and first == {split: split_csv(tmp_path, split).read_bytes() for split in SPLITS}
    # A recording that has changed, and one of another version, are measured.
    lines = [line for line in record.read_text().splitlines() if line.startswith('{"version"')]
    lines[0] = json.dumps({**json.loads(lines[0]), "version": -1})
    record.write_text("\n".join(lines))
    create_metadata(source, tmp_path, options=OPTIONS)
    assert len(calls) == 1
    wave, rate = soundfile.read(source / "c03.wav")
    soundfile.write(source / "c03.wav", wave[: len(wave) - 200], rate)
    create_metadata(source, tmp_path, options=OPTIONS)
    assert [path.name for path in calls[1:]] == ["c03.wav"]


def test_several_processes_give_the_same(source, tmp_path, measured, monkeypatch):
    create_metadata(source, with_record(tmp_path / "one", measured), options=OPTIONS)
    monkeypatch.setattr(measurements, "WORTH_PROCESSES", 1)
    create_metadata(source, tmp_path / "two", options=OPTIONS, processes=2)
    assert cells(tmp_path / "one") == cells(tmp_path / "two")


def test_tones_are_kept_whole(tmp_path, capsys):
    """Where the detector hears speech in hardly any clip, it does not fit the recordings."""
    from small_corpora import coqui

    report = create_metadata(coqui(tmp_path / "src"), tmp_path / "data", options=OPTIONS)
    assert report.kept == 20 and "does not fit these recordings" in capsys.readouterr().out
    assert all(clip.cut is None and clip.duration == 0.6 for clip in clips(tmp_path / "data").values())
