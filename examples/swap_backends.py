# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: "1.3"
# ---

# %% [markdown]
# # Swap backends and compare
#
# A study keeps its voxels in Zarr or in TileDB arrays. Tables and commits are the same, and so is
# every line of Python. This notebook writes one study both ways, checks that nothing differs, and
# counts what reads cost.

# %%
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from radiobject import RadiObject, measure
from radiobject.examples import cohort

folder = Path(tempfile.mkdtemp())
files = cohort(folder / "nifti", n=3, spacing=3.0)  # NIfTI files of three brains
radi = RadiObject.from_niftis(folder / "zarr", files.images, files.obs_meta)
radi

# %% [markdown]
# `write` copies a study or a view. Opening finds out the backend.

# %%
radi.write(folder / "tiledb", backend="tiledb")
studies = {"zarr": RadiObject(folder / "zarr"), "tiledb": RadiObject(folder / "tiledb")}
{name: study.T1w.backend for name, study in studies.items()}

# %% [markdown]
# Every voxel, affine, header byte and column is the same:

# %%
for name in radi.collection_names:
    one, other = (study.collection(name) for study in studies.values())
    pd.testing.assert_frame_equal(one.obs.read(), other.obs.read())
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a[:], b[:])
        np.testing.assert_array_equal(a.affine, b.affine)
        assert a.extra("nifti") == b.extra("nifti")
"equal"

# %% [markdown]
# What differs is how the bytes lie, and what a read costs. These are small brains, and nobody took
# turns: the page of benchmarks has larger ones, with peers.

# %%
rows = []
for backend, study in studies.items():
    volume = study.T1w.iloc[0]
    stored = sum(file.stat().st_size for file in Path(volume.uri).rglob("*") if file.is_file())
    volume[0, 0, 0]  # opens it
    with measure() as cost:
        begun = time.perf_counter()
        for _ in range(20):
            volume[10:42, 10:42, 10:42]
        seconds = (time.perf_counter() - begun) / 20
    rows.append(
        {
            "backend": backend,
            "kB on disk, a volume": round(stored / 1e3),
            "32-cube, ms": round(seconds * 1e3, 2),
            "chunks decoded, a read": cost["chunks_decoded"] / 20,
        }
    )
pd.DataFrame(rows).set_index("backend")

# %% [markdown]
# `vol.array` is the engine's own object, for what only that engine has:

# %%
{backend: type(study.T1w.iloc[0].array).__name__ for backend, study in studies.items()}
