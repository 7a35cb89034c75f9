"""Backends are found by name; plug-ins come as entry points."""

from __future__ import annotations

import sys

import pytest

from radiobject.backends import backend_names, get_backend
from radiobject.errors import CapabilityError, MissingDependencyError
from radiobject.location import Location


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """An installed distribution that offers two backends, one of which cannot be imported."""
    (tmp_path / "third_party.py").write_text(
        "class Mine:\n    def __init__(self, location):\n        self.location = location\n"
    )
    info = tmp_path / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[radiobject.backends]\nmine = third_party:Mine\nbroken = third_party_without:Mine\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("third_party", None)


@pytest.mark.parametrize("name", ["memory", "tiledb", "zarr"])
def test_built_in_backends_are_made_by_name(tmp_path, name):
    backend = get_backend(name, Location(tmp_path))
    assert backend.name == name
    assert name in backend_names()


def test_an_unknown_name_lists_what_is_installed(tmp_path):
    with pytest.raises(CapabilityError, match="memory, tiledb, zarr"):
        get_backend("netcdf", Location(tmp_path))


def test_a_plug_in_is_made_by_name(tmp_path, plugins):
    assert {"mine", "broken"} <= set(backend_names())
    assert type(get_backend("mine", Location(tmp_path))).__name__ == "Mine"


def test_a_broken_plug_in_warns_and_names_itself(tmp_path, plugins):
    with (
        pytest.warns(RuntimeWarning, match="third_party_without"),
        pytest.raises(MissingDependencyError, match="broken"),
    ):
        get_backend("broken", Location(tmp_path))
