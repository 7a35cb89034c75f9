"""Reading NIfTI: voxels, affines and axes as nibabel has them, and a named error for everything else."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from radiobject.errors import (
    AxisAmbiguousError,
    SourceCorruptError,
    SourceNotFoundError,
    SourceUnsupportedError,
)
from radiobject.format.meta import Label, Scaling, VolumeMeta
from radiobject.ingest.axes import HeaderAxes
from radiobject.ingest.nifti import peek_nifti, read_nifti, says_labels

SMALL = np.arange(60, dtype="i2").reshape(3, 4, 5)

# Every NIfTI file of the two collections that is not read, and why; the tests below read all the others.
REFUSED = {
    "niivue/Conte69.MyelinAndCorrThickness.32k_fs_LR.dtseries.nii": (SourceUnsupportedError, "CIFTI-2"),
    "niivue/complex.nii.gz": (SourceUnsupportedError, "complex64"),
    "dicom2nifti/generic/rgb/001_ground_truth.nii.gz": (SourceUnsupportedError, "RGBA32"),
    "dicom2nifti/generic/rgb/001_ground_truth_reoriented.nii.gz": (SourceUnsupportedError, "RGBA32"),
    "analyze.hdr": (SourceUnsupportedError, "Analyze"),
    "nifti1.hdr": (SourceNotFoundError, "nifti1.img"),
    "nifti2.hdr": (SourceNotFoundError, "nifti2.img"),
    "row_major.dconn.nii": (SourceUnsupportedError, "CIFTI-2"),
}
# dicom2nifti's reorientation drops the repetition time, so nothing is left that names the fourth axis.
AMBIGUOUS = {
    f"dicom2nifti/{stem}_ground_truth_reoriented.nii.gz"
    for stem in (
        "ge/dti/001", "ge/dti/001_implicit", "ge/dti/002", "ge/fmri/001", "ge/fmri/001_implicit",
        "philips_enhanced/dti/001", "philips_enhanced/fmri/001",
        "siemens/fmri/001", "siemens/fmri/001_implicit",
    )
}  # fmt: skip


def _nifti_files(root: Path) -> list[Path]:
    found = (p for p in root.rglob("*") if p.name.endswith((".nii", ".nii.gz", ".hdr", ".img")))
    return sorted(p for p in found if "bids" not in p.relative_to(root).parts)


def _check_against_nibabel(path: Path, axis4: str) -> None:
    image, reference = read_nifti(path, axis4=axis4), nibabel.load(path)
    stored = np.asarray(reference.dataobj.get_unscaled())
    assert image.voxels.dtype == stored.dtype.newbyteorder("=")
    np.testing.assert_array_equal(image.voxels, stored.T.reshape(image.shape))
    np.testing.assert_array_equal(image.affine.matrix, reference.affine)
    slope, inter = reference.dataobj.slope, reference.dataobj.inter
    assert (image.scaling or Scaling(1.0, 0.0)) == Scaling(slope, inter)
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if path.suffix in (".hdr", ".img"):
        content = path.with_suffix(".hdr").read_bytes() + path.with_suffix(".img").read_bytes()
    assert image.digest == hashlib.sha256(content).hexdigest()
    assert (
        image.header
        + image.lead
        + image.voxels.astype(image.dtype.newbyteorder(image.source.byteorder)).tobytes()
        + image.tail
        == content
    )
    assert VolumeMeta.from_json(image.meta().to_json(), "test") == image.meta()
    peeked = peek_nifti(path, axis4=axis4)
    assert (peeked.shape, peeked.dims, peeked.dtype) == (image.shape, image.dims, image.dtype)
    assert peeked.affine == image.affine


def _check_collection(root: Path) -> tuple[int, set[str]]:
    """Read everything below `root`; returns how many files were read and the names of those refused."""
    read, refused = 0, set()
    for path in _nifti_files(root):
        name = path.relative_to(root).as_posix()
        if name in REFUSED:
            kind, words = REFUSED[name]
            with pytest.raises(kind, match=words) as caught:
                read_nifti(path)
            assert path.name in str(caught.value)
            refused.add(name)
            continue
        if name in AMBIGUOUS:
            with pytest.raises(AxisAmbiguousError, match="axis4="):
                read_nifti(path)
        _check_against_nibabel(path, "time" if name in AMBIGUOUS else "auto")
        read += 1
    return read, refused


def test_every_file_of_nibabel_reads_as_nibabel_reads_it(nibabel_data: Path) -> None:
    read, refused = _check_collection(nibabel_data)
    assert read >= 7
    assert refused == {name for name in REFUSED if "/" not in name}


def test_every_real_file_reads_as_nibabel_reads_it(real_data: Path) -> None:
    read, refused = _check_collection(real_data)
    assert read == 89
    assert refused == {name for name in REFUSED if "/" in name}


def test_the_images_of_the_bids_example_are_headers_only_and_refused(real_data: Path) -> None:
    files = sorted((real_data / "bids").rglob("*.nii"))
    assert len(files) == 160
    for path in files:
        with pytest.raises(SourceCorruptError, match="a header without voxels") as caught:
            read_nifti(path, axis4="time")
        assert path.name in str(caught.value)


def test_a_real_vector_image_has_channels_although_its_units_say_seconds(real_data: Path) -> None:
    image = read_nifti(real_data / "niivue" / "V1.nii.gz")
    assert (image.dims, image.shape) == (("c", "z", "y", "x"), (3, 56, 92, 84))
    assert image.time_step is None


def test_label_names_of_totalsegmentator_are_found(real_data: Path) -> None:
    file = real_data / "totalsegmentator" / "example_seg.nii.gz"
    image = read_nifti(file)
    assert len(image.labels) == 117
    assert image.labels[0] == Label(1, "spleen", (0, 255, 0, 255))
    assert says_labels(file)
    assert image.meta("label").labels == image.labels
    assert image.meta("image").labels == ()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_stored_type_in_both_versions_and_byte_orders(
    make_nifti, tmp_path, version, order, code
) -> None:
    array = np.arange(60).reshape(3, 4, 5).astype(code)
    path = tmp_path / "a.nii"
    path.write_bytes(make_nifti(array, version=version, order=order))
    image = read_nifti(path)
    assert image.voxels.dtype == np.dtype(code)
    assert image.voxels.flags.c_contiguous
    np.testing.assert_array_equal(image.voxels.T, array)
    assert image.source.format == f"nifti{version}"
    assert (image.source.byteorder, image.source.exact) == (order, True)


def test_voxels_are_a_view_of_the_content(make_nifti, tmp_path) -> None:
    (tmp_path / "a.nii").write_bytes(make_nifti(SMALL))
    assert not read_nifti(tmp_path / "a.nii").voxels.flags.owndata


def test_several_gzip_members_and_trailing_zeros_are_one_file(make_nifti, tmp_path) -> None:
    content = make_nifti(SMALL)
    path = tmp_path / "a.nii.gz"
    path.write_bytes(
        b"".join(gzip.compress(content[i : i + 100]) for i in range(0, len(content), 100)) + bytes(64)
    )
    np.testing.assert_array_equal(read_nifti(path).voxels.T, SMALL)
    assert peek_nifti(path).shape == (5, 4, 3)


def test_gzip_is_known_by_its_bytes_not_by_its_name(make_nifti, tmp_path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(gzip.compress(make_nifti(SMALL)))
    np.testing.assert_array_equal(read_nifti(path).voxels.T, SMALL)


def test_bytes_beside_the_voxels_are_kept(make_nifti, tmp_path) -> None:
    path = tmp_path / "a.nii"
    content = make_nifti(SMALL, extensions=[(6, b"a comment"), (4, b"afni")], tail=b"after")
    path.write_bytes(content)
    image = read_nifti(path)
    assert image.tail == b"after"
    assert image.header == content[: image.vox_offset]
    assert b"a comment" in image.header


@pytest.mark.parametrize("name", ["a.hdr", "a.img"])
@pytest.mark.parametrize("ends", [("", ""), (".gz", ".gz"), ("", ".gz")])
def test_a_pair_is_read_by_either_name(make_nifti, tmp_path, name, ends) -> None:
    header, image = make_nifti(SMALL, pair=True, lead=b"12345678", tail=b"after")
    for half, data, end in zip(("hdr", "img"), (header, image), ends, strict=True):
        (tmp_path / f"a.{half}{end}").write_bytes(gzip.compress(data) if end else data)
    got = read_nifti(tmp_path / (name + ends[name == "a.img"]))
    np.testing.assert_array_equal(got.voxels.T, SMALL)
    assert (got.header, got.lead, got.tail) == (header, b"12345678", b"after")
    assert got.source.format == "nifti1-pair"
    assert peek_nifti(tmp_path / (name + ends[name == "a.img"])).shape == (5, 4, 3)


@pytest.mark.parametrize(
    ("shape", "fields", "axis4", "dims"),
    [
        ((2, 3, 4, 5), {"xyzt_units": 2 | 8}, "auto", "tzyx"),
        ((2, 3, 4, 5), {"xyzt_units": 2 | 16}, "auto", "tzyx"),
        ((2, 3, 4, 5), {"xyzt_units": 2 | 40}, "auto", "czyx"),
        ((2, 3, 4, 5), {"pixdim": [1, 1, 1, 1, 2.5, 1, 1, 1]}, "auto", "tzyx"),
        ((2, 3, 4, 5), {"intent_code": 1007, "xyzt_units": 10}, "auto", "czyx"),
        ((2, 3, 4, 5), {}, "time", "tzyx"),
        ((2, 3, 4, 5), {"xyzt_units": 10}, "channel", "czyx"),
        ((2, 3, 4, 1), {}, "auto", "zyx"),
        ((2, 3, 4, 1, 3), {}, "auto", "czyx"),
        ((2, 3, 4, 5, 3), {}, "auto", "tczyx"),
        ((2, 3, 4, 5, 1, 1, 1), {}, "time", "tzyx"),
        ((2, 3, 1), {}, "auto", "zyx"),
    ],
)  # fmt: skip
def test_axes_beyond_the_third(make_nifti, tmp_path, shape, fields, axis4, dims) -> None:
    array = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    (tmp_path / "a.nii").write_bytes(make_nifti(array, fields=fields))
    image = read_nifti(tmp_path / "a.nii", axis4=axis4)
    assert "".join(image.dims) == dims
    assert len(image.source.file_axes) == len(shape)
    names = [axis for axis in image.source.file_axes if axis != "1"]
    squeezed = array.reshape(
        [n for axis, n in zip(image.source.file_axes, shape, strict=True) if axis != "1"]
    )
    np.testing.assert_array_equal(image.voxels, squeezed.transpose([names.index(d) for d in image.dims]))
    assert image.voxels.flags.c_contiguous


@pytest.mark.parametrize(
    ("units", "step", "seconds"),
    [(8, 2.3, 2.3), (16, 2300, 2.3), (24, 5e5, 0.5), (0, 2.5, 2.5), (8, 0, None), (8, np.nan, None)],
)
def test_time_step_is_in_seconds(units, step, seconds) -> None:
    step = float(str(np.float32(step)))
    assert HeaderAxes("a", (4, 1, 1, 1, 2, 1, 1, 1), 0, units, step).seconds == seconds


@pytest.mark.parametrize(
    ("slope", "inter", "scaling"),
    [
        (0, 5, None), (np.nan, np.nan, None), (np.inf, 0, None), (1, 0, None),
        (0.5, 10, Scaling(0.5, 10.0)), (1, -1024, Scaling(1.0, -1024.0)), (-1, 0, Scaling(-1.0, 0.0)),
    ],
)  # fmt: skip
def test_a_slope_that_means_none_is_none(make_nifti, tmp_path, slope, inter, scaling) -> None:
    (tmp_path / "a.nii").write_bytes(make_nifti(SMALL, fields={"scl_slope": slope, "scl_inter": inter}))
    image = read_nifti(tmp_path / "a.nii")
    assert image.scaling == scaling
    np.testing.assert_array_equal(image.voxels.T, SMALL)


def test_units_window_and_intent_are_kept(make_nifti, tmp_path) -> None:
    fields = {"xyzt_units": 3, "cal_min": -5, "cal_max": 80, "intent_code": 1002, "intent_name": b"aseg"}
    (tmp_path / "a.nii").write_bytes(make_nifti(SMALL, fields=fields))
    image = read_nifti(tmp_path / "a.nii")
    assert (image.space_unit, image.time_unit, image.window) == ("um", None, (-5.0, 80.0))
    assert (image.intent_code, image.intent_name) == (1002, "aseg")
    assert says_labels(tmp_path / "a.nii")


def test_scaled_or_float_volumes_are_not_guessed_to_be_labels(make_nifti, tmp_path) -> None:
    for array, fields in ((SMALL, {"scl_slope": 2}), (SMALL.astype("f4"), {})):
        (tmp_path / "a.nii").write_bytes(make_nifti(array, fields={"intent_code": 1002, **fields}))
        assert not says_labels(tmp_path / "a.nii")


def test_bad_fields_that_nibabel_repairs_do_not_stop_ingest(make_nifti, tmp_path, caplog) -> None:
    fields = {"sform_code": 0, "pixdim": [0, -2, 0, 3, 0, 0, 0, 0], "bitpix": 99, "sizeof_hdr": 0}
    content = make_nifti(SMALL, fields=fields)
    (tmp_path / "a.nii").write_bytes(content)
    image = read_nifti(tmp_path / "a.nii")
    assert image.affine.spacing == (2.0, 1.0, 3.0)
    assert image.header == content[:352]
    assert not caplog.records


def test_a_doctype_is_never_parsed_for_labels(make_nifti, tmp_path) -> None:
    xml = b'<!DOCTYPE x [<!ENTITY a "spleen">]><CaretExtension><Label Key="1">&a;</Label></CaretExtension>'
    for content in (xml, xml.split(b"]>")[1].replace(b"&a;", b"&lt;") + b"<", b"\xff\xfe", b"{}"):
        (tmp_path / "a.nii").write_bytes(make_nifti(SMALL, extensions=[(0, content)]))
        assert read_nifti(tmp_path / "a.nii").labels == ()


@pytest.mark.parametrize("size", [0, 7, 2**31 - 1, -16])
def test_a_broken_chain_of_extensions_ends_quietly(make_nifti, tmp_path, size) -> None:
    content = bytearray(make_nifti(SMALL, extensions=[(6, b"comment")]))
    content[352:356] = struct.pack("<i", size)
    (tmp_path / "a.nii").write_bytes(content)
    assert read_nifti(tmp_path / "a.nii").labels == ()


def test_a_reader_fetches_every_byte(make_nifti) -> None:
    header, image = make_nifti(SMALL, pair=True)
    files = {"s3://b/a.hdr": header, "s3://b/a.img": image}

    def reader(name: str) -> bytes:
        if name not in files:
            raise FileNotFoundError(name)
        return files[name]

    np.testing.assert_array_equal(read_nifti("s3://b/a.img", reader=reader).voxels.T, SMALL)
    with pytest.raises(SourceNotFoundError, match=r"s3://b/c\.nii"):
        read_nifti("s3://b/c.nii", reader=reader)


def test_peek_needs_only_the_start(make_nifti) -> None:
    content = gzip.compress(make_nifti(np.random.default_rng(0).integers(0, 255, (80, 80, 80), "u1")))
    assert peek_nifti("a.nii.gz", reader=lambda name: content[:65536]).shape == (80, 80, 80)
