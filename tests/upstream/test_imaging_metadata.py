"""`radiobject.imaging_metadata`: what one DICOM series says, where its slices are, and nobody's name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from radiobject.errors import (
    ConfigError,
    MovedImportError,
    SourceNotFoundError,
    SourceUnsupportedError,
)
from radiobject.imaging_metadata import DicomMetadata, extract_dicom_metadata
from tests.upstream.series import write_series


def test_a_series_says_where_its_slices_are(tmp_path: Path) -> None:
    found = extract_dicom_metadata(write_series(tmp_path / "series"))
    # upstream: rows first, and SliceThickness, which is 5 here
    assert found.voxel_spacing == (0.75, 0.5, 2.5)
    assert found.dimensions == (4, 5, 3)
    assert found.axcodes == "LPS"
    expected = [[-0.75, 0, 0, -1], [0, -0.5, 0, -2], [0, 0, 2.5, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(json.loads(found.affine_json), expected)
    assert (found.modality, found.kvp, found.exposure, found.echo_time) == ("CT", 120.0, 30.0, None)


def test_nothing_that_identifies_comes_along_unasked(tmp_path: Path) -> None:
    series = write_series(tmp_path / "doe_jane")
    found = extract_dicom_metadata(series)
    assert (found.series_description, found.source_path) == ("", "")
    assert "ane" not in repr(found)
    asked = extract_dicom_metadata(str(series), keep_phi="series_description")
    assert (asked.series_description, asked.source_path) == ("thorax of Jane", "")
    known = extract_dicom_metadata(series, deidentify=False)
    assert (known.series_description, known.source_path) == ("thorax of Jane", str(series))
    with pytest.raises(ConfigError, match="SeriesDescription"):
        extract_dicom_metadata(series, keep_phi=["SeriesDescriptio"])


def test_a_row_of_obs_has_text_for_what_are_several_numbers(tmp_path: Path) -> None:
    row = extract_dicom_metadata(write_series(tmp_path / "series")).to_obs_dict("sub-01_CT", "sub-01")
    fields = {f.name for f in dataclasses.fields(DicomMetadata)}
    assert row.keys() == fields | {"obs_id", "obs_subject_id"}
    assert (row["voxel_spacing"], row["dimensions"]) == ("(0.75, 0.5, 2.5)", "(4, 5, 3)")
    assert (row["obs_id"], row["obs_subject_id"]) == ("sub-01_CT", "sub-01")


def test_a_folder_that_is_no_series_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        extract_dicom_metadata(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceNotFoundError, match="at least one DICOM file"):
        extract_dicom_metadata(tmp_path / "empty")
    with pytest.raises(SourceUnsupportedError, match="slices at even distances"):
        extract_dicom_metadata(write_series(tmp_path / "gap", (0.0, 2.5, 7.5)))
    write_series(tmp_path / "two" / "a")
    write_series(tmp_path / "two" / "b")
    with pytest.raises(SourceUnsupportedError, match="expected one volume, got series"):
        extract_dicom_metadata(tmp_path / "two")


def test_what_is_not_here_says_where_it_is() -> None:
    with pytest.raises(MovedImportError, match="name the collections in images="):
        from radiobject.imaging_metadata import infer_series_type  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name"):
        from radiobject.imaging_metadata import nothing  # noqa: F401
