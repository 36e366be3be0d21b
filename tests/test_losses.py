"""The perceptual losses: structure with a random trunk, the range and order they are fed, and the missing file."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from fake_cuda import needs_cuda_build
from skimage.metrics import structural_similarity
from torch._subclasses.fake_tensor import FakeTensorMode
from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

from codes.engine.loss_meter import LossMeter
from codes.errors import InputError
from codes.evaluation.losses import dssim, dssim_l1, perceptual
from codes.evaluation.lpips import CHUNK, LPIPS, TRUNKS
from codes.memory_format import memory_format


@pytest.fixture
def trunks(tmp_path, monkeypatch):
    """Put random trunks where torchvision reads the pretrained ones."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(0)
    folder = tmp_path / "hub/checkpoints"
    folder.mkdir(parents=True)
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), folder / TRUNKS["alex"])
    return folder


def test_lpips_is_a_distance_a_picture_with_a_gradient(trunks):
    lpips, image = LPIPS("alex"), torch.rand(2, 3, 64, 64)
    assert lpips(image, image).tolist() == [0, 0]
    moved = (image + 0.1 * torch.rand_like(image)).requires_grad_()
    distance = lpips(moved, image)
    assert distance.shape == (2,) and (distance > 0).all()
    distance.sum().backward()
    assert moved.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in lpips.parameters())


def test_lpips_is_fed_rgb_between_minus_one_and_one(trunks, monkeypatch):
    lpips, seen = LPIPS("alex"), []
    monkeypatch.setattr(lpips.net, "forward", lambda image, truth: seen.append(image) or torch.zeros(1))
    blue = torch.zeros(1, 3, 64, 64)
    blue[:, 0] = 1  # BGR
    lpips(blue, blue)
    assert seen[0][0, :, 0, 0].tolist() == [-1, -1, 1]


def test_lpips_of_a_training_in_bfloat16_has_features_in_it_compared_in_float32(trunks):
    """Where nothing is lowered it is what torchmetrics makes of the same trunk."""
    lpips, image = LPIPS("alex"), torch.rand(2, 3, 64, 64)
    truth, seen = (image + 0.1 * torch.rand_like(image)).clamp(0, 1), []
    for place in (lpips.trunk.net.slice1[0], lpips.net.lins[0]):
        place.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    reference = LearnedPerceptualImagePatchSimilarity(net_type="alex", reduction="sum", normalize=True)
    precise = lpips(image, truth)
    assert precise.sum().item() == pytest.approx(reference(image.flip(1), truth.flip(1)).item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = lpips(image, truth)
    assert seen == [torch.float32] * 3 + [torch.bfloat16] * 2 + [torch.float32]
    assert lowered.dtype == torch.float32 and not torch.equal(lowered, precise)
    torch.testing.assert_close(lowered, precise, rtol=0.03, atol=0)


@pytest.mark.parametrize("count", [1, CHUNK, 2 * CHUNK + 1])
def test_lpips_in_chunks_has_the_distances_and_gradients_of_the_undivided_batch(trunks, count):
    """Each distance has a weight of its own, so that the gradients of images cannot be exchanged."""
    lpips = LPIPS("alex")
    image, truth = torch.rand(2, count, 3, 64, 64)
    weights = 1 + torch.arange(float(count))
    found, expected = image.clone().requires_grad_(), image.clone().requires_grad_()
    distances, undivided = lpips(found, truth), lpips.distance(expected, truth)
    torch.testing.assert_close(distances, undivided, rtol=1e-4, atol=1e-6)
    (weights * distances).sum().backward()
    (weights * undivided).sum().backward()
    assert expected.grad.abs().sum() > 0
    assert (found.grad - expected.grad).norm() < 1e-3 * expected.grad.norm()


@pytest.mark.parametrize(
    "capability, device, is_last",
    [
        ("AVX512", "cpu", True),
        ("AVX2", "cpu", False),
        ("DEFAULT", "cpu", False),
        ("AVX2", "cuda", True),
    ],
)
def test_memory_format_follows_the_processor(monkeypatch, capability, device, is_last):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert memory_format(torch.device(device)) == (torch.channels_last if is_last else torch.contiguous_format)


def test_gradient_lives_outside_the_range(trunks):
    """A student that overshoots has to be pulled back: nothing is clipped before the loss."""
    bright = torch.full((1, 3, 64, 64), 1.5) + 0.1 * torch.rand(1, 3, 64, 64)
    for loss in (LPIPS("alex"), dssim_l1):
        image = bright.clone().requires_grad_()
        loss(image, torch.rand(1, 3, 64, 64)).sum().backward()
        assert (image.grad != 0).float().mean() > 0.99


def test_missing_trunk_is_named_with_its_place_and_the_way_without(tmp_path, monkeypatch):
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(ValueError, match=r"hub/checkpoints/vgg16-397923af\.pth: .*no network.*--tea_loss ssim"):
        perceptual("lpips")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_what_is_no_trunk_is_named_with_its_place(tmp_path, monkeypatch, content):
    place = tmp_path / "hub/checkpoints" / TRUNKS["vgg"]
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"vgg16-397923af\.pth: LPIPS needs these weights and they cannot be had"):
        LPIPS("vgg")


