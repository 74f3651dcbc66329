"""The stages' classes, thin over the levels below, and the pipeline that runs them in order.

embeddings → phonemes → language → xtts_init → full_pretrain
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtts_ka.core.config import BASE_FILES, PretrainConfig, TrainingConfig
from xtts_ka.core.console import heading, say, warn
from xtts_ka.core.digests import file_digest, hash_value
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.core.files import sweep_partials, write_json
from xtts_ka.core.stage_ledger import Decision, Stage, StageLedger
from xtts_ka.core.tensor_files import read_pickle, tensors_from_bytes, tensors_to_bytes, write_pickle
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.corpus import recordings
from xtts_ka.corpus.tables import (
    DROP_REPORT,
    SPLITS,
    TRAINING_SPLITS,
    Clip,
    has_metadata,
    read_split,
    source_roots,
    split_csv,
)
from xtts_ka.model.checkpoint import FETCH, LICENCE, XttsFiles, grow_text_rows, missing_base_files, read_model
from xtts_ka.model.language_stage import run_language_stage
from xtts_ka.starter import stand_ins as starter_kit
from xtts_ka.training.checkpoint_manager import CheckpointManager
from xtts_ka.training.process_group import ALONE, Peers

if TYPE_CHECKING:
    from data_loader import DataManager
    from xtts_ka.training.metrics_log import MetricsLog

__all__ = [
    "CheckpointManager",
    "LanguageModelProcessor",
    "PhonemeModelProcessor",
    "PretrainPipeline",
    "XTTSModelInitializer",
    "XTTSPretrainer",
]

SPEAKERS_BASE = "speakers_base.pth"  # the embeddings stage's table; speakers_xtts.pth is remade with the trained GPT

# Settings that say how a training is watched, saved and fitted into memory, and not what comes out of it.
_WATCHING = (
    "log_interval",
    "validation_interval",
    "keep_checkpoints",
    "checkpoint_minutes",
    "max_bad_steps",
    "gradient_checkpointing",
    "compile",
    "sharding",
)
_TRAINING = tuple(f"training.{name}" for name in TrainingConfig.model_fields if name not in _WATCHING)
# A finished training carries on when only these changed: its length, and the stages that nothing but the export reads.
_CARRIES_ON = {"max_steps", "epochs", "stage embeddings", "stage phonemes"}


def training_clips(config: PretrainConfig) -> list[Clip]:
    """Train and validation clips: what every stage may learn from (the test split stays unseen)."""
    return read_split(config.data_dir, "train") + read_split(config.data_dir, "val")


# ── the stages ───────────────────────────────────────────────────────────────────────────────────────────────────────


class _Stage:
    def __init__(self, config: PretrainConfig, peers: Peers = ALONE):
        self.config, self.peers, self.out = config, peers, Path(config.output_model_path)


class EmbeddingsProcessor(_Stage):
    """Voice embeddings → XTTS's speaker table."""

    def run(self) -> dict[str, Any]:
        from embedding_adapter import run_embeddings_stage

        base = read_model(self.config.base_model_path)
        others = [
            clip
            for name in SPLITS[1:]
            if split_csv(self.config.data_dir, name).is_file()
            for clip in read_split(self.config.data_dir, name)
        ]
        return run_embeddings_stage(
            self.config,
            read_split(self.config.data_dir, "train"),
            base,
            choose_device(self.config.device),
            others,
            SPEAKERS_BASE,
        )


class PhonemeModelProcessor(_Stage):
    """Transcripts' words → dictionary, trained grapheme-to-phoneme model, phoneme vocabulary."""

    def run(self) -> dict[str, Any]:
        from phoneme_processor import run_phonemes_stage
        from xtts_ka.georgian.alphabet import words

        counts = Counter(word for clip in training_clips(self.config) for word in words(clip.text))
        if not counts:
            raise UserError(
                f"the transcripts in {self.config.data_dir}/split hold no Georgian word: check their text column"
            )
        metrics = run_phonemes_stage(self.config, counts)
        results = {name: value for name, value in metrics.items() if name != "seconds"}  # a rerun gives the same bytes
        write_pickle(self.out / "phoneme_model_results.pkl", {"schema": 1, **results})
        return metrics


class LanguageModelProcessor(_Stage):
    """Transcripts → extended vocabulary and a small language model over it."""

    def run(self) -> dict[str, Any]:
        return run_language_stage(self.config, training_clips(self.config))


