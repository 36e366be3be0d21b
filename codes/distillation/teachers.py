"""The teachers of the student: what the closed-form model makes of a blurry picture and light at an instant.

`NetworkTeacher` is the published one, BSN and EDSR frozen (SpikeReveal, arXiv 2403.09486, section 4.2);
`ClosedFormTeacher` takes light from the time between spikes and needs no network.
"""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from codes.data.spikes import Exposure
from codes.errors import InputError
from codes.motion.spike_labelling import motion_compensated_intensity
from codes.motion.super_resolution import STEP, WindowMeans, super_resolve
from codes.physics.intensity import LARGEST_RATIO, apply_ratios, estimate_intensity, intensity_ratios, upsample_bicubic
from codes.physics.sdm import sdm, tfp

OWN_STEP = 8  # spike frames at most between the instants whose mean is the light of the exposure
AT_ONCE = 2**19  # spike pixels that are fused at the same time: four instants of 1080p, each pixel takes 5 KB
LABELS = 4  # raised when the same streams would get other labels


class NetworkTeacher(nn.Module):
    """Restore a blurry picture at several instants: clip(B * SR(BSN(TFP_short)) / SR(TFP_long), 0, 1).

    `center_weight` in [0,1] is the share of the measured light in the denoised: BSN throws away the pixel itself, and
    while its training is short that pixel knows more than it does. Published: 0. Source of the idea: Laine et al. 2019.
    """

    def __init__(
        self,
        bsn: nn.Module,
        edsr: nn.Module,
        *,
        short: int = 9,
        center_weight: float = 0.0,
        spike_input: str = "counts",
        exposure: Exposure = Exposure(),  # noqa: B008
    ):
        super().__init__()
        self.bsn, self.edsr, self.short, self.exposure = bsn, edsr, short, exposure
        if not 0 <= center_weight <= 1:
            raise InputError(f"--center_weight {center_weight:g}: a share between 0 (published) and 1 (BSN left out)")
        self.center_weight, self.spike_input = center_weight, spike_input
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, blur: Tensor, spikes: Tensor, centers: list[int]) -> Tensor:
        """blur [B,3,H,W] in [0,1], spikes [B,T,h,w], N instants in spike frames -> [B,N,3,H,W] in [0,1]."""
        return self.sharpen(blur, self.ratios(spikes, centers))

    @torch.no_grad()
    def ratios(self, spikes: Tensor, centers: list[int]) -> Tensor:
        """Return light at each instant over light of the exposure, [B,N,1,H,W], 0 where the exposure is black."""
        exposure, spikes = self.exposure, estimate_intensity(spikes, self.spike_input)
        long = self.enlarge(tfp(spikes, exposure.center, exposure.length))
        one = torch.ones_like(long)
        ratios = [sdm(one, long, self.enlarge(self.denoise(tfp(spikes, center, self.short)))) for center in centers]
        return torch.stack(ratios, 1).clamp(max=LARGEST_RATIO)

    def denoise(self, light: Tensor) -> Tensor:
        return torch.lerp(self.bsn(light).float().clamp(0, 1), light, self.center_weight)

    def enlarge(self, light: Tensor) -> Tensor:
        return self.edsr(light).float().clamp(0, 1)

    @staticmethod
    def sharpen(blur: Tensor, ratios: Tensor) -> Tensor:
        """Apply ratios [B,N,1,H,W] to a blurry picture [B,3,H,W]: [B,N,3,H,W], clipped to [0,1]."""
        return (blur.unsqueeze(1) * ratios).clamp(0, 1)

    def key(self) -> dict[str, object]:
        """Say what its labels depend on."""
        weights = hashlib.sha256()
        for tensor in self.state_dict().values():
            weights.update(tensor.detach().cpu().numpy().tobytes())
        parts = {"weights": weights.hexdigest(), "short": self.short, "center_weight": self.center_weight}
        return parts if self.spike_input == "counts" else parts | {"spike_input": self.spike_input}


