"""Files that several tests of ingest read."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

AFFINE = np.array([[-2.0, 0, 0, 50], [0, 2.5, 0, -60], [0, 0, 3, -70], [0, 0, 0, 1]])


@pytest.fixture
def files(tmp_path: Path, make_nifti) -> Path:
    """Three subjects' T1w as .nii.gz, each holding its number, and one pair; axes run L, A, S."""
    place = tmp_path / "in"
    place.mkdir()
    for n in (3, 1, 2):
        content = make_nifti(np.full((6, 5, 4), n, "i2"), affine=AFFINE)
        (place / f"sub-0{n}_T1w.nii.gz").write_bytes(gzip.compress(content))
    header, voxels = make_nifti(np.full((6, 5, 4), 4, "i2"), affine=AFFINE, pair=True)
    (place / "sub-04_T1w.hdr").write_bytes(header)
    (place / "sub-04_T1w.img").write_bytes(voxels)
    return place
