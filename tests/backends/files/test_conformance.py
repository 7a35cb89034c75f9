"""Volumes that stay where they lie keep the seam's promises, in whatever form the files have them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject.backends.base import Level
from radiobject.backends.files import FilesBackend
from radiobject.errors import CapabilityError, FormatError, IntegrityError, StudyExistsError
from radiobject.location import Location
from radiobject.storage import Storage
from radiobject.testing import MUTANTS, BackendTests, Mutant, Quirks, voxels
from radiobject.testing.ground import small_spec
from tests.backends.files.ground import FORMS, Form, RegisteringBackend, one_block


class Registered(BackendTests):
    quirks = Quirks(
        {
            "test_levels_are_read_by_number": "files have one level",
            "test_alike_volumes_share_a_hint": "a hint names the files of its volume",
        }
    )

    @pytest.fixture
    def reopen(self, backend: RegisteringBackend) -> Callable[[], FilesBackend]:
        return lambda: RegisteringBackend(backend.location, backend.form)

    @pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
    def test_damage_is_an_error_and_never_a_wrong_voxel(
        self, backend: Any, reopen: Any, mutant: Mutant
    ) -> None:
        """Of the document and what stands beside it, as with every backend; and of the source files."""
        spec = small_spec((24, 11, 9))
        array = voxels(spec)
        for salt in range(4):
            stored = self.put(backend, f"v{salt}", (spec, array), extras={"nifti": b"header"})
            handle = reopen().open_volume(f"v{salt}", stored.hint)
            member = handle.source.members[salt % len(handle.source.members)]
            file, objects = Path(backend.source_root.path, member.path), Storage(backend.location)
            damaged = [(file, file.read_bytes())]
            damaged += [
                (Path(backend.location.path, f"v{salt}", o.path), objects.read(f"v{salt}/{o.path}"))
                for o in stored.objects
            ]
            for path, sound in damaged:
                changed = mutant.damage(sound, salt + 1)
                time_before = path.stat().st_mtime_ns
                path.unlink() if changed is None else path.write_bytes(changed)
                if changed not in (None, sound):
                    # the clock of a disk stands still for some milliseconds
                    os.utime(path, ns=(time_before, time_before + 10**9))
                try:
                    again = reopen().open_volume(f"v{salt}")
                    np.testing.assert_array_equal(again.read(spec.box), array)
                    assert again.extra("nifti") == b"header"
                    assert changed == sound
                except (IntegrityError, FormatError):
                    assert changed != sound
                path.write_bytes(sound)


class TestOnADisk(Registered):
    @pytest.fixture(params=FORMS, ids=lambda form: form.__name__)
    def backend(self, request: pytest.FixtureRequest, tmp_path: Path) -> RegisteringBackend:
        place = Location(tmp_path / "study").with_sources(tmp_path / "sources")
        return RegisteringBackend(place, request.param)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_files_on_a_store_are_read_by_ranges(form: Form) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    backend = RegisteringBackend(Location(f"{root}/study").with_sources(f"{root}/sources"), form)
    spec = small_spec((2, 3, 20, 17, 9))
    array = voxels(spec)
    stored = Registered().put(backend, "v", (spec, array))
    for handle in Registered().both(backend, "v", stored.hint):
        for box in (spec.box, type(spec.box)((1, 0, 3, 2, 1), (2, 2, 19, 9, 4))):
            np.testing.assert_array_equal(handle.read(box), array[box.slices])


def test_voxels_are_not_written_and_the_error_says_what_to_do(tmp_path: Path) -> None:
    backend = FilesBackend(Location(tmp_path / "study"))
    with pytest.raises(CapabilityError, match="copy=False"):
        backend.create_volume("v", [Level("0", small_spec())], {}, {})


def test_a_path_is_registered_once(tmp_path: Path) -> None:
    backend = RegisteringBackend(Location(tmp_path / "study"))
    spec = small_spec()
    Registered().put(backend, "v", (spec, voxels(spec)))
    source = one_block(Storage(backend.source_root), "again", spec, voxels(spec))
    with pytest.raises(StudyExistsError):
        backend.register_volume("v", [Level("0", spec)], {}, {}, source)


def test_a_path_of_another_suffix_is_the_other_backends(tmp_path: Path) -> None:
    from radiobject.backends.zarr import ZarrBackend

    place, spec = Location(tmp_path / "study"), small_spec()
    stored = Registered().put(ZarrBackend(place), "v.ome.zarr", (spec, voxels(spec)))
    backend = FilesBackend(place)
    for handle in Registered().both(backend, "v.ome.zarr", stored.hint):
        np.testing.assert_array_equal(handle.read(spec.box), voxels(spec))
    backend.delete_volume("v.ome.zarr")
    assert Storage(place).list("v.ome.zarr") == []
