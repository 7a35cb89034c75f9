"""NIfTI with its texts blanked: every number stays, no text does, and nothing around the voxels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from radiobject.export.nifti import nifti_bytes
from radiobject.format.meta import Label
from radiobject.ingest.deidentify import blank_nifti
from radiobject.ingest.loading import load
from radiobject.writing.loaded import Loaded, from_array

SECRET = b"DOE^JANE"
CARET = (
    b'<CaretExtension><Study>DOE^JANE</Study><LabelTable><Label Key="1" Red="1" Green="0" Blue="0">spleen'
    b"</Label></LabelTable></CaretExtension>"
)
TEXTS = {"descrip": SECRET, "aux_file": SECRET, "intent_name": SECRET}
OF_VERSION_1 = {"data_type": SECRET, "db_name": SECRET}
VOXELS = np.arange(60, dtype="i2").reshape(3, 4, 5)


def loaded_file(tmp_path: Path, make_nifti, *, version: int, order: str, pair: bool) -> Loaded:
    """A file that has the name of its patient wherever there is room for it."""
    fields = {**TEXTS, **(OF_VERSION_1 if version == 1 else {"unused_str": SECRET}), "intent_code": 1002}
    options = {"version": version, "order": order, "fields": fields, "tail": SECRET}
    options["extensions"] = ((0, CARET), (6, SECRET))
    if not pair:
        path = tmp_path / "a.nii"
        path.write_bytes(make_nifti(VOXELS, **options))
    else:
        path = tmp_path / "a.hdr"
        front, voxels = make_nifti(VOXELS, **options, lead=SECRET * 2, pair=True)
        path.write_bytes(front)
        path.with_suffix(".img").write_bytes(voxels)
    return load(str(path), "a", "label")


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2])
def test_no_text_is_left_and_every_number_is(
    tmp_path: Path, make_nifti, version: int, order: str, pair: bool
) -> None:
    before = loaded_file(tmp_path, make_nifti, version=version, order=order, pair=pair)
    assert sum(SECRET in data for data in before.extras.values()) == len(before.extras) >= 2
    after = blank_nifti(before)
    assert list(after.extras) == ["nifti"]
    assert SECRET not in after.extras["nifti"]
    kind = type(nibabel.load(tmp_path / ("a.hdr" if pair else "a.nii")).header)
    old, new = (kind(x.extras["nifti"][: kind.sizeof_hdr], check=False) for x in (before, after))
    texts = {*TEXTS, *(OF_VERSION_1 if version == 1 else {"unused_str"})}
    for name in old.keys():  # noqa: SIM118 - headers are no mappings
        if name == "vox_offset":
            assert new[name] == (0 if pair else kind.sizeof_hdr + 4)
        else:
            assert new[name].tobytes() == (bytes(old[name].nbytes) if name in texts else old[name].tobytes())
    assert after.extras["nifti"][kind.sizeof_hdr :] == bytes(4)


@pytest.mark.parametrize("version", [1, 2])
def test_label_names_survive_and_exactness_does_not(tmp_path: Path, make_nifti, version: int) -> None:
    before = loaded_file(tmp_path, make_nifti, version=version, order="<", pair=False)
    after = blank_nifti(before)
    assert after.meta.labels == (Label(1, "spleen", (255, 0, 0, 255)),)
    assert (before.meta.source.exact, after.meta.source.exact) == (True, False)
    assert after.meta.source.extras == ("nifti",)
    assert after.voxels is before.voxels
    assert replace(after.meta, source=before.meta.source) == before.meta


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_the_export_has_the_voxels_and_no_text(tmp_path: Path, make_nifti, version: int, pair: bool) -> None:
    before = loaded_file(tmp_path, make_nifti, version=version, order=">", pair=pair)
    after = blank_nifti(before)
    front, voxels = nifti_bytes(after.meta, after.voxels, after.extras["nifti"])
    assert SECRET not in front + (voxels or b"")
    path = tmp_path / ("out.hdr" if pair else "out.nii")
    path.write_bytes(front)
    if voxels is not None:
        path.with_suffix(".img").write_bytes(voxels)
    image = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), VOXELS)
    np.testing.assert_array_equal(image.affine, nibabel.load(tmp_path / path.name.replace("out", "a")).affine)
    assert int(image.header["intent_code"]) == 1002
    assert list(image.header.extensions) == []


def test_the_digest_follows_from_what_is_left(tmp_path: Path, make_nifti) -> None:
    digests = set()
    for name in (b"DOE^JANE", b"ROE^RICHARD"):
        path = tmp_path / "a.nii"
        path.write_bytes(make_nifti(VOXELS, fields={"descrip": name}))
        digests.add(blank_nifti(load(str(path), "a", "image")).digest)
    path.write_bytes(make_nifti(VOXELS + 1))
    digests.add(blank_nifti(load(str(path), "a", "image")).digest)
    assert len(digests) == 2


def test_a_volume_without_a_header_is_as_it_was() -> None:
    loaded = from_array(VOXELS, None, "array")
    assert blank_nifti(loaded) is loaded


def test_bytes_beside_the_voxels_that_are_no_header_stay(tmp_path: Path, make_nifti) -> None:
    before = loaded_file(tmp_path, make_nifti, version=1, order="<", pair=False)
    before = replace(before, extras={**before.extras, "contours": b"{}"})
    assert list(blank_nifti(before).extras) == ["nifti", "contours"]


def test_every_real_file_is_blank_and_opens(real_data: Path, nibabel_data: Path, tmp_path: Path) -> None:
    opened = 0
    for root in (real_data / "niivue", real_data / "totalsegmentator", nibabel_data):
        for path in sorted(p for p in root.rglob("*") if p.name.endswith((".nii", ".nii.gz", ".hdr"))):
            try:
                loaded = load(str(path), path.name, "image", axis4="time")
            except ValueError:
                continue  # refused, as test_nifti.py tells
            after = blank_nifti(loaded)
            front, voxels = nifti_bytes(after.meta, after.voxels, after.extras["nifti"])
            out = tmp_path / ("x.nii" if voxels is None else "x.hdr")
            out.write_bytes(front)
            if voxels is not None:
                out.with_suffix(".img").write_bytes(voxels)
            image, source = nibabel.load(out), nibabel.load(path)
            np.testing.assert_array_equal(image.affine, source.affine)
            assert image.shape == source.shape
            assert all(not image.header[name].item() for name in TEXTS)
            assert list(image.header.extensions) == []
            opened += 1
    assert opened > 10
