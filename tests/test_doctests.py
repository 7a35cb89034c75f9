"""Every example in a docstring runs and says what it shows."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import radiobject

# nnU-Net has an environment of its own, where tests/ml/cases_nnunet.py runs the examples of this one
ELSEWHERE = {"radiobject.ml.nnunet"}
MODULES = sorted({m.name for m in pkgutil.walk_packages(radiobject.__path__, "radiobject.")} - ELSEWHERE)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # an example may write files
    module = import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_there_are_examples_at_all() -> None:
    found = sum(len(t.examples) for n in MODULES for t in doctest.DocTestFinder().find(import_module(n)))
    assert found > 40
