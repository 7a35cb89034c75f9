"""Sidecars: the files of a BIDS data set that speak of an image, by the inheritance principle.

A file applies to an image when it lies in a folder of the image or above, up to the root of the data set, has
the right suffix, and all its entities are the image's too (BIDS, common principles). bids2table finds JSON
files so, but remembers folders and their content for the life of the process, and passes over JSON that it
cannot read; tables and gradients it does not look for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from radiobject.ingest.scanning.small_files import read_json

__all__ = ["BidsFile", "Sidecars"]


@dataclass(frozen=True)
class BidsFile:
    """A file of a data set. `folder` is relative to its root, with "/", empty for the root itself."""

    path: str
    folder: str
    stem: str
    entities: Mapping[str, str] = field(hash=False)
    suffix: str
    extension: str


class Sidecars:
    """All files of one data set that may apply to images."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, str, str], list[BidsFile]] = defaultdict(list)
        self._contents: dict[str, dict[str, Any]] = {}

    def add(self, file: BidsFile) -> None:
        """Let it apply to what is asked from now on."""
        self._files[file.folder, file.suffix, file.extension].append(file)

    def metadata(self, image: BidsFile) -> dict[str, Any]:
        """The keys of all JSON files that apply, those nearer to the image last, so that they win.

        Raises from the `SourceError` branch for one that cannot be read.
        """
        found: dict[str, Any] = {}
        for file in reversed(list(self._applying(image, image.suffix, ".json"))):
            if file.path not in self._contents:
                self._contents[file.path] = read_json(file.path)
            found |= self._contents[file.path]
        return found

    def nearest(self, image: BidsFile, suffix: str, extension: str) -> BidsFile | None:
        """The nearest file of that suffix and extension that applies."""
        return next(self._applying(image, suffix, extension), None)

    def _applying(self, image: BidsFile, suffix: str, extension: str) -> Iterator[BidsFile]:
        """Nearest first; in one folder, where BIDS allows one, the one that says most."""
        folder = image.folder
        while True:
            fitting = [
                file
                for file in self._files.get((folder, suffix, extension), ())
                if file.entities.items() <= image.entities.items()
            ]
            yield from sorted(fitting, key=lambda file: (-len(file.entities), file.stem))
            if not folder:
                return
            folder = folder.rpartition("/")[0]
