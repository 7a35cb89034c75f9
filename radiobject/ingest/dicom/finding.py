"""Finding: what a caller points at, as rows with their subjects, collections and columns."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from radiobject.errors import MetadataError, SourceError, SourceUnsupportedError
from radiobject.executor import Executor, Progress
from radiobject.ingest.deidentify import Deidentifier
from radiobject.ingest.dicom.columns import identity_of, obs_columns, warnings_of
from radiobject.ingest.dicom.entries import Entry
from radiobject.ingest.dicom.frames import Instance
from radiobject.ingest.dicom.headers import Header
from radiobject.ingest.dicom.items import Labels, reference_grid
from radiobject.ingest.dicom.labelled import referenced_instances, referenced_series
from radiobject.ingest.dicom.opening import open_header
from radiobject.ingest.dicom.reading import Skip
from radiobject.ingest.dicom.rows import Row
from radiobject.ingest.dicom.rtstruct import ReferenceGrid, rtstruct_parts
from radiobject.ingest.dicom.scan import Scan, scan_dicom
from radiobject.ingest.dicom.seg import seg_parts
from radiobject.ingest.dicom.series import Arranged, Irregular
from radiobject.ingest.dicom.volume import DicomVolume
from radiobject.ingest.sources import Readable
from radiobject.ingest.unreadable import Unreadable

__all__ = ["Findings", "find", "shown_range"]


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
    scan = scan_dicom(places, irregular=irregular, executor=executor, workers=workers, progress=progress)
    finder = _Finder(scan, places, entries, deid, tuple(keep_phi))
    finder.images()
    finder.labels()
    return finder.findings


class _Finder:
    def __init__(
        self,
        scan: Scan,
        places: Sequence[str],
        entries: Sequence[Entry],
        deid: Deidentifier | None,
        keep_phi: tuple[str, ...],
    ) -> None:
        self._scan, self._deid, self._keep_phi = scan, deid, keep_phi
        self._entries = [[e for e in entries if e.place == place] for place in places]
        damaged = {path: found.error for path, found in scan.damaged.items()}
        self.findings = Findings([], damaged, Counter(scan.skipped), Counter())
        with_labels = {number for skip in scan.labels for number in scan.owners[skip.path]}
        # a place of labels that has label objects has them in mind, and not their images
        self._of_images = [
            [e for e in found if not (e.labels and number in with_labels)]
            for number, found in enumerate(self._entries)
        ]
        self._volumes: dict[tuple[str, str], list[tuple[Arranged, Row | None]]] = defaultdict(list)

    def images(self) -> None:
        """A row for each volume of images, and for those that make none."""
        for volume in self._scan.volumes:
            first = volume.first
            paths = [m.instance.path for row in volume.members for m in row]
            entry = self._entry(paths, self._of_images)
            row = None
            if entry is not None:
                dataset = open_header(first.instance.path)
                item = DicomVolume(volume, shown_range(dataset, first.instance.path))
                row = self._row(
                    first.instance, item, entry, volume.part, volume.key, dataset, first.frame.number
                )
                row.columns.update(_unusual(volume))
                folders = {os.path.dirname(path) for path in paths}
                if beside := sum(os.path.dirname(path) in folders for path in self._scan.damaged):
                    row.columns["unreadable_beside"] = beside
            self._volumes[_series_of(first.instance)].append((volume, row))
        for refused in self._scan.refused:
            path = refused.instance.path
            entry = self._entry([path], self._of_images)
            if entry is not None:
                identity = f"{refused.instance.series_uid}/{refused.key}"
                bad = Unreadable(path, refused.error, identity, refused.others)
                self._row(refused.instance, bad, entry, refused.part, refused.key, None)

    def labels(self) -> None:
        """A row for each volume of SEG and RTSTRUCT files."""
        for skip in self._scan.labels:
            of_labels = [[e for e in found if e.labels or not e.collection] for found in self._entries]
            entry = self._entry([skip.path], of_labels)
            if entry is None:
                self.findings.skipped["label objects, for which no collection is named"] += 1
                continue
            dataset = open_header(skip.path)
            hidden = identity_of(dataset) if self._deid is not None else None
            try:
                image, parts, grid = self._drawn_on(skip, Header(dataset, skip.path))
            except SourceError as error:
                self._row(skip, Unreadable(skip.path, error, skip.sop_uid), entry, "", skip.sop_uid, None)
                continue
            for part in parts:
                item = Labels(skip.path, part, grid, skip.label == "rtstruct", hidden)
                row = self._row(skip, item, entry, part, f"{skip.sop_uid}/{part}", dataset)
                row.image = image

    def _entry(self, paths: Sequence[str], entries: Sequence[Sequence[Entry]]) -> Entry | None:
        """The entry that files belong to, None for none. `MetadataError` where two claim them."""
        numbers = {number for path in set(paths) for number in self._scan.owners[path]}
        claims = {(e.collection, e.subject): e for number in sorted(numbers) for e in entries[number]}
        if len(claims) > 1:
            raise MetadataError(
                f"files such as {paths[0]}", expected="one collection and one subject for a series",
                got=" and ".join(f"{c or 'any'} of {s or 'its patient'}" for c, s in claims),
                hint="List each folder once; slices of a series may lie in several.",
            )  # fmt: skip
        return next(iter(claims.values()), None)

    def _drawn_on(self, skip: Skip, header: Header) -> tuple[Row | None, Sequence[str], ReferenceGrid | None]:
        """The images of a label object, its parts, and the grid of the images."""
        volumes = self._volumes.get((skip.patient_id, referenced_series(header) or ""), [])
        wanted = referenced_instances(header)
        volumes = sorted(volumes, key=lambda v: -len(wanted & _instances(v[0])))
        if skip.label == "seg":
            image, grid = (volumes[0][1], reference_grid(volumes[0][0])) if volumes else (None, None)
            return image, seg_parts(skip.path), grid
        refusal: SourceError = SourceUnsupportedError(
            skip.path, expected="the images that it was drawn on", got="no volume of that series",
            hint="Give the folder with the images too.",
        )  # fmt: skip
        for volume, row in volumes:
            try:
                grid = reference_grid(volume)
                return row, rtstruct_parts(skip.path, grid), grid
            except SourceUnsupportedError as error:
                refusal = error  # of another volume of the series, perhaps
        raise refusal

    def _row(
        self,
        of: Instance | Skip,
        item: Readable,
        entry: Entry,
        part: str,
        key: str,
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
        if isinstance(of, Skip):
            # of label objects, the file itself is what comes again
            key = hashlib.sha256(hidden(key or of.path).encode()).hexdigest()[:8]
        if self._deid is not None and dataset is not None and identity_of(dataset).search(part):
            part = f"part-{key}"
        series = hidden(of.series_uid) if of.series_uid else self._without_uid(item)
        columns |= {"series_uid": series or None, "series_volume": key}
        row = Row(
            item=item,
            collection=collection,
            obs_subject_id=entry.subject or self._subject(of),
            study=hidden(of.study_uid) if of.study_uid else "",
            study_date=of.study_date,
            series=series,
            part=part,
            key=key,
            path=of.path,
            columns=columns,
            tags={} if dataset is None else _tags(Header(dataset, of.path)),
        )
        self.findings.rows.append(row)
        return row

    def _without_uid(self, item: Readable) -> str:
        """What stands for the UID of a series that has none: what its images are."""
        if not isinstance(item, DicomVolume):
            return ""
        uids = sorted({m.instance.sop_uid for row in item.arranged.members for m in row})
        if uids == [""]:
            return ""
        digest = hashlib.sha256("\0".join(uids).encode()).hexdigest()[:16]
        return f"none-{digest}" if self._deid is None else self._deid.code("series", digest)

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


def _instances(volume: Arranged) -> set[str]:
    return {m.instance.sop_uid for row in volume.members for m in row}


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
