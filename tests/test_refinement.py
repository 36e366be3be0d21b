"""LDN that is fed by fusion looks at few spikes again, and sees more each time."""

import numpy as np
import pytest
import torch
from test_deblur import scene

import train_deblur
from codes.data.images import write_image
from codes.data.spikes import Exposure, write_spikes
from codes.distillation.teachers import ClosedFormTeacher
from codes.engine import checkpoint
from codes.evaluation.metrics import psnr
from codes.motion.super_resolution import STEP
from codes.networks import LDN
from codes.physics.intensity import match_picture_scale
from codes.physics.sdm import tfp, windows
from codes.recipe import FUSED, RATES
from codes.restoration import restorers
from codes.restoration.restorers import FEW, FILM_STEP, by_ldn, looks
from codes.simulation.camera import add_noise, integrate, sense

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


@pytest.fixture(scope="module")
def random_net() -> LDN:
    torch.manual_seed(0)
    return LDN().eval()


@torch.inference_mode()
def test_each_look_is_nearer_the_truth(net):
    blur, spikes, film = recording(4)
    truth = torch.from_numpy(film[68]).permute(2, 0, 1)[None] / 255
    first, second, third = (
        psnr(look().sharp(68).clamp(0, 1), truth).item() for look in looks(net, blur, spikes, **SETTINGS)
    )
    assert second > first + 0.1 and third > second


