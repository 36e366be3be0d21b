"""BSN on rates: its output and the pixel that it cannot see are weighed by how sure each is."""

import pytest
import torch

from codes.engine import checkpoint
from codes.errors import InputError
from codes.networks import BSN
from codes.recipe import RATES
from scripts.dev import ablation


@pytest.mark.parametrize("blind_error", [0.012, 0.02, 0.04])
def test_the_posterior_mean_is_nearer_than_either_guess(blind_error):
    """Known variances: the error of the best weighing is that of two independent guesses together."""
    torch.manual_seed(0)
    light, ticks = torch.full((1, 1, 200, 200), 0.5), torch.full((1, 1, 200, 200), 12.0)
    own = 0.5 / (6**0.5 * 12)  # of charge by time
    measured = light + own * torch.randn_like(light)
    blind = light + blind_error * torch.randn_like(light)
    error = (ablation.posterior_mean(blind, measured, ticks) - light).square().mean().sqrt().item()
    best = (1 / own**2 + 1 / blind_error**2) ** -0.5
    assert error == pytest.approx(best, rel=0.1)  # variances are told by 25 pixels
    assert error < min(own, blind_error)


def test_every_way_is_measured_at_every_set(data, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "BSN.pth"
    checkpoint.save_weights(path, BSN(), RATES)
    settings = {"base_folder": (str(data),) * 2, "output": str(tmp_path / "ablation"), "bsn_path": str(path)}
    table = ablation.main(ablation.Options("denoise", **settings))
    rows = {name: cells for name, *cells in table.rows}
    assert len(rows) == 9 and all(len(cells) == 4 and cells[:2] == cells[2:] for cells in rows.values())
    # A BSN at random knows nothing: the more of the measured light beside it, the better.
    light = [cells[0] for name, cells in rows.items() if "blind" in name or "beside" in name]
    assert light == sorted(light) and light[-1] < rows["9 rates of true spikes"][0]


def test_weights_that_do_not_eat_rates_are_refused(data, tmp_path, weights):
    settings = {"base_folder": (str(data),), "output": str(tmp_path / "ablation")}
    for given in ({}, {"bsn_path": weights["bsn_path"]}):
        with pytest.raises(InputError, match=r"--bsn_path .* trained with --spike_input rates"):
            ablation.main(ablation.Options("denoise", **settings | given))
