"""Integrity: a version held against its tables, and its tables against the objects they name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from radiobject.backends import get_backend
from radiobject.backends.base import StoredObject
from radiobject.errors import (
    CapabilityError,
    ConfigError,
    FormatError,
    IntegrityError,
    MissingDependencyError,
    RadiObjectError,
    StaleIndexError,
)
from radiobject.format.catalog import Catalog, Snapshot
from radiobject.format.change_list import read_change
from radiobject.format.claims import false_of_commit, false_of_rows
from radiobject.format.commit import CollectionEntry, Commit
from radiobject.format.foreground import parse_index
from radiobject.format.layout import (
    HINT,
    ROOT,
    TAGS,
    VERSIONS,
    group_document,
    made_here,
    root_document,
    version_key,
)
from radiobject.format.needed import groups_above, keys_of, name_objects, volume_parts
from radiobject.format.objects import object_rows, row_objects
from radiobject.format.schema import OBS_SCHEMA
from radiobject.format.tables import Part, Table
from radiobject.format.tags import tags
from radiobject.storage import Storage, check_key

__all__ = ["Level", "Problem", "Report", "validate"]

Level = Literal["quick", "standard", "full"]


@dataclass(frozen=True)
class Problem:
    """One thing that is not as committed: what kind, which object, what is wrong."""

    kind: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.message}"


@dataclass
class Report:
    """What `validate` found. `litter` counts objects that no kept version names: work for clean-up."""

    uri: str
    version: int
    level: str
    problems: list[Problem] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    litter: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is missing or changed."""
        return not self.problems

    def add(self, kind: str, where: str, message: object) -> None:
        """Note a problem."""
        self.problems.append(Problem(kind, where, str(message)))

    def count(self, what: str, n: int = 1) -> None:
        """Note that `n` of something were looked at."""
        self.checked[what] = self.checked.get(what, 0) + n

    def __repr__(self) -> str:
        looked = ", ".join(f"{n} {what}" for what, n in self.checked.items())
        verdict = "ok" if self.ok else f"{len(self.problems)} problems"
        lines = [f"<validate {self.level} of {self.uri} version {self.version}: {verdict} ({looked})>"]
        lines += [f"  {p}" for p in self.problems[:20]]
        if len(self.problems) > 20:
            lines.append(f"  ... and {len(self.problems) - 20} more")
        return "\n".join(lines)


def validate(snapshot: Snapshot, level: Level = "quick", *, strict: bool = False) -> Report:
    """Check a version. Nothing is repaired or changed.

    quick: the chain of commits, and every object there with its recorded size. standard: also the SHA-256 of
    tables, ids, foreign keys, counts, shapes, and the checksums of all metadata documents. full: also the
    checksum of every voxel object, which no decoding can be wrong past, and rows against the volumes that
    they speak of: place, shape, type, scaling, affine, that they name every object, and that source files are
    those that were registered; volumes whose backend
    is not installed are counted instead. What was computed from voxels (intensities, thumbnails, what
    foreground indexes hold) is not computed again.

    `strict=True` raises `IntegrityError`.
    """
    if level not in get_args(Level):
        raise ConfigError("validate(level=)", expected="quick, standard or full", got=repr(level))
    storage = snapshot.storage
    report = Report(storage.location.uri, snapshot.version, level)
    chain = _check_chain(storage, snapshot, report)
    sizes = _listing(storage)
    _check_documents(storage, snapshot.commit, report)
    rows = [(entry, row) for entry in snapshot.commit.collections for row in _rows(snapshot, entry, report)]
    _check_sizes(storage, snapshot.commit, rows, sizes, report)
    _check_in_memory(storage, rows, report)
    if level != "quick":
        _check_tables(snapshot, report)
        _check_relations(snapshot, rows, report)
        for where, wrong in false_of_commit(snapshot):
            report.add("table", where, wrong)
        _check_objects(storage, rows, report, documents_only=level == "standard")
    if level == "full":
        told = frozenset(problem.where for problem in report.problems)
        for entry in snapshot.commit.collections:
            _check_rows(snapshot, entry, told, report)
    if sizes is not None:
        for number in range(1, snapshot.commit.oldest):
            if version_key(number) not in sizes:
                lost = "the document of an expired version is gone: an old handle may win its number"
                report.add("version", version_key(number), lost)
        chain += _tagged(storage, chain, report)
        kept = (f"{TAGS}/", f"{VERSIONS}/")  # commits stay for good, also expired ones
        spare = sizes.keys() - _named_by(storage, chain, report)
        report.litter = sum(
            made_here(key) and (not key.startswith(kept) or key.endswith(".tmp")) for key in spare
        )
    if strict and not report.ok:
        raise IntegrityError(str(report), hint="See .problems of validate() without strict.")
    return report


