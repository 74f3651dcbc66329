"""The JSON config as pydantic models: defaults, validation, paths.

`load_config` lists every unknown key, wrong type and impossible value at once, with the nearest valid name, before
anything heavy is imported. Relative paths resolve against the config file's folder.

Editors complete a config from its JSON schema. After changing a setting here, write the schema anew:

    python -m xtts_ka.core.config > xtts_pretrain_config.schema.json
"""

from __future__ import annotations

import difflib
import functools
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from xtts_ka.core.console import warn
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import json_bytes, read_json

DEFAULT_CONFIG = "xtts_pretrain_config.json"
BASE_FILES = ("config.json", "model.pth", "vocab.json", "dvae.pth", "mel_stats.pth")  # of the XTTS-v2 checkpoint
STAGES = ("embeddings", "phonemes", "language", "xtts_init", "dvae", "full_pretrain", "decoder", "evaluation")
OPTIONAL_STAGES = ("dvae", "decoder", "evaluation")  # there only where their section of the config enables them
STARTER_MARK = "STARTER.json"  # a folder that holds it was made by starter mode
MAX_NUMBER = 10**15  # no setting is larger; a number of hundreds of digits would overflow later


def _opt(default: Any, help: str, **limits: Any) -> Any:
    """A setting: its default, its one-line documentation, and its limits as pydantic's `Field` takes them."""
    if {"ge", "gt"} & limits.keys():
        limits = {"le": MAX_NUMBER, **limits}
    return Field(default, description=help, **limits)


def _whole_text(text: str) -> str:
    if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in text):
        raise ValueError(f"holds a NUL or half a character: {_short(text)}")
    return text


def _absolute(path: str, info: ValidationInfo) -> str:
    """`path` from the config file's folder, which `load_config` gives as the context; without one, as it is."""
    if not path.strip():
        raise ValueError("is empty: it must be a path")
    if info.context is None:
        return path
    try:
        return str((info.context / Path(path).expanduser()).resolve())
    except (RuntimeError, OSError) as error:  # ~nobody, or a loop of symbolic links
        raise ValueError(f"is {_short(path)}: that path cannot be resolved") from error


Text = Annotated[str, AfterValidator(_whole_text)]
PathText = Annotated[Text, AfterValidator(_absolute)]


def _ordered_pair(values: list[float]) -> list[float]:
    if len(values) != 2 or values[0] > values[1]:
        raise ValueError("must be two numbers, shortest first")
    return values


Seconds = Annotated[float, Field(gt=0, le=MAX_NUMBER)]
SecondsRange = Annotated[list[Seconds], AfterValidator(_ordered_pair)]


class _Section(BaseModel):
    # strict: "3" and true are no numbers, 3 is a valid float. validate_default resolves the default paths.
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class StarterConfig(_Section):
    """Stand-ins for a bare machine: used only where the base model or the recordings are missing."""

    enabled: bool = _opt(False, "make small stand-ins (base model, synthetic speech) for what is missing")
    sentences: PathText = _opt("data/starter_sentences_ka.txt", "Georgian sentences to speak, one a line")
    clips: int = _opt(1800, "synthetic clips to make", ge=20)
    base: Literal["trained", "untrained"] = _opt(
        "trained", "the stand-in base model: a small trained one that this package brings, or a tiny untrained one"
    )
    layers: int = _opt(4, "transformer layers of the untrained base model", ge=1)
    model_dim: int = _opt(128, "width of the untrained base model", ge=64, multiple_of=64)
    heads: int = _opt(2, "attention heads of the untrained base model", ge=1)
    max_steps: int = _opt(70, "training steps when the base model is the starter's (in place of epochs)", ge=2)
    learning_rate: float = _opt(1e-3, "peak learning rate when the base model is the starter's", gt=0)
    batch_seconds: float = _opt(48.0, "batch_seconds when the base model is the starter's", gt=0)
    new_tokens: int = _opt(40, "text.new_tokens when the base model is the trained stand-in", ge=40, le=20000)
    language_epochs: int = _opt(1, "language_model.max_epochs when the base model is the trained stand-in", ge=1)
    optimizer: Literal["adamw", "muon"] = _opt(
        "muon", "training.optimizer when the base model is the trained stand-in, which had few steps of training"
    )
    recogniser_steps: int = _opt(700, "recogniser.max_steps when the base model is the trained stand-in", ge=2)


