"""Augmentation of whole batches on a device: who turns, mirrors and brightens them fastest, and rightly.

    python benchmarks/augment.py                        # about two minutes on two cores
    python benchmarks/augment.py --device cuda          # where there is one
    python benchmarks/augment.py --edge 24 --rounds 1 --json FILE

Batches (B, C, X, Y, Z) of float32 images and uint8 masks, as `RadiLoader` gives them: strided over memory in
disk order. Every contender mirrors each axis half of the time, turns by up to 15 degrees about each axis,
scales by 0.9 to 1.1, and changes gain, offset and noise of the image; every sample has numbers of its own. A
mask is turned as its image is, by nearest neighbour, and that is checked: no new labels, and the border where
the image has it.

MONAI and kornia are looked at where they are installed: `pip install monai kornia`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import command_line, machine_line

__all__: list[str] = []

Augment = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
ANGLE, SCALE, GAIN, NOISE = 15.0, 0.1, 0.1, 0.02


def main() -> None:
    """Run, print, and write figures when asked."""
    options = _options()
    packages = ["torch", *(name for name in ("monai", "kornia") if importlib.util.find_spec(name))]
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    report: dict[str, Any] = {"machine": machine_line(*packages), "command": command_line(), "ms": {}}
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"{report['machine']}\n$ {report['command']}, on {device} ({where})")
    image, mask = _batch(options.batch, options.channels, options.edge, device)
    ways = _ways()
    for name, way in ways.items():
        report["ms"][name] = []
        report.setdefault("agreement", {})[name] = _agreement(way, device)
    for number in range(options.rounds + 1):
        for name, way in ways.items():
            torch.manual_seed(number)
            begun = time.perf_counter()
            way(image, mask)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:  # the first only warms up
                report["ms"][name].append((time.perf_counter() - begun) * 1e3)
    shape = "x".join(str(n) for n in image.shape)
    print(f"{shape}, median of {options.rounds} rounds in turn; Dice of the mask with its image")
    for name, seconds in report["ms"].items():
        report["ms"][name] = statistics.median(seconds)
        print(f"{name:32} {report['ms'][name]:8.1f} ms a batch   {report['agreement'][name]:.3f}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--edge", type=int, default=96, help="cubes of so many voxels")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="of torch; default its own")
    return parser.parse_args()


def _batch(size: int, channels: int, edge: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """A block with a quarter of the edge free around it, in labels and in grey, in memory in disk order."""
    grey = torch.zeros(size, channels, edge, edge, edge, device=device)
    inner = slice(edge // 4, edge - edge // 4)
    grey[:, :, inner, inner, inner] = 1
    labels = grey[:, :1].to(torch.uint8) * 3
    return grey.permute(0, 1, 4, 3, 2), labels.permute(0, 1, 4, 3, 2)


def _agreement(way: Augment, device: torch.device) -> float:
    """Dice of a mask with the half-high surface of its image, where only space changed; checks the labels."""
    torch.manual_seed(0)
    image, mask = _batch(2, 1, 48, device)
    # gain, offset and noise then move the surface by a small part of a voxel
    grey, labels = way(image * 100, mask)
    assert grey.shape == image.shape
    assert labels.shape == mask.shape
    found = labels.unique().tolist()
    assert set(found) == {0, 3}, f"labels 0 and 3 became {found}"
    assert not torch.equal(labels, mask)
    inside, marked = grey > 50, labels > 0
    return float(2 * (inside & marked).sum() / (inside.sum() + marked.sum()))


def _ways() -> dict[str, Augment]:
    ways: dict[str, Augment] = {"torch": _by_torch, "torch, on contiguous memory": _by_torch_turned}
    if importlib.util.find_spec("monai"):
        ways["MONAI AffineTransform"] = _by_monai_batch
        ways["MONAI dictionary transforms"] = _monai_items()
    if importlib.util.find_spec("kornia"):
        ways["kornia"] = _kornia()
    return ways


def _matrices(image: torch.Tensor) -> torch.Tensor:
    """Rotation, scale and mirror of each sample, (B, 3, 3), about the middle."""
    count, where = len(image), {"device": image.device}
    angles = (torch.rand(count, 3, **where) * 2 - 1) * torch.pi * ANGLE / 180
    sin, cos, one, zero = angles.sin(), angles.cos(), torch.ones(count, **where), torch.zeros(count, **where)
    turns = [
        [one, zero, zero, zero, cos[:, 0], -sin[:, 0], zero, sin[:, 0], cos[:, 0]],
        [cos[:, 1], zero, sin[:, 1], zero, one, zero, -sin[:, 1], zero, cos[:, 1]],
        [cos[:, 2], -sin[:, 2], zero, sin[:, 2], cos[:, 2], zero, zero, zero, one],
    ]
    x, y, z = (torch.stack(turn, 1).view(count, 3, 3) for turn in turns)
    scale = 1 + (torch.rand(count, 1, 3, **where) * 2 - 1) * SCALE
    mirror = torch.randint(0, 2, (count, 1, 3), **where) * 2 - 1
    return z @ y @ x * scale * mirror


def _brightened(image: torch.Tensor) -> torch.Tensor:
    one = (len(image), 1, 1, 1, 1)
    gain = 1 + (torch.rand(one, device=image.device) * 2 - 1) * GAIN
    offset = (torch.rand(one, device=image.device) * 2 - 1) * GAIN
    return torch.addcmul(offset, image, gain) + torch.randn_like(image) * NOISE


def _by_torch(image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One grid for both, which is all the geometry at once."""
    theta = torch.cat([_matrices(image), image.new_zeros(len(image), 3, 1)], 2)
    grid = torch.nn.functional.affine_grid(theta, [len(image), 1, *image.shape[2:]], align_corners=False)
    sample = torch.nn.functional.grid_sample
    turned = sample(image, grid, padding_mode="border", align_corners=False)
    labels = sample(mask.float(), grid, mode="nearest", align_corners=False)
    return _brightened(turned), labels.to(mask.dtype)


