"""Columns: which columns of their tables come along. What we compute ourselves is compared, then left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from radiobject.errors import DuplicateIdError
from radiobject.format.schema import OBS_SCHEMA
from radiobject.ingest.upstream.findings import Finding
from radiobject.ingest.upstream.volume import UpstreamVolume, affine_of, numbers_of

__all__ = ["subject_columns", "volume_columns"]

_KEYS = ("obs_subject_id", "obs_id")
_OWN = ("session", "run", "acquisition_time")
"""Columns of ours that a caller may fill."""

_DATATYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_SPATIAL = {0: "unknown", 1: "m", 2: "mm", 3: "um"}


def volume_columns(
    collection: str, obs: pa.Table, volumes: Sequence[UpstreamVolume], ids: Sequence[str]
) -> tuple[pa.Table, list[Finding]]:
    """The columns to keep of the rows `obs`, which are those of `volumes`, keyed by their ids here.

    A column that only says what the volumes themselves say is left out. One that disagrees is kept as
    `upstream_<name>`, beside the column or alias of ours that is computed from the volumes.
    """
    dicom = "modality" in obs.schema.names and "datatype" not in obs.schema.names
    kept: dict[str, pa.Array] = {"obs_id": pa.array(list(ids), pa.string())}
    findings: list[Finding] = []
    for name in [n for n in obs.schema.names if n not in _KEYS]:
        values = obs[name].combine_chunks()
        check = _CHECKS.get(name)
        if check is not None:
            rows = zip(volumes, values.to_pylist(), strict=True)
            wrong = [
                n for n, (volume, value) in enumerate(rows) if not check(volume, value, collection, dicom)
            ]
            if not wrong:
                continue
            new = name if name == "orientation_source" else _free(name, [*obs.schema.names, *kept])
            findings += _disagreements(collection, name, new, values, volumes, ids, wrong)
        else:
            new = _allowed(name, values, [*obs.schema.names, *kept])
            if new != name:
                text = f"column {name!r} of obs is {new!r} here, where that name is taken"
                findings.append(Finding("repaired", "column name", text, collection))
        kept[new] = values
    return pa.table(kept), findings


def subject_columns(obs_meta: pa.Table | None, used: Sequence[str]) -> tuple[pa.Table, list[Finding]]:
    """A row for each subject, without `obs_ids` and 0.1.1's second key, which repeats the subject's id."""
    findings: list[Finding] = []
    table = pa.table({"obs_subject_id": pa.array([], pa.string())}) if obs_meta is None else obs_meta
    subjects = table["obs_subject_id"].to_pylist()
    first = {subject: n for n, subject in reversed(list(enumerate(subjects)))}
    for n, subject in enumerate(subjects):
        if first[subject] != n:
            text = "has several rows in obs_meta; the first one is taken"
            findings.append(Finding("failed", DuplicateIdError.__name__, text, obs_subject_id=subject))
    if "obs_id" in table.schema.names:
        given = zip(subjects, table["obs_id"].to_pylist(), strict=True)
        if other := [s for s, i in given if i != s]:
            text = f"obs_id of obs_meta is left out, though it is not the subject's id for {len(other)} rows"
            findings.append(Finding("noted", "column", f"{text}, first {other[0]!r}"))
    table = table.take(pa.array(sorted(first.values()), pa.int64()))
    columns = {}
    for name in [n for n in table.schema.names if n not in ("obs_id", "obs_ids")]:
        new = _free(name, table.schema.names) if name.startswith("_") else name
        if new != name:
            findings.append(
                Finding("repaired", "column name", f"column {name!r} of obs_meta is {new!r} here")
            )
        columns[new] = table[name]
    table = pa.table(columns)
    missing = [s for s in dict.fromkeys(used) if s not in first]
    if missing and obs_meta is not None:
        text = "has volumes and no row in obs_meta; has one here, with nothing but its id"
        findings += [Finding("repaired", "subject", text, obs_subject_id=s) for s in missing]
    if missing:
        more = pa.table({"obs_subject_id": pa.array(missing, pa.string())})
        table = pa.concat_tables([table, more], promote_options="default")
    return table, findings


def _disagreements(
    collection: str,
    name: str,
    new: str,
    values: pa.Array,
    volumes: Sequence[UpstreamVolume],
    ids: Sequence[str],
    wrong: Sequence[int],
) -> list[Finding]:
    if name in ("bitpix", "orientation_source"):
        return []  # the first goes with datatype; the second is news for DICOM, not a contradiction
    if name in ("dimensions", "datatype"):
        return [
            Finding(
                "noted", *_of_one(name, values[n].as_py(), volumes[n]), collection,
                volumes[n].obs_subject_id, ids[n],
            )
            for n in wrong
        ]  # fmt: skip
    text = (
        f"{name} of obs differs from what the volumes say for {len(wrong)} of {len(ids)}, such as "
        f"{values[wrong[0]].as_py()!r} for {ids[wrong[0]]!r}; it is kept as {new!r}"
    )
    return [Finding("noted", "column", text, collection)]


def _of_one(name: str, value: Any, volume: UpstreamVolume) -> tuple[str, str]:
    if name == "dimensions":
        return "shape", f"obs says {value}, the array is {volume.shape}; the array was taken"
    source = np.dtype(_DATATYPES[value]).name if value in _DATATYPES else f"datatype {value}"
    return "scaled", (
        f"the source held {source}, the array holds {volume.dtype}: values that were scaled or changed "
        "there. They come in as they are; what the source held is lost"
    )


_Check = Callable[[UpstreamVolume, Any, str, bool], bool]
"""Whether a value says what the volume says; then come the collection, and whether it is of DICOM."""


def _spacing(volume: UpstreamVolume, value: Any, _collection: str, dicom: bool) -> bool:
    said = numbers_of(value)
    return said is not None and np.allclose(_in_order(said, dicom), volume.meta.affine.spacing, rtol=1e-4)


def _dimensions(volume: UpstreamVolume, value: Any, _collection: str, dicom: bool) -> bool:
    said = numbers_of(value)
    return said is not None and _in_order(said, dicom) == volume.shape[: len(said)]


def _in_order(numbers: tuple[float, ...], dicom: bool) -> tuple[float, ...]:
    """Along x, y, z; of DICOM that package wrote rows before columns, and their distances likewise."""
    return (numbers[1], numbers[0], *numbers[2:]) if dicom and len(numbers) > 1 else numbers


def _affine(volume: UpstreamVolume, value: Any, _collection: str, _dicom: bool) -> bool:
    said = affine_of(value)
    return said is not None and np.allclose(said.matrix, volume.meta.affine.matrix, atol=1e-3)


def _datatype(volume: UpstreamVolume, value: Any) -> bool:
    return _DATATYPES.get(value) == volume.dtype.str[1:]


def _orientation(volume: UpstreamVolume, value: Any, _collection: str, _dicom: bool) -> bool:
    if volume.header is None:
        return False
    for field, word in (("sform_code", "nifti_sform"), ("qform_code", "nifti_qform")):
        if volume.fields.get(field, 0) > 0:
            return bool(value == word)
    return bool(value == "identity")


def _field(name: str, *none: float) -> _Check:
    """A header field of that name; a value of `none` says nothing."""

    def check(volume: UpstreamVolume, value: Any, _collection: str, _dicom: bool) -> bool:
        return value is None or value in none or value == volume.fields.get(name)

    return check


_CHECKS: dict[str, _Check] = {
    "series_type": lambda _volume, value, collection, _dicom: bool(value == collection),
    "voxel_spacing": _spacing,
    "dimensions": _dimensions,
    "datatype": lambda volume, value, _collection, _dicom: _datatype(volume, value),
    "bitpix": lambda volume, value, _collection, _dicom: bool(value == volume.dtype.itemsize * 8),
    "scl_slope": lambda _volume, value, _collection, _dicom: value is None or value in (0.0, 1.0),
    "scl_inter": lambda _volume, value, _collection, _dicom: value is None or value == 0.0,
    "xyzt_units": _field("xyzt_units"),
    "spatial_units": lambda volume, value, _collection, _dicom: (
        value == _SPATIAL.get(int(volume.fields.get("xyzt_units", 0)) & 7, "unknown")
    ),
    "qform_code": _field("qform_code"),
    "sform_code": _field("sform_code"),
    "axcodes": lambda volume, value, _collection, _dicom: value == "".join(volume.meta.affine.axcodes),
    "affine_json": _affine,
    "orientation_source": _orientation,
}


def _allowed(name: str, values: pa.Array, taken: Sequence[str]) -> str:
    """The name itself, or another for a column whose name is the engine's."""
    if name in _OWN:
        try:
            values.cast(OBS_SCHEMA.field(name).type)
            return name
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return _free(name, taken)
    if name.startswith("_") or name == "obs_ids" or name in OBS_SCHEMA.names:
        return _free(name, taken)
    return name


def _free(name: str, taken: Sequence[str]) -> str:
    new, number = f"upstream_{name.lstrip('_')}", 0
    while new in taken:
        number += 1
        new = f"upstream_{name.lstrip('_')}_{number}"
    return new
