"""Which files a volume lies in: as JSON and back, and what of somebody's JSON is refused."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from radiobject.backends.files.source import Bits, Frames, Member, Run, Whole, source_from_json
from radiobject.errors import FormatError

ZERO = "0" * 64


def member(path: str = "sub-01/a.nii", size: int = 1000, **said: Any) -> Member:
    return Member(path, size, said.pop("mtime_ns", 5), said.pop("head", 352), ZERO, **said)


def frames(**changed: Any) -> Frames:
    """A series of 5 slices of 4x3 voxels: two in the first file, 100 bytes apart, and three in others."""
    said: dict[str, Any] = {
        "members": tuple(member(f"{n}.dcm") for n in range(4)),
        "shape": (5, 4, 3),
        "dims": ("z", "y", "x"),
        "dtype": np.dtype("u2"),
        "byteorder": ">",
        "places": (Run(0, 400, 100, 2), Run(1, 400), Run(2, 400), Run(3, 400)),
        "bits": Bits(12, 11, signed=False),
    }
    return Frames(**{**said, **changed})


SOURCES = [
    frames(),
    frames(bits=None, members=(member(mtime_ns=None, etag='"abc"', sha256=ZERO),), places=(Run(0, 352),)),
    frames(
        shape=(2, 3, 4, 3, 2), dims=("t", "c", "z", "y", "x"), axes=("c", "t", "z", "y", "x"),
        places=(Run(0, 352),),
    ),
    Whole((member("a.nii.gz"),), "nifti", {"axis4": "auto", "kind": "image"}),
]  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_comes_back_from_its_json(source: Any) -> None:
    assert source_from_json(json.loads(json.dumps(source.to_json())), "volume.json") == source


def test_places_are_found_by_the_number_of_the_frame() -> None:
    found = frames()
    assert [found.place(n) for n in range(5)] == [(0, 400), (0, 500), (1, 400), (2, 400), (3, 400)]
    assert (found.n_frames, found.frame_bytes, found.leading) == (5, 24, 1)
    assert (SOURCES[1].n_frames, SOURCES[1].frame_bytes, SOURCES[1].leading) == (1, 120, 0)


def test_many_frames_of_one_file_are_one_place() -> None:
    series = frames(
        members=(member(size=10**9),), shape=(10_000, 4, 3), places=(Run(0, 400, 32, 10_000),), bits=None
    )
    assert len(series.to_json()["places"]) == 1
    assert series.place(9_999) == (0, 400 + 32 * 9_999)


HOSTILE: list[tuple[tuple[Any, ...], Any]] = [
    (("kind",), "pickle"),
    (("members", 0, "path"), "../outside.nii"),
    (("members", 0, "path"), "/etc/passwd"),
    (("members", 0, "path"), "s3://bucket/a.nii"),
    (("members", 0, "path"), "a\\b.nii"),
    (("members", 0, "path"), "a\0.nii"),
    (("members", 0, "path"), ["a.nii"]),
    (("members", 0, "path"), "\ud800.nii"),
    (("members", 0, "bytes"), -1),
    (("members", 0, "bytes"), True),
    (("members", 0, "bytes"), "1000"),
    (("members", 0, "bytes"), 2**60),
    (("members", 0, "mtime_ns"), 1.5),
    (("members", 0, "head"), 1001),
    (("members", 0, "head"), 2**20 + 1),
    (("members", 0, "head_sha256"), "0" * 63),
    (("members", 0, "sha256"), "g" * 64),
    (("members", 0, "etag"), 7),
    (("members",), []),
    (("members",), {}),
    (("shape",), [5, 4]),
    (("shape",), [5, 0, 3]),
    (("shape",), [5, 4, 2**49]),
    (("shape",), [5, 4, 3.0]),
    (("dims",), ["x", "y", "z"]),
    (("dims",), ["q", "y", "x"]),
    (("axes",), ["z", "y"]),
    (("axes",), ["z", "z", "x"]),
    (("dtype",), "O"),
    (("dtype",), "f2"),
    (("byteorder",), "="),
    (("places",), []),
    (("places",), [[0, 400]] * 4),
    (("places",), [[4, 400]] * 5),
    (("places",), [[0, -1]] * 5),
    (("places",), [[0, 977]] * 5),
    (("places",), [[0, 400, 0, 5]]),
    (("places",), [[0, 400, 23, 5]]),
    (("places",), [[0, 400, 200, 5]]),
    (("places",), [[0, 400, 24, 2**50]]),
    (("places",), [[0, 400, 6, 20]]),
    (("places",), [[0, 400, 2, 60]]),
    (("places",), [[0]] * 5),
    (("places",), [[0, 400, 24, 5, 1]]),
    (("places",), [["0", 400]] * 5),
    (("bits",), [12, 11]),
    (("bits",), [17, 16, False]),
    (("bits",), [12, 3, False]),
    (("bits",), [12, 11, 0]),
]


@pytest.mark.parametrize(("at", "value"), HOSTILE, ids=lambda v: str(v)[:40])
def test_what_nobody_would_write_is_refused(at: tuple[Any, ...], value: Any) -> None:
    body: Any = copy.deepcopy(frames().to_json())
    where = body
    for step in at[:-1]:
        where = where[step]
    where[at[-1]] = value
    with pytest.raises(FormatError):
        source_from_json(body, "volume.json")


def test_no_volume_is_of_millions_of_frames() -> None:
    said: dict[str, Any] = {"members": (member(size=2**24),), "bits": None}
    most = frames(**said, shape=(2**20, 1, 1), places=(Run(0, 400, 2, 2**20),))
    assert most.n_frames == 2**20
    with pytest.raises(FormatError, match="1048577"):
        frames(**said, shape=(2**20 + 1, 1, 1), places=(Run(0, 400, 2, 2**20 + 1),))


@pytest.mark.parametrize("name", list(frames().to_json()))
def test_what_is_missing_is_refused(name: str) -> None:
    body = frames().to_json()
    del body[name]
    with pytest.raises(FormatError, match=r"volume\.json"):
        source_from_json(body, "volume.json")


@pytest.mark.parametrize(
    ("reader", "arguments"),
    [
        ("os.system", {}),
        ("nifti", ["a"]),
        ("nifti", {"a": "b" * 2**17}),
        ("nifti", {"axis4": "auto", "reorient": "XYZ"}),
        ("nifti", {"axis4": "auto", "reorient": "RAS" * 1000}),
        ("nifti", {"axis4": "auto", "reorient": ["R", "A", "S"]}),
    ],
)
def test_a_decoder_is_one_of_a_closed_table(reader: str, arguments: Any) -> None:
    body = {**Whole((member(),), "nifti").to_json(), "reader": reader, "arguments": arguments}
    with pytest.raises(FormatError) as caught:
        source_from_json(body, "volume.json")
    assert len(str(caught.value)) < 300
