"""Credentials of every kind, on each engine that can take them; explicit ones are never written anywhere."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

from radiobject import RadiObject, S3Config, configure
from radiobject.errors import RadiObjectError, StorageReadOnlyError
from radiobject.location import Location
from tests.s3.conftest import BUCKET, S3PathFactory, credentials

ENGINES = ("tensorstore", "zarr-python")
IMAGES = {"T1w": [((np.full((5, 4, 3), 7, "i2"), np.eye(4)), "sub-1")]}
READ = """
import json, os, sys
from radiobject import RadiObject
from radiobject.backends.zarr import ZarrBackend
uri, options, engine = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
ZarrBackend.__init__.__defaults__ = (engine,)
radi = RadiObject(uri, storage_options=options)
volume = radi.T1w.iloc[0]
print(type(volume.array).__module__.partition(".")[0], int(volume[1, 1, 1]))
"""
"""A process reads with one engine, and says with which."""


@pytest.fixture(scope="module")
def there(server: dict[str, Any], on_s3: None) -> str:
    uri = str(S3PathFactory().mktemp("credentials") / "study")
    RadiObject.from_niftis(uri, IMAGES, storage_options=server, progress=False)
    return uri


def without_keys(server: dict[str, Any]) -> dict[str, Any]:
    return {"endpoint_url": server["endpoint_url"], "region": server["region"]}


def read(uri: str, options: dict[str, Any], engine: str, **env: str) -> tuple[str, str]:
    """What a process of its own reads, whose only credentials are these: clients remember theirs."""
    with credentials({}):
        clean = {**os.environ, **env}
    command = [sys.executable, "-c", READ, uri, json.dumps(options), engine]
    ran = subprocess.run(command, capture_output=True, text=True, env=clean, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout.split()[0], ran.stdout.split()[1]


LIBRARY = {"tensorstore": "tensorstore", "zarr-python": "zarr"}


def test_the_environment(there: str, server: dict[str, Any], engine: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": server["key"], "AWS_SECRET_ACCESS_KEY": server["secret"]}
    assert read(there, without_keys(server), engine, **keys) == (LIBRARY[engine], "7")


def test_the_environment_may_name_the_endpoint_too(there: str, server: dict[str, Any], engine: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": server["key"], "AWS_SECRET_ACCESS_KEY": server["secret"]}
    found = read(there, {}, engine, AWS_ENDPOINT_URL=server["endpoint_url"], **keys)
    assert found == (LIBRARY[engine], "7")


def test_a_profile(there: str, server: dict[str, Any], engine: str, local: Path) -> None:
    (local / "credentials").write_text(
        f"[lab]\naws_access_key_id = {server['key']}\naws_secret_access_key = {server['secret']}\n"
    )
    (local / "config").write_text("[profile lab]\nregion = us-east-1\n")
    files = {
        "AWS_SHARED_CREDENTIALS_FILE": str(local / "credentials"),
        "AWS_CONFIG_FILE": str(local / "config"),
    }
    found = read(there, {**without_keys(server), "profile": "lab"}, engine, **files)
    assert found == (LIBRARY[engine], "7")


def test_a_profile_that_asks_a_program(there: str, server: dict[str, Any], engine: str, local: Path) -> None:
    """As single sign-on does; where tensorstore cannot, zarr-python reads."""
    answer = {"Version": 1, "AccessKeyId": server["key"], "SecretAccessKey": server["secret"]}
    (local / "answer.json").write_text(json.dumps(answer))
    (local / "config").write_text(f"[profile lab]\ncredential_process = /bin/cat {local / 'answer.json'}\n")
    options = {**without_keys(server), "profile": "lab"}
    choice = "auto" if engine == "tensorstore" else engine
    assert read(there, options, choice, AWS_CONFIG_FILE=str(local / "config"))[1] == "7"


@pytest.fixture
def local() -> Iterator[Path]:
    """A folder of this machine; `tmp_path` is on the server here."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_nobody_in_particular(there: str, server: dict[str, Any], engine: str) -> None:
    client = boto3.client(
        "s3", endpoint_url=server["endpoint_url"], region_name=server["region"],
        aws_access_key_id=server["key"], aws_secret_access_key=server["secret"],
    )  # fmt: skip
    allowed = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
    }
    client.put_bucket_policy(
        Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    )
    try:
        found = read(there, {**without_keys(server), "anon": True}, engine)
    finally:
        client.delete_bucket_policy(Bucket=BUCKET)
    assert found == (LIBRARY[engine], "7")


@pytest.mark.only("zarr-python", reason="tensorstore takes no keys: such a place is read by zarr-python")
def test_explicit_keys(there: str, server: dict[str, Any]) -> None:
    assert read(there, server, "auto") == ("zarr", "7")


@pytest.mark.only("zarr-python", reason="tensorstore takes no keys")
def test_explicit_keys_are_written_nowhere(
    there: str, server: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    secret = {"key": "AKIDNEVERSEEN", "secret": "SECRETNEVERSEEN", "token": "TOKENNEVERSEEN"}
    caplog.set_level(logging.INFO)
    written = []
    with configure(s3=S3Config(retries=0)):
        radi = RadiObject(there, storage_options=server)
        volume = radi.T1w.iloc[0]
        for thing in (radi, radi.T1w, volume, radi.obs_meta, Location(there, server)):
            written += [repr(thing), str(thing), pickle.dumps(thing).decode("latin-1")]
        written.append(radi.T1w._repr_html_())
        # 127.0.0.1:9 is the port of nobody
        for options in (secret, {**secret, "endpoint_url": "http://127.0.0.1:9"}):
            place = {**server, **options}
            try:
                RadiObject(f"{there}-none", storage_options=place)
            except RadiObjectError as error:
                written += [str(error), repr(error), "".join(traceback.format_exception(error))]
                written.append(pickle.dumps(error).decode("latin-1"))
    written += [record.getMessage() for record in caplog.records]
    for word in (*secret.values(), server["key"], server["secret"]):
        assert not [text for text in written if word in text], word


@pytest.mark.only("zarr-python", reason="about the table and commits, which s3fs reads")
def test_a_pickled_handle_asks_for_credentials_where_it_comes_to_life(
    there: str, server: dict[str, Any]
) -> None:
    radi = pickle.loads(pickle.dumps(Location(there, server)))
    assert set(radi.options) >= {"endpoint_url", "region"}
    assert not set(radi.options) & {"key", "secret", "token"}
    with credentials({}), pytest.raises(StorageReadOnlyError, match="anon=True"):
        RadiObject(there, storage_options=radi.options)
