"""The volumes that are read: a head, a CT-like one, real scans where they are at hand, and many heads."""

from __future__ import annotations

import gzip
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from data import AFFINE, head
from isal import igzip
from scipy import ndimage

__all__ = ["IMAGES", "REAL", "Image", "heads", "made"]

CT_SHAPE = (512, 512, 300)
REAL = {
    "CT, real": "totalsegmentator/example_ct.nii.gz",
    "MR, real": "totalsegmentator/example_mr_sm.nii.gz",
}
"""Small scans of TotalSegmentator's own tests (Apache-2.0), by $RADIOBJECT_TEST_DATA."""

IMAGES = ("head, int16", "head, float32", "CT-like, int16", *REAL)


@dataclass(frozen=True)
class Image:
    """One volume as a .nii.gz, what gzip's levels make of it, and its bytes without compression."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    bytes_level1: int
    bytes_level6: int
    bytes_plain: int


def made(name: str, folder: Path, size: float = 1.0) -> Image | None:
    """The volume as a file in `folder` (gzip level 6; a real scan as it came); None where it is not at hand.

    `size` is the part of each side that is kept, for a quick look.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if name in REAL:
        path = _real(REAL[name])
        return None if path is None else _described(path)
    voxels = _ct() if name.startswith("CT") else head().round()
    voxels = voxels.astype(np.float32 if name.endswith("float32") else np.int16)
    keep = _middle(voxels.shape, size)
    path = folder / "scan.nii.gz"
    path.write_bytes(gzip.compress(nibabel.Nifti1Image(voxels[keep], AFFINE).to_bytes(), 6, mtime=0))
    return _described(path)


def heads(folder: Path, n: int, size: float = 1.0) -> dict[str, str]:
    """`n` heads by name, each with noise and a place of its own, as .nii.gz of a fast level."""
    folder.mkdir(parents=True, exist_ok=True)
    smooth = head(noise=0)
    keep = _middle(smooth.shape, size)
    found = {}
    for number in range(n):
        rng = np.random.default_rng(number)
        noise = rng.standard_normal(smooth.shape, np.float32) * 20
        voxels = np.where(smooth > 0, smooth + noise, 0).clip(0).round().astype(np.int16)
        voxels = np.roll(voxels, tuple(rng.integers(-3, 4, 3)), (0, 1, 2))
        path = folder / f"{number:03d}.nii.gz"
        path.write_bytes(igzip.compress(nibabel.Nifti1Image(voxels[keep], AFFINE).to_bytes(), 2))
        found[f"sub-{number:03d}"] = str(path)
    return found


def _middle(shape: Sequence[int], size: float) -> tuple[slice, ...]:
    """A part of each side, from the middle."""
    sides = [max(int(n * size), 8) for n in shape]
    return tuple(slice((n - s) // 2, (n - s) // 2 + s) for n, s in zip(shape, sides, strict=True))


def _described(path: Path) -> Image:
    with gzip.open(path) as file:
        plain = file.read()
    image: Any = nibabel.load(path)
    sizes = [len(gzip.compress(plain, level, mtime=0)) for level in (1, 6)]
    return Image(str(path), image.shape, str(image.get_data_dtype()), *sizes, len(plain))


def _ct() -> npt.NDArray[np.float32]:
    """The head in Hounsfield units as of a CT: noise all over the scanner's circle, one value outside."""
    voxels = head(noise=0)
    factors = [new / old for new, old in zip(CT_SHAPE, voxels.shape, strict=True)]
    fine = ndimage.zoom(voxels, factors, order=1)
    fine += np.random.default_rng(7).standard_normal(fine.shape, np.float32) * 12 - 1000
    x, y = np.ogrid[: CT_SHAPE[0], : CT_SHAPE[1]]
    fine[(x - 255.5) ** 2 + (y - 255.5) ** 2 > 256**2] = -1024
    rounded: npt.NDArray[np.float32] = fine.clip(-1024).round()
    return rounded


def _real(name: str) -> Path | None:
    """A file of the real data that tests use, from its folder or out of its archive."""
    root = Path(__file__).resolve().parents[2]
    named = os.environ.get("RADIOBJECT_TEST_DATA")
    for place in [Path(named)] if named else [root.parent / "shared" / "data"]:
        if (place / name).is_file():
            return place / name
        archive = place if place.is_file() else place / "real-data.tar.xz"
        if archive.is_file():
            cache = root / ".cache" / "real-data"
            with tarfile.open(archive) as members:
                members.extract(f"./{name}", cache, filter="data")
            return cache / name
    return None
