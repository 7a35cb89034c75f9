"""A collection as one array: one grid in mm, several as voxels or resampled; read volume by volume."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from lazy.grids import OBLIQUE
from radiobject import RadiObject, TileConfig, Volume, WriteConfig, measure
from radiobject.backends.base import DTYPES
from radiobject.errors import (
    AlignmentError,
    ConfigError,
    GeometryError,
    IntegrityError,
    SelectionError,
    UnknownIdError,
)
from radiobject.geometry.affine import Affine

SHAPE = (9, 7, 5)
SMALL = WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(8, 4, 4)))
NAMES = ["sub-03", "sub-01", "sub-02", "sub-04"]


def voxels(number: int, dtype: str = "i2", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 100, shape).astype(dtype)


def images(**options: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (voxels(n, **options), OBLIQUE) for n, name in enumerate(NAMES)}


@pytest.fixture
def radi(study) -> RadiObject:
    return study({"T1w": images()}, {"obs_subject_id": NAMES, "age": [70, 40, 55, 61]}, write=SMALL)


def shifted(mm: float) -> np.ndarray:
    affine = OBLIQUE.copy()
    affine[0, 3] += mm
    return affine


@pytest.mark.parametrize("rank", [SHAPE, (*SHAPE, 3)], ids=["3d", "4d"])
def test_values_are_a_numpy_stack_on_every_dtype(backend, rank: tuple[int, ...]) -> None:
    expected = {code: [voxels(n, code, rank) for n in range(3)] for code in DTYPES}
    radi = RadiObject.from_niftis(
        backend.uri(),
        {code: [((a, OBLIQUE), f"s{n}") for n, a in enumerate(of)] for code, of in expected.items()},
        axis4="time", backend=backend.backend,
    )  # fmt: skip
    for code, arrays in expected.items():
        stack = np.stack(arrays)
        lazy, chunked = (radi.collection(code).to_xarray(chunks=c) for c in (None, "volume"))
        for array in (lazy, chunked):
            assert array.dims == ("obs_id", "x", "y", "z", "t")[: stack.ndim]
            assert array.dtype == stack.dtype
            assert np.array_equal(array, stack)
            assert np.array_equal(array[::-1, 2:, 3, [4, 0]], stack[::-1, 2:, 3][:, :, [4, 0]])
            assert np.array_equal(array.isel(obs_id=1, z=slice(None, None, -2)), stack[1, :, :, ::-2])
        assert np.allclose(chunked.mean("obs_id"), stack.mean(axis=0))


def test_one_grid_is_in_millimetres_for_all(radi: RadiObject) -> None:
    array = radi.T1w.to_xarray()
    assert (array.radi.affine == OBLIQUE).all()
    assert (array.isel(obs_id=2, x=slice(None, None, 2)).radi.affine == OBLIQUE @ np.diag([2, 1, 1, 1])).all()
    volume = array.sel(obs_id="sub-02_T1w").radi.to_volume()
    assert (volume.obs_id, volume.obs_subject_id) == ("sub-02_T1w", "sub-02")
    assert np.array_equal(volume[...], voxels(2))


def test_volumes_are_opened_when_their_voxels_are_used(radi: RadiObject) -> None:
    with measure() as m:
        array = radi.T1w.to_xarray()
        few = array.isel(obs_id=[3, 0], x=slice(0, 4), y=slice(0, 4), z=slice(0, 4))
        repr(few)
    assert m["volumes_opened"] == m["chunks_decoded"] == m["lazy_reads"] == 0
    assert m["table_reads:T1w/obs"] == m["table_reads:obs_meta"] == 1
    with measure() as m:
        assert np.array_equal(few, np.stack([voxels(3), voxels(0)])[:, :4, :4, :4])
    assert (m["volumes_opened"], m["lazy_reads"], m["chunks_decoded"]) == (2, 2, 2)


def test_a_task_reads_one_volume_unless_more_are_asked_for(radi: RadiObject) -> None:
    for chunks, tasks in (("volume", 4), ({}, 4 * 2 * 2 * 2), ({"obs_id": 3, "x": -1, "y": -1, "z": -1}, 2)):
        array = radi.T1w.to_xarray(chunks=chunks)
        assert array.data.npartitions == tasks
        with measure() as m:
            assert np.array_equal(array.to_numpy(), np.stack([voxels(n) for n in range(4)]))
        assert m["lazy_reads"] == max(tasks, 4)  # each volume by a call of its own
        assert m["chunks_decoded"] == 4 * 3 * 2 * 2
        assert m["volumes_opened"] == 4


def test_views_keep_their_order_and_rows(radi: RadiObject) -> None:
    view = radi.T1w.loc[["sub-04_T1w", "sub-01_T1w"]]
    array = view.to_xarray(chunks="volume")
    assert array.obs_id.to_numpy().tolist() == view.obs_ids
    assert np.array_equal(array, np.stack([v[...] for v in view]))
    one = radi.loc["sub-02"].T1w.to_xarray()
    assert np.array_equal(one, voxels(2)[np.newaxis])
    with pytest.raises(SelectionError, match="array of 'T1w': expected at least one volume, got none"):
        radi.T1w.iloc[:0].to_xarray()


def test_grids_that_differ_are_named_and_counted(study) -> None:
    radi = study({"T1w": {"a": (voxels(0), OBLIQUE), "b": (voxels(1), shifted(2.5)), "c": voxels(2)}})
    with pytest.raises(
        AlignmentError, match=r"that of 'a_T1w', got 2 of 3 volumes.*mm apart\): b_T1w, c_T1w"
    ) as e:
        radi.T1w.to_xarray()
    assert 'grid="index"' in str(e.value)
    almost = study({"T1w": {"a": (voxels(0), OBLIQUE), "b": (voxels(1), shifted(5e-4))}})
    assert (almost.T1w.to_xarray().radi.affine == OBLIQUE).all()


def test_index_counts_voxels_and_keeps_each_affine(study) -> None:
    affines = [OBLIQUE, shifted(2.5), np.diag([1.0, -2, 3, 1])]
    radi = study({"T1w": {f"s{n}": (voxels(n), a) for n, a in enumerate(affines)}})
    array = radi.T1w.to_xarray(grid="index", chunks="volume")
    assert array.x.to_numpy().tolist() == list(range(9))
    assert array.affine.dims == ("obs_id",)
    assert (array.radi.affine == affines).all()
    part = array[1:, ::-2, 3]
    expected = [Affine(a).crop((8, 3, 0), (-2, 1, 1)).matrix for a in affines[1:]]
    assert (part.radi.affine == expected).all()
    assert (array[2].radi.to_volume().affine == affines[2]).all()
    assert (array.sortby("obs_id", ascending=False).radi.affine == affines[::-1]).all()
    with pytest.raises(GeometryError, match="neither"):
        array.mean("obs_id").radi.affine  # noqa: B018 - a mean over grids lies in none
    same = study({"T1w": images()}).T1w.to_xarray(grid="index")
    assert same.x.attrs["units"] == "mm"  # one grid has millimetres


def test_shapes_that_differ_are_no_array_but_on_one_grid(study) -> None:
    small = voxels(9, shape=(4, 7, 5))
    radi = study({"T1w": {"a": (voxels(0), OBLIQUE), "b": (voxels(1), OBLIQUE), "c": (small, OBLIQUE)}})
    for grid in ("error", "index"):
        with pytest.raises(
            AlignmentError, match=r"one shape along x, y, z, got 2: 9x7x5 \(2\), 4x7x5 \(1\).*grid="
        ):
            radi.T1w.to_xarray(grid=grid)
    grid = radi.T1w.iloc[0]
    array = radi.T1w.to_xarray(grid=grid, fill=-7, order=0)
    assert array.dtype == np.int16
    assert np.array_equal(array, np.stack([v.resample(like=grid, order=0, fill=-7)[...] for v in radi.T1w]))
    assert array.isel(obs_id=2, x=8).max() == -7


def placed(*spacing: float) -> np.ndarray:
    """A grid along the axes that begins where the oblique volumes do."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = OBLIQUE[:3, 3]
    return affine


