"""Fixtures that more than one wing uses: real files, and a maker of NIfTI files."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from radiobject import RadiObject
from radiobject.backends.zarr import ZarrBackend
from radiobject.location import Location
from tests.command import Outcome
from tests.in_place import EVERYWHERE, registering

ARCHIVE = "real-data.tar.xz"
ARCHIVE_SHA256 = "23d41459939bf10094d1f4281342d6678bae90ae7ecefe62c3b033e8eafe94cd"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """A command by its words, run in this process."""
    from radiobject.cli import main

    def call(*words: object) -> Outcome:
        with pytest.raises(SystemExit) as left:
            main([str(w) for w in words])
        said = capsys.readouterr()
        return Outcome(int(left.value.code or 0), said.out, said.err)

    return call


@pytest.fixture(scope="session")
def real_data(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with dicom2nifti/, dcm_qa_ct/, totalsegmentator/, dcmqi/, niivue/ and bids/.

    $RADIOBJECT_TEST_DATA names that folder, or a folder that holds the archive, or the archive; without it
    the archive is looked for beside the checkout. Without either the test is skipped, except under CI.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    named = os.environ.get("RADIOBJECT_TEST_DATA")
    for place in [Path(named)] if named else [beside]:
        if (place / "niivue").is_dir():
            return place
        archive = place / ARCHIVE if place.is_dir() else place
        if archive.is_file():
            cache = getattr(pytestconfig, "cache", None)  # absent with -p no:cacheprovider
            return _unpacked(
                archive, cache.mkdir("real-data") if cache else tmp_path_factory.mktemp("real-data")
            )
    reason = f"no real data: set RADIOBJECT_TEST_DATA to {ARCHIVE} or its unpacked folder"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason)
    pytest.skip(reason)


def _unpacked(archive: Path, cache: Path) -> Path:
    """The archive's content below `cache`, unpacked there at most once."""
    target = cache / ARCHIVE_SHA256[:16]
    if target.is_dir():
        return target
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != ARCHIVE_SHA256:
        pytest.fail(f"{archive}: expected SHA-256 {ARCHIVE_SHA256}, got {found}")
    # Unpacked aside and renamed, so that a run beside this one never sees half of it.
    aside = Path(tempfile.mkdtemp(dir=target.parent))
    with tarfile.open(archive) as tar:
        tar.extractall(aside, filter="data")
    try:
        aside.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(aside)
    return target


@pytest.fixture(scope="session")
def nibabel_data() -> Path:
    """The test files that ship with nibabel."""
    return Path(nibabel.__file__).parent / "tests" / "data"


NiftiMaker = Callable[..., Any]


