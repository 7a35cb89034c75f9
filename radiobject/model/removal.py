"""Removal: which rows go when subjects, collections or volumes are deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from radiobject.errors import SelectionError, UnknownIdError
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.model.study import Study

__all__ = ["removal"]


def removal(
    study: Study,
    subjects: str | Sequence[str] | None,
    collections: str | Sequence[str] | None,
    obs_ids: str | Sequence[str] | None,
) -> Edit:
    """The edit that takes out subjects with all their volumes, whole collections, and single volumes.

    Raises `UnknownIdError` for any id that the study does not hold, `SelectionError` when nothing is named.
    """
    gone_subjects, gone_collections, wanted = (_names(v) for v in (subjects, collections, obs_ids))
    if not (gone_subjects or gone_collections or wanted):
        raise SelectionError("delete()", expected="subjects=, collections= or obs_ids=", got="none of them")
    for name in gone_collections:
        study.entry(name)
    for subject in gone_subjects:
        study.index().get_index(subject)
    edit = Edit(removed_collections=gone_collections, removed_subjects=gone_subjects)
    found: set[str] = set()
    for name in study.names:
        ids = study.index(name)
        chosen = {i for i in wanted if i in ids}
        found |= chosen
        if gone_subjects:
            chosen |= {ids[int(p)] for p in study.positions_of_subjects(name, gone_subjects)}
        if chosen and name not in gone_collections:
            entry = study.entry(name)
            edit.collections[name] = CollectionEdit(entry.kind, entry.backend, removed=frozenset(chosen))
    if missing := sorted(wanted - found):
        raise UnknownIdError(
            f"obs_ids {missing[:5]}", expected="volumes of this study", got=f"{len(missing)} unknown"
        )
    return edit


def _names(value: str | Iterable[str] | None) -> frozenset[str]:
    return frozenset([value] if isinstance(value, str) else value or ())
