"""Atomic writes, and JSON files."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xtts_ka.core import files
from xtts_ka.core.errors import UserError

ROOT = Path(__file__).parents[2]


HEAD = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from xtts_ka.core import files
"""


def python(script: str, *arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", HEAD + script, *map(str, arguments)], timeout=120)


def listing(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_write_replaces_the_file_and_leaves_no_other(tmp_path):
    files.write_text(tmp_path / "new" / "a.txt", "one")
    files.write_text(tmp_path / "new" / "a.txt", "ორი")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "ორი".encode()
    assert listing(tmp_path / "new") == ["a.txt"]


def test_an_open_reader_keeps_reading_the_old_file(tmp_path):
    files.write_text(tmp_path / "a.txt", "old")
    with open(tmp_path / "a.txt") as reader:
        files.write_text(tmp_path / "a.txt", "new")
        assert reader.read() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"


def test_an_error_while_writing_keeps_the_old_file(tmp_path):
    files.write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ZeroDivisionError):
        with files.atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError
    assert (tmp_path / "a.txt").read_text() == "old" and listing(tmp_path) == ["a.txt"]


def test_a_kill_while_writing_keeps_the_old_file_and_the_partial_one_is_swept(tmp_path):
    files.write_text(tmp_path / "a.txt", "old")
    killed = python(
        "with files.atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)",
        tmp_path / "a.txt",
    )
    assert killed.returncode == -signal.SIGKILL
    assert (tmp_path / "a.txt").read_text() == "old" and len(listing(tmp_path)) == 2
    files.sweep_partials(tmp_path)
    assert listing(tmp_path) == ["a.txt"]


def test_a_killed_folder_never_appears_under_its_name(tmp_path):
    killed = python(
        "with files.atomic_folder(Path(sys.argv[1])) as temporary:\n"
        "    (temporary / 'x').write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)",
        tmp_path / "step_00000001",
    )
    assert killed.returncode == -signal.SIGKILL
    assert listing(tmp_path) != [] and not (tmp_path / "step_00000001").exists()
    files.sweep_partials(tmp_path)
    assert listing(tmp_path) == []


def test_writers_killed_at_any_moment_leave_the_old_or_the_new_file(tmp_path):
    """A child process keeps rewriting a file with one repeated letter; after a kill it holds one letter only."""
    script = (
        "n = 0\nwhile True:\n    n += 1\n    files.write_text(Path(sys.argv[1]), 'ab'[n % 2] * 200_000)\n"
        "    print(n, flush=True)"
    )
    for turns in (1, 3, 7, 12):
        with subprocess.Popen(
            [sys.executable, "-c", HEAD + script, str(tmp_path / "a.txt")], text=True, stdout=subprocess.PIPE
        ) as child:
            for _ in range(turns):
                child.stdout.readline()
            child.kill()
        assert (tmp_path / "a.txt").read_text() in ("a" * 200_000, "b" * 200_000)
        files.sweep_partials(tmp_path)
        assert listing(tmp_path) == ["a.txt"]


def test_a_folder_appears_complete_and_never_replaces_another(tmp_path):
    with files.atomic_folder(tmp_path / "step") as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "x").write_text("x")
        assert not (tmp_path / "step").exists()
    assert (tmp_path / "step" / "deep" / "x").read_text() == "x"
    with pytest.raises(OSError):
        with files.atomic_folder(tmp_path / "step") as temporary:
            (temporary / "y").write_text("y")
    assert listing(tmp_path) == ["step"] and listing(tmp_path / "step") == ["deep"]


def test_sweeping_deletes_only_partial_files_and_folders(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("p")
    folder = tmp_path / "folder"
    (folder / ".step_00000500.77.partial" / "deep").mkdir(parents=True)
    (folder / ".a.txt.12.partial").write_text("left")
    (folder / ".link.13.partial").symlink_to(outside)
    for kept in ("download.partial", ".notes.partial", ".a.txt.12.partial.bak", "a.txt"):
        (folder / kept).write_text("kept")
    files.sweep_partials(folder)
    files.sweep_partials(tmp_path / "missing")
    assert listing(folder) == [".a.txt.12.partial.bak", ".notes.partial", "a.txt", "download.partial"]
    assert (outside / "precious").read_text() == "p"


def test_a_full_disk_keeps_the_old_file_and_the_error_names_it(tmp_path, monkeypatch):
    files.write_text(tmp_path / "a.txt", "old")

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[:1])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError) as caught:
        files.write_text(tmp_path / "a.txt", "new")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "old" and listing(tmp_path) == ["a.txt"]


def test_json_is_readable_and_keeps_undecodable_file_names(tmp_path):
    odd = os.fsdecode(b"caf\xe9")
    files.write_json(tmp_path / "a.json", {"ენა": "ქართული", "path": odd})
    assert '"ენა": "ქართული"' in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert files.read_json(tmp_path / "a.json") == {"ენა": "ქართული", "path": odd}


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert files.read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"9" * 5000, b"[" * 100_000, b'{"a": }'])
def test_damaged_json_is_a_user_error(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match="report .*a.json is not valid JSON .*: write it again"):
        files.read_json(tmp_path / "a.json", "report", "write it again")


def test_missing_json_and_a_folder_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="report .* does not exist: write it again"):
        files.read_json(tmp_path / "none.json", "report", "write it again")
    with pytest.raises(UserError, match="report .* cannot be read"):
        files.read_json(tmp_path, "report")


# ── lines of text ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_lines_are_numbered_without_their_ends_or_a_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffერთი\r\n\nორი".encode())
    assert list(files.text_lines(tmp_path / "a.txt", "word list")) == [(1, "ერთი"), (2, ""), (3, "ორი")]


def test_lines_that_are_not_utf8_and_files_that_cannot_be_opened_are_one_sentence(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(UserError, match=r"word list .*a\.txt, line 2: not UTF-8; save the file as UTF-8"):
        list(files.text_lines(tmp_path / "a.txt", "word list"))
    with pytest.raises(UserError, match=r"cannot read word list .*none\.txt"):
        list(files.text_lines(tmp_path / "none.txt", "word list"))
