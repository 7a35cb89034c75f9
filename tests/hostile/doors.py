"""The ordinary public calls by which what strangers send is opened, each on its own.

A door takes the folder of a case. What it reads is in `study` or `file*`, what it writes goes below `out`.
Doors that read voxels hold them against the true ones: a hostile study gives those or an error.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from radiobject import RadiObject, Volume
from radiobject.backends.tiledb import TileDBBackend
from radiobject.backends.zarr import ZarrBackend
from radiobject.backends.zarr.volume import ZarrHandle
from radiobject.errors import IntegrityError
from radiobject.location import Location
from radiobject.model.foreground import stored_index
from radiobject.show.viewer.files import VolumeFiles
from tests.hostile.crafting import voxels_of

__all__ = ["DOORS", "STUDY_DOORS", "warm"]


def _open(place: Path, version: int | str | None = None) -> RadiObject:
    return RadiObject(place / "study", version=version)


def _true(obs_id: str, voxels: Any) -> None:
    if not np.array_equal(voxels, voxels_of(obs_id)):
        raise AssertionError(f"voxels of {obs_id} that are not those of the study")


def _copied(place: Path, name: str) -> Path:
    """The study once more, with what is no file in it, for doors that change it."""

    def copy(source: str, target: str) -> None:
        if stat.S_ISFIFO(os.lstat(source).st_mode):
            os.mkfifo(target)
        else:
            shutil.copy2(source, target, follow_symlinks=False)

    return Path(shutil.copytree(place / "study", place / "out" / name, symlinks=True, copy_function=copy))


def opened(place: Path) -> str:
    return repr(_open(place))


def obs(place: Path) -> int:
    return sum(len(_open(place).collection(name).obs.read()) for name in ("CT", "seg"))


def subjects(place: Path) -> int:
    return len(_open(place).obs_meta.read())


def filtered(place: Path) -> int:
    return len(_open(place).CT.filter("dim_x > 3 and intensity_max > 10").obs_ids)


def header(place: Path) -> list[Any]:
    volume = _open(place).CT.iloc[0]
    return [volume.affine, volume.shape, volume.axcodes, volume.spacing, volume.metadata, repr(volume)]


def read(place: Path) -> int:
    """Every voxel of both collections."""
    radi, count = _open(place), 0
    for name in ("CT", "seg"):
        for volume in radi.collection(name):
            _true(str(volume.obs_id), volume.to_numpy())
            count += 1
    return count


def read_zarr_python(place: Path) -> int:
    """Every image, by the other engine."""
    radi = _open(place)
    table, count = radi.CT.obs._table, 0
    backend = ZarrBackend(Location(str(place / "study")), engine="zarr-python")
    for row in table.read(["obs_id", "_path", "_hint"]).to_pylist():
        handle = backend.open_volume(row["_path"], row["_hint"])
        _true(row["obs_id"], handle.read(handle.spec.box).transpose())
        count += 1
    return count


def patch(place: Path) -> Any:
    """A box inside one chunk, which needs the index of the shard and one chunk of it."""
    found = _open(place).CT.iloc[0][2:9, 3:8, 1:5]
    if not np.array_equal(found, voxels_of("sub-01_CT")[2:9, 3:8, 1:5]):
        raise AssertionError("voxels that are not those of the study")
    return found.shape


def by_url(place: Path) -> Any:
    """The first image by its own URL."""
    (path,) = (place / "study/collections/CT/sub-01_CT").glob("*.*/")
    volume = Volume(path)
    _true("sub-01_CT", volume.to_numpy())
    return volume.affine, repr(volume)


def nifti(place: Path) -> int:
    radi = _open(place)
    for number, volume in enumerate([*radi.CT, *radi.seg]):
        volume.to_nifti(place / f"out/{number}.nii.gz")
    return 4


def validate(place: Path) -> str:
    """A report that finds something is a refusal too."""
    report = _open(place).validate("full")
    if not report.ok:
        raise IntegrityError(repr(report))
    return repr(report)


def written(place: Path) -> str:
    return repr(_open(place).write(place / "out/copy", progress=False))


def exported(place: Path) -> int:
    return int(_open(place).export(place / "out/bids", progress=False))


def history(place: Path) -> Any:
    radi = _open(place)
    return radi.versions(), radi.pin(), radi.diff(radi.version)


def tagged(place: Path) -> str:
    return repr(_open(place, "release"))


def ledger(place: Path) -> int:
    return len(_open(place).ledger.read())


def pages(place: Path) -> int:
    """What a notebook shows, with thumbnails."""
    radi = _open(place)
    return len(radi._repr_html_()) + len(radi.CT._repr_html_()) + len(radi.CT.iloc[0]._repr_html_())


def foreground(place: Path) -> Any:
    study = _open(place)._study
    return [stored_index(study, "seg", position) for position in range(study.obs("seg").num_rows)]


def cleaned(place: Path) -> str:
    """For real, and by force: it may take what is the study's, and nothing else."""
    _open(place).cleanup(keep=1, older_than=0, force=True, dry_run=True)
    copy = _copied(place, "cleaned")
    return repr(RadiObject(copy).cleanup(keep=1, older_than=0, force=True))


