"""PartFile: a part of a table as a file that the Parquet reader takes, its footer read and checked before."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from radiobject.errors import CorruptObjectError, RadiObjectError
from radiobject.storage import Storage

__all__ = ["PartFile", "open_parquet", "parquet_of"]


class PartFile(io.RawIOBase):
    """A part as a read-only file over the storage door; its tail, the footer verified, is in memory."""

    def __init__(self, storage: Storage, path: str, size: int, tail: bytes) -> None:
        super().__init__()
        self._storage, self._path, self._size, self._tail, self._at = storage, path, size, tail, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size
        stop = end if size is None or size < 0 else min(self._at + size, end)
        start, self._at = self._at, max(stop, self._at)
        if start >= stop:
            return b""
        border = end - len(self._tail)
        if start >= border:
            return self._tail[start - border : stop - border]
        return self._storage.read_range(self._path, start, stop)


def open_parquet(file: PartFile, where: str) -> pq.ParquetFile:
    """The reader of a part. `CorruptObjectError` for a footer that it does not understand."""
    try:
        return _guarded(pa.PythonFile(file, mode="r"), pre_buffer=True)
    except RadiObjectError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        # a name that is no UTF-8 is a ValueError
        raise CorruptObjectError(where, expected="a Parquet file", got=str(error)[:300]) from error


def parquet_of(data: bytes) -> pq.ParquetFile:
    """The reader of a Parquet file in memory, with the guards of `open_parquet`; raises what Arrow raises."""
    return _guarded(pa.BufferReader(data))


def _guarded(source: pa.NativeFile, **options: Any) -> pq.ParquetFile:
    # no type of somebody's own, which its maker could have Arrow build from the file
    return pq.ParquetFile(source, page_checksum_verification=True, arrow_extensions_enabled=False, **options)
