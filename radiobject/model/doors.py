"""Doors: how what is in hand leaves for other libraries and files; each method fronts for a later room."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

from radiobject.errors import ConfigError
from radiobject.format.layout import to_disk
from radiobject.model.levels import Multiscale
from radiobject.moved import known_as
from radiobject.writing.integers import as_floats

__all__ = ["CollectionDoors", "StudyDoors", "VolumeDoors"]


class VolumeDoors(Multiscale):
    """A Volume as another library's object, or as a file."""

    __slots__ = ()

    def to_xarray(self: Any, chunks: Any = None) -> Any:
        """A lazy `xarray.DataArray` with dims x, y, z[, t][, c]; no voxel is read before it is used.

        Coordinates x, y, z are mm (their `units` say where not) along the unit vectors in the coordinate
        `direction`, so that `world = direction @ (x, y, z)`, RAS+; t is in seconds. `da.radi.affine` is right
        after slices, strides and flips too; `da.radi` has `to_volume`, `to_nifti` and `reorient`. Values are
        those of `vol[...]`. Nothing is cached: `da.load()` keeps what was read.

        `chunks` None is xarray's own lazy indexing, all else dask: a task for the whole ("volume"), for each
        stored chunk ("chunk"), for each stored shard (`{}`), or as `{"z": 64}` says, and a shard along other
        dims. One task reads with one call. Raises `MissingDependencyError` without xarray or dask,
        `ConfigError`; warns of sizes that split a stored chunk.

        >>> from radiobject.examples import study
        >>> da = study(n=1).T1w.iloc[0].to_xarray()
        >>> part = da.sel(z=slice(0, 40)).isel(x=slice(None, None, 2))
        >>> part.shape, part.radi.spacing
        ((25, 58, 10), (8.0, 4.0, 4.0))
        """
        from radiobject.lazy.arrays import volume_to_xarray

        return volume_to_xarray(self, chunks)

    def to_dask(self: Any, chunks: Any = None) -> Any:
        """A `dask.array.Array`, axes x, y, z[, t][, c]; `chunks` as in `to_xarray`, None as `{}`."""
        from radiobject.lazy.arrays import volume_to_dask

        return volume_to_dask(self, chunks)

    def to_sitk(self) -> Any:
        """A `SimpleITK.Image` of the values that reads return; its world is LPS+ where ours is RAS+.

        Raises `MissingDependencyError` without SimpleITK.
        """
        from radiobject.export.sitk import to_sitk_image

        return to_sitk_image(self.meta, self.to_numpy())

    def to_nibabel(self) -> Any:
        """A `nibabel.Nifti1Image` (or Nifti2) with the values that reads return, affine and codes."""
        from radiobject.export.nifti import to_nibabel_image

        return to_nibabel_image(self.meta, self.to_numpy(), self.extra("nifti"))

    @known_as(file_path="path")
    def to_nifti(self, path: str | os.PathLike[str], compression: bool | None = None) -> None:
        """Write .nii, .nii.gz or a .hdr/.img pair, as the path says; `compression=True` adds a missing .gz.

        What came from NIfTI unchanged goes back byte for byte: stored integers, slope, both transforms and
        their codes, every header field and extension.
        """
        from radiobject.export.nifti import nifti_bytes, write_nifti

        if compression and not os.fspath(path).endswith(".gz"):
            path = f"{os.fspath(path)}.gz"
        stored, meta = as_floats(self.to_numpy(raw=True), self.meta)
        stored = to_disk(stored, meta.dims)
        beside = {name: self.extra(f"nifti_{name}") or b"" for name in ("lead", "tail")}
        write_nifti(path, nifti_bytes(meta, stored, self.extra("nifti"), **beside))

    def view(self: Any, *others: Any, port: int = 0) -> Any:
        """Show this volume in Neuroglancer, in a browser, with `others` as further layers of the same world.

        Gives a session at once: `session.url` is to be opened, a notebook shows it by itself, and
        `session.close()` ends it. Stored voxels are read by the browser as it needs them, from a server on
        127.0.0.1 (`port`, 0 for a free one); those in memory, computed or on other backends by this process.

        Raises `MissingDependencyError` without neuroglancer, `ConfigError` for a port that is taken.
        """
        from radiobject.show.viewer import view_volumes

        return view_volumes([self, *others], port=port)

    def plot(
        self: Any,
        at: Sequence[float] | None = None,
        *,
        t: int | None = None,
        c: int | None = None,
        window: Sequence[float] | None = None,
        overlay: Any = None,
        overlay_window: Sequence[float] | None = None,
        opacity: float = 0.5,
        crosshair: bool = True,
        planes: Literal["scan", "world"] = "scan",
        title: str | None = None,
        figure: Any = None,
    ) -> Any:
        """The axial, coronal and sagittal plane through one point, as a matplotlib Figure.

        All have one physical scale; the patient's left is on the right. `at` is a world point (mm, RAS+), by
        default the middle of what is not background; `t` and `c` are the first ones unless said. `window` is
        (low, high), by default the source's or the 1st to the 99th percentile. `overlay` is another Volume,
        brought here by affine: labels in their colours, images from black by red to white, clear at their
        lowest. An oblique volume is cut as it was scanned, and letters say so; `planes="world"` cuts along
        the axes of the world. Only the chunks of three planes are read.

        The Figure is pyplot's no more than a string is: notebooks show it, `savefig(path)` writes it.
        `figure`, a matplotlib Figure or SubFigure, is drawn into instead. Raises `IndexingError` for a point
        outside, `MissingDependencyError` without matplotlib.

        >>> from radiobject.examples import study
        >>> radi = study(n=1)
        >>> picture = radi.T1w.iloc[0].plot(at=(0, -20, 10), overlay=radi.seg.iloc[0])
        >>> [axes.get_title() for axes in picture.axes]
        ['axial', 'coronal', 'sagittal']
        """
        from radiobject.show.plot import plot_volume

        return plot_volume(
            self, at, t=t, c=c, window=window, overlay=overlay, overlay_window=overlay_window,
            opacity=opacity, crosshair=crosshair, planes=planes, title=title, figure=figure,
        )  # fmt: skip

    def show(
        self: Any,
        overlay: Any = None,
        at: Sequence[float] | None = None,
        *,
        t: int | None = None,
        c: int | None = None,
        window: Sequence[float] | None = None,
        overlay_window: Sequence[float] | None = None,
        opacity: float = 0.5,
        title: str | None = None,
    ) -> Any:
        """The volume as a page to look through: three planes, a point, a window, an overlay; at most 2 MB.

        The page needs no server and no network. A notebook shows it, `save(path)` writes it, `html` is its
        text. The voxels are in it, in 256 steps from the 0.5th to the 99.5th percentile and at the finest
        spacing that fits, with means over what is coarser; `window` (low, high) keeps a narrower range in
        finer steps. All time points are there where they fit, else the first; `t` picks one. The rest is as
        in `plot`.

        >>> from radiobject.examples import study
        >>> radi = study(n=1)
        >>> page = radi.T1w.iloc[0].show(overlay=radi.seg.iloc[0])
        >>> page.save("brain.html")
        >>> page
        Page(title='sub-01_T1w')
        """
        from radiobject.show.interactive import page_of

        return page_of(
            self, overlay, at, t=t, c=c, window=window, overlay_window=overlay_window, opacity=opacity,
            title=title,
        )  # fmt: skip

    def _repr_html_(self: Any) -> str:
        from radiobject.show.cards import volume_card

        return volume_card(self)


