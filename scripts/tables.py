"""Make the paper's tables from a data set and weights: Markdown, CSV and LaTeX, the published numbers beside.

    python scripts/tables.py                                            # GOPRO/ and the weights in model/
    python scripts/tables.py --base_folder data/demo --bsn_path B.pth --sr_path S.pth --deblur_path L.pth
    python scripts/tables.py --base_folder GOPRO --deblur_path V1.pth V2.pth V4.pth     # GOPRO/threshold_{1,2,4}

sequence: PSNR and SSIM over seven instants at each V_th; modules_1 and so on: what each part of the method adds at that
V_th; networks: BSN and SR on their own, the nine rows of the published logs, at the first V_th; cost: size,
multiply-adds, time and memory on this device.
What was measured already from the same data and weights by the same code is not measured again (OUTPUT/values).
"""

import hashlib
import shlex
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

import train_bsn
import train_deblur
import train_sr
from codes.cli import option, program
from codes.data import manifest
from codes.engine import distributed
from codes.engine.journal import Rows, versions
from codes.errors import InputError
from codes.evaluation import published
from codes.files import replacing
from codes.recipe import in_model, no_weights
from codes.reporting.cost import NETWORKS, cost
from codes.reporting.tables import Table

ROOT = Path(__file__).resolve().parent.parent
STAGES = {"bsn": train_bsn, "sr": train_sr, "deblur": train_deblur}
WEIGHTS = {"bsn": ("bsn_path",), "sr": ("bsn_path", "sr_path"), "deblur": ("bsn_path", "sr_path", "deblur_path")}
TEACHER = "SDM on rates fused along motion (ours)"
MODULES = {
    "blurry": "blurry picture",
    "TFP_9": "TFP, 9 frames",
    "TFI": "TFI",
    "SDM": "SDM",
    "SDM+BSN": "SDM + BSN",
    "teacher": "SDM + BSN + SR (teacher)",
    "SDM ISI": "SDM on firing rates (ours)",
    "SDM MFSR": TEACHER,
    "LDN, 1 iteration": "LDN, after one look at the spikes (ours)",
    "LDN without consistency": "LDN, before data consistency (ours)",
    "LDN": "LDN (student)",
}
OURS = {"blurry": "LDN, recipe rates (ours)", "fused": "LDN, recipe fused (ours)"}  # by the picture it looks at
METRICS = {"psnr": "PSNR", "ssim": "SSIM", "ssim_paper": "SSIM (paper)", "lpips": "LPIPS"}
MIDDLE = "protocol: middle frame (spike frame 68 of 137), whole pictures, outputs clipped to [0,1]"
PUBLISHED = "columns marked published: arXiv 2403.09486 and its authors' logs, on GOPRO alone; not measured here"


@dataclass(frozen=True)
class Options:
    base_folder: tuple[str, ...] = option(
        ("GOPRO/",), "data sets, one for each V_th; a folder of threshold_* is several"
    )
    bsn_path: tuple[str, ...] = option((), "weights of BSN: one file, or one for each data set [model/, else none]")
    sr_path: tuple[str, ...] = option((), "weights of SR, likewise")
    deblur_path: tuple[str, ...] = option((), "weights of LDN, likewise [model/]")
    output: str = option("log/tables", "where the tables go")
    use_small: bool = option(False, "only the first 20 samples of each data set")
    cost_size: tuple[int, ...] = option((720, 1280), "height and width of the picture for cost; 0: no table of it")
    device: str = option("", "cpu, cuda, cuda:1 [cuda where there is one]")
    workers: int | None = option(None, "processes that read data [the cores, at most 4]")


