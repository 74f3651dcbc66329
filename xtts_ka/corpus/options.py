"""What counts as a usable clip, and how clips are split: the settings of create_metadata_files.py."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from xtts_ka.core.errors import UserError


def _option(default: float, help: str, at_most: float = math.inf) -> Any:
    return field(default=default, metadata={"help": help, "at_most": at_most})


@dataclass(frozen=True)
class MetadataOptions:
    """An impossible value is a UserError."""

    min_seconds: float = _option(0.5, "shortest clip kept")
    max_seconds: float = _option(28.0, "longest clip kept; the model holds 28 s of speech", at_most=600)
    max_clipped_fraction: float = _option(0.01, "largest share of full-scale samples in a clip", at_most=1)
    min_georgian_fraction: float = _option(0.5, "smallest share of Georgian letters in a text kept", at_most=1)
    max_drop_fraction: float = _option(0.5, "no table is written where more would be dropped", at_most=1)
    val_fraction: float = _option(0.05, "share of the sentences kept for validation", at_most=0.9)
    test_fraction: float = _option(0.05, "share of the sentences kept for the final test", at_most=0.9)
    eval_clips: float = _option(1000, "validation and test take no more sentences than give about so many clips")
    archaic: str = "respell"  # of the letters ჱ ჲ ჳ ჴ ჵ: respell or keep
    copy: bool = False  # copy the clips that are kept into audio/ beside each table
    official_splits: str = "respect"  # of corpora that have them: respect, or pool and split all clips alike
    join_speakers: bool = False  # whether one name in several sources is one person

    def __post_init__(self) -> None:
        for spec in fields(self):
            value, at_most = getattr(self, spec.name), spec.metadata.get("at_most", math.inf)
            if spec.metadata and not 0 <= value <= at_most:  # a NaN fails too
                raise UserError(f"{spec.name} is {value}: it must lie between 0 and {at_most:g}")
        if self.archaic not in ("respell", "keep"):
            raise UserError(f"archaic is {self.archaic!r}: it must be respell or keep")
        if self.official_splits not in ("respect", "pool"):
            raise UserError(f"official_splits is {self.official_splits!r}: it must be respect or pool")
        if self.min_seconds >= self.max_seconds:
            raise UserError(f"min_seconds {self.min_seconds:g} is not below max_seconds {self.max_seconds:g}")
        if self.val_fraction + self.test_fraction >= 1:
            raise UserError("val_fraction and test_fraction leave nothing to train on: keep the sum below 1")
