"""The registry of backends: the built-in ones, and any that a package offers as an entry point.

A plug-in names its class in the entry-point group "radiobject.backends" (docs/writing-a-backend.md).
Importing this module imports no engine.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from radiobject.backends.base import Backend
from radiobject.errors import CapabilityError, MissingDependencyError
from radiobject.location import Location

__all__ = ["DEFAULT", "backend_for", "backend_names", "backend_of_name", "get_backend"]

DEFAULT = "zarr"
"""The backend of volumes that neither a caller nor their place asks to have elsewhere."""

_GROUP = "radiobject.backends"
_BUILT_IN = {
    "memory": "radiobject.backends.memory:MemoryBackend",
    "tiledb": "radiobject.backends.tiledb:TileDBBackend",
    "zarr": "radiobject.backends.zarr:ZarrBackend",
}
_SUFFIX = re.compile(r"(\.[A-Za-z0-9_-]+)+")


class _BackendClass(Protocol):
    """What an entry point names: a class of backends. Name and suffix can be asked without a place."""

    name: str
    suffix: str

    def __call__(self, location: Location) -> Backend: ...


def backend_names() -> tuple[str, ...]:
    """Names that `get_backend` takes, in alphabetical order.

    >>> {"memory", "zarr"} <= set(backend_names())
    True
    """
    return tuple(sorted({*_BUILT_IN, *_plugins()}))


def backend_for(chosen: str | None, location: Location, source: str | None = None) -> str:
    """The name of the backend for new volumes: the chosen one, else the one that suits the place.

    Volumes in memory:// stay in memory, all others go to `DEFAULT`; copies keep the backend of their
    `source`, unless that is memory, which would not last.

    >>> backend_for(None, Location("/data/study"), source="tiledb")
    'tiledb'
    >>> backend_for(None, Location("memory://study"), source="tiledb")
    'memory'
    """
    if chosen is not None:
        return chosen
    if location.scheme == "memory":
        return "memory"
    return DEFAULT if source is None or source == "memory" else source


def backend_of_name(name: str) -> str | None:
    """The backend whose suffix the name of a volume ends in, the longest if there are several; None if none is.

    Built-in backends come first; plug-ins are imported only when none of these fits. One that cannot be
    imported warns: the volume may be another's.

    >>> backend_of_name("scan.ome.zarr"), backend_of_name("scan.tdb")
    ('zarr', 'tiledb')
    """
    fitting = {known: _built_in(known).suffix for known in _BUILT_IN}
    return _longest(name, fitting) or _longest(name, _plugin_suffixes())


def get_backend(name: str, location: Location) -> Backend:
    """The backend of that name on a location.

    Raises `CapabilityError` when no package offers the name, or what it offers is no backend of that name,
    and `MissingDependencyError` when it cannot be imported.
    """
    if name in _BUILT_IN:
        return _built_in(name)(location)
    plugin = _plugins().get(name)
    if plugin is None:
        raise CapabilityError(
            f"backend {name!r}", expected=f"one of {', '.join(backend_names())}", got="no such"
        )
    return _loaded(plugin)(location)


def _built_in(name: str) -> _BackendClass:
    module, _, attribute = _BUILT_IN[name].partition(":")
    found: _BackendClass = getattr(import_module(module), attribute)
    return found


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=_GROUP) if point.name not in _BUILT_IN}


def _loaded(plugin: EntryPoint) -> _BackendClass:
    try:
        found: _BackendClass = plugin.load()
    except Exception as error:
        # a plug-in may fail in any way while it is imported
        raise MissingDependencyError(
            f"backend {plugin.name!r}", expected=f"an importable {plugin.value}", got=repr(error)
        ) from error
    name, suffix = getattr(found, "name", None), getattr(found, "suffix", None)
    if name != plugin.name or not isinstance(suffix, str) or not _SUFFIX.fullmatch(suffix):
        # studies record the name, and paths end in the suffix: neither can be mended later
        raise CapabilityError(
            f"backend {plugin.name!r}, {plugin.value}",
            expected=f"a class with name = {plugin.name!r} and a suffix such as '.{plugin.name}'",
            got=f"name {name!r} and suffix {suffix!r}",
        )
    return found


def _plugin_suffixes() -> dict[str, str]:
    found = {}
    for name, plugin in _plugins().items():
        try:
            found[name] = _loaded(plugin).suffix
        except (CapabilityError, MissingDependencyError) as error:
            warnings.warn(str(error), RuntimeWarning, stacklevel=3)
    return found


def _longest(name: str, suffixes: Mapping[str, str]) -> str | None:
    fitting = {suffix: known for known, suffix in suffixes.items() if name.endswith(suffix)}
    return fitting[max(fitting, key=len)] if fitting else None
