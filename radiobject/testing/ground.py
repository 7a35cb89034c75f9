"""Ground that the conformance tests share: fixtures to provide, declared gaps, and a written volume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy.typing as npt
import pytest

from radiobject.backends.base import ArraySpec, Backend, Level, StoredVolume, VolumeHandle, plan_array
from radiobject.config import TileConfig

__all__ = ["ATTRS", "EXTRAS", "ZYX", "Ground", "Quirks", "small_spec"]

ZYX = ("z", "y", "x")
ATTRS = {
    "ome": {"version": "0.5", "name": "Schädel"},
    "radiobject": {"affine": [[1.5, 0], [0, -0.1]], "n": None},
}
EXTRAS = {"nifti": bytes(range(256)) * 3, "nifti_tail": b"", "one": b"\x00"}


@dataclass(frozen=True)
class Quirks:
    """Declared gaps of a backend: test name to reason. Each becomes a strict xfail, so a mended gap shows."""

    gaps: Mapping[str, str] = field(default_factory=dict)


def small_spec(shape: tuple[int, ...] = (20, 17, 9), dtype: str = "i2", **tile: Any) -> ArraySpec:
    dims = {3: ZYX, 4: ("t", *ZYX), 5: ("t", "c", *ZYX)}[len(shape)]
    return plan_array(shape, dtype, dims, TileConfig(**tile) if tile else None)


class Ground:
    """What `BackendTests` stands on; see there for what a subclass provides."""

    quirks: ClassVar[Quirks] = Quirks()
    shared_place: ClassVar[bool] = True

    @pytest.fixture
    def backend(self) -> Any:
        raise NotImplementedError("provide the fixture `backend`")

    @pytest.fixture
    def reopen(self) -> Callable[[], Any]:
        raise NotImplementedError("provide the fixture `reopen`")

    @pytest.fixture(autouse=True)
    def _declared_gaps(self, request: pytest.FixtureRequest) -> None:
        unknown = [name for name in self.quirks.gaps if not hasattr(self, name)]
        assert not unknown, f"quirks name no test: {unknown}"
        reason = self.quirks.gaps.get(request.node.originalname)
        if reason is not None:
            request.node.add_marker(pytest.mark.xfail(reason=reason, strict=True))

    def put(
        self,
        backend: Any,
        path: str,
        *arrays: tuple[ArraySpec, npt.NDArray[Any]],
        attrs: Mapping[str, Any] = ATTRS,
        extras: Mapping[str, bytes] = EXTRAS,
    ) -> StoredVolume:
        """Write a volume whose levels are `arrays`."""
        names = ["0", *(f"pyramid/{n}" for n in range(1, len(arrays)))]
        levels = [Level(name, spec) for name, (spec, _) in zip(names, arrays, strict=True)]
        writer = backend.create_volume(path, levels, attrs, extras)
        for number, (spec, array) in enumerate(arrays):
            for box in spec.shard_boxes():
                writer.write(number, box, array[box.slices])
        stored: StoredVolume = writer.finish()
        return stored

    def both(self, backend: Backend, path: str, hint: str) -> Iterator[VolumeHandle]:
        """The volume opened with its hint and without."""
        yield backend.open_volume(path, hint)
        yield backend.open_volume(path)
