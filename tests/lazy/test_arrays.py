"""A volume as a DataArray: NumPy's values on every backend, dtype and rank, read when they are used."""

from __future__ import annotations

import gzip
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from lazy.grids import OBLIQUE, slices
from radiobject import RadiObject, TileConfig, Volume, WriteConfig, measure
from radiobject.backends.base import DTYPES
from radiobject.errors import MissingDependencyError

SHAPE = {"3d": (9, 7, 5), "time": (9, 7, 5, 3)}
SMALL = WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(8, 4, 4)))


def noise(code: str, shape: tuple[int, ...]) -> np.ndarray:
    dtype, rng = np.dtype(code), np.random.default_rng(0)
    if dtype.kind == "f":
        return rng.normal(scale=1000, size=shape).astype(dtype)
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def same(found: Any, expected: np.ndarray) -> bool:
    found = np.asarray(found)
    return found.dtype == expected.dtype and np.array_equal(found, expected)


@pytest.mark.parametrize("rank", SHAPE)
def test_values_are_numpys_on_every_dtype(backend, rank: str) -> None:
    arrays = {code: noise(code, SHAPE[rank]) for code in DTYPES}
    radi = RadiObject.from_niftis(
        backend.uri(), {"scan": [((a, OBLIQUE), code) for code, a in arrays.items()]},
        axis4="time", backend=backend.backend, write=SMALL,
    )  # fmt: skip
    for volume in radi.scan:
        array = arrays[volume.obs_subject_id]
        lazy, chunked = volume.to_xarray(), volume.to_xarray(chunks="chunk")
        assert lazy.dims == chunked.dims == ("x", "y", "z", "t")[: array.ndim]
        assert lazy.dtype == chunked.dtype == array.dtype
        assert same(lazy, array)
        assert same(chunked, array)
        assert same(volume.to_dask(), array)
        part = {"x": slice(7, 1, -2), "y": [5, 0, 5], "z": 3}
        expected = array[7:1:-2][:, [5, 0, 5], 3]
        assert same(lazy.isel(part), expected)
        assert same(chunked.isel(part), expected)
        # sums of floats in another order are others in the last bits
        total = np.sum(array, dtype=np.float64)
        for one in (lazy, chunked):
            assert float(one.sum(dtype=np.float64)) == pytest.approx(total, rel=1e-12, abs=1e-6)
            assert same(one.max("y"), array.max(axis=1))


@pytest.mark.parametrize("rank", ["3d", "time"])
def test_scaled_values_are_those_of_the_volume(backend, make_nifti, tmp_path: Path, rank: str) -> None:
    sources = []
    for code in DTYPES:
        for number, (slope, inter) in enumerate([(1, -1024), (0.5, 3.25)]):
            array = (noise(code, SHAPE[rank]) % 100).astype(code)
            fields = {"scl_slope": slope, "scl_inter": inter, "xyzt_units": 10}
            path = tmp_path / f"{code}-{number}.nii.gz"
            path.write_bytes(gzip.compress(make_nifti(array, fields=fields)))
            sources.append((path, f"{code}-{number}"))
    radi = RadiObject.from_niftis(
        backend.uri(), {"ct": sources}, axis4="time", backend=backend.backend, write=SMALL
    )
    for volume in radi.ct:
        expected = volume.to_numpy()
        assert expected.dtype == volume.dtype
        assert not same(expected, volume.to_numpy(raw=True))
        assert same(volume.to_xarray(), expected)
        assert same(volume.to_xarray(chunks="volume"), expected)


def test_chains_of_indexing_read_what_numpy_gives(study) -> None:
    array = noise("i2", (9, 7, 5, 3))
    volume = study({"bold": {"a": array}}, axis4="time", write=SMALL).bold.iloc[0]
    lazy = volume.to_xarray()

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        found, expected = lazy, array
        for _ in range(data.draw(st.integers(1, 3))):
            key = [data.draw(slices(n)) for n in expected.shape]
            found, expected = found[tuple(key)], expected[tuple(key)]
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(range(4)))
            found = found.transpose(*[found.dims[n] for n in order])
            expected = expected.transpose(order)
        axis = data.draw(st.integers(0, 3))
        pick = data.draw(st.lists(st.integers(0, expected.shape[axis] - 1), max_size=4))
        found, expected = found.isel({found.dims[axis]: pick}), expected.take(pick, axis)
        assert same(found, expected)

    check()


def test_channels_come_behind_time(study) -> None:
    array = noise("u1", (9, 7, 5, 3, 2))
    volume = study({"rgb": {"a": array}}, axis4="time").rgb.iloc[0]
    for chunks in (None, "chunk", "volume", {}):
        lazy = volume.to_xarray(chunks)
        assert lazy.dims == ("x", "y", "z", "t", "c")
        assert same(lazy[1:, ..., ::-1, 0], array[1:, ..., ::-1, 0])


