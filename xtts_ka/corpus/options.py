"""What counts as a usable clip, and how clips are split: the settings of create_metadata_files.py."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

from xtts_ka.core.errors import UserError


def _option(default: float | None, help: str, at_most: float = math.inf, at_least: float = 0.0) -> Any:
    return field(default=default, metadata={"help": help, "at_most": at_most, "at_least": at_least})


MOST_CANCELLED = 20.0  # dB
UNNAMED = ("auto", "one", "folders", "unknown")


@dataclass(frozen=True)
class MetadataOptions:
    """An impossible value is a UserError."""

    min_seconds: float = _option(0.5, "shortest clip kept")
    max_seconds: float = _option(28.0, "longest clip kept; the model holds 28 s of speech", at_most=600)
    max_clipped_fraction: float = _option(0.01, "largest share of samples at full scale or in flat tops", at_most=1)
    min_georgian_fraction: float = _option(0.5, "smallest share of Georgian letters in a text kept", at_most=1)
    max_drop_fraction: float = _option(0.5, "no table is written where more would be dropped", at_most=1)
    val_fraction: float = _option(0.05, "share of the sentences kept for validation", at_most=0.9)
    test_fraction: float = _option(0.05, "share of the sentences kept for the final test", at_most=0.9)
    eval_clips: float = _option(1000, "validation and test take no more sentences than give about so many clips")
    # Of the quality, measured where `quality` is true. None: no clip is dropped by it.
    min_speech_seconds: float | None = _option(0.1, "least speech in a clip kept")
    min_speech_share: float | None = _option(None, "smallest share of speech in what is read of a clip", at_most=1)
    max_silence: float | None = _option(None, "longest silence before or after the speech, in seconds")
    min_loudness: float | None = _option(None, "lowest loudness in LUFS", at_most=0, at_least=-100)
    max_offset: float | None = _option(None, "largest distance of the samples' mean from zero", at_most=1)
    max_cancelled: float | None = _option(MOST_CANCELLED, "most dB by which the mix may be weaker than its channels")
    min_bandwidth: float | None = _option(None, "lowest bandwidth in Hz")
    min_snr: float | None = _option(None, "lowest ratio of speech to noise in dB", at_least=-10)
    min_dnsmos: float | None = _option(None, "lowest DNSMOS, 1 to 5; with the extra dnsmos", at_most=5)
    max_rate_ratio: float | None = _option(None, "how many times faster or slower than its speaker a clip may be")
    max_cer: float | None = _option(None, "largest share of letters heard otherwise, with --check_transcripts")
    min_voice_similarity: float | None = _option(
        None, "lowest likeness to its speaker's clips, with --base_model", at_most=1, at_least=-1
    )
    loudness: float | None = _option(
        None, "level clips to so many LUFS when they are read; -23 is usual", at_most=-5, at_least=-60
    )
    archaic: str = "respell"  # of the letters ჱ ჲ ჳ ჴ ჵ: respell or keep
    copy: bool = False  # copy the clips that are kept into audio/ beside each table
    official_splits: str = "respect"  # of corpora that have them: respect, or pool and split all clips alike
    join_speakers: bool = False  # whether one name in several sources is one person
    unnamed_speakers: str = "auto"  # who speaks where nothing names a speaker; see formats/layout.py: Corpus.voice
    quality: bool = False  # whether the recordings' quality is measured
    dnsmos: bool = True  # whether DNSMOS is part of that, where its extra is installed: it takes most of the time
    trim: bool = True  # whether silence at the ends of what was measured is left out in reading

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            if not spec.metadata or value is None:
                continue
            least, most = spec.metadata["at_least"], spec.metadata["at_most"]
            if not least <= value <= most:  # a NaN fails too
                raise UserError(f"{spec.name} is {value}: it must lie between {least:g} and {most:g}")
        if self.archaic not in ("respell", "keep"):
            raise UserError(f"archaic is {self.archaic!r}: it must be respell or keep")
        if self.official_splits not in ("respect", "pool"):
            raise UserError(f"official_splits is {self.official_splits!r}: it must be respect or pool")
        if self.unnamed_speakers not in UNNAMED:
            raise UserError(
                f"unnamed_speakers is {self.unnamed_speakers!r}: it must be {', '.join(UNNAMED[:-1])} or unknown"
            )
        if self.min_seconds >= self.max_seconds:
            raise UserError(f"min_seconds {self.min_seconds:g} is not below max_seconds {self.max_seconds:g}")
        if self.val_fraction + self.test_fraction >= 1:
            raise UserError("val_fraction and test_fraction leave nothing to train on: keep the sum below 1")
