"""Frames between two frames: optical flow both ways, and a blend that trusts each way where it agrees with the other.

A pixel of a frame in between is looked up in both neighbours along the flow; where one of them does not show it (it is
covered there, or outside), the other alone is taken.
Source: the intermediate flow follows Jiang et al., "Super SloMo", CVPR 2018, with its linear approximation replaced by
a search; DIS: Kroeger et al., ECCV 2016; RAFT: Teed and Deng, ECCV 2020.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from codes.archives import read_tensors
from codes.errors import InputError

if TYPE_CHECKING:
    import torch

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]  # two pictures -> [H,W,2] float32, pixels
Between = Callable[[np.ndarray, np.ndarray, Sequence[float]], Iterator[np.ndarray]]
INTERPOLATORS = ("dis", "raft", "none")


@cache
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


def raft_flow(weights: str | Path = "", device: str = "") -> Flow:
    """Load RAFT, which finds where each pixel goes better than DIS, at the price of a GPU.

    weights: a state dict of torchvision's raft_large or raft_small; empty: torchvision's own, downloaded once.
    device: empty: the GPU if there is one.
    Raises: InputError if the weights cannot be had or fit neither network.
    """
    import torch
    from torchvision.models import optical_flow

    if weights:
        network = _raft_from_file(weights)
    else:
        kind = optical_flow.Raft_Large_Weights.DEFAULT
        try:
            network = optical_flow.raft_large(weights=kind)
        except OSError as error:
            raise InputError(
                f"RAFT weights cannot be downloaded ({error}); fetch {kind.url} elsewhere and name the file: --weights"
            ) from None
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    network = network.to(device).eval()

    @torch.inference_mode()
    def flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        height, width = before.shape[:2]
        below, right = max(128, -(-height // 8) * 8) - height, max(128, -(-width // 8) * 8) - width
        pair = (
            cv2.copyMakeBorder(frame[..., ::-1], 0, below, 0, right, cv2.BORDER_REPLICATE) for frame in (before, after)
        )
        first, second = (
            torch.from_numpy(frame).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1 for frame in pair
        )
        return network(first, second)[-1][0, :, :height, :width].permute(1, 2, 0).contiguous().cpu().numpy()

    return flow


def _raft_from_file(weights: str | Path) -> "torch.nn.Module":
    from torchvision.models import optical_flow

    try:
        state = read_tensors(weights)
    except ValueError as error:
        raise InputError(f"{weights}: no state dict of RAFT can be read from it ({error})") from None
    for build in (optical_flow.raft_large, optical_flow.raft_small):
        network = build(weights=None)
        try:
            network.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError):
            continue
        return network
    raise InputError(f"{weights}: fits neither raft_large nor raft_small of torchvision")


def between(before: np.ndarray, after: np.ndarray, times: Sequence[float], flow: Flow) -> Iterator[np.ndarray]:
    """Yield the frames, [H,W,3] uint8 or [H,W] float32 as they are, at times between two (0 is `before`, 1 `after`)."""
    if not times:
        return
    height, width = before.shape[:2]
    grid, small = _grid(height, width), _grid((height + 1) // 2, (width + 1) // 2)
    scale = np.float32((width / small.shape[1], height / small.shape[0]))
    # Motion is smooth: where it leads is worked out at half the size, the pictures are looked up at theirs.
    forward, backward = (
        cv2.resize(motion, small.shape[1::-1], interpolation=cv2.INTER_AREA) / scale
        for motion in (flow(before, after), flow(after, before))
    )
    trust_forward, trust_backward = _agreement(forward, backward, small), _agreement(backward, forward, small)
    for time in times:
        onward, sure_on = _arriving(forward, trust_forward, time, small)
        back, sure_back = _arriving(backward, trust_backward, 1 - time, small)
        motion = onward - (sure_back / (sure_on + sure_back))[..., None] * (onward + back)
        seen_before = (1 - time) * _seen(forward, motion, small - time * motion)
        seen_after = time * _seen(backward, -motion, small + (1 - time) * motion)
        motion = cv2.resize(motion, (width, height)) * scale
        yield cv2.blendLinear(
            _sample(before, grid - np.float32(time) * motion),
            _sample(after, grid + np.float32(1 - time) * motion),
            cv2.resize(seen_before, (width, height)),
            cv2.resize(seen_after, (width, height)),
        )


def _agreement(forward: np.ndarray, backward: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Say how far each pixel's flow can be trusted, in [0,1]: the flow back must bring it to where it started."""
    return _likeness(forward, -_sample(backward, grid + forward))


def _arriving(flow: np.ndarray, trust: np.ndarray, time: float, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the flow of the pixel that passes each place at `time`, and how sure it is that it does."""
    start = grid - time * flow
    start = grid - time * _sample(flow, start)  # a step towards start + time * flow(start) = place
    found = _sample(flow, start)
    return found, _sample(trust, start) * _likeness(time * found, grid - start) + np.float32(0.01)


def _seen(flow: np.ndarray, motion: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Say whether a frame shows, at `places`, something that moves so: else it is covered there, or outside."""
    height, width = flow.shape[:2]
    inside = cv2.inRange(places, (-0.5, -0.5), (width - 0.5, height - 0.5)) > 0
    return _likeness(_sample(flow, places), motion) * inside + np.float32(0.05)


def _likeness(flow: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Compare two fields of flow at half size: 1 where they are equal, 0.6 at a pixel's difference."""
    difference = flow - other
    return np.exp(-0.5 * np.einsum("hwc,hwc->hw", difference, difference))


def _grid(height: int, width: int) -> np.ndarray:
    return np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))


def _sample(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    return cv2.remap(image, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def is_cut(before: np.ndarray, after: np.ndarray) -> bool:
    """Say whether two neighbouring frames [H,W,3] uint8 belong to different scenes.

    Thumbnails are compared after the motion between them is undone: in film of 24 Hz neighbours correlate over 0.75,
    across cuts under 0.35. Motion too fast to be undone counts as a cut: nothing could be interpolated there.
    """
    height, width = before.shape[:2]
    every = max(1, min(height, width) // 80)
    if np.abs(before[::every, ::every].astype(np.int16) - after[::every, ::every]).mean() < 10:
        return False
    before, after = (_thumbnail(frame, width // every, height // every) for frame in (before, after))
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(before, after, None)
    after = _sample(after, _grid(*after.shape) + flow).astype(np.float32)
    before, after = before - before.mean(), after - after.mean()
    spread = np.sqrt((before**2).sum() * (after**2).sum())
    return bool((before * after).sum() < 0.5 * spread) or spread == 0


def _thumbnail(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    # Whole blocks of pixels are averaged several times faster than fractions of them.
    every = frame.shape[1] // width
    whole = frame[: height * every, : width * every]
    return cv2.cvtColor(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
