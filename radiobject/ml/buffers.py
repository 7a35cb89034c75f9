"""Buffers: memory of batches, in the order in which voxels lie on disk, used again when nobody holds it."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["BufferPool"]


class BufferPool:
    """Hands out arrays (B, C, Z, Y, X) together with tensors (B, C, X, Y, Z) on the same memory.

    Memory that is new to a process costs more to touch than a patch costs to copy, so it comes back to the
    pool when the last tensor on it is gone, at most `kept` pieces of a size. `pinned` memory, which a GPU
    copies from by itself, is torch's own, which keeps it in the same way.
    """

    def __init__(self, kept: int, pinned: bool = False) -> None:
        self._kept, self._pinned = kept, pinned
        self._free: dict[int, deque[npt.NDArray[np.uint8]]] = {}

    def take(self, shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[npt.NDArray[Any], torch.Tensor]:
        """An array of that shape with any content, and the tensor with its spatial axes reversed."""
        if self._pinned:
            kind = torch.from_numpy(np.empty(0, dtype)).dtype
            tensor = torch.empty(tuple(shape), dtype=kind, pin_memory=True)
            return tensor.numpy(), _reversed(tensor)
        size = math.prod(shape) * dtype.itemsize
        free = self._free.setdefault(size, deque(maxlen=self._kept))
        try:
            memory = free.pop()
        except IndexError:
            memory = np.empty(size, np.uint8)
        array = memory.view(dtype).reshape(shape)
        # tensors hold this array, not `memory`: when it goes, so has the last of them
        weakref.finalize(array, free.append, memory).atexit = False
        return array, _reversed(torch.from_numpy(array))


def _reversed(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.permute(0, 1, *range(tensor.ndim - 1, 1, -1))
