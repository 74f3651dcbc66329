"""Who may hold the lock: with real processes, and with lock files that such processes would have left."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from xtts_ka.core import lock as run_lock
from xtts_ka.core.errors import UserError
from xtts_ka.core.lock import RunLock

ROOT = Path(__file__).parents[2]
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "models" / "pretrain.lock"


def left_behind(path: Path, **changes) -> None:
    """A lock file as a process that is gone would have left it."""
    path.parent.mkdir(exist_ok=True)
    holder = {
        "pid": 4_000_000,
        "host": socket.gethostname(),
        "boot_id": BOOT,
        "process_start": "123",
        "since": "2026-11-23T05:40:00Z",
    }
    path.write_text(json.dumps(holder | changes))


def start_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


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


def test_the_file_says_who_holds_it_and_goes_when_released(path):
    lock = RunLock(path)
    with lock.hold():
        assert lock.held
        who = json.loads(path.read_text())
        assert who["pid"] == os.getpid() and who["host"] == socket.gethostname() and who["boot_id"] == BOOT
        assert who["process_start"] == start_of(os.getpid())
        assert time.strptime(who["since"], "%Y-%m-%dT%H:%M:%SZ")
    assert not lock.held and not path.exists()
    with lock.hold():
        pass


def test_it_is_released_after_an_error(path):
    with pytest.raises(ZeroDivisionError):
        with RunLock(path).hold():
            1 / 0
    assert not path.exists()
    with RunLock(path).hold():
        pass


def test_the_same_process_is_kept_out_of_its_own_lock(path):
    with RunLock(path).hold():
        with pytest.raises(UserError, match=f"pid {os.getpid()} on"):
            with RunLock(path).hold():
                pass
        assert path.exists()


def test_a_refused_attempt_in_this_process_does_not_drop_its_kernel_lock(path):
    """Closing any handle on a file drops a process's POSIX locks on it, so the second attempt must open none."""
    with RunLock(path).hold():
        with pytest.raises(UserError):
            with RunLock(path).hold():
                pass
        attempt = f"import fcntl; fcntl.lockf(open({str(path)!r}, 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        assert b"BlockingIOError" in subprocess.run([sys.executable, "-c", attempt], capture_output=True).stderr


@pytest.mark.parametrize("living", [False, True])
def test_a_holder_that_lets_go_between_our_open_and_our_lock(path, monkeypatch, living):
    """It removes the file that we have opened: a lock on that one would keep nobody out."""
    left_behind(path, **({"pid": os.getpid(), "process_start": start_of(os.getpid())} if living else {}))
    lockf = run_lock.fcntl.lockf
    removed = []

    def let_go_then_lock(handle, how):
        if not removed:
            removed.append(path.unlink())
        lockf(handle, how)

    monkeypatch.setattr(run_lock.fcntl, "lockf", let_go_then_lock)
    with RunLock(path).hold():
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_living_holder_is_named(path):
    with holding(path, "input()") as other:
        since = json.loads(path.read_text())["since"]
        assert RunLock(path).living_holder() == other.pid
        with pytest.raises(
            UserError, match=f"another run holds .*pid {other.pid} on {socket.gethostname()}, since {since}"
        ):
            with RunLock(path).hold():
                pass
        other.communicate("\n", timeout=30)
    assert not path.exists()


def test_the_lock_of_a_killed_process_is_taken_over(path, capsys):
    with holding(path, "os.kill(os.getpid(), signal.SIGKILL)") as other:
        other.wait(timeout=30)
    assert path.exists()
    with RunLock(path).hold():
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert f"took over the lock of pid {other.pid} on {socket.gethostname()}" in capsys.readouterr().out


def test_a_worker_that_outlives_its_killed_parent_does_not_keep_the_lock(path):
    body = "pid = os.fork()\n    time.sleep(60) if pid == 0 else (print(pid, flush=True), os.kill(os.getpid(), 9))"
    with holding(path, body) as other:
        worker = int(other.stdout.readline())
        try:
            other.wait(timeout=30)
            os.kill(worker, 0)  # it lives
            with RunLock(path).hold():
                pass
        finally:
            os.kill(worker, signal.SIGKILL)


def test_a_forked_worker_that_ends_does_not_release_its_parents_lock(path):
    body = "pid = os.fork()\n    (sys.exit() if pid == 0 else os.waitpid(pid, 0), print('back', flush=True), input())"
    with holding(path, body) as other:
        assert other.stdout.readline() == "back\n"
        with pytest.raises(UserError, match="another run holds"):
            with RunLock(path).hold():
                pass
        other.communicate("\n", timeout=30)
    assert not path.exists()


