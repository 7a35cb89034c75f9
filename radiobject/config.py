"""Settings as frozen values. Arguments win over `configure`, which wins over the defaults here."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from types import TracebackType
from typing import Any, Literal

from radiobject.errors import ConfigError
from radiobject.frozen import is_whole, one_of, set_fields
from radiobject.moved import Moved, renamed
from radiobject.s3 import S3Config

__all__ = [
    "CompressionConfig",
    "Compressor",
    "Config",
    "OrientationConfig",
    "ReadConfig",
    "S3Config",
    "SliceOrientation",
    "TileConfig",
    "WriteConfig",
    "configure",
    "current",
    "reset",
]

MAX_SHARD_BYTES = 512 * 2**20
DEFAULT_CHUNK = 32
DEFAULT_CACHE_BYTES = 10 * 2**20


class SliceOrientation(Enum):
    """Which access an inner chunk is shaped for. `ISOTROPIC` (32-cubes) serves planes and cubes alike."""

    ISOTROPIC = "isotropic"
    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"


class Compressor(StrEnum):
    """Codecs by the names that the TileDB-based package gives them; their values serve as well."""

    ZSTD = "zstd"
    LZ4 = "lz4"
    GZIP = "gzip"
    NONE = "none"


@dataclass(frozen=True, init=False)
class TileConfig:
    """Shape of inner chunks and shards, in voxels, in the order x, y, z.

    A chunk is as `orientation` says, or `chunks`, of which None along an axis leaves that axis to
    `orientation`. `chunk_t` is the number of time points in one inner chunk (1 by default; raise it for time
    courses). `x`, `y`, `z` and `t` are other names for the numbers in `chunks` and for `chunk_t`.

    >>> TileConfig(SliceOrientation.AXIAL, z=4).chunks
    (None, None, 4)
    """

    orientation: SliceOrientation
    chunks: tuple[int | None, int | None, int | None] | None
    shards: tuple[int, int, int] | None
    chunk_t: int

    extents_for_shape = Moved("plan_array of radiobject.backends.base tells the chunks of a shape")

    def __init__(
        self,
        orientation: SliceOrientation = SliceOrientation.ISOTROPIC,
        chunks: tuple[int | None, int | None, int | None] | None = None,
        shards: tuple[int, int, int] | None = None,
        chunk_t: int | None = None,
        *,
        x: int | None = None,
        y: int | None = None,
        z: int | None = None,
        t: int | None = None,
    ) -> None:
        if (x, y, z) != (None, None, None):
            chunks = one_of("TileConfig", "chunks", chunks, "x, y, z", (x, y, z))
        for name, value in (("chunks", chunks), ("shards", shards)):
            none = name == "chunks"
            if value is not None and (len(value) != 3 or not all(is_whole(v, none) for v in value)):
                raise ConfigError(
                    f"TileConfig({name}=)", expected="three positive ints x, y, z", got=repr(value)
                )
        chunk_t = one_of("TileConfig", "chunk_t", chunk_t, "t", t)
        if chunk_t is not None and chunk_t < 1:
            raise ConfigError("TileConfig(chunk_t=)", expected="at least 1", got=repr(chunk_t))
        set_fields(self, orientation=orientation, chunks=chunks, shards=shards, chunk_t=chunk_t or 1)

    @property
    def x(self) -> int | None:
        """The chunk's voxels along x; None leaves them to `orientation`."""
        return None if self.chunks is None else self.chunks[0]

    @property
    def y(self) -> int | None:
        """The chunk's voxels along y."""
        return None if self.chunks is None else self.chunks[1]

    @property
    def z(self) -> int | None:
        """The chunk's voxels along z."""
        return None if self.chunks is None else self.chunks[2]

    @property
    def t(self) -> int:
        """The chunk's time points."""
        return self.chunk_t


