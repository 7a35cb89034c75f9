# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: "1.3"
# ---

# %% [markdown]
# # Explore a study with xarray and dask
#
# A collection is one lazy array: volumes along `obs_id`, voxels along x, y, z in millimetres, the
# columns of the volume table beside them. Nothing is read before something is computed.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

from radiobject import Volume, measure
from radiobject.examples import study

radi = study(n=8, spacing=3.0)  # eight subjects, some of them scanned twice, in a temporary folder
radi

# %% [markdown]
# Some of these scans are tilted or turned. `to_xarray()` refuses to stack what does not lie on one
# grid; a volume as `grid=` puts all of them on its grid, each resampled when it is read.

# %%
with measure() as cost:
    brains = radi.T1w.to_xarray(grid=radi.T1w.iloc[0], chunks="volume")
print(f"{brains.nbytes / 1e6:.0f} MB of voxels in sight, {cost['chunks_decoded']} chunks read")
print(brains)

# %% [markdown]
# ## Statistics by a column
#
# Columns of the volume table and of the subject table are coordinates; `dx` is one of the latter.
# dask computes each group's mean volume in one pass, and reads every chunk once.

# %%
with measure() as cost:
    means = brains.groupby("dx").mean("obs_id").compute()
chunks = sum(np.prod([-(-n // 32) for n in volume.shape]) for volume in radi.T1w)
print(f"{cost['chunks_decoded']} chunks decoded; the collection has {chunks}")
means.mean(["x", "y", "z"]).to_series()

# %% [markdown]
# ## A mean image
#
# Coordinates are world millimetres, so a plane is picked by its place, and the accessor `.radi`
# knows the affine of whatever is left after slicing.

# %%
mean = brains.mean("obs_id").compute()
plane = mean.sel(z=10.0, method="nearest")
figure, axes = plt.subplots(figsize=(4, 4.6))
plane.plot.imshow(ax=axes, x="x", cmap="gray", add_colorbar=False)
axes.set(aspect="equal", title=f"mean of {brains.sizes['obs_id']} brains, z = {float(plane['z']):.0f} mm")
plt.show()

# %%
half = brains.isel(obs_id=0, x=slice(None, None, 2), y=slice(10, None))
half.radi.affine

# %% [markdown]
# A DataArray goes back into a Volume, and into a file:

# %%
print(half.radi.to_volume())
half.radi.to_nifti(Path(tempfile.mkdtemp()) / "half.nii.gz")

# %% [markdown]
# ## Image and mask as one Dataset
#
# `RadiObject.to_xarray` puts partners side by side: the mask of a scan is the one of its subject
# and session.

# %%
both = radi.to_xarray(["T1w", "seg"], grid=radi.T1w.iloc[0])
white = both["T1w"].where(both["seg"] == 2)
white.mean(["x", "y", "z"]).to_series().round(1)

# %% [markdown]
# ## A time course
#
# Four-dimensional volumes have an axis `t`, in seconds. Here is one that is made up: a bolus that
# passes.

# %%
seconds = np.arange(40) * 1.5
curve = 100 + 60 * np.exp(-(((seconds - 20) / 6) ** 2))
still = radi.T1w.iloc[0][20:40, 20:40, 20:32].astype("float32")
bolus = Volume.from_numpy(
    still[..., None] / 500 * curve.astype("float32"), np.diag([3, 3, 3, 1]), time_step=1.5
)
course = bolus.to_xarray()
figure, axes = plt.subplots(figsize=(5, 2.6))
course.mean(["x", "y", "z"]).plot(ax=axes)
axes.set(title="mean over the region", xlabel="s")
plt.show()

# %% [markdown]
# ## Without radiobject's own calls
#
# xarray opens a study by its URL (volumes on several grids: by voxel index), and any Zarr reader
# opens a volume:

# %%
print(xr.open_dataset(radi.uri, engine="radiobject", collection="T1w", grid="index"))

# %%
print(xr.open_zarr(radi.T1w.iloc[0].uri))
