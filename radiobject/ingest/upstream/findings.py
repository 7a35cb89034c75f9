"""Findings: what was wrong with a study of the TileDB-based package, as rows of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from radiobject.errors import IngestError
from radiobject.format.schema import LEDGER_SCHEMA
from radiobject.ingest.outcome import ingest_error

__all__ = ["Finding", "Outcome", "ledger_rows", "refusal"]

Outcome = Literal["repaired", "noted", "failed"]
"""Right in the imported study; came in as it was, or could not be known better; was left out."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found. `kind` is a word or two for it, of a failure the class of the error.

    Ids are those of the imported study; they are empty where a whole collection or the study is meant.
    """

    outcome: Outcome
    kind: str
    text: str
    collection: str = ""
    obs_subject_id: str = ""
    obs_id: str = ""


def ledger_rows(findings: Sequence[Finding]) -> pa.Table:
    """The findings as lines of the ledger."""
    return pa.Table.from_pylist(
        [
            {
                "obs_subject_id": f.obs_subject_id,
                "obs_id": f.obs_id,
                "collection": f.collection,
                "outcome": f.outcome,
                "error": f.kind,
                "message": f.text,
            }
            for f in findings
        ],
        schema=LEDGER_SCHEMA,
    )


def refusal(uri: str, failed: Sequence[Finding]) -> IngestError:
    """The error that lists what cannot be brought in."""
    report = [
        {
            "source": f.collection,
            "obs_subject_id": f.obs_subject_id,
            "obs_id": f.obs_id,
            "collection": f.collection,
            "error": f.kind,
            "message": ": ".join(filter(None, (f.collection, f.obs_id or f.obs_subject_id, f.text))),
        }
        for f in failed
    ]
    return ingest_error(
        f"{uri}: {len(report)} faults that lose something, nothing was committed",
        report,
        hint='Restore what is missing there, or pass errors="collect" to import the rest.',
    )
