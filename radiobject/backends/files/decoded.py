"""Decoded: volumes that cannot be read in part, kept in memory once they are decoded."""

from __future__ import annotations

import threading
from collections import OrderedDict

from radiobject.backends.files.changed import SourceFiles
from radiobject.backends.files.reading import Decoded, decode
from radiobject.backends.files.source import Whole
from radiobject.forking import renew_on_fork
from radiobject.key_locks import KeyLocks

__all__ = ["KEPT", "DecodedVolumes", "kept"]

KEPT = 512 * 2**20
"""Bytes of decoded volumes that a process keeps; the last one stays, however large it is."""


_Key = tuple[tuple[str, bytes], Whole]


class DecodedVolumes:
    """Decoded volumes in the memory of this process, the latest used at most `bytes` of them.

    A volume is decoded once, however many threads ask for it. A forked child shares what is there.
    """

    def __init__(self, bytes: int = KEPT) -> None:  # noqa: A002 - the word for it
        self.bytes = bytes
        self._kept: OrderedDict[_Key, Decoded] = OrderedDict()
        self.renew()
        renew_on_fork(self)

    def renew(self) -> None:
        """Make the locks anew, in a forked child."""
        self._lock, self._making = threading.Lock(), KeyLocks()

    def get(self, files: SourceFiles, source: Whole, where: str) -> Decoded:
        """The volume, read-only, of files that are still the registered ones; see `SourceFiles.require`."""
        key = (files.root.identity, source)
        found = self._found(key)
        if found is None:
            with self._making(f"{files.root.uri}\0{source.members[0].path}"):
                found = self._found(key)
                if found is None:
                    return self._keep(key, decode(files, source, where))
        files.require(source.members)
        return found

    def _found(self, key: _Key) -> Decoded | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def _keep(self, key: _Key, made: Decoded) -> Decoded:
        made.voxels.flags.writeable = False
        with self._lock:
            self._kept[key] = made
            used = sum(one.voxels.nbytes for one in self._kept.values())
            while used > self.bytes and len(self._kept) > 1:
                used -= self._kept.popitem(last=False)[1].voxels.nbytes
        return made

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._kept.clear()


kept = DecodedVolumes()
"""Those of this process."""
