"""A simulated rig: a picture camera and a spike camera whose views, clocks and sensors differ by known amounts.

Both cameras see parts of one larger sharp source frame. A picture pixel is a source pixel; a spike pixel integrates the
area that the homography gives it.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np

from codes.data.orientation import ORIENTATIONS, oriented
from codes.data.response import Response
from codes.data.spikes import GRAY_WEIGHTS, UPSCALE, Exposure
from codes.simulation.camera import Integrator, add_noise

NOISE_BLOCK = 256  # spike frames whose noise is drawn at once: memory does not grow with the stream
TARGETS = 7  # sharp frames of an exposure
# What differs between the cameras, and the fields that describe it.
PARTS = {
    "orientation": ("orientation",),
    "geometry": ("turn", "scale", "shift", "perspective"),
    "clock": ("before", "length", "after"),
    "response": ("response", "black"),
    "gain": ("gain",),
    "pixels": ("hot", "dead"),
    "frames": ("lost",),
}


@dataclass(frozen=True)
class Rig:
    """How the two cameras differ; the defaults are those of the published data sets."""

    orientation: str = "upright"  # how the stream shows the picture, as in `codes.data.orientation`
    turn: float = 0.0  # degrees, clockwise, of the scene in the view of the spike camera
    scale: float = 1.0  # of the scene in the view of the spike camera: above 1 it sees less
    shift: tuple[float, float] = (0.0, 0.0)  # of the scene, right and down, relative to the picture's sides
    perspective: tuple[float, float] = (0.0, 0.0)  # relative change of scale from the middle to the right, lower edge
    ratio: float = UPSCALE  # picture pixels a spike pixel, along each side
    before: int = Exposure().margin  # spike frames before the exposure
    length: int = Exposure().length
    after: int = Exposure().margin
    response: float = 1.0  # value of the picture = black + (1 - black) * intensity ** response
    black: float = 0.0
    gain: float = 0.0  # standard deviation of the sensitivity of spike pixels, relative to its mean
    hot: float = 0.0  # share of spike pixels that fire as if they saw white
    dead: float = 0.0  # share of spike pixels that never fire
    lost: float = 0.0  # share of spike frames that are empty

    def expose(self, intensity: np.ndarray) -> np.ndarray:
        """Return the picture [H,W,3] uint8 of an intensity in [0,1]."""
        return np.rint(255 * Response(self.response, self.black).apply(intensity)).astype(np.uint8)


def random_rig(seed: int, severity: float = 1.0, *, vary: Iterable[str] = tuple(PARTS), ratio: float = UPSCALE) -> Rig:
    """Draw a rig: at severity 1 up to 5 degrees, 10 % of scale, 8 % of shift, and 3 % of perspective.

    vary: the `PARTS` that differ; the others keep their defaults, and those that vary do not depend on the others.
    """
    rng, even = np.random.default_rng(seed), np.random.default_rng((seed, 1)).uniform(-severity, severity, 6)
    drawn = Rig(
        orientation=str(rng.choice(list(ORIENTATIONS))),
        turn=5 * even[0],
        scale=1 + 0.1 * even[1],
        shift=(0.08 * even[2], 0.08 * even[3]),
        perspective=(0.03 * even[4], 0.03 * even[5]),
        before=Exposure().margin + round(100 * severity * rng.random()),
        length=Exposure().length + round(32 * severity * rng.uniform(-1, 1)),
        after=Exposure().margin + round(100 * severity * rng.random()),
        response=1 - severity * rng.uniform(0, 0.6),
        black=0.06 * severity * rng.random(),
        gain=0.06 * severity * rng.random(),
        hot=0.002 * severity * rng.random(),
        dead=0.002 * severity * rng.random(),
        lost=0.01 * severity * rng.random(),
    )
    fields = {field: getattr(drawn, field) for part in vary for field in PARTS[part]}
    return replace(Rig(ratio=ratio), **fields)


@dataclass(frozen=True)
class Views:
    """Where the two cameras look in a source frame; the picture is its middle."""

    picture: tuple[int, int]  # (H, W)
    spikes: tuple[int, int]  # (h, w), upright
    homography: np.ndarray  # [3,3], picture pixel (x, y) -> pixel of the upright spikes; centres of pixels are integers
    margin: tuple[int, int]  # rows above and below the picture, columns to its left and right, that the spikes show

    @property
    def source(self) -> tuple[int, int]:
        """Return the (height, width) of the smallest source frame that holds both views."""
        return tuple(side + 2 * margin for side, margin in zip(self.picture, self.margin, strict=True))


def views(rig: Rig, height: int, width: int) -> Views:
    """Return the views of a rig whose picture has height x width pixels."""
    h, w = int(height / rig.ratio / 2) * 2, int(width / rig.ratio / 4) * 4  # a spike frame is whole bytes
    cos, sin = (rig.scale * f(math.radians(rig.turn)) for f in (math.cos, math.sin))
    turned = np.array(
        (
            (cos, -sin, rig.shift[0] * width),
            (sin, cos, rig.shift[1] * height),
            (2 * rig.perspective[0] / width, 2 * rig.perspective[1] / height, 1),
        )
    )
    to_grid = np.diag((1 / rig.ratio, 1 / rig.ratio, 1))
    homography = _shift((w - 1) / 2, (h - 1) / 2) @ to_grid @ turned @ _shift(-(width - 1) / 2, -(height - 1) / 2)
    homography /= homography[2, 2]
    corners = np.array(((0, 0), (w, 0), (w, h), (0, h)), np.float64) - 0.5
    seen = cv2.perspectiveTransform(corners[None], np.linalg.inv(homography))[0] + 0.5  # from the picture's edge
    beyond = np.maximum(-seen.min(0), seen.max(0) - (width, height)).clip(0)
    right, down = np.ceil(beyond + (beyond > 1e-9)).astype(int).tolist()  # and a pixel to interpolate with
    return Views((height, width), (h, w), homography, (down, right))


def largest_views(rig: Rig, height: int, width: int) -> Views:
    """Return the views of a rig with the largest picture for which source frames of height x width hold both."""
    for part in np.linspace(1, 0.2, 161):
        found = views(rig, int(part * height) // 8 * 8, int(part * width) // 16 * 16)
        if found.source[0] <= height and found.source[1] <= width:
            return found
    raise ValueError(f"frames of {height}x{width} hold no picture beside {rig}")


class SpikeCamera:
    """The spike camera of a rig, with a sensor of its own, one source frame after the other."""

    def __init__(
        self, rig: Rig, seen: Views, *, total: int, threshold: float, has_noise: bool, rng: np.random.Generator
    ):
        self.rig, self.seen, self.total, self.threshold = rig, seen, total, threshold
        self.has_noise, self.rng = has_noise, rng
        self.shape = oriented(np.empty(seen.spikes), rig.orientation).shape
        self.gain = (1 + rig.gain * rng.standard_normal(self.shape, np.float32)).clip(0.5, 1.5)
        pixels = rng.permutation(self.shape[0] * self.shape[1])
        hot, dead = (round(share * len(pixels)) for share in (rig.hot, rig.dead))
        self.hot, self.dead = np.sort(pixels[:hot]), np.sort(pixels[hot : hot + dead])
        self.lost = np.sort(rng.permutation(total)[: round(rig.lost * total)])
        self.integrator = Integrator(np.zeros(self.shape), threshold=threshold)
        self.integrator.charge += self.integrator.limit * rng.random(self.shape, np.float32)  # it ran long before
        self.noise = np.zeros((0, *self.shape), np.uint8)
        self.time = 0

    def intensity(self, frame: np.ndarray) -> np.ndarray:
        """Return the intensity [h,w] in [0,1] of a source frame [.,.,3] uint8, oriented as the stream.

        Each spike pixel averages samples that lie about one source pixel apart.
        """
        (height, width), (h, w) = self.seen.picture, self.seen.spikes
        top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
        samples = max(2, math.ceil(self.rig.ratio / self.rig.scale))
        middle = (samples - 1) / 2
        to_samples = _shift(middle, middle) @ np.diag((samples, samples, 1)) @ self.seen.homography
        gray = cv2.transform(frame.astype(np.float32), np.array((GRAY_WEIGHTS,), np.float32)) / 255
        size, border = (w * samples, h * samples), cv2.BORDER_REPLICATE
        fine = cv2.warpPerspective(
            gray, to_samples @ _shift(-left, -top), size, flags=cv2.INTER_LINEAR, borderMode=border
        )
        area = cv2.resize(fine, (w, h), interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(oriented(area, self.rig.orientation))

    def step(self, frame: np.ndarray) -> np.ndarray:
        """Record one source frame; return the spikes [h,w] uint8, oriented as the stream."""
        intensity = (self.gain * self.intensity(frame)).clip(0, 1)
        intensity.reshape(-1)[self.hot] = 1
        spikes = self.integrator.step(intensity)
        if self.has_noise:
            if self.time % NOISE_BLOCK == 0:
                self.noise = add_noise(np.zeros((NOISE_BLOCK, *self.shape), np.uint8), self.rng)
            spikes |= self.noise[self.time % NOISE_BLOCK]
        spikes.reshape(-1)[self.dead] = 0
        if np.isin(self.time, self.lost):
            spikes[:] = 0
        self.time += 1
        return spikes

    def truth(self) -> dict[str, Any]:
        """Return all that a calibration may estimate; rows and columns are those of the stream."""
        hot, dead = ([list(divmod(int(pixel), self.shape[1])) for pixel in pixels] for pixels in (self.hot, self.dead))
        return asdict(self.rig) | {
            "picture": list(self.seen.picture),
            "spikes": [self.total, *self.shape],
            "threshold": self.threshold,
            "homography": self.seen.homography.tolist(),
            "hot": hot,
            "dead": dead,
            "lost": self.lost.tolist(),
        }


class Picture(NamedTuple):
    """What the picture camera saw of one exposure."""

    number: int  # of the exposure
    blurry: np.ndarray  # [H,W,3] uint8
    sharp: dict[int, np.ndarray]  # spike frame -> what a short exposure shows there


def record(
    frames: Iterable[np.ndarray],
    camera: SpikeCamera,
    exposures: Sequence[tuple[int, int]],
    write: Callable[[np.ndarray], object],
) -> Iterator[Picture]:
    """Record source frames [.,.,3] uint8 with both cameras; yield each picture when its exposure ends.

    exposures: first spike frame and length of each. write: takes the spikes [h,w] of each frame.
    """
    rig, (height, width) = camera.rig, camera.seen.picture
    totals: dict[int, np.ndarray] = {}
    sharp: dict[int, dict[int, np.ndarray]] = {}
    for time, frame in enumerate(frames):
        write(camera.step(frame))
        top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
        seen = frame[top : top + height, left : left + width]
        for number, (first, length) in enumerate(exposures):
            if not first <= time < first + length:
                continue
            total = totals.setdefault(number, np.zeros(seen.shape, np.uint32))
            np.add(total, seen, out=total)
            if time in target_times(first, length):
                sharp.setdefault(number, {})[time] = rig.expose(seen / np.float32(255))
            if time == first + length - 1:
                intensity = totals.pop(number) / np.float32(255 * length)
                yield Picture(number, rig.expose(intensity), sharp.pop(number))


def target_times(first: int, length: int) -> list[int]:
    """List the spike frames of an exposure whose sharp frames are kept, evenly from its first to its last."""
    return sorted(set(np.rint(np.linspace(first, first + length - 1, TARGETS)).astype(int).tolist()))


def _shift(right: float, down: float) -> np.ndarray:
    return np.array(((1, 0, right), (0, 1, down), (0, 0, 1.0)))
