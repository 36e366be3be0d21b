"""Kernels and memory of a GPU: what is set, when, and what is measured; no GPU is needed."""

import os

import pytest
import torch
from torch import nn
from training import run

import train_bsn
from codes.data.spikes import Exposure
from codes.engine import gpu
from codes.stage import loaders
from codes.stage.run import Run


@pytest.fixture
def kernels(monkeypatch):
    """Undo what is chosen for the process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    yield
    gpu.choose_kernels(deterministic=False)


def test_cudnn_times_its_algorithms_in_training_and_not_in_evaluation(data, monkeypatch):
    """Crops have one shape; the pictures of an evaluation may have many."""
    seen = {"train": set(), "evaluate": set()}
    real_mse, real_pair = train_bsn.mse, train_bsn.Pair

    def mse(*given):
        seen["train"].add(torch.backends.cudnn.benchmark)
        return real_mse(*given)

    def pair(*given):
        seen["evaluate"].add(torch.backends.cudnn.benchmark)
        return real_pair(*given)

    monkeypatch.setattr(train_bsn, "mse", mse)
    monkeypatch.setattr(train_bsn, "Pair", pair)
    run("bsn", data, {}, epochs=1, steps=1, evaluate_every=1)
    assert seen == {"train": {True}, "evaluate": {False}}
    assert not torch.backends.cudnn.benchmark


def test_deterministic_chooses_kernels_before_the_first_step_and_for_that_run_alone(data, kernels, monkeypatch):
    found, real = [], train_bsn.mse

    def mse(*given):
        cudnn = torch.backends.cudnn
        found.append((torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark))
        return real(*given)

    monkeypatch.setattr(train_bsn, "mse", mse)
    for number, deterministic in enumerate((True, False)):
        run("bsn", data, {}, epochs=1, steps=1, deterministic=deterministic, exp_name=str(number))
    assert list(dict.fromkeys(found)) == [(True, True, False), (False, False, True)]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_step_is_measured_and_changes_nothing(monkeypatch):
    """What the allocator held at most is counted, and Adam's two moments, which do not exist yet."""
    reserved = iter((100, 5100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: next(reserved))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: next(reserved))
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)

    class Packed:
        def to(self, device):
            return torch.ones(1, 3)

    net, calls = nn.Linear(3, 1), []
    before = [parameter.clone() for parameter in net.parameters()]

    def losses(net, batch):
        calls.append(batch)
        yield {"loss": net(batch).square().sum()}
        raise AssertionError("one step is enough")

    found = gpu.step_memory(net, losses, Packed(), device=torch.device("cpu"), precision="bf16")
    assert found == 5000 + 2 * 4 * 4 and len(calls) == 1
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(map(torch.equal, before, net.parameters()))


@pytest.mark.parametrize("cache, kept", [("device", 7), ("ram", 0)])
def test_data_on_a_gpu_leave_room_for_a_step_on_the_first_batch(data, cache, kept, monkeypatch):
    class Log:
        def log(self, text):
            pass

    found, names = [], []
    monkeypatch.setattr(loaders, "read_into_memory", lambda _, device, *, reserved: found.append((device, reserved)))

    def step_memory(batch):
        names.extend(batch.names)
        return 7

    o = train_bsn.Options(base_folder=str(data), roi_size=(32,), bs=2, cache=cache, seed=0)
    place = Run(Log(), torch.device("cuda"), "fp32")
    loaders.train_loader(o, place, fields=("spikes",), exposure=Exposure(), step_memory=step_memory)
    assert found == [(torch.device("cuda") if cache == "device" else None, kept)]
    assert len(names) == (2 if cache == "device" else 0)
