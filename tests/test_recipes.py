"""Every recipe loads, differs from the defaults where it says so, and fits the card it names."""

import json
from pathlib import Path

import pytest
import torch

from xtts_ka.core.config import PretrainConfig, load_config
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.model.networks import build_gpt, tiny_config
from xtts_ka.training.memory_estimate import StepShape, estimate_memory, room_for

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
NAMES = "common_voice_fleurs_h100 cpu_rehearsal eight_gpus starter studio_voice_24gb".split()
FOLDERS = ("data_dir", "base_model_path", "output_model_path", "checkpoint_dir", "log_dir")


def leaves(config: dict, prefix: str = "") -> dict[str, object]:
    """Dotted key → value."""
    found = {}
    for key, value in config.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def recipe(name: str) -> PretrainConfig:
    return load_config(RECIPES / f"{name}.json")


def test_the_folder_holds_these_recipes_and_explains_each():
    assert sorted(file.stem for file in RECIPES.glob("*.json")) == NAMES
    explained = (RECIPES / "README.md").read_text("utf-8")
    assert all(f"**{name}.json**" in explained and f"--config recipes/{name}.json" in explained for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_sets_only_what_differs_from_the_defaults(name):
    raw = json.loads((RECIPES / f"{name}.json").read_text("utf-8"))
    assert (RECIPES / raw.pop("$schema")).resolve() == ROOT / "xtts_pretrain_config.schema.json"
    defaults = leaves(PretrainConfig().model_dump())
    assert all(value != defaults[key] for key, value in leaves(raw).items())


@pytest.mark.parametrize("name", NAMES)
def test_folders_lie_in_the_repository_and_stand_ins_never_among_real_models(name):
    config = recipe(name)
    used = {key: Path(config.value(key)).relative_to(ROOT).as_posix() for key in FOLDERS}
    real = {key: PretrainConfig().value(key) for key in FOLDERS}
    if config.starter.enabled:
        assert Path(config.starter.sentences).is_file()
        shared = {key for key in FOLDERS if used[key] == real[key]}
        assert shared <= {"data_dir"}  # the rehearsal is of the user's own recordings
    else:
        assert used == real


@pytest.mark.parametrize(
    "name, seconds, gibibytes",
    [("common_voice_fleurs_h100", 5, 80), ("eight_gpus", 5, 24), ("studio_voice_24gb", 8, 24)],
)
@pytest.mark.parametrize("length", [1, 5, 10, 20])
def test_a_training_step_fits_the_card(name, seconds, gibibytes, length):
    """A micro-batch of clips of `length` s, as planned by clips of the corpus's typical length of `seconds`."""
    config = recipe(name)

    def shape(seconds, rows):
        tokens, codes = 7 * seconds, 21.5 * seconds  # docs/scaling.md
        return StepShape(rows, 1 + tokens, codes, max(config.training.conditioning_seconds) * 22050 / 256)

    with torch.device("meta"):
        gpt = build_gpt(tiny_config(30, 1024, 16, 6681), 6681 + config.text.new_tokens)  # XTTS-v2's size
    model = CompactGPT(gpt, config.training.dropout, config.training.gradient_checkpointing)
    facts = {"bf16": True, "average": config.training.ema_decay > 0}
    room = room_for(model, shape(seconds, 1), gibibytes * 2**30, **facts)
    rows = room.positions / (33 + 28.5 * length + room.per_row)
    memory = estimate_memory(model, shape(length, rows), **facts)
    assert rows > 5 and memory.states + memory.step < 0.82 * gibibytes * 2**30


def test_one_h100_and_eight_gpus_take_equal_steps():
    one, eight = recipe("common_voice_fleurs_h100"), recipe("eight_gpus")
    for key in ("batch_seconds", "learning_rate", "epochs", "training.new_rows_rate", "training.warmup_steps"):
        assert one.value(key) == eight.value(key)
    assert one.clips_at_once is None and one.batch_seconds / 5 >= 252
