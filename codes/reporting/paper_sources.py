"""Data sets and weight files of the paper's tables: one test split for each V_th, and the weights measured on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from codes.data import manifest
from codes.data.dataset import SMALL, SpikeDataset
from codes.data.fingerprint import Digests, combined, fingerprint
from codes.errors import InputError
from codes.files import short_hash
from codes.recipe import in_model, no_weights
from codes.reporting.paper_tables import Threshold


@dataclass(frozen=True)
class DataSet:
    """A test split: its threshold, and the content of all files that are measured on."""

    folder: Path
    threshold: Threshold
    files: Digests
    described: str


def data_sets(base_folders: Sequence[str], thresholds: Sequence[float]) -> dict[Threshold, Path]:
    """Return the data set of each V_th, in order of V_th: as its folder or its record has it, else as --threshold does.

    Raises: InputError if two have the same V_th, or --threshold contradicts a data set.
    """
    folders = [path for name in base_folders for path in sorted(Path(name).glob("threshold_*")) or [Path(name)]]
    if len(thresholds) not in (0, len(folders)) or not all(0 < value < float("inf") for value in thresholds):
        raise InputError(
            f"--threshold {' '.join(map(str, thresholds))}: a number above 0 for each of the {len(folders)} data sets "
            "is accepted"
        )
    found: dict[Threshold, Path] = {}
    for place, folder in enumerate(folders):
        # The test split may be a link: scripts/resimulate.py makes one to that of the recordings.
        threshold = Threshold(tuple(manifest.thresholds((folder / "test").resolve().parent)))
        given = Threshold(tuple(thresholds[place : place + 1]))
        if given.values and threshold.values and given != threshold:
            raise InputError(f"--threshold {given}: {folder} was made at V_th {threshold}")
        threshold = threshold if threshold.values else given
        if threshold in found:
            raise InputError(
                f"{folder} and {found[threshold]}: both of V_th {threshold}; name one for each"
                + ("" if threshold.values else ", or give the V_th of each by --threshold")
            )
        found[threshold] = folder
    return dict(sorted(found.items(), key=lambda item: item[0].values or (float("inf"),)))


def described(folder: Path, threshold: Threshold, *, small: bool) -> DataSet:
    """Open the test split of a data set and fingerprint it."""
    samples = SpikeDataset(
        folder, "test", fields=("spikes", "blur", "sharp", "sequence"), keep_samples=SMALL if small else slice(None)
    )
    files = fingerprint(samples.split.files())
    count = f"the first {len(samples)} samples" if small else f"{len(samples)} samples"
    text = f"V_th {threshold}: data: {folder}, test split, {count}, content sha256 {combined(files)}"
    return DataSet(folder, threshold, files, text)


def pick_weights(given: Mapping[str, tuple[str, ...]], place: int, count: int) -> dict[str, str]:
    """Return the weight file for each flag, of the data set at `place` among `count` in order of V_th.

    given: the files of each flag: none, one, or one for each data set; where there is none, that in model/.
    Raises: InputError if weights are missing.
    """
    picked = {}
    for name, files in given.items():
        paths = files or (in_model(name),)
        if len(paths) not in (1, count):
            raise InputError(f"--{name}: one file, or one for each of the {count} data sets, in order of V_th")
        picked[name] = paths[min(place, len(paths) - 1)]
    if not picked["deblur_path"]:
        raise no_weights("deblur_path")
    if bool(picked["bsn_path"]) != bool(picked["sr_path"]):
        raise InputError("--bsn_path and --sr_path belong together")
    for path in filter(None, picked.values()):
        describe_weights(path)
    return picked


def describe_weights(path: str) -> str:
    """Name a weight file with the hash of its content."""
    if not Path(path).is_file():
        raise InputError(
            f"{path}: no such weight file; put it there, or name yours by --bsn_path, --sr_path, --deblur_path"
        )
    return f"weights: {path}, sha256 {short_hash(path)}"
