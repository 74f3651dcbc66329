"""Splits: rows that are added move none, no sentence stands in two, held-out speakers do not train, the sizes."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_corpora import ALL, SENTENCES, add_row, coqui, speak

from xtts_ka.core.errors import UserError
from xtts_ka.corpus import splits as splitting
from xtts_ka.corpus.metadata import create_metadata
from xtts_ka.corpus.options import MetadataOptions
from xtts_ka.corpus.splits import Asked, choose_plan, sentence_of
from xtts_ka.corpus.tables import SPLITS, SPLITS_RECORD, Clip, read_drop_report, read_split, split_csv

USUAL = Asked(0.05, 0.05, 1000)


def clip(number: int, sentence: int, speaker: int | None) -> Clip:
    """A clip whose speaker is not known where it is None."""
    name, known = ("fleurs", False) if speaker is None else (f"s{speaker}", True)
    return Clip(
        f"c{number}",
        f"წინადადება {'ა' * (sentence % 50 + 1)} {'ბ' * (sentence // 50 + 1)}",
        name,
        3.0,
        Path("/a"),
        None,
        known,
    )


def split_names(plan, clips):
    """file_id → split, None where it is left out."""
    splits, left_out = plan.assign(clips)
    names = {clip.file_id: split for split, members in splits.items() for clip in members}
    assert len(names) + len(left_out) == len(clips) and not names.keys() & {clip.file_id for clip in left_out}
    return names | {clip.file_id: None for clip in left_out}


corpora = st.lists(
    st.tuples(st.integers(0, 300), st.one_of(st.none(), st.integers(0, 120))), min_size=60, max_size=400
).map(lambda rows: [clip(number, *row) for number, row in enumerate(rows)])


@given(corpora, st.integers(1, 400), st.floats(0, 60))
def test_adding_rows_never_moves_one_and_no_sentence_stands_in_two_splits(clips, first, eval_clips):
    """The plan is chosen by the first rows. A held-out speaker's clip may go, never to another split."""
    plan = choose_plan(clips[:first], Asked(0.2, 0.2, eval_clips))
    before, after = (split_names(plan, some) for some in (clips[:first], clips))
    for one in clips[:first]:
        name = one.file_id
        gone = after[name] is None and plan.holds_out(one)
        assert after[name] == before[name] or gone or (before[name] is None and after[name] is None)
    for one in clips:
        assert not (plan.holds_out(one) and after[one.file_id] == "train")
        assert after[one.file_id] is not None or plan.holds_out(one)
    split_of = {}
    for one in clips:
        if after[one.file_id]:
            assert split_of.setdefault(sentence_of(one.text), after[one.file_id]) == after[one.file_id]


