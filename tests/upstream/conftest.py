"""Studies that PyPI radiobject 0.1.1 has written, with the files that they were made of."""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

ROOT = Path(__file__).resolve().parents[2]
OBLIQUE = np.array([[1.5, 0.2, 0, -20], [-0.2, 1.5, 0, 5], [0, 0, 2, 11.5], [0, 0, 0, 1]])
MOVED = "studies, moved"
"""Where the studies lie once they were written: what their groups say about places is wrong by then."""


@dataclass(frozen=True)
class Theirs:
    """`folder` holds the studies, `files` the NIfTI file of each volume: study, collection, subject.

    `answers` has a digest of the voxels that the package itself returns: study, collection, obs_id.
    """

    folder: Path
    files: dict[str, dict[str, dict[str, Path]]]
    answers: dict[str, dict[str, dict[str, str]]]

    def uri(self, name: str) -> str:
        """The place of a study; nobody writes there."""
        return str(self.folder / name)


def digest(voxels: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(voxels).tobytes()).hexdigest()


def interpreter() -> Path:
    """That package's interpreter; a test without it is skipped, under CI it fails."""
    environments = runpy.run_path(str(ROOT / "benchmarks" / "environments.py"))
    found: Path | None = environments["UPSTREAM"].made()
    if found is None:
        how = "`python benchmarks/environments.py upstream`"
        reason = f"no .venv-upstream: {how} makes it, and so does `make test`"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    python = interpreter()
    root = tmp_path_factory.mktemp("theirs")
    files, jobs = _jobs(root / "nifti")
    ran = subprocess.run(
        [str(python), str(Path(__file__).with_name("write_upstream.py")), str(root / "written")],
        input=json.dumps(jobs), capture_output=True, text=True, check=False,
        env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    (root / "written").rename(root / MOVED)
    return Theirs(root / MOVED, files, json.loads(ran.stdout.splitlines()[-1]))


@pytest.fixture
def copy(theirs: Theirs, tmp_path: Path) -> Callable[[str], Path]:
    """`copy(name)`: a study of its own, to be damaged."""

    def make(name: str) -> Path:
        return Path(shutil.copytree(theirs.uri(name), tmp_path / "theirs" / name))

    return make


def _jobs(folder: Path) -> tuple[dict[str, dict[str, dict[str, Path]]], list[dict[str, Any]]]:
    rng = np.random.default_rng(0)
    files: dict[str, dict[str, dict[str, Path]]] = {}

    def scan(study: str, collection: str, subject: str, voxels: npt.NDArray[Any], **how: Any) -> None:
        path = folder / study / collection / how.pop("name", f"{subject}_{collection}.nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(path, voxels, **how)
        files.setdefault(study, {}).setdefault(collection, {})[subject] = path

    for n, subject in enumerate(["sub-03", "sub-01", "sub-02"]):
        scan("unsorted", "T1w", subject, rng.normal(size=(9, 8, 7)).astype("f4"), affine=OBLIQUE)
        scan("unsorted", "seg", subject, rng.integers(0, 3, (9, 8, 7 + n)).astype("u1"))
    for n in range(12):
        scan("unpadded", "CT", f"sub-{n}", rng.integers(-1000, 2000, (6, 5, 4)).astype("i2"), q_code=0)
        if n < 2:
            voxels = rng.integers(0, 99, (5, 4, 3, 6)).astype("i2")
            scan("unpadded", "bold", f"sub-{n}", voxels, units=("mm", "msec"))
    for subject in ("lung_002", "lung_001"):
        name = f"{subject}.nii.gz"
        scan("msd", "CT", subject, rng.integers(-1000, 2000, (6, 5, 4)).astype("i2"), name=name)
        scan("msd", "label", subject, rng.integers(0, 2, (6, 5, 4)).astype("u1"), name=name)
    small = rng.integers(0, 99, (5, 4, 3)).astype("i2")
    scan("odd", "scaled", "a", small, slope=(0.5, -3))
    scan("odd", "qform", "a", small, s_code=0, q_code=3)
    scan("odd", "bare", "a", small, s_code=0, q_code=0)
    scan("odd", "one", "a", small[..., None])
    scan("turned", "T1w", "a", rng.integers(0, 99, (5, 4, 3)).astype("i2"), affine=np.diag([-2.0, 3, 4, 1]))
    meta = {
        "obs_subject_id": ["sub-02", "sub-03", "sub-01"],
        "age": [52, 53, 51],
        "score": [0.5, None, 1.5],
        "site": ["Bern", "Rome", ""],
        "ok": [True, False, True],
        "seen": ["2020-05-17 12:30:00", "2021-01-01 00:00:00", "1999-12-31 00:00:00"],
    }
    jobs = [
        {"name": "unsorted", "how": "from_niftis", "images": _pairs(files["unsorted"]), "obs_meta": meta},
        {"name": "unpadded", "how": "from_niftis", "images": _pairs(files["unpadded"]), "tile": "axial"},
        {"name": "msd", "how": "from_niftis", "images": _pairs(files["msd"])},
        {"name": "odd", "how": "from_niftis", "images": _pairs(files["odd"])},
        {
            "name": "turned", "how": "from_niftis", "images": _pairs(files["turned"]), "reorient": True,
            "target": "LPS",
        },
        {"name": "copied", "how": "copied", "of": "turned"},
        {
            "name": "alone", "how": "collection", "images": _pairs(files["unsorted"])["T1w"],
            "collection": "MR",
        },
        {"name": "written", "how": "written"},
        {"name": "dicom", "how": "from_dicoms"},
    ]  # fmt: skip
    return files, jobs


def _pairs(files: dict[str, dict[str, Path]]) -> dict[str, list[list[str]]]:
    return {name: [[str(path), subject] for subject, path in of.items()] for name, of in files.items()}


def _save(
    path: Path,
    voxels: npt.NDArray[Any],
    *,
    affine: npt.NDArray[Any] | None = None,
    s_code: int = 2,
    q_code: int = 1,
    units: tuple[str, str] = ("mm", "sec"),
    slope: tuple[float, float] | None = None,
) -> None:
    matrix = np.diag([-1.0, 1.0, 2.5, 1.0]) if affine is None else affine
    image = nibabel.Nifti1Image(voxels, None)
    image.header.set_zooms((*np.sqrt((matrix[:3, :3] ** 2).sum(0)), *(0.8 for _ in voxels.shape[3:])))
    image.header.set_xyzt_units(*units)
    image.set_sform(matrix if s_code else None, s_code)
    image.set_qform(matrix if q_code else None, q_code)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, path)
