"""Sidecars: the files of a BIDS data set that speak of an image, by the inheritance principle.

A file applies to an image when it lies in a folder of the image or above, up to the root of the data set, has
the right suffix, and all its entities are the image's too; in one folder there is to be one such file (BIDS,
common principles). So what is named as one image of a folder is, is that image's own, and those beside it do
not inherit it, whatever it says. Where several are left in one folder, all speak, and the one with most
entities wins.

pybids agrees on folders above and on what is no image's own. It lets an image inherit from its neighbour, and
where files of one folder contradict each other it takes the first by name. bids2table finds JSON files too,
but remembers folders and their content for the life of the process, and passes over JSON that it cannot read;
tables and gradients it does not look for.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from radiobject.errors import SourceUnsupportedError
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


_NONE = frozenset[str]()


class Sidecars:
    """All files of one data set that may apply to images.

    `within` is the folder that was scanned. A file that is a link out of it is not read: a data set from
    elsewhere could bring any file of this machine into a study so. Folders may be links, as those of subjects
    on several disks are: what lies in them is still named as BIDS says.
    """

    def __init__(self, within: str) -> None:
        self._within = os.path.join(os.path.realpath(within), "")
        self._files: dict[tuple[str, str, str], list[BidsFile]] = defaultdict(list)
        self._images: dict[tuple[str, str], list[Mapping[str, str]]] = defaultdict(list)
        self._contents: dict[str, dict[str, Any]] = {}

    def add(self, file: BidsFile) -> None:
        """Let it apply to what is asked from now on."""
        self._files[file.folder, file.suffix, file.extension].append(file)

    def add_image(self, image: BidsFile) -> None:
        """Let what is named as this image is be its own from now on."""
        self._images[image.folder, image.suffix].append(image.entities)

    def metadata(self, image: BidsFile) -> dict[str, Any]:
        """The keys of all JSON files that apply, those nearer to the image last, so that they win.

        Raises from the `SourceError` branch for one that cannot be read, or that lies elsewhere.
        """
        found: dict[str, Any] = {}
        for file in reversed(list(self._applying(image, image.suffix, ".json", _NONE))):
            if file.path not in self._contents:
                self._contents[file.path] = read_json(self._inside(file).path)
            found |= self._contents[file.path]
        return found

    def nearest(
        self, image: BidsFile, suffix: str, extension: str, shared: frozenset[str] = _NONE
    ) -> BidsFile | None:
        """The nearest file of that suffix and extension that applies.

        Images that differ in entities of `shared` alone have one file, as the echoes of a run have one table
        of events. Raises `SourceUnsupportedError` for a file that lies elsewhere.
        """
        file = next(self._applying(image, suffix, extension, shared), None)
        return None if file is None else self._inside(file)

    def _applying(
        self, image: BidsFile, suffix: str, extension: str, shared: frozenset[str]
    ) -> Iterator[BidsFile]:
        """Nearest first; in one folder, where BIDS allows one, the one that says most."""
        folder = image.folder
        while True:
            fitting = [
                file
                for file in self._files.get((folder, suffix, extension), ())
                if file.entities.items() <= image.entities.items()
                and (folder != image.folder or not self._is_anothers(file, image, shared))
            ]
            yield from sorted(fitting, key=lambda file: (-len(file.entities), file.stem))
            if not folder:
                return
            folder = folder.rpartition("/")[0]

    def _is_anothers(self, file: BidsFile, image: BidsFile, shared: frozenset[str]) -> bool:
        own = _but(file.entities, shared)
        beside = self._images.get((image.folder, image.suffix), ())
        return own != _but(image.entities, shared) and any(own == _but(one, shared) for one in beside)

    def _inside(self, file: BidsFile) -> BidsFile:
        place = os.path.realpath(file.path)
        if os.path.islink(file.path) and not place.startswith(self._within):
            raise SourceUnsupportedError(
                file.path, expected=f"a file in {self._within}", got=f"a link to {place}, outside of it",
                hint="Scan the folder that holds both, or put a copy in its place.",
            )  # fmt: skip
        return file


def _but(entities: Mapping[str, str], left_out: frozenset[str]) -> dict[str, str]:
    return {key: value for key, value in entities.items() if key not in left_out}