def main(o: Options) -> list[Table]:
    if len(o.cost_size) != 2 and any(o.cost_size):
        raise InputError(f"--cost_size {' '.join(map(str, o.cost_size))}: height and width are accepted, or 0")
    device = distributed.chosen(o.device)
    sets = data_sets(o.base_folder)
    weights = [pick_weights(o, place, len(sets)) for place in range(len(sets))]
    rows = [
        {
            stage: measured(o, stage, folder, threshold, paths, device)
            for stage in (STAGES if place == 0 and paths["bsn_path"] else ["deblur"])
        }
        for place, ((threshold, folder), paths) in enumerate(zip(sets.items(), weights, strict=True))
    ]
    found = versions()
    made = [f"made by `{shlex.join(sys.argv)}`, " + ", ".join(f"{name} {version}" for name, version in found.items())]
    sources = [
        [f"V_th {threshold:g}: {describe(folder, o.use_small)}", *map(describe_weights, filter(None, paths.values()))]
        for (threshold, folder), paths in zip(sets.items(), weights, strict=True)
    ]
    tables = [
        sequence_table(dict(zip(sets, rows, strict=True)), [*(line for of_set in sources for line in of_set), *made]),
        *(
            module_table(threshold, of_set["deblur"], [MIDDLE, PUBLISHED, *source, *made])
            for threshold, of_set, source in zip(sets, rows, sources, strict=True)
        ),
        network_table(next(iter(sets)), rows[0], [MIDDLE, PUBLISHED, *sources[0], *made]),
        *([cost_table(o.cost_size, device, [PUBLISHED, *made])] if all(o.cost_size) else []),
    ]
    for table in tables:
        table.write(o.output)
    text = "\n".join(table.markdown() for table in tables)
    with replacing(Path(o.output) / "tables.md") as file:
        file.write(text.encode())
    print(f"{text}\ntables: {o.output}/{{tables.md,{','.join(table.name for table in tables)}.{{md,csv,tex}}}}")
    return tables


def data_sets(folders: tuple[str, ...]) -> dict[float, Path]:
    """Return the data set of each V_th: by the name of its folder, else as its maker noted, else 1."""
    found = {}
    for folder in (path for name in folders for path in sorted(Path(name).glob("threshold_*")) or [Path(name)]):
        threshold = next(iter(manifest.thresholds(folder)), 1.0)
        if threshold in found:
            raise InputError(f"{folder} and {found[threshold]}: both of V_th {threshold:g}; name one for each")
        found[threshold] = folder
    return dict(sorted(found.items()))


def pick_weights(o: Options, place: int, count: int) -> dict[str, str]:
    """Return the weight files of the data set at `place` among `count`, in order of V_th."""
    picked = {}
    for name in WEIGHTS["deblur"]:
        paths = getattr(o, name) or (in_model(name),)
        if len(paths) not in (1, count):
            raise InputError(f"--{name}: one file, or one for each of the {count} data sets, in order of V_th")
        picked[name] = paths[min(place, len(paths) - 1)]
    if not picked["deblur_path"]:
        raise no_weights("deblur_path")
    if bool(picked["bsn_path"]) != bool(picked["sr_path"]):
        raise InputError("--bsn_path and --sr_path belong together")
    return picked


def measured(o: Options, stage: str, folder: Path, threshold: float, paths: dict[str, str], device: str) -> Rows:
    """Evaluate a stage as its script does, or read what that gave before."""
    used = {name: paths[name] for name in WEIGHTS[stage]}
    key = [stage, describe(folder, o.use_small), *map(describe_weights, filter(None, used.values())), _code()]
    values = Path(o.output) / "values" / f"{stage}-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.json"
    if not values.exists():
        module = STAGES[stage]
        settings = {"test_mode": True, "base_folder": str(folder), "use_small": o.use_small, "workers": o.workers}
        settings |= {"save_folder": f"{o.output}/runs", "exp_name": f"threshold_{threshold:g}", "device": device}
        manifest.write(values, {"of": key, "rows": module.main(module.Options(**settings, **used))})
    return manifest.read(values)["rows"]


