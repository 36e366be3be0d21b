"""Exported programs compute LDN at any size and number of target times; existing files are not overwritten."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT

from codes.networks import LDN
from codes.recipe import ISI, RESIM
from scripts import export


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    torch.save(LDN().state_dict(), folder / "LDN.pth")
    command = [sys.executable, str(ROOT / "scripts/export.py"), "LDN.pth", "--out", "out"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    again = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert again.returncode == 2 and again.stderr.startswith("error: out/LDN.onnx: exists already")
    return folder


def expected(times: int, height: int, width: int, folder) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    torch.manual_seed(height)
    blur, spikes = torch.rand(1, 3, 4 * height, 4 * width), torch.randint(2, (times, 21, height, width)).float()
    net = LDN()
    net.load_state_dict(torch.load(folder / "LDN.pth", weights_only=True))
    with torch.inference_mode():
        return blur, spikes, net(blur, spikes).numpy()


@pytest.mark.parametrize("size", [(1, 9, 40), (5, 30, 21)])
def test_onnx_is_ldn_at_any_size(exported, size):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(exported / "out/LDN.onnx"), providers=["CPUExecutionProvider"])
    blur, spikes, sharp = expected(*size, exported)
    (found,) = session.run(["sharp"], {"blur": blur.numpy(), "spikes": spikes.numpy()})
    np.testing.assert_allclose(found, sharp, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 9, 40), (5, 30, 21)])
def test_the_exported_program_is_ldn_at_any_size(exported, size):
    program = torch.export.load(exported / "out/LDN.pt2").module()
    blur, spikes, sharp = expected(*size, exported)
    np.testing.assert_allclose(program(blur, spikes).detach().numpy(), sharp, atol=1e-5)


@pytest.mark.parametrize(("recipe", "pictures", "starts"), [(ISI, 1, 1), (RESIM, 3, 0)])
def test_weights_that_start_elsewhere_ask_for_it(tmp_path, recipe, pictures, starts):
    torch.manual_seed(0)
    net = LDN().eval()
    torch.save({"net": net.state_dict(), "recipe": recipe}, tmp_path / "LDN.pth")
    export.main(export.Options(str(tmp_path / "LDN.pth"), out=str(tmp_path), formats=("pt2",)))
    program = torch.export.load(tmp_path / "LDN.pt2").module()
    inputs = torch.rand(pictures, 3, 40, 64), torch.rand(3, 21, 10, 16), *[torch.rand(3, 3, 40, 64)] * starts
    torch.testing.assert_close(program(*inputs), net(*inputs), atol=1e-5, rtol=0)
