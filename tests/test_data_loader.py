import errno
import json
import os
import signal
from collections import Counter

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_index import ARGS, make_index

from data_loader import CollateFunction, DataManager, Draw, Sample, XTTSDataset, _own_voice, main, open_data
from xtts_ka.core.config import PretrainConfig, TrainingConfig
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.model.geometry import COND_POSITIONS, codes_of, frames_of
from xtts_ka.training.batch_plan import Batch
from xtts_ka.training.clip_index import AUDIO_STOPS


class MemoryCache:
    """A feature cache in memory: clip i's codes are all i, its mel frames count up."""

    def read(self, record, name):
        samples, row = int(record["samples"]), int(record["key"])
        mel = np.arange(frames_of(samples))[:, None].repeat(80, 1) + 1000 * row
        return np.full(codes_of(samples), row, np.uint16), mel.astype(np.float32)


@pytest.fixture
def dataset(tmp_path):
    def make(samples, speakers, conditioning="same_speaker"):
        return XTTSDataset(make_index(tmp_path, samples, speakers), MemoryCache(), conditioning, seed=5)

    return make


# ── voice samples ──


def test_conditioning_comes_from_another_clip_of_the_same_speaker(dataset):
    data = dataset([90000, 80000, 70000, 60000], ["a", "b", "a", "b"])
    for clip, other in ((0, 2), (2, 0), (1, 3), (3, 1)):
        sample = data[Draw(clip, 0, 200)]
        assert sample.cond_mel.shape == (200, 80)
        assert (sample.cond_mel[:, 0] // 1000 == other).all()
        assert sample.heard == (0, 0) and (sample.codes == clip).all()


def test_short_reference_clips_are_joined(dataset):
    data = dataset([90000, 5000, 6000, 7000], ["a"] * 4)
    sources = set((data[Draw(0, 0, 60)].cond_mel[:, 0] // 1000).tolist())
    assert len(sources) > 1 and 0 not in sources


def test_a_lonely_clip_is_conditioned_on_itself_and_the_loss_there_masked(dataset):
    data = dataset([90000, 80000], ["a", "b"])
    sample = data[Draw(0, 0, 100)]
    first = int(sample.cond_mel[0, 0])
    assert sample.heard == (first, first + 100)


@given(st.integers(256, 230_000), st.integers(1, 600), st.integers(0, 99))
def test_exactly_the_codes_that_were_heard_are_not_scored(samples, frames, seed):
    codes = np.arange(codes_of(samples), dtype=np.uint16)
    mel = np.arange(frames_of(samples), dtype=np.float32)[:, None].repeat(80, 1)
    voice, heard = _own_voice(mel, frames, np.random.default_rng(seed))
    assert voice.shape == (frames, 80)
    batch = CollateFunction(ARGS)([Sample(np.array([7]), codes, voice, heard)])
    given_away = {int(frame) * 256 // 1024 for frame in voice[:, 0]}
    assert (
        batch["audio_target"].tolist()
        == [c for c in codes if c not in given_away] + [ARGS.gpt_stop_audio_token] * AUDIO_STOPS
    )


@pytest.fixture
def manager(dataset):
    """A DataManager over clips of these lengths, whose voice samples have 86 to 172 frames."""

    def make(samples, speakers, conditioning="same_speaker", seed=3):
        training = TrainingConfig(conditioning=conditioning, conditioning_seconds=[1.0, 2.0])
        index = dataset(samples, speakers).index
        return DataManager(PretrainConfig(seed=seed, training=training), index, index, MemoryCache(), ARGS)

    return make


@pytest.mark.parametrize("conditioning", ["same_clip", "same_speaker"])
def test_a_batch_of_short_clips_hears_half_of_its_shortest_as_coqui_does(manager, conditioning):
    lengths = np.random.default_rng(1).integers(3000, 90000, 60)
    data, kinds = manager(lengths, ["a"], conditioning), Counter()
    for batch in data.train_batches(2):
        frames, shortest = batch.cond_frames, min(frames_of(int(lengths[clip])) for clip in batch.clips)
        if conditioning == "same_speaker" or frames >= 86:
            assert 86 <= frames <= 172 and (conditioning == "same_speaker" or frames <= shortest)
            kinds["whole"] += 1
        else:
            assert frames == shortest // 2 and shortest < 172
            kinds["half"] += 1
        for draw in batch.draws() if conditioning == "same_clip" else ():
            assert (np.diff(data.train[draw].cond_mel[:, 0]) == 1).all(), "a voice sample is one stretch of its clip"
    assert kinds["whole"] and bool(kinds["half"]) == (conditioning == "same_clip")


def test_voice_samples_are_functions_of_seed_epoch_and_clip(dataset):
    data = dataset([90000, 80000, 70000], ["a"] * 3)
    same = [data[Draw(0, 3, 150)].cond_mel for _ in range(2)]
    assert (same[0] == same[1]).all()
    assert any((data[Draw(0, epoch, 150)].cond_mel != same[0]).any() for epoch in range(4))


# ── an epoch's batches ──


def listed(batches):
    return [(batch.clips.tolist(), batch.epoch, batch.cond_frames) for batch in batches]


def test_an_epoch_s_batches_depend_on_seed_and_epoch(manager):
    samples, speakers = np.random.default_rng(1).integers(20000, 200000, 200), ["a", "b", "c"]
    data, other = manager(samples, speakers), manager(samples, speakers, seed=4)
    whole = listed(data.train_batches(1))
    assert sorted(clip for clips, *_ in whole for clip in clips) == list(range(200))
    assert listed(data.train_batches(1)) == whole
    assert listed(data.train_batches(2)) != whole and listed(other.train_batches(1)) != whole
    assert len({frames for *_, frames in whole}) > 5
    assert {frames for *_, frames in listed(data.val_batches())} == {round(1.5 * 22050 / 256)}


# ── collating ──


def test_a_batch_by_hand():
    mel = np.ones((50, 80), np.float16)
    batch = CollateFunction(ARGS)(
        [
            Sample(np.array([7, 8]), np.array([1, 2, 3], np.uint16), mel, (0, 0)),
            Sample(np.array([9]), np.array([4, 5], np.uint16), mel, (5, 8)),
        ]
    )
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


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 60)), min_size=1, max_size=6))
def test_rows_have_no_holes(sizes):
    samples = [
        Sample(np.arange(text), np.arange(codes, dtype=np.uint16), np.zeros((10, 80), np.float16), (0, 0))
        for text, codes in sizes
    ]
    batch = CollateFunction(ARGS)(samples)
    _, length = batch["shape"]
    used = sorted([*batch["cond_at"].tolist(), *batch["text_at"].tolist(), *batch["audio_at"].tolist()])
    expected = [
        row * length + at
        for row, (text, codes) in enumerate(sizes)
        for at in range(COND_POSITIONS + text + 1 + codes + AUDIO_STOPS)
    ]
    assert used == expected
    assert len(batch["audio_target"]) == sum(codes + AUDIO_STOPS for _, codes in sizes)


