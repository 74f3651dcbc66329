"""Fills the feature cache and makes the training indexes from the split tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.digests import file_digest, hash_value
from xtts_ka.core.errors import UserError
from xtts_ka.core.files import sweep_partials
from xtts_ka.corpus import recordings
from xtts_ka.corpus.tables import TRAINING_SPLITS, Row, read_rows, split_csv
from xtts_ka.model.geometry import CODE_STRIDE, SAMPLE_RATE
from xtts_ka.training import feature_cache
from xtts_ka.training.clip_index import VERSION, TrainingIndex, build_index, open_index
from xtts_ka.training.feature_cache import Clip, FeatureCache, clip_key

if TYPE_CHECKING:
    from torch import Tensor

    from xtts_ka.model.checkpoint import XttsArgs

Indexes = tuple[TrainingIndex, TrainingIndex]  # of train and val


def open_indexes(config: PretrainConfig, cache: FeatureCache, args: XttsArgs, look: bool) -> Indexes | None:
    """The indexes that are there; None unless both are, and nothing they depend on has changed."""
    keys = {split: _index_key(config, split, cache, args, look) for split in TRAINING_SPLITS}
    train, val = (open_index(cache.folder, split, key) for split, key in keys.items())
    return (train, val) if train and val else None


def make_indexes(config: PretrainConfig, cache: FeatureCache, args: XttsArgs, device: str) -> Indexes:
    """Compute what the cache lacks, then the indexes that are missing or outdated. Call it under the cache's lock."""
    from xtts_ka.georgian.reading import Reading
    from xtts_ka.model.vocabulary import encode_batch, load_tokenizer

    sweep_partials(cache.folder)
    rows = {split: _keyed_rows(config, split) for split in TRAINING_SPLITS}
    missing = cache.missing([(key, row.audio_path) for pairs in rows.values() for row, key in pairs])
    if missing:
        _fill(config, cache, missing, args, device)
    reading, tokenizer = Reading.of(config.text), load_tokenizer(extended_vocabulary(config))

    def encode(texts: list[str]) -> list[np.ndarray]:
        return [np.array(ids, "<u4") for ids in encode_batch(tokenizer, list(map(reading, texts)), config.language)]

    keys = {split: _index_key(config, split, cache, args, True) for split in TRAINING_SPLITS}
    train, val = (
        open_index(cache.folder, split, key)
        or build_index(cache.folder, split, key, rows[split], cache.find, encode, args)
        for split, key in keys.items()
    )
    return train, val


def _fill(config: PretrainConfig, cache: FeatureCache, missing: list[Clip], args: XttsArgs, device: str) -> None:
    from xtts_ka.corpus.audio import AudioError
    from xtts_ka.corpus.drop_reasons import Drop
    from xtts_ka.model.checkpoint import read_config
    from xtts_ka.model.features import REFLECTED, FeatureExtractor, load_speech

    # A clip that is too long for the model is left out of the index; two codes more are enough to tell. No more is
    # read: an hour of silence in a small FLAC file would fill the memory.
    longest = (args.gpt_max_audio_tokens + 1) * CODE_STRIDE / SAMPLE_RATE

    def load(path: str) -> Tensor:
        speech = load_speech(path, longest)
        if speech.shape[1] <= REFLECTED:  # then there is no mel frame
            seconds = speech.shape[1] / SAMPLE_RATE
            raise AudioError(path, Drop.TOO_SHORT, f"{seconds:.3f} s is no clip; delete its row from the tables")
        return speech

    base = Path(config.base_model_path)
    extractor = FeatureExtractor(base, read_config(base), device, config.dvae_file)
    cache.fill(missing, load, extractor, batch=64 if device.startswith("cuda") else 16)


def _keyed_rows(config: PretrainConfig, split: str) -> list[tuple[Row, int]]:
    """The rows of a table, each with its key in the feature cache."""
    files = recordings.listing(config.data_dir, split).files.tolist()
    return [(row, clip_key(row.file_id, *file)) for row, file in zip(read_rows(config.data_dir, split), files)]


def _index_key(config: PretrainConfig, split: str, cache: FeatureCache, args: XttsArgs, look: bool) -> dict[str, Any]:
    """Everything that an index depends on; look=False leaves the recordings out."""
    from xtts_ka.georgian import text
    from xtts_ka.georgian.reading import Reading
    from xtts_ka.model import vocabulary

    reading = [Path(vocabulary.__file__), *sorted(Path(text.__file__).parent.glob("*.py"))]
    return {
        "version": VERSION,
        "table": file_digest(split_csv(config.data_dir, split)),
        "recordings": recordings.listing(config.data_dir, split).digest if look else None,
        "vocabulary": file_digest(extended_vocabulary(config)),
        "reading": hash_value([file_digest(file) for file in reading]),  # the code that makes tokens of a text
        "archaic": config.text.archaic,
        "abbreviations": hash_value(Reading.of(config.text).facts()["abbreviations"]),
        "language": config.language,
        "limits": [args.gpt_max_text_tokens - 1, args.gpt_max_audio_tokens - 1],
        "cache": cache.state(),
    }


def extended_vocabulary(config: PretrainConfig) -> Path:
    """Where the language stage has written its vocabulary; UserError if it has not."""
    file = Path(config.output_model_path) / "vocab.json"
    if not file.is_file():
        raise UserError(f"{file} does not exist: run python run_pretrain.py first (the language stage writes it)")
    return file


def feature_key(config: PretrainConfig) -> str:
    """Digest of everything but the recordings that the cached features depend on."""
    files = {"dvae.pth": config.dvae_file, "mel_stats.pth": Path(config.base_model_path) / "mel_stats.pth"}
    weights = {name: file_digest(file) for name, file in files.items()}
    return hash_value({"version": feature_cache.VERSION, "sample_rate": SAMPLE_RATE, **weights})
