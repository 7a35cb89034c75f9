"""Make the archive of a released format: one small study, and what must be read from it for ever.

Run once for a new format version, or for something new in one, never again for an old one:

    python tests/archives/make_archive.py tests/archives/v1.0
    python tests/archives/make_archive.py tests/archives/v1.0-derived
    python tests/archives/make_archive.py tests/archives/v1.0-tiledb
    python tests/archives/make_archive.py tests/archives/v1.0-pyramid
    python tests/archives/make_archive.py tests/archives/v1.0-purged
    PYTHONPATH=. python tests/archives/make_archive.py tests/archives/v1.0-dicom
    python tests/archives/make_archive.py tests/archives/v1.0-bids
    python tests/archives/make_archive.py tests/archives/v1.0-foreground
    python tests/archives/make_archive.py tests/archives/v1.0-integers
    PYTHONPATH=. python tests/archives/make_archive.py tests/archives/v1.0-files
    python tests/archives/make_archive.py tests/archives/v1.0-layout

That on TileDB was made with tiledb 0.33.0, the oldest that the package takes. It writes `study.tar.xz` and
`expected.json` (for each volume: shape, dtype, affine, SHA-256 of its voxels in C order x, y, z[, t][, c],
raw and scaled, and of the NIfTI file where export gives one back).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd

from radiobject import RadiObject, scan
from radiobject.backends.base import DTYPES
from radiobject.config import TileConfig, WriteConfig
from radiobject.format.meta import FORMAT
from radiobject.model.foreground import stored_index

__all__ = ["digest", "main", "read"]

_REGISTERED = 1_700_000_000
"""When source files last changed, in whole seconds: what an archive keeps."""

_TILT = np.array([[0.9, -0.2, 0, 3], [0.2, 0.9, 0.1, -4], [0, -0.1, 2, 5], [0, 0, 0, 1]])


def digest(array: np.ndarray) -> str:
    """SHA-256 of the voxels in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def read(radi: RadiObject) -> dict[str, Any]:
    """Everything that a later version must still find in the study."""
    volumes = {}
    for name in radi.collection_names:
        collection = radi.collection(name)
        for volume in collection:
            volumes[volume.obs_id] = {
                "collection": name,
                "kind": collection.kind,
                "axes": list(volume.axes),
                "shape": list(volume.shape),
                "dtype": str(volume.dtype),
                "stored_dtype": str(volume.stored_dtype),
                "affine": " ".join(map(repr, volume.affine.ravel().tolist())),
                "time_step": volume.meta.time_step,
                "labels": [[x.value, x.name] for x in volume.meta.labels],
                "raw": digest(volume.to_numpy(raw=True)),
                "scaled": digest(volume.to_numpy()),
            }
            if volume.n_levels > 1:
                volumes[volume.obs_id]["levels"] = [
                    {
                        "shape": list(level.shape),
                        "affine": " ".join(map(repr, level.affine.ravel().tolist())),
                        "raw": digest(level.to_numpy(raw=True)),
                    }
                    for level in volume.levels[1:]
                ]
            row = collection.obs_ids.index(volume.obs_id)
            if (index := stored_index(collection._study, name, int(collection._rows()[row]))) is not None:
                volumes[volume.obs_id]["foreground"] = {
                    "values": index.values.tolist(),
                    "voxels": index.counts.tolist(),
                    "block": list(index.block),
                    "blocks": [[b.tolist(), n.tolist()] for b, n in index.blocks],
                    "places": [places.tolist() for places in index.places],
                }
            if "parent_obs_id" in volume.metadata:
                keys = ("parent_obs_id", "parent_version", "parent_function", "level")
                volumes[volume.obs_id]["derived"] = [volume.metadata[k] for k in keys]
    return {
        "format": FORMAT,
        "collections": list(radi.collection_names),
        "subjects": json.loads(radi.obs_meta.read().to_json(orient="records")),
        "versions": [v["operation"] for v in radi.versions()],
        "volumes": volumes,
    }


