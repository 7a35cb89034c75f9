"""Thousands of subjects over dask.distributed: a worker killed, the same again, one source changed."""

from __future__ import annotations

import gzip
import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radiobject import RadiObject

pytestmark = pytest.mark.slow

SUBJECTS = 2000


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
        ) as cluster,
        distributed.Client(cluster) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_nifti: Any) -> Path:
    """Small subjects, each holding its number; one file is damaged."""
    place = tmp_path_factory.mktemp("in")
    for n in range(SUBJECTS):
        data = gzip.compress(make_nifti(np.full((6, 5, 4), n, "i2")), 1)
        (place / f"sub-{n:04d}_T1w.nii.gz").write_bytes(data[:-9] if n == 7 else data)
    return place


def said(radi: RadiObject) -> tuple[Any, ...]:
    """All that a study says, without what differs between any two runs: places of volumes and seconds."""
    snapshot = radi._study.snapshot
    obs = snapshot.table("obs", "T1w").read()
    ledger = snapshot.table("ledger").read()
    return (
        obs.drop_columns([n for n in ("_path", "_hint", "_objects") if n in obs.schema.names]).to_pylist(),
        [[(o["path"], o["bytes"], o["crc32c"]) for o in row] for row in obs["_objects"].to_pylist()],
        snapshot.table("obs_meta").read().to_pylist(),
        snapshot.table("thumbnails", "T1w").read().to_pylist(),
        ledger.drop_columns(["seconds"]).to_pylist(),
    )


def test_a_killed_worker_changes_nothing_and_the_same_again_does_nothing(
    client, folder, tmp_path, caplog, make_nifti
) -> None:
    images, options = {"T1w": folder}, {"errors": "collect"}
    killed = []

    def kill(done: int, total: int) -> None:
        if done >= total // 3 and not killed:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    serial = RadiObject.from_niftis(tmp_path / "serial", images, executor="serial", **options)
    radi = RadiObject.from_niftis(tmp_path / "dask", images, executor=client, progress=kill, **options)
    assert killed
    assert killed[0] not in client.run(os.getpid).values()
    assert len(radi) == SUBJECTS
    assert said(radi) == said(serial)
    assert Counter(radi.ledger.read(["outcome"])["outcome"]) == {"ingested": SUBJECTS - 1, "failed": 1}
    assert radi.validate("quick").ok

    caplog.set_level(logging.INFO, "radiobject")
    (folder / "sub-0007_T1w.nii.gz").unlink()
    radi.append(images, on_conflict="update", executor=client)
    assert (radi.version, RadiObject(radi.uri).version) == (1, 1)
    assert f"{SUBJECTS - 1:,} unchanged; no new version, 1 stays" in caplog.text

    places = dict(zip(radi.T1w.obs_ids, paths(radi), strict=True))
    path = folder / "sub-0123_T1w.nii.gz"
    path.write_bytes(gzip.compress(make_nifti(np.full((6, 5, 4), -1, "i2"))))
    radi.append(images, on_conflict="update", executor=client)
    after = dict(zip(radi.T1w.obs_ids, paths(radi), strict=True))
    assert [i for i in places if places[i] != after[i]] == ["sub-0123_T1w"]
    assert int(radi.T1w.loc["sub-0123_T1w"][0, 0, 0]) == -1
    assert radi.ledger.read(["obs_id", "outcome"]).iloc[SUBJECTS:].values.tolist() == [
        ["sub-0123_T1w", "ingested"]
    ]
    assert f"1 written, {SUBJECTS - 2:,} unchanged: version 2" in caplog.text


def paths(radi: RadiObject) -> list[str]:
    found: list[str] = radi._study.snapshot.table("obs", "T1w").read(["_path"])["_path"].to_pylist()
    return found
