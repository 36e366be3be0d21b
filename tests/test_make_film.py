"""Simulated recordings: pictures are means of frames, the stream is one, and an interrupted run ends the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT

from codes.cli import parse
from codes.data.images import read_image
from codes.data.spikes import read_spikes
from codes.errors import InputError
from codes.simulation.film import Film, plan, record
from codes.simulation.footage import Footage
from codes.simulation.frames import Interpolation
from scripts import make_gopro

HEIGHT, WIDTH, FRAMES = 16, 32, 330
FILM = Film(FRAMES, exposure=30, period=50, step=11)


def footage(folder: Path, frames: list[np.ndarray]) -> Footage:
    folder.mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    return Footage("test", "clip", folder)


def make(
    raw: Footage, root: Path, *, film: Film = FILM, noise: tuple | None = None, advance=lambda amount: None
) -> Path:
    folders = {1.0: root / "1", 4.0: root / "4"}
    record(raw, [film], advance, folders=folders, interpolation=Interpolation(method="none"), noise=noise)
    return root


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def drifting() -> list[np.ndarray]:
    """A texture that drifts, of 8 bits."""
    texture = cv2.GaussianBlur(np.random.default_rng(0).uniform(0, 255, (HEIGHT, WIDTH + FRAMES, 3)), (0, 0), 3)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return [texture[:, shift : shift + WIDTH] for shift in range(FRAMES)]


@pytest.fixture(scope="module")
def recording(drifting, tmp_path_factory) -> tuple[Footage, Path]:
    root = tmp_path_factory.mktemp("film")
    raw = footage(root / "clip", drifting)
    return raw, make(raw, root / "set")


def test_blurry_pictures_are_the_means_of_the_true_frames_of_their_exposures(drifting, recording):
    folder = recording[1] / "1/test/clip"
    facts = json.loads((folder / "film.json").read_text())
    assert facts["exposure_starts"] == [20, 70, 120, 170, 220, 270]  # from the margin on, one each period
    for number, start in enumerate(facts["exposure_starts"]):
        mean = np.rint(np.mean(drifting[start : start + 30], 0, dtype=np.float64))
        np.testing.assert_array_equal(read_image(folder / f"blur_data/{number:06d}.png"), mean)


def test_the_truth_lies_at_even_times_over_the_whole_recording(drifting, recording):
    folder = recording[1] / "1/test/clip"
    times = json.loads((folder / "film.json").read_text())["truth_times"]
    assert times == list(range(0, FRAMES, 11))
    assert [f"{time:06d}.png" for time in times] == sorted(path.name for path in (folder / "sharp_data").iterdir())
    for time in times:
        np.testing.assert_array_equal(read_image(folder / f"sharp_data/{time:06d}.png"), drifting[time])


@pytest.mark.parametrize("threshold", [1, 4])
def test_the_stream_is_one_continuation(tmp_path, threshold):
    """The charge that a constant intensity brings up to any time is in the spikes or in the remainder, under one spike.

    Pieces with phases of their own would each lose or gain up to a spike.
    """
    gray = np.linspace(20, 255, WIDTH).astype(np.uint8)[None, :, None] * np.ones((HEIGHT, 1, 3), np.uint8)
    film = Film(600, exposure=97, period=120, step=200)
    root = make(footage(tmp_path / "clip", [gray] * film.frames), tmp_path / "set", film=film)
    spikes = read_spikes(root / f"{threshold}/test/clip/spikes.dat", HEIGHT // 4, WIDTH // 4)
    assert len(spikes) == film.frames
    seen = gray[:1, :, 0].astype(np.float64).reshape(1, -1, 4)[..., 1:3].mean(2) / 255  # the middle two of four columns
    charge = np.arange(1, film.frames + 1)[:, None, None] * seen * 1.98543 / (2 * threshold)
    error = np.cumsum(spikes, 0, dtype=np.int64) - charge
    assert np.abs(error).max() < 1.01
    np.testing.assert_allclose(spikes.mean(0), charge[-1:, 0].repeat(HEIGHT // 4, 0) / film.frames, atol=1 / 599)


def test_noise_goes_on_to_the_end_of_the_recording(tmp_path):
    black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    root = make(footage(tmp_path / "clip", [black] * FRAMES), tmp_path / "set", noise=(10.0, 1.0))
    spikes = read_spikes(root / "1/test/clip/spikes.dat", HEIGHT // 4, WIDTH // 4)
    for part in np.split(spikes, 3):
        assert part.mean() == pytest.approx(0.1, rel=0.1)
    # Three blocks of 137 frames: the noise of the second is not that of the first.
    assert not np.array_equal(spikes[:137], spikes[137:274])


def test_what_was_interrupted_or_lost_is_made_again_as_it_was(recording, tmp_path):
    raw, whole = recording

    class Interrupted(Exception):
        pass

    done = 0

    def advance(amount: int) -> None:
        nonlocal done
        done += amount
        if done == 200:
            raise Interrupted

    with pytest.raises(Interrupted):
        make(raw, tmp_path / "set", advance=advance)
    here = content(tmp_path / "set")
    assert any("blur_data" in name for name in here)
    assert not any(name.endswith((".partial", ".dat", ".json")) for name in here), "half a stream is none"
    kept = tmp_path / "set/1/test/clip/blur_data/000000.png"
    before = kept.stat().st_mtime_ns
    make(raw, tmp_path / "set")
    (tmp_path / "set/4/test/clip/spikes.dat").unlink()
    (tmp_path / "set/1/test/clip/blur_data/000003.png").unlink()
    make(raw, tmp_path / "set")
    assert content(tmp_path / "set") == content(whole)
    assert kept.stat().st_mtime_ns == before


def test_thresholds_share_their_pictures(recording):
    one, four = (recording[1] / name / "test/clip/blur_data/000000.png" for name in "14")
    assert os.path.samefile(one, four)


def test_a_scene_cut_is_named(drifting, tmp_path):
    other = [np.full((HEIGHT, WIDTH, 3), 255, np.uint8) - cv2.flip(frame, 0) for frame in drifting[:50]]
    raw = footage(tmp_path / "clip", drifting[:200] + other)
    with pytest.raises(InputError, match="scene cut before raw frame 200"):
        make(raw, tmp_path / "set", film=Film(250, 30, 50, 11))
    assert not list((tmp_path / "set").rglob("film.json"))


@pytest.mark.parametrize("duty", [20, 33, 60, 100])
def test_a_film_is_exposed_for_the_given_share_of_the_time(duty):
    film = plan(100, factor=24, interpolated=False, duty=duty, exposure=97, step=8)
    assert film.frames == 99 * 24 + 1
    assert film.exposure / film.period == pytest.approx(duty / 100, rel=0.005)
    assert (
        min(film.starts()) == 20
        and max(film.starts()) + 97 + 20 <= film.frames < max(film.starts()) + film.period + 137
    )
    with pytest.raises(InputError, match="5 frames make 97 spike frames; an exposure of 97 needs 137"):
        plan(5, factor=24, interpolated=False, duty=duty, exposure=97, step=8)


def run_script(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "make_gopro.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_script_makes_films_and_continues(drifting, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    footage(raw / "clip", drifting[:15])
    command = (raw, "--output", tmp_path / "set", "--factor", 12, "--film", 50, "--exposure", 40, "--truth_step", 12)
    first = run_script(*command)
    assert first.returncode == 0, first.stderr
    assert "1 films to make" in first.stdout
    folder = tmp_path / "set/train/clip"
    facts = json.loads((folder / "film.json").read_text())
    assert facts | {"exposure": 40, "period": 80, "exposure_starts": [20, 100], "spike_frames": 169} == facts
    # At multiples of the factor the truth is the recorded frame.
    np.testing.assert_array_equal(read_image(folder / "sharp_data/000036.png"), drifting[3])
    assert read_spikes(folder / "spikes.dat", 4, 8).shape == (169, 4, 8)
    second = run_script(*command)
    assert "0 films to make" in second.stdout and "1 sequences complete" in second.stdout
    with pytest.raises(InputError, match="truth_step was 12, now 8"):
        make_gopro.main(parse(make_gopro.Options, "", [str(word) for word in (*command[:-1], 8)]))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--exposure", "50"), "--exposure: not used without --film"),
        (("--film", "50", "--sequence"), "--sequence: not used with --film"),
        (("--film", "10"), "--film 10: accepted is 20 to 100"),
    ],
)
def test_flags_without_effect_and_values_out_of_range_are_named(tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        make_gopro.main(parse(make_gopro.Options, "", [str(tmp_path), "--output", str(tmp_path / "set"), *flags]))
