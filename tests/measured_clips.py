"""Four measured clips of one model, heard by a listener "l": one right, two wrong with faults, one without a voice."""

from xtts_ka.evaluation.character_errors import count_errors
from xtts_ka.evaluation.figures import Measured


def clip(expected: str, heard: str, voice: str = "ეკა", kind: str = "short", faults=(), **more) -> Measured:
    facts = {"similarity": 0.5, "nearest": "ეკა", "dnsmos": None, "seconds_taken": 1.0, "rate": 12.0, "seconds": 2.0}
    return Measured(
        model="m", voice=voice, kind=kind, text=expected, expected=expected, seed=1, wav_key="k", heard={"l": heard},
        errors={"l": count_errors(expected, heard)}, faults={"l": frozenset(faults)}, stopped=True, codes=5,
        **(facts | more),
    )  # fmt: skip


CLIPS = [
    clip("მზე", "მზე"),
    clip("დილა", "დიმა", voice="დათო", faults={"babble"}),
    clip("კარგი დარი", "კარგი", kind="long", faults={"skipped", "no_stop"}, rate=None),
    clip("მზე", "მზე", similarity=None, nearest=None),
]
