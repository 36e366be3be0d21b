"""Weights hold their input specification: training writes it, all programs follow it, contradictions are refused."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

import train_bsn
import train_deblur
from codes.data import manifest
from codes.data.batches import Batches, Packed
from codes.data.dataset import SpikeDataset
from codes.data.spikes import Exposure
from codes.distillation.supervision import random_times
from codes.engine import cosine
from codes.errors import InputError
from codes.networks import BSN, EDSR, LDN, read_recipe, read_weights
from codes.physics.data_consistency import data_consistency_residual, mean_over_exposure
from codes.recipe import ISI, PUBLISHED, RESIM, settle
from codes.stage import initial_network, student


@pytest.fixture
def options(data) -> dict:
    settings = {"base_folder": str(data), "save_folder": str(data.parent / "log"), "exp_name": "tiny", "device": "cpu"}
    return settings | {"epochs": 2, "bs": 2, "roi_size": (32,), "workers": 0, "evaluate_every": 0}


def trained(options: dict, **more: object) -> str:
    """Train LDN without BSN and EDSR, return its weight file."""
    settings = options | {"tea_loss": "ssim"} | more
    train_deblur.main(train_deblur.Options(**settings))
    return f"{settings['save_folder']}/deblur/{settings['exp_name']}/checkpoints/LDN_0002.pth"


def test_without_bsn_ldn_is_trained_on_isi_intensity_and_its_file_says_so(options):
    path = trained(options)
    found = read_recipe(path)
    assert found == read_recipe(Path(path).parent / "state.pth") and found.items() >= ISI.items()
    assert found["threshold"] == "unknown" and found["bsn_len"] == "9" and found["commit"]
    rows = train_deblur.main(train_deblur.Options(**options | {"test_mode": True, "deblur_path": path}))
    assert list(rows) == ["blurry", "TFP_9", "TFI", "SDM", "SDM ISI", "SDM MFSR", "LDN along motion", "LDN"]
    assert rows["LDN"]["psnr"] == pytest.approx(rows["SDM ISI"]["psnr"], abs=1.0)  # where it starts
    assert rows["SDM ISI"]["psnr"] > rows["SDM"]["psnr"]


def test_weights_of_another_picture_are_refused_with_both_named():
    with pytest.raises(InputError, match=r"w\.pth: its image input is blurry, that of --recipe resim is mfsr"):
        settle({"recipe": "resim"}, {"w.pth": ISI}, PUBLISHED)
    with pytest.raises(InputError, match=r"w\.pth: its image input is mfsr, that of --recipe isi is blurry"):
        settle({"recipe": "isi"}, {"w.pth": RESIM}, PUBLISHED)


def test_the_published_recipe_leaves_a_bare_state_dict(options, tmp_path):
    torch.save(BSN().state_dict(), tmp_path / "bsn.pth")
    torch.save(EDSR().state_dict(), tmp_path / "sr.pth")
    path = trained(options, bsn_path=str(tmp_path / "bsn.pth"), sr_path=str(tmp_path / "sr.pth"))
    assert torch.load(path, weights_only=True).keys() == LDN().state_dict().keys() and read_recipe(path) == PUBLISHED


def test_a_flag_against_a_weight_file_is_refused_with_both_values(options, tmp_path):
    torch.save({"net": BSN().state_dict(), "recipe": {"spike_input": "isi"}}, tmp_path / "bsn.pth")
    settings = options | {"bsn_path": str(tmp_path / "bsn.pth"), "spike_input": "counts"}
    with pytest.raises(InputError, match=r"bsn\.pth: made for --spike_input isi, asked for is counts"):
        train_bsn.main(train_bsn.Options(**settings))


def test_weights_note_what_they_were_trained_on_and_by(options, data):
    manifest.write(data / "demo.json", {"options": {"threshold": [1.0, 4.0]}})
    path = trained(options, bsn_len=7)
    assert read_recipe(path).items() >= {"threshold": "1 to 4", "bsn_len": "7"}.items()
    with pytest.raises(InputError, match=r"LDN_0002\.pth: made with --bsn_len 7, asked for is 9"):
        train_deblur.main(train_deblur.Options(**options | {"test_mode": True, "deblur_path": path}))


@pytest.mark.parametrize(
    "folder, note, found",
    [
        ("threshold_2", None, [2.0]),
        ("threshold_high", None, []),
        ("demo", 4.0, [4.0]),
        ("demo", [1.0, 2.0, 4.0], [1.0, 4.0]),
        ("demo", "high", []),
    ],
)
def test_the_threshold_of_a_data_set_is_its_name_or_its_note(tmp_path, folder, note, found):
    if note:
        manifest.write(tmp_path / folder / "refilmed.json", {"options": {"threshold": note}})
    assert manifest.thresholds(tmp_path / folder) == found


@pytest.mark.parametrize("recipe", [{"spike_input": "smells"}, "isi", {}])
def test_a_recipe_of_another_kind_is_refused(tmp_path, recipe):
    torch.save({"net": LDN().state_dict(), "recipe": recipe}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=re.escape("counts or isi")):
        read_recipe(tmp_path / "odd.pth")


def test_flags_go_before_weights_and_weights_before_the_default():
    assert settle({}, {}, ISI) == ISI
    assert settle({"teacher": "sdm"}, {}, ISI) == ISI | {"teacher": "sdm"}
    assert settle({"recipe": "published"}, {}, ISI) == PUBLISHED
    assert settle({}, {"a.pth": ISI}, PUBLISHED) == ISI
    with pytest.raises(InputError, match=r"do not go together: a\.pth for counts, b\.pth for isi"):
        settle({}, {"a.pth": PUBLISHED, "b.pth": ISI}, PUBLISHED)


def test_the_published_rate_swings_every_202_steps():
    """As torch's own CosineAnnealingLR with T_max 101, which the reference steps once an iteration."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=101)
    o = SimpleNamespace(recipe="reference", lr=1e-3, warm_up=0.0)
    swinging = student.schedule(o, PUBLISHED, SimpleNamespace(total=606, epochs=101))
    for step in range(606):
        assert swinging(step / 606) == pytest.approx(schedule.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        schedule.step()
    assert cosine(1e-3)(0) == 1e-3 and cosine(1e-3)(1) == pytest.approx(0)


def test_the_rate_rises_first_where_labels_lie_close_to_the_start(options, monkeypatch):
    rising, plain = cosine(1e-3, warm_up=0.2), cosine(1e-3)
    assert rising(0) == 0
    assert rising(0.05) == pytest.approx(plain(0.05) / 4) and rising(0.15) == pytest.approx(plain(0.15) * 3 / 4)
    assert all(rising(progress) == plain(progress) for progress in (0.2, 0.5, 1.0))
    risen = []
    monkeypatch.setattr(student, "cosine", lambda *lr, **how: [risen.append(how["warm_up"]), cosine(*lr, **how)][1])
    quick = {"teacher": "sdm", "steps": 1}
    for name, more in {"isi": {}, "asked": {"warm_up": 0.5}, "not": {"warm_up": 0.0}}.items():
        train_deblur.main(train_deblur.Options(**options | {"tea_loss": "ssim", "exp_name": name} | quick | more))
    published = {"spike_input": "counts", "lambda_tea": 0.0, "exp_name": "counts"}
    train_deblur.main(train_deblur.Options(**options | {"tea_loss": "ssim"} | quick | published))
    assert risen == [0.05, 0.5, 0.0, 0.0]
    with pytest.raises(InputError, match=r"--warm_up 2: a share of the run, 0 to 1"):
        train_deblur.main(train_deblur.Options(**options | {"warm_up": 2.0}))


def test_the_mean_over_the_exposure_counts_the_ends_half():
    """The trapezoid rule: exact for intensity that changes linearly between the times."""
    for values, mean in (([0, 0.25, 0.5, 0.75, 1], 0.5), ([1, 0, 0, 0, 0], 0.125), ([0, 1, 0, 0, 0], 0.25)):
        assert mean_over_exposure(torch.tensor(values, dtype=torch.float32).view(1, 5, 1, 1, 1)).item() == mean


def test_data_consistency_gives_the_mean_of_what_is_restored_back():
    sharp, blur = torch.rand(2, 7, 3, 8, 8), torch.rand(2, 3, 8, 8)
    corrected = sharp + data_consistency_residual(sharp, blur).unsqueeze(1)
    torch.testing.assert_close(mean_over_exposure(corrected), blur)
    torch.testing.assert_close(data_consistency_residual(corrected, blur), torch.zeros_like(blur))


def test_random_times_lie_one_in_each_part_of_the_exposure():
    exposure, seen = Exposure(), set()
    for batch in range(300):
        times = random_times(exposure, 5, seed=0, batch=batch)
        parts = [(20 + part * 97 / 5, 20 + (part + 1) * 97 / 5) for part in range(5)]
        assert all(first - 1 < time < end for time, (first, end) in zip(times, parts, strict=True))
        seen |= set(times)
    assert seen == set(range(20, 117))


def test_random_times_are_the_same_in_all_processes(data):
    """They follow from the seed and the number of the batch, of which each process reads another part."""
    samples = SpikeDataset(data, "train", fields=("spikes",))

    def times(rank: int, world: int) -> list[list[int]]:
        batches = Batches(len(samples), 2, epochs=2, seed=3, rank=rank, world=world)
        loaded = DataLoader(samples, batch_sampler=batches, collate_fn=Packed.collate)
        numbers = [packed.to(torch.device("cpu")).number for packed in loaded]
        return [random_times(Exposure(), 5, seed=3, batch=number) for number in numbers]

    alone = times(0, 1)
    assert times(0, 2) == times(1, 2) == alone and len(alone) == 4 and alone[0] != alone[1]


VARIANTS = {"reblur": "trapezoid"}, {"reblur": "random"}, {"clip": True, "init": "random"}, {"lr_cycles": 2.0}


@pytest.mark.parametrize("change", VARIANTS)
def test_each_variant_trains_otherwise_and_resumes_exactly(options, change):
    live = options | {"teacher": "sdm", "init": change.get("init", "blur")}
    plain, through = (read_weights(trained(live | more, exp_name=name)) for name, more in (("p", {}), ("t", change)))
    trained(live | change, exp_name="s", steps=1)
    stopped = read_weights(trained(live | change, exp_name="s"))
    assert all(torch.equal(tensor, stopped[name]) for name, tensor in through.items())
    assert any(not torch.equal(tensor, plain[name]) for name, tensor in through.items())


def test_random_instants_go_with_no_kept_labels(options, tmp_path):
    for more in ({"teacher": "mfsr"}, {"teacher": "sdm", "teacher_cache": str(tmp_path)}):
        with pytest.raises(InputError, match=r"--reblur random: .*cannot be kept"):
            trained(options, reblur="random", **more)


@pytest.mark.parametrize("recipe, test_mode, is_read", [("reference", False, False), ("reference", True, True),
                                                        ("published", False, True)])  # fmt: skip
def test_the_reference_trains_from_scratch_though_weights_are_given(tmp_path, recipe, test_mode, is_read):
    given, net, told = EDSR(), EDSR(), []
    torch.save(given.state_dict(), tmp_path / "sr.pth")
    o = SimpleNamespace(recipe=recipe, test_mode=test_mode, sr_path=str(tmp_path / "sr.pth"))
    run = SimpleNamespace(journal=SimpleNamespace(log=told.append), device=torch.device("cpu"))
    found = initial_network(o, net, "--sr_path", run)
    assert all(map(torch.equal, found.state_dict().values(), given.state_dict().values())) == is_read
    assert any("trains from scratch" in line for line in told) == (not is_read)