class CollectionDoors:
    """A collection in another library's hands."""

    def to_xarray(
        self: Any,
        grid: Any = "error",
        chunks: Any = None,
        columns: Sequence[str] | None = None,
        *,
        order: int | None = None,
        fill: float = 0,
        antialias: bool = False,
    ) -> Any:
        """All volumes as one lazy `xarray.DataArray` with dims obs_id, x, y, z[, t][, c].

        Reads the tables once and opens no volume before its voxels are used. Columns of obs and, joined by
        subject, of obs_meta are coordinates along obs_id; `columns` names some of them. Values have the type
        that holds those of all volumes.

        Where all volumes share one grid (within 0.001 mm, or a hundredth of a voxel where that is less),
        x, y, z are mm as in `Volume.to_xarray`. Where they do not, `grid` says what to do. "error":
        `AlignmentError` that names them. "index": x, y, z are voxel indices, for volumes of one shape; the
        coordinate `affine` holds each one's as text, and `da.radi.affine` is (n, 4, 4). A Volume, or
        `(shape, affine)`: each is resampled to that grid when it is read, as `Volume.resample` does with
        `order`, `fill` and `antialias`. `chunks` is that of `Volume.to_xarray`, with one volume a task
        unless it names obs_id.

        Raises `AlignmentError` also for axes, shapes or types that are no array together, `UnknownIdError`
        for a column that is not there, `SelectionError` for one that holds lists or bytes.

        >>> from radiobject.examples import study
        >>> radi = study(n=2)
        >>> da = radi.T1w.to_xarray(chunks="volume", columns=["age"])
        >>> da.dims, da.data.npartitions
        (('obs_id', 'x', 'y', 'z'), 3)
        >>> da.groupby("obs_subject_id").mean().sizes["obs_subject_id"]
        2
        """
        from radiobject.lazy.collection import collection_to_xarray

        return collection_to_xarray(self, grid, chunks, columns, order=order, fill=fill, antialias=antialias)

    def to_dataset(
        self: Any, patch_size: int | Sequence[int] | None = None, labels: Any = None, transform: Any = None
    ) -> Any:
        """A torch dataset (`radiobject.ml.VolumeCollectionDataset`) of whole volumes or random patches.

        `patch_size` is in voxels x, y, z. `labels` is a column, a DataFrame or mapping by obs_id or
        obs_subject_id, or a function of obs_id. `transform` takes and returns a sample.

        >>> from radiobject.examples import study
        >>> dataset = study(n=2).T1w.to_dataset(patch_size=32, labels="age")
        >>> dataset[0]["image"].shape
        torch.Size([1, 32, 32, 32])
        """
        from radiobject.ml import VolumeCollectionDataset
        from radiobject.ml.settings import config_of

        return VolumeCollectionDataset(self, config_of(patch_size), labels, transform)

    def _repr_html_(self: Any) -> str:
        from radiobject.show.cards import collection_card

        return collection_card(self)


