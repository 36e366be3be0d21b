"""The eight orientations that a stream may have beside its picture."""

import numpy as np

# How the spikes show the picture: quarter turns counterclockwise, then mirrored left-right.
ORIENTATIONS = {
    "upright": (0, False),
    "mirrored": (0, True),
    "flipped": (2, True),
    "turned180": (2, False),
    "turned_left": (1, False),
    "turned_right": (3, False),
    "turned_left_mirrored": (1, True),
    "turned_right_mirrored": (3, True),
}
DESCRIBED = {
    "upright": "upright",
    "mirrored": "mirrored left-right",
    "flipped": "mirrored top-bottom",
    "turned180": "turned by 180 degrees",
    "turned_left": "turned by 90 degrees counterclockwise",
    "turned_right": "turned by 90 degrees clockwise",
    "turned_left_mirrored": "turned by 90 degrees counterclockwise, then mirrored left-right",
    "turned_right_mirrored": "turned by 90 degrees clockwise, then mirrored left-right",
}


def oriented(picture: np.ndarray, orientation: str) -> np.ndarray:
    """Turn and mirror an upright picture [H,W,...] as the spikes show it."""
    quarters, is_mirrored = ORIENTATIONS[orientation]
    turned = np.rot90(picture, quarters)
    return turned[:, ::-1] if is_mirrored else turned


def upright(spikes: np.ndarray, orientation: str) -> np.ndarray:
    """Turn and mirror spikes [...,h,w] of a given orientation as the picture shows the scene."""
    quarters, is_mirrored = ORIENTATIONS[orientation]
    return np.rot90(spikes[..., ::-1] if is_mirrored else spikes, -quarters, (-2, -1))
