"""Names that are about contexts of TileDB."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import radiobject
from radiobject import CompressionConfig, RadiObject, ReadConfig, S3Config, Volume, VolumeCollection
from radiobject.config import Compressor
from tests.upstream.ground import Case, Ground, imported

READ = ReadConfig(memory_budget_mb=2048, concurrency=3)
S3 = S3Config(
    region="us-west-2", endpoint="http://localhost:9000", use_virtual_addressing=False, max_parallel_ops=16,
    multipart_part_size_mb=100,
)  # fmt: skip
TOLD = {
    "sm.mem.total_budget": str(2048 * 2**20),
    "sm.compute_concurrency_level": "3",
    "sm.io_concurrency_level": "3",
    "vfs.s3.region": "us-west-2",
    "vfs.s3.scheme": "http",
    "vfs.s3.endpoint_override": "localhost:9000",
    "vfs.s3.use_virtual_addressing": "false",
    "vfs.s3.max_parallel_ops": "16",
    "vfs.s3.multipart_part_size": str(100 * 2**20),
    "vfs.s3.aws_secret_access_key": "",
}
"""What TileDB is told of these settings. Credentials are none of them: it finds them by itself."""


def needed(name: str, module: str = "radiobject") -> Any:
    """What `from module import name` gives, for a test that cannot do without tiledb."""
    pytest.importorskip("tiledb")
    return imported(module, name)


def parallel(name: str) -> Any:
    """`from radiobject.parallel import name`."""
    return needed(name, "radiobject.parallel")


def told(config: Any) -> dict[str, str]:
    """What a `tiledb.Config` says of those settings."""
    return {name: config[name] for name in TOLD}


def under_settings(name: str, module: str = "radiobject") -> tuple[object, object]:
    """The settings of the context that a function gives, and those that it should have."""
    with radiobject.configure(read=READ, s3=S3):
        return told(needed(name, module)().config()), TOLD


def settings_of(what: str) -> object:
    """What a method of RadiObjectConfig gives, called as both versions of that package call it."""
    method = getattr(needed("RadiObjectConfig")(read=READ, s3=S3), what)
    return [method(), method(include_s3_credentials=True)]


def reader(volume: Volume) -> Any:
    """The context that a volume on TileDB is read by."""
    volume.to_numpy()
    return volume._handle.native().ctx


def given(g: Ground, where: str, opened: Callable[..., Any]) -> tuple[object, object]:
    """Whether the context reads the first volume of a study on TileDB; what a study on Zarr gives with it."""
    ctx, found = needed("get_tiledb_ctx")(), []
    places = {
        name: where.format(uri=radi.uri, volume=radi.T1w[0].uri)
        for name, radi in (("zarr", g.radi), ("tiledb", g.radi.write(g.new("tiledb"), backend="tiledb")))
    }
    for options in ({"ctx": ctx}, {"ctx": None}):
        first = opened(places["tiledb"], **options)[0]
        found += [reader(first) is ctx, opened(places["zarr"], **options)[0].to_numpy()]
    found += [reader(opened(places["tiledb"], ctx)[0]) is ctx]
    return found, [True, g.t1w[0].to_numpy(), False, g.t1w[0].to_numpy(), True]


def filters(*codecs: CompressionConfig) -> list[tuple[str, int] | None]:
    """Kinds and levels of the filters of codecs."""
    pytest.importorskip("tiledb")
    found = [codec.as_filter() for codec in codecs]
    return [None if f is None else (type(f).__name__, f.level) for f in found]


CASES: dict[str, Case] = {
    "get_tiledb_ctx": lambda g: (
        [needed("get_tiledb_ctx")() is radiobject.get_tiledb_ctx(), under_settings("get_tiledb_ctx")[0]],
        [True, TOLD],
    ),
    "ctx": lambda g: (needed("ctx") is radiobject.get_tiledb_ctx, True),
    "get_tiledb_config": lambda g: (
        told(needed("get_tiledb_config")()),
        told(radiobject.get_tiledb_ctx().config()),
    ),
    "radiobject.parallel": lambda g: (
        sorted(imported("radiobject.parallel").__all__),
        ["create_worker_ctx", "ctx_for_process", "ctx_for_threads"],
    ),
    "ctx_for_threads": lambda g: (
        [
            parallel("ctx_for_threads")() is radiobject.get_tiledb_ctx(),
            parallel("ctx_for_threads")(made := parallel("ctx_for_process")()) is made,
        ],
        [True, True],
    ),
    "ctx_for_process": lambda g: (
        [
            parallel("ctx_for_process")() is radiobject.get_tiledb_ctx(),
            under_settings("ctx_for_process", "radiobject.parallel")[0],
        ],
        [False, TOLD],
    ),
    "create_worker_ctx": lambda g: (parallel("create_worker_ctx") is parallel("ctx_for_process"), True),
    "RadiObjectConfig.to_tiledb_config": lambda g: (
        [told(config) for config in settings_of("to_tiledb_config")],
        [TOLD, TOLD],
    ),
    "RadiObjectConfig.to_tiledb_ctx": lambda g: (
        [told(ctx.config()) for ctx in settings_of("to_tiledb_ctx")],
        [TOLD, TOLD],
    ),
    "CompressionConfig.as_filter": lambda g: (
        filters(
            CompressionConfig(Compressor.ZSTD, 3),
            CompressionConfig(Compressor.LZ4, 5),
            CompressionConfig(Compressor.NONE),
        ),
        [("ZstdFilter", 3), ("LZ4Filter", 5), None],
    ),
    "RadiObject(ctx=)": lambda g: given(g, "{uri}", lambda uri, *c, **k: RadiObject(uri, *c, **k).T1w),
    "VolumeCollection(ctx=)": lambda g: given(g, "{uri}#T1w", VolumeCollection),
    "Volume(ctx=)": lambda g: given(g, "{volume}", lambda uri, *c, **k: [Volume(uri, *c, **k)]),
}
