"""Settings: what datasets of the TileDB-based package are configured with, and what it means here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from radiobject.config import SliceOrientation
from radiobject.errors import ConfigError
from radiobject.frozen import is_whole

__all__ = ["CacheStrategy", "DatasetConfig", "LoadingMode", "config_of"]


class LoadingMode(StrEnum):
    """How much of a volume a sample is."""

    FULL_VOLUME = "full_volume"
    PATCH = "patch"
    SLICE_2D = "slice_2d"


class CacheStrategy(StrEnum):
    """What a loader keeps: nothing, or decoded volumes, in memory (`InMemory`) or on a disk (`Scratch`)."""

    NONE = "none"
    IN_MEMORY = "in_memory"
    DISK = "disk"


@dataclass(frozen=True)
class DatasetConfig:
    """How much of a volume a sample is, and how many of them an epoch has.

    `patch_size` (voxels x, y, z) goes with `LoadingMode.PATCH`, as does `patches_per_volume`;
    `slice_orientation` with `SLICE_2D`, whose epoch has every slice of every volume. Raises `ConfigError`.

    >>> DatasetConfig(LoadingMode.PATCH, (32, 32, 32)).sizes()
    {'patch_size': (32, 32, 32), 'plane': None}
    """

    loading_mode: LoadingMode = LoadingMode.FULL_VOLUME
    patch_size: tuple[int, int, int] | None = None
    patches_per_volume: int = 1
    slice_orientation: SliceOrientation = SliceOrientation.AXIAL

    def __post_init__(self) -> None:
        for name, kind in (("loading_mode", LoadingMode), ("slice_orientation", SliceOrientation)):
            try:
                object.__setattr__(self, name, kind(getattr(self, name)))
            except ValueError as error:
                raise ConfigError(
                    f"DatasetConfig({name}=)", expected=f"one of {[k.value for k in kind]}", got=repr(error)
                ) from error
        if (self.patch_size is None) == (self.loading_mode is LoadingMode.PATCH):
            raise ConfigError(
                "DatasetConfig(patch_size=)", expected="given with LoadingMode.PATCH, and only then",
                got=f"{self.patch_size} with {self.loading_mode}",
            )  # fmt: skip
        if not is_whole(self.patches_per_volume):
            raise ConfigError(
                "DatasetConfig(patches_per_volume=)", expected="an int, at least 1",
                got=repr(self.patches_per_volume),
            )  # fmt: skip
        if self.loading_mode is LoadingMode.SLICE_2D and self.slice_orientation is SliceOrientation.ISOTROPIC:
            raise ConfigError(
                "DatasetConfig(slice_orientation=)", expected="axial, coronal or sagittal", got="isotropic"
            )

    def sizes(self) -> dict[str, Any]:
        """The arguments of `SampleSpec` that this is."""
        cut = self.loading_mode is LoadingMode.SLICE_2D
        plane = self.slice_orientation.value if cut else None
        return {"patch_size": self.patch_size, "plane": plane}


def config_of(
    patch_size: int | Sequence[int] | None, patches_per_volume: int = 1, plane: str | None = None
) -> DatasetConfig:
    """The configuration of patches of a size (one number: a cube), of slices along a plane, or of volumes.

    Raises `ConfigError` for both, and for sizes that are none.
    """
    if patch_size is None:
        mode = LoadingMode.FULL_VOLUME if plane is None else LoadingMode.SLICE_2D
        try:
            cut = SliceOrientation(plane or "axial")
        except ValueError as error:
            raise ConfigError("plane=", expected="axial, coronal or sagittal", got=repr(plane)) from error
        return DatasetConfig(mode, None, patches_per_volume, cut)
    size = [patch_size] * 3 if isinstance(patch_size, int) else list(patch_size)
    if len(size) != 3 or not all(is_whole(n) for n in size):
        raise ConfigError("patch_size=", expected="one or three positive ints", got=repr(patch_size))
    if plane is not None:
        raise ConfigError("plane= and patch_size=", expected="one of them", got="both")
    return DatasetConfig(LoadingMode.PATCH, (size[0], size[1], size[2]), patches_per_volume)
