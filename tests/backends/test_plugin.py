"""A backend of another distribution (tests/plugin): found by its entry point, and used as any of ours."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from radiobject import RadiObject, Volume
from radiobject.backends import get_backend
from radiobject.errors import FormatError, IntegrityError, MissingObjectError, StudyExistsError
from radiobject.location import Location
from radiobject.testing import BackendTests

PLUGIN = Path(__file__).resolve().parents[1] / "plugin"
PROJECT = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]


@pytest.fixture
def site(tmp_path_factory, monkeypatch) -> str:
    """The plug-in as an installer leaves it in site-packages; its value serves as PYTHONPATH."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / f"{PROJECT['name'].replace('-', '_')}-{PROJECT['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {PROJECT['name']}\nVersion: {PROJECT['version']}\n"
    )
    groups = PROJECT["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups]
    (info / "entry_points.txt").write_text("".join(lines))
    for path in (PLUGIN, folder):
        monkeypatch.syspath_prepend(str(path))
    return os.pathsep.join((str(folder), str(PLUGIN)))


class TestFoundByItsEntryPoint(BackendTests):
    @pytest.fixture
    def backend(self, tmp_path, site):
        return get_backend("npy", Location(tmp_path))

    @pytest.fixture
    def reopen(self, backend):
        return lambda: get_backend("npy", Location(backend.location.uri))


@pytest.fixture
def scans(tmp_path) -> dict[str, Path]:
    """A scaled scan with an extension, and one with four axes."""
    ct = nibabel.Nifti1Image(np.arange(120).reshape(4, 5, 6).astype("i2") - 5, np.diag([2.0, 2, 3, 1]))
    ct.header.set_slope_inter(2.0, -3.0)
    ct.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))
    bold = nibabel.Nifti1Image(np.arange(360).reshape(4, 5, 6, 3).astype("i2"), np.eye(4))
    bold.header.set_xyzt_units("mm", "sec")
    bold.header["pixdim"][4] = 1.5
    files = {"ct": tmp_path / "ct.nii", "bold": tmp_path / "bold.nii"}
    nibabel.save(ct, files["ct"])
    nibabel.save(bold, files["bold"])
    return files


