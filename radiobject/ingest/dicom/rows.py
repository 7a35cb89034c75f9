"""Rows: which subject, session and collection each found volume belongs to, and what it is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from radiobject.errors import MetadataError
from radiobject.ingest.metadata import join_obs, obs_of_rows
from radiobject.ingest.sessions import Held, number_runs, number_sessions, settle_ids
from radiobject.ingest.sources import Readable

__all__ = ["Row", "named", "table_of_rows"]


@dataclass
class Row:
    """One future volume. `columns` go to obs; `study` and `series` are UIDs as the study keeps them."""

    item: Readable
    collection: str
    obs_subject_id: str
    study: str
    study_date: str
    series: str
    part: str
    key: str
    """Tells volumes of a series apart, whatever else the series has."""
    path: str = ""
    """A file of it."""
    columns: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    """Attributes as they stand in the file: for the eyes of whoever ingests, never for the study."""
    image: Row | None = None
    """Of labels, the row of the images that they are drawn on."""
    obs_id: str = ""
    session: str | None = None
    run: int | None = None


def named(rows: Sequence[Row], held: Held) -> None:
    """Give every row its session, run and obs_id; `held` are the series of the study that they join.

    A session is the ordinal of a subject's study by date; a study that came with an earlier ingest keeps
    its number, later ones count on from the highest. A run counts the volumes of a collection within a
    session where there are several; labels have session and run of their images. An obs_id is
    `{subject}_{collection}`, of further volumes with `_acq-1` and so on; a series that the study holds keeps
    the obs_id that it has there.
    """
    number_sessions(rows, held)
    number_runs([row for row in rows if row.image is None], held)
    for row in rows:
        if row.image is not None:
            row.session, row.run = row.image.session, row.image.run
    settle_ids(rows, held)


def table_of_rows(rows: Sequence[Row], collection: str, obs: Any = None) -> pa.Table:
    """The columns of a collection's rows, by obs_id, with those of the caller's `obs` joined."""
    listed = [
        {
            "obs_subject_id": r.obs_subject_id,
            "obs_id": r.obs_id,
            "session": r.session,
            "run": r.run,
            "series_part": r.part or None,
            **r.columns,
        }
        for r in rows
    ]
    table = obs_of_rows(listed)
    if obs is None:
        return table
    joined = join_obs(table, obs, collection)
    new = [n for n in joined.schema.names if n not in table.schema.names]
    if new and all(joined[n].null_count == joined.num_rows for n in new):
        raise MetadataError(
            f"obs[{collection!r}]", expected=f"rows for its volumes, such as {rows[0].obs_id!r}",
            got="none that matches", hint="radiobject.pseudonym(id) makes the subjects of DICOM.",
        )  # fmt: skip
    return joined
