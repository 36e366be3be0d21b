"""Scenes with a known truth out of recordings that have none: what the teacher restored, to be filmed once more.

A student that is shown the spikes that its label was made of learns the label's faults. Of a scene that was filmed
again the truth is exact, whatever was restored, and its spikes have phases and noise of their own. Images look alike at
all scales: shrunk, a restored picture is as sharp as one of a camera (the idea of Shocher et al., "Zero-shot
super-resolution using deep internal learning", CVPR 2018).
"""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from codes.data.spikes import UPSCALE, Exposure
from codes.distillation.teachers import OWN_STEP, ClosedFormTeacher
from codes.motion.interpolation import between, dis_flow

NOTE = "refilmed.json"  # in a folder that scripts/resimulate.py made
SHRINK = 2
FASTEST = 2.0  # as often as they are shrunk: motion is at most as many pixels as it was


def is_resimulated(folder: str | Path) -> bool:
    """Say whether scripts/resimulate.py made a data set: then its sharp pictures are no truth of a camera."""
    return Path(folder, NOTE).is_file()


def restored(teacher: ClosedFormTeacher, blur: Tensor, spikes: Tensor) -> np.ndarray:
    """Restore a picture [1,3,H,W] at the ticks of its spikes [1,T,h,w], shrunk: [T',H/2,W/2,3] uint8 BGR.

    The instants are those that the teacher looks at anyway, so a few ticks at either end are left out.
    """
    side = SHRINK * UPSCALE
    instants = list(range(Exposure().margin % OWN_STEP, spikes.shape[1], OWN_STEP))
    pictures = teacher(blur, spikes, instants)[0].mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    height, width = (length // side * UPSCALE for length in pictures.shape[1:3])
    pictures = pictures[:, : SHRINK * height, : SHRINK * width]
    small = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in pictures]
    frames, times = small[:1], [number / OWN_STEP for number in range(1, OWN_STEP)]
    for before, after in pairwise(small):
        frames += [*between(before, after, times, dis_flow), after]
    return np.stack(frames)


def played(speed: float, exposure: Exposure, frames: int) -> np.ndarray:
    """Return which frame of a scene is shown at each tick of a film of it, back and forth where it is too short."""
    last = frames - 1
    place = last / 2 + speed * (np.arange(exposure.total) - exposure.center)
    return np.rint(last - np.abs(place % (2 * last) - last)).astype(int)
