"""Checks of speed and memory: training steps against matrix products, and against the predicted memory."""

from statistics import median

from codes.reporting.cost import peak, predicted_step_memory, step_flops, training_step
from codes.reporting.machine import matmul_rate, timed
from scripts.checks.common import NOT_RUN, PASSED, Result, Setting, judge

NETWORKS = ("BSN", "SR", "LDN")
MEMORY = 2.0  # largest ratio of measured to predicted memory; gradients of activations and workspaces are not predicted


def steps(setting: Setting) -> list[Result]:
    """Time a training step of each network in every precision, as a share of the rate of matrix products."""
    side, batch = (64, 1) if setting.short else (512, 4) if setting.is_cuda else (256, 1)
    device, results = str(setting.device), []
    for precision in setting.precisions():
        ceiling = matmul_rate(device, precision)
        results.append(Result(f"matrix products, {precision}", PASSED, f"{ceiling / 1e12:.3g} TFLOP/s"))
        for name in NETWORKS:
            before = peak(device, reset=True)
            step = training_step(name, side=side, batch=batch, device=device, precision=precision)
            seconds = median(timed(step, repeats=2 if setting.short else 5, device=device))
            used = None if before is None else peak(device) - before
            share = step_flops(name, side=side, batch=batch) / seconds / ceiling
            size = f"{batch} crop(s) of {side}"
            text = f"{1e3 * seconds:.3g} ms, {share:.0%} of matrix products"
            results.append(Result(f"step of {name}, {precision}, {size}", PASSED, text))
            predicted = predicted_step_memory(name, side=side, batch=batch)
            results.append(memory(setting, name, precision, size=size, used=used, predicted=predicted))
            del step
    return results


def memory(setting: Setting, name: str, precision: str, *, size: str, used: int | None, predicted: int) -> Result:
    """Compare the memory of a step with its prediction; on a CPU it is reported, not judged."""
    check = f"memory of {name}, {precision}, {size}"
    if used is None:
        return Result(check, NOT_RUN, "this system does not report the memory of a process")
    text = f"{used / 2**20:.0f} MiB, predicted {predicted / 2**20:.0f} MiB in fp32"
    if not setting.is_cuda:
        return Result(check, PASSED, text, "not judged on a CPU")
    result = judge(check, used / predicted, MEMORY)
    return Result(check, result.verdict, text, f"at most {MEMORY:g} times the prediction")
