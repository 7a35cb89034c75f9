# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: "1.3"
# ---

# %% [markdown]
# # Train a small U-Net, with MONAI or TorchIO transforms, from any place
#
# One script for a study on a local disk, on S3 or on TileDB: only its URI changes.
#
# ```console
# STUDY=studies/glioma                       python train_segmentation.py
# STUDY=s3://bucket/glioma TRANSFORMS=torchio python train_segmentation.py
# ```
#
# Without `STUDY` it trains on the example heads, which takes half a minute on two cores.

# %%
import json
import os

import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet

from radiobject import RadiObject
from radiobject.examples import study
from radiobject.ml import Foreground, PatchPlan, RadiLoader, SampleSpec
from radiobject.ml.monai import argmax, sliding_window

ask = os.environ.get
radi = RadiObject(ask("STUDY")) if "STUDY" in os.environ else study(n=4)
IMAGE, MASK = ask("IMAGE", "T1w"), ask("MASK", "seg")
CLASSES = [int(value) for value in ask("CLASSES", "1 2").split()]
EDGE, STEPS = int(ask("EDGE", "32")), int(ask("STEPS", "60"))
torch.manual_seed(0)
radi

# %% [markdown]
# ## The samples
#
# Patches of the image with its mask, half of them centred on a voxel of one of the classes. Where these
# lie stands in an index beside each mask, so that no mask is read for it.

# %%
spec = SampleSpec(IMAGE, MASK, patch_size=EDGE)
plan = PatchPlan(spec, radi, Foreground(0.5, CLASSES, per_volume=8), seed=1, locality=2)
print(len(plan.cohort), "samples,", len(plan), "patches an epoch")

# %% [markdown]
# ## The transforms
#
# Usual ones, unchanged. MONAI's get a `MetaTensor`, TorchIO's a `Subject`, with the affine of the
# patch; their random numbers follow from the patch's seed. The range of intensities comes from the
# volume table: it was computed when the volumes were written.

# %%
table = radi.collection(IMAGE).obs
low, high = float(table["intensity_p0_5"].min()), float(table["intensity_p99_5"].max())


def with_monai():
    from monai.transforms import Compose, RandFlipd, RandScaleIntensityd, ScaleIntensityRanged

    return Compose(
        [
            ScaleIntensityRanged(["image"], low, high, 0.0, 1.0, clip=True),
            RandFlipd(["image", "label"], prob=0.5, spatial_axis=0),
            RandScaleIntensityd(["image"], factors=0.1, prob=0.5),
        ]
    )


def with_torchio():
    import torchio as tio

    return tio.Compose(
        [
            tio.Clamp(low, high),
            tio.RescaleIntensity((0.0, 1.0), in_min_max=(low, high)),
            tio.RandomFlip(axes=(0,)),
            tio.RandomGamma(log_gamma=0.1, p=0.5),
        ]
    )


transform = {"monai": with_monai, "torchio": with_torchio}[ask("TRANSFORMS", "monai")]()

# %% [markdown]
# ## The loop


# %%
def classes_of(label):
    """(B, 1, X, Y, Z) with 0 for all else, then one number for each of CLASSES."""
    return sum(torch.where(label == value, n, 0) for n, value in enumerate(CLASSES, 1))


network = UNet(3, 1, len(CLASSES) + 1, channels=(16, 32, 64), strides=(2, 2), norm="instance")
optimizer = torch.optim.Adam(network.parameters(), 1e-2)
loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
losses = []
with RadiLoader(plan, batch_size=2, transform=transform) as loader:
    while len(losses) < STEPS:
        for batch in loader:
            loss = loss_of(network(batch["image"]), classes_of(batch["label"]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            if len(losses) == STEPS:
                break
    print(loader.report())
print(f"loss {np.mean(losses[:5]):.2f} -> {np.mean(losses[-5:]):.2f} in {STEPS} steps")

# %% [markdown]
# ## What it has learned
#
# MONAI's sliding window over whole volumes, which are read window by window. That these are the volumes
# it was trained on shows only that it learns; `radi.split(...)` keeps subjects apart for a real one.
# `radiobject.ml.monai.predict` does the same for a study and adds the results as a collection.

# %%
network.eval()


def scaled(window):
    return network(((window - low) / (high - low)).clip(0, 1))


overlaps = []
for sample in range(len(plan.cohort)):
    image, mask = (plan.cohort.volume(sample, stream) for stream in (0, 1))
    found = sliding_window(image, scaled, EDGE, overlap=0.5, mode="gaussian", post=argmax)
    truth = classes_of(torch.from_numpy(mask.to_numpy())).numpy()
    for n in range(1, len(CLASSES) + 1):
        ours, theirs = found == n, truth == n
        if theirs.any():
            overlaps.append(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()))
dice = float(np.mean(overlaps))
print(f"Dice {dice:.2f}, mean over volumes and classes")

# %%
told = {"uri": radi.uri, "backend": radi.collection(IMAGE).backend, "dice": dice, "losses": losses}
if "RESULT" in os.environ:
    with open(os.environ["RESULT"], "w") as file:
        json.dump(told, file)
