"""Refinement iterations on super-resolved input: restored frames predict the intensity of the next iteration."""

import numpy as np
import pytest
import torch
from test_deblur import scene

import train_deblur
from codes.data.images import write_image
from codes.data.spikes import Exposure, write_spikes
from codes.distillation.teachers import ClosedFormTeacher
from codes.engine import checkpoint
from codes.evaluation.metrics import psnr
from codes.motion import compensation
from codes.motion.compensation import MANY_SPIKES, motion_compensated_intensity
from codes.motion.super_resolution import STEP
from codes.networks import LDN
from codes.physics.intensity import isi_intensity
from codes.physics.sdm import match_picture_scale, tfp, windows
from codes.recipe import ISI, PUBLISHED, RESIM
from codes.restoration import reconstruction, refinement
from codes.restoration.methods import mfsr_frames
from codes.restoration.reconstruction import Student, averaged_times, reconstruct
from codes.restoration.refinement import FEW_SPIKES, RESTORED_STEP, refine, restore
from codes.restoration.restorers import RestorationSettings, restorer
from codes.simulation.camera import add_noise, integrate, sense

EXPOSURE = Exposure()


def recording(threshold: float) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Film a shadow that moves over slopes: the picture [1,3,96,160], its spikes [1,137,24,40], the frames."""
    _, _, film = scene(137)
    seen, rng = np.stack([sense(frame) for frame in film]), np.random.default_rng(0)
    spikes = add_noise(integrate(seen, threshold=threshold, first=rng.random(seen.shape[1:], np.float32)), rng)
    blur = film[20:117].mean(0, dtype=np.float32) / 255
    return torch.from_numpy(blur).permute(2, 0, 1)[None], torch.from_numpy(spikes)[None], film


@pytest.fixture(scope="module")
def student() -> Student:
    """Return LDN as it starts: it passes on the closed form."""
    return Student(LDN().pass_blur_through().eval(), RESIM)


@pytest.fixture(scope="module")
def random_student() -> Student:
    torch.manual_seed(0)
    return Student(LDN().eval(), RESIM)


@torch.inference_mode()
def test_each_iteration_is_nearer_the_truth(student):
    blur, spikes, film = recording(4)
    truth = torch.from_numpy(film[68]).permute(2, 0, 1)[None] / 255
    first, second, third = (
        psnr(frame.sharp.clamp(0, 1), truth).item()
        for intensity in refine(student, blur, spikes, exposure=EXPOSURE)
        for frame in reconstruct(student, blur, intensity, [68], exposure=EXPOSURE)
    )
    assert second > first + 0.1 and third > second


@torch.inference_mode()
def test_the_next_iteration_is_predicted_from_the_frames_after_data_consistency(random_student, monkeypatch):
    """Neither from what LDN is fed nor from what it returns."""
    blur, spikes, _ = recording(4)
    predicting, intensity = [], isi_intensity(spikes)

    def compensate(spikes, intensity, restored=None, times=(), **_):
        predicting.append((restored, list(times)))
        return intensity

    for module in (compensation, refinement):  # of the first intensity and of later ones
        monkeypatch.setattr(module, "motion_compensated_intensity", compensate)
    list(refine(random_student, blur, spikes, exposure=EXPOSURE, iterations=2))
    assert predicting[0] == (None, [])
    restored, times = predicting[1]
    assert times == list(range(16, 121, 4))
    frames = reconstruct(random_student, blur, intensity, times, exposure=EXPOSURE, step=RESTORED_STEP)
    weights = torch.tensor((0.11, 0.59, 0.30)).view(3, 1, 1)
    # The inner 2x2 of 4x4 picture pixels are what a spike pixel sees.
    tiles = [(weights * frame.sharp[0].clamp(0, 1)).sum(0).unfold(0, 4, 4).unfold(1, 4, 4) for frame in frames]
    expected = torch.stack([each[..., 1:3, 1:3].mean((2, 3)) for each in tiles])
    torch.testing.assert_close(restored[0], expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_ldn_is_fed_the_intensity_that_its_start_is_super_resolved_from(random_student):
    blur, spikes, _ = recording(4)
    intensity = motion_compensated_intensity(spikes, isi_intensity(spikes))
    (frame,) = reconstruct(random_student, blur, intensity, [60], exposure=EXPOSURE)
    fed = windows(match_picture_scale(intensity, blur, EXPOSURE), [60], 21)
    torch.testing.assert_close(frame.student, random_student.net(frame.closed_form, fed))


@torch.inference_mode()
def test_an_iteration_before_the_last_is_coarser(student, monkeypatch):
    """Its super-resolution uses every fourth spike frame, and an iteration before that half as many restored frames."""
    blur, spikes, _ = recording(4)
    steps, predicting, super_resolve = [], [], reconstruction.super_resolved_intensity

    def counted(*arguments, step=STEP, **named):
        steps.append(step)
        return super_resolve(*arguments, step=step, **named)

    def compensate(spikes, intensity, restored=None, times=(), **_):
        predicting.append(list(times))
        return intensity

    monkeypatch.setattr(reconstruction, "super_resolved_intensity", counted)
    for module in (compensation, refinement):  # of the first intensity and of later ones
        monkeypatch.setattr(module, "motion_compensated_intensity", compensate)
    list(restore(student, blur, spikes, [68], exposure=EXPOSURE, iterations=4))
    assert steps == [RESTORED_STEP, RESTORED_STEP, RESTORED_STEP, STEP]
    assert predicting == [[], list(range(12, 125, 8)), list(range(12, 125, 8)), list(range(16, 121, 4))]


@torch.inference_mode()
def test_a_spike_stream_passes_each_stage_once_in_order(student, monkeypatch):
    """The refinement is a loop around them. A stage that runs for each target time counts once."""
    blur, spikes = torch.rand(1, 3, 32, 48), (torch.rand(1, 137, 8, 12) < 0.1).to(torch.uint8)
    walk: list[list[str]] = [[]]

    def watch(module, name, result=None):
        function = getattr(module, name)

        def entered(*given, **named):
            if name == "motion_compensated_intensity":
                walk.append([])
            if name not in walk[-1]:
                walk[-1].append(name)
            return function(*given, **named) if result is None else result

        monkeypatch.setattr(module, name, entered)

    estimated = isi_intensity(spikes)
    watch(compensation, "isi_intensity")
    for module in (compensation, refinement):
        watch(module, "motion_compensated_intensity", result=estimated)
    for name in ("super_resolved_intensity", "closed_form", "match_picture_scale", "windows"):
        watch(reconstruction, name)
    watch(reconstruction.tiling, "tiled_ldn")
    watch(reconstruction, "data_consistency_residual")
    list(restore(student, blur, spikes, [68], exposure=EXPOSURE, iterations=2))
    motion = ["motion_compensated_intensity", "super_resolved_intensity"]
    closed_form, network = {"closed_form", "match_picture_scale", "windows"}, ["tiled_ldn", "data_consistency_residual"]
    assert walk[0] == ["isi_intensity"] and len(walk) == 3
    for one in walk[1:]:  # physics.sdm makes both inputs of LDN, in any order
        assert (one[:2], set(one[2:5]), one[5:]) == (motion, closed_form, network)


@torch.inference_mode()
def test_samples_of_a_batch_do_not_mix(student):
    one, other = recording(4)[:2], recording(3)[:2]
    blur, spikes = (torch.cat(pair) for pair in zip(one, other, strict=True))
    blur[1] = blur[1].flip(-1) * 0.7
    spikes[1] = spikes[1].flip(-1)
    (both,) = restore(student, blur, spikes, [68], exposure=EXPOSURE, iterations=2)
    (alone,) = restore(student, blur[1:], spikes[1:], [68], exposure=EXPOSURE, iterations=2)
    torch.testing.assert_close(both[1:], alone, atol=2e-3, rtol=0)


@torch.inference_mode()
def test_frames_come_in_the_order_of_their_times(random_student):
    blur, spikes, _ = recording(1)
    frames = list(restore(random_student, blur, spikes, [68, 30, 68, 44], exposure=EXPOSURE))
    (alone,) = restore(random_student, blur, spikes, [30], exposure=EXPOSURE)
    assert torch.equal(frames[0], frames[2]) and torch.equal(frames[1], alone) and len(frames) == 4


@pytest.mark.parametrize(("threshold", "iterations", "found"), [(1.5, 0, 1), (1.75, 0, 3), (1, 2, 2), (4, 1, 1)])
@torch.inference_mode()
def test_few_spikes_are_refined_unless_told_otherwise(student, threshold, iterations, found):
    blur, spikes, _ = recording(threshold)
    if iterations == 0:  # as close to FEW_SPIKES as that
        mean = tfp(motion_compensated_intensity(spikes, isi_intensity(spikes)), 68, 97).mean()
        assert 1.02 < mean / FEW_SPIKES < 1.2 if found == 1 else 0.8 < mean / FEW_SPIKES < 0.98
    assert len(list(refine(student, blur, spikes, exposure=EXPOSURE, iterations=iterations))) == found


@torch.inference_mode()
def test_each_stream_with_many_spikes_is_not_compensated_for_motion(student, monkeypatch):
    """Whatever asks for its intensity: LDN, the teacher of its labels, or the method without a network."""
    (blur, many, _), (_, few, _) = recording(0.85), recording(1.05)
    spikes = torch.cat((many, few))
    intensity, compensated = isi_intensity(spikes), []
    shares = intensity[:, EXPOSURE.frames].mean((1, 2, 3)) / MANY_SPIKES
    assert 0.8 < shares[1] < 1 < shares[0] < 1.2  # as close as that

    def compensate(spikes, intensity, **_):
        compensated.append(spikes)
        return 0.9 * intensity

    monkeypatch.setattr(compensation, "motion_compensated_intensity", compensate)
    (found,) = refine(student, blur.expand(2, -1, -1, -1), spikes, exposure=EXPOSURE, iterations=1)
    assert torch.equal(found, torch.stack((intensity[0], 0.9 * intensity[1])))
    ClosedFormTeacher(exposure=EXPOSURE).ratios(spikes, [68])
    list(mfsr_frames(blur, many, [68], exposure=EXPOSURE))
    list(mfsr_frames(blur, few, [68], exposure=EXPOSURE))
    assert len(compensated) == 3 and all(torch.equal(each, few) for each in compensated)


@torch.inference_mode()
def test_ldn_on_the_blurry_picture_has_one_iteration(student):
    blur, spikes, _ = recording(4)
    assert len(list(refine(student._replace(recipe=ISI), blur, spikes, exposure=EXPOSURE, iterations=2))) == 1


@pytest.mark.parametrize(
    ("exposure", "number"),
    [
        (Exposure(length=1), 3),
        (Exposure(length=5, margin=2), 1),
        (Exposure(length=13, margin=6), 3),  # windows fit at two of every fourth time, at one of every eighth
        (Exposure(97, margin=0), 3),
    ],
)
@torch.inference_mode()
def test_any_exposure_is_refined_as_asked_or_as_often_as_windows_fit(student, exposure, number):
    blur, spikes, _ = recording(4)
    total = 137 if exposure.length == 1 else exposure.total
    intensities = list(refine(student, blur, spikes[:, :total], exposure=exposure, iterations=3))
    assert len(intensities) == number
    if total > 21:
        time = min(max(exposure.center, 10), total - 11)
        (frame,) = reconstruct(student, blur, intensities[-1], [time], exposure=exposure)
        assert frame.sharp.isfinite().all()


def test_the_table_has_the_first_iteration_and_the_last(random_student, tmp_path):
    blur, spikes, film = recording(4)
    for part, picture in (("blur", film[20:117].mean(0).round().astype(np.uint8)), ("sharp", film[68])):
        write_image(tmp_path / f"data/test/{part}_data/scene/000000.png", picture)
    write_spikes(tmp_path / "data/test/spike_data/scene/000000.dat", spikes[0].numpy())
    checkpoint.save_weights(tmp_path / "LDN.pth", random_student.net, RESIM | {"bsn_len": "9"})
    options = {"base_folder": str(tmp_path / "data"), "save_folder": str(tmp_path / "log"), "device": "cpu"}
    rows = train_deblur.main(
        train_deblur.Options(**options, test_mode=True, deblur_path=str(tmp_path / "LDN.pth"), workers=0)
    )
    truth = torch.from_numpy(film[68]).permute(2, 0, 1)[None] / 255
    rounded = (blur * 255).round() / 255
    for row, iterations in (("LDN, 1 iteration", 1), ("LDN", 3)):
        with torch.inference_mode():
            (sharp,) = restore(random_student, rounded, spikes, [68], exposure=EXPOSURE, iterations=iterations)
        assert rows[row]["psnr"] == pytest.approx(psnr(sharp.clamp(0, 1), truth).item(), abs=2e-3), row
    assert abs(rows["LDN"]["psnr"] - rows["LDN, 1 iteration"]["psnr"]) > 0.01
    how = RestorationSettings(deblur_path=str(tmp_path / "LDN.pth"))
    with torch.inference_mode():
        (sharp,) = restorer(how, device=torch.device("cpu"))(rounded, spikes, [68], exposure=EXPOSURE)
    assert rows["LDN along motion"]["psnr"] == pytest.approx(psnr(sharp.clamp(0, 1), truth).item(), abs=2e-3)


@torch.inference_mode()
def test_data_consistency_is_left_out_where_short_averages_do_not_fit(student):
    """The closed form of recipe isi averages --bsn_len spike frames, which may be more than LDN's window."""
    blur, spikes, _ = recording(1)
    exposure, total = Exposure(length=97, margin=12), 121
    wide = student._replace(recipe=ISI | {"consistency": "picture"}, short=31)
    frames = list(restore(wide, blur, spikes[:, 8 : 8 + total], [60], exposure=exposure))
    assert len(frames) == 1 and not averaged_times(wide, exposure, total)
    assert averaged_times(wide._replace(short=25), exposure, total)
    assert averaged_times(wide._replace(recipe=RESIM), exposure, total)  # averages nothing


@pytest.mark.parametrize("length, first, last", [(21, 10, 126), (20, 10, 127), (1, 0, 136)])
def test_a_time_fits_where_its_whole_window_lies_in_the_stream(length, first, last):
    """Of 137 spike frames; there are 137 - length + 1 windows, of an even length with the time after its middle."""
    of_window = Student(LDN(length), PUBLISHED)
    assert [time for time in range(-9, 150) if of_window.fits(time, 137)] == list(range(first, last + 1))
