"""Hostile volumes on Zarr: array documents, attributes, shards, what stands in the place of files."""

# ruff: noqa: E501 (a table is read by its columns)
from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs
import numpy as np

from tests.hostile.crafting import Case, array, edit, edit_attributes, object_of, volume_folder

__all__ = ["CASES"]

SHARD = "0/c/0/0/0"
ABSENT = 2**64 - 1


def document(path: str, value: Any) -> Callable[[Path], None]:
    """A craft that sets one value of a level's zarr.json, wherever it stands."""
    return array(lambda level: edit(level, path, value))


def attributes(path: str, value: Any) -> Callable[[Path], None]:
    return edit_attributes(lambda attrs: edit(attrs, path, value))


def chunk_bytes(raw: bytes) -> bytes:
    return raw + struct.pack("<I", google_crc32c.value(raw))


def blosc(shape: tuple[int, int, int] = (16, 16, 16)) -> bytes:
    return bytes(numcodecs.Blosc("lz4hc", 5, numcodecs.Blosc.BITSHUFFLE).encode(np.ones(shape, "<i2")))


def index(entries: list[tuple[int, int]]) -> bytes:
    return chunk_bytes(b"".join(struct.pack("<QQ", *entry) for entry in entries))


def shard(chunks: list[bytes], entries: list[tuple[int, int]] | None = None) -> Callable[[Path], None]:
    """A craft that puts a shard of these chunks in place of the first image's, its checksums all right."""
    places, at = [], 0
    for chunk in chunks:
        places.append((at, len(chunk)))
        at += len(chunk)
    body = b"".join(chunks) + index(entries or places)
    return lambda place: object_of(place, SHARD, body)


def indexed(entries: list[tuple[int, int]]) -> Callable[[Path], None]:
    """A craft whose index lies about where the chunks of a sound shard are."""
    return shard([chunk_bytes(blosc())] * 4, entries)


def bomb(size: int) -> bytes:
    """A blosc frame that says, and is, far more bytes than a chunk has."""
    return chunk_bytes(bytes(numcodecs.Blosc("zstd", 9).encode(bytes(size))))


def lying_header(size: int) -> bytes:
    """A blosc frame whose header says another decoded size."""
    raw = bytearray(blosc())
    raw[4:8] = struct.pack("<I", size)
    return chunk_bytes(bytes(raw))


def codec(*chain: Any) -> Callable[[Path], None]:
    return document(
        "codecs__0__configuration__codecs", [{"name": "bytes", "configuration": {"endian": "little"}}, *chain]
    )


def compressed(name: str, payload: bytes, **settings: Any) -> Callable[[Path], None]:
    """A craft that says another compressor and stores a shard of four of its chunks."""

    def craft(place: Path) -> None:
        codec({"name": name, "configuration": settings})(place)
        body = payload * 4 + index([(n * len(payload), len(payload)) for n in range(4)])
        object_of(place, SHARD, body)

    return craft


