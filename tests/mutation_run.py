"""Breaks the code in small ways and counts which of the breaks (mutants) the module's own tests notice.

    python tests/mutation_run.py --work /tmp/mutants xtts_ka/training/optimizer.py xtts_ka/training/batch_plan.py
    python tests/mutation_run.py --work /tmp/mutants --mutants 20 --seed 2 data_loader.py

Of each module a seeded sample of mutants is drawn: another comparison or operator, another constant, a negated
condition, a statement left out. Each one is written into a copy of the tree, where the module's tests run with -x; the
tests must pass there without a mutant first. A mutant whose tests fail is killed, one that makes them hang too. The
diff of each survivor is printed: write the test that kills it, or see why it changes nothing that matters.

Tests of a module: tests/<room>/test_<module>.py, tests/test_<script>.py, and those in `MORE_TESTS`. A test that
compares two runs of the code with each other cannot notice a mutant that both of them have.
"""

from __future__ import annotations

import argparse
import ast
import copy
import difflib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"  # two mutants of one second may have the same size

MORE_TESTS = {
    "xtts_ka/training/gpt_trainer.py": ["tests/training/test_gpt_step.py"],
    "xtts_ka/training/optimizer.py": ["tests/training/test_gpt_step.py"],
}
OTHER_COMPARISON = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
}
OTHER_OPERATOR = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or},
    ast.Or: ast.And,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", help="relative to the top of the tree")
    parser.add_argument("--work", type=Path, required=True, help="a folder for the copy of the tree; made anew")
    parser.add_argument("--mutants", type=int, default=10, help="of each module (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which mutants are drawn (default: %(default)s)")
    args = parser.parse_args(argv)
    tree = args.work / "tree"
    _copy(tree)
    import pytest, torch, transformers  # noqa: E401, F401, I001  each child would import them anew

    killed = drawn = 0
    for module in args.modules:
        found = _survivors(tree, module, args.mutants, random.Random(f"{args.seed} {module}"))
        print(f"{module}: {found[1] - found[0]} of {found[1]} killed", flush=True)
        killed, drawn = killed + found[1] - found[0], drawn + found[1]
    print(f"\n{killed} of {drawn} mutants killed: {100 * killed / max(1, drawn):.0f} % (seed {args.seed})")
    return 0


def _copy(tree: Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)


def _survivors(tree: Path, module: str, count: int, dice: random.Random) -> tuple[int, int]:
    """How many mutants of the module its tests let pass, and how many were tried."""
    file, tests = tree / module, _tests(module)
    source = file.read_text("utf-8")
    plain = ast.unparse(ast.parse(source))
    file.write_text(plain, "utf-8")
    start = time.monotonic()
    if not _passes(tree, tests, 3600):
        sys.exit(f"the tests of {module} fail without a mutant: mend them first")
    limit = 60 + 4 * (time.monotonic() - start)
    every, survivors = list(mutants(plain)), 0
    print(f"{module}: {len(every)} mutants possible, tests take {time.monotonic() - start:.0f} s", flush=True)
    chosen = dice.sample(every, min(count, len(every)))
    for mutant in chosen:
        file.write_text(mutant, "utf-8")
        if _passes(tree, tests, limit):
            survivors += 1
            lines = difflib.unified_diff(plain.splitlines(), mutant.splitlines(), module, "survivor", "", "", 2, "")
            print("\n".join(lines) + "\n", flush=True)
    file.write_text(source, "utf-8")
    return survivors, len(chosen)


def _tests(module: str) -> list[str]:
    path = Path(module)
    room = path.parts[1:-1] if path.parts[0] == "xtts_ka" else ()
    return [str(Path("tests", *room, f"test_{path.name}")), *MORE_TESTS.get(module, [])]


def _passes(tree: Path, tests: list[str], limit: float) -> bool:
    """Whether the tests pass, in a process of its own."""
    process = multiprocessing.get_context("fork").Process(target=_test, args=(tree, tests))
    process.start()
    process.join(limit)
    if process.is_alive():
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return process.exitcode == 0


def _test(tree: Path, tests: list[str]) -> None:
    os.setpgrp()
    os.chdir(tree)
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    sys.path[:] = [str(tree), *(place for place in sys.path if Path(place or ".").resolve() != ROOT / "tests")]
    sys.dont_write_bytecode = True
    import pytest

    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={tree.parent / 'tmp'}", *tests])
    for child in multiprocessing.active_children():  # whose open pipes would make this process seem alive
        child.kill()
    os._exit(code)


# ── mutants ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def mutants(source: str) -> Iterator[str]:
    """The source with one change each."""
    tree = ast.parse(source)
    types = _types(tree)
    for place, node in enumerate(ast.walk(tree)):
        for change in _changes(node) if node not in types else ():
            again = copy.deepcopy(tree)
            change(next(n for number, n in enumerate(ast.walk(again)) if number == place))
            if (mutant := ast.unparse(again)) != source:
                yield mutant


def _types(tree: ast.AST) -> set[ast.AST]:
    """The nodes of type annotations."""
    fields = (getattr(node, field, None) for node in ast.walk(tree) for field in ("annotation", "returns"))
    return {part for field in fields if field for part in ast.walk(field)}


def _changes(node: ast.AST) -> Iterator:
    """Functions that each change a node of this kind in place."""
    if isinstance(node, ast.Compare):
        for number, old in enumerate(node.ops):
            other = OTHER_COMPARISON[type(old)]
            yield lambda n, number=number, other=other: n.ops.__setitem__(number, other())
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in OTHER_OPERATOR:
        yield lambda n: setattr(n, "op", OTHER_OPERATOR[type(n.op)]())
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        value = node.value
        yield lambda n: setattr(n, "value", not value if isinstance(value, bool) else value + 1)
    if isinstance(node, ast.If | ast.While | ast.IfExp) and not _for_types(node):
        yield lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))
    for field in ("body", "orelse"):
        statements = getattr(node, field, None)
        for number, statement in enumerate(statements if isinstance(statements, list) else []):
            if _may_be_left_out(statement):
                yield lambda n, field=field, number=number: getattr(n, field).__setitem__(number, ast.Pass())


def _for_types(node: ast.If | ast.While | ast.IfExp) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _may_be_left_out(statement: ast.stmt) -> bool:
    """A call, a change of something that exists, an error; not a docstring, nor a name that others need."""
    if isinstance(statement, ast.Assign):
        return not any(isinstance(target, ast.Name | ast.Tuple) for target in statement.targets)
    if isinstance(statement, ast.Expr):
        return not isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.AugAssign | ast.Raise | ast.Continue | ast.Break)


if __name__ == "__main__":
    sys.exit(main())