def test_of_processes_that_race_exactly_one_wins(path):
    script = (
        f"import sys, time\nsys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n"
        f"from xtts_ka.core.errors import UserError\nfrom xtts_ka.core.lock import RunLock\ninput()\n"
        f"try:\n    with RunLock(Path({str(path)!r})).hold():\n        print('won', flush=True); input()\n"
        f"except UserError as error:\n    print('lost', error, flush=True)\n"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    left_behind(path)  # each of them has a dead one's lock to take over
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    verdicts = [next(line for line in racer.stdout if line.startswith(("won", "lost"))) for racer in racers]
    winner = racers[verdicts.index("won\n")].pid
    assert verdicts.count("won\n") == 1
    assert sum(f"pid {winner} on" in verdict for verdict in verdicts) == 5
    for racer in racers:
        racer.communicate("\n", timeout=30)
    assert not path.exists()


def test_hammering_never_lets_two_in(path, tmp_path):
    """Three processes take and release as fast as they can until each had 20 turns; each checks that it is alone."""
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
        out, err = one.communicate(timeout=60)
        assert (out, err) == ("20\n", "")


@pytest.mark.parametrize(
    "changes",
    [
        {},  # no such pid
        {"pid": os.getpid()},  # the pid lives, but its process started at another time
        {"boot_id": "00000000-0000-0000-0000-000000000000"},  # before a reboot
        {"boot_id": "another boot", "pid": os.getpid(), "process_start": start_of(os.getpid())},
        {"host": "a-container-that-is-gone"},  # the same kernel under another name
    ],
)
def test_a_stale_lock_is_taken_over_at_once(path, changes, capsys):
    left_behind(path, **changes)
    begun = time.monotonic()
    with RunLock(path).hold():
        assert json.loads(path.read_text())["process_start"] == start_of(os.getpid())
    assert time.monotonic() - begun < 2
    assert "took over the lock of pid" in capsys.readouterr().out
    assert RunLock(path).living_holder() is None


def test_a_copied_folder_is_held_by_nobody(path, tmp_path, capsys):
    with holding(path, "input()") as other:
        copy = tmp_path / "copy" / path.name
        copy.parent.mkdir()
        copy.write_bytes(path.read_bytes())
        assert RunLock(copy).living_holder() is None and RunLock(path).living_holder() == other.pid
        with RunLock(copy).hold():
            assert json.loads(copy.read_text())["pid"] == os.getpid()
        other.communicate("\n", timeout=30)
    assert f"pid {other.pid}" in (said := capsys.readouterr().out) and "copied from" in said


def test_a_living_process_without_the_kernels_lock_is_respected(path):
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        left_behind(path, pid=sleeper.pid, process_start=start_of(sleeper.pid))
        try:
            with pytest.raises(UserError, match=f"pid {sleeper.pid} on"):
                with RunLock(path).hold():
                    pass
        finally:
            sleeper.kill()
    with RunLock(path).hold():
        pass


def test_a_zombie_is_dead(path):
    sleeper = subprocess.Popen(["sleep", "60"])
    left_behind(path, pid=sleeper.pid, process_start=start_of(sleeper.pid))
    sleeper.kill()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with RunLock(path).hold():
        pass
    sleeper.wait()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "\0" * 5000, '{"pid": "x"}', '{"pid": 1e400, "boot_id": []}']
)
def test_a_torn_or_foreign_lock_file_is_no_obstacle(path, content, monkeypatch):
    monkeypatch.setattr(run_lock, "WATCH_SECONDS", 0.2)
    path.parent.mkdir()
    path.write_text(content)
    with RunLock(path).hold():
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_silent_lock_from_another_host_is_watched_and_taken_over(path, monkeypatch, capsys):
    monkeypatch.setattr(run_lock, "WATCH_SECONDS", 0.4)
    left_behind(path, host="spot-17", boot_id="another")
    begun = time.monotonic()
    with RunLock(path).hold():
        assert time.monotonic() - begun >= 0.4
    said = capsys.readouterr().out
    assert "another host (spot-17)" in said and "no sign of life" in said


def test_a_lock_that_another_host_keeps_touching_is_refused(path, monkeypatch):
    monkeypatch.setattr(run_lock, "WATCH_SECONDS", 5)
    left_behind(path, host="node-3", boot_id="another", pid=77)
    stop = threading.Event()

    def beat():
        while not stop.wait(0.05):
            os.utime(path)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with pytest.raises(UserError, match="pid 77 on node-3, since 2026-11-23T05:40:00Z"):
            with RunLock(path).hold():
                pass
    finally:
        stop.set()
        beating.join()
    assert json.loads(path.read_text())["pid"] == 77  # still theirs


def test_a_holder_touches_its_lock(path, monkeypatch):
    monkeypatch.setattr(run_lock, "BEAT_SECONDS", 0.05)
    with RunLock(path).hold():
        first = path.stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while path.stat().st_mtime_ns == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_link_out_of_the_folder_is_not_followed(path, tmp_path):
    path.parent.mkdir()
    (tmp_path / "precious.txt").write_text("precious")
    path.symlink_to(tmp_path / "precious.txt")
    with pytest.raises(OSError):
        with RunLock(path).hold():
            pass
    assert (tmp_path / "precious.txt").read_text() == "precious"


def test_a_lock_removed_by_hand_and_taken_by_another_is_left_to_them(path):
    with RunLock(path).hold():
        path.unlink()
        other = holding(path, "input()")
    assert json.loads(path.read_text())["pid"] == other.pid
    other.communicate("\n", timeout=30)
    assert not path.exists()
