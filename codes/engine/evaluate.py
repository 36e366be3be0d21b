"""One pass over the test samples: the rows of the table and the pictures."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from codes.engine import checkpoint, distributed
from codes.engine.journal import Journal
from codes.engine.loading import awaited
from codes.engine.tables import Rows
from codes.errors import InputError, Interrupted
from codes.evaluation import metrics
from codes.evaluation.lpips import weights_file


class Pair(NamedTuple):
    """An output [B,C,H,W] and its ground truth; without one it is written as a picture and not measured.

    [B,N,C,H,W] are N pictures of each sample: measured and numbered, not written.
    """

    image: Tensor
    truth: Tensor | None


Compare = Callable[[nn.Module, Any], dict[str, Pair]]


@torch.inference_mode()
def evaluate(
    net: nn.Module,
    compare: Compare,
    test: DataLoader,
    journal: Journal,
    *,
    device: torch.device,
    precision: str = "fp32",
    step: int = 0,
    drawn: int = 4,
    stop: Callable[[], str] = lambda: "",
) -> Rows:
    """Measure all outputs that `compare(net, batch)` names and return the means: {row: {metric: value}}.

    Outputs are clipped to [0,1] first. The pictures of the first `drawn` samples are written without scaling.
    Raises: FloatingPointError naming output, sample and metric if a value is not a number; Interrupted when a signal
    asks for it, which `stop` names.
    """
    net.eval()
    values = []
    for count, packed in enumerate(_together(test, stop)):
        if packed is None:  # another process has a sample more
            continue
        batch = packed.to(device)
        with distributed.autocast(device, precision):
            pairs = compare(net, batch)
        for row, pair in pairs.items():
            if pair.image.isinf().any():  # clipping would hide it
                raise FloatingPointError(f"{row}, sample {', '.join(batch.names)}, holds infinity")
            image = pair.image.float().clamp(0, 1)
            if pair.truth is not None:
                values += _measure(row, batch.names, image, pair.truth.float())
            if count < drawn and image.ndim == 4:
                journal.picture(step, batch.names[0], row, image[0])
        if count < drawn:
            _write_truths(pairs, step, batch.names[0], journal)
    net.train()
    # Each process has other samples; sorted by name, the table is the same for any number of processes.
    values = sorted(distributed.all_gather(values), key=lambda line: line["sample"])
    rows = _means(values)
    if values:
        journal.about["LPIPS"] = lpips_fault() or "measured"
    journal.about["network"] = f"sha256 {checkpoint.digest(net.state_dict())[:16]}"
    journal.table(step, rows, values)
    return rows


def _together(test: DataLoader, stop: Callable[[], str]) -> Iterator[Any]:
    """Yield the test samples of this process, None where only others have one; all processes advance together.

    So none waits longer for another than one sample takes, and all stop at the same one.
    """
    batches = awaited(test, stop=stop)
    shown = tqdm(total=len(test), desc="evaluate", leave=False, disable=distributed.rank() > 0)
    with closing(batches), shown:
        for _ in range(distributed.all_reduce_max(len(test))):
            packed = next(batches, None)
            if distributed.any_of(bool(stop())):
                raise Interrupted(f"{stop() or 'a signal'} during the evaluation; the same command makes the table")
            yield packed
            shown.update()


def _write_truths(pairs: dict[str, Pair], step: int, sample: str, journal: Journal) -> None:
    """Write each ground truth of a sample once."""
    single = {row: pair.truth for row, pair in pairs.items() if pair.truth is not None and pair.truth.ndim == 4}
    truths = {id(truth): (row, truth) for row, truth in single.items()}
    for row, truth in truths.values():
        journal.picture(step, sample, "truth" if len(truths) == 1 else f"truth of {row}", truth[0])


def _measure(row: str, names: list[str], image: Tensor, truth: Tensor) -> list[dict]:
    if image.ndim == 5:
        names = [f"{name} {place}" for name in names for place in range(image.shape[1])]
        image, truth = image.flatten(0, 1), truth.flatten(0, 1)
    found = metrics.measure(image, truth)
    if not lpips_fault():
        found["lpips"] = metrics.lpips(image, truth)
    found = {metric: value.tolist() for metric, value in found.items()}
    for metric, value in found.items():
        for name, number in zip(names, value, strict=True):
            if math.isnan(number):
                raise FloatingPointError(f"{metric} of {row}, sample {name}, is not a number: the output holds NaN")
    return [
        {"sample": name, "output": row, **{metric: value[i] for metric, value in found.items()}}
        for i, name in enumerate(names)
    ]


@cache
def lpips_fault() -> str:
    """Return why LPIPS cannot be measured, and print it: once, since where there is no network, trying takes long."""
    try:
        metrics.lpips(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))
    except InputError:
        fault = f"tables are without LPIPS: {weights_file('alex')} is missing and cannot be downloaded"
        if distributed.rank() == 0:
            tqdm.write(fault, file=sys.stderr)
        return fault
    return ""


def _means(values: list[dict]) -> Rows:
    rows: Rows = {}
    for row in dict.fromkeys(line["output"] for line in values):
        lines = [line for line in values if line["output"] == row]
        measured = [metric for metric in lines[0] if metric not in ("sample", "output")]
        rows[row] = {metric: sum(line[metric] for line in lines) / len(lines) for metric in measured}
    return rows
