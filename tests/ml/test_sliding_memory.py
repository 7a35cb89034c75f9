"""A volume that does not fit: inference in a process whose memory is limited, read and written by windows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject

SHAPE = (288, 224, 224)
"""As float32 55 MiB; scores of four classes and MONAI's weights are five times that.

The sums that windows of 32 rows leave open are 31 MiB."""

SCRIPT = """
import resource, sys
import numpy as np, torch
from monai.inferers import sliding_window_inference
from radiobject import RadiObject
from radiobject.ml import SampleSpec
from radiobject.ml.monai import predict

torch.set_num_threads(1)
limits = torch.tensor([100.0, 300.0, 600.0]).view(1, 3, 1, 1, 1)


def network(windows):  # four classes, by three limits
    at = (windows > limits).sum(1, keepdim=True)
    return (torch.arange(4).view(1, 4, 1, 1, 1) == at).float()


def data_now():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmData")) * 1024


roi = (32, 112, 112)
small = RadiObject(sys.argv[1])
predict(small, SampleSpec("CT", patch_size=16), network, "warm")  # threads and libraries take theirs first
radi = RadiObject(sys.argv[2])
limit = data_now() + int(sys.argv[3]) * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
found = predict(radi, SampleSpec("CT", patch_size=roi), network, "parts")
print("windows:", found.iloc[0].get_statistics()["mean"])
try:
    whole = torch.from_numpy(radi.CT.iloc[0].to_numpy().astype("f4"))
    sliding_window_inference(whole[None, None], roi, 1, network)
except (MemoryError, RuntimeError) as error:
    print("whole:", type(error).__name__)
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts mapped memory on Linux only"
)
def test_a_volume_beyond_a_memory_limit_is_predicted(tmp_path: Path) -> None:
    x, y, z = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    voxels = (x + 2 * y + z).astype("i2")
    small = RadiObject.from_niftis(tmp_path / "small", {"CT": [((voxels[:20, :20, :20], np.eye(4)), "a")]})
    radi = RadiObject.from_niftis(tmp_path / "large", {"CT": [((voxels, np.eye(4)), "a")]})
    script = tmp_path / "limited.py"
    script.write_text(SCRIPT)
    words = [sys.executable, script, small.uri, radi.uri, "220"]
    ran = subprocess.run([str(w) for w in words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[1:] in (["whole: RuntimeError"], ["whole: MemoryError"]), ran.stdout
    found = RadiObject(radi.uri).parts.iloc[0]
    assert np.array_equal(found.to_numpy(), np.digitize(voxels, [100, 300, 600], right=True))
