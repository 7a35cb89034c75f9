"""Two distributions bring a package named `radiobject`; pip lets one overwrite the other without a word."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["refuse_other_distribution"]


def refuse_other_distribution() -> None:
    """Raise ImportError with the two pip lines when the TileDB-only distribution is installed as well."""
    try:
        found = version("radiobject")
    except PackageNotFoundError:
        return
    raise ImportError(
        f"two packages named radiobject are installed: 'radiobject' {found} (TileDB only) and "
        "'radiobject-zarr' (this one). Files of one overwrite files of the other. Keep one:\n"
        "    pip uninstall -y radiobject radiobject-zarr\n"
        "    pip install radiobject-zarr"
    )
