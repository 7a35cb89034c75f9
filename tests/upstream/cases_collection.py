"""Names of VolumeCollection and of its queries."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

import radiobject
from radiobject import RadiObject, Volume, VolumeCollection
from tests.upstream.ground import AFFINE, KEY, SUBJECTS, Case, Ground, voxels

IDS = [f"{s}_T1w" for s in SUBJECTS]


def double(volume: np.ndarray, row: object) -> tuple[np.ndarray, dict[str, int]]:
    """A transform that also says something."""
    return volume * 2, {"top": int(volume.max())}


def appended(g: Ground) -> VolumeCollection:
    """A collection of its own after one more volume."""
    collection = g.t1w.write(g.new())
    collection.append(niftis=[(f"{g.images}/sub-01.nii.gz", "sub-09")])
    return collection


def obs_of(g: Ground) -> VolumeCollection:
    """Volumes with ids and columns of the caller's own."""
    frame = {"obs_id": ["scan-1"], "obs_subject_id": ["sub-01"], "quality": [0.5]}
    return VolumeCollection.from_niftis(
        g.new(), [(f"{g.images}/sub-01.nii.gz", "sub-01")], obs=frame, name="CT"
    )


def listed(g: Ground) -> list[tuple[str, str]]:
    """The image files with their subjects."""
    return [(f"{g.images}/{s}.nii.gz", s) for s in SUBJECTS]


