"""`level`, `levels`, `resample(antialias=True)`: geometry, parts, and what they read."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject import RadiObject, ReadConfig, TileConfig, Volume, WriteConfig, configure, measure
from radiobject.errors import CapabilityError, IndexingError, SelectionError
from radiobject.geometry.affine import Affine
from radiobject.geometry.blocks import block_means, block_modes

OBLIQUE = np.array([[-1.9, 0.3, 0.1, 40.0], [0.2, 2.1, -0.5, -60.0], [0.1, 0.4, 1.9, 12.5], [0, 0, 0, 1]])
SHAPE = (19, 14, 11)


def means(array: np.ndarray, *factors: int) -> np.ndarray:
    return block_means(array.T, factors[::-1]).T


@pytest.fixture(scope="module")
def array() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype("i2")


@pytest.fixture(scope="module")
def both(
    everywhere: None, array: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Volume, Volume]:
    """The same volume with three levels beside it, and without."""
    folder = tmp_path_factory.mktemp("levels")
    tile = TileConfig(chunks=(4, 4, 4), shards=(20, 16, 12))
    one, other = (
        RadiObject.from_niftis(folder / name, {"CT": [((array, OBLIQUE), "a")]}, write=write, progress=False)
        for name, write in (("with", WriteConfig(tile=tile, pyramid=3)), ("without", WriteConfig(tile=tile)))
    )
    return one.CT.iloc[0], other.CT.iloc[0]


@pytest.fixture(scope="module")
def vol(both: tuple[Volume, Volume]) -> Volume:
    return both[0]


# what a level is


def test_levels_are_volumes(vol: Volume, array: np.ndarray) -> None:
    assert vol.n_levels == 4
    assert vol.level(0) is vol
    assert [v.shape for v in vol.levels] == [SHAPE, (10, 7, 6), (5, 4, 3), (3, 2, 2)]
    coarse = vol.level(1)
    np.testing.assert_array_equal(coarse[2:9, ::2, -1], means(array, 2, 2, 2)[2:9, ::2, -1])
    np.testing.assert_allclose(coarse.spacing, np.multiply(vol.spacing, 2))
    assert coarse.axcodes == vol.axcodes
    assert coarse.obliquity == pytest.approx(vol.obliquity)
    assert vol.level(-1).shape == vol.level(3).shape
    assert (coarse.n_levels, coarse.uri) == (1, None)
    assert repr(coarse) == "<Volume a_CT 10x7x6 int16 3.83x4.32x3.93 mm LAS>"


@pytest.mark.parametrize("k", [4, -5, 100])
def test_a_level_that_is_not_there_is_an_error(vol: Volume, k: int) -> None:
    with pytest.raises(IndexingError, match="-4 to 3"):
        vol.level(k)


@pytest.mark.parametrize("k", [1.0, "coarsest", slice(0, 1), None])
def test_a_level_is_asked_for_by_number(vol: Volume, k: Any) -> None:
    with pytest.raises(SelectionError, match="an int"):
        vol.level(k)
    assert vol.level(np.int64(1)).shape == vol.level(1).shape


def test_volumes_without_a_pyramid_have_one_level(both: Any, array: np.ndarray) -> None:
    for volume in (both[1], Volume.from_numpy(array), both[0].resample(spacing=3), both[0].level(2)):
        assert volume.n_levels == len(volume.levels) == 1
        with pytest.raises(IndexingError, match=r"WriteConfig\(pyramid=\)"):
            volume.level(1)


def test_a_level_opened_by_url_is_the_same(vol: Volume) -> None:
    other = Volume(vol.uri)
    for one, two in zip(vol.levels, other.levels, strict=True):
        assert one.affine.tobytes() == two.affine.tobytes()
        np.testing.assert_array_equal(one[...], two[...])


def test_a_level_pickles(vol: Volume) -> None:
    coarse = vol.level(2)
    again = pickle.loads(pickle.dumps(coarse))
    np.testing.assert_array_equal(again[...], coarse[...])
    np.testing.assert_array_equal(again.affine, coarse.affine)


def test_the_array_of_a_level_is_not_that_of_the_volume(vol: Volume) -> None:
    with pytest.raises(CapabilityError, match="pyramid/2"):
        vol.level(2).array  # noqa: B018 - a property that raises


def test_a_level_goes_out_and_in_as_a_volume(vol: Volume, study: Any, tmp_path: Path) -> None:
    vol.level(1).to_nifti(tmp_path / "half.nii.gz")
    back = Volume.from_nifti(tmp_path / "half.nii.gz")
    np.testing.assert_array_equal(back[...], vol.level(1)[...])
    np.testing.assert_allclose(back.affine, vol.level(1).affine, atol=1e-4)
    radi = RadiObject.from_images(tmp_path / "study", {"T1w": [(vol.level(1), "a")]}, progress=False)
    np.testing.assert_array_equal(radi.T1w.iloc[0].affine, vol.level(1).affine)
    assert radi.T1w.iloc[0].n_levels == 1


def test_statistics_of_a_level_are_its_own(study: Any, array: np.ndarray) -> None:
    volume = study({"T1w": {"a": (array, OBLIQUE)}}, write=WriteConfig(pyramid=1)).T1w.iloc[0]
    coarse = volume.level(1)
    assert coarse.obs_id == volume.obs_id
    assert coarse.get_statistics()["std"] == pytest.approx(coarse[...].std())
    assert coarse.compute_histogram()[0].sum() == coarse[...].size


def test_a_ramp_stays_the_same_ramp_in_the_world(tmp_path: Path, suffix: str) -> None:
    """Where blocks are whole; a block that the edge cuts off is the mean of what is there."""

    @settings(max_examples=25, deadline=None)
    @given(
        st.tuples(*[st.integers(2, 12)] * 3),
        st.sampled_from(("RAS", "LPS", "SRA", "AIL")),
        st.tuples(*[st.sampled_from((0.5, 0.8, 1.0, 2.5))] * 3),
        st.integers(0, 10**9),
    )
    def check(shape: Any, codes: str, spacing: Any, number: int) -> None:
        tilt = Affine(OBLIQUE / [2, 2, 2, 1] * [*spacing, 1]).reorientation(codes, shape).affine
        index = np.moveaxis(np.indices(shape), 0, -1)
        slope = np.random.default_rng(number).normal(size=3)
        volume = Volume.from_numpy(
            tilt.apply(index) @ slope,
            tilt.matrix,
            tmp_path / f"{number}-{shape}-{codes}-{spacing}{suffix}",
            write=WriteConfig(pyramid=3),
        )
        for coarse in volume.levels[1:]:
            whole = tuple(
                n // round(s / f) for n, s, f in zip(shape, coarse.spacing, volume.spacing, strict=True)
            )
            world = Affine(coarse.affine).apply(np.moveaxis(np.indices(whole), 0, -1))
            np.testing.assert_allclose(
                coarse[: whole[0], : whole[1], : whole[2]], world @ slope, rtol=1e-9, atol=1e-9
            )

    check()


# parts


def test_parts_and_turns_keep_their_place(vol: Volume, array: np.ndarray) -> None:
    """A level of a part is the part of the level that touches it, with the same axes."""

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        made = vol
        for _ in range(3):
            if data.draw(st.booleans()):
                made = made.reorient(data.draw(st.sampled_from(("RAS", "LPS", "PIR", "SRA"))))
            else:
                key = []
                for n in made.shape:
                    low, high = sorted(data.draw(st.tuples(st.integers(0, n - 1), st.integers(1, n))))
                    span = slice(low, max(high, low + 1))
                    key.append(data.draw(st.sampled_from((span, slice(None)))))
                made = made.slicer[tuple(key)]
        k = data.draw(st.integers(0, 3))
        coarse = made.level(k)
        np.testing.assert_array_equal(coarse.affine[:3, :3], made.affine[:3, :3] * 2**k)
        # in voxels of the whole level
        at = Affine(np.linalg.inv(vol.level(k).affine)) @ Affine(coarse.affine)
        index = at.apply(np.moveaxis(np.indices(coarse.shape), 0, -1))
        np.testing.assert_allclose(index, index.round(), atol=1e-6)
        x, y, z = np.moveaxis(index.round().astype(int), -1, 0)
        np.testing.assert_array_equal(coarse[...], vol.level(k)[...][x, y, z])
        # and it touches every voxel of the part, with no row too many
        fine = Affine(np.linalg.inv(coarse.affine)) @ Affine(made.affine)
        blocks = np.floor(fine.apply(np.moveaxis(np.indices(made.shape), 0, -1)) + 0.5 + 1e-9).reshape(-1, 3)
        assert blocks.min(axis=0).tolist() == [0, 0, 0]
        assert (blocks.max(axis=0) + 1).tolist() == list(coarse.shape)

    check()


def test_time_points_are_kept_and_dropped_as_in_the_volume(tmp_path: Path, suffix: str) -> None:
    array = np.arange(6 * 4 * 4 * 5).reshape(6, 4, 4, 5).astype("i4")
    volume = Volume.from_numpy(
        array, uri=tmp_path / f"a{suffix}", axis4="time", time_step=2.0, write=WriteConfig(pyramid=1)
    )
    coarse = block_means(array.T, (2, 2, 2)).T
    part = volume.slicer[2:, ..., ::-2].level(1)
    assert part.meta.time_step == 4.0
    np.testing.assert_array_equal(part[...], coarse[1:, ..., ::-2])
    np.testing.assert_array_equal(volume.slicer[..., 3].level(1)[...], coarse[..., 3])


# resampling


@pytest.mark.parametrize("kind", ["image", "label"])
def test_antialias_gives_the_same_with_and_without_levels(
    array: np.ndarray, tmp_path: Path, kind: Any, suffix: str
) -> None:
    values = array if kind == "image" else (array % 3).astype("u1")
    stored = Volume.from_numpy(
        values, OBLIQUE, tmp_path / f"a{suffix}", kind=kind, write=WriteConfig(pyramid=3)
    )
    held = Volume.from_numpy(values, OBLIQUE, kind=kind)
    turned = Affine(OBLIQUE) @ Affine([[0.9, -0.4, 0, 1], [0.4, 0.9, 0, 2], [0, 0, 2, 0], [0, 0, 0, 1]])

    @settings(max_examples=40, deadline=None)
    @given(st.floats(0.5, 12), st.sampled_from(("RAS", "PIR")), st.booleans(), st.booleans())
    def check(spacing: float, codes: str, part: bool, angle: bool) -> None:
        grids = []
        for volume in (stored, held):
            seen = volume.slicer[3:17, :, 1::2] if part else volume
            seen = seen.reorient(codes)
            how: Any = {"like": ((9, 8, 7), turned.matrix * [spacing, spacing, spacing, 1])}
            grids.append(seen.resample(**how if angle else {"spacing": spacing}, antialias=True))
        one, other = grids
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_array_equal(one.affine, other.affine)
        np.testing.assert_array_equal(one[...], other[...])
        np.testing.assert_array_equal(one[1:, 1:2], other[...][1:, 1:2])

    check()


def test_antialias_samples_the_level_that_fits(vol: Volume) -> None:
    wide = [4.1, 4.4, 4.1]  # a little more than level 1
    np.testing.assert_array_equal(
        vol.resample(like=vol.level(1), antialias=True)[...], vol.level(1)[...].astype("f4")
    )
    plain = vol.level(1).resample(like=vol.resample(spacing=wide))
    np.testing.assert_array_equal(vol.resample(spacing=wide, antialias=True)[...], plain[...])


def test_what_is_finer_or_as_fine_is_not_averaged(vol: Volume) -> None:
    for spacing in (1.0, vol.spacing, np.multiply(vol.spacing, 1.9)):
        np.testing.assert_array_equal(
            vol.resample(spacing=spacing, antialias=True)[...], vol.resample(spacing=spacing)[...]
        )


def test_results_do_not_depend_on_a_pyramid_unless_asked(both: tuple[Volume, Volume]) -> None:
    one, other = (v.resample(spacing=6.0) for v in both)
    np.testing.assert_array_equal(one[...], other[...])
    assert not np.array_equal(one[...], both[0].resample(spacing=6.0, antialias=True)[...])


def test_antialias_takes_a_fine_pattern_away(tmp_path: Path, suffix: str) -> None:
    """Stripes one voxel wide, seen at a third of the resolution: samples show stripes that are not there."""
    stripes = np.zeros((64, 8, 8), "f4")
    stripes[::2] = 100
    volume = Volume.from_numpy(stripes, uri=tmp_path / f"a{suffix}", write=WriteConfig(pyramid=1))
    sampled, averaged = (volume.resample(spacing=3.1, antialias=a)[2:-2] for a in (False, True))
    assert np.ptp(sampled) > 60
    np.testing.assert_allclose(averaged, 50)


def test_labels_are_resampled_by_the_most_frequent_value(tmp_path: Path) -> None:
    labels = np.full((8, 8, 8), 2, "u1")
    labels[::2, ::2, ::2] = 7
    volume = Volume.from_numpy(labels, kind="label")
    like = ((4, 4, 4), np.diag([2.0, 2, 2, 1]))
    assert (volume.resample(like=like)[...] == 7).all()
    found = volume.resample(like=like, antialias=True)
    assert found.dtype == "u1"
    assert (found[...] == 2).all()


def test_read_mm_takes_it_too(both: tuple[Volume, Volume]) -> None:
    centre = Affine(both[0].affine).apply((9, 7, 5))
    how: Any = {"center": centre, "size": (20, 16, 16), "spacing": 4.5, "axcodes": "RAS"}
    one, other = (v.read_mm(**how, antialias=True) for v in both)
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, both[0].read_mm(**how))


def test_a_level_is_read_in_place_of_the_voxels(both: tuple[Volume, Volume], engine: str) -> None:
    costs = []
    with configure(read=ReadConfig(cache_bytes=0)):
        for volume in both:
            # opened anew: the others have left chunks in the cache
            coarse = Volume(volume.uri).resample(spacing=9.0, antialias=True)
            with measure() as cost:
                coarse[...]
            costs.append(cost)
    small, large = costs
    assert small["bytes_used"] * 32 < large["bytes_used"]
    if engine in ("tensorstore", "zarr-python"):
        assert 0 < small["bytes_read"] * 10 < large["bytes_read"]


def test_modes_and_means_follow_the_kind(tmp_path: Path, suffix: str) -> None:
    array = np.array([0, 4, 4, 1, 1, 1, 9, 9], "u1").reshape(2, 2, 2)
    for kind, value in (("image", 4), ("label", 1)):
        volume = Volume.from_numpy(
            array, uri=tmp_path / f"{kind}{suffix}", kind=kind, write=WriteConfig(pyramid=1)
        )
        assert volume.level(1)[0, 0, 0] == value
        assert volume.level(1).meta.kind == kind
    assert block_modes(array, (2, 2, 2)).item() == 1