@torch.inference_mode()
def test_it_is_explained_by_what_the_first_restored(random_net, monkeypatch):
    """By that which agrees with the picture, and neither by what LDN is given nor by what it gives."""
    blur, spikes, _ = recording(4)
    shown, fuse = [], restorers.super_resolved_intensity

    def explained(spikes, light, pictures, instants):
        shown.append((pictures, instants))
        return light  # that of the look before

    monkeypatch.setattr(restorers, "refined_intensity", explained)
    monkeypatch.setattr(
        restorers, "super_resolved_intensity", lambda *a, step=0, **k: fuse(*a, **k)
    )  # as fine as what is shown
    first, second = (look() for look in looks(random_net, blur, spikes, number=2, **SETTINGS))
    assert torch.equal(first.sharp(68), second.sharp(68))
    ((pictures, instants),) = shown
    assert instants == list(range(16, 121, 4))
    weights = torch.tensor((0.11, 0.59, 0.30)).view(3, 1, 1)
    # The inner 2x2 of 4x4 picture pixels are what a spike pixel sees.
    film = [(weights * first.sharp(t)[0].clamp(0, 1)).sum(0).unfold(0, 4, 4).unfold(1, 4, 4) for t in instants]
    film = torch.stack([tiles[..., 1:3, 1:3].mean((2, 3)) for tiles in film])
    torch.testing.assert_close(pictures, film, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_ldn_sees_the_light_that_its_picture_is_fused_from(random_net, monkeypatch):
    blur, spikes, _ = recording(4)
    found, explain = [], restorers.refined_intensity
    monkeypatch.setattr(restorers, "refined_intensity", lambda *a: [found.append(explain(*a)), found[-1]][1])
    _, second = (look() for look in looks(random_net, blur, spikes, number=2, **SETTINGS))
    given = windows(match_picture_scale(found[0][None], blur, Exposure()), [60], 21)
    torch.testing.assert_close(second.free(60), random_net(second.fused(60), given))


@torch.inference_mode()
def test_looks_that_are_not_asked_for_are_not_fused(net, monkeypatch):
    blur, spikes, _ = recording(4)
    steps, fuse = [], restorers.super_resolved_intensity
    monkeypatch.setattr(
        restorers,
        "super_resolved_intensity",
        lambda *a, step=STEP, **k: [steps.append(step), fuse(*a, step=step, **k)][1],
    )
    by_ldn(net, blur, spikes, number=2, **SETTINGS)(68)
    assert steps == [FILM_STEP, STEP]


@torch.inference_mode()
def test_a_look_before_the_last_is_shown_half_of_the_pictures(random_net, monkeypatch):
    blur, spikes, _ = recording(4)
    shown = []
    monkeypatch.setattr(
        restorers, "refined_intensity", lambda _, light, __, instants: [shown.append(instants), light][1]
    )
    list(looks(random_net, blur, spikes, number=4, **SETTINGS))
    assert shown == [list(range(12, 125, 8)), list(range(12, 125, 8)), list(range(16, 121, 4))]


@torch.inference_mode()
def test_samples_of_a_batch_do_not_mix(net):
    one, other = recording(4)[:2], recording(3)[:2]
    blur, spikes = (torch.cat(pair) for pair in zip(one, other, strict=True))
    blur[1] = blur[1].flip(-1) * 0.7
    spikes[1] = spikes[1].flip(-1)
    both = by_ldn(net, blur, spikes, number=2, **SETTINGS)(68)
    alone = by_ldn(net, blur[1:], spikes[1:], number=2, **SETTINGS)(68)
    torch.testing.assert_close(both[1:], alone, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("threshold", "number", "found"), [(1.5, 0, 1), (1.75, 0, 3), (1, 2, 2), (4, 1, 1)])
@torch.inference_mode()
def test_few_spikes_are_looked_at_again_unless_told_otherwise(net, threshold, number, found):
    blur, spikes, _ = recording(threshold)
    if number == 0:  # as near FEW as that
        light = tfp(ClosedFormTeacher().rates(spikes), 68, 97).mean()
        assert 1.02 < light / FEW < 1.2 if found == 1 else 0.8 < light / FEW < 0.98
    assert len(list(looks(net, blur, spikes, number=number, **SETTINGS))) == found


@torch.inference_mode()
def test_ldn_that_is_not_fed_by_fusion_looks_once(net):
    blur, spikes, _ = recording(4)
    settings = SETTINGS | {"recipe": RATES}
    (only,) = (look() for look in looks(net, blur, spikes, number=2, **settings))
    assert only.fused is None and torch.equal(only.sharp(68), by_ldn(net, blur, spikes, **settings)(68))


@pytest.mark.parametrize(
    ("exposure", "number"),
    [
        (Exposure(length=1), 3),
        (Exposure(length=5, margin=2), 1),
        (Exposure(length=13, margin=6), 3),  # windows fit at two of every fourth instant, at one of every eighth
        (Exposure(97, margin=0), 3),
    ],
)
def test_any_exposure_is_looked_at_as_asked_or_as_often_as_windows_reach(net, exposure, number):
    blur, spikes, _ = recording(4)
    total = 137 if exposure.length == 1 else exposure.total
    found = list(looks(net, blur, spikes[:, :total], number=3, **SETTINGS | {"exposure": exposure}))
    assert len(found) == number
    instant = min(max(exposure.center, 10), total - 11) if total > 21 else None
    assert instant is None or found[-1]().sharp(instant).isfinite().all()


def test_the_table_has_the_first_look_and_the_last(random_net, tmp_path):
    blur, spikes, film = recording(4)
    for part, picture in (("blur", film[20:117].mean(0).round().astype(np.uint8)), ("sharp", film[68])):
        write_image(tmp_path / f"data/test/{part}_data/scene/000000.png", picture)
    write_spikes(tmp_path / "data/test/spike_data/scene/000000.dat", spikes[0].numpy())
    checkpoint.save_weights(tmp_path / "LDN.pth", random_net, FUSED | {"bsn_len": "9"})
    options = {"base_folder": str(tmp_path / "data"), "save_folder": str(tmp_path / "log"), "device": "cpu"}
    rows = train_deblur.main(
        train_deblur.Options(**options, test_mode=True, deblur_path=str(tmp_path / "LDN.pth"), workers=0)
    )
    truth = torch.from_numpy(film[68]).permute(2, 0, 1)[None] / 255
    for row, number in (("LDN, 1 iteration", 1), ("LDN", 3)):
        with torch.inference_mode():
            sharp = by_ldn(random_net, (blur * 255).round() / 255, spikes, number=number, **SETTINGS)(68).clamp(0, 1)
        assert rows[row]["psnr"] == pytest.approx(psnr(sharp, truth).item(), abs=2e-3), row
    assert abs(rows["LDN"]["psnr"] - rows["LDN, 1 iteration"]["psnr"]) > 0.01
