"""LDN that is fed by fusion looks at few spikes again, and sees more each time."""

import numpy as np
import pytest
import torch
from test_deblur import scene

from codes import restore
from codes.fusion import STEP
from codes.networks import LDN
from codes.recipe import FUSED, RATES
from codes.restore import FILM_STEP, by_ldn, looks
from codes.simulator import add_noise, integrate, sense
from codes.spikes import Exposure

SETTINGS = {"exposure": Exposure(), "short": 9, "recipe": FUSED}


def recording(threshold: float) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Film a shadow that moves over slopes: the picture [1,3,96,160], its spikes [1,137,24,40], the pictures."""
    _, _, film = scene(137)
    light, rng = np.stack([sense(frame) for frame in film]), np.random.default_rng(0)
    spikes = add_noise(integrate(light, threshold=threshold, first=rng.random(light.shape[1:], np.float32)), rng)
    blur = film[20:117].mean(0, dtype=np.float32) / 255
    return torch.from_numpy(blur).permute(2, 0, 1)[None], torch.from_numpy(spikes)[None], film


@pytest.fixture(scope="module")
def net() -> LDN:
    """Return LDN as it starts: it passes on what fusion gives it."""
    return LDN().pass_blur_through().eval()


@torch.inference_mode()
def test_each_look_is_nearer_the_truth(net):
    blur, spikes, film = recording(4)
    truth = torch.from_numpy(film[68]).permute(2, 0, 1)[None] / 255
    first, second, third = (
        -10 * (look().sharp(68).clamp(0, 1) - truth).square().mean().log10().item()
        for look in looks(net, blur, spikes, **SETTINGS)
    )
    assert second > first + 0.1 and third > second


@torch.inference_mode()
def test_it_is_explained_by_what_the_first_restored(net, monkeypatch):
    blur, spikes, _ = recording(4)
    shown = []

    def explained(spikes, light, pictures, instants):
        shown.append((pictures, instants))
        return light  # that of the look before

    monkeypatch.setattr("codes.restore.light_along_film", explained)
    first, second = (look() for look in looks(net, blur, spikes, number=2, **SETTINGS))
    assert torch.equal(first.sharp(68), second.sharp(68))
    ((pictures, instants),) = shown
    assert instants == list(range(16, 121, 4))
    weights = torch.tensor((0.11, 0.59, 0.30)).view(3, 1, 1)
    # The inner 2x2 of 4x4 picture pixels are what a spike pixel sees.
    film = [(weights * first.sharp(t)[0].clamp(0, 1)).sum(0).unfold(0, 4, 4).unfold(1, 4, 4) for t in instants]
    film = torch.stack([tiles[..., 1:3, 1:3].mean((2, 3)) for tiles in film])
    assert (pictures - film).abs().mean() < 0.005  # half as many samples are fused for it


@torch.inference_mode()
def test_looks_that_are_not_asked_for_are_not_fused(net, monkeypatch):
    blur, spikes, _ = recording(4)
    steps = []
    fuse = restore.fused_light
    monkeypatch.setattr(restore, "fused_light", lambda *a, step=STEP: [steps.append(step), fuse(*a, step=step)][1])
    by_ldn(net, blur, spikes, number=2, **SETTINGS)(68)
    assert steps == [FILM_STEP, STEP]


@pytest.mark.parametrize(("threshold", "number", "found"), [(0.5, 0, 1), (4, 0, 3), (1, 2, 2), (4, 1, 1)])
@torch.inference_mode()
def test_few_spikes_are_looked_at_again_unless_told_otherwise(net, threshold, number, found):
    blur, spikes, _ = recording(threshold)
    assert len(list(looks(net, blur, spikes, number=number, **SETTINGS))) == found


@torch.inference_mode()
def test_ldn_that_is_not_fed_by_fusion_looks_once(net):
    blur, spikes, _ = recording(4)
    settings = SETTINGS | {"recipe": RATES}
    (only,) = (look() for look in looks(net, blur, spikes, number=2, **settings))
    assert only.fused is None and torch.equal(only.sharp(68), by_ldn(net, blur, spikes, **settings)(68))


@torch.inference_mode()
@pytest.mark.parametrize("exposure", [Exposure(length=1), Exposure(length=5, margin=2), Exposure(97, margin=0)])
def test_any_exposure_is_looked_at_twice_or_as_often_as_windows_reach(net, exposure):
    blur, spikes, _ = recording(4)
    total = 137 if exposure.length == 1 else exposure.total
    found = list(looks(net, blur, spikes[:, :total], number=2, **SETTINGS | {"exposure": exposure}))
    instant = min(max(exposure.center, 10), total - 11) if total > 21 else None
    assert instant is None or found[-1]().sharp(instant).isfinite().all()