def instead(key: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    """A craft that puts something else in the place of an object of the first image."""

    def craft(place: Path) -> None:
        path = volume_folder(place / "study") / key
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        make(path)

    return craft


def linked_shard(place: Path) -> None:
    """A sound shard, but outside of the study."""
    path = volume_folder(place / "study") / SHARD
    shutil.move(path, place / "outside/shard")
    path.symlink_to(place / "outside/shard")


def linked_folder(place: Path) -> None:
    """A whole volume that lies outside of the study."""
    path = volume_folder(place / "study")
    shutil.move(path, place / "outside/volume")
    path.symlink_to(place / "outside/volume")


def linked_collection(place: Path) -> None:
    shutil.move(place / "study/collections/CT", place / "outside/CT")
    (place / "study/collections/CT").symlink_to(place / "outside/CT")


def sparse(place: Path) -> None:
    """A shard of a terabyte that takes no place on the disk."""
    with (volume_folder(place / "study") / SHARD).open("r+b") as file:
        file.truncate(2**40)


def foreign(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """A craft of an image that is not ours, without our attributes and without consolidated metadata."""

    def craft(place: Path) -> None:
        source = volume_folder(place / "study")
        shutil.copytree(source, place / "foreign.ome.zarr")
        group = json.loads((source / "zarr.json").read_bytes())
        del group["attributes"]["radiobject"]
        group.pop("consolidated_metadata")
        change(group)
        (place / "foreign.ome.zarr/zarr.json").write_text(json.dumps(group))

    return craft


def foreign_level(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def craft(place: Path) -> None:
        foreign(lambda group: None)(place)
        path = place / "foreign.ome.zarr/0/zarr.json"
        level = json.loads(path.read_bytes())
        change(level)
        path.write_text(json.dumps(level))

    return craft


def cases() -> list[Case]:
    """Each with the door that must refuse it."""
    sharding = "codecs__0__configuration__"
    documents: dict[str, tuple[str, Any]] = {
        "shape-huge": ("shape", [2**40] * 3), "shape-negative": ("shape", [-16, 18, 20]), "shape-zero": ("shape", [0, 18, 20]),
        "shape-float": ("shape", [16.0, 18, 20]), "shape-text": ("shape", "16x18x20"), "shape-null": ("shape", None),
        "shape-long": ("shape", [16] * 64), "shape-scalar": ("shape", []), "shape-beyond": ("shape", [10**400, 18, 20]),
        "shape-other": ("shape", [16, 18, 40]), "shape-large": ("shape", [2**20, 2**20, 2**10]),
        "chunks-huge": ("chunk_grid__configuration__chunk_shape", [2**20] * 3),
        "chunks-zero": ("chunk_grid__configuration__chunk_shape", [0, 32, 32]),
        "chunks-missing": ("chunk_grid__configuration__chunk_shape", ...),
        "chunks-rectilinear": ("chunk_grid__name", "rectilinear"), "grid-null": ("chunk_grid", None),
        "inner-huge": (f"{sharding}chunk_shape", [2**30] * 3), "inner-one": (f"{sharding}chunk_shape", [1, 1, 3]),
        "inner-zero": (f"{sharding}chunk_shape", [0, 0, 0]), "inner-text": (f"{sharding}chunk_shape", "16"),
        "shards-of-ones": ("codecs__0__configuration", lambda c: {**c, "chunk_shape": [1, 1, 1]}),
        "dtype-object": ("data_type", "object"), "dtype-struct": ("data_type", [["a", "<i4"]]), "dtype-string": ("data_type", "string"),
        "dtype-bytes": ("data_type", {"name": "null_terminated_bytes", "configuration": {"length_bytes": 2**40}}),
        "dtype-python": ("data_type", "numpy.object_"), "dtype-null": ("data_type", None), "dtype-float16": ("data_type", "float16"),
        "dtype-other": ("data_type", "float64"),
        "pickle": ("codecs", [{"name": "numcodecs.pickle", "configuration": {}}]),
        "vlen": ("codecs", [{"name": "vlen-utf8"}]), "vlen-bytes": ("codecs", [{"name": "vlen-bytes"}]),
        "json2": ("codecs", [{"name": "numcodecs.json2"}]), "codecs-empty": ("codecs", []), "codecs-null": ("codecs", None),
        "codecs-text": ("codecs", "bytes"), "codecs-thousand": ("codecs", [{"name": "bytes"}, *[{"name": "gzip", "configuration": {"level": 1}}] * 1000]),
        "shard-in-shard": (f"{sharding}codecs", lambda c: [{"name": "sharding_indexed", "configuration": {"chunk_shape": [1, 1, 1], "codecs": c, "index_codecs": [{"name": "bytes"}]}}]),
        "big-endian": (f"{sharding}codecs__0__configuration__endian", "big"), "index-gzip": (f"{sharding}index_codecs", [{"name": "bytes"}, {"name": "gzip"}]),
        "index-location": (f"{sharding}index_location", "middle"), "unknown-codec": (f"{sharding}codecs", [{"name": "bytes"}, {"name": "urn:rm-rf"}]),
        "blosc-level": (f"{sharding}codecs__1__configuration__clevel", 10**9), "blosc-name": (f"{sharding}codecs__1__configuration__cname", ["lz4"]),
        "blosc-shuffle": (f"{sharding}codecs__1__configuration__shuffle", {"a": 1}), "blosc-typesize": (f"{sharding}codecs__1__configuration__typesize", 2**40),
        "blosc-typesize-negative": (f"{sharding}codecs__1__configuration__typesize", -1),
        "transformers": ("storage_transformers", [{"name": "indirection", "configuration": {"url": "file:///etc"}}]),
        "fill-text": ("fill_value", "AAAA"), "fill-null": ("fill_value", None), "fill-huge": ("fill_value", 10**400), "fill-nan": ("fill_value", "NaN"),
        "must-understand": ("extra_key", {"must_understand": True}), "format-2": ("zarr_format", 2), "format-list": ("zarr_format", [3]),
        "node-group": ("node_type", "group"), "node-null": ("node_type", None), "keys-v2": ("chunk_key_encoding", {"name": "v2"}),
        "keys-separator": ("chunk_key_encoding__configuration__separator", "../"), "names-number": ("dimension_names", [1, 2, 3]),
        "names-other": ("dimension_names", ["a", "b", "c"]), "names-twice": ("dimension_names", ["z", "z", "z"]), "names-null": ("dimension_names", None),
        "names-list": ("dimension_names", [["z"], ["y"], ["x"]]),
    }  # fmt: skip
    found = [Case(f"array-{name}", document(*of)) for name, of in documents.items()]
    ours, level = "radiobject__", "ome__multiscales__0__"
    said: dict[str, tuple[str, Any]] = {
        "affine-nan": (f"{ours}affine__0__0", float("nan")), "affine-inf": (f"{ours}affine", [[float("inf")] * 4] * 4),
        "affine-text": (f"{ours}affine", "identity"), "affine-short": (f"{ours}affine", [[1]]), "affine-null": (f"{ours}affine", None),
        "affine-ragged": (f"{ours}affine", [[1, 0, 0, 0], [1]]), "affine-huge": (f"{ours}affine__0__0", 10**400),
        "affine-flat": (f"{ours}affine", [[0] * 4] * 4), "dims-text": (f"{ours}dims", "zyx"), "dims-many": (f"{ours}dims", ["z"] * 1000),
        "dims-others": (f"{ours}dims", ["t", "y", "x"]), "kind": (f"{ours}kind", "model"), "kind-null": (f"{ours}kind", None),
        "scaling-text": (f"{ours}scaling", "double"), "scaling-dtype-object": (f"{ours}scaling", {"slope": 1, "inter": 0, "dtype": "object"}),
        "scaling-dtype-huge": (f"{ours}scaling", {"slope": 1, "inter": 0, "dtype": "V1000000000"}),
        "scaling-nan": (f"{ours}scaling", {"slope": float("nan"), "inter": 0, "dtype": "float32"}),
        "scaling-list": (f"{ours}scaling", [1, 0]), "labels-text": (f"{ours}labels", "liver"), "labels-number": (f"{ours}labels", [1]),
        "labels-colour": (f"{ours}labels", [{"value": 1, "name": "a", "rgba": [1e9] * 4}]),
        "labels-huge": (f"{ours}labels", [{"value": 10**400, "name": "a", "rgba": None}]), "window-text": (f"{ours}window", "ab"),
        "window-short": (f"{ours}window", [1]), "unit": (f"{ours}space_unit", ["mm"]), "source-null": (f"{ours}source", None),
        "source-extras": (f"{ours}source__extras", 5), "original-affine": (f"{ours}original_affine", [[1, 2], [3]]),
        "format": (f"{ours}format", "9.0"), "type": (f"{ours}type", "study"), "ours-list": ("radiobject", []), "ours-null": ("radiobject", None),
        "datasets-empty": (f"{level}datasets", []), "datasets-many": (f"{level}datasets", [{"path": "0"}] * 1000),
        "datasets-path": (f"{level}datasets__0__path", "../../../../../outside"), "datasets-absolute": (f"{level}datasets__0__path", "/etc"),
        "datasets-url": (f"{level}datasets__0__path", "s3://bucket/0"), "datasets-null": (f"{level}datasets__0__path", None),
        "datasets-number": (f"{level}datasets", [5]),
    }  # fmt: skip
    found += [Case(f"attributes-{name}", attributes(*of), "by_url") for name, of in said.items()]
    sound = chunk_bytes(blosc())
    shards = {
        "index-outside": indexed([(2**40, 100)] * 4), "index-wraps": indexed([(2**63, 2**63)] * 4),
        "index-huge-length": indexed([(0, 2**40)] * 4), "index-absent": indexed([(ABSENT, ABSENT)] * 4),
        "index-empty-chunks": indexed([(0, 0)] * 4), "index-overlaps": indexed([(1, len(sound)), (2, len(sound)), (3, len(sound)), (4, len(sound))]),
        "index-of-itself": indexed([(4 * len(sound), 68)] * 4), "bomb-blosc": shard([bomb(2**26)] * 4),
        "bomb-blosc-header": shard([lying_header(2**31 - 1)] * 4), "blosc-header-short": shard([lying_header(16)] * 4),
        "blosc-header-zero": shard([lying_header(0)] * 4), "chunks-too-long": shard([chunk_bytes(blosc((32, 32, 32)))] * 4),
        "chunks-too-short": shard([chunk_bytes(blosc((1, 1, 1)))] * 4), "chunks-noise": shard([chunk_bytes(bytes(range(200)))] * 4),
        "chunks-empty": shard([chunk_bytes(b"")] * 4), "crc-wrong": shard([blosc() + b"\0\0\0\0"] * 4),
        "bomb-zstd": compressed("zstd", bytes(numcodecs.Zstd(19).encode(bytes(2**26))), level=3, checksum=False),
        "bomb-gzip": compressed("gzip", bytes(numcodecs.GZip(9).encode(bytes(2**26))), level=5),
        "zstd-noise": compressed("zstd", b"\x28\xb5\x2f\xfd" + bytes(100), level=3, checksum=False),
        "gzip-noise": compressed("gzip", b"\x1f\x8b" + bytes(100), level=5),
        "empty": lambda place: object_of(place, SHARD, b""), "short": lambda place: object_of(place, SHARD, b"abc"),
        "index-only": lambda place: object_of(place, SHARD, index([(0, 10)] * 4)), "sparse": sparse,
        "fifo": instead(SHARD, os.mkfifo), "folder": instead(SHARD, os.mkdir), "gone": instead(SHARD, lambda path: None),
        "device": instead(SHARD, lambda path: path.symlink_to("/dev/zero")), "link-outside": linked_shard,
        "link-to-itself": instead(SHARD, lambda path: path.symlink_to(path)), "volume-link-outside": linked_folder,
        "collection-link-outside": linked_collection, "socket-folder": instead("0/c", os.mkfifo),
    }  # fmt: skip
    for name, craft in shards.items():
        found += [
            Case(f"shard-{name}", craft, "read", ("read", "patch", "by_url", "validate", "nifti", "write")),
            Case(f"shard-{name}-zarr-python", craft, "read_zarr_python", ("read_zarr_python",)),
        ]
    group = {
        "deep": b'{"attributes":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "empty": b"", "list": b"[]", "noise": bytes(range(256)),
        "array": json.dumps({"zarr_format": 3, "node_type": "array"}).encode(), "huge": b'{"a":"' + b"a" * 100 * 2**20 + b'"}',
        "million-members": b'{"zarr_format":3,"node_type":"group","attributes":{},"consolidated_metadata":{"metadata":{' + b",".join(b'"%d":{}' % n for n in range(500_000)) + b"}}}",
        "brackets": b'{"zarr_format":3,"node_type":"group","attributes":{"a":[' + b"[]," * 5_000_000 + b"0]}}",
    }  # fmt: skip
    found += [
        Case(f"group-{name}", lambda place, data=data: object_of(place, "zarr.json", data), "by_url", ("by_url", "header", "read", "validate", "view"))
        for name, data in group.items()
    ]  # fmt: skip
    found += [
        Case("group-fifo", instead("zarr.json", os.mkfifo), "by_url"), Case("group-folder", instead("zarr.json", os.mkdir), "by_url"),
        Case("group-link", instead("zarr.json", lambda path: path.symlink_to("/etc/passwd")), "by_url"),
    ]  # fmt: skip
    scale = "coordinateTransformations__0__scale"
    images: dict[str, Callable[[Path], None]] = {
        f"ome-{name}": foreign(lambda group, p=path, v=value: edit(group["attributes"]["ome"], p, v))
        for name, path, value in (
            ("version", "version", "0.1"), ("null", "multiscales", None), ("number", "multiscales", 5), ("axes-text", "multiscales__0__axes", "zyx"),
            ("axes-many", "multiscales__0__axes", [{"name": "x"}] * 10_000), ("axes-null", "multiscales__0__axes", None),
            ("axis-number", "multiscales__0__axes__0__name", 7), ("scale-nan", f"multiscales__0__datasets__0__{scale}", [float("nan")] * 3),
            ("scale-zero", f"multiscales__0__datasets__0__{scale}", [0, 0, 0]), ("scale-text", f"multiscales__0__datasets__0__{scale}", "abc"),
            ("scale-short", f"multiscales__0__datasets__0__{scale}", [1]), ("scale-huge", f"multiscales__0__datasets__0__{scale}", [10**400] * 3),
            ("transformations-text", "multiscales__0__datasets__0__coordinateTransformations", "abc"),
            ("transformations-path", "multiscales__0__datasets__0__coordinateTransformations", [{"type": "scale", "path": "../../outside/secret"}]),
            ("path", "multiscales__0__datasets__0__path", "../study/collections"), ("path-deep", "multiscales__0__datasets__0__path", "0/" * 1000 + "0"),
            ("path-none", "multiscales__0__datasets__0__path", ...),
        )
    }  # fmt: skip
    images |= {
        "level-pickle": foreign_level(lambda level: level.update(codecs=[{"name": "numcodecs.pickle"}])),
        "level-huge": foreign_level(lambda level: level.update(shape=[2**31] * 3)),
        "level-group": foreign_level(lambda level: level.update(node_type="group")),
        "level-names": foreign_level(lambda level: level.update(dimension_names=["x", "y", "z"])),
    }
    found += [Case(f"foreign-{name}", craft, "foreign", ("foreign",)) for name, craft in images.items()]
    return found


CASES = cases()
