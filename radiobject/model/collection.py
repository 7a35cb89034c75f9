"""VolumeCollection: one imaging layer of a study, its volume table and its volumes. Views are immutable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Unpack

import pandas as pd

from radiobject.config import WriteConfig
from radiobject.errors import SelectionError, ViewError
from radiobject.executor import Executor, Progress
from radiobject.format.integrity import Report, validate
from radiobject.model.collection_view import CollectionView
from radiobject.model.context import context_for_new
from radiobject.model.copying import Chosen, copy_study
from radiobject.model.eager import EagerQuery
from radiobject.model.execution import How
from radiobject.model.label_statistics import label_statistics
from radiobject.model.pieces import Format
from radiobject.model.query import LazyQuery
from radiobject.model.stages import BatchStage, MapStage
from radiobject.model.study import Study, split_collection
from radiobject.model.volume import Volume

__all__ = ["VolumeCollection"]


class VolumeCollection(CollectionView):
    """Volumes of one kind (a modality, a series, a segmentation) with one row of `obs` each.

    `iloc[int]`, `loc[str]` and a `sel` that finds one give a `Volume`; every other selection gives a view
    that keeps the order of the collection. Nothing is read before voxels are indexed. `ctx` and
    `source_root` are those of `RadiObject`, here and where a collection is written and opened.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        ctx: Any = None,
        *,
        version: int | str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        source_root: str | os.PathLike[str] | None = None,
    ) -> None:
        place, name = split_collection(os.fspath(uri))
        study = Study.at(place, version, None, storage_options, ctx, source_root)
        if name is None and len(study.names) != 1:
            raise SelectionError(
                f"VolumeCollection({place!r})",
                expected="a study with one collection, or uri#name",
                got=f"{len(study.names)}: {list(study.names)}",
            )
        self._set(study, study.names[0] if name is None else name, None, None)

    @classmethod
    def from_niftis(
        cls,
        uri: str | os.PathLike[str],
        niftis: Any,
        obs: Any = None,
        *,
        name: str | None = None,
        reorient: bool | str | Sequence[str] | None = None,
        validate_dimensions: bool = True,
        valid_subject_ids: Iterable[str] | None = None,
        kind: Literal["image", "label"] | None = None,
        ctx: Any = None,
        **options: Any,
    ) -> VolumeCollection:
        """Create a study with one collection (`name`, "volume" without one) and open that, in one commit.

        `niftis` is what `RadiObject.from_niftis` takes for a collection, such as `[(path, subject), ...]`;
        `options` are its options. `obs` has columns to keep with the volumes, by `obs_id` or
        `obs_subject_id`; with both and a row for each entry of a list, it gives the volumes those ids.
        `kind=None` means labels where the name says so. With `valid_subject_ids`, other subjects are refused.

        Raises `AlignmentError` for volumes that differ in shape (x, y, z) unless `validate_dimensions` is
        False, `MetadataError` for obs that does not fit; nothing is committed then.
        """
        from radiobject.ingest.collection import ingest_collection

        context = context_for_new(ctx, uri, options.get("backend"), options.get("storage_options"))
        snapshot = ingest_collection(
            uri, niftis, obs, name or "volume", validate_dimensions=validate_dimensions,
            valid_subject_ids=valid_subject_ids, kind=kind, reorient=reorient, **options,
        )  # fmt: skip
        return cls._of(Study(snapshot, context), name or "volume")

    from_images = from_niftis

    @classmethod
    def from_dicoms(
        cls,
        uri: str | os.PathLike[str],
        dicom_dirs: Any,
        obs: Any = None,
        *,
        name: str | None = None,
        validate_dimensions: bool = True,
        ctx: Any = None,
        **options: Any,
    ) -> VolumeCollection:
        """Create a study with one collection (`name`, "volume" without one) of DICOM files, and open that.

        `dicom_dirs` is a folder, a glob, or a list of paths or of `(path, subject)`; `options` are those of
        `RadiObject.from_dicoms`, `obs` and `validate_dimensions` those of `from_niftis`.
        """
        from radiobject.ingest.collection import ingest_dicom_collection

        context = context_for_new(ctx, uri, options.get("backend"), options.get("storage_options"))
        snapshot = ingest_dicom_collection(
            uri, dicom_dirs, obs, name or "volume", validate_dimensions=validate_dimensions, **options
        )
        return cls._of(Study(snapshot, context), name or "volume")

    @classmethod
    def from_volumes(
        cls,
        uri: str | os.PathLike[str],
        volumes: Iterable[Volume | tuple[str, Volume]],
        obs: Any = None,
        *,
        name: str | None = None,
        kind: Literal["image", "label"] | None = None,
        write: WriteConfig | None = None,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        message: str = "",
        ctx: Any = None,
    ) -> VolumeCollection:
        """Create a study with one collection of `(obs_id, Volume)` pairs and open that, in one commit.

        A Volume keeps stored values, scaling, header and, of a study's, its subject, session and run; one
        without a subject becomes a subject of its obs_id, unless `obs` (by `obs_id`) names another in
        `obs_subject_id`. Other columns of `obs` are kept. `kind=None`: labels when all Volumes are.

        Raises `DuplicateIdError`, `MetadataError`, `StudyExistsError`, `WriterError` for no volumes.

        >>> import numpy as np, tempfile
        >>> vol = Volume.from_numpy(np.ones((4, 4, 4), "u1"))
        >>> VolumeCollection.from_volumes(f"{tempfile.mkdtemp()}/study", [("sub-1_T1w", vol)], name="T1w")
        <VolumeCollection T1w: 1 image volumes, 4x4x4, zarr>
        """
        from radiobject.model.writers import write_volumes

        return write_volumes(
            uri, volumes, obs, name=name, kind=kind, write=write, backend=backend,
            storage_options=storage_options, message=message, ctx=ctx,
        )  # fmt: skip

    def append(
        self, niftis: Any = None, obs_meta: Any = None, *, dicom_dirs: Any = None, **options: Any
    ) -> VolumeCollection:
        """Add volumes to this collection, in one commit; it and the study it was taken from then show them.

        `niftis`, or `dicom_dirs`, is what `RadiObject.append` takes for a collection, and `options` are its
        options. Without `obs_meta` new subjects get a row with no more than their id.
        """
        from radiobject.ingest.collection import append_to_collection

        if self.is_view:
            raise ViewError(
                f"append() on a view of {self.name!r}", expected="the whole collection", got="a view"
            )
        owner, study = self._owner, self._study
        if owner is not None:
            owner._refuse_view("append")
            study = owner._study
        study = study.after(append_to_collection(study, self.name, niftis, dicom_dirs, obs_meta, **options))
        if owner is not None:
            owner._show(study)
        self._set(study, self.name, None, owner)
        return self

    def lazy(self) -> LazyQuery:
        """A query over these volumes: selections and functions, run in one pass when a result is asked for.

        >>> from radiobject.examples import study
        >>> query = study(1).T1w.lazy().filter("age > 0").map(lambda voxels, row: voxels / 2)
        >>> query.count()
        1
        """
        return LazyQuery(self)

    def map(
        self,
        fn: Callable[..., Any],
        *,
        format: Format = "numpy",
        version: str | None = None,
        **how: Unpack[How],
    ) -> EagerQuery:
        """Call `fn(volume, obs_row)` for every volume, now, and keep the results.

        `fn` gets an array x, y, z[, t][, c] (or a Volume, or a nibabel image: `format=`) and the volume's
        row joined with its subject's; it returns the volume, `(volume, {column: value})`, or any value.
        `how`: executor=, workers=, progress=, retries=, errors= of `LazyQuery`.

        >>> from radiobject.examples import study
        >>> list(study(1).seg.map(lambda voxels, row: int(voxels.max())))
        [2]
        """
        return EagerQuery.run(self, MapStage(fn, format, version), how)

    def map_batches(
        self,
        fn: Callable[..., Any],
        batch_size: int = 8,
        *,
        format: Format = "numpy",
        version: str | None = None,
        **how: Unpack[How],
    ) -> EagerQuery:
        """Call `fn([(volume, obs_row), ...])` for up to `batch_size` volumes, now; as many results."""
        return EagerQuery.run(self, BatchStage(fn, batch_size, format, version), how)

    def stats_by(
        self,
        labels: CollectionView,
        *,
        background: bool = False,
        on: Sequence[str] | None = None,
        missing: Literal["error", "drop"] = "error",
        executor: Executor = "threads",
        workers: int | None = None,
        progress: bool | Progress | None = None,
    ) -> pd.DataFrame:
        """What each volume holds under each value of its label volume: one row a volume and label.

        Columns: obs_id, obs_subject_id, label (int), name (text or None, as the label volume has it),
        n_voxels, volume_ml (both of every voxel of the label), mean, std (of the population), min, max (of
        its finite voxels, in the units that reads return; NaN where there is none). The label 0 has a row
        with `background=True` only. Partners are those of `RadiObject.pairs`, with `on` and `missing`; the
        labels may stand in another study. Voxels are read in blocks, of images only where labels are.

        Raises `AlignmentError` for images as `labels`, for partners missing or several, and, before any
        voxel is read, for two that differ in shape or place; `SelectionError` for volumes with t or c.

        >>> from radiobject.examples import study
        >>> radi = study(1)
        >>> radi.T1w.stats_by(radi.seg)[["obs_id", "label", "name", "n_voxels"]]
               obs_id  label          name  n_voxels
        0  sub-01_T1w      1   grey matter     16262
        1  sub-01_T1w      2  white matter      8568
        """
        return label_statistics(
            self, labels, background=background, on=on, missing=missing, executor=executor, workers=workers,
            progress=progress,
        )  # fmt: skip

    def write(
        self,
        uri: str | os.PathLike[str],
        name: str | None = None,
        *,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        executor: Executor = "threads",
        workers: int | None = None,
        progress: bool | Progress | None = None,
        message: str = "",
        ctx: Any = None,
    ) -> VolumeCollection:
        """Copy this collection or view to a study of its own, with its subjects, and open it there.

        Volumes keep their ids; `name` is the collection's there.
        """
        context = context_for_new(ctx, uri, backend, storage_options, [self.backend])
        chosen = Chosen(name or self.name, self._study, self.name, self._positions)
        snapshot = copy_study(
            os.fspath(uri), [chosen], [(self._study, self.subjects.to_list())], backend=backend,
            storage_options=dict(storage_options or {}), executor=executor, workers=workers,
            progress=progress, message=message,
        )  # fmt: skip
        return VolumeCollection._of(Study(snapshot, context), chosen.name)

    def validate(
        self, level: Literal["quick", "standard", "full"] = "quick", *, strict: bool = False
    ) -> Report:
        """Check the whole study that this collection belongs to; see `RadiObject.validate`."""
        return validate(self._study.snapshot, level, strict=strict)