class TextConfig(_Section):
    """From transcript to tokens."""

    archaic: Literal["respell", "keep"] = _opt("respell", "archaic letters: keep them or respell them")
    abbreviations: PathText | None = _opt(None, "your abbreviations: a file of lines abbreviation<TAB>reading")
    new_tokens: int = _opt(2000, "Georgian tokens to add to the base vocabulary, at most", ge=40, le=20000)
    min_pair_count: int = _opt(2, "how often a pair of symbols must occur to become a token", ge=2)


class PhonemesConfig(_Section):
    """The phonemes stage."""

    level: Literal["broad", "narrow"] = _opt("broad", "transcription that the dictionary and the G2P model use")
    convention: dict[Text, Text] = _opt({}, 'symbols that differ from the default\'s, by letter, such as {"ა": "a"}')
    allophones: list[Literal["final_fricatives", "initial_stops"]] = _opt(
        [], "rules of the narrow level that apply beside the standard ones: final_fricatives, initial_stops"
    )
    lexicon_paths: list[PathText] = _opt([], "extra lexicons, word<TAB>p h o n e s")
    heldout_fraction: float = _opt(0.1, "share of the words kept out of training to measure errors", gt=0, le=0.5)
    dim: int = _opt(128, "width of the G2P network", ge=16)
    layers: int = _opt(2, "layers of the G2P network", ge=1)
    max_epochs: int = _opt(20, "passes over the lexicon at most", ge=1)
    batch_size: int = _opt(128, "words per G2P batch", ge=1)
    learning_rate: float = _opt(2e-3, "peak learning rate of the G2P network", gt=0)


class LanguageModelConfig(_Section):
    """The language stage's small causal model over the new tokens."""

    dim: int = _opt(128, "width (a multiple of heads)", ge=16)
    layers: int = _opt(2, "transformer layers", ge=1)
    heads: int = _opt(4, "attention heads", ge=1)
    dropout: float = _opt(0.2, "dropout", ge=0, le=0.9)
    max_epochs: int = _opt(20, "passes over the transcripts at most", ge=1)
    batch_size: int = _opt(32, "sentences per batch", ge=1)
    learning_rate: float = _opt(2e-3, "peak learning rate", gt=0)
    heldout_fraction: float = _opt(0.1, "share of the sentences kept out to measure bits per character", gt=0, le=0.5)


class InitConfig(_Section):
    """The xtts_init stage."""

    method: Literal["informed", "mean", "random"] = _opt(
        "informed", "how new text rows begin (see docs/experiments.md)"
    )
    token_biases: bool = _opt(True, "set the new biases of text_head from token frequencies")


