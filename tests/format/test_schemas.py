"""What is written is what schemas/ says, and schemas/ ships with the package."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from referencing import Registry, Resource

from radiobject import RadiObject, Volume
from radiobject.config import CompressionConfig, OrientationConfig, TileConfig, WriteConfig
from radiobject.format.catalog import Catalog
from radiobject.format.changes import Edit
from radiobject.format.layout import HINT, ROOT
from radiobject.format.schema import (
    DERIVED_SCHEMA,
    KEYS,
    LEDGER_SCHEMA,
    OBS_SCHEMA,
    SUBJECT_SCHEMA,
    THUMBNAIL_SCHEMA,
)
from radiobject.format.tags import create_tag
from radiobject.format.transaction import MAX_IDS_IN_COMMIT, Transaction
from radiobject.location import Location
from radiobject.storage import Storage

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMAS = {
    p.name.split(".")[0]: json.loads(p.read_text()) for p in (REPOSITORY / "schemas").glob("*.schema.json")
}
TABLES = json.loads((REPOSITORY / "schemas" / "tables.json").read_text())["tables"]
ARROW = {
    "obs_meta": SUBJECT_SCHEMA,
    "obs": OBS_SCHEMA,
    "thumbnails": THUMBNAIL_SCHEMA,
    "ledger": LEDGER_SCHEMA,
}
_REGISTRY: Registry[Any] = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)


def check(document: Any, name: str, part: str = "") -> None:
    """Validate with formats (uuid, date-time) enforced."""
    schema = {"$ref": f"{SCHEMAS[name]['$id']}{part}"}
    jsonschema.Draft202012Validator(
        schema, registry=_REGISTRY, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(document)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, make_nifti: Callable[..., Any]) -> Path:
    """A study with every kind of source, several versions, a failure, a tag and a reoriented volume."""
    folder = tmp_path_factory.mktemp("schemas")
    voxels = np.arange(120, dtype="i2").reshape(4, 5, 6)
    scaled = {"scl_slope": 2.0, "scl_inter": -3.0, "cal_min": 1.0, "cal_max": 9.0, "xyzt_units": 10}
    (folder / "a.nii").write_bytes(make_nifti(voxels, fields=scaled, tail=b"tail", extensions=[(6, b"note")]))
    header, image = make_nifti(voxels.astype(">f4"), order=">", pair=True, version=2, lead=b"lead")
    (folder / "b.hdr").write_bytes(header)
    (folder / "b.img").write_bytes(image)
    timed = make_nifti(
        np.zeros((4, 5, 6, 3), "u1"), fields={"xyzt_units": 10, "pixdim": [1, 1, 1, 1, 2, 1, 1, 1]}
    )
    (folder / "c.nii").write_bytes(timed)
    (folder / "broken.nii").write_bytes(b"<html>")
    tilted = np.array([[0.9, -0.2, 0, 3], [0.2, 0.9, 0.1, -4], [0, -0.1, 2, 5], [0, 0, 0, 1]])
    flipped = np.diag([-1.0, 1, 1, 1])
    meta = pd.DataFrame(
        {"obs_subject_id": list("abcdeéf"), "age": [1.5, None, 3, 4, 5, 6, 7], "ok": [True] * 7}
    )
    files = [(str(folder / name), name[0]) for name in ("a.nii", "b.hdr", "c.nii")]
    group = zarr.open_group(folder / "theirs.zarr", mode="w", zarr_format=3)  # an image as others write it
    unit = [{"type": "scale", "scale": [1.0] * 3}]
    levels = [{"path": "0", "coordinateTransformations": unit}]
    axes = [{"name": a, "type": "space", "unit": "millimeter"} for a in "zyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": levels}]}
    group.create_array("0", data=voxels, dimension_names=list("zyx"))
    RadiObject.from_niftis(
        folder / "study",
        {
            "CT": [(Volume(folder / "theirs.zarr"), "f")],
            "T1w": [*files, (str(folder / "broken.nii"), "d")],
            "seg": [((voxels.astype("u1"), tilted), "e"), ((voxels.astype("i8"), flipped), "é")],
            "dwi": [((np.full((4, 5, 6, 2), np.nan, "f8"), None), "f")],
        },
        meta,
        obs={"T1w": pd.DataFrame({"obs_subject_id": ["a"], "site": ["Ulm"]})},
        axis4="channel",
        labels={"seg": {1: "liver", 2: "spleen"}},
        write=WriteConfig(
            tile=TileConfig(chunks=(2, 2, 2), shards=(4, 4, 4)),
            orientation=OrientationConfig(reorient_on_load=True),
            pyramid=1,
        ),
        errors="collect",
        progress=False,
    )  # fmt: skip
    storage = Storage(Location(folder / "study"))
    base = Catalog(storage).latest()
    create_tag(base.storage, "first", base.version, base.commit.sha256)
    more = [f"s{i:05d}" for i in range(MAX_IDS_IN_COMMIT + 1)]
    rows = pa.table({"obs_subject_id": pa.array(more, pa.string())}, schema=SUBJECT_SCHEMA)
    base = Transaction(storage, base, "append", "many").commit(Edit(subjects=rows))
    Transaction(storage, base, "compact").commit(Edit(compact=True))
    return folder / "study"


def documents(study: Path) -> Iterator[tuple[str, str, Any]]:
    """(key, name of its schema, content) of each JSON document outside the volumes' members."""
    for path in sorted(study.rglob("*.json")):
        key = path.relative_to(study).as_posix()
        parts = key.split("/")
        if key == ROOT:
            name = "root"
        elif key == HINT:
            name = "hint"
        elif parts[0] in ("versions", "tags"):
            name = {"versions": "commit", "tags": "tag"}[parts[0]]
        elif len(parts) <= 4:
            name = "collection"
        elif len(parts) == 5:
            name = "volume"
        else:
            continue
        yield key, name, json.loads(path.read_text())


