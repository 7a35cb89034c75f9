"""Source root: where files that stay where they lie are, and the paths that a study keeps of them."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from radiobject.backends import IN_PLACE
from radiobject.backends.files import FilesBackend
from radiobject.backends.files.manifest import parse_hint
from radiobject.errors import ConfigError
from radiobject.format.catalog import Snapshot
from radiobject.format.tables import Table
from radiobject.ingest.sources import Readable, Source, is_url, path_of
from radiobject.location import Location
from radiobject.storage import Storage

__all__ = ["SourceRoot", "require_below", "require_same"]

_CONTAINERS = frozenset({"abfs", "abfss", "wasb", "wasbs"})
"""Schemes of Azure, which have the name of a container where others have that of a user."""

_LOOKED_AT = 32
"""Volumes of a collection whose files are looked for before none is taken to be there."""


@dataclass(frozen=True)
class SourceRoot:
    """The folder or URL that source files are below, and the paths that they have there."""

    location: Location

    def relative(self, path: str) -> str:
        """The path of a file or folder below the root, links followed only where it needs them.

        `ConfigError` for one that is elsewhere, also when a link leads there; it names a root that would do.
        And for a name that a study cannot hold: with a backslash, or with what lets people into a store.
        """
        if is_url(path):
            _refuse_secrets(path)
        if is_url(path) != (not self.location.is_local):
            raise self._elsewhere(path, None)
        if not self.location.is_local:
            return self._below(Location(path).uri, self.location.uri) or self._refused(path)
        plain = os.path.abspath(os.path.expanduser(path.removeprefix("file://")))
        folder, name = os.path.split(plain)
        target = os.path.realpath(plain)
        for place in (plain, os.path.join(os.path.realpath(folder), name)):
            for root in (self.location.path, self._real):
                found = self._below(place, root)
                if found is None:
                    continue
                if self._below(target, self._real) is None:
                    # reading would refuse to follow it
                    led = f"{path}, which links lead to {target}"
                    raise self._elsewhere(led, os.path.commonpath([target, self._real]))
                if "\\" in found:
                    raise ConfigError(
                        path, expected="a name without a backslash, for copy=False", got=repr(found),
                        hint="Paths in a study have forward slashes. Rename it, or pass copy=True.",
                    )  # fmt: skip
                return found
        raise self._elsewhere(path, os.path.commonpath([folder, self._real]))

    @cached_property
    def _real(self) -> str:
        """The root, links followed; it is asked for each of many files."""
        return os.path.realpath(self.location.path)

    @staticmethod
    def _below(place: str, root: str) -> str | None:
        root = root.rstrip("/")
        return "" if place == root else place[len(root) + 1 :] if place.startswith(f"{root}/") else None

    def _refused(self, path: str) -> str:
        raise self._elsewhere(path, None)

    def _elsewhere(self, path: str, common: str | None) -> ConfigError:
        hint = "Pass source_root=, a folder or URL that all sources are below"
        return ConfigError(
            f"source_root {self.location.uri}",
            expected="a place that all sources are below, for copy=False",
            got=path,
            hint=f"{hint}, such as {common!r}." if common not in (None, "/") else f"{hint}.",
        )


def require_below(root: SourceRoot, sources: Sequence[Source]) -> None:
    """Refuse (`ConfigError`) files that are not below the root, before the first of them is read."""
    folders: dict[str, None] = {}
    for source in sources:
        path = path_of(source.item)
        if path is not None:
            root.relative(path)
        elif isinstance(source.item, Readable) and not source.item.drawn:
            # a series has hundreds of files in one folder
            paths = getattr(source.item, "paths", ())
            folders |= {name if _is_odd(name) else os.path.dirname(name): None for name in paths}
    for folder in folders:
        root.relative(folder)


def require_same(root: Location, base: Snapshot, renewed: Container[str]) -> None:
    """Refuse (`ConfigError`) a root that no file registered before lies below: none would open them all.

    One file that is there will do, so that of most studies one is looked for. Volumes that this very call
    registers anew (`renewed`, by obs_id) may lie elsewhere: after a move that is how a study learns it.
    """
    missed = ""
    for entry in base.commit.collections:
        if entry.backend != IN_PLACE:
            continue
        table = base.table("obs", entry.name)
        registered = pc.ends_with(table.read(["_path"])["_path"], FilesBackend.suffix)
        held = pc.indices_nonzero(registered).to_numpy()
        spread = held[np.unique(np.linspace(0, len(held) - 1, min(len(held), _LOOKED_AT)).astype(np.int64))]
        if _holds_one(root, table, spread[:1]):
            return
        ids = table.rows(held, ["obs_id"])["obs_id"].to_pylist()
        left = next((obs_id for obs_id in ids if obs_id not in renewed), None)
        if left is not None and _holds_one(root, table, spread[1:]):
            return
        if left is not None and not missed:
            missed = f"no file of {entry.name!r} there, such as that of {left!r}"
    if missed:
        raise ConfigError(
            f"source_root {root.uri}", expected="the place that registered files of the study are below",
            got=missed, hint="Open the study with the source_root= that they are below (in a shell "
            '--source-root). If they have moved, register all of them in one call by on_conflict="update"; '
            "volumes whose files are gone for good can be deleted.",
        )  # fmt: skip


def _holds_one(root: Location, table: Table, positions: npt.NDArray[Any]) -> bool:
    """Whether a file of one of those registered volumes is below the root, whatever it has become."""
    for hint in table.rows(positions, ["_hint"])["_hint"].to_pylist():
        path = parse_hint(hint).source.members[0].path
        if root.is_local:
            found = os.path.lexists(os.path.join(root.path, path))  # git-annex leaves links of what it drops
        else:
            found = Storage(root).size(path) is not None
        if found:
            return True
    return False


def _is_odd(path: str) -> bool:
    """Whether a local file must be asked for itself: the place of its folder does not tell its own."""
    return os.path.islink(path) or "\\" in os.path.basename(path)


def _refuse_secrets(url: str) -> None:
    """Raise `ConfigError` for a URL with more than a place in it: a study keeps it, and others read that."""
    scheme, _, rest = url.partition("://")
    place = re.split("[?#]", rest, maxsplit=1)[0]
    authority, slash, path = place.partition("/")
    user, _, host = authority.rpartition("@")
    if place != rest or (user and scheme.lower() not in _CONTAINERS):
        raise ConfigError(
            f"{scheme}://{host}{slash}{path}",
            expected="a URL without user, query and fragment, for copy=False", got="one with more in it",
            hint="The study would keep it. Pass credentials in storage_options=, or copy=True.",
        )  # fmt: skip
