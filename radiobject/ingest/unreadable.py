"""Unreadable: what was looked for and makes no volume, as a source that says why when it is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from radiobject.errors import SourceError
from radiobject.ingest.sources import Readable
from radiobject.writing.in_place import InPlace
from radiobject.writing.loaded import Loaded

__all__ = ["Unreadable", "without_folders", "without_paths"]


@dataclass(frozen=True)
class Unreadable(Readable):
    """Files that make no volume: reading it raises the reason."""

    path: str
    error: SourceError
    of: str = ""
    """What it would be, were it readable: its `identity`."""

    others: tuple[str, ...] = ()
    """Further files that the error names."""

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.path

    @property
    def fingerprint(self) -> str | None:
        """None: it is tried again each time."""
        return None

    @property
    def identity(self) -> str:
        """That of the volume that it would be."""
        return self.of or self.path

    def private(self, text: str) -> str:
        """An error's text without paths."""
        return without_paths(text, [self.path, *self.others])

    def load(self) -> Loaded:
        """Raises the reason."""
        raise self.error

    def in_place(self, relative: Callable[[str], str]) -> InPlace:
        """Raises the reason."""
        raise self.error


def without_paths(text: str, paths: Sequence[str]) -> str:
    """A text in which folders and names of files, which may name people, are only called so."""
    words = dict.fromkeys(paths, "a file") | {os.path.dirname(path): "a folder" for path in paths}
    for shown in sorted(words, key=len, reverse=True):
        if len(shown) > 1:
            text = text.replace(shown, words[shown])
    return without_folders(text, paths, "a folder/")


def without_folders(text: str, paths: Iterable[str], word: str = "") -> str:
    """A text in which the files keep their names, and lose the folders that these paths are in.

    Every folder above them counts: a sidecar that is inherited lies further up.
    """
    above = {str(folder) + os.sep for path in paths for folder in PurePath(path).parents}
    for shown in sorted(above - {os.sep * 2, "." + os.sep}, key=len, reverse=True):
        text = text.replace(shown, word)
    return text
