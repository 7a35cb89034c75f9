"""Creating: the ways in which a study comes about, from files and from other studies."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

from radiobject.config import WriteConfig
from radiobject.executor import Executor, Progress
from radiobject.model.collection import VolumeCollection
from radiobject.model.context import context_for_new
from radiobject.model.copying import Chosen, copy_study, subject_rows
from radiobject.model.study import Study
from radiobject.model.view import StudyView
from radiobject.moved import known_as, renamed

__all__ = ["CreatedStudy"]


class CreatedStudy(StudyView):
    """The class methods of `RadiObject` that create a study."""

    @classmethod
    @renamed(
        niftis="images={'T1w': [(path, subject), ...]}",
        image_dir="images={'T1w': folder}",
        collection_name="images={'T1w': ...}",
    )
    def from_niftis(
        cls,
        uri: str | os.PathLike[str],
        images: Mapping[str, Any],
        obs_meta: Any = None,
        *,
        obs: Mapping[str, Any] | None = None,
        validate_alignment: bool = False,
        labels: Any = None,
        axis4: Literal["auto", "time", "channel"] = "auto",
        reorient: bool | str | Sequence[str] | None = None,
        write: WriteConfig | None = None,
        errors: Literal["raise", "collect"] = "raise",
        resume: bool = False,
        progress: bool | Progress | None = None,
        executor: Executor = "threads",
        workers: int | None = None,
        commit_every: int | None = None,
        message: str = "",
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        single_writer: bool = False,
        deidentify: bool = False,
        copy: bool = True,
        source_root: str | os.PathLike[str] | None = None,
        ctx: Any = None,
    ) -> Self:
        """Create a study from NIfTI files, arrays, images or Volumes, in one commit, and open it.

        Parameters
        ----------
        images
            `{collection: source}`: a glob, a directory, or a list of sources, of `(source, subject)` or of
            `(source, subject, obs_id)`. A source is a path or URL, a nibabel image, `(array x, y, z[, t],
            affine)`, a `Volume`, or an xarray DataArray with dims x, y, z and an affine or coordinates.
        obs_meta
            DataFrame with `obs_subject_id` and any columns; without it the subjects come from the images.
        obs
            `{collection: DataFrame}` with `obs_id` (or `obs_subject_id`) and columns to keep with volumes.
        validate_alignment
            Require that every collection has the same subjects.
        labels
            Collections that are label maps: a list of names, or `{name: {value: "text"}}`.
        axis4
            What a fourth axis is; "auto" believes the header, and refuses when it says nothing.
        reorient
            True flips and permutes voxels to the configured order (RAS), axis codes such as "LPS" to that
            one, False not at all; None does what `write.orientation` says. Nothing is resampled.
        errors
            "raise": every source is tried, and if any failed nothing is committed and `IngestError.report`
            lists them. "collect": the good ones are committed, `radi.ledger` has the rest.
        resume
            Keep the volumes that an interrupted run of the same plan has finished.
        commit_every
            Make a version whenever so many volumes are finished, instead of one at the end. An interrupted
            run is then a study already: append the same images with on_conflict="skip" and resume=True.
        single_writer
            Needed for a store that cannot let exactly one of two writers win; you promise to be the only one.
        deidentify
            Blank the free text of headers and drop their extensions; exports are then not the source's bytes.
        copy
            False registers files where they lie: their headers are read, voxels stay in them. Statistics and
            thumbnails, which need voxels, are null. A file that changes later is `SourceChangedError`.
        source_root
            The folder or URL that files of copy=False are below, by default the one that holds the study.
            Whoever opens the study elsewhere says so there, too.
        ctx
            That of `RadiObject`, for the study that is opened then.
        """
        from radiobject.ingest import ingest

        context = context_for_new(ctx, uri, backend, storage_options)
        snapshot = ingest(
            os.fspath(uri), images, obs_meta, obs=obs, validate_alignment=validate_alignment, labels=labels,
            axis4=axis4, reorient=reorient, write=write, errors=errors, resume=resume, progress=progress,
            executor=executor, workers=workers, commit_every=commit_every, message=message, backend=backend,
            storage_options=dict(storage_options or {}), single_writer=single_writer, deidentify=deidentify,
            copy=copy, source_root=source_root,
        )  # fmt: skip
        return cls._of(Study(snapshot, context))

    @classmethod
    @renamed(
        niftis="images={'T1w': [(path, subject), ...]}",
        image_dir="images={'T1w': folder}",
        collection_name="images={'T1w': ...}",
    )
    def from_images(
        cls,
        uri: str | os.PathLike[str],
        images: Mapping[str, Any],
        obs_meta: Any = None,
        *,
        format_hint: Any = None,
        storage_options: Mapping[str, Any] | None = None,
        ctx: Any = None,
        **options: Any,
    ) -> Self:
        """Create a study from NIfTI and DICOM, in one commit: `from_niftis` and `from_dicoms` in one.

        Each collection is of one format, known by the content of its first file, or told by `format_hint`:
        "nifti" or "dicom" for all, or `{collection: format}`. `options` are those of both methods; those of
        DICOM (deid_key=, irregular= ...) need a collection of DICOM. Without `deidentify=`, DICOM is
        de-identified and NIfTI is kept without loss.
        """
        from radiobject.ingest.mixed import ingest_images

        context = context_for_new(ctx, uri, options.get("backend"), storage_options)
        snapshot = ingest_images(
            os.fspath(uri), images, obs_meta, format_hint=format_hint,
            storage_options=dict(storage_options or {}), **options,
        )  # fmt: skip
        return cls._of(Study(snapshot, context))

    @classmethod
    @known_as(dicom_dirs="images")
    def from_dicoms(
        cls,
        uri: str | os.PathLike[str],
        images: Any,
        obs_meta: Any = None,
        *,
        deidentify: bool = True,
        deid_key: str | bytes | os.PathLike[str] | None = None,
        deid_map: Any = None,
        keep_phi: str | Iterable[str] = (),
        irregular: Literal["error", "keep"] = "error",
        labels: Any = None,
        storage_options: Mapping[str, Any] | None = None,
        ctx: Any = None,
        **options: Any,
    ) -> Self:
        """Create a study from DICOM files, in one commit, and open it. Private by default.

        Files are found by content in folders with all below them. Series are split where orientation, grid,
        kind of image or echo differ, slices sorted by their positions, and the affine is made of these.
        Values keep their integers, with slope and intercept, where all slices share them. Colour, localizers
        and secondary captures are skipped and counted; a volume with missing, doubled or uneven slices fails.
        Raises `IngestError` for files and volumes that fail, unless errors="collect" leaves these out.

        Parameters
        ----------
        images
            A folder, a glob, or a list of paths or of `(path, subject)`: the modality names the collections,
            SEG and RTSTRUCT objects become the label collections "SEG" and "RTSTRUCT". Or `{collection:
            any of these}`; a collection of labels (by its name, or `labels`) takes the label objects there.
        deidentify
            Keep an allow-list of attributes; ids and UIDs become pseudonyms, dates move by subject. False
            keeps ids, UIDs and dates as they are. See docs/deidentification.md.
        deid_key
            The secret that pseudonyms are made with: 32 bytes or more, hex text, or a path. None asks
            RADIOBJECT_DEID_KEY, then the user's key file, which is made when there is none. It never enters
            the study.
        deid_map
            Your own subject ids: `{PatientID: subject}`, a table, or its path.
        keep_phi
            DICOM keywords to keep besides, such as "PatientSex".
        irregular
            "keep" stores volumes with missing or uneven slices, at their mean spacing, and says so in obs.
        obs_meta, options
            Those of `from_niftis`. copy=False needs deidentify=False: files that stay where they lie keep the
            names in their headers, and the study their paths. SEG and RTSTRUCT are written all the same.
        """
        from radiobject.ingest.dicom import ingest_dicoms

        context = context_for_new(ctx, uri, options.get("backend"), storage_options)
        snapshot = ingest_dicoms(
            os.fspath(uri), images, obs_meta, deidentify=deidentify, deid_key=deid_key, deid_map=deid_map,
            keep_phi=keep_phi, irregular=irregular, labels=labels,
            storage_options=dict(storage_options or {}), **options,
        )  # fmt: skip
        return cls._of(Study(snapshot, context))

    @classmethod
    def from_plan(
        cls,
        uri: str | os.PathLike[str],
        plan: Any,
        obs_meta: Any = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
        ctx: Any = None,
        **options: Any,
    ) -> Self:
        """Create a study from the plan that `radiobject.scan(folder)` made, edited or not, in one commit.

        `obs_meta` is that of the layout (participants.tsv, say) where none is given. `options` are errors=,
        resume=, executor=, workers=, progress=, write=, reorient=, message=, backend= and others of
        `from_niftis`. A row with the verdict "error" fails, unless errors="collect" leaves it out.
        """
        from radiobject.ingest.scanning.running import ingest_plan

        context = context_for_new(ctx, uri, options.get("backend"), storage_options)
        snapshot = ingest_plan(
            os.fspath(uri), plan, obs_meta, storage_options=dict(storage_options or {}), **options
        )
        return cls._of(Study(snapshot, context))

    @classmethod
    def from_bids(
        cls,
        uri: str | os.PathLike[str],
        root: str | os.PathLike[str],
        obs_meta: Any = None,
        *,
        derivatives: bool = False,
        rules: Any = None,
        **options: Any,
    ) -> Self:
        """Create a study from a BIDS folder: `from_plan` of `radiobject.scan(root, "bids")`.

        Suffixes name the collections (`T1w`, `bold`), full stems the volumes. Entities and inherited sidecars
        are columns of obs, participants.tsv is obs_meta; `derivatives` takes these too.
        """
        from radiobject.ingest.scanning.plan import scan

        plan = scan(root, "bids", rules, derivatives=derivatives)
        return cls.from_plan(uri, plan, obs_meta, **options)

    @classmethod
    def from_collections(
        cls,
        uri: str | os.PathLike[str],
        collections: Mapping[str, VolumeCollection | str | os.PathLike[str]],
        obs_meta: Any = None,
        *,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        executor: Executor = "threads",
        workers: int | None = None,
        progress: bool | Progress | None = None,
        message: str = "",
        ctx: Any = None,
    ) -> Self:
        """A study made of collections, views or their URIs, from one study or several; volumes are copied.

        Subjects of the same id are one subject. Their rows are those of `obs_meta`, or of their studies.
        Raises `MetadataError` when two studies say different things of one, or `obs_meta` has no row for one.
        """
        taken = {
            name: c if isinstance(c, VolumeCollection) else VolumeCollection(c)
            for name, c in collections.items()
        }
        context = context_for_new(ctx, uri, backend, storage_options, [c.backend for c in taken.values()])
        chosen = [Chosen(name, c._study, c.name, c._rows()) for name, c in taken.items()]
        people = subject_rows([(c._study, c.subjects.to_list()) for c in taken.values()], obs_meta)
        snapshot = copy_study(
            os.fspath(uri), chosen, people, backend=backend, storage_options=dict(storage_options or {}),
            executor=executor, workers=workers, progress=progress, message=message,
        )  # fmt: skip
        return cls._of(Study(snapshot, context))

    from_volume_collections = from_collections

    @classmethod
    def from_upstream(
        cls,
        source: str | os.PathLike[str],
        uri: str | os.PathLike[str],
        *,
        source_options: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Import what the TileDB-based package wrote at `source`, a study or one collection, in one commit.

        Volumes belong to rows by the id that their array holds, never by position. What was repaired, and
        what is lost there, stands in `ledger`, with outcome "repaired" or "noted". `options` are backend=,
        labels=, write=, errors=, resume=, executor=, workers=, progress=, message= of `from_niftis`;
        `source_options` are the storage options of the source, a local disk or S3.

        Raises `IngestError` for what has no row or no voxels, unless errors="collect" leaves it out; and
        `StudyNotFoundError`, or `FormatError` for what is no study of that package.
        """
        from radiobject.ingest.upstream import import_study

        snapshot = import_study(
            os.fspath(source), os.fspath(uri), source_options=source_options,
            storage_options=storage_options, **options,
        )  # fmt: skip
        return cls._of(Study(snapshot))
