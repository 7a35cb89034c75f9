"""A manifest or hint that somebody else has written is read only as far as it holds together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from radiobject.backends.documents import sealed
from radiobject.backends.files import FilesBackend
from radiobject.errors import CorruptObjectError, FormatError, MissingObjectError
from radiobject.location import Location
from radiobject.testing import voxels
from radiobject.testing.ground import EXTRAS, small_spec
from tests.backends.files.ground import RegisteringBackend
from tests.backends.files.test_conformance import Registered


@pytest.fixture
def backend(tmp_path: Path) -> FilesBackend:
    made = RegisteringBackend(Location(tmp_path / "study").with_sources(tmp_path))
    spec = small_spec()
    Registered().put(made, "v.files", (spec, voxels(spec)))
    return made


def document(backend: FilesBackend) -> Path:
    return Path(backend.location.path, "v.files", "volume.json")


def test_a_flipped_byte_is_seen(backend: FilesBackend) -> None:
    data = document(backend).read_bytes()
    for at in range(0, len(data), 37):
        document(backend).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(CorruptObjectError):
            backend.open_volume("v.files")


HOSTILE: dict[str, Callable[[Any], Any]] = {
    "another format": lambda b: b.update(format="files-volume-2"),
    "no level": lambda b: b.update(levels=[]),
    "two levels": lambda b: b["levels"].append(b["levels"][0]),
    "levels of another kind": lambda b: b.update(levels={}),
    "another shape than the frames": lambda b: b["levels"][0]["shape"].__setitem__(0, 21),
    "another type than the frames": lambda b: b["levels"][0].update(dtype="u2"),
    "a file outside": lambda b: b["source"]["members"][0].update(path="../../etc/passwd"),
    "a shorter file": lambda b: b["source"]["members"][0].update(bytes=200),
    "a digest of a layout that is none": lambda b: b.update(layout_sha256="0" * 63),
    "no source": lambda b: b.pop("source"),
    "a source of another kind": lambda b: b.update(source=[]),
    "an extra outside": lambda b: b["extras"].update({"../x": [1, 1]}),
    "an extra in a folder": lambda b: b["extras"].update({"a/x": [1, 1]}),
    "an extra without a checksum": lambda b: b["extras"].update(nifti=[1]),
    "a range of no file": lambda b: b["ranges"].update(nifti_tail=[7, 0, 1]),
    "a range beyond its file": lambda b: b["ranges"].update(nifti_tail=[0, 0, 10**9]),
    "a range before its file": lambda b: b["ranges"].update(nifti_tail=[0, -5, 5]),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_what_does_not_hold_together_is_refused(backend: FilesBackend, change: Callable[[Any], Any]) -> None:
    body = json.loads(document(backend).read_bytes())
    del body["self_sha256"]
    change(body)
    document(backend).write_bytes(sealed(body, "volume.json"))
    with pytest.raises(FormatError):
        backend.open_volume("v.files")
    del body["attrs"]
    with pytest.raises(FormatError):
        backend.open_volume("v.files", json.dumps(body))


@pytest.mark.parametrize("hint", ["", "[]", "{}", "null", "[" * 10**6, '{"format": "files-volume-1"}'])
def test_hints_that_are_none_are_refused(backend: FilesBackend, hint: str) -> None:
    with pytest.raises(FormatError):
        backend.open_volume("v.files", hint)


def test_a_manifest_of_another_volume_is_seen(backend: FilesBackend) -> None:
    spec = small_spec((20, 17, 8))
    other = Registered().put(backend, "w.files", (spec, voxels(spec)))
    with pytest.raises(CorruptObjectError, match="row"):
        backend.open_volume("v.files", other.hint).attrs  # noqa: B018 - it is read when it is asked for


def test_an_extra_that_is_gone_or_another_is_an_error(backend: FilesBackend) -> None:
    file = document(backend).parent / "extras" / "nifti"
    file.write_bytes(EXTRAS["nifti"][:-1] + b"x")
    with pytest.raises(CorruptObjectError, match="nifti"):
        backend.open_volume("v.files").extra("nifti")
    file.unlink()
    with pytest.raises(MissingObjectError, match="nifti"):
        backend.open_volume("v.files").extra("nifti")
