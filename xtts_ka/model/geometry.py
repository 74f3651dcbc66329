"""The numbers that describe XTTS-v2: sample rate, strides, and how many positions the released GPT has.

They are those of coqui's `XttsArgs` and `XttsAudioConfig`; nothing else in this project states them.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

SAMPLE_RATE = 22050  # Hz, of the audio that the GPT and the speaker encoder take in
CODE_STRIDE = 1024  # samples per audio code
MEL_HOP = 256  # samples per mel frame
MEL_WINDOW = 1024  # samples
MEL_BANDS = 80  # from 0 to MEL_TOP
MEL_TOP = 8000  # Hz
FRAMES_PER_CODE = CODE_STRIDE // MEL_HOP
FRAMES_PER_SECOND = SAMPLE_RATE / MEL_HOP  # of a mel spectrogram, about 86

DECODER_RATE = 24000  # Hz, of the decoder's wave
DECODER_HOP = 256  # samples of its wave per frame of its input
SPEAKER_RATE = 16000  # Hz, of what the speaker encoder hears
COND_POSITIONS = 32  # vectors that the perceiver makes of a voice sample, the GPT's first positions
SPEAKER_WIDTH = 512  # of a speaker embedding, the decoder's input
MAX_TEXT_TOKENS = 402  # inference accepts fewer than this
MAX_AUDIO_TOKENS = 605
MAX_SPEECH_SECONDS = (MAX_AUDIO_TOKENS - 2) * CODE_STRIDE / SAMPLE_RATE  # 28.0 s: without the start and stop tokens

AUDIO_CODES = 1024  # entries of the DVAE's codebook
START_AUDIO_TOKEN, STOP_AUDIO_TOKEN = AUDIO_CODES, AUDIO_CODES + 1
START_TEXT_TOKEN, STOP_TEXT_TOKEN = 261, 0  # of the released vocabulary

Samples = TypeVar("Samples", int, np.ndarray)


def codes_of(samples: Samples) -> Samples:
    """Audio codes of a clip of so many samples: one for each 1,024 samples begun, as coqui's GPT counts them."""
    return (samples + (CODE_STRIDE - 1)) // CODE_STRIDE  # not -(-n // 1024): lengths are stored as unsigned numbers


def frames_of(samples: Samples) -> Samples:
    """Mel frames of a clip of so many samples: one for each whole 256 samples and one more (centred windows)."""
    return samples // MEL_HOP + 1