def _by_torch_turned(image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As `_by_torch` on (B, C, Z, Y, X), in which the same memory is contiguous."""
    grey, labels = _by_torch(image.permute(0, 1, 4, 3, 2), mask.permute(0, 1, 4, 3, 2))
    return grey.permute(0, 1, 4, 3, 2), labels.permute(0, 1, 4, 3, 2)


def _by_monai_batch(image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    from monai.networks.layers import AffineTransform

    theta = torch.cat([_matrices(image), image.new_zeros(len(image), 3, 1)], 2)
    how = {"normalized": True, "align_corners": False, "reverse_indexing": False}
    turned = AffineTransform(mode="bilinear", padding_mode="border", **how)(image, theta)
    labels = AffineTransform(mode="nearest", padding_mode="zeros", **how)(mask.float(), theta)
    return _brightened(turned), labels.to(mask.dtype)


def _monai_items() -> Augment:
    """One sample at a time: MONAI's random transforms know no batches."""
    from monai import transforms as monai

    both, turn = ["image", "label"], [torch.pi * ANGLE / 180] * 3
    steps = monai.Compose(
        [
            *(monai.RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(3)),
            monai.RandAffined(
                both, prob=1, rotate_range=turn, scale_range=[SCALE] * 3, mode=("bilinear", "nearest"),
                padding_mode=("border", "zeros"),
            ),
            monai.RandScaleIntensityd("image", factors=GAIN, prob=1),
            monai.RandShiftIntensityd("image", offsets=GAIN, prob=1),
            monai.RandGaussianNoised("image", prob=1, std=NOISE),
        ]
    )  # fmt: skip

    def augment(image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        made = [steps({"image": i, "label": m}) for i, m in zip(image, mask, strict=True)]
        grey, labels = (torch.stack([one[key].as_tensor() for one in made]) for key in both)
        return grey, labels.to(mask.dtype)

    return augment


def _kornia() -> Augment:
    """Its container of several inputs refuses 3-D masks, so a second set repeats the numbers of the first."""
    import kornia.augmentation as kornia

    def steps(resample: str) -> list[Any]:
        flips = kornia.RandomHorizontalFlip3D, kornia.RandomVerticalFlip3D, kornia.RandomDepthicalFlip3D
        scale = ((1 - SCALE, 1 + SCALE),) * 3
        turn = kornia.RandomAffine3D((ANGLE,) * 3, scale=scale, resample=resample, p=1.0)
        return [*(flip(p=0.5) for flip in flips), turn]

    of_images, of_masks = steps("bilinear"), steps("nearest")

    def augment(image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        labels = mask.float()
        for first, second in zip(of_images, of_masks, strict=True):
            image = first(image)
            labels = second(labels, params=first._params)
        return _brightened(image), labels.to(mask.dtype)

    return augment


if __name__ == "__main__":
    main()
