"""S3: settings of S3 stores by name, translated into storage options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from radiobject.errors import ConfigError
from radiobject.frozen import one_of, set_fields

__all__ = ["S3Config"]

LEAST_PART_MB = 5
"""S3 takes no smaller part of an object, but for the last."""


@dataclass(frozen=True, init=False)
class S3Config:
    """S3 settings by name; only translated into `storage_options`, and kept nowhere else.

    `endpoint` is another name for `endpoint_url`. `max_parallel_ops` bounds the requests at a time,
    `multipart_part_size_mb` is the size in MiB of the parts of an object too large for one request (100 MiB),
    `use_virtual_addressing` puts the bucket into the host name (True) or into the path (False). `retries` is
    how often a request that failed is sent again; `connect_timeout` and `read_timeout` are seconds to wait
    for a connection and for the next bytes (tensorstore, which reads voxels where it can, has neither).
    None leaves each to the client, but for `max_parallel_ops`, which is then 32.

    Credentials are never part of it: the client finds them when an s3:// URL is opened, whatever
    `include_credentials` says, and does without them for `anon=True`.
    """

    endpoint_url: str | None
    region: str | None
    profile: str | None
    anon: bool
    max_parallel_ops: int | None
    use_virtual_addressing: bool | None
    multipart_part_size_mb: int | None
    include_credentials: bool
    retries: int | None
    connect_timeout: float | None
    read_timeout: float | None

    def __init__(
        self,
        endpoint_url: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        anon: bool = False,
        max_parallel_ops: int | None = None,
        use_virtual_addressing: bool | None = None,
        multipart_part_size_mb: int | None = None,
        include_credentials: bool = True,
        *,
        endpoint: str | None = None,
        retries: int | None = None,
        connect_timeout: float | None = None,
        read_timeout: float | None = None,
    ) -> None:
        endpoint_url = one_of("S3Config", "endpoint_url", endpoint_url, "endpoint", endpoint)
        for name, value, least in (
            ("max_parallel_ops", max_parallel_ops, 1),
            ("multipart_part_size_mb", multipart_part_size_mb, LEAST_PART_MB),
            ("retries", retries, 0),
        ):
            if value is not None and (not _is_int(value) or value < least):
                raise ConfigError(f"S3Config({name}=)", expected=f"an int, at least {least}", got=repr(value))
        for name, seconds in (("connect_timeout", connect_timeout), ("read_timeout", read_timeout)):
            if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds < float("inf")):
                raise ConfigError(f"S3Config({name}=)", expected="seconds, more than 0", got=repr(seconds))
        set_fields(
            self, endpoint_url=endpoint_url, region=region, profile=profile, anon=anon,
            max_parallel_ops=max_parallel_ops, use_virtual_addressing=use_virtual_addressing,
            multipart_part_size_mb=multipart_part_size_mb, include_credentials=include_credentials,
            retries=retries, connect_timeout=connect_timeout, read_timeout=read_timeout,
        )  # fmt: skip

    @property
    def endpoint(self) -> str | None:
        """`endpoint_url`."""
        return self.endpoint_url

    def storage_options(self) -> dict[str, Any]:
        """The options that `Location` understands, without the ones left at their default."""
        options: dict[str, Any] = {"anon": True} if self.anon else {}
        names = ("endpoint_url", "region", "profile", "max_parallel_ops", "use_virtual_addressing",
                 "multipart_part_size_mb", "retries", "connect_timeout", "read_timeout")  # fmt: skip
        return options | {n: v for n in names if (v := getattr(self, n)) is not None}


def _is_int(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)
