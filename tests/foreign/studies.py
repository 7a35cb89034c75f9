"""Studies of every dtype, rank and preset, on disk and behind a web server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from foreign.server import FileServer, serve
from radiobject import RadiObject
from radiobject.backends.base import DTYPES
from radiobject.config import CompressionConfig, TileConfig, WriteConfig

# what the fourth axis is -> its length; channels come in small shards, so that each layout meets each dtype
_LAYOUTS = {
    "time": TileConfig(),
    "channel": TileConfig(chunks=(4, 4, 4), shards=(8, 8, 4)),
}
_AFFINE = np.array([[-0.8, 0, 0, 30], [0, 1, 0, -32.5], [0, 0, 2, 5], [0, 0, 0, 1]])
_TILT = np.array([[0.9, -0.2, 0, 3], [0.2, 0.9, 0.1, -4], [0, -0.1, 2, 5], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Written:
    """One study on disk: the folder of each volume below the served root, and its voxels in disk order."""

    root: Path
    name: str
    voxels: dict[str, npt.NDArray[Any]]
    folders: dict[str, str]

    def items(self) -> Iterator[tuple[str, str, npt.NDArray[Any]]]:
        """(name, folder relative to the root, voxels) of each volume."""
        for name, folder in self.folders.items():
            yield name, folder, self.voxels[name]


def voxels_of(code: str, shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[Any]:
    """Random voxels with the ends of the type's range, and for floats with NaN and infinities."""
    dtype = np.dtype(code)
    rng = np.random.default_rng(seed)
    if dtype.kind == "f":
        array = rng.normal(size=shape).astype(dtype)
        ends = [np.finfo(dtype).max, np.finfo(dtype).min, np.finfo(dtype).tiny, np.nan, np.inf, -np.inf]
        array.flat[: len(ends)] = ends
        return array
    info = np.iinfo(dtype)
    array = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    array.flat[:2] = info.min, info.max
    return array


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    """A server that cannot list, over the folder in which the studies lie."""
    with serve(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(
    scope="session",
    params=[(p, a) for p in ("fast", "archive", "none") for a in _LAYOUTS],
    ids=lambda p: "-".join(p),
)
def written(request: pytest.FixtureRequest, served: FileServer) -> Written:
    """One study for a preset and a meaning of the fourth axis; x, y, z are 13, 9, 6 voxels."""
    preset, axis4 = request.param
    images = {f"{code}_3d": voxels_of(code, (13, 9, 6)) for code in DTYPES}
    images |= {f"{code}_4d": voxels_of(code, (13, 9, 6, 3), 1) for code in DTYPES}
    images |= {
        "oblique": voxels_of("i2", (5, 7, 11), 2),
        "five": voxels_of("f4", (5, 7, 6, 3, 2), 3),
        "flat": np.zeros((4, 5, 6), "u2"),
        "single": voxels_of("i2", (1, 1, 1), 4),
    }
    if axis4 == "time":
        # more than one default chunk along each axis, none of them full at the end
        images["wide"] = voxels_of("i2", (33, 65, 40), 5)
    labels = {"seg": np.arange(13 * 9 * 6, dtype="u1").reshape(13, 9, 6) % 4}
    codec = CompressionConfig.preset(preset)
    # pytest makes it again when files that use it come to one process one after the other
    root, name = Path(served.root), f"{secrets.token_hex(4)}-{preset}-{axis4}"
    RadiObject.from_niftis(
        root / name,
        {
            "image": [((a, _TILT if n == "oblique" else _AFFINE), n) for n, a in images.items()],
            "label": [((a, _AFFINE), n) for n, a in labels.items()],
        },
        labels={"label": {1: "liver", 2: "spleen"}},
        axis4=axis4,
        write=WriteConfig(tile=_LAYOUTS[axis4], compression=codec, label_compression=codec),
        progress=False,
    )
    folders = {}
    for collection, arrays in (("image", images), ("label", labels)):
        for volume in arrays:
            (folder,) = (root / name / "collections" / collection).glob(f"{volume}_{collection}/*.ome.zarr")
            folders[volume] = str(folder.relative_to(root))
    assert len(folders) == len(images) + len(labels)
    # the only turn between the two sides: x, y, z[, t][, c] in Python, t, c, z, y, x on disk
    on_disk = {n: a.transpose(_disk_order(a.ndim)) for n, a in (images | labels).items()}
    return Written(root, name, on_disk, folders)


def _disk_order(ndim: int) -> tuple[int, ...]:
    return {3: (2, 1, 0), 4: (3, 2, 1, 0), 5: (3, 4, 2, 1, 0)}[ndim]
