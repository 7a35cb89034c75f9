"""Header: the texts of a NIfTI header blanked, its extensions dropped."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

from radiobject.writing.loaded import Loaded

__all__ = ["blank_nifti"]

# (start, stop) of the character fields of each header: nifti1.h and nifti2.h of the NIfTI-1 and -2 standards.
_TEXT_1 = {
    "data_type": (4, 14),
    "db_name": (14, 32),
    "descrip": (148, 228),
    "aux_file": (228, 252),
    "intent_name": (328, 344),
}
_TEXT_2 = {"descrip": (240, 320), "aux_file": (320, 344), "intent_name": (508, 524), "unused_str": (525, 540)}
_NIFTI = ("nifti", "nifti_lead", "nifti_tail")
_NO_EXTENSION = bytes(4)


def blank_nifti(loaded: Loaded) -> Loaded:
    """The volume with no free text left in its header: for `deidentify=True` of NIfTI files.

    Blanked are descrip, aux_file, db_name, intent_name, and what is unused (data_type of NIfTI-1, unused_str
    of NIfTI-2). Extensions go, and whatever bytes lay before or after the voxels. Numbers stay: geometry,
    codes (intent_code among them), scaling, units. So do names of labels that an extension held, because they
    are in `meta.labels` by now. The export is no longer the source byte for byte: `meta.source.exact` is
    False, and `digest` is that of what is left.

    Voxels are untouched: this does not deface. A volume without a NIfTI header comes back as it is.
    """
    header = loaded.extras.get("nifti")
    if header is None:
        return loaded
    blank = _blank(header, loaded.meta.source.byteorder)
    extras = {"nifti": blank, **{n: data for n, data in loaded.extras.items() if n not in _NIFTI}}
    source = replace(loaded.meta.source, exact=False, extras=tuple(extras))
    digest = hashlib.sha256(blank)
    digest.update(loaded.voxels.tobytes())
    return replace(loaded, meta=replace(loaded.meta, source=source), extras=extras, digest=digest.hexdigest())


def _blank(header: bytes, order: str) -> bytes:
    """The fixed part of a header with its texts zero, and the 4 bytes that say there is no extension."""
    second = header[4:7] in (b"n+2", b"ni2")
    size, texts = (540, _TEXT_2) if second else (348, _TEXT_1)
    fixed = bytearray(header[:size])
    for start, stop in texts.values():
        fixed[start:stop] = bytes(stop - start)
    single = fixed[5:6] == b"+" if second else fixed[345:346] == b"+"
    offset = size + len(_NO_EXTENSION) if single else 0
    if second:
        struct.pack_into(f"{order}q", fixed, 168, offset)
    else:
        struct.pack_into(f"{order}f", fixed, 108, offset)
    return bytes(fixed) + _NO_EXTENSION
