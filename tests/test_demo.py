"""The demo set: laid out as published, blurred as much as it should be, the same whoever makes it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from codes.data.images import read_image
from codes.data.spikes import read_spikes
from codes.errors import InputError
from codes.simulation import demo_scenes, varied_scenes
from codes.simulation.camera import sense
from codes.simulation.demo_scenes import PHOTOGRAPHS, Layer, Scene, draw, film, photograph
from scripts.make_demo import Options, main

SMALL = Options(train=2, test=1, size=64)
SCENES = [("train", "astronaut-000"), ("train", "motorcycle_left-001"), ("test", "chelsea-000")]
TIMES = (20, 36, 52, 68, 84, 100, 116)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "set"
    main(replace(SMALL, output=str(folder)))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_layout_is_the_published_one_with_the_sequence_beside(demo):
    wanted = {"demo.json"}
    for split, scene in SCENES:
        wanted |= {f"{split}/{kind}/{scene}/000019.png" for kind in ("blur_data", "sharp_data")}
        wanted |= {f"{split}/spike_data/{scene}/000019.dat"}
    wanted |= {f"test/sharp_sequence/chelsea-000/000019/{at:03d}.png" for at in TIMES}
    assert set(contents(demo)) == wanted
    for name in wanted - {"demo.json"}:
        if name.endswith(".png"):
            assert read_image(demo / name).shape == (64, 64, 3)
        else:
            assert (demo / name).stat().st_size == 137 * 16 * 16 / 8


def test_same_seed_same_bytes_however_many_scenes(demo, tmp_path):
    main(replace(SMALL, train=1, output=str(tmp_path / "again")))
    made, again = contents(demo), contents(tmp_path / "again")
    del again["demo.json"]
    assert len(again) == 3 + 3 + 7
    assert again == {name: made[name] for name in again}


def test_other_seed_other_bytes(demo, tmp_path):
    main(replace(SMALL, seed=1, train=1, output=str(tmp_path / "other")))
    made, other = contents(demo), contents(tmp_path / "other")
    assert not any(made[name] == other[name] for name in other)


def test_sequence_of_the_training_scenes_on_request(tmp_path):
    main(replace(SMALL, train=1, test=0, sequence=True, output=str(tmp_path / "set")))
    truths = sorted((tmp_path / "set/train/sharp_sequence/astronaut-000/000019").iterdir())
    assert [path.name for path in truths] == [f"{at:03d}.png" for at in TIMES]


def test_photographs_are_in_the_package_and_of_one_split_only():
    assert not set(PHOTOGRAPHS["train"]) & set(PHOTOGRAPHS["test"])
    for name, tint in {**PHOTOGRAPHS["train"], **PHOTOGRAPHS["test"]}.items():
        image = photograph(name, tint)
        assert image.ndim == 3 and image.dtype == np.uint8
        # Gray ones are tinted.
        assert np.abs(image[..., 0].astype(int) - image[..., 2]).mean() > 5, name


@pytest.mark.parametrize("split, background", [(split, name) for split in PHOTOGRAPHS for name in PHOTOGRAPHS[split]])
def test_every_photograph_is_blurred_by_18_to_23_db(split, background):
    frames = film(PHOTOGRAPHS[split], background, size=32, rng=np.random.default_rng(7)).astype(np.float64)
    error = np.mean((np.rint(frames[20:117].sum(0) / 97) - frames[68]) ** 2)
    assert 18 < 10 * np.log10(255**2 / error) < 23


@pytest.mark.parametrize("index", range(3))
def test_pictures_are_the_rendered_instants_and_their_mean(demo, index):
    split, scene = SCENES[index]
    name, number = scene.split("-")
    rng = np.random.default_rng((0, ("train", "test").index(split), int(number)))
    frames = film(PHOTOGRAPHS[split], f"{name}.png", size=64, rng=rng)
    total = frames[20:117].astype(np.int64).sum(0)
    np.testing.assert_array_equal(
        read_image(demo / split / "blur_data" / scene / "000019.png"), (2 * total + 97) // 194
    )
    np.testing.assert_array_equal(read_image(demo / split / "sharp_data" / scene / "000019.png"), frames[68])
    if split == "test":
        for at in TIMES:
            truth = read_image(demo / "test/sharp_sequence" / scene / f"000019/{at:03d}.png")
            np.testing.assert_array_equal(truth, frames[at])


def test_middle_of_the_sequence_is_the_sharp_truth(demo):
    sharp = demo / "test/sharp_data/chelsea-000/000019.png"
    assert sharp.read_bytes() == (demo / "test/sharp_sequence/chelsea-000/000019/068.png").read_bytes()


@pytest.mark.parametrize("split, scene", SCENES)
def test_spikes_show_what_the_blurry_picture_shows(demo, split, scene):
    """The mean of the exposure's spikes is the gray blurry picture, up to phase (1/97) and noise."""
    intensity = sense(read_image(demo / split / "blur_data" / scene / "000019.png"))
    tfp = read_spikes(demo / split / "spike_data" / scene / "000019.dat", 16, 16)[20:117].mean(0)
    assert np.corrcoef(intensity.ravel(), tfp.ravel())[0, 1] > 0.9
    # A noise spike counts only where there was none.
    np.testing.assert_allclose(tfp.mean(), intensity.mean() * 1.98543 / 2 * (1 - 1 / 140) + 1 / 140, atol=0.01)


