"""The cohort that demo, documentation and tests use: real anatomy, offline, different in every subject."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from radiobject.errors import ConfigError, MissingDependencyError
from radiobject.executor import Progress, progress_bar, run
from radiobject.format.meta import VolumeMeta
from radiobject.geometry.affine import Affine
from radiobject.model.radi_object import RadiObject

__all__ = ["LABELS", "Cohort", "cohort", "study"]

LABELS = {1: "grey matter", 2: "white matter"}
"""What the values of the collection `seg` mean."""

_PREFIX = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_CONTROLS = 7
"""Control points of the random fields along each axis, about 3 cm apart."""

_SLAB = 12
"""Slices warped in one step: the coordinates of a whole volume would be six times its size."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Cohort:
    """NIfTI files below `folder`: (path, subject) of each image by collection, and the table of subjects."""

    folder: Path
    images: Mapping[str, list[tuple[str, str]]]
    obs_meta: pd.DataFrame


@dataclass(frozen=True)
class _Scan:
    subject: int
    session: int | None
    seed: int

    @property
    def stem(self) -> str:
        session = "" if self.session is None else f"_ses-{self.session}"
        return f"sub-{self.subject:02d}{session}"


def cohort(
    folder: str | os.PathLike[str],
    n: int = 12,
    seed: int = 0,
    *,
    spacing: float = 1.0,
    progress: bool | Progress | None = None,
) -> Cohort:
    """Write T1-weighted brains of `n` subjects and their tissue labels as NIfTI files, equal for equal seeds.

    Each is the MNI152 template that nilearn carries, warped smoothly and at random, with its own contrast,
    bias field and noise: int16, 197 x 233 x 189 voxels of 1 mm (`spacing` in mm makes them coarser and
    fewer). Labels (uint8): 1 grey matter, 2 white matter. Files are `T1w/sub-01_T1w.nii.gz` and
    `seg/sub-01_seg.nii.gz`; every fourth subject, from sub-02 on, has two sessions
    (`sub-02_ses-1_T1w.nii.gz` and `ses-2`). Every third subject's grid is oblique, every fifth one's is
    stored from right to left. `obs_meta` has obs_subject_id, age (years), sex (F, M), dx (control, patient).

    Needs no network. Raises `MissingDependencyError` without nilearn and scipy.
    """
    if n < 1 or not 1.0 <= spacing <= 16.0:
        raise ConfigError("cohort()", expected="n of 1 or more, spacing of 1 to 16 mm", got=f"{n}, {spacing}")
    _template(spacing)  # before the threads, which would each load it
    place = Path(folder)
    scans = [
        _Scan(i, session, seed) for i in range(1, n + 1) for session in ((1, 2) if i % 4 == 2 else (None,))
    ]
    with progress_bar("example cohort", len(scans), progress) as tell:
        for done, (_, outcome) in enumerate(run(functools.partial(_write, place, spacing), scans), start=1):
            if isinstance(outcome, Exception):
                raise outcome
            tell(done, len(scans))
    images = {
        name: [(str(place / name / f"{s.stem}_{name}.nii.gz"), f"sub-{s.subject:02d}") for s in scans]
        for name in ("T1w", "seg")
    }
    return Cohort(place, images, _subjects(n, seed))


def study(
    n: int = 3,
    uri: str | os.PathLike[str] | None = None,
    *,
    spacing: float = 4.0,
    seed: int = 0,
    progress: bool | Progress | None = None,
) -> RadiObject:
    """A study of `n` subjects with the collections `T1w` and `seg`, ingested from the files of `cohort`.

    Without `uri` it stands in a fresh temporary folder, which is yours to delete. At the default spacing of
    4 mm a volume is 49 x 58 x 47 voxels and three subjects take about a second.

    Raises `StudyExistsError` when a study stands at `uri`, and what `cohort` raises.

    >>> radi = study(1)
    >>> radi.T1w.iloc[0]
    <Volume sub-01_T1w 49x58x47 int16 4x4x4 mm RAS>
    >>> int(radi.seg.iloc[0][:].max())
    2
    """
    with tempfile.TemporaryDirectory(prefix="radiobject-cohort-") as folder:
        files = cohort(folder, n, seed, spacing=spacing, progress=progress)
        return RadiObject.from_niftis(
            uri or Path(tempfile.mkdtemp(prefix="radiobject-study-")) / "study",
            files.images,
            files.obs_meta,
            labels={"seg": LABELS},
            progress=progress,
            message=f"example cohort of {n}",
        )


