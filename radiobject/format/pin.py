"""Pins: a version named by place, number and hash, for papers and logs."""

from __future__ import annotations

import os
import re

from radiobject.errors import ConfigError

__all__ = ["pinned", "split_pin"]

_PIN = re.compile(r"^(?P<uri>.+?)@(?P<version>\d+)(?:#sha256:(?P<hash>[0-9a-f]{6,64}))?$")
_DIGITS = 16


def pinned(uri: str, version: int, sha256: str) -> str:
    """The pin of a version; `sha256` is its commit's `self_sha256`.

    >>> pinned("s3://bucket/study", 7, "ab12cd34" * 8)
    's3://bucket/study@7#sha256:ab12cd34ab12cd34'
    """
    return f"{uri}@{version}#sha256:{sha256[:_DIGITS]}"


def split_pin(uri: str) -> tuple[str, int | None, str | None]:
    """`study@7#sha256:ab12cd` as (place, version, hash); a path that exists is one, whatever its name.

    The hash may be cut to 6 hex digits. Raises `ConfigError` for a hash that was cut shorter, or damaged.

    >>> split_pin("study@7#sha256:ab12cd"), split_pin("study@7"), split_pin("study")
    (('study', 7, 'ab12cd'), ('study', 7, None), ('study', None, None))
    """
    match = _PIN.match(uri)
    if match is None or os.path.exists(uri):
        if "#sha256:" in uri and not os.path.exists(uri):
            raise ConfigError(
                f"pin {uri!r}",
                expected="study@<version>#sha256:<6 to 64 hex digits>, as radi.pin() gives it",
                got="another text",
            )
        return uri, None, None
    return match["uri"], int(match["version"]), match["hash"]