def test_points_are_read_by_vectors_of_indices(study) -> None:
    array = noise("i2", (9, 7, 5))
    lazy = study({"T1w": {"a": array}}).T1w.iloc[0].to_xarray()
    x, y = xr.DataArray([8, 0, 3], dims="point"), xr.DataArray([1, 6, 2], dims="point")
    assert same(lazy.isel(x=x, y=y, z=2), array[[8, 0, 3], [1, 6, 2], 2])


def test_only_what_is_used_is_read(study) -> None:
    volume = study({"T1w": {"a": noise("i2", (64, 64, 64))}}).T1w.iloc[0]
    with measure() as m:
        lazy = volume.to_xarray()
        part = lazy.isel(x=slice(0, 20), z=40)
        repr(part)
        part.radi.affine  # noqa: B018 - asked for its cost
    assert (m["chunks_decoded"], m["volumes_opened"], m["lazy_reads"]) == (0, 0, 0)
    with measure() as m:
        part.load()
    assert (m["chunks_decoded"], m["volumes_opened"], m["lazy_reads"]) == (2, 1, 1)
    with measure() as m:
        lazy.sel(x=slice(-10, 31), y=[5, 6, 7], z=63).load()
    assert m["chunks_decoded"] == 1


def test_nothing_is_cached_and_writing_stays_in_memory(study) -> None:
    volume = study().T1w.iloc[0]
    lazy = volume.to_xarray()
    with measure() as m:
        for _ in range(2):
            lazy.max().item()
    assert m["lazy_reads"] == 2
    lazy[0, 0, 0] = 99
    assert int(lazy.max()) == 99
    assert int(volume.to_numpy().max()) == 3


def test_parts_turns_levels_and_other_grids_have_their_own_arrays(study) -> None:
    array = noise("i2", (9, 7, 5))
    volume = study({"T1w": {"a": (array, OBLIQUE)}}).T1w.iloc[0]
    for seen in (volume.slicer[2:8:3, ::-1], volume.reorient("PSL"), volume.resample(spacing=1.5)):
        lazy = seen.to_xarray()
        assert same(lazy, seen[...])
        assert same(seen.to_xarray(chunks="chunk"), seen[...])
        assert (lazy.radi.affine == seen.affine).all()


def test_coordinates_name_the_volume_and_its_place(study) -> None:
    radi = study({"bold": {"s": (noise("i2", (9, 7, 5, 3)), np.diag([-2.0, 2, 3, 1]))}}, axis4="time")
    lazy = radi.bold.iloc[0].to_xarray()
    assert (lazy.name, lazy.obs_id.item(), lazy.obs_subject_id.item()) == ("s_bold", "s_bold", "s")
    assert lazy.x.to_numpy().tolist() == [0, -2, -4, -6, -8, -10, -12, -14, -16]  # the world's own
    assert (lazy.x.attrs["units"], lazy.x.attrs["long_name"]) == ("mm", "x axis, towards R")
    assert lazy.attrs == {"kind": "image"}
    assert Volume.from_numpy(np.zeros((2, 2, 2))).to_xarray().name == "volume"


def test_time_is_in_seconds(study) -> None:
    volume = Volume.from_numpy(noise("i2", (9, 7, 5, 3)), time_step=0.72)
    lazy = volume.to_xarray()
    assert lazy.t.to_numpy().tolist() == [0, 0.72, 1.44]
    assert lazy.t.attrs["units"] == "s"
    untimed = study({"dwi": {"a": noise("i2", (9, 7, 5, 3))}}, axis4="time").dwi.iloc[0].to_xarray()
    assert "t" not in untimed.coords


def test_arrays_travel_without_secrets_and_open_files(study) -> None:
    volume = study().T1w.iloc[0]
    lazy = volume.to_xarray()
    lazy.load()
    lazy = volume.to_xarray()
    volume._handle._backend.storage.location.options["token"] = "hunter2"
    data = pickle.dumps(lazy)
    assert b"hunter2" not in data
    assert len(data) < 10_000
    again = pickle.loads(data)
    assert same(again, volume.to_numpy())
    assert (again.radi.affine == volume.affine).all()


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch) -> None:
    volume = Volume.from_numpy(np.zeros((2, 2, 2)))
    monkeypatch.setitem(sys.modules, "dask.array", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "radiobject-zarr\[xarray\]"'):
        volume.to_dask()
    for name in [n for n in sys.modules if n.startswith("radiobject.lazy")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "radiobject-zarr\[xarray\]"'):
        volume.to_xarray()
