"""Sizes by content: how many bits a voxel needs decides what a compressor makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data import sources
from stored import folder_bytes, volume_folder

from radiobject import RadiObject, WriteConfig

__all__ = ["GAINS", "contents"]

GAINS = ((2, 10), (2, 20), (3, 20), (4, 20), (5, 50))
"""Intensity and noise of the heads whose sizes are compared."""


def contents(work: Path) -> list[dict[str, Any]]:
    """A row a content: size over the .nii.gz of level 1 and of level 6, by element type and preset."""
    return [_of(work / f"content-{n}", gain, noise) for n, (gain, noise) in enumerate(GAINS)]


def _of(folder: Path, gain: float, noise: float) -> dict[str, Any]:
    made = sources(folder, gain, noise)
    row: dict[str, Any] = {"gain": gain, "noise": noise}
    for preset in ("fast", "archive"):
        images = {name: [(str(source.path), "sub-01")] for name, source in made.items()}
        RadiObject.from_niftis(folder / preset, images, write=WriteConfig.preset(preset), progress=False)
        for name, source in made.items():
            size = folder_bytes(volume_folder(folder / preset, name))
            row[f"{name} {preset}"] = [size / source.bytes_level1, size / source.bytes_level6]
    return row
