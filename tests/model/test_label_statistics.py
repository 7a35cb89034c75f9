"""Statistics by label: the numbers of NumPy and SciPy on whole arrays, read in blocks, each voxel once."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from radiobject import RadiObject, TileConfig, WriteConfig, measure
from radiobject.errors import (
    AlignmentError,
    ConfigError,
    CorruptObjectError,
    MissingObjectError,
    SelectionError,
)
from radiobject.model import label_statistics, moments
from radiobject.model.label_statistics import blocks
from radiobject.model.moments import Moments

SHAPE = (20, 18, 14)
NUMBERS = ["n_voxels", "mean", "std", "min", "max"]


def expected(values: npt.NDArray[Any], labels: npt.NDArray[Any]) -> dict[int, list[float]]:
    """NUMBERS of each label, from the whole arrays."""
    found = {}
    for label in np.unique(labels).tolist():
        every = values[labels == label].astype(np.float64)
        some = every[np.isfinite(every)]
        numbers = [some.mean(), some.std(), some.min(), some.max()] if some.size else [math.nan] * 4
        found[label] = [every.size, *numbers]
    return found


def rows_of(frame: pd.DataFrame) -> dict[int, list[float]]:
    return dict(zip(frame["label"].to_list(), frame[NUMBERS].to_numpy(float).tolist(), strict=True))


def assert_same(found: dict[int, list[float]], wanted: dict[int, list[float]]) -> None:
    assert list(found) == list(wanted)
    for label, numbers in wanted.items():
        np.testing.assert_allclose(found[label], numbers, rtol=1e-9, atol=1e-7)
        assert found[label][0] == numbers[0]
        np.testing.assert_array_equal(found[label][3:], numbers[3:])


def noise(shape: tuple[int, ...] = SHAPE, dtype: str = "i2", seed: int = 0) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).normal(-200, 300, shape).astype(dtype)


def regions(shape: tuple[int, ...] = SHAPE, dtype: str = "u1", seed: int = 1) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).choice([0, 1, 2, 7], shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["i2", "f4", "f8"])
def test_the_numbers_are_scipys_on_every_backend(backend, dtype: str) -> None:
    images = {s: noise(dtype=dtype, seed=i) for i, s in enumerate("ab")}
    masks = {s: regions(seed=i + 5) for i, s in enumerate("ab")}
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, :3] @= np.linalg.qr(noise((3, 3), "f8"))[0]  # oblique: the volume is that of the determinant
    radi = RadiObject.from_niftis(
        backend.uri(),
        {
            "CT": [((v, affine), s) for s, v in images.items()],
            "seg": [((v, affine), s) for s, v in masks.items()],
        },
        labels={"seg": {1: "liver", 7: "spleen"}},
        backend=backend.backend,
    )
    found = radi.CT.stats_by(radi.seg)
    assert list(found.columns) == [
        "obs_id", "obs_subject_id", "label", "name", "n_voxels", "volume_ml", "mean", "std", "min", "max",
    ]  # fmt: skip
    assert found["obs_id"].to_list() == ["a_CT"] * 3 + ["b_CT"] * 3
    assert found["obs_subject_id"].to_list() == ["a"] * 3 + ["b"] * 3
    assert found["name"].fillna("-").to_list() == ["liver", "-", "spleen"] * 2
    for s, part in zip("ab", (found[:3], found[3:]), strict=True):
        at = part["label"].to_list()
        assert at == [1, 2, 7]
        values = images[s].astype(float)
        with np.errstate(invalid="ignore"):  # SciPy divides for labels that do not occur, too
            mean, std = (f(values, masks[s], at) for f in (ndimage.mean, ndimage.standard_deviation))
        np.testing.assert_allclose(part["mean"], mean, rtol=1e-9)
        np.testing.assert_allclose(part["std"], std, rtol=1e-9)
        assert part["min"].to_list() == list(ndimage.minimum(values, masks[s], at))
        assert part["max"].to_list() == list(ndimage.maximum(values, masks[s], at))
        np.testing.assert_allclose(part["volume_ml"], part["n_voxels"] * 12 / 1000, rtol=1e-12)
    assert_same(
        rows_of(radi.CT.loc[["b_CT"]].stats_by(radi.seg, background=True)), expected(images["b"], masks["b"])
    )


VALUES = st.floats(-1e6, 1e6, width=32) | st.sampled_from([math.nan, math.inf, -math.inf, 1e6, 1e6 + 1])
LABELS = {
    "u1": st.integers(0, 255),
    "i2": st.sampled_from([-32768, -1, 0, 1, 32767]),
    "i4": st.integers(-3, 3) | st.just(10**9),
    "u8": st.sampled_from([0, 1, 2**63, 2**64 - 1]),
}


@pytest.mark.no_backend(reason="arrays in memory")
@given(st.data(), st.sampled_from(sorted(LABELS)), hnp.array_shapes(min_dims=3, max_dims=3, max_side=7))
@settings(max_examples=300, deadline=None)
def test_pieces_add_up_to_the_whole(data: st.DataObject, kind: str, shape: tuple[int, int, int]) -> None:
    values = data.draw(hnp.arrays("f8", shape, elements=VALUES))
    labels = data.draw(hnp.arrays(kind, shape, elements=LABELS[kind]))
    most, tile = data.draw(st.integers(1, 400)), data.draw(st.tuples(*[st.integers(1, 8)] * 3))
    found = Moments.none(labels.dtype)
    for box in blocks(shape, [(8, 8, 8), tile], most):
        found |= Moments.of(values[box], labels[box], background=True)
    assert found.labels.dtype == labels.dtype
    for at, (label, numbers) in enumerate(expected(values, labels).items()):
        assert found.labels[at] == label
        assert found.n_voxels[at] == numbers[0]
        if math.isnan(numbers[1]):
            assert (found.n[at], found.m2[at]) == (0, 0)
            continue
        assert found.mean[at] == pytest.approx(numbers[1], rel=1e-12, abs=1e-9)
        assert math.sqrt(found.m2[at] / found.n[at]) == pytest.approx(numbers[2], rel=1e-6, abs=1e-6)
        assert [found.low[at], found.high[at]] == numbers[3:]
    foreground = Moments.of(values, labels, background=False)
    assert foreground.labels.tolist() == [v for v in found.labels.tolist() if v != 0]


@pytest.mark.no_backend(reason="arrays in memory")
def test_a_large_mean_does_not_drown_a_small_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "_STEP", 1000)
    values = 1e9 + np.random.default_rng(0).normal(0, 1e-3, (50, 50, 50))
    found = Moments.of(values, np.ones(values.shape, "u1"), background=False)
    # a sum of squares would be off by 100, as much as 10,000 times the answer
    assert math.sqrt(found.m2[0] / found.n[0]) == pytest.approx((values - 1e9).std(), rel=1e-5)
    constant = Moments.of(np.full(100_000, 0.1), np.ones(100_000, "u1"), background=False)
    assert (constant.mean[0], constant.m2[0]) == (0.1, 0)


@pytest.mark.no_backend(reason="arrays in memory")
@given(
    st.tuples(*[st.integers(1, 30)] * 3),
    st.lists(st.tuples(*[st.integers(1, 12)] * 3), min_size=1, max_size=3),
    st.integers(1, 3000),
)
@settings(max_examples=300)
def test_blocks_cover_an_array_once_in_whole_tiles_and_stay_small(shape, tilings, most) -> None:
    seen = np.zeros(shape, int)
    sizes = [math.prod(min(t, n) for t, n in zip(tile, shape, strict=True)) for tile in tilings]
    tile = next((t for t, size in zip(tilings, sizes, strict=True) if size <= most), tilings[-1])
    for box in blocks(shape, tilings, most):
        seen[box] += 1
        assert math.prod(s.stop - s.start for s in box) <= max(most, sizes[-1])
        for part, edge, n in zip(box, tile, shape, strict=True):
            assert part.start % min(edge, n) == 0
            assert part.stop == n or part.stop % edge == 0
    assert (seen == 1).all()


@pytest.fixture
def big(study) -> RadiObject:
    """One CT of 64 x 64 x 96 in chunks of 16, its labels in chunks of 32; label 3 is in two corners."""
    labels = np.zeros((64, 64, 96), "u1")
    labels[:10, :10, :10] = labels[50:, 60:, 90:] = 3
    image = noise(labels.shape)
    tiled = WriteConfig(tile=TileConfig(chunks=(16, 16, 16)))
    radi = study({"CT": {"a": image}}, write=tiled)
    radi.append(
        {"seg": [((labels, np.eye(4)), "a")], "all": [((labels + 1, np.eye(4)), "a")]}, labels=["seg", "all"]
    )
    return radi


def test_every_voxel_is_read_once_and_every_chunk_decoded_once(
    big, chunks, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = big.CT.iloc[0]
    whole = volume.to_numpy().nbytes
    monkeypatch.setattr(label_statistics, "BLOCK_BYTES", 5 * 32**3 * 2)  # two common tiles of int16, uint8
    with measure() as m:
        found = big.CT.stats_by(big.collection("all"))
    assert m["bytes_used"] == whole + whole // 2
    assert m["chunks_decoded"] == chunks(4 * 4 * 6 + 2 * 2 * 3)
    assert_same(rows_of(found), expected(volume.to_numpy(), big.collection("all").iloc[0].to_numpy()))


def test_of_an_image_only_the_chunks_under_labels_are_read(
    big, chunks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_statistics, "BLOCK_BYTES", 5 * 32**3)
    with measure() as m:
        found = big.CT.stats_by(big.seg)
    assert m["chunks_decoded"] == chunks(2 * 2 * 3 + 1 + 1 * 1 * 1)
    assert m["bytes_used"] == 64 * 64 * 96 + 2 * (10**3 + 14 * 4 * 6)
    assert_same(rows_of(found), {3: expected(big.CT.iloc[0][:], big.seg.iloc[0][:])[3]})


def test_memory_is_that_of_a_block_not_of_the_volume(study, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((128, 128, 128), "u1")
    labels[3:, 4:, 5:] = 1
    tiled = WriteConfig(tile=TileConfig(chunks=(32, 32, 32), shards=(64, 64, 64)))
    radi = study(
        {"CT": {"a": noise(labels.shape)}, "seg": {"a": labels}},
        write=tiled, labels=["seg"],
    )  # fmt: skip
    monkeypatch.setattr(label_statistics, "BLOCK_BYTES", 2**18)
    radi.CT.stats_by(radi.seg)
    tracemalloc.start()
    radi.CT.stats_by(radi.seg)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < radi.CT.iloc[0].to_numpy().nbytes  # 4 MB; all at once would take 6 and the arithmetic 12


def test_values_are_those_of_reads(make_nifti, tmp_path: Path) -> None:
    stored, labels = noise(dtype="i2"), regions()
    scaled = {"scl_slope": 0.5, "scl_inter": -3.25}
    for name, array, fields in (("PET", stored, scaled), ("seg", labels, {"scl_slope": 2.0})):
        (tmp_path / f"{name}.nii").write_bytes(make_nifti(array, fields=fields))
    radi = RadiObject.from_niftis(
        tmp_path / "study", {n: [(str(tmp_path / f"{n}.nii"), "a")] for n in ("PET", "seg")}
    )
    found = rows_of(radi.PET.stats_by(radi.seg, background=True))
    assert_same(found, expected(radi.PET.iloc[0].to_numpy(), labels))
    assert found[1][3] == stored[labels == 1].min() * 0.5 - 3.25


def test_negative_and_far_apart_labels(study) -> None:
    labels = regions(dtype="i4")
    labels[labels == 7] = -(10**9)
    labels[labels == 2] = 2 * 10**9
    radi = study({"CT": {"a": noise()}, "seg": {"a": labels}}, labels=["seg"])
    found = rows_of(radi.CT.stats_by(radi.seg))
    assert list(found) == [-(10**9), 1, 2 * 10**9]
    assert_same(found, {k: v for k, v in expected(noise(), labels).items() if k})


def test_voxels_that_are_not_finite_count_as_voxels_only(study) -> None:
    image, labels = noise(dtype="f4"), regions()
    image[labels == 2] = np.nan
    image[0, 0, :] = np.inf
    radi = study({"CT": {"a": image}, "seg": {"a": labels}}, labels=["seg"])
    found = radi.CT.stats_by(radi.seg, background=True).set_index("label")
    assert found.loc[2, "n_voxels"] == (labels == 2).sum()
    assert found.loc[2, ["mean", "std", "min", "max"]].isna().all()
    assert np.isfinite(found.loc[[0, 1, 7], ["mean", "std", "min", "max"]].to_numpy(float)).all()
    assert_same(rows_of(found.reset_index()), expected(image, labels))


def test_a_volume_without_labels_has_no_rows(study) -> None:
    empty = np.zeros(SHAPE, "u1")
    radi = study({"CT": {"a": noise(), "b": noise()}, "seg": {"a": empty, "b": regions()}}, labels=["seg"])
    assert set(radi.CT.stats_by(radi.seg)["obs_id"]) == {"b_CT"}
    assert radi.CT.stats_by(radi.seg, background=True)["label"].to_list()[0] == 0
    none = radi.CT.head(1).stats_by(radi.seg)
    assert len(none) == 0
    assert (none.dtypes == radi.CT.stats_by(radi.seg, background=True).dtypes).all()
    assert len(radi.CT.head(0).stats_by(radi.seg)) == 0


def test_partners_are_those_of_pairs(study) -> None:
    scans = {s: noise(seed=i) for i, s in enumerate("abc")}
    radi = study({"CT": scans, "seg": {"c": regions(), "a": regions(seed=9)}}, labels=["seg"])
    with pytest.raises(AlignmentError, match="b_CT"):
        radi.CT.stats_by(radi.seg)
    found = radi.CT.stats_by(radi.seg, missing="drop")
    assert found["obs_id"].unique().tolist() == ["a_CT", "c_CT"]
    assert_same(rows_of(found[:3]), {k: v for k, v in expected(scans["a"], regions(seed=9)).items() if k})
    assert radi.CT.loc[["c_CT"]].stats_by(radi.seg)["obs_id"].unique().tolist() == ["c_CT"]
    other = study({"seg": {s: regions() for s in "abc"}}, labels=["seg"])
    assert radi.CT.stats_by(other.seg)["obs_id"].nunique() == 3
    assert other.seg.stats_by(other.seg)["mean"].to_list() == [1, 2, 7] * 3
    twice = study({"seg": {"a": [regions(), regions()]}}, labels=["seg"])
    with pytest.raises(AlignmentError, match="several"):
        radi.CT.head(1).stats_by(twice.seg)


def shifted(mm: float) -> npt.NDArray[np.float64]:
    affine = np.eye(4)
    affine[0, 3] = mm
    return affine


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ((regions((20, 18, 13)), np.eye(4)), "20x18x14 and 20x18x13 voxels"),
        ((regions((39, 18, 14)), np.diag([0.5, 1, 1, 1])), "20x18x14 and 39x18x14 voxels"),  # equal corners
        ((regions(), shifted(0.01)), "corners 0.01 mm apart"),
        ((regions(), np.diag([1, 1, 1.1, 1])), "corners 1.3 mm apart"),
        ((regions()[::-1], np.diag([-1, 1, 1, 1])), "corners 38 mm apart"),
    ],
)
def test_two_grids_are_refused_before_a_voxel_is_read(study, other: Any, message: str) -> None:
    radi = study({"CT": {"a": noise(), "b": noise()}, "seg": {"a": regions(), "b": other}}, labels=["seg"])
    with measure() as m, pytest.raises(AlignmentError) as caught:
        radi.CT.stats_by(radi.seg)
    assert (m["bytes_used"], m["volumes_opened"]) == (0, 0)
    for word in ("'b_CT'", "'b_seg'", message, "resample(like=", "reorient("):
        assert word in str(caught.value)
    assert len(radi.CT.head(1).stats_by(radi.seg)) == 3


def test_rounding_of_an_affine_is_no_other_grid(study) -> None:
    radi = study({"CT": {"a": noise()}, "seg": {"a": (regions(), shifted(5e-4))}}, labels=["seg"])
    assert len(radi.CT.stats_by(radi.seg)) == 3


def test_volumes_in_other_units_of_length_are_millilitres_too(make_nifti, tmp_path: Path) -> None:
    small = np.diag([500.0, 500.0, 500.0, 1.0])  # micrometres; 3 is the NIfTI code
    large = np.diag([0.5, 0.5, 0.5, 1.0])
    for name, array, affine, unit in (("CT", noise(), large, 2), ("seg", regions(), small, 3)):
        (tmp_path / f"{name}.nii").write_bytes(make_nifti(array, affine=affine, fields={"xyzt_units": unit}))
    radi = RadiObject.from_niftis(
        tmp_path / "study", {n: [(str(tmp_path / f"{n}.nii"), "a")] for n in ("CT", "seg")}
    )
    found = radi.CT.stats_by(radi.seg)
    np.testing.assert_allclose(found["volume_ml"], found["n_voxels"] * 0.125 / 1000)


def test_what_cannot_be_measured_is_said(study) -> None:
    time = np.zeros((*SHAPE, 3), "i2")
    radi = study(
        {"CT": {"a": noise()}, "bold": {"a": time}, "seg": {"a": regions()}}, labels=["seg"], axis4="time"
    )
    with pytest.raises(AlignmentError, match="one of image volumes"):
        radi.CT.stats_by(radi.bold)
    with pytest.raises(SelectionError, match="a VolumeCollection of label volumes, got str"):
        radi.CT.stats_by("seg")
    with pytest.raises(SelectionError, match=r"'a_bold' in 'bold'.*3 along t.*slicer"):
        radi.bold.stats_by(radi.seg)
    with pytest.raises(ConfigError, match="executor="):
        radi.CT.stats_by(radi.seg, executor="gpu")
    with pytest.raises(ConfigError, match="missing="):
        radi.CT.stats_by(radi.seg, missing="ignore")


@pytest.mark.only("memory", "tensorstore", "tiledb", reason="every worker process takes a second to start")
@pytest.mark.gap(
    "memory", executor=["processes"], reason="other processes do not see it", raises=MissingObjectError
)
@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_executors_find_the_same_and_tell_how_far_they_are(study, executor: str) -> None:
    images = {s: noise(seed=i) for i, s in enumerate("abc")}
    radi = study({"CT": images, "seg": {s: regions() for s in "abc"}}, labels=["seg"])
    told: list[tuple[int, int]] = []
    found = radi.CT.stats_by(radi.seg, executor=executor, workers=2, progress=lambda *p: told.append(p))
    pd.testing.assert_frame_equal(found, radi.CT.stats_by(radi.seg))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.gap("memory", reason="no file to damage", raises=StopIteration)
def test_damaged_voxels_are_an_error(study, voxel_objects) -> None:
    radi = study({"CT": {"a": noise((40, 40, 40))}, "seg": {"a": regions((40, 40, 40))}}, labels=["seg"])
    file = Path(radi.uri, next(iter(voxel_objects(radi)["a_CT"])))
    file.write_bytes(bytes([b ^ 1 for b in file.read_bytes()[:5000]]) + file.read_bytes()[5000:])
    with pytest.raises(CorruptObjectError):
        radi.CT.stats_by(radi.seg)
