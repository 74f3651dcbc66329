"""Lexicons, vocabulary, the stage's files, the encoder that reads them, and the command line."""

import csv
import itertools
import json
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import phoneme_processor
import run_pretrain
from phoneme_processor import (
    OUTPUTS,
    PhonemeEncoder,
    PhonemeProcessor,
    PhonemeVocab,
    run_phonemes_stage,
    transcript_words,
)
from xtts_ka.core.config import PhonemesConfig, PretrainConfig
from xtts_ka.core.errors import UserError
from xtts_ka.corpus.tables import Clip
from xtts_ka.georgian.alphabet import GEORGIAN_LETTERS

STEMS = (
    "ქალაქ კაც ხელ თვალ ვაშლ ღვინ ცხვარ ბავშვ სახლ წიგნ გზავნ ლამაზ თბილ ძველ შავ წვიმ კარგ ზღვ მთვარ ვარსკვლავ"
).split()
ENDINGS = "ი მა ს ის ით ად ო ები ებმა ში ზე".split()
WORDS = Counter({stem + ending: 1 + i for i, ending in enumerate(ENDINGS) for stem in STEMS})


def _config(folder: Path, **phonemes) -> PretrainConfig:
    settings = {"level": "narrow", "dim": 32, "max_epochs": 4, "batch_size": 32, "learning_rate": 4e-3, **phonemes}
    return PretrainConfig(
        data_dir=str(folder / "data"), output_model_path=str(folder / "model"), phonemes=PhonemesConfig(**settings)
    )


@pytest.fixture(scope="module")
def stage(tmp_path_factory) -> tuple[PretrainConfig, dict]:
    config = _config(tmp_path_factory.mktemp("stage"))
    return config, run_phonemes_stage(config, WORDS)


def _lexicon_file(folder: Path, content: str | bytes, name: str = "lexicon.tsv") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


# ── rules and lexicons ───────────────────────────────────────────────────────────────────────────────────────────────


def test_rules_at_two_levels():
    processor = PhonemeProcessor()
    assert processor.phonemes("ცხვარი") == ["t͡s", "x", "v", "ɑ", "r", "i"]
    assert processor.phonemes("ცხვარი", narrow=True) == ["t͡s", "xʷ", "ɑ", "r", "i"]
    assert processor.phonemes("ᲪᲮᲕᲐᲠᲘ") == processor.phonemes("ცხვარი")
    assert processor.inventory()[0] == "ɑ" and len(processor.inventory()) == 37


@given(st.text(max_size=40))
def test_any_string_is_transcribed_or_silent(text):
    processor = PhonemeProcessor()
    for narrow in (False, True):
        assert set(processor.phonemes(text, narrow)) <= set(processor.inventory(narrow=True))
        lexicon = processor.lexicon([text], narrow)
        assert list(lexicon.values()) == ([processor.phonemes(text, narrow)] if lexicon else [])
        assert bool(lexicon) == bool(processor.phonemes(text))


def test_convention_of_the_config_is_used():
    processor = PhonemeProcessor(PhonemesConfig(convention={"ა": "a", "ჯ": "J"}))
    assert processor.phonemes("ჯარი") == ["J", "a", "r", "i"]


def test_lexicon_overrides_rules(tmp_path):
    path = _lexicon_file(tmp_path, "კაცი\tk a t͡s i\n")
    processor = PhonemeProcessor(PhonemesConfig(lexicon_paths=[str(path)]))
    lexicon = processor.lexicon(["სახლი", "კაცი", "!"])
    assert lexicon == {"კაცი": ["k", "a", "t͡s", "i"], "სახლი": ["s", "ɑ", "x", "l", "i"]}


# ── vocabulary ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_vocab_ids_and_file(tmp_path):
    vocab = PhonemeVocab(["ɑ", "b", "ɑ"])
    assert len(vocab) == 7 and vocab.id("<pad>") == 0 and vocab.id("☃") == vocab.id("<unk>") == 1
    assert vocab.decode(vocab.encode(["b", "#", "ɑ", "☃"])) == ["b", "#", "ɑ", "<unk>"]
    vocab.save(tmp_path / "v.pkl")
    assert PhonemeVocab.load(tmp_path / "v.pkl").symbols == vocab.symbols
    assert pickle.loads((tmp_path / "v.pkl").read_bytes())["symbols"] == vocab.symbols
    with pytest.raises(IndexError):
        vocab.decode([7])


