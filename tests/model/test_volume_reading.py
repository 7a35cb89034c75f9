"""`vol[...]` is NumPy's own indexing, on every backend, dtype and rank; results belong to the caller."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radiobject import RadiObject, TileConfig, Volume, WriteConfig, measure
from radiobject.backends.base import DTYPES
from radiobject.errors import IndexingError, SelectionError

IN_PLACE = True

# Chunks that no axis is a multiple of, so that reads cross borders and meet padding.
SMALL_CHUNKS = WriteConfig(tile=TileConfig(chunks=(4, 4, 4), shards=(8, 4, 4)))
RANKS = {"3D": (9, 7, 5), "time": (9, 7, 5, 3), "channel": (9, 7, 5, 2), "5D": (9, 7, 5, 3, 2)}
AXES = {"3D": "xyz", "time": "xyzt", "channel": "xyzc", "5D": "xyztc"}


def noise(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(scale=1000, size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """An index that NumPy accepts: ints, slices of any step, None, one Ellipsis, one array or mask."""
    kinds = [draw(st.sampled_from(["int", "slice", "list", "mask"])) for _ in shape]
    key: list[Any] = []
    arrays = 0
    for kind, n in zip(kinds, shape, strict=True):
        if draw(st.integers(0, 5)) == 0:
            key.append(None)
        if kind == "int":
            key.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice" or arrays:
            bound = st.none() | st.integers(-n - 2, n + 2)
            key.append(slice(draw(bound), draw(bound), draw(st.none() | st.integers(-4, 4).filter(bool))))
        elif kind == "list":
            key.append(draw(st.lists(st.integers(-n, n - 1), max_size=4)))
        else:
            key.append(np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))))
        arrays += kind in ("list", "mask")
    used = draw(st.integers(0, len(key)))
    key = key[:used]
    if draw(st.booleans()) and used < len(shape):
        key.append(Ellipsis)
    return key[0] if len(key) == 1 and draw(st.booleans()) else tuple(key)


@pytest.fixture
def all_ranks(backend) -> tuple[RadiObject, dict[str, np.ndarray]]:
    arrays = {name: noise(shape, "i2") for name, shape in RANKS.items()}
    radi = None
    for name, array in arrays.items():
        options = {"axis4": "channel" if name == "channel" else "time", "write": SMALL_CHUNKS}
        images = {name: [((array, np.eye(4)), "a")]}
        if radi is None:
            radi = RadiObject.from_niftis(backend.uri(), images, backend=backend.backend, **options)
        else:
            radi.append(images, **options)
    assert radi is not None
    return radi, arrays


def test_any_index_gives_what_numpy_gives(all_ranks) -> None:
    radi, arrays = all_ranks
    volumes = {name: radi.collection(name).iloc[0] for name in arrays}

    @settings(max_examples=120, deadline=None)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(arrays)))
        key = data.draw(indices(RANKS[name]))
        expected = arrays[name][key]
        got = volumes[name][key]
        assert got.shape == expected.shape
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)

    check()


def test_shape_axes_and_dtypes_are_those_of_the_array(all_ranks) -> None:
    radi, arrays = all_ranks
    for name, array in arrays.items():
        vol = radi.collection(name).iloc[0]
        assert (vol.shape, vol.ndim, vol.axes) == (array.shape, array.ndim, tuple(AXES[name]))
        assert vol.dtype == vol.stored_dtype == np.int16
        np.testing.assert_array_equal(np.asarray(vol), array)
        np.testing.assert_array_equal(vol.to_numpy(), array)


def test_the_engines_own_object_is_within_reach(backend, study) -> None:
    vol = study({"a": {"s": noise((9, 7, 5), "i2")}}, uri=backend.uri(), backend=backend.backend).a.iloc[0]
    library = {"memory": "numpy", "files": "numpy", "zarr-python": "zarr"}.get(backend.engine, backend.engine)
    assert type(vol.array).__module__.partition(".")[0] == library
    assert vol.array.shape == (5, 7, 9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_bit_for_bit(study, dtype: str) -> None:
    array = noise((9, 7, 5), dtype)
    for order in "<>":
        vol = study({"a": {"s": array.astype(np.dtype(dtype).newbyteorder(order))}}).a.iloc[0]
        assert vol.dtype == np.dtype(dtype)
        assert vol[...].tobytes() == array.tobytes()
        np.testing.assert_array_equal(vol[-1, ::-2, 1:4], array[-1, ::-2, 1:4])


def test_floats_keep_nan_infinity_and_negative_zero(study) -> None:
    array = np.zeros((4, 4, 4), "f4")
    array[0, 0] = np.nan, np.inf, -np.inf, -0.0
    assert study({"a": {"s": array}}).a.iloc[0].to_numpy().tobytes() == array.tobytes()


@pytest.mark.parametrize("key", [(), (slice(None, None, 2),), (0,), ([1, 1, 0],), (3, 2, 1), (slice(3, 3),)])
def test_results_are_writable_and_belong_to_the_caller(backend, study, key) -> None:
    array = noise((9, 7, 5), "i2")
    vol = study({"a": {"s": array}}, uri=backend.uri(), backend=backend.backend).a.iloc[0]
    first = vol[key]
    if isinstance(first, np.ndarray):
        assert first.flags.writeable
        first[...] = 99
    np.testing.assert_array_equal(vol[key], array[key])


def test_a_small_part_does_not_keep_the_whole_block_alive(study) -> None:
    vol = study({"a": {"s": noise((40, 40, 40), "i2")}}).a.iloc[0]
    part = vol[::20, ::20, ::20]
    owner = part if part.base is None else part.base
    assert owner.nbytes == part.nbytes == 16


def test_a_scalar_index_gives_a_scalar(study) -> None:
    array = noise((9, 7, 5), "f4")
    value = study({"a": {"s": array}}).a.iloc[0][8, -7, 4]
    assert isinstance(value, np.float32)
    assert value == array[8, -7, 4]


@pytest.fixture(scope="module")
def uri(module_study) -> str:
    return module_study({"a": {"s": noise((9, 7, 5), "i2")}}).uri


@pytest.mark.parametrize(
    ("key", "kind", "words"),
    [
        ((9,), IndexingError, "-9 to 8"),
        ((0, 0, -6), IndexingError, "axis 2"),
        ((0, 0, 0, 0), IndexingError, "at most 3 axes"),
        ((..., 0, ...), IndexingError, "one Ellipsis"),
        ((1.5,), SelectionError, "1.5"),
        (("x",), SelectionError, "x"),
        ((True,), SelectionError, "True"),
        ((np.ones(4, bool),), SelectionError, "mask"),
        ((slice(None, None, 0),), SelectionError, "zero"),
    ],
)
def test_what_selects_nothing_is_an_error_of_ours(uri: str, key, kind, words) -> None:
    vol = RadiObject(uri).a.iloc[0]
    with pytest.raises(kind, match=words):
        vol[key]


def test_slice_picks_axes_by_name(all_ranks) -> None:
    radi, arrays = all_ranks
    array, vol = arrays["5D"], radi.collection("5D").iloc[0]
    np.testing.assert_array_equal(vol.slice(z=3), array[:, :, 3])
    np.testing.assert_array_equal(vol.slice(x=slice(1, 8, 3), t=-1, c=0), array[1:8:3, :, :, -1, 0])
    np.testing.assert_array_equal(vol.slice(y=slice(None, None, -1)), array[:, ::-1])
    np.testing.assert_array_equal(vol.slice(), array)
    with pytest.raises(SelectionError, match="t"):
        radi.collection("3D").iloc[0].slice(t=0)


def test_array_protocol_casts_and_refuses_to_share_memory(study) -> None:
    array = noise((3, 3, 3), "i2")
    vol = study({"a": {"s": array}}).a.iloc[0]
    assert np.asarray(vol, dtype="f8").dtype == np.float64
    np.testing.assert_array_equal(np.array(vol, dtype="f4"), array.astype("f4"))
    assert np.mean(vol) == array.mean()
    with pytest.raises(SelectionError, match="copy=False"):
        np.asarray(vol, copy=False)


def test_a_volume_pickles_with_its_slice_and_its_row(all_ranks) -> None:
    radi, arrays = all_ranks
    vol = radi.collection("time").iloc[0].slicer[2:8:2, ::-1, :, 1]
    vol[0, 0, 0]
    again = pickle.loads(pickle.dumps(vol))
    np.testing.assert_array_equal(again[...], arrays["time"][2:8:2, ::-1, :, 1])
    np.testing.assert_array_equal(again.affine, vol.affine)
    assert (again.obs_id, again.obs_subject_id) == ("a_time", "a")
    assert again.metadata == vol.metadata


def test_metadata_is_the_visible_row(study) -> None:
    radi = study(obs={"T1w": {"obs_subject_id": ["sub-01"], "scanner": ["Ä"]}})
    row = radi.T1w.loc["sub-01_T1w"].metadata
    assert (row["obs_id"], row["scanner"], row["dim_x"]) == ("sub-01_T1w", "Ä", 6)
    assert not [name for name in row if name.startswith("_")]


def test_repr_says_what_it_is_without_reading(study) -> None:
    radi = study({"a": {"s": (noise((9, 7, 5), "i2"), np.diag([-2, 2.5, 3, 1]))}})
    vol = radi.a.iloc[0]
    with measure() as cost:
        assert repr(vol) == "<Volume s_a 9x7x5 int16 2x2.5x3 mm LAS>"
    assert cost["requests"] == 0


def test_reading_a_part_decodes_only_its_chunks(study, chunks) -> None:
    vol: Volume = study({"a": {"s": noise((64, 64, 64), "i2")}}).a.iloc[0]
    with measure() as cost:
        vol[:4, :4, :4]
    assert cost["chunks_decoded"] == chunks(1)
    with measure() as cost:
        vol[30:34, 30:34, 30:34]
    assert cost["chunks_decoded"] == chunks(8)
    with measure() as cost:
        vol.axial(10)
    assert cost["chunks_decoded"] == chunks(4)