def test_threshold_divides_the_rate_and_noise_can_be_left_out(tmp_path):
    main(replace(SMALL, train=0, threshold=(4.0,), noise=False, output=str(tmp_path / "dark")))
    intensity = sense(read_image(tmp_path / "dark/test/blur_data/chelsea-000/000019.png"))
    tfp = read_spikes(tmp_path / "dark/test/spike_data/chelsea-000/000019.dat", 16, 16)[20:117].mean(0)
    np.testing.assert_allclose(tfp, intensity * 1.98543 / 2 / 4, atol=1.1 / 97 + 0.004)


def test_a_whole_pixel_of_motion_is_a_whole_pixel_in_the_picture():
    """A world that runs right by 8 pixels a unit of time, an object in it, shows the same pixels 8 further on."""
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    patch = np.ones((9, 9, 4), np.float32) * (10, 20, 30, 1)
    still = lambda time: np.zeros(4)  # noqa: E731
    run = lambda time: np.array((time, 0, 0, 0))  # noqa: E731

    def shift(right, down):
        return np.array(((1, 0, right), (0, 1, down), (0, 0, 1.0)))

    world = Layer(image, shift(-48, -48), np.eye(3), run)
    there = Layer(patch.astype(np.float32), shift(-4.0, -4.0), np.eye(3), still)
    scene = Scene(64, world, (there,))
    before, after = scene.picture(0.0, 8 / 64), scene.picture(1.0, 8 / 64)
    np.testing.assert_array_equal(after[:, 8:], before[:, :-8])
    wanted = image[16:80, 16:80].copy()
    wanted[28:37, 28:37] = (10, 20, 30)
    np.testing.assert_array_equal(before, wanted)


@pytest.mark.parametrize("seed", range(4))
def test_motion_is_smooth_and_starts_from_the_middle(seed):
    scene = draw(PHOTOGRAPHS["train"], "brick.png", size=64, rng=np.random.default_rng(seed))
    for layer in (scene.background, *scene.objects):
        np.testing.assert_array_equal(layer.motion(0.0), 0)
        path = np.stack([layer.motion(frame / 96) for frame in range(-68, 69)])
        # No jerk: the second difference is far below the way from end to end.
        assert np.abs(np.diff(path, 2, axis=0)).max() < 0.05 * np.ptp(path, axis=0).max()


@pytest.mark.parametrize("seed", range(4))
def test_objects_have_soft_edges_and_lie_whole_in_their_layer(seed):
    for layer in draw(PHOTOGRAPHS["test"], "coffee.png", size=128, rng=np.random.default_rng(seed)).objects:
        alpha = layer.pixels[..., 3]
        edge = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert alpha.max() == pytest.approx(1, abs=1e-3) and edge.max() < 0.01
        assert np.abs(np.diff(alpha, axis=0)).max() < 0.75
        assert (layer.pixels[..., :3] <= 255 * alpha[..., None] + 1e-3).all()


def test_other_options_are_refused_by_name(demo):
    before = contents(demo)
    with pytest.raises(InputError, match=r"threshold was 1\.0, now 2\.0; seed was 0, now 3\).*--output"):
        main(replace(SMALL, threshold=(2.0,), seed=3, output=str(demo)))
    assert contents(demo) == before


def test_what_is_there_is_kept_and_what_is_missing_is_made(demo):
    before = contents(demo)
    kept, lost = (demo / split / "spike_data" / scene / "000019.dat" for split, scene in SCENES[:2])
    written = kept.stat().st_mtime_ns
    lost.unlink()
    main(replace(SMALL, output=str(demo)))
    assert contents(demo) == before
    assert kept.stat().st_mtime_ns == written


