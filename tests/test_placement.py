"""deblur.py registers a pair itself, restores in the view of the picture, and says what it found."""

import cv2
import numpy as np
import pytest

from codes.data.images import read_image, write_image
from codes.data.spikes import write_spikes
from codes.errors import InputError
from codes.registration.geometry import corner_error
from codes.restoration.placement import find_in_stream, place
from codes.simulation.demo_scenes import EXPOSED, PHOTOGRAPHS, blurry, film
from scripts.deblur import Options, main
from scripts.make_demo import record

TOP, LEFT = 10, 14  # where the picture begins in the view of the spikes, in its pixels
TRUE = np.array([[0.25, 0, (LEFT + 0.5) / 4 - 0.5], [0, 0.25, (TOP + 0.5) / 4 - 0.5], [0, 0, 1]])


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A blurry picture of a part of what the spikes show, its middle frame, and the spikes [137,56,56]."""
    rng = np.random.default_rng(0)
    frames = film(PHOTOGRAPHS["test"], next(iter(PHOTOGRAPHS["test"])), size=224, rng=rng)
    spikes, part = record(frames, threshold=1.0, noise=True, rng=rng), np.s_[TOP : TOP + 190, LEFT : LEFT + 182]
    return blurry(frames[EXPOSED])[part], frames[68][part], spikes


@pytest.fixture
def o(pair, tmp_path) -> Options:
    write_image(tmp_path / "blur.png", pair[0])
    write_spikes(tmp_path / "spikes.dat", pair[2])
    return Options(str(tmp_path / "blur.png"), str(tmp_path / "spikes.dat"), str(tmp_path / "out"), method="sdm",
                   geometry=(56, 56), frames=1, device="cpu")  # fmt: skip


def test_a_part_of_the_view_is_restored_where_it_lies(o, pair, capsys):
    blur, sharp, _ = pair
    main(Options(**{**vars(o), "align": "homography", "mask": True}))
    assert "registered (confidence" in capsys.readouterr().out
    folder = o.out
    restored = read_image(f"{folder}/068.png")
    assert cv2.PSNR(restored, sharp) > cv2.PSNR(blur, sharp) + 1
    assert read_image(f"{folder}/mask.png").min() == 255


def test_the_exposure_is_found_and_another_one_is_named(o, capsys):
    main(Options(**{**vars(o), "align": "homography", "exposure": ("30", "97")}))
    assert "NOT ALIGNED IN TIME: the picture was exposed over" in capsys.readouterr().out
    with pytest.raises(InputError, match="--exposure auto: not beside --align crop"):
        main(Options(**{**vars(o), "align": "crop", "exposure": ("auto",), "force": True}))
    with pytest.raises(InputError, match="first spike frame and length are accepted, or auto"):
        main(Options(**{**vars(o), "align": "crop", "exposure": ("now",), "force": True}))


def test_exposure_and_view_are_found_together(pair):
    blur, _, spikes = pair
    found, placement = find_in_stream(lambda first, stop: spikes[first:stop], 137, blur, model="homography")
    assert abs(found.start - 20) <= 3 and abs(found.start + found.length - 117) <= 3
    assert corner_error(placement.registration.homography, TRUE, blur.shape) < 1


def test_equal_views_stay_equal(pair):
    """A registration without a difference that matters is not used: the result is that without one, bit by bit."""
    rng = np.random.default_rng(0)
    frames = film(PHOTOGRAPHS["test"], next(iter(PHOTOGRAPHS["test"])), size=224, rng=rng)
    long = pair[2][20:117].mean(0)
    placement = place(blurry(frames[EXPOSED]), long, model="")
    assert placement.view is None and placement.registration.is_sure and placement.displacement < 1
