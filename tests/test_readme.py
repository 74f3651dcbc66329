"""The documents name things that exist, and both READMEs give the same commands."""

import re

import pytest
from pipeline_run import MODEL_FILES, ROOT

READMES = ("README.md", "README.en.md")
DOCUMENTS = (
    *READMES,
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "recipes/README.md",
    "docs/architecture.md",
    "docs/scaling.md",
    "docs/tour.md",
)


def commands(name: str) -> list[str]:
    """The command lines of a document: indented, and not in a Python or Mermaid block."""
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text("utf-8"), flags=re.S)
    return [line.strip() for line in text.splitlines() if re.match(r" {4,}\S", line)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_local_links_lead_somewhere(name):
    document = ROOT / name
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text("utf-8"))
    assert not [link for link in links if not (document.parent / link).exists()]


def test_both_readmes_give_the_same_commands():
    first, second = map(commands, READMES)
    assert first == second and len(first) > 10
    assert [line.count("&&") for line in first if line.startswith("python3 -m venv")] == [2, 2]  # .ci/run takes them


@pytest.mark.parametrize("name", READMES)
def test_every_model_file_script_and_recipe_is_named(name):
    text = (ROOT / name).read_text("utf-8")
    scripts = [path.name for path in ROOT.glob("*.py")]
    recipes = [path.name for path in ROOT.glob("recipes/*.json")]
    assert not [wanted for wanted in (*MODEL_FILES, "REPORT.md", *scripts, *recipes) if f"`{wanted}`" not in text]
