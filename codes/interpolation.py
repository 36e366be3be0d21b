"""Frames between two frames: optical flow both ways, and a blend that trusts each way where it agrees with the other.

A pixel of a frame in between is looked up in both neighbours along the flow; where one of them does not show it (it is
covered there, or outside), the other alone is taken.
Source: the intermediate flow follows Jiang et al., "Super SloMo", CVPR 2018, with its linear approximation replaced by
a search; DIS: Kroeger et al., ECCV 2016; RAFT: Teed and Deng, ECCV 2020.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from codes.errors import InputError

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]  # two pictures [H,W,3] uint8 -> [H,W,2] float32, pixels
Between = Callable[[np.ndarray, np.ndarray, list[float]], Iterator[np.ndarray]]
INTERPOLATORS = ("dis", "raft", "none")


def interpolator(name: str, *, weights: str | Path = "", device: str = "") -> Between:
    """Return `between(before, after, times)`, which yields the frame [H,W,3] uint8 at each time, 0 < time < 1.

    name: dis or raft; weights and device are RAFT's, as in `raft_flow`.
    """
    if name == "dis":
        return lambda before, after, times: between(before, after, times, dis_flow)
    if name == "raft":
        flow = raft_flow(weights, device)
        return lambda before, after, times: between(before, after, times, flow)
    raise InputError(f"interpolator {name!r}: no way to make frames; dis and raft are")


def dis_flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Find where each pixel goes by OpenCV's dense inverse search."""
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return search.calc(cv2.cvtColor(before, cv2.COLOR_BGR2GRAY), cv2.cvtColor(after, cv2.COLOR_BGR2GRAY), None)


def between(before: np.ndarray, after: np.ndarray, times: list[float], flow: Flow) -> Iterator[np.ndarray]:
    """Yield the frames [H,W,3] uint8 at the given times between two frames (0 is `before`, 1 is `after`)."""
    if not times:
        return
    forward, backward = flow(before, after), flow(after, before)
    grid = _grid(*before.shape[:2])
    here, there = _with_trust(forward, backward, grid), _with_trust(backward, forward, grid)
    for time in times:
        first, trust_first = _look_up(before, here, time, grid)
        second, trust_second = _look_up(after, there, 1 - time, grid)
        weight_first, weight_second = (1 - time) * trust_first, time * trust_second
        share = (weight_second / (weight_first + weight_second))[..., None]
        yield np.rint(first + share * (second - first)).astype(np.uint8)


def _with_trust(forward: np.ndarray, backward: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Put how far a pixel can be trusted, in (0,1], behind its flow: it must come back to where it started."""
    error = np.linalg.norm(forward + _sample(backward, grid + forward), axis=2)
    return np.dstack((forward, np.exp(-0.5 * error**2)))


def _look_up(frame: np.ndarray, flow: np.ndarray, time: float, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the pixels of `frame` that arrive at each place at `time`, and how far they can be trusted."""
    start = grid - time * flow[..., :2]
    for _ in range(2):  # solves start + time * flow(start) = here
        found = _sample(flow, start)
        start = grid - time * found[..., :2]
    found = _sample(flow, start)
    missed = np.linalg.norm(start + time * found[..., :2] - grid, axis=2)
    height, width = frame.shape[:2]
    inside = (start >= -0.5).all(2) & (start <= (width - 0.5, height - 0.5)).all(2)
    trust = np.where(inside, found[..., 2] * np.exp(-0.5 * missed**2), 0)
    return _sample(frame, start).astype(np.float32), trust + np.float32(1e-3)


def _grid(height: int, width: int) -> np.ndarray:
    return np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))


def _sample(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    return cv2.remap(image, places.astype(np.float32), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Say whether two neighbouring frames [H,W,3] uint8 belong to different scenes.

    Thumbnails are compared after the motion between them is undone: on film even four frames apart they correlate over
    0.5, across cuts under 0.35.
    """
    height, width = before.shape[:2]
    every = max(1, min(height, width) // 80)
    if np.abs(before[::every, ::every].astype(np.int16) - after[::every, ::every]).mean() < 10:
        return False
    size = max(16, width // every), max(16, height // every)
    before, after = (
        cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
        for frame in (before, after)
    )
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(before, after, None)
    after = _sample(after, _grid(*after.shape) + flow).astype(np.float32)
    before, after = before - before.mean(), after - after.mean()
    spread = np.sqrt((before**2).sum() * (after**2).sum())
    return bool((before * after).sum() < 0.5 * spread) or spread == 0


def raft_flow(weights: str | Path = "", device: str = "") -> Flow:
    raise InputError("raft: not yet")
