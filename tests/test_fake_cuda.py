"""Device code of training and restoration, run on a CUDA device that does not exist.

Proves, for every stage, recipe, loss and restoration method: no operation mixes devices, no step waits for the GPU, and
what a training step needs up to its backward pass stays under a stated size.
"""

from importlib import import_module
from pathlib import Path

import pytest
import torch
import torchvision
from fake_cuda import Convolutions, fake_cuda, needs_cuda_build
from torch import Tensor

from codes import stage
from codes.data.batches import Packed
from codes.data.spikes import UPSCALE, Exposure
from codes.distillation.teachers import NetworkTeacher
from codes.evaluation.losses import dssim
from codes.motion import compensation, super_resolution
from codes.networks import BSN, EDSR, LDN
from codes.recipe import RECIPES
from codes.restoration import methods, reconstruction, refinement
from codes.stage import networks

pytestmark = needs_cuda_build
GIB = 2**30
BATCH, SIDE = 4, 512  # as published

NETWORKS = {"bsn_path": "bsn.pth", "sr_path": "sr.pth"}
OPTIONS = {
    "tea_loss": "ssim",
    "use_ssim": True,
    "reblur": "random",
    "clip": True,
    "center_weight": 0.5,
    "augment": True,
}
TRAPEZOID = {"reblur": "trapezoid", "init": "random"}
# Script, options, and bounds of the live memory in GiB, in fp32 and in bf16: a fifth above what the forward pass needs.
STAGES = {
    "BSN": ("train_bsn", {}, 2.2, 1.2),
    "BSN, ISI": ("train_bsn", {"spike_input": "isi"}, 2.3, 1.2),
    "BSN, reference": ("train_bsn", {"recipe": "reference"}, 2.2, 1.2),
    "SR": ("train_sr", {}, 1.4, 0.7),
    "SR, ISI": ("train_sr", {"spike_input": "isi", "augment": True}, 1.4, 0.7),
    "SR, reference": ("train_sr", {"recipe": "reference"}, 1.4, 0.7),
    "LDN published, SSIM": ("train_deblur", {"recipe": "published", "tea_loss": "ssim"} | NETWORKS, 3.4, 2.7),
    "LDN published, LPIPS": ("train_deblur", {"recipe": "published"} | NETWORKS, 9.2, 8.3),
    "LDN published, options": ("train_deblur", OPTIONS | NETWORKS, 5.1, 4.4),
    "LDN reference": ("train_deblur", {"recipe": "reference"} | NETWORKS, 9.2, 8.3),
    "LDN, reblur alone": ("train_deblur", {"lambda_tea": 0.0} | TRAPEZOID | NETWORKS, 1.6, 0.9),
    "LDN ISI": ("train_deblur", {"recipe": "isi", "tea_loss": "ssim", "teacher": "sdm"}, 3.5, 2.8),
    "LDN ISI, cached labels": ("train_deblur", {"recipe": "isi", "tea_loss": "ssim"}, 3.5, 2.8),
    "LDN resim, LPIPS": ("train_deblur", {"recipe": "resim"}, 10.0, 8.8),
    "LDN resim, SSIM": ("train_deblur", {"recipe": "resim", "tea_loss": "ssim"}, 5.0, 4.0),
}


@pytest.fixture
def cuda(monkeypatch, tmp_path, weights):
    monkeypatch.chdir(tmp_path)
    Path("GOPRO").mkdir()
    for name in ("refilmed", "resimulated"):
        Path(f"GOPRO/{name}.json").write_text('{"complete": true}')
    for name in ("vgg16", "alexnet"):
        real = getattr(torchvision.models, name)
        monkeypatch.setattr(torchvision.models, name, lambda *_, real=real, **__: real(weights=None))
    # A backward pass needs a device that exists. The gradient of LPIPS would free the features of a chunk earlier.
    monkeypatch.setattr(torch.autograd, "grad", lambda output, x: (torch.zeros_like(x),))
    with fake_cuda(monkeypatch) as monitor:
        yield monitor


