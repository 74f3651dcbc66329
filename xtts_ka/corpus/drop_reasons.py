"""Why a row of a corpus is dropped, mended or suspected: the column `reason` of split/drop_report.csv.

Its column `action` says which of the three: `dropped` rows are left out; `mended` rows are kept after a change of their
text or path; `suspect` rows are kept as they are and should be looked at. Search the module named below for
`Drop.NAME`: it stands on the line that decides. Later stages add two kinds of suspects: `suspect_speaker`
(model/voice_space.py) and `surprising_transcript` (odd_transcripts.py).
"""

from enum import StrEnum


class Drop(StrEnum):
    # decided in screening.py
    BAD_ROW = "bad_row"  # the line cannot be read (the reader of its layout says why), or it cannot be stored
    OTHER_LANGUAGE = "other_language"  # the corpus itself says that it is not Georgian
    DUPLICATE_ID = "duplicate_id"  # an earlier row names the same file
    EMPTY_TEXT = "empty_text"  # nothing is left to speak after normalising
    NON_GEORGIAN_TEXT = "non_georgian_text"  # fewer Georgian letters than --min_georgian_fraction
    TOO_SHORT = "too_short"  # below --min_seconds
    CLIPPED_AUDIO = "clipped_audio"  # more samples at full scale, or in flat tops, than --max_clipped_fraction
    WRONG_LENGTH = "wrong_length"  # more, or far fewer, letters than anyone speaks in its time
    DUPLICATE_AUDIO = "duplicate_audio"  # the same samples as an earlier recording
    # decided in metadata.py
    HELD_OUT_SENTENCE = "held_out_sentence"  # of a speaker kept from training; a training speaker says it too
    SPARE_EVALUATION = "spare_evaluation"  # of an official val or test split with more clips than --eval_clips
    # decided in transcripts.py
    NOISE_TAG = "noise_tag"  # a mark such as [laughter]: more can be heard than the text says
    UNCLEAR_SPEECH = "unclear_speech"  # a mark such as (*) or <unk>: words that nobody wrote down
    MIXED_SCRIPT = "mixed_script"  # letters of two scripts inside a word, which cannot be mended
    # decided in formats/layout.py
    AMBIGUOUS_AUDIO = "ambiguous_audio"  # the path leads to different recordings, in several archives
    # decided in paths.py
    OUTSIDE_SOURCE = "outside_source"  # the path, links followed, leads out of the source folder
    # decided in audio.py
    MISSING_AUDIO = "missing_audio"
    UNREADABLE_AUDIO = "unreadable_audio"  # not audio, damaged, or shorter than its header says
    EMPTY_AUDIO = "empty_audio"  # no samples (audio.py), or nothing but silence (screening.py)
    NON_FINITE_AUDIO = "non_finite_audio"  # NaN or infinite samples
    TOO_LONG = "too_long"  # above --max_seconds


class Flaw(StrEnum):
    """What is wrong with a recording's quality, by what quality_limits.py measures.

    Rows are dropped beyond the limit that an option sets, and suspected beyond the usual one (quality_judging.py).
    """

    NO_SPEECH = "no_speech"  # nobody speaks in it
    LITTLE_SPEECH = "little_speech"  # most of what is read is no speech
    LONG_SILENCE = "long_silence"  # before or after the speech
    TOO_QUIET = "too_quiet"
    CLIPPED = "clipped"
    OFFSET = "constant_offset"  # the samples' mean is far from zero
    CHANNELS_CANCEL = "channels_cancel"  # the sum of the channels is far weaker than each
    NARROW_BAND = "narrow_band"  # made from a recording of a lower sample rate
    NOISY = "noisy"
    POOR_SOUND = "poor_sound"  # by DNSMOS
    ODD_RATE = "odd_rate"  # far more or fewer letters a second of speech than the speaker's other clips
    WRONG_TEXT = "wrong_text"  # a recogniser hears something else
    OTHER_VOICE = "other_voice"  # unlike the speaker's other clips


class Mending(StrEnum):
    """What was changed in a row that is kept."""

    PATH = "path"  # no file has the path as written; one that fits was taken (screening.py)
    ENTITIES = "entities"  # &quot; and the like (transcripts.py)
    MARKUP = "markup"  # tags that format, marks of pauses, a line's number (transcripts.py)
    HOMOGLYPHS = "homoglyphs"  # Latin, Cyrillic or Greek letters inside a Georgian word (transcripts.py)


class Suspicion(StrEnum):
    """What is odd about a row that is kept."""

    MIXED_SCRIPT = "mixed_script"  # letters of another script before or behind a word (transcripts.py)
    BRACKETS = "brackets"  # text between brackets or other marks, or a stage direction (transcripts.py)
    LABEL = "label"  # a name before a colon at the beginning (transcripts.py)
    OTHER_LANGUAGE = "other_language"  # letters that Georgian does not have (transcripts.py)
    WRONG_SUFFIX = "wrong_suffix"  # the content is of another kind than the name says (screening.py)
    DAMAGED_MP3 = "damaged_mp3"  # the decoder complained about it, and went on (screening.py)
    NO_SPEECH = "no_speech"  # quiet and equally loud throughout (screening.py)
    LONG_SILENCE = "long_silence"  # most of it is silence at the ends (screening.py)
    ODD_LENGTH = "odd_length"  # far more or fewer letters a second than in the corpus' other clips (screening.py)
    VOTED_DOWN = "voted_down"  # more listeners rejected than approved it (formats/tabular.py)
