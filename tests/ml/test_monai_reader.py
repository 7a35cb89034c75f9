"""References: an existing MONAI script reads a study by changing its reader."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from monai.data import CacheDataset, PersistentDataset
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, LoadImaged, Orientationd

from radiobject import RadiObject, measure
from radiobject.errors import AlignmentError, ConfigError, UnknownIdError
from radiobject.ml.monai import RadiReader, references
from tests.ml.ground import SHAPES, affine_of, coded, mask_of
from tests.servers.s3 import s3_server

# MONAI 1.6 says so of each LoadImage where NVIDIA's decoder is not installed
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")

WORLD = (("L", "R"), ("P", "A"), ("I", "S"))


def loader(*keys: str, **options: Any) -> Compose:
    load = LoadImaged(keys, reader=RadiReader(), **{"expanduser": False, **options})
    return Compose([load, EnsureChannelFirstd(keys)])


def test_references_are_plain_and_name_the_version(coded_study: RadiObject) -> None:
    found = references(coded_study.filter("age > 45"), "CT", "seg", targets={"years": "age"})
    uri = coded_study.uri
    assert found[0] == {
        "image": f"{uri}@1#CT/b_CT", "label": f"{uri}@1#seg/b_seg", "years": 50,
        "obs_id": "b_CT", "obs_subject_id": "b",
    }  # fmt: skip
    assert [item["obs_id"] for item in found] == ["b_CT", "c_CT", "d_CT"]
    several = references(coded_study, ["CT", "PET"])[0]["image"]
    assert several == [f"{uri}@1#CT/a_CT", f"{uri}@1#PET/a_PET"]


def test_loading_gives_what_a_nifti_of_it_gives(coded_study: RadiObject, tmp_path: Path) -> None:
    item = references(coded_study, "CT")[1]
    coded_study.CT.iloc[1].to_nifti(tmp_path / "b.nii.gz")
    theirs = LoadImage()(tmp_path / "b.nii.gz")
    ours = LoadImage(reader=RadiReader(), expanduser=False)(item["image"])
    assert np.array_equal(ours, theirs)
    assert np.allclose(ours.affine, theirs.affine)
    assert ours.meta["filename_or_obj"] == item["image"]
    assert ours.meta["spatial_shape"].tolist() == list(SHAPES["b"])
    assert (ours.meta["space"], ours.meta["obs_subject_id"]) == ("RAS", "b")
    # what follows in a script sees no difference either
    turn = Orientationd("image", "PIL", labels=WORLD)
    both = [turn({"image": image[None]})["image"] for image in (ours, theirs)]
    assert np.array_equal(*both)
    assert np.allclose(both[0].affine, both[1].affine)


def test_several_collections_are_stacked_as_channels(coded_study: RadiObject) -> None:
    sample = loader("image", "label")(references(coded_study, ["CT", "PET"], "seg")[2])
    assert np.array_equal(sample["image"][0], coded(SHAPES["c"]))
    assert np.array_equal(sample["image"][1], -coded(SHAPES["c"]))
    assert np.array_equal(sample["label"][0], mask_of(SHAPES["c"]))


def test_frames_become_channels(tmp_path: Path) -> None:
    frames = np.arange(4 * 5 * 6 * 3, dtype="i2").reshape(4, 5, 6, 3)
    image = nibabel.Nifti1Image(frames, np.diag([2.0, 2, 2, 1]))
    image.header.set_xyzt_units("mm", "sec")
    radi = RadiObject.from_niftis(tmp_path / "study", {"bold": [(image, "a")]})
    for each in references(radi, "bold"), references(radi, ["bold", "bold"]):
        found = loader("image")(each[0])["image"]
        assert np.array_equal(found[:3], np.moveaxis(frames, -1, 0))
    assert found.shape == (6, 4, 5, 6)


def test_monais_datasets_cache_them(coded_study: RadiObject, tmp_path: Path) -> None:
    items = references(coded_study, "CT", "seg")
    transform = loader("image", "label")
    cached = CacheDataset(items, transform, progress=False)
    for kept in range(2):
        persistent = PersistentDataset(items, transform, tmp_path / "cache")
        with measure() as cost:
            for number, subject in enumerate(SHAPES):
                for dataset in (cached, persistent):
                    assert np.array_equal(dataset[number]["image"][0], coded(SHAPES[subject]))
        assert (cost["chunks_decoded"] == 0) == bool(kept)


def test_urls_survive_a_path(coded_study: RadiObject) -> None:
    radi = coded_study.loc[["a"]].write("memory://radi-reader/study")
    item = references(radi, "CT")[0]
    assert item["image"].startswith("memory://")
    for options in ({}, {"expanduser": True}):
        assert np.array_equal(loader("image", **options)(item)["image"][0], coded(SHAPES["a"]))
    assert RadiReader().verify_suffix(["s3:/bucket/study@3#CT/a_CT"])
    assert not RadiReader().verify_suffix(["scan.nii.gz"])


@pytest.mark.parametrize("expanduser", [False, True])
def test_studies_on_s3_are_read(coded_study: RadiObject, expanduser: bool) -> None:
    with s3_server("reader") as options:
        radi = coded_study.loc[["c"]].write("s3://reader/study", storage_options=options)
        load = LoadImage(reader=RadiReader(options), expanduser=expanduser)
        assert np.array_equal(load(references(radi, "CT")[0]["image"]), coded(SHAPES["c"]))


def test_monai_picks_the_reader_by_itself(coded_study: RadiObject, tmp_path: Path) -> None:
    item = references(coded_study, "CT")[0]
    coded_study.CT.iloc[1].to_nifti(tmp_path / "b#x.nii.gz")
    load = LoadImage()
    assert np.array_equal(load(item["image"]), coded(SHAPES["a"]))
    assert np.array_equal(load(tmp_path / "b#x.nii.gz"), coded(SHAPES["b"]))
    assert np.array_equal(LoadImage(reader="RadiReader")(item["image"]), coded(SHAPES["a"]))


def test_ids_of_any_characters_are_found(tmp_path: Path) -> None:
    sources = [(coded(SHAPES["a"]), affine_of(0)), "a/b #1"]
    radi = RadiObject.from_niftis(tmp_path / "one#study", {"T1 w/#x": [tuple(sources)]})
    item = references(radi, "T1 w/#x")[0]
    assert item["image"].count("#") == 2  # one of the place, and the one of the reference
    assert np.array_equal(loader("image")(item)["image"][0], coded(SHAPES["a"]))


def test_a_volume_is_read_by_its_url(coded_study: RadiObject) -> None:
    image = LoadImage(reader=RadiReader(), expanduser=False)(coded_study.PET.iloc[0].uri)
    assert np.array_equal(image, -coded(SHAPES["a"]))


def test_a_reader_pickles_without_what_it_has_opened(coded_study: RadiObject) -> None:
    reader, item = RadiReader(), references(coded_study, "CT")[0]["image"]
    before = len(pickle.dumps(reader))
    reader.get_data(reader.read(item))
    with measure() as cost:
        assert reader.read(item)[0].obs_id == "a_CT"
    assert cost["requests"] == 0
    assert len(pickle.dumps(reader)) == before
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).read(item)[0].to_numpy(), coded(SHAPES["a"]))


def test_what_cannot_be_read_is_named(coded_study: RadiObject) -> None:
    reader = RadiReader()
    for name, error, what in (
        (f"{coded_study.uri}@1#CT/nobody", UnknownIdError, "nobody"),
        (f"{coded_study.uri}@1#MR/a_MR", UnknownIdError, "MR"),
        (f"{coded_study.uri}@1#CT", ConfigError, "<collection>/<obs_id>"),
    ):
        with pytest.raises(error, match=what):
            reader.read(name)
    with pytest.raises(AlignmentError, match=r"b_CT.*beside 'a_CT'"):
        reader.get_data(reader.read([f"{coded_study.uri}@1#CT/{i}_CT" for i in "ab"]))
    for option in ({"spacing": 2}, {"pad": -1000}, {"dtype": "native"}):
        with pytest.raises(ConfigError, match="as they are stored"):
            references(coded_study, "CT", **option)
