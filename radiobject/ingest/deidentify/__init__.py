"""De-identification: pseudonyms of people and UIDs, dates moved together, headers without text.

A study gets none of what names a person. What takes its place is made with a key that stays with whoever
ingests (`key`), or comes from their own list (`crosswalk`). `docs/deidentification.md` is the guide.
"""

from __future__ import annotations

from radiobject.ingest.deidentify.deidentifier import Deidentifier, pseudonym
from radiobject.ingest.deidentify.header import blank_nifti
from radiobject.ingest.deidentify.key import DeidKey, find_key
from radiobject.ingest.deidentify.keywords import column_name

__all__ = ["DeidKey", "Deidentifier", "blank_nifti", "column_name", "find_key", "pseudonym"]
