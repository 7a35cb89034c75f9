"""The registry of backends: the built-in ones, and any that a package offers as an entry point.

A plug-in names its class in the entry-point group "radiobject.backends"; the class takes a `Location`.
Importing this module imports no engine.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from radiobject.backends.base import Backend
from radiobject.errors import CapabilityError, MissingDependencyError
from radiobject.location import Location

__all__ = ["backend_names", "get_backend"]

_GROUP = "radiobject.backends"
_BUILT_IN = {
    "memory": "radiobject.backends.memory:MemoryBackend",
    "tiledb": "radiobject.backends.tiledb:TileDBBackend",
    "zarr": "radiobject.backends.zarr:ZarrBackend",
}


def backend_names() -> tuple[str, ...]:
    """Names that `get_backend` takes, in alphabetical order.

    >>> {"memory", "zarr"} <= set(backend_names())
    True
    """
    return tuple(sorted({*_BUILT_IN, *_plugins()}))


def get_backend(name: str, location: Location) -> Backend:
    """The backend of that name on a location.

    CapabilityError when no package offers the name; a plug-in that cannot be imported warns and then is
    MissingDependencyError.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        built_in: Callable[[Location], Backend] = getattr(import_module(module), attribute)
        return built_in(location)
    plugin = _plugins().get(name)
    if plugin is None:
        raise CapabilityError(
            f"backend {name!r}", expected=f"one of {', '.join(backend_names())}", got="no such"
        )
    try:
        made: Callable[[Location], Backend] = plugin.load()
    except Exception as error:
        # a plug-in may fail in any way while it is imported; the study needs it, so this cannot pass
        warnings.warn(f"backend plug-in {plugin.value} is broken: {error!r}", RuntimeWarning, stacklevel=2)
        raise MissingDependencyError(
            f"backend {name!r}", expected=f"an importable {plugin.value}", got=repr(error)
        ) from error
    return made(location)


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=_GROUP) if point.name not in _BUILT_IN}
