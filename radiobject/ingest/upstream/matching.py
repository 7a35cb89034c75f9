"""Matching: which array belongs to which row, by the id that the array itself holds, never by position."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from radiobject.errors import DuplicateIdError, MetadataError, SourceError, SourceNotFoundError
from radiobject.ingest.upstream.columns import subject_columns, volume_columns
from radiobject.ingest.upstream.findings import Finding
from radiobject.ingest.upstream.layout import ArrayFound, CollectionFound, StudyFound
from radiobject.ingest.upstream.volume import UpstreamVolume, volume_of

__all__ = ["Plan", "matched"]


@dataclass
class Plan:
    """What to ingest: volumes with their ids here, columns beside them, subjects; and what was found."""

    volumes: dict[str, list[tuple[UpstreamVolume, str]]] = field(default_factory=dict)
    obs: dict[str, pa.Table] = field(default_factory=dict)
    obs_meta: pa.Table | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def failed(self) -> list[Finding]:
        """What cannot be brought in."""
        return [f for f in self.findings if f.outcome == "failed"]


def matched(found: StudyFound) -> Plan:
    """Arrays with their rows, every volume under an id of its own."""
    ids, repaired = _ids(found)
    plan = Plan(findings=_of_the_study(found) + repaired)
    for collection in found.collections:
        plan.findings += _counts(collection)
        if collection.obs is None:
            plan.findings.append(_failure(collection.name, collection.trouble))
            continue
        volumes, rows, findings = _volumes(found, collection, ids)
        new = [ids[collection.name, volume.obs_id] for volume in volumes]
        plan.volumes[collection.name] = list(zip(volumes, new, strict=True))
        table = collection.obs.take(pa.array(rows, pa.int64()))
        plan.obs[collection.name], more = volume_columns(collection.name, table, volumes, new)
        plan.findings += findings + more
    used = [volume.obs_subject_id for of in plan.volumes.values() for volume, _ in of]
    plan.obs_meta, findings = subject_columns(found.obs_meta, used)
    plan.findings += findings
    return plan


def _of_the_study(found: StudyFound) -> list[Finding]:
    findings = []
    if found.trouble is not None:
        findings.append(_failure("", found.trouble))
    for folder in found.unlisted:
        text = f"folder collections/{folder} is no member of its group: left out, as it was never shown there"
        findings.append(Finding("noted", "not listed", text))
    subjects = None if found.obs_meta is None else found.obs_meta.num_rows
    actual = {"n_collections": len(found.collections), "subject_count": subjects}
    for name, said in (found.counted or {}).items():
        if actual[name] not in (None, said):
            findings.append(Finding("repaired", "count", f"{name} is {said}, found were {actual[name]}"))
    return findings


def _counts(collection: CollectionFound) -> list[Finding]:
    findings = []
    if collection.folder and collection.folder.rpartition("/")[2] != collection.name:
        text = f"was renamed there, which its package cannot open: its folder is {collection.folder}"
        findings.append(Finding("repaired", "renamed", text, collection.name))
    if collection.counted not in (None, len(collection.arrays)):
        text = f"n_volumes is {collection.counted}, found were {len(collection.arrays)} arrays"
        findings.append(Finding("repaired", "count", text, collection.name))
    return findings


def _failure(collection: str, error: Exception | None, subject: str = "", obs_id: str = "") -> Finding:
    return Finding("failed", type(error).__name__, str(error), collection, subject, obs_id)


def _volumes(
    found: StudyFound, collection: CollectionFound, ids: Mapping[tuple[str, str], str]
) -> tuple[list[UpstreamVolume], list[int], list[Finding]]:
    """The volumes of a collection in the order of its table, the rows that they have there, findings."""
    assert collection.obs is not None
    rows = collection.obs.to_pylist()
    repeated = Counter(row["obs_id"] for row in rows)
    by_id: dict[str, list[ArrayFound]] = defaultdict(list)
    for array in collection.arrays:
        if array.obs_id is not None:
            by_id[array.obs_id].append(array)
    by_number = {array.number: array for array in collection.arrays}
    volumes, kept, findings = [], [], []
    for position, row in enumerate(rows):
        subject, obs_id, name = row["obs_subject_id"], row["obs_id"], collection.name
        new = ids[name, obs_id]
        try:
            volume = volume_of(found.location, _the_one(by_id[obs_id], repeated[obs_id], collection), row)
        except (SourceError, DuplicateIdError) as error:
            findings.append(_failure(name, error, subject, new))
            continue
        volumes.append(volume)
        kept.append(position)
        there = by_number.get(str(position))
        if there is None or there.obs_id != obs_id:
            said = "nothing" if there is None else f"the voxels of {there.obs_id!r}"
            text = f"there it shows {said}; here the array that holds its id"
            findings.append(Finding("repaired", "position", text, name, subject, new))
        findings += [Finding(*note, name, subject, new) for note in volume.notes]
    findings += _left_over(found, collection, set(repeated))
    return volumes, kept, findings


def _the_one(arrays: Sequence[ArrayFound], rows: int, collection: CollectionFound) -> ArrayFound:
    if rows > 1:
        raise DuplicateIdError(f"obs of {collection.name}", expected="one row of this id", got=f"{rows}")
    if not arrays:
        raise SourceNotFoundError(
            f"arrays of {collection.name}", expected="one that says it has this id", got="none"
        )  # fmt: skip
    if len(arrays) > 1:
        raise DuplicateIdError(
            f"arrays of {collection.name}",
            expected="one that says it has this id",
            got=", ".join(a.path for a in arrays),
        )
    if arrays[0].trouble is not None:
        raise arrays[0].trouble
    return arrays[0]


def _left_over(found: StudyFound, collection: CollectionFound, ids: set[str]) -> list[Finding]:
    """Arrays that no row of the table is about."""
    findings = []
    for array in collection.arrays:
        if array.obs_id in ids:
            continue
        if array.meta is None and array.trouble is not None:
            findings.append(_failure(collection.name, array.trouble))
            continue
        text = f"{array.path} holds it, and obs has no row: its subject is not known"
        if array.obs_id is None:
            text = f"{array.path} does not say which volume it is"
        findings.append(
            Finding("failed", MetadataError.__name__, text, collection.name, obs_id=array.obs_id or "")
        )
    return findings


def _ids(found: StudyFound) -> tuple[dict[tuple[str, str], str], list[Finding]]:
    """Collection and id there -> id here. Those of several collections become `{subject}_{collection}`.

    0.1.1 takes ids from file names: images and labels of the same file names have the same ids.
    """
    holders: dict[str, list[str]] = defaultdict(list)
    rows = []
    for collection in found.collections:
        if collection.obs is not None:
            table = collection.obs.select(["obs_subject_id", "obs_id"]).to_pylist()
            rows += [(collection.name, row["obs_subject_id"], row["obs_id"]) for row in table]
            for obs_id in dict.fromkeys(row["obs_id"] for row in table):
                holders[obs_id].append(collection.name)
    taken = {obs_id for obs_id, of in holders.items() if len(of) == 1}
    ids, findings = {}, []
    for name, subject, obs_id in rows:
        new, number = obs_id, 0
        if len(holders[obs_id]) > 1:
            new = f"{subject}_{name}"
            while new in taken:
                number += 1
                new = f"{subject}_{name}_acq-{number}"
            taken.add(new)
        if new != obs_id:
            text = f"its id there is {obs_id!r}, as that of volumes in other collections: {holders[obs_id]}"
            findings.append(Finding("repaired", "id", text, name, subject, new))
        ids[name, obs_id] = new
    return ids, findings
