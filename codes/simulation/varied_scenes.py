"""Scenes of more kinds: photographs, dead leaves, noise, gratings, text, faces; slow to violent, dark to bright.

For training only: no test photograph is in any of them.
Source: dead leaves, Lee, Mumford, Huang 2001, "Occlusion Models for Natural Images".
"""

import string
from collections.abc import Callable
from functools import cache
from importlib import resources

import cv2
import numpy as np

from codes.simulation.demo_scenes import (
    PHOTOGRAPHS,
    Layer,
    Motion,
    Scene,
    blur_psnr,
    cut_out,
    drawn_motion,
    photograph,
    render,
    similarity,
)

POOL = PHOTOGRAPHS["train"] | {
    name: None for name in ("cell.png", "hubble_deep_field.jpg", "logo.png", "moon.png", "text.png")
}
PSNR_RANGE = (15.0, 28.0)  # dB, of a blurry picture against its middle frame
AMPLITUDES = (0.015, 0.15)  # as in codes.simulation.demo_scenes
# What a motion is made of: right, down, turn, zoom.
MOTIONS = ((1, 1, 1, 1), (1, 1, 1, 1), (1.5, 1.5, 0, 0), (0.3, 0.3, 2.5, 0.2), (0.3, 0.3, 0.2, 2.5))
STILL = (0, 0, 0, 0)
FONTS = range(8)  # of OpenCV


def film(background: str, *, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene before a background of that kind (`BACKGROUNDS`) and render it: [T,size,size,3] uint8 BGR.

    The amplitude is drawn, not the blur: a scene that is blurred by more or less than `PSNR_RANGE` is drawn again.
    """
    while True:
        scene, amplitude = draw(background, size=size, rng=rng), _between(*AMPLITUDES, rng)
        if PSNR_RANGE[0] < blur_psnr(scene, amplitude) < PSNR_RANGE[1]:
            return render(scene, amplitude)


def draw(background: str, *, size: int, rng: np.random.Generator) -> Scene:
    """Draw a scene: a background of a kind and one to five objects of any kind, all in one illumination."""
    illumination = rng.normal(-0.15, 0.35)
    side = round(1.6 * size)
    camera = MOTIONS[rng.integers(len(MOTIONS))] if rng.random() < 0.85 else STILL
    place = similarity(0, 0, rng.uniform(-0.3, 0.3))
    world = Layer(
        _lit(STILLS[background], side, illumination, rng), similarity(-side / 2, -side / 2), place, _move(camera, rng)
    )
    objects = []
    for _ in range(rng.integers(1, 6)):
        width = round(_between(0.12, 0.55, rng) * size)
        image = _lit(STILLS[BACKGROUNDS[rng.integers(len(BACKGROUNDS))]], 2 * width, illumination, rng)
        pixels = cut_out(image, width, rng, soft=_between(0.5, 3, rng), slim=_between(1.2, 6, rng))
        place = similarity(*rng.uniform(-0.45, 0.45, 2) * size, rng.uniform(-np.pi, np.pi))
        motion = _move(MOTIONS[rng.integers(len(MOTIONS))], rng)
        objects.append(Layer(pixels, similarity(-len(pixels) / 2, -len(pixels) / 2), place, motion))
    return Scene(size, world, tuple(objects))


def _move(weights: tuple[float, ...], rng: np.random.Generator) -> Motion:
    motion, weights = drawn_motion(rng), np.array(weights)
    return lambda time: weights * motion(time)


def _lit(still: Callable[..., np.ndarray], side: int, illumination: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a still picture in a illumination: exponent (dark, bright), its own tint, contrast and brightness."""
    exponents = np.exp(illumination + rng.normal(0, 0.12, 3))
    black, white = rng.uniform(0, 0.1), rng.uniform(0.7, 1.0)
    return np.rint(255 * (black + (white - black) * (still(side, rng) / 255) ** exponents)).astype(np.uint8)


def _photograph(side: int, rng: np.random.Generator) -> np.ndarray:
    """Cut a part out of a photograph, turned and mirrored by chance."""
    name = list(POOL)[rng.integers(len(POOL))]
    image = photograph(name, POOL[name])
    part = round(rng.uniform(0.6, 1) * min(image.shape[:2]))
    top, left = rng.integers(0, np.array(image.shape[:2]) - part + 1)
    image = np.rot90(image[top : top + part, left : left + part], rng.integers(4))[:, :: rng.choice((-1, 1))]
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if side < part else cv2.INTER_CUBIC)


def _leaves(side: int, rng: np.random.Generator) -> np.ndarray:
    """Let ellipses and polygons fall on each other, their radii by a power law: as many as hide what lies below."""
    smallest, largest = rng.uniform(0.008, 0.03), 0.4
    count = round(3 / (2 * np.pi * smallest**2 * np.log(largest / smallest)))
    radii = side * np.minimum(smallest / np.sqrt(rng.random(count)), largest)
    colours = _colours(count, rng)
    image = np.full((side, side, 3), colours[0], np.uint8)
    for radius, colour, corners in zip(radii, colours, rng.integers(3, 9, count), strict=True):
        # Many corners: an ellipse.
        angles = np.sort(rng.uniform(-np.pi, np.pi, corners)) if corners < 6 else np.linspace(-np.pi, np.pi, 24)
        ring = np.stack([np.cos(angles), rng.uniform(0.4, 1) * np.sin(angles)], 1) * radius
        turn = rng.uniform(-np.pi, np.pi)
        ring = ring @ np.array(((np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))))
        place = np.rint(16 * (ring + rng.uniform(0, side, 2))).astype(np.int32)
        cv2.fillConvexPoly(image, place, colour.tolist(), cv2.LINE_AA, 4)
    grain = rng.uniform(0, 25) * _waves(side, rng)[..., :1]
    return (image + grain).clip(0, 255).astype(np.uint8)


