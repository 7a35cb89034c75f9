"""What a report computes from numbers: robust distances, labels out of histograms, lines, summaries."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from radiobject.show.report.curves import spread
from radiobject.show.report.gather import STATISTICS, Intensities
from radiobject.show.report.labels import presence
from radiobject.show.report.robust import FAR, FEWEST, distances, rare
from radiobject.show.report.subjects import CATEGORIES, summaries
from radiobject.writing.statistics import volume_statistics

numbers = arrays.arrays(np.float64, st.integers(FEWEST, 40), elements=st.integers(-1000, 1000).map(float))


@given(numbers, st.integers(1, 50), st.integers(-500, 500))
def test_distances_do_not_depend_on_the_unit(values: np.ndarray, scale: int, shift: int) -> None:
    expected = distances(values, 0.5)
    np.testing.assert_allclose(distances(values * scale + shift, 0.5 * scale), expected, atol=1e-9)


@given(numbers, st.data())
def test_one_number_however_large_moves_the_others_little(values: np.ndarray, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    spread_before = np.ptp(values)
    values[place] = 1e12
    z = distances(values, 0.5)
    assert z[place] > FAR or spread_before > 1e10
    assert np.argmax(z) == place


def test_of_fewer_than_eight_numbers_none_is_far() -> None:
    assert np.isnan(distances(np.array([1.0] * (FEWEST - 2) + [1e9]), 1e-3)).all()
    assert np.isnan(distances(np.array([1.0] * FEWEST + [np.nan]), 1e-3)[-1])


@given(st.lists(st.sampled_from("abcdef"), max_size=60))
def test_rare_values_are_few_and_never_the_usual_one(values: list[str]) -> None:
    found = rare(values)
    assert len(found) <= 0.2 * len(values)
    if found:
        (most,) = {v for v in values if values.count(v) >= 0.8 * len(values)}
        assert all(values[i] != most for i in found)


@given(
    arrays.arrays(
        st.sampled_from(["u1", "i1", "u2", "i2", "i4"]),
        arrays.array_shapes(min_dims=3, max_dims=3, max_side=6),
        elements=st.integers(0, 127),
    ),
    st.integers(-128, 0),
)
def test_labels_and_their_voxels_are_told_from_the_histogram(labels: np.ndarray, lowest: int) -> None:
    voxels = labels.astype(np.int64) + (lowest if labels.dtype.kind == "i" else 0)
    voxels = voxels.astype(labels.dtype)
    row = volume_statistics(voxels, None, ("z", "y", "x")).as_row()
    found = presence(
        Intensities(
            statistics={n: np.array([row[f"intensity_{n}"]], np.float64) for n in STATISTICS},
            histogram=np.array([row["intensity_histogram"]]),
            n_nonfinite=np.zeros(1, np.int64),
            box=np.zeros((1, 6)),
        )
    )
    values, counts = np.unique(voxels, return_counts=True)
    expected = {v: n for v, n in zip(values.tolist(), counts.tolist(), strict=True) if v}
    assert dict(zip(found.values, found.voxels[0].tolist(), strict=True)) == expected
    assert found.known.all()


@pytest.mark.parametrize(("last", "known"), [(255, True), (256, False)])
def test_labels_too_far_apart_are_not_guessed(last: int, known: bool) -> None:
    voxels = np.zeros((4, 4, 4), "u2")
    voxels[0, 0] = [1, 2, last - 1, last]
    row = volume_statistics(voxels, None, ("z", "y", "x")).as_row()
    found = presence(
        Intensities(
            statistics={n: np.array([row[f"intensity_{n}"]], np.float64) for n in STATISTICS},
            histogram=np.array([row["intensity_histogram"]]),
            n_nonfinite=np.zeros(1, np.int64),
            box=np.zeros((1, 6)),
        )
    )
    assert found.known.tolist() == [known]
    assert found.values == ([1, 2, last - 1, last] if known else [])


@given(st.integers(0, 500), st.integers(0, 60))
def test_a_choice_is_even_and_never_more_than_asked_for(n: int, most: int) -> None:
    chosen = spread(n, most)
    assert len(chosen) == min(n, most)
    assert len(set(chosen.tolist())) == len(chosen)
    if len(chosen) > 1:
        assert np.ptp(np.diff(chosen)) <= 1
        assert (chosen[0], chosen[-1]) == (0, n - 1)


def test_a_summary_of_subjects_tells_nobody_apart() -> None:
    n = 40
    table = pa.table(
        {
            "obs_subject_id": [f"sub-{i}" for i in range(n)],
            "name": [f"Person {i}" for i in range(n)],
            "record": [4_718_234 + 977 * i for i in range(n)],
            "born": pa.array([f"19{50 + i}-03-1{i % 9}" for i in range(n)]).cast(pa.date32()),
            "site": pa.array([f"site {i % 3}" for i in range(n)]).dictionary_encode(),
            "consent": [i % 2 == 0 for i in range(n)],
            "nothing": pa.nulls(n, pa.float64()),
            "tags": [[i] for i in range(n)],
            "few": [None] * (n - 3) + ["A. Smith", "B. Jones", "C. Brown"],
        }
    )
    told = {c.name: (c.type, c.missing, c.content) for c in summaries(table)}
    assert told["name"] == ("text", 0, "40 different")
    assert told["record"] == ("int64", 0, "4.72e+06 to 4.76e+06, median 4.74e+06")
    assert told["born"] == ("date32[day]", 0, "years 1950 to 1989")
    assert told["site"] == ("text", 0, "site 0 14, site 1 13, site 2 13")
    assert told["consent"] == ("bool", 0, "False 20, True 20")
    assert told["nothing"] == ("double", n, "none")
    assert told["tags"][2] == "values"
    # three names are few values, but each is somebody's own
    assert told["few"] == ("text", n - 3, "3 different")


def test_more_categories_than_a_dozen_are_counted_only() -> None:
    values = [f"site {i % (CATEGORIES + 1)}" for i in range(100)]
    (column,) = summaries(pa.table({"site": values}))
    assert column.content == "13 different"
