"""Tags: names for versions. A tag is created once, and clean-up keeps the version it names."""

from __future__ import annotations

from radiobject.errors import (
    CapabilityError,
    DuplicateIdError,
    FormatError,
    MissingObjectError,
    UnknownIdError,
)
from radiobject.format.commit import MOST_BYTES, sealed, unsealed
from radiobject.format.exclusive import publish, require_exclusive
from radiobject.format.layout import TAGS, tag_key
from radiobject.storage import Storage
from radiobject.strict import count, text

__all__ = ["create_tag", "read_tag", "tags"]


def create_tag(storage: Storage, name: str, version: int, sha256: str) -> None:
    """Name a version. `DuplicateIdError` when another version has the name; the same one again is fine."""
    data, _ = sealed({"name": name, "version": version, "sha256": sha256})
    require_exclusive(storage)
    if publish(storage, tag_key(name), data, lambda held: held == data):
        return
    held, digest = read_tag(storage, name)
    if (held, digest) != (version, sha256):
        raise DuplicateIdError(f"tag {name!r}", expected="a free name", got=f"the name of version {held}")


def read_tag(storage: Storage, name: str) -> tuple[int, str]:
    """Version and commit hash that a tag names."""
    try:
        _, version, sha256 = _read(storage, tag_key(name))
        return version, sha256
    except MissingObjectError as error:
        try:
            known = f"one of {sorted(tags(storage))}"
        except CapabilityError:
            known = "a tag of this study"  # a plain web server cannot list them
        raise UnknownIdError(f"tag {name!r}", expected=known) from error


def tags(storage: Storage) -> dict[str, tuple[int, str]]:
    """Every tag: name to (version, commit hash)."""
    # a crash while a tag was made may have left its temporary file behind
    found = (_read(storage, info.key) for info in storage.list(TAGS) if info.key.endswith(".json"))
    return {name: (version, sha256) for name, version, sha256 in found}


def _read(storage: Storage, key: str) -> tuple[str, int, str]:
    where = f"{storage.location.uri}/{key}"
    raw, _ = unsealed(storage.read(key, MOST_BYTES), where)
    try:
        return text(raw["name"]), count(raw["version"], 1), text(raw["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(where, expected="a tag", got=repr(error)) from error
