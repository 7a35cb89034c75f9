"""The volumes that the benchmarks read: a real head, made larger and noisy."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import nilearn
import numpy as np
import numpy.typing as npt
from scipy import ndimage

__all__ = ["AFFINE", "SHAPE", "Source", "crops", "head", "sources"]

SHAPE = (240, 240, 155)
AFFINE = np.diag([-0.8, 0.95, 1.2, 1.0])
GAIN = 4
"""White matter of the template (about 200) comes out near 800, as on a 12-bit scanner."""

NOISE = 20.0
"""Standard deviation inside the head: a signal-to-noise ratio of about 40 in white matter."""

_TEMPLATE = "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


@dataclass(frozen=True)
class Source:
    """One volume as a .nii.gz file (gzip level 6), and how large level 1, nibabel's own, makes it."""

    path: Path
    bytes_level6: int
    bytes_level1: int


def head(gain: float = GAIN, noise: float = NOISE, seed: int = 0) -> npt.NDArray[np.float32]:
    """MNI152 T1 (packaged with nilearn) on a 240x240x155 grid, axes x, y, z; zero outside the head."""
    template = nibabel.load(Path(nilearn.__file__).parent / "datasets" / "data" / _TEMPLATE)
    voxels = np.asarray(template.dataobj, dtype=np.float32)
    factors = [new / old for new, old in zip(SHAPE, voxels.shape, strict=True)]
    fine = ndimage.zoom(voxels, factors, order=1)
    noisy = fine * gain + np.random.default_rng(seed).normal(0, noise, SHAPE)
    found: npt.NDArray[np.float32] = np.where(fine > 1, noisy, 0).clip(0).astype(np.float32)
    return found


def sources(folder: Path, gain: float = GAIN, noise: float = NOISE) -> dict[str, Source]:
    """Three files in `folder`: int16, the same integers as float32, and the unrounded float32."""
    folder.mkdir(parents=True, exist_ok=True)
    smooth = head(gain, noise)
    whole = smooth.round()
    kinds: dict[str, npt.NDArray[Any]] = {
        "int16": whole.astype(np.int16),
        "float32": whole,
        "fractions": smooth,
    }
    return {name: _write(folder / f"sub-01_{name}.nii.gz", voxels) for name, voxels in kinds.items()}


def _write(path: Path, voxels: npt.NDArray[Any]) -> Source:
    plain = nibabel.Nifti1Image(voxels, AFFINE).to_bytes()
    data = gzip.compress(plain, 6, mtime=0)
    path.write_bytes(data)
    return Source(path, len(data), len(gzip.compress(plain, 1, mtime=0)))


def crops(voxels: npt.NDArray[Any], n: int, edge: int, seed: int = 1) -> list[npt.NDArray[Any]]:
    """`n` cubes of `edge` voxels from random places."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        x, y, z = (int(rng.integers(0, size - edge + 1)) for size in voxels.shape)
        found.append(voxels[x : x + edge, y : y + edge, z : z + edge].copy())
    return found
