"""Rebase: whether a change still applies after others have committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from radiobject.errors import ConflictError
from radiobject.format.changes import Edit
from radiobject.format.commit import Change, Commit
from radiobject.format.tables import Part

__all__ = ["MATERIALIZE", "check_conflict"]

MATERIALIZE = "materialize"
"""The operation of commits that store volumes at another place, and change nothing else of them."""


def check_conflict(
    mine: Change,
    edit: Edit,
    before: Commit,
    base: Commit,
    theirs: Iterable[tuple[Commit, Change]],
    uri: str,
) -> None:
    """Raise `ConflictError` naming both sides when a newer commit touched what this edit touches.

    `before` is what the edit was applied to: `base`, or what earlier edits of one transaction made of it.
    """
    touched = set(edit.collections) | set(edit.removed_collections) | set(edit.renamed_collections)
    for commit, change in theirs:
        # what a restore brings back may have lost its objects to a clean-up in between
        if edit.restore is not None and (len(change) or commit.oldest > base.oldest):
            raise ConflictError(
                f"{uri}: version {commit.version} ({commit.operation}, {commit.created}) came first",
                hint="Open the study again and restore from there.",
            )
        moved = change.volumes_replaced if commit.operation == MATERIALIZE else frozenset[str]()
        both = mine.volumes & change.volumes - (moved if _sets_columns(edit) else frozenset())
        both |= edit.reads & (change.volumes_removed | change.volumes_replaced - moved)
        subjects = mine.subjects & change.subjects
        # two writers may add the same subject; whether with equal values is seen when the edit is applied
        subjects -= mine.subjects_added & change.subjects_added
        gone = touched & change.collections_removed
        taken = frozenset(edit.renamed_collections.values()) & change.collections_added
        grown = {
            name
            for name in (_base_name(n, before, base) for n in edit.removed_collections)
            if change.volumes and _tables_of(commit, name) != _tables_of(base, name)
        }
        for what, ids in (
            ("volumes", both),
            ("subjects", subjects),
            ("collections", gone | taken | grown),
        ):
            if ids:
                raise ConflictError(
                    f"{uri}: {what} {sorted(ids)[:5]} were changed here and by version {commit.version}"
                    f" ({commit.operation}, {commit.created})",
                    hint="Open the study again, look at that version, and repeat what still applies.",
                )


def _sets_columns(edit: Edit) -> bool:
    """Whether all that it does to volumes is to set columns that say nothing of where they are stored."""
    return (
        not edit.removed_collections
        and not edit.removed_subjects
        and all(
            not (one.added or one.replaced or one.removed)
            and not (one.updated is not None and any(n.startswith("_") for n in one.updated.schema.names))
            for one in edit.collections.values()
        )
    )


def _base_name(name: str, before: Commit, base: Commit) -> str:
    """What a collection was called before the transaction renamed it; its folder tells."""
    entry = before.collection(name)
    return next((c.name for c in base.collections if entry and c.path == entry.path), name)


def _tables_of(commit: Commit, collection: str) -> Mapping[str, tuple[Part, ...]]:
    entry = commit.collection(collection)
    return {} if entry is None else entry.tables
