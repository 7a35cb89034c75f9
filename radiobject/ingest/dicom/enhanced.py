"""Enhanced: the frames of a multi-frame file, each with its own place and scaling."""

from __future__ import annotations

from pydicom.dataset import Dataset

from radiobject.errors import SourceCorruptError
from radiobject.ingest.dicom.frames import Frame, Moment
from radiobject.ingest.dicom.headers import Header
from radiobject.ingest.dicom.single import (
    diffusion,
    orientation_of,
    position_of,
    scaling_of,
    seconds,
    spacing_of,
)

__all__ = ["enhanced_frames", "has_positions", "planar_repetition_time"]


def _kernel(groups: _Groups) -> str:
    return groups.find("CTReconstructionSequence").text("ConvolutionKernel")


class _Groups:
    """The functional groups of one frame: its own, else those that all frames share."""

    def __init__(self, own: Header, shared: Header, top: Header) -> None:
        self._own, self._shared, self.top = own, shared, top

    def find(self, *sequences: str) -> Header:
        """The first item of the first of these that is there; the data set itself where none is."""
        for sequence in sequences:
            found = self._own.item(sequence) or self._shared.item(sequence)
            if found is not None:
                return found
        return self.top

    def number(self, sequence: str, keyword: str) -> float | None:
        """A double (FD) of a functional group."""
        found = self.find(sequence).binary(keyword, "FD")
        return found[0] if found else None


def enhanced_frames(header: Header, count: int) -> tuple[Frame, ...]:
    """One `Frame` for each frame, in the order of the file.

    Slice positions come from PlanePositionSequence alone: InStackPositionNumber is wrong on some scanners.
    """
    own = header.items("PerFrameFunctionalGroupsSequence")
    shared = header.item("SharedFunctionalGroupsSequence") or Header(Dataset(), header.name)
    if len(own) != count:
        raise SourceCorruptError(
            f"{header.name}, PerFrameFunctionalGroupsSequence",
            expected=f"{count} items, one for each frame",
            got=str(len(own)),
        )
    return tuple(_frame(number, _Groups(groups, shared, header)) for number, groups in enumerate(own))


def has_positions(header: Header) -> bool:
    """Whether frames say where they are in the patient: those of angiography and microscopy do not."""
    first = header.item("PerFrameFunctionalGroupsSequence")
    shared = header.item("SharedFunctionalGroupsSequence")
    return any(item is not None and "PlanePositionSequence" in item for item in (first, shared))


def planar_repetition_time(header: Header) -> float | None:
    """RepetitionTime in ms of echo-planar series and mosaics; of others None."""
    shared = header.item("SharedFunctionalGroupsSequence")
    timing = None if shared is None else shared.item("MRTimingAndRelatedParametersSequence")
    planar = "EP" in header.words("ScanningSequence") or header.text("EchoPlanarPulseSequence") == "YES"
    if not planar and "MOSAIC" not in header.words("ImageType"):
        return None
    found = header.number("RepetitionTime")
    return found if found is not None or timing is None else timing.number("RepetitionTime")


def _frame(number: int, groups: _Groups) -> Frame:
    measures = groups.find("PixelMeasuresSequence")
    slope, inter = scaling_of(groups.find("PixelValueTransformationSequence"))
    content = groups.find("FrameContentSequence")
    b_value, gradient, isotropic = diffusion(groups.find("MRDiffusionSequence"))
    timing = groups.find("MRTimingAndRelatedParametersSequence")
    kinds = groups.find("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
    position = content.binary("TemporalPositionIndex", "UL")
    dimensions = content.binary("DimensionIndexValues", "UL")
    return Frame(
        number=number,
        position=position_of(groups.find("PlanePositionSequence")),
        orientation=orientation_of(groups.find("PlaneOrientationSequence")),
        spacing=spacing_of(measures),
        thickness=measures.number("SliceThickness"),
        slope=slope,
        inter=inter,
        image_type=kinds.words("FrameType") or groups.top.words("ImageType"),
        echo_time=groups.number("MREchoSequence", "EffectiveEchoTime"),
        inversion_time=(groups.find("MRModifierSequence").binary("InversionTimes", "FD") or (None,))[0],
        flip_angle=timing.number("FlipAngle"),
        b_value=b_value,
        gradient=gradient,
        kernel=_kernel(groups),
        isotropic=isotropic,
        moment=Moment(
            temporal_position=None if position is None else int(position[0]),
            trigger_time=groups.number("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
            acquired=seconds(content),
            dimensions=None if dimensions is None else tuple(int(n) for n in dimensions),
            instance_number=number,
        ),
    )