# ── opening the data ──


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny.build_world(tmp_path_factory.mktemp("loader"))


def draws_of(data):
    return listed(data.train_batches(0)), listed(data.val_batches())


def test_a_second_start_reads_the_index_alone(world, monkeypatch):
    def fail(*_):
        raise AssertionError("the table was read again")

    from xtts_ka.training import prepare_features

    monkeypatch.setattr(prepare_features, "read_rows", fail)
    again = open_data(world.config)
    assert draws_of(again) == draws_of(world.data) and again.describe() == world.data.describe()
    assert again.train.index.folder == world.data.train.index.folder


def test_tokens_are_what_synthesis_will_read_and_codes_those_of_the_clip(world):
    from tiny import encode

    from xtts_ka.georgian.text import normalise
    from xtts_ka.model.features import FeatureExtractor, load_speech
    from xtts_ka.model.vocabulary import load_tokenizer

    tokenizer, folder = load_tokenizer(f"{world.config.output_model_path}/vocab.json"), world.model.folder
    extractor = FeatureExtractor(folder, world.model.config)
    for clip in range(len(world.data.train)):
        sample = world.data.train[Draw(clip, 0, 40)]
        assert sample.text.tolist() == encode(tokenizer, normalise(tiny.SENTENCES[clip]))
        path = folder.parent / "wavs" / f"{world.data.train.index.file_id(clip)}.wav"
        assert torch.equal(torch.from_numpy(sample.codes.astype(np.int64)), extractor([load_speech(path)])[0][0])


