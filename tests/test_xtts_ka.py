"""The package's front: its public functions, and the refusal of other versions of Python."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import xtts_ka

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if 'if __name__ == "__main__"' in path.read_text("utf-8"))
OTHER_PYTHON = "import sys\nsys.version_info = (3, {minor}, 0, 'final', 0)\n"


def run(code: str, *flags: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *flags, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_importing_the_package_imports_neither_torch_nor_coqui():
    done = run("import sys, xtts_ka\nprint({'torch', 'TTS', 'numpy', 'tokenizers'} & sys.modules.keys(), dir(xtts_ka))")
    assert done.stdout.startswith("set()"), done.stdout + done.stderr
    assert all(name in done.stdout for name in ("__version__", "load_xtts", "normalise", "register"))


def test_normalise_reads_text_without_torch():
    assert xtts_ka.normalise("2026 წ.") == "ორი ათას ოცდაექვსი წელი."
    assert xtts_ka.normalise("ჴელი", archaic="keep") == "ჴელი"
    done = run("import sys, xtts_ka\nxtts_ka.normalise('20 MB')\nprint({'torch', 'TTS'} & sys.modules.keys())")
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize("minor", [8, 10, 13])
def test_another_python_is_refused_in_one_sentence(minor):
    sentence = f"xtts_ka needs Python 3.11 or 3.12, and this is Python 3.{minor}: install one of them and use it"
    done = run(OTHER_PYTHON.format(minor=minor) + "import xtts_ka")
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == f"RuntimeError: {sentence}"
    for script in SCRIPTS:
        # -S: nothing but Python itself is installed there
        start = f"import runpy\nsys.argv = ['{script}']\nsys.path.insert(0, '.')\n"
        start += f"runpy.run_path('{script}', run_name='__main__')"
        done = run(OTHER_PYTHON.format(minor=minor) + start, "-S")
        assert (done.returncode, done.stderr) == (2, f"error: {sentence}\n"), script


def test_old_pythons_can_parse_what_refuses_them():
    for file in (*SCRIPTS, "xtts_ka/__init__.py"):
        ast.parse((ROOT / file).read_text("utf-8"), file, feature_version=(3, 8))
