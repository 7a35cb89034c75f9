"""A U-Net learns a real CT, with MONAI's and with TorchIO's transforms, from a disk, S3 and TileDB alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from radiobject import RadiObject
from tests.servers.s3 import s3_server

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "train_segmentation.py"
LEARN, LOOK = 300, 12
"""Steps until it has learned the volume, and steps that show that batches are the same."""


@pytest.fixture(scope="module")
def study(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RadiObject:
    """A CT of 122 x 101 x 30 voxels with its organs: 5 is the liver, 20 the colon."""
    folder = real_data / "totalsegmentator"
    images = {
        "CT": [(str(folder / "example_ct_sm.nii.gz"), "s1")],
        "seg": [(str(folder / "example_seg.nii.gz"), "s1")],
    }
    place = tmp_path_factory.mktemp("real") / "study"
    return RadiObject.from_niftis(place, images, labels=["seg"], progress=False)


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, Any]]:
    with s3_server("training") as options:
        yield options


def trained(uri: str, folder: Path, transforms: str, steps: int, **more: str) -> dict[str, Any]:
    """What the script says: the place alone is different, and which library's transforms."""
    env = {
        **os.environ, **more, "STUDY": uri, "TRANSFORMS": transforms, "IMAGE": "CT", "CLASSES": "5 20",
        "EDGE": "48", "STEPS": str(steps), "RESULT": str(folder / "result.json"),
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT)], env=env, capture_output=True, text=True, timeout=400
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


@pytest.fixture(scope="module")
def learned(study: RadiObject, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {t: trained(study.uri, tmp_path_factory.mktemp(t), t, LEARN) for t in ("monai", "torchio")}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("transforms", ["monai", "torchio"])
def test_it_learns_the_volume_that_it_sees(learned: dict[str, Any], transforms: str) -> None:
    found = learned[transforms]
    assert sum(found["losses"][-5:]) < sum(found["losses"][:5]) / 3
    assert found["dice"] > 0.8


@pytest.mark.timeout(300)
def test_the_same_batches_come_from_tiledb(
    study: RadiObject, learned: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("tiledb")
    copy = study.write(tmp_path / "on-tiledb", backend="tiledb", progress=False)
    found = trained(copy.uri, tmp_path, "monai", LOOK)
    assert found["backend"] == "tiledb"
    assert found["losses"] == pytest.approx(learned["monai"]["losses"][:LOOK], rel=1e-5)


@pytest.mark.timeout(300)
def test_the_same_batches_come_from_s3(
    study: RadiObject, learned: dict[str, Any], bucket: dict[str, Any], tmp_path: Path
) -> None:
    uri = "s3://training/study"
    study.write(uri, storage_options=bucket, progress=False)
    credentials = {
        "AWS_ENDPOINT_URL": bucket["endpoint_url"], "AWS_ACCESS_KEY_ID": bucket["key"],
        "AWS_SECRET_ACCESS_KEY": bucket["secret"], "AWS_REGION": "us-east-1",
    }  # fmt: skip
    found = trained(uri, tmp_path, "torchio", LOOK, **credentials)
    assert found["uri"] == uri
    assert found["losses"] == pytest.approx(learned["torchio"]["losses"][:LOOK], rel=1e-5)
