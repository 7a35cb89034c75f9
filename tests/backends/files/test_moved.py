"""An archive that moved to another place: what its files may have lost on the way, and what they may not."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject.backends.base import ArraySpec, Level
from radiobject.backends.files import FilesBackend
from radiobject.backends.files.source import Frames, Run
from radiobject.errors import SourceChangedError
from radiobject.location import Location
from radiobject.storage import Storage
from tests.backends.files.ground import HEAD, one_block

SPEC = ArraySpec((6, 5, 4), np.dtype("i2"), ("z", "y", "x"), (6, 5, 4), (6, 5, 4))
RAMP = np.arange(120, dtype="i2").reshape(SPEC.shape)
SECOND = 10**9


@pytest.fixture
def source(tmp_path: Path) -> Frames:
    """A file of which nothing but the head was read."""
    made = one_block(Storage(Location(str(tmp_path))), "a", SPEC, RAMP)
    time = 1_700_000_000 * SECOND + 123_456_789
    os.utime(tmp_path / "a.nii", ns=(time, time))
    return replace(made, members=(replace(made.members[0], mtime_ns=time),))


def read(root: Path, source: Frames) -> Any:
    backend = FilesBackend(Location(str(root / "study")))
    path = f"{len(list(root.glob('study/*')))}.files"
    backend.register_volume(path, (Level("0", SPEC),), {}, {}, source)
    return backend.open_volume(path).read(SPEC.box)


@pytest.mark.parametrize("ns", [123_456_789, 0])
def test_times_may_lose_their_fraction_of_a_second(tmp_path: Path, source: Frames, ns: int) -> None:
    time = 1_700_000_000 * SECOND + ns
    os.utime(tmp_path / "a.nii", ns=(time, time))
    np.testing.assert_array_equal(read(tmp_path, source), RAMP)


@pytest.mark.parametrize("ns", [123_456_788, 123_000_000, SECOND, -SECOND])
def test_any_other_time_is_that_of_another_file(tmp_path: Path, source: Frames, ns: int) -> None:
    time = 1_700_000_000 * SECOND + ns
    os.utime(tmp_path / "a.nii", ns=(time, time))
    with pytest.raises(SourceChangedError, match="last changed"):
        read(tmp_path, source)


def test_an_archive_may_travel_by_tar(tmp_path: Path, source: Frames) -> None:
    (tmp_path / "away").mkdir()
    subprocess.run(
        f"tar --format=gnu -c -f - a.nii | tar -x -f - -C {tmp_path / 'away'}",
        shell=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path / "away", source), RAMP)


def test_a_file_that_was_read_whole_may_be_of_any_time(tmp_path: Path) -> None:
    root = Storage(Location(str(tmp_path)))
    data = HEAD + RAMP.tobytes()
    member = one_block(root, "a", SPEC, RAMP).members[0]
    root.write("a.nii", data)
    whole = replace(member, bytes=len(data), head=len(data), head_sha256=hashlib.sha256(data).hexdigest())
    source = Frames((whole,), SPEC.shape, SPEC.dims, SPEC.dtype, "<", (Run(0, len(HEAD)),))
    shutil.copyfile(tmp_path / "a.nii", tmp_path / "b.nii")
    os.replace(tmp_path / "b.nii", tmp_path / "a.nii")
    os.utime(tmp_path / "a.nii", ns=(5, 5))
    np.testing.assert_array_equal(read(tmp_path, source), RAMP)
    root.write("a.nii", data[:-1] + b"!")
    with pytest.raises(SourceChangedError):
        read(tmp_path, source)


def test_no_room_is_made_for_voxels_that_a_document_only_claims(tmp_path: Path, source: Frames) -> None:
    size = 2**50
    claimed = replace(source.members[0], bytes=size)
    spec = ArraySpec((2**16, 2**16, 2**16), np.dtype("u1"), SPEC.dims, (1, 1, 1), (1, 1, 1))
    frames = Frames((claimed,), spec.shape, spec.dims, spec.dtype, "<", (Run(0, 0),))
    backend = FilesBackend(Location(str(tmp_path / "study")))
    backend.register_volume("v.files", (Level("0", spec),), {}, {}, frames)
    with pytest.raises(SourceChangedError, match="1,125,899,906,842,624 bytes"):
        backend.open_volume("v.files").read(spec.box)


def test_the_array_of_a_volume_outlives_its_file(tmp_path: Path, source: Frames) -> None:
    backend = FilesBackend(Location(str(tmp_path / "study")))
    backend.register_volume("v.files", (Level("0", SPEC),), {}, {}, source)
    array = backend.open_volume("v.files").native()
    # a map of the file would show the change, and end the process once the file is cut short
    with open(tmp_path / "a.nii", "r+b") as file:
        file.write(b"\xff" * source.members[0].bytes)
    np.testing.assert_array_equal(array, RAMP)
    assert not array.flags.writeable
    with pytest.raises(SourceChangedError):
        backend.open_volume("v.files").native()
