"""The pipeline and its stages: embeddings → phonemes → language → xtts_init → full_pretrain, and optional ones.

Each stage's class states the stage's name, what it reads and writes, and calls the code that does the work.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedding_adapter import run_embeddings_stage
from phoneme_processor import OUTPUTS as PHONEME_FILES
from phoneme_processor import run_phonemes_stage, transcript_words
from xtts_ka.core.config import BASE_FILES, PretrainConfig
from xtts_ka.core.console import heading, say, style, warn
from xtts_ka.core.digests import file_digest, hash_value
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.core.files import sweep_partials, write_json
from xtts_ka.core.stage_ledger import Decision, Record, StageLedger
from xtts_ka.core.tensor_files import read_pickle, tensors_from_bytes, tensors_to_bytes, write_pickle
from xtts_ka.core.torch_settings import choose_device
from xtts_ka.corpus import other_languages, recordings, tables
from xtts_ka.corpus.embedding_files import SPEAKERS_FILE
from xtts_ka.model.checkpoint import (
    FETCH,
    LICENCE,
    XttsFiles,
    base_languages,
    grow_text_rows,
    missing_base_files,
    read_model,
    refuse_pointers,
)
from xtts_ka.model.language_stage import RESULTS, VOCABULARY, run_language_stage
from xtts_ka.starter import own_values
from xtts_ka.starter.existing import ignored_settings, refuse_unasked
from xtts_ka.starter.stand_ins import make_stand_ins
from xtts_ka.training import changes
from xtts_ka.training.checkpoint_folders import best_of
from xtts_ka.training.checkpoint_manager import Checkpoint, CheckpointManager
from xtts_ka.training.length import training_length
from xtts_ka.training.pipeline_stage import PartStage, PipelineStage
from xtts_ka.training.process_group import ALONE, Peers

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from data_loader import DataManager
    from xtts_ka.recognition.recogniser import Recogniser
    from xtts_ka.training.metrics_log import MetricsLog

DVAE = "dvae.pth"
SENTENCES = Path(__file__).parent / "data/evaluation_sentences_ka/samples.txt"
SAMPLES = "samples"  # in the model's folder: what the evaluation stage has spoken


class EmbeddingsProcessor(PipelineStage):
    """Voice embeddings or recordings → XTTS's speaker table, with the base model's conditioning latents."""

    name, after = "embeddings", ()
    version = 2  # unknown speakers, such as FLEURS' two genders, give no voice
    reads = ("language",)
    files = (SPEAKERS_FILE,)

    def inputs(self) -> dict[str, str]:
        inputs = self.base_digests("config.json", "model.pth") | self.table_digests() | self.recordings_digest()
        return inputs | {"embeddings": recordings.embeddings_digest(self.config.data_dir)}

    def run(self) -> dict[str, Any]:
        config, data = self.config, self.config.data_dir
        others = [name for name in tables.SPLITS if name != "train" and tables.split_csv(data, name).is_file()]
        unused = [clip for name in others for clip in tables.read_split(data, name)]
        base, device = read_model(config.base_model_path), choose_device(config.device)
        return run_embeddings_stage(config, tables.read_split(data, "train"), base, device, unused)


class PhonemeModelProcessor(PipelineStage):
    """Transcripts' words → dictionary, trained grapheme-to-phoneme model, phoneme vocabulary."""

    name, after = "phonemes", ()
    version = 3  # the second hundred kinds of text; narrow phonemes with ŋ, without final devoicing of fricatives
    reads = ("phonemes", "text.archaic", "text.abbreviations", "seed")
    files = (*PHONEME_FILES, "phoneme_model_results.pkl")

    def inputs(self) -> dict[str, str]:
        lexicons = {f"lexicon {path}": Path(path) for path in self.config.phonemes.lexicon_paths}
        found = {name: file_digest(path) for name, path in lexicons.items() if path.is_file()}
        return {**self.table_digests(), **found, **self.abbreviations_digest()}

    def run(self) -> dict[str, Any]:
        metrics = run_phonemes_stage(self.config, transcript_words(self.config, self.training_clips()))
        results = {name: value for name, value in metrics.items() if name != "seconds"}  # a rerun gives the same bytes
        write_pickle(self.out / "phoneme_model_results.pkl", {"schema": 1, **results})
        return metrics


