"""Faults planted in text and in noise; real speech with planted faults is in tests/benchmarks/bench_faults.py."""

import numpy as np
import pytest

from xtts_ka.recognition.faults import find_faults, longest_pause, sound_letters, sounding_seconds, wave_loudness

RATE = 24000
SAID = "დღეს კარგი ამინდია და ბავშვები ეზოში თამაშობენ"


def sound(seconds: float, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal(int(seconds * RATE))).astype(np.float32)


def pause(wave: np.ndarray) -> float:
    return longest_pause(wave_loudness(wave, RATE))


def faults(heard: str, expected: str = SAID, wave: np.ndarray | None = None, stopped: bool = True) -> set[str]:
    return set(find_faults(expected, heard, pause=pause(sound(2) if wave is None else wave), stopped=stopped))


@pytest.mark.parametrize(
    "heard, kinds",
    [
        (SAID, set()),
        ("დღეს კარკი ამინდია და ბავშები ეზოში თამაშობენ", set()),  # misheard
        ("დღესკარგი ამინდი ადა ბავშვები ეზოში თამაშობენ", set()),  # spaces in other places
        ("დღეს კარგი და ბავშვები ეზოში თამაშობენ", {"skipped"}),
        ("დღეს კარგი ამინდია და ბავშვები", {"skipped"}),
        ("კარგი ამინდია და ბავშვები ეზოში თამაშობენ", {"skipped"}),
        ("დღეს კარგი კარგი ამინდია და ბავშვები ეზოში თამაშობენ", {"repetition"}),
        ("დღეს კარგი ამინდია და ბავშვები ეზოში თამაშობენ თამაშობენ", {"repetition"}),
        ("დღეს კარგი ამინდია და ბავშვები ეზოში თამაშობენ ეზოში თამაშობენ", {"repetition"}),
        ("დღეს კარგი ამინდია და ბავშვები ეზოში თამაშობენ უგუ რელე", {"babble"}),
        ("დღეს ამინდია და ბავშვები ეზოში თამაშობენ უგუ რელე", {"babble", "skipped"}),
        ("", {"skipped"}),
        ("ლუ რიფ", {"skipped"}),
    ],
)
def test_what_was_heard(heard, kinds):
    assert faults(heard) == kinds


@pytest.mark.parametrize(
    "heard, sound",
    [
        (SAID, "დღეს კარგი ამინდია და ბავშვები ეზოში"),
        ("დღეს კარკი ამინდა და ბავშვები ეზოში", "დღეს კარკი ამინდა და ბავშვები"),  # misheard, and the end is lost
        ("დღეს კარგი ამინდია და ეზოში თამაშობენ", "დღეს კარგი ამინდია"),
        ("დღეს კარგი ამინდია ამინდია და ბავშვები ეზოში თამაშობენ", "დღეს"),
        ("დღეს კარგი ამინდია და ბავშვები ეზოში თამაშობენ უგუ რელე", "დღეს კარგი ამინდია და ბავშვები ეზოში"),
        ("კარგი ამინდია და ბავშვები ეზოში თამაშობენ", ""),
        ("ლუ რიფ", ""),
        ("", ""),
    ],
)
def test_what_was_said_before_the_first_fault(heard, sound):
    assert sound_letters(SAID, heard) == len(sound.replace(" ", ""))


def test_the_limit_of_length():
    assert faults(SAID, stopped=False) == {"no_stop"}


@pytest.mark.parametrize("where", ["start", "middle", "end"])
def test_a_long_pause_anywhere_is_silence_and_a_short_one_is_not(where):
    for seconds, kinds in ((0.6, set()), (1.5, {"silence"})):
        pause = sound(seconds, 1e-4)
        parts = {"start": [pause, sound(2)], "middle": [sound(1), pause, sound(1)], "end": [sound(2), pause]}
        assert faults(SAID, wave=np.concatenate(parts[where])) == kinds


@pytest.mark.parametrize("wave", [np.zeros(RATE // 2, np.float32), sound(0.5, 1e-4), np.zeros(0, np.float32)])
def test_an_inaudible_clip_is_silence_and_lasts_no_time(wave):
    assert faults("", wave=wave) == {"silence", "skipped"}
    assert pause(wave) > 1 and sounding_seconds(wave, RATE) == 0


def test_speaking_time_is_between_first_and_last_sound():
    wave = np.concatenate([np.zeros(RATE), sound(1), np.zeros(RATE // 2), sound(0.5), np.zeros(RATE)]).astype(
        np.float32
    )
    assert abs(sounding_seconds(wave, RATE) - 2.0) < 0.05