@dataclass(frozen=True)
class CompressionConfig:
    """Codec of the inner chunks. Presets: "fast" (lz4hc), "archive" (zstd), "none".

    `shuffle="auto"` tries both shuffles and none on a few chunks of each volume and keeps the smallest: bytes
    win on heads with a quiet background, bits on CT with noise everywhere, none on few distinct values, such
    as integers that were scaled to floats (docs/benchmarks.md, "Size").
    """

    algorithm: Literal["lz4hc", "lz4", "zstd", "none"] | Compressor = "lz4hc"
    level: int = 5
    shuffle: Literal["auto", "bitshuffle", "shuffle", "noshuffle"] = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.algorithm, Compressor):
            set_fields(self, algorithm=self.algorithm.value)  # equal settings are to be equal values
        if self.algorithm not in ("lz4hc", "lz4", "zstd", "none"):
            raise ConfigError(
                "CompressionConfig(algorithm=)",
                expected="lz4hc, lz4, zstd or none",
                got=repr(self.algorithm),
                hint='CompressionConfig.preset("archive") makes the smallest studies.',
            )
        if self.shuffle not in ("auto", "bitshuffle", "shuffle", "noshuffle"):
            raise ConfigError(
                "CompressionConfig(shuffle=)",
                expected="auto, bitshuffle, shuffle or noshuffle",
                got=repr(self.shuffle),
            )
        if not 0 <= self.level <= 9:
            raise ConfigError(
                "CompressionConfig(level=)",
                expected="0 to 9",
                got=repr(self.level),
                hint="Every algorithm has this scale; 9 is its strongest.",
            )

    @classmethod
    def preset(cls, name: str) -> CompressionConfig:
        """The preset of that name.

        >>> CompressionConfig.preset("archive").algorithm
        'zstd'
        """
        try:
            return _PRESETS[name]
        except KeyError:
            raise ConfigError(
                "compression preset", expected=f"one of {sorted(_PRESETS)}", got=repr(name)
            ) from None

    def as_filter(self) -> Any:
        """The `tiledb.Filter` that compresses like this, None for "none"; a shuffle is another filter.

        Raises `MissingDependencyError` without tiledb.
        """
        from radiobject.backends.tiledb.arrays import compressor_of

        return compressor_of(self)


_PRESETS = {
    "fast": CompressionConfig(),
    "archive": CompressionConfig("zstd", 3),
    "none": CompressionConfig("none", 0, "noshuffle"),
}


@dataclass(frozen=True)
class OrientationConfig:
    """Whether voxels are flipped and permuted (never resampled) into one anatomical order on ingest."""

    reorient_on_load: bool = False
    canonical_target: str = "RAS"
    store_original_affine: bool = True
    auto_detect: bool = True

    def __post_init__(self) -> None:
        axes = sorted(
            {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}.get(c, 3) for c in self.canonical_target
        )
        if axes != [0, 1, 2]:
            raise ConfigError(
                "OrientationConfig(canonical_target=)",
                expected="one of L, R, one of P, A and one of I, S, such as 'RAS'",
                got=repr(self.canonical_target),
            )
        if not self.auto_detect:
            raise ConfigError(
                "OrientationConfig(auto_detect=)", expected="True: what the source says is kept", got="False"
            )


@dataclass(frozen=True)
class WriteConfig:
    """How volumes are written. `label_compression` is used for collections of kind "label".

    `pyramid` says which coarser levels (`Volume.level`) are written beside the voxels: "none"; "auto", for
    volumes of more than 256 voxels along x, y or z, until no axis has more than 64; or so many of them,
    whatever the size. Voxels of a level are means over blocks, of labels the most frequent values.

    `store_integers` keeps an image of floats that are all whole numbers, as many tools save scans, as the
    smallest integers that hold them, unless it gets a pyramid: smaller, and faster to read. Reads give the
    same floats, bit for bit; `Volume.stored_dtype` and `to_numpy(raw=True)` are of the integers.

    `foreground_index` writes, beside each volume of a collection of labels, where its values lie, so that
    `radiobject.ml.Foreground` places patches without reading masks: less than 1 MB a volume.
    """

    tile: TileConfig = field(default_factory=TileConfig)
    compression: CompressionConfig = field(default_factory=CompressionConfig)
    label_compression: CompressionConfig = field(default_factory=lambda: CompressionConfig.preset("archive"))
    orientation: OrientationConfig = field(default_factory=OrientationConfig)
    pyramid: Literal["none", "auto"] | int = "none"
    foreground_index: bool = True
    store_integers: bool = True

    def __post_init__(self) -> None:
        named = isinstance(self.pyramid, str) and self.pyramid in ("none", "auto")
        if not named and not is_whole(self.pyramid):
            raise ConfigError(
                "WriteConfig(pyramid=)",
                expected='"none", "auto" or a number of levels, at least 1',
                got=repr(self.pyramid),
            )

    @classmethod
    def preset(cls, name: str) -> WriteConfig:
        """Both compressions set to the preset of that name."""
        codec = CompressionConfig.preset(name)
        return cls(compression=codec, label_compression=codec)


