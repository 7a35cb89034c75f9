"""Scan: the volumes in folders of DICOM files, found from their headers, and what became of every file."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from radiobject.errors import SourceCorruptError, SourceError
from radiobject.executor import Executor, Progress, progress_bar, run
from radiobject.ingest.dicom.frames import Instance
from radiobject.ingest.dicom.headers import Header
from radiobject.ingest.dicom.opening import FIRST, open_header
from radiobject.ingest.dicom.reading import Skip, read_instance
from radiobject.ingest.dicom.series import Arranged, Irregular, Refused, arranged
from radiobject.ingest.walking import dicom_files

__all__ = ["Damaged", "Scan", "scan_dicom"]

_AT_ONCE = 32
"""Files that a worker reads before it comes back."""


@dataclass(frozen=True)
class Damaged:
    """A file that could not be understood, and its series where that much could be."""

    error: SourceError
    series_uid: str = ""


@dataclass
class Scan:
    """What was found. `volumes` have their headers only; `labels` are SEG and RTSTRUCT files; `skipped`
    counts intact files that become no voxels. `owners` are the places (by number) that each file lies in."""

    volumes: list[Arranged] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    labels: list[Skip] = field(default_factory=list)
    damaged: dict[str, Damaged] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    owners: dict[str, tuple[int, ...]] = field(default_factory=dict)


def scan_dicom(
    places: Sequence[str | os.PathLike[str]],
    *,
    irregular: Irregular = "error",
    executor: Executor = "serial",
    workers: int | None = None,
    progress: bool | Progress | None = None,
) -> Scan:
    """The DICOM files below all places, read as far as their headers, once each.

    Slices of a series make one volume wherever they lie. Reading headers is Python, so that threads gain
    nothing and processes do.
    """
    scan, owners, others = Scan(), defaultdict[str, list[int]](list), 0
    for number, place in enumerate(places):
        files = dicom_files(place)
        for path in files.paths:
            owners[path].append(number)
        scan.damaged.update({path: Damaged(error) for path, error in files.unreadable.items()})
        others += files.others
    scan.owners = {path: tuple(numbers) for path, numbers in owners.items()}
    paths = list(owners)
    groups = [paths[n : n + _AT_ONCE] for n in range(0, len(paths), _AT_ONCE)]
    read: dict[str, Instance | Skip | Damaged] = {}
    with progress_bar("headers", len(paths), progress) as tell:
        for _, result in run(_headers, groups, executor=executor, workers=workers):
            if isinstance(result, Exception):
                raise result
            read.update(result)
            tell(len(read), len(paths))
    instances = []
    for path in paths:
        found = read[path]
        if isinstance(found, Instance):
            instances.append(found)
        elif isinstance(found, Damaged):
            scan.damaged[path] = found
        elif found.label:
            scan.labels.append(found)
        else:
            scan.skipped[found.reason] += 1
    if others:
        scan.skipped["not DICOM"] += others
    _sort(scan, arranged(instances, irregular))
    return scan


def _sort(scan: Scan, found: Sequence[Arranged | Refused]) -> None:
    """Volumes that a damaged file may be a slice of are refused: of its series or, where that cannot be read,
    of the only series in its folder."""
    by_series = {d.series_uid: path for path, d in scan.damaged.items() if d.series_uid}
    by_folder = {os.path.dirname(path): path for path, d in scan.damaged.items() if not d.series_uid}
    series: dict[str, set[str]] = defaultdict(set)
    for one in found:
        for folder in _folders(one):
            series[folder].add(_first(one).series_uid)
    for one in found:
        if isinstance(one, Refused):
            scan.refused.append(one)
            continue
        first, alone = one.first.instance, [f for f in _folders(one) if len(series[f]) == 1]
        lost = by_series.get(first.series_uid) or next((by_folder[f] for f in alone if f in by_folder), None)
        if lost is None:
            scan.volumes.append(one)
            continue
        error = SourceCorruptError(
            f"series in {os.path.dirname(first.path)}", expected="all of its files",
            got=f"one that cannot be read, {lost}",
            hint="It may be a slice of this volume: fetch it again, or take it away.",
        )  # fmt: skip
        scan.refused.append(Refused(first, error, one.part, one.key, (lost,)))


def _first(one: Arranged | Refused) -> Instance:
    return one.first.instance if isinstance(one, Arranged) else one.instance


def _folders(one: Arranged | Refused) -> set[str]:
    if isinstance(one, Refused):
        return {os.path.dirname(one.instance.path)}
    return {os.path.dirname(m.instance.path) for row in one.members for m in row}


def _headers(paths: Sequence[str]) -> dict[str, Instance | Skip | Damaged]:
    found: dict[str, Instance | Skip | Damaged] = {}
    first = FIRST
    for path in paths:
        found[path] = one = _header(path, first)
        if isinstance(one, Instance):
            # the headers of a series are about as long: those of Siemens hold 100 KiB of private elements
            first = max(first, one.state.head + FIRST // 4)
    return found


def _header(path: str, first: int) -> Instance | Skip | Damaged:
    try:
        return read_instance(path, first)
    except SourceError as error:
        try:
            return Damaged(error, Header(open_header(path), path).text("SeriesInstanceUID"))
        except SourceError:
            return Damaged(error)