class ClosedFormTeacher(nn.Module):
    """Restore a blurry picture at several instants from firing rates, without a network: `sdm.sharpen`, clipped.

    `fused`: enlarged by `fusion.fuse`, on the CPU, a good deal better than bicubic and slower; light over the exposure
    is then the mean of such pictures, so that their common errors cancel. Else light is averaged over `short` ticks.
    """

    def __init__(self, *, short: int = 9, fused: bool = True, exposure: Exposure = Exposure()):  # noqa: B008
        super().__init__()
        self.short, self.fused, self.exposure = short, fused, exposure

    @torch.no_grad()
    def forward(self, blur: Tensor, spikes: Tensor, centers: list[int]) -> Tensor:
        """blur [B,3,H,W] in [0,1], spikes [B,T,h,w], N instants in spike frames -> [B,N,3,H,W] in [0,1]."""
        return self.sharpen(blur, self.ratios(spikes, centers))

    @torch.no_grad()
    def ratios(self, spikes: Tensor, centers: list[int]) -> Tensor:
        """Return light at each instant over light of the exposure, and last that itself: [B,N+1,1,H,W]."""
        light, mean = self.light(spikes)
        return intensity_ratios(torch.stack([light(center) for center in centers], 1), mean)

    @torch.no_grad()
    def light(self, spikes: Tensor) -> tuple[Callable[[int], Tensor], Tensor]:
        """Return a function from an instant to its light [B,1,H,W], and light over the exposure, in one scale."""
        rates = self.rates(spikes)
        if self.fused:
            return super_resolved_intensity(rates, self.exposure)
        mean = tfp(rates, self.exposure.center, self.exposure.length)
        return lambda instant: upsample_bicubic(tfp(rates, instant, self.short)), upsample_bicubic(mean)

    def rates(self, spikes: Tensor) -> Tensor:
        """Return light at every tick, [B,T,h,w]: as motion tells, or each pixel alone."""
        if not self.fused:
            return estimate_intensity(spikes, "rates")
        return torch.stack([motion_compensated_intensity(one) for one in spikes.cpu()]).to(spikes.device)

    @staticmethod
    def sharpen(blur: Tensor, ratios: Tensor) -> Tensor:
        """Apply ratios and mean [B,N+1,1,H,W] to a blurry picture [B,3,H,W]: [B,N,3,H,W], clipped to [0,1]."""
        return apply_ratios(blur, ratios)

    def key(self) -> dict[str, object]:
        """Say what its labels depend on."""
        return {"teacher": "fused"} if self.fused else {"teacher": "consistent", "short": self.short}


def super_resolved_intensity(
    rates: Tensor, exposure: Exposure, *, step: int = STEP, wanted: Iterable[int] = ()
) -> tuple[Callable[[int], Tensor], Tensor]:
    """Fuse light [B,T,h,w]: return a function from an instant to it, [B,1,4h,4w], and its mean over the exposure.

    `step`: ticks between the samples that each instant is made of. `wanted`: instants that will be asked for; what is
    fused now is fused side by side.
    """
    mean = tfp(rates, exposure.center, exposure.length)
    # Flow wants light in 0..1, whatever the threshold was.
    scale = torch.stack([one.quantile(0.999) for one in mean]).clamp(min=1e-6).view(-1, 1, 1, 1)
    means = [WindowMeans(stream) for stream in (rates / scale).cpu().numpy()]

    @cache
    def fused(instant: int) -> Tensor:
        fine = np.stack([super_resolve(mean, instant, step=step) for mean in means])
        return torch.from_numpy(fine).unsqueeze(1).to(rates.device)

    inside = exposure.evenly(OWN_STEP)
    at_once = min(torch.get_num_threads(), max(AT_ONCE // mean[0].numel(), 1))
    with ThreadPoolExecutor(at_once) as pool:  # OpenCV and NumPy let other threads run meanwhile
        list(pool.map(fused, {*inside, *wanted}))
    return fused, torch.stack([fused(instant) for instant in inside]).mean(0)
