"""Deidentifier: what takes the place of ids, UIDs and dates; the same for the same key, everywhere."""

from __future__ import annotations

import datetime
import json
import os
import re
import uuid
from collections.abc import Iterable
from typing import Any, TypeVar

from radiobject.errors import ConfigError, MetadataError, UnknownIdError
from radiobject.ingest.deidentify.crosswalk import plain_id, read_crosswalk
from radiobject.ingest.deidentify.key import DeidKey, find_key
from radiobject.ingest.deidentify.keywords import known_keywords

__all__ = ["Deidentifier", "pseudonym"]

Day = TypeVar("Day", datetime.date, datetime.datetime)

_LEAST_DAYS, _MOST_DAYS = 365, 3650
_WELL_KNOWN_FRAME = re.compile(r"1\.2\.840\.10008\.1\.4\.\d\.\d{1,2}")
"""Spaces of atlases, such as Talairach's (PS3.6 table A-2): the same for everybody, so never replaced."""


class Deidentifier:
    """Pseudonyms and shifted dates for one key. Immutable; shows neither the key nor an id.

    `keep_phi`: keywords of DICOM (or their columns) that the caller wants kept as they are. `deid_map`: the
    caller's own names for subjects, a mapping from patient id or a table of two columns (`read_crosswalk`).

    A pickle holds the key and the map: it may go to worker processes of this machine, and nowhere else.

    >>> deid = Deidentifier(DeidKey(bytes(32)))
    >>> deid
    Deidentifier(key=DeidKey(id='cbd9cb908d55aefd'), keep_phi=(), deid_map=None)
    >>> deid.subject("12345")
    'sub-3ttkmy3k25fz'
    >>> visits = [deid.shifted("12345", datetime.date(2021, 3, day)) for day in (1, 31)]
    >>> str(visits[1] - visits[0])
    '30 days, 0:00:00'
    """

    __slots__ = ("_keep_phi", "_key", "_map")

    def __init__(self, key: DeidKey, *, keep_phi: str | Iterable[str] = (), deid_map: Any = None) -> None:
        self._key = key
        self._keep_phi = known_keywords(keep_phi)
        self._map = None if deid_map is None else read_crosswalk(deid_map)

    @property
    def key(self) -> DeidKey:
        """The key; its `id` is what a study may hold."""
        return self._key

    @property
    def keep_phi(self) -> tuple[str, ...]:
        """Keywords of the attributes that are kept as they are."""
        return self._keep_phi

    @property
    def fingerprint(self) -> str:
        """Equal for two that do the same; for the hash of a plan. Leads back to none of it."""
        said = [self._keep_phi, None if self._map is None else sorted(self._map.items())]
        return self._key.digest("deidentifier", json.dumps(said)).hex()

    def subject(self, patient_id: str) -> str:
        """The `obs_subject_id` of a patient: the crosswalk's, else `sub-` and 12 letters and digits.

        Raises `UnknownIdError` for a patient that is not in the crosswalk, `MetadataError` for an empty id.
        """
        plain = plain_id(patient_id, "patient id")
        if self._map is None:
            return f"sub-{self._key.code('subject', plain)}"
        if plain not in self._map:
            raise UnknownIdError(
                f"patient {plain!r}",
                expected=f"one of the {len(self._map)} ids in the crosswalk (deid_map=)",
                hint="Add the patient to it, or leave these files out.",
            )
        return self._map[plain]

    def uid(self, uid: str) -> str:
        """The UID that stands for this one: 2.25. and the number of a UUID (PS3.5 B.2, RFC 9562 version 8).

        Frames of reference that the standard itself defines stay: they name an atlas, not a scan.
        """
        plain = plain_id(uid, "UID")
        if _WELL_KNOWN_FRAME.fullmatch(plain):
            return plain
        number = int.from_bytes(self._key.digest("uid", plain)[:16])
        number = number & ~(0xF << 76) & ~(0b11 << 62) | 8 << 76 | 0b10 << 62
        return f"2.25.{uuid.UUID(int=number).int}"

    def code(self, label: str, text: str) -> str:
        """A pseudonym for any other text: `<label>-` and 12 letters and digits, unlike for another label."""
        if not re.fullmatch(r"[A-Za-z0-9]+", label):
            raise ConfigError("label of a pseudonym", expected="letters and digits", got=repr(label))
        return f"{label}-{self._key.code(f'code {label}', text)}"

    def shifted(self, patient_id: str, day: Day) -> Day:
        """`shifted_of` the subject that the patient is. Raises what `subject` and it raise."""
        return self.shifted_of(self.subject(patient_id), day)

    def shifted_of(self, obs_subject_id: str, day: Day) -> Day:
        """A date or time of a subject, a year to ten years earlier: by as many whole days for all of a
        subject's, so that the days between them, and the time of day, stay.

        It is the subject that counts, not the patient id: records that a crosswalk merges keep their
        distance. Raises `MetadataError` for a date that nothing is that long before.
        """
        number = int.from_bytes(self._key.digest("shift", obs_subject_id)[:8])
        days = _LEAST_DAYS + number % (_MOST_DAYS - _LEAST_DAYS + 1)
        try:
            return day - datetime.timedelta(days=days)
        except OverflowError as error:
            raise MetadataError("a date to shift", expected="one after the year 10", got=str(day)) from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Deidentifier) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        count = None if self._map is None else f"<{len(self._map)} ids>"
        return f"Deidentifier(key={self._key!r}, keep_phi={self._keep_phi!r}, deid_map={count})"


def pseudonym(
    id: str,  # noqa: A002 - what a user calls it
    deid_key: str | bytes | os.PathLike[str] | None = None,
) -> str:
    """The `obs_subject_id` that ingest gives to this patient id, for tables that have the id.

    `deid_key` is the one given to ingest; without it the environment and the user's key file are asked, as
    ingest does. Raises `ConfigError` for what is no key, `MetadataError` for an id that is no text.

    >>> key = "00" * 32  # an example; a real one is random
    >>> pseudonym("12345", key)
    'sub-3ttkmy3k25fz'

    With pandas: `table["obs_subject_id"] = table["patient_id"].map(radiobject.pseudonym)`.
    """
    return Deidentifier(find_key(deid_key)).subject(id)
