"""zarr.json documents as pure functions: the ones we write, and the strict reading of anybody's."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from radiobject.backends.base import ArraySpec, Level, check_document
from radiobject.backends.zarr.codecs import MAX_DECLARED_BYTES, chunk_codecs, codec_of, split_codecs
from radiobject.errors import CapabilityError, FormatError

__all__ = [
    "DTYPE_NAMES",
    "Members",
    "array_document",
    "bytes_document",
    "compact",
    "group_document",
    "member_documents",
    "members_of",
    "object_paths",
    "parse",
    "parse_hint",
    "safe_path",
    "spec_of",
]

DTYPE_NAMES = {
    "u1": "uint8",
    "i1": "int8",
    "u2": "uint16",
    "i2": "int16",
    "u4": "uint32",
    "i4": "int32",
    "u8": "uint64",
    "i8": "int64",
    "f4": "float32",
    "f8": "float64",
}
_DTYPES = {name: code for code, name in DTYPE_NAMES.items()}
# What an engine is handed; attributes and what need not be understood stay behind.
_ENGINE_KEYS = (
    "zarr_format",
    "node_type",
    "shape",
    "data_type",
    "chunk_grid",
    "chunk_key_encoding",
    "fill_value",
    "codecs",
    "dimension_names",
)
_ARRAY_KEYS = frozenset((*_ENGINE_KEYS, "attributes", "storage_transformers"))
_FILLS = ("NaN", "Infinity", "-Infinity")

# A shard index has 16 bytes per chunk and is read whole before the first voxel: this many cost 64 MiB.
_MAX_CHUNKS_PER_SHARD = 2**22
_MAX_BYTES = 2**50
_MAX_MEMBERS = 1000


@dataclass(frozen=True)
class Members:
    """What a volume consists of: levels finest first with the text of their documents, and extras by size."""

    levels: tuple[Level, ...]
    documents: tuple[str, ...]
    extras: Mapping[str, int]
    hint: str


def compact(document: Any, where: str) -> str:
    """JSON without spaces, in insertion order; FormatError for what JSON cannot say."""
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise FormatError(where, expected="plain JSON values", got=str(error)) from error


def parse(text: bytes | str, where: str) -> dict[str, Any]:
    """A JSON object; anything else is FormatError naming `where`."""
    check_document(text, where)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(where, expected="a JSON object", got=str(error)) from error
    if not isinstance(document, dict):
        raise FormatError(where, expected="a JSON object", got=type(document).__name__)
    return document


def array_document(spec: ArraySpec) -> dict[str, Any]:
    """The zarr.json of one level: one sharding codec, every inner chunk with its own crc32c."""
    per_shard = math.prod(s // c for s, c in zip(spec.shards, spec.chunks, strict=True))
    if per_shard > _MAX_CHUNKS_PER_SHARD:
        raise CapabilityError(
            f"chunks {spec.chunks} in shards {spec.shards}",
            expected=f"at most {_MAX_CHUNKS_PER_SHARD} chunks in a shard",
            got=str(per_shard),
            hint="Choose larger chunks or smaller shards.",
        )
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(spec.chunks),
            "codecs": chunk_codecs(spec.codec, spec.dtype.itemsize),
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_location": "end",
        },
    }
    return _document(spec.shape, DTYPE_NAMES[spec.dtype.str[1:]], spec.shards, [sharding], spec.dims)


def bytes_document(size: int) -> dict[str, Any]:
    """The zarr.json of an extra: a byte string as one uncompressed chunk behind a crc32c."""
    if size > MAX_DECLARED_BYTES:
        raise CapabilityError("extra", expected=f"at most {MAX_DECLARED_BYTES} bytes", got=str(size))
    return _document((size,), "uint8", (max(size, 1),), [{"name": "bytes"}, {"name": "crc32c"}], ("byte",))


def _document(
    shape: Sequence[int], data_type: str, chunks: Sequence[int], codecs: list[Any], dims: Sequence[str]
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": codecs,
        "dimension_names": list(dims),
        "attributes": {},
        "storage_transformers": [],
    }


def group_document(
    attributes: Mapping[str, Any], members: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The zarr.json of a group; with `members`, inline consolidated metadata of everything below it."""
    document: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    if members is not None:
        document["consolidated_metadata"] = {
            "kind": "inline",
            "must_understand": False,
            "metadata": {path: dict(member) for path, member in members.items()},
        }
    return document