def test_every_schema_is_a_schema() -> None:
    assert set(SCHEMAS) == {
        "root", "collection", "volume", "tiledb-volume", "files-volume", "commit", "hint", "tag", "tombstone",
    }  # fmt: skip
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_formats_are_enforced(study: Path) -> None:
    for name, key, wrong in (("root", "uuid", "7"), ("commit", "created", "2026-13-41T00:00:00+00:00")):
        document = next(d for _, n, d in documents(study) if n == name)
        target = document if name == "commit" else document["attributes"]["radiobject"]
        target[key] = wrong
        with pytest.raises(jsonschema.ValidationError, match="is not a"):
            check(document, name)


def test_every_document_of_a_study_fits_its_schema(study: Path) -> None:
    seen = {}
    for key, name, document in documents(study):
        try:
            check(document, name)
        except jsonschema.ValidationError as error:
            pytest.fail(f"{key}: {error}")
        seen[name] = seen.get(name, 0) + 1
    assert seen == {"root": 1, "hint": 1, "tag": 1, "commit": 3, "collection": 1 + 4 + 7, "volume": 7}
    commits = [d for _, n, d in documents(study) if n == "commit"]
    assert [c["change_list"] is not None for c in commits] == [False, True, False]


def test_tombstones_and_the_commit_of_a_purge_fit_their_schemas(tmp_path: Path) -> None:
    scan = (np.zeros((4, 5, 6), "i2"), None)
    radi = RadiObject.from_niftis(tmp_path / "study", {"T1w": [(scan, "kept-1"), (scan, "gone-2")]})
    radi.purge("gone-2", "asked")
    for subject in ("gone-3", "kept-4"):
        radi.append({"T1w": [(scan, subject)]}, {"obs_subject_id": [subject]})
    (tmp_path / "study" / "versions" / "000000000003.json").write_bytes(b"{")  # damaged before it is erased
    radi.purge("gone-3", "asked too")
    documents = [json.loads(p.read_text()) for p in sorted((tmp_path / "study" / "versions").iterdir())]
    assert [d["type"] for d in documents] == ["tombstone"] * 4 + ["commit"]
    assert [d["operation"] for d in documents] == ["create", "purge", None, "append", "purge"]
    for document in documents[:-1]:
        check(document, "tombstone")
    check(documents[-1], "commit")
    with pytest.raises(jsonschema.ValidationError):
        check({**documents[0], "change": {"subjects_removed": ["gone-2"]}}, "tombstone")


def test_the_members_of_a_volume_are_the_documents_beside_it(study: Path) -> None:
    for key, name, document in documents(study):
        if name == "volume":
            folder = (study / key).parent
            members = document["consolidated_metadata"]["metadata"]
            beside = {p.parent.relative_to(folder).as_posix() for p in folder.glob("*/**/zarr.json")}
            assert set(members) == beside
            for path, member in members.items():
                assert json.loads((folder / path / "zarr.json").read_text()) == member, (key, path)