def purged(place: Path) -> str:
    copy = _copied(place, "purged")
    return repr(RadiObject(copy).purge("sub-02", "withdrew", force=True))


def appended(place: Path) -> str:
    copy = _copied(place, "appended")
    more = {"CT": [((voxels_of("sub-03_CT"), np.eye(4)), "sub-03")]}
    return repr(RadiObject(copy).append(more, {"obs_subject_id": ["sub-03"], "age": [3]}, progress=False))


def viewed(place: Path) -> int:
    """Every object that the viewer's server would hand out for the images."""
    size = 0
    for volume in _open(place).CT:
        if not isinstance(volume._handle, ZarrHandle):
            continue  # drawn from voxels, not from files
        files = VolumeFiles(*volume._handle.place, volume._handle.levels)
        for key in ("zarr.json", "0/zarr.json", "0/c/0/0/0", "../../../../../outside/secret"):
            if key in files:
                size += len(files.read(key, 0, files.size(key)))
    return size


def ingested(place: Path) -> str:
    """`file*` as a study."""
    files = sorted(p for p in place.glob("file*") if p.name.endswith((".nii", ".nii.gz", ".hdr")))
    return repr(RadiObject.from_niftis(place / "out/made", {"CT": [(f, "s") for f in files]}, progress=False))


def from_nifti(place: Path) -> Any:
    (path,) = place.glob("file*.nii*")
    voxels = Volume.from_nifti(path).to_numpy()
    _true("sub-01_CT", voxels)
    return voxels.shape


def from_dicom(place: Path) -> str:
    return repr(RadiObject.from_dicoms(place / "out/made", {"CT": [(place / "dicom", "s")]}, progress=False))


def foreign(place: Path) -> Any:
    """A foreign OME-Zarr image by its URL."""
    volume = Volume(place / "foreign.ome.zarr")
    _true("sub-01_CT", volume.to_numpy())
    return volume.affine


def planned(place: Path) -> str:
    from radiobject import Plan

    plan = Plan.read(place / "plan.csv")
    return repr(RadiObject.from_plan(place / "out/made", plan, progress=False))


def scanned(place: Path) -> str:
    from radiobject import scan

    plan = scan(place / "data")
    return repr(RadiObject.from_plan(place / "out/made", plan, progress=False))


def texts(place: Path) -> int:
    """Every filter in a file must be refused."""
    radi = _open(place)
    text = json.loads((place / "filter.json").read_text())
    return len(radi.CT.filter(text).obs_ids)


def named(place: Path) -> str:
    """A hostile id as a subject's, a volume's and a collection's: what is written stays in its folders."""
    name = json.loads((place / "name.json").read_text())
    voxels = (voxels_of("sub-01_CT"), np.eye(4))
    made = RadiObject.from_niftis(place / "out/made", {name: [(voxels, name, name)]}, progress=False)
    _true("sub-01_CT", made.collection(name).iloc[0].to_numpy())
    return str(made.export(place / "out/bids", progress=False))


def imported(place: Path) -> str:
    return repr(RadiObject.from_upstream(place / "upstream", place / "out/made", progress=False))


DOORS: dict[str, Callable[[Path], object]] = {
    "open": opened, "obs": obs, "subjects": subjects, "filter": filtered, "header": header, "read": read,
    "read_zarr_python": read_zarr_python, "patch": patch, "by_url": by_url, "nifti": nifti,
    "validate": validate, "write": written, "export": exported, "history": history, "tag": tagged,
    "ledger": ledger, "pages": pages, "foreground": foreground, "cleanup": cleaned, "purge": purged,
    "append": appended, "view": viewed, "ingest": ingested, "from_nifti": from_nifti,
    "from_dicom": from_dicom, "foreign": foreign, "plan": planned, "scan": scanned, "texts": texts,
    "named": named,
    "import": imported,
}  # fmt: skip

STUDY_DOORS = (
    "open", "obs", "subjects", "filter", "header", "read", "patch", "by_url", "nifti", "validate", "write",
    "export", "history", "ledger", "pages", "foreground", "cleanup", "append", "view",
)  # fmt: skip
"""What is tried of every study; `purge` and the other engine where a case asks for them."""


def warm() -> None:
    """Import what the doors need, without starting an engine that a fork would lose."""

    import nibabel
    import tensorstore
    import tiledb
    import zarr

    from radiobject.backends.zarr import tensorstore_engine, zarr_engine

    used = (nibabel, tensorstore, tiledb, zarr, tensorstore_engine, zarr_engine, TileDBBackend)
    assert all(used)
