"""Scan: the volumes in folders of DICOM files, found from their headers, and what became of every file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from radiobject.errors import SourceError
from radiobject.executor import Executor, Progress, progress_bar, run
from radiobject.ingest.dicom.frames import Instance
from radiobject.ingest.dicom.reading import Skip, read_instance
from radiobject.ingest.dicom.series import Arranged, Irregular, Refused, arranged
from radiobject.ingest.walking import dicom_files

__all__ = ["Scan", "scan_dicom"]

_AT_ONCE = 32
"""Files that a worker reads before it comes back."""


@dataclass
class Scan:
    """What was found. `volumes` have their headers only; `labels` are SEG and RTSTRUCT files; `damaged` are
    files whose headers could not be understood; `skipped` counts intact files that become no voxels."""

    volumes: list[Arranged] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    labels: list[Skip] = field(default_factory=list)
    damaged: dict[str, SourceError] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)


def scan_dicom(
    places: Sequence[str | os.PathLike[str]],
    *,
    irregular: Irregular = "error",
    executor: Executor = "serial",
    workers: int | None = None,
    progress: bool | Progress | None = None,
) -> list[Scan]:
    """The DICOM files below each place, read as far as their headers, once each; a `Scan` for each place.

    Reading headers is Python, so that threads gain nothing and processes do. A file that two places share
    belongs to the first.
    """
    found = [dicom_files(place) for place in places]
    owners: dict[str, int] = {}
    for number, files in enumerate(found):
        for path in files.paths:
            owners.setdefault(path, number)
    paths = list(owners)
    groups = [paths[n : n + _AT_ONCE] for n in range(0, len(paths), _AT_ONCE)]
    read: dict[str, Instance | Skip | SourceError] = {}
    with progress_bar("headers", len(paths), progress) as tell:
        for _, result in run(_headers, groups, executor=executor, workers=workers):
            if isinstance(result, Exception):
                raise result
            read.update(result)
            tell(len(read), len(paths))
    scans = []
    for number, files in enumerate(found):
        scan = _arranged({p: read[p] for p in files.paths if owners[p] == number}, irregular)
        if files.others:
            scan.skipped["not DICOM"] += files.others
        scans.append(scan)
    return scans


def _arranged(read: Mapping[str, Instance | Skip | SourceError], irregular: Irregular) -> Scan:
    scan = Scan()
    instances = []
    for path, found in read.items():
        if isinstance(found, Instance):
            instances.append(found)
        elif isinstance(found, SourceError):
            scan.damaged[path] = found
        elif found.label:
            scan.labels.append(found)
        else:
            scan.skipped[found.reason] += 1
    for one in arranged(instances, irregular):
        if isinstance(one, Arranged):
            scan.volumes.append(one)
        else:
            scan.refused.append(one)
    return scan


def _headers(paths: Sequence[str]) -> dict[str, Instance | Skip | SourceError]:
    return {path: _header(path) for path in paths}


def _header(path: str) -> Instance | Skip | SourceError:
    try:
        return read_instance(path)
    except SourceError as error:
        return error
