"""The JSON config as nested dataclasses: defaults, validation, paths.

`load_config` lists every unknown key, wrong type and impossible value at once, with the nearest valid name, before
anything heavy is imported. Relative paths resolve against the config file's folder.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xtts_ka.core.errors import UserError
from xtts_ka.core.files import read_json

DEFAULT_CONFIG = "xtts_pretrain_config.json"
BASE_FILES = ("config.json", "model.pth", "vocab.json", "dvae.pth", "mel_stats.pth")  # of the XTTS-v2 checkpoint
STAGES = ("embeddings", "phonemes", "language", "xtts_init", "full_pretrain")


def _opt(
    default: Any,
    help: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    path: bool = False,
):
    """A config field: its default, its one-line documentation and what values are possible."""
    rules = {"help": help, "at_least": at_least, "at_most": at_most, "above": above, "choices": choices, "path": path}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=rules)
    return field(default=default, metadata=rules)


STARTER_MARK = "STARTER.json"  # a folder that holds it was made by starter mode


@dataclass
class StarterConfig:
    """Stand-ins for a bare machine: used only where the base model or the recordings are missing."""

    enabled: bool = _opt(False, "make small stand-ins (tiny base model, synthetic speech) for what is missing")
    sentences: str = _opt("data/starter_sentences_ka.txt", "Georgian sentences to speak, one a line", path=True)
    clips: int = _opt(360, "synthetic clips to make", at_least=20)
    layers: int = _opt(4, "transformer layers of the tiny base model", at_least=1)
    model_dim: int = _opt(128, "width of the tiny base model (a multiple of 64)", at_least=64)
    heads: int = _opt(2, "attention heads of the tiny base model", at_least=1)
    max_steps: int = _opt(
        300, "training steps when the base model is the starter's (in place of max_steps)", at_least=2
    )
    learning_rate: float = _opt(1e-3, "peak learning rate when the base model is the starter's", above=0)


@dataclass
class TextConfig:
    """From transcript to tokens."""

    archaic: str = _opt("respell", "archaic letters: keep them or respell them", choices=("respell", "keep"))
    new_tokens: int = _opt(2000, "Georgian tokens to add to the base vocabulary, at most", at_least=40, at_most=20000)
    min_pair_count: int = _opt(2, "how often a pair of symbols must occur to become a token", at_least=2)


@dataclass
class PhonemesConfig:
    """The phonemes stage."""

    level: str = _opt(
        "broad", "transcription that the stage's dictionary and G2P model use", choices=("broad", "narrow")
    )
    convention: dict[str, str] = _opt({}, 'symbols that differ from the default\'s, by letter, such as {"ა": "a"}')
    lexicon_paths: list[str] = _opt([], "extra lexicons, word<TAB>p h o n e s", path=True)
    heldout_fraction: float = _opt(
        0.1, "share of the words kept out of training to measure error rates", above=0, at_most=0.5
    )
    dim: int = _opt(128, "width of the G2P network", at_least=16)
    layers: int = _opt(2, "layers of the G2P network", at_least=1)
    max_epochs: int = _opt(20, "passes over the lexicon at most", at_least=1)
    batch_size: int = _opt(128, "words per G2P batch", at_least=1)
    learning_rate: float = _opt(2e-3, "peak learning rate of the G2P network", above=0)


@dataclass
class LanguageModelConfig:
    """The language stage's small causal model over the new tokens."""

    dim: int = _opt(128, "width", at_least=16)
    layers: int = _opt(2, "transformer layers", at_least=1)
    heads: int = _opt(4, "attention heads", at_least=1)
    dropout: float = _opt(0.2, "dropout", at_least=0, at_most=0.9)
    max_epochs: int = _opt(20, "passes over the transcripts at most", at_least=1)
    batch_size: int = _opt(32, "sentences per batch", at_least=1)
    learning_rate: float = _opt(2e-3, "peak learning rate", above=0)
    heldout_fraction: float = _opt(
        0.1, "share of the sentences kept out to measure bits per character", above=0, at_most=0.5
    )


