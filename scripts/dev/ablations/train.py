"""PSNR of LDN, middle frame and sequence, for each change of its training: mean and spread over the seeds.

Every row is trained on the same data for the same number of steps; --resimulated is what scripts/resimulate.py made of
--base_folder. Values are kept in OUTPUT/values.json and used again for the same training, weights, content of data and
code. Rows that --only leaves out are shown as they were measured, with the commit that measured them.
"""

import hashlib
import json
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import train_deblur
from codes.cli import option
from codes.data.dataset import SpikeDataset
from codes.data.fingerprint import Digests, combined, fingerprint, source_fingerprint
from codes.engine.provenance import versions
from codes.engine.tables import Rows
from codes.errors import InputError
from codes.files import short_hash
from codes.recipe import RECIPES
from codes.reporting.table import Table
from scripts.dev.ablations import values
from scripts.dev.ablations.common import data_label, provenance, written

ISI, RESIM, SDM_TEACHER, RESIM_TEACHER = "isi", "resim", "sdm", "resim"
BY_SDM = {"recipe": ISI, "teacher": SDM_TEACHER}
ON_RESIMULATED = "published, on re-simulated scenes (V_th 1 to 4)"
# One change at a time, of the recipe that the row before stands for.
VARIANTS: dict[str, Mapping[str, object]] = {
    "published recipe": {"recipe": "published"},
    "published, learning-rate cycles of 202 steps": {"recipe": "published", "lr_cycles": 202},
    "published, clipped before the loss": {"recipe": "published", "clip": True},
    "published, random start": {"recipe": "published", "init": "random"},
    "published, ends of the exposure weighted 1/2": {"recipe": "published", "reblur": "trapezoid"},
    "published, random target times": {"recipe": "published", "reblur": "random"},
    "published, without reblur loss": {"recipe": "published", "lambda_reblur": 0.0},
    "published, flips and quarter turns": {"recipe": "published", "augment": True},
    "published, BSN and its centre pixel weighted equally": {"recipe": "published", "center_weight": 0.5},
    "published, without BSN": {"recipe": "published", "center_weight": 1.0},
    "published, data consistency": {"recipe": "published", "consistency": "picture"},
    ON_RESIMULATED: {"recipe": "published"},
    # Its labels equal its initial output: only the reblur loss teaches.
    "isi, teacher sdm": BY_SDM,
    "isi, teacher sdm, random start": BY_SDM | {"init": "random"},
    # Super-resolution from the blurry picture alone: it is the mean of thirteen sharp ones, in colour.
    "isi, reblur loss of 13 target times alone": BY_SDM | {"lambda_tea": 0.0, "blur_step": 8},
    "isi, teacher mfsr (recipe isi)": {"recipe": ISI},
    "isi, teacher resim": {"recipe": ISI, "teacher": RESIM_TEACHER},
    "input mfsr, teacher resim": {"recipe": RESIM, "consistency": "none"},
    "input mfsr, teacher resim, data consistency (recipe resim)": {"recipe": RESIM},
    "recipe resim, flips and quarter turns": {"recipe": RESIM, "augment": True},
    "recipe resim, random start": {"recipe": RESIM, "init": "random"},
    "recipe resim, bf16": {"recipe": RESIM, "precision": "bf16"},
}
FIRST_ITERATION = "recipe resim, 1 iteration"  # measured together with the recipe


@dataclass(frozen=True)
class Options:
    base_folder: str = option("data/demo", "data set to train on")
    resimulated: str = option("", "what scripts/resimulate.py made of it", aliases=("refilmed",))
    test_folder: tuple[str, ...] = option((), "data sets to measure on [the one that is trained on]")
    bsn_path: str = option("", "weights of BSN, for the published recipe")
    sr_path: str = option("", "weights of EDSR, for the published recipe")
    steps: int = option(1000, "optimiser steps of each LDN")
    seeds: int = option(3, "trainings of each row")
    bs: int = option(2, "pictures a batch")
    roi_size: int = option(128, "side of the crops, in picture pixels")
    only: tuple[str, ...] = option((), "rows to train, by their first words [all]")
    device: str = option("", "cpu, cuda, cuda:1 [cuda where there is one]")
    output: str = option("log/ablation", "folder of the table, the values and the runs")


