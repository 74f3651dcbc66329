"""Finds the faults for which XTTS is known in one spoken clip, from what a listener heard and from the sound.

docs/evaluation.md defines each fault and gives the precision and recall measured with planted ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

import numpy as np
from rapidfuzz import fuzz

from xtts_ka.recognition.letter_alignment import Alignment, align

KINDS = ("babble", "repetition", "skipped", "no_stop", "silence")

MISSING_SHARE = 0.6  # of a word's letters, or more: the word was skipped
SHORTEST_WORD = 2  # letters; a single letter is too easily misheard
SHORTEST_RUN = 3  # added letters that are no mishearing any more
LONE_RUN = 4  # added letters at the end that are babble
SAME = 70.0  # percent of the letters that added ones share with their neighbours, or more: a repetition
LONGEST_PAUSE = 1.0  # seconds; longer is silence

FRAME_SECONDS = 0.02
QUIET_DB = -40.0  # of the clip's loud frames (their 95th percentile): quieter frames are a pause
INAUDIBLE_DB = -55.0  # of full scale; a clip whose loud frames are quieter is silent


def find_faults(expected: str, heard: str, *, pause: float, stopped: bool) -> frozenset[str]:
    """The KINDS of fault in one clip.

    expected, heard: letters and single spaces. pause: its `longest_pause`. stopped: whether the model ended the clip
    itself, rather than at the limit of its length.
    """
    letters, said = expected.replace(" ", ""), heard.replace(" ", "")
    found = _added_faults(letters, said, alignment := align(letters, said))
    if skipped_words(expected, alignment):
        found.add("skipped")
    if not stopped:
        found.add("no_stop")
    if pause > LONGEST_PAUSE:
        found.add("silence")
    return frozenset(found)


def skipped_words(expected: str, alignment: Alignment) -> list[str]:
    """The words of `expected` of which most letters were not heard at all. A misheard word is not skipped."""
    words, letters = expected.split(), expected.replace(" ", "")
    ends = list(accumulate(map(len, words)))
    missing = np.array(alignment.pairs) < 0
    share = np.zeros(len(words))
    for lost in _placements(letters, missing):
        share = np.maximum(share, [lost[end - len(word) : end].mean() for word, end in zip(words, ends)])
    return [word for word, part in zip(words, share) if len(word) >= SHORTEST_WORD and part >= MISSING_SHARE]


def sound_letters(expected: str, heard: str) -> int:
    """How many letters of `heard`, spaces not counted, say the words before the first that was skipped or repeated.

    One word less than that, as what went wrong may have begun in it.
    """
    alignment = align(expected.replace(" ", ""), heard.replace(" ", ""))
    lost = np.flatnonzero(np.array(alignment.pairs, int) < 0)
    lost_in_a_row = lost[:-1][np.diff(lost) == 1].tolist()
    added = [place for place, start, end in alignment.added if end - start >= SHORTEST_RUN]
    trouble = min([*lost_in_a_row, *added], default=len(alignment.pairs))
    before = [end for end in accumulate(map(len, expected.split())) if end <= trouble][:-1]
    return max(alignment.pairs[: before[-1]]) + 1 if before else 0


def _placements(letters: str, missing: np.ndarray) -> Iterator[np.ndarray]:
    """`missing`, and with each of its runs moved to where it might as well be.

    Where "ათას სამას სამოცდა" lacks its second word, the alignment may find "ას სამ" missing instead: equally cheap.
    """
    yield missing
    edges = np.flatnonzero(np.diff(np.concatenate([[0], missing.astype(int), [0]])))
    for start, end in edges.reshape(-1, 2):
        for step in (-1, 1):
            a, b = start, end
            while _free(letters, missing, a, b, step):
                a, b = a + step, b + step
                moved = missing.copy()
                moved[start:end] = False
                moved[a:b] = True
                yield moved


def _free(letters: str, missing: np.ndarray, start: int, end: int, step: int) -> bool:
    """Whether the run can move one letter on: the letter it takes in is the one it gives back."""
    taken, given = (start - 1, end - 1) if step < 0 else (end, start)
    return 0 <= taken < len(letters) and letters[taken] == letters[given] and not missing[taken]


def _added_faults(letters: str, said: str, alignment: Alignment) -> set[str]:
    """Babble and repetition: letters that were heard where the text has none."""
    found = set()
    for position, start, end in alignment.added:
        if end - start < SHORTEST_RUN:
            continue
        if _repeats(said, start, end):
            found.add("repetition")
        elif position == len(letters) and end - start >= LONE_RUN:
            found.add("babble")
    return found


def _repeats(said: str, start: int, end: int) -> bool:
    """Whether said[start:end] belongs to something that is said twice in a row.

    The run may be any rotation of what is doubled, and a letter shorter or longer where one of the two was misheard. So
    each pair of neighbouring pieces of about its length is compared that overlaps the run or touches it.
    """
    for length in (end - start, end - start + 1, end - start - 1):
        for middle in range(max(start - 1, length), min(end + 1, len(said) - length) + 1):
            if (
                length >= SHORTEST_RUN
                and fuzz.ratio(said[middle - length : middle], said[middle : middle + length]) >= SAME
            ):
                return True
    return False


def longest_pause(loudness: np.ndarray, seconds: float = FRAME_SECONDS) -> float:
    """The seconds of the longest stretch without sound, at the ends too; all of a clip in which nothing is audible.

    loudness: dB of full scale of each frame; seconds: of a frame.
    """
    loud = np.quantile(loudness, 0.95) if len(loudness) else -np.inf
    if loud < INAUDIBLE_DB:
        return max(len(loudness) * seconds, LONGEST_PAUSE + seconds)
    sounding = np.flatnonzero(loudness > loud + QUIET_DB)
    edges = np.concatenate([[-1], sounding, [len(loudness)]])
    return float((np.diff(edges) - 1).max() * seconds)


def sounding_seconds(wave: np.ndarray, rate: int) -> float:
    """Seconds between the first and the last sound of a clip: what a speaking rate is counted over."""
    loudness = wave_loudness(wave, rate)
    if not len(loudness) or np.quantile(loudness, 0.95) < INAUDIBLE_DB:
        return 0.0
    sounding = np.flatnonzero(loudness > np.quantile(loudness, 0.95) + QUIET_DB)
    return float((sounding[-1] - sounding[0] + 1) * FRAME_SECONDS)


def wave_loudness(wave: np.ndarray, rate: int) -> np.ndarray:
    """dB of full scale of each frame of FRAME_SECONDS; wave: float32 mono in [-1, 1]."""
    size = round(FRAME_SECONDS * rate)
    frames = wave[: len(wave) // size * size].reshape(-1, size)
    return 10 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-12)
