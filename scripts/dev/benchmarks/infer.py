"""Time LDN with its inputs on the device, against matrix products in the same precision.

python scripts/dev/benchmark.py infer
"""

import sys
from dataclasses import dataclass
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from codes.cli import option
from codes.data.spikes import UPSCALE
from codes.engine import distributed
from codes.memory_format import memory_format
from codes.networks import LDN
from codes.reporting.machine import matmul_rate, spread, timed
from scripts.dev.benchmarks.common import print_table


@dataclass(frozen=True)
class Options:
    size: tuple[int, ...] = option((720, 1280), "height and width of the picture")
    times: tuple[int, ...] = option((1, 7), "numbers of target times restored in one pass", aliases=("instants",))
    precision: str = option("fp32", "arithmetic", choices=("fp32", "tf32", "bf16"), idle=distributed.no_tf32)
    compile: bool = option(False, "torch.compile, on a GPU with CUDA graphs")
    repeats: int = option(7, "runs; the median is reported")
    device: str = option("", "device [cuda if available, else cpu]")
    json: bool = option(False, "print one JSON object a line")


def main(o: Options) -> None:
    device = distributed.initialize(o.device)
    torch.backends.cudnn.allow_tf32 = o.precision != "fp32"
    ceiling, rows = matmul_rate(device, o.precision), []
    net = LDN().to(device, memory_format=memory_format(device)).eval()
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    fast = torch.compile(net, mode=mode, dynamic=False) if o.compile else net
    height, width = (side // UPSCALE for side in o.size)
    blur = torch.rand(1, 3, *o.size, device=device).contiguous(memory_format=memory_format(device))
    for times in o.times:
        spikes = torch.randint(2, (times, 21, height, width), device=device).float()
        with torch.no_grad(), distributed.autocast(device, o.precision):
            with FlopCounterMode(display=False) as counter:
                net(blur, spikes)
            seconds = timed(lambda spikes=spikes: fast(blur, spikes), repeats=o.repeats, device=device)
        flops, frame = counter.get_total_flops(), median(seconds) / times
        rows.append(
            {
                "target times": times,
                "frames/s": 1 / frame,
                "ms a frame": 1e3 * frame,
                "spread": spread(seconds),
                "GFLOP a frame": flops / times / 1e9,
                "GFLOP/s": flops / median(seconds) / 1e9,
                "matrix product, GFLOP/s": ceiling / 1e9,
                "share": flops / median(seconds) / ceiling,
            }
        )
    print(f"LDN, {o.size[0]}x{o.size[1]}, {o.precision}{', compiled' if o.compile else ''}, {device}", file=sys.stderr)
    print_table(rows, as_json=o.json)