@dataclass(frozen=True)
class Training:
    """One LDN that is asked for: a row, a seed, and all that its values depend on."""

    row: str
    seed: int
    folder: str
    paths: Mapping[str, str]
    entry: values.Entry
    fingerprints: list[Digests]

    @property
    def name(self) -> str:
        return f"{self.row}, seed {self.seed}"


def main(o: Options) -> Table:
    """Train and measure what is asked for, and make the table."""
    asked = [row for row in VARIANTS if not o.only or row.startswith(o.only)]
    check(o, asked)
    contents = {folder: files_of(folder, "test") for folder in o.test_folder or (o.base_folder,)}
    entries = {}
    for row in VARIANTS:
        if row in asked:
            entries[row] = [trained(o, training(o, row, seed), contents) for seed in range(o.seeds)]
        else:
            kept = values.read(Path(o.output, "values.json"))["values"]
            entries[row] = [kept.get(f"{row}, seed {seed}") for seed in range(o.seeds)]
    columns, rows = ["LDN"], []
    for folder in contents:
        columns += [f"middle, {data_label(folder)}", "spread", f"sequence, {data_label(folder)}", "spread"]
    for row, found in entries.items():
        outputs = {row: "LDN"} | ({FIRST_ITERATION: "LDN, 1 iteration"} if VARIANTS[row] == {"recipe": RESIM} else {})
        rows += [line for title, output in outputs.items() if (line := table_row(title, output, found, contents))]
    notes = [
        f"PSNR in dB; {o.steps} steps of {o.bs} crops of {o.roi_size}, {o.seeds} seeds; spread: largest - smallest",
        "each row was measured by the commit behind it, as values.json records; 'before' a commit: by older code, on "
        "sets of these folder names whose content was not recorded",
        f"laid out by: {provenance()}",
    ]
    return written(Table("train", "PSNR of LDN", [*columns, "commit"], rows, notes), o.output)


def check(o: Options, asked: list[str]) -> None:
    """Raise InputError if rows that are asked for need what is not given, or none of them uses what is given."""
    if not asked:
        raise InputError(f"--only {' '.join(o.only)}: no row begins so; there are {', '.join(map(repr, VARIANTS))}")
    if o.seeds < 1:
        raise InputError(f"--seeds {o.seeds}: 1 or more are accepted")
    published = [row for row in asked if is_published(row)]
    needs = {
        "resimulated": [row for row in asked if is_on_resimulated(row)],
        "bsn_path": published,
        "sr_path": published,
    }
    for flag, rows in needs.items():
        if rows and not getattr(o, flag):
            raise InputError(f"--{flag} is missing: the row '{rows[0]}' needs it")
        if getattr(o, flag) and not rows:
            raise InputError(f"--{flag}: none of the rows of --only {' '.join(o.only)} uses it; leave it out")


def is_published(row: str) -> bool:
    return VARIANTS[row]["recipe"] == "published"


def is_on_resimulated(row: str) -> bool:
    change = VARIANTS[row]
    teacher = change.get("teacher", RECIPES[str(change["recipe"])]["teacher"])
    return row == ON_RESIMULATED or teacher == RESIM_TEACHER


def files_of(folder: str, split: str) -> Digests:
    """Return the fingerprint of all that a split is trained or measured on."""
    fields = ("spikes", "blur", "sequence") if split == "train" else ("spikes", "blur", "sharp", "sequence")
    return fingerprint(SpikeDataset(folder, split, fields=fields).split.files())


def training(o: Options, row: str, seed: int) -> Training:
    """Describe one training by all that its values depend on."""
    folder = o.resimulated if is_on_resimulated(row) else o.base_folder
    paths = {"bsn_path": o.bsn_path, "sr_path": o.sr_path} if is_published(row) else {}
    files, code = files_of(folder, "train"), source_fingerprint("train_deblur")
    entry = {
        "training": {"steps": o.steps, "bs": o.bs, "roi_size": o.roi_size, "seed": seed, "torch": versions()["torch"]}
        | VARIANTS[row],
        "weights": {f"--{name}": short_hash(path) for name, path in paths.items()},
        "data": combined(files),
        "code": combined(code),
        "versions": versions(),
        "tests": {},
    }
    return Training(row=row, seed=seed, folder=folder, paths=paths, entry=entry, fingerprints=[files, code])