class StudyDoors:
    """A study in another library's hands."""

    def export(
        self: Any, folder: str | os.PathLike[str], layout: Literal["bids", "msd"] = "bids", **options: Any
    ) -> int:
        """Write this study or view as a BIDS data set or an MSD task into an empty folder; how many volumes.

        "bids": names, sidecars, participants.tsv and label tables as BIDS has them; what came from BIDS has
        its names again. "msd": dataset.json, imagesTr and labelsTr; `images=` and `labels=` name the
        collections, `stack=True` makes several channels one 4D file. NIfTI that is stored unchanged is
        written byte for byte. Other options: name=, progress=, executor=, workers=.

        Raises `ConfigError` for a folder that is not empty or an unknown layout.

        >>> from radiobject.examples import study
        >>> study(n=2).export("out-bids", progress=False)
        6
        """
        from radiobject.export.bids import export_bids
        from radiobject.export.msd import export_msd

        if layout not in ("bids", "msd"):
            raise ConfigError("export(layout=)", expected="'bids' or 'msd'", got=repr(layout))
        return (export_bids if layout == "bids" else export_msd)(self, folder, **options)

    def plot_subject(
        self: Any,
        subject: str,
        at: Sequence[float] | None = None,
        *,
        t: int | None = None,
        opacity: float = 0.5,
        crosshair: bool = True,
        planes: Literal["scan", "world"] = "scan",
        figure: Any = None,
    ) -> Any:
        """All volumes of a subject, three planes a row, through the same point of the world.

        A label volume is laid on the first image of its session, run and time, on that image's planes. What
        lies below one another is the same place; a volume that does not reach the point is named instead. The
        rest is as in `Volume.plot`; a view (`sel(session=...)`, `select_collections`) leaves rows out.

        Raises `UnknownIdError`, `IndexingError` for a point in none of the volumes, `SelectionError` for a
        subject without any.

        >>> from radiobject.examples import study
        >>> study(n=1).plot_subject("sub-01").savefig("sub-01.png")
        """
        from radiobject.show.plot import plot_subject

        return plot_subject(
            self, subject, at, t=t, opacity=opacity, crosshair=crosshair, planes=planes, figure=figure
        )

    def _repr_html_(self: Any) -> str:
        from radiobject.show.cards import study_card

        return study_card(self)

    def to_xarray(
        self: Any,
        names: str | Sequence[str] | None = None,
        on: Sequence[str] | None = None,
        missing: Literal["error", "drop"] = "error",
        grid: Any = "error",
        chunks: Any = None,
        columns: Sequence[str] | None = None,
        *,
        order: int | None = None,
        fill: float = 0,
        antialias: bool = False,
    ) -> Any:
        """Partners of several collections as a lazy `xarray.Dataset`: a variable each, on one grid.

        A row is a volume of the first collection of `names` (None: of all) with its partners in the others;
        `on` and `missing` are those of `pairs`. Rows lie along obs_subject_id; a subject with several
        sessions has several. Coordinates along it are what was compared, `<name>_obs_id` of each collection,
        and obs_meta's columns (`columns` names some of them). `grid`, what goes with it, and `chunks` are
        those of `VolumeCollection.to_xarray`; with "index" the volumes of one row must share a grid.

        Raises what `pairs` and `VolumeCollection.to_xarray` raise.

        >>> from radiobject.examples import study
        >>> ds = study(n=2).to_xarray(["T1w", "seg"])
        >>> white = ds.T1w.where(ds.seg == 2).mean(["x", "y", "z"])
        >>> white.sizes["obs_subject_id"]
        3
        """
        from radiobject.lazy.study import study_to_xarray

        return study_to_xarray(
            self, names, on, missing, grid, chunks, columns, order=order, fill=fill, antialias=antialias
        )

    def to_datatree(self: Any, chunks: Any = None, *, limit: int = 200) -> Any:
        """Each volume as a node of an `xarray.DataTree`: `tree["sub-01/sub-01_T1w"]["T1w"]` is a DataArray.

        Nodes of subjects have their row of obs_meta as attributes. A node costs about a millisecond: for a
        subject or a small view. Raises `SelectionError` for more than `limit` volumes.
        """
        from radiobject.lazy.study import study_to_datatree

        return study_to_datatree(self, limit, chunks)

    def view(self, subject: str | None = None, *, port: int = 0) -> Any:
        """Show all volumes of a subject in Neuroglancer, each a layer of one world; see `Volume.view`.

        Without `subject` the first one of this view. Labels have their names and colours, images the window
        of their 1st and 99th percentile or that of the source.

        Raises `UnknownIdError`, and what `Volume.view` raises.
        """
        from radiobject.show.viewer import view_subject

        return view_subject(self, subject, port=port)

    def report(
        self: Any,
        path: str | os.PathLike[str] | None = None,
        *,
        obs_meta: bool = True,
        thumbnails: int = 400,
        progress: Any = None,
    ) -> Any:
        """What the tables tell about this study or view: facts, findings, and one HTML page that shows them.

        The page has thumbnails, shapes, spacings, histograms, labels, the ledger, and every volume that is
        broken or unlike the rest of its collection, with the reason. It loads nothing, and is written to
        `path` where one is given. Reads each table once, and no voxel.

        The result has `findings`, a DataFrame with severity ("problem", "odd"), kind, collection, ids and
        message; `save(path)`; and a notebook shows the page. `obs_meta=False` leaves out the subject table,
        `thumbnails` is the most pictures on the page.

        >>> from radiobject.examples import study
        >>> report = study(n=2).report()
        >>> report, len(report.findings)
        (<Report of study: 6 volumes, 0 problems, 0 odd>, 0)
        """
        from radiobject.show.report import make_report

        made = make_report(self, obs_meta=obs_meta, thumbnails=thumbnails, progress=progress)
        if path is not None:
            made.save(path)
        return made
