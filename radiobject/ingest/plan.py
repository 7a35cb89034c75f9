"""Plan: what an ingest is about to do, settled and checked before a voxel is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import google_crc32c
import pyarrow as pa
import pyarrow.compute as pc

from radiobject.backends import IN_PLACE, backend_for
from radiobject.backends.files import FilesBackend
from radiobject.backends.files.manifest import Description, parse_hint
from radiobject.config import WriteConfig
from radiobject.errors import AlignmentError, ConfigError, DuplicateIdError, MetadataError
from radiobject.format.catalog import Snapshot
from radiobject.format.meta import Kind
from radiobject.format.rows import differing_rows
from radiobject.ingest.metadata import refuse_subjects_without_row
from radiobject.ingest.sources import Readable, Source
from radiobject.location import Location
from radiobject.model.naming import names_labels
from radiobject.writing.in_place import InPlace
from radiobject.writing.loaded import Axis4
from radiobject.writing.objects import is_volume

__all__ = [
    "NOT_HELD",
    "Held",
    "OnConflict",
    "Settings",
    "backend_name",
    "check_alignment",
    "held_volumes",
    "kinds_of",
    "plan_hash",
    "settle_conflicts",
    "subject_rows",
]

OnConflict = Literal["error", "skip", "update", "replace"]
"""What to do with an obs_id that the study holds. "update": replace it when the source's digest changed."""


@dataclass(frozen=True)
class Settings:
    """What decides, beside a source's own bytes, what is written for it. `root` is the URI that paths of
    files begin at which stay where they lie, None for such that are copied."""

    kinds: Mapping[str, Kind]
    label_names: Mapping[str, Mapping[int, str]]
    axis4: Axis4
    write: WriteConfig
    backend: str
    deidentify: bool = False
    root: str | None = None


@dataclass(frozen=True)
class Held:
    """A volume that the study holds: its collection, the digest of its source where that is known, and what
    is registered of one that stays where it lies."""

    collection: str = ""
    digest: str = ""
    registered: Description | None = None

    @property
    def is_stored(self) -> bool:
        """Whether the study has its voxels."""
        return bool(self.collection) and self.registered is None

    def registers(self, found: InPlace) -> bool:
        """Whether it is that very one: files of the same size, time and head, and the same beside them, said
        by the same layout."""
        known = self.registered
        if known is None or (known.source, known.layout_sha256) != (found.source, found.layout_sha256):
            return False
        beside = {name: (len(data), google_crc32c.value(data)) for name, data in found.extras.items()}
        return beside == dict(known.extras)


NOT_HELD = Held()


def held_volumes(base: Snapshot | None, sources: Sequence[Source]) -> dict[str, Held]:
    """Every volume of the sources that the study holds, by obs_id."""
    held: dict[str, Held] = {}
    if base is None:
        return held
    wanted = pa.array([s.obs_id for s in sources], pa.string())
    for entry in base.commit.collections:
        table = base.table("obs", entry.name)
        found = pc.indices_nonzero(pc.is_in(table.column("obs_id"), value_set=wanted))
        registered = ["_path", "_hint"] if entry.backend == IN_PLACE else []
        for row in table.rows(found.to_numpy(), ["obs_id", "source_digest", *registered]).to_pylist():
            files = None
            if FilesBackend.holds(row.get("_path", "")):
                files = parse_hint(row["_hint"])
            held[row["obs_id"]] = Held(entry.name, row["source_digest"] or "", files)
    return held


def settle_conflicts(
    sources: Sequence[Source], held: Mapping[str, Held], on_conflict: OnConflict
) -> list[Source]:
    """The sources to look at, given what the study holds already."""
    if on_conflict not in ("error", "skip", "update", "replace"):
        raise MetadataError("on_conflict=", expected="error, skip, update or replace", got=repr(on_conflict))
    for source in sources:
        known = held.get(source.obs_id)
        if known is not None and (on_conflict == "error" or known.collection != source.collection):
            raise DuplicateIdError(
                f"obs_id {source.obs_id!r} ({source.name})",
                expected="an id that the study does not hold",
                got=f"one in collection {known.collection!r}",
                hint='Pass on_conflict="skip", "update" or "replace" (in a shell --on-conflict skip).',
            )
    return [s for s in sources if on_conflict != "skip" or s.obs_id not in held]


