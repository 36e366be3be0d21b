"""Moving scenes made of photographs: a camera that shifts, turns, zooms and shakes, and objects that move on their own.

Every motion is a formula in time, so the picture at any time is one warp of the photographs, never interpolated
between pictures. The photographs are those inside scikit-image's package: nothing is downloaded.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

import cv2
import numpy as np
from PIL import Image

from codes.data.spikes import Exposure
from codes.errors import InputError

# File name -> exponents that tint a gray photograph (blue, green, red), None where it has colours of its own.
PHOTOGRAPHS = {
    "train": {
        "astronaut.png": None,
        "motorcycle_left.png": None,
        "ihc.png": None,
        "brick.png": (1.5, 1.2, 0.8),
        "rocket.jpg": None,
        "coins.png": (1.3, 0.95, 0.8),
        "grass.png": (1.6, 0.8, 1.1),
        "page.png": (1.25, 1.05, 1.0),
    },
    "test": {
        "chelsea.png": None,
        "camera.png": (0.85, 1.0, 1.1),
        "coffee.png": None,
        "gravel.png": (1.2, 1.0, 0.9),
        "retina.jpg": None,
    },
}
PSNR_RANGE = (18.0, 23.0)  # dB, of every blurry picture against its middle frame
LARGEST = 0.15  # amplitude: displacement half an exposure from the middle, as a fraction of the picture
EXPOSED = slice(Exposure().margin, -Exposure().margin)
TIMES = (np.arange(Exposure().total) - Exposure().center) / (Exposure().length - 1)  # the times of the spike frames
# Gielis' superformula (symmetry, three exponents): disc, rounded square, triangle, star, flower, pentagon.
SHAPES = ((4, 2, 2, 2), (4, 9, 9, 9), (3, 4, 8, 8), (5, 2, 7, 7), (6, 1, 4, 4), (5, 8, 7, 7))

Tint = tuple[float, float, float] | None
Motion = Callable[[float], np.ndarray]  # time -> (right, down, turn, zoom), 0 at time 0; the exposure is -0.5..0.5


@dataclass(frozen=True)
class Layer:
    """A photograph in the world: [H,W,3] uint8, or [H,W,4] float32 with alpha, by which the colours are multiplied."""

    pixels: np.ndarray
    origin: np.ndarray  # pixel -> from the point about which it turns
    place: np.ndarray  # -> in the world, whose middle is (0, 0), at time 0
    motion: Motion


@dataclass(frozen=True)
class Scene:
    """A background that moves as the world does before the camera, and the objects between the two."""

    size: int
    background: Layer
    objects: tuple[Layer, ...]

    def picture(self, time: float, amplitude: float) -> np.ndarray:
        """Render the time `time`, all motion scaled by `amplitude`: [size,size,3] uint8 BGR."""
        units = amplitude * np.array((self.size, self.size, 2.0, 1.5))
        camera = similarity(self.size / 2, self.size / 2) @ similarity(*units * self.background.motion(time))
        shape, cubic, reflect = (self.size, self.size), cv2.INTER_CUBIC, cv2.BORDER_REFLECT
        to_picture = camera @ self.background.place @ self.background.origin
        picture = cv2.warpAffine(self.background.pixels, to_picture[:2], shape, flags=cubic, borderMode=reflect)
        for layer in self.objects:
            to_picture = camera @ layer.place @ similarity(*units * layer.motion(time)) @ layer.origin
            shown = cv2.warpAffine(layer.pixels, to_picture[:2], shape, flags=cubic)
            picture = picture * (1 - shown[..., 3:]) + shown[..., :3]
        return np.rint(picture.clip(0, 255)).astype(np.uint8)


def film(photographs: dict[str, Tint], background: str, *, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene of size x size pixels and render every spike frame of it: [T,size,size,3] uint8 BGR.

    The motion is as large as a blurry picture within `PSNR_RANGE` takes; where none is large enough, another is drawn.
    """
    while True:
        scene = draw(photographs, background, size=size, rng=rng)
        amplitude = amplitude_for(scene, rng.uniform(PSNR_RANGE[0] + 0.5, PSNR_RANGE[1] - 1.5))
        frames = render(scene, amplitude)
        if PSNR_RANGE[0] < cv2.PSNR(blurry(frames[EXPOSED]), frames[Exposure().center]) < PSNR_RANGE[1]:
            return frames


def render(scene: Scene, amplitude: float) -> np.ndarray:
    """Render every spike frame of a scene: [T,size,size,3] uint8 BGR."""
    return np.stack([scene.picture(time, amplitude) for time in TIMES])


def blurry(frames: np.ndarray) -> np.ndarray:
    """Average the pictures [T,H,W,3] uint8 of an exposure, rounded to 8 bits: [H,W,3]."""
    return np.rint(frames.mean(0)).astype(np.uint8)


def blur_psnr(scene: Scene, amplitude: float) -> float:
    """Return the dB of the blurry picture against the middle frame, from every sixth frame alone."""
    blur = blurry(np.stack([scene.picture(time, amplitude) for time in TIMES[EXPOSED][::6]]))
    return cv2.PSNR(blur, scene.picture(0, amplitude))


