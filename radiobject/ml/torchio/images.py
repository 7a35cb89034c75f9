"""Images: TorchIO's own, over volumes whose voxels are read when something needs them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torchio as tio

from radiobject.ml.lazy_tensor import LazyTensor, VolumeVoxels
from radiobject.model.volume import Volume

__all__ = ["label_map", "scalar_image"]


def scalar_image(
    volumes: Volume | Sequence[Volume], dtype: npt.DTypeLike | None = "float32"
) -> tio.ScalarImage:
    """A `tio.ScalarImage` of a volume, or of several on one grid as its channels; no voxel is read.

    Cropping it (`tio.Crop`, samplers, `GridSampler`) reads the patch. Any other transform reads the volume
    when it begins, once. Time points and channels of a volume are channels here. `dtype` None keeps the type
    that reads return, in the next type that torch computes with. Raises `AlignmentError` for several volumes
    that do not lie on one grid.

    >>> import radiobject.examples
    >>> image = scalar_image(radiobject.examples.study(3).T1w.iloc[0])
    >>> image.shape, image.orientation_str, tio.Crop((10, 20, 0, 0, 0, 0))(image).shape
    ((1, 49, 58, 47), 'RAS', (1, 19, 58, 47))
    """
    source = VolumeVoxels(_several(volumes), dtype)
    return tio.ScalarImage(tensor=LazyTensor(source), affine=_affine(source.volumes))  # type: ignore[no-untyped-call]


def label_map(volumes: Volume | Sequence[Volume]) -> tio.LabelMap:
    """As `scalar_image`, a `tio.LabelMap`: integers stay integers, and transforms take the nearest voxel."""
    source = VolumeVoxels(_several(volumes))
    return tio.LabelMap(tensor=LazyTensor(source), affine=_affine(source.volumes))  # type: ignore[no-untyped-call]


def _several(volumes: Volume | Sequence[Volume]) -> Sequence[Volume]:
    return [volumes] if isinstance(volumes, Volume) else volumes


def _affine(volumes: Sequence[Volume]) -> npt.NDArray[np.float64]:
    """That of the first, to RAS+ mm."""
    meta = volumes[0].meta
    return meta.affine.scaled(meta.side).matrix.copy()
