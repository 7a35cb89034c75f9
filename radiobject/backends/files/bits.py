"""Bits: which of the bits of a stored pixel are its value."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from radiobject.backends.files.source import Bits

__all__ = ["keep_bits"]


def keep_bits(pixels: npt.NDArray[Any], bits: Bits) -> None:
    """Leave of integers only the bits that are their value, with its sign, in place (PS3.5 8.1.1).

    >>> pixels = np.array([0xF801, 0x07FF], np.uint16).view(np.int16)  # four bits of an overlay above
    >>> keep_bits(pixels, Bits(bits_stored=12, high_bit=11, signed=True))
    >>> pixels.tolist()
    [-2047, 2047]
    """
    size = pixels.dtype.itemsize
    raw, values = pixels.view(f"u{size}"), pixels.view(f"{'i' if bits.signed else 'u'}{size}")
    # up and down again: what lies above goes, and the sign is that of the highest stored bit
    np.left_shift(raw, 8 * size - 1 - bits.high_bit, out=raw)
    np.right_shift(values, 8 * size - bits.bits_stored, out=values)
