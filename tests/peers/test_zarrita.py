"""zarrita, on node, reads what we write: every dtype, rank and preset, and levels at "pyramid/1"."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from foreign.server import FileServer, serve
from foreign.studies import Written

from peers.pyramids import write_pyramid
from radiobject import Volume

pytestmark = pytest.mark.peers

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def zarrita() -> Callable[..., list[dict[str, Any]]]:
    """`zarrita(url, ...)` gives what one node process found in those volumes; required under CI."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("node and npm (20 or newer) are required here")
        pytest.skip("no node: install node 20 or newer")
    installed = HERE / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (HERE / "package-lock.json").stat().st_mtime:
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=HERE, check=True, timeout=120, capture_output=True)

    def read(*urls: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            [node, "zarrita.mjs", *urls], cwd=HERE, capture_output=True, text=True, timeout=120, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    return read


def expected(path: str, voxels: npt.NDArray[Any], axes: list[str]) -> dict[str, Any]:
    """What the script must print of one level."""
    z = voxels.ndim - 3
    last = voxels[(-1,) * voxels.ndim]
    return {
        "path": path,
        "shape": list(voxels.shape),
        "stride": [s // voxels.itemsize for s in np.ascontiguousarray(voxels).strides],
        "dtype": voxels.dtype.name,
        "dimensions": axes,
        "whole": digest(voxels),
        "plane": digest(np.take(voxels, voxels.shape[z] // 2, axis=z)),
        # JavaScript prints 5, not 5.0; a float's digits are compared through the digest
        "last": str(last.item()) if voxels.dtype.kind in "iu" else None,
    }


def digest(voxels: npt.NDArray[Any]) -> str:
    return hashlib.sha256(voxels.tobytes()).hexdigest()


def test_zarrita_reads_every_volume(
    written: Written, served: FileServer, zarrita: Callable[..., Any]
) -> None:
    volumes = list(written.items())
    reports = zarrita(*(f"{served.url}/{folder}" for _, folder, _ in volumes))
    assert len(reports) == len(volumes) > 20
    fourth = written.name.rsplit("-", 1)[-1][0]
    for (name, _, voxels), report in zip(volumes, reports, strict=True):
        axes = [*{3: [], 4: [fourth], 5: ["t", "c"]}[voxels.ndim], "z", "y", "x"]
        assert (report["version"], report["axes"]) == ("0.5", axes), name
        wanted = expected("0", voxels, axes)
        assert [{**level, "last": wanted["last"] and level["last"]} for level in report["levels"]] == [
            wanted
        ], name


def test_zarrita_reads_levels_in_a_nested_group(tmp_path: Path, zarrita: Callable[..., Any]) -> None:
    full, half = write_pyramid(tmp_path, "v.ome.zarr")
    with serve(tmp_path) as server:
        (report,) = zarrita(f"{server.url}/v.ome.zarr")
    axes = ["z", "y", "x"]
    assert report["levels"] == [expected("0", full, axes), expected("pyramid/1", half, axes)]


def test_zarrita_reads_what_the_viewer_serves(tmp_path: Path, zarrita: Callable[..., Any]) -> None:
    pytest.importorskip("neuroglancer", reason="needs pip install 'radiobject-zarr[viewer]'")
    full, half = write_pyramid(tmp_path, "v.ome.zarr")
    with Volume(tmp_path / "v.ome.zarr").view() as session:
        (layer,) = session.viewer.state.layers
        (report,) = zarrita(str(layer.source[0].url).removesuffix("/|zarr3:"))
    axes = ["z", "y", "x"]
    assert report["levels"] == [expected("0", full, axes), expected("pyramid/1", half, axes)]
