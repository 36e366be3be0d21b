"""The networks are the reference's, number for number, and load nothing but their own weights."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, needs_compiler

from codes.engine.distributed import check_compiler
from codes.errors import InputError
from codes.networks import BSN, EDSR, LDN, load
from codes.networks.bsn import UpwardConv, UpwardPadding
from codes.networks.edsr import shuffle_channels_last

NETWORKS = {"bsn": BSN, "edsr": EDSR, "ldn": LDN}
PUBLISHED_LDN = ROOT / "model/DeblurNet_100.pth"
CASES = ["bsn0", "bsn1", "bsn2", "bsn3", "edsr0", "edsr1", "ldn0", "ldn1"]


def filled(net: torch.nn.Module) -> torch.nn.Module:
    """Fill a network with the sines that the golden outputs were computed with (see tests/golden/README.md)."""
    state = net.state_dict()
    for k, (name, tensor) in enumerate(state.items()):
        if not name.startswith(("sub_mean", "add_mean")):
            scale = 0.01 if tensor.dim() == 1 else 1 / math.sqrt(tensor[0].numel())
            place = torch.arange(tensor.numel(), dtype=torch.float64)
            state[name] = (scale * torch.sin(0.7 * place + 1.3 * k + 0.1)).float().view(tensor.shape)
    net.load_state_dict(state)
    return net.eval()


def case_of(golden, case: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """Return the network and the inputs of a golden output; skip where the weights of LDN are not there."""
    if case.startswith("ldn"):
        if not PUBLISHED_LDN.is_file():
            pytest.skip(f"no {PUBLISHED_LDN.relative_to(ROOT)}")
        inputs = golden[f"{case}_blur"], golden[f"{case}_spikes"].astype(np.float32)
        net = load(LDN(), PUBLISHED_LDN).eval()
    else:
        inputs, net = (golden[f"{case}_in"],), filled(NETWORKS[case[:-1]]())
    return net, tuple(map(torch.from_numpy, inputs))


@pytest.mark.parametrize("stage", NETWORKS)
def test_tensors_are_those_of_the_published_files(facts, stage):
    found = [[name, list(tensor.shape)] for name, tensor in NETWORKS[stage]().state_dict().items()]
    assert found == facts["state_dicts"][stage]


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_float64_outputs_are_the_reference_outputs(golden, golden64, case):
    net, inputs = case_of(golden, case)
    found = net.double()(*(x.double() for x in inputs))
    torch.testing.assert_close(found, torch.from_numpy(golden64[f"{case}_out"]), atol=1e-9, rtol=0)


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_float32_outputs_differ_from_float64_by_rounding(golden, golden64, case):
    """The unit is the largest rounding error of the reference itself: its float32 outputs minus its float64 outputs.

    Measured with 1 to 3 threads, with and without oneDNN, AVX2 or AVX-512: at most 2.3 units. 8 units are accepted.
    """
    net, inputs = case_of(golden, case)
    unit = max(abs(golden[f"{k}_out"] - golden64[f"{k}_out"]).max() for k in CASES if k[:-1] == case[:-1])
    difference = net(*inputs).double() - torch.from_numpy(golden64[f"{case}_out"])
    assert 0 < difference.abs().max() < 8 * unit


def gradient_and_change(height: int, width: int, places: tuple[float, ...]) -> list[tuple[float, float]]:
    """For some pixels of a noisy picture: the gradient of BSN's output at the pixel, and a central difference of it.

    The pixels lie on the diagonal, at these fractions of it. All in float64.
    """
    torch.manual_seed(0)
    net, found = filled(BSN()).double().requires_grad_(False), []
    noisy = torch.rand(1, 1, height, width, dtype=torch.float64, requires_grad=True)
    denoised = net(noisy)
    for place in places:
        row, column = int(place * (height - 1)), int(place * (width - 1))
        (gradient,) = torch.autograd.grad(denoised[0, 0, row, column], noisy, retain_graph=True)
        step = torch.zeros_like(gradient)
        step[0, 0, row, column] = 1e-6
        with torch.inference_mode():
            above, below = net(torch.cat((noisy + step, noisy - step)))[:, 0, row, column]
        found.append((gradient[0, 0, row, column].item(), ((above - below) / 2e-6).item()))
        assert gradient.abs().sum() > 1e-3
    return found


@pytest.mark.parametrize("side", [40, 29])
def test_bsn_is_blind_to_a_pixel_of_a_square(side):
    for gradient, change in gradient_and_change(side, side, (0, 0.3, 0.5, 1)):
        assert gradient == 0 and change == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("side", [40, 29])
@torch.inference_mode()
def test_a_large_change_of_a_pixel_changes_only_other_pixels_of_a_square(side):
    torch.manual_seed(0)
    net, noisy = filled(BSN()).double(), torch.rand(1, 1, side, side, dtype=torch.float64)
    changed = noisy.clone()
    changed[0, 0, 20, 25] += 0.5
    difference = (net(changed) - net(noisy))[0, 0].abs()
    assert difference[20, 25] < 1e-12 and difference[20, 26] > 1e-9 and difference[19, 25] > 1e-9
    assert difference.max() > 1e-3


@pytest.mark.parametrize("height, width, places", [(24, 90, (0.5,)), (32, 12, (0, 0.3, 0.5, 1))])
def test_a_pixel_of_a_rectangle_sees_its_mirror_image_and_autograd_knows(height, width, places):
    found = gradient_and_change(height, width, places)
    assert max(abs(change) for _, change in found) > 1e-3
    for gradient, change in found:
        assert gradient == pytest.approx(change, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_padding_of_bsn_is_pytorchs_with_its_gradient(width, memory_format):
    x = torch.rand(2, 3, 4, width, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    padded = F.pad(F.pad(x, (1, 1, 0, 0), mode="replicate"), (0, 0, 2, 0))
    found = UpwardPadding.apply(x)
    assert torch.equal(found, padded)
    weight = torch.rand_like(padded)
    gradients = [torch.autograd.grad((output * weight).sum(), x)[0] for output in (found, padded)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=0)


def test_channels_move_into_space_as_in_pytorch():
    x = torch.rand(2, 12, 3, 5).to(memory_format=torch.channels_last)
    assert torch.equal(shuffle_channels_last(x), F.pixel_shuffle(x, 2))


def test_instants_of_a_picture_share_the_look_at_it():
    """Two pictures with three target times each, at once and one by one."""
    net, blur, spikes = filled(LDN()), torch.rand(2, 3, 48, 64), torch.randint(2, (2, 3, 21, 12, 16)).float()
    with torch.inference_mode():
        together = net(blur, spikes.flatten(0, 1)).unflatten(0, (2, 3))
        for picture in range(2):
            for time in range(3):
                alone = net(blur[picture : picture + 1], spikes[picture : picture + 1, time])
                torch.testing.assert_close(together[picture, time], alone[0], atol=1e-6, rtol=0)


@needs_compiler
def test_compiled_bsn_has_the_gradients_of_bsn():
    """Of one of its convolutions, followed by one that makes the compiler lay out channels last."""
    check_compiler(torch.device("cpu"))
    torch.manual_seed(0)
    net = torch.nn.Sequential(UpwardConv(1, 8), UpwardConv(8, 8)).to(memory_format=torch.channels_last)
    noisy, gradients = torch.rand(1, 1, 16, 16), []
    for model in (net, torch.compile(net, dynamic=False)):
        net.zero_grad()
        model(noisy).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in net.parameters()])
    torch.testing.assert_close(*gradients)


def test_sizes_are_counted_as_published():
    counts = {stage: sum(p.numel() for p in net().state_dict().values()) for stage, net in NETWORKS.items()}
    assert counts == {"bsn": 1_118_832, "edsr": 1_515_269, "ldn": 234_158}


def test_our_checkpoints_and_bare_state_dicts_load(tmp_path):
    ours, bare, parallel = tmp_path / "ours.pth", tmp_path / "bare.pth", tmp_path / "parallel.pth"
    state = filled(LDN()).state_dict()
    torch.save({"net": state, "progress": {"step": 3}}, ours)
    torch.save(state, bare)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, parallel)
    for path in (ours, bare, parallel):
        torch.testing.assert_close(dict(load(LDN(), path).state_dict()), dict(state), rtol=0, atol=0)


def test_weights_of_another_stage_are_named(tmp_path):
    torch.save(EDSR().state_dict(), tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model\.pth: not weights of BSN; it seems to hold SR.*20 missing.*78 unexp"):
        load(BSN(), tmp_path / "model.pth")


def test_weights_of_another_window_are_named(tmp_path):
    torch.save(LDN(spike_frames=41).state_dict(), tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"spike_enc\.0\.weight \[16, 41, 3, 3\] for \[16, 21, 3, 3\]") as told:
        load(LDN(), tmp_path / "model.pth")
    assert "model.pth: weights of LDN, but built otherwise" in str(told.value)
    assert str(told.value).endswith("--spike_deblur_len 41")


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda value: 0 * value, "all weights are 0"),
        (lambda value: value.int(), "weights that are no floating-point numbers, in .*: converted wrongly"),
    ],
)
def test_weights_that_were_lost_in_a_conversion_are_named(tmp_path, change, told):
    torch.save({name: change(value) for name, value in filled(LDN()).state_dict().items()}, tmp_path / "model.pth")
    with pytest.raises(InputError, match=rf"model\.pth: {told}"):
        load(LDN(), tmp_path / "model.pth")


def test_weights_that_are_not_all_there_are_named(tmp_path):
    state = dict(list(LDN().state_dict().items())[1:])
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"model\.pth: weights of LDN, but not all of them: 1 missing: \w+"):
        load(LDN(), tmp_path / "model.pth")


def test_weights_of_a_training_that_failed_are_named(tmp_path):
    state = filled(LDN()).state_dict()
    state["pred.weight"][0, 0, 0, 0] = math.nan
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model\.pth: weights that are not finite, in pred\.weight"):
        load(LDN(), tmp_path / "model.pth")


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 broken"])
def test_rubbish_is_named(tmp_path, content):
    (tmp_path / "rubbish.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"rubbish\.pth: weights cannot be read: damaged"):
        load(LDN(), tmp_path / "rubbish.pth")


def wrapped(state: dict) -> dict[str, object]:
    """The weights of a network as programs save them."""

    def prefixed(prefix: str) -> dict:
        return {prefix + name: value for name, value in state.items()}

    return {
        "bare": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "params": {"params": state},
        "average first": {"params": {name: value + 1 for name, value in state.items()}, "params_ema": state},
        "nested": {"model": {"state_dict": state}, "optimizer": {"state": {0: {"exp_avg": torch.zeros(1)}}}},
        "alone under any name": {"deblurring_network": state, "step": 7},
        "DataParallel": prefixed("module."),
        "compiled": prefixed("_orig_mod."),
        "compiled, then parallel": {"model_state_dict": prefixed("module._orig_mod.")},
        "parallel, then compiled": {"net": prefixed("_orig_mod.module.")},
        "parts compiled": {name.replace("unet.", "unet._orig_mod."): value for name, value in state.items()},
        "member of a class": {"state_dict": prefixed("model.")},
        "member of a member": prefixed("system.generator."),
    }


@pytest.mark.parametrize("way", wrapped({}))
@pytest.mark.parametrize("network", [BSN, LDN])
def test_weights_are_unwrapped(way, network, tmp_path):
    state = filled(network()).state_dict()
    torch.save(wrapped(state)[way], tmp_path / "weights.pth")
    loaded = load(network(), tmp_path / "weights.pth").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_several_networks_in_a_file_are_named(tmp_path):
    torch.save({"first": LDN().state_dict(), "second": {"of": LDN().state_dict()}}, tmp_path / "two.pth")
    with pytest.raises(InputError, match=r"two\.pth: holds several state dicts \(first, second/of\); save the one"):
        load(LDN(), tmp_path / "two.pth")


OBJECTS = (Path("options"), np.float64(27.9), np.zeros(3), np.dtype("float32"))


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_of_arrays_holds_python_objects(tmp_path, protocol):
    arrays = {name: value.numpy() for name, value in LDN().state_dict().items()}
    (tmp_path / "arrays.pth").write_bytes(pickle.dumps(arrays, protocol))
    with pytest.raises(InputError, match=r"arrays\.pth: .* holds Python objects \(numpy[\w.]*\).* save its state_dict"):
        load(LDN(), tmp_path / "arrays.pth")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("content", [LDN(), *({"state_dict": LDN().state_dict(), "of": of} for of in OBJECTS)])
def test_python_objects_are_refused_as_such_and_damaged_files_as_damaged(content, legacy, tmp_path):
    path = tmp_path / "objects.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputError, match=r"objects\.pth: .* holds Python objects \([\w.]+\).* save its state_dict"):
        load(LDN(), path)
    if legacy:
        return  # its pickle comes first, and is whole where the tensors behind it are cut short
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"objects\.pth: weights cannot be read: damaged"):
        load(LDN(), path)
