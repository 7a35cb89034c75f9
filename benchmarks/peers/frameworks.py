"""What training frameworks do for a patch: load the volume, then cut. MONAI and TorchIO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .serve import Alone, Box, Read, slices

__all__ = ["MonaiLoad", "MonaiPersistent", "TorchIo"]


class MonaiLoad(Alone):
    """MONAI's `LoadImage` on the .nii.gz (nibabel underneath)."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._files: dict[str, str] = {}

    def store(self, files: dict[str, str]) -> None:
        self._files = files

    def open(self, name: str) -> Read:
        from monai.transforms import LoadImage

        load, path = LoadImage(image_only=True), self._files[name]
        return lambda box: _cut(load(path), box)

    def kept(self) -> list[str]:
        return []


class MonaiPersistent(MonaiLoad):
    """MONAI's `PersistentDataset`: the tensor of each volume in a file of its own, read whole."""

    def store(self, files: dict[str, str]) -> None:
        super().store(files)
        for name in files:
            self._set(name)[0]  # the first time makes the file

    def open(self, name: str) -> Read:
        cases = self._set(name)
        return lambda box: _cut(cases[0], box)

    def kept(self) -> list[str]:
        return [str(self._place)]

    def _set(self, name: str) -> Any:
        from monai.data import PersistentDataset
        from monai.transforms import LoadImage

        return PersistentDataset([self._files[name]], LoadImage(image_only=True), cache_dir=self._place)


class TorchIo(MonaiLoad):
    """TorchIO's `ScalarImage` on the .nii.gz (its own default reader)."""

    def open(self, name: str) -> Read:
        import torchio

        path = self._files[name]
        return lambda box: _cut(torchio.ScalarImage(path).data[0], box)


def _cut(tensor: Any, box: Box) -> Any:
    """A copy, so that the volume can go."""
    return tensor[slices(box)].numpy().copy()
