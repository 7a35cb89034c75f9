"""A small 3-D U-Net trained on a CPU from a local study: how long it waits for data, and in which memory.

    python benchmarks/training.py                     # about five minutes, 0.5 GB of temporary files
    python benchmarks/training.py --json FILE --threads 1
    python benchmarks/training.py --volumes 2 --spacing 6 --steps 3 --edge 16

Images of int16 and their masks, batches of two patches, foreground sampling. "Memory" is the same step on
batches made in three ways: (C, X, Y, Z) strided over memory in disk order, which is what the loader gives;
turned by NumPy while copying; turned by torch afterwards.
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

import numpy as np
import torch
from machine import command_line, machine_line
from torch import nn

from radiobject import RadiObject
from radiobject.examples import cohort
from radiobject.ml.loader import RadiLoader
from radiobject.ml.plan import PatchPlan
from radiobject.ml.sampling import Foreground
from radiobject.ml.scratch import Scratch
from radiobject.ml.spec import SampleSpec

__all__: list[str] = []

PACKAGES = ("radiobject-zarr", "tensorstore", "torch", "numpy")
CLASSES = 3


class UNet(nn.Module):
    """Two levels down, two up; `width` channels at the finest."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        sizes = (width, 2 * width, 4 * width)
        self.down = nn.ModuleList([_block(a, b) for a, b in zip((1, *sizes), sizes, strict=False)])
        self.up = nn.ModuleList([_block(a + b, b) for a, b in ((sizes[2], sizes[1]), (sizes[1], sizes[0]))])
        self.head = nn.Conv3d(width, CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores (B, classes, X, Y, Z) of an image (B, 1, X, Y, Z)."""
        kept = []
        for number, block in enumerate(self.down):
            x = block(nn.functional.max_pool3d(x, 2) if number else x)
            kept.append(x)
        for block, skip in zip(self.up, kept[-2::-1], strict=True):
            x = block(torch.cat([nn.functional.interpolate(x, size=skip.shape[2:]), skip], 1))
        scores: torch.Tensor = self.head(x)
        return scores


def _block(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv3d(inputs, outputs, 3, padding=1)
    return nn.Sequential(conv, nn.InstanceNorm3d(outputs), nn.ReLU())


def main() -> None:
    """Run, print, and write figures when asked."""
    options = _options()
    torch.manual_seed(0)
    if options.threads:
        torch.set_num_threads(options.threads)
    report: dict[str, Any] = {"machine": machine_line(*PACKAGES), "command": command_line()}
    print(f"{report['machine']}\n$ {report['command']}, {torch.get_num_threads()} threads of torch")
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        made = cohort(Path(work) / "nifti", options.volumes, spacing=options.spacing, progress=False)
        radi = RadiObject.from_niftis(
            Path(work) / "study", made.images, made.obs_meta, labels=["seg"], progress=False
        )
        spec = SampleSpec("T1w", "seg", patch_size=options.edge)
        report["waiting"] = {}
        for name, cache in (("as stored", None), ("Scratch", Scratch(Path(work) / "scratch"))):
            plan = PatchPlan(spec, radi, Foreground(per_volume=-(-2 * options.steps // len(radi.T1w))))
            found = _trained(RadiLoader(plan, 2, cache=cache), options.steps)
            report["waiting"][name] = found
            print(f"{name}: waits {found['waiting']:.2%} of the time, {found['step'] * 1e3:.0f} ms a step")
            print(found["report"])
    report["memory"] = _memory(options)
    for name, found in report["memory"].items():
        made_ms, step_ms = found["made"] * 1e3, found["step"] * 1e3
        print(f"memory {name}: {made_ms:.2f} ms of CPU to make a batch, {step_ms:.0f} ms with the step")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for temporary files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--volumes", type=int, default=10)
    parser.add_argument(
        "--spacing", type=float, default=1.0, help="voxel size in mm; 1 is 197x233x189 voxels"
    )
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--edge", type=int, default=64, help="cubes of so many voxels")
    parser.add_argument("--threads", type=int, help="of torch; default its own")
    return parser.parse_args()


def _step(model: nn.Module, best: torch.optim.Optimizer, image: torch.Tensor, label: torch.Tensor) -> float:
    best.zero_grad()
    loss = nn.functional.cross_entropy(model(image), label)
    loss.backward()  # type: ignore[no-untyped-call]
    best.step()
    return loss.item()


def _trained(loader: RadiLoader, steps: int) -> dict[str, Any]:
    """One epoch to warm up (it fills a cache), and one that counts."""
    model = UNet()
    best = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in loader:
        pass
    seconds = []
    for number, batch in enumerate(loader):
        begun = time.perf_counter()
        image = (batch["image"] - 400) / 300
        _step(model, best, image, batch["label"][:, 0].long())
        seconds.append(time.perf_counter() - begun)
        if number + 1 == steps:
            break
    found = loader.report()
    loader.close()
    return {
        "waiting": found.waiting_share,
        "step": statistics.median(seconds),
        "limits": found.slowest,
        "report": str(found),
    }


def _memory(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median seconds of CPU to make a batch of int16 ready, and with a training step on it."""
    side = (options.edge,) * 3
    rng = np.random.default_rng(0)
    sources = [rng.integers(0, 900, (2, 1, *side)).astype(np.int16) for _ in range(4)]
    label = torch.from_numpy(rng.integers(0, CLASSES, (2, *side)))
    target = np.empty((2, 1, *side), np.float32)

    def strided(source: Any) -> torch.Tensor:
        np.copyto(target, source)
        return torch.from_numpy(target).permute(0, 1, 4, 3, 2)

    def by_numpy(source: Any) -> torch.Tensor:
        np.copyto(target, source.transpose(0, 1, 4, 3, 2))
        return torch.from_numpy(target)

    ways: dict[str, Callable[[Any], torch.Tensor]] = {
        "disk order, strided": strided,
        "turned by NumPy": by_numpy,
        "turned by torch": lambda source: strided(source).contiguous(),
    }
    model = UNet()
    best = torch.optim.Adam(model.parameters(), 1e-3)
    made: dict[str, list[float]] = {name: [] for name in ways}
    whole: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.steps + 1):
        for name, way in ways.items():
            begun = time.process_time()
            image = way(sources[number % 4])
            ready = time.process_time()
            _step(model, best, image, label)
            if number:  # the first only warms up
                made[name].append(ready - begun)
                whole[name].append(time.process_time() - begun)
    return {
        name: {"made": statistics.median(made[name]), "step": statistics.median(whole[name])} for name in ways
    }


if __name__ == "__main__":
    main()
