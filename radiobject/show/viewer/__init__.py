"""The viewer: volumes in Neuroglancer, in a browser, from a server on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from radiobject.errors import MissingDependencyError, SelectionError
from radiobject.model.volume import Volume

if TYPE_CHECKING:
    from radiobject.show.viewer.session import ViewerSession

__all__ = ["view_subject", "view_volumes"]


def view_volumes(volumes: Sequence[Volume], *, port: int = 0) -> ViewerSession:
    """Show volumes, a layer each, named by their obs_id. See `Volume.view`."""
    for volume in volumes:
        if not isinstance(volume, Volume):
            raise SelectionError("view", expected="Volumes", got=type(volume).__name__)
    names = [volume.obs_id or "volume" for volume in volumes]
    return _session(_unique(names), volumes, names[0], port)


def view_subject(study: Any, subject: str | None = None, *, port: int = 0) -> ViewerSession:
    """Show every volume of a subject of a RadiObject, a layer each. See `RadiObject.view`."""
    chosen = study.head(1) if subject is None else study.loc[[subject]]
    names, volumes = [], []
    for name in chosen.collection_names:
        collection = chosen.collection(name)
        names += [name if len(collection) == 1 else obs_id for obs_id in collection.obs_ids]
        volumes += list(collection)
    return _session(_unique(names), volumes, "".join(chosen.obs_subject_ids), port)


def _session(names: Sequence[str], volumes: Sequence[Volume], title: str, port: int) -> ViewerSession:
    try:
        from radiobject.show.viewer.session import ViewerSession
    except ImportError as error:
        raise MissingDependencyError(
            f"the viewer needs neuroglancer: {error}", hint='pip install "radiobject-zarr[viewer]"'
        ) from error
    return ViewerSession(dict(zip(names, volumes, strict=True)), title, port)


def _unique(names: Sequence[str]) -> list[str]:
    """The names, with a number behind one that came before.

    >>> _unique(["T1w", "seg", "T1w"])
    ['T1w', 'seg', 'T1w 2']
    """
    found: list[str] = []
    for name in names:
        number, unique = 1, name
        while unique in found:
            number += 1
            unique = f"{name} {number}"
        found.append(unique)
    return found
