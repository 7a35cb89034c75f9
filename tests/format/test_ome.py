"""OME attributes: two foreign validators accept what we write, and the geometry survives the way back."""

from __future__ import annotations

import contextlib
import itertools
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given
from hypothesis import strategies as st
from ome_zarr_models import open_ome_zarr

from radiobject.errors import FormatError
from radiobject.format.meta import Label, VolumeMeta
from radiobject.format.ome import default_rgba, ome_attributes, read_ome
from radiobject.geometry.affine import Affine

SIZES = {"t": 3, "c": 2, "z": 4, "y": 5, "x": 6}
SPATIAL = ("z", "y", "x")
DIMS = [SPATIAL, ("t", *SPATIAL), ("c", *SPATIAL), ("t", "c", *SPATIAL)]
AXCODES = [
    "".join(codes)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*axes)
]
RANGE = (-5.0, 900.0)


def affine_of(codes: str = "RAS", degrees: float = 0.0) -> Affine:
    turn = np.radians(degrees)
    matrix = np.diag([0.8, 1.0, 2.5, 1.0])
    matrix[:3, 3] = (-30.5, 12.0, 7.25)
    rotation = np.eye(4)
    rotation[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    return Affine(Affine(rotation @ matrix).reorientation(codes, (6, 5, 4)).affine.matrix)


def meta_of(**changes: Any) -> VolumeMeta:
    return replace(VolumeMeta(affine_of(), SPATIAL), **changes)


def write(folder: Path, ome: dict[str, Any], dims: tuple[str, ...], dtype: str = "i2") -> str:
    """A real Zarr group with every level that `ome` names."""
    path = str(folder / "image.ome.zarr")
    group = zarr.create_group(path, attributes={"ome": json.loads(json.dumps(ome, allow_nan=False))})
    for level in ome["multiscales"][0]["datasets"]:
        shrink = 1 if level["path"] == "0" else 2
        shape = tuple(SIZES[d] if d in "tc" else SIZES[d] // shrink for d in dims)
        group.create_array(level["path"], shape=shape, dtype=dtype, dimension_names=dims)
    return path


def assert_accepted(path: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yaozarrs.validate_zarr_store(path)
        open_ome_zarr(zarr.open_group(path, mode="r"))


@pytest.mark.parametrize("dims", DIMS, ids="".join)
def test_validators_accept_images_of_every_rank(tmp_path: Path, dims: tuple[str, ...]) -> None:
    meta = meta_of(dims=dims, time_unit="s", time_step=1.5 if "t" in dims else None)
    ome = ome_attributes(meta, "a", data_range=RANGE, window=(0, 700), channels=2 if "c" in dims else 1)
    assert_accepted(write(tmp_path, ome, dims))
    image = ome["multiscales"][0]
    assert [axis["name"] for axis in image["axes"]] == list(dims)
    scale = image["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [{"t": 1.5, "c": 1.0, "z": 2.5, "y": 1.0, "x": 0.8}[d] for d in dims]
    assert len(ome["omero"]["channels"]) == (2 if "c" in dims else 1)
    assert ome["omero"]["channels"][0]["window"] == {"min": -5.0, "max": 900.0, "start": 0.0, "end": 700.0}


@pytest.mark.parametrize("codes", AXCODES)
def test_every_axis_order_is_accepted_and_read_back(tmp_path: Path, codes: str) -> None:
    meta = meta_of(affine=affine_of(codes), time_unit=None)
    attrs = {"ome": ome_attributes(meta, "a", data_range=RANGE)}
    assert_accepted(write(tmp_path, attrs["ome"], SPATIAL))
    back = read_ome(attrs, "a")
    np.testing.assert_allclose(back.affine.matrix, meta.affine.matrix, atol=1e-12)
    assert "".join(back.affine.axcodes) == codes


@pytest.mark.parametrize("degrees", [0.0, 0.05, 0.2, 20.0])
def test_orientation_is_left_out_of_oblique_volumes(tmp_path: Path, degrees: float) -> None:
    meta = meta_of(affine=affine_of(degrees=degrees))
    ome = ome_attributes(meta, "a", data_range=RANGE)
    assert_accepted(write(tmp_path, ome, SPATIAL))
    axes = ome["multiscales"][0]["axes"]
    assert all(("orientation" in axis) == (degrees <= 0.1) for axis in axes)
    scale = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    np.testing.assert_allclose(scale, (2.5, 1.0, 0.8))


def test_an_axis_to_the_left_has_positive_scale_and_its_own_coordinate() -> None:
    matrix = np.diag([-0.8, 1.0, 2.5, 1.0])
    matrix[:3, 3] = (90, -126, -72)
    image = ome_attributes(meta_of(affine=Affine(matrix)), "a")["multiscales"][0]
    scale, translation = image["datasets"][0]["coordinateTransformations"]
    assert scale == {"type": "scale", "scale": [2.5, 1.0, 0.8]}
    assert translation == {"type": "translation", "translation": [-72.0, -126.0, -90.0]}
    assert image["axes"][2]["orientation"] == {"type": "anatomical", "value": "right-to-left"}


def test_levels_are_shifted_by_half_the_difference_of_their_scales(tmp_path: Path) -> None:
    levels = (("0", (1, 1, 1)), ("pyramid/1", (2, 2, 1)))
    ome = ome_attributes(meta_of(), "a", levels, RANGE)
    assert_accepted(write(tmp_path, ome, SPATIAL))
    fine, coarse = (x["coordinateTransformations"] for x in ome["multiscales"][0]["datasets"])
    assert coarse[0]["scale"] == [2.5, 2.0, 1.6]
    shift = np.subtract(coarse[1]["translation"], fine[1]["translation"])
    np.testing.assert_allclose(shift, (0.0, 0.5, 0.4))


@pytest.mark.parametrize(
    "labels",
    [(), (Label(1, "grey"), Label(2, "white", (1, 2, 3, 255)))],
    ids=["unnamed", "named"],
)
def test_validators_accept_labels(tmp_path: Path, labels: tuple[Label, ...]) -> None:
    meta = meta_of(kind="label", labels=labels)
    ome = ome_attributes(meta, "seg", data_range=(0, 2), integer=True)
    assert "omero" not in ome
    assert_accepted(write(tmp_path, ome, SPATIAL, "u1"))
    back = read_ome({"ome": ome}, "seg")
    assert back.kind == "label"
    assert [(x.value, x.name) for x in back.labels] == [(x.value, x.name) for x in labels]
    assert all(x.rgba is not None for x in back.labels)


def test_labels_of_floating_point_or_twice_are_refused() -> None:
    with pytest.raises(FormatError, match="integer dtype"):
        ome_attributes(meta_of(kind="label"), "seg", integer=False)
    with pytest.raises(FormatError, match="each value once"):
        ome_attributes(meta_of(kind="label", labels=(Label(1, "a"), Label(1, "b"))), "seg")


def test_default_colours_differ() -> None:
    colours = [default_rgba(v) for v in range(100)]
    assert len(set(colours)) == 100
    assert default_rgba(-3)[3] == 255


@pytest.mark.parametrize(
    ("unit", "word"), [("mm", "millimeter"), ("micron", "micrometer"), ("m", "meter"), ("unknown", None)]
)
def test_units_are_spelled_as_the_standard_does(unit: str, word: str | None) -> None:
    axes = ome_attributes(meta_of(space_unit=unit), "a")["multiscales"][0]["axes"]
    assert [axis.get("unit") for axis in axes] == [word] * 3


@pytest.mark.parametrize("step", [None, 0.0, float("nan")])
def test_a_time_axis_without_a_usable_step_still_has_a_positive_scale(step: float | None) -> None:
    ome = ome_attributes(meta_of(dims=("t", *SPATIAL), time_step=step), "a")
    scale = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale[0] == 1.0


def test_no_window_is_written_when_nothing_is_finite() -> None:
    assert "omero" not in ome_attributes(meta_of(), "a")
    assert "omero" not in ome_attributes(meta_of(), "a", data_range=(float("nan"), float("nan")))


@given(
    st.sampled_from(AXCODES),
    st.tuples(*[st.floats(0.01, 50)] * 3),
    st.tuples(*[st.floats(-1e4, 1e4)] * 3),
    st.tuples(*[st.integers(1, 8)] * 3),
)
def test_geometry_survives_the_way_back(codes: str, spacing: Any, origin: Any, factors: Any) -> None:
    affine = Affine.from_spacing(spacing, origin).reorientation(codes, (3, 4, 5)).affine
    ome = ome_attributes(meta_of(affine=affine), "a", (("0", (1, 1, 1)), ("1", factors)))
    assert read_ome({"ome": ome}, "a").affine.almost_equal(affine, 1e-6)
    for level in ome["multiscales"][0]["datasets"]:
        assert min(level["coordinateTransformations"][0]["scale"]) > 0
    # Voxel 0 of the coarse level is centred over the block of fine voxels that it stands for.
    swapped = {**ome["multiscales"][0], "datasets": ome["multiscales"][0]["datasets"][1:]}
    coarse = read_ome({"ome": {**ome, "multiscales": [swapped]}}, "a").affine
    np.testing.assert_allclose(
        coarse.apply((0, 0, 0)), affine.apply((np.array(factors) - 1) / 2), rtol=1e-9, atol=1e-6
    )


def foreign(**changes: Any) -> dict[str, Any]:
    """Attributes as another writer makes them: no orientation, micrometers, one whole-image transform."""
    image: dict[str, Any] = {
        "axes": [
            {"name": "t", "type": "time", "unit": "millisecond"},
            *({"name": d, "type": "space", "unit": "micrometer"} for d in SPATIAL),
        ],
        "datasets": [
            {
                "path": "s0",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [250, 2000, 500, 500]},
                    {"type": "translation", "translation": [0, 10, 20, 30]},
                ],
            }
        ],
        "coordinateTransformations": [{"type": "scale", "scale": [1, 2, 2, 2]}],
    }
    return {"ome": {"version": "0.5", "multiscales": [{**image, **changes}]}}


def test_a_foreign_image_is_read_as_ras_in_mm_and_seconds() -> None:
    meta = read_ome(foreign(), "them")
    assert meta.dims == ("t", *SPATIAL)
    assert (meta.space_unit, meta.time_unit, meta.time_step) == ("mm", "s", 0.25)
    assert meta.affine.axcodes == ("R", "A", "S")
    np.testing.assert_allclose(meta.affine.spacing, (1.0, 1.0, 4.0))
    np.testing.assert_allclose(meta.affine.translation, (0.06, 0.04, 0.02))


def axes_of(*names: str, **changes: Any) -> list[dict[str, Any]]:
    return [{"name": n, "type": "time" if n == "t" else "space", **changes} for n in names]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": axes_of("x", "y", "z", "t")}, "ending in z, y, x"),
        ({"axes": axes_of("y", "x")}, "ending in z, y, x"),
        ({"axes": axes_of("z", "y", "x", "t")}, "ending in z, y, x"),
        ({"axes": axes_of("q", "z", "y", "x")}, "ending in z, y, x"),
        ({"axes": [{"name": "t", "type": "space"}, *axes_of(*SPATIAL)]}, "axis t"),
        ({"axes": axes_of("t", *SPATIAL, unit="parsec")}, "unit"),
        ({"axes": axes_of("t", *SPATIAL, orientation={"value": "left-to-right"})}, "orientation"),
        ({"axes": []}, "axes"),
        ({"axes": "zyx"}, "axes"),
        ({"axes": [1, 2]}, "OME-Zarr 0.5 image"),
        ({"datasets": []}, "datasets"),
        ({"datasets": [{"path": "0"}]}, "OME-Zarr 0.5 image"),
        ({"coordinateTransformations": [{"type": "affine", "affine": [[1]]}]}, "coordinateTransformations"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1, -1]}]}, "positive"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}, "4 numbers"),
        ({"coordinateTransformations": [{"type": "translation", "translation": ["a"] * 4}]}, "4 numbers"),
        ({"coordinateTransformations": [{"type": "translation", "path": "x"}]}, "4 numbers"),
    ],
)
def test_what_is_not_an_image_of_three_dimensions_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read_ome(foreign(**changes), "them")


@pytest.mark.parametrize("attrs", [{}, {"ome": 3}, {"multiscales": []}, {"ome": {"version": "0.6"}}])
def test_other_versions_are_refused_by_name(attrs: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=r"ome\.version 0\.5"):
        read_ome(attrs, "them")


@pytest.mark.parametrize("rgba", [[1, 2, 3], [1, 2, 3, 256], [1, 2, 3, "a"], 7])
def test_broken_label_colours_are_refused(rgba: Any) -> None:
    attrs = foreign()
    attrs["ome"]["image-label"] = {"colors": [{"label-value": 1, "rgba": rgba}]}
    with pytest.raises(FormatError):
        read_ome(attrs, "them")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["axes", "datasets", "path", "omero", "image-label", "name"]), inner
            )
        ),
        max_leaves=8,
    )
)
def test_hostile_attributes_raise_our_error_only(junk: Any) -> None:
    for attrs in (foreign(axes=junk), foreign(datasets=junk), foreign(coordinateTransformations=junk)):
        with contextlib.suppress(FormatError):
            read_ome(attrs, "them")
    for key in ("omero", "image-label"):
        attrs = foreign()
        attrs["ome"][key] = junk
        try:
            read_ome(attrs, "them")
        except FormatError:
            continue
