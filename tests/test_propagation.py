"""Frames between exposures: colour follows motion, hidden points come from the side that shows them, nothing jumps."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from codes.motion.propagation import blended_times, fill_between, knots_between

HEIGHT, WIDTH, SPEED = 64, 96, 0.5  # pixels a spike frame


@pytest.fixture(scope="module")
def scene():
    """A coloured texture that moves to the right: a function from time to its frame [H,W,3] in [0,1]."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.random((HEIGHT, 4 * WIDTH, 3), np.float32), (0, 0), 3)
    texture = (texture - texture.min()) / (texture.max() - texture.min())

    def at(time):
        x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
        return cv2.remap(texture, x + 2 * WIDTH - np.float32(SPEED * time), y, cv2.INTER_CUBIC).clip(0, 1)

    return at


def filled(scene, before, after, times):
    """Fill the gap by what the spikes tell of a scene: gray, at the size of its frames and at half of it."""

    def fine(time):
        return (scene(time) @ np.array((0.11, 0.59, 0.30), np.float32)).astype(np.float32)

    def coarse(time):
        return cv2.resize(fine(time), (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)

    return list(fill_between(before, after, times, coarse=coarse, fine=fine))


def error(frame, truth):
    return np.abs(frame - truth)[4:-4, 4:-4].mean()


def test_colour_follows_motion(scene):
    before, after = ({time: scene(time)} for time in (50, 110))
    times = [60, 80, 100]
    frames = dict(zip(times, filled(scene, before, after, times), strict=True))
    for time, frame in frames.items():
        share = (time - 50) / 60
        faded = (1 - share) * before[50] + share * after[110]
        assert error(frame, scene(time)) < 0.2 * error(faded, scene(time))


def test_what_comes_into_view_is_that_of_the_side_that_shows_it(scene):
    """The left comes into view after the first exposure, the right is out of view at the second."""
    before, after = ({time: scene(time)} for time in (50, 110))
    times = [60, 80, 100]
    for time, frame in zip(times, filled(scene, before, after, times), strict=True):
        borders = np.abs(frame - scene(time))[4:-4, [*range(2, 12), *range(-12, -2)]]
        assert borders.mean() < 0.004, time


def test_what_neither_side_shows_is_that_of_the_spikes(scene):
    """The view turns to the left and back: its left comes into view at time 80 only. Without colour it is gray."""

    def at(time):
        turned = scene(2 * (30 - abs(time - 80)) / 3)  # by 10 pixels
        return 0.2 + 0.6 * turned

    before, after = ({time: at(time)} for time in (50, 110))
    (frame,) = filled(at, before, after, [80])
    errors = np.abs(frame - at(80))
    assert errors[4:-4, 1:9].mean() < 0.06 and errors[4:-4, 12:-4].mean() < 0.01
    luminance = np.abs((frame - at(80)) @ np.array((0.11, 0.59, 0.30)))
    assert luminance[4:-4, 1:9].mean() < 0.01


def test_brightness_follows_the_spikes(scene):
    """A flash that only the spikes saw: both frames beside it are dark."""

    def lit(time):
        return scene(0) * np.float32(0.4 if time in (50, 110) else 0.8)

    (frame,) = filled(lit, {50: lit(50)}, {110: lit(110)}, [80])
    dark, bright = lit(50)[..., 1].mean(), lit(80)[..., 1].mean()
    assert abs(frame[..., 1].mean() - bright) < 0.25 * (bright - dark)


def test_what_is_hidden_on_one_side_is_taken_from_the_other(scene):
    """A patch of another colour and brightness that covers the middle after time 80."""

    def at(time):
        frame = scene(0) * 0.5
        if time > 80:
            frame[24:40, 36:60] = (0.1, 0.9, 0.9)
        return frame

    covered = slice(26, 38), slice(38, 58)
    for time in (70, 90):
        (frame,) = filled(at, {50: at(50)}, {110: at(110)}, [time])
        assert np.abs(frame[covered] - at(time)[covered]).mean() < 0.05


def test_nothing_jumps_where_exposures_touch(scene):
    """The restored frames of two exposures differ by a tint: it is blended, and far from the seam each is untouched."""
    tint = np.float32((0.06, 0, -0.06))

    def still(_):
        return 0.2 + 0.6 * scene(0)

    first, last = blended_times(50, 51)
    before, after = {t: still(t) for t in range(20, 51)}, {t: still(t) + tint for t in range(51, 90)}
    times = list(range(first, last + 1))
    frames = filled(still, before, after, times)
    assert np.allclose(frames[0], before[first], atol=1e-3) and np.allclose(frames[-1], after[last], atol=1e-3)
    steps = [np.abs(one - other).mean((0, 1)).max() for one, other in pairwise(frames)]
    assert max(steps) < 3 * 0.06 / (len(times) - 1)


def test_knots_hold_all_times_and_lie_close():
    knots = knots_between(10, 110, [40, 41, 100])
    assert {10, 40, 41, 100, 110} <= set(knots) and knots == sorted(knots)
    assert max(np.diff(knots)) <= 16


@pytest.mark.parametrize(("end", "start", "blend"), [(50, 110, (50, 110)), (50, 51, (34, 67)), (50, 82, (50, 82))])
def test_the_blend_reaches_into_exposures_only_where_the_gap_is_short(end, start, blend):
    assert blended_times(end, start) == blend
