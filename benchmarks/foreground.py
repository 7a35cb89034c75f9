"""Patches on the foreground of a large label map: our index beside MONAI's and TorchIO's samplers.

    python benchmarks/foreground.py                  # about two minutes, 0.3 GB of temporary files
    python benchmarks/foreground.py --json FILE --rounds 9
    python benchmarks/foreground.py --shape 96 96 64 --edge 24 --rounds 2

A CT-like int16 volume of 512 x 512 x 300 voxels and its label map (tissues of a real head, and a lesion of
some hundred voxels). "4 patches" are cubes of image and label; half of them lie on the foreground. Ours are
read from disk, from a study that is opened anew in each round; theirs are cut from arrays that are in memory
already, which is told apart from loading them. The other half lies anywhere; MONAI's on the background.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import torch
import torchio as tio
from data import head
from machine import command_line, machine_line
from monai.transforms import FgBgToIndicesd, RandCropByPosNegLabeld
from scipy import ndimage

from radiobject import RadiObject, measure
from radiobject.ml.plan import PatchPlan
from radiobject.ml.reading import read_sample
from radiobject.ml.sampling import Foreground
from radiobject.ml.spec import SampleSpec
from radiobject.writing.foreground import index_voxels

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "tensorstore", "torch", "monai", "torchio", "numpy")
PATCHES = 4
AFFINE = np.diag([0.8, 0.8, 1.0, 1.0])


def main() -> None:
    """Run, print, and write figures when asked."""
    options = _options()
    torch.manual_seed(0)
    report: dict[str, Any] = {"machine": machine_line(*PACKAGES), "command": command_line()}
    print(f"{report['machine']}\n$ {report['command']}")
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        image, label = _volume(options.shape)
        files = {name: Path(work) / f"{name}.nii.gz" for name in ("CT", "seg")}
        for name, voxels in (("CT", image), ("seg", label)):
            nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), files[name])
        radi = RadiObject.from_niftis(
            Path(work) / "study", {n: [(str(p), "sub-01")] for n, p in files.items()}, labels=["seg"],
            progress=False,
        )  # fmt: skip
        report["index"] = _index(radi, label, options.rounds)
        report["seconds"] = _four_patches(radi.uri, files, image, label, options)
        report["cost"] = _cost(radi.uri, options.edge)
    print("index", json.dumps(report["index"]))
    print("cost of ours", json.dumps(report["cost"]))
    base = report["seconds"]["ours, from disk"]["median"]
    labels = [report["seconds"][f"{who}, the label map alone, {how}"]["median"]
              for who, how in (("MONAI", "in memory"), ("ours", "study open"))]  # fmt: skip
    report["ratio_of_label_maps"] = labels[0] / labels[1]
    print(f"the label map alone: MONAI {labels[0] / labels[1]:.1f} x ours")
    for name, found in report["seconds"].items():
        times = found["median"] / base
        print(
            f"{name}: {found['median'] * 1e3:,.1f} ms (from {found['min'] * 1e3:,.1f}), {times:,.1f} x ours"
        )
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 512, 300], metavar="N")
    parser.add_argument("--edge", type=int, default=96, help="cubes of so many voxels")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def _volume(shape: list[int]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """A head as CT-like numbers, and its tissues with a small lesion."""
    voxels = head()
    factors = [n / m for n, m in zip(shape, voxels.shape, strict=True)]
    fine = ndimage.zoom(voxels, factors, order=1)
    smooth = ndimage.gaussian_filter(fine, 1.5)
    label = np.digitize(smooth, [150, 350, 600]).astype(np.uint8)
    at = tuple(slice(n // 2, n // 2 + max(n // 64, 2)) for n in shape)
    label[at] = 4
    return (fine - 1024).astype(np.int16), label


def _index(radi: RadiObject, label: npt.NDArray[np.uint8], rounds: int) -> dict[str, Any]:
    """Size, and the time that building it adds to an ingest."""
    on_disk = np.ascontiguousarray(label.T)
    (path,) = (Path(radi.uri) / "indexes").rglob("*.fg")
    seconds = _timed(lambda: index_voxels(on_disk, (32, 32, 32)), rounds)["median"]
    return {
        "bytes": path.stat().st_size,
        "values": len(np.unique(label)),
        "seconds_to_build": seconds,
        "bytes_of_the_label_map": label.nbytes,
    }


def _ours(uri: str, edge: int, seed: int) -> list[dict[str, Any]]:
    """Open the study, place four patches, read image and label."""
    spec = SampleSpec("CT", "seg", patch_size=edge, dtype="native")
    plan = PatchPlan(spec, RadiObject(uri), Foreground(0.5, per_volume=PATCHES), seed=seed)
    return [read_sample(plan.cohort, request) for request in plan]


def _labels(plan: PatchPlan, epoch: int, edge: int) -> list[npt.NDArray[Any]]:
    """Place four patches of an open study, and read the label map alone."""
    plan.set_epoch(epoch)
    mask = plan.cohort.volume(0, 1)
    return [mask[tuple(slice(n, n + edge) for n in request.start)] for request in plan]


def _cost(uri: str, edge: int) -> dict[str, Any]:
    with measure() as cost:
        _ours(uri, edge, 0)
    return {k: cost[k] for k in ("bytes_read", "bytes_used", "indexes_opened", "volumes_opened")}


def _four_patches(
    uri: str,
    files: dict[str, Path],
    image: npt.NDArray[np.int16],
    label: npt.NDArray[np.uint8],
    options: argparse.Namespace,
) -> dict[str, dict[str, float]]:
    sample = {"image": torch.from_numpy(image)[None], "label": torch.from_numpy(label)[None]}
    size = (options.edge,) * 3
    crop = RandCropByPosNegLabeld(
        ["image", "label"], label_key="label", spatial_size=size, pos=1, neg=1, num_samples=PATCHES
    )
    indexed = FgBgToIndicesd("label")(dict(sample))
    held = sum(indexed[k].nbytes for k in ("label_fg_indices", "label_bg_indices"))
    prepared = RandCropByPosNegLabeld(
        ["image", "label"], label_key="label", spatial_size=size, pos=1, neg=1, num_samples=PATCHES,
        fg_indices_key="label_fg_indices", bg_indices_key="label_bg_indices",
    )  # fmt: skip
    subject = tio.Subject(
        image=tio.ScalarImage(tensor=sample["image"], affine=AFFINE),
        label=tio.LabelMap(tensor=sample["label"], affine=AFFINE),
    )
    sampler = tio.LabelSampler(options.edge, "label")
    alone = RandCropByPosNegLabeld(
        ["label"], label_key="label", spatial_size=size, pos=1, neg=1, num_samples=PATCHES
    )
    spec = SampleSpec("CT", "seg", patch_size=options.edge, dtype="native")
    plan = PatchPlan(spec, RadiObject(uri), Foreground(0.5, per_volume=PATCHES))
    seeds = iter(range(10**6))
    ways: dict[str, Callable[[], Any]] = {
        "ours, from disk": lambda: _ours(uri, options.edge, next(seeds)),
        "MONAI RandCropByPosNegLabeld, in memory": lambda: crop(dict(sample)),
        "ours, the label map alone, study open": lambda: _labels(plan, next(seeds), options.edge),
        "MONAI, the label map alone, in memory": lambda: alone({"label": sample["label"]}),
        f"MONAI with indices prepared ({held / 1e6:.0f} MB), in memory": lambda: prepared(dict(indexed)),
        "TorchIO LabelSampler, in memory": lambda: list(sampler(subject, PATCHES)),
        "loading both .nii.gz with nibabel": lambda: [
            np.asarray(nibabel.load(p).dataobj) for p in files.values()
        ],
    }
    return {name: _timed(way, options.rounds) for name, way in ways.items()}


def _timed(way: Callable[[], Any], rounds: int) -> dict[str, float]:
    way()
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        way()
        seconds.append(time.perf_counter() - begun)
    return {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}


if __name__ == "__main__":
    main()
