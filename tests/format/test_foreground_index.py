"""Foreground indexes: what they say is what the voxels are, and nothing else passes for one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import chisquare

from radiobject.errors import FormatError
from radiobject.format.foreground import ForegroundIndex, fingerprint
from radiobject.writing.foreground import index_voxels

DTYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8")


def made(voxels: npt.NDArray[Any], *args: Any, **options: Any) -> ForegroundIndex:
    found = index_voxels(voxels, *args, **options)
    assert found is not None
    return found


def blocks_of(voxels: npt.NDArray[Any], index: ForegroundIndex, value: int) -> dict[int, int]:
    """Number of each block that holds the value, and how many of its voxels, from the voxels."""
    held = np.argwhere(voxels == value)[:, -3:] // index.block
    grid = [-(-n // b) for n, b in zip(index.shape, index.block, strict=True)]
    numbers, counts = np.unique(np.ravel_multi_index(tuple(held.T), grid), return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(
    voxels=st.sampled_from(DTYPES).flatmap(
        lambda code: hnp.arrays(
            code,
            hnp.array_shapes(min_dims=3, max_dims=5, max_side=6),
            elements=st.integers(0, 5) if code[0] == "u" else st.integers(-3, 3),
        )
    ),
    block=st.tuples(*[st.integers(1, 7)] * 3),
    places=st.sampled_from([8, 200, 10_000]),
)
def test_an_index_says_what_the_voxels_are(
    voxels: npt.NDArray[Any], block: tuple[int, int, int], places: int
) -> None:
    index = made(voxels, block, "mark", places)
    values, counts = np.unique(voxels, return_counts=True)
    assert index.values.tolist() == values.tolist()
    assert index.counts.tolist() == counts.tolist()
    assert (index.shape, index.block) == (voxels.shape[-3:], block)
    frames = voxels.reshape(-1, *index.shape)
    for number, value in enumerate(values.tolist()):
        numbers, held = index.blocks[number]
        assert dict(zip(numbers.tolist(), held.tolist(), strict=True)) == blocks_of(frames, index, value)
        at = index.places[number]
        everywhere = (frames == value).any(axis=0).reshape(-1)
        assert everywhere[at].all()
        kept = min(int(counts[number]), max(places // 4 // len(values), 1))
        assert len(at) == kept
        if kept == counts[number]:
            assert sorted(set(at.tolist())) == np.flatnonzero(everywhere).tolist()
    again = ForegroundIndex.from_buffer(index.to_bytes(), "again")
    assert (again.of, again.shape, again.block) == ("mark", index.shape, index.block)
    for one, other in zip(
        (index.values, index.counts, *index.places), (again.values, again.counts, *again.places), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(index.blocks, again.blocks, strict=True):
        np.testing.assert_array_equal(one, other)


def test_places_lie_block_by_block_and_no_voxel_is_more_likely() -> None:
    voxels = np.zeros((64, 64, 64), "u1")
    voxels[4:60, 2:62, 1:] = 7
    index = made(voxels, (16, 16, 16))
    places = index.places[1]
    assert len(places) == len(set(places.tolist())) == 10_000
    z, y, x = np.unravel_index(places, index.shape)
    block = np.ravel_multi_index((z // 16, y // 16, x // 16), (4, 4, 4))
    assert (np.diff(block) >= 0).all()
    for axis, at in enumerate((z, y, x)):
        others = tuple(a for a in range(3) if a != axis)
        share = (voxels == 7).sum(axis=others)
        seen = np.bincount(at, minlength=64)
        assert (seen[share == 0] == 0).all()
        expected = share[share > 0] * 10_000 / share.sum()
        assert chisquare(seen[share > 0], expected).pvalue > 1e-3


@pytest.mark.parametrize("total", [9_999, 10_000, 10_001, 12_500, 15_000, 19_999, 20_000, 20_001])
def test_a_value_with_a_few_more_voxels_than_are_kept_has_none_of_them_twice(total: int) -> None:
    (places,) = made(np.zeros((1, 1, total), "u1"), (8, 8, 8)).places
    assert len(set(places.tolist())) == len(places) == min(total, 10_000)
    seen = np.histogram(places, bins=10, range=(0, total))[0]
    assert np.ptp(seen) <= 4


@pytest.mark.parametrize(
    ("code", "values"),
    [
        ("u8", [2**60, 2**60 + 1, 2**60 + 2, 2**63 - 1]),
        ("i8", [-(2**63), 2**60 + 1, 2**60 + 2, 2**63 - 1]),
    ],
)
def test_values_that_a_float_would_round_are_told_apart(code: str, values: list[int]) -> None:
    voxels = np.repeat(np.array(values, dtype=code), 16).reshape(4, 4, 4)
    index = ForegroundIndex.from_buffer(made(voxels, (4, 4, 4)).to_bytes(), "here")
    assert index.values.tolist() == values
    for value, places in zip(values, index.places, strict=True):
        assert set(voxels.reshape(-1)[places].tolist()) == {value}


@pytest.mark.parametrize(("values", "edge"), [(2, 8), (256, 64), (4096, 256)])
def test_an_index_stays_below_a_megabyte_whatever_the_voxels(values: int, edge: int) -> None:
    noise = np.random.default_rng(0).integers(0, values, (96, 160, 160), dtype="u2")
    index = made(noise, (8, 8, 8))
    assert len(index.to_bytes()) < 10**6
    assert index.block == (edge, edge, edge)
    assert index.counts.sum() == noise.size
    for number in (0, values // 2):
        assert dict(zip(*(a.tolist() for a in index.blocks[number]), strict=True)) == blocks_of(
            noise, index, int(index.values[number])
        )


def test_no_map_of_classes_has_no_index() -> None:
    assert index_voxels(np.arange(5000, dtype="i4").reshape(10, 10, 50), (8, 8, 8)) is None
    assert index_voxels(np.full((2, 2, 2), 2**63 + 5, "u8"), (8, 8, 8)) is None
    assert made(np.arange(5000, dtype="i4").reshape(10, 10, 50), (8, 8, 8), most=5000).values[-1] == 4999


def test_places_in_a_volume_of_more_voxels_than_32_bits_count_are_kept() -> None:
    last = 2048**3 - 1
    blocks = ((np.array([511], "u4"), np.array([1], "u4")),)
    one = np.array([1])
    index = ForegroundIndex((2048,) * 3, (256,) * 3, "mark", one, one, blocks, (np.array([last]),))
    assert ForegroundIndex.from_buffer(index.to_bytes(), "here").places[0].tolist() == [last]


def changed(index: ForegroundIndex, column: str | None, value: Any) -> bytes:
    """The bytes of an index with another column, or other words in its metadata."""
    table = pa.ipc.open_file(index.to_bytes()).read_all()
    if column is not None:
        place = table.schema.get_field_index(column)
        table = table.set_column(place, column, value)
        said = json.loads(table.schema.metadata[b"radiobject"])
    else:
        said = {**json.loads(table.schema.metadata[b"radiobject"]), **value}
    table = table.replace_schema_metadata({b"radiobject": json.dumps(said)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


U32 = pa.list_(pa.uint32())


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("places", pa.array([[0], [10**6]], U32)),
        ("places", pa.array([[0], []], U32)),
        ("places", pa.array([[0], None], U32)),
        ("places", pa.array([[0], [None]], U32)),
        ("places", pa.array([[0], [1]], pa.list_(pa.int64()))),
        ("places", pa.array([1, 2], pa.uint32())),
        ("places", pa.array([[0], [1]], pa.list_(pa.uint32(), 1))),
        ("value", pa.array([1, 0], pa.int64())),
        ("value", pa.array([1, 1], pa.int64())),
        ("value", pa.array([0, None], pa.int64())),
        ("value", pa.array(["a", "b"])),
        ("voxels", pa.array([5, -1], pa.int64())),
        ("blocks", pa.array([[0], [99]], U32)),
        ("block_voxels", pa.array([[1], [1]], U32)),
        ("block_voxels", pa.array([[1], [1, 2]], U32)),
        (None, {"shape": [4, 4, -4]}),
        (None, {"shape": [4, 4]}),
        (None, {"block": [0, 1, 1]}),
        (None, {"format": "2.0"}),
        (None, {"type": "thumbnail"}),
        (None, {"of": None, "shape": "zyx"}),
    ],
)
def test_what_no_volume_can_have_is_refused(column: str | None, value: Any) -> None:
    voxels = np.zeros((4, 4, 4), "u1")
    voxels[1:, 1:, 1:] = 1
    with pytest.raises(FormatError, match="a foreground index"):
        ForegroundIndex.from_buffer(changed(made(voxels, (2, 2, 2)), column, value), "here")


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10**6), flip=st.integers(1, 255), cut=st.booleans())
def test_damaged_bytes_are_an_error_of_ours_or_an_index(at: int, flip: int, cut: bool) -> None:
    data = bytearray(made(np.arange(64, dtype="u1").reshape(4, 4, 4) // 9, (2, 2, 2)).to_bytes())
    at %= len(data)
    data[at] ^= flip
    try:
        found = ForegroundIndex.from_buffer(bytes(data[:at] if cut else data), "here")
    except FormatError:
        return
    assert all(int(places.max()) < 64 for places in found.places)


def test_a_fingerprint_tells_objects_apart_and_not_their_order() -> None:
    one = {"path": "0/c/0", "bytes": 5, "crc32c": 7, "digest": b"0" * 16}
    two = {"path": "zarr.json", "bytes": 9, "crc32c": 1, "digest": None}
    assert fingerprint("a", [one, two]) == fingerprint("a", [two, one]) != fingerprint("b", [one, two])
    different = [
        {**one, "bytes": 6},
        {**one, "crc32c": 8},
        {**one, "digest": b"1" * 16},
        {**one, "path": "1"},
    ]
    assert len({fingerprint("a", [other, two]) for other in (one, *different)}) == 5
