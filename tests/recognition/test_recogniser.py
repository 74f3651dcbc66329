"""The recogniser: what it hears, and that nothing but the wave itself decides it."""

import json
import shutil

import numpy as np
import pytest
import torch
from tone_speech import HELD_OUT, RATE, TRAINED, speak

from xtts_ka.core.errors import UserError
from xtts_ka.recognition.recogniser import MELS, CtcNetwork, Recogniser, batches_by_length, greedy, log_mel
from xtts_ka.recognition.symbols import BLANK, SYMBOLS, encode
from xtts_ka.recognition.train_recogniser import recogniser_folder

WORDS = [*TRAINED[:3], *HELD_OUT]


def test_it_hears_words_and_sentences_that_it_was_not_trained_on(tones):
    assert tones[1].hear([speak(text, 77) for text in WORDS], RATE) == WORDS


def test_it_hears_other_sample_rates(tones):
    from scipy.signal import resample_poly

    wave = resample_poly(speak(HELD_OUT[0]), 441, 320).astype(np.float32)
    assert tones[1].hear([wave], 22_050) == [HELD_OUT[0]]


def test_a_wave_is_heard_the_same_alone_and_among_longer_ones(tones):
    short, long = speak(WORDS[0]), np.tile(speak(HELD_OUT[1]), 2)
    (alone,) = tones[1].log_probs([short], RATE)
    together = tones[1].log_probs([long, short], RATE)[1]
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("samples", [0, 1, 100, 300, 401])
def test_a_wave_of_hardly_any_samples_has_a_frame(tones, samples):
    (found,) = tones[1].log_probs([np.zeros(samples, np.float32)], RATE)
    assert found.shape == (max(1, -(-samples // 640)), len(SYMBOLS)) and found.isfinite().all()


def test_frames_are_as_long_as_it_says(tones):
    (found,) = tones[1].log_probs([np.zeros(10 * RATE, np.float32)], RATE)
    assert len(found) * tones[1].seconds_per_frame == pytest.approx(10, abs=0.05)


def test_loudness_does_not_matter(tones):
    assert tones[1].hear([0.05 * speak(text, 3) for text in WORDS], RATE) == WORDS


def test_loading_gives_the_same_recogniser(tones):
    config, trained = tones
    loaded = Recogniser.load(recogniser_folder(config))
    waves = [speak(HELD_OUT[0], 5)]
    assert loaded.log_probs(waves, RATE)[0].equal(trained.log_probs(waves, RATE)[0])
    assert loaded.name == trained.name and loaded.facts == trained.facts


@pytest.mark.parametrize("damage", ["facts", "format", "weights", "ngram"])
def test_a_damaged_folder_is_refused_with_a_remedy(tones, tmp_path, damage):
    folder = shutil.copytree(recogniser_folder(tones[0]), tmp_path / "recogniser")
    if damage == "facts":
        (folder / "recogniser.json").unlink()
    elif damage == "format":
        facts = json.loads((folder / "recogniser.json").read_text())
        (folder / "recogniser.json").write_text(json.dumps({**facts, "format": 99}))
    else:
        file = folder / {"weights": "model.safetensors", "ngram": "ngram.safetensors"}[damage]
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"recogniser.*(train it|trained again)"):
        Recogniser.load(folder)


def test_greedy_decoding_merges_repeats_unless_a_blank_stands_between():
    ids = [BLANK, *encode("აა"), BLANK, *encode("ა"), *encode("  "), BLANK, *encode(" ბ ")]
    assert greedy(torch.eye(len(SYMBOLS))[ids]) == "აა ბ"


def test_batches_hold_every_index_once_and_keep_the_limit():
    lengths = [5, 1, 9, 3, 3, 30]
    batches = batches_by_length(lengths, 10)
    assert sorted(i for batch in batches for i in batch) == list(range(6))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 10 for batch in batches)


def test_log_mel_of_silence_and_of_a_tone():
    assert log_mel(torch.zeros(1600)).shape == (10, MELS)
    tone = log_mel(torch.sin(torch.arange(16000) * (2 * np.pi * 1000 / RATE)))
    assert tone[50].argmax() in range(24, 32)  # 1,000 Hz among 80 mel bands from 20 to 8,000 Hz


def test_the_network_has_a_frame_for_four():
    network = CtcNetwork(8, 1).eval()
    log_probs, lengths = network(torch.zeros(2, 13, MELS), torch.tensor([13, 4]))
    assert lengths.tolist() == [4, 1] and log_probs.shape == (2, 4, len(SYMBOLS))
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 4))


@pytest.mark.parametrize("recurrent", [0, 2])
def test_nothing_behind_a_clip_takes_part(recurrent):
    torch.manual_seed(0)
    network = CtcNetwork(8, 1, recurrent=recurrent).eval()
    mels, behind = torch.randn(1, 21, MELS), torch.randn(2, 50, MELS)
    behind[:1, :21] = mels
    (alone,), _ = network(mels, torch.tensor([21]))
    (row, _), lengths = network(behind, torch.tensor([21, 50]))
    torch.testing.assert_close(row[: lengths[0]], alone)


@pytest.mark.parametrize("recurrent", [0, 1])
def test_lstms_hear_the_whole_clip_in_both_directions(recurrent):
    torch.manual_seed(0)
    network = CtcNetwork(8, 1, recurrent=recurrent).eval()
    mels, lengths = torch.randn(1, 48, MELS), torch.tensor([48])
    change = torch.randn(MELS)
    for changed, beside, heard in ((-1, -2, 0), (0, 1, -1)):
        other = mels.clone()
        other[0, changed] += change
        other[0, beside] -= change  # the mean of each band, which every frame is less of, stays
        before, after = (network.hidden(given, lengths)[0][0, heard] for given in (mels, other))
        assert torch.allclose(before, after, atol=1e-6) == (recurrent == 0)