def test_the_trunk_of_the_loss_has_the_fastest_memory_format_and_the_same_distance(trunks, monkeypatch):
    lpips, image, truth = LPIPS("alex"), *torch.rand(2, 1, 3, 64, 64)
    plain = lpips(image, truth).item()
    monkeypatch.setattr("codes.evaluation.losses.LPIPS", lambda trunk: lpips)  # that of VGG takes half a gigabyte
    assert perceptual("lpips")(image, truth).item() == pytest.approx(plain, rel=1e-5)
    assert lpips.trunk.net.slice1[0].weight.is_contiguous(memory_format=memory_format(image.device))


def test_dssim_is_the_gaussian_ssim_of_scikit_image():
    """Pictures equal at the border: there the two differ, and versions of torchmetrics in whether it counts."""
    rng = np.random.default_rng(0)
    truth = rng.random((64, 64)).astype(np.float32)
    image = truth.copy()
    image[24:40, 24:40] = rng.random((16, 16))
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    full = structural_similarity(image, truth, data_range=1, full=True, **settings)[1]
    found = dssim(torch.from_numpy(image)[None, None], torch.from_numpy(truth)[None, None]).item()
    with_border, without = 1 - full.mean(), 1 - full[5:-5, 5:-5].mean()
    assert found == pytest.approx(with_border, abs=1e-3) or found == pytest.approx(without, abs=1e-3)


