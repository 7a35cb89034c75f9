"""The shuffle is chosen by the voxels: quiet backgrounds and noise want different ones."""

from __future__ import annotations

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.backends.base import plan_array
from radiobject.config import CompressionConfig, WriteConfig
from radiobject.writing.compression import settle_shuffle

FAST = CompressionConfig()
DIMS = ("z", "y", "x")


def chosen(voxels: np.ndarray, codec: CompressionConfig = FAST) -> str:
    spec = plan_array(voxels.shape, voxels.dtype, DIMS, None, codec)
    return settle_shuffle(voxels, spec, codec).codec.shuffle


def head() -> np.ndarray:
    rng = np.random.default_rng(0)
    voxels = np.zeros((96, 96, 96), np.int16)
    voxels[30:66, 30:66, 30:66] = rng.integers(200, 900, (36, 36, 36))
    return voxels


def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 20, (96, 96, 96)).astype(np.int16)


def standardised() -> np.ndarray:
    """Few distinct values, as scaled integers are."""
    whole = np.random.default_rng(0).integers(0, 60, (96, 96, 96))
    return ((whole - whole.mean()) / whole.std()).astype(np.float32)


def test_each_volume_gets_what_makes_it_smallest() -> None:
    found = [chosen(voxels) for voxels in (head(), noise(), standardised())]
    assert found == ["shuffle", "bitshuffle", "noshuffle"]


def test_what_the_caller_names_is_kept() -> None:
    for name in ("bitshuffle", "shuffle", "noshuffle"):
        assert chosen(head(), CompressionConfig("lz4hc", 5, name)) == name


@pytest.mark.parametrize("make", [head, noise, standardised])
def test_the_choice_is_as_small_as_the_better_one(tmp_path: object, make: object) -> None:
    voxels = make()  # type: ignore[operator]
    sizes = {}
    for codec in ("auto", "shuffle", "bitshuffle", "noshuffle"):
        write = WriteConfig(compression=CompressionConfig("lz4hc", 5, codec))
        radi = RadiObject.from_niftis(
            f"{tmp_path}/{codec}", {"T1w": [((voxels, np.eye(4)), "a")]}, write=write
        )
        objects = radi.T1w.obs.to_arrow(["_objects"])["_objects"][0].as_py()
        sizes[codec] = sum(o["bytes"] for o in objects if "/c/" in o["path"])
        np.testing.assert_array_equal(radi.T1w.iloc[0].to_numpy(), voxels)
    print(sizes)
    assert sizes["auto"] <= 1.02 * min(sizes.values())  # a sample may err where both are nearly equal