def _subjects(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng([seed, n])
    return pd.DataFrame(
        {
            "obs_subject_id": [f"sub-{i:02d}" for i in range(1, n + 1)],
            "age": rng.integers(22, 86, n),
            "sex": [("F", "M")[v] for v in rng.integers(0, 2, n)],
            "dx": [("control", "patient")[i % 2] for i in range(n)],
        }
    )


def _write(folder: Path, spacing: float, scan: _Scan) -> None:
    from radiobject.export.nifti import nifti_bytes, write_nifti

    affine = _grid(scan, spacing)
    image, labels = _warped(scan, spacing, affine)
    for name, voxels in (("T1w", image), ("seg", labels)):
        meta = VolumeMeta(affine, ("z", "y", "x"), kind="label" if name == "seg" else "image")
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_nifti(folder / name / f"{scan.stem}_{name}.nii.gz", nifti_bytes(meta, voxels))


@dataclass(frozen=True)
class _Template:
    """Brain (0 to 255), labels, affine; axes z, y, x."""

    brain: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    affine: Affine


@functools.lru_cache(maxsize=2)
def _template(spacing: float) -> _Template:
    try:
        import nilearn
        import scipy.ndimage  # noqa: F401 - asked for here, so that it is not missed in a thread
    except ImportError as error:
        raise MissingDependencyError(
            f"radiobject.examples needs {error.name}", hint='pip install "radiobject-zarr[demo]"'
        ) from error
    from radiobject.ingest.nifti import read_nifti

    packaged = Path(nilearn.__file__).parent / "datasets" / "data"
    t1, grey, white = (read_nifti(packaged / _PREFIX.format(name)) for name in ("t1", "gm", "wm"))
    brain, grey_map, white_map = (_coarser(x.voxels, spacing) for x in (t1, grey, white))
    labels = np.where(white_map > 127, 2, np.where(grey_map > 127, 1, 0)).astype(np.uint8)
    # The first coarse voxel covers several fine ones: its centre lies half the difference further in.
    fine = np.eye(4)
    fine[:3, :3] *= spacing
    fine[:3, 3] = (spacing - 1) / 2
    return _Template(brain, labels, Affine(t1.affine.matrix @ fine))


def _coarser(voxels: npt.NDArray[Any], spacing: float) -> npt.NDArray[np.uint8]:
    """Smoothed and sampled anew, so that thin structures fade instead of breaking up."""
    if spacing == 1.0:
        return voxels
    result = voxels.astype(np.float32)
    for axis, size in enumerate(voxels.shape):
        centres = np.arange(round(size / spacing)) * spacing + (spacing - 1) / 2
        weights = _spline(centres / spacing, np.arange(size) / spacing)
        result = np.moveaxis(np.tensordot(weights, result, (1, axis)), 0, axis)
    coarse: npt.NDArray[np.uint8] = np.clip(result.round(), 0, 255).astype(np.uint8)
    return coarse


def _spline(at: npt.NDArray[Any], knots: npt.NDArray[Any]) -> Floats:
    """Weights (at, knots) of a cubic B-spline one unit wide; rows sum to 1."""
    u = np.abs(at[:, None] - knots[None, :])
    weights = np.where(u < 1, 2 / 3 - u**2 + u**3 / 2, np.clip(2 - u, 0, None) ** 3 / 6)
    rows: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows


def _turn(degrees: npt.NDArray[Any], centre: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """4x4 rotation about x, then y, then z through `centre`."""
    matrix = np.eye(4)
    for axis, angle in enumerate(np.radians(degrees)):
        step, (p, q) = np.eye(4), [a for a in range(3) if a != axis]
        step[p, p] = step[q, q] = np.cos(angle)
        step[p, q], step[q, p] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre
    return matrix


def _centre(template: _Template) -> npt.NDArray[np.float64]:
    return template.affine.apply((np.array(template.brain.shape[::-1]) - 1) / 2)


def _grid(scan: _Scan, spacing: float) -> Affine:
    """Where this scanner put its voxels: tilted for every third subject, R to L for every fifth."""
    template = _template(spacing)
    affine = template.affine
    if scan.subject % 3 == 0:
        rng = np.random.default_rng([scan.seed, scan.subject, 1])
        tilt = np.array([rng.uniform(6, 14), rng.uniform(-3, 3), rng.uniform(-3, 3)])
        affine = Affine(_turn(tilt, _centre(template)) @ affine.matrix)
    if scan.subject % 5 == 0:
        affine = affine.reorientation("LAS", template.brain.shape[::-1]).affine
    # A scanner keeps its geometry in single precision, and so does NIfTI: what is written is what was meant.
    return Affine(affine.matrix.astype(np.float32).astype(np.float64))


def _warped(
    scan: _Scan, spacing: float, affine: Affine
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Image and labels, axes z, y, x, of the template as this subject's head lies in the grid `affine`."""
    from scipy import ndimage

    template = _template(spacing)
    shape = template.brain.shape
    anatomy = np.random.default_rng([scan.seed, scan.subject, 2])
    visit = np.random.default_rng([scan.seed, scan.subject, 3, scan.session or 0])
    centre = _centre(template)
    head = np.eye(4)
    head[:3, :3] = np.diag(anatomy.uniform(0.94, 1.06, 3)) + anatomy.uniform(-0.03, 0.03, (3, 3))
    head[:3, 3] = centre - head[:3, :3] @ centre + visit.uniform(-3, 3, 3)
    index = (
        np.linalg.inv(template.affine.matrix) @ head @ _turn(visit.uniform(-3, 3, 3), centre) @ affine.matrix
    )

    controls = anatomy.uniform(-9, 9, (3, *[_CONTROLS] * 3)) / spacing
    bias = visit.uniform(-0.25, 0.25, [_CONTROLS] * 3)
    fields = np.concatenate([controls, bias[None]]).astype(np.float32)
    # Two of the three axes of the fields at once; the third as the slabs go by.
    wz, wy, wx = (_spline(np.linspace(0, _CONTROLS - 1, n), np.arange(_CONTROLS)) for n in shape)
    fields = np.tensordot(np.tensordot(fields, wx, (3, 1)), wy, (2, 1)).swapaxes(2, 3)

    gain = visit.uniform(2.8, 3.6)
    image, labels = np.empty(shape, np.int16), np.empty(shape, np.uint8)
    z, y, x = (np.arange(n, dtype=np.float32) for n in shape)
    for start in range(0, shape[0], _SLAB):
        slab = slice(start, start + _SLAB)
        local = np.tensordot(wz[slab], fields, (1, 1)).swapaxes(0, 1)
        where = local[:3]  # shifts along the template's z, y, x; the fourth field is the bias
        for axis, row in enumerate(index[2::-1].astype(np.float32)):
            where[axis] += (row[2] * z[slab] + row[3])[:, None, None] + (row[1] * y)[:, None] + row[0] * x
        values = ndimage.map_coordinates(template.brain, where, np.float32, order=1)
        noise = visit.standard_normal(values.shape, dtype=np.float32)
        values = values * (1 + local[3]) * gain + noise * 9 * (values > 0)
        image[slab] = np.clip(values.round(), 0, 4095)
        labels[slab] = ndimage.map_coordinates(template.labels, where, np.uint8, order=0)
    return image, labels
