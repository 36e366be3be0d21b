"""Teacher labels, computed once for whole pictures and kept on disk or in memory."""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from codes.data import manifest
from codes.data.batches import Packed
from codes.data.cache import refuse_what_does_not_fit
from codes.data.dataset import SpikeDataset
from codes.data.fingerprint import Digests, changes, fingerprint, source_fingerprint
from codes.distillation.teachers import ClosedFormTeacher, NetworkTeacher
from codes.errors import InputError
from codes.files import replacing

RECORD = "teacher.json"


def cache_labels(
    teacher: NetworkTeacher | ClosedFormTeacher,
    dataset: SpikeDataset,
    *,
    centers: list[int],
    device: torch.device,
    read: Callable[[Sequence[int]], Iterable[Packed]],
    precision: str = "fp32",
    rank: int = 0,
    world: int = 1,
    wait: Callable[[], None] = lambda: None,
    log: Callable[[str], None] = print,
) -> dict[str, np.ndarray]:
    """Write the intensity ratios of whole pictures as NAME.npy into the ratio folder of the data set, float16.

    They are [N,H,W], of `ClosedFormTeacher` [N+1,H,W]. Without a folder they are returned, by name. Labels that are
    there are used again if they were computed from the same spikes, by the same teacher and the same code.

    `read` yields the samples of these indices, one at a time and in their order. They are shared by `world` processes;
    `wait` returns as soon as all have called it. `log` receives which labels are computed again.
    Raises: InputError if the folder holds labels of another teacher, precision, other times, other code or another data
    set, naming what differs; or if without a folder they do not fit into memory.
    """

    def labels(indices: Sequence[int], *, done: int) -> Iterator[tuple[int, np.ndarray]]:
        """Compute the labels of the samples of these indices; `done` were computed before."""
        samples = read(indices) if indices else ()  # else worker processes would start for nothing
        samples = tqdm(samples, "labels", done + len(indices), initial=done, disable=rank > 0)
        for index, sample in zip(indices, samples, strict=True):
            spikes = sample.to(device).spikes
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                yield index, teacher.ratios(spikes, centers)[0, :, 0].half().cpu().numpy()

    if dataset.ratio_folder is None:
        if world > 1:
            raise InputError("--teacher_cache ram: several processes share no memory; name a folder")
        refuse_what_does_not_fit(
            sum(2 * (len(centers) + 1) * height * width for height, width in dataset.sizes), "--teacher_cache ram"
        )
        return {dataset.names[index]: label for index, label in labels(range(len(dataset)), done=0)}
    if rank == 0:
        _claim(dataset, _key(teacher, centers, precision), log)
    wait()
    mine = range(rank, len(dataset), world)
    missing = [index for index in mine if not _label_path(dataset, index).exists()]
    for index, label in labels(missing, done=len(mine) - len(missing)):
        content = io.BytesIO()
        np.save(content, label)
        with replacing(_label_path(dataset, index)) as file:
            file.write(content.getvalue())
    return {}


def _key(teacher: NetworkTeacher | ClosedFormTeacher, centers: list[int], precision: str) -> dict[str, Any]:
    """Return all that labels depend on, besides the spikes."""
    modules = {type(module).__module__ for module in teacher.modules()}
    return {
        **teacher.key(),
        "centers": centers,
        "precision": precision if isinstance(teacher, NetworkTeacher) else "fp32",  # of its networks
        "code": source_fingerprint(*(name for name in modules if name.startswith("codes."))),
    }


def _claim(dataset: SpikeDataset, key: dict[str, Any], log: Callable[[str], None]) -> None:
    """Make the ratio folder one of labels for this key, and remove the labels of spikes that changed since.

    The record is written before the labels are, so that a label which is there is always of the spikes recorded for it.
    """
    record = dataset.ratio_folder / RECORD
    held = manifest.read(record, otherwise="name a new folder")
    spikes = _spike_digests(dataset)
    before = held.get("spikes", {})
    if "code" in held:  # an older record does not say of what its labels are: they are computed again
        _refuse_other(record, held, key)
    if before.keys() & spikes.keys() and not before.items() & spikes.items():
        raise InputError(f"{record}: labels of another data set ({changes(before, spikes)}); name a new folder")
    stale = [
        path
        for index, (name, digest) in enumerate(spikes.items())
        if before.get(name) != digest and (path := _label_path(dataset, index)).exists()
    ]
    for path in stale:
        path.unlink()
    if stale:
        changed = changes({name: before.get(name, "") for name in spikes}, spikes)
        why = f"their spikes are not the same ({changed})" if before else "nothing says what they were computed from"
        log(f"{record.parent}: {len(stale)} labels are computed again, {why}")
    with replacing(record) as file:
        file.write(json.dumps(key | {"spikes": before | spikes}).encode())


def _refuse_other(record: Path, held: dict[str, Any], key: dict[str, Any]) -> None:
    """Raise InputError if labels were computed by another teacher, at other times or by other code."""
    if held["code"] != key["code"]:
        raise InputError(
            f"{record}: labels of another version of the code ({changes(held['code'], key['code'])}); remove "
            f"{record.parent} to compute them again, or name a new folder by --teacher_cache"
        )
    then, now = ({name: value for name, value in one.items() if name not in ("code", "spikes")} for one in (held, key))
    differences = [
        f"{name} {then.get(name, 'nothing')} then, {now.get(name, 'nothing')} now"
        for name in then | now
        if then.get(name) != now.get(name)
    ]
    if differences:
        raise InputError(
            f"{record}: labels of another teacher, precision or other times ({'; '.join(differences)}); name a new "
            "folder by --teacher_cache"
        )


def _spike_digests(dataset: SpikeDataset) -> Digests:
    """Return digests of all spike files by their names below the root; the size of a stream decides how it is read."""
    paths = [dataset.split.spikes(name) for name in dataset.names]
    files = {path.relative_to(dataset.split.root).as_posix(): path for path in paths}
    sizes = dict(zip(files, dataset.sizes, strict=True))
    return {name: "{} {}x{}".format(digest, *sizes[name]) for name, digest in fingerprint(files).items()}


def _label_path(dataset: SpikeDataset, index: int) -> Path:
    return dataset.ratio_folder / f"{dataset.names[index]}.npy"
