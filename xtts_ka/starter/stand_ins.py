"""Makes the stand-ins of starter mode: Georgian speech by espeak-ng, and a small XTTS in the real file layout.

They let the first command work on a bare machine. They are made only where starter mode is on and the real thing is
missing, are marked as starter in their folders, and are named in the final report.
"""

from __future__ import annotations

from pathlib import Path

from xtts_ka.core.config import BASE_FILES, STARTER_MARK, PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.core.errors import UserError
from xtts_ka.corpus.metadata import create_metadata, print_report
from xtts_ka.corpus.tables import has_metadata, read_split
from xtts_ka.model.checkpoint import FETCH, missing_base_files
from xtts_ka.starter.base_model import make_base_model
from xtts_ka.starter.own_values import RECORDINGS
from xtts_ka.starter.speech import read_sentences, speak_corpus
from xtts_ka.starter.trained_base import check_trained_base, make_trained_base

MARK = STARTER_MARK


def make_stand_ins(config: PretrainConfig) -> None:
    """Make what is missing of recordings and base model, and say so. What is there already is never touched."""
    data, base, starter = Path(config.data_dir), Path(config.base_model_path), config.starter
    missing = missing_base_files(base)
    if missing and len(missing) < len(BASE_FILES):
        raise UserError(
            f"base model folder {base} lacks {', '.join(missing)}: finish fetching it with {FETCH} {base}, or remove "
            f"the folder to let starter mode make a stand-in"
        )
    if missing and starter.base == "trained":
        check_trained_base(starter)  # before minutes of speech
    if not has_metadata(data):
        recordings = data / RECORDINGS
        if not (recordings / MARK).is_file():
            say(f"no recordings in {data}: speaking {starter.clips:,} Georgian clips with espeak-ng")
            speak_corpus(read_sentences(starter.sentences), recordings, seed=config.seed, max_clips=starter.clips)
        # Few clips may hold no sentence whose hash lies in the usual twentieth for validation.
        print_report(create_metadata(recordings, data, format="coqui", enough_validation=True))
    if missing and starter.base == "trained":
        say(f"no base model in {base}: writing the small trained stand-in in XTTS-v2's file layout")
        make_trained_base(base, starter)
    elif missing:
        say(f"no base model in {base}: making a tiny untrained one in XTTS-v2's file layout")
        make_base_model(base, starter, [clip.audio_path for clip in read_split(data, "train")[:80]], config.seed)