def test_a_key_that_no_schema_knows_is_refused(study: Path) -> None:
    """The schemas are strict, so that what the code adds must be written down."""
    for _, name, document in documents(study):
        with pytest.raises(jsonschema.ValidationError):
            check({**document, "surprise": 1}, name)
    _, _, volume = next(d for d in documents(study) if d[1] == "volume")
    volume["attributes"]["radiobject"]["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError):
        check(volume, "volume")


@pytest.mark.parametrize(
    "path", ["../tables/a", "/tables/a", "tables//a", "s3://b/tables", "tables/./a", "a\\b", ""]
)
def test_a_path_that_leaves_the_study_fits_no_schema(path: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(path, "commit", "#/$defs/path")
    check("tables/obs_meta/0a.parquet", "commit", "#/$defs/path")


@pytest.mark.parametrize("table", list(ARROW))
def test_the_published_columns_are_those_of_the_code(table: str) -> None:
    assert set(TABLES) == set(ARROW)
    published = [(c["name"], c["type"], c["nullable"]) for c in TABLES[table]["columns"]]
    assert published == [(f.name, str(f.type), f.nullable) for f in ARROW[table]]
    assert TABLES[table]["key"] == KEYS[table]


def test_every_part_has_the_published_columns(study: Path) -> None:
    seen = set()
    for path in (study / "tables").rglob("*.parquet"):
        table = path.parent.name
        seen.add(table)
        found = pq.read_schema(path)
        wanted = ARROW[table]
        assert found.names[: len(wanted)] == wanted.names, path
        assert [found.field(n) for n in wanted.names] == list(wanted), path
        extra = found.names[len(wanted) :]
        assert not extra or TABLES[table]["user_columns"], path
        assert not [n for n in extra if n.startswith("_")]
    assert seen == set(ARROW)


def test_the_rows_hints_and_descriptions_fit_too(study: Path) -> None:
    radi = RadiObject(study)
    for name in radi.collection_names:
        table = pa.concat_tables(
            pq.read_table(p) for p in (study / "tables" / name / "obs").glob("*.parquet")
        )  # fmt: skip
        for row in table.to_pylist():
            check(json.loads(row["_volume"]), "volume", "#/$defs/row")
            volume = json.loads((study / row["_path"] / "zarr.json").read_text())
            ours = volume["attributes"]["radiobject"]
            assert json.loads(row["_volume"]) == {
                k: v for k, v in ours.items() if k not in ("affine", "axcodes")
            }
            assert np.reshape(row["affine"], (4, 4)).tolist() == ours["affine"]
            members = volume["consolidated_metadata"]["metadata"]
            for path, member in json.loads(row["_hint"]).items():
                assert member.items() <= members[path].items()
            on_disk = {p.relative_to(study / row["_path"]).as_posix(): p.stat().st_size
                       for p in (study / row["_path"]).rglob("*") if p.is_file()}  # fmt: skip
            assert {o["path"]: o["bytes"] for o in row["_objects"]} == on_disk


@pytest.mark.slow
def test_the_schemas_ship_in_the_wheel(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(tmp_path)]
    subprocess.run([*command, str(REPOSITORY)], check=True, timeout=240, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for path in (REPOSITORY / "schemas").iterdir():
            assert archive.read(f"radiobject/_schemas/{path.name}") == path.read_bytes()


def test_a_derived_collection_has_the_optional_columns_as_published(study: Path, tmp_path: Path) -> None:
    published = [(c["name"], c["type"]) for c in TABLES["obs"]["optional_columns"]]
    assert published == [(f.name, str(f.type)) for f in DERIVED_SCHEMA]
    radi = RadiObject(study)
    name = radi.collection_names[0]
    made = radi.collection(name).lazy().head(1).map(lambda v, row: v).write(tmp_path / "derived")
    written = pq.read_schema(made.obs.files()[0])
    assert [(n, str(written.field(n).type)) for n, _ in published] == published
    assert written.names[: len(OBS_SCHEMA.names)] == OBS_SCHEMA.names


@pytest.fixture(scope="module")
def on_tiledb(tmp_path_factory: pytest.TempPathFactory, make_nifti: Callable[..., Any]) -> Path:
    """A study on TileDB: a scan in several shards, a pair with bytes on both sides, labels not compressed."""
    pytest.importorskip("tiledb")
    folder = tmp_path_factory.mktemp("tiledb")
    voxels = np.arange(360, dtype="i2").reshape(4, 5, 6, 3)
    (folder / "a.nii").write_bytes(make_nifti(voxels, fields={"xyzt_units": 10}, extensions=[(6, b"note")]))
    header, image = make_nifti(voxels[..., 0].astype("f4"), pair=True, lead=b"lead", tail=b"tail")
    (folder / "b.hdr").write_bytes(header)
    (folder / "b.img").write_bytes(image)
    RadiObject.from_niftis(
        folder / "study",
        {"bold": [(str(folder / "a.nii"), "a")], "T1w": [(str(folder / "b.hdr"), "b")],
         "seg": [((voxels[..., 0].astype("u1"), None), "c")]},
        labels=["seg"],
        backend="tiledb",
        write=WriteConfig(
            tile=TileConfig(chunks=(2, 2, 2), shards=(4, 4, 4)),
            label_compression=CompressionConfig.preset("none"),
        ),
        progress=False,
    )  # fmt: skip
    return folder / "study"


def manifests(study: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(study.rglob("volume.json"))]


def test_the_manifests_and_hints_of_tiledb_volumes_fit_their_schema(on_tiledb: Path) -> None:
    for manifest in manifests(on_tiledb):
        check(manifest, "tiledb-volume")
    assert [set(m["extras"]) for m in manifests(on_tiledb)] == [
        {"nifti", "nifti_lead", "nifti_tail"}, {"nifti"}, set(),
    ]  # fmt: skip
    for path in on_tiledb.glob("tables/*/obs/*.parquet"):
        for row in pq.read_table(path).to_pylist():
            check(json.loads(row["_hint"]), "tiledb-volume", "#/$defs/hint")
            check(json.loads(row["_volume"]), "volume", "#/$defs/row")
            assert row["_path"].endswith(".tdb")
    for path in on_tiledb.glob("versions/*.json"):
        check(json.loads(path.read_text()), "commit")


def test_a_tiledb_manifest_names_every_file_beside_it(on_tiledb: Path) -> None:
    for path in on_tiledb.rglob("volume.json"):
        on_disk = {p.relative_to(path.parent).as_posix() for p in path.parent.rglob("*") if p.is_file()}
        assert json.loads(path.read_text())["files"].keys() == on_disk - {"volume.json"}


_FRAGMENT = "__1_1_00000000000000000000000000000001_22"
MUTANTS: dict[str, Callable[[Any], Any]] = {
    "a key that nobody knows": lambda m: m.update(surprise=1),
    "no seal": lambda m: m.pop("self_sha256"),
    "another format": lambda m: m.update(format="tiledb-volume-2"),
    "no level": lambda m: m.update(levels=[]),
    "a level beside the study": lambda m: m["levels"][0].update(path="../0"),
    "axes out of order": lambda m: m["levels"][0].update(dims=["x", "y", "z"]),
    "a type that is none of ours": lambda m: m["levels"][0].update(dtype="O"),
    "a shape without voxels": lambda m: m["levels"][0]["shape"].__setitem__(0, 0),
    "a codec that is none of ours": lambda m: m["levels"][0]["codec"].__setitem__(0, "pickle"),
    "a shuffle that is not settled": lambda m: m["levels"][0]["codec"].__setitem__(2, "auto"),
    "an extra that is none of ours": lambda m: m["extras"].update(setup=3),
    "an extra of no size": lambda m: m["extras"].update(nifti=-1),
    "attributes that are none of ours": lambda m: m["attrs"].update(more={}),
    "a file outside": lambda m: m["files"].update({"../secret": [1, 1]}),
    "an absolute file": lambda m: m["files"].update({"/0/__schema/x": [1, 1]}),
    "a fragment number 0": lambda m: m["files"].update(
        {f"0/__fragments/{_FRAGMENT.replace('1', '0')}/a0.tdb": [1, 1]}
    ),
    "a fragment with a random id that is none": lambda m: m["files"].update(
        {"0/__fragments/__1_1_zz_22/a0.tdb": [1, 1]}
    ),
    "a consolidated commit": lambda m: m["files"].update({"0/__commits/__1_4_ab_22.con": [1, 1]}),
    "a commit that is not empty": lambda m: m["files"].update({f"0/__commits/{_FRAGMENT}.wrt": [1, 1]}),
    "an empty tile file": lambda m: m["files"].update({f"0/__fragments/{_FRAGMENT}/a0.tdb": [0, 0]}),
    "a size without a checksum": lambda m: m["files"].update({"extras/nifti": [368]}),
    "a checksum of more than 32 bits": lambda m: m["files"].update({"extras/nifti": [368, 2**32]}),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_tiledb_manifest_that_nobody_writes_does_not_fit(on_tiledb: Path, mutant: str) -> None:
    for manifest in manifests(on_tiledb):
        MUTANTS[mutant](manifest)
        with pytest.raises(jsonschema.ValidationError):
            check(manifest, "tiledb-volume")
