"""What a row says of its array is held against what the volume says itself, by validate("full")."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from radiobject import RadiObject
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.transaction import Transaction


@pytest.fixture(params=["zarr", "tiledb"])
def radi(request: pytest.FixtureRequest, tmp_path: Path) -> RadiObject:
    pytest.importorskip(request.param)
    image = (np.arange(120, dtype="i2").reshape(6, 5, 4), None)
    images = {"CT": [(image, "a"), (image, "b")]}
    return RadiObject.from_niftis(tmp_path / "study", images, backend=request.param, progress=False)


def restated(radi: RadiObject, **columns: Any) -> RadiObject:
    """The study in which the first volume's row says something else."""
    schema = radi._study.obs("CT").schema
    arrays = {name: pa.array([value], schema.field(name).type) for name, value in columns.items()}
    table = pa.table({"obs_id": ["a_CT"], **arrays})
    transaction = Transaction(radi._study.snapshot.storage, radi._study.snapshot, "restate")
    edit = CollectionEdit(kind="image", backend=radi.CT.backend, updated=table)
    transaction.commit(Edit(collections={"CT": edit}))
    return RadiObject(radi.uri)


def shorter(hint: str) -> str:
    """The hint of an array of one voxel less along z."""
    return json.dumps(json.loads(hint)).replace("[4, 5, 6]", "[3, 5, 6]")


def test_a_hint_of_another_array_is_a_problem(radi: RadiObject) -> None:
    assert radi.validate("full").ok
    hint = radi._study.obs("CT").record(0, ("_hint",))[0]
    assert shorter(hint) != json.dumps(json.loads(hint))
    told = restated(radi, _hint=shorter(hint))
    (problem,) = told.validate("full").problems
    assert (problem.kind, problem.where) == ("row", "CT/a_CT")
    assert "_hint" in str(problem)


@pytest.mark.parametrize("columns", [{"dim_x": 7}, {"dtype": "int32"}])
def test_another_shape_or_type_is_a_problem(radi: RadiObject, columns: dict[str, Any]) -> None:
    (problem,) = (p for p in restated(radi, **columns).validate("full").problems if p.kind == "row")
    assert problem.where == "CT/a_CT"
    assert "(6, 5, 4" in str(problem)


def test_a_row_that_says_no_type_is_a_problem(radi: RadiObject) -> None:
    (problem,) = restated(radi, dtype=None).validate("full").problems
    assert "None" in str(problem)
