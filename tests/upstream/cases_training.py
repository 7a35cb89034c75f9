"""Names of training."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tests.upstream.ground import SUBJECTS, Case, Ground, imported, voxels

CORNER = {s: voxels(s)[:2, :2, :2].tolist() for s in SUBJECTS}


def ml(name: str, module: str = "radiobject.ml") -> Any:
    """What `from radiobject.ml import name` gives."""
    return imported(module, name)


def gone(name: str, module: str = "radiobject.ml") -> Case:
    """That import, which says what to do."""
    return lambda g: imported(module, name)


def subjects(loader: Any) -> list[str]:
    """Whose volumes an epoch has, sorted."""
    return sorted(s for batch in loader for s in batch["obs_subject_id"])


def loader(name: str, module: str = "radiobject.ml", **options: Any) -> Case:
    """A loader over the images gives all of them."""
    return lambda g: (subjects(ml(name, module)(g.t1w, **{"batch_size": 1, **options})), sorted(SUBJECTS))


def of_a_study(name: str, **options: Any) -> Case:
    """A loader with the study first, as one of the texts has it."""
    given = {"modalities": ["T1w"], "batch_size": 1, **options}
    return lambda g: (subjects(ml(name)(g.radi, **given)), sorted(SUBJECTS))


def dataset(g: Ground) -> tuple[object, object]:
    """Whole volumes of one collection."""
    found = ml("VolumeCollectionDataset")(g.t1w)
    return (
        [found[0]["image"][0].tolist(), found.collection_names, found.volume_shape, found.n_channels],
        [voxels(SUBJECTS[0]).tolist(), ["T1w"], (6, 5, 4), 1],
    )


def segmentation(g: Ground) -> tuple[object, object]:
    """Images with their masks."""
    found = ml("SegmentationDataset")(g.t1w, g.radi.seg, keys=("image", "mask"))
    sample = found[0]
    return (
        [sample["mask"].shape == sample["image"].shape, found.volume_shape, found.n_volumes],
        [True, (6, 5, 4), 3],
    )


def subjects_of_torchio(g: Ground) -> tuple[object, object]:
    """Each collection is an image under its name."""
    found = ml("VolumeCollectionSubjectsDataset")([g.t1w], {s: n for n, s in enumerate(SUBJECTS)})
    subject = found[1]
    return (
        [subject["T1w"].data[0].tolist(), subject["label"], found.collection_names, len(found)],
        [voxels(SUBJECTS[1]).tolist(), 1, ["T1w"], 3],
    )


def labelled(g: Ground) -> tuple[object, object]:
    """A label for each subject, from a Series."""
    made = ml("create_training_dataloader")(
        g.radi, modalities=["T1w"], batch_size=3, labels=pd.Series([0, 1, 0], index=SUBJECTS)
    )
    (batch,) = made
    return (
        dict(zip(batch["obs_subject_id"], batch["label"].tolist(), strict=True)),
        dict(zip(SUBJECTS, [0, 1, 0], strict=True)),
    )


def segmented(**options: Any) -> Case:
    """A loader of images and masks."""
    return lambda g: (
        subjects(ml("create_segmentation_dataloader")(g.t1w, g.radi.seg, batch_size=1, **options)),
        sorted(SUBJECTS),
    )


def epochs(g: Ground) -> tuple[object, object]:
    """set_epoch gives an epoch again, and another is another."""
    made = ml("create_training_dataloader")(g.t1w, patch_size=2, patches_per_volume=9, batch_size=9)
    seen = []
    for epoch in (0, 1, 0):
        ml("set_epoch", "radiobject.ml.distributed")(made, epoch)
        seen.append([batch["start"].tolist() for batch in made])
    return [seen[0] == seen[2], seen[0] == seen[1]], [True, False]


def composed(g: Ground) -> tuple[object, object]:
    """Transforms one after another."""
    both = ml("Compose")([lambda sample: sample * 2, lambda sample: sample + 1])
    return both(20), 41


CASES: dict[str, Case] = {
    "LabelSource": lambda g: (imported("radiobject", "LabelSource") is ml("LabelSource"), True),
    "VolumeCollection.to_dataset": lambda g: (
        [type(made := g.t1w.to_dataset(patch_size=(2, 2, 2))), len(made), list(made[0]["image"].shape)],
        [ml("VolumeCollectionDataset"), 3, [1, 2, 2, 2]],
    ),
    "radiobject.ml": lambda g: (imported("radiobject.ml").VolumeCollectionDataset is not None, True),
    "LoadingMode": lambda g: (
        [mode.value for mode in ml("LoadingMode")],
        ["full_volume", "patch", "slice_2d"],
    ),
    "DatasetConfig": lambda g: (
        [(c := ml("DatasetConfig")(loading_mode="patch", patch_size=(2, 2, 2))).loading_mode, c.patch_size],
        [ml("LoadingMode").PATCH, (2, 2, 2)],
    ),
    "VolumeCollectionDataset": dataset,
    "SegmentationDataset": segmentation,
    "VolumeCollectionSubjectsDataset": subjects_of_torchio,
    "Compose": composed,
    "create_training_dataloader": loader("create_training_dataloader", patch_size=(2, 2, 2)),
    "create_validation_dataloader": loader("create_validation_dataloader"),
    "create_inference_dataloader": loader("create_inference_dataloader"),
    "create_segmentation_dataloader": segmented(patch_size=(2, 2, 2), foreground_sampling=True),
    "create_distributed_dataloader": loader(
        "create_distributed_dataloader", "radiobject.ml.distributed", rank=0, world_size=1
    ),
    "set_epoch": epochs,
    **{
        name: gone(name, "radiobject.ml.utils")
        for name in (
            "load_labels",
            "validate_collection_alignment",
            "validate_uniform_shapes",
            "collect_volume_shapes",
            "worker_init_fn",
        )
    },
    "CacheStrategy": lambda g: (
        [strategy.value for strategy in ml("CacheStrategy")],
        ["none", "in_memory", "disk"],
    ),
    "radiobject.ml.distributed": lambda g: (
        imported("radiobject.ml.distributed").set_epoch is ml("set_epoch"),
        True,
    ),
    **{
        f"radiobject.ml.{name}": lambda g, name=name: imported(f"radiobject.ml.{name}")
        for name in ("cache", "reader", "utils")
    },
    "VolumeReader": gone("VolumeReader", "radiobject.ml.reader"),
    "NoCache, NoOpCache, InMemoryCache, DiskCache": gone("InMemoryCache", "radiobject.ml.cache"),
    **{
        name: gone(name)
        for name in ("PatchVolumeDataset", "GridPatchDataset", "RadiObjectDataset", "MultiModalDataset")
    },
    "create_training_dataloader(modalities=)": of_a_study("create_training_dataloader"),
    "create_training_dataloader(cache_strategy=)": of_a_study(
        "create_training_dataloader", cache_strategy="in_memory"
    ),
    "create_training_dataloader(pin_memory=, persistent_workers=)": of_a_study(
        "create_training_dataloader", pin_memory=False, persistent_workers=False
    ),
    "create_training_dataloader(labels=)": labelled,
    "create_segmentation_dataloader(image_transform=, spatial_transform=)": segmented(
        patch_size=(2, 2, 2), image_transform=dict, spatial_transform=dict
    ),
    "create_segmentation_dataloader(foreground_threshold=, foreground_max_retries=)": segmented(
        foreground_threshold=0.1, foreground_max_retries=5
    ),
}
