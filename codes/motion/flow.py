"""Optical flow between two frames (NumPy, OpenCV), looking frames up along it, and its interpolation over time.

Source: DIS: Kroeger et al., "Fast optical flow using dense inverse search", ECCV 2016; RAFT: Teed and Deng, "RAFT:
recurrent all-pairs field transforms for optical flow", ECCV 2020.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.interpolate import CubicHermiteSpline

from codes.archives import read_tensors
from codes.errors import InputError

if TYPE_CHECKING:
    import torch

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]  # two frames -> [H,W,2] float32, pixels
KNOT_STEP = 8  # spike frames between those whose flow is computed; the flow of the others is interpolated
SMALLEST = 32  # pixels along a side that DIS needs


def dis_flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Compute the flow from one frame [H,W,3] uint8 BGR to another by OpenCV's dense inverse search."""
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return search.calc(cv2.cvtColor(before, cv2.COLOR_BGR2GRAY), cv2.cvtColor(after, cv2.COLOR_BGR2GRAY), None)


def fine_flow(before: np.ndarray, after: np.ndarray, *, refinements: int = 5) -> np.ndarray:
    """Compute the flow between two frames [h,w] in [0,1] by dense inverse search down to single pixels.

    `refinements`: iterations of its variational refinement, which take half of its time.
    """
    eight_bit = (np.rint(255 * frame.clip(0, 1)).astype(np.uint8) for frame in (before, after))
    return dense_inverse_search(*eight_bit, refinements=refinements)


def dense_inverse_search(before: np.ndarray, after: np.ndarray, *, refinements: int) -> np.ndarray:
    """Compute the flow [h,w,2] between two frames [h,w] uint8, down to single pixels."""
    height, width = before.shape
    below, right = max(SMALLEST - height, 0), max(SMALLEST - width, 0)
    pair = (cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE) for frame in (before, after))
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    search.setFinestScale(0)
    search.setVariationalRefinementIterations(refinements)
    return search.calc(*pair, None)[:height, :width]


def raft_flow(weights: str | Path = "", device: str = "") -> Flow:
    """Load RAFT, which is more accurate than DIS and needs a GPU to be fast.

    weights: a state dict of torchvision's raft_large or raft_small; empty: torchvision's own, downloaded once.
    device: empty: the GPU if there is one.
    Raises: InputError if the weights cannot be downloaded or fit neither network.
    """
    import torch
    from torchvision.models import optical_flow

    if weights:
        network = raft_from_file(weights)
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


def raft_from_file(weights: str | Path) -> "torch.nn.Module":
    """Load RAFT from a state dict of torchvision's raft_large or raft_small.

    Raises: InputError if the file holds neither.
    """
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


def pixel_grid(height: int, width: int) -> np.ndarray:
    """Return the position (x, y) of every pixel: [H,W,2] float32."""
    return np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))


def sample(image: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Look up an image [H,W] or [H,W,C] at positions [...,2] (x, y) between its pixels, bilinear; borders repeat."""
    return cv2.remap(image, positions, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def knot_times(first: int, last: int, origin: int) -> list[int]:
    """List the spike frames whose flow is computed: the first, the last, and every KNOT_STEP-th from the origin."""
    start = origin - (origin - first) // KNOT_STEP * KNOT_STEP
    return sorted({first, *range(start, last, KNOT_STEP), last})


def cubic_weights(knots: Sequence[int], times: Sequence[int]) -> np.ndarray:
    """Return the weights [times,knots] with which values at ascending knots give those at times between them.

    The interpolant is a cubic Hermite spline whose slope at a knot is that of the parabola through it and its two
    neighbours; at the first and last knot it is that of the line to the only neighbour.
    """
    if len(knots) == 1:
        return np.ones((len(times), 1))
    identity = np.eye(len(knots))
    weights = CubicHermiteSpline(knots, identity, np.gradient(identity, knots, axis=0))(times)
    return np.where(np.abs(weights) < 1e-12, 0, weights)  # rounding: at a knot the others have no weight