def subject_rows(given: pa.Table | None, sources: Sequence[Source], base: Snapshot | None) -> pa.Table | None:
    """The rows of obs_meta to write, None for none; `given` is the checked table of the caller.

    Raises `MetadataError` for a subject with images that has a row neither there nor in the study.
    """
    used = list(dict.fromkeys(s.obs_subject_id for s in sources))
    if base is None:
        if given is None:
            return pa.table({"obs_subject_id": pa.array(used, pa.string())})
        refuse_subjects_without_row(used, given["obs_subject_id"].to_pylist())
        return given
    table = base.table("obs_meta")
    held = set(table.ids())
    ids = [] if given is None else given["obs_subject_id"].to_pylist()
    refuse_subjects_without_row(used, [*held, *ids])
    if given is None or (held.issuperset(ids) and not differing_rows(table, given, ids)):
        return None  # what the study holds already makes no new version
    return given


def kinds_of(
    images: Mapping[str, Any],
    labels: Any,
    base: Snapshot | None,
    sources: Sequence[Source] = (),
    says: Callable[[Any], bool] = lambda item: False,
) -> tuple[dict[str, Kind], dict[str, dict[int, str]]]:
    """Which collections are label maps, and the names of their values; one that exists keeps its kind.

    Without `labels` a new one is of labels when its name says so, all Volumes among its sources do, or its
    first source does (`says`).
    """
    entries = {} if base is None else {c.name: c for c in base.commit.collections}
    kinds: dict[str, Kind] = {}
    chosen = [] if labels is None else [labels] if isinstance(labels, str) else list(labels)
    if unknown := [c for c in chosen if c not in images]:
        raise MetadataError("labels=", expected=f"some of {list(images)}", got=str(unknown))
    for name in images:
        if name in entries:
            kinds[name] = "label" if entries[name].kind == "label" else "image"
        elif labels is None:
            said = {s.item.meta.kind for s in sources if s.collection == name and is_volume(s.item)}
            first = next((s.item for s in sources if s.collection == name), None)
            named = names_labels(name) or said == {"label"} or (first is not None and says(first))
            kinds[name] = "label" if named else "image"
        else:
            kinds[name] = "label" if name in chosen else "image"
        if name in chosen and kinds[name] != "label":
            raise AlignmentError(
                f"collection {name!r}", expected="the kind it was created with, image", got="labels="
            )
    names = {c: dict(labels[c]) for c in chosen if labels[c]} if isinstance(labels, Mapping) else {}
    return kinds, names


def backend_name(
    chosen: str | None, location: Location, base: Snapshot | None, *, copy: bool = True,
    deidentify: bool = False,
) -> str:  # fmt: skip
    """The backend of the new volumes: the caller's, else the study's, else the one that suits the place.

    `ConfigError` for what cannot be together: files that stay as they are, and headers to be blanked.
    """
    if not copy:
        if deidentify:
            raise ConfigError(
                "copy=False", expected="deidentify=False", got="deidentify=True",
                hint="Files that stay where they lie keep what they say of people. Pass copy=True.",
            )  # fmt: skip
        if chosen not in (None, IN_PLACE):
            raise ConfigError("copy=False", expected=f"backend={IN_PLACE!r} or none", got=repr(chosen))
        return IN_PLACE
    if chosen == IN_PLACE:
        raise ConfigError(f"backend={IN_PLACE!r}", expected="copy=False", got="copy=True")
    if chosen is None and base is not None and base.commit.collections:
        held = [c.backend for c in base.commit.collections if c.backend != IN_PLACE]
        return held[0] if held else backend_for(None, location)
    return backend_for(chosen, location)


def check_alignment(sources: Sequence[Source]) -> None:
    """Raise `AlignmentError` unless every collection has the same subjects."""
    groups: dict[str, set[str]] = {}
    for source in sources:
        groups.setdefault(source.collection, set()).add(source.obs_subject_id)
    (first, expected), *others = groups.items()
    for name, subjects in others:
        if subjects != expected:
            only = {first: sorted(expected - subjects)[:5], name: sorted(subjects - expected)[:5]}
            raise AlignmentError(
                f"collections {first!r} and {name!r}",
                expected="the same subjects in both",
                got="; ".join(f"only in {k!r}: {v}" for k, v in only.items() if v),
                hint="Add what is missing, or leave validate_alignment out.",
            )


def plan_hash(sources: Sequence[Source], settings: Settings) -> str:
    """Equal for two runs that would write the same volumes from unchanged sources."""
    # repr of frozen values and plain dicts; a volume written with other settings must not be taken over
    digest = hashlib.sha256(repr(asdict(settings)).encode())
    for s in sources:
        where = os.path.abspath(s.item) if isinstance(s.item, str) and "://" not in s.item else s.name
        where = s.item.identity if isinstance(s.item, Readable) else where
        digest.update(f"{s.collection}\0{s.obs_id}\0{where}\0".encode())
    return digest.hexdigest()
