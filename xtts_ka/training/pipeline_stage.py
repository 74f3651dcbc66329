"""What the pipeline's stages have in common: where they write, and digests of what they read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.core.digests import file_digest, hash_value
from xtts_ka.core.stage_ledger import Decision, Stage, StageLedger
from xtts_ka.core.torch_settings import describe_device
from xtts_ka.corpus import recordings, tables
from xtts_ka.training.checkpoint_folders import part_folder
from xtts_ka.training.checkpoint_manager import CheckpointManager
from xtts_ka.training.process_group import ALONE, Peers

if TYPE_CHECKING:
    from accelerate import Accelerator


class PipelineStage(Stage):
    """A stage that writes `files` into the model's folder, `out`. peers: the processes that share the training."""

    files: ClassVar[tuple[str, ...]]

    def __init__(self, config: PretrainConfig, peers: Peers = ALONE):
        super().__init__(config)
        self.peers, self.out = peers, Path(config.output_model_path)

    def outputs(self) -> list[Path]:
        return [self.out / name for name in self.files]

    def accelerator(self) -> Accelerator:
        """The device and precision of a training, said by the main process."""
        from xtts_ka.training.gpt_trainer import build_accelerator

        accelerator = build_accelerator(self.config)
        if self.peers.is_main:
            precision = "bf16" if accelerator.mixed_precision == "bf16" else "float32"
            say(f"device      {describe_device(accelerator.device, precision, self.peers.world)}")
        return accelerator

    def training_clips(self) -> list[tables.Clip]:
        """Train and validation clips: what every stage may learn from (the test split stays unseen)."""
        return [clip for name in tables.TRAINING_SPLITS for clip in tables.read_split(self.config.data_dir, name)]

    def base_digests(self, *names: str) -> dict[str, str]:
        return {f"base model {name}": file_digest(Path(self.config.base_model_path) / name) for name in names}

    def table_digests(self) -> dict[str, str]:
        csv = {name: tables.split_csv(self.config.data_dir, name) for name in tables.TRAINING_SPLITS}
        return {f"{name} metadata": file_digest(file) for name, file in csv.items()}

    def abbreviations_digest(self) -> dict[str, str]:
        table = self.config.text.abbreviations
        return {f"abbreviations {table}": file_digest(Path(table))} if table and Path(table).is_file() else {}

    def recordings_digest(self) -> dict[str, str]:
        listings = [recordings.listing(self.config.data_dir, name).digest for name in tables.TRAINING_SPLITS]
        return {"recordings": hash_value(listings)}


class PartStage(PipelineStage):
    """The training of a part beside the GPT; which stage it is, is also its section of the config."""

    def inputs(self) -> dict[str, str]:
        return {
            **self.base_digests("model.pth", "dvae.pth", "mel_stats.pth"),
            **self.table_digests(),
            **self.recordings_digest(),
        }

    def before_run(self, ledger: StageLedger, decision: Decision) -> None:
        """Set the checkpoints aside where a finished training must start at step 0, as XTTSPretrainer does."""
        changed = bool(ledger.changes(self) - {f"{self.name}.max_steps"})
        if ledger.record(self.name).status == "done" and (decision.fixed or changed):
            folder = part_folder(self.config.checkpoint_dir, self.name)
            CheckpointManager(folder, "none", self.config.training.keep_checkpoints).set_aside_others(everything=True)
