"""Tables keep every kind of column, through Parquet, appends, replacements and narrowing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from radiobject import RadiObject, measure
from radiobject.errors import MetadataError, UnknownIdError

IDS = ["sub-02", "sub-01", "Müller-3"]


def scans(ids: list[str], value: int = 0) -> dict[str, list]:
    return {"T1w": [((np.full((2, 2, 2), value, "i2"), np.eye(4)), i) for i in ids]}


def people(ids: list[str] = IDS) -> pd.DataFrame:
    """One column of each kind, with a missing value in the last row where the kind knows one."""
    return pd.DataFrame(
        {
            "obs_subject_id": ids,
            "age": pd.array([41, 2**53 + 1, None], dtype="Int64"),
            "n_scans": [1, 2, 3],
            "bmi": [21.5, 30.25, np.nan],
            "smoker": pd.array([True, False, None], dtype="boolean"),
            "consent": [True, True, False],
            "dx": pd.Categorical(["AD", "control", None], categories=["control", "AD", "MCI"]),
            "grade": pd.Categorical(["I", "III", "II"], categories=["I", "II", "III"], ordered=True),
            "born": pd.to_datetime(["1950-02-03", "1980-01-01", None]),
            "seen": pd.to_datetime(["2024-01-02T03:04:05.678901Z"] * 3),
            "stay": pd.to_timedelta([1, 2, 3], unit="D"),
            "site": ["Zürich", "東京", None],
            "small": np.array([1, 2, 255], dtype="u1"),
            "Größe (cm)": np.array([1.5, 2.5, 3.5], dtype="f4"),
            "tags": [["a", "b"], [], ["c"]],
        }
    )


def check_same(got: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert got.columns.to_list() == expected.columns.to_list()
    assert len(got) == len(expected)
    for name in expected:
        for a, b in zip(got[name], expected[name], strict=True):
            if isinstance(b, list):
                assert list(a) == b, name
            elif pd.isna(b):
                assert pd.isna(a), name
            else:
                assert a == b, name
                assert isinstance(a, bool | np.bool_) == isinstance(b, bool | np.bool_), name


def test_every_kind_of_column_survives(backend) -> None:
    expected = people()
    radi = RadiObject.from_niftis(backend.uri(), scans(IDS), expected, backend=backend.backend)
    frame = RadiObject(backend.uri()).obs_meta.read()
    check_same(frame, expected)
    assert frame["age"].dtype == "Int64"
    assert frame["age"][1] == 2**53 + 1
    assert frame["smoker"].dtype == "boolean"
    assert frame["consent"].dtype == bool
    assert frame["n_scans"].dtype == np.int64
    assert (frame["small"].dtype, frame["Größe (cm)"].dtype) == (np.uint8, np.float32)
    assert list(frame["dx"].cat.categories) == ["control", "AD", "MCI"]
    assert frame["grade"].cat.ordered
    assert frame["grade"].max() == "III"
    assert frame["born"].dtype.kind == "M"
    assert str(frame["seen"].dt.tz) == "UTC"
    assert frame["stay"][1] == pd.Timedelta(days=2)
    assert radi.obs_meta.dtypes["dx"].startswith("dictionary")


def test_appended_rows_join_the_columns_of_the_first(study) -> None:
    radi = study({"T1w": {i: np.zeros((2, 2, 2), "i2") for i in IDS}}, people())
    more = people(["sub-09", "sub-00", "sub-05"]).drop(columns=["site", "tags"])
    more["dx"] = pd.Categorical(["MCI", "PD", "AD"])
    more["smoker"] = [True, True, False]
    more["n_scans"] = [0.5, 1.5, 2.5]
    more["new"] = [1, 2, 3]
    radi.append(scans(["sub-09", "sub-00", "sub-05"]), more)
    frame = RadiObject(radi.uri).obs_meta.read()
    assert frame["obs_subject_id"].to_list() == [*IDS, "sub-09", "sub-00", "sub-05"]
    assert frame["dx"].to_list()[3:] == ["MCI", "PD", "AD"]
    assert frame["dx"].to_list()[:2] == ["AD", "control"]
    assert frame["n_scans"].to_list() == [1.0, 2.0, 3.0, 0.5, 1.5, 2.5]
    assert frame["site"].to_list()[:2] == ["Zürich", "東京"]
    assert frame["site"].isna().to_list() == [False, False, True, True, True, True]
    assert frame["new"].to_list()[3:] == [1, 2, 3]
    assert frame["new"].isna().to_list() == [True] * 3 + [False] * 3
    assert frame["age"][1] == 2**53 + 1
    assert radi.sel(dx="AD").obs_subject_ids == ["sub-02", "sub-05"]


def test_a_column_of_a_clashing_type_is_refused(study) -> None:
    radi = study(None, {"obs_subject_id": ["sub-03", "sub-01", "sub-02"], "site": ["a", "b", "c"]})
    with pytest.raises(MetadataError, match="one type for each column"):
        radi.append(scans(["sub-09"]), {"obs_subject_id": ["sub-09"], "site": [1]})
    assert RadiObject(radi.uri).version == 1


def test_replaced_volumes_keep_the_kinds_of_obs_columns(study) -> None:
    numbers = {"sub-01": 1, "sub-02": 2}
    obs = pd.DataFrame(
        {
            "obs_id": ["sub-01_T1w", "sub-02_T1w"],
            "quality": pd.Categorical(["good", "bad"]),
            "motion": pd.array([1, None], dtype="Int64"),
            "acquisition_time": pd.to_datetime(["2020-01-02T03:04:05", None]),
            "run": [1, 2],
        }
    )
    radi = study({"T1w": {s: np.full((2, 2, 2), n, "i2") for s, n in numbers.items()}}, obs={"T1w": obs})
    radi.append(
        scans(["sub-02"], 7), obs={"T1w": obs.iloc[1:].assign(quality=["good"])}, on_conflict="replace"
    )
    frame = RadiObject(radi.uri).T1w.obs.read()
    assert frame["quality"].to_list() == ["good", "good"]
    assert frame["motion"].to_list() == [1, pd.NA]
    assert frame["acquisition_time"][0] == pd.Timestamp("2020-01-02T03:04:05")
    assert frame["run"].to_list() == [1, 2]
    assert radi.T1w.sel(quality="good").obs_ids == ["sub-01_T1w", "sub-02_T1w"]


def test_columns_filters_and_views_of_a_table(study) -> None:
    radi = study({"T1w": {i: np.zeros((2, 2, 2), "i2") for i in IDS}}, people())
    meta = radi.obs_meta
    assert meta.columns[:2] == ["obs_subject_id", "age"]
    assert meta.shape == (3, len(people().columns))
    assert list(meta) == meta.columns
    assert meta.read(["site", "obs_subject_id"]).columns.to_list() == ["site", "obs_subject_id"]
    kept = meta.read(["obs_subject_id"], filter=pc.field("bmi") > 25)
    assert kept["obs_subject_id"].to_list() == ["sub-01"]
    view = radi.iloc[[0, 2]].obs_meta
    assert view["site"].to_list()[0] == "Zürich"
    assert view.read(filter=pc.field("n_scans") >= 1)["obs_subject_id"].to_list() == ["sub-02", "Müller-3"]
    assert view.read(["age"], filter=pc.field("n_scans") > 1)["age"].isna().to_list() == [True]
    assert isinstance(meta.to_arrow(), pa.Table)
    with pytest.raises(UnknownIdError, match="nothing"):
        meta.read(["nothing"])


def test_internal_columns_are_hidden_and_aliases_are_computed(study) -> None:
    radi = study()
    obs = radi.T1w.obs
    assert obs.columns[:2] == ["obs_subject_id", "obs_id"]
    assert not [c for c in obs.read().columns if c.startswith("_")]
    frame = radi.T1w.iloc[:2].obs.read(["dimensions", "obs_id", "voxel_spacing"])
    assert frame.columns.to_list() == ["dimensions", "obs_id", "voxel_spacing"]
    assert frame["dimensions"].to_list() == ["(6, 5, 4)"] * 2
    assert frame["voxel_spacing"][0] == "(1.0, 1.0, 1.0)"
    assert radi.T1w.to_obs().equals(obs.read()) or len(radi.T1w.to_obs()) == len(obs)


def test_a_read_fetches_only_the_columns_it_names(study) -> None:
    radi = RadiObject(study().uri)
    radi.T1w.obs.columns  # noqa: B018 - footers
    with measure() as few:
        radi.T1w.obs.read(["dtype"])
    with measure() as many:
        radi.T1w.obs.read()
    assert 0 < few["bytes_read"] < many["bytes_read"]


def test_parts_are_plain_parquet_files(study) -> None:
    radi = study()
    radi.append(scans(["sub-09"]), {"obs_subject_id": ["sub-09"]})
    files = radi.obs_meta.files()
    assert len(files) == 2
    assert all(Path(f).is_file() for f in files)
    ids = [i for f in files for i in pq.read_table(f)["obs_subject_id"].to_pylist()]
    assert ids == radi.obs_subject_ids


def test_categories_may_grow_beyond_what_their_codes_could_count(study) -> None:
    many = [f"s{i:03d}" for i in range(100)]

    def rows(prefix: str) -> pd.DataFrame:
        codes = pd.Categorical([f"{prefix}{i}" for i in range(100)])
        return pd.DataFrame({"obs_subject_id": [prefix + s for s in many], "code": codes})

    source = {"a": {"as000": np.zeros((2, 2, 2), "u1")}}
    radi = study(source, rows("a"))
    radi.append({"a": [((np.zeros((2, 2, 2), "u1"), np.eye(4)), "bs000")]}, rows("b"))
    frame = RadiObject(radi.uri).obs_meta.read()
    assert frame["code"].dtype == "category"
    assert frame["code"].to_list() == [f"{p}{i}" for p in "ab" for i in range(100)]


def test_text_joins_a_categorical_column(study) -> None:
    ids = ["sub-03", "sub-01", "sub-02"]
    radi = study(None, pd.DataFrame({"obs_subject_id": ids, "sex": pd.Categorical(["F", "M", "F"])}))
    radi.append(scans(["sub-09"]), pd.DataFrame({"obs_subject_id": ["sub-09"], "sex": ["M"]}))
    frame = radi.obs_meta.read()
    assert frame["sex"].dtype == "category"
    assert frame["sex"].to_list() == ["F", "M", "F", "M"]
    assert radi.sel(sex="M").obs_subject_ids == ["sub-01", "sub-09"]
