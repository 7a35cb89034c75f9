"""That the tests beside this one do run on the engine whose name they bear."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject, RadiObjectWriter, Volume, VolumeCollection, VolumeCollectionWriter

LIBRARY = {"memory": "numpy", "zarr-python": "zarr"}


def test_whoever_names_no_backend_has_the_one_under_test(study, engine: str, suffix: str, tmp_path) -> None:
    radi = study()
    with VolumeCollectionWriter(tmp_path / "collection") as collection:
        collection.write_volume(np.ones((2, 2, 2), "i2"), "a", "s")
    with RadiObjectWriter(tmp_path / "study") as writer:
        writer.add_collection("T1w").write_volume(np.ones((2, 2, 2), "i2"), "a", "s")
    radi.append(
        {"CT": [(Volume.from_numpy(np.ones((2, 2, 2), "i2"), uri=tmp_path / f"v{suffix}"), "sub-01")]}
    )
    radi.add_collection("double", radi.T1w.lazy().map(lambda v, row: v * 2))
    copy, query = radi.write(tmp_path / "copy"), radi.T1w.lazy().map(lambda v, row: v)
    moved = radi.write(f"memory://{tmp_path.name}/copy").write(tmp_path / "moved")
    parts = [
        *(r.collection(name) for r in (radi, copy, moved) for name in r),
        collection.collection,
        writer.finalize().T1w,
        query.write(tmp_path / "query"),
        VolumeCollection.from_volumes(
            tmp_path / "volumes", [("a", Volume.from_numpy(np.ones((2, 2, 2), "i2")))]
        ),
    ]
    for part in parts:
        assert part.backend == {".mem": "memory", ".tdb": "tiledb"}.get(suffix, "zarr")
        assert all(path.endswith(suffix) for path in part.obs.to_arrow(["_path"])["_path"].to_pylist())
        assert type(part.iloc[0].array).__module__.partition(".")[0] == LIBRARY.get(engine, engine)


@pytest.fixture(scope="module")
def made_once(everywhere: None, tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    images = {"T1w": [((np.ones((2, 2, 2), "i2"), np.eye(4)), "a")]}
    return RadiObject.from_niftis(tmp_path_factory.mktemp("once") / "study", images)


@pytest.mark.parametrize("time", [1, 2])
def test_a_study_of_a_module_is_made_anew_for_each_engine(made_once, engine: str, time: int) -> None:
    library = LIBRARY.get(engine, engine)
    assert type(made_once.T1w.iloc[0].array).__module__.partition(".")[0] == library


@pytest.mark.no_backend(reason="reads the tests")
@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("test_*.py")), ids=lambda p: p.stem)
def test_fixtures_of_modules_ask_for_everywhere(path: Path) -> None:
    """Without it they would be made once, on the first engine, and serve the tests of all."""
    tree = ast.parse(path.read_text())
    if any(ast.unparse(n).startswith("pytestmark") for n in tree.body):
        return  # the module runs on one engine, or on none
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and any("scope=" in ast.unparse(d) for d in node.decorator_list):
            names = {a.arg for a in node.args.args}
            assert "tmp_path_factory" not in names or "everywhere" in names, f"{path.name}: {node.name}"


@pytest.mark.no_backend(reason="tries to use one")
def test_a_test_without_a_backend_is_refused_one(study) -> None:
    with pytest.raises(AssertionError, match="marked no_backend"):
        study()