def test_worker_processes_load_the_same_batches(world):
    plan, data = world.data.train_batches(0), world.data
    here, there = (list(data.loader(data.train, plan, workers)) for workers in (0, 2))
    assert len(here) == len(there) == len(plan)
    for mine, theirs in zip(here, there):
        assert mine.keys() == theirs.keys() and mine["shape"] == theirs["shape"]
        assert all(torch.equal(mine[name], theirs[name]) for name in mine if isinstance(mine[name], torch.Tensor))


def test_damage_found_in_a_worker_process_is_one_sentence(world, tmp_path):
    config, data = world.config, world.data
    mels = data.train.cache.folder / "mels.bin"
    whole = mels.read_bytes(), (data.train.cache.folder / "index.bin").read_bytes()
    try:
        mels.write_bytes(bytes(len(whole[0])))
        with pytest.raises(RunError) as caught:
            list(open_data(config).loader(data.train, data.train_batches(0), workers=1))
        assert str(caught.value).startswith("the feature cache") and "clip clip" in str(caught.value)
        assert "Traceback" not in str(caught.value) and "\n" not in str(caught.value)
    finally:
        with open(
            mels, "r+b"
        ) as file:  # in its place: the worker may still map it, and a file cut short is a bus error to it
            file.write(whole[0])
        (data.train.cache.folder / "index.bin").write_bytes(whole[1])


ONE_CLIP = [Batch(np.array([0]), epoch=0, cond_frames=40)]


class _Spoiling:
    """A dataset whose first item ends as `end` says, in whichever process draws it."""

    def __init__(self, end):
        self.end = end

    def __getitem__(self, draw):
        self.end()


def _no_room():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "index.bin")


def _killed():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "end, said",
    [
        (_no_room, "[Errno 28] No space left on device: 'index.bin'"),
        (_killed, "a process that loads the batches was killed; "),
    ],
)
def test_what_ends_a_worker_process_is_told_in_one_sentence(world, end, said):
    with pytest.raises(RunError) as caught:
        list(world.data.loader(_Spoiling(end), ONE_CLIP, workers=1))
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)


def test_an_error_of_this_process_stays_as_it_is(world):
    with pytest.raises(OSError) as caught:
        list(world.data.loader(_Spoiling(_no_room), ONE_CLIP))
    assert caught.value.errno == errno.ENOSPC


def test_the_script_prints_what_training_will_be_fed(world, tmp_path, capsys):
    names = ("data_dir", "base_model_path", "output_model_path", "checkpoint_dir", "log_dir")
    config = {name: getattr(world.config, name) for name in names}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main(["--config", str(tmp_path / "config.json"), "--verbose"]) == 0
    out = capsys.readouterr().out
    for words in (
        "train             10 clips",
        "2 speakers",
        "% padding",
        "the first batch",
        "cond_mels",
        "torch.float32",
    ):
        assert words in out


def test_no_clip_that_fits_is_an_error(tmp_path):
    index = make_index(tmp_path, [10**6, 2 * 10**6])
    with pytest.raises(UserError, match="'audio too long': 4"):
        DataManager(PretrainConfig(), index, index, MemoryCache(), ARGS)