@pytest.mark.parametrize("chunks", [None, "volume", "chunk"])
def test_other_grids_are_resampled_when_read(study, chunks: Any) -> None:
    radi = study({"T1w": {f"s{n}": (voxels(n), shifted(n)) for n in range(3)}}, write=SMALL)
    grid = ((6, 5, 40), placed(3, 3, 0.5))
    with measure() as m:
        array = radi.T1w.to_xarray(grid=grid, chunks=chunks)
    assert m["volumes_opened"] == 0
    assert array.shape == (3, 6, 5, 40)
    assert array.dtype == np.float32
    assert (array.radi.affine == grid[1]).all()
    assert np.array_equal(array, np.stack([v.resample(like=grid)[...] for v in radi.T1w]))
    assert float((array != 0).mean()) > 0.3  # much of it inside
    coarse = ((3, 3, 3), placed(5, 6, 7))
    how = {"order": 0, "fill": -1, "antialias": True}
    smooth = radi.T1w.to_xarray(coarse, chunks, **how)
    assert np.array_equal(smooth, np.stack([v.resample(like=coarse, **how)[...] for v in radi.T1w]))
    assert not np.array_equal(smooth, radi.T1w.to_xarray(coarse, chunks, order=0, fill=-1))
    labels = study({"seg": images(dtype="u1")}, labels={"seg": {1: "one"}}).seg.to_xarray(grid=grid)
    assert labels.dtype == np.uint8
    assert labels.radi.labels == {1: "one"}


