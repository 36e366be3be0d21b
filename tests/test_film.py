"""A film: every missing time once and in order, no exposure restored in vain, gaps filled by what the spikes tell."""

import weakref

import cv2
import numpy as np
import pytest
import torch

from codes.errors import InputError
from codes.restoration.film import Schedule, _separate_frames, film, schedule
from codes.simulation.camera import integrate, sense

HEIGHT, WIDTH, TOTAL = 64, 96, 420
CLOCK = (20, 150, 60)


@pytest.fixture(scope="module")
def recording():
    """A coloured texture that moves by a third of a pixel a spike frame: its frames by time, and its spikes."""
    rng = np.random.default_rng(1)
    texture = cv2.GaussianBlur(rng.random((HEIGHT, 3 * WIDTH, 3), np.float32), (0, 0), 4)
    texture = (texture - texture.min()) / (texture.max() - texture.min())
    x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))

    def at(time):
        moved = cv2.remap(texture, x + WIDTH + np.float32(time / 3), y, cv2.INTER_CUBIC)
        return np.rint(255 * moved.clip(0, 1)).astype(np.uint8)

    intensity = np.stack([sense(at(time)) for time in range(TOTAL)])
    spikes = torch.from_numpy(integrate(intensity, first=rng.random(intensity.shape[1:], np.float32)))
    return at, lambda first, stop: spikes[max(first, 0) : stop]


class Restore:
    """Returns the true frames, and notes which exposures it was asked for."""

    def __init__(self, at):
        self.at, self.asked = at, []

    def __call__(self, number, times):
        self.asked.append(number)
        return ((time, self.at(time).astype(np.float32) / 255) for time in times)


def plan(step=10.0):
    return schedule(CLOCK, pictures=3, total=TOTAL, step=step)[0]


def test_times_lie_evenly_from_the_first_exposure_to_the_last():
    assert plan().times == tuple(range(20, 380, 10))
    assert plan(12.5).times[:5] == (20, 32, 45, 58, 70)  # at most half a spike frame from 20 + 12.5 n


def test_gaps_are_filled_by_what_the_spikes_tell(recording):
    at, read = recording
    frames = dict(film(plan(), set(plan().times), restore=Restore(at), read=read))
    assert tuple(frames) == plan().times
    for time in (100, 120, 150, 250, 280):
        truth, nearest = at(time) / 255, min((79, 170, 229, 320), key=lambda anchor: abs(anchor - time))
        inside = np.s_[8:-8, 36:-36]  # what both exposures show
        moved = np.abs(at(nearest) / 255 - truth)[inside].mean()
        assert np.abs(frames[time] - truth)[inside].mean() < 0.35 * moved, time


def test_only_what_is_missing_is_made(recording):
    at, read = recording
    whole = dict(film(plan(55.0), set(plan(55.0).times), restore=Restore(at), read=read))
    for missing, exposures in (({20}, [0]), ({130}, [0, 1]), ({350}, [2]), ({185, 295}, [1, 2]), (set(), [])):
        restore = Restore(at)
        made = dict(film(plan(55.0), missing, restore=restore, read=read))
        assert set(made) == missing and restore.asked == exposures
        for time, frame in made.items():
            assert np.allclose(frame, whole[time], atol=1e-5), time


def test_frames_are_averaged_with_those_beside_them_whatever_is_missing(recording):
    at, read = recording
    whole = dict(film(plan(), set(plan().times), restore=Restore(at), read=read))
    restore = Restore(at)
    ((time, frame),) = film(plan(), {170}, restore=restore, read=read)  # beside 150 and 160, which lie in the gap
    assert time == 170 and restore.asked == [0, 1]
    assert np.allclose(frame, whole[170], atol=1e-5)
    assert np.abs(frame - at(170) / 255)[8:-8, 36:-36].max() > 1e-4  # the true frame was given


def test_frames_of_an_exposure_are_restored_when_they_are_asked_for(recording):
    """However many there are: only those that are blended into the next exposure stay in memory."""
    _, read = recording
    alive, most = set(), [0]

    def restore(number, times):
        for time in times:
            frame = np.full((HEIGHT, WIDTH, 3), 0.5, np.float32)
            alive.add(id(frame))
            weakref.finalize(frame, alive.discard, id(frame))
            most[0] = max(most[0], len(alive))
            yield time, frame

    times = tuple(range(20, 80))
    for _ in _separate_frames(Schedule(starts=(20,), length=60, times=times), set(times), restore, read, None):
        pass
    assert most[0] <= 4


def test_exposures_that_touch_are_blended(recording):
    at, read = recording
    touching = Schedule(starts=(20, 80), length=60, times=tuple(range(20, 140, 4)))

    def tinted(number, times):
        return ((time, frame + np.float32(0.05 * number)) for time, frame in Restore(at)(number, times))

    frames = dict(film(touching, set(touching.times), restore=tinted, read=read))
    assert tuple(frames) == touching.times
    tint = [float((frames[time] - at(time) / 255).mean()) for time in touching.times]
    assert max(np.diff(tint)) < 0.02 and abs(tint[0]) < 1e-3 and abs(tint[-1] - 0.05) < 0.01


def test_pictures_that_the_stream_does_not_reach_are_left_out():
    found, first = schedule((-130, 150, 60), pictures=5, total=TOTAL, step=10, margin=20)
    assert first == 1 and found.starts == (20, 170, 320)
    assert schedule((-130, 150, 60), pictures=5, total=TOTAL, step=10, margin=21)[0].starts == (170, 320)
    assert schedule((-130, 150, 60), pictures=5, total=400, step=10, margin=21)[0].starts == (170,)


@pytest.mark.parametrize(
    ("clock", "message"),
    [
        ((500, 150, 60), "covers the exposure of none"),
        ((20, 50, 60), "at most a period"),
        ((20, 150, 0), "at most a period"),
        ((20, float("nan"), 60), "at most a period"),
    ],
)
def test_a_clock_that_does_not_fit_is_refused(clock, message):
    with pytest.raises(InputError, match=message):
        schedule(clock, pictures=3, total=TOTAL, step=10)
