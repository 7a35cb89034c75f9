"""TileDB volumes on an S3 server: settings reach libtiledb, and what is refused says why."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject, S3Config, configure
from radiobject.errors import CapabilityError, MissingObjectError
from tests.servers.s3 import s3_server

for package in ("tiledb", "s3fs", "moto"):
    pytest.importorskip(package)

URI = "s3://bucket/studies/one"
ARRAYS = {f"sub-{n}": np.full((40, 33, 9), n, "i2") for n in (3, 1, 2)}
IMAGES = {"T1w": [((array, np.diag([1, 2, 3, 1.0])), subject) for subject, array in ARRAYS.items()]}


@pytest.fixture(scope="module")
def options() -> Iterator[dict[str, Any]]:
    with s3_server("bucket") as found:
        made = RadiObject.from_niftis(URI, IMAGES, backend="tiledb", storage_options=found, progress=False)
        assert made.T1w.backend == "tiledb"
        yield found


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine has: a test says what it gives."""
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def assert_read(radi: RadiObject) -> None:
    assert {v.obs_subject_id for v in radi.T1w} == set(ARRAYS)
    for volume in radi.T1w:
        np.testing.assert_array_equal(volume[3:9, 10:20, 2:5], ARRAYS[volume.obs_subject_id][3:9, 10:20, 2:5])
        np.testing.assert_array_equal(volume[:], ARRAYS[volume.obs_subject_id])


def test_keys_in_storage_options_reach_libtiledb(options: dict[str, Any]) -> None:
    radi = RadiObject(URI, storage_options=options)
    assert_read(radi)
    assert radi.validate("full").ok


def test_endpoint_by_s3config_and_credentials_of_the_environment(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret"])
    with configure(s3=S3Config(endpoint_url=options["endpoint_url"], region="us-east-1", max_parallel_ops=2)):
        assert_read(RadiObject(URI))


def test_a_study_goes_there_and_comes_back_on_another_backend(
    options: dict[str, Any], tmp_path: Path
) -> None:
    local = RadiObject.from_niftis(tmp_path / "zarr", IMAGES)
    there = local.write("s3://bucket/copies/one", backend="tiledb", storage_options=options)
    assert_read(there)
    there.append({"T2w": [((ARRAYS["sub-1"] + 6, np.eye(4)), "sub-1")]})
    assert there.validate("full").ok
    back = RadiObject("s3://bucket/copies/one", version=1, storage_options=options).write(
        tmp_path / "back", backend="zarr"
    )
    assert_read(back)


def test_another_process_reads_with_its_own_credentials(options: dict[str, Any]) -> None:
    code = (
        "import sys, radiobject\n"
        f"r = radiobject.RadiObject({URI!r}, storage_options={{'endpoint_url': sys.argv[1]}})\n"
        "print(int(r.T1w.loc['sub-2_T1w'][5, 5, 5]))"
    )
    env = {**os.environ, "AWS_ACCESS_KEY_ID": options["key"], "AWS_SECRET_ACCESS_KEY": options["secret"]}
    ran = subprocess.run(
        [sys.executable, "-c", code, options["endpoint_url"]], capture_output=True, text=True, env=env
    )
    assert (ran.stdout.strip(), ran.returncode) == ("2", 0), ran.stderr


def test_a_profile_is_refused_with_what_to_do(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = f"[lab]\naws_access_key_id = {options['key']}\naws_secret_access_key = {options['secret']}\n"
    (tmp_path / "credentials").write_text(lab)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    given = {"endpoint_url": options["endpoint_url"], "profile": "lab"}
    with pytest.raises(CapabilityError, match="AWS_PROFILE"):
        RadiObject.from_niftis("s3://bucket/refused", IMAGES, backend="tiledb", storage_options=given)
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert_read(RadiObject(URI, storage_options={"endpoint_url": options["endpoint_url"]}))


def test_a_lost_volume_is_an_error_that_names_it(options: dict[str, Any]) -> None:
    place = "s3://bucket/lost/one"
    radi = RadiObject.from_niftis(place, IMAGES, backend="tiledb", storage_options=options)
    fs, root = radi._study.location.filesystem()
    commits = [p for p in fs.find(root) if "/__commits/" in p and "sub-1" in p]
    assert commits
    fs.rm(commits)
    lost = RadiObject(place, storage_options=options)
    with pytest.raises(MissingObjectError, match=r"__commits"):
        lost.T1w.loc["sub-1_T1w"][0, 0, 0]
    assert lost.T1w.loc["sub-3_T1w"][0, 0, 0] == 3
