"""Steps after the first few: none keeps tensors, none stops the GPU; and LDN compiled for many target times."""

import copy
import gc
import weakref
from collections.abc import Callable
from importlib import import_module

import pytest
import torch
from conftest import needs_compiler
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training import ISI, LIVE, STAGES, run

from codes.engine import distributed
from codes.networks import LDN, tiling

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def around_readings(monkeypatch, before: Callable[[], object], after: Callable[[], object]) -> None:
    """Have something done before and after the losses of ten steps are read."""
    reader = import_module("codes.engine.loss_meter").LossMeter
    read = reader.read

    def watched(self):
        before()
        found = read(self)
        after()
        return found

    monkeypatch.setattr(reader, "read", watched)


class LiveTensors(TorchDispatchMode):
    """Count the bytes of all tensors made in the block that are still alive, also those that only autograd holds."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        for x in tree_leaves(outputs):
            if isinstance(x, torch.Tensor):
                self.sizes[x.untyped_storage()] = x.untyped_storage().nbytes()
        return outputs

    def bytes(self) -> int:
        gc.collect()
        return sum(self.sizes.values())


@pytest.mark.parametrize("stage, parameters", [("bsn", 1_118_832), ("sr", 1_515_269), ("deblur", 234_158)])
def test_no_step_keeps_tensors(data, weights, stage, parameters, monkeypatch):
    """After every ten steps the same bytes are alive: weights, their two moments, the teacher's networks and a batch.

    Gradients would be 0.9 MB more at least, and the graph of a kept loss some bytes more each time.
    """
    found = []
    with LiveTensors() as live:
        around_readings(monkeypatch, lambda: None, lambda: found.append(live.bytes()))
        run(stage, data, weights, epochs=40, steps=40)
    of_teacher = 1_118_832 + 1_515_269 if stage == "deblur" else 0
    assert len(found) >= 4 and len(set(found[:4])) == 1
    assert 0 < found[0] - 4 * (3 * parameters + of_teacher) < 5e5


@needs_gpu
@pytest.mark.parametrize(
    "stage, recipe",
    [*((stage, {}) for stage in STAGES), ("deblur", ISI), ("deblur", LIVE)],
    ids=[*STAGES, "mfsr", "sdm"],
)
def test_no_step_stops_the_gpu_or_takes_new_memory(data, weights, stage, recipe, monkeypatch):
    """Between two readings every wait for the GPU is an error; after step 20 the allocator asks for nothing more.

    The teacher mfsr has made its labels before the first step; the other two teach at every step.
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
    """What restores a target time is called as it was compiled, whole or in tiles, and stays LDN."""
    calls = []

    def compile(part: Callable, **settings: object) -> Callable:
        return lambda *inputs: calls.append((part.__name__, settings["mode"])) or part(*inputs)

    net, blur, spikes = LDN().eval(), torch.rand(1, 3, 160, 160), torch.randint(2, (1, 21, 40, 40)).float()
    whole = net(blur, spikes)
    monkeypatch.setattr(torch, "compile", compile)
    compiled = tiling.compiled(copy.deepcopy(net))
    for tile in (0, 16):
        calls.clear()
        torch.testing.assert_close(tiling.tiled_ldn(compiled, blur, tile=tile)(spikes), whole, rtol=0, atol=1e-5)
        assert set(calls) == {(part, "default") for part in ("encode_blur", "encode", "decode")}


@needs_gpu
@needs_compiler
@torch.inference_mode()
@distributed.without_tf32()  # which a test before may have allowed: three digits
def test_ldn_of_cuda_graphs_is_ldn():
    """Several target times, none of which overwrites another."""
    net, blur, spikes = LDN().cuda().eval(), torch.rand(1, 3, 64, 96).cuda(), torch.randint(2, (3, 21, 16, 24)).cuda()
    plain, compiled = (tiling.tiled_ldn(each, blur, tile=0) for each in (net, tiling.compiled(copy.deepcopy(net))))
    for _ in range(3):
        outputs = [[restore(spikes[t : t + 1].float()) for t in range(3)] for restore in (plain, compiled)]
        for one, other in zip(*outputs, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
