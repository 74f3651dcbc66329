"""The lock names every package that the two requirements files bring in: a version nobody tested never slips in."""

import re
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LEFT_TO_TORCH = re.compile(r"nvidia-|cuda-|triton|setuptools")  # torch names exact versions, one set for each CUDA


def _lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text("utf-8").splitlines() if line and line[0] not in "#-"]


def _brought_in(requirement: Requirement, seen: set[tuple[str, str]]) -> None:
    """Adds to `seen` the (package, extra) pairs that pip installs for `requirement`, here, in this environment."""
    for extra in ("", *requirement.extras):
        pair = (canonicalize_name(requirement.name), extra)
        if pair in seen or LEFT_TO_TORCH.match(pair[0]):
            continue
        seen.add(pair)
        for below in map(Requirement, requires(pair[0]) or []):
            if below.marker is None or below.marker.evaluate({"extra": extra}):
                _brought_in(below, seen)


def test_the_lock_pins_everything_that_is_installed():
    locked = [Requirement(line) for line in _lines("requirements-lock.txt")]
    assert all(re.fullmatch(r"==[^*]+", str(pin.specifier)) for pin in locked)
    needed: set[tuple[str, str]] = set()
    for line in _lines("requirements.txt") + _lines("requirements-dev.txt"):
        _brought_in(Requirement(line), needed)
    assert not {name for name, _ in needed} - {canonicalize_name(pin.name) for pin in locked}


def test_both_files_are_held_to_the_lock():
    for name in ("requirements.txt", "requirements-dev.txt"):
        assert (ROOT / name).read_text("utf-8").startswith("-c requirements-lock.txt\n")
