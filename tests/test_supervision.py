"""Input and losses of the student LDN, with numbers worked out by hand on constant pictures."""

import pytest
import torch
from torch import Tensor

from codes.data.batches import Batch
from codes.data.spikes import Exposure
from codes.distillation.student_input import StudentInput
from codes.distillation.supervision import ResimulatedTruth, TeacherDistillation, random_times
from codes.distillation.teachers import ClosedFormTeacher, NetworkTeacher
from codes.errors import InputError
from codes.evaluation.losses import mse
from codes.physics.intensity import isi_intensity
from codes.physics.sdm import apply_ratios, windows
from codes.recipe import ISI, PUBLISHED, RESIM

EXPOSURE, TIMES = Exposure(), [30, 68, 100]


class HalfTeacher:
    """A teacher whose labels are half the blurry picture."""

    sharpen = staticmethod(NetworkTeacher.sharpen)

    def ratios(self, spikes: Tensor, times: list[int]) -> Tensor:
        return torch.full((len(spikes), len(times), 1, 16, 16), 0.5)


def distillation(**change: object) -> TeacherDistillation:
    settings = {"lambda_tea": 2.0, "lambda_reblur": 3.0, "use_ssim": False, "reblur": "equal"}
    return TeacherDistillation(teacher=HalfTeacher(), loss=mse, **settings | change)


def constant_frames(*values: float) -> Tensor:
    """Return frames [1,N,3,16,16], each of one value."""
    return torch.tensor(values).view(1, -1, 1, 1, 1).expand(1, -1, 3, 16, 16)


def batch(**change: Tensor) -> Batch:
    """Return one blurry picture of 0.8 with spikes."""
    return Batch(["one"], torch.zeros(1, 137, 4, 4), blur=torch.full((1, 3, 16, 16), 0.8), **change)


@pytest.mark.parametrize("reblur, mean", [("equal", 0.5), ("random", 0.5), ("trapezoid", 0.525)])
def test_the_terms_are_weighted_distances_to_labels_and_picture(reblur, mean):
    sharp = constant_frames(0.2, 0.6, 0.7)  # labels: 0.4; trapezoidal mean: (0.1 + 0.6 + 0.35) / 2
    found = distillation(reblur=reblur).terms(sharp, batch(), TIMES)
    assert found.keys() == {"teacher", "reblur"}
    assert found["teacher"].item() == pytest.approx(2 * (0.04 + 0.04 + 0.09) / 3, rel=1e-4)
    assert found["reblur"].item() == pytest.approx(3 * (0.8 - mean) ** 2, rel=1e-4)


def test_the_ssim_term_of_constant_frames_is_that_of_their_luminance():
    found = distillation(use_ssim=True).terms(constant_frames(0.2, 0.2, 0.2), batch(), TIMES)
    luminance = (2 * 0.2 * 0.4 + 0.01**2) / (0.2**2 + 0.4**2 + 0.01**2)
    assert found["ssim"].item() == pytest.approx(2 * (1 - luminance), rel=1e-3)


def test_kept_ratios_take_the_place_of_those_of_the_teacher():
    kept = batch(ratios=torch.full((1, 3, 1, 16, 16), 0.25))  # labels: 0.2
    assert distillation().terms(constant_frames(0.2, 0.2, 0.2), kept, TIMES)["teacher"].item() < 1e-12


def test_without_its_weight_the_teacher_is_not_used():
    found = distillation(lambda_tea=0.0, use_ssim=True).terms(constant_frames(0.2, 0.6, 0.7), batch(), TIMES)
    assert found.keys() == {"reblur"}


def test_the_truth_of_resimulated_scenes_is_compared_frame_by_frame():
    truth = constant_frames(*[0.1 * number for number in range(7)])
    found = ResimulatedTruth(mse).terms(truth.flip(1), batch(sequence=truth), list(range(7)))
    assert found.keys() == {"resim"}
    assert found["resim"].item() == pytest.approx(sum((0.1 * (6 - 2 * n)) ** 2 for n in range(7)) / 7, rel=1e-4)
    with pytest.raises(InputError, match=r"^one: no sharp_sequence"):
        ResimulatedTruth(mse).terms(truth, batch(), list(range(7)))


def test_random_times_are_another_draw_for_each_batch_and_each_seed():
    drawn = {tuple(random_times(EXPOSURE, 5, seed=seed, batch=batch)) for seed in range(4) for batch in range(4)}
    assert len(drawn) == 16


@pytest.fixture(scope="module")
def scene() -> Batch:
    """Return two pictures with random spikes, of which a third fire."""
    generator = torch.Generator().manual_seed(0)
    spikes = (torch.rand(2, 137, 4, 4, generator=generator) < 1 / 3).to(torch.uint8)
    return Batch(["a", "b"], spikes, blur=torch.rand(2, 3, 16, 16, generator=generator) / 2 + 0.25)


def prepared(recipe: dict[str, str], batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
    mfsr = ClosedFormTeacher(short=9, mfsr=True, exposure=EXPOSURE)
    return StudentInput(recipe, length=21, short=9, exposure=EXPOSURE, mfsr=mfsr).prepare(batch, TIMES)


def scaled_windows(batch: Batch) -> Tensor:
    """Cut windows out of ISI intensity whose mean over the exposure, frames 20 to 116, is that of the gray picture."""
    intensity = isi_intensity(batch.spikes)
    blue, green, red = batch.blur.mean((2, 3)).unbind(1)
    factor = (0.11 * blue + 0.59 * green + 0.3 * red) / intensity[:, 20:117].mean((1, 2, 3))
    cut = [intensity[:, time - 10 : time + 11] for time in TIMES]
    return (torch.stack(cut, 1) * factor.view(-1, 1, 1, 1, 1)).flatten(0, 1)


def test_the_published_recipe_is_fed_the_blurry_picture_and_spike_counts(scene):
    image, spikes, start = prepared(PUBLISHED, scene)
    assert torch.equal(image, scene.blur) and start is None
    assert torch.equal(spikes, windows(scene.spikes, TIMES, 21)) and spikes.shape == (6, 21, 4, 4)


def test_the_isi_recipe_is_fed_intensity_of_the_scale_of_the_picture_and_starts_at_the_closed_form(scene):
    image, intensity, start = prepared(ISI, scene)
    assert torch.equal(image, scene.blur)
    torch.testing.assert_close(intensity, scaled_windows(scene))
    closed_form = ClosedFormTeacher(short=9, mfsr=False, exposure=EXPOSURE)(scene.blur, scene.spikes, TIMES)
    torch.testing.assert_close(start, closed_form.flatten(0, 1))


def test_the_resim_recipe_is_fed_the_closed_form_on_its_kept_ratios(scene):
    ratios = torch.rand(2, 4, 1, 16, 16, generator=torch.Generator().manual_seed(1)) + 0.5
    kept = Batch(scene.names, scene.spikes, blur=scene.blur, ratios=ratios)
    image, intensity, start = prepared(RESIM, kept)
    torch.testing.assert_close(image, apply_ratios(scene.blur, ratios).flatten(0, 1))
    torch.testing.assert_close(intensity, scaled_windows(scene))
    assert start is None
