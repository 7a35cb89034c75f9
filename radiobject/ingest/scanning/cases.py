"""Cases: rows of layouts that number their cases and list them in a dataset.json (MSD, nnU-Net)."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from radiobject.errors import SourceCorruptError, SourceUnsupportedError
from radiobject.format.meta import Label
from radiobject.ingest.scanning.rows import Found, PlanRow
from radiobject.ingest.scanning.small_files import absent

__all__ = ["Cases", "below", "channels_of", "files_of", "safe_names"]


class Cases:
    """Rows as they come: images and label maps of cases, each of one split."""

    def __init__(self, layout: str, labels: Sequence[Label], seg: str) -> None:
        self.layout, self.labels, self.seg = layout, tuple(labels), seg
        self.rows: list[PlanRow] = []
        self.splits: dict[str, str] = {}
        self.skipped: Counter[str] = Counter()

    def image(
        self, path: str, case: str, collection: str, split: str, *,
        number: int, channel: int | None = None, reason: str = "",
    ) -> None:  # fmt: skip
        """One channel of a case: a file, or with `channel` a part of one. A `reason` says what is wrong."""
        row = self._row(path, case, collection, split, reason)
        row.columns["channel"], row.tags["channel"] = number, str(number)
        row.channel = channel

    def label(self, path: str, case: str, split: str) -> None:
        """The label map of a case."""
        row = self._row(path, case, self.seg, split, "")
        row.kind, row.labels = "label", self.labels

    def found(self) -> Found:
        """All of it, with a row for each case that says its split."""
        taken: set[str] = set()
        for row in self.rows:
            if row.obs_id in taken and row.verdict == "ingest":
                row.verdict, row.reason = "error", "same name: the case is listed twice"
            taken.add(row.obs_id)
        columns = {"obs_subject_id": list(self.splits), "split": list(self.splits.values())}
        subjects = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        return Found(self.layout, self.rows, subjects, dict(self.skipped))

    def _row(self, path: str, case: str, collection: str, split: str, reason: str) -> PlanRow:
        self.splits.setdefault(case, split)
        reason = reason or absent(path)
        row = PlanRow(
            path=path,
            collection=collection,
            obs_subject_id=case,
            obs_id=f"{case}_{collection}",
            tags={"case": case, "split": split},
            columns={"split": split},
            verdict="error" if reason else "ingest",
            reason=reason,
        )
        self.rows.append(row)
        return row


def channels_of(said: Any, path: str) -> dict[int, str]:
    """Channels by number from `modality` or `channel_names`: `{"0": "T2"}`, `["T2"]` or "T2".

    Raises `SourceCorruptError` for anything else.
    """
    if isinstance(said, str):
        said = [said]
    if isinstance(said, Sequence):
        said = dict(enumerate(said))
    if not isinstance(said, Mapping) or not said:
        raise SourceCorruptError(path, expected="numbers and names of channels", got=repr(said)[:80])
    try:
        numbered = {int(number): str(name) for number, name in said.items()}
    except ValueError as error:
        raise SourceCorruptError(path, expected="channels by number", got=repr(said)[:80]) from error
    return dict(sorted(numbered.items()))


def safe_names(names: Iterable[str]) -> list[str]:
    """Names as collections may have them, in order and each once.

    >>> safe_names(["T2", "T2", "", "_x y"])
    ['T2', 'T2_2', 'channel', 'x_y']
    """
    found: list[str] = []
    for name in names:
        safe = re.sub(r"[^\w.-]+", "_", name.strip()).strip("_.") or "channel"
        number = 1
        while (safe if number == 1 else f"{safe}_{number}") in found:
            number += 1
        found.append(safe if number == 1 else f"{safe}_{number}")
    return found


def below(root: str, said: Any, path: str) -> str:
    """The place of a file that a dataset.json names. Raises `SourceUnsupportedError` for one elsewhere."""
    place = os.path.normpath(os.path.join(root, str(said)))
    inside = not os.path.isabs(str(said)) and place.startswith(os.path.join(root, ""))
    if not isinstance(said, str) or not inside or "\0" in said:
        raise SourceUnsupportedError(
            path, expected="files below its folder", got=repr(said)[:120], hint="Name them relative to it."
        )
    return place


def files_of(folder: str) -> tuple[list[str], int]:
    """Names of the files of a folder in order, and how many ._ files of macOS lie among them."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    foreign = sum(name.startswith("._") for name in names)
    return [n for n in names if not n.startswith(".") and os.path.isfile(os.path.join(folder, n))], foreign
