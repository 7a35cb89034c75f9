"""What a third backend needs to prove itself: conformance tests, strategies and mutants.

Needs pytest and hypothesis, which only developers install.
"""

from radiobject.testing.conformance import BackendTests, Quirks
from radiobject.testing.mutants import MUTANTS, Mutant, without_inner_chunk
from radiobject.testing.stateful import StudyMachine
from radiobject.testing.strategies import array_specs, boxes, voxels

__all__ = [
    "MUTANTS",
    "BackendTests",
    "Mutant",
    "Quirks",
    "StudyMachine",
    "array_specs",
    "boxes",
    "voxels",
    "without_inner_chunk",
]