def _noise(side: int, rng: np.random.Generator) -> np.ndarray:
    """Colour a random field: its darkest and brightest places are two colours, and the hue wanders between them."""
    waves, (low, high) = _waves(side, rng), _colours(2, rng)
    wander = waves[..., :1] + 0.4 * waves
    return ((low + high) / 2 + np.maximum(np.abs(high - low), 60) * 0.4 * wander).clip(0, 255).astype(np.uint8)


def _grating(side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw stripes or checkers of two colours, bent a little, their edges soft to crisp."""
    right, down = np.meshgrid(np.arange(side), np.arange(side))
    turn, bend, pattern = rng.uniform(-np.pi, np.pi), rng.uniform(0, 1.5, 2), 1.0
    for axis in range(rng.integers(1, 3)):
        way = right * np.cos(turn + axis * np.pi / 2) + down * np.sin(turn + axis * np.pi / 2)
        across = right * np.sin(turn) - down * np.cos(turn)
        phase = 2 * np.pi * way / _between(8, 70, rng) + bend[axis] * np.sin(2 * np.pi * across / side)
        sharp = _between(0.3, 4, rng)
        pattern = pattern * np.tanh(sharp * np.sin(phase)) / np.tanh(sharp)
    low, high = _colours(2, rng)
    return (low + (high - low) * (pattern[..., None] + 1) / 2).clip(0, 255).astype(np.uint8)


def _text(side: int, rng: np.random.Generator) -> np.ndarray:
    """Write lines of words on a plain or a textured ground."""
    ground = (_noise, _grating, _leaves)[rng.integers(3)](side, rng)
    paper, *inks = _colours(4, rng)
    image = np.rint(paper + rng.choice((0, 0.25)) * (ground - paper)).clip(0, 255).astype(np.uint8)
    line, letters = 0.0, list(string.ascii_letters + string.digits + ".,:;!?&%")
    while line < side:
        height = _between(9, max(side / 4, 10), rng)
        words = " ".join("".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(12))
        font, thick = int(rng.choice(FONTS)), max(1, round(height * rng.uniform(0.04, 0.16)))
        scale = cv2.getFontScaleFromHeight(font, max(1, round(0.7 * height)), thick)
        line += height * rng.uniform(1, 1.5)
        start = round(rng.uniform(-2, 0.2) * height), round(line)
        ink = inks[rng.integers(3)] if rng.random() < 0.5 else 255 * (paper.mean() < 128)
        cv2.putText(image, words, start, font, scale, np.broadcast_to(ink, 3).tolist(), thick, cv2.LINE_AA)
    return image


def _faces(side: int, rng: np.random.Generator) -> np.ndarray:
    """Hang small gray portraits side by side, toned between two colours."""
    rows = max(1, round(side / rng.uniform(25, 60)))
    wall = np.vstack([np.hstack(list(rng.choice(_portraits(), rows))) for _ in range(rows)])
    gray = cv2.resize(wall, (side, side), interpolation=cv2.INTER_CUBIC)[..., None].clip(0, 1)
    dark, bright = sorted(_colours(2, rng), key=np.mean)
    return np.rint(0.4 * dark + gray * (160 + 0.37 * bright - 0.4 * dark)).clip(0, 255).astype(np.uint8)


@cache
def _portraits() -> np.ndarray:
    """Read the faces among scikit-image's `lfw_subset`: [100,25,25] float64 in [0,1]."""
    with (resources.files("skimage") / "data" / "lfw_subset.npy").open("rb") as file:
        return np.load(file)[:100]


def _waves(side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a random field of a random spectrum, stretched along a random direction: [side,side,3], deviation 1."""
    right, down, turn = np.fft.rfftfreq(side), np.fft.fftfreq(side)[:, None], rng.uniform(-np.pi, np.pi)
    along, across = right * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - right * np.sin(turn)
    frequency = np.hypot(along, across * _between(0.2, 1, rng))
    lowest, highest = _between(2 / side, 20 / side, rng), _between(0.08, 0.35, rng)
    amplitudes = (frequency + lowest) ** -rng.uniform(0.8, 2.2) * np.exp(-((frequency / highest) ** 2))
    amplitudes[0, 0] = 0
    waves = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(3, side, side))) * amplitudes, (side, side))
    return np.ascontiguousarray(waves.transpose(1, 2, 0)) / waves.std()


def _colours(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw colours as they lie together in a photograph, more vivid by chance: [count,3] float64 BGR."""
    image = _photograph(64, rng).reshape(-1, 3)[rng.integers(64 * 64, size=count)].astype(np.float64)
    image = image + rng.normal(0, 15, (count, 3))
    mean = image.mean(1, keepdims=True)
    return (mean + rng.uniform(0.7, 1.5) * (image - mean)).clip(0, 255)


def _between(low: float, high: float, rng: np.random.Generator) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


STILLS = {
    "photograph": _photograph,
    "leaves": _leaves,
    "noise": _noise,
    "grating": _grating,
    "text": _text,
    "faces": _faces,
}
# Of twelve scenes the backgrounds, in this order; half are photographs.
BACKGROUNDS = (
    *("photograph", "leaves", "photograph", "text", "photograph"),
    *("noise", "photograph", "leaves", "photograph", "grating", "photograph", "faces"),
)
