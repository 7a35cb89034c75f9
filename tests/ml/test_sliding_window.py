"""Sliding windows: equal to MONAI's on the whole volume, window by window, written back as a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference
from monai.transforms import AsDiscrete

from radiobject import RadiObject, Volume, measure
from radiobject.errors import AlignmentError, ConfigError
from radiobject.ml.monai import sliding_window


def network(channels: int = 1, classes: int = 3) -> torch.nn.Module:
    """Convolutions that look at neighbours, so that windows disagree where they overlap."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv3d(channels, 4, 3, padding=1),
        torch.nn.LeakyReLU(),
        torch.nn.Conv3d(4, classes, 3, padding=1),
    ).eval()


def volume_of(shape: tuple[int, ...], seed: int = 0) -> Volume:
    voxels = np.random.default_rng(seed).normal(size=shape).astype("f4")
    return Volume.from_numpy(voxels, np.diag([1.0, 2.0, 1.5, 1.0]), axis4="channel")


def theirs(volumes: list[Volume], *arguments: Any, **options: Any) -> np.ndarray[Any, Any]:
    """MONAI's, (C, x, y, z), of the whole volume in memory."""
    whole = torch.stack([torch.from_numpy(np.ascontiguousarray(v.to_numpy(), "f4")) for v in volumes])
    with torch.no_grad():
        found = sliding_window_inference(whole[None], *arguments, **options)
    return found[0].numpy()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(3, 14)] * 3),
    roi=st.tuples(*[st.integers(2, 9)] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, (0.1, 0.6, 0.8)]),
    batch=st.integers(1, 5),
    mode=st.sampled_from(["constant", "gaussian"]),
    cval=st.sampled_from([0.0, -3.0]),
)
def test_it_is_equal_to_monais_to_the_last_bit(
    shape: tuple[int, int, int],
    roi: tuple[int, int, int],
    overlap: Any,
    batch: int,
    mode: str,
    cval: float,
) -> None:
    volume, model = volume_of(shape), network()
    options = {"overlap": overlap, "mode": mode, "cval": cval}
    ours = sliding_window(volume, model, roi, batch, **options)
    expected = theirs([volume], roi, batch, model, **options)
    assert np.array_equal(ours, np.moveaxis(expected, 0, -1))


def test_volumes_of_one_shape_in_other_places_are_no_channels() -> None:
    moved = np.diag([1.0, 2.0, 1.5, 1.0])
    moved[0, 3] = 3.0
    volumes = [volume_of((6, 5, 4)), Volume.from_numpy(np.zeros((6, 5, 4), "f4"), moved)]
    with pytest.raises(AlignmentError, match="up to 3 mm apart"):
        sliding_window(volumes, lambda windows: windows[:, :1], 4)


def test_several_volumes_are_channels_and_roi_sizes_are_monais(tmp_path: Path) -> None:
    volumes, model = [volume_of((12, 11, 10), seed) for seed in range(2)], network(channels=2)
    for roi in (5, (6, -1, 4)):
        ours = sliding_window(volumes, model, roi, 3, overlap=0.4, mode="gaussian", sigma_scale=0.2)
        expected = theirs(volumes, roi, 3, model, 0.4, "gaussian", 0.2)
        assert np.array_equal(ours, np.moveaxis(expected, 0, -1))
        assert ours.T.flags.c_contiguous  # in a file, as it will be stored
    stacked = Volume.from_numpy(np.stack([v.to_numpy() for v in volumes], -1), axis4="channel")
    assert np.array_equal(sliding_window(stacked, model, 5, 3), sliding_window(volumes, model, 5, 3))


def test_turned_and_resampled_volumes_are_read_by_windows() -> None:
    volume = volume_of((12, 11, 10))
    for seen in (volume.reorient("PIL"), volume.resample(spacing=1.3), volume.slicer[::-1, 2:]):
        expected = theirs([seen], 5, 2, network())
        assert np.array_equal(sliding_window(seen, network(), 5, 2), np.moveaxis(expected, 0, -1))


def test_half_floats_add_up_as_monais_do() -> None:
    volume, model = volume_of((9, 9, 9)), network()
    halved = lambda windows: model(windows).half()  # noqa: E731
    expected = theirs([volume], 5, 2, halved, mode="gaussian")
    assert np.array_equal(sliding_window(volume, halved, 5, 2, mode="gaussian"), np.moveaxis(expected, 0, -1))


@pytest.mark.parametrize(
    "post", [lambda scores: scores.argmax(0).byte(), AsDiscrete(argmax=True, dtype=torch.uint8)]
)
def test_finished_rows_go_through_post(post: Any, tmp_path: Path) -> None:
    volume, seen = volume_of((14, 9, 8)), []

    def noted(scores: torch.Tensor) -> Any:
        seen.append(scores.shape[1])
        return post(scores)

    out = tmp_path / "labels.npy"
    labels = sliding_window(volume, network(), 5, 4, post=noted, out=out)
    expected = theirs([volume], 5, 4, network()).argmax(0)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, expected)
    assert np.array_equal(np.load(out), expected)
    assert (sum(seen), max(seen) < 14) == (14, True)
    assert isinstance(labels, np.memmap)
    assert labels.T.flags.c_contiguous  # as it will be stored


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_floats_of_post_become_floats_that_volumes_have(dtype: torch.dtype) -> None:
    volume = volume_of((7, 6, 5))
    found = sliding_window(volume, network(), 5, post=lambda scores: scores.to(dtype))
    expected = torch.from_numpy(theirs([volume], 5, 1, network())).to(dtype).float()
    assert found.dtype == np.float32
    assert np.array_equal(np.moveaxis(found, -1, 0), expected.numpy())


def test_only_the_windows_are_read(tmp_path: Path) -> None:
    voxels = np.zeros((96, 64, 64), "i2")
    radi = RadiObject.from_niftis(tmp_path / "study", {"CT": [((voxels, np.eye(4)), "a")]})
    volume = radi.CT.iloc[0]
    with measure() as whole:
        volume.to_numpy()
    with measure() as cost:
        sliding_window(volume, lambda windows: windows, 32, 2, overlap=0)
    assert cost["chunks_decoded"] == whole["chunks_decoded"]
    seen: list[int] = []

    def stop(windows: torch.Tensor) -> torch.Tensor:
        seen.append(len(windows))
        raise KeyboardInterrupt

    with measure() as cost, pytest.raises(KeyboardInterrupt):
        sliding_window(volume, stop, 32, 2, overlap=0)
    assert cost["chunks_decoded"] <= 4  # the first batch and the one ahead


def test_what_does_not_fit_is_refused() -> None:
    volume = volume_of((8, 8, 8))
    for options, what in (
        ({"overlap": 1.0}, "overlap="),
        ({"sw_batch_size": 0}, "sw_batch_size="),
        ({"post": lambda scores: scores[:, 0]}, "post"),
        ({"predictor": lambda windows: [windows]}, r"predictor: .*\(1, C, 4, 4, 4\), got list"),
        ({"predictor": lambda windows: windows[..., :2]}, "predictor"),
    ):
        with pytest.raises(ConfigError, match=what):
            sliding_window(volume, **{"predictor": network(), "roi_size": 4, **options})
    with pytest.raises(AlignmentError, match=r"expected \(8, 8, 8\) voxels"):
        sliding_window([volume, volume_of((8, 8, 9))], network(2), 4)
