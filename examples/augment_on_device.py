# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: "1.3"
# ---

# %% [markdown]
# # Augment whole batches on the device
#
# A `RadiLoader` reads with threads, and a transform of single samples in Python would make them take
# turns. So it only reads, and the batch is turned, scaled, mirrored and brightened where the network
# is: all its samples at once, on a GPU where there is one.
#
# `benchmarks/augment.py` compares plain torch with MONAI and kornia. On a CPU plain torch was the
# fastest, and it is what this page uses. No GPU was at hand when it was written: run the benchmark on
# yours.

# %%
import math

import matplotlib.pyplot as plt
import torch
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from radiobject.examples import study
from radiobject.ml import Foreground, PatchPlan, RadiLoader, SampleSpec

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
radi = study(n=6, spacing=3.0)
radi

# %% [markdown]
# ## The augmentation
#
# One matrix a sample holds rotation, scale and mirrors, so that voxels are interpolated once. The
# image and its mask are sampled on the same grid, the mask by nearest neighbour: it keeps its labels.


# %%
def matrices(count, generator, angle=15, scale=0.1):
    """(count, 3, 3), about the middle of the patch; angles in degrees."""

    def drawn(*shape):
        return torch.rand(*shape, generator=generator, device=device) * 2 - 1

    made = torch.eye(3, device=device).repeat(count, 1, 1)
    for axis in range(3):
        turn = torch.eye(3, device=device).repeat(count, 1, 1)
        theta = drawn(count) * math.radians(angle)
        a, b = [n for n in range(3) if n != axis]
        turn[:, a, a] = turn[:, b, b] = theta.cos()
        turn[:, a, b], turn[:, b, a] = -theta.sin(), theta.sin()
        made = made @ turn
    mirrors = drawn(count, 1, 3).sign()
    return made * mirrors * (1 + scale * drawn(count, 1, 3))


def augmented(batch, generator):
    """Image (B, C, X, Y, Z), float32, and label (B, 1, X, Y, Z) of a batch."""
    image, label = batch["image"], batch["label"]
    count, voxels = len(image), image.shape[2:]
    theta = torch.cat([matrices(count, generator), torch.zeros(count, 3, 1, device=device)], 2)
    grid = affine_grid(theta, [count, 1, *voxels], align_corners=False)
    image = grid_sample(image, grid, padding_mode="border", align_corners=False)
    label = grid_sample(label.float(), grid, mode="nearest", align_corners=False).to(label.dtype)
    gain, offset = 0.1 * torch.randn(2, count, 1, 1, 1, 1, generator=generator, device=device)
    return {**batch, "image": image * (1 + gain) + offset, "label": label}


# %% [markdown]
# ## Look at it
#
# The same batch as it was read, and as the network sees it, the mask drawn over it. A mask that has
# slipped off its image shows here at once.

# %%
spec = SampleSpec("T1w", "seg", patch_size=40)
loader = RadiLoader(PatchPlan(spec, radi, Foreground(per_volume=4), seed=1), batch_size=4, device=device)
generator = torch.Generator(device).manual_seed(0)


def scaled(batch):
    return {**batch, "image": (batch["image"] - 400) / 300}


plain = scaled(next(iter(loader)))
changed = augmented(plain, generator)
assert set(changed["label"].unique().tolist()) <= set(plain["label"].unique().tolist())

figure, rows = plt.subplots(2, 4, figsize=(10, 5.4), layout="constrained")
for axes, batch, name in zip(rows, (plain, changed), ("as read", "augmented"), strict=True):
    voxels = (batch[key].numpy(force=True) for key in ("image", "label"))
    for axis, image, label in zip(axes, *voxels, strict=True):
        axis.imshow(image[0, :, :, 20].T, cmap="gray", origin="lower", vmin=-1.5, vmax=2)
        axis.contour(label[0, :, :, 20].T > 1, levels=[0.5], colors="tab:orange", linewidths=1)
        axis.set(title=name, xticks=[], yticks=[])

# %% [markdown]
# ## Train, and see what is waited for
#
# `report()` says which share of the time the training loop waited for data. What the device does
# with a batch is not waiting: while it computes, the threads read the next ones.

# %%
layers = torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(8, 3, 3, padding=1)
net = torch.nn.Sequential(*layers).to(device)
optimizer = torch.optim.Adam(net.parameters(), 1e-2)
for epoch in range(2):
    for batch in loader:
        batch = augmented(scaled(batch), generator)
        loss = cross_entropy(net(batch["image"]), batch["label"][:, 0].long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.2f}")
report = loader.report()
print(report)

# %% [markdown]
# A generator of one's own makes the augmentation repeatable. It draws in the order of the batches: to
# go on after a break as if there was none, keep `generator.get_state()` beside `loader.state_dict()`.

# %%
print(f"waited {report.waiting_share:.1%} of {report.seconds:.1f} s on {device}")
