from collections import Counter

import pytest
from small_corpora import coqui, speak

from xtts_ka.core.errors import UserError
from xtts_ka.corpus.other_languages import MOST, choose_clips, language_code, listing_digest

LANGUAGES = ("en", "de", "pt", "zh-cn")


def table(folder, rows, header="audio_file|text|speaker_name|language"):
    """A coqui table; its recordings are not needed to choose from it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.csv").write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return folder


def texts(chosen):
    return {language: sorted(clip.text for clip in clips) for language, clips in chosen.items()}


@pytest.mark.parametrize(
    "name, code",
    [
        ("en", "en"),
        ("EN_us", "en"),
        ("pt-BR", "pt"),
        ("zh-CN", "zh-cn"),
        ("cmn_hans_cn", "zh-cn"),
        ("ka_ge", "ka"),
        ("sv", ""),
        ("eng", ""),
        ("", ""),
    ],
)
def test_languages_as_corpora_write_them(name, code):
    assert language_code(name, LANGUAGES) == code


def test_a_column_says_the_language_and_georgian_is_left_out(tmp_path):
    source = table(tmp_path / "mixed", ["a.wav|hello|ann|en", "b.wav|guten Tag|uwe|de_DE", "c.wav|გამარჯობა|ნინო|ka"])
    chosen = choose_clips(source, LANGUAGES)
    assert texts(chosen) == {"de": ["guten Tag"], "en": ["hello"]}
    (clip,) = chosen["en"]
    assert clip.audio_path == source / "a.wav" and clip.speaker_known


def test_common_voice_says_it_in_its_locale(tmp_path):
    rows = ["client_id\tpath\tsentence\tlocale", "x\t1.mp3\tolá\tpt", "\t2.mp3\tbom dia\tpt"]
    (tmp_path / "validated.tsv").write_text("\n".join(rows), "utf-8")
    clips = {clip.text: clip for clip in choose_clips(tmp_path, LANGUAGES)["pt"]}
    assert clips["olá"].speaker_known and not clips["bom dia"].speaker_known


def test_folders_say_it_for_any_layout(tmp_path):
    table(tmp_path / "en/studio", ["a.wav|hello"], "audio_file|text")
    speak(tmp_path / "pt_br/ana/one.wav", 1).with_suffix(".txt").write_text("olá", "utf-8")
    coqui(tmp_path / "ka_ge", 2)
    assert texts(choose_clips(tmp_path, LANGUAGES)) == {"en": ["hello"], "pt": ["olá"]}


@pytest.mark.parametrize(
    "rows, said",
    [
        (["a.wav|გამარჯობა|ნინო|ka"], "holds clips in Georgian only: give a folder with recordings in languages that"),
        (
            ["a.wav|hej|eva|sv", "b.wav|hei|ola|nb", "c.wav|hello|ann|en"],
            r"does not speak \(nb, sv\): remove or rename",
        ),
        (["a.wav|hello|ann|en", "b.wav|hello|ann|"], "the language of 1 clips is not said"),
        (["a.wav||ann|en"], "holds no clip with a transcript"),
        (["../../a.wav|hello|ann|en"], "holds no clip with a transcript"),
    ],
    ids=["georgian", "unknown", "unsaid", "empty", "outside"],
)
def test_what_cannot_be_measured_is_one_sentence(tmp_path, rows, said):
    with pytest.raises(UserError, match=said):
        choose_clips(table(tmp_path / "replay", rows), LANGUAGES)


def test_folders_that_cannot_be_measured_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="nowhere is not a folder"):
        choose_clips(tmp_path / "nowhere", LANGUAGES)
    coqui(tmp_path / "ka", 2)
    with pytest.raises(UserError, match="Georgian only"):
        choose_clips(tmp_path, LANGUAGES)
    coqui(tmp_path / "english", 2)
    with pytest.raises(UserError, match=r"\(english\)"):
        choose_clips(tmp_path, LANGUAGES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="^replay_dir: no recordings with transcripts"):
        choose_clips(tmp_path / "empty", LANGUAGES)


def test_of_many_clips_pairs_of_one_speaker_come_first_and_added_rows_move_none(tmp_path):
    rows = [f"{i}.wav|text {i}|speaker {i % 200 if i < 400 else i}|en" for i in range(500)]  # the last 100 speak once
    first = choose_clips(table(tmp_path / "a", rows), LANGUAGES)["en"][:MOST]
    assert set(Counter(clip.speaker_id for clip in first).values()) == {2}
    assert [c.text for c in choose_clips(table(tmp_path / "b", rows[::-1]), LANGUAGES)["en"][:MOST]] == [
        clip.text for clip in first
    ]
    more = [*rows, *(f"{i}.wav|text {i}|new {i // 2}|en" for i in range(500, 510))]
    kept = {clip.text for clip in choose_clips(table(tmp_path / "c", more), LANGUAGES)["en"][:MOST]}
    assert len(kept & {clip.text for clip in first}) >= MOST - 10


def test_one_speaker_gives_as_many_clips_as_are_measured_and_none_twice(tmp_path):
    rows = [f"{i}.wav|text {i}|ann|en" for i in range(2 * MOST)]
    chosen = choose_clips(table(tmp_path, rows + rows), LANGUAGES)["en"]
    assert len(chosen) == len({clip.file_id for clip in chosen}) == MOST


def test_the_listing_follows_tables_and_files(tmp_path):
    source = table(tmp_path / "en", ["a.wav|hello"], "audio_file|text")
    before = listing_digest(tmp_path, LANGUAGES)
    assert listing_digest(tmp_path, LANGUAGES) == before
    table(source, ["a.wav|hello", "b.wav|goodbye"], "audio_file|text")
    changed = listing_digest(tmp_path, LANGUAGES)
    speak(tmp_path / "de/one.wav", 1).with_suffix(".txt").write_text("ja", "utf-8")
    assert len({before, changed, listing_digest(tmp_path, LANGUAGES)}) == 3
