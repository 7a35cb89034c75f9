"""A study behind a web server that cannot list opens, reads and validates."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from foreign.server import FileServer, serve
from foreign.studies import Written
from radiobject import RadiObject
from radiobject.errors import CapabilityError, MissingObjectError, StorageError, StudyNotFoundError
from radiobject.format.catalog import Catalog
from radiobject.format.changes import Edit
from radiobject.format.layout import HINT, version_key
from radiobject.format.transaction import Transaction
from radiobject.location import Location
from radiobject.storage import Storage


def test_every_volume_reads_over_http(written: Written, served: FileServer) -> None:
    radi = RadiObject(f"{served.url}/{written.name}")
    assert radi.collection_names == ("image", "label")
    for name, _, voxels in written.items():
        collection = "label" if name == "seg" else "image"
        volume = radi.collection(collection).loc[f"{name}_{collection}"]
        assert volume.to_numpy().tobytes() == np.ascontiguousarray(on_screen(voxels)).tobytes(), name
    assert radi.validate("full").ok
    gc.collect()  # a client session that nobody closed would speak up now


def on_screen(voxels: np.ndarray) -> np.ndarray:
    """Disk order to x, y, z[, t][, c]."""
    return voxels.transpose({3: (2, 1, 0), 4: (3, 2, 1, 0), 5: (4, 3, 2, 0, 1)}[voxels.ndim])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    array = np.arange(60, dtype="i2").reshape(3, 4, 5)
    RadiObject.from_niftis(tmp_path / "study", {"T1w": [((array, np.eye(4)), "a")]}, progress=False)
    return tmp_path


def grow(study: Path, versions: int) -> None:
    """Add versions that change nothing but their number."""
    storage = Storage(Location(study))
    for _ in range(versions):
        Transaction(storage, Catalog(storage).latest(), "compact").commit(Edit(compact=True))


@pytest.mark.parametrize("newest", [1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("hint", ["good", "old", "missing"])
def test_the_newest_version_is_found_without_listing(small: Path, newest: int, hint: str) -> None:
    study = small / "study"
    old = (study / HINT).read_bytes()
    grow(study, newest - 1)
    if hint == "old":
        (study / HINT).write_bytes(old)
    elif hint == "missing":
        (study / HINT).unlink()
    with serve(small) as server:
        assert RadiObject(f"{server.url}/study").version == newest
        assert RadiObject(f"{server.url}/study@1").version == 1
        asked = len({path for _, path, _ in server.asked})
        assert asked <= 2 * newest.bit_length() + 5


def test_with_a_good_hint_a_second_opening_asks_two_things(small: Path) -> None:
    with serve(small) as server:
        RadiObject(f"{server.url}/study")
        before = len(server.asked)
        RadiObject(f"{server.url}/study")
        paths = [path for _, path, _ in server.asked[before:]]
    assert sorted(set(paths)) == [f"/study/{HINT}", f"/study/{version_key(2)}"]


def test_errors_keep_their_names_over_http(small: Path) -> None:
    with serve(small) as server:
        with pytest.raises(StudyNotFoundError):
            RadiObject(f"{server.url}/nothing")
        volume = RadiObject(f"{server.url}/study").T1w.iloc[0]
        (shard,) = (small / "study").glob("collections/T1w/*/*/0/c/0/0/0")
        shard.unlink()
        with pytest.raises(MissingObjectError):
            volume.to_numpy()
        with pytest.raises(CapabilityError):
            Storage(Location(f"{server.url}/study")).list()
    with pytest.raises(StorageError):
        RadiObject(f"{server.url}/study")


def test_a_handle_over_http_pickles(small: Path) -> None:
    with serve(small) as server:
        radi = RadiObject(f"{server.url}/study")
        again = pickle.loads(pickle.dumps(radi))
        np.testing.assert_array_equal(again.T1w.iloc[0][...], radi.T1w.iloc[0][...])


def test_a_process_that_read_over_http_ends_in_silence(small: Path) -> None:
    program = """
        import sys

        from radiobject import RadiObject
        radi = RadiObject(sys.argv[1])
        print(int(radi.T1w.iloc[0].to_numpy().sum()), len(radi.obs_meta.read()))
    """
    with serve(small) as server:
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program)]
        done = subprocess.run(
            [*command, f"{server.url}/study"], capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["1770", "1"], "")
