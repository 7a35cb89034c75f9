"""Imaging metadata: what the headers of one DICOM series say; the names of the TileDB-based package.

Ingest does the same for every series, into columns of `VolumeCollection.obs`, and more of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from radiobject.errors import MissingDependencyError
from radiobject.ingest.deidentify.keywords import known_keywords
from radiobject.moved import refuse_moved

__all__ = ["DicomMetadata", "extract_dicom_metadata"]


def __getattr__(name: str) -> Any:
    refuse_moved("radiobject.imaging_metadata", name)
    raise AttributeError(f"module 'radiobject.imaging_metadata' has no attribute {name!r}")


@dataclass(frozen=True)
class DicomMetadata:
    """One series. `voxel_spacing` is in mm and `dimensions` in voxels, along x, y, z (column, row, slice).

    `affine_json` is the 4x4 affine from these indices to RAS+ mm, as nested lists. `kvp` is in kV, `exposure`
    in mAs, `repetition_time` and `echo_time` in ms, `magnetic_field_strength` in T; None where the headers
    say nothing. `series_description` and `source_path` are "" unless they were asked for.
    """

    voxel_spacing: tuple[float, float, float]
    dimensions: tuple[int, int, int]
    modality: str
    series_description: str
    axcodes: str
    affine_json: str
    orientation_source: str
    source_path: str
    kvp: float | None = None
    exposure: float | None = None
    repetition_time: float | None = None
    echo_time: float | None = None
    magnetic_field_strength: float | None = None

    def to_obs_dict(self, obs_id: str, obs_subject_id: str) -> dict[str, Any]:
        """The fields as a row of obs, spacing and dimensions as text, with the two ids."""
        row = {n: str(v) if isinstance(v, tuple) else v for n, v in asdict(self).items()}
        return {**row, "obs_id": obs_id, "obs_subject_id": obs_subject_id}


def extract_dicom_metadata(
    dicom_dir: str | os.PathLike[str], *, deidentify: bool = True, keep_phi: str | Iterable[str] = ()
) -> DicomMetadata:
    """What the headers of the one series in a folder say; no pixel is read.

    Spacing, dimensions and affine are those that ingest would store: from the positions of the slices, not
    from SliceThickness. Nothing that identifies comes along: `series_description` needs
    `keep_phi=["SeriesDescription"]`, or `deidentify=False`, which gives `source_path` too.

    Raises `SourceNotFoundError` for a folder without DICOM files, the reason why its files make no volume
    (a `SourceError`), `SourceUnsupportedError` for none or several series, `ConfigError` for a keyword that
    DICOM does not have, `MissingDependencyError` without pydicom.
    """
    try:
        from radiobject.ingest.dicom.columns import obs_columns
        from radiobject.ingest.dicom.one import only_volume
        from radiobject.ingest.dicom.opening import open_header
    except ImportError as error:
        raise MissingDependencyError(
            "DICOM metadata", expected="the package pydicom", hint='pip install "radiobject-zarr[dicom]"'
        ) from error
    kept = known_keywords(keep_phi)
    volume = only_volume(dicom_dir)
    affine = volume.arranged.stack.affine
    x, y, z = affine.spacing
    wanted = ("kvp", "exposure", "repetition_time", "echo_time", "magnetic_field_strength")
    first = volume.arranged.first
    said = obs_columns(
        open_header(first.instance.path), None, keep_phi=["SeriesDescription"], frame=first.frame.number
    )
    described = not deidentify or "SeriesDescription" in kept
    return DicomMetadata(
        voxel_spacing=(float(x), float(y), float(z)),
        dimensions=(volume.shape[-1], volume.shape[-2], volume.shape[-3]),
        modality=said.get("modality", "unknown"),
        series_description=said.get("series_description", "") if described else "",
        axcodes="".join(affine.axcodes),
        affine_json=json.dumps(affine.matrix.tolist()),
        orientation_source="dicom_iop",
        source_path="" if deidentify else os.path.abspath(os.fspath(dicom_dir)),
        **{name: said.get(name) for name in wanted},
    )
