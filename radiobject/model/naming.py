"""Naming: ids of volumes that are made from others, and names that tell a collection's kind."""

from __future__ import annotations

import re

__all__ = ["derived_id", "names_labels"]

_LABELS = re.compile(r"(^|_)(seg|segs|label|labels|mask|dseg|segmentation|parc|aseg)($|_)", re.IGNORECASE)


def derived_id(parent: str, collection: str, name: str) -> str:
    """The obs_id in collection `name` of a volume made from `parent` of `collection`.

    The collection's name in the parent's id is exchanged, so that repeated acquisitions stay apart; where
    it is not there, the new name is put behind.

    >>> derived_id("sub-01_T1w", "T1w", "norm"), derived_id("sub-01_T1w_acq-1", "T1w", "norm")
    ('sub-01_norm', 'sub-01_norm_acq-1')
    >>> derived_id("scan7", "T1w", "norm")
    'scan7_norm'
    """
    found = re.fullmatch(rf"(.*_){re.escape(collection)}((?:_acq-\d+)?)", parent, re.DOTALL)
    return f"{found[1]}{name}{found[2]}" if found else f"{parent}_{name}"


def names_labels(collection: str) -> bool:
    """Whether a collection of that name is taken for label maps unless somebody says otherwise.

    >>> names_labels("liver_seg"), names_labels("T1w")
    (True, False)
    """
    return _LABELS.search(collection) is not None
