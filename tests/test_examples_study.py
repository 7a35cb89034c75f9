"""The example study that documentation and tests open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from radiobject import RadiObject
from radiobject.errors import StudyExistsError
from radiobject.examples import LABELS, cohort, study

pytest.importorskip("nilearn")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    uri = tmp_path_factory.mktemp("example") / "study"
    study(3, uri, spacing=8.0)
    return uri


def test_it_has_images_labels_and_subjects(place: Path) -> None:
    radi = RadiObject(place)
    assert radi.collection_names == ("T1w", "seg")
    assert radi.obs_subject_ids == ["sub-01", "sub-02", "sub-03"]
    assert radi.obs_meta.columns == ["obs_subject_id", "age", "sex", "dx"]
    assert len(radi.T1w) == len(radi.seg) == 4
    assert {label.value: label.name for label in radi.seg.iloc[0].meta.labels} == LABELS
    assert radi.validate("full").ok


def test_its_voxels_are_those_of_the_cohort(place: Path, tmp_path: Path) -> None:
    files = cohort(tmp_path / "files", 3, spacing=8.0)
    again = RadiObject.from_niftis(tmp_path / "study", files.images, files.obs_meta)
    for ours, theirs in zip(RadiObject(place).T1w, again.T1w, strict=True):
        assert np.array_equal(ours[:], theirs[:])


def test_the_second_subject_has_two_sessions(place: Path) -> None:
    visits = RadiObject(place).loc["sub-02"].T1w
    assert list(visits.obs.read(["session"])["session"]) == ["1", "2"]


def test_a_place_that_is_taken_is_refused(place: Path) -> None:
    with pytest.raises(StudyExistsError):
        study(1, place, spacing=8.0)


def test_without_a_place_each_is_new_and_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second = study(1, spacing=16.0), study(1, spacing=16.0)
    assert first.uri != second.uri
    assert str(first.uri).startswith(str(tmp_path))
    # the NIfTI files are gone, the studies are there
    assert not list(tmp_path.rglob("*.nii.gz"))
    assert len(RadiObject(str(first.uri))) == 1
