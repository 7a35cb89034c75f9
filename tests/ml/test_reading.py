"""Patches hold the voxels of their place, whichever grid the volume lies on and however much of it fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject import RadiObject, measure
from radiobject.errors import ConfigError
from radiobject.geometry.affine import Affine
from radiobject.ml.batches import Collate
from radiobject.ml.caching import InMemory
from radiobject.ml.cohort import Cohort
from radiobject.ml.plan import PatchPlan, Request
from radiobject.ml.reading import read_sample
from radiobject.ml.spec import SampleSpec
from tests.ml.ground import decoded

GRIDS: list[dict[str, Any]] = [
    {},
    {"axcodes": "LPS"},
    {"axcodes": "SAR"},
    {"spacing": 1.25},
    {"spacing": (3.0, 1.0, 2.0), "axcodes": "PIR"},
]


@pytest.fixture(scope="module")
def cohorts(coded_study: RadiObject) -> list[Cohort]:
    return [Cohort.of(SampleSpec("CT", "seg", patch_size=(6, 5, 4), pad=-7, **g), coded_study) for g in GRIDS]


@settings(max_examples=150, deadline=None)
@given(
    grid=st.integers(0, len(GRIDS) - 1), sample=st.integers(0, 3),
    start=st.tuples(*[st.integers(-8, 22)] * 3), number=st.just(0),
)  # fmt: skip
def test_a_patch_is_what_the_volume_on_that_grid_has_there(
    cohorts: list[Cohort], grid: int, sample: int, start: tuple[int, int, int], number: int
) -> None:
    cohort, options = cohorts[grid], GRIDS[grid]
    found = read_sample(cohort, Request(number, sample, start, 0))
    for stream, (key, pad) in enumerate((("image", -7), ("label", 0))):
        volume = cohort.studies[stream].volume(
            cohort.streams[stream].collection, int(cohort.positions[sample, stream])
        )
        if "axcodes" in options:
            volume = volume.reorient(options["axcodes"])
        if "spacing" in options:
            like = (tuple(cohort.shapes[sample]), Affine(cohort.affines[sample]))
            volume = volume.resample(like=like, fill=pad)
        whole = np.pad(volume.to_numpy().astype("f4"), 30, constant_values=pad)
        place = tuple(slice(a + 30, a + 30 + n) for a, n in zip(start, (6, 5, 4), strict=True))
        assert np.array_equal(found[key][0], whole[place])


@pytest.mark.parametrize("axcodes", [None, "RAS", "ILP"])
def test_the_affine_of_a_patch_says_where_its_voxels_lie(
    coded_study: RadiObject, axcodes: str | None
) -> None:
    plan = PatchPlan(SampleSpec("CT", patch_size=(4, 5, 3), axcodes=axcodes, dtype="native"), coded_study)
    for request in plan:
        sample = read_sample(plan.cohort, request)
        stored = coded_study.CT.loc[sample["obs_id"]].affine
        index = np.moveaxis(np.indices((4, 5, 3)), 0, -1)
        here = index @ sample["affine"][:3, :3].T + sample["affine"][:3, 3]
        there = decoded(sample["image"][0]) @ stored[:3, :3].T + stored[:3, 3]
        assert np.allclose(here, there, atol=1e-9)


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RadiObject]:
    """A study of one volume 13 x 11 x 9 in each type."""
    studies = {}
    for dtype in ("u1", "i2", "f4"):
        voxels = np.random.default_rng(0).integers(1, 99, (13, 11, 9)).astype(dtype)
        place = tmp_path_factory.mktemp(dtype) / "study"
        studies[dtype] = RadiObject.from_niftis(place, {"CT": [((voxels, np.eye(4)), "a")]}, progress=False)
    return studies


@settings(max_examples=100, deadline=None)
@given(
    dtype=st.sampled_from(["u1", "i2", "f4"]), start=st.tuples(*[st.integers(-8, 14)] * 3),
    size=st.tuples(*[st.integers(1, 14)] * 3), cached=st.booleans(),
)  # fmt: skip
def test_a_patch_in_its_stored_type_is_copied_bit_by_bit(
    typed: dict[str, RadiObject],
    dtype: str,
    start: tuple[int, int, int],
    size: tuple[int, int, int],
    cached: bool,
) -> None:
    cohort = Cohort.of(SampleSpec("CT", patch_size=size, dtype="native"), typed[dtype])
    found = read_sample(cohort.with_cache(InMemory()) if cached else cohort, Request(0, 0, start, 0))["image"]
    place = tuple(slice(a + 20, a + 20 + n) for a, n in zip(start, size, strict=True))
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found[0], np.pad(typed[dtype].CT.iloc[0].to_numpy(), 20)[place])


def test_one_patch_is_one_read_of_what_lies_in_the_volume(coded_study: RadiObject) -> None:
    cohort = Cohort.of(SampleSpec("CT", patch_size=8), coded_study)
    with measure() as cost:
        read_sample(cohort, Request(0, 0, (9, 9, 5), 0))
    assert cost["bytes_used"] == 4 * 2 * 4 * 4  # of 13 x 11 x 9 int32
    with measure() as cost:
        beyond = read_sample(cohort, Request(0, 0, (50, 0, 0), 0))
    assert cost["chunks_decoded"] == 0
    assert not beyond["image"].any()


def test_collections_become_channels_and_keys(coded_study: RadiObject) -> None:
    spec = SampleSpec({"image": ["CT", "PET"], "prior": "PET"}, "seg", ["age"], patch_size=5)
    sample = read_sample(Cohort.of(spec, coded_study), Request(0, 1, (1, 2, 3), 5))
    assert [sample[k].shape for k in ("image", "prior", "label")] == [
        (2, 5, 5, 5),
        (1, 5, 5, 5),
        (1, 5, 5, 5),
    ]
    assert np.array_equal(sample["image"][0], -sample["image"][1])
    assert np.array_equal(sample["image"][1:], sample["prior"])
    assert (sample["age"], sample["obs_id"], sample["seed"]) == (50, "b_CT", 5)


def test_voxels_keep_the_memory_order_of_the_disk(coded_study: RadiObject) -> None:
    spec = SampleSpec("CT", "seg", patch_size=4)
    sample = read_sample(Cohort.of(spec, coded_study), Request(0, 0, (1, 1, 1), 0))
    assert sample["image"][0].T.flags.c_contiguous
    assert sample["label"].dtype == np.uint8


def test_slices_lie_across_the_body_whatever_the_array_axes(coded_study: RadiObject) -> None:
    plan = PatchPlan(SampleSpec("CT", plane="coronal"), coded_study, shuffle=False)
    cohort = plan.cohort
    requests = list(plan)
    assert len(requests) == sum(
        n[c] for n, c in zip(cohort.shapes.tolist(), cohort.cuts.tolist(), strict=True)
    )
    for request in requests:
        sample = read_sample(cohort, request)
        volume = coded_study.CT.loc[sample["obs_id"]]
        index = request.start[int(cohort.cuts[request.sample])]
        assert np.array_equal(sample["image"][0], volume.coronal(index))


def test_padding_that_a_type_does_not_hold_is_refused(coded_study: RadiObject) -> None:
    with pytest.raises(ConfigError, match=r"pad.*int32"):
        read_sample(
            Cohort.of(SampleSpec("CT", patch_size=4, pad=0.5, dtype="native"), coded_study),
            Request(0, 0, (0, 0, 0), 0),
        )


def test_whole_volumes_of_a_batch_are_padded_at_their_ends(coded_study: RadiObject) -> None:
    import torch

    spec = SampleSpec("CT", "seg", pad=-1)
    cohort = Cohort.of(spec, coded_study)
    samples = []
    for n in range(4):
        sample = read_sample(cohort, Request(n, n, (0, 0, 0), 0))
        samples.append({**sample, **{k: torch.from_numpy(sample[k]) for k in ("image", "label")}})
    batch = Collate(spec)(samples)
    assert batch["image"].shape == (4, 1, 13, 14, 12)
    assert batch["shape"].tolist() == cohort.shapes.tolist()
    for n, (x, y, z) in enumerate(cohort.shapes.tolist()):
        assert torch.equal(batch["image"][n, :, :x, :y, :z], samples[n]["image"])
        assert (batch["image"][n, :, x:] == -1).all()
        assert not batch["label"][n, :, :, y:].any()
    assert batch["obs_id"] == ["a_CT", "b_CT", "c_CT", "d_CT"]
    assert (batch["affine"].shape, batch["start"].dtype) == ((4, 4, 4), torch.int64)