@dataclass
class InitConfig:
    """The xtts_init stage."""

    method: str = _opt(
        "mean",
        "where new text rows start (docs/experiments.md has the comparison)",
        choices=("informed", "mean", "random"),
    )
    token_biases: bool = _opt(True, "set the new biases of text_head from token frequencies")


@dataclass
class TrainingConfig:
    """The full_pretrain stage."""

    accumulation: int = _opt(1, "batches per optimizer step", at_least=1)
    warmup_steps: int = _opt(100, "steps of linear warm-up before the cosine", at_least=0)
    final_learning_rate: float = _opt(0.1, "learning rate at the end, as a share of the peak", at_least=0, at_most=1)
    dropout: float = _opt(0.1, "dropout on embeddings and residual branches", at_least=0, at_most=0.9)
    weight_decay: float = _opt(0.01, "AdamW weight decay, on matrices only", at_least=0)
    clip_norm: float = _opt(1.0, "gradient norm limit", above=0)
    text_loss_weight: float = _opt(0.01, "weight of the text cross-entropy", at_least=0)
    audio_loss_weight: float = _opt(1.0, "weight of the audio-code cross-entropy", above=0)
    precision: str = _opt("auto", "auto: bf16 on CUDA, float32 on a CPU", choices=("auto", "float32", "bf16"))
    conditioning: str = _opt("same_clip", "what the voice sample is cut from", choices=("same_clip", "same_speaker"))
    conditioning_seconds: list[float] = _opt([3.0, 6.0], "shortest and longest voice sample", above=0)
    log_interval: int = _opt(10, "steps between metric lines", at_least=1)
    validation_interval: int = _opt(100, "steps between validations", at_least=1)
    validation_batches: int = _opt(50, "validation batches at most", at_least=1)
    keep_checkpoints: int = _opt(2, "checkpoints kept beside the best one", at_least=2)
    checkpoint_minutes: float = _opt(15.0, "minutes between checkpoints at most", above=0)
    max_bad_steps: int = _opt(5, "non-finite steps in a row before the run stops", at_least=1)
    gradient_checkpointing: bool = _opt(False, "trade compute for memory")
    compile: bool = _opt(
        False, "compile the transformer blocks with torch.compile (needs a C++ compiler; Triton on CUDA)"
    )
    ema_decay: float = _opt(
        0.0,
        "validate and export a running average of the weights with this decay (0: off)",
        at_least=0,
        at_most=0.99999,
    )
    sharding: bool = _opt(False, "with several processes: split weights, gradients and moments among them (FSDP)")


@dataclass
class MonitorConfig:
    """checkpoint_monitor.py's defaults."""

    interval: float = _opt(10.0, "seconds between refreshes with --watch", above=0)
    keep: int = _opt(2, "newest checkpoints that --cleanup keeps, beside the best", at_least=1)


