import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_index import ARGS, make_index, rows_of

from xtts_ka.core.digests import write_manifest
from xtts_ka.core.errors import RunError
from xtts_ka.model.geometry import COND_POSITIONS, codes_of
from xtts_ka.training import clip_index
from xtts_ka.training.clip_index import AUDIO_STOPS, build_index, open_index
from xtts_ka.training.feature_cache import RECORD

ROOT = Path(__file__).parents[2]
SAMPLES = [22050 * (1 + i % 7) + i for i in range(50)]


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_it_gives_back_what_it_was_made_from(tmp_path):
    index = make_index(tmp_path, SAMPLES, ("nino", "gia", "eka"))
    assert len(index) == 50
    for clip, samples in enumerate(SAMPLES):
        assert index.text(clip).tolist() == [10 + clip] * (3 + clip % 40)
        assert index.file_id(clip) == f"clip{clip}" and index.records[clip]["samples"] == samples
        assert index.positions[clip] == COND_POSITIONS + (3 + clip % 40) + 1 + codes_of(samples) + AUDIO_STOPS
        assert index.clips_of(index.speakers[clip]).tolist() == list(range(clip % 3, 50, 3))
    assert len({index.number(clip) for clip in range(50)}) == 50
    assert len(np.unique(index.speakers)) == 3 and index.left_out == {}
    assert index.seconds.tolist() == pytest.approx([samples / 22050 for samples in SAMPLES])


def test_clips_of_unknown_speakers_stand_alone(tmp_path):
    index = make_index(tmp_path, SAMPLES[:6], ("nino", "fleurs_male"), unknown=("fleurs_male",))
    assert index.known.tolist() == [True, False] * 3
    assert [index.clips_of(speaker).tolist() for speaker in index.speakers] == [
        [0, 2, 4],
        [1],
        [0, 2, 4],
        [3],
        [0, 2, 4],
        [5],
    ]


def test_many_rows_are_the_same_in_one_chunk_and_in_several(tmp_path, monkeypatch):
    whole = make_index(tmp_path / "a", SAMPLES, ("nino", "gia"))
    monkeypatch.setattr(clip_index, "_CHUNK", 7)
    assert content(make_index(tmp_path / "b", SAMPLES, ("nino", "gia")).folder) == content(whole.folder)


def test_clips_that_do_not_fit_are_left_out_and_counted(tmp_path):
    too_long = 605 * 1024
    index = make_index(tmp_path, [22050, too_long, 33000, too_long], ("nino", "gia", "eka", "lia"))
    assert [index.file_id(clip) for clip in range(len(index))] == ["clip0", "clip2"]
    assert index.left_out == {"audio too long": 2} and len(np.unique(index.speakers)) == 2

    def encode(texts):
        return [np.full(402 if text == "1" else 401, 5, "<u4") for text in texts]

    rows = rows_of(3, ["nino"])
    index = build_index(tmp_path, "val", {"table": "t"}, list(zip(rows, range(3))), index_records, encode, ARGS)
    assert index.left_out == {"text too long": 1} and index.positions[0] == 32 + 401 + 1 + 22 + 4


def index_records(keys):
    records = np.zeros(len(keys), RECORD)
    records["samples"] = 22050
    return records


def index_key(index):
    return json.loads((index.folder / "manifest.json").read_text())["key"]


def test_no_clip_fits(tmp_path):
    index = make_index(tmp_path, [10**6])
    assert len(index) == 0 and index.left_out == {"audio too long": 1}
    assert len(open_index(tmp_path, "train", index_key(index))) == 0


def test_a_clip_that_the_cache_has_not_got_is_named_and_nothing_is_left(tmp_path):
    with pytest.raises(RunError, match="clip1 .*same command"):
        make_index(tmp_path, [22050, 0, 22050])
    assert not list(tmp_path.iterdir())


# ── one index per split, for one key ──


def test_it_opens_for_its_own_key_only(tmp_path):
    index = make_index(tmp_path, SAMPLES, archaic="keep", recordings="r1")
    key = {"table": "t", "archaic": "keep", "recordings": "r1"}
    again = open_index(tmp_path, "train", key)
    assert again.folder == index.folder and again.left_out == index.left_out
    assert again.text(9).tolist() == index.text(9).tolist()
    for other in (
        {**key, "archaic": "respell"},
        {**key, "table": "u"},
        {**key, "recordings": "r2"},
        {**key, "more": 1},
    ):
        assert open_index(tmp_path, "train", other) is None
    assert open_index(tmp_path, "val", key) is None
    assert open_index(tmp_path, "train", {**key, "recordings": None}).folder == index.folder