class LanguageModelProcessor(PipelineStage):
    """Transcripts → extended vocabulary and a small language model over it."""

    name, after = "language", ()
    version = 3  # the character limit follows the texts trained on
    reads = ("text", "language_model", "language", "seed")
    files = (VOCABULARY, RESULTS)

    def inputs(self) -> dict[str, str]:
        return {**self.base_digests("vocab.json"), **self.table_digests(), **self.abbreviations_digest()}

    def run(self) -> dict[str, Any]:
        return run_language_stage(self.config, self.training_clips())


class XTTSModelInitializer(PipelineStage):
    """Base checkpoint + new vocabulary → new text rows; proves that nothing else in the model has changed."""

    name, after = "xtts_init", ("language",)
    reads = ("xtts_init", "seed")
    files = ("xtts_init_results.pkl",)

    def inputs(self) -> dict[str, str]:
        return self.base_digests("config.json", "model.pth", "vocab.json")

    def run(self) -> dict[str, Any]:
        from xtts_ka.model.text_rows import new_rows, old_logits_change
        from xtts_ka.model.vocabulary import load_tokenizer

        base = read_model(self.config.base_model_path)
        language = read_pickle(self.out / RESULTS)
        tokenizer = load_tokenizer(base.vocab_file)
        settings, seed = self.config.xtts_init, self.config.seed
        frequencies = language["log_frequencies"] if settings.token_biases else None
        rows = new_rows(settings.method, language["new_tokens"], base.gpt_state(), tokenizer, frequencies, seed)
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
            raise RunError(f"the extension changed what the base model says ({proof}): please report this fault")
        tensors = {"embedding": rows.embedding, "head": rows.head, "bias": rows.bias}
        write_pickle(self.out / "xtts_init_results.pkl", {"schema": 1, **metrics, "rows": tensors_to_bytes(tensors)})
        return metrics

    def initial_model(self, base: XttsFiles) -> XttsFiles:
        """The base model with the new rows, as training starts from it."""
        rows = tensors_from_bytes(read_pickle(self.out / "xtts_init_results.pkl")["rows"])
        return XttsFiles(base.config, grow_text_rows(base, rows["embedding"], rows["head"], rows["bias"]), base.folder)