def describe(folder: Path, small: bool) -> str:
    """Name the test split by its folder, its number of samples, and a hash of the names and sizes of its files."""
    files = sorted((folder / "test").rglob("*.*"))
    listed = "".join(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n" for path in files)
    samples = sum(path.suffix == ".dat" and path.parent.parent.name == "spike_data" for path in files)
    count = f"the first {min(20, samples)} of {samples}" if small else f"{samples}"
    return f"data: {folder}, test split, {count} samples, file list sha256 {_short(listed.encode())}"


def describe_weights(path: str) -> str:
    """Name a weight file with the hash of its content."""
    if not Path(path).is_file():
        raise InputError(
            f"{path}: no such weight file; put it there, or name yours by --bsn_path, --sr_path, --deblur_path"
        )
    return f"weights: {path}, sha256 {_short(Path(path).read_bytes())}"


def _code() -> dict[str, str]:
    """Say what measures: versions, and a hash of the source, which uncommitted changes have too."""
    files = sorted({*ROOT.glob("codes/**/*.py"), *ROOT.glob("train_*.py")})
    source = _short(b"".join(path.read_bytes() for path in files))
    return {name: version for name, version in versions().items() if name != "commit"} | {"source": source}


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def sequence_table(rows: dict[float, dict[str, Rows]], notes: list[str]) -> Table:
    """PSNR and SSIM over the sequence at each V_th."""
    columns, lines = ["method"], {method: [] for method in published.SEQUENCE}
    ours = OURS["fused" if any("SDM MFSR sequence" in of_set["deblur"] for of_set in rows.values()) else "blurry"]
    if any("SDM MFSR" in of_set["deblur"] for of_set in rows.values()):
        lines |= {ours: []} | ({TEACHER: []} if ours == OURS["fused"] else {})
    for threshold, of_set in rows.items():
        columns += [f"PSNR, V_th {threshold:g}", f"SSIM, V_th {threshold:g}", f"PSNR, V_th {threshold:g}, published"]
        for method, line in lines.items():
            row = "SDM MFSR sequence" if method == TEACHER else "LDN sequence"
            is_measured = method in (TEACHER, ours if "SDM MFSR" in of_set["deblur"] else "S-SDM (LDN)")
            found = of_set["deblur"].get(row, {}) if is_measured else {}
            line += [found.get("psnr"), found.get("ssim"), published.SEQUENCE.get(method, {}).get(threshold)]
    protocol = (
        "protocol: seven frames a sample (spike frames 20, 36, ..., 116), mean over all; outputs clipped to [0,1]"
    )
    cells = [[method, *line] for method, line in lines.items()]
    return Table("sequence", "Sequence of seven frames", columns, cells, [protocol, PUBLISHED, *notes])


def module_table(threshold: float, rows: Rows, notes: list[str]) -> Table:
    """Show what each part of the method adds at one V_th."""
    lines = {("deblur", row): title for row, title in MODULES.items()}
    name, title = f"modules_{threshold:g}", f"Parts of the method at V_th {threshold:g}"
    return _compared(name, title, lines, {"deblur": rows}, notes, beside=threshold == 1)


def network_table(threshold: float, rows: dict[str, Rows], notes: list[str]) -> Table:
    """BSN and SR on their own, and what comes of them: the nine rows of the published logs."""
    sides = {"bsn": "at the size of the spikes, gray", "sr": "at the size of the picture, gray", "deblur": "colour"}
    lines = {(stage, row): f"{row}, {sides[stage]}" for stage, row in published.OUTPUTS}
    return _compared("networks", "The networks on their own", lines, rows, notes, beside=threshold == 1)


def _compared(
    name: str,
    title: str,
    lines: dict[tuple[str, str], str],
    rows: dict[str, Rows],
    notes: list[str],
    *,
    beside: bool = True,
) -> Table:
    """Lay out the metrics of the rows (stage, output), `beside` them those that were published, at V_th 1."""
    pairs = [("psnr", beside), ("ssim", False), ("ssim_paper", beside), ("lpips", beside)]
    columns, cells = ["output"], [[title] for title in lines.values()]
    for metric, is_published in pairs:
        columns += [METRICS[metric]] + [f"{METRICS[metric]}, published"] * is_published
        for (stage, row), line in zip(lines, cells, strict=True):
            line.append(rows.get(stage, {}).get(row, {}).get(metric))
            if is_published:
                line.append(published.OUTPUTS.get((stage, row), {}).get(metric))
    return Table(name, title, columns, cells, notes)


def cost_table(size: tuple[int, ...], device: str, notes: list[str]) -> Table:
    """Size and cost of each network for one restored frame."""
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
    where = (
        torch.cuda.get_device_name(device) if device.startswith("cuda") else f"CPU, threads: {torch.get_num_threads()}"
    )
    protocol = f"protocol: one frame of {height}x{width}, float32, on {where}; memory beyond the network and its input"
    return Table("cost", f"Size and cost at {height}x{width}", columns, rows, [protocol, *notes])


if __name__ == "__main__":
    program(main, Options, __doc__)
