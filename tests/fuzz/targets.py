"""What is attacked, by name."""

from __future__ import annotations

from tests.fuzz.study_targets import Commits, ForegroundIndexes, Rows, TableParts
from tests.fuzz.text_targets import Filters, NiftiFiles
from tests.fuzz.volume_targets import ForeignZarr, TileDBVolumes, ZarrVolumes

__all__ = ["TARGETS"]

TARGETS = {
    "commits": Commits,
    "tables": TableParts,
    "rows": Rows,
    "indexes": ForegroundIndexes,
    "zarr": ZarrVolumes,
    "foreign": ForeignZarr,
    "tiledb": TileDBVolumes,
    "filters": Filters,
    "nifti": NiftiFiles,
}
