"""Finding: what a caller points at, as rows with their subjects, collections and columns."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydicom.dataset import Dataset

from radiobject.errors import MetadataError, SourceError, SourceUnsupportedError
from radiobject.executor import Executor, Progress
from radiobject.format.layout import check_collection_name
from radiobject.ingest.deidentify import Deidentifier
from radiobject.ingest.dicom.columns import obs_columns, warnings_of
from radiobject.ingest.dicom.frames import Instance
from radiobject.ingest.dicom.headers import Header
from radiobject.ingest.dicom.items import Labels, reference_grid
from radiobject.ingest.dicom.labelled import referenced_series
from radiobject.ingest.dicom.reading import Skip, open_header
from radiobject.ingest.dicom.rows import Row
from radiobject.ingest.dicom.rtstruct import ReferenceGrid, rtstruct_parts
from radiobject.ingest.dicom.scan import Scan, scan_dicom
from radiobject.ingest.dicom.seg import seg_parts
from radiobject.ingest.dicom.series import Arranged, Irregular
from radiobject.ingest.dicom.volume import DicomVolume
from radiobject.ingest.sources import Readable
from radiobject.ingest.unreadable import Unreadable
from radiobject.model.naming import names_labels

__all__ = ["Entry", "Findings", "entries_of", "find", "shown_range"]


@dataclass(frozen=True)
class Entry:
    """One place of DICOM files. `collection` "" lets modalities decide; `labels` takes label objects."""

    place: str
    collection: str = ""
    subject: str | None = None
    labels: bool = False


@dataclass
class Findings:
    """The rows of all entries, and what they do not show."""

    rows: list[Row]
    damaged: dict[str, SourceError]
    skipped: Counter[str]
    warned: Counter[str]

    def told(self) -> str:
        """What was skipped, in words, "" for nothing."""
        listed = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())
        return f"skipped {sum(self.skipped.values())} files: {listed}" if listed else ""


def entries_of(images: Any, labels: Sequence[str] | Mapping[str, Any] | str | None) -> list[Entry]:
    """What `images` of `RadiObject.from_dicoms` lists, as entries.

    Raises `MetadataError` for what it cannot be.
    """
    if isinstance(images, Mapping):
        if not images:
            raise MetadataError("images", expected="{collection: folder, glob or list}", got="{}")
        chosen = [labels] if isinstance(labels, str) else None if labels is None else list(labels)
        found = []
        for collection, value in images.items():
            check_collection_name(collection)
            of_labels = names_labels(collection) if chosen is None else collection in chosen
            found += [replace(e, collection=collection, labels=of_labels) for e in _listed(value, collection)]
        _refuse_twice([e for e in found if not e.labels])
        return found
    return list(_listed(images, "images"))


def _refuse_twice(entries: Sequence[Entry]) -> None:
    """Raise `MetadataError` where two collections would hold the same images."""
    owners: dict[str, str] = {}
    for entry in entries:
        owner = owners.setdefault(os.path.abspath(entry.place), entry.collection)
        if owner != entry.collection:
            raise MetadataError(
                f"images[{entry.collection!r}]", expected=f"other files than those of {owner!r}",
                got=f"{entry.place} again",
                hint="Without names of collections, images=folder sorts series by modality.",
            )  # fmt: skip


def _listed(value: Any, what: str) -> Iterable[Entry]:
    if isinstance(value, str | os.PathLike):
        yield Entry(os.fspath(value))
        return
    if not isinstance(value, Iterable):
        raise MetadataError(what, expected="a folder, a glob or a list", got=type(value).__name__)
    for entry in value:
        place, subject = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, None)
        named = subject is None or (isinstance(subject, str) and subject != "")
        if not isinstance(place, str | os.PathLike) or not named:
            raise MetadataError(what, expected="a path or (path, subject as text)", got=repr(entry)[:80])
        yield Entry(os.fspath(place), subject=subject)


def find(
    entries: Sequence[Entry],
    deid: Deidentifier | None,
    *,
    irregular: Irregular = "error",
    keep_phi: Iterable[str] = (),
    executor: Executor = "serial",
    workers: int | None = None,
    progress: bool | Progress | None = None,
) -> Findings:
    """Scan all entries, and say of each volume whose it is and what its header may tell.

    Raises `MetadataError` for files without PatientID where the entry names no subject either, and what
    `Deidentifier.subject` raises.
    """
    places = list(dict.fromkeys(e.place for e in entries))
    found = scan_dicom(places, irregular=irregular, executor=executor, workers=workers, progress=progress)
    scans = dict(zip(places, found, strict=True))
    finder = _Finder(deid, tuple(keep_phi))
    for scan in found:
        finder.know(scan)
    for entry in entries:
        scan = scans[entry.place]
        if not (entry.labels and scan.labels):
            finder.images(scan, entry)
    for entry in entries:
        scan = scans[entry.place]
        if entry.labels or not entry.collection:
            finder.labels(scan, entry)
        elif scan.labels:
            finder.findings.skipped["label objects, for which no collection is named"] += len(scan.labels)
    return finder.findings


class _Finder:
    def __init__(self, deid: Deidentifier | None, keep_phi: tuple[str, ...]) -> None:
        self._deid, self._keep_phi = deid, keep_phi
        self.findings = Findings([], {}, Counter(), Counter())
        self._volumes: dict[tuple[str, str], Arranged] = {}
        self._rows: dict[tuple[str, str], Row] = {}

    def know(self, scan: Scan) -> None:
        """Take up what a scan found: what was damaged and skipped, and the volumes that labels refer to."""
        self.findings.damaged.update(scan.damaged)
        self.findings.skipped.update(scan.skipped)
        for volume in scan.volumes:
            self._volumes.setdefault(_series_of(volume.first.instance), volume)

    def images(self, scan: Scan, entry: Entry) -> None:
        """A row for each volume of images, and for those that make none."""
        for volume in scan.volumes:
            first = volume.first
            dataset = open_header(first.instance.path)
            item = DicomVolume(volume, shown_range(dataset, first.instance.path))
            row = self._row(first.instance, item, entry, volume.part, dataset, first.frame.number)
            row.columns.update(_unusual(volume))
            self._rows.setdefault(_series_of(first.instance), row)
        for refused in scan.refused:
            bad = Unreadable(refused.instance.path, refused.error)
            self._row(refused.instance, bad, entry, refused.part, None)

    def labels(self, scan: Scan, entry: Entry) -> None:
        """A row for each volume of SEG and RTSTRUCT files."""
        for skip in scan.labels:
            dataset = open_header(skip.path)
            try:
                series = referenced_series(Header(dataset, skip.path)) or ""
                parts, grid = self._parts(skip, series)
            except SourceError as error:
                self._row(skip, Unreadable(skip.path, error), entry, "", None)
                continue
            for part in parts:
                item = Labels(skip.path, part, grid, drawn=skip.label == "rtstruct")
                row = self._row(skip, item, entry, part, dataset)
                row.image = self._rows.get((skip.patient_id, series))

    def _parts(self, skip: Skip, series: str) -> tuple[Sequence[str], ReferenceGrid | None]:
        volume = self._volumes.get((skip.patient_id, series))
        grid = None if volume is None else reference_grid(volume)
        if skip.label == "seg":
            return seg_parts(skip.path), grid
        if grid is None:
            raise SourceUnsupportedError(
                skip.path, expected="the images that it was drawn on", got="no volume of that series",
                hint="Give the folder with the images too.",
            )  # fmt: skip
        return rtstruct_parts(skip.path, grid), grid

    def _row(
        self,
        of: Instance | Skip,
        item: Readable,
        entry: Entry,
        part: str,
        dataset: Dataset | None,
        frame: int = 0,
    ) -> Row:
        collection = entry.collection
        if not collection:
            collection = of.label.upper() if isinstance(of, Skip) else re.sub(r"\W", "", of.modality) or "OT"
        columns: dict[str, Any] = {}
        if dataset is not None:
            columns = obs_columns(
                dataset, self._deid, obs_subject_id=entry.subject, patient_id=of.patient_id or None,
                keep_phi=self._keep_phi, frame=frame,
            )  # fmt: skip
            self.findings.warned.update(warnings_of(dataset))
            padding = _padding(Header(dataset, of.path))
            if padding is not None:
                columns["pixel_padding_value"] = padding
        hidden = (lambda uid: uid) if self._deid is None else self._deid.uid
        row = Row(
            item=item,
            collection=collection,
            obs_subject_id=entry.subject or self._subject(of),
            study=hidden(of.study_uid) if of.study_uid else "",
            study_date=of.study_date,
            series=hidden(of.series_uid) if of.series_uid else "",
            part=part,
            path=of.path,
            columns=columns,
            tags={} if dataset is None else _tags(Header(dataset, of.path)),
        )
        self.findings.rows.append(row)
        return row

    def _subject(self, of: Instance | Skip) -> str:
        if not of.patient_id:
            raise MetadataError(
                f"{of.path}, PatientID", expected="an id", got="none",
                hint="Name the subject: images={'CT': [(folder, 'sub-01')]}.",
            )  # fmt: skip
        return of.patient_id if self._deid is None else self._deid.subject(of.patient_id)


def _series_of(instance: Instance) -> tuple[str, str]:
    """What a label object refers to: some anonymisers give series of many patients one UID."""
    return instance.patient_id, instance.series_uid


def _padding(header: Header) -> int | None:
    """PixelPaddingValue, a stored value: what fills the corners, kept as it is."""
    found = header.binary("PixelPaddingValue", "SS" if header.count("PixelRepresentation") == 1 else "US")
    return int(found[0]) if found else None


_TAGS = (
    "Modality", "SeriesDescription", "ProtocolName", "StudyDescription", "SeriesNumber", "ImageType",
    "BodyPartExamined", "Manufacturer", "SequenceName", "ConvolutionKernel", "StudyDate",
)  # fmt: skip


def _tags(header: Header) -> dict[str, str]:
    return {keyword: text for keyword in _TAGS if (text := header.text(keyword))}


def shown_range(dataset: Dataset, name: str) -> tuple[float, float] | None:
    """Window centre and width as lowest and highest value shown, in the units of scaled values."""
    header = Header(dataset, name)
    centre, width = header.number("WindowCenter"), header.number("WindowWidth")
    if centre is None or width is None or not width > 0:
        return None
    return centre - width / 2, centre + width / 2


def _unusual(volume: Arranged) -> dict[str, Any]:
    """Columns for what is not as usual."""
    said: dict[str, Any] = {}
    if volume.stack.tilt:
        said["tilt_degrees"] = round(volume.stack.tilt, 2)
    if not volume.stack.regular:
        said["irregular_slices"] = True
    item = DicomVolume(volume)
    if item.b_values is not None and len(item.b_values) > 1:
        said["b_values"] = item.b_values
    return said
