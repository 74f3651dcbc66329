"""The config: every file gives a config or one UserError that names the keys."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtts_ka.core.config import DEFAULT_CONFIG, PretrainConfig, load_config
from xtts_ka.core.errors import UserError

ROOT = Path(__file__).parents[2]
SECTIONS = [field.name for field in dataclasses.fields(PretrainConfig) if not field.metadata]
KEYS = [field.name for field in dataclasses.fields(PretrainConfig)]
INNER = [field.name for section in SECTIONS for field in dataclasses.fields(getattr(PretrainConfig(), section))]


@pytest.fixture
def load(tmp_path):
    def load(content) -> PretrainConfig:
        file = tmp_path / "config.json"
        file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return load_config(file)

    return load


def problems(load, content) -> str:
    with pytest.raises(UserError) as caught:
        load(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_shipped_config_loads_and_starts_in_starter_mode():
    config = load_config(ROOT / DEFAULT_CONFIG)
    assert config.starter.enabled and config.language == "ka"
    assert config.data_dir == str(ROOT / "data")


def test_the_shipped_config_says_what_the_defaults_say_but_for_the_starter(load, tmp_path):
    shipped = json.loads((ROOT / DEFAULT_CONFIG).read_text())
    assert shipped.pop("starter") == {"enabled": True}
    assert load(shipped) == load({})


def test_every_default_is_valid_and_stands_when_written_out(load, tmp_path):
    config = load({})
    assert config.starter.enabled is False  # never train on a stand-in unasked
    assert load(config.as_dict()) == config


def test_every_field_explains_itself():
    for owner in [PretrainConfig(), *(getattr(PretrainConfig(), section) for section in SECTIONS)]:
        for field in dataclasses.fields(owner):
            assert field.name in SECTIONS or len(field.metadata["help"]) > 3


def test_relative_paths_stand_beside_the_config_whatever_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "c.json").write_text(
        json.dumps(
            {"data_dir": "../clips", "log_dir": "/var/log/ka", "phonemes": {"lexicon_paths": ["a.tsv", "/b.tsv"]}}
        )
    )
    for place, name in (
        (tmp_path, "project/c.json"),
        (tmp_path / "project", "c.json"),
        (Path("/"), tmp_path / "project/c.json"),
    ):
        monkeypatch.chdir(place)
        config = load_config(name)
        assert config.data_dir == str(tmp_path / "clips")
        assert config.checkpoint_dir == str(tmp_path / "project" / "checkpoints")
        assert config.log_dir == "/var/log/ka"
        assert config.phonemes.lexicon_paths == [str(tmp_path / "project" / "a.tsv"), "/b.tsv"]


def test_a_tilde_is_the_home_folder(load, monkeypatch):
    monkeypatch.setenv("HOME", "/home/nino")
    assert load({"data_dir": "~/clips"}).data_dir == "/home/nino/clips"


@pytest.mark.parametrize(
    "written, meant",
    [
        ({"batchsize": 4}, "unknown key batchsize (did you mean batch_size?)"),
        ({"text": {"new_token": 4}}, "unknown key text.new_token (did you mean text.new_tokens?)"),
        ({"trainning": {}}, "unknown key trainning (did you mean training?)"),
        ({"zzqq": 1}, "unknown key zzqq"),
    ],
)
def test_an_unknown_key_offers_the_nearest(load, written, meant):
    assert problems(load, written).endswith("has 1 problem: " + meant)


@pytest.mark.parametrize(
    "written, said",
    [
        ({"batch_size": "8"}, 'batch_size must be a whole number, not a string ("8")'),
        ({"batch_size": 8.0}, "batch_size must be a whole number, not a number (8.0)"),
        ({"batch_size": True}, "batch_size must be a whole number, not true/false (true)"),
        ({"batch_size": None}, "batch_size must be a whole number, not null"),
        ({"batch_size": 0}, "batch_size is 0: it must be at least 1"),
        ({"learning_rate": 0}, "learning_rate is 0: it must be above 0"),
        ({"learning_rate": 2}, "learning_rate is 2: it must be at most 1"),
        ({"language": "ru"}, "language is \"ru\": choose 'ka'"),
        ({"device": "gpu"}, 'device is "gpu": use auto, cpu, cuda or cuda:N'),
        ({"device": "1"}, 'device is "1": use auto, cpu, cuda or cuda:N'),
        ({"device": "cuda:²"}, 'device is "cuda:²": use auto, cpu, cuda or cuda:N'),
        ({"text": 5}, "text must be a JSON object, not a whole number (5)"),
        ({"phonemes": {"lexicon_paths": "a.tsv"}}, 'phonemes.lexicon_paths must be a list, not a string ("a.tsv")'),
        (
            {"phonemes": {"lexicon_paths": ["a", 5]}},
            "phonemes.lexicon_paths[1] must be a string, not a whole number (5)",
        ),
        (
            {"training": {"conditioning_seconds": [6, 3]}},
            "training.conditioning_seconds must be two numbers, shortest first",
        ),
        ({"training": {"dropout": 1}}, "training.dropout is 1: it must be at most 0.9"),
        ({"data_dir": ""}, "data_dir is empty: it must be a path"),
        ({"data_dir": "a\0b"}, "data_dir holds a NUL"),
        ({"data_dir": "a\ud800b"}, "data_dir holds a NUL or half a character"),
        ({"data_dir": "~nobody-of-that-name/x"}, "that path cannot be resolved"),
        ({"data_dir": "x", "log_dir": "./x"}, "must be different folders"),
        (
            {"output_model_path": "models/base_xtts_v2"},
            "output_model_path is in base_model_path, and nothing is ever written there",
        ),
        ({"checkpoint_dir": "models/base_xtts_v2/deep"}, "checkpoint_dir is in base_model_path"),
    ],
)
def test_each_problem_is_said_plainly(load, written, said):
    sentence = problems(load, written)
    assert "has 1 problem:" in sentence and said in sentence


@pytest.mark.parametrize(
    "raw",
    [
        b'{"max_steps": 1e999}',
        b'{"learning_rate": NaN}',
        b'{"learning_rate": -Infinity}',
        b'{"learning_rate": 1' + b"0" * 400 + b"}",
        b'{"max_steps": 1' + b"0" * 400 + b"}",
    ],
)
def test_numbers_that_are_none_are_refused_briefly(load, raw):
    assert len(problems(load, raw)) < 400


def test_all_problems_are_said_at_once(load):
    sentence = problems(load, {"batchsize": 4, "seed": -1, "text": {"archaic": "drop", "x": 1}, "epochs": "many"})
    assert "has 5 problems: " in sentence
    for part in ("batchsize", "seed is -1", "text.archaic", "text.x", "epochs must be"):
        assert part in sentence


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"x"',
        b"\xff\xfe",
        b"9" * 5000,
        b"[" * 100_000,
        b'{"a":' * 20_000,
        b'{"text": ' + b"[" * 900 + b"]" * 900 + b"}",
        b"\0" * 300,
    ],
)
def test_what_is_no_json_object_is_one_sentence(load, raw):
    assert len(problems(load, raw)) < 400


def test_a_key_of_ten_megabytes_makes_no_message_of_ten_megabytes(load):
    assert len(problems(load, {"k" * 10_000_000: 1, "language": "ka" * 5_000_000})) < 600


def test_a_missing_config_and_a_folder_name_the_flag(tmp_path):
    with pytest.raises(UserError, match="does not exist: pass the right file with --config"):
        load_config(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot be read .*--config"):
        load_config(tmp_path)


def test_a_loop_of_links_is_one_sentence(load, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "log_dir" in problems(load, {"log_dir": "loop/x"})


def test_values_are_found_by_dotted_key(load):
    config = load({"text": {"new_tokens": 500}})
    assert config.value("text.new_tokens") == 500 and config.value("seed") == 1234
    assert config.value("text")["new_tokens"] == 500 and isinstance(config.value("text"), dict)
    assert json.loads(json.dumps(config.as_dict()))["text"]["new_tokens"] == 500


strings = (
    st.text(max_size=12)
    | st.text(st.characters(categories=["Cs", "Cc", "Lo"]), max_size=4)
    | st.sampled_from(
        ["ka", "auto", "cuda:1", "~", "~x", "..", "/", ".", "models/base_xtts_v2", "broad", "a" * 300, "/dev/null/x"]
    )
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.integers(10**14, 10**330) | strings
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3), max_leaves=6
)
sections = st.dictionaries(st.sampled_from(INNER) | strings, values, max_size=4)
configs = st.dictionaries(st.sampled_from(KEYS) | strings, values | sections, max_size=6)
CASES = int(os.environ.get("CONFIG_FUZZ_CASES", "500"))


@settings(
    max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(raw=configs | values | st.binary(max_size=60))
def test_any_json_gives_a_config_or_one_sentence(load, raw):
    try:
        config = load(raw)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 10_000
    else:
        json.dumps(config.as_dict(), ensure_ascii=False).encode("utf-8")
        assert all(os.path.isabs(config.value(key)) for key in ("data_dir", "log_dir", "base_model_path"))
        assert load(config.as_dict()) == config  # what is copied beside a checkpoint reads back as the same
