"""Names of Volume, Dataframe and Index."""

from __future__ import annotations

import nibabel
import numpy as np

from radiobject import Dataframe, Index, RadiObject, Volume, align
from tests.upstream.ground import AFFINE, Case, Ground, imported, subjects_table, voxels

first, second = Index.build(["a", "b"], name="x"), Index.build(["b", "c"], name="x")
ARRAY = voxels("sub-01")


def exported(g: Ground, *name: str, file_path: str = "", **options: object) -> list[str]:
    """The files that to_nifti makes."""
    g.folder.joinpath("out").mkdir()
    named = {"file_path": f"{g.folder}/out/{file_path}"} if file_path else {}
    g.volume.to_nifti(*(f"{g.folder}/out/{n}" for n in name), **named, **options)
    return sorted(p.name for p in g.folder.joinpath("out").iterdir())


def changed(g: Ground, what: str, *arguments: object, **named: object) -> Dataframe:
    """The subject table of a study after a change of it."""
    radi = g.own()
    getattr(radi.obs_meta, what)(*arguments, **named)
    return RadiObject(radi.uri).obs_meta


CASES: dict[str, Case] = {
    "Volume(uri)": lambda g: (Volume(g.volume.uri).to_numpy(), ARRAY),
    "Volume.uri": lambda g: (g.volume.uri.startswith(f"{g.uri}/collections/T1w/sub-01_T1w/"), True),
    "Volume.shape": lambda g: (g.volume.shape, (6, 5, 4)),
    "Volume.ndim": lambda g: (g.volume.ndim, 3),
    "Volume.dtype": lambda g: (g.volume.dtype, np.dtype("i2")),
    "Volume.tile_orientation": lambda g: (g.volume.tile_orientation.value, "isotropic"),
    "Volume.orientation_info": lambda g: (
        [(i := g.volume.orientation_info).axcodes, i.source, i.confidence, i.is_canonical, i.affine],
        [("L", "A", "S"), "nifti_sform", "header", False, AFFINE.tolist()],
    ),
    "Volume.obs_id": lambda g: (g.volume.obs_id, "sub-01_T1w"),
    "Volume.set_obs_id": lambda g: g.volume.set_obs_id("x"),
    "Volume.axial": lambda g: (g.volume.axial(2), ARRAY[:, :, 2]),
    "Volume.sagittal": lambda g: (g.volume.sagittal(2), ARRAY[2]),
    "Volume.coronal": lambda g: (g.volume.coronal(2), ARRAY[:, 2]),
    "axial_slice": lambda g: (g.volume.axial_slice(2), g.volume.axial(2)),
    "sagittal_slice": lambda g: (g.volume.sagittal_slice(2), g.volume.sagittal(2)),
    "coronal_slice": lambda g: (g.volume.coronal_slice(2), g.volume.coronal(2)),
    "Volume.slice": lambda g: (g.volume.slice(slice(1, 3), slice(0, 2), slice(None)), ARRAY[1:3, 0:2]),
    "volume[...]": lambda g: ([g.volume[1:3, :, 2:], g.volume[1:3]], [ARRAY[1:3, :, 2:], ARRAY[1:3]]),
    "Volume.to_numpy": lambda g: (g.volume.to_numpy(), ARRAY),
    "Volume.get_statistics": lambda g: (
        [(s := g.volume.get_statistics(percentiles=[50]))["min"], s["max"], s["mean"], "p50" in s],
        [float(ARRAY.min()), float(ARRAY.max()), float(ARRAY.mean()), True],
    ),
    "Volume.compute_histogram": lambda g: (
        list(g.volume.compute_histogram(bins=4, value_range=(1000, 1120))),
        list(np.histogram(ARRAY, 4, (1000, 1120))),
    ),
    "Volume.to_nifti": lambda g: (exported(g, "a.nii.gz"), ["a.nii.gz"]),
    "Volume.to_nifti(compression=)": lambda g: (exported(g, "a.nii", compression=True), ["a.nii.gz"]),
    "Volume.create": lambda g: Volume.create(g.new(), shape=(4, 4, 4)),
    "Volume.from_numpy": lambda g: (
        Volume.from_numpy(g.new("a.ome.zarr"), ARRAY).to_numpy(),
        Volume.from_numpy(ARRAY).to_numpy(),
    ),
    "Volume.from_numpy(data=)": lambda g: (
        Volume.from_numpy(uri=g.new("a.ome.zarr"), data=ARRAY).to_numpy(),
        ARRAY,
    ),
    "Volume.from_nifti(nifti_path=)": lambda g: (
        Volume.from_nifti(uri=g.new("a.ome.zarr"), nifti_path=f"{g.images}/sub-01.nii.gz").to_numpy(),
        ARRAY,
    ),
    "Volume.to_nifti(file_path=)": lambda g: (exported(g, file_path="a.nii"), ["a.nii"]),
    "Volume.from_nifti": lambda g: (
        Volume.from_nifti(g.new("a.ome.zarr"), f"{g.images}/sub-01.nii.gz"),
        Volume.from_nifti(f"{g.images}/sub-01.nii.gz"),
    ),
    "Volume.from_nifti(reorient=)": lambda g: (
        Volume.from_nifti(g.new("a.ome.zarr"), f"{g.images}/sub-01.nii.gz", reorient=True).axcodes,
        ("R", "A", "S"),
    ),
    "Volume.from_dicom": lambda g: (
        [(made := Volume.from_dicom(g.new(), g.series())).affine.tolist(), made.to_numpy()[0, 0].tolist()],
        [[[-0.75, 0, 0, -1], [0, -0.5, 0, -2], [0, 0, 2.5, 0], [0, 0, 0, 1]], [0, 100, 200]],
    ),
    "VOXELS_ATTR": lambda g: imported("radiobject.volume", "VOXELS_ATTR"),
    "OrientationInfo": lambda g: (
        type(g.volume.orientation_info),
        imported("radiobject.orientation", "OrientationInfo"),
    ),
    "is_orientation_valid": lambda g: (
        [
            imported("radiobject.orientation", "is_orientation_valid")(v.orientation_info)
            for v in (g.volume, Volume.from_numpy(ARRAY))
        ],
        [True, False],
    ),
    "detect_nifti_orientation": lambda g: (
        imported("radiobject.orientation", "detect_nifti_orientation")(
            nibabel.load(f"{g.images}/sub-01.nii.gz")
        ),
        g.volume.orientation_info,
    ),
    "reorient_to_canonical": lambda g: (
        imported("radiobject.orientation", "reorient_to_canonical")(ARRAY, AFFINE, "LPS"),
        [(turned := g.volume.reorient("LPS")).to_numpy(), turned.affine],
    ),
    "orientation_info_to_metadata": lambda g: imported(
        "radiobject.orientation", "orientation_info_to_metadata"
    ),
    "metadata_to_orientation_info": lambda g: imported(
        "radiobject.orientation", "metadata_to_orientation_info"
    ),
    "detect_dicom_orientation": lambda g: (
        imported("radiobject.orientation", "detect_dicom_orientation")(g.series()),
        Volume.from_dicom(g.series()).orientation_info,
    ),
    "Dataframe(uri)": lambda g: Dataframe(f"{g.uri}/obs_meta"),
    "Dataframe.shape": lambda g: (g.radi.obs_meta.shape, (3, 3)),
    "Dataframe.index_columns": lambda g: (
        [g.radi.obs_meta.index_columns, g.t1w.obs.index_columns],
        [("obs_subject_id",), ("obs_subject_id", "obs_id")],
    ),
    "Dataframe.columns": lambda g: (g.radi.obs_meta.columns, ["obs_subject_id", "age", "dx"]),
    "Dataframe.all_columns": lambda g: (g.radi.obs_meta.all_columns, g.radi.obs_meta.columns),
    "Dataframe.dtypes": lambda g: (g.radi.obs_meta.dtypes["age"], "int64"),
    "len(dataframe)": lambda g: (len(g.radi.obs_meta), 3),
    "Dataframe.read": lambda g: (g.radi.obs_meta.read(columns=["age"])["age"], subjects_table()["age"]),
    "Dataframe.read(value_filter=)": lambda g: (
        g.radi.obs_meta.read(value_filter="age > 50"),
        g.radi.obs_meta.read(filter="age > 50"),
    ),
    "Dataframe.read(include_index=)": lambda g: (
        [list(g.radi.obs_meta.read(["age"], include_index=b)) for b in (True, False)],
        [["obs_subject_id", "age"], ["age"]],
    ),
    "Dataframe.add_column": lambda g: (
        changed(g, "add_column", "score", "float64", fill=0.5)["score"].tolist(),
        [0.5] * 3,
    ),
    "Dataframe.drop_column": lambda g: (changed(g, "drop_column", "dx").columns, ["obs_subject_id", "age"]),
    "Dataframe.update": lambda g: (
        changed(g, "update", subjects_table().assign(age=[1, 2, 3]).iloc[[2, 0]]).read()["age"],
        np.array([1, 41, 3]),
    ),
    "Dataframe.delete": lambda g: g.radi.obs_meta.delete("age > 50"),
    "Dataframe.create": lambda g: Dataframe.create(g.new(), schema={}),
    "Dataframe.from_pandas": lambda g: Dataframe.from_pandas(g.new(), subjects_table()),
    "INDEX_COLUMNS": lambda g: imported("radiobject.dataframe", "INDEX_COLUMNS"),
    "Index.build": lambda g: (first, Index(["a", "b"], "x")),
    "Index.keys": lambda g: (first.keys, ("a", "b")),
    "Index.key_to_idx": lambda g: (first.key_to_idx, {"a": 0, "b": 1}),
    "Index.name": lambda g: (first.name, "x"),
    "len(index), key in index, for key in index": lambda g: (
        [len(first), "a" in first, list(first)],
        [2, True, ["a", "b"]],
    ),
    "Index.get_index": lambda g: (first.get_index("b"), 1),
    "Index.get_key": lambda g: (first.get_key(1), "b"),
    "Index.intersection": lambda g: (first.intersection(second), first & second),
    "Index.union": lambda g: (first.union(second), first | second),
    "Index.difference": lambda g: (first.difference(second), first - second),
    "Index.symmetric_difference": lambda g: (first.symmetric_difference(second), first ^ second),
    "index & | - ^": lambda g: (
        [
            list(first & second),
            list(first | second),
            list(first - second),
            list(first ^ second),
            list(first & frozenset("b")),
            list(first - frozenset("b")),
        ],
        [["b"], ["a", "b", "c"], ["a"], ["a", "c"], ["b"], ["a"]],
    ),
    "Index.take": lambda g: (list(first.take([1, 0])), ["b", "a"]),
    "Index.mask": lambda g: (list(first.mask(np.array([False, True]))), ["b"]),
    "Index.is_aligned": lambda g: (
        [first.is_aligned(Index(["a", "b"])), first.is_aligned(second)],
        [True, False],
    ),
    "index == <= >=": lambda g: (
        [
            first == Index(["a", "b"], "x"),
            first == Index(["a", "b"], "y"),
            first <= (first | second),
            second >= first,
        ],
        [True, False, True, False],
    ),
    "hash(index)": lambda g: (len({first, Index(["a", "b"], "x")}), 1),
    "Index.to_set": lambda g: (first.to_set(), {"a", "b"}),
    "Index.to_list": lambda g: (first.to_list(), ["a", "b"]),
    "repr(index)": lambda g: ("'x'" in repr(first), True),
    "align(*indexes)": lambda g: (list(align(first, second)), ["b"]),
    "align()": lambda g: align(),
}