class XTTSModelInitializer(_Stage):
    """Base checkpoint + new vocabulary → new text rows, every other weight untouched, with the proof of it."""

    def run(self) -> dict[str, Any]:
        from xtts_ka.model.text_rows import new_rows, old_logits_change
        from xtts_ka.model.vocabulary import load_tokenizer

        base = read_model(self.config.base_model_path)
        language = read_pickle(self.out / "language_model_results.pkl")
        tokenizer = load_tokenizer(base.vocab_file)
        settings = self.config.xtts_init
        frequencies = language["log_frequencies"] if settings.token_biases else None
        rows = new_rows(
            settings.method, language["new_tokens"], base.gpt_state(), tokenizer, frequencies, self.config.seed
        )
        state = grow_text_rows(base, rows.embedding, rows.head, rows.bias)
        proof = old_logits_change(base, XttsFiles(base.config, state, base.folder), tokenizer)
        untouched = all(state[n] is t or state[n][: len(t)].equal(t) for n, t in base.state.items())
        metrics = {
            "method": settings.method,
            "rows_before": base.text_rows,
            "rows_after": base.text_rows + len(rows.bias),
            "new_rows": len(rows.bias),
            "anchored": rows.anchored,
            "old_weights_untouched": untouched,
            **proof,
        }
        if not (untouched and proof["old_logits_max_change"] <= 1e-4):  # NaN is no proof either
            raise RunError(
                f"the extension changed what the base model says ({proof}): this must not happen; please report it"
            )
        tensors = {"embedding": rows.embedding, "head": rows.head, "bias": rows.bias}
        write_pickle(self.out / "xtts_init_results.pkl", {"schema": 1, **metrics, "rows": tensors_to_bytes(tensors)})
        return metrics

    def initial_model(self, base: XttsFiles) -> XttsFiles:
        """The base model with the new rows, as training starts from it."""
        rows = tensors_from_bytes(read_pickle(self.out / "xtts_init_results.pkl")["rows"])
        return XttsFiles(base.config, grow_text_rows(base, rows["embedding"], rows["head"], rows["bias"]), base.folder)


