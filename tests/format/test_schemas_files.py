"""What is written of volumes in source files fits its schema, and what nobody writes does not."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest

from radiobject import RadiObject
from tests.conftest import NiftiMaker
from tests.format.test_schemas import check
from tests.ingest.layout_trees import bids_tree
from tests.upstream.series import write_series


@pytest.fixture
def study(tmp_path: Path, make_nifti: NiftiMaker) -> Path:
    """Every kind of source, with all that may stand beside it."""
    ramp = np.arange(7 * 6 * 5, dtype="i2").reshape(7, 6, 5)
    (tmp_path / "a.nii").write_bytes(make_nifti(ramp, tail=b"tail"))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(make_nifti(ramp)))
    for ending, data in zip(("hdr", "img"), make_nifti(ramp, pair=True, lead=b"0" * 16), strict=True):
        (tmp_path / f"c.{ending}").write_bytes(data)
    series = write_series(tmp_path / "series")
    images = {"T1w": [(tmp_path / name, name) for name in ("a.nii", "b.nii.gz", "c.img")]}
    radi = RadiObject.from_niftis(tmp_path / "study", images, copy=False, progress=False)
    radi.append({"CT": [(series, "d")]}, copy=False, deidentify=False, progress=False)
    return tmp_path / "study"


def manifests(study: Path) -> list[Any]:
    found = [json.loads(path.read_text()) for path in sorted(study.rglob("volume.json"))]
    return sorted(found, key=lambda m: m["source"]["kind"])


def test_manifests_and_hints_fit_their_schema(study: Path) -> None:
    found = manifests(study)
    assert [m["source"]["kind"] for m in found] == ["frames", "frames", "frames", "whole"]
    for manifest in found:
        check(manifest, "files-volume")
    rows = [r for path in study.glob("tables/*/obs/*.parquet") for r in pq.read_table(path).to_pylist()]
    assert len(rows) == 4
    for row in rows:
        check(json.loads(row["_hint"]), "files-volume", "#/$defs/hint")
        check(json.loads(row["_volume"]), "volume", "#/$defs/row")
        (manifest,) = (
            m for m in found if m["source"]["members"] == json.loads(row["_hint"])["source"]["members"]
        )
        assert {k: manifest[k] for k in manifest if k not in ("attrs", "self_sha256")} == json.loads(
            row["_hint"]
        )
    for path in study.glob("versions/*.json"):
        check(json.loads(path.read_text()), "commit")


def test_what_a_layout_says_fits_the_schema(tmp_path: Path) -> None:
    root = bids_tree(tmp_path / "bids")
    RadiObject.from_bids(tmp_path / "study", root, copy=False, progress=False)
    found = manifests(tmp_path / "study")
    assert {"layout_sha256" in m for m in found} == {True, False}
    for manifest in found:
        check(manifest, "files-volume")
    for path in (tmp_path / "study").glob("tables/*/obs/*.parquet"):
        for row in pq.read_table(path).to_pylist():
            check(json.loads(row["_hint"]), "files-volume", "#/$defs/hint")


def member(manifest: Any) -> Any:
    return manifest["source"]["members"][0]


MUTANTS: dict[str, Callable[[Any], Any]] = {
    "a key that nobody knows": lambda m: m.update(surprise=1),
    "no seal": lambda m: m.pop("self_sha256"),
    "another format": lambda m: m.update(format="files-volume-2"),
    "no source": lambda m: m.pop("source"),
    "another kind of source": lambda m: m["source"].update(kind="url"),
    "no files": lambda m: m["source"].update(members=[]),
    "a file outside": lambda m: member(m).update(path="../a.nii"),
    "a file further outside": lambda m: member(m).update(path="a/../../b.nii"),
    "an absolute file": lambda m: member(m).update(path="/etc/passwd"),
    "a file elsewhere": lambda m: member(m).update(path="s3://bucket/a.nii"),
    "a folder": lambda m: member(m).update(path="a/"),
    "a size below zero": lambda m: member(m).update(bytes=-1),
    "a head without end": lambda m: member(m).update(head=2**21),
    "a digest of another kind": lambda m: member(m).update(head_sha256="0" * 40),
    "a time that is no number": lambda m: member(m).update(mtime_ns="today"),
    "two levels": lambda m: m["levels"].append(m["levels"][0]),
    "an extra that is none of ours": lambda m: m["extras"].update(setup=[3, 3]),
    "a range without an end": lambda m: m["ranges"].update(nifti_tail=[0, 3]),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_manifest_that_nobody_writes_does_not_fit(study: Path, mutant: str) -> None:
    for manifest in manifests(study):
        MUTANTS[mutant](manifest)
        with pytest.raises(jsonschema.ValidationError):
            check(manifest, "files-volume")
