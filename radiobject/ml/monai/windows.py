"""Windows: MONAI's sliding-window inference on volumes that are read window by window, never whole."""

from __future__ import annotations

import contextvars
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices, get_valid_patch_size

# MONAI has no public name for it, and a copy of ours could come to differ
from monai.inferers.utils import _get_scan_interval
from monai.utils.misc import fall_back_tuple

from radiobject.errors import AlignmentError, ConfigError
from radiobject.frozen import is_whole
from radiobject.geometry.box import Box
from radiobject.ml.blocks import read_frames
from radiobject.ml.lazy_tensor import refuse_other_grids
from radiobject.model.volume import Volume

__all__ = ["Post", "Predictor", "Source", "Windows", "mapped", "rows_of", "sliding_window"]

Post = Callable[[torch.Tensor], Any]
Predictor = Callable[[torch.Tensor], Any]

_READERS = 4
"""Windows that are read at a time, while the network works on those before."""


def sliding_window(
    volumes: Volume | Sequence[Volume],
    predictor: Predictor,
    roi_size: int | Sequence[int],
    sw_batch_size: int = 1,
    *,
    overlap: float | Sequence[float] = 0.25,
    mode: str = "constant",
    sigma_scale: float | Sequence[float] = 0.125,
    cval: float = 0.0,
    sw_device: torch.device | str = "cpu",
    device: torch.device | str = "cpu",
    post: Post | None = None,
    out: str | os.PathLike[str] | None = None,
) -> npt.NDArray[Any]:
    """What `monai.inferers.sliding_window_inference` gives of the whole volume, equal to the last bit.

    `volumes` is a Volume, stored, turned or resampled, or several on one grid that become channels; they are
    read as float32, window by window, a batch ahead of the network. Memory holds these windows and, for the
    rows (x) that one window spans, the sums and weights of what the network gave: its channels + 1 floats a
    voxel. MONAI adds windows up in that order too, which is why the sums are the same.

    `post` takes finished rows, a tensor (C, rows, Y, Z) on `device`, and returns (rows, Y, Z) or
    (K, rows, Y, Z), computed voxel by voxel; MONAI's `AsDiscrete(argmax=True)` does. Without it the sums are
    kept as they are. The other arguments are MONAI's: windows go to `sw_device`, sums lie on `device`, and a
    volume smaller than the window is padded on both sides with `cval`. `predictor` returns one tensor of the
    windows' size.

    Returns an array (x, y, z), or (x, y, z, K) for K > 1, mapped to a temporary file that goes when
    the array does, or to the .npy file `out`; in it voxels lie in the order in which volumes are stored.

    Raises `AlignmentError` for volumes of different shapes or places, `ConfigError` for an overlap outside
    [0, 1) and for a predictor or `post` that returns another size.

    >>> import radiobject.examples
    >>> volume = radiobject.examples.study(1).T1w.iloc[0]
    >>> found = sliding_window(volume, lambda x: x * 2, 32, post=lambda scores: scores[0] > 800)
    >>> found.shape == volume.shape, found.dtype
    (True, dtype('uint8'))
    """
    if not is_whole(sw_batch_size):
        raise ConfigError("sw_batch_size=", expected="an int, at least 1", got=repr(sw_batch_size))
    windows = Windows.of(Source.of(volumes), roi_size, overlap, cval)
    with torch.no_grad():
        weight = windows.weights(mode, sigma_scale, sw_device)
        counted = weight.to(device)[0]
        sums: _Sums | None = None
        for places, batch in windows.batches(sw_batch_size):
            scores = predictor(batch.to(sw_device))
            _check_scores(scores, batch)
            if sums is None:
                result = _Result(windows.source.shape, windows.lead, post, out)
                sums = _Sums(windows, scores.shape[1], result, device)
            # as in place, which MONAI does: half floats stay such
            weighted = (scores * weight).to(scores.dtype)
            sums.add(places, weighted.to(device), counted)
        assert sums is not None
        return sums.finish()


