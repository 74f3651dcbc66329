"""Who may hold the lock: with real processes, and with what such processes leave behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xtts_ka.core.errors import UserError
from xtts_ka.core.lock import RunLock

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "models" / "pretrain.lock"


def info_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def holding(path: Path, body: str) -> subprocess.Popen:
    """Another process that takes the lock, prints `held`, and then does `body`."""
    script = (
        f"import os, signal, sys, time\nsys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n"
        f"from xtts_ka.core.lock import RunLock\nwith RunLock(Path({str(path)!r})).hold():\n"
        f"    print('held', flush=True)\n    {body}\n"
    )
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    return other


def taken(path: Path) -> bool:
    try:
        with RunLock(path).hold():
            return False
    except UserError:
        return True


def test_a_file_beside_the_lock_names_the_holder_until_it_is_released(path):
    lock = RunLock(path)
    with lock.hold():
        assert lock.held
        who = json.loads(info_of(path).read_text())
        assert who["pid"] == os.getpid() and who["host"] == socket.gethostname()
        assert time.strptime(who["since"], "%Y-%m-%dT%H:%M:%SZ")
        assert RunLock(path).holder() == who
    assert not lock.held and not info_of(path).exists() and RunLock(path).holder() == {}
    with lock.hold():
        pass


def test_it_is_released_after_an_error(path):
    with pytest.raises(ZeroDivisionError):
        with RunLock(path).hold():
            raise ZeroDivisionError
    assert not taken(path)


def test_a_second_lock_object_of_the_same_process_is_refused(path):
    with RunLock(path).hold():
        with pytest.raises(UserError, match=f"pid {os.getpid()} on"):
            with RunLock(path).hold():
                pass
        assert RunLock(path).holder().get("pid") == os.getpid()


def test_a_living_holder_is_named(path):
    with holding(path, "input()") as other:
        since = json.loads(info_of(path).read_text())["since"]
        assert RunLock(path).holder().get("pid") == other.pid
        with pytest.raises(
            UserError, match=rf"another run \(pid {other.pid} on {socket.gethostname()}, since {since}\) holds .*wait"
        ):
            with RunLock(path).hold():
                pass
        other.communicate("\n", timeout=30)
    assert RunLock(path).holder().get("pid") is None


def test_asking_who_holds_the_lock_writes_nothing(path):
    assert RunLock(path).holder() == {} and not path.parent.exists()


def test_the_lock_of_a_killed_process_is_free_and_its_information_overwritten(path):
    with holding(path, "os.kill(os.getpid(), signal.SIGKILL)") as other:
        other.wait(timeout=30)
    assert json.loads(info_of(path).read_text())["pid"] == other.pid and RunLock(path).holder().get("pid") is None
    with RunLock(path).hold():
        assert RunLock(path).holder().get("pid") == os.getpid()


def test_a_forked_worker_that_outlives_its_killed_parent_does_not_keep_the_lock(path):
    body = "pid = os.fork()\n    time.sleep(60) if pid == 0 else (print(pid, flush=True), os.kill(os.getpid(), 9))"
    with holding(path, body) as other:
        worker = int(other.stdout.readline())
        try:
            other.wait(timeout=30)
            os.kill(worker, 0)  # it lives
            assert not taken(path)
        finally:
            os.kill(worker, signal.SIGKILL)


def test_a_forked_worker_that_ends_does_not_release_its_parents_lock(path):
    body = "pid = os.fork()\n    (sys.exit() if pid == 0 else os.waitpid(pid, 0), print('back', flush=True), input())"
    with holding(path, body) as other:
        assert other.stdout.readline() == "back\n"
        assert taken(path) and RunLock(path).holder().get("pid") == other.pid
        other.communicate("\n", timeout=30)
    assert not taken(path)


def test_of_processes_that_race_exactly_one_wins_and_the_others_name_it(path):
    script = (
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n"
        f"from xtts_ka.core.errors import UserError\nfrom xtts_ka.core.lock import RunLock\ninput()\n"
        f"try:\n    with RunLock(Path({str(path)!r})).hold():\n        print('won', flush=True); input()\n"
        f"except UserError as error:\n    print('lost', error, flush=True)\n"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(5)
    ]
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    verdicts = [racer.stdout.readline() for racer in racers]
    winner = racers[verdicts.index("won\n")].pid
    assert verdicts.count("won\n") == 1 and sum(f"pid {winner} on" in verdict for verdict in verdicts) == 4
    for racer in racers:
        racer.communicate("\n", timeout=30)


def test_processes_that_take_turns_are_never_in_it_together(path, tmp_path):
    """Three processes take and release the lock as fast as they can, 20 turns each; each checks that it is alone."""
    script = (
        f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n"
        f"from xtts_ka.core.errors import UserError\nfrom xtts_ka.core.lock import RunLock\nwon = 0\n"
        f"alone = Path({str(tmp_path / 'alone')!r})\n"
        f"while won < 20:\n    try:\n        with RunLock(Path({str(path)!r})).hold():\n"
        f"            os.close(os.open(alone, os.O_CREAT | os.O_EXCL)); os.unlink(alone); won += 1\n"
        f"    except UserError:\n        pass\nprint(won)\n"
    )
    several = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for one in several:
        assert one.communicate(timeout=60) == ("20\n", "")


def test_a_copied_folder_is_held_by_nobody(path, tmp_path):
    with holding(path, "input()") as other:
        copy = tmp_path / "copy" / path.name
        copy.parent.mkdir()
        for original in (path, info_of(path)):
            (copy.parent / original.name).write_bytes(original.read_bytes())
        assert RunLock(copy).holder().get("pid") is None and RunLock(path).holder().get("pid") == other.pid
        assert not taken(copy)
        other.communicate("\n", timeout=30)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\0" * 5000, '{"pid": 1e400}'])
def test_damaged_files_are_no_obstacle(path, content):
    path.parent.mkdir()
    path.write_text(content)  # earlier versions wrote the holder here
    info_of(path).write_text(content)
    assert RunLock(path).holder().get("pid") is None
    with RunLock(path).hold():
        assert RunLock(path).holder().get("pid") == os.getpid()


def test_a_link_out_of_the_folder_is_not_followed(path, tmp_path):
    path.parent.mkdir()
    (tmp_path / "precious.txt").write_text("precious")
    path.symlink_to(tmp_path / "precious.txt")
    with pytest.raises(OSError):
        with RunLock(path).hold():
            pass
    assert (tmp_path / "precious.txt").read_text() == "precious"


@pytest.mark.parametrize("exists", [True, False], ids=["no new files", "no new folder"])
def test_a_folder_that_may_not_be_written_is_one_sentence(path, exists, monkeypatch):
    """The refusal is simulated: root, which tests may run as, is refused nothing."""
    folder = path.parent if exists else path.parent.parent
    if exists:
        path.parent.mkdir()

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "open" if exists else "mkdir", refuse)
    with pytest.raises(UserError, match=r"models cannot be locked \(Permission denied\): make it writable"):
        with RunLock(path).hold():
            pass
