"""More pixels than the spike camera has: neighbouring instants, moved to where they belong at one instant, fill them.

What moves is seen by every spike pixel at another place from tick to tick. Optical flow between short averages says
where; the samples are spread over a grid four times finer, as corrections of a bicubic enlargement (iterative
back-projection, Irani and Peleg, "Improving resolution by image registration", CVGIP 1991). Nothing is trained.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from codes.spikes import UPSCALE

REACH, STEP = 48, 2  # ticks to either side that are looked at, and between them
SAMPLE, MATCHED = 5, 9  # ticks averaged for a sample, and for the pictures that flow is found between
FADES = 40.0  # ticks after which a sample counts 1/e
TOLERANCE = 0.3  # difference of light, of 1, at which a sample counts 1/e: it shows something else
SPREAD = 1.13  # picture pixels, standard deviation of a sample's footprint
DOUBT = 1.0  # weight of the enlargement, in samples at the very pixel
ROUNDS = 8
SMALLEST = 32  # spike pixels along a side that flow needs


def fuse(mean: "Means", center: int, *, step: int = STEP) -> np.ndarray:
    """Enlarge light at an instant by 4: `Means` of light of a stream, about 0..1, at [h,w] -> [4h,4w] float32.

    A spike pixel is taken as the mean of the inner 2x2 of its 4x4 picture pixels, as the simulator makes it. `step`:
    ticks between the samples that are brought to the instant.
    """
    reference = mean(center, MATCHED)
    height, width = reference.shape
    fine = _enlarge(reference)
    samples = [np.stack(_arrived(mean, center, other, reference, fine)) for other in _others(center, len(mean), step)]
    x, y, value, weight = np.concatenate([sample.reshape(4, -1) for sample in samples], 1)
    inside = (weight > 0.05) & (x >= 0) & (x <= 4 * width - 1) & (y >= 0) & (y <= 4 * height - 1)
    x, y, value, weight = x[inside], y[inside], value[inside], weight[inside]
    nearest = list(_nearest(x, y, fine.shape))

    def spread(values: np.ndarray) -> np.ndarray:
        """Add values to the pixels around their samples."""
        total = sum(np.bincount(place, share * values, fine.size) for place, share in nearest)
        return cv2.GaussianBlur(total.reshape(fine.shape), (0, 0), SPREAD, borderType=cv2.BORDER_CONSTANT)

    share = spread(weight) + DOUBT / (2 * np.pi * (SPREAD**2 + 1 / 6))
    for _ in range(ROUNDS):
        fine = fine + (spread(weight * (value - _look(fine, x, y))) / share).astype(np.float32)
    return fine


class Means:
    """Averages of light [T,h,w] over windows of ticks, cut at its ends, each in one subtraction."""

    def __init__(self, light: np.ndarray):
        self.total = np.concatenate((np.zeros_like(light[:1]), np.cumsum(light, 0, np.float64)), dtype=np.float64)

    def __len__(self) -> int:
        return len(self.total) - 1

    def __call__(self, center: int, length: int) -> np.ndarray:
        first, end = max(center - length // 2, 0), min(center - length // 2 + length, len(self))
        return ((self.total[end] - self.total[first]) / (end - first)).astype(np.float32)


def flow(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Find where each pixel [h,w] goes: [h,w,2] float32, by dense inverse search down to single pixels."""
    height, width = before.shape
    below, right = max(SMALLEST - height, 0), max(SMALLEST - width, 0)
    eight_bit = (
        cv2.copyMakeBorder(np.rint(255 * x.clip(0, 1)).astype(np.uint8), 0, below, 0, right, cv2.BORDER_REPLICATE)
        for x in (before, after)
    )
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    search.setFinestScale(0)
    return search.calc(*eight_bit, None)[:height, :width]


def _others(center: int, total: int, step: int) -> list[int]:
    """List the ticks whose samples are taken, the instant itself and those whose windows lie inside the stream."""
    margin = MATCHED // 2
    ticks = range(center - REACH // step * step, center + REACH + 1, step)
    return [tick for tick in ticks if margin <= tick < total - margin or tick == center]


def _enlarge(light: np.ndarray) -> np.ndarray:
    return cv2.resize(light, None, fx=UPSCALE, fy=UPSCALE, interpolation=cv2.INTER_CUBIC)


def _arrived(
    mean: Means, center: int, other: int, reference: np.ndarray, fine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Move the samples of a tick to where they lie at the instant: x, y in picture pixels, value, weight [h,w]."""
    rows, columns = np.indices(reference.shape, np.float32)
    x, y = UPSCALE * columns + 1.5, UPSCALE * rows + 1.5
    value = mean(other, SAMPLE)
    if other == center:
        return x, y, value, np.ones_like(value)
    seen = mean(other, MATCHED)
    moved = UPSCALE * flow(seen, reference)
    x, y = x + moved[..., 0], y + moved[..., 1]
    there = cv2.remap(fine, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    weight = np.exp(-(((there - seen) / TOLERANCE) ** 2) - ((other - center) / FADES) ** 2)
    return x, y, value, weight


def _nearest(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the four pixels around each sample, one for every sample at a time: flat index and share."""
    left, top = np.minimum(x.astype(int), shape[1] - 2), np.minimum(y.astype(int), shape[0] - 2)
    place, (right, down) = top * shape[1] + left, (x - left.astype(np.float32), y - top.astype(np.float32))
    for row, share in ((0, 1 - down), (shape[1], down)):
        yield place + row, share * (1 - right)
        yield place + row + 1, share * right


def _look(fine: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample a picture between its pixels; half way between four that is their mean, what a spike pixel sees."""
    parts = len(x) // 32000 + 1  # OpenCV's limit along a side
    places = (np.array_split(z[None], parts, 1) for z in (x, y))
    return np.concatenate([cv2.remap(fine, *place, cv2.INTER_LINEAR)[0] for place in zip(*places, strict=True)])
