"""A hundred thousand subjects and four collections: what opening and looking up one of them costs."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from radiobject import RadiObject, measure
from radiobject.backends.base import Level, plan_array
from radiobject.format import catalog
from radiobject.format.changes import CollectionEdit, Edit
from radiobject.format.meta import VolumeMeta, row_text
from radiobject.format.schema import OBS_SCHEMA
from radiobject.format.transaction import Transaction, create_study
from radiobject.geometry.affine import Affine
from radiobject.location import Location
from radiobject.storage import Storage

N = 100_000
NAMES = ("T1w", "FLAIR", "T2w", "seg")


def table(name: str, subjects: pa.Array, hint: str) -> pa.Table:
    """Rows as ingest makes them, without the objects that verification would look for."""
    obs_ids = pa.array([f"{s}_{name}" for s in subjects.to_pylist()])
    affine = pa.FixedSizeListArray.from_arrays(pa.array(np.tile(np.eye(4).ravel(), N)), 16)
    values = {
        "obs_subject_id": subjects,
        "obs_id": obs_ids,
        **{f"dim_{a}": pa.array(np.full(N, n, np.int32)) for a, n in (("x", 240), ("y", 240), ("z", 155))},
        "intensity_mean": pa.array(np.random.default_rng(0).random(N)),
        "affine": affine,
        "_path": pa.array([f"collections/{name}/{i}/0.ome.zarr" for i in obs_ids.to_pylist()]),
        "_hint": pa.array([hint]).take(pa.array(np.zeros(N, np.int64))),
        "_volume": pa.array([row_text(VolumeMeta(Affine.identity(), ("z", "y", "x")))] * N),
        "_objects": pa.ListArray.from_arrays(
            pa.array(np.zeros(N + 1, np.int32)), pa.array([], OBS_SCHEMA.field("_objects").type.value_type)
        ),
    }
    columns = [values.get(f.name, pa.nulls(N, f.type)) for f in OBS_SCHEMA]
    return pa.table([c.cast(f.type) for c, f in zip(columns, OBS_SCHEMA, strict=True)], schema=OBS_SCHEMA)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("scale") / "study")
    storage = Storage(Location(place))
    from radiobject.backends import get_backend

    backend = get_backend("zarr", Location(place))
    spec = plan_array((155, 240, 240), "i2", ("z", "y", "x"))
    probe = get_backend("zarr", Location(str(tmp_path_factory.mktemp("hint"))))
    writer = probe.create_volume("v", [Level("0", spec)], {}, {})
    for box in spec.shard_boxes():
        writer.write(0, box, np.zeros(box.shape, np.int16))
    hint = writer.finish().hint
    create_study(storage)
    subjects = pa.array([f"sub-{n:06d}" for n in range(N)])
    meta = pa.table({"obs_subject_id": subjects, "age": pa.array(np.arange(N) % 90)})
    schema = pa.schema([pa.field("obs_subject_id", pa.string(), nullable=False), ("age", pa.int64())])
    edit = Edit(subjects=meta.cast(schema))
    for name in NAMES:
        edit.collections[name] = CollectionEdit(
            backend=backend.name, create=True, added={"obs": table(name, subjects, hint)}
        )
    Transaction(storage, None, "create").commit(edit)
    return place


def test_one_look_costs_little_more_than_reading_the_id_columns(uri: str) -> None:
    commit = RadiObject(uri)._study.snapshot.commit
    meta = f"{uri}/{commit.tables['obs_meta'][0].path}"
    obs = f"{uri}/{commit.collections[0].tables['obs'][0].path}"

    def ours() -> None:
        catalog._snapshots.clear()
        assert RadiObject(uri).loc["sub-077777"].T1w.iloc[0].shape == (240, 240, 155)

    def ids() -> None:
        pq.read_table(meta, columns=["obs_subject_id"])
        pq.read_table(obs, columns=["obs_subject_id", "obs_id"])

    def once(fn: object) -> float:
        begun = time.perf_counter()
        fn()  # type: ignore[operator]
        return time.perf_counter() - begun

    ours()
    ids()
    pairs = [(once(ours), once(ids)) for _ in range(15)]
    ratio = statistics.median(o for o, _ in pairs) / statistics.median(i for _, i in pairs)
    print(f"\nopen + loc + shape: {ratio:.2f} x reading the id columns")
    assert ratio <= 3


def test_one_look_opens_no_volume_and_reads_few_row_groups(uri: str) -> None:
    catalog._snapshots.clear()
    with measure() as m:
        volume = RadiObject(uri).loc["sub-077777"].T1w.iloc[0]
        assert (volume.obs_id, volume.shape) == ("sub-077777_T1w", (240, 240, 155))
    assert m["volumes_opened"] == 0
    assert m["chunks_decoded"] == 0
    # the ids of all subjects, the subject column of one collection, and one row group of its other columns
    groups = -(-N // 4096)
    assert m["row_groups"] == 2 * groups + 1


def test_ten_thousand_looks_read_each_table_once(uri: str) -> None:
    catalog._snapshots.clear()
    subjects = [f"sub-{n:06d}" for n in range(0, N, N // 10_000)]
    with measure() as m:
        for subject in subjects:
            assert len(RadiObject(uri).loc[subject]) == 1
    assert len(subjects) == 10_000
    assert m["table_reads:obs_meta"] == 1
    assert {n for n in m.counts if n.startswith("table_reads")} == {"table_reads:obs_meta"}
    # one hint each time; beside them one commit, one footer and the ranges of one column
    assert m["door_read"] <= 10_000 + 6