def _check_chain(storage: Storage, snapshot: Snapshot, report: Report) -> list[Commit]:
    """Every kept version up to this one reads, and names its parent by the parent's hash."""
    catalog = Catalog(storage)
    commit, chain = snapshot.commit, [snapshot.commit]
    while commit.parent is not None and commit.parent >= snapshot.commit.oldest:
        try:
            parent = catalog.commit(commit.parent)
        except RadiObjectError as error:
            report.add("version", version_key(commit.parent), error)
            break
        if parent.sha256 != commit.parent_sha256:
            report.add("version", version_key(parent.version), "not the parent that its child was made from")
        chain.append(parent)
        commit = parent
    report.count("versions", len(chain))
    try:
        # the snapshot may come from memory: its file must still say the same
        if catalog.commit(snapshot.version).sha256 != snapshot.commit.sha256:
            report.add("version", version_key(snapshot.version), "another commit than the one opened")
    except RadiObjectError as error:
        report.add("version", version_key(snapshot.version), error)
    return chain


def _listing(storage: Storage) -> dict[str, int] | None:
    try:
        return {info.key: info.bytes for info in storage.list("")}
    except CapabilityError:
        return None  # a plain web server: objects are asked for one by one


def _check_documents(storage: Storage, commit: Commit, report: Report) -> None:
    """The study document, the hint, and the groups above the volumes, byte by byte."""
    try:
        raw = storage.read(ROOT)
        root = Catalog(storage).root() or {}
        if (
            raw != root_document(str(root.get("uuid")), root.get("key_id"))
            or root.get("uuid") != commit.study
        ):
            report.add("document", ROOT, f"not the document of study {commit.study}")
    except RadiObjectError as error:
        report.add("document", ROOT, error)
    try:
        hint = Catalog(storage).hint()
        if hint is None or hint.latest < commit.version:
            report.add("hint", HINT, "missing, damaged or stale: opening works but costs more requests")
        elif hint.latest == commit.version and hint.sha256 != commit.sha256:
            report.add("hint", HINT, "names another commit")
    except RadiObjectError as error:
        report.add("hint", HINT, error)


def _rows(snapshot: Snapshot, entry: CollectionEntry, report: Report) -> list[dict[str, Any]]:
    try:
        table = snapshot.table("obs", entry.name)
        rows = object_rows(table, "obs_subject_id", "obs_id")
        for row in rows:
            check_key(row["_path"])
        report.count("volumes", len(rows))
        return rows
    except RadiObjectError as error:
        report.add("table", f"{entry.name} obs", error)
        return []


def _check_sizes(
    storage: Storage,
    commit: Commit,
    rows: Sequence[tuple[CollectionEntry, dict[str, Any]]],
    sizes: Mapping[str, int] | None,
    report: Report,
) -> None:
    wanted = {part.path: part.bytes for part in commit.parts()}
    wanted |= {key: o["bytes"] for _, row in rows for key, o in row_objects(row)}
    if commit.change_list is not None:
        wanted[commit.change_list["path"]] = commit.change_list["bytes"]
    if sizes is None:
        with ThreadPoolExecutor(16) as pool:
            found = dict(zip(wanted, pool.map(storage.size, wanted), strict=True))
    else:
        found = {key: sizes.get(key) for key in wanted}
    report.count("objects", len(wanted))
    for key, expected in wanted.items():
        if found[key] is None:
            report.add("missing", key, f"expected an object of {expected} bytes, got nothing")
        elif found[key] != expected:
            report.add("size", key, f"expected {expected} bytes, got {found[key]}")
    groups = [f"{g}/{ROOT}" for g in groups_above([commit], (row["_path"] for _, row in rows))]
    with ThreadPoolExecutor(16) as pool:
        for key, wrong in zip(groups, pool.map(lambda k: _wrong_group(storage, k), groups), strict=True):
            if wrong:
                report.add("group", key, wrong)


def _check_in_memory(
    storage: Storage, rows: Sequence[tuple[CollectionEntry, dict[str, Any]]], report: Report
) -> None:
    """Volumes without objects lie in the memory of the process that wrote them: it must be this one."""
    for entry, row in rows:
        if not row["_objects"]:
            try:
                get_backend(entry.backend, storage.location).open_volume(row["_path"])
            except RadiObjectError as error:
                report.add("missing", row["_path"], error)


def _wrong_group(storage: Storage, key: str) -> str | None:
    try:
        return None if storage.read(key) == group_document() else "not the group document that was written"
    except RadiObjectError as error:
        return str(error)