def _ramp(code: str, *shape: int) -> np.ndarray:
    """Voxels that all differ from their neighbours and still make small thumbnails."""
    return np.arange(np.prod(shape)).reshape(shape).astype(code)


def _scans(folder: Path) -> dict[str, str]:
    """NIfTI files of 4D int16 and of scaled 3D int16 with an extension: id to path."""
    bold = nibabel.Nifti1Image(_ramp("i2", 4, 5, 6, 3), np.diag([2.0, 2, 3, 1]))
    bold.header.set_xyzt_units("mm", "sec")
    bold.header.set_zooms((2, 2, 3, 1.5))
    ct = nibabel.Nifti1Image(_ramp("i2", 4, 5, 6) - 5, _TILT)
    ct.header.set_slope_inter(2.0, -3.0)
    ct.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))
    return _saved(folder, {"bold": bold, "ct": ct})


def _saved(folder: Path, images: dict[str, nibabel.Nifti1Image]) -> dict[str, str]:
    for name, image in images.items():
        nibabel.save(image, folder / f"{name}.nii")
    return {name: str(folder / f"{name}.nii") for name in images}


def _write(folder: Path) -> RadiObject:
    """Every dtype, rank and kind of source, and more than one version, in little space."""
    vectors = nibabel.Nifti1Image(_ramp("f4", 4, 5, 6, 1, 3), _TILT)
    vectors.header.set_intent("vector")
    files = {**_scans(folder), **_saved(folder, {"vectors": vectors})}
    plain = {code: _ramp(code, 5, 4, 3) for code in DTYPES}
    subjects = [*files, *plain]
    radi = RadiObject.from_niftis(
        folder / "study",
        {
            "image": [
                *((path, name) for name, path in files.items()),
                *(((array, _TILT), code) for code, array in plain.items()),
            ],
            "seg": [((_ramp("u1", 9, 5, 4) // 61, _TILT), name) for name in ("ct", "u1")],
        },
        pd.DataFrame(
            {
                "obs_subject_id": subjects,
                "age": [61.5, None, *(50.0,) * (len(subjects) - 2)],
                "dx": ["AD", "Größe", *("control",) * (len(subjects) - 2)],
            }
        ),
        labels={"seg": {1: "liver", 2: "spleen"}},
        write=WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(8, 4, 4))),
        progress=False,
        message="archive",
    )
    radi.tag("with two labels")
    return radi.delete(obs_ids="u1_seg")


def _halve(volume: np.ndarray, row: pd.Series) -> tuple[np.ndarray, dict[str, float]]:
    return volume / 2, {"level": float(volume.mean())}


def _write_derived(folder: Path) -> RadiObject:
    """A collection that a function made of another one."""
    images = {"T1w": [((_ramp("i2", 5, 4, 3), _TILT), "a"), ((_ramp("i2", 5, 4, 3) + 7, _TILT), "b")]}
    radi = RadiObject.from_niftis(folder / "study", images, progress=False)
    return radi.add_collection("half", radi.T1w.lazy().map(_halve), progress=False)


def _write_purged(folder: Path) -> RadiObject:
    """A study from which a subject was erased: tombstones, and a tagged version that never held it."""
    ramp = (_ramp("i2", 5, 4, 3), _TILT)
    radi = RadiObject.from_niftis(folder / "study", {"T1w": [(ramp, "kept-1")]}, progress=False)
    radi.tag("before")
    radi.append({"T1w": [(ramp, "gone-2", "scan-3")]}, {"obs_subject_id": ["gone-2"]}, progress=False)
    radi.delete(obs_ids="scan-3")
    radi.purge("gone-2", "withdrew consent")
    return radi.append({"T1w": [(ramp, "kept-4")]}, {"obs_subject_id": ["kept-4"]}, progress=False)


def _write_tiledb(folder: Path) -> RadiObject:
    """Volumes on TileDB: scans with their headers in several shards, labels, and a change."""
    radi = RadiObject.from_niftis(
        folder / "study",
        {
            "image": [(path, name) for name, path in _scans(folder).items()],
            "seg": [
                ((_ramp("u1", 9, 5, 4) // 61, _TILT), "ct"),
                ((_ramp("i2", 4, 5, 3) // 9, _TILT), "bold"),
            ],
        },
        pd.DataFrame({"obs_subject_id": ["bold", "ct"], "age": [61.5, None]}),
        labels={"seg": {1: "liver", 2: "spleen"}},
        backend="tiledb",
        write=WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(8, 4, 4))),
        progress=False,
        message="archive",
    )
    return radi.append(
        {"image": [((_ramp("f4", 5, 4, 3), _TILT), "f4")]}, {"obs_subject_id": ["f4"]}, progress=False
    )


def _write_pyramid(folder: Path) -> RadiObject:
    """Images and labels with coarser levels: odd lengths, thick slices, time points, NaN, 64 bits."""
    thick = np.diag([-0.5, 0.5, 2.0, 1.0])
    series = _ramp("f4", 7, 6, 5, 3) / 7
    series[0, 0, 0] = series[2:4, 2:4, 2:4] = np.nan
    parts = (_ramp("i8", 9, 6, 5) ** 2 % 7 - 3) * 10**15
    return RadiObject.from_niftis(
        folder / "study",
        {
            "image": [((_ramp("i2", 13, 9, 6) * 7 % 501, _TILT), "a"), ((series, _TILT), "b")],
            "seg": [((_ramp("u1", 13, 9, 6) // 5 % 4, thick), "a"), ((parts, _TILT), "b")],
        },
        axis4="time",
        labels={"seg": {1: "liver", 2: "spleen"}},
        write=WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(8, 4, 4)), pyramid=2),
        progress=False,
        message="archive",
    )


def _write_dicom(folder: Path) -> RadiObject:
    """CT in HU, uneven slices with their distances; a SEG and an RTSTRUCT on the grid of the CT."""
    from tests.ingest.label_objects import SERIES, SPACE, contour, rtstruct, save, seg
    from tests.upstream.series import write_series

    scaled = {
        "RescaleSlope": 2,
        "RescaleIntercept": -1024,
        "SeriesInstanceUID": SERIES,
        "FrameOfReferenceUID": SPACE,
    }
    ct = write_series(folder / "ct", **scaled)
    uneven = write_series(folder / "uneven", (0.0, 2.5, 7.5))
    mask = np.zeros((5, 4), np.uint8)
    mask[1:3, 2] = 1
    (folder / "seg").mkdir()
    frames = [(1, (1, 2, 2.5), mask), (2, (1, 2, 5.0), mask[::-1])]
    save(seg(frames, pixel_spacing=(0.5, 0.75), between=2.5), folder / "seg" / "a")
    corners = [(1.4, 2.2, 2.5), (2.6, 2.2, 2.5), (2.6, 3.2, 2.5), (1.4, 3.2, 2.5)]
    save(rtstruct({4: ("organ 4", [contour(corners)])}), folder / "seg" / "b")
    return RadiObject.from_dicoms(
        folder / "study",
        {"CT": [(ct, "sub-01"), (uneven, "sub-02")], "seg": [(folder / "seg", "sub-01")]},
        deid_key="00" * 32, irregular="keep", progress=False, message="archive",
    )  # fmt: skip


def _write_files(folder: Path) -> RadiObject:
    """Volumes that lie in files: bare, compressed, in a pair, in DICOM, and one that is stored."""
    from tests.upstream.series import write_series

    sources = folder / "sources"
    sources.mkdir()
    files = _scans(sources)
    seg = nibabel.Nifti1Image(_ramp("u1", 9, 5, 4) // 61, _TILT)
    nibabel.save(seg, sources / "ct_seg.nii.gz")
    pair = nibabel.Nifti1Pair(_ramp("i2", 4, 5, 3).astype(">i2"), _TILT)
    nibabel.save(pair, sources / "pair.img")
    series = write_series(sources / "series", RescaleSlope=2, RescaleIntercept=-1024)
    for path in sources.rglob("*"):
        os.utime(path, (_REGISTERED, _REGISTERED))
    images = [(path, name) for name, path in files.items()]
    radi = RadiObject.from_niftis(
        folder / "study",
        {"image": [*images, (sources / "pair.img", "pair")], "seg": [(sources / "ct_seg.nii.gz", "ct")]},
        labels={"seg": {1: "liver", 2: "spleen"}}, copy=False, progress=False, message="archive",
    )  # fmt: skip
    radi.append({"CT": [(series, "ct")]}, copy=False, deidentify=False, progress=False)
    return radi.append({"image": [(files["ct"], "ct", "stored")]}, progress=False)


def _write_layout(folder: Path) -> RadiObject:
    """Volumes in files of which a layout said more: channels, names of labels, gradients and events."""
    sources = folder / "sources"
    for part in ("imagesTr", "labelsTr"):
        (sources / "msd" / part).mkdir(parents=True)
    channels = nibabel.Nifti1Image(_ramp("i2", 4, 5, 6, 2), _TILT)
    nibabel.save(channels, sources / "msd/imagesTr/ct.nii")
    nibabel.save(nibabel.Nifti1Image(_ramp("u1", 4, 5, 6) // 61, _TILT), sources / "msd/labelsTr/ct.nii.gz")
    said = {
        "modality": {"0": "T1", "1": "FLAIR"}, "labels": {"0": "background", "1": "liver"},
        "training": [{"image": "imagesTr/ct.nii", "label": "labelsTr/ct.nii.gz"}], "test": [],
    }  # fmt: skip
    (sources / "msd/dataset.json").write_text(json.dumps(said))
    _bids_tree(sources / "bids")
    for path in sources.rglob("*"):
        os.utime(path, (_REGISTERED, _REGISTERED))
    plan = scan(sources / "msd")
    radi = RadiObject.from_plan(folder / "study", plan, copy=False, progress=False, message="archive")
    return radi.ingest(scan(sources / "bids"), copy=False, progress=False)


def _write_bids(folder: Path) -> RadiObject:
    """A BIDS folder: sidecar keys, gradients and events beside the voxels, names of labels from a table."""
    _bids_tree(folder / "bids")
    return RadiObject.from_bids(folder / "study", folder / "bids", progress=False, message="archive")


def _bids_tree(top: Path) -> None:
    root = top / "sub-01"
    series = _ramp("i2", 4, 5, 6, 3)
    images = {"dwi": series, "bold": series, "T1w": series[..., 0], "dseg": _ramp("u1", 4, 5, 6) // 61}
    for name, data in images.items():
        place = root / {"dwi": "dwi", "bold": "func"}.get(name, "anat")
        place.mkdir(parents=True, exist_ok=True)
        task = "_task-rest" if name == "bold" else ""
        nibabel.save(nibabel.Nifti1Image(data, np.diag([2.0, 2, 3, 1])), place / f"sub-01{task}_{name}.nii")
    texts = {
        "dataset_description.json": '{"Name": "archive", "BIDSVersion": "1.9.0"}',
        "participants.tsv": "participant_id\tage\nsub-01\t61.5\n",
        "sub-01/dwi/sub-01_dwi.bval": "0 1000 1000\n",
        "sub-01/dwi/sub-01_dwi.bvec": "0 1 0\n0 0 1\n0 0 0\n",
        "sub-01/func/sub-01_task-rest_bold.json": '{"RepetitionTime": 1.5, "Odd": [1, 2]}',
        "sub-01/func/sub-01_task-rest_events.tsv": "onset\tduration\n1\t2\n",
        "sub-01/anat/sub-01_dseg.tsv": "index\tname\n1\tliver\n",
    }
    for name, text in texts.items():
        (top / name).write_text(text)


def _write_foreground(folder: Path) -> RadiObject:
    """Label volumes with an index written beside them, and one whose index a later version names."""
    parts, series = _ramp("u1", 9, 8, 7) // 90, _ramp("i2", 4, 5, 6, 2) % 3 - 1
    radi = RadiObject.from_niftis(
        folder / "study", {"seg": [((parts, _TILT), "a"), ((series, _TILT), "b")]}, labels=["seg"],
        axis4="time", write=WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(8, 4, 4))),
        progress=False, message="archive",
    )  # fmt: skip
    later = {"seg": [((parts[::-1], _TILT), "c")]}
    radi.append(later, {"obs_subject_id": ["c"]}, write=WriteConfig(foreground_index=False), progress=False)
    return radi.index_foreground(progress=False)


def _write_integers(folder: Path) -> RadiObject:
    """Floats that are stored as integers: of files, a series, arrays; and some that cannot be."""
    ramp = _ramp("i4", 4, 5, 6, 3)
    images = {}
    for name, code, data in (
        ("little", "<f4", ramp[..., 0]),
        ("big", ">f4", ramp[..., 0] * 50 - 9),
        ("series", "<f8", ramp * 3000),
        ("halves", "<f4", ramp[..., 0] / 2),
    ):
        header = nibabel.Nifti1Header(endianness=code[0])
        header.set_data_dtype(np.dtype(code))
        images[name] = nibabel.Nifti1Image(data.astype(code), _TILT, header, dtype=np.dtype(code))
        images[name].header.set_xyzt_units("mm", "sec")
    zero = np.where(_ramp("f4", 5, 4, 3) == 7, np.float32(-0.0), np.float32(1))
    plain = {"u2": _ramp("f4", 5, 4, 3) * 1000 + 5000, "i1": _ramp("f8", 5, 4, 3) - 30, "zero": zero}
    return RadiObject.from_niftis(
        folder / "study",
        {
            "image": [
                *((path, name) for name, path in _saved(folder, images).items()),
                *(((array, _TILT), name) for name, array in plain.items()),
            ]
        },
        axis4="time",
        write=WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(8, 4, 4))),
        progress=False,
        message="archive",
    )


_WRITERS = {
    "v1.0-integers": _write_integers,
    "v1.0-foreground": _write_foreground,
    "v1.0-bids": _write_bids,
    "v1.0-dicom": _write_dicom,
    "v1.0": _write,
    "v1.0-derived": _write_derived,
    "v1.0-purged": _write_purged,
    "v1.0-tiledb": _write_tiledb,
    "v1.0-pyramid": _write_pyramid,
    "v1.0-files": _write_files,
    "v1.0-layout": _write_layout,
}
_EXPORTS = {
    "v1.0": ("bold_image", "ct_image", "vectors_image"),
    "v1.0-tiledb": ("bold_image", "ct_image"),
    "v1.0-files": ("bold_image", "ct_image", "pair_image", "ct_seg", "stored"),
    "v1.0-integers": ("little_image", "big_image", "series_image", "halves_image"),
}
"""Volumes whose NIfTI files come back."""


def main(target: Path) -> None:
    """Write both files into `target`; refuses to replace them."""
    if (target / "study.tar.xz").exists():
        raise SystemExit(f"{target} holds the archive of a released format: it is never made again")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        radi = _WRITERS[target.name](folder)
        expected = read(radi)
        expected["exports"] = {}
        for obs_id in _EXPORTS.get(target.name, ()):
            radi.get_volume(obs_id).to_nifti(folder / "export.nii")
            expected["exports"][obs_id] = hashlib.sha256((folder / "export.nii").read_bytes()).hexdigest()
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:xz", preset=9) as tar:
            for path in sorted(p for name in ("sources", "study") for p in (folder / name).rglob("*")):
                if path.is_file():
                    info = tar.gettarinfo(path, path.relative_to(folder).as_posix())
                    # whose machine it was is nobody's business
                    info.uid = info.gid = 0
                    info.mtime = _REGISTERED if path.is_relative_to(folder / "sources") else 0
                    info.uname = info.gname = ""
                    with path.open("rb") as file:
                        tar.addfile(info, file)
    (target / "study.tar.xz").write_bytes(packed.getvalue())
    (target / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