def test_made_twice_it_is_the_same_byte_for_byte(tmp_path):
    indexes = [make_index(tmp_path / name, SAMPLES, ("nino", "gia")) for name in ("a", "b")]
    first, second = (content(index.folder) for index in indexes)
    assert first == second and len(first) == 12


def test_a_new_one_takes_the_old_one_s_place_and_says_why(tmp_path, capsys):
    old, val = make_index(tmp_path, SAMPLES), tmp_path / "index_val_0"
    val.mkdir()
    assert capsys.readouterr().out == ""
    new = make_index(tmp_path, SAMPLES, archaic="keep")
    assert not old.folder.exists() and new.folder.exists() and val.exists()
    assert f"{old.folder.name} is made anew; changed since it was made: archaic" in capsys.readouterr().out


def test_an_index_of_an_older_version_is_made_anew_and_says_so(tmp_path, capsys):
    old = tmp_path / "index_train_0123456789abcdef"
    old.mkdir()
    (old / "names.txt").write_text("clip0.wav\n")
    write_manifest(old, {"key": {"version": 1, "table": "t"}, "facts": {}})
    assert open_index(tmp_path, "train", {"version": 2, "table": "t"}) is None
    new = make_index(tmp_path, SAMPLES, version=2)
    assert list(tmp_path.iterdir()) == [new.folder]
    assert "changed since it was made: version" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "missing"])
@pytest.mark.parametrize("name", ["tokens.npy", "positions.npy", "records.npy", "manifest.json"])
def test_damage_is_found_named_and_made_anew(tmp_path, capsys, name, damage):
    index = make_index(tmp_path, SAMPLES)
    sound, file = content(index.folder), index.folder / name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes({"cut": data[:-1], "flip": data, "empty": b""}[damage])
    assert open_index(tmp_path, "train", {"table": "t"}) is None
    assert content(make_index(tmp_path, SAMPLES).folder) == sound
    said = capsys.readouterr().err
    assert str(index.folder) in said and "made anew" in said and name in said


def test_killed_while_it_is_written_it_leaves_nothing_that_is_used(tmp_path):
    reached = multiprocessing.get_context("fork").Event()

    def wait(*_):
        reached.set()
        time.sleep(60)

    def work():
        clip_index.write_manifest = wait
        make_index(tmp_path, SAMPLES)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    assert reached.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".index_train_") and left.name.endswith(".partial")  # what sweep_partials removes
    assert open_index(tmp_path, "train", {"table": "t"}) is None
    assert len(make_index(tmp_path, SAMPLES)) == 50


# ── memory ──


DRAWING = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from xtts_ka.training.batch_plan import plan_epoch
from xtts_ka.training.clip_index import open_index
index = open_index(Path(sys.argv[1]), "train", {"table": "t"})
plan = plan_epoch(index.positions, index.records["samples"].astype("int64"), 8 * 5 * 22050, 0, 0)
for batch in range(0, len(plan), len(plan) // 100):
    for clip in plan[batch]:
        index.text(clip), index.file_id(clip), index.records[clip]
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(len(index), peak.split()[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read as Linux tells it")
def test_memory_does_not_grow_with_the_number_of_clips(tmp_path):
    peaks, sizes = [], []
    for count in (4_000, 80_000):
        folder = make_index(tmp_path / str(count), [30_000 + 50 * (i % 3000) for i in range(count)]).folder
        result = subprocess.run(
            [sys.executable, "-c", DRAWING, str(folder.parent), str(ROOT)], capture_output=True, text=True, check=True
        )
        clips, kilobytes = map(int, result.stdout.split())
        assert clips == count
        peaks.append(kilobytes * 1024)
        sizes.append(sum(file.stat().st_size for file in folder.iterdir()))
    # The plan reads every clip's record (a quarter of the files) and works on arrays of some 100 bytes a clip; those by
    # which clips of one speaker share a voice sample are a part.
    assert peaks[1] - peaks[0] < 1.1 * (sizes[1] - sizes[0])