class TrainingConfig(_Section):
    """The full_pretrain stage."""

    optimizer: Literal["adamw", "muon"] = _opt("adamw", "muon: for training from random weights, not for adapting")
    accumulation: int | None = _opt(None, "with batch_size: batches per optimizer step (1)", ge=1)
    warmup_steps: int = _opt(50, "steps of linear warm-up before the cosine, a tenth of all at most", ge=0)
    new_rows_rate: float | None = _opt(
        None,
        "learning rate of the new text rows, as a multiple of the others' (null: 10, above a rate of 3e-4 1)",
        gt=0,
        le=1000,
    )
    final_learning_rate: float = _opt(0.1, "learning rate at the end, as a share of the peak", ge=0, le=1)
    dropout: float = _opt(0.1, "dropout on embeddings and residual branches", ge=0, le=0.9)
    weight_decay: float = _opt(0.01, "AdamW weight decay, on matrices only", ge=0)
    clip_norm: float = _opt(1.0, "gradient norm limit", gt=0)
    text_loss_weight: float = _opt(0.01, "weight of the text cross-entropy", ge=0)
    audio_loss_weight: float = _opt(1.0, "weight of the audio-code cross-entropy", gt=0)
    precision: Literal["auto", "float32", "bf16"] = _opt("auto", "auto: bf16 on CUDA, float32 on a CPU")
    conditioning: Literal["same_speaker", "same_clip", "coqui"] = _opt(
        "same_speaker",
        "where voice samples come from: other clips of the speaker, an unscored third of the clip, as coqui",
    )
    conditioning_seconds: SecondsRange = _opt([3.0, 6.0], "shortest and longest voice sample in seconds")
    shared_voices: int = _opt(4, "clips of a speaker that hear one voice sample in a step, at most", ge=1, le=1000)
    log_interval: int = _opt(10, "steps between metric lines", ge=1)
    validation_minutes: float = _opt(15.0, "minutes of work between validations, with a checkpoint each", gt=0)
    validation_interval: int | None = _opt(None, "steps between validations (null: validation_minutes)", ge=1)
    keep_checkpoints: int = _opt(2, "checkpoints kept beside the best one", ge=2)
    checkpoint_minutes: float = _opt(20.0, "minutes between checkpoints at most, validated or not", gt=0)
    max_bad_steps: int = _opt(5, "non-finite steps in a row before the run stops", ge=1)
    gradient_checkpointing: bool = _opt(False, "trade compute for memory")
    compile: bool = _opt(False, "compile the transformer blocks (needs a C++ compiler; Triton on CUDA)")
    ema_decay: float = _opt(0.0, "decay of the average weights that are used in the end (0: off)", ge=0, le=0.99999)
    sharding: bool = _opt(False, "with several processes: split weights, gradients and moments among them (FSDP)")
    best_by: Literal["loss", "cer"] = _opt(
        "loss", "which kept checkpoint is exported: by validation loss, or by what a recogniser hears (cer)"
    )


class SamplesConfig(_Section):
    """What is spoken from the present weights while full_pretrain trains."""

    enabled: bool = _opt(True, "speak samples while the GPT trains")
    every_share: float = _opt(0.02, "share of the training's time that samples may take", gt=0, le=0.5)
    sentences: int = _opt(4, "sentences of a round, of the validation clips or of texts", ge=1, le=100)
    voices: int = _opt(2, "voices that speak each of them: the most recorded speakers", ge=1, le=20)
    texts: PathText | None = _opt(None, "a file of sentences of your own, one a line")
    speakers: list[Text] = _opt([], "names of the voices, in place of the most recorded")
    recogniser: bool | None = _opt(
        None,
        "train the recogniser first where there is none (null: on a GPU, with best_by cer or the evaluation stage)",
    )


class RecogniserConfig(_Section):
    """The project's own recogniser, which listens to what the model says."""

    dim: int | None = _opt(None, "width of the network (null: 160, from 10 hours of speech 512)", ge=8)
    layers: int | None = _opt(None, "residual convolutions of the network (null: 2, from 10 hours of speech 8)", ge=1)
    recurrent: int | None = _opt(
        None, "LSTMs in both directions behind the convolutions (null: 2, from 10 hours of speech 0)", ge=0
    )
    beam: int = _opt(8, "texts that the beam search with the n-gram keeps (1: greedy decoding)", ge=1, le=100)
    batch_seconds: float | None = _opt(
        None, "seconds of padded audio per batch (null: 10, from 10 hours of speech 240)", gt=0, le=MAX_NUMBER
    )
    epochs: int | None = _opt(
        None,
        "passes over the training clips (null: what 2,400 batches take, 4 to 60; from 10 hours of speech 15)",
        ge=1,
    )
    max_steps: int = _opt(40000, "optimizer steps at most", ge=2)
    learning_rate: float | None = _opt(
        None, "peak learning rate (null: 4e-3, from 10 hours of speech 2e-3)", gt=0, le=1
    )
    noise: float | None = _opt(
        None, "how many clips get noise, 1: every second (null: 0.4, from 10 hours of speech 1)", ge=0, le=2
    )


