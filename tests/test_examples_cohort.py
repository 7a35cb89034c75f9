"""The example cohort: files as a hospital would have them, equal for equal seeds."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from radiobject.errors import ConfigError, MissingDependencyError
from radiobject.examples import Cohort, cohort
from radiobject.ingest.nifti import NiftiImage, read_nifti

nilearn = pytest.importorskip("nilearn")
pytest.importorskip("scipy")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return cohort(tmp_path_factory.mktemp("cohort"), 6, spacing=4.0)


def load(of: Cohort, name: str, stem: str) -> NiftiImage:
    return read_nifti(of.folder / name / f"{stem}_{name}.nii.gz")


def test_every_image_has_its_mask_on_the_same_grid(small: Cohort) -> None:
    assert set(small.images) == {"T1w", "seg"}
    for (image_path, subject), (mask_path, owner) in zip(
        small.images["T1w"], small.images["seg"], strict=True
    ):
        assert subject == owner
        image, mask = read_nifti(image_path), read_nifti(mask_path)
        assert image.affine == mask.affine
        assert image.shape == mask.shape == (47, 58, 49)
        assert (image.dtype, mask.dtype) == (np.int16, np.uint8)
        assert set(np.unique(mask.voxels)) == {0, 1, 2}
        # White matter is the brighter one on T1, and nothing is labelled outside the head.
        grey, white = (image.voxels[mask.voxels == v].mean() for v in (1, 2))
        assert white > grey > 150
        assert image.voxels[:, :2, :].max() == 0


def test_names_subjects_and_sessions(small: Cohort) -> None:
    names = [Path(path).name for path, _ in small.images["T1w"]]
    assert names[:4] == [
        "sub-01_T1w.nii.gz", "sub-02_ses-1_T1w.nii.gz", "sub-02_ses-2_T1w.nii.gz", "sub-03_T1w.nii.gz",
    ]  # fmt: skip
    assert [s for _, s in small.images["T1w"]].count("sub-06") == 2
    table = small.obs_meta
    assert list(table.columns) == ["obs_subject_id", "age", "sex", "dx"]
    assert list(table["obs_subject_id"]) == [f"sub-{i:02d}" for i in range(1, 7)]
    assert set(table["sex"]) <= {"F", "M"}
    assert set(table["dx"]) == {"control", "patient"}
    assert table["age"].between(18, 90).all()


def test_grids_are_straight_oblique_and_flipped(small: Cohort) -> None:
    assert load(small, "T1w", "sub-01").affine.obliquity < 1e-3
    assert load(small, "T1w", "sub-03").affine.obliquity > 5
    assert load(small, "T1w", "sub-05").affine.axcodes == ("L", "A", "S")


def labels_at(image: NiftiImage, world: np.ndarray) -> np.ndarray:
    """The nearest label at points in mm, 0 outside the grid."""
    index = np.rint(image.affine.inverse().apply(world)).astype(int)
    inside = ((index >= 0) & (index < image.voxels.shape[::-1])).all(axis=-1)
    x, y, z = np.where(inside[:, None], index, 0).T
    return np.where(inside, image.voxels[z, y, x], 0)


def test_heads_are_mni_heads_whatever_the_grid(small: Cohort) -> None:
    packaged = Path(nilearn.__file__).parent / "datasets" / "data"
    white = read_nifti(packaged / "mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz")
    rng = np.random.default_rng(0)
    world = rng.uniform((-75, -110, -50), (75, 75, 80), (40_000, 3))
    template = labels_at(white, world) > 127
    for path, _ in small.images["seg"]:
        mine = labels_at(read_nifti(path), world) == 2
        overlap = 2 * (mine & template).sum() / (mine.sum() + template.sum())
        assert overlap > 0.6, path


def test_subjects_differ_more_than_sessions(small: Cohort) -> None:
    def mask(stem: str) -> np.ndarray:
        return load(small, "seg", stem).voxels > 0

    def differ(a: str, b: str) -> float:
        return float((mask(a) != mask(b)).mean())

    assert 0 < differ("sub-02_ses-1", "sub-02_ses-2") < differ("sub-02_ses-1", "sub-04")


def test_a_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    def digests(name: str, seed: int) -> list[str]:
        of = cohort(tmp_path / name, 2, seed, spacing=8.0)
        return [hashlib.sha256(Path(p).read_bytes()).hexdigest() for p, _ in of.images["T1w"]]

    assert digests("a", 1) == digests("b", 1)
    assert not set(digests("a", 1)) & set(digests("c", 2))


def test_progress_is_told_after_every_scan(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    cohort(tmp_path, 2, spacing=8.0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(("n", "spacing"), [(0, 1.0), (2, 0.5), (2, 40.0)])
def test_impossible_cohorts_are_refused(tmp_path: Path, n: int, spacing: float) -> None:
    with pytest.raises(ConfigError, match="cohort"):
        cohort(tmp_path, n, spacing=spacing)


def test_without_nilearn_the_pip_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nilearn", None)
    with pytest.raises(MissingDependencyError, match=re.escape('pip install "radiobject-zarr[demo]"')):
        cohort(tmp_path, 1, spacing=7.0)
