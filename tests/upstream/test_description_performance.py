"""The samples of the text on performance: look-ups, patterns for large studies, loaders for training."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject, Volume, VolumeCollection, measure
from tests.conftest import as_sources

TEXT = Path(__file__).resolve().parents[3] / "shared" / "description" / "performance.txt"
MANY_WORKERS = pytest.mark.filterwarnings("ignore:This DataLoader will create")
"""The samples ask for more processes than a small machine has cores."""

IMAGED = ["PATIENT_0001", "PATIENT_4999", "PATIENT_5000"]
SHAPE = (8, 9, 120)


def array(subject: str) -> np.ndarray:
    return np.full(SHAPE, int(subject[-4:]) % 997, dtype="i2")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """5,001 subjects, three of them with images."""
    subjects = [f"PATIENT_{n:04}" for n in range(5001)]
    frame = pd.DataFrame({"obs_subject_id": subjects, "diagnosis": "healthy"})
    frame.loc[frame["obs_subject_id"].isin(IMAGED[1:]), "diagnosis"] = "tumor"
    images = {name: {s: array(s) for s in IMAGED} for name in ("T1w", "FLAIR")}
    place = tmp_path_factory.mktemp("large") / "study"
    RadiObject.from_niftis(place, as_sources(images), frame)
    return str(place)


@pytest.fixture
def radi(uri: str) -> RadiObject:
    return RadiObject(uri)


def compute_features(data: np.ndarray) -> float:
    return float(data.mean())


def expected(subjects: list[str]) -> list[float]:
    return [compute_features(array(s)) for s in subjects]


def test_looking_up_a_subject(radi: RadiObject) -> None:
    with measure() as cost:
        by_position = radi.iloc[5000]
        by_id = radi.loc["PATIENT_5000"]
        ids = radi.obs_subject_ids
        names = radi.collection_names
    assert by_position.obs_subject_ids == by_id.obs_subject_ids == ["PATIENT_5000"]
    assert (len(ids), names) == (5001, ("T1w", "FLAIR"))
    assert cost["chunks_decoded"] == 0


def test_one_subject_of_many_costs_one_volume(radi: RadiObject) -> None:
    with measure() as cost:
        single_subject = radi.iloc[5000]
        volume = single_subject.T1w.iloc[0].to_numpy()
    assert np.array_equal(volume, array("PATIENT_5000"))
    assert cost["volumes_opened"] == 1


def test_views_are_free_and_voxels_are_not(radi: RadiObject) -> None:
    with measure() as cost:
        view = radi.iloc[5000]
        collection = view.T1w
        volume = collection.iloc[0]
    assert (cost["chunks_decoded"], cost["bytes_used"]) == (0, 0)

    with measure() as cost:
        data = volume.to_numpy()
    assert cost["bytes_used"] == data.nbytes
    slice = volume.axial_slice(100)  # noqa: A001 - as the sample has it
    assert np.array_equal(slice, data[:, :, 100])


def test_workers_open_handles_of_their_own(radi: RadiObject, uri: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def process_subject(args):
        radi_uri, subject_id = args
        radi = RadiObject(radi_uri)
        data = radi.loc[subject_id].T1w.iloc[0].to_numpy()
        return compute_features(data)

    radi = radi.loc[IMAGED]
    subject_ids = radi.obs_subject_ids
    with ThreadPoolExecutor(max_workers=8) as pool:
        args = [(uri, sid) for sid in subject_ids]
        results = list(pool.map(process_subject, args))
    assert results == expected(IMAGED)


def test_a_cohort_is_chosen_by_its_table(uri: str) -> None:
    with measure() as cost:
        radi = RadiObject(uri)
        obs = radi.obs_meta.read()

        tumor_patients = obs[obs["diagnosis"] == "tumor"]["obs_subject_id"].tolist()
    assert tumor_patients == IMAGED[1:]
    assert cost["chunks_decoded"] == 0

    means = []
    for sid in tumor_patients[:100]:
        data = radi.loc[sid].T1w.iloc[0].to_numpy()
        means.append(compute_features(data))
    assert means == expected(tumor_patients)


def test_subjects_stream_through_a_generator(radi: RadiObject) -> None:
    selected_ids = IMAGED
    saved: list[float] = []
    save_to_database = saved.append

    def process_subjects(radi, subject_ids):
        for sid in subject_ids:
            data = radi.loc[sid].T1w.iloc[0].to_numpy()
            yield compute_features(data)

    for features in process_subjects(radi, selected_ids):
        save_to_database(features)
    assert saved == expected(IMAGED)


def test_a_cache_of_files_needs_no_help(radi: RadiObject, tmp_path: Path) -> None:
    def cache_subject(radi, subject_id, cache_dir):
        cache_path = cache_dir / f"{subject_id}.npy"
        if not cache_path.exists():
            data = radi.loc[subject_id].T1w.iloc[0].to_numpy()
            np.save(cache_path, data)
        return np.load(cache_path)

    first = cache_subject(radi, "PATIENT_4999", tmp_path)
    with measure() as cost:
        again = cache_subject(radi, "PATIENT_4999", tmp_path)
    assert np.array_equal(first, again)
    assert np.array_equal(first, array("PATIENT_4999"))
    assert cost["requests"] == 0


def test_data_flow_from_a_file_to_a_study(make_nifti, tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(make_nifti(array("a0007")))
    volume = Volume.from_nifti(str(tmp_path / "volume.ome.zarr"), str(tmp_path / "a.nii"))
    collection = VolumeCollection.from_volumes(
        str(tmp_path / "collection"), [("sub-01_T1w", volume)], name="T1w"
    )
    radi = RadiObject.from_volume_collections(str(tmp_path / "study"), {"T1w": collection})
    made = radi.head(1).to_radi_object(str(tmp_path / "view"))
    assert np.array_equal(made.T1w.iloc[0].to_numpy(), array("a0007"))
    assert (made.T1w.iloc[0].affine == volume.affine).all()


def test_each_process_has_a_context() -> None:
    pytest.importorskip("tiledb")
    import tiledb

    from radiobject.parallel import create_worker_ctx

    _PROCESS_CTX_CACHE: dict[int, tiledb.Ctx] = {}  # noqa: N806 - as the sample has it

    def _get_ctx(self) -> tiledb.Ctx:
        pid = os.getpid()
        if pid not in _PROCESS_CTX_CACHE:
            _PROCESS_CTX_CACHE[pid] = create_worker_ctx()
        return _PROCESS_CTX_CACHE[pid]

    assert _get_ctx(None) is _get_ctx(None)


@MANY_WORKERS
@pytest.mark.slow
def test_ranks_share_an_epoch(radi: RadiObject) -> None:
    from radiobject.ml.distributed import create_distributed_dataloader, set_epoch

    radi_object, epochs = radi.loc[IMAGED], 2
    seen = []
    for rank, world_size in ((0, 2), (1, 2)):
        loader = create_distributed_dataloader(
            radi_object,
            rank=rank,
            world_size=world_size,
            modalities=["T1w", "FLAIR"],
            batch_size=4,
            num_workers=4,
        )

        for epoch in range(epochs):
            set_epoch(loader, epoch)
            for batch in loader:
                seen.append(batch["image"].shape[1:])  # noqa: PERF401 - as the sample has it
    assert set(seen) == {(2, *SHAPE)}


@MANY_WORKERS
def test_patches_are_read_instead_of_volumes(radi: RadiObject) -> None:
    from radiobject.ml import create_training_dataloader

    loader = create_training_dataloader(
        radi,
        modalities=["T1w"],
        patch_size=(64, 64, 64),
        batch_size=32,
        num_workers=4,
    )
    batch = next(iter(loader))
    assert batch["image"].shape == (3, 1, 64, 64, 64)  # the volumes here are smaller, and padded
    assert set(batch["image"].flatten(1).min(1).values.tolist()) == {0.0}


def test_a_small_study_is_kept_in_memory(radi: RadiObject) -> None:
    from radiobject.ml import CacheStrategy, create_training_dataloader

    loader = create_training_dataloader(
        radi,
        batch_size=4,
        num_workers=0,
        cache_strategy=CacheStrategy.IN_MEMORY,
    )
    assert iter(loader) is not None


@MANY_WORKERS
def test_a_medium_study_uses_workers(radi: RadiObject) -> None:
    from radiobject.ml import create_training_dataloader

    loader = create_training_dataloader(
        radi,
        patch_size=(96, 96, 96),
        batch_size=16,
        num_workers=4,
        pin_memory=True,
        persistent_workers=True,
    )
    assert iter(loader) is not None


@MANY_WORKERS
def test_a_large_study_uses_nodes(radi: RadiObject) -> None:
    from radiobject.ml.distributed import create_distributed_dataloader

    rank, world_size = 0, 2
    loader = create_distributed_dataloader(
        radi,
        rank=rank,
        world_size=world_size,
        patch_size=(64, 64, 64),
        batch_size=32,
        num_workers=8,
    )
    assert iter(loader) is not None


def code_lines(text: str) -> list[str]:
    """The lines of the text's Python samples, without comments and with places of its own left out."""
    found = []
    for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            code = re.sub(r"\s+#.*$|^#.*$", "", line).strip()
            code = re.sub(r'"s3://[^"]*"', "uri", code).replace("from ml.", "from radiobject.ml.")
            if code and code not in ("...", "import shutil", "from pathlib import Path"):
                found.append(code)
    return found


def test_every_line_of_the_samples_is_run_here() -> None:
    if not TEXT.is_file():
        reason = f"no {TEXT.name}: the samples can only be compared beside the texts"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(reason)
        pytest.skip(reason)
    source = Path(__file__).read_text(encoding="utf-8")
    lines = code_lines(TEXT.read_text(encoding="utf-8"))
    assert len(lines) > 60
    missing = [line for line in lines if line not in source]
    assert missing == []
