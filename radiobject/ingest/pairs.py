"""Pairs: images of a folder with the labels that have the same file names in another."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from radiobject.errors import SourceNotFoundError
from radiobject.ingest.sources import resolve

__all__ = ["NiftiSource", "discover_nifti_pairs"]


@dataclass(frozen=True)
class NiftiSource:
    """An image file, its subject, and its label file where there is one."""

    image_path: Path
    subject_id: str
    label_path: Path | None = None

    @property
    def has_label(self) -> bool:
        """Whether there is a label file."""
        return self.label_path is not None


def discover_nifti_pairs(
    image_dir: str | os.PathLike[str],
    label_dir: str | os.PathLike[str] | None = None,
    pattern: str = "*.nii.gz",
    subject_id_fn: Callable[[Path], str] | None = None,
) -> list[NiftiSource]:
    """The images of a folder that fit `pattern`, in natural order, with the labels of the same file names.

    The subject is what `from_niftis` takes from the file name, or what `subject_id_fn` makes of the path.
    Raises `SourceNotFoundError` for a folder that is not there or has none.

    `RadiObject.from_niftis(uri, {"CT": [(p.image_path, p.subject_id) for p in pairs], ...})` ingests them.
    """
    labels = None if label_dir is None else Path(label_dir)
    if labels is not None and not labels.is_dir():
        raise SourceNotFoundError(str(labels), expected="a folder of labels", got="none")
    found = []
    for source in resolve({"image": os.path.join(os.fspath(image_dir), pattern)}, None):
        image = Path(source.item)
        label = None if labels is None else labels / image.name
        subject = source.obs_subject_id if subject_id_fn is None else subject_id_fn(image)
        found.append(NiftiSource(image, subject, label if label is not None and label.is_file() else None))
    return found
