"""FileSource: a NIfTI file of a layout, with what the layout says of it besides the file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from radiobject.errors import SourceError, SourceUnsupportedError
from radiobject.format.meta import Label, VolumeMeta
from radiobject.ingest.nifti import read_nifti
from radiobject.ingest.registering import channel_in_place, nifti_in_place
from radiobject.ingest.sources import Readable, file_states
from radiobject.ingest.unreadable import without_folders
from radiobject.writing.in_place import InPlace, digest_with
from radiobject.writing.loaded import Axis4, Loaded

__all__ = ["MOST_ATTACHED", "FileSource"]

MOST_ATTACHED = 16 * 2**20
"""Most bytes of a file that is kept beside a volume."""


@dataclass(frozen=True)
class FileSource(Readable):
    """One NIfTI file, or one `channel` of it, with names of its labels and files to keep beside the voxels.

    A file without a channel keeps its header, so that an export gives it back; a channel is a part of a
    file, and does not.
    """

    path: str
    channel: int | None = None
    labels: tuple[Label, ...] = ()
    attachments: tuple[tuple[str, str], ...] = ()
    axis4: Axis4 = "auto"

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.path if self.channel is None else f"{self.path}, channel {self.channel}"

    @property
    def fingerprint(self) -> str | None:
        """Tells whether one of its files changed between two runs, or what the layout says of them."""
        names = [name for name, _ in self.attachments]
        return file_states(self._paths(), repr((self.channel, self.axis4, self.labels, names)))

    def private(self, text: str) -> str:
        """The text with names of files, without the folders that they are in."""
        return without_folders(text, self._paths())

    @property
    def paths(self) -> tuple[str, ...]:
        """The file that voxels lie in."""
        return (self.path,)

    def in_place(self, relative: Callable[[str], str]) -> InPlace:
        """Leave it where it lies; files beside it are kept in the study, as ever."""
        axis4 = "channel" if self.channel is not None else self.axis4
        found = nifti_in_place(self.path, relative, axis4)
        if self.channel is not None:
            self._require_channel(found.meta, found.shape)
            found = channel_in_place(found, self.channel, _channel_meta(found.meta))
        extras = {**found.extras, **{name: self._attached(path) for name, path in self.attachments}}
        named = (*found.meta.source.extras, *(name for name, _ in self.attachments))
        source = replace(found.meta.source, extras=named)
        meta = replace(found.meta, labels=self.labels or found.meta.labels, source=source)
        return replace(found, meta=meta, extras=extras, layout_sha256=self._layout_sha256(extras))

    def load(self) -> Loaded:
        """Read it. Raises from the `SourceError` branch."""
        image = read_nifti(self.path, axis4="channel" if self.channel is not None else self.axis4)
        meta, voxels = image.meta("label"), image.voxels
        extras = {"nifti": image.header, "nifti_lead": image.lead, "nifti_tail": image.tail}
        if self.channel is not None:
            self._require_channel(meta, voxels.shape)
            meta, voxels, extras = _channel_meta(meta), np.ascontiguousarray(voxels[self.channel]), {}
        extras = {name: data for name, data in extras.items() if data}
        extras |= {name: self._attached(path) for name, path in self.attachments}
        source = replace(meta.source, extras=tuple(extras))
        meta = replace(meta, labels=self.labels or meta.labels, source=source)
        digest = digest_with(image.digest, self._layout_sha256(extras))
        former = self._former_digest(image.digest, meta, extras)
        return Loaded(voxels, meta, extras, digest, former_digest=former)

    def _former_digest(self, digest: str, meta: VolumeMeta, extras: Mapping[str, bytes]) -> str:
        """That of studies made before 28 November 2026, which an update is to leave as they are."""
        former = hashlib.sha256(f"{digest}{self.channel}{meta.labels}".encode())
        for name, _ in self.attachments:
            former.update(extras[name])
        return former.hexdigest()

    def _layout_sha256(self, extras: Mapping[str, bytes]) -> str | None:
        """Of all that is said besides the file, with the bytes of the attachments; None for nothing."""
        if self.channel is None and not self.labels and not self.attachments:
            return None
        labels = [(label.value, label.name, label.rgba) for label in self.labels]
        digest = hashlib.sha256(repr((self.channel, labels)).encode())
        for name, _ in self.attachments:
            digest.update(f"{name}\0{len(extras[name])}\0".encode())
            digest.update(extras[name])
        return digest.hexdigest()

    def _require_channel(self, meta: VolumeMeta, shape: tuple[int, ...]) -> None:
        if meta.dims[0] != "c" or self.channel is None or self.channel >= shape[0]:
            raise SourceUnsupportedError(
                self.path, expected=f"channel {self.channel}", got=f"axes {meta.dims} of {shape}"
            )

    def _paths(self) -> tuple[str, ...]:
        return (self.path, *(path for _, path in self.attachments))

    def _attached(self, path: str) -> bytes:
        try:
            with open(path, "rb") as file:
                data = file.read(MOST_ATTACHED + 1)
        except OSError as error:
            raise SourceError(
                path, expected="a readable file", got=f"{type(error).__name__}: {error}"
            ) from error
        if len(data) > MOST_ATTACHED:
            raise SourceUnsupportedError(path, expected=f"at most {MOST_ATTACHED:,} bytes", got="more")
        return data


def _channel_meta(meta: VolumeMeta) -> VolumeMeta:
    """What is true of one channel of a file."""
    source = replace(meta.source, exact=False, file_axes=("x", "y", "z"), extras=())
    return replace(meta, dims=meta.dims[1:], source=source)
