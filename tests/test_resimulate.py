"""Re-simulated samples have an exact truth: blurry picture and spikes agree with the sharp sequence."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_data

import train_deblur
from codes.data import manifest
from codes.data.batches import Packed
from codes.data.dataset import SpikeDataset
from codes.data.images import write_image
from codes.data.spikes import Exposure, write_spikes
from codes.distillation.teachers import ClosedFormTeacher
from codes.errors import InputError
from codes.networks import read_recipe, read_weights
from codes.recipe import RESIM
from codes.simulation.resimulation import frame_order, restored_scene
from scripts import resimulate
from scripts.dev.ablations import train as ablation


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resimulated")
    # 64 x 128: halved, a spike camera still has 8 x 16 pixels.
    make_data(folder / "data", train=2, test=1, height=64, width=128)
    resimulate.main(resimulate.Options(base_folder=(str(folder / "data"),), output=str(folder / "resimulated/again")))
    return folder


def options(scenes: Path, **more: object) -> dict:
    settings = {"base_folder": str(scenes / "resimulated/again"), "save_folder": str(scenes / "log"), "device": "cpu"}
    settings |= {"epochs": 2, "bs": 2, "roi_size": (32,), "workers": 0, "evaluate_every": 0, "tea_loss": "ssim"}
    return settings | more


def test_a_scene_is_played_back_and_forth_within_its_frames():
    exposure = Exposure()
    assert frame_order(1.0, exposure, 137).tolist() == list(range(137))
    for speed in (1.3, 2.0):
        frames = frame_order(speed, exposure, 129)
        assert frames.min() >= 0 and frames.max() <= 128 and frames[exposure.center] == 64
        assert np.abs(np.diff(frames)).max() <= np.ceil(speed)
        middle = frames[exposure.center - 20 : exposure.center + 21]
        assert middle[-1] - middle[0] == round(40 * speed)


def test_what_is_restored_is_half_as_large_and_looks_like_the_scene(scenes):
    sample = Packed.collate([SpikeDataset(scenes / "data", "train")[0]]).to(torch.device("cpu"))
    frames = restored_scene(ClosedFormTeacher(), sample.blur, sample.spikes)
    assert frames.shape[1:] == (32, 64, 3) and frames.dtype == np.uint8
    sharp = torch.nn.functional.avg_pool2d(sample.sharp, 2)[0].permute(1, 2, 0).numpy()
    blurry = torch.nn.functional.avg_pool2d(sample.blur, 2)[0].permute(1, 2, 0).numpy()
    error = [np.square(image - sharp).mean() for image in (frames[len(frames) // 2] / 255, blurry)]
    assert error[0] < error[1]


def test_the_truth_of_a_resimulated_scene_is_exact(scenes):
    """Its blurry picture is the mean of its exposure, and where its scene stands still the sequence is that picture."""
    samples = SpikeDataset(scenes / "resimulated/again", "train", fields=("spikes", "blur", "sharp", "sequence"))
    assert len(samples) == 2
    for index in range(2):
        sample = Packed.collate([samples[index]]).to(torch.device("cpu"))
        still = (sample.sequence.amax(1) - sample.sequence.amin(1)) < 3 / 255
        assert still.float().mean() > 0.2
        assert (sample.sequence[:, 3] - sample.blur).abs()[still].mean() < 2 / 255
        assert torch.equal(sample.sequence[:, 3], sample.sharp)
        rate = sample.spikes.float().mean()
        assert 0.1 * sample.blur.mean() < rate < 1.1 * sample.blur.mean() + 0.01


def test_a_dark_scene_has_noise_spikes(tmp_path):
    """One in 140 spike frames, as published; a scene without light has no others."""
    write_image(tmp_path / "dark/train/blur_data/night/000019.png", np.zeros((64, 128, 3), np.uint8))
    write_spikes(tmp_path / "dark/train/spike_data/night/000019.dat", np.zeros((137, 16, 32), np.uint8))
    resimulate.main(resimulate.Options(base_folder=(str(tmp_path / "dark"),), output=str(tmp_path / "again")))
    sample = Packed.collate([SpikeDataset(tmp_path / "again", "train", fields=("spikes", "blur"))[0]])
    sample = sample.to(torch.device("cpu"))
    assert sample.blur.max() == 0 and sample.spikes.float().mean().item() == pytest.approx(1 / 140, rel=0.2)


def test_the_same_command_makes_what_is_missing_and_nothing_else(scenes):
    folder = scenes / "resimulated/again/train"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}
    gone = next(path for path in before if path.suffix == ".dat")
    gone.unlink()
    resimulate.main(resimulate.Options(base_folder=(str(scenes / "data"),), output=str(scenes / "resimulated/again")))
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before}
    sample = gone.parent.name
    for path, (content, time) in before.items():
        assert after[path][0] == content
        assert after[path][1] == time or sample in path.parts


@pytest.fixture
def copied(scenes, tmp_path) -> tuple[Path, Path]:
    """A copy of the recordings and of what was made from them, elsewhere and at a later time."""
    for name in ("data", "resimulated"):
        shutil.copytree(scenes / name, tmp_path / name, copy_function=shutil.copyfile, symlinks=True)
    return tmp_path / "data", tmp_path / "resimulated/again"


def test_a_set_of_moved_recordings_is_continued(copied):
    data, made = copied
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.*") if path.is_file()}
    (made / "test").unlink()
    (made / "test").symlink_to(data / "gone")
    resimulate.main(resimulate.Options(base_folder=(str(data),), output=str(made)))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (made / "test").resolve() == data / "test"


@pytest.mark.parametrize("kind", ["spike_data/scene/000001.dat", "blur_data/scene/000001.png"])
def test_a_set_of_recordings_that_changed_is_not_continued_and_they_are_named(copied, kind):
    data, made = copied
    path, other = data / "train" / kind, data / "train" / kind.replace("1.", "0.")
    before = path.stat()
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InputError, match=rf"made from files that changed since \({re.escape(kind)} changed\); choose"):
        resimulate.main(resimulate.Options(base_folder=(str(data),), output=str(made)))


def test_a_set_that_other_code_began_is_continued_with_a_note(copied, capsys):
    data, made = copied
    record = manifest.read(made / "resimulated.json")
    manifest.write(made / "resimulated.json", record | {"code": record["code"] | {"codes.physics.sdm": "0" * 32}})
    resimulate.main(resimulate.Options(base_folder=(str(data),), output=str(made)))
    assert (
        "was begun with another code (codes.physics.sdm changed); samples made now may differ"
        in capsys.readouterr().out
    )


def test_an_older_record_is_read_and_completed(copied):
    """It has another name and tells its sources by their paths alone."""
    data, made = copied
    record = manifest.read(made / "resimulated.json")
    (made / "resimulated.json").unlink()
    older = {"options": record["options"], "versions": record["versions"] | {"teacher": "4"}}
    manifest.write(made / "refilmed.json", older)
    assert manifest.is_resimulated(made) and manifest.thresholds(made) == [1.0, 4.0]
    with pytest.raises(InputError, match=r"base_folder was .*, now .*choose another --output"):
        resimulate.main(resimulate.Options(base_folder=(str(data),), output=str(made)))
    manifest.write(made / "refilmed.json", older | {"options": record["options"] | {"base_folder": [str(data)]}})
    resimulate.main(resimulate.Options(base_folder=(str(data),), output=str(made)))
    assert manifest.read(made / "refilmed.json")["sources"] == record["sources"]
    assert not (made / "resimulated.json").exists()


def test_the_sharp_pictures_of_a_recording_are_never_opened(scenes, monkeypatch):
    opened, was = [], resimulate.SpikeDataset._read

    def read(self: SpikeDataset, path: Path, index: int) -> np.ndarray:
        opened.append(path)
        return was(self, path, index)

    monkeypatch.setattr(resimulate.SpikeDataset, "_read", read)
    resimulate.main(resimulate.Options(base_folder=(str(scenes / "data"),), output=str(scenes / "once_more")))
    assert opened and all("blur_data" in str(path) for path in opened)


def test_ldn_of_recipe_resim_starts_at_the_closed_form_and_is_the_default_there(scenes):
    train_deblur.main(train_deblur.Options(**options(scenes, exp_name="tiny")))
    path = scenes / "log/deblur/tiny/checkpoints/LDN_0002.pth"
    assert read_recipe(path).items() >= RESIM.items()
    test = options(scenes, exp_name="tiny", test_mode=True, deblur_path=str(path))
    rows = train_deblur.main(train_deblur.Options(**test))
    assert rows["LDN"]["psnr"] == pytest.approx(rows["SDM MFSR"]["psnr"], abs=1.0)
    assert rows["LDN"]["psnr"] != rows["SDM MFSR"]["psnr"]


def test_training_on_them_stops_and_goes_on_bit_for_bit(scenes):
    train_deblur.main(train_deblur.Options(**options(scenes, exp_name="whole")))
    for steps in (1, None):
        train_deblur.main(train_deblur.Options(**options(scenes, exp_name="parts", steps=steps)))
    one, other = (read_weights(scenes / f"log/deblur/{run}/checkpoints/LDN_0002.pth") for run in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_copy_without_its_record_does_not_change_the_recipe_of_a_run(copied):
    """By the record the recipe is chosen; where it is missing the default is another."""
    data, made = copied
    settings = options(data.parent, base_folder=str(made), exp_name="copied")
    train_deblur.main(train_deblur.Options(**settings | {"steps": 1}))
    (made / "resimulated.json").unlink()
    with pytest.raises(InputError, match=r"recipe: spike_input .* then, spike_input .* now"):
        train_deblur.main(train_deblur.Options(**settings))


def test_data_that_were_not_resimulated_are_refused_by_name(scenes):
    with pytest.raises(InputError, match=r"data: this recipe learns from .* scripts/resimulate\.py --base_folder"):
        train_deblur.main(train_deblur.Options(**options(scenes, base_folder=str(scenes / "data"), recipe="resim")))


@pytest.mark.parametrize("threshold", [(1.0,), (2.0, 1.0), (0.0, 1.0), (1.0, float("nan")), (1.0, float("inf")), ()])
def test_thresholds_that_are_no_range_are_refused(scenes, threshold):
    with pytest.raises(InputError, match=r"--threshold .* accepted"):
        resimulate.main(resimulate.Options(base_folder=(str(scenes / "data"),), output="unused", threshold=threshold))


def test_the_ablation_trains_on_it(scenes):
    options = ablation.Options(
        base_folder=str(scenes / "data"),
        resimulated=str(scenes / "resimulated/again"),
        steps=2,
        seeds=1,
        roi_size=32,
        output=str(scenes / "ablation"),
        only=("input mfsr, teacher resim",),
    )
    first, second, third = ablation.main(options).rows
    assert [row[0] for row in (first, second, third)] == [
        "input mfsr, teacher resim",
        "input mfsr, teacher resim, data consistency (recipe resim)",
        "recipe resim, 1 iteration",
    ]
    assert first[1] > 0 and first[2] == 0 and first[3] is None  # one seed, no sequence
    runs = sorted(path.name for path in (scenes / "ablation/runs/deblur").iterdir())
    record = json.loads((scenes / f"ablation/runs/deblur/{runs[0]}/options.json").read_text())
    assert record["options"]["base_folder"] == str(scenes / "resimulated/again")
    with pytest.raises(InputError, match="--resimulated is missing"):
        ablation.main(dataclasses.replace(options, resimulated=""))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"train_split": "test"}, "--train_split test: it holds recordings"),
        ({"lambda_reblur": 0.0, "use_ssim": True}, "--lambda_reblur, --use_ssim: not used with the truth"),
        ({"recipe": "resim", "teacher": "sdm"}, "--teacher sdm: LDN's image input is mfsr"),
    ],
)
def test_neither_truth_nor_its_own_input_teaches(scenes, more, told):
    with pytest.raises(InputError, match=told):
        train_deblur.main(train_deblur.Options(**options(scenes, exp_name="refused", **more)))


def test_recordings_without_truth_are_resimulated(scenes):
    """--data_type real: spikes and pictures in the folder itself, nothing sharp."""
    for kind in ("blur_data", "spike_data"):
        shutil.copytree(scenes / "data/train" / kind, scenes / "real" / kind)
    resimulate.main(
        resimulate.Options(base_folder=(str(scenes / "real"),), data_type="real", output=str(scenes / "of_real"))
    )
    assert len(SpikeDataset(scenes / "of_real", "train", fields=("spikes", "blur", "sequence"))) == 2
