import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_loader import (AUDIO_STOPS, COND_POSITIONS, CollateFunction, DataManager, Draw, ModelLimits, Sample, XTTSDataset,
                         _own_voice, padding_share, plan_batches)
from feature_cache import codes_of, frames_of
from metadata_table import Clip
from pretrain_config import PretrainConfig, TrainingConfig

LIMITS = ModelLimits(start_text=261, stop_text=0, start_audio=1024, stop_audio=1025, max_text=401, max_codes=604)


class MemoryCache:
    """A feature cache in memory: clip i's codes are all i, its mel frames count up."""

    def __init__(self, samples):
        self.records = np.array([(n,) for n in samples], [("samples", "<u4")])

    def read(self, row):
        samples = int(self.records["samples"][row])
        mel = np.arange(frames_of(samples))[:, None].repeat(80, 1) + 1000 * row
        return np.full(codes_of(samples), row, np.uint16), mel.astype(np.float32)


def dataset(samples, speakers, conditioning="same_speaker"):
    clips = [Clip(f"clip{i}", "ტექსტი", speaker, n / 22050, None, None) for i, (n, speaker) in enumerate(zip(samples, speakers))]
    tokens = [[10 + i] * (3 + i) for i in range(len(samples))]
    return XTTSDataset(clips, tokens, MemoryCache(samples), np.arange(len(samples)), conditioning, seed=5)


