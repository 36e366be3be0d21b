"""Time each recipe against the published one, in turn: training steps of BSN and LDN, and restoring a sequence.

    python scripts/dev/benchmark.py recipes

A step of LDN uses cached labels and SSIM; a sequence has thirteen target times. Spikes are unpacked on the device.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from codes.cli import option
from codes.data.spikes import UPSCALE, Exposure
from codes.distillation.student_input import closed_form_input
from codes.engine import distributed
from codes.evaluation.losses import mse, perceptual
from codes.memory_format import memory_format
from codes.motion.super_resolution import MEAN_STEP
from codes.networks import BSN, LDN
from codes.physics.intensity import estimate_intensity
from codes.physics.sdm import match_picture_scale, tfp, windows
from codes.recipe import RECIPES
from codes.reporting.machine import seconds_in_turn, spread
from codes.restoration.reconstruction import Student
from codes.restoration.refinement import ITERATIONS, restore
from scripts.dev.benchmarks.common import FIRING_RATE, print_table

EXPOSURE, SHORT, LENGTH = Exposure(), 9, 21
CENTERS = EXPOSURE.centers(24)
Calls = dict[tuple[str, str], Callable[[], None]]


@dataclass(frozen=True)
class Options:
    size: tuple[int, ...] = option((720, 1280), "height and width of the picture of a sequence")
    roi_size: int = option(256, "side of the crops of a step")
    bs: int = option(1, "batch size")
    repeats: int = option(7, "runs of each, in turn; the median is reported")
    device: str = option("", "device [cuda if available, else cpu]")
    json: bool = option(False, "print one JSON object a line")


def main(o: Options) -> None:
    device = distributed.initialize(o.device)
    ldn = LDN(LENGTH).to(device, memory_format=memory_format(device))
    crops = random_sample(o.bs, o.roi_size, o.roi_size, device)
    calls = bsn_steps(crops[1], device) | ldn_steps(ldn, *crops)
    calls |= sequences(ldn, *random_sample(1, *o.size, device))
    seconds = seconds_in_turn(calls, repeats=o.repeats, device=device)
    first: dict[str, list[float]] = {}
    rows = []
    for (what, name), found in seconds.items():
        ratios = [one / other for one, other in zip(found, first.setdefault(what, found), strict=True)]
        row = {"measured": what, "recipe": name, "ms": 1e3 * median(found), "of the first": median(ratios)}
        rows.append(row | {"spread": spread(ratios)})
    print("sequence of {}x{}, {} crop(s) of {}, {}".format(*o.size, o.bs, o.roi_size, device), file=sys.stderr)
    print_table(rows, as_json=o.json)


def random_sample(batch: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return random pictures [B,3,H,W] and spikes [B,T,h,w]."""
    shape = (batch, EXPOSURE.total, height // UPSCALE, width // UPSCALE)
    spikes = (torch.rand(shape, device=device) < FIRING_RATE).to(torch.uint8)
    return torch.rand(batch, 3, height, width, device=device), spikes


def bsn_steps(spikes: Tensor, device: torch.device) -> Calls:
    """Return a training step of BSN for each kind of spike input."""
    bsn = BSN().to(device, memory_format=memory_format(device))

    def loss(spike_input: str) -> Tensor:
        noisy = tfp(estimate_intensity(spikes, spike_input), EXPOSURE.center, SHORT)
        return mse(bsn(noisy), noisy)

    kinds = ("counts", "isi")
    return {("step of BSN", kind): step(bsn, lambda kind=kind: loss(kind)) for kind in kinds}


def ldn_steps(ldn: LDN, blur: Tensor, spikes: Tensor) -> Calls:
    """Return a training step of LDN for each recipe, on random labels."""
    labels = torch.rand(len(blur) * len(CENTERS), *blur.shape[1:], device=blur.device)
    distance = perceptual("ssim")

    def loss(name: str) -> Tensor:
        spike_input = RECIPES[name]["spike_input"]
        estimated = estimate_intensity(spikes, spike_input)
        if RECIPES[name]["input"] == "mfsr":
            scaled = match_picture_scale(estimated, blur, EXPOSURE)
            return distance(ldn(labels, windows(scaled, CENTERS, LENGTH)), labels)
        if spike_input == "counts":
            return distance(ldn(blur, windows(estimated, CENTERS, LENGTH)), labels)
        given = closed_form_input(blur, estimated, CENTERS, length=LENGTH, short=SHORT, exposure=EXPOSURE)
        return distance(ldn(*given), labels)

    return {("step of LDN", name): step(ldn, lambda name=name: loss(name)) for name in RECIPES}


def sequences(ldn: LDN, blur: Tensor, spikes: Tensor) -> Calls:
    """Return the restoration of all target times of an exposure, for each recipe."""
    times = EXPOSURE.evenly(MEAN_STEP)

    @torch.inference_mode()
    def run(name: str, iterations: int) -> None:
        student = Student(ldn, RECIPES[name], short=SHORT)
        list(restore(student, blur, spikes, times, exposure=EXPOSURE, iterations=iterations))

    calls: Calls = {("sequence", name): lambda name=name: run(name, 1) for name in RECIPES}
    calls["sequence", f"resim, {ITERATIONS} iterations"] = lambda: run("resim", ITERATIONS)
    return calls


def step(net: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """Return an optimiser step that minimises `loss`."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)

    def call() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return call
