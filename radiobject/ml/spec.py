"""SampleSpec: what one training sample is made of; plans, datasets and loaders share this description."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from radiobject.errors import ConfigError
from radiobject.frozen import is_whole, set_fields
from radiobject.geometry.planes import PLANES, Plane

__all__ = ["IMAGE", "LABEL", "SampleSpec"]

IMAGE, LABEL = "image", "label"
"""Keys of a sample where the caller names none: those of MONAI's CommonKeys."""

Names = str | Sequence[str]


@dataclass(frozen=True, init=False)
class SampleSpec:
    """Which collections a sample takes, how much of a volume, on which grid, as which type.

    `images` and `masks` map a key of the sample to a collection, or to several that become its channels; a
    name or a list of names alone stands for {"image": ...} and {"label": ...}. The volumes of a sample are
    partners (`RadiObject.pairs`), compared by `on`. `targets` maps further keys to columns of the volume
    table or of the subject table.

    `patch_size` is in voxels x, y, z (one number: a cube); without it a sample is a whole volume. `plane`
    ("axial", "coronal", "sagittal") makes it a slice, two-dimensional. What a patch has outside its volume is
    `pad`, in masks 0.

    `spacing` (mm, whatever unit a volume is in; one or three numbers) and `axcodes` ("RAS") put every volume
    on such a grid, resampled when read, only where it is read. Without them voxels are as stored. `grid` says
    what to do with partners that do not lie on one grid: "error" raises, "first" resamples them to the grid
    of the first image.

    `dtype` is "float32", in which values are scaled, or "native": the type that reads return, which costs
    less memory on the way and is to be cast on the device.

    >>> spec = SampleSpec(["T1w", "FLAIR"], "seg", patch_size=64)
    >>> spec.images, spec.masks, spec.patch_size
    ({'image': ('T1w', 'FLAIR')}, {'label': ('seg',)}, (64, 64, 64))
    """

    images: Mapping[str, tuple[str, ...]]
    masks: Mapping[str, tuple[str, ...]]
    targets: Mapping[str, str]
    patch_size: tuple[int, int, int] | None
    plane: Plane | None
    spacing: tuple[float, float, float] | None
    axcodes: str | None
    grid: Literal["error", "first"]
    on: tuple[str, ...] | None
    missing: Literal["error", "drop"]
    pad: float
    dtype: Literal["float32", "native"]

    def __init__(
        self,
        images: Names | Mapping[str, Names],
        masks: Names | Mapping[str, Names] | None = None,
        targets: Names | Mapping[str, str] | None = None,
        *,
        patch_size: int | Sequence[int] | None = None,
        plane: Plane | None = None,
        spacing: float | Sequence[float] | None = None,
        axcodes: str | None = None,
        grid: Literal["error", "first"] = "error",
        on: Names | None = None,
        missing: Literal["error", "drop"] = "error",
        pad: float = 0.0,
        dtype: Literal["float32", "native"] = "float32",
    ) -> None:
        streams = _keyed(images, IMAGE), _keyed(masks, LABEL)
        wanted = {targets: targets} if isinstance(targets, str) else targets
        named = dict(wanted) if isinstance(wanted, Mapping) else {name: name for name in wanted or ()}
        if not streams[0]:
            raise ConfigError("SampleSpec(images=)", expected="at least one collection", got=repr(images))
        keys = [*streams[0], *streams[1], *named]
        if len(set(keys)) != len(keys):
            raise ConfigError("SampleSpec", expected="each key once", got=repr(keys))
        for name, value, choices in (
            ("grid", grid, ("error", "first")),
            ("missing", missing, ("error", "drop")),
            ("dtype", dtype, ("float32", "native")),
            ("plane", plane, (None, *PLANES)),
        ):
            if value not in choices:
                raise ConfigError(f"SampleSpec({name}=)", expected=f"one of {choices}", got=repr(value))
        if plane is not None and patch_size is not None:
            raise ConfigError("SampleSpec", expected="plane= or patch_size=", got="both")
        set_fields(
            self, images=streams[0], masks=streams[1], targets=named, plane=plane, axcodes=axcodes, grid=grid,
            on=None if on is None else tuple(_listed(on)), missing=missing, pad=float(pad), dtype=dtype,
            patch_size=_three("patch_size", patch_size, is_whole, int, "positive ints"),
            spacing=_three("spacing", spacing, _is_length, float, "positive numbers of mm"),
        )  # fmt: skip

    @property
    def streams(self) -> list[tuple[str, int, str]]:
        """Key, channel and collection of each volume of a sample; the first one sets the grid."""
        both = [*self.images.items(), *self.masks.items()]
        return [(key, channel, name) for key, names in both for channel, name in enumerate(names)]


def _listed(names: Names) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _keyed(names: Names | Mapping[str, Names] | None, key: str) -> dict[str, tuple[str, ...]]:
    if not names:
        return {}
    given = names if isinstance(names, Mapping) else {key: names}
    return {k: tuple(_listed(v)) for k, v in given.items()}


def _three(
    name: str, value: Any, fits: Callable[[Any], bool], kind: type[Any], expected: str
) -> tuple[Any, Any, Any] | None:
    """One value for each axis x, y, z."""
    if value is None:
        return None
    several = list(value) if isinstance(value, Sequence) else [value] * 3
    if len(several) != 3 or not all(fits(v) for v in several):
        raise ConfigError(f"SampleSpec({name}=)", expected=f"one or three {expected}", got=repr(value))
    x, y, z = (kind(v) for v in several)
    return x, y, z


def _is_length(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < float("inf")
