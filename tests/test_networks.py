"""The networks are the reference's, number for number, and load nothing but their own weights."""

import math

import pytest
import torch
from conftest import ROOT, needs_compiler

from codes.engine.distributed import check_compiler
from codes.networks import BSN, EDSR, LDN, load
from codes.networks.bsn import UpwardConv

NETWORKS = {"bsn": BSN, "edsr": EDSR, "ldn": LDN}
PUBLISHED_LDN = ROOT / "model/DeblurNet_100.pth"


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


@pytest.fixture
def two_threads():
    """Sum in the order in which the golden outputs were summed: another number of threads moves BSN's by 1.3e-5."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("stage", NETWORKS)
def test_tensors_are_those_of_the_published_files(facts, stage):
    found = [[name, list(tensor.shape)] for name, tensor in NETWORKS[stage]().state_dict().items()]
    assert found == facts["state_dicts"][stage]


@pytest.mark.parametrize("case", ["bsn0", "bsn1", "bsn2", "bsn3", "edsr0", "edsr1"])
def test_outputs_are_the_reference_outputs(golden, case, two_threads):
    net = filled(NETWORKS[case[:-1]]())
    with torch.inference_mode():
        found = net(torch.from_numpy(golden[f"{case}_in"]))
    torch.testing.assert_close(found, torch.from_numpy(golden[f"{case}_out"]), atol=1e-5, rtol=0)


@pytest.mark.skipif(not PUBLISHED_LDN.is_file(), reason="model/DeblurNet_100.pth is not here")
@pytest.mark.parametrize("case", ["ldn0", "ldn1"])
def test_published_ldn_reproduces_its_outputs(golden, case, two_threads):
    net = load(LDN(), PUBLISHED_LDN).eval()
    with torch.inference_mode():
        found = net(torch.from_numpy(golden[f"{case}_blur"]), torch.from_numpy(golden[f"{case}_spikes"]).float())
    torch.testing.assert_close(found, torch.from_numpy(golden[f"{case}_out"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("height, width", [(64, 64), (40, 72), (72, 44), (45, 61), (37, 37), (24, 90)])
def test_bsn_has_no_gradient_to_its_own_pixel(height, width):
    net = filled(BSN())
    noisy = torch.rand(1, 1, height, width, requires_grad=True)
    denoised = net(noisy)
    assert denoised.shape == noisy.shape
    for row, column in [(0, 0), (1, 1), (height // 2, width // 2), (height // 3, width // 4), (height - 1, width - 2)]:
        (gradient,) = torch.autograd.grad(denoised[0, 0, row, column], noisy, retain_graph=True)
        assert gradient[0, 0, row, column] == 0
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("side", [64, 45])
def test_bsn_does_not_see_its_own_pixel(side):
    """The same by changing the pixel: its own output stays, bit for bit, those around it do not."""
    net, noisy = filled(BSN()), torch.rand(1, 1, side, side)
    changed = noisy.clone()
    changed[0, 0, 20, 30] += 0.5
    with torch.inference_mode():
        difference = (net(changed) - net(noisy))[0, 0]
    assert difference[20, 30] == 0 and difference[20, 31] != 0 and difference[19, 30] != 0


def test_instants_of_a_picture_share_the_look_at_it():
    """Two pictures with three instants each, at once and one by one."""
    net, blur, spikes = filled(LDN()), torch.rand(2, 3, 48, 64), torch.randint(2, (2, 3, 21, 12, 16)).float()
    with torch.inference_mode():
        together = net(blur, spikes.flatten(0, 1)).unflatten(0, (2, 3))
        for picture in range(2):
            for instant in range(3):
                alone = net(blur[picture : picture + 1], spikes[picture : picture + 1, instant])
                torch.testing.assert_close(together[picture, instant], alone[0], atol=1e-6, rtol=0)


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


def test_weights_of_a_training_that_failed_are_named(tmp_path):
    state = filled(LDN()).state_dict()
    state["pred.weight"][0, 0, 0, 0] = math.nan
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"model\.pth: weights that are not finite, in pred\.weight"):
        load(LDN(), tmp_path / "model.pth")


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 broken"])
def test_rubbish_is_named(tmp_path, content):
    (tmp_path / "rubbish.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"rubbish\.pth: not a weight file"):
        load(LDN(), tmp_path / "rubbish.pth")
