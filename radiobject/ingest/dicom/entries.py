"""Entries: what a caller points at, as places with the collection and subject that they are of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from radiobject.errors import MetadataError
from radiobject.format.layout import check_collection_name
from radiobject.model.naming import names_labels

__all__ = ["Entry", "entries_of"]


@dataclass(frozen=True)
class Entry:
    """One place of DICOM files. `collection` "" lets modalities decide; `labels` takes label objects."""

    place: str
    collection: str = ""
    subject: str | None = None
    labels: bool = False


def entries_of(images: Any, labels: Sequence[str] | Mapping[str, Any] | str | None) -> list[Entry]:
    """What `images` of `RadiObject.from_dicoms` lists, as entries.

    Raises `MetadataError` for what it cannot be.
    """
    if isinstance(images, Mapping):
        if not images:
            raise MetadataError("images", expected="{collection: folder, glob or list}", got="{}")
        chosen = [labels] if isinstance(labels, str) else None if labels is None else list(labels)
        found = []
        for collection, value in images.items():
            check_collection_name(collection)
            of_labels = names_labels(collection) if chosen is None else collection in chosen
            found += [replace(e, collection=collection, labels=of_labels) for e in _listed(value, collection)]
        _refuse_twice([e for e in found if not e.labels])
        return found
    return list(_listed(images, "images"))


def _refuse_twice(entries: Sequence[Entry]) -> None:
    """Raise `MetadataError` where two collections would hold the same images."""
    owners: dict[str, str] = {}
    for entry in entries:
        owner = owners.setdefault(os.path.abspath(entry.place), entry.collection)
        if owner != entry.collection:
            raise MetadataError(
                f"images[{entry.collection!r}]", expected=f"other files than those of {owner!r}",
                got=f"{entry.place} again",
                hint="Without names of collections, images=folder sorts series by modality.",
            )  # fmt: skip


def _listed(value: Any, what: str) -> Iterable[Entry]:
    if isinstance(value, str | os.PathLike):
        yield Entry(os.fspath(value))
        return
    if not isinstance(value, Iterable):
        raise MetadataError(what, expected="a folder, a glob or a list", got=type(value).__name__)
    for entry in value:
        place, subject = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, None)
        named = subject is None or (isinstance(subject, str) and subject != "")
        if not isinstance(place, str | os.PathLike) or not named:
            raise MetadataError(what, expected="a path or (path, subject as text)", got=repr(entry)[:80])
        yield Entry(os.fspath(place), subject=subject)
