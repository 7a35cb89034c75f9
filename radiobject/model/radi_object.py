"""RadiObject: a study. Open it, create it, change it; what it shows is in `view`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeGuard, Unpack

import pyarrow as pa

from radiobject.config import WriteConfig
from radiobject.executor import Executor, Progress
from radiobject.format.changes import Edit
from radiobject.model.adding import Addable, added
from radiobject.model.collection import VolumeCollection
from radiobject.model.context import context_for_new
from radiobject.model.copying import Chosen, copy_study
from radiobject.model.creating import CreatedStudy
from radiobject.model.execution import Execution, How
from radiobject.model.foreground import index_labels
from radiobject.model.history import StudyHistory
from radiobject.model.materialize import materialized
from radiobject.model.partners import split_subjects
from radiobject.model.removal import removal
from radiobject.model.staging import StagedStudy
from radiobject.model.study import Study
from radiobject.model.study_query import StudyQuery
from radiobject.moved import known_as, renamed

__all__ = ["RadiObject"]


class RadiObject(CreatedStudy, StudyHistory):
    """A radiology study: subjects (`obs_meta`) and collections of volumes, at one committed version.

    Opening reads one commit. Tables are read when first needed, voxels when a volume is indexed. `uri` is a
    path or any fsspec URL, and may end in `@7` or `@7#sha256:ab12...` to pin a version; `version=` takes a
    number or a tag. Views (`iloc`, `loc`, `sel`, `filter`, `head`) keep the study's order, narrow the
    collections too, and cost at most the columns that they ask about.

    `ctx` is a `tiledb.Ctx` to read volumes on TileDB by, through this handle and what is made from it; other
    processes use their own. Studies on other backends take those of `radiobject.parallel` only, to no effect.

    `source_root` is the folder or URL that source files are below, for volumes that were registered where
    they lie (copy=False); the folder that holds the study unless given.

    Raises `StudyNotFoundError`, `SnapshotExpiredError` for a version that was cleaned up, `FormatError` for a
    study of a newer format, `ConfigError` for a `ctx` that is none or that the study cannot honour.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        ctx: Any = None,
        *,
        version: int | str | None = None,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        source_root: str | os.PathLike[str] | None = None,
    ) -> None:
        self._set(Study.at(uri, version, backend, storage_options, ctx, source_root), None, None, ())

    @renamed(niftis="images={'T1w': [(path, subject), ...]}")
    def append(
        self,
        images: Mapping[str, Any] | None = None,
        obs_meta: Any = None,
        *,
        dicom_dirs: Any = None,
        on_conflict: Literal["error", "skip", "update", "replace"] = "error",
        **options: Any,
    ) -> RadiObject:
        """Add volumes to this study in one commit; this handle then shows the new version.

        `images` are those of `from_images`, NIfTI or DICOM; `dicom_dirs` those of `from_dicoms`, where
        collections need no name. `obs_meta` needs a row for every new subject of NIfTI; a row for a known one
        must equal what is stored. An obs_id that the study holds is an error, or is skipped, replaced, or
        replaced only when its source changed ("update"). `options` are those of these methods.
        """
        from radiobject.ingest.mixed import ingest_images

        self._refuse_view("append")
        location = self._study.location
        snapshot = ingest_images(
            location.uri, images, obs_meta, dicom_dirs=dicom_dirs, base=self._study.snapshot,
            on_conflict=on_conflict, storage_options=location.options, finish=self._study.finish, **options,
        )  # fmt: skip
        self._set(self._study.after(snapshot), None, None, ())
        return self

    def ingest(self, plan: Any, obs_meta: Any = None, **options: Any) -> RadiObject:
        """Add what a plan has (`radiobject.scan(folder)`) in one commit; this handle then shows it.

        `options` are those of `from_plan`, with on_conflict= of `append` and retry_failed=True: only what
        the ledger has as failed, and what is not there since.
        """
        from radiobject.ingest.scanning.running import ingest_plan

        self._refuse_view("ingest")
        location = self._study.location
        snapshot = ingest_plan(
            location.uri, plan, obs_meta, base=self._study.snapshot, storage_options=location.options,
            finish=self._study.finish, **options,
        )  # fmt: skip
        self._set(self._study.after(snapshot), None, None, ())
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
        return self._change("delete", removal(self._study, subjects, collections, obs_ids), message)

    def lazy(self) -> StudyQuery:
        """A query over these subjects and their collections; `radi.T1w.lazy()` is one over a collection."""
        return StudyQuery(self)

    def add_collection(
        self,
        name: str,
        source: Addable | str | os.PathLike[str],
        *,
        kind: Literal["image", "label"] | None = None,
        write: WriteConfig | None = None,
        resume: bool = False,
        message: str = "",
        **how: Unpack[How],
    ) -> RadiObject:
        """Add a collection in one commit: one of another study (or its URI), a view, or what a query makes.

        Volumes of a collection are copied with rows, thumbnails and lines of the ledger, to a backend that
        this study has; subjects that are new come along.
        `radi.add_collection("norm", radi.T1w.lazy().map(fn))` is a derived layer: `obs` names the parent,
        its version and the function. Called again after an append it computes only what is new, and what
        was made by another function or from a parent that was replaced; `resume=True` keeps what an
        interrupted call has finished. Ids are the parents' with the collection's name exchanged. `how`:
        executor=, workers=, progress=, retries=, errors= of `LazyQuery`.

        Raises `DuplicateIdError` for a name or ids that are taken, `TransformError` when the function fails.

        >>> from radiobject.examples import study
        >>> radi = study(2)
        >>> radi.add_collection("half", radi.T1w.lazy().map(lambda voxels, row: voxels / 2)).half.obs_ids
        ['sub-01_half', 'sub-02_half', 'sub-02_half_acq-1']
        """
        self._refuse_view("add_collection")
        taken = VolumeCollection(source) if isinstance(source, str | os.PathLike) else source
        snapshot = added(
            self._study, name, taken, kind=kind, write=write, resume=resume, message=message,
            how=Execution(**how),
        )  # fmt: skip
        if snapshot is not None:
            self._set(self._study.after(snapshot), None, None, ())
        return self

    def rename_collection(self, old: str, new: str, message: str = "") -> RadiObject:
        """Give a collection another name, in one commit; its volumes keep their ids and their places."""
        return self._change("rename", Edit(renamed_collections={old: new}), message)

    def index_foreground(
        self,
        collections: str | Iterable[str] | None = None,
        *,
        rebuild: bool = False,
        executor: Executor = "threads",
        workers: int | None = None,
        progress: bool | Progress | None = None,
        message: str = "",
    ) -> RadiObject:
        """Build the foreground index of label volumes that have none, or with `rebuild` of all of them.

        An index says where the values of a volume lie, so that `radiobject.ml.Foreground` reads no masks.
        Volumes get theirs when they are written; this is for those written before there were indexes, by
        `WriteConfig(foreground_index=False)`, and for what `StaleIndexError` names. Each volume is read once;
        every 1,000 volumes are a commit. `collections` are all of kind "label" unless named.

        >>> from radiobject.examples import study
        >>> radi = study(2, uri="memory://indexed")
        >>> radi.index_foreground("seg").version, radi.index_foreground("seg", rebuild=True).version
        (1, 2)
        """
        self._refuse_view("index_foreground")
        done = index_labels(
            self._study, collections, rebuild=rebuild, message=message,
            how=Execution(executor, workers, progress),
        )  # fmt: skip
        self._set(done, None, None, ())
        return self

    def split(
        self,
        parts: Mapping[str, float] | int,
        *,
        by: Literal["subject"] = "subject",
        stratify: str | None = None,
        seed: int = 0,
        column: str = "split",
    ) -> RadiObject:
        """Put each subject into one part and write its name to a column of obs_meta, in one commit.

        `parts` are fractions (`{"train": .7, "val": .15, "test": .15}`) or a number of folds; `stratify`
        names a column of obs_meta to spread evenly. All volumes of a subject share its part, `by` knows no
        other way: nothing leaks.
        """
        self._refuse_view("split")
        strata = None if stratify is None else self.obs_meta.to_arrow([stratify])[stratify].to_pylist()
        chosen = split_subjects(self.obs_subject_ids, parts, strata, seed)
        rows = pa.table(
            {"obs_subject_id": self.obs_subject_ids, column: pa.array(chosen.tolist(), pa.string())}
        )
        return self._change(
            "split", Edit(subjects=rows, update_subjects=True), f"{parts} by {stratify}, seed {seed}"
        )

    def write(
        self,
        uri: str | os.PathLike[str],
        *,
        backend: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        executor: Executor = "threads",
        workers: int | None = None,
        progress: bool | Progress | None = None,
        message: str = "",
        ctx: Any = None,
    ) -> RadiObject:
        """Copy this study or view to another place, losing nothing, and open it there.

        Within one backend the stored objects are copied byte for byte, each checked against its checksum;
        between backends (`backend=`) stored values, headers, attributes and every column are. Volumes that
        lie in files (`copy=False`) stay there, and the copy that is returned finds them; whoever opens it
        elsewhere than beside this study says with `source_root=` where they are. With `backend=` they are
        stored, and what only voxels tell is filled in, as by `materialize`. `ctx` is that of `RadiObject`,
        for the copy.
        """
        sources = [self.collection(name).backend for name in self.collection_names]
        context = context_for_new(ctx, uri, backend, storage_options, sources)
        chosen = [
            Chosen(name, self._study, name, self.collection(name)._rows()) for name in self.collection_names
        ]
        snapshot = copy_study(
            os.fspath(uri), chosen, [(self._study, self.obs_subject_ids)], backend=backend,
            ledger=None if self.is_view else self._study.snapshot.table("ledger").read(),
            storage_options=dict(storage_options or {}), executor=executor, workers=workers,
            progress=progress, message=message,
        )  # fmt: skip
        return RadiObject._of(Study(snapshot, context))

    to_radi_object = write

    @renamed(streaming="write(uri): volumes are always copied one by one")
    @known_as(uri="collections")
    def materialize(
        self,
        collections: str | os.PathLike[str] | Iterable[str] | None = None,
        *,
        executor: Executor = "threads",
        workers: int | None = None,
        resume: bool | None = None,
        commit_every: int | None = None,
        progress: bool | Progress | None = None,
        errors: Literal["raise", "collect"] = "raise",
        backend: str | None = None,
        message: str = "",
        **copying: Any,
    ) -> RadiObject:
        """Store the volumes that were registered where they lie (copy=False), and read them from then on.

        `collections` are all unless named. Ids, tables and what reads return stay equal; statistics,
        thumbnails, `source_digest` and foreground indexes are filled in. Others may read and write
        meanwhile: every `commit_every` volumes are a commit (left out: about every 64 volumes or 30 seconds),
        and a volume that somebody has deleted or replaced stays as they made it. A run that was killed loses
        nothing that was committed; the next one takes over what it had finished (unless resume=False).
        A run that stores nothing, and learns nothing that the ledger does not say, is no commit.

        `backend` stores them: the one that other volumes are on, or zarr. A source that changed since is
        `SourceChangedError`, one that is gone `MissingObjectError`; with errors="collect" such volumes stay
        as they are, and the ledger says why. Voxels of a volume and its file are in memory together.

        A path or URL copies the study there instead, as `write` does: so the TileDB-based package has it.
        `resume`, `commit_every` and `errors` are not for copies (TypeError).

        >>> import os, tempfile, nibabel as nib, numpy as np
        >>> folder = tempfile.mkdtemp()
        >>> scan = nib.Nifti1Image(np.arange(24, dtype="i2").reshape(2, 3, 4), np.eye(4))
        >>> nib.save(scan, os.path.join(folder, "sub-01_T1w.nii.gz"))
        >>> place = os.path.join(folder, "study")
        >>> radi = RadiObject.from_niftis(place, {"T1w": folder}, copy=False)
        >>> radi.T1w.backend, radi.materialize().T1w.backend, radi.version
        ('files', 'zarr', 2)
        >>> radi.T1w.iloc[0][1, 2, :].tolist()
        [20, 21, 22, 23]
        """
        how = Execution(executor, workers, progress, errors=errors)
        if isinstance(collections, os.PathLike) or self._is_place(collections):
            ours = {
                "resume": resume,
                "commit_every": commit_every,
                "errors": None if errors == "raise" else errors,
            }
            if kept := [name for name, value in ours.items() if value is not None]:
                raise TypeError(f"materialize() to another place takes no {', '.join(kept)}: it is one copy")
            return self.write(
                os.fspath(collections), backend=backend, executor=executor, workers=workers,
                progress=progress, message=message, **copying,
            )  # fmt: skip
        if copying:
            raise TypeError(f"materialize() without a place to copy to takes no {', '.join(copying)}")
        self._refuse_view("materialize")
        done = materialized(
            self._study, collections, how=how, resume=resume is not False, commit_every=commit_every,
            backend=backend, message=message,
        )  # fmt: skip
        self._set(done, None, None, ())
        return self

    def _is_place(self, text: Any) -> TypeGuard[str]:
        """Whether it is a path or URL, and no name of a collection."""
        return isinstance(text, str) and "/" in text and text not in self.collection_names

    @contextmanager
    def transaction(self, message: str = "") -> Iterator[RadiObject]:
        """`with radi.transaction("why") as t:` makes all changes of `t` one commit at the end of the block.

        Each change of `t` (append, add_collection, delete, rename_collection, split, and those of its tables)
        is seen by the next one and by reads through `t`, and by nobody else. `t.version` is the number to
        come. An exception commits nothing and goes on; a block without changes makes no version. Without a
        message the commit has those of the changes. Afterwards this handle shows the new version.

        Raises `ConflictError` when another writer has changed the same meanwhile; nothing is committed then.
        `t` raises `TransactionError` for restore, tag and transaction, and for any change after the block.

        >>> from radiobject.examples import study
        >>> radi = study(n=3)
        >>> with radi.transaction("second visit") as t:
        ...     _ = t.obs_meta.add_column("visits", fill=1)
        ...     _ = t.delete(subjects="sub-01")
        >>> radi.version, len(radi), list(radi.obs_meta["visits"])
        (2, 2, [1, 1])
        """
        self._refuse_view("transaction")
        block = StagedStudy.begin(self._study, message)
        staged = self._of(block)
        try:
            yield staged
        except BaseException:
            block.abandon()
            raise
        made = block.commit()
        if made is not None:
            staged._set(block.after(made), None, None, ())
            self._set(self._study.after(made), None, None, ())