@dataclass
class PretrainConfig:
    """Everything a run depends on. Flat keys are what everyone touches; sections hold the rest."""

    language: str = _opt("ka", "language code the model learns", choices=("ka",))
    data_dir: str = _opt("data", "folder with split/ and embeddings/", path=True)
    base_model_path: str = _opt("models/base_xtts_v2", "folder of the XTTS-v2 checkpoint; never written to", path=True)
    output_model_path: str = _opt("models/xtts_v2_ka", "folder of the Georgian model", path=True)
    checkpoint_dir: str = _opt("checkpoints", "folder of the training checkpoints", path=True)
    checkpoint_interval: int = _opt(500, "steps between checkpoints", at_least=1)
    log_dir: str = _opt("logs", "folder of metrics and TensorBoard files", path=True)
    batch_size: int = _opt(8, "clips of typical length per batch; batches are packed by length", at_least=1)
    learning_rate: float = _opt(2e-5, "peak learning rate", above=0, at_most=1)
    epochs: int = _opt(1000, "passes over the recordings at most", at_least=1)
    max_steps: int = _opt(50000, "optimizer steps at most", at_least=2)
    device: str = _opt("auto", "auto, cpu, cuda or cuda:N")
    seed: int = _opt(1234, "seed from which all randomness is derived", at_least=0)
    starter: StarterConfig = field(default_factory=StarterConfig)
    text: TextConfig = field(default_factory=TextConfig)
    phonemes: PhonemesConfig = field(default_factory=PhonemesConfig)
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    xtts_init: InitConfig = field(default_factory=InitConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)

    def value(self, dotted: str) -> Any:
        """The value of a dotted key such as `text.new_tokens`, or a whole section as a dict."""
        node: Any = self
        for name in dotted.split("."):
            node = getattr(node, name)
        return dataclasses.asdict(node) if dataclasses.is_dataclass(node) else node

    def as_dict(self) -> dict[str, Any]:
        """The resolved config as nested builtins: what is copied into the run's folder and every checkpoint."""
        return dataclasses.asdict(self)


# ── loading and validation ───────────────────────────────────────────────────────────────────────────────────────────


def load_config(path: Path | str) -> PretrainConfig:
    """Read, validate and resolve a config file.

    Raises UserError with all problems at once: unknown keys (with the nearest valid name), wrong types, impossible
    values.
    """
    path = Path(path)
    raw = read_json(path, "config", "pass the right file with --config, or restore xtts_pretrain_config.json")
    problems: list[str] = []
    config = _build(PretrainConfig, raw, "", path.resolve().parent, problems)
    if not problems:
        problems = _cross_checks(config)
    if problems:
        raise UserError(f"config {path} has {len(problems)} problem{'s' * (len(problems) > 1)}: " + "; ".join(problems))
    return config


def _build(cls: type, raw: Any, prefix: str, folder: Path, problems: list[str]) -> Any:
    """Fill dataclass `cls` from `raw`, noting every problem under its dotted key."""
    if not isinstance(raw, dict):
        problems.append(f"{prefix.rstrip('.') or 'the file'} must be a JSON object, not {_kind(raw)}")
        return cls()
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for name in (name for name in raw if name not in fields):
        close = difflib.get_close_matches(name[:60], fields, 1, 0.5)
        problems.append(
            f"unknown key {prefix}{_shown(name)}" + (f" (did you mean {prefix}{close[0]}?)" if close else "")
        )
    values = {}
    for name, spec in fields.items():
        if dataclasses.is_dataclass(hints[name]):
            values[name] = _build(hints[name], raw.get(name, {}), f"{prefix}{name}.", folder, problems)
            continue
        default = spec.default if spec.default is not dataclasses.MISSING else spec.default_factory()
        value = _checked(raw.get(name, default), hints[name], spec.metadata, prefix + name, problems)
        values[name] = _resolved(value, folder, prefix + name, problems) if spec.metadata["path"] else value
    return cls(**values)