class XTTSPretrainer(PipelineStage):
    """Trains the GPT on the recordings' audio codes, and exports the best checkpoint."""

    name = "full_pretrain"
    reads = (
        *changes.TRAINING,
        "replay_dir",
        "batch_seconds",
        "batch_size",
        "learning_rate",
        "epochs",
        "max_steps",
        "seed",
    )
    _coqui = "model.pth config.json dvae.pth mel_stats.pth speakers_xtts.pth".split()
    files = (*_coqui, "xtts_v2_ka_combined.pkl", "xtts_v2_ka_config.json", "REPORT.md", "README.md")

    def inputs(self) -> dict[str, str]:
        own = {**self.base_digests(*BASE_FILES), **self.table_digests(), **self.recordings_digest()}
        by_cer = {changes.BY_CER: "cer"} if self.config.training.best_by == "cer" else {}
        return {**own, **self.replay_digest(), **by_cer}

    def outputs(self) -> list[Path]:
        """Without `dvae.pth` where the dvae stage writes it."""
        return [file for file in super().outputs() if not (file.name == DVAE and self.config.dvae.enabled)]

    def replay_digest(self) -> dict[str, str]:
        if self.config.replay_dir is None:
            return {}
        languages = base_languages(self.config.base_model_path)
        return {"replay clips": other_languages.listing_digest(self.config.replay_dir, languages)}

    def run(self) -> dict[str, Any]:
        from data_loader import open_data
        from xtts_ka.evaluation.samples import open_samples, training_listener
        from xtts_ka.model.checkpoint import load_gpt
        from xtts_ka.model.compact_gpt import CompactGPT
        from xtts_ka.training.gpt_trainer import PretrainLoop
        from xtts_ka.training.metrics_log import MetricsLog, unfinished_run

        config, peers = self.config, self.peers
        accelerator = self.accelerator()
        base = read_model(config.base_model_path)
        checkpoints = self.checkpoints()
        device = str(accelerator.device)
        data = open_data(config, device, peers if peers.world > 1 else None)
        with peers.main_first("checkpoints"):
            if peers.is_main:
                checkpoints.set_aside_others()
        for line in data.describe() if peers.is_main else ():
            say(line)
        stand_in = own_values.has_stand_in_base(config)
        steps, key = training_length(config, len(data.train_batches(0)), stand_in, told=peers.is_main)
        last = checkpoints.last()
        left = not last or last.step < steps
        with peers.main_first("recogniser"):
            listener = training_listener(config, device, samples=left) if peers.is_main else None
        initializer, settings = XTTSModelInitializer(config), config.training
        model = CompactGPT(load_gpt(initializer.initial_model(base)), settings.dropout, settings.gradient_checkpointing)
        old_rows = base.text_rows
        base = base.without_gpt()  # a copy: the weights are memory-mapped, and model.pth may be overwritten meanwhile
        # A run killed before its first checkpoint starts again in its own log.
        fresh = last is None and unfinished_run(config.log_dir) != checkpoints.run_id
        log = MetricsLog(config.log_dir, fresh=fresh) if peers.is_main else None
        loop = PretrainLoop(model, data, checkpoints, log, config, accelerator, steps, old_rows)
        if log and left:
            loop.sampler = open_samples(config, base, log, device, steps, listener)
        if last and not left:
            say(f"nothing left to train: step {last.step} of {steps} is reached; for more raise {key}")
        loop.start(last)
        loop.fit()
        del loop, model  # four times the model's size, which the export may need
        return self._export(base, data, checkpoints, log, accelerator, key, listener) if log else {}

    def _export(
        self,
        base: XttsFiles,
        data: DataManager,
        checkpoints: CheckpointManager,
        log: MetricsLog,
        accelerator: Accelerator,
        key: str,
        listener: Recogniser | None,
    ) -> dict[str, Any]:
        """Write the best checkpoint in coqui's layout, and the report. key: of the config, limits the training."""
        from xtts_ka.training.export import export_model, write_card, write_report

        config, last, device = self.config, checkpoints.last(), str(accelerator.device)
        best, candidates = self._best(base, checkpoints, log, device, listener)
        assert last  # training ends with a checkpoint
        made = own_values.described(config)
        facts = {"step": best.step, "val_loss": best.val_loss, "trained_on": made or "the user's own data"}
        say(f"exporting step {best.step} to {self.out}")
        weights = best.present_weights()
        export_model(config, base, weights, facts, device)
        log.event("finish", step=last.step)
        old = self._old_languages(weights, data, checkpoints, accelerator)
        figures = write_report(config, log.file, data.train.index, best, made, key, old, candidates)
        write_card(config, figures)
        return figures

    def _best(
        self, base: XttsFiles, checkpoints: CheckpointManager, log: MetricsLog, device: str, listener: Recogniser | None
    ) -> tuple[Checkpoint, list[dict[str, Any]]]:
        """The checkpoint to export, and where they were heard, what was measured of the kept ones, the best first."""
        kept = checkpoints.checkpoints()
        if self.config.training.best_by == "cer":
            from xtts_ka.evaluation.candidates import choose_by_cer

            assert listener  # best_by cer trains it
            heard = choose_by_cer(self.config, base, kept, listener, device)
            candidates = [candidate.facts() for candidate in heard]
            log.event("choice", by="cer", step=heard[0].checkpoint.step, listener=listener.name, candidates=candidates)
            return heard[0].checkpoint, candidates
        return best_of(kept) or kept[-1], []

    def _old_languages(
        self, weights: dict[str, Tensor], data: DataManager, checkpoints: CheckpointManager, accelerator: Accelerator
    ) -> dict[str, Any]:
        """What training did to the base model's languages, for the report; nothing if that model is no longer there."""
        from xtts_ka.training.old_languages import largest_changes, measure_losses

        if self.run_id() != checkpoints.run_id:
            warn("the base model or the data changed during training: old languages are not compared")
            return {}
        base = read_model(self.config.base_model_path)
        figures: dict[str, Any] = {"old_rows": largest_changes(base, weights)}
        if self.config.replay_dir is not None:
            figures["old_languages"] = measure_losses(self.config, base, [weights], data, accelerator)
        return figures

    def checkpoints(self) -> CheckpointManager:
        return CheckpointManager(self.config.checkpoint_dir, self.run_id(), self.config.training.keep_checkpoints)

    def before_run(self, ledger: StageLedger, decision: Decision) -> None:
        """Set the checkpoints aside where training must start at step 0: asked for by name, or with other inputs.

        An interrupted training carries on with other settings or recordings, since a lower learning rate is the usual
        remedy. A finished training has no steps left to apply them to. Done before the record has the new settings:
        after a kill here, the next run decides the same.
        """
        if self._begins_anew(ledger, decision):
            self.checkpoints().set_aside_others(everything=True)

    def _begins_anew(self, ledger: StageLedger, decision: Decision) -> bool:
        done = ledger.record(self.name).status == "done"
        recorded = ledger.record(self.name).fingerprint.config
        changed = bool(
            ledger.changes(self) - changes.CARRIES_ON - changes.new_defaults(recorded, self.config, self.reads)
        )
        return done if decision.fixed else changed and (done or self._has_finished())

    def outlook(self, ledger: StageLedger, decision: Decision) -> list[str]:
        """Where training would begin, and which recordings would be encoded; nothing is written."""
        from xtts_ka.training.outlook import outlook

        if not decision.run or not all(file.is_file() for file in self._identity_files()):
            return []
        return outlook(self.config, self.checkpoints().last(), self._begins_anew(ledger, decision))

    def run_id(self) -> str:
        """Digest of what must be equal for training to carry on from a checkpoint: model, vocabulary and data."""
        return hash_value([file_digest(file) for file in self._identity_files()])[:16]

    def _identity_files(self) -> list[Path]:
        base = Path(self.config.base_model_path) / "model.pth"
        csv = (tables.split_csv(self.config.data_dir, name) for name in tables.TRAINING_SPLITS)
        own = [Path(table)] if (table := self.config.text.abbreviations) else []
        own += [self.config.dvae_file] if self.config.dvae.enabled else []
        return [self.out / "xtts_init_results.pkl", self.out / VOCABULARY, base, *csv, *own]

    def _has_finished(self) -> bool:
        """Whether the newest checkpoint is the last of its training: only the export is left to do."""
        last = self.checkpoints().last()
        return last is not None and last.step >= last.state().get("total_steps", math.inf)


