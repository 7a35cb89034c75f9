"""The samples of the article: files by nibabel, ingest, eager and lazy queries, loaders."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from radiobject import RadiObject, measure

SUBJECTS = ["sub-01", "sub-02", "sub-03"]
SHAPE = (168, 166, 116)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """imagesTr and labelsTr with one scan each of three subjects, and a study of them."""
    root = tmp_path_factory.mktemp("article")
    x, y, z = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    head = ((x - 80) ** 2 + (y - 80) ** 2 + (z - 60) ** 2 < 50**2).astype("i2")
    for number, subject in enumerate(SUBJECTS, 1):
        for name, array in (("imagesTr", head * 100 * number), ("labelsTr", head.astype("u1"))):
            (root / name).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4) * 1.0), root / name / f"{subject}.nii.gz")
    metadata = pd.DataFrame(
        {"obs_subject_id": SUBJECTS, "age": [39, 52, 61], "diagnosis": ["tumor", "healthy", "tumor"]}
    )
    RadiObject.from_niftis(
        root / "study", {"CT": str(root / "imagesTr"), "T1w": str(root / "labelsTr")}, metadata
    )
    return root


@pytest.fixture
def uri(folder: Path) -> str:
    return str(folder / "study")


@pytest.fixture
def radi(uri: str) -> RadiObject:
    return RadiObject(uri)


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with links to the files, as relative paths in the samples expect."""
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "scan.nii.gz").symlink_to(folder / "imagesTr" / "sub-01.nii.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def normalize_intensity(volume: np.ndarray, obs_row: pd.Series) -> np.ndarray:
    return (volume - volume.mean()) / volume.std()


def compute_radiomics(volume: np.ndarray, obs_row: pd.Series) -> tuple:
    counts, _ = np.histogram(volume, bins=8)
    share = counts[counts > 0] / volume.size
    return volume, {"entropy": float(-(share * np.log2(share)).sum())}


def test_nibabel_decompresses_a_file_for_one_plane(here: Path, radi: RadiObject) -> None:
    img = nib.load("scan.nii.gz")

    header = img.header
    voxel_dims = header.get_zooms()
    shape = header.get_data_shape()

    data = img.get_fdata()

    axial_slice = data[:, :, 60]
    volume = radi.CT.loc["sub-01_CT"]
    assert volume.shape == shape
    assert volume.spacing == pytest.approx(voxel_dims)
    with measure() as cost:
        assert np.array_equal(volume.axial(60), axial_slice)
    assert cost["chunks_decoded"] < 8 * 8  # of 6 x 6 x 4


def test_torchio_loads_whole_volumes_for_patches(here: Path) -> None:
    import torchio as tio
    from torch.utils.data import DataLoader

    image_paths = sorted(here.glob("imagesTr/*.nii.gz"))
    label_paths = sorted(here.glob("labelsTr/*.nii.gz"))
    subjects = [
        tio.Subject(
            image=tio.ScalarImage(nifti_path),
            label=tio.LabelMap(label_path),
        )
        for nifti_path, label_path in zip(image_paths, label_paths)  # noqa: B905 - as the sample has it
    ]

    dataset = tio.SubjectsDataset(
        subjects,
        transform=tio.Compose(
            [
                tio.ToCanonical(),
                tio.Resample(1.0),
                tio.ZNormalization(),
            ]
        ),
    )

    sampler = tio.UniformSampler(patch_size=(96, 96, 96))
    queue = tio.Queue(dataset, max_length=300, samples_per_volume=10, sampler=sampler)
    loader = DataLoader(queue, batch_size=16)

    for batch in loader:
        images = batch["image"][tio.DATA]
        labels = batch["label"][tio.DATA]
        assert images.shape == labels.shape


def test_one_ingest_then_reads_of_parts(here: Path) -> None:
    metadata_df = pd.DataFrame({"obs_subject_id": SUBJECTS, "age": [39, 52, 61]})
    uri = "my-study"

    radi = RadiObject.from_niftis(
        uri=uri,
        images={
            "CT": "./imagesTr/*.nii.gz",
            "seg": "./labelsTr",
        },
        validate_alignment=True,
        obs_meta=metadata_df,
    )

    with measure() as cost:
        vol = radi.CT.iloc[0]
        assert vol.obs_id == "sub-01_CT"
    assert cost["chunks_decoded"] == 0
    with measure() as cost:
        patch = vol[100:164, 100:164, 50:114]
    assert cost["chunks_decoded"] <= 27
    axial = vol.axial(z=50)
    whole = np.asarray(nib.load("imagesTr/sub-01.nii.gz").dataobj)
    assert np.array_equal(patch, whole[100:164, 100:164, 50:114])
    assert np.array_equal(axial, whole[:, :, 50])


def test_monai_transforms_work_on_batches(radi: RadiObject) -> None:
    from monai.transforms import Compose, NormalizeIntensityd, RandFlipd

    from radiobject.ml import create_training_dataloader

    transform = Compose(
        [
            NormalizeIntensityd(keys="image"),
            RandFlipd(keys="image", prob=0.5, spatial_axis=[0, 1, 2]),
        ]
    )

    loader = create_training_dataloader(collections=radi.CT, transform=transform)
    batch = next(iter(loader))
    assert batch["image"].shape[1:] == (1, *SHAPE)


def test_torchio_queues_take_a_collection(radi: RadiObject) -> None:
    """The sample leaves out `sampler=`, which TorchIO asks for."""
    import torchio as tio

    from radiobject.ml import VolumeCollectionSubjectsDataset

    dataset = VolumeCollectionSubjectsDataset(collections=radi.T1w)
    sampler = tio.UniformSampler(patch_size=(32, 32, 32))
    queue = tio.Queue(dataset, max_length=100, samples_per_volume=10, sampler=sampler)
    with measure() as cost:
        batches = list(tio.SubjectsLoader(queue, batch_size=15))
    assert [batch["T1w"][tio.DATA].shape for batch in batches] == [(15, 1, 32, 32, 32)] * 2
    assert cost["bytes_used"] == 30 * 32**3


def test_eager_queries_run_at_once(uri: str, tmp_path: Path) -> None:
    radi = RadiObject(uri)

    ct_processed = (
        radi.CT
        .map(normalize_intensity)
        .map(compute_radiomics)
        .write(tmp_path / "processed")
    )  # fmt: skip
    assert ct_processed.obs_ids == radi.CT.obs_ids
    assert (ct_processed.obs["entropy"] > 0).all()
    assert abs(float(ct_processed.iloc[0].to_numpy().mean())) < 1e-3


def test_lazy_queries_run_in_one_pass(radi: RadiObject, tmp_path: Path) -> None:
    with measure() as cost:
        (
            radi.CT.lazy()
            .filter("diagnosis == 'tumor'")
            .head(100)
            .map(normalize_intensity)
            .map(compute_radiomics)
            .write(tmp_path / "tumor-cohort")
        )
    made = RadiObject(tmp_path / "tumor-cohort")
    assert made.CT.obs_subject_ids == ["sub-01", "sub-03"]
    assert (made.CT.obs["entropy"] > 0).all()
    assert cost["volumes_opened"] == 2


def test_volumes_of_a_query_come_one_by_one(radi: RadiObject) -> None:
    seen = []

    def process(vol):
        seen.append((vol.obs_id, int(vol[80, 80, 60])))

    for vol in radi.CT.lazy().filter_subjects(["sub-01", "sub-03"]).iter_volumes():
        process(vol)
    assert seen == [("sub-01_CT", 100), ("sub-03_CT", 300)]


def test_questions_to_tables_read_no_voxel(radi: RadiObject) -> None:
    with measure() as cost:
        count = radi.CT.lazy().filter("age > 40").count()
        obs_df = radi.CT.lazy().filter("age > 40").to_obs()
    assert count == 2
    assert obs_df["obs_id"].tolist() == ["sub-02_CT", "sub-03_CT"]
    assert cost["chunks_decoded"] == 0


def test_what_one_transform_says_the_next_one_sees(radi: RadiObject, tmp_path: Path) -> None:
    uri = tmp_path / "counted"

    def compute_brain_volume(volume: np.ndarray, obs_row: pd.Series) -> tuple:
        mask = volume > obs_row.get("threshold", 0.5)
        return volume, {"brain_voxel_count": int(mask.sum())}

    def downstream_fn(volume: np.ndarray, obs_row: pd.Series) -> tuple:
        return volume, {"brain_share": obs_row["brain_voxel_count"] / volume.size}

    radi.CT.lazy().map(compute_brain_volume).map(downstream_fn).write(uri)
    frame = RadiObject(uri).CT.obs.read(["brain_voxel_count", "brain_share"])
    voxels = int((radi.CT.iloc[0].to_numpy() > 0).sum())
    assert frame["brain_voxel_count"].tolist() == [voxels] * 3
    assert frame["brain_share"].tolist() == pytest.approx([voxels / np.prod(SHAPE)] * 3)