@pytest.mark.parametrize(
    "content", [[], {"symbols": ["a"]}, {"symbols": None}, {"symbols": [*PhonemeVocab.SPECIALS, "a", "a"]}]
)
def test_a_pickle_that_is_no_vocabulary_is_refused(tmp_path, content):
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="no phoneme vocabulary"):
        PhonemeVocab.load(tmp_path / "v.pkl")


# ── the stage and the encoder ────────────────────────────────────────────────────────────────────────────────────────


def test_stage_writes_its_files_and_measures(stage):
    config, metrics = stage
    folder = Path(config.output_model_path)
    assert sorted(path.name for path in folder.iterdir()) == sorted(OUTPUTS)
    assert metrics["words"] == len(WORDS) and metrics["tokens"] == sum(WORDS.values())
    assert metrics["taught_by"] == "rules"
    assert metrics["heldout"] > 5 and 0 <= metrics["heldout_per"] <= metrics["heldout_wer"] <= 1
    dictionary = json.loads((folder / "phoneme_dict_ka.json").read_text())
    assert list(dictionary) == sorted(WORDS)
    assert dictionary["ვაშლად"] == "v ɑ ʃ ɫ ɑ tʰ" and dictionary["ღვინი"] == "ɣʷ i n i"
    mistakes = list(csv.reader((folder / "g2p_mistakes.tsv").open(), delimiter="\t"))
    assert mistakes[0] == ["word", "expected", "got"]
    assert len(mistakes) - 1 == round(metrics["heldout_wer"] * metrics["heldout"])
    assert all(dictionary[word] == expected != got for word, expected, got in mistakes[1:])


def test_stage_run_twice_gives_the_same_bytes(stage, tmp_path):
    config, metrics = stage
    again = _config(tmp_path)
    assert {**run_phonemes_stage(again, WORDS), "seconds": 0} == {**metrics, "seconds": 0}
    for name in OUTPUTS:
        first, second = (Path(run.output_model_path, name).read_bytes() for run in (config, again))
        assert first == second, name


def test_encoder_reads_dictionary_then_network_then_rules(stage):
    encoder = PhonemeEncoder.load(stage[0].output_model_path)
    assert encoder.phonemes("ცხვარი") == ["t͡s", "xʷ", "ɑ", "r", "i"]
    assert encoder.phonemes("ᲪᲮᲕᲐᲠᲘ") == encoder.phonemes("ცხვარი") and encoder.phonemes("!?") == []
    unseen = "ქალაქისა"
    by_network = encoder.model.known_phones([unseen])[unseen]
    assert unseen not in encoder.dictionary and encoder.phonemes(unseen) == by_network != []
    encoder.dictionary["კაცი"] = ["x"]
    assert encoder.transcribe(["კაცი", unseen, ""]) == [["x"], encoder.phonemes(unseen), []]


def test_encoder_gives_ids_of_raw_text(stage):
    encoder = PhonemeEncoder.load(stage[0].output_model_path)
    symbols = encoder.vocab.decode(encoder.encode("„ლამაზი ქალაქი“", ends=True))
    assert symbols == ["<s>", *"ɫ ɑ m ɑ z i # kʰ ɑ ɫ ɑ kʰ i".split(), "</s>"]
    assert encoder.encode("...") == []
    assert encoder.vocab.id("<unk>") not in encoder.encode(GEORGIAN_LETTERS)


