"""Steps after the first few: none keeps memory, none stops the GPU; and LDN compiled for many instants."""

import copy
import itertools
import statistics
from collections.abc import Callable
from importlib import import_module

import pytest
import torch
from conftest import needs_compiler
from training import LIVE, RATES, STAGES, run

from codes.engine import distributed
from codes.networks import LDN, tiling
from codes.reporting.cost import peak

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def around_readings(monkeypatch, before: Callable[[], object], after: Callable[[], object]) -> None:
    """Have something done before and after the losses of ten steps are read."""
    reader = import_module("codes.engine.fit")._Reader
    read = reader.read

    def watched(self):
        before()
        found = read(self)
        after()
        return found

    monkeypatch.setattr(reader, "read", watched)


@pytest.mark.skipif(peak("cpu", reset=True) is None, reason="what a process takes cannot be told here")
@pytest.mark.parametrize("stage", STAGES)
def test_no_step_keeps_memory(data, weights, stage, monkeypatch):
    """From ten steps to the next ten the peak does not grow; their gradients kept alive would be 10 MB at least.

    The median of seven, since the allocator takes a few megabytes more now and then.
    """
    peaks = []
    around_readings(monkeypatch, lambda: peaks.append(peak("cpu")), lambda: peak("cpu", reset=True))
    run(stage, data, weights, epochs=40, steps=80)
    growth = [after - before for before, after in itertools.pairwise(peaks[1:])]
    assert len(growth) == 7
    assert statistics.median(growth) < 1e6


@needs_gpu
@pytest.mark.parametrize(
    "stage, recipe",
    [*((stage, {}) for stage in STAGES), ("deblur", RATES), ("deblur", LIVE)],
    ids=[*STAGES, "fused", "consistent"],
)
def test_no_step_stops_the_gpu_or_takes_new_memory(data, weights, stage, recipe, monkeypatch):
    """Between two readings every wait for the GPU is an error; after step 20 the allocator asks for nothing more.

    The fused teacher has made its labels before the first step; the other two teach at every step.
    """
    segments = []

    def before() -> None:
        torch.cuda.set_sync_debug_mode("default")
        segments.append(torch.cuda.memory_stats()["segment.all.allocated"])

    def after() -> None:
        if len(segments) < 4:  # at step 40 there follows what a run ends with
            torch.cuda.set_sync_debug_mode("error")

    around_readings(monkeypatch, before, after)
    run(stage, data, weights, epochs=20, steps=40, device="cuda", precision="bf16", **recipe)
    assert segments[3] == segments[1]


@torch.inference_mode()
def test_ldn_is_compiled_in_its_parts(monkeypatch):
    """What restores an instant is called as it was compiled, whole or in tiles, and stays LDN."""
    calls = []

    def compile(part: Callable, **settings: object) -> Callable:
        return lambda *inputs: calls.append((part.__name__, settings["mode"])) or part(*inputs)

    net, blur, spikes = LDN().eval(), torch.rand(1, 3, 160, 160), torch.randint(2, (1, 21, 40, 40)).float()
    whole = net(blur, spikes)
    monkeypatch.setattr(torch, "compile", compile)
    compiled = tiling.compiled(copy.deepcopy(net))
    for tile in (0, 16):
        calls.clear()
        torch.testing.assert_close(tiling.ldn(compiled, blur, tile=tile)(spikes), whole, rtol=0, atol=1e-5)
        assert set(calls) == {(part, "default") for part in ("encode_blur", "encode", "decode")}


@needs_gpu
@needs_compiler
@torch.inference_mode()
@distributed.without_tf32()  # which a test before may have allowed: three digits
def test_ldn_of_cuda_graphs_is_ldn():
    """Several instants, none of which overwrites another."""
    net, blur, spikes = LDN().cuda().eval(), torch.rand(1, 3, 64, 96).cuda(), torch.randint(2, (3, 21, 16, 24)).cuda()
    plain, compiled = (tiling.ldn(each, blur, tile=0) for each in (net, tiling.compiled(copy.deepcopy(net))))
    for _ in range(3):
        outputs = [[restore(spikes[t : t + 1].float()) for t in range(3)] for restore in (plain, compiled)]
        for one, other in zip(*outputs, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