def packed(fields: tuple[str, ...], exposure: Exposure, *, target_times: int, turn: int = 0) -> Packed:
    """Return a batch in CPU memory, as the loader makes it; cached ratios are those of a closed-form teacher."""
    side = SIDE // UPSCALE
    tensors = {
        "spikes": torch.zeros(BATCH, exposure.total, side, side // 8, dtype=torch.uint8),
        "blur": torch.zeros(BATCH, SIDE, SIDE, 3, dtype=torch.uint8),
        "sequence": torch.zeros(BATCH, 7, SIDE, SIDE, 3, dtype=torch.uint8),
        "ratios": torch.zeros(BATCH, target_times + 1, SIDE, SIDE, dtype=torch.float16),
    }
    return Packed(["sample"] * BATCH, side, [turn] * BATCH, {name: tensors[name] for name in fields})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", STAGES)
def test_a_training_step_stays_on_the_device_and_within_its_memory(name, precision, cuda, monkeypatch, tmp_path):
    script, options, *bounds = STAGES[name]
    module, captured = import_module(script), {}
    monkeypatch.setattr(networks, "load", lambda net, path: net)
    monkeypatch.setattr(stage, "train_or_evaluate", lambda *given, **settings: captured.update(settings, given=given))
    module.main(module.Options(device="cuda", precision=precision, save_folder=str(tmp_path), **options))
    _, run, net, losses, _ = captured["given"]
    target_times = 7 if "resim" in name else 5
    turn = 5 if options.get("augment") else 0
    batch = packed(captured["train_fields"], captured["exposure"], target_times=target_times, turn=turn).to(run.device)
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        terms = next(losses(net, batch))
    assert all(term.is_cuda and term.shape == () and term.requires_grad for term in terms.values())
    bound = bounds[precision == "bf16"]
    assert cuda.peak < bound * GIB, f"{cuda.peak / GIB:.2f} GiB live, {bound} are accepted"


def test_waiting_for_the_gpu_and_mixed_devices_are_seen(cuda):
    x = torch.rand(4, device="cuda")
    for wait in (x.sum().item, x.nonzero, x.cpu, x.tolist, lambda: bool(x.any()), lambda: torch.zeros(4).copy_(x)):
        with pytest.raises((AssertionError, RuntimeError)):
            wait()
    with pytest.raises(RuntimeError):
        x + torch.rand(4)
    assert cuda.live == x.untyped_storage().nbytes()


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_ssim_is_never_computed_in_tf32_or_bf16(precision, cuda, monkeypatch):
    """Its variances are differences of squares: with 10 bits of mantissa they are noise. cuDNN may use TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    image, truth = (torch.rand(2, 3, 64, 64, device="cuda") for _ in range(2))
    image = image.contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"), Convolutions() as seen:
        dssim(image, truth)
    assert seen.calls
    for call in seen.calls:
        assert call.dtype == torch.float32
        assert not call.allow_tf32 or "Cudnn" not in call.backend
        assert "Cudnn" not in call.backward


def network_inputs(name: str) -> tuple[Tensor, ...]:
    intensity = torch.rand(2, 1, 24, 40, device="cuda")
    if name != "LDN":
        return (intensity,)
    return torch.rand(2, 3, 96, 160, device="cuda"), torch.rand(10, 21, 24, 40, device="cuda")


@pytest.mark.parametrize("is_half", [False, True])
@pytest.mark.parametrize("network", [BSN, EDSR, LDN])
def test_convolutions_stay_channels_last(network, is_half, cuda):
    """Else cuDNN copies their input into that format. Only the windows and pictures that LDN is given may not be.

    float16 stands for bfloat16, for which PyTorch asks the device whether cuDNN computes it.
    """
    net = network().to("cuda", memory_format=torch.channels_last)
    with torch.autocast("cuda", torch.float16, enabled=is_half), Convolutions() as seen:
        net(*network_inputs(network.__name__))
    assert len(seen.calls) >= 17
    assert not [call for call in seen.calls if call.channels > 21 and not call.channels_last]


def test_bsn_computes_in_half_precision_after_its_first_layer(cuda):
    """The input is joined with the features at the end; joined as float32 it would make them all so."""
    net, seen = BSN().to("cuda"), []
    for layer in (net.unet.dec2.conv1, net.unet.dec1.conv1, net.unet.dec1.conv2):
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.autocast("cuda", torch.float16):
        net(*network_inputs("BSN"))
    assert seen == [torch.float16] * 3


def no_motion(before: Tensor, after: Tensor, **_) -> Tensor:
    """Stand in for optical flow, which is OpenCV's on the CPU."""
    return before.new_zeros(len(before), 2, *before.shape[1:])


def restored(method: str, blur: Tensor, spikes: Tensor, exposure: Exposure, times: list[int]) -> list[Tensor]:
    """Restore a picture at target times."""
    if method in RECIPES:
        student = reconstruction.Student(
            LDN().to("cuda", memory_format=torch.channels_last), RECIPES[method], flow=no_motion
        )
        return list(refinement.restore(student, blur, spikes, times, exposure=exposure, iterations=1))
    if method == "teacher":
        teacher = NetworkTeacher(BSN().to("cuda"), EDSR().to("cuda"))
        return list(methods.teacher_frames(teacher, blur, spikes, times, exposure=exposure))
    frames = getattr(methods, f"{method}_frames")
    others = {"short": 9} if method in ("sdm", "sdm_count", "tfp") else {"flow": no_motion} if method == "mfsr" else {}
    return list(frames(blur, spikes, times, exposure=exposure, **others))


def short_stream(monkeypatch: pytest.MonkeyPatch) -> Exposure:
    """Return an exposure of few spike frames, each of which is another round of the same operations."""
    monkeypatch.setattr(super_resolution, "REACH", 8)
    monkeypatch.setattr(compensation, "PASSES", 1)
    # The decision reads the spikes; it waits for the device once.
    monkeypatch.setattr(compensation, "_with_few_spikes", lambda intensity: range(len(intensity)))
    return Exposure(length=13, margin=10)


CLOSED_FORMS = ("mfsr", "sdm", "sdm_count", "tfi", "tfp")


@pytest.mark.parametrize("method", [*RECIPES, "teacher", *CLOSED_FORMS])
@torch.no_grad()
def test_restoration_stays_on_the_device(method, cuda, monkeypatch):
    """All 13 target times of a picture of 720p; the teacher needs most memory, for EDSR."""
    exposure = short_stream(monkeypatch)
    blur = torch.rand(1, 3, 720, 1280, device="cuda")
    spikes = torch.zeros(1, exposure.total, 180, 320, dtype=torch.uint8, device="cuda")
    averaged, residual = [], reconstruction.data_consistency_residual
    monkeypatch.setattr(
        reconstruction,
        "data_consistency_residual",
        lambda sharp, blur: averaged.append(sharp.dtype) or residual(sharp, blur),
    )
    with torch.autocast("cuda", torch.float16), Convolutions() as seen:
        frames = restored(method, blur, spikes, exposure, exposure.evenly(1))
    assert len(frames) == 13 and all(frame.is_cuda and frame.shape == blur.shape for frame in frames)
    assert cuda.peak < 1.2 * GIB, f"{cuda.peak / GIB:.2f} GiB live"
    if method in CLOSED_FORMS:  # TF32 and autocast round nothing in them: their ratios are of float32
        assert not seen.calls and not seen.products
        assert {frame.dtype for frame in frames} == {torch.float32}
    if method == "resim":  # the residual is a small difference of pictures
        assert averaged == [torch.float32]


@torch.no_grad()
def test_refinement_stays_on_the_device(cuda, monkeypatch):
    """Frames that the first iteration restores predict the intensity of the second."""
    exposure = short_stream(monkeypatch)
    monkeypatch.setattr(refinement, "RESTORED_STEP", 6)
    recipe = RECIPES["resim"] | {"consistency": "none"}  # which restores frames only for their mean
    student = reconstruction.Student(LDN().to("cuda"), recipe, flow=no_motion)
    blur = torch.rand(1, 3, 96, 160, device="cuda")
    spikes = torch.zeros(1, exposure.total, 24, 40, dtype=torch.uint8, device="cuda")
    frames = list(refinement.restore(student, blur, spikes, [exposure.center], exposure=exposure, iterations=2))
    assert len(frames) == 1 and frames[0].is_cuda