@dataclass(frozen=True)
class Source:
    """Volumes on one grid as channels."""

    volumes: tuple[Volume, ...]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, volumes: Volume | Sequence[Volume]) -> Source:
        """Raises `AlignmentError` for volumes of different shapes or places, and for none."""
        several = (volumes,) if isinstance(volumes, Volume) else tuple(volumes)
        if not several:
            raise AlignmentError("volumes as channels", expected="at least one", got="none")
        refuse_other_grids(several)
        x, y, z = several[0].shape[:3]
        return cls(several, (x, y, z))

    def read(self, start: Sequence[int], size: Sequence[int], fill: float) -> torch.Tensor:
        """The voxels (C, *size), float32, from `start` on, which may lie outside: there they are `fill`."""
        low = tuple(max(a, 0) for a in start)
        high = tuple(min(a + k, n) for a, k, n in zip(start, size, self.shape, strict=True))
        blocks = [read_frames(volume, Box(low, high)) for volume in self.volumes]
        made = torch.full((sum(map(len, blocks)), *size), fill)
        inner = tuple(slice(b - a, e - a) for b, e, a in zip(low, high, start, strict=True))
        target = made.numpy()[(slice(None), *inner)]
        first = 0
        for block in blocks:
            np.copyto(target[first : first + len(block)], block.transpose(0, 3, 2, 1), casting="same_kind")
            first += len(block)
        return made


@dataclass(frozen=True)
class Windows:
    """The windows of a volume in MONAI's order: along x they only ever go forward.

    Their places count from the beginning of the padded volume, whose first voxel `lead` lies that far before
    the volume's own.
    """

    source: Source
    size: tuple[int, ...]
    padded: tuple[int, ...]
    lead: tuple[int, ...]
    places: list[tuple[slice, ...]] = field(repr=False)
    cval: float

    @classmethod
    def of(
        cls, source: Source, roi_size: int | Sequence[int], overlap: float | Sequence[float], cval: float
    ) -> Windows:
        shape = source.shape
        size: tuple[int, ...] = fall_back_tuple(roi_size, shape)
        overlaps = tuple(overlap) if isinstance(overlap, Sequence) else (overlap,) * 3
        if len(overlaps) != 3 or not all(0 <= o < 1 for o in overlaps):
            raise ConfigError(
                "overlap=", expected="one or three numbers, 0 <= overlap < 1", got=repr(overlap)
            )
        padded = tuple(max(n, k) for n, k in zip(shape, size, strict=True))
        lead = tuple((p - n) // 2 for p, n in zip(padded, shape, strict=True))
        interval = _get_scan_interval(padded, size, 3, overlaps)
        return cls(source, size, padded, lead, list(dense_patch_slices(padded, size, interval)), cval)

    def weights(
        self, mode: str, sigma_scale: float | Sequence[float], device: torch.device | str
    ) -> torch.Tensor:
        """How much each voxel of a window counts, (1, 1, *size)."""
        valid = get_valid_patch_size(self.padded, self.size)
        made: torch.Tensor = compute_importance_map(
            valid, mode=mode, sigma_scale=sigma_scale, device=device, dtype=torch.float32
        )
        return made[None, None]

    def read(self, place: Sequence[slice]) -> torch.Tensor:
        """One window, (C, *size)."""
        start = [s.start - a for s, a in zip(place, self.lead, strict=True)]
        return self.source.read(start, self.size, self.cval)

    def batches(self, count: int) -> Iterator[tuple[list[tuple[slice, ...]], torch.Tensor]]:
        """`count` windows at a time (B, C, *size), read one batch ahead."""
        groups = [self.places[n : n + count] for n in range(0, len(self.places), count)]
        ahead: deque[list[Future[torch.Tensor]]] = deque()
        pool = ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1), "sliding_window")
        try:
            for number, group in enumerate(groups):
                for coming in groups[number + len(ahead) : number + 2]:
                    # settings of a `with configure(...)` hold in these threads too
                    ahead.append([
                        pool.submit(contextvars.copy_context().run, self.read, place) for place in coming
                    ])  # fmt: skip
                yield group, torch.stack([future.result() for future in ahead.popleft()])
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Sums:
    """Weighted scores and weights, added up in the rows that windows still to come may touch."""

    def __init__(self, windows: Windows, channels: int, result: _Result, device: torch.device | str) -> None:
        rows, (y, z) = windows.size[0], windows.padded[1:]
        self._first, self._end = 0, windows.padded[0]
        self._scores = torch.zeros((channels, rows, y, z), device=device)
        self._weights = torch.zeros((1, rows, y, z), device=device)
        self._result = result

    def add(self, places: Sequence[tuple[slice, ...]], scores: torch.Tensor, weight: torch.Tensor) -> None:
        """Add windows (B, C, *size), whose scores are weighted."""
        for (x, y, z), score in zip(places, scores, strict=True):
            self._finish_before(x.start)
            at = slice(None), slice(None), y, z
            self._scores[at] += score
            self._weights[at] += weight

    def finish(self) -> npt.NDArray[Any]:
        """The result, when all windows are added."""
        self._finish_before(self._end)
        return self._result.array

    def _finish_before(self, row: int) -> None:
        done = row - self._first
        if done == 0:
            return
        self._result.put(self._first, self._scores[:, :done].div_(self._weights[:, :done]))
        for held in (self._scores, self._weights):
            for n in range(held.shape[1] - done):  # row by row: no second copy of all that stays
                held[:, n] = held[:, n + done]
            held[:, held.shape[1] - done :] = 0
        self._first = row