def test_types_that_differ_become_one_that_holds_all(study) -> None:
    radi = study(
        {"a": {"s": voxels(0, "i2"), "t": voxels(1, "f4")}, "b": {"s": voxels(0, "u2"), "t": voxels(1, "i2")}}
    )
    assert radi.a.to_xarray().dtype == np.float32
    array = radi.b.to_xarray(chunks="volume")
    assert array.dtype == np.int32
    assert np.array_equal(array, np.stack([voxels(0), voxels(1)]).astype("i4"))
    assert array[0].to_numpy().dtype == radi.b.to_xarray()[1].to_numpy().dtype == np.int32
    wide = study({"c": {"s": voxels(0, "i8"), "t": voxels(1, "u8")}})
    with pytest.raises(AlignmentError, match="a type that holds all values, got volumes of int64, uint64"):
        wide.c.to_xarray()


def test_time_courses_share_axes_and_steps(study, make_nifti, tmp_path) -> None:
    def bold(name: str, n: int, step: float) -> tuple[Any, str]:
        fields = {"pixdim": [1, 2, 2.5, 3, step, 0, 0, 0], "xyzt_units": 10}
        path = tmp_path / f"{name}.nii"
        path.write_bytes(make_nifti(voxels(1, shape=(*SHAPE, n)), fields=fields))
        return path, name

    radi = RadiObject.from_niftis(tmp_path / "one", {"bold": [bold("a", 4, 2.0), bold("b", 4, 2.0)]})
    assert radi.bold.to_xarray().t.to_numpy().tolist() == [0, 2, 4, 6]
    assert radi.bold.to_xarray()[1].radi.to_volume().meta.time_step == 2.0
    radi = RadiObject.from_niftis(tmp_path / "steps", {"bold": [bold("c", 4, 2.0), bold("d", 4, 3.0)]})
    assert "t" not in radi.bold.to_xarray().coords
    assert radi.bold.to_xarray().time_step.to_numpy().tolist() == [2, 3]
    radi = RadiObject.from_niftis(tmp_path / "lengths", {"bold": [bold("e", 4, 2.0), bold("f", 5, 2.0)]})
    with pytest.raises(
        AlignmentError, match=r"one shape along x, y, z, t, got 2: 9x7x5x4 \(1\), 9x7x5x5 \(1\)"
    ):
        radi.bold.to_xarray()
    with pytest.raises(AlignmentError, match=r"one shape along t, got 2: 4 \(1\), 5 \(1\)"):
        radi.bold.to_xarray(grid=radi.bold.iloc[0])
    radi = study({"mixed": {"s": voxels(0), "t": voxels(1, shape=(*SHAPE, 2))}}, axis4="time")
    with pytest.raises(AlignmentError, match="the same axes in all volumes, got xyz and xyzt"):
        radi.mixed.to_xarray()


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"grid": "mm"}, ConfigError, "grid=: expected 'error', 'index', a Volume"),
        ({"grid": 3}, GeometryError, "Volume, or"),
        ({"order": 1}, ConfigError, "order=, fill= and antialias=: expected a grid="),
        ({"fill": 1, "grid": "index"}, ConfigError, "order=, fill= and"),
        ({"antialias": True}, ConfigError, "order=, fill= and"),
        ({"columns": ["nobody"]}, UnknownIdError, "nobody"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(radi, options: Any, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words):
        radi.T1w.to_xarray(**options)


def test_collections_travel_as_place_and_version(radi: RadiObject) -> None:
    array = radi.T1w.iloc[1:].to_xarray()
    array[0].load()
    radi._study.location.options["secret"] = "hunter2"
    data = pickle.dumps(array.variable)
    assert b"hunter2" not in data
    assert len(data) < 3000
    radi.delete(obs_ids=["sub-01_T1w"])
    again = pickle.loads(data)
    assert np.array_equal(again, np.stack([voxels(n) for n in (1, 2, 3)]))  # of the version it was made of


def test_a_missing_object_is_an_error_that_names_it(study, tmp_path) -> None:
    radi = study({"T1w": images()}, uri=tmp_path / "s")
    (shard,) = (tmp_path / "s").glob("collections/T1w/sub-02_T1w/*/0/c/0/0/0")
    shard.unlink()
    array = radi.T1w.to_xarray(chunks="volume")
    assert int(array[0].max()) == voxels(0).max()
    for broken in (array, radi.T1w.to_xarray()):
        with pytest.raises(IntegrityError, match="sub-02_T1w"):
            broken.load()


def test_labels_are_named_when_all_volumes_agree(study) -> None:
    radi = study({"seg": images(dtype="u1")}, labels={"seg": {1: "liver", 2: "spleen"}})
    array = radi.seg.to_xarray()
    assert array.radi.labels == {1: "liver", 2: "spleen"}
    assert array.attrs["kind"] == "label"
    assert Volume.to_xarray(radi.seg.iloc[0]).radi.labels == array.radi.labels
