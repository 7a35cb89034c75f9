"""Writes studies with PyPI radiobject 0.1.1: runs inside that package's own environment, not in ours.

    .venv-upstream/bin/python tests/upstream/write_upstream.py FOLDER < jobs.json

Makes FOLDER/<name> of every job, and prints what the package itself returns for each id: a digest of the
voxels of `loc[obs_id]`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from radiobject.ctx import OrientationConfig, S3Config, SliceOrientation, TileConfig, WriteConfig

import radiobject
from radiobject.streaming import RadiObjectWriter

__all__: list[str] = []


def main() -> None:
    """Write every study, then ask it for every volume."""
    folder, answers = Path(sys.argv[1]), {}
    for job in json.load(sys.stdin):
        radiobject.configure(
            write=WriteConfig(
                tile=TileConfig(orientation=SliceOrientation(job.get("tile", "isotropic"))),
                orientation=OrientationConfig(canonical_target=job.get("target", "RAS")),
            ),
            s3=S3Config(include_credentials=False),
        )
        uri = str(folder / job["name"])
        answers[job["name"]] = _answers(MAKERS[job["how"]](uri, job, folder))
    json.dump(answers, sys.stdout)


def _from_niftis(uri: str, job: dict[str, Any], _: Path) -> radiobject.RadiObject:
    frame = None if job.get("obs_meta") is None else pd.DataFrame(job["obs_meta"])
    if frame is not None and "seen" in frame:
        frame["seen"] = pd.to_datetime(frame["seen"])
    images = {name: [tuple(pair) for pair in pairs] for name, pairs in job["images"].items()}
    return radiobject.RadiObject.from_niftis(
        uri, images=images, obs_meta=frame, reorient=job.get("reorient", False)
    )


def _copied(uri: str, job: dict[str, Any], folder: Path) -> radiobject.RadiObject:
    return radiobject.RadiObject(str(folder / job["of"])).materialize(uri)


def _collection(uri: str, job: dict[str, Any], _: Path) -> radiobject.VolumeCollection:
    return radiobject.VolumeCollection.from_niftis(
        uri, [tuple(pair) for pair in job["images"]], name=job["collection"]
    )


def _written(uri: str, _job: dict[str, Any], _: Path) -> radiobject.RadiObject:
    schema = {"dtype": np.dtype("U8"), "run": np.dtype("U8"), "kv": np.float32, "n": np.int16}
    with RadiObjectWriter(uri) as writer:
        writer.write_obs_meta(pd.DataFrame({"obs_subject_id": ["b", "a"]}))
        with writer.add_collection("CT", obs_schema=schema) as volumes:
            for n, subject in enumerate(["b", "a"]):
                voxels = np.full((4, 3, 2), n, dtype="uint16")
                attrs = {"dtype": "x", "run": "r1", "kv": [1.5, np.nan][n], "n": n}
                volumes.write_volume(voxels, f"{subject}_CT", subject, **attrs)
        with writer.add_collection("soft_mask") as volumes:
            volumes.write_volume(np.full((4, 3, 2), 0.5), "a_soft", "a")
    return radiobject.RadiObject(uri)


def _from_dicoms(uri: str, _job: dict[str, Any], folder: Path) -> radiobject.RadiObject:
    series = folder.parent / "dicom" / "p1"
    series.mkdir(parents=True)
    for n in range(3):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid()
        slice_ = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        slice_.Modality, slice_.SeriesDescription, slice_.KVP = "CT", "thorax", 120
        slice_.InstanceNumber, slice_.SliceThickness, slice_.PixelSpacing = n + 1, 2.5, [0.5, 0.75]
        slice_.ImageOrientationPatient, slice_.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [1, 2, 2.5 * n]
        slice_.Rows, slice_.Columns, slice_.SamplesPerPixel = 5, 4, 1
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 0
        slice_.PhotometricInterpretation = "MONOCHROME2"
        slice_.PixelData = np.arange(20, dtype="<u2").tobytes()
        pydicom.dcmwrite(series / f"{n}.dcm", slice_, enforce_file_format=True)
    return radiobject.RadiObject.from_dicoms(uri, dicom_dirs=[(series, "p1")])


def _answers(made: Any) -> dict[str, dict[str, str]]:
    names = made.collection_names if isinstance(made, radiobject.RadiObject) else [made.name]
    found = {}
    for name in names:
        collection = made.collection(name) if isinstance(made, radiobject.RadiObject) else made
        found[name] = {
            i: hashlib.sha256(np.ascontiguousarray(collection.loc[i].to_numpy()).tobytes()).hexdigest()
            for i in collection.obs_ids
        }
    return found


MAKERS = {
    "from_niftis": _from_niftis,
    "copied": _copied,
    "collection": _collection,
    "written": _written,
    "from_dicoms": _from_dicoms,
}


if __name__ == "__main__":
    main()