@pytest.fixture
def radi(site, scans, tmp_path) -> RadiObject:
    """A study on it, opened again by its place alone."""
    labels = (np.arange(60).reshape(3, 4, 5) // 20).astype("u1")
    images = {name: [(path, "sub-1")] for name, path in scans.items()}
    images["seg"] = [((labels, np.diag([-1.0, 1, 1, 1])), "sub-1")]
    RadiObject.from_niftis(tmp_path / "study", images, backend="npy", progress=False)
    return RadiObject(tmp_path / "study")


def backends_of(radi: RadiObject) -> set[str]:
    return {entry.backend for entry in radi._study.snapshot.commit.collections}


def run(code: str, pythonpath: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": pythonpath}
    command = [sys.executable, "-W", "error", "-c", code, *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_a_study_on_it_opens_by_its_place_alone(radi, scans, tmp_path) -> None:
    assert backends_of(radi) == {"npy"}
    assert radi.ct.iloc[0].uri.endswith(".npyvol")
    for name, path in scans.items():
        np.testing.assert_array_equal(radi.collection(name).iloc[0][...], nibabel.load(path).get_fdata())
        radi.collection(name).iloc[0].to_nifti(tmp_path / "back.nii")
        assert (tmp_path / "back.nii").read_bytes() == path.read_bytes()
    assert radi.validate("full").ok


def test_a_study_goes_to_zarr_and_back(radi, scans, tmp_path) -> None:
    on_zarr = radi.write(tmp_path / "zarr", backend="zarr")
    back = on_zarr.write(tmp_path / "npy", backend="npy")
    moved = back.write(tmp_path / "moved")
    assert [backends_of(study) for study in (on_zarr, back, moved)] == [{"zarr"}, {"npy"}, {"npy"}]
    for study in (on_zarr, back, moved):
        assert study.validate("full").ok
        for name in radi.collection_names:
            old, new = radi.collection(name).iloc[0], study.collection(name).iloc[0]
            np.testing.assert_array_equal(new.to_numpy(raw=True), old.to_numpy(raw=True))
            np.testing.assert_array_equal(new.affine, old.affine)
        study.ct.iloc[0].to_nifti(tmp_path / "back.nii")
        assert (tmp_path / "back.nii").read_bytes() == scans["ct"].read_bytes()


def test_it_takes_part_in_every_change(radi) -> None:
    label = radi.seg.iloc[0]
    radi.append({"seg": [((label.to_numpy(), label.affine), "sub-2")]}, {"obs_subject_id": ["sub-2"]})
    radi.add_collection("half", radi.ct.lazy().map(lambda v, row: v / 2))
    np.testing.assert_array_equal(radi.half.iloc[0][...], radi.ct.iloc[0][...] / 2)
    radi.delete(obs_ids="sub-1_seg")
    assert backends_of(radi) == {"npy"}
    assert radi.seg.obs_ids == ["sub-2_seg"]
    assert RadiObject(radi.uri, version=1).seg.obs_ids == ["sub-1_seg"]
    assert radi.validate("full").ok


def test_a_volume_opens_by_its_own_url(radi, tmp_path) -> None:
    stored = radi.bold.iloc[0]
    alone = Volume(stored.uri)
    np.testing.assert_array_equal(alone[1:3, 2, :, 1], stored[1:3, 2, :, 1])
    assert (alone.meta, alone.uri) == (stored.meta, stored.uri)
    written = Volume.from_numpy(np.arange(24).reshape(2, 3, 4), uri=tmp_path / "mine.npyvol")
    np.testing.assert_array_equal(Volume(tmp_path / "mine.npyvol")[...], written[...])
    assert sorted(p.name for p in (tmp_path / "mine.npyvol").rglob("*.*")) == ["0.npy", "manifest.json"]
    with pytest.raises(StudyExistsError, match="free place"):
        Volume.from_numpy(np.zeros((2, 3, 4)), uri=tmp_path / "mine.npyvol")
    with pytest.raises(MissingObjectError, match="on the backend 'npy', going by its name, got nothing"):
        Volume(tmp_path / "nobody.npyvol")


def test_what_stands_under_its_suffix_and_is_no_volume_is_named(radi, tmp_path) -> None:
    (tmp_path / "other.npyvol").mkdir()
    (tmp_path / "other.npyvol" / "notes.txt").write_text("mine")
    with pytest.raises(MissingObjectError, match=r"something else \(.*other.npyvol/manifest.json is missing"):
        Volume(tmp_path / "other.npyvol")
    radi.write(tmp_path / "study.npyvol")
    with pytest.raises(FormatError, match=r"got a study.*RadiObject\(uri\)"):
        Volume(tmp_path / "study.npyvol")


def test_damage_is_found_through_the_study(radi) -> None:
    (shard,) = Path(radi.ct.iloc[0].uri).rglob("0.npy")
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x77")
    with pytest.raises(IntegrityError, match=r"0\.npy"):
        radi.ct.iloc[0].to_numpy()
    (problem,) = radi.validate("full").problems
    assert problem.where.endswith("0.npy")


READ = """
import sys, radiobject
radi = radiobject.RadiObject(sys.argv[1])
print(radi.validate("full").ok, len(radi.ct.obs), flush=True)
print(int(radi.ct.iloc[0].to_numpy(raw=True).sum()))
"""


def test_another_process_reads_it_or_says_what_is_missing(site, radi) -> None:
    there = run(READ, site, radi.uri)
    assert there.stdout.split() == ["True", "1", str(radi.ct.iloc[0].to_numpy(raw=True).sum())], there.stderr
    without = run(READ, "", radi.uri)
    assert without.stdout.split() == ["True", "1"], "bytes are checked without the backend"
    assert "CapabilityError: backend 'npy': expected one of files, memory, tiledb, zarr" in without.stderr


def test_worker_processes_write_and_read_it(site, scans, tmp_path) -> None:
    images = {"ct": [(scans["ct"], "sub-1")]}
    radi = RadiObject.from_niftis(tmp_path / "study", images, backend="npy", executor="processes", workers=1)
    (half,) = radi.ct.lazy().map(lambda v, row: v / 2).to_numpy_stack(executor="processes", workers=1)
    np.testing.assert_array_equal(half, radi.ct.iloc[0].to_numpy() / 2)


@pytest.mark.slow
def test_pip_installs_it(tmp_path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(tmp_path)]
    subprocess.run([*command, str(PLUGIN)], check=True, timeout=240, capture_output=True)
    code = (
        "import sys, npy_backend; from radiobject.backends import get_backend; "
        "from radiobject.location import Location; "
        "assert type(get_backend('npy', Location('.'))) is npy_backend.NpyBackend; "
        "print(npy_backend.__file__)"
    )
    done = run(code, str(tmp_path))
    assert done.stdout.strip() == str(tmp_path / "npy_backend.py"), done.stderr
