"""Make the paper's tables from data sets and weights, as Markdown, CSV and LaTeX, with the published numbers beside.

    python scripts/tables.py                                            # GOPRO/ and the weights in model/
    python scripts/tables.py --base_folder data/demo --bsn_path B.pth --sr_path S.pth --deblur_path L.pth
    python scripts/tables.py --base_folder GOPRO --deblur_path V1.pth V2.pth V4.pth     # GOPRO/threshold_{1,2,4}

sequence: PSNR and SSIM over seven frames at each V_th. modules_1 and so on: what each component of the method adds at
that V_th. networks: BSN and SR on their own, the nine rows of the published logs, at the first V_th. cost: size,
multiply-adds, time and memory on this device.
Values are kept in OUTPUT/values and used again for the same content of data and weights, V_th and code.
"""

import hashlib
import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


import train_bsn
import train_deblur
import train_sr
from codes.cli import option, program
from codes.data import manifest
from codes.data.fingerprint import changes, source_fingerprint
from codes.engine import distributed
from codes.engine.evaluate import lpips_fault
from codes.engine.provenance import versions
from codes.engine.tables import Rows
from codes.errors import InputError
from codes.files import replacing, short_hash
from codes.reporting.paper_sources import DataSet, data_sets, describe_weights, described, pick_weights
from codes.reporting.paper_tables import cost_table, module_table, network_table, sequence_table
from codes.reporting.table import Table

STAGES = {"bsn": train_bsn, "sr": train_sr, "deblur": train_deblur}
WEIGHTS = {"bsn": ("bsn_path",), "sr": ("bsn_path", "sr_path"), "deblur": ("bsn_path", "sr_path", "deblur_path")}


@dataclass(frozen=True)
class Options:
    base_folder: tuple[str, ...] = option(
        ("GOPRO/",), "data sets, one for each V_th; a folder of threshold_* is several"
    )
    threshold: tuple[float, ...] = option(
        (), "V_th of each data set, where neither its folder nor its record has it [unknown]"
    )
    bsn_path: tuple[str, ...] = option((), "weights of BSN: one file, or one for each data set [model/, else none]")
    sr_path: tuple[str, ...] = option((), "weights of EDSR: one file, or one for each data set [model/, else none]")
    deblur_path: tuple[str, ...] = option((), "weights of LDN: one file, or one for each data set [model/]")
    output: str = option("log/tables", "folder of the tables")
    use_small: bool = option(False, "use only the first 20 samples of each data set")
    cost_size: tuple[int, ...] = option(
        (720, 1280), "height and width of the picture of the cost table; 0: no such table"
    )
    device: str = option("", "device to compute on: cpu, cuda, cuda:1 [cuda where there is one]")
    workers: int | None = option(None, "number of processes that read data [the cores, at most 4]")


@dataclass(frozen=True)
class Value:
    """What one stage measured on one data set, and the versions that it was measured with."""

    rows: Rows
    versions: dict[str, str]


def main(o: Options) -> list[Table]:
    if len(o.cost_size) != 2 and any(o.cost_size):
        raise InputError(f"--cost_size {' '.join(map(str, o.cost_size))}: height and width are accepted, or 0")
    device = distributed.chosen(o.device)
    folders = data_sets(o.base_folder, o.threshold)
    given = {"bsn_path": o.bsn_path, "sr_path": o.sr_path, "deblur_path": o.deblur_path}
    weights = [pick_weights(given, place, len(folders)) for place in range(len(folders))]
    sets = [described(folder, threshold, small=o.use_small) for threshold, folder in folders.items()]
    values = [
        {
            stage: measured(o, stage, data, paths, device)
            for stage in (STAGES if place == 0 and paths["bsn_path"] else ["deblur"])
        }
        for place, (data, paths) in enumerate(zip(sets, weights, strict=True))
    ]
    rows = [{stage: value.rows for stage, value in of_set.items()} for of_set in values]
    sources = [
        [data.described, *map(describe_weights, filter(None, paths.values())), *measured_with(of_set)]
        for data, paths, of_set in zip(sets, weights, values, strict=True)
    ]
    made = [f"made by `{shlex.join(sys.argv)}`"]
    all_sources = list(dict.fromkeys(line for of_set in sources for line in of_set))
    tables = [
        sequence_table(
            {data.threshold: one["deblur"] for data, one in zip(sets, rows, strict=True)}, all_sources + made
        ),
        *(
            module_table(data.threshold, one["deblur"], source + made)
            for data, one, source in zip(sets, rows, sources, strict=True)
        ),
        network_table(sets[0].threshold, rows[0], sources[0] + made),
    ]
    if all(o.cost_size):
        tables.append(cost_table((o.cost_size[0], o.cost_size[1]), device, [listed(versions()), *made]))
    write(tables, o.output)
    return tables


