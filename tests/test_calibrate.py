"""A simulated rig is calibrated: what was found is its truth; rig.json is read as it was written."""

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from codes.data.images import read_image, write_image
from codes.data.response import Response
from codes.data.spikes import read_spikes, write_spikes
from codes.errors import InputError
from codes.registration.geometry import corner_error
from codes.registration.rig_file import CalibratedRig, read_rig, write_rig
from codes.restoration.timing import exposure_by_rig
from codes.simulation.rig import Rig, SpikeCamera, record, views
from scripts import deblur
from scripts.calibrate import Options, flat_of, format_of, main

RIG = Rig("turned_left", turn=2.0, scale=0.97, shift=(0.03, -0.02), response=0.6, hot=0.002, dead=0.002, lost=0.01)
EXPOSURES = [(30, 60), (140, 60), (250, 60)]
TOTAL = 340


def write_recording(folder: Path, seed: int, rig: Rig = RIG, pace: float = 1.0) -> SpikeCamera:
    """Write three pictures and the stream of a texture that moves about: by a steady motion alone, a shift of
    the views could not be told from one of the exposures."""
    rng = np.random.default_rng(seed)
    seen = views(rig, 128, 192)
    height, width = seen.source
    texture = np.zeros((height + 80, width + 120, 3), np.float32)
    for size in (2, 5, 15):
        blobs = cv2.GaussianBlur(rng.random(texture.shape, np.float32), (0, 0), size)
        texture += (blobs - blobs.mean()) / blobs.std()
    texture = np.clip(90 + 25 * texture, 5, 230).astype(np.uint8)
    times = pace * np.arange(TOTAL)
    path = [(round(40 + 40 * np.sin(time / 31)), round(60 + 60 * np.cos(time / 47))) for time in times]
    frames = (texture[down : down + height, right : right + width] for down, right in path)
    camera, stream = SpikeCamera(rig, seen, total=TOTAL, threshold=1.0, has_noise=True, rng=rng), []
    for picture in record(frames, camera, EXPOSURES, stream.append):
        write_image(folder / f"pictures/{picture.number}.png", picture.blurry)
        for time, sharp in picture.sharp.items():
            write_image(folder / f"sharp/{time}.png", sharp)
    write_spikes(folder / "stream.dat", np.stack(stream))
    return camera


def options(folder: Path, flat: str = "") -> Options:
    return Options(
        str(folder / "pictures"), str(folder / "stream.dat"), out=str(folder / "rig.json"), flat=flat, geometry=(48, 32)
    )


def write_flat(path: Path, camera: SpikeCamera, intensity: int) -> None:
    """Record a uniform scene with a spike camera that recorded before."""
    frame = np.full((*camera.seen.source, 3), intensity, np.uint8)
    camera.lost = np.empty(0, int)
    write_spikes(path, np.stack([camera.step(frame) for _ in range(2000)]))


def test_a_recording_of_several_pictures_is_calibrated(tmp_path, capsys):
    camera = write_recording(tmp_path, 0, replace(RIG, gain=0.08))
    truth = camera.truth()
    write_flat(tmp_path / "flat.dat", camera, 120)
    main(options(tmp_path, str(tmp_path / "flat.dat")))
    told, rig = capsys.readouterr().out, read_rig(tmp_path / "rig.json")
    assert rig.orientation == "turned_left" and rig.spikes == (48, 32)
    assert corner_error(rig.homography, np.array(truth["homography"]), rig.picture) < 1.5
    assert rig.ratio == pytest.approx(4 / 0.97, rel=0.01)
    assert rig.response.exponent == pytest.approx(0.6, abs=0.06)
    assert set(rig.dead) == set(map(tuple, truth["dead"])) and set(rig.hot) <= set(map(tuple, truth["hot"]))
    intact = np.delete(np.arange(camera.gain.size), np.concatenate((camera.hot, camera.dead)))
    assert (rig.gain - camera.gain).reshape(-1)[intact].std() < 0.01
    assert "gain: standard deviation" in told
    for number, exposure in enumerate(EXPOSURES):
        assert np.abs(np.subtract(rig.exposure(number), exposure)).max() <= 2
    page = (tmp_path / "rig.html").read_text()
    assert "of 3 pictures placed" in told and page.count('<div class="pair"') >= 1 and 'alt="gain"' in page
    assert "http" not in page.replace("http-equiv", "")
    with pytest.raises(InputError, match=r"rig\.json: exists"):
        main(options(tmp_path))


def test_pictures_with_a_stream_each_have_one_clock_of_no_period(tmp_path):
    camera = write_recording(tmp_path, 0)
    stream = read_spikes(tmp_path / "stream.dat", 48, 32)
    (tmp_path / "spikes").mkdir()
    for number, (start, length) in enumerate(EXPOSURES[:2]):  # the third picture is left out
        write_spikes(tmp_path / f"spikes/{number}.dat", stream[start - 20 : start + length + 20])
    main(replace(options(tmp_path), stream=str(tmp_path / "spikes")))
    rig = read_rig(tmp_path / "rig.json")
    assert rig.clock["period"] == 0 and rig.orientation == "turned_left"
    assert np.abs(np.subtract(rig.exposure(0), (20, 60))).max() <= 2 and rig.exposure(2) == rig.exposure(0)
    assert set(rig.dead) == set(map(tuple, camera.truth()["dead"]))


