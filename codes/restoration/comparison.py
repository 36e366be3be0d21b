"""Outputs of all methods on one batch of a data set, for the tables of stage 3."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from codes.data.spikes import Exposure
from codes.distillation.teachers import ClosedFormTeacher, NetworkTeacher
from codes.physics.baselines import tfi
from codes.physics.data_consistency import consistency_times
from codes.physics.intensity import estimate_intensity
from codes.physics.sdm import sdm, tfp, upsample_bilinear
from codes.restoration.colour import with_colour_along_motion
from codes.restoration.reconstruction import Student, reconstruct
from codes.restoration.refinement import refine


def baselines(
    blur: Tensor, spikes: Tensor, *, exposure: Exposure, short: int, published: NetworkTeacher | None
) -> dict[str, Tensor]:
    """Restore the middle of the exposure by every method that trains no student, by the name of its table row.

    blur [B,3,H,W] in [0,1], spikes [B,T,h,w] of 0 and 1 -> [B,3,H,W], not clipped. `short`: spike frames of the short
    TFP. `published`: the teacher on BSN and EDSR, if there is one.
    """
    middle = exposure.center
    long, center = tfp(spikes, middle, exposure.length), tfp(spikes, middle, short)
    rows = {
        "blurry": blur,
        f"TFP_{short}": upsample_bilinear(center).expand_as(blur),
        "TFI": upsample_bilinear(tfi(spikes, middle)).expand_as(blur),
        "SDM": sdm(blur, upsample_bilinear(long), upsample_bilinear(center)),
    }
    if published:
        intensity = estimate_intensity(spikes, published.spike_input)
        long, center = tfp(intensity, middle, exposure.length), tfp(intensity, middle, short)
        clean = upsample_bilinear(published.denoise(center))
        rows["SDM+BSN"] = sdm(blur, upsample_bilinear(long), clean)
        rows["teacher"] = published(blur, spikes, [middle])[:, 0]
    rows["SDM ISI"] = ClosedFormTeacher(short=short, mfsr=False, exposure=exposure)(blur, spikes, [middle])[:, 0]
    return rows


def student_outputs(
    student: Student, blur: Tensor, spikes: Tensor, times: list[int], *, exposure: Exposure, along_motion: bool = False
) -> dict[str, list[Tensor]]:
    """Restore target times by the student: the name of each table row and its frames [B,3,H,W].

    Beside LDN: without data consistency, where its recipe has that; on super-resolved input also the closed form that
    it starts from, and LDN after the first of its refinement iterations; `along_motion`: LDN with luminance averaged
    and colours corrected along motion.
    """
    intensities = list(refine(student, blur, spikes, exposure=exposure))
    restored = [*times, *consistency_times(exposure)] if along_motion else times
    last = list(reconstruct(student, blur, intensities[-1], restored, exposure=exposure))
    first = last[: len(times)]
    if len(intensities) > 1:
        first = list(reconstruct(student, blur, intensities[0], times, exposure=exposure))
    rows = {}
    if along_motion:
        at_time = dict(zip(restored, last, strict=True))

        def restore(_: Tensor, __: Tensor, wanted: Sequence[int], **___: object) -> Iterator[Tensor]:
            return (at_time[time].sharp for time in wanted)

        correct = with_colour_along_motion(restore, student.length)
        rows["LDN along motion"] = list(correct(blur, spikes, times, exposure=exposure))
    last = last[: len(times)]
    if student.recipe["consistency"] == "picture":
        rows["LDN without consistency"] = [frame.student for frame in last]
    if student.recipe["input"] == "mfsr":
        rows["SDM MFSR"] = [frame.closed_form for frame in first]
        rows["LDN, 1 iteration"] = [frame.sharp for frame in first]
    return rows | {"LDN": [frame.sharp for frame in last]}
