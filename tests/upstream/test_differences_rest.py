"""Faults of the TileDB-based package in types, settings and cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

import radiobject
from radiobject import CompressionConfig, Compressor, OrientationConfig, RadiObject, Volume, measure
from radiobject.errors import ConfigError, MetadataError
from tests.conftest import as_sources

ARRAY = np.arange(60).reshape(3, 4, 5)


def test_w22_scaled_integers_stay_integers(make_nifti, tmp_path: Path) -> None:
    content = make_nifti(ARRAY.astype("i2"), fields={"scl_slope": 0.5, "scl_inter": -3})
    (tmp_path / "a.nii").write_bytes(content)
    volume = RadiObject.from_niftis(tmp_path / "study", {"x": str(tmp_path / "a.nii")}).x.iloc[0]
    assert volume.stored_dtype == np.dtype("i2")
    assert np.array_equal(volume.to_numpy(), ARRAY * 0.5 - 3)
    assert np.array_equal(volume.to_numpy(raw=True), ARRAY)
    volume.to_nifti(tmp_path / "again.nii")
    assert (tmp_path / "again.nii").read_bytes() == content


@pytest.mark.parametrize("dtype", [">i2", ">f4", "<i8", "<u8"])
def test_w23_types_that_come_in_go_out(dtype: str, make_nifti, tmp_path: Path) -> None:
    kind = np.dtype(dtype)
    content = make_nifti(ARRAY.astype(kind.newbyteorder("=")), order=kind.byteorder.replace("=", "<"))
    (tmp_path / "a.nii").write_bytes(content)
    radi = RadiObject.from_niftis(tmp_path / "study", {"x": str(tmp_path / "a.nii")})
    assert np.array_equal(radi.x.iloc[0].to_numpy(), ARRAY)
    radi.x.iloc[0].to_nifti(tmp_path / "again.nii")
    assert (tmp_path / "again.nii").read_bytes() == content


def test_w23_time_step_description_and_intent_survive(make_nifti, tmp_path: Path) -> None:
    fields = {"descrip": b"rest", "intent_code": 1001, "intent_name": b"z", "xyzt_units": 10,
              "pixdim": [1, 2, 2.5, 3, 1.5, 1, 1, 1]}  # fmt: skip
    (tmp_path / "a.nii").write_bytes(make_nifti(ARRAY.astype("i2").reshape(3, 2, 2, 5), fields=fields))
    volume = RadiObject.from_niftis(tmp_path / "study", {"x": str(tmp_path / "a.nii")}).x.iloc[0]
    assert (volume.axes, volume.meta.time_step) == (("x", "y", "z", "t"), 1.5)
    volume.to_nifti(tmp_path / "again.nii")
    header = nibabel.load(tmp_path / "again.nii").header
    assert (header["descrip"].item(), header["pixdim"][4], header["intent_code"]) == (b"rest", 1.5, 1001)


def test_w23_a_single_time_point_is_told_alike_by_table_and_volume(make_nifti, tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(make_nifti(ARRAY.astype("i2").reshape(3, 4, 5, 1)))
    radi = RadiObject.from_niftis(tmp_path / "study", {"x": str(tmp_path / "a.nii")}, axis4="time")
    text = radi.x.obs.read(["dimensions"])["dimensions"][0]
    assert text == repr(radi.x.iloc[0].shape)


def test_w24_ids_and_columns_of_every_kind_survive(study) -> None:
    meta = pd.DataFrame(
        {
            "obs_subject_id": ["Zoë", "受试者-2"],
            "visits": pd.array([3, None], dtype="Int64"),
            "arm": pd.Categorical(["placebo", None], categories=["drug", "placebo"]),
            "note": [None, "späte Aufnahme"],
            "smoker": pd.array([True, None], dtype="boolean"),
        }
    )
    radi = study({"x": {s: ARRAY.astype("i2") for s in meta["obs_subject_id"]}}, meta)
    read = RadiObject(radi.uri).obs_meta.read()
    assert read["obs_subject_id"].tolist() == ["Zoë", "受试者-2"]
    assert (read["visits"].dtype, read["visits"].tolist()) == ("Int64", [3, pd.NA])
    assert list(read["arm"].cat.categories) == ["drug", "placebo"]
    assert read["note"].tolist()[1] == "späte Aufnahme"
    assert read["note"].isna().tolist() == [True, False]
    assert (read["smoker"].dtype, read["smoker"].tolist()) == ("boolean", [True, pd.NA])
    assert radi.loc["受试者-2"].x.iloc[0].obs_id == "受试者-2_x"


def test_w24_a_mixed_column_is_named_before_anything_is_written(tmp_path: Path) -> None:
    meta = pd.DataFrame({"obs_subject_id": ["a"], "age": [41]}, dtype=object)
    meta.loc[1] = ["b", "unknown"]
    with pytest.raises(MetadataError, match="'age'"):
        RadiObject.from_niftis(tmp_path / "s", as_sources({"x": {"a": ARRAY.astype("i2")}}), meta)
    assert not (tmp_path / "s").exists()


def test_w26_the_shape_of_a_table_is_two_ints(study) -> None:
    shape = study().obs_meta.shape
    assert shape == (3, 1)
    assert [type(n) for n in shape] == [int, int]


def test_w30_a_volume_of_a_view_costs_no_request_however_long_the_view(study) -> None:
    radi = study({"x": {f"s{n:02}": ARRAY.astype("i2") for n in range(40)}})
    view = radi.iloc[5:].x
    view.iloc[0]
    with measure() as cost:
        found = [view.iloc[n].obs_id for n in range(35)]
    assert found == view.obs_ids
    assert (cost["requests"], cost["volumes_opened"]) == (0, 0)


def test_w33_a_local_study_wakes_no_cloud_client(study) -> None:
    code = (
        "import sys; from radiobject import RadiObject, configure, S3Config; "
        "configure(s3=S3Config(region='eu-west-1', include_credentials=True)); "
        "RadiObject(sys.argv[1]).T1w.iloc[0].to_numpy(); "
        "print([m for m in ('boto3', 'botocore', 'aiobotocore', 's3fs') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, study().uri], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_w33_what_no_codec_has_is_refused_when_it_is_said() -> None:
    for wrong in (
        lambda: CompressionConfig(Compressor.GZIP, 22),
        lambda: CompressionConfig(Compressor.ZSTD, 22),
        lambda: OrientationConfig(auto_detect=False),
    ):
        with pytest.raises(ConfigError):
            wrong()
    assert radiobject.get_radiobject_config().write.compression.algorithm == "lz4hc"


def test_w35_no_path_of_this_machine_is_stored(make_nifti, tmp_path: Path) -> None:
    folder = tmp_path / "ward-7-of-mrs-doe"
    folder.mkdir()
    (folder / "a.nii").write_bytes(make_nifti(ARRAY.astype("i2")))
    radi = RadiObject.from_niftis(tmp_path / "study", {"x": str(folder)})
    assert "source_path" not in radi.x.obs.columns
    said = [p for p in (tmp_path / "study").rglob("*") if p.is_file() and b"mrs-doe" in p.read_bytes()]
    assert said == []
    assert not any("mrs-doe" in str(v) for v in radi.ledger.read().iloc[0])


def test_w35_checksums_versions_and_deletion_are_there(study) -> None:
    radi = study()
    radi.delete(subjects="sub-01")
    assert radi.obs_subject_ids == ["sub-03", "sub-02"]
    assert RadiObject(radi.uri, version=1).obs_subject_ids == ["sub-03", "sub-01", "sub-02"]
    shard = max(Path(radi.uri).rglob("c/0/0/0"), key=lambda p: p.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 1
    shard.write_bytes(content)
    assert not radi.validate("full").ok


def test_w35_a_volume_can_be_resampled() -> None:
    volume = Volume.from_numpy(ARRAY.astype("f4"), np.diag([2.0, 2.0, 2.0, 1.0]))
    assert volume.resample(spacing=1.0).shape == (6, 8, 10)
