"""Callers: the `tiledb.Ctx` objects that they are given, and those that they give."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import Any

from radiobject.backends.tiledb.context import (
    Context,
    engine,
    handed,
    made,
    of_caller,
    origin_of,
    settings_of,
)
from radiobject.config import Config, current
from radiobject.errors import CapabilityError, ConfigError
from radiobject.location import tiledb_s3

__all__ = [
    "checked",
    "config_of",
    "ctx_of",
    "get_tiledb_config",
    "get_tiledb_ctx",
    "given",
    "new_ctx",
]


def get_tiledb_ctx() -> Any:
    """The `tiledb.Ctx` of this process with the settings of `configure`, the same one for the same settings.

    A forked child is given another one. Handles need none: without `ctx=` they read by contexts that are
    exchanged in time, because libtiledb keeps some 13 kB of every query in the one that served it.

    Raises `MissingDependencyError` without tiledb, `CapabilityError` for `S3Config(profile=)`.

    >>> get_tiledb_ctx() is get_tiledb_ctx()
    True
    """
    return handed(_settings(current()))


def get_tiledb_config() -> Any:
    """A `tiledb.Config` with the settings of `configure`; raises as `get_tiledb_ctx`.

    >>> get_tiledb_config()["sm.mem.total_budget"]
    '1073741824'
    """
    return config_of(current())


def config_of(config: Config) -> Any:
    """Our settings as a `tiledb.Config`."""
    return engine().Config(_settings(config))


def ctx_of(config: Config) -> Any:
    """A new `tiledb.Ctx` with our settings."""
    return made(_settings(config))


def new_ctx(base: Any) -> Any:
    """A new `tiledb.Ctx` with the settings of another one, also of one that is a parent process's."""
    settings = origin_of(checked(base, "base_ctx")).settings
    return engine().Ctx(base.config()) if settings is None else made(settings)


def given(ctx: Any, uri: str, backends: Collection[str]) -> Context | None:
    """What a caller's `ctx=` comes to for volumes at `uri` on these backends; None where it has no effect.

    That is where TileDB stores none of them, or in a child of the process that made it, for contexts that
    hold nothing but this package's own settings. Raises `ConfigError` for others, and for what is none.
    """
    what = f"ctx= for {uri}"
    origin = origin_of(checked(ctx, what))
    if backends and "tiledb" not in backends:
        if origin.settings is None:
            raise ConfigError(
                what,
                expected="volumes on TileDB, which a tiledb.Ctx reads",
                got=f"volumes on {', '.join(sorted(backends))}",
                hint="Settings of other places are storage_options=, S3Config and ReadConfig.",
            )
        return None
    if origin.pid != os.getpid():
        if origin.settings is None:
            raise ConfigError(
                what,
                expected="a tiledb.Ctx of this process",
                got="one of its parent's, whose threads are not here",
                hint="radiobject.parallel.ctx_for_process(ctx) makes one with its settings.",
            )
        return None
    return of_caller(ctx)


def checked(ctx: Any, what: str) -> Any:
    """A caller's context, if it is one; raises `ConfigError`."""
    tiledb = sys.modules.get("tiledb")  # without which there is none
    if tiledb is None or not isinstance(ctx, tiledb.Ctx):
        raise ConfigError(what, expected="a tiledb.Ctx", got=repr(ctx)[:80])
    return ctx


def _settings(config: Config) -> dict[str, str]:
    s3 = tiledb_s3(config.s3.storage_options())
    if s3 is None:
        raise CapabilityError(
            "S3Config for a tiledb.Ctx",
            expected="settings that TileDB has too",
            got=f"profile={config.s3.profile!r}",
            hint="libtiledb finds the profile in the environment: AWS_PROFILE.",
        )
    return settings_of(config.read) | s3
