import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
import torch
from training.test_process_group import finish, launch

from data_loader import open_data
from xtts_ka.core.errors import UserError
from xtts_ka.core.lock import RunLock
from xtts_ka.corpus.tables import split_csv
from xtts_ka.training import prepare_features
from xtts_ka.training.feature_cache import RECORD
from xtts_ka.training.process_group import joined


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny.build_world(tmp_path_factory.mktemp("features")).config


@pytest.fixture
def config(made, tmp_path):
    """The config of a copy of the world, whose features are computed."""
    home = Path(made.base_model_path).parent
    shutil.copytree(home, tmp_path / home.name, copy_function=shutil.copy2)
    paths = ("data_dir", "checkpoint_dir", "log_dir", "output_model_path", "base_model_path")
    moved = {name: getattr(made, name).replace(str(home), str(tmp_path / home.name), 1) for name in paths}
    return made.model_copy(update=moved)


@pytest.fixture
def computed(monkeypatch):
    """Keys of the clips whose features are computed during the test."""
    keys, fill = [], prepare_features.fill

    def noted(cache, clips, *rest):
        keys.extend(clip.key for clip in cache.missing(clips))
        return fill(cache, clips, *rest)

    monkeypatch.setattr(prepare_features, "fill", noted)
    return keys


def test_nothing_is_computed_or_said_where_nothing_has_changed(config, computed, capsys):
    open_data(config)
    assert computed == [] and "made anew" not in capsys.readouterr().out


def test_a_changed_text_makes_its_index_anew_and_opens_no_audio(config, computed, capsys):
    table = split_csv(config.data_dir, "train")
    table.write_text(table.read_text("utf-8").replace("მზე ანათებს", "მთვარე ანათებს"), "utf-8")
    data = open_data(config)
    said = capsys.readouterr().out
    assert computed == [] and "index_train_" in said and "changed since it was made: table" in said
    assert "index_val_" not in said and len(data.train) == 10


def test_an_edited_recording_alone_is_computed_again(config, computed, capsys):
    recording = Path(config.base_model_path).parent / "wavs" / "clip03.wav"
    samples, rate = soundfile.read(recording)
    soundfile.write(recording, samples[: len(samples) // 2], rate)
    data = open_data(config)
    assert len(computed) == 1 and "recordings" in capsys.readouterr().out
    clip = next(clip for clip in range(10) if data.train.index.file_id(clip) == "clip03")
    assert data.train.index.records[clip]["samples"] == len(samples) // 2


def test_a_cut_alone_computes_its_clip_again_and_is_what_is_read(config, computed, capsys):
    table = split_csv(config.data_dir, "train")
    header, *rows = table.read_text("utf-8").splitlines()
    cut = [f"{row},{'0.1000,0.6000,0.00' if row.startswith('clip03,') else ',,'}" for row in rows]
    table.write_text("\n".join([f"{header},read_from,read_to,gain_db", *cut]) + "\n", "utf-8")
    data = open_data(config)
    assert len(computed) == 1
    clip = next(clip for clip in range(10) if data.train.index.file_id(clip) == "clip03")
    assert data.train.index.records[clip]["samples"] == 0.5 * 22_050


def test_a_damaged_mp3_is_named_and_the_decoder_says_nothing_itself(config, computed, capfd):
    recording = Path(config.base_model_path).parent / "wavs" / "clip03.wav"
    soundfile.write(recording, 0.4 * np.sin(np.arange(160_000) / 25), 16_000, format="MP3")
    data = bytearray(recording.read_bytes())
    data[9_000:9_020] = bytes(range(100, 120))
    recording.write_bytes(data)
    open_data(config)
    said = capfd.readouterr().err
    assert len(computed) == 1 and "mpg123" not in said.replace("damaged mp3", "") and "\nNote:" not in said
    assert "damaged mp3, of which what can be decoded is used" in said and "clip03.wav" in said


def test_two_processes_compute_what_one_has_computed_and_open_the_same_indexes(config):
    folder = next(Path(config.data_dir).glob("features/*/"))
    names = ("codes.bin", "mels.bin", "index.bin")
    alone = {name: (folder / name).read_bytes() for name in names}
    shutil.rmtree(folder)

    def facts(data):
        """All but the batch, which `batch_size` gives for each process."""
        return "".join(line for line in data.describe() if not line.startswith("batch"))

    def body(rank):
        torch.set_num_threads(1)
        with joined(config) as peers:
            data = open_data(config, "cpu", peers)
            (folder / f"rank{rank}").write_text(facts(data))

    assert finish(launch(body)) == [0, 0]
    assert {name: (folder / name).read_bytes() for name in names} == alone
    assert (folder / "rank0").read_text() == (folder / "rank1").read_text() == facts(open_data(config))

    assert finish(launch(body)) == [0, 0]  # where nothing is to be computed
    assert {name: (folder / name).read_bytes() for name in names} == alone


def test_while_another_program_fills_the_cache_it_is_refused(config):
    folder = next(Path(config.data_dir).glob("features/*/"))
    (folder / "index.bin").unlink()
    with RunLock(folder / "cache.lock").hold(), pytest.raises(UserError, match=r"another run .* holds .*cache\.lock"):
        open_data(config)
    assert not (folder / "index.bin").exists()


def test_a_cache_of_one_process_from_before_is_carried_on(config, computed):
    """Until 2026-11-26 clips stood in the order of the table; only what such a cache lacks is computed."""
    folder = next(Path(config.data_dir).glob("features/*/"))
    index = folder / "index.bin"
    index.write_bytes(np.flip(np.fromfile(index, RECORD))[2:].tobytes())
    data = open_data(config)
    assert len(computed) == 2
    for split in (data.train, data.val):
        for clip in range(len(split)):
            split.cache.read(split.index.records[clip], split.index.file_id(clip))


def test_an_index_of_version_1_is_made_anew_from_the_cache_as_it_is(config, computed, capsys, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(prepare_features, "VERSION", 1)
        open_data(config)
    capsys.readouterr()
    open_data(config)
    assert computed == [] and capsys.readouterr().out.count("changed since it was made: version") == 2


def test_a_recording_too_short_for_a_mel_frame_is_named(config):
    recording = Path(config.base_model_path).parent / "wavs" / "clip03.wav"
    soundfile.write(recording, np.zeros(500), 22050)
    with pytest.raises(UserError, match=r"clip03\.wav.*0\.023 s is no clip; delete its row"):
        open_data(config)


def test_without_the_language_stage_s_vocabulary_it_says_what_to_run(config):
    (Path(config.output_model_path) / "vocab.json").unlink()
    with pytest.raises(UserError, match=r"vocab\.json does not exist: run python run_pretrain\.py"):
        open_data(config)