class XTTSPretrainer(_Stage):
    """Trains the GPT on the recordings' audio codes, and exports the best checkpoint."""

    def run(self) -> dict[str, Any]:
        from data_loader import open_data
        from xtts_ka.model.checkpoint import load_gpt
        from xtts_ka.model.compact_gpt import CompactGPT
        from xtts_ka.training.gpt_trainer import PretrainLoop, build_accelerator
        from xtts_ka.training.metrics_log import MetricsLog, unfinished_run

        config, peers = self.config, self.peers
        accelerator = build_accelerator(config)
        base = read_model(config.base_model_path)
        checkpoints = self.checkpoints()
        with peers.main_first(
            "data and checkpoints"
        ):  # one process fills the cache and tidies, the others find it done
            data = open_data(config, str(accelerator.device), look=peers.is_main)
            if peers.is_main:
                checkpoints.tidy()
                checkpoints.set_aside_others()
        for line in data.describe() if peers.is_main else ():
            say(line)
        last = checkpoints.last()
        model = CompactGPT(
            load_gpt(XTTSModelInitializer(config).initial_model(base)),
            config.training.dropout,
            config.training.gradient_checkpointing,
        )
        base = (
            base.without_gpt()
        )  # the weights are mapped: a model.pth that is overwritten meanwhile would pull them away
        # A run killed before its first checkpoint begins again in its own log.
        fresh = last is None and unfinished_run(config.log_dir) != checkpoints.run_id
        log = MetricsLog(config.log_dir, fresh=fresh) if peers.is_main else None
        a_step = config.training.accumulation * peers.world
        steps = min(config.max_steps, config.epochs * -(-len(data.train_batches(0)) // a_step))
        loop = PretrainLoop(model, data, checkpoints, log, config, accelerator, steps)
        if last and last.step >= steps:
            say(f"nothing left to train: step {last.step} of {steps} is reached")
        loop.start(last)
        loop.fit()
        del loop, model  # four times the model's size, which the export may need
        return self._export(base, data, checkpoints, log, str(accelerator.device)) if peers.is_main else {}

    def _export(
        self, base: XttsFiles, data: DataManager, checkpoints: CheckpointManager, log: MetricsLog, device: str
    ) -> dict[str, Any]:
        """The best checkpoint in coqui's layout, and the report."""
        from xtts_ka.training.export import export_model, write_report

        config, best = self.config, checkpoints.best() or checkpoints.last()
        facts = {"step": best.step, "val_loss": best.val_loss, "trained_on": stand_ins(config) or "the user's own data"}
        say(f"exporting step {best.step} to {self.out}")
        export_model(config, base, best.weights("ema" if best.has("ema") else "model"), facts, device)
        log.event("finish", step=checkpoints.last().step)
        return write_report(config, log.file, data.train.index.facts, best, stand_ins(config))

    def checkpoints(self) -> CheckpointManager:
        return CheckpointManager(self.config.checkpoint_dir, self.run_id(), self.config.training.keep_checkpoints)

    def run_id(self) -> str:
        """What must be equal for training to carry on from a checkpoint: model, vocabulary and data."""
        files = [
            self.out / "xtts_init_results.pkl",
            self.out / "vocab.json",
            Path(self.config.base_model_path) / "model.pth",
            *(split_csv(self.config.data_dir, name) for name in TRAINING_SPLITS),
        ]
        return hash_value([file_digest(file) for file in files])[:16]

    def has_finished(self) -> bool:
        """Whether the newest checkpoint is the last of its training: what failed or was interrupted came after it."""
        last = self.checkpoints().last()
        total = last.state().get("total_steps") if last else None
        return isinstance(total, int) and last.step >= total


# ── the pipeline ─────────────────────────────────────────────────────────────────────────────────────────────────────


def stand_ins(config: PretrainConfig) -> list[str]:
    """What starter mode made of what this config uses, in words; empty when everything is the user's own."""
    made = [
        (Path(config.base_model_path), "a tiny untrained base model"),
        (Path(config.data_dir) / starter_kit.RECORDINGS, "synthetic espeak-ng speech"),
    ]
    return [what for folder, what in made if (folder / starter_kit.MARK).is_file()]


class PretrainPipeline:
    """Prepares the inputs, then plans and runs the stages under the ledger."""

    def __init__(self, config: PretrainConfig, peers: Peers = ALONE):
        self.asked = self.config = config
        self.peers = peers
        self.ledger = StageLedger(
            Path(config.output_model_path) / "pretrain_progress.json",
            [_looking_again(stage) for stage in self._table()],
        )

    # ── inputs ──

    def missing_inputs(self) -> list[str]:
        """What the pipeline cannot start without, one sentence each with its remedy."""
        config, problems = self.asked, []
        missing = missing_base_files(config.base_model_path)
        if missing:
            problems.append(
                f"base model folder {config.base_model_path} lacks {', '.join(missing)}: fetch it with: "
                f"{FETCH} {config.base_model_path} ({LICENCE})"
            )
        if not has_metadata(config.data_dir):
            problems.append(
                f"{split_csv(config.data_dir, 'train')} does not exist: make it from your recordings with: "
                f"python create_metadata_files.py --source FOLDER --output_dir {config.data_dir}"
            )
        return problems

    def prepare(self) -> None:
        """Make the stand-ins where starter mode is on and inputs are missing; without it, missing inputs are a UserError."""
        tables = [Path(self.asked.data_dir) / DROP_REPORT, *(split_csv(self.asked.data_dir, name) for name in SPLITS)]
        for folder in (
            self.asked.output_model_path,
            self.asked.log_dir,
            self.asked.data_dir,
            Path(self.asked.base_model_path).parent,
            *(table.parent for table in tables),
        ):
            sweep_partials(Path(folder))
        problems = self.missing_inputs()
        if problems and not self.asked.starter.enabled:
            raise UserError("; ".join(problems))
        if problems:
            heading("starter: stand-ins for what is missing")
            starter_kit.make_stand_ins(self.asked)
        self.use_what_is_there()
        for folder in source_roots(self.config.data_dir)[1:]:
            say(f"recordings and embeddings are also read from {folder}")
        for what in stand_ins(self.config):
            warn(
                f"STARTER: this run uses {what}, not the real thing; it shows the pipeline at work and gives no usable voice"
            )

    def use_what_is_there(self) -> None:
        """Take the starter's training length where the base model is the starter's."""
        if (Path(self.asked.base_model_path) / starter_kit.MARK).is_file():
            starter = self.asked.starter
            length = {"max_steps": starter.max_steps, "learning_rate": starter.learning_rate}
            self.config = self.asked.model_copy(update=length)

    # ── stages ──

    def plan(
        self, *, only: str | None = None, force: bool = False, config_path: str = "xtts_pretrain_config.json"
    ) -> list[Decision]:
        """What would run, and why."""
        recordings.look_again()
        return self.ledger.plan(self.config, only=only, force=force, config_path=config_path)

    def run(
        self, decisions: list[Decision], *, before: Callable[[Decision], None] = lambda decision: None, **hooks: Any
    ) -> None:
        """Run the decided stages; call inside `with pipeline.ledger.locked()`. `before` and `after` as `StageLedger.run` has them."""
        write_json(self.ledger.path.with_name("resolved_config.json"), self.config.as_dict())

        def announce(decision: Decision) -> None:
            before(decision)
            if decision.run and decision.stage.name == "full_pretrain" and self._trains_anew(decision):
                # Now, while the record still names the old settings: killed here, the next run comes to the same conclusion.
                XTTSPretrainer(self.config).checkpoints().set_aside_others(everything=True)

        self.ledger.run(self.config, decisions, before=announce, **hooks)

    def _trains_anew(self, decision: Decision) -> bool:
        """Whether training begins at step 0 though there are checkpoints.

        An interrupted training carries on with other settings or recordings: a lower learning rate is the usual remedy. A
        finished one has no step left for them.
        """
        done = self.ledger.status(decision.stage.name) == "done"
        if decision.fixed:
            return done
        changed = self.ledger.changes(decision.stage, self.config) - _CARRIES_ON
        return bool(changed) and (done or XTTSPretrainer(self.config).has_finished())

    def _table(self) -> list[Stage]:
        out = Path(self.asked.output_model_path)

        def files(*names: str):
            return lambda config: [out / name for name in names]

        return [
            Stage(
                "embeddings",
                1,
                ("language",),
                _embeddings_inputs,
                files(SPEAKERS_BASE),
                lambda config: EmbeddingsProcessor(config).run(),
                after=(),
            ),
            Stage(
                "phonemes",
                1,
                ("phonemes", "text.archaic", "seed"),
                _phonemes_inputs,
                files(
                    "g2p_model.pt",
                    "g2p_config.json",
                    "phoneme_dict_ka.json",
                    "phoneme_vocab.pkl",
                    "g2p_mistakes.tsv",
                    "phoneme_model_results.pkl",
                ),
                lambda config: PhonemeModelProcessor(config).run(),
                after=(),
            ),
            Stage(
                "language",
                1,
                ("text", "language_model", "language", "seed"),
                _language_inputs,
                files("vocab.json", "language_model_results.pkl"),
                lambda config: LanguageModelProcessor(config).run(),
                after=(),
            ),
            Stage(
                "xtts_init",
                1,
                ("xtts_init", "seed"),
                _init_inputs,
                files("xtts_init_results.pkl"),
                lambda config: XTTSModelInitializer(config).run(),
                after=("language",),
            ),
            Stage(
                "full_pretrain",
                1,
                (*_TRAINING, "batch_size", "learning_rate", "epochs", "max_steps", "seed"),
                _pretrain_inputs,
                files(
                    "model.pth",
                    "config.json",
                    "dvae.pth",
                    "mel_stats.pth",
                    "speakers_xtts.pth",
                    "xtts_v2_ka_combined.pkl",
                    "xtts_v2_ka_config.json",
                    "REPORT.md",
                ),
                lambda config: XTTSPretrainer(config, self.peers).run(),
            ),
        ]


def _looking_again(stage: Stage) -> Stage:
    """`stage`, behind which recordings are looked at again: they may be edited while it works."""

    def run(config: PretrainConfig) -> dict[str, Any]:
        metrics = stage.run(config)
        recordings.look_again()
        return metrics

    return dataclasses.replace(stage, run=run)


# What each stage reads beside the config and the stages before it, as name → digest.


def _base_inputs(config: PretrainConfig, *names: str) -> dict[str, str]:
    return {f"base model {name}": file_digest(Path(config.base_model_path) / name) for name in names}


def _split_inputs(config: PretrainConfig) -> dict[str, str]:
    return {f"{name} metadata": file_digest(split_csv(config.data_dir, name)) for name in TRAINING_SPLITS}


def _recordings(config: PretrainConfig) -> dict[str, str]:
    return {"recordings": hash_value([recordings.listing(config.data_dir, name).digest for name in TRAINING_SPLITS])}


def _embeddings_inputs(config: PretrainConfig) -> dict[str, str]:
    return {
        **_base_inputs(config, "config.json", "model.pth"),
        **_split_inputs(config),
        **_recordings(config),
        "embeddings": recordings.embeddings_digest(config.data_dir),
    }


def _phonemes_inputs(config: PretrainConfig) -> dict[str, str]:
    lexicons = {
        f"lexicon {path}": file_digest(Path(path)) for path in config.phonemes.lexicon_paths if Path(path).is_file()
    }
    return {**_split_inputs(config), **lexicons}


def _language_inputs(config: PretrainConfig) -> dict[str, str]:
    return {**_base_inputs(config, "vocab.json"), **_split_inputs(config)}


def _init_inputs(config: PretrainConfig) -> dict[str, str]:
    return _base_inputs(config, "config.json", "model.pth", "vocab.json")


def _pretrain_inputs(config: PretrainConfig) -> dict[str, str]:
    return {**_base_inputs(config, *BASE_FILES), **_split_inputs(config), **_recordings(config)}