def draw(photographs: dict[str, Tint], background: str, *, size: int, rng: np.random.Generator) -> Scene:
    """Draw a scene: a part of `background`, and one to three objects cut out of the other photographs."""
    image = photograph(background, photographs[background])
    scale = size / min(image.shape[:2]) / rng.uniform(0.5, 0.8)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    middle = rng.uniform(0.6 * size, np.array(image.shape[1::-1]) - 0.6 * size)
    world = Layer(image, similarity(*-middle), similarity(0, 0, rng.uniform(-0.15, 0.15)), drawn_motion(rng))
    others, objects = sorted(set(photographs) - {background}), []
    for name in rng.choice(others, rng.integers(1, 4), replace=False).tolist():
        pixels = cut_out(photograph(name, photographs[name]), round(rng.uniform(0.2, 0.45) * size), rng)
        place = similarity(*rng.uniform(-0.4, 0.4, 2) * size, rng.uniform(-np.pi, np.pi))
        objects.append(Layer(pixels, similarity(-len(pixels) / 2, -len(pixels) / 2), place, drawn_motion(rng)))
    return Scene(size, world, tuple(objects))


@cache
def photograph(name: str, tint: Tint) -> np.ndarray:
    """Read a photograph of scikit-image's package, tinted: [H,W,3] uint8 BGR."""
    try:
        with (resources.files("skimage") / "data" / name).open("rb") as file:
            image = np.asarray(Image.open(file).convert("RGB"))[..., ::-1]
    except (ImportError, OSError) as error:
        raise InputError(f"{name}: no such photograph in scikit-image ({error}); pip install scikit-image") from None
    return np.rint(255 * (image / 255) ** np.array(tint or (1, 1, 1))).astype(np.uint8)


def amplitude_for(scene: Scene, wanted: float) -> float:
    """Halve the interval of amplitudes until the blurry picture is `wanted` dB from the middle frame."""
    low, high = 0.0, LARGEST
    for _ in range(7):
        amplitude = (low + high) / 2
        low, high = (amplitude, high) if blur_psnr(scene, amplitude) > wanted else (low, amplitude)
    return high


def drawn_motion(rng: np.random.Generator) -> Motion:
    """Draw a smooth motion: a straight part, a bend, and a shake of two waves."""
    (shift, turn, zoom), heading = rng.dirichlet((2, 1, 1)), rng.uniform(-np.pi, np.pi)
    line = np.array((shift * np.cos(heading), shift * np.sin(heading), *rng.choice((-1, 1), 2) * (turn, zoom)))
    bend, *shake = rng.normal(0, (0.2, 0.2, 0.1, 0.1), (3, 4))
    rates, phases = rng.uniform(1, 3, 2), rng.uniform(-np.pi, np.pi, 2)

    def motion(time: float) -> np.ndarray:
        waves = (np.sin(2 * np.pi * rates * time + phases) - np.sin(phases)) / rates
        return line * 2 * time + bend * 4 * time**2 + waves @ shake

    return motion


def endless(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return the scene with motions that never end, never repeat and stay close to their start: for long recordings."""

    def wander() -> Motion:
        speed = rng.dirichlet((2, 1, 1))[[0, 0, 1, 2]] * rng.choice((-1, 1), 4)
        rates, phases = rng.uniform(0.5, 2, 4), rng.uniform(-np.pi, np.pi, 4)  # radians an exposure
        return lambda time: 2 * speed * (np.sin(rates * time + phases) - np.sin(phases)) / rates

    layers = [replace(layer, motion=wander()) for layer in (scene.background, *scene.objects)]
    return replace(scene, background=layers[0], objects=tuple(layers[1:]))


def cut_out(
    image: np.ndarray, size: int, rng: np.random.Generator, *, soft: float = 0.8, slim: float = 1.6
) -> np.ndarray:
    """Cut a shape of `size` pixels out of a part of an image: [H,W,4] float32, colours times alpha.

    soft: deviation in pixels of the Gaussian that blurs the edge. slim: the most that it may be higher than wide.
    """
    side = round(rng.uniform(0.3, 0.6) * min(image.shape[:2]))
    top, left = rng.integers(0, np.array(image.shape[:2]) - side + 1)
    part = cv2.resize(image[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)
    symmetry, *exponents = SHAPES[rng.integers(len(SHAPES))]
    axis = np.linspace(-1, 1, 4 * size)  # drawn four times finer, for an edge without steps
    right, down = axis * rng.uniform(1, slim), axis[:, None]
    angle = np.arctan2(down, right) * symmetry / 4
    border = (np.abs(np.cos(angle)) ** exponents[1] + np.abs(np.sin(angle)) ** exponents[2]) ** (-1 / exponents[0])
    inside = (np.hypot(right, down) < border / border.max()).astype(np.float32)
    alpha = cv2.resize(inside, (size, size), interpolation=cv2.INTER_AREA)
    rim = round(5 * soft)
    alpha = cv2.GaussianBlur(np.pad(alpha, rim), (0, 0), soft)[..., None]
    return np.concatenate([np.pad(part, ((rim, rim), (rim, rim), (0, 0)), "edge") * alpha, alpha], 2)


def similarity(right: float, down: float, turn: float = 0.0, zoom: float = 0.0) -> np.ndarray:
    """Return the matrix [3,3] that zooms by e^zoom and turns about the origin, then shifts."""
    cos, sin = np.exp(zoom) * np.cos(turn), np.exp(zoom) * np.sin(turn)
    return np.array(((cos, -sin, right), (sin, cos, down), (0, 0, 1)))
