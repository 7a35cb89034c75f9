"""Every usable NIfTI file that we can get hold of goes into a study and comes back byte for byte."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject, SliceOrientation, TileConfig, WriteConfig

# All that is refused, and by which error; everything else must come back.
REFUSED = {
    "Conte69.MyelinAndCorrThickness.32k_fs_LR.dtseries.nii": "SourceUnsupportedError",
    "complex.nii.gz": "SourceUnsupportedError",
    "analyze.hdr": "SourceUnsupportedError",
    "nifti1.hdr": "SourceNotFoundError",
    "nifti2.hdr": "SourceNotFoundError",
    "row_major.dconn.nii": "SourceUnsupportedError",
    "001_ground_truth.nii.gz of rgb": "SourceUnsupportedError",
    "001_ground_truth_reoriented.nii.gz of rgb": "SourceUnsupportedError",
}


def nifti_files(root: Path) -> list[Path]:
    """Every .nii, .nii.gz and .hdr below a folder; those of bids/ are empty stand-ins."""
    found = (p for p in root.rglob("*") if p.name.endswith((".nii", ".nii.gz", ".hdr", ".img")))
    return sorted(p for p in found if "bids" not in p.relative_to(root).parts)


def refusal(path: Path) -> str | None:
    name = f"{path.name} of rgb" if path.parent.name == "rgb" else path.name
    return REFUSED.get(name)


def content(path: Path) -> list[bytes]:
    """The uncompressed bytes of a file, or of both files of a pair."""
    if path.suffix in (".hdr", ".img"):
        return [path.with_suffix(s).read_bytes() for s in (".hdr", ".img")]
    data = path.read_bytes()
    return [gzip.decompress(data) if path.suffix == ".gz" else data]


def check_round_trip(files: list[Path], place: Path, write: WriteConfig | None = None) -> RadiObject:
    sources = [(path, f"s{number}") for number, path in enumerate(files)]
    radi = RadiObject.from_niftis(
        place / "study", {"any": sources}, axis4="time", errors="collect", write=write
    )
    lines = radi.ledger.to_arrow(["obs_subject_id", "error"]).to_pylist()
    assert {files[int(x["obs_subject_id"][1:])]: x["error"] for x in lines} == {p: refusal(p) for p in files}
    for vol in RadiObject(radi.uri).any:
        source = files[int(vol.obs_subject_id[1:])]
        pair = source.suffix in (".hdr", ".img")
        back = place / ("back.hdr" if pair else "back.nii")
        vol.to_nifti(back)
        assert content(back) == content(source), source
    return radi


def test_every_file_of_nibabel(nibabel_data: Path, tmp_path: Path) -> None:
    files = nifti_files(nibabel_data)
    radi = check_round_trip(files, tmp_path)
    assert len(radi.any) == len(files) - 4 == 7


def test_every_real_file(real_data: Path, tmp_path: Path) -> None:
    files = nifti_files(real_data)
    radi = check_round_trip(files, tmp_path)
    assert len(radi.any) == len(files) - 4 == 89
    formats = set(radi.any.obs.read(["source_format"])["source_format"])
    assert {"nifti1", "nifti1-pair"} <= formats


@pytest.mark.parametrize(
    "write",
    [
        WriteConfig.preset("archive"),
        WriteConfig.preset("none"),
        WriteConfig(tile=TileConfig(SliceOrientation.AXIAL)),
        WriteConfig(tile=TileConfig(chunks=(16, 20, 24), shards=(32, 40, 24), chunk_t=3)),
    ],
    ids=["archive", "none", "axial", "explicit"],
)
def test_presets_and_tiles_change_no_byte(nibabel_data: Path, tmp_path: Path, write) -> None:
    check_round_trip(nifti_files(nibabel_data), tmp_path, write)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
def test_every_dtype_byte_order_and_format(make_nifti, tmp_path, order, version, pair) -> None:
    """With an extension, junk between and after, scaling, and no repair of what the header says."""
    files = []
    for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
        array = np.arange(3 * 4 * 5 * 2).astype(dtype).reshape(3, 4, 5, 2)
        made = make_nifti(
            array,
            version=version,
            order=order,
            pair=pair,
            extensions=[(4, b"<AFNI/>"), (6, b"comment")],
            fields={"scl_slope": np.nan, "descrip": b"\xff\xfe", "xyzt_units": 2},
            tail=b"after the voxels",
            **({"lead": b"before the voxels"} if pair else {}),
        )
        stem = tmp_path / dtype
        if pair:
            stem.with_suffix(".hdr").write_bytes(made[0])
            stem.with_suffix(".img").write_bytes(made[1])
        else:
            stem.with_suffix(".nii").write_bytes(made)
        files.append(stem.with_suffix(".hdr" if pair else ".nii"))
    radi = check_round_trip(files, tmp_path)
    integers = [np.dtype(f.stem).name for f in files[:8]]
    assert radi.any.obs.read(["dtype"])["dtype"].to_list() == [*integers, "uint8", "uint8"]
    assert [str(volume.dtype) for volume in radi.any] == [np.dtype(f.stem).name for f in files]
