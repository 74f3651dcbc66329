"""The stand-ins of starter mode: a tiny XTTS in the real file layout, and Georgian speech spoken by espeak-ng.

They exist so that the first command works on a bare machine. They are made only where starter mode is on and the real
thing is missing, are marked as starter in their folders, and are named in the final report.
"""

from __future__ import annotations

from pathlib import Path

from xtts_ka.core.config import BASE_FILES, PretrainConfig
from xtts_ka.core.config import STARTER_MARK as MARK
from xtts_ka.core.console import say
from xtts_ka.core.errors import UserError
from xtts_ka.corpus.metadata import create_metadata, print_report
from xtts_ka.corpus.tables import has_metadata, read_split
from xtts_ka.model.checkpoint import FETCH, missing_base_files
from xtts_ka.starter.base_model import make_base_model
from xtts_ka.starter.speech import read_sentences, speak_corpus

RECORDINGS = "starter_recordings"  # in data_dir


def make_stand_ins(config: PretrainConfig) -> None:
    """Make what is missing of recordings and base model, and say so. What is there already is never touched."""
    data, base = Path(config.data_dir), Path(config.base_model_path)
    if not has_metadata(data):
        recordings = data / RECORDINGS
        if not (recordings / MARK).is_file():
            say(f"no recordings in {data}: speaking {config.starter.clips} Georgian clips with espeak-ng")
            speak_corpus(
                read_sentences(config.starter.sentences), recordings, seed=config.seed, max_clips=config.starter.clips
            )
        print_report(create_metadata(recordings, data, format="coqui"))
    missing = missing_base_files(base)
    if missing and len(missing) < len(BASE_FILES):
        raise UserError(
            f"base model folder {base} lacks {', '.join(missing)}: finish fetching it with {FETCH} {base}, or remove "
            f"the folder to let starter mode make a stand-in"
        )
    if missing:
        say(f"no base model in {base}: making a tiny untrained one in XTTS-v2's file layout")
        clips = read_split(data, "train")[:80]
        make_base_model(base, config.starter, [clip.audio_path for clip in clips], config.seed)


# ── a small vocabulary with every oddity of the real ones ────────────────────────────────────────────────────────────


# ── a tiny base model ────────────────────────────────────────────────────────────────────────────────────────────────