@dataclass(frozen=True, init=False)
class ReadConfig:
    """How volumes are read. None leaves a number to the engine or to the machine.

    `concurrency` bounds the engine's threads, `max_workers` how many volumes `map` and queries work on at a
    time, `cache_bytes` the decoded chunks kept in memory (or in MiB, `tile_cache_size_mb`). Results of `map`
    beyond `memory_budget_mb` (MiB) go to memory-mapped files.
    """

    concurrency: int | None
    cache_bytes: int
    memory_budget_mb: int
    max_workers: int | None

    def __init__(
        self,
        concurrency: int | None = None,
        cache_bytes: int | None = None,
        memory_budget_mb: int = 1024,
        max_workers: int | None = None,
        *,
        tile_cache_size_mb: int | None = None,
    ) -> None:
        in_bytes = None if tile_cache_size_mb is None else tile_cache_size_mb * 2**20
        cache_bytes = one_of("ReadConfig", "cache_bytes", cache_bytes, "tile_cache_size_mb", in_bytes)
        cache_bytes = DEFAULT_CACHE_BYTES if cache_bytes is None else cache_bytes
        checked = {"concurrency": concurrency, "max_workers": max_workers}
        given = {name: value for name, value in checked.items() if value is not None}
        for name, value in {**given, "memory_budget_mb": memory_budget_mb}.items():
            if not is_whole(value):
                raise ConfigError(f"ReadConfig({name}=)", expected="an int, at least 1", got=repr(value))
        if cache_bytes != 0 and not is_whole(cache_bytes):
            raise ConfigError("ReadConfig(cache_bytes=)", expected="an int, 0 or more", got=repr(cache_bytes))
        set_fields(self, **checked, cache_bytes=cache_bytes, memory_budget_mb=memory_budget_mb)

    @property
    def tile_cache_size_mb(self) -> int:
        """`cache_bytes` in MiB, rounded down."""
        return self.cache_bytes // 2**20


@dataclass(frozen=True)
class Config:
    """Everything that `configure` sets."""

    write: WriteConfig = field(default_factory=WriteConfig)
    read: ReadConfig = field(default_factory=ReadConfig)
    s3: S3Config = field(default_factory=S3Config)

    def to_tiledb_config(self, include_s3_credentials: bool = False) -> Any:
        """A `tiledb.Config` with what of these settings TileDB has: memory, threads, S3.

        It never holds credentials, whatever `include_s3_credentials` says: libtiledb finds them as AWS's own
        tools do. Raises `MissingDependencyError` without tiledb, `CapabilityError` for `S3Config(profile=)`.

        >>> Config(read=ReadConfig(concurrency=2)).to_tiledb_config()["sm.io_concurrency_level"]
        '2'
        """
        from radiobject.backends.tiledb.callers import config_of

        return config_of(self)

    def to_tiledb_ctx(self, include_s3_credentials: bool = False) -> Any:
        """A new `tiledb.Ctx` with these settings; see `to_tiledb_config`."""
        from radiobject.backends.tiledb.callers import ctx_of

        return ctx_of(self)


# A plain call of configure() must reach threads started later, and those begin with an empty context:
# hence a process-wide default underneath the ContextVar that `with configure(...)` uses.
_process_default = Config()
_override: contextvars.ContextVar[Config | None] = contextvars.ContextVar("radiobject_config", default=None)


def current() -> Config:
    """The settings in force here.

    >>> current().write.compression.algorithm
    'lz4hc'
    """
    return _override.get() or _process_default


class configure:  # noqa: N801 - reads as a function, doubles as a context manager
    """Set defaults for the process, or inside a `with` block for this context only.

    >>> with configure(write=WriteConfig.preset("archive")):
    ...     current().write.compression.algorithm
    'zstd'
    >>> current().write.compression.algorithm
    'lz4hc'
    """

    @renamed(
        tile="write=WriteConfig(tile=...)",
        compression="write=WriteConfig(compression=...)",
        orientation="write=WriteConfig(orientation=...)",
        io="read=ReadConfig(...)",
    )
    def __init__(
        self, *, write: WriteConfig | None = None, read: ReadConfig | None = None, s3: S3Config | None = None
    ) -> None:
        global _process_default
        changes: dict[str, Any] = {
            k: v for k, v in (("write", write), ("read", read), ("s3", s3)) if v is not None
        }
        self._before = _process_default
        self._config = replace(current(), **changes)
        _process_default = replace(_process_default, **changes)
        self._token: contextvars.Token[Config | None] | None = None

    def __enter__(self) -> Config:
        global _process_default
        _process_default = self._before
        self._token = _override.set(self._config)
        return self._config

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._token is not None
        _override.reset(self._token)


def reset() -> None:
    """Set the process's defaults back to those of a fresh start; a `with configure(...)` goes on as it is."""
    global _process_default
    _process_default = Config()
