"""What the fuzz has found, each as one small input: refused with an error of ours, which it once was not."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from radiobject import RadiObject
from radiobject.backends.base import Level
from radiobject.backends.zarr import ZarrBackend
from radiobject.backends.zarr.metadata import array_document, spec_of
from radiobject.errors import CorruptObjectError, DuplicateIdError, FormatError
from radiobject.format import catalog
from radiobject.format.commit import Commit
from radiobject.format.meta import VolumeMeta, row_meta
from radiobject.format.schema import OBS_SCHEMA, SUBJECT_SCHEMA, check_columns
from radiobject.format.tables import Part, Table, write_part
from radiobject.geometry.affine import Affine
from radiobject.location import Location
from radiobject.model.index import Index
from radiobject.model.volume import Volume
from radiobject.storage import Storage
from radiobject.testing import voxels
from tests.fuzz.mutation import as_json, sealed
from tests.fuzz.volume_targets import SPEC

pytestmark = pytest.mark.no_backend(reason="metadata of each backend that has some")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("found") / "study"
    scans = [((np.full((4, 5, 6), n, "i2"), np.eye(4)), f"sub-{n}") for n in range(2)]
    RadiObject.from_niftis(str(place), {"T1w": scans}, progress=False)
    return place


def commit_with(written: Path, *keys_and_value: Any) -> bytes:
    """The study's commit with one value exchanged, and a hash that fits."""
    *keys, last, value = keys_and_value
    document = json.loads((written / "versions/000000000001.json").read_bytes())
    del document["self_sha256"]
    place = document
    for key in keys:
        place = place[key]
    place[last] = value
    return sealed(as_json(document))


OBS = ("collections", 0, "tables", "obs", 0)
COMMITS = {
    "rows as text": (*OBS, "rows", "2"),
    "rows as a float": (*OBS, "rows", 2.0),
    "negative rows": (*OBS, "rows", -1),
    "rows beyond counting": (*OBS, "rows", 2**63),
    "a path that is an object": (*OBS, "path", {}),
    "a footer of no length": (*OBS, "footer_bytes", None),
    "an id that cannot be written": (*OBS, "min_id", "\ud800"),
    "tables as a list": ("tables", []),
    "parts as text": ("tables", "obs_meta", "abc"),
    "a shape of two": ("collections", 0, "shape", [4, 5]),
    "a shape of text": ("collections", 0, "shape", "456"),
    "a kind of its own": ("collections", 0, "kind", "mesh"),
    "a parent far away": ("parent", 7),
    "a parent in words": ("parent", "0"),
    "an oldest above it": ("oldest", 2),
    "ids that are numbers": ("change", {"volumes_added": [1]}),
    "a change list without a size": ("change_list", {"path": "versions/x", "sha256": ""}),
    "features as text": ("features", "abc"),
    "depth": ("message", "@deep@"),
    "digits": ("version", "@digits@"),
}


@pytest.mark.parametrize("name", COMMITS)
def test_a_commit_that_no_writer_writes_is_refused(written: Path, name: str) -> None:
    with pytest.raises(FormatError, match="the commit"):
        Commit.from_bytes(commit_with(written, *COMMITS[name]), "the commit")


def test_two_collections_of_one_name_are_refused(written: Path) -> None:
    document = json.loads((written / "versions/000000000001.json").read_bytes())
    with pytest.raises(FormatError, match="two collections"):
        Commit.from_bytes(commit_with(written, "collections", document["collections"] * 2), "the commit")


@pytest.mark.parametrize("latest", [float("inf"), 1.0, True, "1", None, []])
def test_a_hint_of_other_types_counts_as_none(written: Path, latest: Any) -> None:
    sound = (written / "hint.json").read_bytes()
    body = json.loads(sound)
    del body["self_sha256"]
    try:
        (written / "hint.json").write_bytes(sealed(as_json({**body, "latest": latest})))
        catalog._snapshots.clear()
        assert RadiObject(str(written)).version == 1
    finally:
        (written / "hint.json").write_bytes(sound)


SUBJECTS = pa.table({"obs_subject_id": ["a", "b"]})


