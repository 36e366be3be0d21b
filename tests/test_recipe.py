"""Weights know what they eat: training notes it, every program goes by it, what contradicts it is refused."""

import re
from pathlib import Path

import pytest
import torch

import train_bsn
import train_deblur
from codes.errors import InputError
from codes.networks import BSN, EDSR, LDN, read_recipe, read_weights
from codes.recipe import PUBLISHED, RATES, settle


@pytest.fixture
def options(data) -> dict:
    settings = {"base_folder": str(data), "save_folder": str(data.parent / "log"), "exp_name": "tiny", "device": "cpu"}
    return settings | {"epochs": 2, "bs": 2, "roi_size": (32,), "workers": 0, "evaluate_every": 0}


def trained(options: dict, **more: object) -> str:
    """Train LDN without BSN and EDSR, return its weight file."""
    settings = options | {"tea_loss": "ssim"} | more
    train_deblur.main(train_deblur.Options(**settings))
    return f"{settings['save_folder']}/deblur/{settings['exp_name']}/checkpoints/LDN_0002.pth"


def test_without_bsn_ldn_is_trained_on_rates_and_its_file_says_so(options):
    path = trained(options)
    assert read_recipe(path) == read_recipe(Path(path).parent / "state.pth") == RATES
    rows = train_deblur.main(train_deblur.Options(**options | {"test_mode": True, "deblur_path": path}))
    assert list(rows) == ["blurry", "TFP_9", "TFI", "SDM", "SDM rates", "SDM fused", "LDN"]
    assert rows["LDN"]["psnr"] == pytest.approx(rows["SDM rates"]["psnr"], abs=1.0)  # where it starts
    assert rows["SDM rates"]["psnr"] > rows["SDM"]["psnr"]


def test_labels_kept_and_computed_live_train_the_same(options, data):
    whole = options | {"roi_size": (32, 64)}  # crops as large as the pictures
    weights = [
        read_weights(trained(whole, teacher=teacher, exp_name=f"{teacher}{bool(cache)}", teacher_cache=cache))
        for teacher in ("consistent", "fused")
        for cache in ("", str(data.parent / teacher))
    ]
    for live, kept in (weights[:2], weights[2:]):
        for name, tensor in live.items():
            torch.testing.assert_close(kept[name], tensor, atol=2e-3, rtol=0)


def test_the_published_recipe_leaves_a_bare_state_dict(options, tmp_path):
    torch.save(BSN().state_dict(), tmp_path / "bsn.pth")
    torch.save(EDSR().state_dict(), tmp_path / "sr.pth")
    path = trained(options, bsn_path=str(tmp_path / "bsn.pth"), sr_path=str(tmp_path / "sr.pth"))
    assert torch.load(path, weights_only=True).keys() == LDN().state_dict().keys() and read_recipe(path) == PUBLISHED


def test_a_flag_against_a_weight_file_is_refused_with_both_values(options, tmp_path):
    torch.save({"net": BSN().state_dict(), "recipe": {"spike_input": "rates"}}, tmp_path / "bsn.pth")
    settings = options | {"bsn_path": str(tmp_path / "bsn.pth"), "spike_input": "counts"}
    with pytest.raises(InputError, match=r"bsn\.pth: made for --spike_input rates, asked for is counts"):
        train_bsn.main(train_bsn.Options(**settings))


@pytest.mark.parametrize("recipe", [{"spike_input": "smells"}, "rates", {}])
def test_a_recipe_of_another_kind_is_refused(tmp_path, recipe):
    torch.save({"net": LDN().state_dict(), "recipe": recipe}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=re.escape("counts or rates")):
        read_recipe(tmp_path / "odd.pth")


def test_flags_go_before_weights_and_weights_before_the_default():
    assert settle({}, {}, RATES) == RATES
    assert settle({"teacher": "consistent"}, {}, RATES) == RATES | {"teacher": "consistent"}
    assert settle({"recipe": "published"}, {}, RATES) == PUBLISHED
    assert settle({}, {"a.pth": RATES}, PUBLISHED) == RATES
    with pytest.raises(InputError, match=r"do not go together: a\.pth for counts, b\.pth for rates"):
        settle({}, {"a.pth": PUBLISHED, "b.pth": RATES}, PUBLISHED)
