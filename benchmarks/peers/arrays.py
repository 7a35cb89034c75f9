"""Chunks by other hands: the study's own by tensorstore and zarr-python; HDF5; blosc2 as nnU-Net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from .serve import Alone, Box, Read, slices

__all__ = ["Blosc", "Hdf5", "TensorStore", "ZarrPython", "write_blosc"]


class _OfTheStudy(Alone):
    """Level 0 of volumes that the peer beside it, `zarr`, has stored."""

    def __init__(self, place: Path) -> None:
        self._volumes = place.parent / "zarr" / "study" / "collections" / "image"

    def store(self, files: dict[str, str]) -> None:
        """Nothing: they are there."""

    def kept(self) -> list[str]:
        return []

    def _folder(self, name: str) -> Path:
        (found,) = self._volumes.glob(f"{name}_image/*.ome.zarr")
        return found


class TensorStore(_OfTheStudy):
    """tensorstore, told all that can be known in advance, as this package tells it; no cache."""

    def __init__(self, place: Path) -> None:
        from stored import raw_context

        super().__init__(place)
        self._context = raw_context(0)

    def open(self, name: str) -> Read:
        from stored import raw_store

        store = raw_store(self._folder(name), self._context)
        return lambda box: store[_reversed(box)].read().result().T


class ZarrPython(_OfTheStudy):
    """zarr-python with its own codecs."""

    def open(self, name: str) -> Read:
        import zarr

        array = zarr.open_array(self._folder(name) / "0", mode="r")
        return lambda box: np.asarray(array[_reversed(box)]).T


class Hdf5(Alone):
    """h5py: chunks of 32 voxels along each axis, shuffled, gzip of level 4 (h5py's own), no chunk cache."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def store(self, files: dict[str, str]) -> None:
        import h5py

        for name, path in files.items():
            voxels = _disk_order(path)
            chunks = tuple(min(32, n) for n in voxels.shape)
            with h5py.File(self._file(name), "w") as file:
                file.create_dataset("voxels", data=voxels, chunks=chunks, compression="gzip", shuffle=True)

    def open(self, name: str) -> Read:
        import h5py

        voxels = h5py.File(self._file(name), "r", rdcc_nbytes=0)["voxels"]
        return lambda box: voxels[_reversed(box)].T

    def kept(self) -> list[str]:
        return [str(self._place)]

    def _file(self, name: str) -> Path:
        return self._place / f"{name}.h5"


class Blosc(Alone):
    """blosc2 as nnU-Net keeps its cases: LZ4HC 5, blocks of 128 KiB, chunks below 6 MiB, mapped."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def store(self, files: dict[str, str]) -> None:
        for name, path in files.items():
            write_blosc(self._file(name), _disk_order(path))

    def open(self, name: str) -> Read:
        import blosc2

        blosc2.set_nthreads(1)
        array = blosc2.open(str(self._file(name)), mode="r", mmap_mode="r", dparams={"nthreads": 1})
        return lambda box: array[_reversed(box)].T

    def kept(self) -> list[str]:
        return [str(self._place)]

    def _file(self, name: str) -> Path:
        return self._place / f"{name}.b2nd"


def write_blosc(path: Path, voxels: Any) -> None:
    """One case; blocks and chunks within the bounds that nnU-Net sets: 128 KiB, and 6 MiB."""
    import blosc2

    blocks = (32, 32, 64 if voxels.itemsize == 2 else 32)
    chunks = tuple(min(n, s) for n, s in zip((96, 128, 128), voxels.shape, strict=True))
    blosc2.asarray(
        np.ascontiguousarray(voxels),
        urlpath=str(path),
        mode="w",
        chunks=chunks,
        blocks=tuple(min(n, s) for n, s in zip(blocks, chunks, strict=True)),
        cparams={"codec": blosc2.Codec.LZ4HC, "clevel": 5, "nthreads": 1},
    )


def _disk_order(path: str) -> Any:
    """The voxels as stored, axes z, y, x, in C order: the order of bytes in the file."""
    return np.ascontiguousarray(np.asanyarray(nibabel.load(path).dataobj).T)


def _reversed(box: Box) -> tuple[slice, ...]:
    return slices(box[::-1])