@pytest.fixture(scope="session")
def make_nifti() -> NiftiMaker:
    """`make(array, ...)` gives the bytes of a NIfTI file, or (.hdr, .img) with pair=True.

    `array` has the axes of the file, x first. `fields` go into the header as they are, last of all.
    """

    def make(
        array: npt.NDArray[Any],
        *,
        affine: npt.NDArray[np.float64] | None = None,
        version: int = 1,
        order: str = "<",
        pair: bool = False,
        extensions: Sequence[tuple[int, bytes]] = (),
        fields: Mapping[str, Any] | None = None,
        lead: bytes = b"",
        tail: bytes = b"",
    ) -> Any:
        name = f"Nifti{version}{'Pair' if pair else ''}Header"
        header = getattr(getattr(nibabel, f"nifti{version}"), name)(endianness=order)
        header.set_data_shape(array.shape)
        header.set_data_dtype(array.dtype.newbyteorder(order))
        header["scl_slope"], header["scl_inter"] = 1, 0
        header.set_sform(np.diag([2.0, 2.5, 3.0, 1.0]) if affine is None else affine, 1)
        beside = b"\1\0\0\0" if extensions else bytes(4)
        for code, content in extensions:
            size = -(-(8 + len(content)) // 16) * 16
            beside += np.array([size, code], order + "i4").tobytes() + content.ljust(size - 8, b"\0")
        header["vox_offset"] = len(lead) if pair else header.sizeof_hdr + len(beside)
        for key, value in (fields or {}).items():
            header[key] = value
        voxels = array.astype(array.dtype.newbyteorder(order)).tobytes(order="F")
        front = header.binaryblock + beside
        return (front, lead + voxels + tail) if pair else front + voxels + tail

    return make


ENGINES = ("memory", "tensorstore", "zarr-python", "zarr-python on fsspec", "tiledb", "files")
"""What stores voxels. All but "on fsspec" are at home on a local disk, memory with its tables there.

"files" stores none: what tests make of arrays is written to NIfTI files and registered where it lies. Modules
of tests that only read say `IN_PLACE = True`."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that uses `backend`, or is one of the model's, runs once on each engine; markers say where not.

    Those that have their place from `backend` run on fsspec's memory:// as well.
    """
    test, used = metafunc.definition, set(metafunc.fixturenames)
    if "engine" not in used or not used & {"backend", "everywhere"}:
        return
    engines = [e for e in ENGINES if "backend" in used or "fsspec" not in e]
    if not getattr(metafunc.module, "IN_PLACE", False):
        engines.remove("files")
    if "on_s3" in used:
        engines = list(metafunc.module.ENGINES)  # tests/s3 says in each file which of its two
    marker = test.get_closest_marker("no_backend") or test.get_closest_marker("only")
    if marker is not None:
        wrong = set(marker.args) - set(ENGINES) or bool(marker.args) != (marker.name == "only")
        if wrong or not marker.kwargs.get("reason"):
            raise pytest.UsageError(f"{test.nodeid}: {marker} wants reason=, and `only` some of {engines}")
        if marker.name == "no_backend":
            return
        engines = [e for e in engines if e in marker.args]
    metafunc.parametrize("engine", engines, indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every `gap` is a strict xfail, so that a mended one shows."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        for gap in item.iter_markers("gap"):
            where = {k: v for k, v in gap.kwargs.items() if k not in ("reason", "raises")}
            said = {k: v for k, v in gap.kwargs.items() if k not in where}
            if set(gap.args) - set(ENGINES) or where.keys() - params.keys() or len(said) < 2:
                raise pytest.UsageError(f"{item.nodeid}: {gap} wants engines, reason= and raises=")
            if params.get("engine") in gap.args and all(params[k] in v for k, v in where.items()):
                item.add_marker(pytest.mark.xfail(strict=True, **said))


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The engine under test, which whatever is made on Zarr has without asking; None for a test of none."""
    name = getattr(request, "param", None)
    if name == "tiledb":
        pytest.importorskip("tiledb")
    with pytest.MonkeyPatch.context() as patch:
        if name == "files":
            folder = request.getfixturevalue("tmp_path_factory").mktemp("sources")
            patch.setattr(Location, "sources", EVERYWHERE)
            patch.setattr(
                RadiObject, "from_niftis", staticmethod(registering(RadiObject.from_niftis, folder))
            )
        elif name not in (None, "memory", "tiledb"):
            # the default argument is the one thing that all of a study's backends are made with
            patch.setattr(ZarrBackend.__init__, "__defaults__", (name.partition(" on ")[0],))
        yield name


@dataclass(frozen=True)
class Place:
    """Where a test may put studies, and the backend and engine that they are written with."""

    root: str
    backend: str
    engine: str

    def uri(self, name: str = "study") -> str:
        """A place for one study; equal for equal names."""
        return f"{self.root}/{name}"


@pytest.fixture
def backend(engine: str, tmp_path: Path) -> Iterator[Place]:
    """The same test on every backend and engine; pass `backend.uri()` and `backend=backend.backend`."""
    name, _, fsspec = engine.partition(" on ")
    kind = name if name in ("memory", "tiledb") else "zarr"
    if name != "memory" and not fsspec:
        yield Place(str(tmp_path), kind, name)
        return
    root = f"memory://{uuid.uuid4().hex}"
    yield Place(root, kind, name)
    fs, path = Location(root).filesystem()
    if fs.exists(path):
        fs.rm(path, recursive=True)


StudyMaker = Callable[..., RadiObject]


@pytest.fixture
def study(tmp_path: Path) -> StudyMaker:
    """As `module_study`, for one test."""
    return study_maker(tmp_path)


@pytest.fixture(scope="module")
def module_study(engine: str | None, tmp_path_factory: pytest.TempPathFactory) -> StudyMaker:
    """`study({"T1w": {"sub-01": array}}, obs_meta, **options)`: a small study of arrays, in milliseconds.

    A value is an array (x, y, z[, t]), `(array, affine)`, or a list of either; without images there are the
    subjects sub-03, sub-01, sub-02 in that order, with an int16 `T1w` and a uint8 `seg` of 6x5x4 voxels that
    hold the number of the subject, plus 10 in `seg`. This one is for what many tests read and none changes.
    """
    return study_maker(tmp_path_factory.mktemp("module"))


def study_maker(folder: Any) -> StudyMaker:
    """A `study` fixture that puts its studies below `folder`, of which only `folder / name` is asked."""

    def make(
        images: Mapping[str, Mapping[str, Any]] | None = None,
        obs_meta: Any = None,
        *,
        uri: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> RadiObject:
        if images is None:
            numbers = {"sub-03": 3, "sub-01": 1, "sub-02": 2}
            images = {
                "T1w": {s: np.full((6, 5, 4), n, dtype="i2") for s, n in numbers.items()},
                "seg": {s: np.full((6, 5, 4), n + 10, dtype="u1") for s, n in numbers.items()},
            }
        place = folder / f"study-{uuid.uuid4().hex}" if uri is None else uri
        return RadiObject.from_niftis(place, as_sources(images), obs_meta, **options)

    return make


def as_sources(images: Mapping[str, Mapping[str, Any]]) -> dict[str, list[tuple[Any, str]]]:
    """`{collection: {subject: array, (array, affine) or a list of them}}` as from_niftis takes it."""

    def pairs(value: Any) -> list[Any]:
        several = value if isinstance(value, list) else [value]
        return [(v, np.eye(4)) if isinstance(v, np.ndarray) else v for v in several]

    return {
        name: [(source, subject) for subject, value in of.items() for source in pairs(value)]
        for name, of in images.items()
    }