class _Result:
    """The array that finished rows go to."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        lead: Sequence[int],
        post: Post | None,
        out: str | os.PathLike[str] | None,
    ) -> None:
        self._shape, self._lead, self._post, self._out = shape, lead, post, out
        self.array: npt.NDArray[Any] = np.empty(0)

    def put(self, first: int, scores: torch.Tensor) -> None:
        """Take rows of the padded volume, (C, rows, Y, Z)."""
        begins = first, 0, 0
        x, y, z = (
            slice(max(a - b, 0), max(a + n - b, 0))
            for a, n, b in zip(self._lead, self._shape, begins, strict=True)
        )
        scores = scores[:, x, y, z]
        if scores.shape[1] == 0:
            return
        rows = rows_of(scores, scores if self._post is None else self._post(scores))
        if self.array.size == 0:
            channels = rows.shape[:1] if len(rows) > 1 else ()
            self.array = mapped((*self._shape, *channels), rows.dtype, self._out)
        at = first + x.start - self._lead[0]
        self.array[at : at + rows.shape[1]] = np.moveaxis(rows, 0, -1) if len(rows) > 1 else rows[0]


def mapped(
    shape: Sequence[int], dtype: npt.DTypeLike, out: str | os.PathLike[str] | None = None
) -> npt.NDArray[Any]:
    """An array (x, y, z[, c]) of zeros in a file, in disk order: x runs fastest.

    The file is `out` (.npy), or a temporary one that nobody else sees and that goes with the array.
    """
    sizes = tuple(shape)
    if out is not None:
        made: npt.NDArray[Any] = np.lib.format.open_memmap(
            out, mode="w+", dtype=np.dtype(dtype), shape=sizes, fortran_order=True
        )
        return made
    with tempfile.TemporaryFile(prefix="radiobject-") as file:
        return np.memmap(file, dtype=dtype, mode="w+", shape=sizes, order="F")


def rows_of(scores: torch.Tensor, found: Any) -> npt.NDArray[Any]:
    """What `post` made of rows, (K, rows, Y, Z), in a type that volumes have."""
    if isinstance(found, torch.Tensor):
        found = found.detach().cpu()
        # as the half floats that no volume has are held exactly
        found = (found.float() if found.dtype in (torch.float16, torch.bfloat16) else found).numpy()
    array = np.asarray(found)
    array = array[None] if array.ndim == 3 else array
    if array.ndim != 4 or array.shape[1:] != scores.shape[1:]:
        size = tuple(scores.shape[1:])
        raise ConfigError(
            "post", expected=f"{size} or (K, *{size}) of scores {tuple(scores.shape)}", got=str(array.shape)
        )
    return array.view(np.uint8) if array.dtype == bool else array


def _check_scores(scores: Any, batch: torch.Tensor) -> None:
    expected = f"a tensor ({batch.shape[0]}, C, {', '.join(map(str, batch.shape[2:]))})"
    if not isinstance(scores, torch.Tensor):
        raise ConfigError(
            "predictor", expected=expected, got=type(scores).__name__,
            hint="Pass lambda windows: network(windows)[0], or what picks the one that counts.",
        )  # fmt: skip
    if scores.ndim != 5 or (scores.shape[0], *scores.shape[2:]) != (batch.shape[0], *batch.shape[2:]):
        raise ConfigError("predictor", expected=expected, got=str(tuple(scores.shape)))