def _check_tables(snapshot: Snapshot, report: Report) -> None:
    def check(part: Part) -> tuple[Part, str | None]:
        try:
            digest = hashlib.sha256(snapshot.storage.read(part.path)).hexdigest()
        except RadiObjectError as error:
            return part, str(error)
        return part, None if digest == part.sha256 else "its SHA-256 is not the committed one"

    parts = list(snapshot.commit.parts())
    with ThreadPoolExecutor(8) as pool:
        for part, wrong in pool.map(check, parts):
            if wrong:
                report.add("table", part.path, wrong)
    report.count("table parts", len(parts))
    if snapshot.commit.change_list is not None:
        try:
            read_change(snapshot.storage, snapshot.commit)
        except RadiObjectError as error:
            report.add("table", snapshot.commit.change_list["path"], error)


def _check_relations(
    snapshot: Snapshot, rows: Sequence[tuple[CollectionEntry, dict[str, Any]]], report: Report
) -> None:
    try:
        subjects = snapshot.table("obs_meta").read(["obs_subject_id"])["obs_subject_id"].to_pylist()
    except RadiObjectError as error:
        report.add("table", "obs_meta", error)
        return
    if len(subjects) != len(set(subjects)):
        report.add("ids", "obs_meta", "a subject occurs twice")
    known, seen = set(subjects), dict[str, str]()
    for entry, row in rows:
        if row["obs_subject_id"] not in known:
            report.add(
                "ids", f"{entry.name}/{row['obs_id']}", f"no subject {row['obs_subject_id']!r} in obs_meta"
            )
        if row["obs_id"] in seen:
            report.add(
                "ids", f"{entry.name}/{row['obs_id']}", f"the same obs_id stands in {seen[row['obs_id']]}"
            )
        seen[row["obs_id"]] = entry.name
    for entry in snapshot.commit.collections:
        held = sum(1 for e, _ in rows if e.name == entry.name)
        if held != entry.n_volumes:
            report.add("counts", entry.name, f"expected {entry.n_volumes} volumes, got {held}")


def _check_objects(
    storage: Storage,
    rows: Sequence[tuple[CollectionEntry, dict[str, Any]]],
    report: Report,
    *,
    documents_only: bool,
) -> None:
    def check(entry: tuple[str, dict[str, Any], dict[str, Any]]) -> tuple[str, str, str | None]:
        key, stored, row = entry
        try:
            data = storage.read(key)
            if not StoredObject(**stored).matches(data):
                return "object", key, "its checksums are not the committed ones"
            if stored is row.get("_foreground"):
                # whose bytes are sound may still be the index of another volume
                parse_index(data, key, row["_path"], row["_objects"])
        except (StaleIndexError, FormatError) as error:
            return "index", key, str(error)
        except RadiObjectError as error:
            return "object", key, str(error)
        return "object", key, None

    chosen = [
        (key, o, row)
        for _, row in rows
        for key, o in row_objects(row)
        if not documents_only or key.endswith(".json")
    ]
    with ThreadPoolExecutor(8) as pool:
        for kind, key, wrong in pool.map(check, chosen):
            if wrong:
                report.add(kind, key, wrong)
    report.count("checksums", len(chosen))
    if weak := sum(o.get("digest") is None for _, o, _ in chosen):
        report.count("of them by CRC-32C alone", weak)


def _check_rows(snapshot: Snapshot, entry: CollectionEntry, told: frozenset[str], report: Report) -> None:
    if f"{entry.name} obs" in told:
        return
    try:
        backend = get_backend(entry.backend, snapshot.storage.location)
    except (CapabilityError, MissingDependencyError):
        # what is not installed here says nothing against the study
        report.count("volumes whose backend is not installed", entry.n_volumes)
        return
    try:
        for obs_id, wrong in false_of_rows(snapshot, entry, backend, told):
            report.add("row", f"{entry.name}/{obs_id}", wrong)
    except RadiObjectError as error:
        report.add("row", entry.name, error)


def _tagged(storage: Storage, chain: Sequence[Commit], report: Report) -> list[Commit]:
    """Versions outside the chain that a tag keeps."""
    have, found = {c.version for c in chain}, list[Commit]()
    try:
        named = tags(storage)
    except RadiObjectError as error:
        report.add("tag", TAGS, error)
        return []
    for name, (version, sha256) in named.items():
        if version in have:
            continue
        try:
            found.append(Catalog(storage).commit(version))
            if found[-1].sha256 != sha256:
                report.add("tag", name, f"version {version} is not the commit that was tagged")
        except RadiObjectError as error:
            report.add("tag", name, error)
    return found


def _named_by(storage: Storage, chain: Sequence[Commit], report: Report) -> set[str]:
    """Keys that any version of the chain names; what cannot be read is a problem, and names nothing."""
    named, folders = set[str](), set[str]()
    for entry, part in volume_parts(chain):
        try:
            name_objects(Table(storage, f"{entry.name}/obs", [part], OBS_SCHEMA), named, folders)
        except RadiObjectError as error:
            report.add("table", part.path, error)
    return keys_of(chain, named, folders)
