"""One: the only volume of a folder, for whoever wants no study."""

from __future__ import annotations

import os

from radiobject.errors import SourceUnsupportedError
from radiobject.ingest.dicom.finding import shown_range
from radiobject.ingest.dicom.opening import open_header
from radiobject.ingest.dicom.scan import scan_dicom
from radiobject.ingest.dicom.series import Arranged, Irregular, Refused
from radiobject.ingest.dicom.volume import DicomVolume

__all__ = ["only_volume"]


_SEVERAL = "Name one by part=, or make a study: RadiObject.from_dicoms(uri, folder)."


def only_volume(
    path: str | os.PathLike[str], part: str | None = None, irregular: Irregular = "error"
) -> DicomVolume:
    """The volume that the DICOM files below `path` make; of several the one whose name has `part` in it.

    Raises from the `SourceError` branch: why there is none, or which ones there are.
    """
    scan = scan_dicom([path], irregular=irregular, progress=False)
    if scan.damaged:
        raise next(iter(scan.damaged.values())).error
    every: list[Arranged | Refused] = [*scan.volumes, *scan.refused]
    found = {_name(one): one for one in every}
    chosen = [one for one in every if part is None or part in _names(one)]
    if len(chosen) != 1:
        skipped = ", ".join(f"{count} {reason}" for reason, count in scan.skipped.most_common())
        listed = (
            ", ".join(found) or f"none (skipped: {skipped or 'nothing'}; {len(scan.labels)} label objects)"
        )
        raise SourceUnsupportedError(
            os.fspath(path), expected="one volume", got=listed,
            hint=_SEVERAL if found else None,
        )  # fmt: skip
    (one,) = chosen
    if isinstance(one, Refused):
        raise one.error
    first = one.first.instance
    return DicomVolume(one, shown_range(open_header(first.path), first.path))


def _names(one: Arranged | Refused) -> set[str]:
    """What it may be called by: its whole name, its series, its part, or series and part."""
    of = one.first.instance if isinstance(one, Arranged) else one.instance
    series = f"series {'?' if of.series_number is None else of.series_number}"
    return {_name(one), series, one.part, f"{series} {one.part}"} - {""}


def _name(one: Arranged | Refused) -> str:
    of = one.first.instance if isinstance(one, Arranged) else one.instance
    number = "?" if of.series_number is None else str(of.series_number)
    # the end of the UID tells series without numbers apart
    return f"series {number}{' ' + one.part if one.part else ''} ({of.series_uid[-8:]})"