def member_documents(levels: Sequence[Level], extras: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Every document below the volume by relative path: levels in order, groups between, extras."""
    members: dict[str, dict[str, Any]] = {}
    for level in levels:
        parts = level.path.split("/")
        for depth in range(1, len(parts)):
            members.setdefault("/".join(parts[:depth]), group_document({}))
        members[level.path] = array_document(level.spec)
    for name, size in extras.items():
        members[name] = bytes_document(size)
    return members


def object_paths(levels: Sequence[Level], extras: Mapping[str, int]) -> Iterator[str]:
    """Paths of the objects of a volume that we wrote: documents, byte strings, shards."""
    yield "zarr.json"
    for member in member_documents(levels, extras):
        yield f"{member}/zarr.json"
    yield from (f"{name}/c/0" for name, size in extras.items() if size)
    for level in levels:
        counts = [-(-n // s) for n, s in zip(level.spec.shape, level.spec.shards, strict=True)]
        for index in np.ndindex(*counts):
            yield f"{level.path}/c/{'/'.join(map(str, index))}"


def members_of(documents: Mapping[str, Any], where: str, level_paths: Iterable[str] | None = None) -> Members:
    """Levels and extras from the documents of a volume's members.

    `level_paths` names the levels (OME `datasets`); without it, every array that is no extra is one, in
    the order given. A member of neither kind (a label image inside) is left alone.
    """
    if len(documents) > _MAX_MEMBERS:
        raise FormatError(where, expected=f"at most {_MAX_MEMBERS} members", got=str(len(documents)))
    found = {path: doc for path, doc in documents.items() if isinstance(doc, dict)}
    extras = {path: size for path, doc in found.items() if (size := _extra_size(doc)) is not None}
    if level_paths is None:
        level_paths = [p for p, d in found.items() if d.get("node_type") == "array" and p not in extras]
    paths = [safe_path(path, where) for path in level_paths]
    if not paths or len(set(paths)) != len(paths):
        raise FormatError(where, expected="at least one array, each named once", got=repr(paths[:5]))
    absent = [path for path in paths if path not in found]
    if absent:
        raise FormatError(where, expected=f"metadata of the level {absent[0]!r}", got="none")
    for name in extras:
        safe_path(name, where)
    levels = tuple(Level(path, spec_of(found[path], f"{where}/{path}")) for path in paths)
    kept = {path: {k: found[path][k] for k in _ENGINE_KEYS if k in found[path]} for path in (*paths, *extras)}
    texts = tuple(compact(kept[path], where) for path in paths)
    return Members(levels, texts, extras, compact(kept, where))


@lru_cache(maxsize=4096)
def parse_hint(hint: str) -> Members:
    """The members that a hint names; volumes of one kind share the string, so this is parsed once."""
    return members_of(parse(hint, "volume hint"), "volume hint")


def spec_of(document: Any, where: str) -> ArraySpec:
    """The array that a zarr.json declares, or FormatError naming what this version does not accept.

    Accepted: zarr_format 3, regular grid, "/" keys, our dtypes, up to five axes, chunks up to 1 GiB, and
    the codecs bytes (little), transpose, blosc, zstd, gzip, crc32c, sharding_indexed. The spec's `codec` is
    the nearest that we would write ourselves; it does not change how the array is read.
    """
    if not isinstance(document, dict) or document.get("zarr_format") != 3:
        raise FormatError(where, expected="zarr_format 3", got=repr(_get(document, "zarr_format")))
    if document.get("node_type") != "array":
        raise FormatError(where, expected="an array", got=repr(document.get("node_type")))
    for key, value in document.items():
        if key not in _ARRAY_KEYS and not (isinstance(value, dict) and value.get("must_understand") is False):
            raise FormatError(where, expected="the keys of Zarr v3", got=f"{key!r}, which must be understood")
    if document.get("storage_transformers"):
        raise FormatError(where, expected="no storage transformers", got="some")
    code = _DTYPES.get(name) if isinstance(name := document.get("data_type"), str) else None
    if code is None:
        raise FormatError(f"data_type of {where}", expected=", ".join(_DTYPES), got=repr(name)[:100])
    itemsize = int(code[1])
    shape = _integers(document.get("shape"), "shape", where)
    if len(shape) > 5 or math.prod(shape) * itemsize > _MAX_BYTES:
        raise FormatError(where, expected="at most 5 axes and 1 PiB", got=f"shape {shape}")
    _check_fill(document.get("fill_value"), where)
    grid = _configuration(document.get("chunk_grid"), "regular", where)
    shards = _integers(grid.get("chunk_shape"), "chunk_shape", where)
    encoding = _configuration(document.get("chunk_key_encoding"), "default", where)
    if encoding.get("separator", "/") != "/":
        raise FormatError(
            f"chunk_key_encoding of {where}", expected="separator /", got=repr(encoding["separator"])
        )
    inner, codecs = split_codecs(document.get("codecs"), len(shape), where)
    chunks = shards if inner is None else _integers(inner, "chunk_shape", where)
    if math.prod(chunks) * itemsize > MAX_DECLARED_BYTES:
        raise FormatError(where, expected=f"chunks of at most {MAX_DECLARED_BYTES} bytes", got=f"{chunks}")
    if len(chunks) == len(shards) and math.prod(shards) // math.prod(chunks) > _MAX_CHUNKS_PER_SHARD:
        raise FormatError(
            where, expected=f"at most {_MAX_CHUNKS_PER_SHARD} chunks in a shard", got=f"{shards}"
        )
    dims = document.get("dimension_names")
    if not isinstance(dims, list) or not all(isinstance(d, str) for d in dims):
        raise FormatError(f"dimension_names of {where}", expected="one name per axis", got=repr(dims)[:100])
    try:
        return ArraySpec(shape, np.dtype(code), tuple(dims), chunks, shards, codec_of(codecs))
    except FormatError as error:
        raise FormatError(f"{error.what} of {where}", expected=error.expected, got=error.got) from error


def _extra_size(document: Mapping[str, Any]) -> int | None:
    """Size of a byte string exactly as `bytes_document` writes it; None for any other array."""
    shape = document.get("shape")
    if document.get("dimension_names") != ["byte"] or not isinstance(shape, list) or len(shape) != 1:
        return None
    size = shape[0]
    if type(size) is not int or not 0 <= size <= MAX_DECLARED_BYTES:
        return None
    ours = bytes_document(size)
    keys = ("zarr_format", "data_type", "chunk_grid", "chunk_key_encoding", "codecs")
    return size if all(document.get(key) == ours[key] for key in keys) else None


def safe_path(path: Any, where: str) -> str:
    """A member's path: relative, inside the volume, without signs that some store reads otherwise."""
    if (
        not isinstance(path, str)
        or any(part in ("", ".", "..") for part in path.split("/"))
        or any(ch in "\\:?#%" or ord(ch) < 32 for ch in path)
    ):
        raise FormatError(f"a member of {where}", expected="a relative path inside it", got=repr(path)[:100])
    return path


def _integers(value: Any, name: str, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(n) is int and 1 <= n < 2**31 for n in value):
        raise FormatError(f"{name} of {where}", expected="a list of positive integers", got=repr(value)[:100])
    return tuple(value)


def _configuration(value: Any, name: str, where: str) -> dict[str, Any]:
    if isinstance(value, dict) and value.get("name") == name:
        configuration = value.get("configuration", {})
        if isinstance(configuration, dict):
            return configuration
    raise FormatError(where, expected=f"the {name} extension", got=repr(value)[:100])


def _check_fill(value: Any, where: str) -> None:
    # never shown to anybody (what is missing is an error), but both engines want one that fits
    if type(value) not in (int, float) and value not in _FILLS:
        raise FormatError(f"fill_value of {where}", expected="a number", got=repr(value)[:100])


def _get(document: Any, key: str) -> Any:
    return document.get(key) if isinstance(document, dict) else type(document).__name__
