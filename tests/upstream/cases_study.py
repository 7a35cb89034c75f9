"""Names of RadiObject."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from radiobject import RadiObject, Volume
from tests.upstream.ground import KEY, SUBJECTS, Case, Ground, subjects_table

NEW = pd.DataFrame({"obs_subject_id": ["sub-09"], "age": [30], "dx": ["healthy"]})


def from_images(g: Ground, name: str, **options: object) -> RadiObject:
    """A study of the files, made with the arguments of the documented call."""
    return RadiObject.from_images(
        g.new(name), images={"CT": f"{g.images}/*.nii.gz", "seg": g.labels}, **options
    )


def appended(g: Ground) -> RadiObject:
    """The study after one more subject."""
    radi = g.own()
    radi.append(images={"T1w": [(f"{g.images}/sub-01.nii.gz", "sub-09")]}, obs_meta=NEW, progress=False)
    return radi


def renamed(g: Ground) -> RadiObject:
    """The study with another name for a collection."""
    radi = g.own()
    radi.rename_collection("T1w", "flair")
    return radi


def extended(g: Ground) -> tuple[object, object]:
    """The collection added to a study from a handle, and from its URI."""
    other = from_images(g, "other").select_collections(["CT"]).write(g.new("ct"))
    one, two = g.radi.write(g.new("one")), g.radi.write(g.new("two"))
    one.add_collection("CT", other.CT)
    two.add_collection("CT", f"{other.uri}#CT")
    return one.CT, two.CT


CASES: dict[str, Case] = {
    "RadiObject(uri)": lambda g: (RadiObject(g.uri), RadiObject(Path(g.uri))),
    "RadiObject.uri": lambda g: ([g.radi.uri, g.radi.head(1).uri], [g.uri, None]),
    "RadiObject.is_view": lambda g: ([g.radi.is_view, g.radi.head(1).is_view], [False, True]),
    "RadiObject.n_collections": lambda g: (g.radi.n_collections, 2),
    "len(radi)": lambda g: (len(g.radi), 3),
    "for name in radi": lambda g: (list(g.radi), ["T1w", "seg"]),
    "repr(radi)": lambda g: ("view" in repr(g.radi.head(1)), True),
    "radi[...]": lambda g: (
        [g.radi["sub-02"].obs_subject_ids, g.radi[["sub-02", "sub-03"]].obs_subject_ids],
        [["sub-02"], ["sub-03", "sub-02"]],
    ),
    "radi.T1w": lambda g: (g.radi.T1w, g.radi.collection("T1w")),
    "RadiObject.obs_meta": lambda g: (g.radi.obs_meta.read(), subjects_table()),
    "RadiObject.obs_meta.obs_ids": lambda g: (
        [json.loads(text) for text in g.radi.obs_meta.read(["obs_subject_id", "obs_ids"])["obs_ids"]],
        [[f"{s}_T1w", f"{s}_seg"] for s in SUBJECTS],
    ),
    "RadiObject.obs_subject_ids": lambda g: (g.radi.obs_subject_ids, SUBJECTS),
    "RadiObject.index": lambda g: ([g.radi.index.name, *g.radi.index], ["obs_subject_id", *SUBJECTS]),
    "RadiObject.all_obs_ids": lambda g: (
        g.radi.all_obs_ids,
        [f"{s}_{c}" for c in ("T1w", "seg") for s in SUBJECTS],
    ),
    "RadiObject.collection_names": lambda g: (g.radi.collection_names, ("T1w", "seg")),
    "RadiObject.iloc": lambda g: (
        [g.radi.iloc[k].obs_subject_ids for k in (0, slice(1, 3), [2, 0], np.array([False, True, False]))],
        [["sub-03"], ["sub-01", "sub-02"], ["sub-03", "sub-02"], ["sub-01"]],
    ),
    "RadiObject.loc": lambda g: (
        [g.radi.loc[k].obs_subject_ids for k in ("sub-01", ["sub-02", "sub-03"])],
        [["sub-01"], ["sub-03", "sub-02"]],
    ),
    "RadiObject.sel": lambda g: (g.radi.sel(subject="sub-02").obs_subject_ids, ["sub-02"]),
    "RadiObject.collection": lambda g: (g.radi.collection("seg").name, "seg"),
    "RadiObject.get_volume": lambda g: (g.radi.get_volume("sub-02_seg"), g.radi.seg.loc["sub-02_seg"]),
    "RadiObject.get_obs_row_by_obs_subject_id": lambda g: (
        g.radi.get_obs_row_by_obs_subject_id("sub-02"),
        g.radi.obs_meta.read(filter=pc.field("obs_subject_id") == "sub-02"),
    ),
    "RadiObject.filter": lambda g: (g.radi.filter("age > 50").obs_subject_ids, ["sub-03", "sub-02"]),
    "RadiObject.head": lambda g: ([len(g.radi.head()), g.radi.head(1).obs_subject_ids], [3, ["sub-03"]]),
    "RadiObject.tail": lambda g: ([len(g.radi.tail()), g.radi.tail(1).obs_subject_ids], [3, ["sub-02"]]),
    "RadiObject.sample": lambda g: (
        [len(g.radi.sample()), g.radi.sample(2, seed=7)],
        [3, RadiObject(g.uri).sample(n=2, seed=7)],
    ),
    "RadiObject.select_collections": lambda g: (
        g.radi.select_collections(["seg"]).collection_names,
        ("seg",),
    ),
    "RadiObject.write": lambda g: (g.radi.head(2).write(g.new()), g.radi.head(2)),
    "RadiObject.materialize": lambda g: (g.radi.head(2).materialize(g.new()), g.radi.head(2)),
    "RadiObject.materialize(streaming=)": lambda g: g.radi.materialize(g.new(), streaming=True),
    "RadiObject.to_radi_object": lambda g: (g.radi.head(2).to_radi_object(g.new()), g.radi.head(2)),
    "RadiObject.copy": lambda g: (
        [(whole := g.radi).copy() is whole, whole.head(1).copy()],
        [True, g.radi.head(1)],
    ),
    "RadiObject.describe": lambda g: (list(g.radi.describe().index), ["T1w", "seg"]),
    "RadiObject.append": lambda g: (appended(g).T1w.obs_ids[-1], "sub-09_T1w"),
    "RadiObject.append(niftis=)": lambda g: g.radi.append(niftis=[(g.images, "sub-01")]),
    "RadiObject.append(dicom_dirs=)": lambda g: (
        g.own().append(dicom_dirs=[(g.series(), "sub-01")], deid_key=KEY).collection("CT").obs_ids,
        ["sub-01_CT"],
    ),
    "RadiObject.rename_collection": lambda g: (renamed(g).collection_names, ("flair", "seg")),
    "RadiObject.add_collection": extended,
    "RadiObject.validate": lambda g: (g.radi.validate().ok, True),
    "RadiObject.lazy": lambda g: (g.radi.lazy().filter("age > 50").count(), (2, 4)),
    "RadiObject.from_images": lambda g: (
        from_images(g, "a", validate_alignment=True, obs_meta=subjects_table(), progress=False),
        RadiObject.from_niftis(g.new("b"), {"CT": g.images, "seg": g.labels}, subjects_table()),
    ),
    "RadiObject.from_images(reorient=)": lambda g: (
        from_images(g, "a", reorient=True).CT.iloc[0].axcodes,
        ("R", "A", "S"),
    ),
    "RadiObject.from_images(format_hint=)": lambda g: (
        from_images(g, "a", format_hint={"CT": "nifti"}),
        from_images(g, "b"),
    ),
    "RadiObject.from_niftis": lambda g: (
        RadiObject.from_niftis(uri=g.new(), images={"CT": g.images}, obs_meta=subjects_table()).CT.obs_ids,
        ["sub-01_CT", "sub-02_CT", "sub-03_CT"],
    ),
    "RadiObject.from_niftis(niftis=)": lambda g: RadiObject.from_niftis(g.new(), niftis=[(g.images, "a")]),
    "RadiObject.from_niftis(image_dir=)": lambda g: RadiObject.from_niftis(g.new(), image_dir=g.images),
    "RadiObject.from_niftis(collection_name=)": lambda g: RadiObject.from_niftis(
        g.new(), images={"CT": g.images}, collection_name="CT"
    ),
    "RadiObject.from_dicoms": lambda g: (
        RadiObject.from_dicoms(g.new(), dicom_dirs=[(g.series(), "sub-01")], deid_key=KEY).CT[0].to_numpy(),
        Volume.from_dicom(g.series()).to_numpy(),
    ),
    "RadiObject.from_collections": lambda g: (
        RadiObject.from_collections(
            g.new("a"), {"T1w": g.t1w, "mask": f"{g.uri}#seg"}, obs_meta=subjects_table()
        ),
        RadiObject.from_collections(g.new("b"), {"T1w": g.t1w, "mask": g.radi.seg}),
    ),
    "RadiObject.from_volume_collections": lambda g: (
        RadiObject.from_volume_collections(g.new("a"), {"T1w": g.t1w}),
        RadiObject.from_collections(g.new("b"), {"T1w": g.t1w}),
    ),
    "Query.filter": lambda g: (g.radi.lazy().filter("age > 50").count().n_subjects, 2),
    "Query.filter_subjects": lambda g: (g.radi.lazy().filter_subjects(["sub-01"]).count(), (1, 2)),
    "Query.filter_collection": lambda g: (
        g.radi.lazy().filter_collection("T1w", "obs_id == 'sub-01_T1w'").count(),
        (3, 4),
    ),
    "Query.select_collections": lambda g: (g.radi.lazy().select_collections(["seg"]).count(), (3, 3)),
    "Query.iloc, loc, head, tail, sample": lambda g: (
        [
            q.count().n_subjects
            for q in (
                g.radi.lazy().iloc(slice(0, 2)),
                g.radi.lazy().loc("sub-01"),
                g.radi.lazy().head(1),
                g.radi.lazy().tail(2),
                g.radi.lazy().sample(2, seed=1),
            )
        ],
        [2, 1, 1, 2, 2],
    ),
    "Query.map": lambda g: (
        [int(v.to_numpy().max()) for v in g.radi.lazy().head(1).map(lambda a, row: a * 0).iter_volumes()],
        [0, 0],
    ),
    "Query.count": lambda g: ([g.radi.lazy().count().n_subjects, g.radi.lazy().count().n_volumes], [3, 6]),
    "Query.to_obs_meta": lambda g: (g.radi.lazy().to_obs_meta(), subjects_table()),
    "Query.iter_volumes": lambda g: (
        [v.obs_id for v in g.radi.lazy().iter_volumes("seg")],
        [f"{s}_seg" for s in SUBJECTS],
    ),
    "Query.iter_batches": lambda g: ([len(b) for b in g.radi.lazy().iter_batches(4)], [4, 2]),
    "Query.materialize": lambda g: (
        g.radi.lazy().head(2).materialize(g.new("a")),
        g.radi.lazy().head(2).write(g.new("b")),
    ),
}
