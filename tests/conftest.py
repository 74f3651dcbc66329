"""What every test file needs: the repository's root on the path, and one thread per library."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest  # noqa: E402


@pytest.fixture(autouse=True)
def normal_verbosity():
    """A script that a test ran with --quiet in this process must not silence the tests behind it."""
    import console

    console._verbosity = 1
