"""Teachers of LDN: the closed form on the outputs of BSN and EDSR, as published, or on ISI intensity without a network.

`NetworkTeacher` is the published one, with BSN and EDSR frozen (SpikeReveal, arXiv 2403.09486, section 4.2);
`ClosedFormTeacher` uses inter-spike intervals and needs no network.
"""

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from codes.data.spikes import Exposure
from codes.errors import InputError
from codes.motion.compensation import intensity_along_motion
from codes.motion.super_resolution import super_resolved_intensity
from codes.motion.warping import Flows, dis_flows
from codes.physics.intensity import estimate_intensity, isi_intensity
from codes.physics.sdm import LARGEST_RATIO, apply_ratios, bicubic_intensity, intensity_ratios, sdm, tfp


class NetworkTeacher(nn.Module):
    """Restore a blurry picture at several target times: clip(B * SR(BSN(TFP_short)) / SR(TFP_long), 0, 1).

    `center_weight` in [0,1] is the weight of the measured intensity beside BSN's: BSN is blind to the pixel itself,
    which is the better estimate while its training is short. Published: 0. Source of the idea: Laine et al. 2019.
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
            raise InputError(f"--center_weight {center_weight:g}: 0 (published) to 1 (without BSN) is accepted")
        self.center_weight, self.spike_input = center_weight, spike_input
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, blur: Tensor, spikes: Tensor, centers: list[int]) -> Tensor:
        """blur [B,3,H,W] in [0,1], spikes [B,T,h,w], N target times in spike frames -> [B,N,3,H,W] in [0,1]."""
        return self.sharpen(blur, self.ratios(spikes, centers))

    @torch.no_grad()
    def ratios(self, spikes: Tensor, centers: list[int]) -> Tensor:
        """Return intensity at each time over that of the exposure, [B,N,1,H,W], 0 where the exposure is black."""
        fine, mean = self.fine_intensity(estimate_intensity(spikes, self.spike_input), centers, exposure=self.exposure)
        ratios = [sdm(torch.ones_like(mean), mean, at_time) for at_time in fine]
        return torch.stack(ratios, 1).clamp(max=LARGEST_RATIO)

    def fine_intensity(
        self, intensity: Tensor, times: Sequence[int], *, exposure: Exposure
    ) -> tuple[Iterator[Tensor], Tensor]:
        """Denoise and enlarge intensity [B,T,h,w]: [B,1,4h,4w] at each time, one after the other, and its mean."""
        mean = self.enlarge(tfp(intensity, exposure.center, exposure.length))
        return (self.enlarge(self.denoise(tfp(intensity, time, self.short))) for time in times), mean

    def denoise(self, intensity: Tensor) -> Tensor:
        """Apply BSN to a short TFP [B,1,h,w]."""
        return torch.lerp(self.bsn(intensity).to(intensity.dtype).clamp(0, 1), intensity, self.center_weight)

    def enlarge(self, intensity: Tensor) -> Tensor:
        """Apply EDSR to [B,1,h,w]: [B,1,4h,4w]."""
        return self.edsr(intensity).to(intensity.dtype).clamp(0, 1)

    @staticmethod
    def sharpen(blur: Tensor, ratios: Tensor) -> Tensor:
        """Apply ratios [B,N,1,H,W] to a blurry picture [B,3,H,W]: [B,N,3,H,W], clipped to [0,1]."""
        return (blur.unsqueeze(1) * ratios).clamp(0, 1)

    def key(self) -> dict[str, object]:
        """Return what its labels depend on."""
        weights = hashlib.sha256()
        for tensor in self.state_dict().values():
            weights.update(tensor.detach().cpu().numpy().tobytes())
        key = {"weights": weights.hexdigest(), "short": self.short, "center_weight": self.center_weight}
        return key if self.spike_input == "counts" else key | {"spike_input": self.spike_input}


class ClosedFormTeacher(nn.Module):
    """Restore a blurry picture at several target times from inter-spike intervals, without a network.

    `mfsr`: intensity, compensated for motion where spikes are few, is super-resolved from several frames, aligned by
    `flow`, which is more accurate than averages over `short` spike frames, enlarged bicubic, and slower.
    """

    def __init__(
        self,
        *,
        short: int = 9,
        mfsr: bool = True,
        exposure: Exposure = Exposure(),  # noqa: B008
        flow: Flows = dis_flows,
    ):
        super().__init__()
        self.short, self.mfsr, self.exposure, self.flow = short, mfsr, exposure, flow

    @torch.no_grad()
    def forward(self, blur: Tensor, spikes: Tensor, centers: list[int]) -> Tensor:
        """blur [B,3,H,W] in [0,1], spikes [B,T,h,w], N target times in spike frames -> [B,N,3,H,W] in [0,1]."""
        return self.sharpen(blur, self.ratios(spikes, centers))

    @torch.no_grad()
    def ratios(self, spikes: Tensor, centers: list[int]) -> Tensor:
        """Return intensity at each time over its mean over the exposure, and last that mean: [B,N+1,1,H,W]."""
        if not self.mfsr:
            fine, mean = bicubic_intensity(isi_intensity(spikes), centers, exposure=self.exposure, short=self.short)
        else:
            intensity = intensity_along_motion(spikes, measured=self.exposure.frames, flow=self.flow)
            fine, mean = super_resolved_intensity(intensity, centers, exposure=self.exposure, flow=self.flow)
            fine = torch.stack(list(fine), 1)
        return intensity_ratios(fine, mean)

    @staticmethod
    def sharpen(blur: Tensor, ratios: Tensor) -> Tensor:
        """Apply ratios and mean [B,N+1,1,H,W] to a blurry picture [B,3,H,W]: [B,N,3,H,W], clipped to [0,1]."""
        return apply_ratios(blur, ratios)

    def key(self) -> dict[str, object]:
        """Return what its labels depend on."""
        if not self.mfsr:
            return {"teacher": "sdm", "short": self.short}
        return {"teacher": "mfsr"} | ({} if self.flow is dis_flows else {"flow": "raft"})
