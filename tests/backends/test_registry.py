"""Backends are found by name and by suffix; plug-ins come as entry points."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

from radiobject import Volume
from radiobject.backends import backend_for, backend_names, backend_of_name, get_backend
from radiobject.errors import CapabilityError, MissingDependencyError
from radiobject.location import Location

MODULE = """
class Mine:
    name, suffix = "mine", ".mine"
    def __init__(self, location):
        self.location = location

class Longer(Mine):
    name, suffix = "longer", ".not.mine"

class Nameless(Mine):
    suffix = ".nameless"

class Greedy(Mine):
    name, suffix = "greedy", ".my.tdb"

class Folder(Mine):
    name, suffix = "folder", "/folder"
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install("mine = third_party:Mine")`: a distribution that offers backends."""
    (tmp_path / "third_party.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def with_entry_points(*lines: str, package: str = "third_party") -> None:
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join(("[radiobject.backends]", *lines)))

    yield with_entry_points
    sys.modules.pop("third_party", None)


@pytest.mark.parametrize(("name", "suffix"), [("memory", ".mem"), ("tiledb", ".tdb"), ("zarr", ".ome.zarr")])
def test_built_in_backends_are_found_by_name_and_suffix(tmp_path, name, suffix):
    backend = get_backend(name, Location(tmp_path))
    assert (backend.name, backend.suffix) == (name, suffix)
    assert name in backend_names()
    assert backend_of_name(f"scan{suffix}") == name


def test_an_unknown_name_lists_what_is_installed(tmp_path):
    with pytest.raises(CapabilityError, match="memory, tiledb, zarr"):
        get_backend("netcdf", Location(tmp_path))


def test_a_plug_in_is_found_by_name_and_suffix(tmp_path, install):
    assert backend_of_name("scan.mine") is None
    install("mine = third_party:Mine", "longer = third_party:Longer")
    assert {"mine", "longer"} <= set(backend_names())
    assert type(get_backend("mine", Location(tmp_path))).__name__ == "Mine"
    assert [backend_of_name(n) for n in ("scan.mine", "scan.not.mine", "mine")] == ["mine", "longer", None]


def test_a_broken_plug_in_names_itself_and_keeps_no_volume_from_being_opened(tmp_path, install):
    install("broken = third_party_without:Mine", "mine = third_party:Mine")
    with pytest.raises(
        MissingDependencyError, match="'broken': expected an importable third_party_without:Mine"
    ):
        get_backend("broken", Location(tmp_path))
    with pytest.warns(RuntimeWarning, match="third_party_without"):
        assert backend_of_name("scan.mine") == "mine"
    place = tmp_path / "scan"
    with pytest.warns(RuntimeWarning, match="third_party_without"):
        Volume.from_numpy(np.zeros((2, 2, 2)), uri=place)
    with warnings.catch_warnings(action="error"):
        Volume.from_numpy(np.zeros((2, 2, 2)), uri=f"{place}.ome.zarr")


@pytest.mark.parametrize("kind", ["Nameless", "Greedy", "Folder", "MODULE"])
def test_what_is_no_backend_of_that_name_is_refused(tmp_path, install, kind):
    name = kind.lower()
    install(f"{name} = third_party{'' if kind == 'MODULE' else f':{kind}'}")
    with pytest.raises(CapabilityError, match=f"expected a class with name '{name}' and a suffix of its own"):
        get_backend(name, Location(tmp_path))


def test_two_packages_that_offer_one_name_are_refused(tmp_path, install):
    install("mine = third_party:Mine")
    install("mine = third_party:Longer", package="another_party")
    with pytest.raises(CapabilityError, match="got third_party:Longer and third_party:Mine"):
        get_backend("mine", Location(tmp_path))


def test_a_plug_in_cannot_take_a_built_in_name(tmp_path, install):
    install("zarr = third_party:Mine")
    assert type(get_backend("zarr", Location(tmp_path))).__name__ == "ZarrBackend"


def test_asking_for_a_suffix_loads_no_engine():
    code = (
        "import sys; from radiobject.backends import backend_of_name; backend_of_name('scan.tdb'); "
        "assert not {'tiledb', 'zarr', 'tensorstore'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("chosen", "place", "source", "expected"),
    [
        (None, "/study", None, "zarr"),
        (None, "s3://bucket/study", None, "zarr"),
        (None, "memory://study", None, "memory"),
        (None, "/study", "tiledb", "tiledb"),
        (None, "memory://study", "tiledb", "memory"),
        (None, "/study", "memory", "zarr"),
        ("tiledb", "/study", "zarr", "tiledb"),
        ("zarr", "memory://study", "memory", "zarr"),
    ],
)
def test_new_volumes_go_where_they_are_told_or_where_they_last(chosen, place, source, expected):
    assert backend_for(chosen, Location(place), source) == expected