def test_own_large_lexicon_teaches_the_network_in_its_own_convention(tmp_path):
    words = map("".join, itertools.product("კმლსთდნ", "აეო", "ნრბგზტპ", "აიუ", ("", "ს", "ნტ")))
    path = _lexicon_file(tmp_path, "\n".join(f"{word}\t{' '.join(word)}" for word in words))
    config = _config(tmp_path, lexicon_paths=[str(path)], level="broad")
    assert run_phonemes_stage(config, Counter(["სანტა", "ჟამი"]))["taught_by"] == "lexicon"
    dictionary = json.loads(Path(config.output_model_path, "phoneme_dict_ka.json").read_text())
    assert dictionary["სანტა"] == "ს ა ნ ტ ა"  # the network, in the lexicon's symbols
    assert dictionary["ჟამი"] == "ʒ ɑ m i"  # a letter that the lexicon lacks: the rules


def test_small_lexicon_is_exceptions_to_the_rules(tmp_path):
    path = _lexicon_file(tmp_path, "ქალაქი\tg o r o d\n")
    config = _config(tmp_path, lexicon_paths=[str(path)])
    metrics = run_phonemes_stage(config, WORDS)
    encoder = PhonemeEncoder.load(config.output_model_path)
    assert metrics["taught_by"] == "rules and lexicon" and encoder.phonemes("ქალაქი") == list("gorod")
    assert encoder.phonemes("კაცი") == ["kʼ", "ɑ", "t͡s", "i"] and "g" in encoder.vocab.symbols


def test_stage_without_a_georgian_word_is_refused(tmp_path):
    with pytest.raises(UserError, match="no Georgian word"):
        run_phonemes_stage(_config(tmp_path), Counter(["hello", "42"]))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", [name for name in OUTPUTS if name != "g2p_mistakes.tsv"])
@pytest.mark.parametrize("damage", ["gone", "garbage", "empty json"])
def test_a_damaged_model_folder_is_a_user_error(stage, tmp_path, name, damage):
    for file in Path(stage[0].output_model_path).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if damage == "gone":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(b"\xff\x00" if damage == "garbage" else b"[]")
    with pytest.raises(UserError, match=name.split(".")[0]):
        PhonemeEncoder.load(tmp_path)