class PartConfig(_Section):
    """Training of one of XTTS's parts beside the GPT; intervals, precision and warm-up are those of `training`."""

    enabled: bool = _opt(False, "train this part too: a stage of its own")
    fresh: bool = _opt(False, "begin with random weights instead of the base model's")
    max_steps: int = _opt(5000, "optimizer steps", ge=2)
    batch_size: int = _opt(32, "pieces of clips per step and process", ge=1)
    learning_rate: float = _opt(1e-5, "peak learning rate", gt=0, le=1)
    clips: int = _opt(20000, "recordings used at most, chosen by a hash; their features are kept on the disk", ge=1)


class DvaeConfig(PartConfig):
    """The dvae stage: XTTS's DVAE, which turns recordings into audio codes. The GPT must know its codes."""

    segment_codes: int = _opt(32, "length of a piece in audio codes of 46 ms", ge=4)
    codebook_decay: float = _opt(0.999, "how slowly code vectors follow the recordings (0.99 when fresh)", ge=0, lt=1)
    revive_below: float = _opt(
        0.0, "codes used less than this share of the average begin anew (0: never)", ge=0, le=0.5
    )
    commitment: float = _opt(0.25, "weight of the distance between the encoder's output and its codes", ge=0)
    audibility: float = _opt(
        0.0, "how much less quiet parts of the spectrum count (0: equal, 1: not at all)", ge=0, le=1
    )


class DecoderConfig(PartConfig):
    """The decoder stage: XTTS's HiFi-GAN, which turns the trained GPT's latents into speech."""

    max_steps: int = _opt(20000, "optimizer steps", ge=2)
    batch_size: int = _opt(16, "pieces of clips per step and process", ge=1)
    learning_rate: float = _opt(1e-4, "peak learning rate, of the discriminators too", gt=0, le=1)
    segment_codes: int = _opt(16, "length of a piece in audio codes of 46 ms", ge=4)
    latent_noise: float = _opt(0.0, "noise added to the latents, as a share of their standard deviation", ge=0, le=1)
    discriminator_width: int = _opt(
        32, "channels of the discriminators' first layer (HiFi-GAN: 32; 0: none)", ge=0, multiple_of=4
    )
    discriminator_start: int = _opt(2000, "step at which the discriminators begin", ge=0)
    voice_weight: float = _opt(0.0, "weight of the speaker consistency loss: how far the voice is off", ge=0)
    discriminator_minutes: float = _opt(10.0, "minutes of recordings that discriminators need at least", ge=0)


class EvaluationConfig(_Section):
    """The evaluation stage: the finished model speaks five sentences, and the recogniser listens."""

    enabled: bool | None = _opt(
        None, "end with spoken sentences and what was heard (null: where the base model is the trained stand-in)"
    )
    voices: int = _opt(6, "voices that speak each sentence: the most recorded speakers", ge=1, le=1000)


class MonitorConfig(_Section):
    """checkpoint_monitor.py's defaults."""

    interval: float = _opt(10.0, "seconds between refreshes with --watch", gt=0)
    keep: int = _opt(2, "newest checkpoints that --cleanup keeps, beside the best", ge=1)


