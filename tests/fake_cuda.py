"""Run code on a CUDA device that does not exist: under FakeTensorMode tensors have a device and a shape, and no data.

Operations on tensors of different devices raise. So do reading a value (`.item()`, `bool(...)`) and operations whose
output shape depends on data (`nonzero`): on a GPU they wait for all kernels. `Monitor` also refuses copies to the CPU.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def why_not() -> str:
    """Say why code cannot be run without data here; empty: it can."""
    if torch.version.cuda is None:
        return "PyTorch is built without CUDA"
    try:
        with FakeTensorMode():
            torch.ones(2, device="cuda")[0]
    except RuntimeError:
        return "this version of PyTorch (2.4, for instance) indexes CUDA tensors without data on a real GPU alone"
    return ""


needs_cuda_build = pytest.mark.skipif(bool(why_not()), reason=why_not())


class Monitor(TorchDispatchMode):
    """Track the live memory of CUDA tensors, and refuse copies to the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0  # bytes
        self.seen: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        outputs = func(*args, **(kwargs or {}))
        for x in tree_leaves(outputs):
            if not isinstance(x, torch.Tensor):
                continue
            if x.device.type == "cpu" and any(y.is_cuda for y in inputs):
                raise AssertionError(f"{func}: copies {list(x.shape)} to the CPU, which waits for the GPU")
            if x.is_cuda:
                self.track(x.untyped_storage())
        return outputs

    def track(self, storage: torch.UntypedStorage) -> None:
        if storage in self.seen:
            return
        size = self.seen[storage] = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self.free, size)

    def free(self, size: int) -> None:
        self.live -= size


aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.bmm, aten.addmm, aten.baddbmm, aten.addmv, aten.mv, aten.dot)


class Convolution(NamedTuple):
    """How a convolution would be computed."""

    backend: str  # empty where this version of PyTorch does not tell
    backward: str  # the same of its backward pass, which runs after the block in which cuDNN may be switched off
    allow_tf32: bool
    dtype: torch.dtype
    channels: int
    channels_last: bool


class Convolutions(TorchDispatchMode):
    """List the convolutions of the block, and count its other matrix products: TF32 and autocast round no others."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Convolution] = []
        self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is aten.convolution.default:
            select = getattr(torch._C, "_select_conv_backend", None)
            backend = str(select(*args)) if select else ""
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
                backward = str(select(*args)) if select else ""
            is_last = args[0].is_contiguous(memory_format=torch.channels_last)
            tf32 = torch.backends.cudnn.allow_tf32
            self.calls.append(Convolution(backend, backward, tf32, args[0].dtype, args[0].shape[1], is_last))
        self.products += func.overloadpacket in PRODUCTS
        return func(*args, **(kwargs or {}))


def move(module: nn.Module, *args, **kwargs) -> nn.Module:
    """Do what `nn.Module.to` does by replacing parameters: exchanging their data needs a device that exists."""
    device, dtype, _, memory_format = torch._C._nn._parse_to(*args, **kwargs)
    for each in module.modules():
        for tensors in (each._parameters, each._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                kept = torch.preserve_format if memory_format is None or tensor.ndim != 4 else memory_format
                dtype_or_none = dtype if tensor.is_floating_point() else None
                moved = tensor.detach().to(device=device, dtype=dtype_or_none, memory_format=kept)
                tensors[name] = nn.Parameter(moved, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else moved
    return module


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    """Create all tensors of the block without data, on any device."""
    monkeypatch.setattr(nn.Module, "to", move)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)  # else no autocast
    with FakeTensorMode(allow_non_fake_inputs=True), Monitor() as monitor:
        yield monitor
