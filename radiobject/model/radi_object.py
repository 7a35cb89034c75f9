"""RadiObject: a study. Its subject table, its collections, its views."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from radiobject.config import WriteConfig
from radiobject.errors import ConfigError, CorruptObjectError, UnknownIdError, ViewError
from radiobject.executor import Progress
from radiobject.format.tags import create_tag
from radiobject.format.transaction import Transaction
from radiobject.model.collection import ILoc, Loc, VolumeCollection, filled, matching_rows
from radiobject.model.dataframe import Dataframe, found_rows
from radiobject.model.index import Index, select_labels
from radiobject.model.removal import removal
from radiobject.model.study import Study, split_pin
from radiobject.model.volume import Volume

__all__ = ["RadiObject"]


class RadiObject:
    """A radiology study: subjects (`obs_meta`) and collections of volumes, at one committed version.

    Opening reads one commit. Tables are read when first needed, voxels when a volume is indexed. `uri` is a
    path or any fsspec URL, and may end in `@7` or `@7#sha256:ab12...` to pin a version; `version=` takes a
    number or a tag. Views (`iloc`, `loc`, `sel`, `filter`, `head`) keep the study's order, narrow the
    collections too, and cost at most the columns that they ask about.

    Raises `StudyNotFoundError`, `SnapshotExpiredError` for a version that was cleaned up, `FormatError` for a
    study of a newer format.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        *,
        version: int | str | None = None,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        text, pinned, digest = split_pin(os.fspath(uri))
        if version is not None and pinned is not None and version != pinned:
            raise ConfigError(
                f"{uri}", expected=f"version {pinned}, as the URI says", got=f"version={version}"
            )
        study = Study.open(text, pinned if version is None else version, backend, dict(storage_options or {}))
        found = study.snapshot.commit.sha256
        if digest is not None and not found.startswith(digest):
            raise CorruptObjectError(f"{uri}", expected=f"commit {digest}", got=found[: len(digest)])
        self._set(study, None, None, ())

    def _set(
        self,
        study: Study,
        positions: npt.NDArray[np.int64] | None,
        names: tuple[str, ...] | None,
        rows: tuple[dict[str, Any], ...],
    ) -> None:
        self._study, self._positions, self._names, self._rows = study, positions, names, rows

    def _view(
        self,
        positions: npt.NDArray[np.int64] | None = None,
        names: tuple[str, ...] | None = None,
        rows: dict[str, Any] | None = None,
    ) -> RadiObject:
        view = RadiObject.__new__(RadiObject)
        view._set(
            self._study,
            self._positions if positions is None else positions,
            self._names if names is None else names,
            (*self._rows, rows) if rows else self._rows,
        )
        return view

    @property
    def uri(self) -> str | None:
        """Where the study stands; None for a view."""
        return None if self.is_view else self._study.location.uri

    @property
    def is_view(self) -> bool:
        """Whether this is a part of the stored study."""
        return self._positions is not None or self._names is not None or bool(self._rows)

    @property
    def version(self) -> int:
        """Number of the committed version that this handle sees."""
        return self._study.snapshot.version

    def versions(self) -> list[dict[str, Any]]:
        """Every version that is kept, oldest first: number, time (UTC), operation, message."""
        return self._study.versions()

    @property
    def collection_names(self) -> tuple[str, ...]:
        """Names of the collections."""
        return self._study.names if self._names is None else self._names

    @property
    def n_collections(self) -> int:
        """Number of collections."""
        return len(self.collection_names)

    @property
    def obs_meta(self) -> Dataframe:
        """The subject table, narrowed to this view."""
        return Dataframe(self._study.subjects, self._positions)

    subjects = obs_meta

    @property
    def ledger(self) -> Dataframe:
        """One row for every source ever offered: what became of it, and why."""
        return Dataframe(self._study.snapshot.table("ledger"))

    @property
    def index(self) -> Index:
        """Subject ids, in order."""
        whole = self._study.index()
        return whole if self._positions is None else whole.take(self._positions)

    @property
    def obs_subject_ids(self) -> list[str]:
        """Subject ids, in order."""
        return self.index.to_list()

    @property
    def all_obs_ids(self) -> list[str]:
        """Ids of all volumes, collection by collection."""
        return [i for name in self.collection_names for i in self.collection(name).obs_ids]

    @property
    def iloc(self) -> ILoc[RadiObject]:
        """A view of subjects by position."""
        return ILoc(self)

    @property
    def loc(self) -> Loc[RadiObject]:
        """A view of subjects by id."""
        return Loc(self)

    def sel(self, subject: str | Sequence[str] | None = None, **columns: Any) -> RadiObject:
        """A view by subject and by values: columns of `obs_meta` pick subjects, those of `obs` pick volumes.

        `radi.sel(dx="AD", session="pre")` keeps the subjects with that diagnosis and, in every collection
        that has sessions, the volumes of that session.
        """
        view = self
        if subject is not None:
            view = view.loc[[subject] if isinstance(subject, str) else list(subject)]
        meta = {k: v for k, v in columns.items() if k in self._study.subjects.schema.names}
        rows = {k: v for k, v in columns.items() if k not in meta}
        tables = [self._study.obs(n) for n in self.collection_names]
        for column in rows:
            if not any(filled(t, {column: None}) for t in tables):
                raise UnknownIdError(
                    f"column {column!r}",
                    expected=f"a column of obs_meta {self.obs_meta.columns} or one of obs that has values",
                )
        if meta:
            fitting = matching_rows(self._study.subjects, meta)
            if view._positions is not None:
                fitting = np.intersect1d(view._positions, fitting)
            view = view._view(positions=fitting)
        return view._view(rows=rows) if rows else view

    def filter(self, expression: str | pc.Expression) -> RadiObject:
        """A view of the subjects whose row of obs_meta fits, such as `filter("age > 40 and dx == 'AD'")`.

        A pyarrow expression is taken too. Where a column that is compared has no value, the subject is left
        out. Raises `ExpressionError` that shows the mistake, `UnknownColumnError` for a name not in obs_meta.
        """
        found = found_rows(self._study.subjects, expression)
        kept = found if self._positions is None else self._positions[np.isin(self._positions, found)]
        return self._view(positions=kept)

    def head(self, n: int = 5) -> RadiObject:
        """The first `n` subjects."""
        return self.iloc[: max(n, 0)]

    def tail(self, n: int = 5) -> RadiObject:
        """The last `n` subjects."""
        return self.iloc[max(len(self) - n, 0) :]

    def select_collections(self, names: Sequence[str]) -> RadiObject:
        """A view with only these collections."""
        for name in names:
            self._study.entry(name)
        return self._view(names=tuple(n for n in self.collection_names if n in set(names)))

    def collection(self, name: str) -> VolumeCollection:
        """The collection of that name, narrowed to this view's subjects."""
        if name not in self.collection_names:
            raise UnknownIdError(f"collection {name!r}", expected=f"one of {list(self.collection_names)}")
        if not self.is_view:
            return VolumeCollection(self._study, name)
        positions = None
        if self._positions is not None:
            positions = self._study.positions_of_subjects(name, self.obs_subject_ids)
        for where in self._rows:
            table = self._study.obs(name)
            fitting = matching_rows(table, filled(table, where))
            positions = fitting if positions is None else np.intersect1d(positions, fitting)
        return VolumeCollection(self._study, name, positions)

    def get_volume(self, obs_id: str) -> Volume:
        """The volume of that id, in whichever collection it is."""
        for name in self.collection_names:
            collection = self.collection(name)
            if obs_id in collection.index:
                found: Volume = collection.loc[obs_id]
                return found
        raise UnknownIdError(f"obs_id {obs_id!r}", expected=f"a volume of {', '.join(self.collection_names)}")

    def validate(self, level: Literal["quick", "standard", "full"] = "quick", *, strict: bool = False) -> Any:
        """Check the study against its commit; see `radiobject.format.integrity`. `strict` raises."""
        from radiobject.format.integrity import validate

        return validate(self._study.snapshot, level, strict=strict)

    @classmethod
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
        write: WriteConfig | None = None,
        errors: Literal["raise", "collect"] = "raise",
        resume: bool = False,
        progress: bool | Progress | None = None,
        executor: Literal["threads", "serial"] = "threads",
        workers: int | None = None,
        message: str = "",
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        single_writer: bool = False,
    ) -> RadiObject:
        """Create a study from NIfTI files, nibabel images or arrays, in one commit, and open it.

        Parameters
        ----------
        images
            `{collection: source}`: a glob, a directory, a list of sources, or a list of `(source, subject)`.
            A source is a path or URL, a nibabel image, or `(array x, y, z[, t], affine)`.
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
        errors
            "raise": every source is tried, and if any failed nothing is committed and `IngestError.report`
            lists them. "collect": the good ones are committed, `radi.ledger` has the rest.
        resume
            Keep the volumes that an interrupted run of the same plan has finished.
        single_writer
            Needed for a store that cannot let exactly one of two writers win; you promise to be the only one.
        """
        from radiobject.ingest import ingest

        snapshot = ingest(
            os.fspath(uri),
            images,
            obs_meta,
            obs=obs,
            validate_alignment=validate_alignment,
            labels=labels,
            axis4=axis4,
            write=write,
            errors=errors,
            resume=resume,
            progress=progress,
            executor=executor,
            workers=workers,
            message=message,
            backend=backend,
            storage_options=dict(storage_options or {}),
            single_writer=single_writer,
        )
        return cls._of(Study(snapshot))

    from_images = from_niftis

    def append(
        self,
        images: Mapping[str, Any],
        obs_meta: Any = None,
        *,
        on_conflict: Literal["error", "skip", "update", "replace"] = "error",
        **options: Any,
    ) -> RadiObject:
        """Add volumes to this study in one commit; this handle then shows the new version.

        `obs_meta` needs a row for every new subject; a row for a known one must equal what is stored. An
        obs_id that the study holds is an error, or is skipped, replaced, or replaced only when its source
        changed ("update"). `options` are those of `from_niftis`.
        """
        from radiobject.ingest import ingest

        self._refuse_view("append")
        location = self._study.location
        snapshot = ingest(
            location.uri, images, obs_meta, base=self._study.snapshot, on_conflict=on_conflict,
            storage_options=location.options, **options,
        )  # fmt: skip
        self._set(Study(snapshot), None, None, ())
        return self

    def delete(
        self,
        *,
        subjects: str | Sequence[str] | None = None,
        collections: str | Sequence[str] | None = None,
        obs_ids: str | Sequence[str] | None = None,
        message: str = "",
    ) -> RadiObject:
        """Take subjects (with all their volumes), collections or volumes out, in one commit.

        Older versions still hold them until clean-up.
        """
        self._refuse_view("delete")
        edit = removal(self._study, subjects, collections, obs_ids)
        snapshot = self._study.snapshot
        made = Transaction(snapshot.storage, snapshot, "delete", message).commit(edit)
        self._set(Study(made), None, None, ())
        return self

    def tag(self, name: str) -> None:
        """Give this version a name that `RadiObject(uri, version=name)` opens and clean-up respects."""
        self._refuse_view("tag")
        create_tag(self._study.snapshot, name)

    def _refuse_view(self, what: str) -> None:
        if self.is_view:
            raise ViewError(
                f"{what}() on a view of {self._study.location.uri}",
                expected="the whole study",
                got="a view",
                hint="Call it on RadiObject(uri).",
            )

    @classmethod
    def _of(cls, study: Study) -> RadiObject:
        radi = cls.__new__(cls)
        radi._set(study, None, None, ())
        return radi

    def _locate(self, key: Any) -> int | npt.NDArray[np.int64]:
        return select_labels(key, self.index, "loc")

    def _pick(self, picked: int | npt.NDArray[np.int64]) -> RadiObject:
        chosen = np.array([picked], dtype=np.int64) if isinstance(picked, int) else picked
        if self._positions is not None:
            chosen = self._positions[chosen]
        return self._view(positions=chosen)

    def __getattr__(self, name: str) -> VolumeCollection:
        # only reached for what is no attribute; underscored names must not look for a study (pickle, copy)
        if not name.startswith("_") and name in self.collection_names:
            return self.collection(name)
        raise AttributeError(f"RadiObject has no attribute or collection {name!r}")

    def __getitem__(self, subject: str) -> RadiObject:
        return self.loc[subject]

    def __len__(self) -> int:
        return self._study.subjects.num_rows if self._positions is None else len(self._positions)

    def __iter__(self) -> Iterator[str]:
        return iter(self.collection_names)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.collection_names]

    def __repr__(self) -> str:
        place = f"view of {self._study.location.uri}" if self.is_view else self._study.location.uri
        lines = [f"<RadiObject {place} version {self.version}: {len(self)} subjects>"]
        lines += [f"  {name}: {self.collection(name)!r}" for name in self.collection_names]
        return "\n".join(lines)