class DvaeTrainer(PartStage):
    """Tunes the DVAE on the recordings: audio codes that hold more of them, and that the GPT must still know."""

    name, after = "dvae", ()
    reads = ("dvae", "seed", *changes.PARTS)
    files = (DVAE,)

    def run(self) -> dict[str, Any]:
        from xtts_ka.training.dvae_trainer import run_dvae_stage

        return run_dvae_stage(self.config, read_model(self.config.base_model_path), self.accelerator(), self.peers)


class DecoderTrainer(PartStage):
    """Tunes the decoder on the trained GPT's latents, and puts it into the exported model."""

    name, after = "decoder", ("full_pretrain",)
    reads = ("decoder", "seed", *(key for key in changes.PARTS if key != "training.clip_norm"))
    files = ("decoder.pth",)

    def amends(self) -> list[Path]:
        return [self.out / name for name in ("model.pth", "xtts_v2_ka_combined.pkl")]

    def run(self) -> dict[str, Any]:
        from data_loader import open_data
        from xtts_ka.training.decoder_trainer import run_decoder_stage

        accelerator = self.accelerator()
        data = open_data(self.config, str(accelerator.device), self.peers if self.peers.world > 1 else None)
        return run_decoder_stage(self.config, data, accelerator, self.peers)


class Evaluation(PipelineStage):
    """Speaks five sentences with the exported model, listens to them, and writes the report page."""

    name, after = "evaluation", ("full_pretrain", "decoder")
    reads = ("evaluation.voices", "recogniser", "seed")
    files = (f"{SAMPLES}/sentences.txt",)

    def inputs(self) -> dict[str, str]:
        return {"sentences": file_digest(SENTENCES), **self.table_digests(), **self.recordings_digest()}

    def outputs(self) -> list[Path]:
        return [*super().outputs(), Path(self.config.log_dir) / "evaluation" / "report.html"]

    def run(self) -> dict[str, Any]:
        from xtts_ka.evaluation.final_samples import speak_samples

        return speak_samples(self.config, SENTENCES, self.out / SAMPLES)


# ── the pipeline ─────────────────────────────────────────────────────────────────────────────────────────────────────

STAGE_CLASSES: tuple[type[PipelineStage], ...] = (EmbeddingsProcessor, PhonemeModelProcessor, LanguageModelProcessor)
STAGE_CLASSES += (XTTSModelInitializer, DvaeTrainer, XTTSPretrainer, DecoderTrainer, Evaluation)


