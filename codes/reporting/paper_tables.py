"""The paper's tables from measured rows, with the published numbers beside them.

Source: SpikeReveal (arXiv 2403.09486), tables 1 and 2, and the logs of its authors.
"""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import torch

from codes.engine.tables import Rows
from codes.evaluation import published
from codes.reporting.cost import NETWORKS, cost
from codes.reporting.table import Table

MODULES = {
    "blurry": "blurry picture",
    "TFP_9": "TFP, 9 frames",
    "TFI": "TFI",
    "SDM": "SDM",
    "SDM+BSN": "SDM + BSN",
    "teacher": "SDM + BSN + SR (teacher)",
    "SDM ISI": "SDM on ISI intensity (ours)",
    "SDM MFSR": "SDM on multi-frame super-resolution (ours)",
    "LDN, 1 iteration": "LDN, 1 iteration (ours)",
    "LDN without consistency": "LDN without data consistency (ours)",
    "LDN": "LDN (student)",
    "LDN along motion": "LDN, luminance and colours along motion (ours)",
}
PUBLISHED_LDN = "S-SDM (LDN)"
LDN_ISI, LDN_RESIM = "LDN, recipe isi (ours)", "LDN, recipe resim (ours)"
METRICS = {"psnr": "PSNR", "ssim": "SSIM", "ssim_paper": "SSIM (paper)", "lpips": "LPIPS"}
SIDES = {"bsn": "at the size of the spikes, gray", "sr": "at the size of the picture, gray", "deblur": "colour"}
MIDDLE = "protocol: middle frame (spike frame 68 of 137), whole pictures, outputs clipped to [0,1]"
SEQUENCE = "protocol: seven frames a sample (spike frames 20, 36, ..., 116), mean over all; outputs clipped to [0,1]"
PUBLISHED = "columns marked published: arXiv 2403.09486 and its authors' logs, on GOPRO alone; not measured here"


@dataclass(frozen=True)
class Threshold:
    """The firing threshold V_th of a data set, in the paper's units: one value, the ends of a range, or unknown."""

    values: tuple[float, ...] = ()

    def __str__(self) -> str:
        return " to ".join(f"{value:g}" for value in self.values) or "unknown"

    @property
    def published(self) -> float | None:
        """The value under which published numbers are listed; None for a range and for an unknown threshold."""
        return self.values[0] if len(self.values) == 1 else None


def sequence_table(rows: Mapping[Threshold, Rows], notes: list[str]) -> Table:
    """Return PSNR and SSIM of stage 3 over the sequence at each V_th."""
    mfsr, along_motion, methods = MODULES["SDM MFSR"], MODULES["LDN along motion"], list(published.SEQUENCE)
    if any("SDM MFSR sequence" in of_set for of_set in rows.values()):
        ours, methods = LDN_RESIM, [*methods, LDN_RESIM, along_motion, mfsr]
    elif any("SDM MFSR" in of_set for of_set in rows.values()):
        ours, methods = LDN_ISI, [*methods, LDN_ISI, along_motion]
    else:
        ours = PUBLISHED_LDN
    columns, lines = ["method"], {method: [] for method in methods}
    for threshold, of_set in rows.items():
        columns += [f"PSNR, V_th {threshold}", f"SSIM, V_th {threshold}", f"PSNR, V_th {threshold}, published"]
        measured = {mfsr: "SDM MFSR sequence", along_motion: "LDN along motion sequence"}
        measured[ours if "SDM MFSR" in of_set else PUBLISHED_LDN] = "LDN sequence"
        for method, line in lines.items():
            found = of_set.get(measured.get(method, ""), {})
            line += [found.get("psnr"), found.get("ssim")]
            line.append(published.SEQUENCE.get(method, {}).get(threshold.published))
    cells = [[method, *line] for method, line in lines.items()]
    return Table("sequence", "Sequence of seven frames", columns, cells, [SEQUENCE, PUBLISHED, *notes])


def module_table(threshold: Threshold, rows: Rows, notes: list[str]) -> Table:
    """Return what each component of the method adds at one V_th."""
    name, title = f"modules_{threshold}".replace(" ", "_"), f"Components of the method at V_th {threshold}"
    lines = {("deblur", row): title for row, title in MODULES.items()}
    return _compared(name, title, lines, {"deblur": rows}, threshold=threshold, notes=notes)


def network_table(threshold: Threshold, rows: Mapping[str, Rows], notes: list[str]) -> Table:
    """Return BSN and SR on their own and within the method: the nine rows of the published logs."""
    lines = {(stage, row): f"{row}, {SIDES[stage]}" for stage, row in published.OUTPUTS}
    return _compared("networks", "The networks on their own", lines, rows, threshold=threshold, notes=notes)


def _compared(
    name: str,
    title: str,
    lines: Mapping[tuple[str, str], str],
    rows: Mapping[str, Rows],
    *,
    threshold: Threshold,
    notes: list[str],
) -> Table:
    """Lay out the metrics of the rows (stage, output), at V_th 1 beside those that were published."""
    beside = threshold.published == 1
    pairs = [("psnr", beside), ("ssim", False), ("ssim_paper", beside), ("lpips", beside)]
    columns, cells = ["output"], [[title] for title in lines.values()]
    for metric, is_published in pairs:
        columns += [METRICS[metric]] + [f"{METRICS[metric]}, published"] * is_published
        for (stage, row), line in zip(lines, cells, strict=True):
            line.append(rows.get(stage, {}).get(row, {}).get(metric))
            if is_published:
                line.append(published.OUTPUTS.get((stage, row), {}).get(metric))
    return Table(name, title, columns, cells, [MIDDLE, PUBLISHED, *notes])


def cost_table(size: tuple[int, int], device: str, notes: list[str]) -> Table:
    """Return size and cost of each network for one restored frame."""
    height, width = size
    columns = ["network", "parameters", "parameters, published", "10^9 multiply-adds"]
    columns += ["10^9 multiply-adds, published (720p)", "ms", "frames/s", "peak memory, MiB"]
    rows = []
    for name in NETWORKS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            one = fresh.submit(cost, name, height=height, width=width, device=device).result()
        parameters, multiply_adds = published.SIZE.get(name, (None, None))
        rows.append(
            [
                *(name, one["parameters"], parameters, one["multiply_adds"] / 1e9, multiply_adds),
                *(one["milliseconds"], 1e3 / one["milliseconds"], one["memory"] and one["memory"] / 2**20),
            ]
        )
    is_gpu = device.startswith("cuda")
    where = torch.cuda.get_device_name(device) if is_gpu else f"CPU, threads: {torch.get_num_threads()}"
    protocol = f"protocol: one frame of {height}x{width}, float32, on {where}; memory beyond the network and its input"
    return Table("cost", f"Size and cost at {height}x{width}", columns, rows, [protocol, PUBLISHED, *notes])