def many(count, speakers, repeats=1):
    """Clips of different sentences, each said by `repeats` speakers in a row."""
    return [clip(number, number // repeats, number * 7919 % speakers) for number in range(count)]


@pytest.mark.parametrize("count, most", [(40_000, 1000), (2_000, 100)], ids=["capped", "five_percent"])
def test_validation_and_test_get_five_percent_and_no_more_than_about_a_thousand(count, most):
    clips = many(count, speakers=300)
    splits, left_out = choose_plan(clips, USUAL).assign(clips)
    for split in ("val", "test"):
        assert 0.8 * most <= len(splits[split]) <= 1.5 * most
    assert len(splits["train"]) >= 0.87 * count and not left_out


def test_about_a_fifth_of_validation_is_of_speakers_that_training_never_hears():
    clips = many(40_000, speakers=300)
    plan = choose_plan(clips, USUAL)
    splits, _ = plan.assign(clips)
    trained = {clip.speaker_id for clip in splits["train"]}
    for split in ("val", "test"):
        unseen = [clip for clip in splits[split] if clip.speaker_id not in trained]
        assert 0.1 < len(unseen) / len(splits[split]) < 0.35 and all(map(plan.holds_out, unseen))


def test_a_sentence_that_training_speakers_say_is_dropped_where_a_held_out_one_says_it():
    clips = many(6_000, speakers=300, repeats=2)
    plan = choose_plan(clips, USUAL)
    splits, left_out = plan.assign(clips)
    train = {sentence_of(clip.text) for clip in splits["train"]}
    assert left_out and all(plan.holds_out(clip) and sentence_of(clip.text) in train for clip in left_out)
    assert plan.held_out_fraction < 0.06 and Counter(map(plan.holds_out, clips))[True] < 0.06 * len(clips)


@pytest.mark.parametrize("speakers", [None, 49], ids=["unknown", "few"])
def test_nobody_is_held_out_where_few_speakers_or_none_are_known(speakers):
    clips = [clip(number, number, speakers and number % speakers) for number in range(3000)]
    assert choose_plan(clips, USUAL).held_out_fraction == 0


def test_an_unknown_speaker_is_never_held_out():
    everyone = splitting.SplitPlan(0.05, 0.05, 0.9999999, USUAL)
    assert everyone.holds_out(clip(1, 1, 7)) and not everyone.holds_out(clip(1, 1, None))


def test_a_speaker_with_a_large_part_of_the_clips_is_not_held_out():
    clips = many(2_000, speakers=100)
    first = min(clips, key=splitting._place_of_speaker).speaker_id
    assert choose_plan(clips, USUAL).holds_out(next(clip for clip in clips if clip.speaker_id == first))
    clips += [dataclasses.replace(clip(number, number, 0), speaker_id=first) for number in range(2_000, 2_400)]
    assert choose_plan(clips, USUAL).held_out_fraction == 0


# ── the record beside the tables ──


def names_by_split(data):
    return {split: {clip.file_id for clip in read_split(data, split)} for split in SPLITS}


def test_the_shares_of_the_first_tables_are_kept_when_rows_are_added(tmp_path):
    """Of 20 clips 8 may validate: the share stays, though a table of 60 clips made anew would take a smaller one."""
    source, data = coqui(tmp_path / "src", count=20), tmp_path / "data"
    options = dataclasses.replace(ALL, eval_clips=8)
    create_metadata(source, data, options=options)
    before, record = names_by_split(data), (data / SPLITS_RECORD).read_text()
    for i in range(40):
        speak(source / f"wavs/a{i}.wav", 100 + i)
        add_row(source, f"wavs/a{i}.wav|{SENTENCES[20 + i]}|ახალი")
    create_metadata(source, data, options=options)
    after = names_by_split(data)
    assert all(before[split] <= after[split] for split in SPLITS) and (data / SPLITS_RECORD).read_text() == record
    create_metadata(source, tmp_path / "fresh", options=options)
    assert names_by_split(tmp_path / "fresh") != after


def test_other_options_choose_anew_and_say_so(tmp_path, capsys):
    source, data = coqui(tmp_path / "src"), tmp_path / "data"
    create_metadata(source, data, options=ALL)
    create_metadata(source, data, options=dataclasses.replace(ALL, val_fraction=0.3))
    assert "the splits are chosen anew, since val_fraction changed" in capsys.readouterr().out
    assert json.loads((data / SPLITS_RECORD).read_text())["val_fraction"] == 0.3


def test_tables_from_before_the_record_keep_their_splits(tmp_path, capsys):
    source, data = coqui(tmp_path / "src"), tmp_path / "data"
    options = dataclasses.replace(ALL, eval_clips=10**6)
    create_metadata(source, data, options=options)
    before = names_by_split(data)
    (data / SPLITS_RECORD).unlink()
    create_metadata(source, data, options=dataclasses.replace(ALL, eval_clips=3))
    assert names_by_split(data) == before and "from before shares were recorded" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["[]", "{}", '{"val_fraction": 2}', "not json", '{"asked": {"x": 1}}'])
def test_a_damaged_record_is_one_sentence_and_changes_nothing(tmp_path, content):
    source, data = coqui(tmp_path / "src"), tmp_path / "data"
    create_metadata(source, data, options=ALL)
    before = split_csv(data, "train").read_bytes()
    (data / SPLITS_RECORD).write_text(content)
    with pytest.raises(UserError, match="splits.json.*(restore|delete)") as caught:
        create_metadata(source, data, options=ALL)
    assert "\n" not in str(caught.value) and split_csv(data, "train").read_bytes() == before


def test_dropped_clips_of_held_out_speakers_are_reported(tmp_path, monkeypatch, capsys):
    """With two speakers, one of whom is held out; they share half of their sentences."""
    held, other = sorted(("nino", "გია"), key=lambda name: splitting.hash_to_unit(f"speaker: {name}"))
    share = splitting.hash_to_unit(f"speaker: {other}")
    monkeypatch.setattr(splitting, "_held_out_fraction", lambda clips, wanted: share)
    source = coqui(tmp_path / "src", count=0)
    for i in range(30):
        speak(source / f"wavs/{i}.wav", i)
        add_row(source, f"wavs/{i}.wav|{SENTENCES[i % 20]}|{held if i < 20 else other}")
    options = MetadataOptions(val_fraction=0.2, test_fraction=0.1, max_drop_fraction=1.0)
    report = create_metadata(source, tmp_path / "data", options=options)
    dropped = [row for row in read_drop_report(tmp_path / "data") if row[2] == "held_out_sentence"]
    assert dropped and report.dropped == {"held_out_sentence": len(dropped)} and report.rows == 30
    assert report.kept == 30 - len(dropped) and report.held_out == 1
    train = read_split(tmp_path / "data", "train")
    assert {clip.speaker_id for clip in train} == {other}
    assert {row[5] for row in dropped} <= {clip.text for clip in train}
