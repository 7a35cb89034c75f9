"""Tags: names for versions. A tag is created once, and clean-up keeps the version it names."""

from __future__ import annotations

import json

from radiobject.errors import (
    CapabilityError,
    DuplicateIdError,
    FormatError,
    MissingObjectError,
    StorageError,
    UnknownIdError,
)
from radiobject.format.catalog import Snapshot
from radiobject.format.layout import TAGS, tag_key
from radiobject.storage import Storage

__all__ = ["create_tag", "read_tag", "tags"]


def create_tag(snapshot: Snapshot, name: str) -> None:
    """Name a version. `DuplicateIdError` when another version has the name; the same one again is fine."""
    storage = snapshot.storage
    body = {"name": name, "version": snapshot.version, "sha256": snapshot.commit.sha256}
    data = json.dumps(body, sort_keys=True).encode()
    try:
        if storage.create(tag_key(name), data):
            return
    except StorageError as error:
        # the reply may be lost and the tag be there: what stands at the key decides
        try:
            storage.read(tag_key(name))
        except MissingObjectError:
            raise error from None
    held, digest = read_tag(storage, name)
    if (held, digest) != (snapshot.version, snapshot.commit.sha256):
        raise DuplicateIdError(f"tag {name!r}", expected="a free name", got=f"the name of version {held}")


def read_tag(storage: Storage, name: str) -> tuple[int, str]:
    """Version and commit hash that a tag names."""
    where = f"{storage.location.uri}/{tag_key(name)}"
    try:
        raw = json.loads(storage.read(tag_key(name)))
        return int(raw["version"]), str(raw["sha256"])
    except MissingObjectError as error:
        try:
            known = f"one of {sorted(tags(storage))}"
        except CapabilityError:
            known = "a tag of this study"  # a plain web server cannot list them
        raise UnknownIdError(f"tag {name!r}", expected=known) from error
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(where, expected="a tag", got=repr(error)) from error


def tags(storage: Storage) -> dict[str, tuple[int, str]]:
    """Every tag: name to (version, commit hash)."""
    found = {}
    for info in storage.list(TAGS):
        raw = json.loads(storage.read(info.key))
        found[str(raw["name"])] = int(raw["version"]), str(raw["sha256"])
    return found