# ── batches ──


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(38, 1000), min_size=1, max_size=400), st.integers(100, 5000), st.integers(0, 9), st.integers(0, 9))
def test_every_clip_once_and_within_the_budget(lengths, budget, seed, epoch):
    positions = np.array(lengths)
    batches = plan_batches(positions, budget, seed, epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or positions[batch].max() * len(batch) <= budget


def test_order_depends_on_seed_and_epoch_only():
    positions = np.random.default_rng(0).integers(60, 400, 500)
    def order(seed, epoch):
        return np.concatenate(plan_batches(positions, 2000, seed, epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1) and order(1, 0) != order(2, 0)


def test_padding_stays_under_ten_percent_on_natural_lengths():
    seconds = np.clip(np.random.default_rng(0).lognormal(1.4, 0.5, 5000), 1, 11.6)  # Common Voice is near this
    positions = (COND_POSITIONS + 15 * seconds + 21.5 * seconds + 5).astype(int)
    assert padding_share(positions, plan_batches(positions, 8 * 180, 0, 0)) < 0.10


# ── voice samples ──


def test_conditioning_comes_from_another_clip_of_the_same_speaker():
    data = dataset([90000, 80000, 70000, 60000], ["a", "b", "a", "b"])
    for clip, other in ((0, 2), (2, 0), (1, 3), (3, 1)):
        sample = data[Draw(clip, 0, 200)]
        assert sample.cond_mel.shape == (200, 80)
        assert (sample.cond_mel[:, 0] // 1000 == other).all()
        assert sample.masked == (0, 0) and (sample.codes == clip).all()


def test_short_reference_clips_are_joined():
    data = dataset([90000, 5000, 6000, 7000], ["a"] * 4)
    sources = set((data[Draw(0, 0, 60)].cond_mel[:, 0] // 1000).tolist())
    assert len(sources) > 1 and 0 not in sources


def test_a_lonely_clip_is_conditioned_on_itself_and_the_loss_there_masked():
    data = dataset([90000, 80000], ["a", "b"])
    sample = data[Draw(0, 0, 100)]
    first = int(sample.cond_mel[0, 0])
    assert sample.masked == (first // 4, -(-(first + 100) // 4))


@given(st.integers(1, 900), st.integers(1, 600), st.integers(0, 99))
def test_the_masked_span_covers_exactly_the_codes_that_were_heard(length, frames, seed):
    mel = np.arange(length, dtype=np.float32)[:, None].repeat(80, 1)
    voice, (first, last) = _own_voice(mel, frames, np.random.default_rng(seed))
    assert voice.shape == (frames, 80)
    heard = {int(frame) * 256 // 1024 for frame in voice[:, 0]}
    assert heard == set(range(first, last))


def manager(data, seconds=(1.0, 2.0)):
    """A DataManager over one ready dataset."""
    made = DataManager.__new__(DataManager)
    made.config = PretrainConfig(seed=3, training=TrainingConfig(conditioning_seconds=list(seconds)))
    made.train = made.val = data
    made.budget = int(4 * np.median(data.positions))
    return made


@pytest.mark.parametrize("conditioning", ["same_clip", "same_speaker"])
def test_a_batch_of_short_clips_hears_half_of_its_shortest_as_coqui_does(conditioning):
    lengths = np.random.default_rng(1).integers(3000, 90000, 60)
    data = dataset(lengths, ["a"] * 60, conditioning)
    asked = set()
    for batch in manager(data).train_batches(2) + manager(data).val_batches():
        frames, shortest = batch[0].cond_frames, min(frames_of(int(lengths[draw.clip])) for draw in batch)
        assert {draw.cond_frames for draw in batch} == {frames}
        if conditioning == "same_clip" and frames < 86:
            assert frames == shortest // 2 and shortest < 172
            asked.add("half")
        else:
            assert 86 <= frames <= 172 and (conditioning == "same_speaker" or frames <= shortest)
            asked.add("whole")
        for draw in batch if conditioning == "same_clip" else ():
            heard = data[draw].cond_mel[:, 0]
            assert (np.diff(heard) == 1).all(), "a voice sample is one stretch of its clip"
    assert asked == ({"half", "whole"} if conditioning == "same_clip" else {"whole"})
    assert manager(data).train_batches(2) == manager(data).train_batches(2)


def test_voice_samples_are_functions_of_seed_epoch_and_clip():
    data = dataset([90000, 80000, 70000], ["a"] * 3)
    same = [data[Draw(0, 3, 150)].cond_mel for _ in range(2)]
    assert (same[0] == same[1]).all()
    assert any((data[Draw(0, epoch, 150)].cond_mel != same[0]).any() for epoch in range(4))


# ── collating ──


def test_a_batch_by_hand():
    mel = np.ones((50, 80), np.float16)
    batch = CollateFunction(LIMITS)([Sample(np.array([7, 8]), np.array([1, 2, 3], np.uint16), mel, (0, 0)),
                                     Sample(np.array([9]), np.array([4, 5], np.uint16), mel, (1, 2))])
    length = 32 + 3 + 3 + AUDIO_STOPS
    assert batch["shape"] == (2, length)
    assert batch["text"].tolist() == [261, 7, 8, 261, 9]
    assert batch["text_position"].tolist() == [0, 1, 2, 0, 1]
    assert batch["text_at"].tolist() == [32, 33, 34, length + 32, length + 33]
    assert batch["text_target"].tolist() == [7, 8, 0, 9, 0]
    assert batch["audio"].tolist() == [1024, 1, 2, 3, 1025, 1025, 1025, 1024, 4, 5, 1025, 1025, 1025]
    assert batch["audio_at"].tolist() == [*range(35, 42), *range(length + 34, length + 40)]
    # the second clip's second code was heard as voice sample: it is not scored
    assert batch["audio_target"].tolist() == [1, 2, 3, *[1025] * 4, 4, *[1025] * 4]
    assert batch["audio_scored"].tolist() == [*range(35, 42), length + 34, *range(length + 36, length + 40)]
    assert batch["cond_mels"].shape == (2, 80, 50)
    assert batch["seconds"] == pytest.approx(5 * 1024 / 22050)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 60)), min_size=1, max_size=6))
def test_rows_have_no_holes(sizes):
    samples = [Sample(np.arange(text), np.arange(codes, dtype=np.uint16), np.zeros((10, 80), np.float16), (0, 0))
               for text, codes in sizes]
    batch = CollateFunction(LIMITS)(samples)
    rows, length = batch["shape"]
    used = sorted([*batch["cond_at"].tolist(), *batch["text_at"].tolist(), *batch["audio_at"].tolist()])
    expected = [row * length + at for row, (text, codes) in enumerate(sizes)
                for at in range(COND_POSITIONS + text + 1 + codes + AUDIO_STOPS)]
    assert used == expected
    assert len(batch["audio_target"]) == sum(codes + AUDIO_STOPS for _, codes in sizes)
