"""Codec chains: the one we write, and the strict reading of a foreign one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from radiobject.config import CompressionConfig
from radiobject.errors import FormatError

__all__ = ["MAX_DECLARED_BYTES", "chunk_codecs", "codec_of", "split_codecs"]

MAX_DECLARED_BYTES = 2**30
"""Largest chunk, decoded, that a document may declare: a bomb must not be unpacked before it is noticed."""

_INDEX_CODECS = (["bytes", "crc32c"], ["bytes"])
_BLOSC = {"blosclz": "lz4", "lz4": "lz4", "lz4hc": "lz4hc", "zlib": "zstd", "zstd": "zstd"}
_SHUFFLES = ("bitshuffle", "shuffle", "noshuffle")


def chunk_codecs(codec: CompressionConfig, itemsize: int) -> list[dict[str, Any]]:
    """The chain of an inner chunk: little-endian bytes, blosc unless "none", crc32c."""
    chain: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if codec.algorithm != "none":
        blosc = {
            "cname": codec.algorithm,
            "clevel": codec.level,
            "shuffle": codec.shuffle,
            "typesize": itemsize,
            "blocksize": 0,
        }
        chain.append({"name": "blosc", "configuration": blosc})
    return [*chain, {"name": "crc32c"}]


def split_codecs(value: Any, ndim: int, where: str) -> tuple[Any, list[tuple[str, dict[str, Any]]]]:
    """Inner chunk shape (None without sharding, unchecked) and the checked chain that decodes a chunk.

    Sharding is accepted as the only codec of its level, and once: a transpose before it, or a shard in a
    shard, would give the shapes another meaning.
    """
    chain = _named(value, where)
    if not any(name == "sharding_indexed" for name, _ in chain):
        _check_chain(chain, ndim, where)
        return None, chain
    if len(chain) != 1:
        raise FormatError(f"codecs of {where}", expected="sharding_indexed alone", got=_names(chain))
    sharding = chain[0][1]
    index = _named(sharding.get("index_codecs"), where)
    if [name for name, _ in index] not in _INDEX_CODECS or _big(index[0][1]):
        raise FormatError(f"index_codecs of {where}", expected="bytes (little), crc32c", got=_names(index))
    if sharding.get("index_location", "end") not in ("start", "end"):
        raise FormatError(
            f"index_location of {where}", expected="start or end", got=repr(sharding["index_location"])[:100]
        )
    inner = _named(sharding.get("codecs"), where)
    _check_chain(inner, ndim, where)
    return sharding.get("chunk_shape"), inner


def codec_of(chain: Sequence[tuple[str, dict[str, Any]]]) -> CompressionConfig:
    """The nearest compression that we write: gzip and zstd become blosc's zstd."""
    for name, settings in chain:
        if name == "blosc":
            return CompressionConfig(
                _BLOSC[settings["cname"]],  # type: ignore[arg-type]
                settings["clevel"],
                settings["shuffle"],
            )
        if name in ("zstd", "gzip"):
            return CompressionConfig("zstd", min(max(settings.get("level", 0), 0), 9), "noshuffle")
    return CompressionConfig("none", 0, "noshuffle")


def _named(value: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    chain = []
    for item in value if isinstance(value, list) else [None]:
        name = item if isinstance(item, str) else item.get("name") if isinstance(item, dict) else None
        settings = item.get("configuration", {}) if isinstance(item, dict) else {}
        if not isinstance(name, str) or not isinstance(settings, dict):
            raise FormatError(f"codecs of {where}", expected="a list of named codecs", got=repr(value)[:100])
        chain.append((name, settings))
    return chain


def _check_chain(chain: Sequence[tuple[str, dict[str, Any]]], ndim: int, where: str) -> None:
    """transpose at most once and first, then bytes, then any compressors."""
    rest = list(chain)
    if rest and rest[0][0] == "transpose":
        order = rest.pop(0)[1].get("order")
        if (
            not isinstance(order, list)
            or not all(type(n) is int for n in order)
            or (sorted(order) != list(range(ndim)))
        ):
            raise FormatError(
                f"transpose of {where}", expected="a permutation of the axes", got=repr(order)[:100]
            )
    if not rest or rest[0][0] != "bytes" or _big(rest[0][1]):
        raise FormatError(f"codecs of {where}", expected="bytes (little endian)", got=_names(chain))
    for name, settings in rest[1:]:
        if not _accepts(name, settings):
            raise FormatError(
                f"codecs of {where}",
                expected="bytes, transpose, blosc, zstd, gzip, crc32c or sharding_indexed",
                got=f"{name} {settings}"[:200],
            )


def _accepts(name: str, settings: dict[str, Any]) -> bool:
    level = settings.get("level", 0)
    match name:
        case "crc32c":
            return not settings
        case "gzip":
            return type(level) is int and 0 <= level <= 9
        case "zstd":
            known = type(level) is int and type(settings.get("checksum", False)) is bool
            return bool(known and -131072 <= level <= 22)
        case "blosc":
            numbers = [settings.get("clevel"), settings.get("typesize", 0), settings.get("blocksize", 0)]
            named = settings.get("cname") in tuple(_BLOSC) and settings.get("shuffle") in _SHUFFLES
            return bool(named and all(type(n) is int for n in numbers) and numbers[0] in range(10))
    return False


def _big(settings: dict[str, Any]) -> bool:
    return bool(settings.get("endian", "little") != "little")


def _names(chain: Sequence[tuple[str, dict[str, Any]]]) -> str:
    return ", ".join(f"{name} {settings}" if settings else name for name, settings in chain)[:200]