def write(tables: list[Table], folder: str) -> None:
    """Write each table on its own, and all of them together."""
    for table in tables:
        table.write(folder)
    text = "\n".join(table.markdown() for table in tables)
    with replacing(Path(folder) / "tables.md") as file:
        file.write(text.encode())
    print(f"{text}\ntables: {folder}/{{tables.md,{','.join(table.name for table in tables)}.{{md,csv,tex}}}}")


def measured(o: Options, stage: str, data: DataSet, paths: dict[str, str], device: str) -> Value:
    """Evaluate a stage as its script does, or read what that gave before."""
    used = {name: paths[name] for name in WEIGHTS[stage] if paths[name]}
    key = value_key(stage, data, used, device)
    values = Path(o.output) / "values"
    place = values / f"{stage}-{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]}.json"
    held = manifest.read(place, otherwise="delete it to measure again")
    if "rows" not in held:
        if why := why_measured_again(values, stage, key, data.folder):
            print(f"{stage} at V_th {data.threshold} is measured again: {why}", file=sys.stderr)
        module = STAGES[stage]
        options = module.Options(
            test_mode=True,
            base_folder=str(data.folder),
            use_small=o.use_small,
            workers=o.workers,
            save_folder=f"{o.output}/runs",
            exp_name=f"threshold_{data.threshold}".replace(" ", "_"),
            device=device,
            **used,
        )
        held = {"of": key, "folder": str(data.folder), "rows": module.main(options), "versions": versions()}
        manifest.write(place, held)
    return Value(held["rows"], held["versions"])


def value_key(stage: str, data: DataSet, weights: dict[str, str], device: str) -> dict[str, Any]:
    """Return all that the values of a stage depend on."""
    packages = {name: version for name, version in versions().items() if name != "commit"}
    return {
        "threshold": str(data.threshold),
        "data": data.files,
        "weights": {f"--{name}": short_hash(path) for name, path in weights.items()},
        "code": source_fingerprint(STAGES[stage].__name__),
        "packages": packages,
        "device": device.partition(":")[0],
        "LPIPS": "missing" if lpips_fault() else "available",
    }


def why_measured_again(values: Path, stage: str, key: dict[str, Any], folder: Path) -> str:
    """Say how the key differs from that of the newest values of this stage on this data set; empty if none are kept."""
    for path in sorted(values.glob(f"{stage}-*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        held = manifest.read(path, otherwise="delete it to measure again")
        before = held.get("of")
        if isinstance(before, dict) and (held.get("folder") == str(folder) or before["threshold"] == key["threshold"]):
            return "; ".join(
                f"{name}: {changes(before[name], now) if isinstance(now, dict) else f'{before[name]} then, {now} now'}"
                for name, now in key.items()
                if before[name] != now
            )
    return ""


def measured_with(values: dict[str, Value]) -> list[str]:
    """Say which versions the values of a data set were measured with."""
    return list(dict.fromkeys(f"measured with {listed(value.versions)}" for value in values.values()))


def listed(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())


if __name__ == "__main__":
    program(main, Options, __doc__)