def announce(decision: Decision) -> None:
    """Say which stage runs and why."""
    if decision.run:
        heading(f"{decision.stage.name}: {decision.reason}")
    elif not decision.fixed:
        say(style(f"{decision.stage.name} {decision.reason}", "green"))


class PretrainPipeline:
    """Prepares the inputs, then plans and runs the stages, with the ledger's lock held.

    given: the config as given; config: with what follows from a stand-in base model.
    """

    def __init__(self, config: PretrainConfig, peers: Peers = ALONE):
        self.given, self.config, self.peers = config, config, peers
        record = Path(config.output_model_path) / "pretrain_progress.json"
        self.ledger = StageLedger(record, look_again=recordings.look_again)
        self._settle()

    def _settle(self) -> None:
        """Settle what follows from the base model, and make the stages."""
        self.config = own_values.settled(self.given)
        due = self.config.stages()
        self.ledger.stages = [stage(self.config, self.peers) for stage in STAGE_CLASSES if stage.name in due]

    def missing_inputs(self) -> list[str]:
        """What the pipeline cannot start without, one sentence each with its remedy.

        With starter mode off, missing inputs are a UserError; with it on, `run` makes stand-ins.
        """
        config, problems = self.config, []
        refuse_pointers(config.base_model_path)
        if missing := missing_base_files(config.base_model_path):
            problems.append(
                f"base model folder {config.base_model_path} lacks {', '.join(missing)}: fetch it with: "
                f"{FETCH} {config.base_model_path} ({LICENCE})"
            )
        if not tables.has_metadata(config.data_dir):
            problems.append(
                f"{tables.split_csv(config.data_dir, 'train')} does not exist: make it from your recordings with: "
                f"python create_metadata_files.py --source FOLDER --output_dir {config.data_dir}"
            )
        if problems and not config.starter.enabled:
            raise UserError("; ".join(problems))
        refuse_unasked(config)
        return problems

    def outlook(self, decision: Decision) -> list[str]:
        """What a dry run says of a stage besides whether it runs."""
        stage = decision.stage
        return stage.outlook(self.ledger, decision) if isinstance(stage, XTTSPretrainer) else []

    def check_replay(self) -> None:
        """UserError where replay_dir cannot be measured; nothing is said while the base model is still missing."""
        if self.config.replay_dir is not None and not missing_base_files(self.config.base_model_path):
            from xtts_ka.training.old_languages import check_replay

            check_replay(self.config)

    def _prepare(self) -> None:
        """Delete what killed writers left, and make stand-ins for missing inputs. The lock must be held."""
        config, data = self.config, Path(self.config.data_dir)
        splits = [tables.split_csv(data, name).parent for name in tables.SPLITS]
        written = config.output_model_path, config.log_dir, config.checkpoint_dir
        models = Path(config.base_model_path).parent
        for folder in (*map(Path, written), models, data, (data / tables.DROP_REPORT).parent, *splits):
            sweep_partials(folder)
        if self.missing_inputs():
            heading("starter: stand-ins for what is missing")
            make_stand_ins(config)
            self._settle()
            self.check_replay()
        for source in tables.source_roots(config.data_dir)[1:]:
            say(f"recordings and embeddings are also read from {source}")
        for what in own_values.described(config):
            warn(f"STARTER: this run uses {what}, not the real thing; it demonstrates the pipeline, not a usable voice")
        self.say_length()

    def say_length(self) -> None:
        """Say which of the config's values have no effect, if the base model is the starter's."""
        for line in own_values.explained(self.given):
            say(line)
        for sentence in ignored_settings(self.given):
            warn(sentence)

    def run(
        self,
        stage: str | None = None,
        *,
        before: Callable[[Decision], None] = announce,
        after: Callable[[Decision, Record], None] = lambda decision, record: None,
        **options: Any,
    ) -> None:
        """Take the lock, prepare the inputs, plan, and run what is due: every stage, or only the named one.

        The options are those of `StageLedger.plan`, the hooks those of `StageLedger.run`.
        """
        self.missing_inputs()  # refused before the lock's files are made
        self.check_replay()
        with self.ledger.lock.hold():
            self._prepare()
            decisions = [d for d in self.ledger.plan(**options) if stage in (None, d.stage.name)]
            write_json(self.ledger.path.with_name("resolved_config.json"), self.config.model_dump())
            self.ledger.run(decisions, before=before, after=after)
