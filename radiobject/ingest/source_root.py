"""Source root: where files that stay where they lie are, and the paths that a study keeps of them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from radiobject.errors import ConfigError
from radiobject.ingest.sources import Readable, Source, is_url, path_of
from radiobject.location import Location

__all__ = ["SourceRoot", "require_below"]

_CONTAINERS = frozenset({"abfs", "abfss", "wasb", "wasbs"})
"""Schemes of Azure, which have the name of a container where others have that of a user."""


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
