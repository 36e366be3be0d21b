"""deblur.py registers a pair itself, restores in the view of the picture, and says what it found."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from codes.data.images import read_image, write_image
from codes.data.spikes import write_spikes
from codes.errors import InputError
from codes.registration.geometry import corner_error
from codes.registration.homography import Registration
from codes.registration.synchronisation import FoundExposure
from codes.restoration import description, preparation, timing
from codes.restoration.outputs import check_record
from codes.restoration.placement import Placement, find_in_stream, place
from codes.restoration.view import View
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
    record = json.loads(Path(folder, "deblur.json").read_text())
    assert corner_error(np.array(record["registration"]["homography"]), TRUE, blur.shape) < 1
    assert record["registration"]["is_used"] and record["exposure"] == [20, 97]
    check_record(Path(folder), record | {"registration": {}})  # of another processor: it is not compared


def test_the_exposure_is_found_and_another_one_is_named(o, capsys):
    main(Options(**{**vars(o), "align": "homography", "exposure": ("30", "97")}))
    assert "NOT ALIGNED IN TIME: the picture was exposed over" in capsys.readouterr().out
    with pytest.raises(InputError, match="--exposure auto: not beside --align crop"):
        main(Options(**{**vars(o), "align": "crop", "exposure": ("auto",), "force": True}))
    with pytest.raises(InputError, match="first spike frame and length are accepted, or auto"):
        main(Options(**{**vars(o), "align": "crop", "exposure": ("now",), "force": True}))


@pytest.mark.parametrize(("exposure", "wanted"), [(("20", "97"), ["place", "check"]), (("auto",), ["search", "place"])])
def test_a_pair_is_registered_and_synchronised_once(o, pair, monkeypatch, exposure, wanted):
    """It is checked before anything is written, and what was found is kept until it is restored."""
    done = []
    found = FoundExposure(20, 97, correlation=1.0, deviation=(0.0, 0.0))
    registration = Registration("upright", TRUE, correlation=1.0, confidence=1.0)
    placement = Placement(View(TRUE, (192, 184), (56, 56)), registration, displacement=9.0, is_registered=True)
    for module, name, step, result in (
        (preparation, "place", "place", placement),
        (timing, "find_in_stream", "search", (found, placement)),
        (description, "find_exposure", "check", found),
    ):
        monkeypatch.setattr(module, name, lambda *_, step=step, result=result, **__: done.append(step) or result)
    main(Options(**{**vars(o), "align": "homography", "exposure": exposure, "method": "tfp"}))
    assert done == wanted


def test_spikes_that_show_another_view_turned_are_refused_with_their_orientation(o, pair):
    """The correlation of whole images does not tell it, as it does where both show the same view."""
    write_spikes(o.spikes, np.ascontiguousarray(pair[2][:, :, ::-1]))
    with pytest.raises(InputError, match=r"show the picture mirrored .*--orientation mirrored corrects it"):
        main(Options(**{**vars(o), "align": "homography", "method": "tfp"}))


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
