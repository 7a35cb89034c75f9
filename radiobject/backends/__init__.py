"""The registry of backends: the built-in ones, and any that a package offers as an entry point.

A plug-in names its class in the entry-point group "radiobject.backends" (docs/writing-a-backend.md).
Importing this module imports no engine.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Protocol

from radiobject.backends.base import Backend
from radiobject.errors import CapabilityError, MissingDependencyError
from radiobject.location import Location

__all__ = [
    "DEFAULT",
    "IN_PLACE",
    "backend_for",
    "backend_names",
    "backend_of_name",
    "backend_of_volume",
    "get_backend",
    "joined_backend",
    "storing_backends",
]

DEFAULT = "zarr"
"""The backend of volumes that neither a caller nor their place asks to have elsewhere."""

IN_PLACE = "files"
"""The backend of volumes that stay where they lie. It stores none, and opens those of other backends too."""

_GROUP = "radiobject.backends"
_BUILT_IN = {
    "files": "radiobject.backends.files:FilesBackend",
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
    return tuple(sorted(_BUILT_IN.keys() | _plugin_names()))


def backend_for(chosen: str | None, location: Location, source: str | None = None) -> str:
    """The name of the backend for new volumes: the chosen one, else the one that suits the place.

    Volumes in memory:// stay in memory, all others go to `DEFAULT`; copies keep the backend of their
    `source`, unless that is memory, which would not last, or volumes that are stored nowhere.

    >>> backend_for(None, Location("/data/study"), source="tiledb")
    'tiledb'
    >>> backend_for(None, Location("memory://study"), source="tiledb")
    'memory'
    """
    if chosen is not None:
        return chosen
    if location.scheme == "memory":
        return "memory"
    return DEFAULT if source in (None, "memory", IN_PLACE) else str(source)


def joined_backend(held: str, new: str) -> str | None:
    """The backend of a collection on `held` that volumes on `new` join; None when it cannot have both.

    >>> joined_backend("zarr", "files"), joined_backend("zarr", "tiledb")
    ('files', None)
    """
    if held == new:
        return held
    return IN_PLACE if IN_PLACE in (held, new) else None


def backend_of_volume(collection: str, path: str) -> str:
    """The backend that stores a volume of a collection on that backend: of volumes in place, its own.

    >>> backend_of_volume("files", "a.ome.zarr"), backend_of_volume("files", "a.files")
    ('zarr', 'files')
    """
    return (backend_of_name(path) or collection) if collection == IN_PLACE else collection


def storing_backends(paths: Iterable[str]) -> set[str]:
    """The backends that store volumes at these paths, told by suffix; volumes in place are stored on none.

    >>> sorted(storing_backends(["a/1.ome.zarr", "b/2.ome.zarr", "c/3.tdb", "d/4.files"]))
    ['tiledb', 'zarr']
    """
    suffixes = {path.rpartition("/")[2].partition(".")[2] for path in paths}
    return {name for s in suffixes if (name := backend_of_name(f"volume.{s}")) and name != IN_PLACE}


def backend_of_name(name: str) -> str | None:
    """The backend whose suffix ends the name of a volume, the longest of several; None when there is none.

    Plug-ins are imported when no built-in suffix fits. One that cannot be imported, or is no backend, warns:
    the volume may be another's.

    >>> backend_of_name("scan.ome.zarr"), backend_of_name("scan.tdb")
    ('zarr', 'tiledb')
    """
    found = _longest(name, _built_in_suffixes())
    if found is not None:
        return found
    suffixes = {}
    for known in sorted(_plugin_names()):
        try:
            suffixes[known] = _plugin(known).suffix
        except (CapabilityError, MissingDependencyError) as error:
            warnings.warn(str(error), RuntimeWarning, stacklevel=2)
    return _longest(name, suffixes)


def get_backend(name: str, location: Location) -> Backend:
    """The backend of that name on a location.

    Raises `CapabilityError` when no package offers the name, several do, or what is offered is no backend of
    that name, and `MissingDependencyError` when it cannot be imported.
    """
    return (_built_in(name) if name in _BUILT_IN else _plugin(name))(location)


def _built_in(name: str) -> _BackendClass:
    module, _, attribute = _BUILT_IN[name].partition(":")
    found: _BackendClass = getattr(import_module(module), attribute)
    return found


def _built_in_suffixes() -> dict[str, str]:
    return {name: _built_in(name).suffix for name in _BUILT_IN}


def _plugin_names() -> set[str]:
    return {point.name for point in entry_points(group=_GROUP)} - _BUILT_IN.keys()


def _plugin(name: str) -> _BackendClass:
    """The class that a package offers under that name, fit to be one."""
    points = entry_points(group=_GROUP, name=name)
    values = sorted({point.value for point in points})
    if not values:
        raise CapabilityError(
            f"backend {name!r}",
            expected=f"one of {', '.join(backend_names())}",
            got="no such",
            hint="Others come with packages that offer them.",
        )
    if len(values) > 1:
        raise CapabilityError(
            f"backend {name!r}",
            expected="one package that offers it",
            got=" and ".join(values),
            hint="Uninstall all but one.",
        )
    try:
        found: _BackendClass = points[name].load()
    except Exception as error:
        # a plug-in may fail in any way while it is imported
        raise MissingDependencyError(
            f"backend {name!r}", expected=f"an importable {values[0]}", got=repr(error)
        ) from error
    said, suffix = getattr(found, "name", None), getattr(found, "suffix", None)
    sound = (
        isinstance(suffix, str) and _SUFFIX.fullmatch(suffix) and not _longest(suffix, _built_in_suffixes())
    )
    if said != name or not sound:
        # studies record the name, and paths end in the suffix: neither can be mended later
        raise CapabilityError(
            f"backend {name!r}, {values[0]}",
            expected=f"a class with name {name!r} and a suffix of its own, such as '.{name}'",
            got=f"name {said!r} and suffix {suffix!r}",
        )
    return found


def _longest(name: str, suffixes: Mapping[str, str]) -> str | None:
    """The backend with the longest suffix that `name` ends in."""
    fitting = {suffix: known for known, suffix in suffixes.items() if name.endswith(suffix)}
    return fitting[max(fitting, key=len)] if fitting else None
