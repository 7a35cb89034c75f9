"""Held: what a study says of the series that it holds, for those that are to join it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from radiobject.errors import ConfigError, ConflictError, MetadataError
from radiobject.format.catalog import Snapshot
from radiobject.ingest.sessions import Held, Series

__all__ = ["held_series", "refuse_names_in_place", "refuse_other_key", "sessions_hold"]

_WANTED = (
    "obs_subject_id", "obs_id", "session", "run", "study_uid", "series_uid", "series_volume", "deid_key_id",
)  # fmt: skip


def held_series(base: Snapshot) -> list[dict[str, Any]]:
    """Ids, session, run and UIDs of every volume of a study, with its collection; None where it has none."""
    found: list[dict[str, Any]] = []
    for entry in base.commit.collections:
        table = base.table("obs", entry.name)
        names = [n for n in _WANTED if n in table.schema.names]
        whole = {**dict.fromkeys(_WANTED), "collection": entry.name}
        found += [{**whole, **row} for row in table.read(names).to_pylist()]
    return found


def sessions_hold(rows: Iterable[Series], held: Held) -> Callable[[Snapshot], None]:
    """A check that no other writer has given a session of these rows to another study, or a study of theirs
    another session, since `held` was read. It raises `ConflictError`."""
    given = {(row.obs_subject_id, row.session, row.study) for row in rows if row.session and row.study}
    before = _sessions(held)
    sessions = {(subject, session) for subject, session, _ in given}
    studies = {(subject, study) for subject, _, study in given}

    def confirm(newer: Snapshot) -> None:
        if not given:
            return
        for one in sorted(_sessions(held_series(newer)) - before - given):
            subject, session, study = one
            if (subject, session) in sessions or (subject, study) in studies:
                raise ConflictError(
                    f"{newer.storage.location.uri}, subject {subject!r}: session {session!r} is that of "
                    f"study {study!r} by now",
                    hint="Open the study again and run the same ingest with resume=True: sessions are "
                    "numbered anew, and what was written is taken over.",
                )

    return confirm


def _sessions(held: Held) -> set[tuple[str, str, str]]:
    return {
        (h["obs_subject_id"], h["session"], h["study_uid"]) for h in held if h["session"] and h["study_uid"]
    }


def refuse_names_in_place(*, deidentify: bool, copy: bool) -> None:
    """Raise `ConfigError` for DICOM with pseudonyms that is to stay in its files."""
    if deidentify and not copy:
        raise ConfigError(
            "copy=False", expected="deidentify=False", got="deidentify=True (the default)",
            hint="Names stand in the headers of files, which stay as they are, and in their paths, which the "
            "study keeps. Pass deidentify=False (in a shell --no-deidentify) where it may know them, else "
            "leave copy= (--no-copy) out.",
        )  # fmt: skip


def refuse_other_key(key_id: str | None, held: Held, uri: str) -> None:
    """Raise `MetadataError` when volumes of the study have pseudonyms of another key, or of none, or the new
    ones have: the same scan would stand there twice, and under its own name."""
    of_dicom = [row for row in held if row["series_uid"]]
    keys = {row["deid_key_id"] for row in of_dicom}
    if of_dicom and key_id is not None and keys == {None}:
        raise MetadataError(
            uri, expected="DICOM without de-identification, as it holds",
            got="pseudonyms", hint="Pass deidentify=False, or begin another study.",
        )  # fmt: skip
    if of_dicom and key_id is None and keys != {None}:
        raise MetadataError(
            uri, expected="pseudonyms, as it holds", got="deidentify=False",
            hint="Leave deidentify= out, or begin another study.",
        )  # fmt: skip
    if others := keys - {None, key_id}:
        raise MetadataError(
            f"{uri}, de-identification key",
            expected=f"the key {sorted(others)[0]} that its pseudonyms were made with",
            got=f"key {key_id}",
            hint="Pass that key as deid_key=; with another one the same person becomes another subject.",
        )
