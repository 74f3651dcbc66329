"""Why a row of a corpus is dropped: the words in the column `reason` of split/drop_report.csv.

Search the module named below for `Drop.NAME`: it stands on the line that decides. The report also lists rows that are
kept but suspected: `suspect_speaker` (decided in model/voice_space.py), `surprising_transcript` (odd_transcripts.py).
"""

from enum import StrEnum


class Drop(StrEnum):
    # decided in metadata.py
    BAD_ROW = "bad_row"  # the line cannot be read (formats.py says why), or its name or text cannot be stored
    OUTSIDE_SOURCE = "outside_source"  # the path, links followed, leads out of the source folder
    DUPLICATE_ID = "duplicate_id"  # an earlier row names the same file
    EMPTY_TEXT = "empty_text"  # nothing is left to speak after normalising
    NON_GEORGIAN_TEXT = "non_georgian_text"  # fewer Georgian letters than --min_georgian_fraction
    TOO_SHORT = "too_short"  # below --min_seconds
    CLIPPED_AUDIO = "clipped_audio"  # more samples at full scale than --max_clipped_fraction
    HELD_OUT_SENTENCE = "held_out_sentence"  # of a speaker kept from training; a training speaker says it too
    DUPLICATE_AUDIO = "duplicate_audio"  # the same samples as an earlier recording
    # decided in audio.py
    MISSING_AUDIO = "missing_audio"
    UNREADABLE_AUDIO = "unreadable_audio"  # not audio, damaged, or shorter than its header says
    EMPTY_AUDIO = "empty_audio"  # no samples (audio.py), or nothing but silence (metadata.py)
    NON_FINITE_AUDIO = "non_finite_audio"  # NaN or infinite samples
    TOO_LONG = "too_long"  # above --max_seconds
