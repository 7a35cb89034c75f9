"""xarray opens studies by itself, and volumes without this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from foreign.server import serve

from lazy.grids import OBLIQUE
from radiobject import RadiObject, TileConfig, WriteConfig, measure
from radiobject.errors import (
    AlignmentError,
    ConfigError,
    MissingDependencyError,
    SelectionError,
    StudyNotFoundError,
    UnknownIdError,
)
from radiobject.lazy.engine import RadiObjectBackendEntrypoint

SMALL = WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(4, 4, 4)))


@pytest.fixture
def radi(study) -> RadiObject:
    """T1w holds the subject's number, seg ten more; 6x5x4 voxels in shards of 4."""
    return study(None, {"obs_subject_id": ["sub-03", "sub-01", "sub-02"], "age": [70, 40, 55]}, write=SMALL)


def opened(radi: RadiObject, **options: Any) -> xr.Dataset:
    return xr.open_dataset(radi.uri, engine="radiobject", **options)


def test_xarray_knows_the_engine() -> None:
    engine = xr.backends.list_engines()["radiobject"]
    assert isinstance(engine, RadiObjectBackendEntrypoint)
    assert "radiobject studies" in repr(engine)


def test_a_collection_is_a_variable_and_several_are_partners(radi: RadiObject) -> None:
    with measure() as m, opened(radi, collection="T1w") as ds:
        assert ds.T1w.dims == ("obs_id", "x", "y", "z")
        assert ds.age.to_numpy().tolist() == [70, 40, 55]
    assert m["volumes_opened"] == m["lazy_reads"] == 0
    assert np.array_equal(ds.T1w, np.stack([v[...] for v in radi.T1w]))
    both = opened(radi, collection=["seg", "T1w"], columns=["age"])
    assert list(both.data_vars) == ["seg", "T1w"]
    assert both.seg.isel(obs_subject_id=1).max() == 11
    assert (ds.T1w.radi.affine == radi.T1w.iloc[0].affine).all()


@pytest.mark.parametrize(
    ("chunks", "tasks"), [({}, 3 * 2 * 2), ({"obs_id": 3, "x": -1, "y": -1}, 1), ({"x": 4}, 12), (-1, 1)]
)
def test_chunks_are_xarrays_own_and_fall_on_shards(radi: RadiObject, chunks: Any, tasks: int) -> None:
    ds = opened(radi, collection="T1w", chunks=chunks)
    assert ds.T1w.data.npartitions == tasks
    with measure() as m:
        found = ds.T1w.to_numpy()
    assert np.array_equal(found, np.stack([v[...] for v in radi.T1w]))
    assert m["chunks_decoded"] == 12
    with pytest.warns(
        UserWarning, match='separate the stored chunks along dimension "x" starting at index 3'
    ):
        opened(radi, collection="T1w", chunks={"x": 3})


def test_other_grids_are_chosen_as_in_to_xarray(study) -> None:
    radi = study({"T1w": {"a": (np.ones((4, 4, 4), "i2"), OBLIQUE), "b": np.ones((4, 4, 4), "i2")}})
    with pytest.raises(AlignmentError, match="one grid"):
        opened(radi, collection="T1w")
    assert opened(radi, grid="index").T1w.radi.affine.shape == (2, 4, 4)
    moved = opened(radi, collection="T1w", grid=radi.T1w.iloc[0], order=0, fill=9, antialias=True, chunks={})
    assert moved.T1w.dtype == np.int16
    assert moved.T1w.max() == 9


def test_versions_collections_and_variables_are_named(radi: RadiObject) -> None:
    first = radi.version
    radi.delete(obs_ids=["sub-01_T1w"])
    assert opened(radi, collection="T1w").sizes["obs_id"] == 2
    assert opened(radi, collection="T1w", version=first).sizes["obs_id"] == 3
    pinned = xr.open_dataset(f"{radi.uri}@{first}#T1w", engine="radiobject")
    assert pinned.sizes["obs_id"] == 3
    less = opened(radi, collection="T1w", drop_variables=["age", "not there"])
    assert "age" not in less.coords
    assert "age" not in opened(radi, collection="T1w", drop_variables="age").coords
    with pytest.raises(SelectionError, match=r"collection= one or several of \['T1w', 'seg'\], got None"):
        opened(radi)
    with pytest.raises(SelectionError, match=r"or 'T1w' as the URI says, got 'seg'"):
        xr.open_dataset(f"{radi.uri}#T1w", engine="radiobject", collection="seg")
    with pytest.raises(UnknownIdError, match="collection 'PET'"):
        opened(radi, collection="PET")
    with pytest.raises(ConfigError, match="on= and missing=: expected several"):
        opened(radi, collection="T1w", missing="drop")
    with pytest.raises(StudyNotFoundError):
        xr.open_dataset(f"{radi.uri}-not", engine="radiobject")
    with pytest.raises(TypeError, match="mode"):
        opened(radi, mode="r")


