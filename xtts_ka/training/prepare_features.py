"""Fills the feature cache and makes the training indexes from the split tables."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import warn
from xtts_ka.core.digests import file_digest, hash_value
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.core.files import sweep_partials
from xtts_ka.core.lock import RunLock
from xtts_ka.core.workers import cores
from xtts_ka.corpus import excerpt, recordings
from xtts_ka.corpus.decoder_warnings import Overheard
from xtts_ka.corpus.tables import TRAINING_SPLITS, Row, read_rows, split_csv
from xtts_ka.model.geometry import CODE_STRIDE, SAMPLE_RATE
from xtts_ka.training import feature_cache
from xtts_ka.training.clip_index import FEATURES, VERSION, TrainingIndex, build_index, open_index
from xtts_ka.training.feature_cache import Clip, FeatureCache, clip_key
from xtts_ka.training.feature_filling import Tools, announce, fill, help_fill

if TYPE_CHECKING:
    from torch import Tensor

    from xtts_ka.model.checkpoint import XttsArgs
    from xtts_ka.training.feature_filling import Extract
    from xtts_ka.training.process_group import Peers

SHARED = "all processes need the same data_dir, on a file system that they share"
Indexes = tuple[TrainingIndex, TrainingIndex]  # of train and val


def open_features(
    config: PretrainConfig, args: XttsArgs, device: str, peers: Peers | None = None
) -> tuple[FeatureCache, Indexes]:
    """Open the cache and the indexes of train and val; what they lack is computed first, on `device`.

    peers: the processes of this job. All call this function once and share the computing; the main one makes the
    indexes.
    """
    if peers and not peers.is_main:
        return _beside_main(config, args, device, peers)
    cache = FeatureCache(Path(config.data_dir) / FEATURES, feature_key(config))
    if indexes := _indexes_there(config, cache, args):
        if peers:
            announce(peers, 0)
    else:
        with RunLock(cache.folder / "cache.lock").hold():
            indexes = _make_indexes(config, cache, args, device, peers)
    if peers:
        peers.tell("indexes", "made")
    return cache, indexes


def _beside_main(config: PretrainConfig, args: XttsArgs, device: str, peers: Peers) -> tuple[FeatureCache, Indexes]:
    with _naming_damaged(filling_tools(config, args, device)) as tools:
        help_fill(tools, peers)
    peers.hear("indexes")
    cache = FeatureCache(Path(config.data_dir) / FEATURES, feature_key(config))
    indexes = _indexes_there(config, cache, args, look=False)  # process 0 has just compared the recordings with them
    if not indexes:
        raise RunError(f"the indexes that process 0 has made in {cache.folder} cannot be seen from here: {SHARED}")
    return cache, indexes


def _indexes_there(config: PretrainConfig, cache: FeatureCache, args: XttsArgs, look: bool = True) -> Indexes | None:
    """None unless both indexes are there, and nothing they depend on has changed."""
    keys = {split: _index_key(config, split, cache, args, look) for split in TRAINING_SPLITS}
    train, val = (open_index(cache.folder, split, key) for split, key in keys.items())
    return (train, val) if train and val else None


def _make_indexes(
    config: PretrainConfig, cache: FeatureCache, args: XttsArgs, device: str, peers: Peers | None
) -> Indexes:
    """Compute what the cache lacks, then the indexes that are missing or outdated. Call it under the cache's lock."""
    from xtts_ka.georgian.reading import Reading
    from xtts_ka.model.vocabulary import encode_batch, load_tokenizer

    sweep_partials(cache.folder)
    rows = {split: _keyed_rows(config, split) for split in TRAINING_SPLITS}
    clips = [Clip(key, str(row.sound), row.duration) for pairs in rows.values() for row, key in pairs]
    with _naming_damaged(filling_tools(config, args, device)) as tools:
        fill(cache, clips, tools, peers)
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


def not_encoded(config: PretrainConfig) -> list[str]:
    """The file_ids of train and val whose recordings are new or have changed since their codes were computed.

    Nothing is written. Empty where codes were never computed, with this DVAE or at all.
    """
    needed = (config.dvae_file, Path(config.base_model_path) / "mel_stats.pth")
    home = Path(config.data_dir) / FEATURES
    if not all(file.is_file() for file in needed) or not (home / feature_key(config)[:16] / "index.bin").is_file():
        return []
    cache = FeatureCache(home, feature_key(config))
    rows = [pair for split in TRAINING_SPLITS for pair in _keyed_rows(config, split)]
    missing = {clip.key for clip in cache.missing([Clip(key, row.audio_path) for row, key in rows])}
    return [row.file_id for row, key in rows if key in missing]


def filling_tools(config: PretrainConfig, args: XttsArgs, device: str) -> Tools:
    """How this config's clips are computed."""
    # A clip that is too long for the model is left out of the index; two codes more are enough to tell. No more is
    # read: an hour of silence in a small FLAC file would fill the memory.
    longest = (args.gpt_max_audio_tokens + 1) * CODE_STRIDE / SAMPLE_RATE

    def load(path: str) -> Tensor:
        from xtts_ka.corpus.audio import AudioError
        from xtts_ka.corpus.drop_reasons import Drop
        from xtts_ka.model.features import REFLECTED, load_speech

        speech = load_speech(excerpt.parse(path), longest)
        if speech.shape[1] <= REFLECTED:  # then there is no mel frame
            seconds = speech.shape[1] / SAMPLE_RATE
            raise AudioError(path, Drop.TOO_SHORT, f"{seconds:.3f} s is no clip; delete its row from the tables")
        return speech

    def make_extractor() -> Extract:
        from xtts_ka.model.checkpoint import read_config
        from xtts_ka.model.features import FeatureExtractor

        base = Path(config.base_model_path)
        return FeatureExtractor(base, read_config(base), device, config.dvae_file)

    on_gpu = device.startswith("cuda")
    clips, seconds = (64, 320.0) if on_gpu else (16, 80.0)
    return Tools(load, make_extractor, clips, seconds, _decoding_threads(on_gpu))


@contextlib.contextmanager
def _naming_damaged(tools: Tools) -> Iterator[Tools]:
    """The tools with a loader that keeps libmpg123's lines from the terminal; at the end, damaged files are named."""
    with Overheard() as overheard:
        yield replace(tools, load=lambda path: overheard.during(tools.load, path))
    if complaints := overheard.complaints():
        first, *others = complaints.items()
        more = f" and {len(others)} more" if others else ""
        warn(f"damaged mp3, of which what can be decoded is used: {first[0]} ({first[1]}){more}")


def _decoding_threads(on_gpu: bool) -> int:
    """This process's share of the machine's cores, less what the extractor needs: one core, or half of them."""
    share = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, share - 1 if on_gpu else share // 2)


def _keyed_rows(config: PretrainConfig, split: str) -> list[tuple[Row, int]]:
    """The rows of a table, each with its key in the feature cache."""
    files = recordings.listing(config.data_dir, split).files.tolist()
    rows = zip(read_rows(config.data_dir, split), files)
    return [(row, clip_key(row.file_id, size, changed, row.cut)) for row, (size, changed) in rows]


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
