"""`python benchmarks` runs: peers in processes of their own agree, and figures have what pages show."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
FEW = ("radiobject", "radiobject, TileDB", "tensorstore", "zarr-python", "nibabel, .nii", "nibabel, .nii.gz")
SMALL = ("--size", "0.3", "--rounds", "1", "--volumes", "2", "--patches", "8", "--subjects", "200")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    for package in ("nilearn", "tiledb", "torch", "monai", "torchio"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("bench")
    only = ("--only", "reads", "patches", "training", "tables", "--images", "head, int16", "--peers", *FEW)
    out = ("--work", str(folder), "--json", str(folder / "out.json"))
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks"), *only, *SMALL, *out],
        capture_output=True, text=True, timeout=280, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def report(ran: tuple[Path, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ran[0] / "out.json").read_text())
    return found


def test_each_read_has_median_quartiles_bytes_and_memory(report: dict[str, Any]) -> None:
    reads = report["images"]["head, int16"]["reads"]
    assert set(reads) == {"open", "axial", "coronal", "sagittal", "64-cube", "96-cube", "128-cube", "whole"}
    for kind in ("axial", "64-cube"):
        assert set(reads[kind]) == set(FEW)
        for found in reads[kind].values():
            assert 0 < found["low"] <= found["median"] <= found["high"]
            assert found["n"] >= 8
            assert found["memory"] >= 0


def test_bytes_are_those_of_the_chunks_and_not_of_the_volume(report: dict[str, Any]) -> None:
    one = report["images"]["head, int16"]
    ours, whole = (one["reads"][kind]["radiobject"]["bytes"] for kind in ("axial", "whole"))
    assert 0 < ours < 0.8 * whole
    assert abs(whole - one["reads"]["whole"]["tensorstore"]["bytes"]) < 100
    assert one["reads"]["whole"]["nibabel, .nii.gz"]["bytes"] >= one["image"]["bytes_level6"]


def test_copying_is_below_decoding_is_below_reading(report: dict[str, Any]) -> None:
    limits = report["images"]["head, int16"]["limits"]
    assert all(limits["copy"][kind] < limits["decode"][kind] for kind in ("axial", "64-cube", "whole"))


def test_what_was_stored_is_counted_for_those_who_stored(report: dict[str, Any]) -> None:
    assert set(report["many"]["ingest"]) == {
        "radiobject",
        "radiobject, TileDB",
        "nibabel, .nii",
        "nibabel, .nii.gz",
    }
    assert set(report["many"]["patches"]) == set(FEW)
    assert all(found["bytes"] > 0 for found in report["many"]["ingest"].values())


def test_tables_are_asked_of_everybody(report: dict[str, Any]) -> None:
    answers = report["tables"]["200"]["filter obs"]
    assert {"radiobject", "radiobject, again", "pandas", "pyarrow.dataset"} <= set(answers)
    assert answers["radiobject"]["bytes_read"] > 0


def test_the_terminal_shows_the_tables_and_nothing_stays_behind(ran: tuple[Path, Any]) -> None:
    folder, done = ran
    assert "64-cube" in done.stdout
    assert [p.name for p in folder.iterdir() if p.is_dir()] == []


def test_a_peer_that_reads_other_voxels_ends_the_run(tmp_path: Path) -> None:
    pytest.importorskip("nilearn")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from proof.images import made\n"
        "from proof.peers import TABLE, serving\n"
        "from proof.reading import reads\n"
        "two = [w for w in TABLE if w.folder in ('zarr', 'nii')]\n"
        "image = made('head, int16', Path('in'), 0.2)\n"
        "with serving(two, Path('work'), {'scan': image.path}) as (peers, _):\n"
        "    file = Path('work/nii/scan.nii')\n"
        "    data = bytearray(file.read_bytes())\n"
        "    data[352:] = bytes(len(data) - 352)\n"
        "    file.write_bytes(data)\n"
        "    reads(peers, 'scan', image.shape, 1, kinds=('whole',))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "benchmarks")],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the peers disagree about the whole" in done.stderr
