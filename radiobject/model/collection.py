"""VolumeCollection: one imaging layer of a study, its volume table and its volumes. Views are immutable."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from radiobject.errors import SelectionError
from radiobject.executor import Progress
from radiobject.model.collection_view import CollectionView
from radiobject.model.copying import Chosen, copy_study
from radiobject.model.study import Study, split_collection

__all__ = ["VolumeCollection"]


class VolumeCollection(CollectionView):
    """Volumes of one kind (a modality, a series, a segmentation) with one row of `obs` each.

    `iloc[int]`, `loc[str]` and a `sel` that finds one give a `Volume`; every other selection gives a view
    that keeps the order of the collection. Nothing is read before voxels are indexed.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        *,
        version: int | str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        place, name = split_collection(os.fspath(uri))
        study = Study.at(place, version, None, storage_options)
        if name is None and len(study.names) != 1:
            raise SelectionError(
                f"VolumeCollection({place!r})",
                expected="a study with one collection, or uri#name",
                got=f"{len(study.names)}: {list(study.names)}",
            )
        self._set(study, study.names[0] if name is None else name, None, None)

    def write(
        self,
        uri: str | os.PathLike[str],
        *,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        workers: int | None = None,
        progress: bool | Progress | None = None,
        message: str = "",
    ) -> VolumeCollection:
        """Copy this collection or view to a study of its own, with its subjects, and open it there."""
        chosen = Chosen(self.name, self._study, self.name, self._positions)
        snapshot = copy_study(
            os.fspath(uri), [chosen], [(self._study, self.subjects.to_list())], backend=backend,
            storage_options=dict(storage_options or {}), workers=workers, progress=progress, message=message,
        )  # fmt: skip
        return VolumeCollection._of(Study(snapshot), self.name)
