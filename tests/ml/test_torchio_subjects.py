"""Subjects of a study: their images, geometry, columns and labels, and TorchIO's transforms on them."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torchio as tio

from radiobject import RadiObject, measure
from radiobject.errors import ConfigError, IndexingError, TransformError, UnknownIdError
from radiobject.ml import InMemory, VolumeCollectionSubjectsDataset
from radiobject.ml.torchio import ForegroundSampler, label_map, scalar_image
from tests.conftest import as_sources
from tests.ml.ground import SHAPES, affine_of, coded, make_study, mask_of
from tests.servers.s3 import s3_server


def test_each_collection_becomes_an_image_of_its_kind(coded_study: RadiObject) -> None:
    dataset = VolumeCollectionSubjectsDataset(coded_study)
    assert isinstance(dataset, tio.SubjectsDataset)
    assert (len(dataset), dataset.collection_names) == (4, ["CT", "PET", "seg"])
    for number, (name, shape) in enumerate(SHAPES.items()):
        with measure() as cost:
            subject = dataset[number]
            subject.check_consistent_space()
            assert subject.spatial_shape == shape
        assert (cost["volumes_opened"], cost["bytes_used"]) == (0, 0)
        assert (type(subject.CT), type(subject.seg)) == (tio.ScalarImage, tio.LabelMap)
        assert np.allclose(subject.CT.affine, affine_of(number))
        assert np.array_equal(subject.CT.data[0], coded(shape).astype("f4"))
        assert np.array_equal(subject.seg.data[0], mask_of(shape))
        assert (subject.CT.data.dtype, subject.seg.data.dtype) == (torch.float32, torch.uint8)
        assert (subject.obs_id, subject.obs_subject_id) == (f"{name}_CT", name)


def test_keys_kinds_and_types_are_the_callers(coded_study: RadiObject) -> None:
    source = {"ct": coded_study.CT, "other": coded_study.PET}
    subject = VolumeCollectionSubjectsDataset(source, masks="other", dtype="native")[0]
    assert (type(subject["other"]), subject["other"].data.dtype) == (tio.LabelMap, torch.int32)
    assert subject["ct"].data.dtype == torch.int32
    dataset = VolumeCollectionSubjectsDataset(coded_study, modalities=["PET", "seg"])
    assert dataset.collection_names == ["PET", "seg"]
    with pytest.raises(UnknownIdError, match="masks="):
        VolumeCollectionSubjectsDataset(coded_study.CT, masks=["no"])
    with pytest.raises(ConfigError, match="collection"):
        VolumeCollectionSubjectsDataset(coded_study.seg)
    with pytest.raises(ConfigError, match="'label' of the subjects"):
        VolumeCollectionSubjectsDataset({"label": coded_study.CT}, labels="age")


@pytest.fixture
def patchy(tmp_path: Path) -> RadiObject:
    """Columns with something missing in each."""
    images = {"CT": {s: (coded(SHAPES[s]), np.eye(4)) for s in "abc"}}
    people = pd.DataFrame(
        {
            "obs_subject_id": list("abc"),
            "age": pd.array([40, None, 60], dtype="Int64"),
            "weight": [None, 70.5, 80.0],
            "ill": pd.array([None, True, False], dtype="boolean"),
            "site": ["x", None, "z"],
            "seen": pd.to_datetime(["2020-01-02", None, "2021-03-04"]),
            "number": [1, 2, 3],
        }
    )
    return RadiObject.from_niftis(tmp_path / "patchy", as_sources(images), people)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_columns_collate_whatever_is_missing_in_them(patchy: RadiObject, first: int) -> None:
    columns = ["age", "weight", "ill", "site", "seen", "number"]
    dataset = VolumeCollectionSubjectsDataset(patchy.CT, columns={**{c: c for c in columns}, "n": "number"})
    crop = tio.CropOrPad(4)
    order = [(first + n) % 3 for n in range(3)]
    patches = [crop(dataset[n]) for n in order]
    (batch,) = tio.SubjectsLoader(patches, batch_size=3)
    nan = math.nan
    for column, values in (("age", [40, nan, 60]), ("weight", [nan, 70.5, 80]), ("ill", [nan, 1, 0])):
        assert np.array_equal(batch[column], np.array(values)[order], equal_nan=True)
    assert batch["site"] == [["x", None, "z"][n] for n in order]
    assert [seen and seen[:10] for seen in batch["seen"]] == [
        ["2020-01-02", None, "2021-03-04"][n] for n in order
    ]
    assert (batch["number"].dtype, batch["n"].tolist()) == (torch.int64, [n + 1 for n in order])


def test_labels_come_from_anything_that_has_them(coded_study: RadiObject) -> None:
    for labels, wanted in (("age", 50), ("dx", "well"), ({"a": 1, "b": 2, "c": 3, "d": 4}, 2)):
        assert VolumeCollectionSubjectsDataset(coded_study.CT, labels)[1]["label"] == wanted
    arrays = VolumeCollectionSubjectsDataset(coded_study.CT, lambda obs_id: np.arange(3) + ord(obs_id[0]))
    assert arrays[1]["label"].tolist() == [98, 99, 100]


def test_dry_iteration_opens_nothing(coded_study: RadiObject) -> None:
    with measure() as cost:
        subjects = VolumeCollectionSubjectsDataset(coded_study.CT, transform=tio.ToCanonical()).dry_iter()
        assert [subject.obs_id for subject in subjects] == [f"{s}_CT" for s in SHAPES]
        assert [subject.obs_id for subject in subjects[1:3]] == ["b_CT", "c_CT"]
        assert (len(subjects), subjects[-1].spatial_shape) == (4, SHAPES["d"])
        assert not hasattr(subjects[0], "num_samples")
    assert (cost["volumes_opened"], cost["bytes_used"]) == (0, 0)


def test_whole_volumes_go_through_a_stock_loader_and_transform(
    tmp_path: Path, coded_study: RadiObject
) -> None:
    transform = tio.Compose([tio.ToCanonical(), tio.CropOrPad((6, 6, 6)), tio.ZNormalization()])
    dataset = VolumeCollectionSubjectsDataset([coded_study.CT, coded_study.seg], "age", transform)
    for workers in (0, 1):
        context = "forkserver" if workers else None
        loader = tio.SubjectsLoader(
            dataset, batch_size=4, num_workers=workers, multiprocessing_context=context
        )
        (batch,) = loader
        assert batch["CT"][tio.DATA].shape == batch["seg"][tio.DATA].shape == (4, 1, 6, 6, 6)
        assert set(batch["seg"][tio.DATA].unique().tolist()) <= {0, 1, 3}
        assert batch["label"].tolist() == [40, 50, 60, 70]
    plain = VolumeCollectionSubjectsDataset(coded_study.CT)
    (batch,) = tio.SubjectsLoader(plain, batch_size=1, sampler=[2])
    assert np.array_equal(batch["CT"][tio.DATA][0, 0], coded(SHAPES["c"]).astype("f4"))


def test_a_transform_reads_each_volume_once(coded_study: RadiObject) -> None:
    transform = tio.Compose([tio.RescaleIntensity(), tio.Flip(0), tio.Lambda(lambda x: x + 1)])
    dataset = VolumeCollectionSubjectsDataset([coded_study.CT, coded_study.seg], transform=transform)
    with measure() as cost:
        subject = dataset[0]
    assert cost["bytes_used"] == coded(SHAPES["a"]).nbytes + mask_of(SHAPES["a"]).nbytes
    assert (subject.CT.data.min(), subject.CT.data.max()) == (1, 2)
    assert dataset[0].CT.data.mean() == subject.CT.data.mean()


def test_a_failing_transform_is_named_with_its_volume(coded_study: RadiObject) -> None:
    dataset = VolumeCollectionSubjectsDataset(coded_study.CT, transform=tio.Lambda(lambda x: None))
    with pytest.raises(TransformError, match="b_CT") as caught:
        dataset[1]
    assert caught.value.obs_ids == ("b_CT",)
    for index in (4, -5):
        with pytest.raises(IndexingError):
            dataset[index]
    dataset.set_transform(None)
    assert dataset[torch.tensor(-1)].obs_id == "d_CT"


def test_grids_are_put_as_asked_and_only_where_a_patch_is(coded_study: RadiObject) -> None:
    both = [coded_study.CT, coded_study.seg]
    dataset = VolumeCollectionSubjectsDataset(both, spacing=2, axcodes="RAS", cache=InMemory())
    for number in range(4):
        subject = dataset[number]
        subject.check_consistent_space()
        assert subject.spacing == pytest.approx((2, 2, 2))
        (patch,) = tio.UniformSampler(3)(subject, num_patches=1)
        x, y, z = patch[tio.LOCATION][:3].tolist()
        assert torch.equal(patch.CT.data, subject.CT.data[:, x : x + 3, y : y + 3, z : z + 3])
    assert dataset[2].CT.orientation_str == "RAS"


def test_the_same_from_another_backend(tmp_path: Path, coded_study: RadiObject) -> None:
    other = make_study(tmp_path, backend="tiledb")
    found, wanted = (VolumeCollectionSubjectsDataset([s.CT, s.seg])[2] for s in (other, coded_study))
    for key in ("CT", "seg"):
        assert torch.equal(found[key].data.clone(), wanted[key].data.clone())
        assert np.array_equal(found[key].affine, wanted[key].affine)


def test_subjects_of_a_study_on_s3_read_patches_wherever_they_were_sent(
    coded_study: RadiObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are not sent along: they are the environment's."""
    with s3_server("torchio") as options:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["key"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret"])
        options = {k: v for k, v in options.items() if k not in ("key", "secret")}
        coded_study.loc[["c"]].write("s3://torchio/study", storage_options=options)
        radi = RadiObject("s3://torchio/study", storage_options=options)
        subject = pickle.loads(pickle.dumps(VolumeCollectionSubjectsDataset([radi.CT, radi.seg])[0]))
        with measure() as cost:
            (patch,) = ForegroundSampler(4, "seg", [3])(subject, num_patches=1)
        x, y, z = patch[tio.LOCATION][:3].tolist()
        assert np.array_equal(patch.CT.data[0], coded(SHAPES["c"])[x : x + 4, y : y + 4, z : z + 4])
        assert (3 in patch.seg.data, cost["bytes_used"]) == (True, 4**3 * (4 + 1))


def test_without_torchio_the_error_has_the_pip_line() -> None:
    code = """
import sys
sys.modules["torchio"] = None
try:
    from radiobject.ml import VolumeCollectionSubjectsDataset
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "radiobject-zarr[torchio]"' in done.stdout


def test_an_image_of_one_volume_needs_no_study(coded_study: RadiObject) -> None:
    ct, seg = coded_study.CT.iloc[3], coded_study.seg.iloc[3]
    subject: Any = tio.Subject(ct=scalar_image([ct, ct]), seg=label_map(seg))
    with measure() as cost:
        patch = tio.Crop((1, 2, 3, 4, 5, 6))(subject)
    assert patch.ct.shape == (2, 9, 5, 1)
    assert cost["bytes_used"] == 9 * 5 * (4 + 4 + 1)
    assert np.allclose(patch.seg.affine @ [0, 0, 0, 1], affine_of(3) @ [1, 3, 5, 1])
    assert scalar_image(ct, dtype=None).data.dtype == torch.int32
