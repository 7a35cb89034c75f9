# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: "1.3"
# ---

# %% [markdown]
# # Look at volumes
#
# From a still picture to a viewer for volumes of any size. All of it works on a laptop, on
# JupyterHub and on a study in S3.

# %%
import tempfile
from pathlib import Path

from radiobject.examples import study

folder = Path(tempfile.mkdtemp())
radi = study(n=3, spacing=2.0)
scan, tissue = radi.T1w.iloc[0], radi.seg.iloc[0]

# %% [markdown]
# ## A picture
#
# Three planes at one scale, as a radiologist has them: the patient's right is on the left. Only the
# chunks of these planes are read.

# %%
scan.plot(overlay=tissue)

# %% [markdown]
# All collections of a subject, at one place in the world:

# %%
radi.plot_subject("sub-02", at=(-20.0, -10.0, 15.0))

# %% [markdown]
# ## A page to move through
#
# `show()` is one HTML page without a server: sliders, window, opacity of the labels. `save` keeps
# it, to send it to somebody.

# %%
page = scan.show(overlay=tissue)
page.save(folder / "sub-01.html")
page

# %% [markdown]
# ## Neuroglancer
#
# `view()` serves the volumes of a subject, from this machine to this machine alone, and opens
# Neuroglancer on them. In a shell it is `radiobject view URI --subject sub-02`.

# %%
with radi.view("sub-02") as session:
    print(session.url.split("/v/")[0].rsplit(":", 1)[0])  # its port and token are new every time

# %% [markdown]
# ## Any viewer of OME-Zarr
#
# Each volume is an OME-Zarr image of its own, and this is its address; serve the folder with Range
# and CORS for viewers in a browser.

# %%
print("/".join(scan.uri.split("/")[-4:]))

# %% [markdown]
# ## The whole study on one page
#
# Contact sheets, histograms, and what is unusual. It reads the tables, no voxels.

# %%
radi.report(folder / "report.html")