def trained(o: Options, one: Training, contents: Mapping[str, Digests]) -> values.Entry:
    """Train one LDN and measure it on each set, or read what was measured of the same training."""
    place = Path(o.output, "values.json")
    held = values.read(place)
    entry = dict(one.entry)
    if kept := held["values"].get(one.name):
        if changed := values.differences(held, kept, entry, one.fingerprints):
            print(f"{one.name} is measured again: {changed}", file=sys.stderr)
        else:
            entry = kept
    for folder, files in contents.items():
        if values.measured(entry, folder, combined(files)) is None:
            rows = measure(o, one, folder)
            entry["tests"] = entry["tests"] | {folder: {"content": combined(files), "rows": rows}}
            values.save(place, one.name, entry, [*one.fingerprints, files])
    return entry


def measure(o: Options, one: Training, folder: str) -> Rows:
    """Train an LDN, unless its run is complete, and evaluate it on a test split."""
    options, epochs = run_options(o, one)
    train_deblur.main(options)
    weights = f"{options.save_folder}/deblur/{options.exp_name}/checkpoints/LDN_{epochs:04d}.pth"
    testing = train_deblur.Options(
        save_folder=options.save_folder,
        exp_name=options.exp_name,
        seed=one.seed,
        device=o.device,
        workers=1,
        bsn_path=options.bsn_path,
        sr_path=options.sr_path,
        test_mode=True,
        deblur_path=weights,
        base_folder=folder,
    )
    return train_deblur.main(testing)


def run_options(o: Options, one: Training) -> tuple[train_deblur.Options, int]:
    """Return the options of a training, in a run of its own for everything that it depends on, and its epochs."""
    depends = {part: one.entry[part] for part in values.COMPARED}
    change = dict(VARIANTS[one.row])
    if "lr_cycles" in change:
        change["lr_cycles"] = o.steps / float(change["lr_cycles"])
    labels = {name: change.get(name) for name in ("recipe", "teacher", "center_weight")} | depends | {"training": None}
    has_labels = change.get("reblur") != "random" and change.get("lambda_tea") != 0.0
    batches = -(-len(SpikeDataset(one.folder, "train", fields=("spikes",))) // o.bs)
    epochs = -(-o.steps // batches)
    options = train_deblur.Options(
        save_folder=f"{o.output}/runs",
        exp_name=f"{file_name(one.row)}-{one.seed}-{digest(depends)}",
        seed=one.seed,
        device=o.device,
        workers=1,
        bsn_path=one.paths.get("bsn_path", ""),
        sr_path=one.paths.get("sr_path", ""),
        base_folder=one.folder,
        bs=o.bs,
        roi_size=(o.roi_size,),
        tea_loss="ssim",
        evaluate_every=0,
        epochs=epochs,
        teacher_cache=f"{o.output}/labels/{digest(labels)}" if has_labels else "",
    )
    return replace(options, **change), epochs


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def file_name(row: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in row)


def table_row(
    title: str, output: str, entries: list[values.Entry | None], contents: Mapping[str, Digests]
) -> list[str | float | None] | None:
    """Return the cells of one row; None if seeds are missing on a set, or were measured by different code."""
    if None in entries or len({(entry["code"], entry["data"]) for entry in entries}) > 1:
        return None
    cells: list[str | float | None] = []
    for folder, files in contents.items():
        of_seeds = [values.measured(entry, folder, combined(files)) for entry in entries]
        if None in of_seeds:
            return None
        for name in (output, f"{output} sequence"):
            found = [rows[name]["psnr"] for rows in of_seeds if name in rows]
            cells += [statistics.mean(found), max(found) - min(found)] if found else [None, None]
    commits = sorted({entry["versions"].get("commit", values.UNKNOWN) for entry in entries})
    return [title, *cells, ", ".join(commits)]