def test_data_of_another_making_are_refused(tmp_path):
    (tmp_path / "GOPRO/train/blur_data").mkdir(parents=True)
    with pytest.raises(InputError, match=r"GOPRO.*demo\.json.*--output"):
        main(replace(SMALL, output=str(tmp_path / "GOPRO")))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not a folder"):
        main(replace(SMALL, output=str(tmp_path / "file")))
    (tmp_path / "demo.json").write_text("{")
    with pytest.raises(InputError, match=r"demo\.json: no readable JSON"):
        main(replace(SMALL, output=str(tmp_path)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 72},
        {"size": 16},
        {"threshold": (0.0,)},
        {"threshold": (float("nan"),)},
        {"threshold": (float("inf"),)},
        {"size": 10**6},
        {"threshold": (4.0, 1.0)},
        {"threshold": (1.0, 2.0, 4.0)},
        {"threshold": ()},
        {"train": -1},
        {"seed": -1},
    ],
)
def test_values_out_of_range_are_refused_before_anything_is_written(tmp_path, wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=f"--{name} .*accepted"):
        main(replace(SMALL, output=str(tmp_path / "set"), **wrong))
    assert not (tmp_path / "set").exists()


VARIED = Options(train=len(varied_scenes.BACKGROUNDS), test=1, size=32, threshold=(1.0, 4.0), variety=True)


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("varied") / "set"
    main(replace(VARIED, output=str(folder)))
    return folder


def test_variety_is_of_every_kind_blurred_as_it_says_and_names_its_thresholds(varied):
    names = sorted(path.name for path in (varied / "train/blur_data").iterdir())
    assert {name.split("-")[0] for name in names} == set(varied_scenes.STILLS)
    thresholds = [float(name.split("-v")[1]) for name in names]
    assert len(set(thresholds)) > 6 and min(thresholds) >= 1 and max(thresholds) <= 4
    for name, threshold in zip(names, thresholds, strict=True):
        blur, sharp = (read_image(varied / f"train/{kind}_data" / name / "000019.png") for kind in ("blur", "sharp"))
        error = np.mean((blur.astype(float) - sharp) ** 2)
        assert 14.5 < 10 * np.log10(255**2 / error) < 28.5
        tfp = read_spikes(varied / "train/spike_data" / name / "000019.dat", 8, 8)[20:117].mean()
        np.testing.assert_allclose(tfp, sense(blur).mean() * 1.98543 / 2 / threshold + 1 / 140, atol=0.02)


def test_variety_is_the_same_whoever_makes_it_and_leaves_the_test_scenes_alone(varied, tmp_path):
    main(replace(VARIED, train=1, output=str(tmp_path / "again")))
    made, again = contents(varied), contents(tmp_path / "again")
    del again["demo.json"]
    assert again == {name: made[name] for name in again}
    main(replace(VARIED, variety=False, train=0, output=str(tmp_path / "plain")))
    plain = contents(tmp_path / "plain")
    del plain["demo.json"]
    assert plain and plain == {name: made[name] for name in plain}


def test_variety_shows_no_test_photograph(monkeypatch):
    shown = set()
    monkeypatch.setattr(
        varied_scenes, "photograph", lambda name, tint: shown.add(name) or demo_scenes.photograph(name, tint)
    )
    for number in range(60):
        varied_scenes.draw("photograph", size=32, rng=np.random.default_rng(number))
    assert shown == set(varied_scenes.POOL) and not shown & set(PHOTOGRAPHS["test"])


@pytest.mark.parametrize("kind", varied_scenes.STILLS)
@pytest.mark.parametrize("side", [24, 51])
def test_stills_are_pictures_of_any_size_with_something_in_them(kind, side):
    for seed in range(3):
        still = varied_scenes.STILLS[kind](side, np.random.default_rng(seed))
        assert still.shape == (side, side, 3) and still.dtype == np.uint8
        assert kind == "photograph" or np.ptp(still) > 10


def test_the_script_runs_from_the_repository_and_says_what_it_made(tmp_path):
    command = [sys.executable, "scripts/make_demo.py", "--train", "0", "--test", "1", "--size", "32"]
    done = subprocess.run([*command, "--output", str(tmp_path / "set")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 test scenes" in done.stdout and " dB" in done.stdout and str(tmp_path / "set") in done.stdout
