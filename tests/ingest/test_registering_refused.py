"""Sources that could not be read where they lie, or would say too much, are refused before anything is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import ConfigError, IngestError
from radiobject.ingest.source_root import SourceRoot
from radiobject.location import Location
from tests.conftest import NiftiMaker

from .dicom_series import save, slices

RAMP = np.arange(6 * 5 * 4, dtype="i2").reshape(6, 5, 4)
Door = Callable[..., RadiObject]


def niftis(root: Path, images: Any, **options: Any) -> RadiObject:
    return RadiObject.from_niftis(root / "study", {"MR": images}, copy=False, progress=False, **options)


def dicoms(root: Path, images: Any, **options: Any) -> RadiObject:
    return RadiObject.from_dicoms(
        root / "study", images, copy=False, deidentify=False, progress=False, **options
    )


@pytest.fixture
def outside(tmp_path: Path, make_nifti: NiftiMaker) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "sub-01_MR.nii").write_bytes(make_nifti(RAMP))
    (tmp_path / "root").mkdir()
    return tmp_path / "outside"


# -- URLs that say more than a place


@pytest.mark.parametrize("more", ["?sig=SECRET", "#SECRET", "?a=b#SECRET"])
def test_queries_and_fragments_never_enter_a_study(tmp_path: Path, make_nifti: NiftiMaker, more: str) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe({f"/signed/a.nii{more}": make_nifti(RAMP)})
    with pytest.raises(ConfigError, match="storage_options=") as caught:
        niftis(tmp_path, [(f"memory://signed/a.nii{more}", "a")], source_root="memory://signed")
    assert "SECRET" not in str(caught.value)
    assert not (tmp_path / "study").exists()


def test_users_are_refused_and_containers_of_azure_are_not() -> None:
    root = SourceRoot(Location("https://SECRET@host/archive"))
    with pytest.raises(ConfigError, match=r"https://host/archive/a\.nii") as caught:
        root.relative("https://SECRET@host/archive/a.nii")
    assert "SECRET" not in str(caught.value)
    root = SourceRoot(Location("abfs://box@account.example.org/archive"))
    assert root.relative("abfs://box@account.example.org/archive/a@b.nii") == "a@b.nii"


# -- numbers that would be rounded


@pytest.mark.parametrize("kind", ["i8", "u8"])
def test_scaled_integers_that_float64_would_round_are_refused(
    tmp_path: Path, make_nifti: NiftiMaker, kind: str
) -> None:
    exact = np.full((3, 4, 5), 2**60 + 12345, kind)
    path = tmp_path / "a.nii"
    path.write_bytes(make_nifti(exact, fields={"scl_slope": 1, "scl_inter": -1024}))
    with pytest.raises(IngestError, match=f"{np.dtype(kind)}, slope 1, intercept -1024.*copy=True"):
        niftis(tmp_path, [path])
    ingested = RadiObject.from_niftis(tmp_path / "ingested", {"MR": [path]}, progress=False)
    assert int(ingested.MR.iloc[0].to_numpy()[0, 0, 0]) == 2**60 + 12345 - 1024


@pytest.mark.parametrize(
    ("kind", "slope", "inter", "dtype"),
    [("i8", 1, 0, "i8"), ("i8", 0.5, 0, "f8"), ("i4", 3, -1024, "i8"), ("f8", 2, 1, "f8")],
)
def test_numbers_that_are_read_as_an_ingest_reads_them_are_not(
    tmp_path: Path, make_nifti: NiftiMaker, kind: str, slope: float, inter: float, dtype: str
) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(make_nifti(RAMP.astype(kind), fields={"scl_slope": slope, "scl_inter": inter}))
    here = niftis(tmp_path, [path]).MR.iloc[0]
    there = RadiObject.from_niftis(tmp_path / "ingested", {"MR": [path]}, progress=False).MR.iloc[0]
    assert here.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(here.to_numpy(), there.to_numpy())


def test_a_label_map_is_read_as_it_is_stored(tmp_path: Path, make_nifti: NiftiMaker) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(make_nifti(RAMP.astype("i8"), fields={"scl_slope": 2, "scl_inter": 0}))
    radi = RadiObject.from_niftis(tmp_path / "study", {"seg": [path]}, copy=False, progress=False)
    np.testing.assert_array_equal(radi.seg.iloc[0].to_numpy(), RAMP)


# -- links out of the root


def test_a_link_out_of_the_root_is_not_registered(outside: Path, tmp_path: Path) -> None:
    link = tmp_path / "root" / "sub-01_MR.nii"
    link.symlink_to(outside / "sub-01_MR.nii")
    with pytest.raises(ConfigError, match=f"links lead to {outside}.*such as '{tmp_path}'"):
        niftis(tmp_path / "root", [link])
    assert not (tmp_path / "root" / "study").exists()
    radi = niftis(tmp_path / "root", [link], source_root=tmp_path)
    np.testing.assert_array_equal(radi.MR.iloc[0].to_numpy(), RAMP)


def test_a_folder_that_is_a_link_out_of_the_root_is_not_registered(outside: Path, tmp_path: Path) -> None:
    (tmp_path / "root" / "in").symlink_to(outside)
    with pytest.raises(ConfigError, match=f"such as '{tmp_path}'"):
        niftis(tmp_path / "root", str(tmp_path / "root" / "in"))


def test_voxels_of_a_pair_behind_a_link_are_not_registered(outside: Path, tmp_path: Path) -> None:
    data = (outside / "sub-01_MR.nii").read_bytes()
    header = bytearray(data[:348])
    header[108:112], header[344:348] = bytes(4), b"ni1\0"
    (tmp_path / "root" / "a.hdr").write_bytes(header)
    (outside / "a.img").write_bytes(data[352:])
    (tmp_path / "root" / "a.img").symlink_to(outside / "a.img")
    with pytest.raises(IngestError, match=f"links lead to {outside}"):
        niftis(tmp_path / "root", [tmp_path / "root" / "a.hdr"])


@pytest.mark.parametrize("what", ["a file", "the folder"])
def test_slices_behind_links_out_of_the_root_are_not_registered(tmp_path: Path, what: str) -> None:
    real, folder = save(tmp_path / "outside", slices()), tmp_path / "root" / "in"
    if what == "a file":
        save(folder, slices())
        (folder / "3.dcm").unlink()
        (folder / "3.dcm").symlink_to(real / "3.dcm")
    else:
        (tmp_path / "root").mkdir()
        folder.symlink_to(real)
    with pytest.raises(ConfigError, match=f"links lead to {real}.*such as '{tmp_path}'"):
        dicoms(tmp_path / "root", folder)
    radi = dicoms(tmp_path / "root", folder, source_root=tmp_path)
    assert radi.MR.iloc[0].to_numpy().any()


def test_links_below_the_root_are_followed_for_slices_too(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", slices())
    (tmp_path / ".annex").mkdir()
    for path in folder.iterdir():
        path.rename(tmp_path / ".annex" / path.name)
        path.symlink_to(tmp_path / ".annex" / path.name)
    assert dicoms(tmp_path, folder).MR.iloc[0].to_numpy().any()


# -- names that a study cannot hold


def test_a_backslash_is_told_and_can_be_copied(tmp_path: Path, make_nifti: NiftiMaker) -> None:
    source = tmp_path / "sub-01\\a_MR.nii"
    source.write_bytes(make_nifti(RAMP))
    with pytest.raises(ConfigError, match=r"backslash.*copy=True"):
        niftis(tmp_path, [(source, "sub-01")])
    radi = RadiObject.from_niftis(tmp_path / "copied", {"MR": [(source, "sub-01")]}, progress=False)
    np.testing.assert_array_equal(radi.MR.iloc[0].to_numpy(), RAMP)


def test_a_backslash_in_the_name_of_a_slice_is_told(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", slices())
    (folder / "3.dcm").rename(folder / "3\\.dcm")
    with pytest.raises(ConfigError, match=r"backslash.*copy=True"):
        dicoms(tmp_path, folder)
