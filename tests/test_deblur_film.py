"""A film from the command line: whole, continued, from a video, refused; its page plays in a browser."""

import json
import re
import shutil
import subprocess
import sys
import weakref
from dataclasses import fields, replace
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import shown_in_browser
from conftest import ROOT

from codes.data.images import read_image, write_image
from codes.data.orientation import oriented
from codes.data.response import Response
from codes.data.spikes import read_spikes, write_spikes
from codes.errors import InputError
from codes.registration.geometry import enlargement
from codes.registration.rig_file import CalibratedRig, write_rig
from codes.registration.synchronisation import FoundExposure
from codes.reporting.film_page import html_film, strip_and_slice
from codes.restoration.film_measurements import Measured, facts_of
from codes.restoration.video import write_video
from codes.simulation.camera import integrate, sense
from scripts import deblur
from scripts.deblur_film import Options, check, main

HEIGHT, WIDTH, TOTAL = 64, 96, 250
STARTS, LENGTH = (20, 130), 61


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A film of two exposures of a texture that moves to the right, its stream, and all its frames."""
    folder = tmp_path_factory.mktemp("recording")
    rng = np.random.default_rng(2)
    texture = cv2.GaussianBlur(rng.random((HEIGHT, 3 * WIDTH, 3), np.float32), (0, 0), 4)
    texture = 0.1 + 0.8 * (texture - texture.min()) / (texture.max() - texture.min())
    x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    moved = [cv2.remap(texture, x + WIDTH + np.float32(time / 4), y, cv2.INTER_CUBIC) for time in range(TOTAL)]
    frames = np.rint(255 * np.stack(moved).clip(0, 1)).astype(np.uint8)
    intensity = np.stack([sense(frame) for frame in frames])
    write_spikes(folder / "spikes.dat", integrate(intensity, first=rng.random(intensity.shape[1:], np.float32)))
    for number, start in enumerate(STARTS):
        blurry = frames[start : start + LENGTH].mean(0).round().astype(np.uint8)
        write_image(folder / f"film/{number + 9}.png", blurry)  # 9, 10: in the order of their numbers
    return folder, frames


def options(recording, out, **others):
    folder, _ = recording
    return Options(
        film=str(folder / "film"), spikes=str(folder / "spikes.dat"), clock=(20, 110, LENGTH), spike_rate=20_000,
        fps_out=2000, method="sdm", gamma=1, out=str(out), **others,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(recording, tmp_path_factory):
    """A film and all that is made beside it."""
    out = tmp_path_factory.mktemp("made")
    o = options(recording, out / "frames", video=str(out / "slow.mkv"), page=str(out / "film.html"),
                slice=str(out / "slice.png"))  # fmt: skip
    main(o)
    return o


def frames_of(o):
    return {int(path.stem): path for path in sorted(Path(o.out).glob("*.png"))}


def test_frames_lie_evenly_and_are_no_worse_between_exposures(made, recording):
    _, truth = recording
    assert list(frames_of(made)) == list(range(20, 191, 10))
    inside = np.s_[8:-8, 24:-24]
    errors = {
        time: np.abs(read_image(path).astype(float) - truth[time])[inside].mean()
        for time, path in frames_of(made).items()
    }
    restored = [error for time, error in errors.items() if not 80 < time < 130]
    assert max(errors[time] for time in (90, 100, 110, 120)) < 1.2 * max(restored)


def test_a_stopped_film_continues_with_the_same_frames(made, recording, tmp_path):
    shutil.copytree(made.out, tmp_path / "frames")
    o = replace(made, out=str(tmp_path / "frames"), missing=True, video="", page="", slice="")
    before = {time: path.read_bytes() for time, path in frames_of(o).items()}
    frames_of(o)[100].unlink()
    frames_of(o)[150].write_bytes(before[150][:-20])
    untouched = frames_of(o)[20].stat().st_mtime_ns
    main(o)
    assert {time: path.read_bytes() for time, path in frames_of(o).items()} == before
    assert frames_of(o)[20].stat().st_mtime_ns == untouched
    with pytest.raises(InputError, match=r"made otherwise \(--method: sdm then, mfsr now\)"):
        main(replace(o, method="mfsr"))
    with pytest.raises(InputError, match="exists and is not empty"):
        main(replace(o, missing=False))


def test_a_continued_film_tells_the_same(made, tmp_path):
    shutil.copytree(made.out, tmp_path / "frames")
    main(
        replace(made, out=str(tmp_path / "frames"), missing=True, video="", slice="", page=str(tmp_path / "film.html"))
    )
    assert Path(tmp_path / "film.html").read_bytes() == Path(made.page).read_bytes()
    assert "lost spike frames</th><td>none" in Path(made.page).read_text()


def test_lost_frames_and_saturation_are_told_once():
    measured = [Measured(0.99, 0.0, [3, 90]), Measured(0.5, 0.123, [90, 91])]  # 90 lies in the gap between both
    facts = facts_of(measured, total=250)
    assert facts["lost spike frames"] == "3 of 250" and facts["saturated"] == "12.3% of a picture at most"
    assert facts["correlation of picture and spikes"] == "0.500 to 0.990, below 0.8 for 1 pictures"


def test_a_rig_tells_clock_and_view(made, recording, tmp_path):
    """The stream is turned, and lacks the four columns of spike pixels that show the left of the picture."""
    folder, _ = recording
    spikes = read_spikes(folder / "spikes.dat", HEIGHT // 4, WIDTH // 4)
    write_spikes(
        tmp_path / "turned.dat",
        np.ascontiguousarray(oriented(spikes[..., 4:].transpose(1, 2, 0), "turned180").transpose(2, 0, 1)),
    )
    to_spikes = enlargement((4, 4), (1, 1))
    to_spikes[0, 2] -= 4
    rig = CalibratedRig(
        picture=(HEIGHT, WIDTH), spikes=(HEIGHT // 4, WIDTH // 4 - 4), orientation="turned180", homography=to_spikes,
        spike_format=f"{TOTAL} frames of {HEIGHT // 4}x{WIDTH // 4 - 4}, rows from the bottom, lowest bit first",
        ratio=4.0,
        clock={"first": 20, "period": 110, "length": LENGTH}, response=Response(), hot=(), dead=(),
    )  # fmt: skip
    write_rig(tmp_path / "rig.json", rig, found_by={})
    o = replace(made, spikes=str(tmp_path / "turned.dat"), rig=str(tmp_path / "rig.json"), clock=(),
                out=str(tmp_path / "frames"), video="", page="", slice="")  # fmt: skip
    main(o)
    assert list(frames_of(o)) == list(frames_of(made))
    blurry = [read_image(folder / f"film/{number}.png").astype(float) for number in (9, 10)]
    for time, path in frames_of(o).items():
        frame = read_image(path).astype(float)
        # Where both streams show the picture, away from the borders.
        assert np.abs(frame - read_image(frames_of(made)[time]))[8:-8, 40:-8].mean() < 2, time
        share = np.interp(time, (80, 130), (0, 1))
        beyond = (1 - share) * blurry[0] + share * blurry[1]
        assert np.abs(frame - beyond)[:, :14].mean() < 1.5, time
    with pytest.raises(InputError, match="--orientation: not used beside --rig"):
        main(replace(o, orientation="mirrored", out=str(tmp_path / "other")))
    write_rig(tmp_path / "rig.json", replace(rig, clock=None), found_by={})
    with pytest.raises(InputError, match="has no clock of pictures in one stream"):
        main(replace(o, out=str(tmp_path / "other")))


def test_a_video_is_a_film(made, recording, tmp_path):
    folder, _ = recording
    pictures = [read_image(folder / f"film/{number}.png") for number in (9, 10)]
    write_video(tmp_path / "film.mkv", pictures, rate=30)
    main(o := replace(made, film=str(tmp_path / "film.mkv"), out=str(tmp_path / "frames"), video="", page="", slice=""))
    for time, path in frames_of(o).items():
        assert (read_image(path) == read_image(frames_of(made)[time])).all(), time


def test_the_slice_holds_a_row_of_every_frame(made):
    lines = read_image(made.slice)[-252:].reshape(18, 14, WIDTH, 3)  # 18 frames, 14 lines each
    for line, path in zip(lines, frames_of(made).values(), strict=True):
        assert (line == read_image(path)[HEIGHT // 2]).all()


def test_a_long_film_does_not_fill_memory(monkeypatch):
    """Pages and slices read one picture after the other; a page shows some of them."""
    alive, most = set(), [0]

    def read(number):
        picture = np.zeros((16, 16, 3), np.uint8)
        alive.add(id(picture))
        weakref.finalize(picture, alive.discard, id(picture))
        most[0] = max(most[0], len(alive))
        return picture

    monkeypatch.setattr("codes.reporting.film_page.read_image", read)
    strip_and_slice(range(500))
    page = html_film("film", [("", number) for number in range(500)], read, range(500), {}, rate=25)
    assert most[0] < 12  # a strip has eight
    assert "240 of 500 are on this page" in page
    content = json.loads(re.search(r'id="film">(.*?)</script>', page, re.DOTALL)[1])
    assert len(content["frames"]) == len(content["blurry"]) == 240 and content["picture"] == list(range(240))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clock": (20, 110)}, "first spike frame, period and length"),
        ({"clock": ()}, "--clock is missing"),
        ({"clock": (900, 110, 61)}, "covers the exposure of none of 2 pictures"),
        ({"fps_out": 30_000}, "at most the 20000 of --spike_rate"),
        ({"page": "film.htm"}, r"ends with \.html"),
        ({"slowmo": 10}, "--slowmo: not used without --video or --page"),
        ({"deblur_path": "a.pth"}, "--deblur_path: not used by --method sdm, only by ldn"),
        ({"film": "missing"}, "missing"),
    ],
)
def test_what_cannot_be_meant_is_refused(recording, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        main(replace(options(recording, tmp_path / "frames"), **change))
    assert not (tmp_path / "frames").exists()


def test_a_folder_that_is_no_film_is_refused(recording, tmp_path):
    _, frames = recording
    o = replace(options(recording, tmp_path / "frames"), film=str(tmp_path / "film"))
    (tmp_path / "film").mkdir()
    with pytest.raises(InputError, match=r"film: no pictures in it"):
        main(o)
    for number, picture in ((1, frames[0]), (2, frames[0][:-4])):
        write_image(tmp_path / f"film/{number}.png", picture)
    with pytest.raises(InputError, match=r"2\.png: a picture of 60x96 in a film of 64x96"):
        main(o)
    write_image(tmp_path / "film/2.png", frames[0])
    write_image(tmp_path / "film/4.png", frames[0])
    with pytest.raises(InputError, match=r"2\.png and 4\.png: the frames between them are missing"):
        main(o)


def test_a_clock_that_does_not_fit_the_pictures_is_corrected(recording, tmp_path, capsys, monkeypatch):
    """By the second picture, which lies 20 spike frames before its place: the first one is not in the stream."""

    def found(_, total, *__, **___):
        return FoundExposure(total - 250 + 130, LENGTH + 4, correlation=1.0, deviation=(0.0, 0.0))

    monkeypatch.setattr("codes.restoration.description.find_exposure", found)
    main(replace(options(recording, tmp_path / "frames"), clock=(-100, 250, LENGTH), method="tfp"))
    told = "exposed over 65 frames from 130 on, not 61 from 150 on (correlation 1.000): --clock -120 250 65\n"
    assert f"NOT ALIGNED IN TIME: the picture was {told}" in capsys.readouterr().out


def test_a_stream_that_ends_early_leaves_pictures_out(recording, tmp_path, capsys):
    folder, _ = recording
    size = HEIGHT // 4 * WIDTH // 4 // 8
    (tmp_path / "early.dat").write_bytes((folder / "spikes.dat").read_bytes()[: 150 * size])
    main(o := replace(options(recording, tmp_path / "frames"), spikes=str(tmp_path / "early.dat"), method="tfp"))
    assert list(frames_of(o)) == list(range(20, 81, 10))
    assert "pictures 1 to 1 of 2 lie in the stream" in capsys.readouterr().out
    (tmp_path / "torn.dat").write_bytes((folder / "spikes.dat").read_bytes()[:-5])
    with pytest.raises(InputError, match=r"torn\.dat: .* are not whole frames of 16x24"):
        main(replace(o, spikes=str(tmp_path / "torn.dat"), out=str(tmp_path / "other")))


def test_deblur_py_makes_films_too():
    command = [sys.executable, "scripts/deblur.py", "--fps_out", "1000", "--help"]
    assert "--clock" in subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    names = {f"--{field.name}" for field in fields(Options)} - {f"--{field.name}" for field in fields(deblur.Options)}
    assert set(deblur.OF_FILMS) == names - {"--film"}  # the first argument has no name


def test_the_page_loads_nothing_from_elsewhere(made):
    page = Path(made.page).read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", page) and "@import" not in page and "url(" not in page
    content = json.loads(re.search(r'id="film">(.*?)</script>', page, re.DOTALL)[1])
    assert len(content["frames"]) == 18 and len(content["blurry"]) == 2
    assert content["picture"] == [0] * 11 + [1] * 7  # 20..120 after the first start, 130..190 after the second


PROBE = """<script>addEventListener("load", async () => {
  while (!document.body.dataset.ready) await new Promise(done => setTimeout(done, 20));
  const view = document.getElementById("view"), slice = document.getElementById("slice");
  const pixels = canvas => canvas.toDataURL();
  const change = (id, value) => {
    const before = [pixels(view), pixels(slice)], input = document.getElementById(id);
    input.value = value;
    input.dispatchEvent(new Event("input"));
    return [pixels(view) !== before[0], pixels(slice) !== before[1]];
  };
  const shown = { time: change("time", 9), cut: change("cut", 50), row: change("row", 5) };
  const label = document.getElementById("label").textContent;
  const before = pixels(view);
  view.dispatchEvent(new WheelEvent("wheel", { deltaY: -1, clientX: 50, clientY: 100, cancelable: true }));
  const zoomed = pixels(view) !== before;
  document.title = JSON.stringify({ size: [view.width, view.height], shown, label, zoomed, faults });
});</script>"""


def test_the_page_works_in_a_browser(made, tmp_path):
    document = shown_in_browser(Path(made.page).read_text(), tmp_path, PROBE)
    found = json.loads(unescape(re.search(r"<title>(.*?)</title>", document, re.DOTALL)[1]))
    assert found["faults"] == [] and found["size"] == [WIDTH, HEIGHT] and found["label"] == "4.5 ms"
    assert found["shown"] == {"time": [True, True], "cut": [True, False], "row": [True, True]} and found["zoomed"]


def test_the_page_shows_large_frames(tmp_path):
    """Many pictures that are decoded at the same time."""
    noise = np.random.default_rng(0).integers(0, 255, (480, 848, 3), np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 2)
    frames = [(f"{number} ms", tmp_path / f"{number}.png") for number in range(24)]
    for number, (_, path) in enumerate(frames):
        write_image(path, np.roll(picture, 9 * number, 1))
    page = html_film("film", frames, lambda _: picture, [0] * 24, {}, rate=25)
    assert 'data-ready="yes"' in shown_in_browser(page, tmp_path)


def test_options_are_checked_before_anything_is_read():
    with pytest.raises(InputError, match="at most"):
        check(Options(film="no", spikes="no", clock=(1, 2, 3), spike_rate=100, fps_out=200))