class PretrainConfig(_Section):
    """Everything a run depends on. Flat keys are what everyone touches; sections hold the rest."""

    language: Literal["ka"] = _opt("ka", "language code the model learns")
    data_dir: PathText = _opt("data", "folder with split/ and embeddings/")
    base_model_path: PathText = _opt("models/base_xtts_v2", "folder of the XTTS-v2 checkpoint; never written to")
    replay_dir: PathText | None = _opt(
        None, "clips in the base model's languages, to measure what training does to them"
    )
    output_model_path: PathText = _opt("models/xtts_v2_ka", "folder of the Georgian model")
    checkpoint_dir: PathText = _opt("checkpoints", "folder of the training checkpoints")
    checkpoint_interval: int | None = _opt(None, "steps between validated checkpoints (null: as validations)", ge=1)
    log_dir: PathText = _opt("logs", "folder of metrics and TensorBoard files")
    batch_seconds: float = _opt(1260.0, "seconds of audio in an optimizer step, of all processes together", gt=0)
    batch_size: int | None = _opt(
        None, "in place of batch_seconds: clips of typical length that a process takes at once", ge=1
    )
    learning_rate: float = _opt(5e-6, "peak learning rate", gt=0, le=1)
    epochs: int | None = _opt(5, "passes over the recordings (null: as many as max_steps takes)", ge=1)
    max_steps: int | None = _opt(None, "optimizer steps at most", ge=2)
    device: str = _opt("auto", "auto, cpu, cuda or cuda:N", pattern="^(auto|cpu|cuda(:[0-9]{1,3})?)$")
    seed: int = _opt(1234, "seed from which all randomness is derived", ge=0)
    starter: StarterConfig = _opt({}, "stand-ins for what a bare machine lacks")
    text: TextConfig = _opt({}, "from transcript to tokens")
    phonemes: PhonemesConfig = _opt({}, "the phonemes stage")
    language_model: LanguageModelConfig = _opt({}, "the language stage")
    xtts_init: InitConfig = _opt({}, "the xtts_init stage")
    training: TrainingConfig = _opt({}, "the full_pretrain stage")
    samples: SamplesConfig = _opt({}, "what is spoken while the GPT trains")
    recogniser: RecogniserConfig = _opt({}, "the project's own recogniser, which listens to what the model says")
    dvae: DvaeConfig = _opt({}, "the dvae stage, off unless enabled")
    decoder: DecoderConfig = _opt({}, "the decoder stage, off unless enabled")
    evaluation: EvaluationConfig = _opt({}, "the evaluation stage")
    monitor: MonitorConfig = _opt({}, "checkpoint_monitor.py's defaults")

    @property
    def dvae_file(self) -> Path:
        """The DVAE whose codes the GPT learns: the dvae stage's where it is enabled, else the base model's."""
        return Path(self.output_model_path if self.dvae.enabled else self.base_model_path) / "dvae.pth"

    def stages(self) -> tuple[str, ...]:
        """The names of the stages that this config has, in order.

        Where `evaluation.enabled` is open, it follows what starter mode would make; the pipeline knows what is there.
        """
        trained = self.starter.enabled and self.starter.base == "trained"
        on = {name: self.value(f"{name}.enabled") for name in OPTIONAL_STAGES}
        on["evaluation"] = trained if on["evaluation"] is None else on["evaluation"]
        return tuple(name for name in STAGES if on.get(name, True))

    def needs_stage(self, name: str) -> None:
        """UserError where the config does not enable the stage of this name."""
        if name not in self.stages():
            raise UserError(f"{name}.enabled is false in the config: set it to true, then run the same command")

    @property
    def clips_at_once(self) -> int | None:
        """Clips of typical length that a process takes at once; None where the batch is given in seconds of audio.

        Configs from before `batch_seconds` gave `batch_size`, 8 by default, and perhaps `training.accumulation`.
        """
        return self.batch_size or (8 if self.training.accumulation else None)

    @property
    def new_rows_rate(self) -> float:
        """How much faster the new text rows learn. Ten times helps at low rates (docs/experiments.md)."""
        given = self.training.new_rows_rate
        return given if given is not None else 10.0 if self.learning_rate <= 3e-4 else 1.0

    def value(self, dotted: str) -> Any:
        """The value of a dotted key such as `text.new_tokens`, or a whole section as a dict."""
        node: Any = functools.reduce(getattr, dotted.split("."), self)
        return node.model_dump() if isinstance(node, BaseModel) else node


# ── loading and validation ───────────────────────────────────────────────────────────────────────────────────────────


