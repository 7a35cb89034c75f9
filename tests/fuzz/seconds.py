"""How long one target may take: the targets share RADIOBJECT_FUZZ_SECONDS."""

from __future__ import annotations

import os

__all__ = ["SHARES", "seconds"]

SHARES = 11
"""Nine targets here, and two ways of damaging DICOM files in tests/ingest/test_dicom_fuzz.py."""


def seconds(least: float) -> float:
    """The share of one target; `least` where nothing is said."""
    return float(os.environ.get("RADIOBJECT_FUZZ_SECONDS", "0")) / SHARES or least
