"""What the stand-in base is: its languages, and how large its networks are.

All networks are XTTS's with fewer channels; the GPT also has fewer layers. Everything else (codes, mel bands, sequence
layout, width of a speaker embedding) is as released.
"""

from __future__ import annotations

LANGUAGES = ("es", "it", "pl", "cs", "hu", "tr", "de", "nl", "ru", "hi")  # ids as in XTTS
GPT = {"layers": 6, "model_dim": 256, "heads": 4}
DVAE = {"hidden": 128, "codebook_dim": 64}
DECODER = {"widths": [256, 128, 48, 24, 12], "kernels": [3, 7]}
SPEAKER_ENCODER = {"filters": [8, 16, 32, 64]}
