"""Nothing that is read is run: no pickles, no eval, no object arrays, anywhere in the package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PACKAGE = Path(__file__).parents[2] / "radiobject"
FILES = sorted(PACKAGE.rglob("*.py"))
LOADERS = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle"}
CALLS = {"eval", "exec", "compile", "__import__"}

REASONS: dict[str, str] = {
    "workers": "tasks and their results pass between processes of one run, by loky's and dask's own pipes",
    "testing/conformance": "asks of a backend that its handles can go to another process",
}
"""Files whose bytes never come from a study."""


def offences(tree: ast.AST) -> list[str]:
    """What a module does that would run data."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [f"import {a.name}" for a in node.names if a.name.split(".")[0] in LOADERS]
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in LOADERS:
            found.append(f"from {node.module}")
        elif isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if name in CALLS:
                found.append(f"{name}()")
            if method == "read_pickle" or (method == "load" and ast.unparse(node.func) == "torch.load"):
                found.append(ast.unparse(node.func))
            found += [
                f"{k.arg}={ast.unparse(k.value)}"
                for k in node.keywords
                if (
                    k.arg == "allow_pickle"
                    and not (isinstance(k.value, ast.Constant) and k.value.value is False)
                )
                or (k.arg == "shell" and not (isinstance(k.value, ast.Constant) and k.value.value is False))
            ]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_runs_what_it_reads(path: Path) -> None:
    name = str(path.relative_to(PACKAGE).with_suffix(""))
    found = offences(ast.parse(path.read_text()))
    assert found == [] or name in REASONS, found


def test_every_exception_is_still_one() -> None:
    for name in REASONS:
        assert offences(ast.parse((PACKAGE / f"{name}.py").read_text())), (
            f"{name} needs no exception any more"
        )


@pytest.mark.parametrize(
    "line", ["import pickle", "from marshal import loads", "eval('1')", "np.load(f, allow_pickle=True)"]
)
def test_an_offence_is_seen(line: str) -> None:
    assert offences(ast.parse(line))