@pytest.mark.parametrize("edit", [{"level": "wide"}, {"convention": {"ა": 5}}])
def test_a_hand_edited_model_description_is_refused_in_one_sentence(stage, tmp_path, edit):
    for file in Path(stage[0].output_model_path).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    facts = json.loads((tmp_path / "g2p_config.json").read_text("utf-8"))
    (tmp_path / "g2p_config.json").write_text(json.dumps(facts | edit), "utf-8")
    with pytest.raises(
        UserError, match="the level, convention or allophones in .*g2p_config.json cannot be used: run the"
    ):
        PhonemeEncoder.load(tmp_path)


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def config_file(tmp_path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(
        json.dumps(
            {
                "data_dir": "data",
                "output_model_path": "model",
                "phonemes": {"level": "narrow", "dim": 32, "max_epochs": 2},
            }
        )
    )
    return path


def _words_file(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "words.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_words_are_printed_line_by_line(tmp_path, config_file, capsys):
    words = _words_file(tmp_path, "ცხვარი\n\nᲥᲐᲚᲐᲥᲘ\nჱჲჳჴჵ\nდიდი კაცი\n5\n")
    assert phoneme_processor.main(["--config", str(config_file), "--words", words]) == 0
    assert capsys.readouterr().out == (
        "ცხვარი\tt͡s x v ɑ r i\n\nᲥᲐᲚᲐᲥᲘ\tkʰ ɑ l ɑ kʰ i\nჱჲჳჴჵ\tɛ j j w i qʰ ɔː\n"
        "დიდი კაცი\td i d i # kʼ ɑ t͡s i\n5\tx u tʰ i\n"
    )
    assert phoneme_processor.main(["--config", str(config_file), "--words", words, "--narrow"]) == 0
    assert capsys.readouterr().out.startswith("ცხვარი\tt͡s xʷ ɑ r i\n\nᲥᲐᲚᲐᲥᲘ\tkʰ ɑ ɫ ɑ kʰ i\n")


def test_words_of_the_trained_model(stage, tmp_path, config_file, capsys):
    for file in Path(stage[0].output_model_path).iterdir():
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    model, _ = phoneme_processor.load_g2p(tmp_path / "model")
    words = list(WORDS)[:50]
    args = ["--config", str(config_file), "--model", "--words", _words_file(tmp_path, "\n".join(words))]
    assert phoneme_processor.main(args) == 0
    phones = model.known_phones(words)
    expected = [f"{word}\t{' '.join(phones[word])}" for word in words]
    assert capsys.readouterr().out.splitlines() == expected


def test_a_line_without_a_reading_keeps_its_place_and_is_counted(tmp_path, config_file, capsys):
    words = _words_file(tmp_path, "კაცი\n???\nხე\n")
    assert phoneme_processor.main(["--config", str(config_file), "--words", words]) == 0
    out, err = capsys.readouterr()
    assert out == "კაცი\tkʼ ɑ t͡s i\n???\t\nხე\tx ɛ\n"
    assert "1 of 3 lines" in err and "line 2" in err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("კაცი\n".encode() + b"\xff\n", "words.txt, line 2: not UTF-8"),
        ("", "words.txt has no word"),
        ("...\n\n", "words.txt has no word"),
        (None, "words.txt"),
    ],
)
def test_word_lists_that_cannot_be_used(tmp_path, config_file, capsys, content, complaint):
    words = str(tmp_path / "words.txt") if content is None else _words_file(tmp_path, content)
    assert phoneme_processor.main(["--config", str(config_file), "--words", words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and complaint in err and err.count("\n") == 1


def test_model_is_asked_for_before_it_exists(tmp_path, config_file, capsys):
    args = ["--config", str(config_file), "--words", _words_file(tmp_path, "კაცი\n"), "--model"]
    assert phoneme_processor.main(args) == 2
    assert "run the phonemes stage" in capsys.readouterr().err


def test_the_command_runs_the_stage_on_normalised_transcripts_and_enters_it_in_the_record(project, capsys):
    table = project / "data/split/train/train_metadata.csv"
    rows = table.read_text("utf-8")
    table.write_text(rows.replace("კატას რძე უყვარს.", "5 კატა რძეს სვამს."), "utf-8")
    flags = ["--config", str(project / "config.json")]
    assert phoneme_processor.main(flags) == 0
    out = capsys.readouterr().out
    assert "phonemes: --only" in out and "word error rate" in out and "table of ±3 letters" in out
    dictionary = json.loads((project / "models/xtts_v2_ka/phoneme_dict_ka.json").read_text("utf-8"))
    assert dictionary["ხუთი"] == "x u tʰ i" and "უყვარს" not in dictionary
    assert run_pretrain.main([*flags, "--dry-run"]) == 0
    listing = capsys.readouterr().out
    assert "phonemes       skip  up to date" in listing and "language       runs  train metadata changed" in listing


def test_a_command_without_its_inputs_is_refused_and_writes_nothing(tmp_path, config_file, capsys):
    assert phoneme_processor.main(["--config", str(config_file)]) == 2
    assert "train_metadata.csv does not exist" in capsys.readouterr().err and not (tmp_path / "model").exists()


def test_words_are_counted_in_normalised_text():
    clips = [Clip(f"c{i}", text, "s1", 1.5, Path("a.wav"), None) for i, text in enumerate(["5 ბავშვი", "ბავშვი!"])]
    assert transcript_words(PretrainConfig(), clips) == {"ხუთი": 1, "ბავშვი": 2}


def test_levels_belong_to_words(config_file, capsys):
    with pytest.raises(SystemExit) as stop:
        phoneme_processor.main(["--config", str(config_file), "--narrow"])
    assert stop.value.code == 2 and "--words" in capsys.readouterr().err


def test_help_and_rules_import_no_torch():
    code = (
        "import sys, phoneme_processor as p\ntry: p.main(['--help'])\nexcept SystemExit: pass\n"
        "p.PhonemeProcessor().phonemes('კაცი')\nassert not {'torch', 'pandas', 'transformers'} & set(sys.modules)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "example: python phoneme_processor.py" in done.stdout, done.stderr
