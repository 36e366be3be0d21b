"""Re-simulation: scenes with exact truth, from the restored sequences of recordings that have no sharp truth.

A label computed from the input's own spikes carries the input's noise, and the student learns to reproduce it. New
spikes are therefore simulated from the restored sequence, whose truth is exact and whose phases and noise are new.
Image statistics recur across scales, so a restored picture reduced by 2 is as sharp as a camera's.
Source of the idea of scales: Shocher et al., "Zero-shot super-resolution using deep internal learning", CVPR 2018.
"""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from codes.data.images import write_image
from codes.data.spikes import SEQUENCE_STEP, UPSCALE, Exposure, write_spikes
from codes.distillation.teachers import ClosedFormTeacher
from codes.motion.flow import dis_flow
from codes.motion.interpolation import interpolate_frames
from codes.motion.super_resolution import MEAN_STEP
from codes.simulation.camera import add_noise, integrate, sense
from codes.simulation.demo_scenes import blurry

REDUCTION = 2
MAX_SPEED = 2.0  # equal to the reduction: motion in pixels is at most what it was


def restored_scene(teacher: ClosedFormTeacher, blur: Tensor, spikes: Tensor) -> np.ndarray:
    """Restore a picture [1,3,H,W] in [0,1] at every spike frame of [1,T,h,w], reduced by 2: [T',H/2,W/2,3] uint8 BGR.

    The teacher restores every eighth spike frame and the frames between are interpolated, so a few spike frames at
    either end have none: T' <= T.
    """
    side = REDUCTION * UPSCALE
    times = list(range(Exposure().margin % MEAN_STEP, spikes.shape[1], MEAN_STEP))
    pictures = teacher(blur, spikes, times)[0].mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    height, width = (length // side * UPSCALE for length in pictures.shape[1:3])
    pictures = pictures[:, : REDUCTION * height, : REDUCTION * width]
    small = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in pictures]
    frames, fractions = small[:1], [number / MEAN_STEP for number in range(1, MEAN_STEP)]
    for before, after in pairwise(small):
        frames += [*interpolate_frames(before, after, fractions, dis_flow), after]
    return np.stack(frames)


def frame_order(speed: float, exposure: Exposure, frames: int) -> np.ndarray:
    """Return the frame of a scene at each spike frame when it moves at `speed`, back and forth where it is too short.

    The middle of the scene is at the middle of the exposure.
    """
    last = frames - 1
    position = last / 2 + speed * (np.arange(exposure.total) - exposure.center)
    return np.rint(last - np.abs(position % (2 * last) - last)).astype(int)


def write_sample(
    scene: np.ndarray, files: dict[str | int, Path], thresholds: tuple[float, ...], rng: np.random.Generator
) -> None:
    """Write blurry picture, sharp pictures and spikes of a scene [T,H,W,3] uint8 BGR, at a random speed and V_th."""
    exposure = Exposure()
    frames = scene[frame_order(rng.uniform(1, MAX_SPEED), exposure, len(scene))]
    intensity = np.stack([sense(frame) for frame in frames])
    threshold = float(np.exp(rng.uniform(*np.log(thresholds))))
    spikes = integrate(intensity, threshold=threshold, first=rng.random(intensity.shape[1:], np.float32))
    for t in exposure.centers(SEQUENCE_STEP):
        write_image(files[t], frames[t])
    write_image(files["sharp"], frames[exposure.center])
    write_image(files["blur"], blurry(frames[exposure.margin : -exposure.margin]))
    write_spikes(files["spikes"], add_noise(spikes, rng))