def part_of(place: Path, data: bytes, rows: int) -> Table:
    """A table of one part with these bytes, its footer hashed as it is."""
    (place / "t").mkdir(exist_ok=True)
    (place / "t/p.parquet").write_bytes(data)
    size = int.from_bytes(data[-8:-4], "little") + 8
    footer = hashlib.sha256(data[-size:]).hexdigest()
    part = Part("t/p.parquet", len(data), rows, "", size, footer, "a", "b")
    return Table(Storage(Location(place)), "obs_meta", [part], SUBJECT_SCHEMA)


def parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, write_page_checksum=True)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        (SUBJECTS, 3),
        (SUBJECTS, 1),
        (SUBJECTS.rename_columns(["other"]), 2),
        (pa.table({"obs_subject_id": [1, 2]}), 2),
        (pa.table({"obs_subject_id": ["a", None]}), 2),
        (SUBJECTS.append_column("obs_subject_id", pa.array(["c", "d"])), 2),
    ],
    ids=["fewer rows", "more rows", "no ids", "numbers for ids", "an id is null", "ids twice"],
)
def test_a_part_that_is_not_what_its_commit_says_is_refused(
    tmp_path: Path, rows: pa.Table, count: int
) -> None:
    with pytest.raises((FormatError, CorruptObjectError), match=r"t/p\.parquet"):
        part_of(tmp_path, parquet(rows), count).ids()


def test_columns_may_lack_fields_that_came_later_and_be_categorical() -> None:
    older = pa.list_(pa.struct([("path", pa.string()), ("bytes", pa.int64()), ("crc32c", pa.uint32())]))
    kinds = {f.name: f.type for f in OBS_SCHEMA if f.name not in ("run", "_foreground")}
    kinds |= {"_objects": older, "session": pa.dictionary(pa.int32(), pa.string())}
    check_columns(pa.schema(kinds), OBS_SCHEMA, "obs")
    with pytest.raises(FormatError, match="run of obs"):
        check_columns(pa.schema({**kinds, "run": pa.string()}), OBS_SCHEMA, "obs")


def test_a_footer_without_the_order_of_its_columns_ends_no_process(tmp_path: Path) -> None:
    # libparquet dies of it when it is asked to write such a footer anew
    rows = pa.table({"obs_subject_id": ["a", "b"], "age": [30.0, None], "dx": ["AD", "CN"]})
    sound = parquet(rows)
    as_list, as_struct = b"\x19\x3c\x1c\x00", b"\x1c\x15\x06\x15"
    at = sound.rindex(as_list)
    damaged = sound[:at] + as_struct + sound[at + 4 :]
    table = part_of(tmp_path, damaged, 2)
    code = (
        "import sys, pyarrow as pa, pyarrow.parquet as pq, pyarrow.compute as pc\n"
        "from radiobject.format.pruning import Pruner\n"
        "data = open(sys.argv[1], 'rb').read()\n"
        "file = pq.ParquetFile(pa.BufferReader(data))\n"
        "footer = data[-int.from_bytes(data[-8:-4], 'little') - 8:]\n"
        "pruner = Pruner(file, footer)\n"
        "print(pruner.groups(pc.field('dx') == 'AD', [file.schema_arrow.field('dx')], 'it'))\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "t/p.parquet")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "[0]\n"
    assert table.read(filter=pc.field("dx") == "AD")["obs_subject_id"].to_pylist() == ["a"]


META = VolumeMeta(Affine.from_spacing((1, 1, 2)), ("z", "y", "x")).to_json()
SOURCE = META["source"]
SCALING = {"slope": 1.0, "inter": 0.0, "dtype": "float32"}
METAS = {
    "dims as text": {"dims": "zyx"},
    "dims of numbers": {"dims": [1, 2, 3]},
    "another kind": {"kind": "mesh"},
    "a unit of its own": {"space_unit": "furlong"},
    "a scaling to objects": {"scaling": {**SCALING, "dtype": "object"}},
    "a scaling of infinity": {"scaling": {**SCALING, "slope": float("inf")}},
    "a scaling of text": {"scaling": {**SCALING, "slope": "1"}},
    "halves as integers": {"scaling": {**SCALING, "slope": 0.5, "dtype": "int16"}},
    "more than 64 bits": {"scaling": {**SCALING, "slope": 1e308, "dtype": "int16"}},
    "a ragged original affine": {"original_affine": [[1, 0], [0]]},
    "a window of three": {"window": [0, 1, 2]},
    "a label of 65 bits": {"labels": [{"value": 2**64, "name": "x", "rgba": None}]},
    "a colour of three": {"labels": [{"value": 1, "name": "x", "rgba": [1, 2, 3]}]},
    "a colour beyond 255": {"labels": [{"value": 1, "name": "x", "rgba": [1, 2, 3, 256]}]},
    "labels as a number": {"labels": 7},
    "a byte order of its own": {"source": {**SOURCE, "byteorder": "="}},
    "extras as text": {"source": {**SOURCE, "extras": "nifti"}},
}


@pytest.mark.parametrize("name", METAS)
def test_a_volume_that_says_what_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"the volume|affine") as caught:
        VolumeMeta.from_json({**META, **METAS[name]}, "the volume")
    assert type(caught.value).__module__ == "radiobject.errors"


