"""Series that real data lacks: which images make a volume, where it lies, and what is refused."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from radiobject import RadiObject, Volume
from radiobject.errors import IngestError, SourceCorruptError, SourceUnsupportedError

from .dicom_series import in_place, pixels_of, save, slices

OBLIQUE = (0.8, 0.6, 0, 0, 0, -1)


def read(folder: Path, **options: Any) -> Volume:
    return Volume.from_dicom(folder, **options)


def check(folder: Path, datasets: list[Dataset], **options: Any) -> Volume:
    """The volume of the folder, which must be made of these slices, each in its place."""
    volume = read(folder, **options)
    in_place(volume.to_numpy(), volume.affine, datasets)
    return volume


def times(values: Any = lambda t: {}, count: int = 3) -> list[list[Dataset]]:
    """`[t]`: the slices of each time, with `values(t)`; UIDs all differ, instance numbers say nothing."""
    return [
        slices(start=1000 * t, SOPInstanceUID=lambda n, t=t: f"1.2.9.{t}.{n + 1}", InstanceNumber=None,
               **values(t))
        for t in range(count)
    ]  # fmt: skip


def shuffled(series: list[list[Dataset]]) -> list[Dataset]:
    every = [ds for one in series for ds in one]
    return [every[n] for n in np.random.default_rng(7).permutation(len(every))]


# Where slices lie.


def test_slices_are_sorted_by_position_whatever_their_numbers(tmp_path: Path) -> None:
    made = slices(InstanceNumber=lambda n: 5 - n, SliceLocation=lambda n: 100 - n, SliceThickness="9",
                  SpacingBetweenSlices="7")  # fmt: skip
    volume = check(save(tmp_path, made, names=["e", "a", "d", "b", "c"]), made)
    assert volume.spacing == (0.5, 0.75, 2.5)


def test_slices_against_the_normal_are_turned_into_its_direction(tmp_path: Path) -> None:
    made = slices(step=(0, 0, -2.5))
    volume = check(save(tmp_path, made), made)
    assert volume.affine[2, 2] == 2.5


def test_an_oblique_stack_keeps_its_angles(tmp_path: Path) -> None:
    made = slices(orientation=OBLIQUE, step=(-1.2, 1.6, 0))
    volume = check(save(tmp_path, made), made)
    np.testing.assert_allclose(np.abs(volume.affine[:3, 0]), [0.4, 0.3, 0], atol=1e-9)


def test_a_tilted_stack_is_sheared_and_says_its_angle(tmp_path: Path) -> None:
    made = slices(step=(0, 1.5, 2.5))
    check(save(tmp_path / "in", made), made)
    study = RadiObject.from_dicoms(tmp_path / "study", tmp_path / "in", deid_key="8f" * 32)
    assert study.MR.obs.read()["tilt_degrees"].tolist() == [
        pytest.approx(np.degrees(np.arctan(0.6)), abs=0.01)
    ]


def test_rounded_positions_are_no_tilt_and_no_gap(tmp_path: Path) -> None:
    made = slices(step=(0, 0.05, 3.8))
    made[2].ImagePositionPatient = [-10, 20.12, 30 + 2 * 3.8 - 0.003]
    save(tmp_path / "in", made)
    study = RadiObject.from_dicoms(tmp_path / "study", tmp_path / "in", deid_key="8f" * 32)
    assert "tilt_degrees" not in study.MR.obs.columns
    np.testing.assert_allclose(next(iter(study.MR)).affine[:3, 2], [0, -0.05, 3.8], atol=1e-9)


@pytest.mark.parametrize(("step", "decimals"), [(0.625, 2), (0.75, 1), (1.25, 1), (0.33, 2)])
def test_thin_slices_with_rounded_positions_are_even(step: float, decimals: int, tmp_path: Path) -> None:
    def at(n: int) -> list[str]:
        return ["-10", "20", f"{30 + step * n:.{decimals}f}"]

    save(tmp_path, slices(40, ImagePositionPatient=at))
    assert Volume.from_dicom(tmp_path).spacing[2] == pytest.approx(step, abs=0.005)


@pytest.mark.parametrize("missing", [1, 20, 38])
def test_a_gap_among_thin_slices_is_seen(missing: int, tmp_path: Path) -> None:
    files = slices(40, step=(0, 0, 0.33))
    save(tmp_path, files[:missing] + files[missing + 1 :])
    with pytest.raises(SourceUnsupportedError, match="1 missing of 40"):
        Volume.from_dicom(tmp_path)


def test_padding_is_kept_and_told(tmp_path: Path) -> None:
    values = {"PixelPaddingValue": 65535, "RescaleIntercept": "-1024"}
    save(tmp_path / "in", slices(3, **values))
    radi = RadiObject.from_dicoms(tmp_path / "study", tmp_path / "in", deid_key="00" * 32, progress=False)
    assert list(radi.MR.obs.read()["pixel_padding_value"]) == [65535]


def test_a_missing_slice_is_refused_with_its_place(tmp_path: Path) -> None:
    made = slices(7)
    save(tmp_path, made[:2] + made[3:])
    with pytest.raises(SourceUnsupportedError, match=r"1 missing of 7.* 5 mm after slice 1 \(at 2.5 mm\)"):
        read(tmp_path)
    volume = read(tmp_path, irregular="keep")
    assert volume.shape == (8, 9, 6)
    assert b"slice_distances" in volume.extra("dicom")


def test_uneven_slices_are_refused_with_their_places(tmp_path: Path) -> None:
    made = slices(5)
    made[3].ImagePositionPatient[2] += 0.9
    with pytest.raises(SourceUnsupportedError, match=r"uneven steps.*3.4 mm after slice 2"):
        read(save(tmp_path, made))


def test_a_slice_beside_the_line_is_refused(tmp_path: Path) -> None:
    made = slices(5)
    made[2].ImagePositionPatient[0] += 4
    with pytest.raises(SourceUnsupportedError, match="slice 2 4 mm beside the line"):
        read(save(tmp_path, made))


def test_a_doubled_position_is_refused_with_its_place(tmp_path: Path) -> None:
    made = slices(6)
    made[5].ImagePositionPatient = made[3].ImagePositionPatient
    with pytest.raises(SourceUnsupportedError, match=r"1 at most of 5 positions, but 2 at 7.5 mm"):
        read(save(tmp_path, made))


@pytest.mark.parametrize(("thickness", "step"), [("4", 4), (None, 1)])
def test_a_single_slice_takes_its_thickness(thickness: str | None, step: float, tmp_path: Path) -> None:
    made = slices(1, SliceThickness=thickness)
    assert check(save(tmp_path, made), made).spacing == (0.5, 0.75, step)


@st.composite
def stacks(draw: st.DrawFn) -> dict[str, Any]:
    """Any orientation, spacing and number of slices, along the normal, against it or tilted from it."""
    turn = np.linalg.qr(
        np.array(draw(st.lists(st.floats(-1, 1), min_size=9, max_size=9))).reshape(3, 3) + np.eye(3) * 3
    )[0]
    distance = draw(st.floats(0.3, 9)) * draw(st.sampled_from([1, -1]))
    drift = np.array(draw(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=2)))
    step = np.cross(turn[0], turn[1]) * distance + drift @ turn[:2]
    return {
        "count": draw(st.integers(2, 7)), "rows": draw(st.integers(2, 5)), "columns": draw(st.integers(2, 5)),
        "orientation": (*turn[0], *turn[1]), "spacing": draw(st.tuples(st.floats(0.1, 4), st.floats(0.1, 4))),
        "step": step, "corner": draw(st.tuples(*[st.floats(-300, 300)] * 3)),
    }  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(stacks(), st.randoms(use_true_random=False))
def test_any_stack_lies_where_its_plane_equations_say(stack: dict[str, Any], random: Any) -> None:
    made = slices(**stack)
    order = random.sample(range(len(made)), len(made))
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), made, names=[f"{n}.dcm" for n in order])
        volume = read(Path(folder))
        in_place(volume.to_numpy(), volume.affine, made, atol=1e-3)


# Which images belong together.


def test_two_orientations_of_one_series_are_two_volumes(tmp_path: Path) -> None:
    axial = slices()
    sagittal = slices(
        orientation=(0, 1, 0, 0, 0, -1), step=(2, 0, 0), start=500, SOPInstanceUID=lambda n: f"1.9.{n}"
    )
    save(tmp_path, shuffled([axial, sagittal]))
    check(tmp_path, axial, part="axial")
    check(tmp_path, sagittal, part="sagittal")
    with pytest.raises(SourceUnsupportedError, match=r"expected one volume, got .*sagittal"):
        read(tmp_path)


def test_two_series_at_one_place_are_two_volumes(tmp_path: Path) -> None:
    one, two = slices(SeriesNumber=3), slices(SeriesNumber=4, SeriesInstanceUID="1.2.3.7", start=500)
    save(tmp_path, shuffled([one, two]))
    check(tmp_path, one, part="series 3")
    check(tmp_path, two, part="series 4")


@pytest.mark.parametrize(
    ("keyword", "values", "parts"),
    [
        ("ImageType", [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]], ["m", "p"]),
        ("EchoTime", ["4.92", "7.38"], ["echo4.92", "echo7.38"]),
        ("InversionTime", ["900", "2500"], ["inversion900", "inversion2500"]),
        ("FlipAngle", ["5", "26"], ["flip5", "flip26"]),
    ],
)  # fmt: skip
def test_images_of_several_kinds_at_one_position_are_several_volumes(
    keyword: str, values: list[Any], parts: list[str], tmp_path: Path
) -> None:
    series = times(lambda t: {keyword: values[t]}, 2)
    save(tmp_path, shuffled(series))
    for made, part in zip(series, parts, strict=True):
        check(tmp_path, made, part=part)


def test_an_echo_time_that_differs_by_slice_splits_nothing(tmp_path: Path) -> None:
    made = slices(EchoTime=lambda n: f"{4 + n}", FlipAngle=lambda n: f"{20 + n}")
    check(save(tmp_path, made), made)


def test_localizers_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scout = slices(2, SeriesInstanceUID="1.2.8", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
                   SOPInstanceUID=lambda n: f"1.2.8.{n + 1}")  # fmt: skip
    save(tmp_path / "in", slices() + scout)
    study = RadiObject.from_dicoms(tmp_path / "study", tmp_path / "in", deid_key="8f" * 32)
    assert len(study.MR) == 1
    assert "skipped 2 files: 2 localizer" in caplog.text


@pytest.mark.parametrize("sop_uid", ["", "1.2.3.4.1", None])
@pytest.mark.parametrize("empty", ["", None])
def test_without_uids_the_folder_says_what_belongs_together(
    empty: str | None, sop_uid: str | None, tmp_path: Path
) -> None:
    missing = {"SeriesInstanceUID": empty, "StudyInstanceUID": empty, "SOPInstanceUID": sop_uid}
    one, two = slices(**missing), slices(start=500, **missing)
    for made, folder in ((one, "a"), (two, "b")):
        save(tmp_path / folder, made)
        check(tmp_path / folder, made)
    with pytest.raises(SourceUnsupportedError, match="expected one volume, got series 3"):
        read(tmp_path)


def test_copies_of_a_file_add_nothing_and_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = slices()
    save(tmp_path, made + made[1:3])
    with caplog.at_level(logging.WARNING):
        check(tmp_path, made)
    assert "2 files are copies of others by SOPInstanceUID" in caplog.text


def test_slices_that_share_one_sop_uid_are_all_kept(tmp_path: Path) -> None:
    made = slices(SOPInstanceUID="1.2.3.4.1")
    check(save(tmp_path, made), made)


# Series in time.


@pytest.mark.parametrize(
    ("values", "step"),
    [
        (
            lambda t: {
                "TemporalPositionIdentifier": t + 1,
                "RepetitionTime": "2500",
                "ScanningSequence": "EP",
            },
            2.5,
        ),
        (
            lambda t: {"TemporalPositionIdentifier": t + 1, "RepetitionTime": "4", "ScanningSequence": "GR"},
            None,
        ),
        (lambda t: {"AcquisitionDate": "20200301", "AcquisitionTime": f"1200{t * t:02}"}, None),
        (lambda t: {"AcquisitionDate": "20200301", "AcquisitionTime": f"1200{3 * t:02}.5"}, 3.0),
        (lambda t: {"TriggerTime": f"{40 * t}"}, 0.04),
        (lambda t: {"AcquisitionNumber": f"{t + 9}"}, None),
    ],
    ids=["EPI", "no EPI", "uneven", "AcquisitionTime", "TriggerTime", "AcquisitionNumber"],
)
def test_images_at_one_position_are_a_series_in_time(values: Any, step: float | None, tmp_path: Path) -> None:
    series = times(values)
    volume = read(save(tmp_path, shuffled(series)))
    assert volume.shape == (8, 9, 5, 3)
    for t, made in enumerate(series):
        in_place(volume.to_numpy()[..., t], volume.affine, made)
    assert volume.meta.time_step == (None if step is None else pytest.approx(step))


def test_an_aborted_series_in_time_is_refused_with_the_positions(tmp_path: Path) -> None:
    series = times(lambda t: {"TemporalPositionIdentifier": t + 1})
    with pytest.raises(
        SourceUnsupportedError, match=r"3 at most of 5 positions, but 2 at 7.5 mm, 2 at 10 mm"
    ):
        read(save(tmp_path, shuffled([*series[:2], series[2][:3]])))


def test_times_that_occur_at_some_positions_only_are_refused(tmp_path: Path) -> None:
    """As often at each position, but not the same: sorted, they would be taken for one another."""
    series = times(lambda t: {"TemporalPositionIdentifier": t + 1})
    with pytest.raises(SourceUnsupportedError, match="all 5 positions, got 1 at 2, 3 at 3"):
        read(save(tmp_path, [*series[0][:2], *series[1], *series[2][2:]]))


def test_a_number_for_each_image_is_no_time(tmp_path: Path) -> None:
    series = times(lambda t: {"TemporalPositionIdentifier": lambda n: 5 * t + n + 1})
    volume = read(save(tmp_path, shuffled(series)))
    for t, made in enumerate(series):
        in_place(volume.to_numpy()[..., t], volume.affine, made)


def test_images_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SourceUnsupportedError, match="2 images at each of 5 positions, told apart by nothing"
    ):
        read(save(tmp_path, shuffled(times(count=2))))


# Damage.


def test_a_truncated_file_stops_the_ingest_or_is_left_out(tmp_path: Path) -> None:
    made = slices()
    whole = slices(SeriesInstanceUID="1.2.8", SOPInstanceUID=lambda n: f"1.2.8.{n + 1}")
    save(tmp_path / "in", made + whole)
    path = tmp_path / "in" / "3.dcm"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SourceCorruptError, match=r"144 bytes of pixels.* 135"):
        read(path)
    with pytest.raises(IngestError, match="1 files cannot be read, nothing was committed"):
        RadiObject.from_dicoms(tmp_path / "a", tmp_path / "in", deid_key="8f" * 32)
    study = RadiObject.from_dicoms(tmp_path / "b", tmp_path / "in", deid_key="8f" * 32, errors="collect")
    # the series that lost a slice has a gap, and is left out too
    (volume,) = study.MR
    in_place(volume.to_numpy(), volume.affine, whole)


@pytest.mark.parametrize("length", [140, 200, 400, 600])
def test_a_header_that_breaks_off_is_a_named_error(length: int, tmp_path: Path) -> None:
    save(tmp_path, slices())
    path = tmp_path / "3.dcm"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises((SourceCorruptError, SourceUnsupportedError), match=r"3\.dcm|1 missing of 5"):
        read(tmp_path)


def test_vframe_is_refused_by_name(tmp_path: Path) -> None:
    made = slices(ImageType=["ORIGINAL", "PRIMARY", "M", "VFRAME"], ImagePositionPatient=None)
    with pytest.raises(SourceUnsupportedError, match="UIH VFRAME"):
        read(save(tmp_path, made))


def test_pixels_of_the_maker_are_what_it_wrote() -> None:
    (one,) = slices(1, stored="<i2", start=-5)
    assert pixels_of(one)[0, :2].tolist() == [-5, -4]


# What must never be taken for one volume.


def test_stacks_beside_each_other_are_no_series_in_time(tmp_path: Path) -> None:
    """Stations of a spine, say: parallel slices at the same distances, elsewhere in their planes."""
    upper = slices(AcquisitionNumber="1")
    lower = slices(
        corner=(-10, 220, 30), start=500, AcquisitionNumber="2", SOPInstanceUID=lambda n: f"1.9.{n}"
    )
    with pytest.raises(SourceUnsupportedError, match="beside each other"):
        read(save(tmp_path, upper + lower))


def test_patients_whose_uids_are_the_same_are_kept_apart(tmp_path: Path) -> None:
    """Some anonymisers give all series one UID."""
    one, two = slices(), slices(start=500, PatientID="MRN-4712", StudyInstanceUID="1.2.4")
    save(tmp_path / "in" / "a", one)
    save(tmp_path / "in" / "b", two)
    study = RadiObject.from_dicoms(tmp_path / "study", tmp_path / "in", deidentify=False)
    for made, subject in ((one, "MRN-4711"), (two, "MRN-4712")):
        volume = study.MR.loc[f"{subject}_MR"]
        in_place(volume.to_numpy(), volume.affine, made)


def test_a_time_of_several_b_values_is_refused(tmp_path: Path) -> None:
    series = times(
        lambda t: {"DiffusionBValue": lambda n: 1000.0 * ((t + n // 4) % 2), "AcquisitionNumber": t}, 2
    )
    with pytest.raises(SourceUnsupportedError, match="b-value"):
        read(save(tmp_path, shuffled(series)))