def test_losses_are_computed_in_float32_under_autocast():
    """In bfloat16 the variances that SSIM divides by are differences of equal digits: nothing would be left."""
    image = torch.linspace(0.2, 0.8, 64 * 64).view(1, 1, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert dssim(image, image).item() == pytest.approx(0, abs=1e-6)
        assert dssim(image, image + 0.02 * torch.rand_like(image)).dtype == torch.float32


def mantissa(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Round a float32 tensor to a mantissa of `bits`, half to even: 10 of TF32, 7 of bfloat16."""
    dropped = 23 - bits
    whole = x.contiguous().view(torch.int32)
    rounded = whole + (1 << dropped - 1) - 1 + (whole >> dropped & 1)
    return (rounded & -(1 << dropped)).view(torch.float32)


class Rounded(torch.autograd.Function):
    """Round what a convolution reads, and what its backward pass reads."""

    @staticmethod
    def forward(ctx, x, bits):
        ctx.bits = bits
        return mantissa(x, bits)

    @staticmethod
    def backward(ctx, gradient):
        return mantissa(gradient, ctx.bits), None


@pytest.fixture
def coarse(monkeypatch):
    """Emulate a GPU: a convolution that is given to cuDNN rounds its inputs as TF32 or bfloat16 does."""
    conv2d = F.conv2d

    def rounding(bits: int) -> None:
        def convolve(x, weight, *args, **kwargs):
            if x.is_contiguous() and kwargs.get("groups", 1) == x.shape[1]:  # the native depthwise kernel
                return conv2d(x, weight, *args, **kwargs)
            return conv2d(Rounded.apply(x, bits), Rounded.apply(weight, bits), *args, **kwargs)

        monkeypatch.setattr(F, "conv2d", convolve)

    yield rounding


def pictures(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a smooth picture, channels last as networks return it, and the same with noise of 0.2 to 2 %."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 8, 8, generator=generator)
    truth = F.interpolate(small, (64, 64), mode="bicubic").clamp(0, 1).contiguous(memory_format=torch.channels_last)
    return truth + 0.002 * (seed + 1) * torch.randn(truth.shape, generator=generator), truth


@pytest.mark.parametrize("bits", [10, 7])
def test_dssim_does_not_depend_on_the_precision_of_convolutions(coarse, bits):
    """Loss and gradient within 1 % on ten pictures; a convolution in TF32 changes them several times over."""

    def value(image, truth):
        image = image.clone().requires_grad_()
        loss = dssim(image, truth)
        loss.backward()
        return loss.item(), image.grad

    exact = [value(*pictures(seed)) for seed in range(10)]
    coarse(bits)
    for seed, (loss, gradient) in enumerate(exact):
        found, slope = value(*pictures(seed))
        assert found == pytest.approx(loss, rel=0.01)
        assert (slope - gradient).norm() < 0.01 * gradient.norm()


@needs_cuda_build
def test_dssim_on_a_gpu_is_not_given_to_cudnn(monkeypatch):
    """Which may compute in TF32; the kernel that is chosen for channels-last pictures would be cuDNN's."""
    chosen, conv2d = [], F.conv2d

    def convolve(x, weight, groups):
        chosen.append(torch._C._select_conv_backend(x, weight, None, (1, 1), (0, 0), (1, 1), False, (0, 0), groups))
        return conv2d(x, weight, groups=groups)

    monkeypatch.setattr(F, "conv2d", convolve)
    with FakeTensorMode():
        image = torch.rand(2, 3, 64, 64, device="cuda").contiguous(memory_format=torch.channels_last)
        dssim(image, image)
    assert [str(backend) for backend in chosen] == 2 * ["_ConvBackend.CudaDepthwise2d"]


def test_variances_are_never_negative():
    """Rounding makes differences of squares negative on flat pictures, and 1 - SSIM then exceeds its range."""
    flat = torch.full((1, 3, 64, 64), 0.7)
    assert 0 <= dssim(flat, flat).item() < 1e-6


def test_constants_of_ssim_are_those_of_wang_et_al():
    """C1 = 0.01^2 where flat pictures differ in brightness, C2 = 0.03^2 where weak patterns are opposite."""
    dark, brighter = torch.zeros(1, 1, 16, 16), torch.full((1, 1, 16, 16), 0.02)
    assert 1 - dssim(dark, brighter).item() == pytest.approx(0.01**2 / (0.02**2 + 0.01**2), rel=1e-4)
    pattern = 0.01 * ((torch.arange(16).view(-1, 1) + torch.arange(16)) % 2 * 2 - 1).float().expand(1, 1, 16, 16)
    variance, c2 = 0.01**2, 0.03**2
    expected = (c2 - 2 * variance) / (c2 + 2 * variance)
    assert 1 - dssim(0.5 + pattern, 0.5 - pattern).item() == pytest.approx(expected, abs=2e-3)


def test_a_point_of_the_curves_is_the_mean_since_the_last_reading(monkeypatch):
    drawn = {}
    meter = LossMeter(SimpleNamespace(scalars=lambda step, values: drawn.update(values, step=step)), lambda: "kept")
    for step, loss in enumerate((1.0, 2.0, 6.0), 1):
        meter.add(step, {"reblur": torch.tensor(loss)}, ["scene/000001"], 1e-3)
    monkeypatch.setattr(time, "perf_counter", lambda: meter.begun + 6)
    assert meter.read() == {"reblur": 3.0} and meter.read() == {}
    assert (drawn["train/reblur"], drawn["step"], drawn["speed/seconds a step"]) == (3.0, 3, 2.0)
