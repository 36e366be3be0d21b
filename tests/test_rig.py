"""The simulated rig: what its truth says is where the two cameras look, when, and how."""

import json
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from codes.data.images import read_image
from codes.data.orientation import ORIENTATIONS, upright
from codes.data.spikes import read_spikes
from codes.errors import InputError
from codes.simulation.rig import PARTS, Rig, SpikeCamera, largest_views, random_rig, record, views
from scripts.make_rig import Options, main


def camera(rig: Rig, height: int = 64, width: int = 96, total: int = 137, threshold: float = 1.0) -> SpikeCamera:
    seen, rng = views(rig, height, width), np.random.default_rng(0)
    return SpikeCamera(rig, seen, total=total, threshold=threshold, has_noise=False, rng=rng)


def test_a_spike_pixel_of_an_ideal_rig_averages_its_sixteen_pixels():
    frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    gray = frame @ np.array((0.11, 0.59, 0.30)) / 255
    blocks = gray.reshape(16, 4, 24, 4).mean((1, 3))
    np.testing.assert_allclose(camera(Rig()).intensity(frame), blocks, atol=1e-5)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("ratio", [3.0, 5.5])
def test_a_spot_is_seen_where_turn_scale_and_shift_put_it(orientation, ratio):
    rig = Rig(orientation, turn=4.0, scale=1.06, shift=(0.03, -0.05), ratio=ratio)
    spike_camera = camera(rig, 128, 160)
    source, (h, w) = spike_camera.seen.source, spike_camera.seen.spikes
    x, y = 21.0, -17.0  # of the spot, from the middle of the picture
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in source)
    spot = np.exp(-((columns - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * 6.0**2))
    seen = upright(
        spike_camera.intensity(np.rint(255 * np.repeat(spot[..., None], 3, 2)).astype(np.uint8)), orientation
    )
    found = [(seen * np.arange(side).reshape(shape)).sum() / seen.sum() for side, shape in ((w, (1, -1)), (h, (-1, 1)))]
    turn = math.radians(4.0)
    wanted = (
        (1.06 * (x * math.cos(turn) - y * math.sin(turn)) + 0.03 * 160) / ratio + (w - 1) / 2,
        (1.06 * (x * math.sin(turn) + y * math.cos(turn)) - 0.05 * 128) / ratio + (h - 1) / 2,
    )
    np.testing.assert_allclose(found, wanted, atol=0.02)
    place = np.array([[[x + 159 / 2, y + 127 / 2]]])
    np.testing.assert_allclose(cv2.perspectiveTransform(place, spike_camera.seen.homography)[0, 0], wanted, atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_both_views_lie_inside_the_source(seed):
    rig = random_rig(seed)
    seen = largest_views(rig, 240, 432)
    assert seen.source[0] <= 240 and seen.source[1] <= 432 and min(seen.picture) > 100
    h, w = seen.spikes
    corners = np.array([[(-0.5, -0.5), (w - 0.5, -0.5), (-0.5, h - 0.5), (w - 0.5, h - 0.5)]])
    corners = cv2.perspectiveTransform(corners, np.linalg.inv(seen.homography))[0]
    assert (corners + 0.5 >= -np.array(seen.margin[::-1])).all()
    assert (corners + 0.5 <= np.array(seen.picture[::-1]) + seen.margin[::-1]).all()
    assert h * w % 8 == 0


def test_defects_are_those_of_the_truth():
    spike_camera = camera(Rig(hot=0.02, dead=0.03, lost=0.1), total=100, threshold=4.0)
    frame = np.full((64, 96, 3), 51, np.uint8)  # intensity 0.2
    spikes, truth = np.stack([spike_camera.step(frame) for _ in range(100)]), spike_camera.truth()
    assert (len(truth["hot"]), len(truth["dead"]), len(truth["lost"])) == (8, 12, 10)
    np.testing.assert_array_equal(np.flatnonzero(spikes.sum((1, 2)) == 0), truth["lost"])
    rate = np.delete(spikes, truth["lost"], 0).mean(0)
    hot, dead = (tuple(np.array(truth[kind]).T) for kind in ("hot", "dead"))
    assert (rate[dead] == 0).all()
    np.testing.assert_allclose(rate[hot], 1.98543 / 2 / 4, atol=0.05)
    rate[hot] = rate[dead] = 0.2 * 1.98543 / 2 / 4
    np.testing.assert_allclose(rate, 0.2 * 1.98543 / 2 / 4, atol=0.05)


def test_gain_multiplies_the_firing_rate():
    spike_camera = camera(Rig(gain=0.1), total=2000)
    frame = np.full((64, 96, 3), 102, np.uint8)
    rate = np.mean([spike_camera.step(frame) for _ in range(2000)], 0)
    np.testing.assert_allclose(rate / (0.4 * 1.98543 / 2), spike_camera.gain, atol=0.01)
    assert 0.08 < spike_camera.gain.std() < 0.12


def test_a_picture_is_the_mean_of_its_exposure_after_the_response():
    rig = Rig(response=0.5, black=0.1)
    values = np.random.default_rng(0).integers(0, 256, 40)
    frames = [np.full((64, 96, 3), value, np.uint8) for value in values]
    written = []
    first, second = record(frames, camera(rig, total=40), [(3, 10), (9, 31)], written.append)
    assert len(written) == 40 and (first.number, second.number) == (0, 1)
    for picture, exposed in ((first, values[3:13]), (second, values[9:40])):
        wanted = 255 * (0.1 + 0.9 * math.sqrt(exposed.mean() / 255))
        np.testing.assert_allclose(picture.blurry, wanted, atol=0.51)
    assert list(second.sharp) == [9, 14, 19, 24, 29, 34, 39]
    np.testing.assert_allclose(second.sharp[19], 255 * (0.1 + 0.9 * math.sqrt(values[19] / 255)), atol=0.51)


def test_parts_vary_alone_and_within_their_limits():
    assert random_rig(3, vary=()) == random_rig(3, 0.0, vary=("geometry", "clock", "response", "gain")) == Rig()
    for seed in range(50):
        rig = random_rig(seed)
        assert abs(rig.turn) <= 5 and abs(rig.scale - 1) <= 0.1 and max(map(abs, rig.shift)) <= 0.08
        for part, fields in PARTS.items():
            alone = random_rig(seed, vary=(part,))
            assert alone == replace(Rig(), **{field: getattr(rig, field) for field in fields})


SMALL = Options(pairs=2, size=64, ratio=(4.0, 3.0), severity=0.5)


def test_pairs_have_their_truth_beside_them_and_are_made_once(tmp_path):
    main(replace(SMALL, pairs=1, output=str(tmp_path)))
    spikes = tmp_path / "spike_data/000.dat"
    written = spikes.stat().st_mtime_ns
    main(replace(SMALL, output=str(tmp_path)))
    assert spikes.stat().st_mtime_ns == written
    for name in ("000", "001"):
        truth = json.loads((tmp_path / f"truth/{name}.json").read_text())
        picture = read_image(tmp_path / f"blur_data/{name}.png")
        assert list(picture.shape[:2]) == truth["picture"] == [64, 64]
        stream = read_spikes(tmp_path / f"spike_data/{name}.dat", *truth["spikes"][1:])
        assert len(stream) == truth["spikes"][0] == truth["before"] + truth["length"] + truth["after"]
        first, length = truth["exposures"][name]
        sharp = sorted((tmp_path / f"sharp_sequence/{name}").iterdir())
        assert [sharp[0].stem, sharp[-1].stem] == [f"{first:03d}", f"{first + length - 1:03d}"]
        assert np.load(tmp_path / "truth" / truth["gain_map"]).shape == stream.shape[1:]
    with pytest.raises(InputError, match="seed was 0, now 1"):
        main(replace(SMALL, seed=1, output=str(tmp_path)))


def test_a_recording_has_one_stream_and_a_clock(tmp_path):
    main(replace(SMALL, pictures=3, frames=500, output=str(tmp_path)))
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert (tmp_path / "stream.dat").stat().st_size == 500 * 16 * 16 // 8
    clock = truth["clock"]
    for number in range(3):
        start = clock["first"] + number * clock["period"]
        assert truth["exposures"][f"{number:03d}"] == [pytest.approx(start, abs=0.51), clock["length"]]
        assert (tmp_path / f"blur_data/{number:03d}.png").exists()
    with pytest.raises(InputError, match="--pictures 9: need"):
        main(replace(SMALL, pictures=9, frames=500, output=str(tmp_path / "short")))


@pytest.mark.parametrize("wrong", [{"ratio": (0.5,)}, {"severity": 1.5}, {"size": 72}, {"threshold": (0.0,)}])
def test_values_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match=f"--{next(iter(wrong))} .*accepted"):
        main(replace(SMALL, output=str(tmp_path / "set"), **wrong))
    assert not (tmp_path / "set").exists()
