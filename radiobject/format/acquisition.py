"""Acquisition: what BIDS calls parts of a file's name and keys of its sidecar, and their columns in obs.

One table for both ways: ingest makes columns of sidecars, export makes sidecars of columns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["COLUMNS", "ENTITIES", "columns_of", "metadata_of"]

ENTITIES = (
    "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec", "dir", "run", "mod",
    "echo", "flip", "inv", "mt", "part", "proc", "hemi", "space", "split", "recording", "chunk", "atlas",
    "seg", "scale", "res", "den", "label", "desc",
)  # fmt: skip
"""Short names of entities in the order of a file's name, after `sub` and `ses` (BIDS 1.10, appendix IX)."""

_TEXTS = (
    "Manufacturer", "ManufacturersModelName", "SoftwareVersions", "Modality", "BodyPart", "SeriesDescription",
    "ProtocolName", "TaskName", "SequenceName", "PulseSequenceType", "ScanningSequence", "SequenceVariant",
    "ScanOptions", "MRAcquisitionType", "PhaseEncodingDirection", "SliceEncodingDirection",
    "ReceiveCoilName", "ContrastBolusIngredient", "ArterialSpinLabelingType", "TracerName",
    "TracerRadionuclide", "Units",
)  # fmt: skip
_INTEGERS = ("SeriesNumber", "AcquisitionNumber", "EchoTrainLength", "MultibandAccelerationFactor")
_FLOATS = (
    "MagneticFieldStrength", "ImagingFrequency", "RepetitionTime", "RepetitionTimeExcitation",
    "RepetitionTimePreparation", "EchoTime", "EchoTime1", "EchoTime2", "InversionTime", "FlipAngle",
    "EffectiveEchoSpacing", "TotalReadoutTime", "DwellTime", "PixelBandwidth", "SliceThickness",
    "SpacingBetweenSlices", "PartialFourier", "ParallelReductionFactorInPlane", "AcquisitionDuration",
    "DelayTime", "PostLabelingDelay", "LabelingDuration", "InjectedRadioactivity", "InjectedMass",
)  # fmt: skip
_RENAMED = {"ManufacturersModelName": "manufacturer_model_name"}  # DICOM's word for the same, without the s


def _column(key: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
    return _RENAMED.get(key, spaced.lower())


COLUMNS: dict[str, tuple[str, type]] = {
    _column(key): (key, kind)
    for keys, kind in ((_TEXTS, str), (_INTEGERS, int), (_FLOATS, float))
    for key in keys
}
"""Column of obs -> key of the sidecar, and type. Units are those of BIDS: seconds, degrees, tesla, mm."""

_INT64 = 2**63
_BY_KEY = {key: (column, kind) for column, (key, kind) in COLUMNS.items()}


def columns_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Columns for the keys of a sidecar: those of `COLUMNS` typed, all others as JSON text in `sidecar`.

    A value that its column's type does not hold, such as a list of flip angles, is kept in `sidecar` too.

    >>> columns_of({"EchoTime": 0.03, "FlipAngle": [2, 10], "TaskName": "rest", "Instructions": "none"})
    {'echo_time': 0.03, 'task_name': 'rest', 'sidecar': '{"FlipAngle": [2, 10], "Instructions": "none"}'}
    """
    columns: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for key, value in metadata.items():
        column, kind = _BY_KEY.get(key, ("", str))
        if column and _fits(value, kind):
            columns[column] = kind(value)
        else:
            rest[key] = value
    if rest:
        columns["sidecar"] = json.dumps(rest, ensure_ascii=False)
    return columns


def _fits(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float if kind is float else kind):
        return False
    # a float holds whole numbers of up to 53 bits
    return not isinstance(value, int) or (abs(value) < _INT64 and kind(value) == value)


def metadata_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The sidecar of a row of obs: the inverse of `columns_of`. Columns that are not of a sidecar are left.

    >>> metadata_of({"echo_time": 0.03, "task": "rest", "sidecar": '{"Instructions": "none"}'})
    {'EchoTime': 0.03, 'Instructions': 'none'}
    """
    found = {key: row[column] for column, (key, _) in COLUMNS.items() if row.get(column) is not None}
    return found | dict(json.loads(row.get("sidecar") or "{}"))
