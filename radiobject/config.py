"""Settings as frozen values. Arguments win over `configure`, which wins over the defaults here."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field, replace
from enum import Enum
from types import TracebackType
from typing import Any, Literal

from radiobject.errors import ConfigError

__all__ = [
    "CompressionConfig",
    "Config",
    "OrientationConfig",
    "ReadConfig",
    "S3Config",
    "SliceOrientation",
    "TileConfig",
    "WriteConfig",
    "configure",
    "current",
]

MAX_SHARD_BYTES = 512 * 2**20
DEFAULT_CHUNK = 32


class SliceOrientation(Enum):
    """Which access an inner chunk is shaped for. `ISOTROPIC` (32-cubes) serves planes and cubes alike."""

    ISOTROPIC = "isotropic"
    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"


@dataclass(frozen=True)
class TileConfig:
    """Shape of inner chunks and shards, in voxels, in the order x, y, z.

    `chunk_t` is the number of time points in one inner chunk (1 by default; raise it for time courses).
    """

    orientation: SliceOrientation = SliceOrientation.ISOTROPIC
    chunks: tuple[int, int, int] | None = None
    shards: tuple[int, int, int] | None = None
    chunk_t: int = 1

    def __post_init__(self) -> None:
        for name in ("chunks", "shards"):
            value = getattr(self, name)
            if value is None:
                continue
            if len(value) != 3 or any(int(v) != v or v < 1 for v in value):
                raise ConfigError(
                    f"TileConfig({name}=)", expected="three positive ints x, y, z", got=repr(value)
                )
        if self.chunk_t < 1:
            raise ConfigError("TileConfig(chunk_t=)", expected="at least 1", got=repr(self.chunk_t))


@dataclass(frozen=True)
class CompressionConfig:
    """Codec of the inner chunks. Presets: "fast" (lz4hc), "archive" (zstd, shuffle), "none".

    `shuffle="auto"` tries both shuffles on a few chunks of each volume and keeps the smaller: bytes win on
    heads with a quiet background, bits on CT with noise everywhere (benchmarks/reads.py).
    """

    algorithm: Literal["lz4hc", "lz4", "zstd", "none"] = "lz4hc"
    level: int = 5
    shuffle: Literal["auto", "bitshuffle", "shuffle", "noshuffle"] = "auto"

    def __post_init__(self) -> None:
        if self.algorithm not in ("lz4hc", "lz4", "zstd", "none"):
            raise ConfigError(
                "CompressionConfig(algorithm=)", expected="lz4hc, lz4, zstd or none", got=repr(self.algorithm)
            )
        if self.shuffle not in ("auto", "bitshuffle", "shuffle", "noshuffle"):
            raise ConfigError(
                "CompressionConfig(shuffle=)",
                expected="auto, bitshuffle, shuffle or noshuffle",
                got=repr(self.shuffle),
            )
        if not 0 <= self.level <= 9:
            raise ConfigError("CompressionConfig(level=)", expected="0 to 9", got=repr(self.level))

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


_PRESETS = {
    "fast": CompressionConfig(),
    "archive": CompressionConfig("zstd", 3, "shuffle"),
    "none": CompressionConfig("none", 0, "noshuffle"),
}


@dataclass(frozen=True)
class OrientationConfig:
    """Whether voxels are flipped and permuted (never resampled) into one anatomical order on ingest."""

    reorient_on_load: bool = False
    canonical_target: str = "RAS"
    store_original_affine: bool = True


@dataclass(frozen=True)
class WriteConfig:
    """How volumes are written. `label_compression` is used for collections of kind "label"."""

    tile: TileConfig = field(default_factory=TileConfig)
    compression: CompressionConfig = field(default_factory=CompressionConfig)
    label_compression: CompressionConfig = field(default_factory=lambda: CompressionConfig.preset("archive"))
    orientation: OrientationConfig = field(default_factory=OrientationConfig)

    @classmethod
    def preset(cls, name: str) -> WriteConfig:
        """Both compressions set to the preset of that name."""
        codec = CompressionConfig.preset(name)
        return cls(compression=codec, label_compression=codec)


@dataclass(frozen=True)
class ReadConfig:
    """How volumes are read. `concurrency` bounds the engine's threads; None leaves it to the engine."""

    concurrency: int | None = None
    cache_bytes: int = 10 * 2**20

    def __post_init__(self) -> None:
        if self.concurrency is not None and self.concurrency < 1:
            raise ConfigError("ReadConfig(concurrency=)", expected="at least 1", got=repr(self.concurrency))
        if self.cache_bytes < 0:
            raise ConfigError("ReadConfig(cache_bytes=)", expected=">= 0", got=repr(self.cache_bytes))


@dataclass(frozen=True)
class S3Config:
    """S3 settings by name; only translated into `storage_options` for s3fs, kept nowhere else."""

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    anon: bool = False

    def storage_options(self) -> dict[str, Any]:
        """The options that `Location` understands, without the ones left at their default."""
        options: dict[str, Any] = {"anon": True} if self.anon else {}
        for name in ("endpoint_url", "region", "profile"):
            if getattr(self, name) is not None:
                options[name] = getattr(self, name)
        return options


@dataclass(frozen=True)
class Config:
    """Everything that `configure` sets."""

    write: WriteConfig = field(default_factory=WriteConfig)
    read: ReadConfig = field(default_factory=ReadConfig)
    s3: S3Config = field(default_factory=S3Config)


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
