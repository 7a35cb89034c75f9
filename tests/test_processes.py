"""Threads, pickles and every way to start a process; no combination may hang, so each runs under a limit."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject

LIMIT = 60

SCRIPT = """
import multiprocessing, pickle, sys
import numpy as np
import radiobject.backends as backends
from radiobject import RadiObject

uri, method, engine, first = sys.argv[1:]
if engine == "zarr-python":
    from radiobject.backends.zarr import ZarrBackend
    import radiobject.backends.zarr.backend as module
    real = ZarrBackend.__init__
    ZarrBackend.__init__ = lambda self, location, choice="auto": real(self, location, "zarr-python")

def total(volume):
    return int(volume.to_numpy().sum()), int(volume[1:3, 2, ::2].sum())

def reopened(uri):
    return [total(v) for v in RadiObject(uri).T1w]

if __name__ == "__main__":
    radi = RadiObject(uri)
    volumes = list(radi.T1w)
    expected = reopened(uri) if first == "used" else None
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        handed_over = pool.map(total, volumes)
        opened = pool.apply(reopened, (uri,))
    expected = expected or reopened(uri)
    assert handed_over == opened == expected, (handed_over, opened, expected)
    print("same")
"""


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(3)
    place = str(tmp_path_factory.mktemp("processes") / "study")
    scans = [((rng.integers(0, 900, (40, 41, 42), dtype=np.int16), np.eye(4)), f"s{n}") for n in range(4)]
    RadiObject.from_niftis(place, {"T1w": scans})
    return place


@pytest.mark.parametrize("engine", ["tensorstore", "zarr-python"])
@pytest.mark.parametrize("first", ["used", "fresh"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_start_method_reads_the_same(
    uri: str, tmp_path: Path, method: str, first: str, engine: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), uri, method, engine, first],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "same"), done.stderr


def test_handles_pickle_small_and_read_the_same(uri: str) -> None:
    radi = RadiObject(uri)
    volume, view = radi.T1w.iloc[1], radi.loc[["s1", "s3"]]
    for thing in (radi, view, radi.T1w, radi.T1w.head(2), volume, volume.slicer[::2]):
        data = pickle.dumps(thing)
        assert len(data) < 20_000
        again = pickle.loads(data)
        assert repr(again) == repr(thing)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(volume)).to_numpy(), volume.to_numpy())
    assert pickle.loads(pickle.dumps(view)).T1w.obs_ids == view.T1w.obs_ids


def test_a_pickle_carries_no_secret(tmp_path: Path) -> None:
    from radiobject.location import Location

    location = Location("s3://bucket/study", {"key": "AKID", "secret": "hush", "token": "t", "anon": False})
    data = pickle.dumps(location)
    assert b"hush" not in data
    assert b"AKID" not in data
    assert pickle.loads(data).options == {"anon": False}


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"endpoint_url": "https://user:hush@host:9000"}, {}),
        ({"endpoint_url": "https://host/?sig=hush"}, {}),
        ({"endpoint_url": "http://host:9000/a@b"}, {"endpoint_url": "http://host:9000/a@b"}),
        (
            {"config_kwargs": {"proxies": {"https": "http://user:hush@proxy", "http": "http://proxy"}}},
            {"config_kwargs": {"proxies": {"http": "http://proxy"}}},
        ),
        ({"hosts": [{"password": "hush", "port": 1}, "ftp://hush@host", 2]}, {"hosts": [{"port": 1}, 2]}),
    ],
)
def test_a_pickle_carries_no_url_with_a_secret(options: dict[str, object], left: dict[str, object]) -> None:
    from radiobject.location import Location

    data = pickle.dumps(Location("s3://bucket/study", options))
    assert b"hush" not in data
    assert pickle.loads(data).options == left


def test_threads_share_one_handle(uri: str) -> None:
    volumes = list(RadiObject(uri).T1w)
    truth = [v.to_numpy() for v in RadiObject(uri).T1w]
    rng = np.random.default_rng(0)
    boxes = [(int(rng.integers(4)), rng.integers(0, 30, 3)) for _ in range(400)]

    def same(item: tuple[int, np.ndarray]) -> bool:
        number, (x, y, z) = item
        region = np.s_[x : x + 9, y : y + 9, z : z + 9]
        return bool((volumes[number][region] == truth[number][region]).all())

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(same, boxes))
