"""The measures of a recording's quality: their columns in the split tables, their limits, the reasons they lead to.

Beyond its usual limit a clip is suspected; beyond the limit that its option sets (create_metadata_files.py), it is
dropped. The options are off, but for those that drop what nobody would train on. Where the usual limits come from:
docs/experiments.md, "Quality of recordings".
"""

from __future__ import annotations

from typing import NamedTuple

from xtts_ka.corpus.drop_reasons import Flaw


class Measure(NamedTuple):
    """column: in the tables; option: of MetadataOptions, which limits it; low: whether small values are bad."""

    column: str
    option: str
    flaw: Flaw
    usual: float
    low: bool
    title: str
    unit: str
    about: str  # how it is measured, for the report

    def beyond(self, value: float | None, limit: float | None) -> bool:
        """Whether a value that is known is worse than a limit that is set."""
        if value is None or limit is None:
            return False
        return value < limit if self.low else value > limit


class Finding(NamedTuple):
    """What a check has found of a clip. remark: what it heard or compared; suspect: its own verdict, or None."""

    file_id: str
    column: str
    value: float
    remark: str = ""
    suspect: bool | None = None


MEASURES = (
    Measure("speech_share", "min_speech_share", Flaw.LITTLE_SPEECH, 0.3, True, "speech", "of the clip read",
            "the share of what is read in which silero-vad hears somebody speak"),
    Measure("silence_start", "max_silence", Flaw.LONG_SILENCE, 3.0, False, "silence before the speech", "s",
            "until silero-vad hears somebody speak; trimmed in reading where nothing else is heard"),
    Measure("silence_end", "max_silence", Flaw.LONG_SILENCE, 3.0, False, "silence after the speech", "s",
            "after the last that silero-vad hears; trimmed in reading where nothing else is heard"),
    Measure("loudness", "min_loudness", Flaw.TOO_QUIET, -42.0, True, "loudness", "LUFS",
            "integrated loudness of EBU R128 (ITU-R BS.1770-4)"),
    Measure("clipped_share", "max_clipped_fraction", Flaw.CLIPPED, 0.001, False, "clipped samples", "of all",
            "samples at full scale, or in flat tops below it (clipped, then turned down), over all channels; "
            "not found: soft clipping, and clipping that a lossy codec or another sample rate has bent"),
    Measure("offset", "max_offset", Flaw.OFFSET, 0.02, False, "constant offset (DC)", "of full scale",
            "the distance of the samples' mean from zero"),
    Measure("cancelled", "max_cancelled", Flaw.CHANNELS_CANCEL, 6.0, False, "cancelled channels", "dB",
            "how much weaker the mix is than its channels: 0 for equal channels, 3 for unlike ones"),
    Measure("bandwidth", "min_bandwidth", Flaw.NARROW_BAND, 9500.0, True, "bandwidth", "Hz",
            "the highest frequency within 55 dB of the strongest"),
    Measure("snr", "min_snr", Flaw.NOISY, 15.0, True, "speech over noise", "dB",
            "the power of the frames with speech over that between them"),
    Measure("dnsmos", "min_dnsmos", Flaw.POOR_SOUND, 2.2, True, "DNSMOS", "1–5",
            "how listeners would rate the sound (P.835 overall), as Microsoft's network estimates it"),
    Measure("rate_ratio", "max_rate_ratio", Flaw.ODD_RATE, 1.6, False, "letters a second, against usual ones", "×",
            "the clip's letters per second of speech over the median of its speaker, or its inverse"),
    Measure("cer", "max_cer", Flaw.WRONG_TEXT, 0.5, False, "letters heard otherwise", "of the text",
            "the letters in which the text differs from what a recogniser hears that was not trained on the clip"),
    Measure("voice_similarity", "min_voice_similarity", Flaw.OTHER_VOICE, 0.3, True, "likeness to the speaker",
            "cosine", "of the clip's voice to the mean of its speaker's other clips, by XTTS's speaker encoder"),
)  # fmt: skip
