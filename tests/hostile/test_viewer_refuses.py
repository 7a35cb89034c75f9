"""The viewer hands out nothing from outside of the volumes shown, also where a link leads there."""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from radiobject import RadiObject
from tests.hostile.crafting import good_study, volume_folder

pytestmark = pytest.mark.slow

pytest.importorskip("neuroglancer", reason="needs pip install 'radiobject-zarr[viewer]'")

SECRET = b"another patient"


@pytest.mark.parametrize(
    "make",
    [
        lambda path, outside: path.symlink_to(outside),
        lambda path, outside: path.symlink_to("../../../../../../../../outside"),
        lambda path, outside: path.symlink_to("/dev/zero"),
        lambda path, outside: os.mkfifo(path),
        lambda path, outside: path.mkdir(),
    ],
    ids=["link", "relative-link", "device", "pipe", "folder"],
)
@pytest.mark.parametrize("key", ["0/zarr.json", "0/c/0/0/0"])
def test_what_is_no_file_of_the_study_is_not_served(
    tmp_path: Path, key: str, make: Callable[[Path, Path], object]
) -> None:
    good_study(tmp_path / "study", "zarr")
    (tmp_path / "outside").write_bytes(SECRET)
    path = volume_folder(tmp_path / "study") / key
    with RadiObject(tmp_path / "study").view("sub-01") as session:
        path.unlink()
        make(path, tmp_path / "outside")
        token = urlsplit(session.url).path.split("/")[2]
        connection = http.client.HTTPConnection("127.0.0.1", session.port, timeout=20)
        connection.request("GET", f"/data/{token}/0/{key}", headers={"Range": "bytes=0-9"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
    assert (answer.status, SECRET in body) in ((502, False), (416, False))
