"""Every config file gives a config, or one UserError that names the keys."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtts_ka.core.config import DEFAULT_CONFIG, PretrainConfig, TrainingConfig, load_config
from xtts_ka.core.errors import UserError

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "xtts_pretrain_config.schema.json"
DEFAULTS = PretrainConfig().model_dump()
SECTIONS = [key for key, value in DEFAULTS.items() if isinstance(value, dict)]
INNER = [key for section in SECTIONS for key in DEFAULTS[section]]


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


def test_the_shipped_config_equals_the_defaults_except_for_the_starter(load):
    shipped = json.loads((ROOT / DEFAULT_CONFIG).read_text())
    assert shipped.pop("starter") == {"enabled": True}
    assert load(shipped) == load({})


def test_the_defaults_are_valid_and_read_back_unchanged(load):
    config = load({})
    assert config.starter.enabled is False  # never train on a stand-in unasked
    assert load(config.model_dump()) == config
    assert pickle.loads(pickle.dumps(config)) == config  # configs are sent to worker processes


def test_the_schema_file_is_current():
    """After a changed setting: python -m xtts_ka.core.config > xtts_pretrain_config.schema.json"""
    made = subprocess.run([sys.executable, "-m", "xtts_ka.core.config"], cwd=ROOT, capture_output=True, text=True)
    assert (made.returncode, made.stderr) == (0, "") and made.stdout == SCHEMA.read_text("utf-8")


def test_the_schema_describes_every_setting_and_the_shipped_config_points_to_it():
    schema = json.loads(SCHEMA.read_text("utf-8"))
    assert (ROOT / json.loads((ROOT / DEFAULT_CONFIG).read_text())["$schema"]).resolve() == SCHEMA
    assert set(schema["properties"]) == {"$schema", *DEFAULTS}
    for owner in (schema, *schema["$defs"].values()):
        assert owner["additionalProperties"] is False
        assert all(len(setting["description"]) > 3 for setting in owner["properties"].values())
    training = schema["$defs"]["TrainingConfig"]["properties"]
    assert training["dropout"]["minimum"] == 0 and training["dropout"]["maximum"] == 0.9
    assert training["precision"]["enum"] == ["auto", "float32", "bf16"]


def test_the_schema_key_is_allowed_at_the_top_level_only(load):
    assert load({"$schema": "./other.json"}) == load({"$schema": 5}) == load({})
    assert 'unknown key text."$schema"' in problems(load, {"text": {"$schema": "./other.json"}})


def test_relative_paths_resolve_against_the_config_folder_in_any_working_directory(tmp_path, monkeypatch):
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
        ({"batch_size": "8"}, 'batch_size is "8": it must be a valid integer'),
        ({"batch_size": 8.0}, "batch_size is 8.0: it must be a valid integer"),
        ({"batch_size": True}, "batch_size is true: it must be a valid integer"),
        ({"batch_seconds": None}, "batch_seconds is null: it must be a valid number"),
        (
            {"batch_seconds": 900, "batch_size": 8},
            "batch_seconds and batch_size both set the batch: remove batch_size, the older way",
        ),
        (
            {"batch_seconds": 900, "training": {"accumulation": 2}},
            "batch_seconds and training.accumulation both set the batch: remove training.accumulation, the older way",
        ),
        ({"epochs": None}, "epochs and max_steps are both null, so that training would never end: set one of them"),
        ({"learning_rate": "3"}, 'learning_rate is "3": it must be a valid number'),
        ({"learning_rate": True}, "learning_rate is true: it must be a valid number"),
        ({"learning_rate": 1e300}, "learning_rate is 1e+300: it must be less than or equal to 1"),
        ({"training": {"compile": 1}}, "training.compile is 1: it must be a valid boolean"),
        ({"seed": 10**16}, "seed is 10000000000000000: it must be less than or equal to 1000000000000000"),
        ({"batch_size": 0}, "batch_size is 0: it must be greater than or equal to 1"),
        ({"learning_rate": 0}, "learning_rate is 0: it must be greater than 0"),
        ({"learning_rate": 2}, "learning_rate is 2: it must be less than or equal to 1"),
        ({"language": "ru"}, "language is \"ru\": it must be 'ka'"),
        ({"text": {"archaic": 5}}, "text.archaic is 5: it must be 'respell' or 'keep'"),
        ({"device": "gpu"}, 'device is "gpu": it must be auto, cpu, cuda or cuda:N'),
        ({"device": "1"}, 'device is "1": it must be auto, cpu, cuda or cuda:N'),
        ({"device": "cuda:²"}, 'device is "cuda:²": it must be auto, cpu, cuda or cuda:N'),
        ({"text": 5}, "text is 5: it must be an object"),
        ({"phonemes": {"lexicon_paths": "a.tsv"}}, 'phonemes.lexicon_paths is "a.tsv": it must be a valid list'),
        ({"phonemes": {"lexicon_paths": ["a", 5]}}, "phonemes.lexicon_paths[1] is 5: it must be a valid string"),
        (
            {"training": {"conditioning_seconds": [6, 3]}},
            "training.conditioning_seconds must be two numbers, shortest first",
        ),
        (
            {"training": {"conditioning_seconds": [0, 3]}},
            "training.conditioning_seconds[0] is 0: it must be greater than 0",
        ),
        ({"starter": {"model_dim": 100}}, "starter.model_dim is 100: it must be a multiple of 64"),
        ({"starter": {"heads": 3}}, "starter.model_dim must be a multiple of starter.heads"),
        ({"language_model": {"heads": 3}}, "language_model.dim must be a multiple of language_model.heads"),
        ({"training": {"sharding": True, "ema_decay": 0.9}}, "training.ema_decay does not go with training.sharding"),
        ({"training": {"dropout": 1}}, "training.dropout is 1: it must be less than or equal to 0.9"),
        ({"data_dir": ""}, "data_dir is empty: it must be a path"),
        ({"phonemes": {"convention": {"ა": "a\0"}}}, "phonemes.convention.ა holds a NUL"),
        ({"phonemes": {"convention": {"ა\0": "a"}}}, 'phonemes.convention."ა\\u0000" holds a NUL'),
        ({"device": "cpu\ud800"}, 'device is "cpu\\ud800": it must be text without half characters'),
        ({"text": {"k\ud800": 1}}, 'text is "k\\ud800": it must be text without half characters'),
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
def test_each_problem_has_its_sentence(load, written, said):
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
def test_infinite_and_huge_numbers_are_refused_in_a_short_sentence(load, raw):
    assert len(problems(load, raw)) < 400


def test_all_problems_are_listed_at_once(load):
    sentence = problems(load, {"batchsize": 4, "seed": -1, "text": {"archaic": "drop", "x": 1}, "epochs": "many"})
    assert "has 5 problems: " in sentence
    for part in ("batchsize", "seed is -1", "text.archaic", "text.x", "epochs is"):
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
def test_a_file_that_is_no_json_object_is_refused_in_one_sentence(load, raw):
    assert len(problems(load, raw)) < 400


def test_huge_keys_and_values_are_cut_in_the_message(load):
    assert len(problems(load, {"k" * 10_000_000: 1, "language": "ka" * 5_000_000})) < 600


def test_a_missing_config_and_a_folder_name_the_flag(tmp_path):
    with pytest.raises(UserError, match="does not exist: pass the right file with --config"):
        load_config(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot be read .*--config"):
        load_config(tmp_path)


def test_a_loop_of_symbolic_links_is_refused_in_one_sentence(load, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "log_dir" in problems(load, {"log_dir": "loop/x"})


def test_values_are_found_by_dotted_key(load):
    config = load({"text": {"new_tokens": 500}})
    assert config.value("text.new_tokens") == 500 and config.value("seed") == 1234
    assert config.value("text")["new_tokens"] == 500 and isinstance(config.value("text"), dict)
    assert json.loads(json.dumps(config.model_dump()))["text"]["new_tokens"] == 500


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
configs = st.dictionaries(st.sampled_from(list(DEFAULTS)) | strings, values | sections, max_size=6)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(raw=configs | values | st.binary(max_size=60))
def test_any_json_gives_a_config_or_one_sentence(load, raw):
    try:
        config = load(raw)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 10_000
    else:
        json.dumps(config.model_dump(), ensure_ascii=False).encode("utf-8")
        assert all(os.path.isabs(config.value(key)) for key in ("data_dir", "log_dir", "base_model_path"))
        assert load(config.model_dump()) == config  # what is copied beside a checkpoint reads back as the same


@pytest.mark.parametrize("rate, given, expected", [(5e-6, None, 10), (3e-4, None, 10), (1e-3, None, 1), (1e-3, 4.0, 4)])
def test_new_rows_learn_faster_where_the_rate_is_low(rate, given, expected):
    config = PretrainConfig(learning_rate=rate, training=TrainingConfig(new_rows_rate=given))
    assert config.new_rows_rate == expected