def test_pictures_restored_with_the_gain_of_a_flat_recording_are_better(tmp_path, capsys):
    camera = write_recording(tmp_path, 0, replace(RIG, gain=0.08), pace=0.25)
    write_flat(tmp_path / "flat.dat", camera, 120)
    o = options(tmp_path, str(tmp_path / "flat.dat"))
    spike_format = format_of(o, Path(o.stream))
    flat, response = flat_of(o, spike_format), Response(RIG.response, RIG.black)
    hot, dead = (tuple(map(tuple, np.argwhere(mask).tolist())) for mask in (flat.hot, flat.dead))
    rig = CalibratedRig((128, 192), (48, 32), str(spike_format), RIG.orientation, camera.seen.homography, 4.0, None,
                        response, hot, dead)  # fmt: skip
    time = EXPOSURES[1][0] + 30

    def restore(name: str, method: str) -> None:
        deblur.main(deblur.Options(
            str(tmp_path / "pictures/1.png"), str(tmp_path / "stream.dat"), out=str(tmp_path / name),
            method=method, times=(time,), exposure=tuple(map(str, EXPOSURES[1])), rig=str(tmp_path / f"{name}.json"),
            force=True,
        ))  # fmt: skip

    def psnr(name: str, gain: np.ndarray | None) -> float:
        write_rig(tmp_path / f"{name}.json", replace(rig, gain=gain), found_by={})
        restore(name, "mfsr")
        off = read_image(next((tmp_path / name).glob("*.png"))).astype(float) - read_image(
            tmp_path / f"sharp/{time}.png"
        )
        return -10 * np.log10(np.square(off[16:-16, 16:-16] / 255).mean())

    assert psnr("with", flat.gain) > psnr("without", None) + 0.2
    assert "NOT ALIGNED" not in capsys.readouterr().out
    write_image(tmp_path / "pictures/1.png", read_image(tmp_path / "pictures/1.png")[:, ::-1])
    restore("with", "sdm")
    assert "the spikes around the exposure do not show the picture" in capsys.readouterr().out
    (tmp_path / "with.gain.npy").write_bytes((tmp_path / "with.gain.npy").read_bytes()[:-4])
    with pytest.raises(InputError, match=r"with\.gain\.npy is not the gain that was calibrated with it"):
        read_rig(tmp_path / "with.json")


@pytest.mark.parametrize("intensity, message", [(2, "record longer"), (255, "record less light")])
def test_flat_recordings_that_tell_no_gain_are_refused(tmp_path, intensity, message):
    write_flat(tmp_path / "flat.dat", write_recording(tmp_path, 0), intensity)
    with pytest.raises(InputError, match=rf"--flat .*flat\.dat: .*{message}"):
        main(options(tmp_path, str(tmp_path / "flat.dat")))


def test_pictures_of_another_scene_are_refused(tmp_path):
    write_recording(tmp_path, 0)
    for number in (1, 2):
        (tmp_path / f"pictures/{number}.png").unlink()
    other = np.random.default_rng(5).integers(0, 255, (8, 12, 3), np.uint8)
    write_image(tmp_path / "pictures/0.png", cv2.resize(other, (192, 128), interpolation=cv2.INTER_CUBIC))
    with pytest.raises(InputError, match="no picture could be placed with certainty"):
        main(options(tmp_path))
    assert not (tmp_path / "rig.json").exists()


def test_a_rig_is_read_as_it_was_written(tmp_path):
    homography = np.array([[0.25, 1e-3, 2], [0, 0.2, -1], [1e-6, 0, 1]])
    clock = {"first": 20.5, "period": 509.25, "length": 97}
    response = Response(0.45, 0.02)
    rig = CalibratedRig(
        (240, 320), (80, 60), "as it is", "turned_left", homography, 4.1, clock, response, ((1, 2),), ()
    )
    write_rig(tmp_path / "rig.json", rig, found_by={"pictures": "somewhere"})
    found = read_rig(tmp_path / "rig.json")
    np.testing.assert_array_equal(found.homography, homography)
    assert replace(found, homography=None) == replace(rig, homography=None)
    assert rig.exposure(2) == (1039, 97)
    of_pairs = replace(rig, clock=clock | {"period": 0})
    assert exposure_by_rig(rig, 2) == ("1039", "97") and exposure_by_rig(of_pairs, None) == ("20", "97")
    with pytest.raises(InputError, match="numbers the pictures of a folder: name the folder"):
        exposure_by_rig(rig, None)
    with pytest.raises(InputError, match="no clock"):
        replace(rig, clock=None).exposure(0)


@pytest.mark.parametrize(
    "field, value", [("homography", [[1, 2], [3, 4]]), ("homography", [[math.nan] * 3] * 3), ("orientation", "upwards")]
)
def test_a_rig_whose_geometry_is_none_is_refused(tmp_path, field, value):
    rig = CalibratedRig((240, 320), (80, 60), "as it is", "upright", np.eye(3), 4.0, None, Response(), (), ())
    write_rig(tmp_path / "rig.json", rig, found_by={})
    content = json.loads((tmp_path / "rig.json").read_text())
    (tmp_path / "rig.json").write_text(json.dumps(content | {field: value}))
    with pytest.raises(InputError, match=r"rig\.json: no rig of scripts/calibrate\.py .*homography and orientation"):
        read_rig(tmp_path / "rig.json")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"homography": [[1, 2], [3, 4]], "orientation": "upright"}'])
def test_other_files_are_no_rigs(tmp_path, content):
    (tmp_path / "rig.json").write_text(content)
    with pytest.raises(InputError, match=r"rig\.json: no rig of scripts/calibrate\.py"):
        read_rig(tmp_path / "rig.json")
    with pytest.raises(InputError, match=r"none\.json: rig cannot be read"):
        read_rig(tmp_path / "none.json")