@pytest.mark.parametrize("text", ["[]", "null", "7", "[" * 100_000, "{", None])
def test_a_row_that_holds_no_object_is_refused(text: Any) -> None:
    with pytest.raises(FormatError, match="_volume"):
        row_meta(text)


def test_a_volume_with_other_axes_than_its_arrays_is_refused(tmp_path: Path) -> None:
    meta = replace(VolumeMeta(Affine.from_spacing((1, 1, 2)), ("t", "z", "y", "x")))
    writer = ZarrBackend(Location(tmp_path)).create_volume(
        "v.ome.zarr", [Level("0", SPEC)], {"radiobject": meta.to_json()}, {}
    )
    for box in SPEC.shard_boxes():
        writer.write(0, box, voxels(SPEC)[box.slices])
    writer.finish()
    with pytest.raises(FormatError, match="axes"):
        Volume(str(tmp_path / "v.ome.zarr"))


def test_ids_that_occur_twice_are_found_out_also_where_they_were_trusted() -> None:
    with pytest.raises(DuplicateIdError, match="'a'"):
        Index(["b"]) & Index(["a", "b", "a"], checked=True)


def test_zstd_without_a_level_is_accepted() -> None:
    document = json.loads(json.dumps(array_document(SPEC)))
    document["codecs"][0]["configuration"]["codecs"][1] = {"name": "zstd", "configuration": {}}
    assert spec_of(document, "it").codec.algorithm == "zstd"


def tiledb_volume(place: Path) -> tuple[Any, dict[str, Any]]:
    pytest.importorskip("tiledb")
    from radiobject.backends.tiledb import TileDBBackend

    backend = TileDBBackend(Location(place))
    writer = backend.create_volume("v", [Level("0", SPEC)], {}, {})
    for box in SPEC.shard_boxes():
        writer.write(0, box, voxels(SPEC)[box.slices])
    writer.finish()
    manifest = json.loads((place / "v/volume.json").read_bytes())
    del manifest["self_sha256"]
    return backend, manifest


@pytest.mark.parametrize(
    ("key", "value", "wrong"),
    [
        ("shape", [18, 20, 13], CorruptObjectError),
        ("dtype", "u2", CorruptObjectError),
        ("shape", [2**31 - 1] * 3, FormatError),
        ("shards", [0, 24, 16], FormatError),
        ("shape", "@deep@", FormatError),
    ],
)
def test_a_tiledb_manifest_of_another_array_is_refused(
    tmp_path: Path, key: str, value: Any, wrong: type[Exception]
) -> None:
    backend, manifest = tiledb_volume(tmp_path)
    manifest["levels"][0][key] = value
    (tmp_path / "v/volume.json").write_bytes(sealed(as_json(manifest)))

    def read() -> None:
        handle = backend.open_volume("v")
        handle.read(handle.spec.box)

    with pytest.raises(wrong, match="v/"):
        read()


def test_a_part_that_was_written_is_one_that_is_read(tmp_path: Path) -> None:
    storage = Storage(Location(tmp_path))
    part = write_part(storage, "obs_meta", SUBJECTS)
    assert Table(storage, "obs_meta", [part], SUBJECT_SCHEMA).ids() == ["a", "b"]