def test_a_study_is_a_tree_of_its_collections(radi: RadiObject, study) -> None:
    with measure() as m, xr.open_datatree(radi.uri, engine="radiobject") as tree:
        assert set(tree.groups) == {"/", "/T1w", "/seg"}
        assert tree.attrs["version"] == radi.version
    assert m["volumes_opened"] == 0
    assert int(tree["seg/seg"].sel(obs_id="sub-02_seg").max()) == 12
    lazy = xr.open_datatree(radi.uri, engine="radiobject", chunks={}, columns=["age"])
    assert lazy["T1w/T1w"].data.npartitions == 12
    assert float(lazy["T1w/T1w"].mean()) == 2
    assert xr.open_groups(radi.uri, engine="radiobject", drop_variables="age").keys() == {"/", "/T1w", "/seg"}
    mixed = study({"T1w": {"a": np.ones((4, 4, 4), "i2"), "b": np.ones((3, 4, 4), "i2")}})
    with pytest.raises(AlignmentError, match="array of 'T1w': expected one shape"):
        xr.open_datatree(mixed.uri, engine="radiobject")
    one = xr.open_datatree(mixed.uri, engine="radiobject", grid=mixed.T1w.iloc[0])
    assert one["T1w/T1w"].shape == (2, 4, 4, 4)


def test_studies_are_found_without_their_engine_being_named(radi: RadiObject, tmp_path: Path) -> None:
    assert xr.open_dataset(radi.uri, collection="seg").seg.max() == 13
    assert xr.open_dataset(Path(radi.uri), collection="seg").seg.max() == 13
    engine = RadiObjectBackendEntrypoint()
    (volume,) = Path(radi.uri).glob("collections/T1w/sub-01_T1w/*.ome.zarr")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "zarr.json").write_text("[1]")
    others = [
        volume,
        volume / "0",
        tmp_path,
        tmp_path / "list",
        tmp_path / "none",
        "https://a.b/c.nc",
        "s3://a/b",
        b"CDF",
    ]
    assert not any(engine.guess_can_open(other) for other in others)


def test_looking_for_engines_stays_cheap() -> None:
    """xarray loads every engine when it looks for one: ours must bring neither arrays nor tables along."""
    heavy = "('tensorstore', 'pyarrow', 'dask.array', 'radiobject.model.volume', 'radiobject.format.tables')"
    tell = f"print([m for m in {heavy} if m in sys.modules])"
    code = f"import sys, xarray; xarray.backends.list_engines(); import radiobject.lazy.engine; {tell}"
    bare = f"import sys, xarray; {tell}"
    found, without = (
        subprocess.run(
            [sys.executable, "-W", "error", "-c", c], capture_output=True, text=True, check=True
        ).stdout
        for c in (code, bare)
    )
    assert found == without  # pandas brings pyarrow where it can


def test_a_study_behind_a_web_server_opens(tmp_path: Path, study) -> None:
    radi = study(uri=tmp_path / "s", write=SMALL)
    with serve(tmp_path) as server:
        ds = xr.open_dataset(f"{server.url}/s", engine="radiobject", collection="T1w", chunks={})
        assert np.array_equal(ds.T1w, np.stack([v[...] for v in radi.T1w]))


MISSED = "ignore:Engine 'radiobject':RuntimeWarning"
"""What xarray before 2025.7 says: here the package is hidden, but still listed as installed."""

WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "radiobject":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import numpy as np
import xarray as xr

for url, voxels in zip(sys.argv[1::2], sys.argv[2::2]):
    with xr.open_zarr(url, chunks=None) as ds:
        expected = np.load(voxels)
        found = ds["0"].transpose(*[d for d in "xyzt" if d in ds["0"].dims]).to_numpy()
        assert found.dtype == expected.dtype and np.array_equal(found, expected), url
assert not any(name.partition(".")[0] == "radiobject" for name in sys.modules)
print("same")
"""


def test_volumes_open_by_url_where_this_package_is_not_installed(study, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "i2": rng.integers(-999, 999, (33, 9, 6)).astype("i2"),
        "f4": rng.normal(size=(5, 6, 7, 3)).astype("f4"),
    }
    radi = study(
        {code: {"a": (array, OBLIQUE)} for code, array in arrays.items()}, uri=tmp_path / "s", axis4="time"
    )
    (tmp_path / "without.py").write_text(WITHOUT)
    with serve(tmp_path) as server:
        words: list[str] = []
        for code, array in arrays.items():
            np.save(tmp_path / f"{code}.npy", array)
            uri = radi.collection(code).iloc[0].uri
            assert uri is not None
            for url in (uri, f"{server.url}/{Path(uri).relative_to(tmp_path)}"):
                words += [url, str(tmp_path / f"{code}.npy")]
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-W", MISSED, tmp_path / "without.py", *words],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.stdout == "same\n", ran.stderr


def test_without_xarray_the_engine_says_so(monkeypatch) -> None:
    for name in [n for n in sys.modules if n.startswith("radiobject.lazy")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(MissingDependencyError, match="xarray"):
        __import__("radiobject.lazy.engine")


def test_a_column_with_a_slash_leaves_the_study_openable(study) -> None:
    images = {"T1w": {"a": np.zeros((4, 4, 4), "i2")}}
    radi = study(images, {"obs_subject_id": ["a"], "dose/kg": [1.5]})
    tree = xr.open_datatree(radi.uri, engine="radiobject")
    assert tree["T1w"].dataset["dose~2Fkg"].to_numpy().tolist() == [1.5]
