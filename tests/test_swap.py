"""A study that goes from Zarr to TileDB and back is the same study, to the bit, the byte and the column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from radiobject import RadiObject, SliceOrientation, TileConfig, WriteConfig
from radiobject.errors import CorruptObjectError
from radiobject.examples import study
from tests.test_round_trip import nifti_files

pytest.importorskip("tiledb")

PLACES = ("_path", "_hint", "_objects", "_foreground", "_parent")
"""Columns that say where a volume lies, and must differ."""


def tables(radi: RadiObject) -> dict[str, pa.Table]:
    """Every table of the study as it stands in Parquet, hidden columns too, without places."""
    snapshot = radi._study.snapshot
    found = {name: snapshot.table(name).read() for name in snapshot.commit.tables}
    for entry in snapshot.commit.collections:
        for name in entry.tables:
            found[f"{entry.name}/{name}"] = snapshot.table(name, entry.name).read()
    return {n: t.drop_columns([c for c in PLACES if c in t.schema.names]) for n, t in found.items()}


def exported(volume: Any, folder: Path) -> list[bytes]:
    """The bytes of the volume as a NIfTI file, or as a pair where it came from one."""
    pair = "pair" in (volume.metadata["source_format"] or "")
    path = folder / ("back.hdr" if pair else "back.nii")
    volume.to_nifti(path)
    return [p.read_bytes() for p in ([path, path.with_suffix(".img")] if pair else [path])]


def assert_same(one: RadiObject, other: RadiObject, folder: Path) -> int:
    """Tables with their types and order; of each volume the stored voxels, geometry, metadata, file bytes."""
    ours, theirs = tables(one), tables(other)
    assert ours.keys() == theirs.keys()
    for name, table in ours.items():
        assert table.schema.equals(theirs[name].schema, check_metadata=False), name
        assert table.equals(theirs[name]), name
    volumes = 0
    for name in one:
        assert one.collection(name).kind == other.collection(name).kind
        pd.testing.assert_frame_equal(one.collection(name).obs.read(), other.collection(name).obs.read())
        for a, b in zip(one.collection(name), other.collection(name), strict=True):
            assert a.obs_id == b.obs_id
            assert (a.dtype, a.stored_dtype, a.shape) == (b.dtype, b.stored_dtype, b.shape)
            assert a.affine.tobytes() == b.affine.tobytes()
            assert a.meta == b.meta
            assert a.to_numpy(raw=True).tobytes() == b.to_numpy(raw=True).tobytes()
            assert exported(a, folder) == exported(b, folder)
            volumes += 1
    return volumes


def backends(radi: RadiObject) -> set[str]:
    return {radi.collection(name).backend for name in radi}


def there_and_back(radi: RadiObject, folder: Path, other: str) -> int:
    """Copy to another backend and back; compare the three, each opened anew, without naming a backend."""
    (first,) = backends(radi)
    radi.write(folder / "there", backend=other)
    there = RadiObject(folder / "there")
    there.write(folder / "back", backend=first)
    back = RadiObject(folder / "back")
    assert (backends(there), backends(back)) == ({other}, {first})
    assert there.validate("full").ok
    assert back.validate("full").ok
    assert_same(radi, there, folder)
    return assert_same(radi, back, folder)


def study_of(files: list[Path], place: Path, **options: Any) -> RadiObject:
    sources = [(path, f"s{number}") for number, path in enumerate(files)]
    return RadiObject.from_niftis(place, {"any": sources}, axis4="time", errors="collect", **options)


@pytest.mark.parametrize("first", ["zarr", "tiledb"])
def test_every_file_of_nibabel(nibabel_data: Path, tmp_path: Path, first: str) -> None:
    radi = study_of(nifti_files(nibabel_data), tmp_path / "study", backend=first)
    assert there_and_back(radi, tmp_path, {"zarr": "tiledb", "tiledb": "zarr"}[first]) == 7
    assert "failed" in set(RadiObject(tmp_path / "back").ledger.read()["outcome"])


def test_every_real_file(real_data: Path, tmp_path: Path) -> None:
    radi = study_of(nifti_files(real_data), tmp_path / "study")
    assert there_and_back(radi, tmp_path, "tiledb") == 89


@pytest.mark.parametrize("preset", ["archive", "none"])
@pytest.mark.parametrize("shape", [(7, 5, 9), (7, 5, 9, 3)], ids=["3d", "4d"])
def test_every_dtype_tile_and_codec(
    make_nifti: Any, tmp_path: Path, preset: str, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(2)
    files = []
    for order in "<>":
        for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
            array = rng.integers(0, 100, shape).astype(dtype)
            name = "little" if order == "<" else "big"
            files.append(tmp_path / f"{name}-{dtype}.nii")
            oblique = np.array([[1.9, 0.3, 0, 4], [-0.3, 1.9, 0.1, 5], [0, -0.1, 3, 6], [0, 0, 0, 1.0]])
            files[-1].write_bytes(
                make_nifti(
                    array,
                    order=order,
                    affine=oblique,
                    extensions=[(6, b"comment")],
                    fields={"scl_slope": 2.0, "scl_inter": -7.5},
                    tail=b"after",
                )
            )
    plain = WriteConfig.preset(preset)
    write = WriteConfig(
        tile=TileConfig(SliceOrientation.AXIAL, chunk_t=2),
        compression=plain.compression, label_compression=plain.label_compression,
    )  # fmt: skip
    radi = study_of(files, tmp_path / "study", write=write)
    assert there_and_back(radi, tmp_path, "tiledb") == 20


def test_every_level_of_a_pyramid(tmp_path: Path) -> None:
    scan = (np.random.default_rng(3).integers(0, 99, (21, 14, 9)).astype("i2"), np.diag([1, 1, 2.5, 1]))
    images = {name: [(scan, "a"), (scan, "b")] for name in ("T1w", "seg")}
    radi = RadiObject.from_niftis(tmp_path / "study", images, write=WriteConfig(pyramid=2))
    assert there_and_back(radi, tmp_path, "tiledb") == 4
    for place in ("there", "back"):
        for name, obs_id in (("T1w", "b_T1w"), ("seg", "a_seg")):
            ours, theirs = (r.collection(name).loc[obs_id] for r in (radi, RadiObject(tmp_path / place)))
            assert ours.n_levels == theirs.n_levels == 3
            for one, other in zip(ours.levels, theirs.levels, strict=True):
                assert one.affine.tobytes() == other.affine.tobytes()
                np.testing.assert_array_equal(one[...], other[...])


def test_columns_of_every_type(tmp_path: Path) -> None:
    people = pd.DataFrame(
        {
            "obs_subject_id": ["søren", "b", "c"],
            "n": pd.array([1, None, 3], "Int16"),
            "yes": pd.array([True, None, False], "boolean"),
            "dx": pd.Categorical(["AD", None, "CN"], ["CN", "MCI", "AD"], ordered=True),
            "when": pd.to_datetime(["2020-01-02T03:04:05.678901", None, "1999-12-31T00:00:00.5"], utc=True),
            "weight": np.array([1.5, np.nan, 3.25], "f4"),
            "note": ["ünïcode", None, "plain"],
        }
    )
    scan = (np.arange(60, dtype="i2").reshape(3, 4, 5), np.diag([1, 2, 3, 1.0]))
    images = {name: [(scan, "søren"), (scan, "b")] for name in ("T1w", "seg")}
    radi = RadiObject.from_niftis(tmp_path / "study", images, people)
    radi.T1w.obs.add_column("rating", values=pd.array([None, 4], "Int8"))
    graded = pd.Categorical(["poor", None], ["good", "fair", "poor"], ordered=True)
    radi.T1w.obs.add_column("grade", values=graded)
    radi = RadiObject(tmp_path / "study")
    assert there_and_back(radi, tmp_path, "tiledb") == 4
    back = tables(RadiObject(tmp_path / "back"))
    assert back["obs_meta"].schema.field("n").type == pa.int16()
    assert back["T1w/obs"]["rating"].to_pylist() == [None, 4]
    for frame, name, order in (
        (RadiObject(tmp_path / "back").obs_meta.read(), "dx", ["CN", "MCI", "AD"]),
        (RadiObject(tmp_path / "back").T1w.obs.read(), "grade", ["good", "fair", "poor"]),
    ):
        assert list(frame[name].cat.categories) == order
        assert frame[name].cat.ordered


def test_names_and_colours_of_labels(tmp_path: Path) -> None:
    pytest.importorskip("nilearn")
    radi = study(1, tmp_path / "study", spacing=8.0)
    assert there_and_back(radi, tmp_path, "tiledb") == 2
    assert [x.name for x in RadiObject(tmp_path / "there").seg.iloc[0].meta.labels] == [
        "grey matter",
        "white matter",
    ]


def test_a_view_takes_its_rows_its_volumes_and_their_lines_of_the_ledger(tmp_path: Path) -> None:
    def scan(value: int) -> Any:
        return np.full((3, 4, 5), value, "i2"), np.eye(4)

    images = {name: [(scan(n), f"sub-{n}") for n in (3, 1, 2)] for name in ("T1w", "T2w")}
    radi = RadiObject.from_niftis(tmp_path / "study", images)
    view = radi.loc[["sub-1", "sub-3"]].select_collections(["T2w"])
    copy = view.write(tmp_path / "part", backend="tiledb")
    assert copy.collection_names == ("T2w",)
    assert {v.obs_id: int(v[0, 0, 0]) for v in copy.T2w} == {"sub-3_T2w": 3, "sub-1_T2w": 1}
    assert sorted(copy.ledger.read()["obs_id"]) == ["sub-1_T2w", "sub-3_T2w"]


@pytest.mark.parametrize("backend", ["zarr", "tiledb"])
@pytest.mark.parametrize("other", ["zarr", "tiledb"])
def test_files_that_another_volume_of_the_same_shape_had_are_not_copied(
    tmp_path: Path, backend: str, other: str
) -> None:
    rng = np.random.default_rng(0)
    scans = {s: (rng.integers(-999, 999, (40, 30, 35)).astype("i2"), np.eye(4)) for s in "ab"}
    images = {"T1w": [(scan, subject) for subject, scan in scans.items()]}
    plain = WriteConfig.preset("none")  # every file of a has the size of its twin in b
    radi = RadiObject.from_niftis(tmp_path / "study", images, backend=backend, write=plain)
    folder = tmp_path / "study" / "collections" / "T1w"
    name = "**/0/c/0/0/0" if backend == "zarr" else "**/a0.tdb"
    (mine,), (theirs,) = ((folder / f"{s}_T1w").glob(name) for s in "ab")
    mine.write_bytes(theirs.read_bytes())
    assert [p.where.split("/")[2] for p in radi.validate("full").problems] == ["a_T1w"]
    with pytest.raises(CorruptObjectError, match="a_T1w"):
        RadiObject(tmp_path / "study").write(tmp_path / "copy", backend=other)


def test_a_derived_layer_of_a_copy_is_gone_on_with(tmp_path: Path) -> None:
    scan = (np.arange(60, dtype="i2").reshape(3, 4, 5), np.eye(4))
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": [(scan, "a"), (scan, "b")]})
    radi.add_collection("half", radi.T1w.lazy().map(half))
    radi.half.obs.add_column("rating", values=[4, 2])
    copy = RadiObject(tmp_path / "study").write(tmp_path / "copy", backend="tiledb")
    copy.add_collection("half", copy.T1w.lazy().map(half))
    assert copy.version == 1
    assert copy.half.obs.read()["rating"].to_list() == [4, 2]


def half(voxels: Any, row: Any) -> Any:
    return voxels / 2