CASES: dict[str, Case] = {
    "VolumeCollection(uri)": lambda g: (
        VolumeCollection(g.t1w.write(g.new("one")).uri.split("/coll")[0]),
        g.t1w,
    ),
    "VolumeCollection.uri": lambda g: (g.t1w.uri, f"{g.uri}/collections/T1w"),
    "VolumeCollection.is_view": lambda g: ([g.t1w.is_view, g.t1w.head(1).is_view], [False, True]),
    "VolumeCollection.name": lambda g: (g.t1w.name, "T1w"),
    "VolumeCollection.shape": lambda g: (g.t1w.shape, (6, 5, 4)),
    "VolumeCollection.is_uniform": lambda g: (g.t1w.is_uniform, True),
    "len(collection)": lambda g: (len(g.t1w), 3),
    "for volume in collection": lambda g: ([v.obs_id for v in g.t1w], IDS),
    "collection[...]": lambda g: (
        [
            g.t1w[0].obs_id,
            g.t1w[-1].obs_id,
            g.t1w["sub-01_T1w"].obs_id,
            g.t1w[1:].obs_ids,
            g.t1w[[2, 0]].obs_ids,
            g.t1w[["sub-02_T1w"]].obs_ids,
            g.t1w[[]].obs_ids,
        ],
        [IDS[0], IDS[2], "sub-01_T1w", IDS[1:], [IDS[0], IDS[2]], ["sub-02_T1w"], []],
    ),
    "VolumeCollection.iloc": lambda g: (
        [g.t1w.iloc[1].obs_id, g.t1w.iloc[[True, False, True]].obs_ids],
        [IDS[1], [IDS[0], IDS[2]]],
    ),
    "VolumeCollection.loc": lambda g: (
        [g.t1w.loc["sub-02_T1w"].obs_id, g.t1w.loc[["sub-02_T1w", "sub-03_T1w"]].obs_ids],
        ["sub-02_T1w", ["sub-03_T1w", "sub-02_T1w"]],
    ),
    "VolumeCollection.obs": lambda g: (g.t1w.obs["obs_id"], np.array(IDS)),
    "VolumeCollection.to_obs": lambda g: (g.t1w.head(1).to_obs()["obs_id"], np.array(IDS[:1])),
    "VolumeCollection.obs_ids": lambda g: (g.t1w.obs_ids, IDS),
    "VolumeCollection.obs_subject_ids": lambda g: (g.t1w.obs_subject_ids, SUBJECTS),
    "VolumeCollection.index": lambda g: ([g.t1w.index.name, *g.t1w.index], ["obs_id", *IDS]),
    "VolumeCollection.subjects": lambda g: (
        [g.t1w.subjects.name, *g.t1w.subjects],
        ["obs_subject_id", *SUBJECTS],
    ),
    "VolumeCollection.sel": lambda g: (
        [g.t1w.sel(subject="sub-02").obs_id, g.t1w.sel(subject=["sub-02", "sub-03"]).obs_ids],
        ["sub-02_T1w", ["sub-03_T1w", "sub-02_T1w"]],
    ),
    "VolumeCollection.groupby_subject": lambda g: (
        [(s, v.obs_ids) for s, v in g.t1w.groupby_subject()],
        [(s, [f"{s}_T1w"]) for s in SUBJECTS],
    ),
    "VolumeCollection.get_obs_row_by_obs_id": lambda g: (
        g.t1w.get_obs_row_by_obs_id("sub-02_T1w")[["obs_id", "obs_subject_id"]],
        g.t1w.obs.read(["obs_id", "obs_subject_id"], filter=pc.field("obs_id") == "sub-02_T1w"),
    ),
    "VolumeCollection.filter": lambda g: (g.t1w.filter("obs_subject_id == 'sub-02'").obs_ids, ["sub-02_T1w"]),
    "VolumeCollection.head": lambda g: (g.t1w.head(1).obs_ids, IDS[:1]),
    "VolumeCollection.tail": lambda g: (g.t1w.tail(1).obs_ids, IDS[2:]),
    "VolumeCollection.sample": lambda g: (g.t1w.sample(2, seed=7).obs_ids, g.t1w.sample(n=2, seed=7).obs_ids),
    "VolumeCollection.lazy": lambda g: (type(g.t1w.lazy()), radiobject.LazyQuery),
    "VolumeCollection.map": lambda g: (type(g.t1w.map(double)), radiobject.EagerQuery),
    "VolumeCollection.map_batches": lambda g: (
        [len(a) for a in g.t1w.map_batches(lambda batch: [v for v, _ in batch], batch_size=2)],
        [6, 6, 6],
    ),
    "VolumeCollection.write": lambda g: (g.t1w.head(2).write(g.new()), g.t1w.head(2)),
    "VolumeCollection.write(name=)": lambda g: (
        [(made := g.t1w.write(g.new(), name="CT")).name, made.obs_ids],
        ["CT", IDS],
    ),
    "VolumeCollection.write()": lambda g: g.t1w.write(),
    "VolumeCollection.append": lambda g: (appended(g).obs_subject_ids, [*SUBJECTS, "sub-09"]),
    "VolumeCollection.append(dicom_dirs=)": lambda g: (
        g.own().T1w.append(dicom_dirs=[(g.series(), "sub-09")], deid_key=KEY).obs_ids[-1],
        "sub-09_T1w",
    ),
    "VolumeCollection.validate": lambda g: (g.t1w.validate().ok, True),
    "VolumeCollection.copy": lambda g: (g.t1w.head(2).copy(), g.t1w.head(2)),
    "VolumeCollection.from_niftis": lambda g: (
        VolumeCollection.from_niftis(g.new("a"), listed(g), name="T1w"),
        RadiObject.from_niftis(g.new("b"), {"T1w": listed(g)}).T1w,
    ),
    "VolumeCollection.from_niftis(obs=)": lambda g: (
        [(made := obs_of(g)).obs_ids, made.obs["quality"].tolist()],
        [["scan-1"], [0.5]],
    ),
    "VolumeCollection.from_niftis(validate_dimensions=)": lambda g: (
        VolumeCollection.from_niftis(g.new(), listed(g), validate_dimensions=True, name="T1w").is_uniform,
        True,
    ),
    "VolumeCollection.from_niftis(valid_subject_ids=)": lambda g: (
        len(VolumeCollection.from_niftis(g.new(), listed(g), valid_subject_ids=SUBJECTS, name="T1w")),
        3,
    ),
    "VolumeCollection.from_dicoms": lambda g: (
        VolumeCollection.from_dicoms(g.new(), [(g.series(), "sub-01")], deid_key=KEY)[0].to_numpy(),
        Volume.from_dicom(g.series()).to_numpy(),
    ),
    "VolumeCollection.from_volumes": lambda g: (
        VolumeCollection.from_volumes(
            g.new(),
            [(i, Volume.from_numpy(voxels(s), AFFINE)) for i, s in zip(IDS, SUBJECTS, strict=True)],
            name="T1w",
        ),
        g.t1w,
    ),
    "generate_obs_id": lambda g: (
        [radiobject.generate_obs_id("a", "T1w"), radiobject.generate_obs_id("a", "T1w", acquisition_index=1)],
        RadiObject.from_niftis(
            g.new(), {"T1w": [((voxels("sub-01"), None), "a"), ((voxels("sub-02"), None), "a")]}
        ).T1w.obs_ids,
    ),
    "LazyQuery.filter": lambda g: (g.t1w.lazy().filter("age > 50").filter("dx == 'tumor'").count(), 2),
    "LazyQuery.filter_subjects": lambda g: (g.t1w.lazy().filter_subjects(["sub-01"]).count(), 1),
    "LazyQuery.iloc": lambda g: (g.t1w.lazy().iloc(slice(0, 2)).count(), 2),
    "LazyQuery.loc": lambda g: (g.t1w.lazy().loc(["sub-01_T1w"]).count(), 1),
    "LazyQuery.head": lambda g: (g.t1w.lazy().head(2).to_obs()["obs_id"].tolist(), IDS[:2]),
    "LazyQuery.tail": lambda g: (g.t1w.lazy().tail(2).to_obs()["obs_id"].tolist(), IDS[1:]),
    "LazyQuery.sample": lambda g: (
        g.t1w.lazy().sample(2, seed=7).to_obs()["obs_id"].tolist(),
        g.t1w.sample(2, seed=7).obs_ids,
    ),
    "LazyQuery.map": lambda g: (
        [v.to_numpy() for v in g.t1w.lazy().map(double).iter_volumes()],
        [voxels(s) * 2 for s in SUBJECTS],
    ),
    "LazyQuery.count": lambda g: (g.t1w.lazy().count(), 3),
    "len(query)": lambda g: (len(g.t1w.lazy()), 3),
    "LazyQuery.to_obs": lambda g: (
        g.t1w.lazy().to_obs()[["obs_id", "dim_x"]],
        g.t1w.obs.read(["obs_id", "dim_x"]),
    ),
    "LazyQuery.iter_volumes": lambda g: ([v.obs_id for v in g.t1w.lazy().iter_volumes()], IDS),
    "LazyQuery.to_numpy_stack": lambda g: (
        g.t1w.lazy().to_numpy_stack(),
        np.stack([voxels(s) for s in SUBJECTS]),
    ),
    "LazyQuery.write": lambda g: (
        g.t1w.lazy().map(double).write(g.new("a"), name="x").obs["top"],
        np.array([int(voxels(s).max()) for s in SUBJECTS]),
    ),
    "LazyQuery.write()": lambda g: g.t1w.lazy().write(),
    "LazyQuery.materialize": lambda g: (
        g.t1w.lazy().head(2).materialize(uri=g.new("a")),
        g.t1w.lazy().head(2).write(g.new("b")),
    ),
    "EagerQuery.map": lambda g: (
        list(g.t1w.map(double).map(lambda a, row: int(row["top"]))),
        [int(voxels(s).max()) for s in SUBJECTS],
    ),
    "EagerQuery.write": lambda g: (g.t1w.map(double).write(g.new(), name="x").obs_ids, IDS),
    "EagerQuery.to_list": lambda g: (
        [row["top"] for _, row in g.t1w.map(double).to_list()],
        [int(voxels(s).max()) for s in SUBJECTS],
    ),
    "EagerQuery.to_dataframe": lambda g: (
        list(g.t1w.map(double).to_dataframe(["obs_id", "top"])),
        ["obs_id", "top", "result"],
    ),
    "EagerQuery._repr_html_": lambda g: ("sub-01_T1w" in g.t1w.map(double)._repr_html_(), True),
    "len(eager), eager[i], for result in eager": lambda g: (
        [len(e := g.t1w.map(lambda a, row: 1)), e[0], list(e)],
        [3, 1, [1, 1, 1]],
    ),
}