def _checked(value: Any, hint: Any, rules: Mapping[str, Any], key: str, problems: list[str]) -> Any:
    """Return `value` as the type of `hint`, noting a wrong type or an impossible value."""
    if typing.get_origin(hint) is list:
        if not isinstance(value, list):
            problems.append(f"{key} must be a list, not {_kind(value)}")
            return []
        return [
            _checked(item, typing.get_args(hint)[0], rules, f"{key}[{i}]", problems) for i, item in enumerate(value)
        ]
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            problems.append(f"{key} must be an object, not {_kind(value)}")
            return {}
        kinds = typing.get_args(hint)
        return {
            _checked(name, kinds[0], {**rules, "choices": ()}, f"a name in {key}", problems): _checked(
                item, kinds[1], rules, f"{key}.{_shown(name)}", problems
            )
            for name, item in value.items()
        }
    right = (
        isinstance(value, bool)
        if hint is bool
        else isinstance(value, int | float) and not isinstance(value, bool)
        if hint is float
        else isinstance(value, hint) and not isinstance(value, bool)
    )
    if not right:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}
        problems.append(f"{key} must be {names[hint]}, not {_kind(value)}")
        return value
    if rules["choices"] and value not in rules["choices"]:
        problems.append(f"{key} is {_short(value)}: choose {' or '.join(map(repr, rules['choices']))}")
    if hint in (int, float):
        if not abs(value) <= 1e15:  # NaN compares false; an int too large for a float compares right
            problems.append(f"{key} is {_short(value)}: it must be a finite, sensible number")
            return value
        for rule, words, broken in (
            ("at_least", "at least", lambda limit: value < limit),
            ("at_most", "at most", lambda limit: value > limit),
            ("above", "above", lambda limit: value <= limit),
        ):
            if rules[rule] is not None and broken(rules[rule]):
                problems.append(f"{key} is {value}: it must be {words} {rules[rule]}")
        value = float(value) if hint is float else value
    if isinstance(value, str) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
        problems.append(f"{key} holds a NUL or half a character: {_short(value)}")
    return value


def _resolved(value: Any, folder: Path, key: str, problems: list[str]) -> Any:
    """`value`, a path or a list of paths, made absolute; what is no path is returned for the problem already noted."""
    if isinstance(value, list):
        return [_resolved(item, folder, f"{key}[{i}]", problems) for i, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    if not value.strip():
        problems.append(f"{key} is empty: it must be a path")
        return value
    try:
        return str((folder / Path(value).expanduser()).resolve())
    except (ValueError, RuntimeError) as error:  # NUL or half a character; ~nobody, or a loop of symbolic links
        if isinstance(error, RuntimeError):
            problems.append(f"{key} is {_short(value)}: that path cannot be resolved")
        return value


def _cross_checks(config: PretrainConfig) -> list[str]:
    """Problems that only show between keys."""
    problems = []
    if config.device not in ("auto", "cpu", "cuda") and not re.fullmatch(r"cuda:[0-9]{1,3}", config.device):
        problems.append(f"device is {_short(config.device)}: use auto, cpu, cuda or cuda:N")
    if config.starter.model_dim % 64 or config.starter.model_dim % config.starter.heads:
        problems.append(
            f"starter.model_dim is {config.starter.model_dim}: it must be a multiple of 64 and of starter.heads"
        )
    if config.language_model.dim % config.language_model.heads:
        problems.append("language_model.dim must be a multiple of language_model.heads")
    seconds = config.training.conditioning_seconds
    if len(seconds) != 2 or seconds[0] > seconds[1]:
        problems.append("training.conditioning_seconds must be two numbers, shortest first")
    if config.training.sharding and config.training.ema_decay:
        problems.append("training.ema_decay does not go with training.sharding: set one of them to 0 or false")
    for key in ("output_model_path", "checkpoint_dir", "log_dir", "data_dir"):
        if Path(config.value(key)).is_relative_to(config.base_model_path):
            problems.append(f"{key} is in base_model_path, and nothing is ever written there: choose another folder")
    folders = [config.output_model_path, config.checkpoint_dir, config.log_dir, config.data_dir]
    if len(set(folders)) < len(folders):
        problems.append("output_model_path, checkpoint_dir, log_dir and data_dir must be different folders")
    return problems


def _kind(value: Any) -> str:
    names = {
        bool: "true/false",
        int: "a whole number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return names[type(value)] + ("" if isinstance(value, list | dict | None) else f" ({_short(value)})")


def _shown(name: str) -> str:
    """A key as a message shows it: plain when it looks like one, else quoted and cut."""
    return name if name.isidentifier() and len(name) <= 60 else _short(name)


def _short(value: Any) -> str:
    """`value` on one line, as the config would have it, cut to a length that a message can hold."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= 60 else text[:57] + "..."
