"""Writing NIfTI: the source's own bytes where nothing changed, true geometry where something did."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiobject.errors import ConfigError, FormatError, StorageError
from radiobject.export.nifti import nifti_bytes, to_nibabel_image, write_nifti
from radiobject.format.meta import Scaling, SourceInfo, VolumeMeta
from radiobject.geometry.affine import Affine
from radiobject.ingest.nifti import NiftiImage, read_nifti

SMALL = np.arange(60, dtype="i2").reshape(3, 4, 5)
OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.3, -0.2, 0.1) @ np.diag([2.0, -2.5, 3.0]), [10, -20, 30]
)
# Read by no one; tests/ingest/test_nifti.py says which error each of them raises.
UNREADABLE = {
    "Conte69.MyelinAndCorrThickness.32k_fs_LR.dtseries.nii", "complex.nii.gz", "analyze.hdr", "nifti1.hdr",
    "nifti2.hdr", "row_major.dconn.nii", "generic/rgb/001_ground_truth.nii.gz",
    "generic/rgb/001_ground_truth_reoriented.nii.gz",
}  # fmt: skip


def _usable(root: Path) -> list[Path]:
    found = sorted(p for p in root.rglob("*") if p.name.endswith((".nii", ".nii.gz", ".hdr", ".img")))
    names = {p: p.relative_to(root).as_posix() for p in found}
    return [p for p in found if not names[p].startswith("bids/") and not names[p].endswith(tuple(UNREADABLE))]


def _source_content(path: Path) -> tuple[bytes, bytes | None]:
    if path.suffix in (".hdr", ".img"):
        return path.with_suffix(".hdr").read_bytes(), path.with_suffix(".img").read_bytes()
    return (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()), None


def _exported(image: NiftiImage, **changes: Any) -> tuple[bytes, bytes | None]:
    return nifti_bytes(
        replace(image.meta(), **changes), image.voxels, image.header, image.tail, lead=image.lead
    )


def _inexact(image: NiftiImage) -> SourceInfo:
    return replace(image.source, exact=False)


def _loaded(content: tuple[bytes, bytes | None], version: int = 1) -> Any:
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    return kind.from_bytes(content[0])


def _read(content: bytes, axis4: str = "time") -> NiftiImage:
    return read_nifti("a.nii", axis4=axis4, reader=lambda name: content)


def test_every_file_of_nibabel_comes_back_byte_for_byte(nibabel_data: Path) -> None:
    files = _usable(nibabel_data)
    assert len(files) == 7
    for path in files:
        assert _exported(read_nifti(path)) == _source_content(path), path


@pytest.mark.parametrize("axis4", ["time", "channel"])
def test_every_real_file_comes_back_byte_for_byte(real_data: Path, axis4) -> None:
    files = _usable(real_data)
    assert len(files) == 89
    for path in files:
        assert _exported(read_nifti(path, axis4=axis4)) == _source_content(path), path


def test_nibabel_images_of_real_files_keep_affine_codes_and_extensions(
    real_data: Path, nibabel_data: Path
) -> None:
    for path in _usable(real_data) + _usable(nibabel_data):
        image, reference = read_nifti(path, axis4="time"), nibabel.load(path)
        single = to_nibabel_image(
            image.meta(),
            image.voxels.transpose([image.dims.index(d) for d in "xyzt" if d in image.dims]),
            image.header,
        )
        np.testing.assert_array_equal(single.affine, reference.affine)
        np.testing.assert_array_equal(single.header.get_best_affine(), reference.affine)
        for key in ("sform_code", "qform_code", "descrip", "intent_code", "xyzt_units", "slice_code"):
            assert single.header[key] == reference.header[key], (path, key)
        assert single.header.extensions == reference.header.extensions


@given(data=st.data())
def test_synthetic_files_come_back_byte_for_byte(make_nifti, data) -> None:
    rank = data.draw(st.integers(3, 7), label="rank")
    shape = [data.draw(st.integers(1, 4)) for _ in range(min(rank, 5))] + [1] * (rank - 5)
    code = data.draw(st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]))
    array = np.arange(np.prod(shape)).astype(code).reshape(shape)
    content = make_nifti(
        array,
        version=data.draw(st.sampled_from([1, 2])),
        order=data.draw(st.sampled_from("<>")),
        extensions=data.draw(st.lists(st.tuples(st.integers(0, 31), st.binary(max_size=40)), max_size=3)),
        fields={"scl_slope": data.draw(st.sampled_from([0, 1, 0.5, np.nan, np.inf])), "descrip": b"kept"},
        tail=data.draw(st.binary(max_size=20)),
    )
    image = _read(content)
    assert _exported(image) == (content, None)


def test_a_pair_comes_back_as_a_pair(make_nifti) -> None:
    files = dict(
        zip(("a.hdr", "a.img"), make_nifti(SMALL, pair=True, lead=b"x" * 16, tail=b"end"), strict=True)
    )
    image = read_nifti("a.hdr", reader=files.__getitem__)
    assert _exported(image) == (files["a.hdr"], files["a.img"])


def test_exact_export_of_other_voxels_is_refused(make_nifti) -> None:
    image = _read(make_nifti(SMALL))
    for wrong in (image.voxels[:2], image.voxels.astype("f4"), image.voxels[0]):
        with pytest.raises(FormatError, match="export"):
            nifti_bytes(image.meta(), wrong, image.header)
    with pytest.raises(FormatError, match="header"):
        nifti_bytes(image.meta(), image.voxels, b"junk")


@pytest.mark.parametrize("code", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_a_volume_without_header_gets_a_fresh_one(code) -> None:
    array = SMALL.astype(code)
    meta = VolumeMeta(affine=Affine(OBLIQUE), dims=("z", "y", "x"), scaling=Scaling(0.5, -10.0))
    image = _loaded(nifti_bytes(meta, array.T))
    np.testing.assert_array_equal(image.dataobj.get_unscaled(), array)
    assert image.get_data_dtype() == np.dtype(code)
    assert (image.dataobj.slope, image.dataobj.inter) == (0.5, -10.0)
    assert (image.header["sform_code"], image.header["qform_code"]) == (2, 2)
    np.testing.assert_allclose(image.header.get_sform(), OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(image.header.get_qform(), OBLIQUE, atol=1e-5)
    assert image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize(
    ("dims", "shape", "file_shape"),
    [("tzyx", (2, 3, 4, 5), (5, 4, 3, 2)), ("czyx", (2, 3, 4, 5), (5, 4, 3, 1, 2)),
     ("tczyx", (2, 3, 4, 5, 6), (6, 5, 4, 2, 3))],
)  # fmt: skip
def test_fresh_axes_stand_where_the_standard_wants_them(dims, shape, file_shape) -> None:
    voxels = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    meta = VolumeMeta(affine=Affine.identity(), dims=tuple(dims), time_step=2.3 if "t" in dims else None)
    content, _ = nifti_bytes(meta, voxels)
    assert _loaded((content, None)).shape == file_shape
    image = _read(content, "auto")
    assert image.dims == meta.dims
    assert image.time_step == meta.time_step
    np.testing.assert_array_equal(image.voxels, voxels)


def test_a_sheared_affine_is_not_claimed_by_the_qform() -> None:
    sheared = np.diag([1.0, 1.0, 2.5, 1.0])
    sheared[1, 2] = 0.8
    meta = VolumeMeta(affine=Affine(sheared), dims=("z", "y", "x"))
    image = _loaded(nifti_bytes(meta, SMALL.T))
    assert (image.header["sform_code"], image.header["qform_code"]) == (2, 0)
    np.testing.assert_allclose(image.affine, sheared, atol=1e-6)


def test_long_axes_become_nifti_2() -> None:
    meta = VolumeMeta(affine=Affine.identity(), dims=("z", "y", "x"))
    image = _loaded(nifti_bytes(meta, np.zeros((1, 1, 40000), "u1")), version=2)
    assert image.shape == (40000, 1, 1)


def test_a_kept_header_follows_into_nifti_2(make_nifti) -> None:
    image = _read(make_nifti(SMALL, extensions=[(6, b"kept")], fields={"descrip": b"kept"}))
    meta = replace(image.meta(), source=_inexact(image))
    content = nifti_bytes(meta, np.zeros((1, 1, 40000), "i2"), image.header)
    got = _loaded(content, version=2)
    assert got.shape == (40000, 1, 1)
    assert got.header["descrip"] == b"kept"
    assert got.header.extensions[0].get_content().rstrip(b"\0") == b"kept"


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_reoriented_volume_keeps_what_still_holds(make_nifti, order) -> None:
    fields = {"descrip": b"scanner X", "dim_info": 57, "slice_code": 1, "slice_end": 4, "xyzt_units": 10}
    content = make_nifti(
        SMALL, order=order, affine=OBLIQUE, extensions=[(6, b"note")], fields=fields, tail=b"phi"
    )
    image = _read(content)
    turn = image.affine.reorientation("LPS", SMALL.shape)
    turned = turn.apply(image.voxels.T)
    meta = replace(image.meta(), affine=turn.affine, source=_inexact(image), original_affine=image.affine)
    out, _ = nifti_bytes(meta, turned.T, image.header, image.tail)
    got = _loaded((out, None))
    assert nibabel.aff2axcodes(got.affine) == ("L", "P", "S")
    np.testing.assert_array_equal(got.dataobj.get_unscaled(), turned)
    before, after = nibabel.as_closest_canonical(_loaded((content, None))), nibabel.as_closest_canonical(got)
    np.testing.assert_array_equal(before.get_fdata(), after.get_fdata())
    np.testing.assert_allclose(before.affine, after.affine, atol=1e-5)
    assert (got.header["descrip"], got.header.endianness) == (b"scanner X", order)
    assert len(got.header.extensions) == 1
    assert (got.header["sform_code"], got.header["qform_code"]) == (1, 0)
    assert [int(got.header[k]) for k in ("dim_info", "slice_code", "slice_end")] == [0, 0, 0]
    assert not out.endswith(b"phi")


def test_sform_and_qform_of_different_spaces_both_follow_a_crop(make_nifti) -> None:
    header = nibabel.Nifti1Header()
    header.set_qform(np.diag([2.0, 2.5, 3.0, 1.0]), 1)
    scanner = {k: header[k] for k in ("pixdim", "quatern_b", "quatern_c", "quatern_d", "qform_code")}
    image = _read(make_nifti(SMALL, affine=OBLIQUE, fields={**scanner, "sform_code": 4}))
    meta = replace(image.meta(), affine=image.affine.crop((1, 2, 0)), source=_inexact(image))
    got = _loaded(nifti_bytes(meta, image.voxels[:, 2:, 1:], image.header)).header
    assert (got["sform_code"], got["qform_code"]) == (4, 1)
    np.testing.assert_allclose(got.get_sform()[:3, 3], OBLIQUE[:3] @ (1, 2, 0, 1), atol=1e-5)
    np.testing.assert_allclose(got.get_qform()[:3, 3], (2, 5, 0), atol=1e-5)


def test_an_unsound_qform_beside_the_sform_is_dropped_on_change(make_nifti) -> None:
    image = _read(make_nifti(SMALL, fields={"qform_code": 1, "quatern_b": 9}))
    meta = replace(image.meta(), affine=image.affine.crop((1, 0, 0)), source=_inexact(image))
    got = _loaded(nifti_bytes(meta, image.voxels[:, :, 1:], image.header)).header
    assert (got["sform_code"], got["qform_code"]) == (1, 0)


def test_an_unchanged_volume_of_a_scrubbed_header_keeps_its_transforms(make_nifti) -> None:
    content = make_nifti(SMALL, affine=OBLIQUE, fields={"descrip": b"John Doe", "qform_code": 3})
    image = _read(content)
    scrubbed = image.header.replace(b"John Doe", bytes(8))
    out, _ = nifti_bytes(replace(image.meta(), source=_inexact(image)), image.voxels, scrubbed)
    assert out == content.replace(b"John Doe", bytes(8))


def test_changed_scaling_and_type_are_written(make_nifti) -> None:
    image = _read(make_nifti(SMALL, fields={"scl_slope": 2, "scl_inter": 5}))
    meta = replace(image.meta(), scaling=None, source=_inexact(image))
    got = _loaded(nifti_bytes(meta, image.voxels.astype("f4") * 2 + 5, image.header))
    assert (got.dataobj.slope, got.dataobj.inter) == (1, 0)
    assert got.get_data_dtype() == np.float32
    np.testing.assert_array_equal(got.get_fdata(), SMALL * 2 + 5)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_written_file_holds_the_content(make_nifti, tmp_path, name) -> None:
    content = make_nifti(SMALL, tail=b"end")
    write_nifti(tmp_path / name, (content, None))
    data = (tmp_path / name).read_bytes()
    assert (gzip.decompress(data) if name.endswith("gz") else data) == content
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_gzip_output_says_neither_when_nor_under_which_name_it_was_written(make_nifti, tmp_path) -> None:
    write_nifti(tmp_path / "a.nii.gz", (make_nifti(SMALL), None))
    flags, *mtime = (tmp_path / "a.nii.gz").read_bytes()[3:8]
    assert (flags, mtime) == (0, [0, 0, 0, 0])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_single_and_pair_turn_into_each_other(make_nifti, tmp_path, version, order) -> None:
    fields = {"descrip": b"kept", "scl_slope": 0.25}
    single = make_nifti(
        SMALL, version=version, order=order, extensions=[(6, b"note")], fields=fields, tail=b"end"
    )
    write_nifti(tmp_path / "a.img.gz", (single, None))
    pair = read_nifti(tmp_path / "a.hdr.gz")
    assert pair.source.format == f"nifti{version}-pair"
    np.testing.assert_array_equal(pair.voxels.T, SMALL)
    write_nifti(tmp_path / "b.hdr", _exported(pair))
    assert (tmp_path / "b.hdr").read_bytes() == pair.header
    write_nifti(tmp_path / "c.nii", _exported(pair))
    assert (tmp_path / "c.nii").read_bytes() == single
    assert nibabel.load(tmp_path / "b.hdr").header["descrip"] == b"kept"


@pytest.mark.parametrize("name", ["a.txt", "a.gz", "nii", ".nii"])
def test_other_names_are_refused(make_nifti, tmp_path, name) -> None:
    with pytest.raises(ConfigError, match=r"\.nii\.gz"):
        write_nifti(tmp_path / name, (make_nifti(SMALL), None))
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_a_storage_error(make_nifti, tmp_path) -> None:
    (tmp_path / "a.nii").mkdir()
    with pytest.raises(StorageError, match=r"a\.nii"):
        write_nifti(tmp_path / "a.nii", (make_nifti(SMALL), None))


def test_a_nibabel_image_has_the_values_that_reads_return(make_nifti) -> None:
    image = _read(make_nifti(SMALL, affine=OBLIQUE, extensions=[(6, b"note")], fields={"scl_slope": 2}))
    values = SMALL.astype("f4") * 2
    got = to_nibabel_image(image.meta(), values, image.header)
    np.testing.assert_array_equal(got.get_fdata(), values)
    np.testing.assert_array_equal(got.affine, image.affine.matrix)
    assert got.header["sform_code"] == 1
    assert len(got.header.extensions) == 1
    back = nibabel.Nifti1Image.from_bytes(got.to_bytes())
    np.testing.assert_array_equal(back.get_fdata(), values)


@pytest.mark.parametrize("dtype", ["i8", "u8", "u1", "f8"])
def test_a_nibabel_image_of_an_array_needs_no_header(dtype) -> None:
    meta = VolumeMeta(affine=Affine(OBLIQUE), dims=("c", "z", "y", "x"))
    got = to_nibabel_image(meta, np.ones((2, 3, 4, 5), dtype))
    assert got.shape == (2, 3, 4, 1, 5)
    assert got.get_data_dtype() == np.dtype(dtype)
    np.testing.assert_array_equal(got.affine, OBLIQUE)


def test_a_nibabel_image_of_a_pair_and_of_a_broken_extension(make_nifti) -> None:
    files = dict(zip(("a.hdr", "a.img"), make_nifti(SMALL, pair=True, version=2), strict=True))
    image = read_nifti("a.hdr", reader=files.__getitem__)
    assert isinstance(to_nibabel_image(image.meta(), SMALL, image.header), nibabel.Nifti2Image)
    content = bytearray(make_nifti(SMALL, extensions=[(6, b"note")]))
    content[352:356] = bytes(4)
    broken = _read(bytes(content))
    with pytest.raises(FormatError, match="extensions"):
        to_nibabel_image(broken.meta(), SMALL, broken.header)
