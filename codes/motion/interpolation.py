"""Interpolation of colour frames one by one (OpenCV): optical flow both ways, and a blend weighted by where both agree.

A pixel of an intermediate frame is looked up in both neighbours along the flow. Where one of them does not show it,
because it is occluded there or outside, the other alone is used.
Source: the intermediate flow follows Jiang et al., "Super SloMo", CVPR 2018, with its linear approximation replaced by
a search.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from codes.errors import InputError
from codes.motion.flow import Flow, dis_flow, pixel_grid, raft_flow, sample

Interpolator = Callable[[np.ndarray, np.ndarray, Sequence[float]], Iterator[np.ndarray]]
INTERPOLATORS = ("dis", "raft", "none")


@cache
def interpolator(name: str, *, weights: str | Path = "", device: str = "") -> Interpolator:
    """Return a function (before, after, times) that yields the frame [H,W,3] uint8 at each time, 0 < time < 1.

    name: dis or raft; weights and device are RAFT's, as in `raft_flow`.
    """
    if name == "dis":
        return lambda before, after, times: interpolate_frames(before, after, times, dis_flow)
    if name == "raft":
        flow = raft_flow(weights, device)
        return lambda before, after, times: interpolate_frames(before, after, times, flow)
    raise InputError(f"interpolator {name!r} is unknown; dis and raft are accepted")


def interpolate_frames(
    before: np.ndarray, after: np.ndarray, times: Sequence[float], flow: Flow
) -> Iterator[np.ndarray]:
    """Yield frames, [H,W,3] uint8 or [H,W] float32 as the two are, at times between them (0: `before`, 1: `after`)."""
    if not times:
        return
    height, width = before.shape[:2]
    grid, small = pixel_grid(height, width), pixel_grid((height + 1) // 2, (width + 1) // 2)
    scale = np.float32((width / small.shape[1], height / small.shape[0]))
    # Flow is smooth: it is blended at half size, and the frames are looked up at full size.
    forward, backward = (
        cv2.resize(motion, small.shape[1::-1], interpolation=cv2.INTER_AREA) / scale
        for motion in (flow(before, after), flow(after, before))
    )
    confidence_forward = _consistency(forward, backward, small)
    confidence_backward = _consistency(backward, forward, small)
    for time in times:
        onward, weight_onward = _intermediate_flow(forward, confidence_forward, time, small)
        back, weight_back = _intermediate_flow(backward, confidence_backward, 1 - time, small)
        motion = onward - (weight_back / (weight_onward + weight_back))[..., None] * (onward + back)
        visible_before = (1 - time) * _visibility(forward, motion, small - time * motion)
        visible_after = time * _visibility(backward, -motion, small + (1 - time) * motion)
        motion = cv2.resize(motion, (width, height)) * scale
        yield cv2.blendLinear(
            sample(before, grid - np.float32(time) * motion),
            sample(after, grid + np.float32(1 - time) * motion),
            cv2.resize(visible_before, (width, height)),
            cv2.resize(visible_after, (width, height)),
        )


def _consistency(forward: np.ndarray, backward: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return the forward-backward consistency of each pixel's flow, in [0,1]."""
    return _similarity(forward, -sample(backward, grid + forward))


def _intermediate_flow(
    flow: np.ndarray, confidence: np.ndarray, time: float, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the flow of the pixel that passes each position at `time`, and its weight."""
    start = grid - time * flow
    start = grid - time * sample(flow, start)  # one fixed-point step towards start + time * flow(start) = position
    found = sample(flow, start)
    return found, sample(confidence, start) * _similarity(time * found, grid - start) + np.float32(0.01)


def _visibility(flow: np.ndarray, motion: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the weight of a frame at `positions`: small where what moves so is occluded in it, or outside."""
    height, width = flow.shape[:2]
    inside = cv2.inRange(positions, (-0.5, -0.5), (width - 0.5, height - 0.5)) > 0
    return _similarity(sample(flow, positions), motion) * inside + np.float32(0.05)


def _similarity(flow: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Compare two flow fields at half size: 1 where they are equal, 0.6 at a difference of one pixel."""
    difference = flow - other
    return np.exp(-0.5 * np.einsum("hwc,hwc->hw", difference, difference))


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Return whether two neighbouring frames [H,W,3] uint8 belong to different scenes.

    Thumbnails are compared after motion compensation: in footage of 24 Hz neighbours correlate over 0.75, across cuts
    under 0.35. Motion too fast to be compensated counts as a cut: nothing could be interpolated there.
    """
    height, width = before.shape[:2]
    every = max(1, min(height, width) // 80)
    if np.abs(before[::every, ::every].astype(np.int16) - after[::every, ::every]).mean() < 10:
        return False
    before, after = (_thumbnail(frame, width // every, height // every) for frame in (before, after))
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(before, after, None)
    after = sample(after, pixel_grid(*after.shape) + flow).astype(np.float32)
    before, after = before - before.mean(), after - after.mean()
    spread = np.sqrt((before**2).sum() * (after**2).sum())
    return bool((before * after).sum() < 0.5 * spread) or spread == 0


def _thumbnail(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    # Averaging blocks of an integer number of pixels is several times as fast as of fractions.
    every = frame.shape[1] // width
    divisible = frame[: height * every, : width * every]
    return cv2.cvtColor(cv2.resize(divisible, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
