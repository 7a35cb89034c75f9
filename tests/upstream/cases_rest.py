"""Names of writers and ingest."""

from __future__ import annotations

from pathlib import Path

from radiobject import RadiObject, VolumeCollection
from tests.upstream.ground import SUBJECTS, Case, Ground, imported, subjects_table, voxels


def collected(
    g: Ground, writer: str = "VolumeCollectionWriter", module: str = "radiobject.writers"
) -> VolumeCollection:
    """A collection written volume by volume."""
    with imported(module, writer)(g.new(), name="T1w") as made:
        made.write_volume(voxels("sub-01"), obs_id="sub-01_T1w", obs_subject_id="sub-01", quality=0.5)
        made.write_batch([(voxels("sub-02"), "sub-02_T1w", "sub-02", {"quality": 0.7})])
        assert made.n_written == 2
    return VolumeCollection(g.new())


def written(g: Ground, module: str = "radiobject.writers") -> RadiObject:
    """A study written volume by volume."""
    with imported(module, "RadiObjectWriter")(g.new()) as writer:
        writer.write_obs_meta(subjects_table())
        for name in ("T1w", "FLAIR"):
            with writer.add_collection(name) as collection:
                for subject in SUBJECTS:
                    collection.write_volume(
                        voxels(subject), obs_id=f"{subject}_{name}", obs_subject_id=subject
                    )
        assert list(writer.collection_names) == ["T1w", "FLAIR"]
    return RadiObject(g.new())


def finalized(g: Ground) -> RadiObject:
    """What finalize() gives."""
    writer = imported("radiobject.writers", "RadiObjectWriter")(g.new(), obs_meta_schema={"age": "int64"})
    with writer:
        writer.write_obs_meta(subjects_table())
        with writer.add_collection("T1w", shape=(6, 5, 4)) as collection:
            collection.write_volume(voxels("sub-01"), obs_id="sub-01_T1w", obs_subject_id="sub-01")
        made: RadiObject = writer.finalize()
    return made


def pairs(g: Ground) -> list[object]:
    """The image and mask files."""
    found: list[object] = imported("radiobject.ingest", "discover_nifti_pairs")(g.images, g.labels)
    return found


def ingest(name: str) -> Case:
    """`from radiobject.ingest import name`."""
    return lambda g: imported("radiobject.ingest", name)


CASES: dict[str, Case] = {
    "radiobject.writers": lambda g: (
        [callable(imported("radiobject.writers", n)) for n in ("VolumeCollectionWriter", "RadiObjectWriter")],
        [True, True],
    ),
    "VolumeCollectionWriter": lambda g: (collected(g).obs_ids, ["sub-01_T1w", "sub-02_T1w"]),
    "VolumeCollectionWriter.write_volume": lambda g: (
        collected(g).loc["sub-01_T1w"].to_numpy(),
        voxels("sub-01"),
    ),
    "VolumeCollectionWriter.write_batch": lambda g: (collected(g).obs["quality"].tolist(), [0.5, 0.7]),
    "VolumeCollectionWriter.n_written": lambda g: (len(collected(g)), 2),
    "RadiObjectWriter": lambda g: (
        written(g).all_obs_ids,
        [f"{s}_{c}" for c in ("T1w", "FLAIR") for s in SUBJECTS],
    ),
    "RadiObjectWriter.write_obs_meta": lambda g: (written(g).obs_meta.read(), subjects_table()),
    "RadiObjectWriter.add_collection": lambda g: (written(g).validate("full", strict=True).ok, True),
    "RadiObjectWriter.collection_names": lambda g: (written(g).collection_names, ("T1w", "FLAIR")),
    "RadiObjectWriter.finalize": lambda g: (finalized(g).T1w.obs_ids, ["sub-01_T1w"]),
    "radiobject.streaming": lambda g: (written(g, "radiobject.streaming").T1w.obs_ids, g.t1w.obs_ids),
    "StreamingWriter": lambda g: (
        collected(g, "StreamingWriter", "radiobject.streaming").obs_ids,
        ["sub-01_T1w", "sub-02_T1w"],
    ),
    "radiobject.ingest.discover_nifti_pairs": lambda g: (
        [(p.image_path, p.label_path) for p in pairs(g)],
        [(Path(g.images, f"{s}.nii.gz"), Path(g.labels, f"{s}.nii.gz")) for s in sorted(SUBJECTS)],
    ),
    "radiobject.ingest.NiftiSource": lambda g: (
        [[p.subject_id for p in pairs(g)], pairs(g)[0].has_label, type(pairs(g)[0])],
        [sorted(SUBJECTS), True, imported("radiobject.ingest", "NiftiSource")],
    ),
    **{
        f"radiobject.ingest.{n}": ingest(n)
        for n in ("detect_format", "resolve_nifti_source", "resolve_image_source", "resolve_dicom_source")
    },
}