def load_config(path: Path | str) -> PretrainConfig:
    """Read, validate and resolve a config file. Raises UserError with all problems at once."""
    path = Path(path)
    raw = read_json(path, "config", f"pass the right file with --config, or restore {DEFAULT_CONFIG}")
    if isinstance(raw, dict):
        raw.pop("$schema", None)  # for editors
        if isinstance(section := raw.get("training"), dict) and section.pop("validation_batches", None) is not None:
            warn(
                f"config {path}: training.validation_batches has no effect any more: all validation clips are measured"
            )
    try:
        config = PretrainConfig.model_validate(raw, context=path.resolve().parent)
        problems = _conflicts(config)
    except ValidationError as error:
        problems = [_problem(found) for found in error.errors(include_url=False)]
    if problems:
        raise UserError(f"config {path} has {len(problems)} problem{'s' * (len(problems) > 1)}: " + "; ".join(problems))
    return config


def _conflicts(config: PretrainConfig) -> list[str]:
    """Problems between settings that are valid one by one."""
    problems = []
    if config.starter.model_dim % config.starter.heads:
        problems.append("starter.model_dim must be a multiple of starter.heads")
    if config.language_model.dim % config.language_model.heads:
        problems.append("language_model.dim must be a multiple of language_model.heads")
    given, accumulation = config.model_fields_set, config.training.accumulation
    if "batch_seconds" in given and (config.batch_size or accumulation):
        other = "batch_size" if config.batch_size else "training.accumulation"
        problems.append(f"batch_seconds and {other} both set the batch: remove {other}, the older way")
    if config.epochs is None and config.max_steps is None:
        problems.append("epochs and max_steps are both null, so that training would never end: set one of them")
    if config.training.sharding and config.training.ema_decay:
        problems.append("training.ema_decay does not go with training.sharding: set one of them to 0 or false")
    folders = {key: config.value(key) for key in ("output_model_path", "checkpoint_dir", "log_dir", "data_dir")}
    for key, folder in folders.items():
        if Path(folder).is_relative_to(config.base_model_path):
            problems.append(f"{key} is in base_model_path, and nothing is ever written there: choose another folder")
    if len(set(folders.values())) < len(folders):
        problems.append(f"{', '.join(folders)} must be different folders")
    return problems


# Error types of pydantic whose own words a user would not understand → what the value must be.
_MUST_BE = {
    "model_type": "an object",
    "string_pattern_mismatch": "auto, cpu, cuda or cuda:N",  # only `device` has a pattern
    "string_unicode": "text without half characters",
}


def _problem(error: ErrorDetails) -> str:
    """One of pydantic's errors in one sentence, with its dotted key."""
    key = _dotted(error["loc"]) or "the file"
    if error["type"] == "extra_forbidden":
        *sections, name = error["loc"]
        model: Any = PretrainConfig
        for section in sections:
            model = model.model_fields[section].annotation
        close = difflib.get_close_matches(str(name)[:60], model.model_fields, 1, 0.5)
        return f"unknown key {key}" + "".join(f" (did you mean {_dotted((*sections, match))}?)" for match in close)
    if error["type"] == "value_error":
        return f"{key} {error['ctx']['error']}"
    must = _MUST_BE.get(error["type"], error["msg"].removeprefix("Input should be "))
    return f"{key} is {_short(error['input'])}: it must be {must}"


def _dotted(loc: tuple[int | str, ...]) -> str:
    """A key as messages show it: `training.conditioning_seconds[0]`; what is no plain name is quoted and cut."""
    shown = ""
    for part in loc:
        if isinstance(part, int):
            shown += f"[{part}]"
        elif part != "[key]":  # follows the name of an entry whose name itself is wrong
            shown += ("." if shown else "") + (part if part.isidentifier() and len(part) <= 60 else _short(part))
    return shown


def _short(value: Any) -> str:
    """`value` on one line, as the config would have it, cut to a length that a message can hold."""
    text = json_bytes(value).decode("utf-8").strip()
    return text if len(text) <= 60 else text[:57] + "..."


if __name__ == "__main__":
    schema = PretrainConfig.model_json_schema()
    schema["properties"]["$schema"] = {"type": "string", "description": "this schema, for editors"}
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    print(json.dumps(schema, ensure_ascii=False, indent=2))
