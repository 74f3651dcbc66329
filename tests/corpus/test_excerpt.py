"""An excerpt is read as the recording's samples in that stretch, and survives being written as text."""

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from xtts_ka.corpus.audio import AudioError, read_mono
from xtts_ka.corpus.excerpt import Cut, Excerpt, parse
from xtts_ka.model.features import load_speech


@pytest.fixture(params=["wav", "mp3", "flac"])
def recording(request, tmp_path):
    path = tmp_path / f"clip.{request.param}"
    soundfile.write(path, 0.2 * np.random.default_rng(0).standard_normal(32_000), 16_000)
    return path


def test_the_samples_of_the_stretch(recording):
    whole, rate = read_mono(recording)
    part, own = read_mono(Excerpt(recording, Cut(0.5, 1.25)))
    assert own == rate and np.array_equal(part, whole[8_000:20_000])
    first, _ = read_mono(Excerpt(recording, Cut(0.5, 1.25)), max_seconds=0.25)
    assert np.array_equal(first, whole[8_000:12_000])


def test_the_gain(recording):
    whole, _ = read_mono(recording)
    louder, _ = read_mono(Excerpt(recording, Cut(0.0, 2.0, -6.0)))
    assert np.allclose(louder, whole * 10 ** (-6 / 20), atol=1e-6)


def test_what_ends_before_its_excerpt_is_refused(recording):
    with pytest.raises(AudioError, match="make the tables anew"):
        read_mono(Excerpt(recording, Cut(5.0, 6.0)))


def test_speech_for_the_model(recording):
    speech = load_speech(Excerpt(recording, Cut(0.5, 1.5)))
    assert speech.shape == (1, 22_050)
    assert load_speech(Excerpt(recording, Cut(0.0, 2.0, 40.0))).abs().max() == 1  # clipped after the gain


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
    st.integers(0, 10**8),
    st.integers(1, 10**8),
    st.integers(-6000, 6000),
)
def test_written_and_parsed(name, start, length, gain):
    excerpt = Excerpt(parse(name).path if isinstance(parse(name), Excerpt) else name, Cut(0.0, 1.0))
    cut = Cut(start / 10_000, (start + length) / 10_000, gain / 100)
    written = str(Excerpt(excerpt.path, cut))
    parsed = parse(written)
    assert isinstance(parsed, Excerpt) and str(parsed) == written and parsed.cut == cut


def test_a_file_that_is_named_so_is_itself(tmp_path):
    odd = tmp_path / "a.wav#t=0.0000,1.0000&gain=0.00"
    assert isinstance(parse(str(odd)), Excerpt)
    odd.touch()
    assert parse(str(odd)) == str(odd)
    assert parse("plain.wav") == "plain.wav"
