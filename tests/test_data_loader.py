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

from data_loader import (
    MAX_VALIDATION,
    VALIDATION_VOICE,
    CollateFunction,
    DataManager,
    Draw,
    Sample,
    ValidationSet,
    XTTSDataset,
    main,
    open_data,
)
from xtts_ka.core.config import PretrainConfig, TrainingConfig
from xtts_ka.core.errors import RunError, UserError
from xtts_ka.model.geometry import COND_POSITIONS, codes_of, frames_of
from xtts_ka.training.batch_plan import Batch
from xtts_ka.training.clip_index import AUDIO_STOPS
from xtts_ka.training.process_group import Peers


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


def test_clips_that_share_a_voice_sample_hear_none_of_themselves(dataset):
    data = dataset([90000] * 8, ["a", "b"])
    for epoch in range(20):
        first, second = (data[Draw(clip, epoch, 200, (4, 0))] for clip in (0, 4))
        assert (first.cond_mel == second.cond_mel).all() and first.voice == second.voice
        assert {int(value) // 1000 for value in first.cond_mel[:, 0]} <= {2, 6}
        assert (first.codes[0], second.codes[0]) == (0, 4)
    voices = {data[Draw(0, epoch, 200, (4, 0))].cond_mel[0, 0] for epoch in range(20)}
    assert len(voices) > 5


def unscored_codes(sample):
    """Places of the clip's codes that a batch of this sample leaves unscored."""
    numbered = sample._replace(codes=np.arange(len(sample.codes), dtype=np.uint16))
    batch = CollateFunction(ARGS)([numbered])
    assert batch["audio_target"][-AUDIO_STOPS:].tolist() == [ARGS.gpt_stop_audio_token] * AUDIO_STOPS
    return sorted({*range(len(sample.codes))} - {*batch["audio_target"][:-AUDIO_STOPS].tolist()})


@given(samples=st.integers(256, 230_000), frames=st.integers(1, 600), epoch=st.integers(0, 99), same_clip=st.booleans())
def test_a_clip_alone_hears_an_unscored_third_of_itself_at_most(tmp_path, samples, frames, epoch, same_clip):
    """A speaker's only clip, whatever its batch's voice samples; and any clip where the config says so."""
    index = make_index(tmp_path, [samples, 80000, 90000], ["a", "a" if same_clip else "b", "c"])
    data = XTTSDataset(index, MemoryCache(), "same_clip" if same_clip else "same_speaker", seed=1)
    sample = data[Draw(0, epoch, frames)]
    assert sample.cond_mel.shape == (frames, 80) and (sample.cond_mel < 1000).all()
    codes, given_away = len(sample.codes), {int(frame) // 4 for frame in sample.cond_mel[:, 0]}
    assert unscored_codes(sample) == sorted(code for code in given_away if code < codes)
    assert len(given_away) <= max(1, codes // 3)
    assert len(given_away) >= min(-(-frames // 4), max(1, codes // 3)) - 1, "no less than was asked for"


def test_clips_of_unknown_speakers_never_hear_one_another(tmp_path):
    index = make_index(tmp_path, [90000] * 4, ["fleurs_male", "nino"], unknown=["fleurs_male"])
    data = XTTSDataset(index, MemoryCache(), "same_speaker", seed=1)
    heard = [{int(value) // 1000 for value in data[Draw(clip, 0, 200)].cond_mel[:, 0]} for clip in range(4)]
    assert heard == [{0}, {3}, {2}, {1}]


def test_coqui_masks_the_last_row_alone_and_takes_frames_for_codes(dataset):
    data = dataset([200_000] * 3, ["a"], "coqui")
    samples = [data[Draw(clip, 0, 40)] for clip in range(3)]
    for sample in samples:
        first = int(sample.cond_mel[0, 0]) % 1000
        assert sample.heard == (first, first + 40)
    samples = [sample._replace(codes=np.arange(196, dtype=np.uint16)) for sample in samples]
    batch = CollateFunction(ARGS, as_coqui=True)(samples)
    first, end = samples[-1].heard
    expected = [*range(196)] * 2 + [code for code in range(196) if not first <= code < end]
    assert [code for code in batch["audio_target"].tolist() if code < 1024] == expected


@pytest.fixture
def manager(dataset):
    """A DataManager over clips of these lengths, whose voice samples have 86 to 172 frames."""

    def make(samples, speakers, conditioning="same_speaker", seed=3):
        training = TrainingConfig(conditioning=conditioning, conditioning_seconds=[1.0, 2.0])
        index = dataset(samples, speakers).index
        return DataManager(
            PretrainConfig(seed=seed, batch_seconds=20.0, training=training), index, index, MemoryCache(), ARGS
        )

    return make


@pytest.mark.parametrize(
    "conditioning, shared", [("same_speaker", 4), ("same_speaker", 1), ("same_clip", 4), ("coqui", 4)]
)
def test_clips_share_voice_samples_as_the_config_says(manager, conditioning, shared):
    training = TrainingConfig(conditioning=conditioning, shared_voices=shared)
    data = manager([30000] * 200, ["a", "b"])
    data.config = data.config.model_copy(update={"training": training, "batch_seconds": 60.0})
    data.train.conditioning, data.train.hears_others[:] = conditioning, conditioning == "same_speaker"
    sizes = Counter(max(1, len(draw.sharing)) for batch in data.train_batches(0) for draw in batch.draws())
    assert set(sizes) <= {1, 2, 3, 4} if (conditioning, shared) == ("same_speaker", 4) else set(sizes) == {1}
    if len(sizes) > 1:
        assert sizes[4] > 180


def test_a_step_has_eight_voice_samples_at_least_if_it_has_as_many_clips(manager):
    data = manager([90000] * 200, ["a", "b"])  # 4.1 s each
    for seconds, largest in ((132.0, 4), (80.0, 2), (20.0, 1)):
        data.config = data.config.model_copy(update={"batch_seconds": seconds})
        draws = [draw for batch in data.train_batches(0) for draw in batch.draws()]
        assert max(max(1, len(draw.sharing)) for draw in draws) == largest


@pytest.mark.parametrize("conditioning", ["same_clip", "same_speaker", "coqui"])
def test_where_voice_samples_are_of_the_clips_themselves_they_have_what_those_can_give(manager, conditioning):
    lengths = np.random.default_rng(1).integers(3000, 90000, 60)
    data, kinds = manager(lengths, ["a"], conditioning), Counter()
    for batch in data.train_batches(2):
        frames, middle = batch.cond_frames, int(np.median(lengths[batch.clips]))
        own = {"same_clip": 4 * (codes_of(middle) // 3), "coqui": frames_of(middle) // 2}.get(conditioning)
        assert 86 <= frames <= 172 or frames == own < 172
        kinds[frames == own] += 1
    assert kinds[False] and bool(kinds[True]) == (conditioning != "same_speaker")


# ── what is scored ──


def shares(data):
    """(by the script's line, measured in the batches) of epoch 0."""
    (line,) = (line for line in data.describe() if line.startswith("scored"))
    scored = codes = 0
    planned = data.train_batches(0)
    for batch, made in zip(planned, data.loader(data.train, planned)):
        scored += len(made["audio_target"]) - AUDIO_STOPS * len(batch.clips)
        codes += int(codes_of(data.train.index.records["samples"][batch.clips].astype(np.int64)).sum())
    return float(line.split()[1]), 100 * scored / codes


def common_voice(count=600):
    """Lengths in samples and speakers as in Common Voice: 5 s on average, some speakers with one clip."""
    random = np.random.default_rng(7)
    seconds = np.clip(random.lognormal(1.6, 0.3, count), 1.5, 11)
    return (22050 * seconds).astype(int), [f"s{rank}" for rank in np.minimum(random.zipf(1.6, count), 40)]


STARTER = np.random.default_rng(3).integers(22050 * 2, 22050 * 4, 300), [f"espeak_{who}" for who in "abcdef"]


@pytest.mark.parametrize(
    "corpus, least, most",
    [
        (STARTER, 100, 100),
        (common_voice(), 98, 100),
        ((STARTER[0], ["z"]), 100, 100),
        ((STARTER[0], ["a", "b"]), 66, 72),
    ],
    ids=["starter", "common_voice", "one_speaker", "unknown_speakers"],
)
def test_the_line_scored_is_measured_and_nearly_all_where_speakers_have_several_clips(tmp_path, corpus, least, most):
    unknown = ["a", "b"] if least < 98 else []
    index = make_index(tmp_path, *corpus, unknown=unknown)
    data = DataManager(PretrainConfig(), index, index, MemoryCache(), ARGS)
    told, measured = shares(data)
    assert told == pytest.approx(measured, abs=0.06) and least <= told <= most


@pytest.mark.parametrize("conditioning", ["same_clip", "coqui"])
def test_the_line_scored_is_measured_with_other_conditioning_too(tmp_path, conditioning):
    index = make_index(tmp_path, *common_voice(200))
    training = TrainingConfig(conditioning=conditioning)
    data = DataManager(PretrainConfig(batch_seconds=40.0, training=training), index, index, MemoryCache(), ARGS)
    told, measured = shares(data)
    assert told == pytest.approx(measured, abs=0.06) and 60 < told < 99.9


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


# ── validation ──


@pytest.fixture
def both(tmp_path):
    """(train, val) indexes: val has two clips of anna, one of nino, two of eka and one of lia, whom training never
    hears, and one of an unknown speaker."""
    train = make_index(tmp_path / "train", [90000] * 6, ["anna", "nino", "fleurs_male"], unknown=["fleurs_male"])
    val = make_index(
        tmp_path / "val",
        [70000 + i for i in range(7)],
        ["anna", "nino", "eka", "anna", "eka", "lia", "fleurs_male"],
        unknown=["fleurs_male"],
    )
    return train, val


def test_validation_clips_hear_another_clip_of_validation_else_of_training_else_themselves(both):
    train, val = both
    data = ValidationSet(val, MemoryCache(), train)
    samples = {clip: data[Draw(clip, 0, 200)] for clip in range(7)}
    source = {clip: {int(value) // 1000 for value in s.cond_mel[:, 0]} for clip, s in samples.items()}
    assert [source[clip] for clip in (0, 3, 2, 4, 5, 6)] == [{3}, {0}, {4}, {2}, {5}, {6}]
    assert source[1] <= {1, 4}  # of training, where nino's clips are 1 and 4
    assert [clip for clip, sample in samples.items() if unscored_codes(sample)] == [5, 6]
    parts = {name: sorted(np.concatenate([b.clips for b in batches])) for name, batches in data.batches().items()}
    assert parts == {"heard": [0, 1, 3], "unseen": [2, 4], "own": [5, 6]}


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 2},
        {"seed": 99},
        {"training": TrainingConfig(conditioning="same_clip")},
        {"training": TrainingConfig(conditioning_seconds=[0.5, 1.0])},
    ],
    ids=["batch_size", "seed", "conditioning", "conditioning_seconds"],
)
def test_validation_does_not_depend_on_the_settings_of_training(both, changes):
    plain, changed = (
        DataManager(PretrainConfig(**settings), *both, MemoryCache(), ARGS).val for settings in ({}, changes)
    )
    first, second = ([(n, listed(batches)) for n, batches in val.batches().items()] for val in (plain, changed))
    assert first == second
    for _, batches in plain.batches().items():
        for batch in batches:
            assert batch.cond_frames == VALIDATION_VOICE
            for draw in batch.draws():
                mine, theirs = plain[draw], changed[draw]
                assert (mine.cond_mel == theirs.cond_mel).all() and mine.heard == theirs.heard


def test_a_large_validation_table_is_cut_by_hash(tmp_path):
    index = make_index(tmp_path, [30000] * (MAX_VALIDATION + 300), ["a", "b", "c"])
    (batches,) = ValidationSet(index, MemoryCache(), index).batches().values()
    taken = np.sort(np.concatenate([batch.clips for batch in batches]))
    assert len(taken) == MAX_VALIDATION == len(np.unique(taken)) and taken[-1] >= MAX_VALIDATION
    numbers = np.array([index.number(clip) for clip in range(len(index))])
    assert numbers[taken].max() < np.delete(numbers, taken).min()


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
    assert batch["cond_mels"].shape == (2, 80, 50) and batch["cond_of"].tolist() == [0, 1]
    assert batch["seconds"] == pytest.approx(5 * 1024 / 22050)


def test_a_shared_voice_sample_is_in_a_batch_once():
    samples = [
        Sample(np.array([7]), np.array([1], np.uint16), np.full((50, 80), mel, np.float16), (0, 0), voice)
        for mel, voice in ((2, 5), (3, -1), (2, 5), (4, 0), (6, -1), (4, 0))
    ]
    batch = CollateFunction(ARGS)(samples)
    assert batch["cond_mels"][:, 0, 0].tolist() == [2, 3, 4, 6] and batch["cond_of"].tolist() == [0, 1, 0, 2, 3, 2]


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
    return listed(data.train_batches(0)), {name: listed(part) for name, part in data.val.batches().items()}


def test_the_shape_of_a_typical_clip_by_hand(manager):
    samples = [22050, 44100, 66150]
    clip = manager(samples, ["a"]).typical_clip()  # the clips have 3, 4 and 5 text tokens
    codes = np.mean([codes_of(n) for n in samples]) + AUDIO_STOPS
    assert clip == pytest.approx((1, 1 + 4, codes, 2.0 * 22050 / 256))


def test_clips_at_once_are_of_each_process(world):
    alone, two = (open_data(world.config, peers=peers).step_seconds for peers in (None, Peers(world=2)))
    assert two == 2 * alone


def test_a_second_start_reads_the_index_alone(world, monkeypatch):
    def fail(*_):
        raise AssertionError("the table was read again")

    from xtts_ka.training import prepare_features

    monkeypatch.setattr(prepare_features, "read_rows", fail)
    again = open_data(world.config)
    assert any(line.endswith(" in a step, by batch_size, 3 steps an epoch") for line in again.describe())
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

    conditioning = "same_speaker"

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
        "1,260 s of audio (10 clips) in a step, by batch_seconds, 1 steps an epoch",
        "the first micro-batch",
        "cond_mels",
        "scored      100.0 % of the audio codes\n",
        "validation  2 clips of speakers trained on\n",
        "torch.float32",
    ):
        assert words in out


def test_no_clip_that_fits_is_an_error(tmp_path):
    index = make_index(tmp_path, [10**6, 2 * 10**6])
    with pytest.raises(UserError, match="'audio too long': 4"):
        DataManager(PretrainConfig(), index, index, MemoryCache(), ARGS)
