"""Cohort: partners, grids and types are settled from tables, before a voxel is read."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject, measure
from radiobject.errors import AlignmentError, CapabilityError, ConfigError, UnknownIdError
from radiobject.ml.cohort import Cohort
from radiobject.ml.plan import PatchPlan, Request
from radiobject.ml.reading import read_sample
from radiobject.ml.spec import SampleSpec
from tests.ml.ground import SHAPES, coded, mask_of

StudyMaker = Callable[..., RadiObject]
WHOLE = Request(0, 0, (0, 0, 0), 0)


def pair(image: Any, mask: Any) -> dict[str, dict[str, Any]]:
    return {"CT": {"a": image}, "seg": {"a": mask}}


def test_samples_are_settled_without_reading_a_voxel(coded_study: RadiObject) -> None:
    with measure() as cost:
        cohort = Cohort.of(SampleSpec(["CT", "PET"], "seg", ["age", "dx"], patch_size=4), coded_study)
    assert (cost["chunks_decoded"], cost["volumes_opened"]) == (0, 0)
    assert cohort.obs_ids == ["a_CT", "b_CT", "c_CT", "d_CT"]
    assert cohort.shapes.tolist() == [list(shape) for shape in SHAPES.values()]
    assert cohort.targets["dx"].tolist() == ["ill", "well", "ill", "well"]
    assert (cohort.channels("image"), cohort.channels("label")) == (2, 1)
    voxels = sum(int(np.prod(shape)) for shape in SHAPES.values())
    assert cohort.volume_bytes == voxels * (4 + 4 + 1)


def test_partners_missing_are_an_error_or_left_out(coded_study: RadiObject) -> None:
    masks = coded_study.loc[["b", "d"]].seg
    spec = SampleSpec("CT", "seg", patch_size=4)
    with pytest.raises(AlignmentError, match="a_CT"):
        Cohort.of(spec, [coded_study.CT, masks])
    dropping = SampleSpec("CT", "seg", patch_size=4, missing="drop")
    assert Cohort.of(dropping, [coded_study.CT, masks]).obs_ids == ["b_CT", "d_CT"]
    with pytest.raises(AlignmentError, match="at least one"):
        Cohort.of(dropping, [coded_study.loc[["a"]].CT, masks])


def test_masks_on_another_grid_are_an_error_or_brought_onto_the_images(study: StudyMaker) -> None:
    shape = (8, 9, 10)
    fine = np.repeat(np.repeat(np.repeat(mask_of(shape), 2, 0), 2, 1), 2, 2)
    finer = np.diag([0.5, 0.5, 0.5, 1.0])
    finer[:3, 3] = -0.25
    radi = study(pair((coded(shape), np.eye(4)), (fine, finer)), labels=["seg"])
    with measure() as cost, pytest.raises(AlignmentError, match=r'a_CT and a_seg.*grid="first"'):
        Cohort.of(SampleSpec("CT", "seg"), radi)
    assert cost["volumes_opened"] == 0
    for options in ({"grid": "first"}, {"spacing": 1.0}):
        label = read_sample(Cohort.of(SampleSpec("CT", "seg", **options), radi), WHOLE)["label"]
        assert label.dtype == np.uint8
        assert np.array_equal(label[0], mask_of(shape))


def test_a_mask_in_a_collection_of_images_stays_a_mask(study: StudyMaker) -> None:
    shape = (8, 9, 10)
    shifted = np.eye(4)
    shifted[:3, 3] = 0.4
    radi = study({"CT": {"a": (coded(shape), np.eye(4))}, "PET": {"a": (mask_of(shape), shifted)}})
    assert radi.PET.kind == "image"
    label = read_sample(Cohort.of(SampleSpec("CT", "PET", grid="first"), radi), WHOLE)["label"]
    assert set(np.unique(label).tolist()) <= {0, 1, 3}
    assert label.dtype == np.uint8


def test_volumes_stored_the_other_way_round_are_on_one_grid_once_turned(study: StudyMaker) -> None:
    shape = (8, 9, 10)
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[0, 3] = 7
    radi = study(pair((coded(shape), np.eye(4)), (mask_of(shape)[::-1], flipped)), labels=["seg"])
    with pytest.raises(AlignmentError):
        Cohort.of(SampleSpec("CT", "seg"), radi)
    sample = read_sample(Cohort.of(SampleSpec("CT", "seg", axcodes="RAS"), radi), WHOLE)
    assert np.array_equal(sample["label"][0], mask_of(shape))
    assert np.array_equal(sample["image"][0], coded(shape))


@pytest.mark.parametrize("dtype", ["u2", "u4", "i2", "u1"])
def test_masks_have_a_type_that_tensors_take(study: StudyMaker, dtype: str) -> None:
    mask = np.full((4, 4, 4), 200, dtype=dtype)
    cohort = Cohort.of(SampleSpec("CT", "seg"), study(pair(coded((4, 4, 4)), mask)))
    expected = {"u2": "i4", "u4": "i8"}.get(dtype, dtype)
    assert read_sample(cohort, WHOLE)["label"].dtype == np.dtype(expected)


def test_time_points_are_channels_as_many_in_every_volume(study: StudyMaker) -> None:
    frames = np.stack([coded((5, 6, 7)), coded((5, 6, 7)) + 1], axis=-1)
    radi = study({"CT": {"a": frames, "b": frames}}, axis4="time")
    cohort = Cohort.of(SampleSpec("CT", patch_size=3, dtype="native"), radi)
    sample = read_sample(cohort, Request(0, 0, (1, 2, 3), 0))
    assert np.array_equal(sample["image"], np.moveaxis(frames[1:4, 2:5, 3:6], -1, 0))
    longer = np.concatenate([frames, frames], axis=-1)
    with pytest.raises(AlignmentError, match=r"2 frames.*4 in b_CT"):
        Cohort.of(SampleSpec("CT"), study({"CT": {"a": frames, "b": longer}}, axis4="time"))


def test_scaled_values_come_scaled(study: StudyMaker, make_nifti: Any, tmp_path: Any) -> None:
    stored = np.arange(60, dtype="i2").reshape(3, 4, 5)
    path = tmp_path / "scan.nii"
    path.write_bytes(make_nifti(stored, fields={"scl_slope": 0.5, "scl_inter": -7.0}))
    radi = RadiObject.from_niftis(tmp_path / "scaled", {"CT": [(str(path), "a")]})
    for dtype in ("float32", "native"):
        image = read_sample(Cohort.of(SampleSpec("CT", dtype=dtype), radi), WHOLE)["image"]
        assert np.array_equal(image[0], stored * 0.5 - 7)


def test_a_cohort_pickles_without_what_it_has_opened(coded_study: RadiObject) -> None:
    cohort = Cohort.of(SampleSpec("CT", "seg", ["age"], patch_size=4), coded_study)
    before = read_sample(cohort, WHOLE)
    again = pickle.loads(pickle.dumps(cohort))
    assert len(pickle.dumps(cohort)) < 20_000
    assert np.array_equal(read_sample(again, WHOLE)["image"], before["image"])
    assert again.digest == cohort.digest


def test_digests_tell_versions_and_specs_apart(study: StudyMaker) -> None:
    radi = study()
    spec = SampleSpec("T1w", patch_size=2)
    first = PatchPlan(spec, radi).digest
    assert first == PatchPlan(spec, radi).digest
    assert first != PatchPlan(SampleSpec("T1w", patch_size=3), radi).digest
    assert first != PatchPlan(spec, radi.loc[["sub-01"]]).digest
    radi.obs_meta.add_column("age", values=[3, 1, 2])
    assert first != PatchPlan(spec, radi).digest


def test_sources_that_are_none_are_refused(coded_study: RadiObject) -> None:
    spec = SampleSpec("CT", patch_size=4)
    for source in (3, coded_study.CT.lazy()):
        with pytest.raises(ConfigError, match="source"):
            Cohort.of(spec, source)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="different names"):
        Cohort.of(spec, [coded_study.CT, coded_study.CT])
    with pytest.raises(UnknownIdError):
        Cohort.of(SampleSpec("MR"), coded_study)
    with pytest.raises(UnknownIdError, match="MR"):
        Cohort.of(SampleSpec("MR"), [coded_study.CT])
    with pytest.raises(UnknownIdError, match=r"'height'.* CT.obs .* obs_meta, whose columns are .*age"):
        Cohort.of(SampleSpec("CT", targets="height"), coded_study)


def test_names_of_a_mapping_are_the_callers(coded_study: RadiObject) -> None:
    named = {"scan": coded_study.CT, "truth": coded_study.seg}
    cohort = Cohort.of(SampleSpec("scan", "truth", patch_size=4), named)
    assert np.array_equal(read_sample(cohort, WHOLE)["image"][0], coded((13, 11, 9))[:4, :4, :4])


def test_a_value_that_no_signed_type_holds_is_refused(study: StudyMaker) -> None:
    mask = np.zeros((4, 5, 6), "u8")
    mask[1, 2, 3] = 2**63
    radi = study(pair((coded((4, 5, 6)), np.eye(4)), (mask, np.eye(4))), labels=["seg"])
    cohort = Cohort.of(SampleSpec("CT", "seg"), radi)
    with pytest.raises(CapabilityError, match=f"at most {2**63 - 1}"):
        read_sample(cohort, WHOLE)
    mask[1, 2, 3] = 2**63 - 1
    radi = study(pair((coded((4, 5, 6)), np.eye(4)), (mask, np.eye(4))), labels=["seg"])
    found = read_sample(Cohort.of(SampleSpec("CT", "seg"), radi), WHOLE)["label"]
    assert (found[0].astype("u8") == mask).all()
