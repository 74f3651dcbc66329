"""The starter's sentences: the second part of the file is what its recipe makes."""

import importlib.util
from pathlib import Path

from xtts_ka.recognition.symbols import spoken_letters

ROOT = Path(__file__).parents[2]
FILE = ROOT / "data/starter_sentences_ka.txt"


def recipe():
    spec = importlib.util.spec_from_file_location("starter_sentences", ROOT / "recipes/make_starter_sentences.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_what_the_recipe_makes():
    made = recipe()
    lines = FILE.read_text("utf-8").splitlines()
    assert lines[made.WRITTEN :] == made.make(made.MADE, made.LONG_SHARE, seed=1)


def test_words_and_lengths_are_varied():
    lines = FILE.read_text("utf-8").splitlines()
    words = {word for line in lines for word in spoken_letters(line).split()}
    letters = [len(spoken_letters(line).replace(" ", "")) for line in lines]
    assert len(set(lines)) == len(lines) >= 2500 and len(words) > 3000
    assert sum(count > 48 for count in letters) > len(lines) / 3  # more than 4 s
    assert not set("".join(lines)) - set("".join(map(chr, range(0x10D0, 0x10F1))) + " .,!?:;-–—„“«»()…0123456789IVX%")
