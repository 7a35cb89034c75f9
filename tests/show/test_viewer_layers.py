"""Where a layer's coordinates lie in the world, which greys and which labels it has; without a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from radiobject import RadiObject, Volume, WriteConfig, measure
from radiobject.errors import FormatError
from radiobject.format.ome import default_rgba

layers = pytest.importorskip(
    "radiobject.show.viewer.layers", reason="needs pip install 'radiobject-zarr[viewer]'"
)


def world(transform: Any, source: Any) -> dict[str, float]:
    """Where Neuroglancer puts a point in a source's coordinates: in mm, and time points or channels."""
    inputs, outputs = transform.input_dimensions, transform.output_dimensions
    # the matrix takes lengths to lengths, its last column counts in units of the output
    lengths = transform.matrix[:, :-1] @ (np.array(source) * inputs.scales)
    return dict(zip(outputs.names, lengths / outputs.scales + transform.matrix[:, -1], strict=True))


@given(st.integers(0, 2**32 - 1), st.permutations("xyztc"), st.integers(3, 5))
def test_the_centre_of_every_voxel_goes_where_the_affine_says(seed: int, order: str, rank: int) -> None:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3] = rng.normal(size=(3, 4)) * rng.uniform(0.3, 9, 4)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    assume(abs(np.linalg.det(directions)) > 1e-3)
    names = "xyztc"[:rank]
    volume = Volume.from_numpy(np.zeros((5, 4, 6, 3, 2)[:rank], "u1"), affine, axis4="time", time_step=2.5)
    axes = [layers.Axis(f"<{a}>", a, rng.normal()) for a in order if a in names]
    transform = layers.world_transform(volume, axes)
    index = dict(zip(names, rng.integers(0, 7, rank), strict=True))
    found = world(transform, [index[axis.letter] + axis.centre for axis in axes])
    wanted = affine[:3, :3] @ [index[a] for a in "xyz"] + affine[:3, 3]
    np.testing.assert_allclose([found[a] for a in "xyz"], wanted, atol=1e-9)
    if rank > 3:
        assert found["t"] == pytest.approx(index["t"])
        assert dict(zip(transform.output_dimensions.names, transform.output_dimensions.scales, strict=True))[
            "t"
        ] == pytest.approx(2.5)
    if rank > 4:
        assert found["c'"] == pytest.approx(index["c"])


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, 1, -1)])
def test_stored_voxels_are_found_by_what_stands_in_their_metadata(
    tmp_path: Path, flips: tuple[int, int, int]
) -> None:
    affine = np.diag([*np.multiply(flips, (0.8, 1.1, 3)), 1.0])
    affine[:3, 3] = -31.7, 12.25, 400.1
    Volume.from_numpy(np.zeros((7, 5, 4), "i2"), affine, tmp_path / "a.ome.zarr")
    volume = Volume(tmp_path / "a.ome.zarr")
    source = layers.source_of(volume)
    (level,) = json.loads((tmp_path / "a.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"][
        "multiscales"
    ][0]["datasets"]
    scale, translation = (t[t["type"]] for t in level["coordinateTransformations"])
    # what Neuroglancer makes of the metadata: coordinates in voxels, which it counts from the world's origin
    there = (np.array([2, 3, 4]) * scale + translation) / scale
    found = world(layers.world_transform(volume, source.axes), there)
    np.testing.assert_allclose([found[a] for a in "xyz"], affine[:3, :3] @ (4, 3, 2) + affine[:3, 3])


def stored(tmp_path: Path, dtype: str, kind: str = "image") -> Volume:
    voxels = np.arange(60).reshape(5, 4, 3).astype(dtype)
    if voxels.dtype.kind == "f":
        voxels += 0.5  # else they are stored as integers
    return Volume.from_numpy(voxels, uri=tmp_path / f"{dtype}.ome.zarr", kind=kind)


@pytest.mark.parametrize(
    ("kind", "by_page", "by_us"),
    [
        ("image", ("u1", "i1", "u2", "i2", "u4", "i4", "f4"), {"f8": "f4", "i8": "f4", "u8": "f4"}),
        ("label", ("u1", "i1", "u2", "i2", "u4", "i4", "u8"), {"i8": "u8"}),
    ],
)
def test_the_page_reads_what_it_can_draw(
    tmp_path: Path, kind: str, by_page: tuple[str, ...], by_us: dict[str, str]
) -> None:
    for dtype in by_page:
        assert layers.source_of(stored(tmp_path, dtype, kind)).files is not None
    for dtype, drawn in by_us.items():
        source = layers.source_of(stored(tmp_path, dtype, kind))
        assert source.files is None
        local = layers.layer_of(source, "http://127.0.0.1/").source[0].url
        assert local.data[1:3, 0:2, 0:1].dtype == drawn


def test_parts_and_what_is_computed_are_read_by_us(tmp_path: Path) -> None:
    volume = stored(tmp_path, "i2")
    for part in (volume.slicer[1:], volume.reorient("LPS"), volume.resample(2.0), volume.slicer[:]):
        assert layers.source_of(part).files is None


def scaled(slope: float, inter: float, window: tuple[float, float] | None = None) -> dict[str, Any]:
    """Header fields of a NIfTI file."""
    fields = {"scl_slope": slope, "scl_inter": inter}
    return fields if window is None else {**fields, "cal_min": window[0], "cal_max": window[1]}


@pytest.fixture
def nifti(tmp_path: Path, make_nifti: Any) -> Any:
    """`nifti(**fields)` is the path of a file with the stored values 0 to 999."""

    def write(**fields: Any) -> Path:
        voxels = np.arange(1000, dtype="i2").reshape(10, 10, 10)
        (tmp_path / "a.nii").write_bytes(make_nifti(voxels, fields=fields))
        return tmp_path / "a.nii"

    return write


def shown(volume: Volume) -> list[float]:
    """The range of the grey scale, in the values that the page reads."""
    layer = layers.layer_of(layers.source_of(volume), "http://127.0.0.1/")
    return list(layer.shader_controls["normalized"].range)


def in_study(tmp_path: Path, image: Any, **options: Any) -> Volume:
    made = RadiObject.from_niftis(tmp_path / "study", {"T1w": [(image, "a")]}, progress=False, **options)
    return made.T1w.iloc[0]


@pytest.mark.parametrize(
    ("slope", "inter", "window", "wanted"),
    [
        (1, 0, None, [9, 989]),
        (0.5, -10, None, [9, 989]),
        (-2, 100, None, [989, 9]),  # what is dark is stored large
        (0.5, -10, (-5, 90), [10, 200]),
        (1000, 0, (0, 200), [0, 1]),  # never a range of nothing
        (1, 0, (-1e6, 1e6), [-32768, 32767]),
    ],
)
def test_greys_are_those_of_the_stored_values(
    tmp_path: Path, nifti: Any, slope: float, inter: float, window: Any, wanted: list[float]
) -> None:
    image = nifti(**scaled(slope, inter, window))
    assert shown(in_study(tmp_path, image)) == pytest.approx(wanted, abs=1)
    alone = Volume.from_nifti(image, uri=tmp_path / "a.ome.zarr")
    assert shown(Volume(tmp_path / "a.ome.zarr")) == pytest.approx(wanted, abs=1)
    assert alone.meta.window == window


def test_a_part_has_the_greys_of_the_whole_and_costs_no_read(tmp_path: Path, nifti: Any) -> None:
    volume = in_study(tmp_path, nifti(**scaled(0.5, -10)))
    with measure() as counts:
        assert shown(volume.slicer[:2]) == shown(volume.resample(2.0)) == pytest.approx([-5.5, 484.5], abs=1)
    assert counts["bytes_used"] == 0


def segments(volume: Volume) -> tuple[dict[int, str], dict[int, str], list[int]]:
    """Names, colours, and which are selected."""
    layer = layers.layer_of(layers.source_of(volume), "http://127.0.0.1/")
    inline = json.loads(layers.label_document(volume))["inline"]
    names = dict(zip(map(int, inline["ids"]), inline["properties"][0]["values"], strict=True))
    return names, {int(k): v for k, v in layer.segment_colors.items()}, sorted(layer.segments)


def test_labels_have_their_names_and_colours_and_all_are_selected(tmp_path: Path) -> None:
    labels = np.arange(27, dtype="i2").reshape(3, 3, 3) % 5
    volume = in_study(
        tmp_path, (labels, np.eye(4)), labels={"T1w": {-2: "no id", 1: "liver", 3: "spleen", 9: "absent"}}
    )
    names, colours, selected = segments(volume)
    assert names == {1: "liver", 2: "label 2", 3: "spleen", 4: "label 4", 9: "absent"}
    assert selected == [1, 2, 3, 4, 9]
    assert colours == {value: "#" + bytes(default_rgba(value)[:3]).hex() for value in names}


def test_labels_that_nobody_counted_are_all_shown(tmp_path: Path) -> None:
    # none selected is all of them: of a volume without a row nobody knows how many there are
    alone = Volume.from_numpy(np.full((3, 3, 3), 7, "u1"), uri=tmp_path / "a.ome.zarr", kind="label")
    assert segments(alone) == ({}, {}, [])
    many = np.arange(27, dtype="u2").reshape(3, 3, 3) * 100
    volume = in_study(tmp_path, (many, np.eye(4)), labels={"T1w": {100: "liver"}})
    names, _, selected = segments(volume)
    assert (names, selected) == ({100: "liver"}, [])


def test_the_files_of_a_pyramid_are_all_there(tmp_path: Path) -> None:
    voxels = np.zeros((40, 36, 34), "u1")
    volume = Volume.from_numpy(voxels, uri=tmp_path / "a.ome.zarr", write=WriteConfig(pyramid=1))
    files = layers.source_of(volume).files
    there = [
        path.relative_to(tmp_path / "a.ome.zarr").as_posix() for path in tmp_path.rglob("*") if path.is_file()
    ]
    assert sum(key.startswith("pyramid/1/") for key in there) == 2
    assert all(key in files for key in there)
    assert files.size("pyramid/1/c/0/0/0") == (tmp_path / "a.ome.zarr/pyramid/1/c/0/0/0").stat().st_size


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"axes": "zyx"},
        {"axes": [{"name": "x"}] * 3},
        {"axes": [1, 2, 3]},
        {"datasets": []},
        {"datasets": [{}]},
    ],
)
def test_metadata_that_places_nothing_is_refused(tmp_path: Path, broken: dict[str, Any]) -> None:
    stored(tmp_path, "i2")
    document = tmp_path / "i2.ome.zarr" / "zarr.json"
    text = json.loads(document.read_text())
    ome = text["attributes"]["ome"]
    ome["multiscales"] = [{**ome["multiscales"][0], **broken}] if broken else "none"
    document.write_text(json.dumps(text))
    with pytest.raises(FormatError, match=r"i2\.ome\.zarr"):
        layers.source_of(Volume(tmp_path / "i2.ome.zarr"))
