"""StudyView: a study, or a part of it, for reading. RadiObject adds what creates and changes studies."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.errors import UnknownColumnError, UnknownIdError, ViewError
from radiobject.format.changes import Edit
from radiobject.format.integrity import validate
from radiobject.format.tables import Table
from radiobject.model.aliases import Aliases
from radiobject.model.collection import VolumeCollection
from radiobject.model.collection_view import ILoc, Loc, filled, matching_rows
from radiobject.model.dataframe import Dataframe, found_rows
from radiobject.model.doors import StudyDoors
from radiobject.model.index import Index, select_labels
from radiobject.model.partners import PARTNER_COLUMNS, match
from radiobject.model.study import Study
from radiobject.model.table_changes import TableChange
from radiobject.model.volume import Volume

__all__ = ["StudyView"]


class StudyView(StudyDoors):
    """Subjects and collections of one version, whole or narrowed. Immutable but for the newest handle itself.

    Selections keep the study's order, intersect when chained, and narrow the collections too.
    """

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
    ) -> Self:
        view = type(self).__new__(type(self))
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
        """Every version that is kept, oldest first: number, time (UTC), operation, message, tags, hash."""
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
        return Dataframe(
            self._study.subjects, self._positions, changing=self._change_obs_meta,
            computed={"obs_ids": self._obs_ids_of},
        )  # fmt: skip

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
    def iloc(self) -> ILoc[Self]:
        """A view of subjects by position."""
        return ILoc(self)

    @property
    def loc(self) -> Loc[Self]:
        """A view of subjects by id."""
        return Loc(self)

    def sel(self, subject: str | Sequence[str] | None = None, **columns: Any) -> Self:
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

    def filter(self, expression: str | pc.Expression) -> Self:
        """A view of the subjects whose row of obs_meta fits, such as `filter("age > 40 and dx == 'AD'")`.

        A pyarrow expression is taken too. Where a column that is compared has no value, the subject is left
        out. Raises `ExpressionError` that shows the mistake, `UnknownColumnError` for a name not in obs_meta.
        """
        try:
            found = found_rows(self._study.subjects, expression)
        except UnknownColumnError as error:
            if (hint := self._of_volumes(error.text[slice(*error.span)] if error.text else "")) is None:
                raise
            raise UnknownColumnError(
                error.what, expected=error.expected, hint=hint, text=error.text, span=error.span
            ) from None
        kept = found if self._positions is None else self._positions[np.isin(self._positions, found)]
        return self._view(positions=kept)

    def head(self, n: int = 5) -> Self:
        """The first `n` subjects."""
        return self.iloc[: max(n, 0)]

    def tail(self, n: int = 5) -> Self:
        """The last `n` subjects."""
        return self.iloc[max(len(self) - n, 0) :]

    def sample(self, n: int = 5, seed: int | None = None) -> Self:
        """`n` subjects at random, in the study's order; the same ones for the same seed, on every machine."""
        chosen = np.random.default_rng(seed).permutation(len(self))[: max(n, 0)]
        return self.iloc[np.sort(chosen)]

    def having(self, *names: str) -> Self:
        """The subjects that have at least one volume in each of these collections."""
        index = self.index
        for name in names:
            index = index & self.collection(name).subjects
        return self.loc[index]

    def pairs(
        self, a: str, b: str, on: Sequence[str] | None = None, missing: Literal["error", "drop"] = "error"
    ) -> pd.DataFrame:
        """Each volume of collection `a` with its partner in `b`: same subject, session, run, time.

        Columns: obs_subject_id, what was compared, and the two obs_ids under the collections' names. `on`
        names the columns to compare instead. Raises `AlignmentError` that lists volumes without a partner
        (unless `missing="drop"`) or with several.
        """
        columns = list(dict.fromkeys((*PARTNER_COLUMNS, *(on or ()), "obs_subject_id", "obs_id")))
        left, right = (self._partner_rows(name, columns) for name in (a, b))
        return match(left, right, (a, b), on, missing)

    def _obs_ids_of(self, subjects: Sequence[str]) -> pa.Array:
        """The volumes of each subject in this view, as a JSON list of their ids."""
        found: dict[str, list[str]] = {s: [] for s in subjects}
        for name in self.collection_names:
            rows = self.collection(name).obs.to_arrow(["obs_subject_id", "obs_id"])
            for subject, obs_id in zip(*(c.to_pylist() for c in rows.columns), strict=True):
                if subject in found:
                    found[subject].append(obs_id)
        texts = [json.dumps(sorted(ids), ensure_ascii=False) for ids in found.values()]
        return pa.array(texts, pa.string())

    def _partner_rows(self, name: str, columns: Sequence[str]) -> pa.Table:
        obs = self.collection(name).obs
        return obs.to_arrow([c for c in columns if c in obs.columns])

    def describe(self) -> pd.DataFrame:
        """One row a collection: kind, volumes, subjects, shape, dtypes and spacings. Reads no voxel."""
        rows = []
        for name in self.collection_names:
            collection = self.collection(name)
            steps = ["spacing_x", "spacing_y", "spacing_z"]
            frame = collection.obs.to_arrow(["dtype", *steps])
            distinct = frame.select(steps).group_by(steps).aggregate([]).to_pylist()
            spacing = {tuple(round(row[step], 3) for step in steps) for row in distinct}
            rows.append(
                {
                    "collection": name,
                    "kind": collection.kind,
                    "volumes": len(collection),
                    "subjects": len(collection.subjects),
                    "shape": collection.shape,
                    "dtype": ", ".join(sorted(pc.unique(frame["dtype"]).to_pylist())),
                    "spacing": spacing.pop() if len(spacing) == 1 else f"{len(spacing)} different",
                    "backend": collection.backend,
                }
            )
        return pd.DataFrame(rows).set_index("collection") if rows else pd.DataFrame()

    def select_collections(self, names: Sequence[str]) -> Self:
        """A view with only these collections."""
        for name in names:
            self._study.entry(name)
        return self._view(names=tuple(n for n in self.collection_names if n in set(names)))

    def collection(self, name: str) -> VolumeCollection:
        """The collection of that name, narrowed to this view's subjects."""
        if name not in self.collection_names:
            raise UnknownIdError(f"collection {name!r}", expected=f"one of {list(self.collection_names)}")
        if not self.is_view:
            return VolumeCollection._of(self._study, name, None, self)
        positions = None
        if self._positions is not None:
            positions = self._study.positions_of_subjects(name, self.obs_subject_ids)
        for where in self._rows:
            table = self._study.obs(name)
            fitting = matching_rows(table, filled(table, where))
            positions = fitting if positions is None else np.intersect1d(positions, fitting)
        return VolumeCollection._of(self._study, name, positions, self)

    def get_volume(self, obs_id: str) -> Volume:
        """The volume of that id, in whichever collection it is."""
        for name in self.collection_names:
            collection = self.collection(name)
            if obs_id in collection.index:
                found: Volume = collection.loc[obs_id]
                return found
        raise UnknownIdError(f"obs_id {obs_id!r}", expected=f"a volume of {', '.join(self.collection_names)}")

    def get_obs_row_by_obs_subject_id(self, obs_subject_id: str) -> pd.DataFrame:
        """The subject's row of obs_meta, as a DataFrame of one row; of none when there is no such subject."""
        return self.obs_meta.read(filter=pc.field("obs_subject_id") == obs_subject_id)

    def copy(self) -> Self:
        """The study's handle itself, or a view equal to this one. No volume is copied: `write` does that."""
        return self._view() if self.is_view else self

    def validate(self, level: Literal["quick", "standard", "full"] = "quick", *, strict: bool = False) -> Any:
        """Check the study against its commit; see `radiobject.format.integrity`. `strict` raises."""
        self._study.refuse("validate")
        return validate(self._study.snapshot, level, strict=strict)

    def _of_volumes(self, column: str) -> str | None:
        """What to write instead, where a column that obs_meta lacks is one of a collection's volumes."""
        for name in self.collection_names:
            columns = [c for c in self._study.obs(name).schema.names if not c.startswith("_")]
            if column in {*columns, *Aliases(columns, name).types}:
                where = f"radi.{name}" if name.isidentifier() else f"radi.collection({name!r})"
                return f"`{column}` is a column of volumes: filter a collection, {where}.filter(...)."
        return None

    def _change(self, operation: str, edit: Edit, message: str = "") -> Self:
        """Commit an edit; this handle then shows the new version."""
        self._refuse_view(operation)
        self._set(self._study.changed(operation, edit, message), None, None, ())
        return self

    def _change_obs_meta(
        self, operation: str, change: Callable[[Table], TableChange | None], message: str
    ) -> Table:
        """Commit a change of the subject table, made for the table as it stands, and give the new one."""
        self._refuse_view(operation)
        made = change(self._study.subjects)
        if made is not None:
            edit = Edit(
                subjects=made.updated,
                update_subjects=True,
                added_columns=made.added_columns,
                dropped_columns=made.dropped_columns,
            )
            self._change(operation, edit, message)
        return self._study.subjects

    def _show(self, study: Study) -> None:
        """Go on with a newer version, as a whole."""
        self._set(study, None, None, ())

    def _refuse_view(self, what: str) -> None:
        self._study.refuse(what)
        if self.is_view:
            raise ViewError(
                f"{what}() on a view of {self._study.location.uri}",
                expected="the whole study",
                got="a view",
                hint="Call it on RadiObject(uri).",
            )

    @classmethod
    def _of(cls, study: Study) -> Self:
        radi = cls.__new__(cls)
        radi._set(study, None, None, ())
        return radi

    def _locate(self, key: Any) -> int | npt.NDArray[np.int64]:
        return select_labels(key, self.index, "loc")

    def _pick(self, picked: int | npt.NDArray[np.int64]) -> Self:
        chosen = np.array([picked], dtype=np.int64) if isinstance(picked, int) else picked
        if self._positions is not None:
            chosen = self._positions[chosen]
        return self._view(positions=chosen)

    def __getattr__(self, name: str) -> VolumeCollection:
        # only reached for what is no attribute; underscored names must not look for a study (pickle, copy)
        if not name.startswith("_") and name in self.collection_names:
            return self.collection(name)
        raise AttributeError(
            f"RadiObject has no attribute or collection {name!r}; collections: {list(self.collection_names)}"
            if not name.startswith("_")
            else name
        )

    def __getitem__(self, subject: str) -> Self:
        if isinstance(subject, str) and subject in self.collection_names and subject not in self.index:
            raise UnknownIdError(
                f"subject {subject!r}", expected="a subject id", got="the name of a collection",
                hint=f"Write radi.{subject} or radi.collection({subject!r}).",
            )  # fmt: skip
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
