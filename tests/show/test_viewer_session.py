"""What a session shows under which names, from which stores, at which address, and what it reads for that."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest
import tensorstore as ts
from servers.s3 import KEYS, s3_server

from radiobject import RadiObject, Volume, measure
from radiobject.errors import MissingDependencyError, MissingObjectError, SelectionError, UnknownIdError

pytest.importorskip("neuroglancer", reason="needs pip install 'radiobject-zarr[viewer]'")

VOXELS = np.random.default_rng(0).integers(-300, 900, (40, 36, 34)).astype("i2")


def make(uri: Any, **options: Any) -> RadiObject:
    """Two subjects; the second has two T1w and no seg."""
    small = np.full((5, 5, 5), 1, "u1")
    images = {
        "T1w": [((VOXELS, np.eye(4)), subject) for subject in ("sub-01", "sub-02", "sub-02")],
        "flair": [((VOXELS[:9, :9, :9], np.eye(4)), "sub-01")],
        "seg": [((small, np.eye(4)), "sub-01")],
    }
    return RadiObject.from_niftis(uri, images, labels={"seg": {1: "liver"}}, progress=False, **options)


@pytest.fixture(scope="module")
def radi(tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    return make(tmp_path_factory.mktemp("session") / "study")


def visible(session: Any) -> list[str]:
    return [layer.name for layer in session.viewer.state.layers if layer.visible]


def sources(session: Any) -> list[str]:
    """URL of the voxels of each layer."""
    return [str(layer.source[0].url) for layer in session.viewer.state.layers]


def test_every_collection_of_the_subject_is_a_layer(radi: RadiObject) -> None:
    with radi.view("sub-01") as session:
        assert list(session.layers) == ["T1w", "flair", "seg"]
        assert visible(session) == ["T1w", "seg"]
        assert session.title == session.viewer.state.title == "sub-01"
    with radi.view("sub-02") as session:
        assert list(session.layers) == radi.T1w.sel(subject="sub-02").obs_ids
    with radi.select_collections(["flair", "seg"])["sub-01"].view() as session:
        assert list(session.layers) == ["flair", "seg"]
    with radi.view() as session:
        assert session.title == "sub-01"


def test_volumes_of_one_name_are_told_apart(radi: RadiObject) -> None:
    volume = radi.T1w.iloc[0]
    with volume.view(volume.slicer[4:], Volume.from_numpy(VOXELS)) as session:
        assert list(session.layers) == ["sub-01_T1w", "sub-01_T1w 2", "volume"]


def test_who_is_not_there_is_named(radi: RadiObject) -> None:
    with pytest.raises(UnknownIdError, match="sub-99"):
        radi.view("sub-99")
    with pytest.raises(SelectionError):
        radi.select_collections(["seg"]).view("sub-02")


def test_only_volumes_can_be_viewed(radi: RadiObject) -> None:
    with pytest.raises(SelectionError, match="ndarray"):
        radi.T1w.iloc[0].view(VOXELS)


def test_what_fails_on_the_way_leaves_no_server(tmp_path: Path) -> None:
    Volume.from_numpy(VOXELS.astype("f8"), uri=tmp_path / "a.ome.zarr")
    document = tmp_path / "a.ome.zarr" / "zarr.json"
    document.write_text(document.read_text().replace('"omero"', '"omera"'))
    (tmp_path / "a.ome.zarr/0/c/0/0/0").unlink()
    before = set(threading.enumerate())
    with pytest.raises(MissingObjectError):  # no window without voxels
        Volume(tmp_path / "a.ome.zarr").view()
    assert set(threading.enumerate()) <= before


def test_opening_reads_no_voxel(radi: RadiObject) -> None:
    study = RadiObject(radi.uri)
    volumes = [study.collection(name).sel(subject="sub-01") for name in study.collection_names]
    assert all(volume.metadata for volume in volumes)  # the tables; an earlier test may have read them or not
    with (
        measure() as counts,
        volumes[0].view(*volumes[1:], volumes[0].slicer[::2], volumes[0].reorient("LPS")),
    ):
        pass
    assert counts["bytes_used"] == 0
    assert counts["requests"] <= 5  # the metadata of each stored volume


def test_the_page_names_where_it_was_found(radi: RadiObject) -> None:
    with radi.view("sub-01") as session:
        assert all(url.startswith(f"http://127.0.0.1:{session.port}/data/") for url in sources(session))
        assert b"location" in urlopen(session.url, timeout=30).read()
        for base in ("https://hub.example:8443/user/m%40x/proxy/123/", "http://localhost:9000/"):
            urlopen(Request(session.url, data=base.encode(), method="POST"), timeout=30).close()
            assert all(url.startswith(f"{base}data/") for url in sources(session))
            assert str(session.viewer.state.layers["seg"].source[1].url).startswith(f"{base}data/")


@pytest.mark.parametrize(
    "base",
    [
        "",
        "x",
        "javascript:alert(1)/",
        "http://a/b",
        "https://a/?q/",
        'http://a/"/',
        "http://a/\n/",
        "http:///",
    ],
)
def test_what_is_no_address_is_refused(radi: RadiObject, base: str) -> None:
    with radi.view("sub-01") as session:
        before = sources(session)
        with pytest.raises(OSError, match="400"):
            urlopen(Request(session.url, data=base.encode(), method="POST"), timeout=30)
        assert sources(session) == before


def test_a_notebook_shows_the_page(radi: RadiObject) -> None:
    with radi.view("sub-01") as session:
        shown = session._repr_html_()
        assert shown.count(session.url) == 2
        assert "<iframe" in shown


def test_on_a_hub_the_address_goes_through_its_proxy(
    radi: RadiObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/me/")
    with radi.view("sub-01") as session:
        prefix = f"/user/me/proxy/{session.port}/"
        assert session.url.startswith(f"{prefix}open/")
        # the proxy takes the prefix away, hands on the name of its host, and loses lengths without bodies
        path = session.url.removeprefix(prefix)
        of_proxy = {"Host": "hub.example", "X-Forwarded-Context": prefix}
        page = Request(f"http://127.0.0.1:{session.port}/{path}", headers=of_proxy)
        assert urlopen(page, timeout=30).status == 200
        voxels = urlsplit(sources(session)[0]).path.removesuffix("|zarr3:") + "0/c/0/0/0"
        shard = Request(
            f"http://127.0.0.1:{session.port}{voxels}", headers={**of_proxy, "Range": "bytes=0-0"}
        )
        answer = urlopen(shard, timeout=30)
        assert (answer.status, len(answer.read())) == (206, 1)
        shard.method = "HEAD"
        with pytest.raises(OSError, match="405"):
            urlopen(shard, timeout=30)


@pytest.mark.servers
def test_a_study_on_s3_is_shown_through_this_machine() -> None:
    with s3_server("scans") as options:
        make("s3://scans/study", storage_options=options)
        radi = RadiObject("s3://scans/study", storage_options=options)
        with radi.view("sub-01") as session:
            (url, *_) = sources(session)
            assert url.startswith(f"http://127.0.0.1:{session.port}/")
            state = json.dumps(session.viewer.state.to_json())
            assert not any(word in state for word in (*KEYS.values(), "scans", options["endpoint_url"]))
            place = f"{url.removesuffix('|zarr3:')}0/"
            array = ts.open({"driver": "zarr3", "kvstore": place}, read=True).result()
            with measure() as counts:
                assert (array[32:, 32:, 32:].read().result() == VOXELS.T[32:, 32:, 32:]).all()
            # the index of the shard and the smallest chunk of eight
            assert 0 < counts["bytes_read"] < 2000
            assert (array.read().result().T == VOXELS).all()


def test_volumes_on_other_backends_are_read_by_this_process(tmp_path: Path) -> None:
    pytest.importorskip("tiledb")
    made = make(tmp_path / "study", backend="tiledb")
    with made.view("sub-01") as session:
        url = sources(session)[0]
        assert url.startswith("python://volume/")
        box = f"{url.removeprefix('python://volume/')}/1,1,1/3,4,5/7,9,11"
        answer = urlopen(f"http://127.0.0.1:{session.port}/neuroglancer/npz/{box}", timeout=30).read()
    assert (np.load(io.BytesIO(zlib.decompress(answer))) == VOXELS[3:7, 4:9, 5:11]).all()


def test_without_neuroglancer_the_error_names_the_extra(
    radi: RadiObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("radiobject.show.viewer.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    with pytest.raises(MissingDependencyError, match=r"radiobject-zarr\[viewer\]"):
        radi.view("sub-01")


def test_a_script_that_closes_nothing_ends_in_silence(radi: RadiObject) -> None:
    code = "import sys; from radiobject import RadiObject; print(RadiObject(sys.argv[1]).view().port)"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code, str(radi.uri)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 0
