"""Output folders of restored frames, each with a record of what made it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from codes.data import manifest
from codes.data.fingerprint import DIGITS, fingerprint
from codes.data.images import read_image, write_image
from codes.errors import InputError
from codes.restoration.format_detection import tensors
from codes.restoration.methods import Restore
from codes.restoration.preparation import Arrays, Recording
from codes.restoration.restorers import RestorationSettings
from codes.restoration.video import check_video, write_video
from codes.restoration.view import covered

RECORD = "deblur.json"
REGISTRATION = "registration"  # in RECORD: found, and not compared
MASK = "mask.png"


class Output(NamedTuple):
    """Where the frames and the video of a pair are written."""

    folder: Path
    video: Path | None

    def frames(self, times: Iterable[int]) -> list[Path]:
        return [self.folder / f"{time:03d}.png" for time in times]


def outputs_of(names: Iterable[str], out: str, video: str, *, picture: str, may_exist: bool) -> dict[str, Output]:
    """Return the outputs of pairs by name, each with a folder of its own unless the only pair has no name.

    out: the folder of all; video: its path, or its name in the folder of each; picture: what is restored, a file or a
    folder.
    Raises: InputError for an output that cannot be written, or exists and may not.
    """
    if video:
        check_video(video)
    outputs = {}
    for name in names:
        folder = Path(out, name)
        outputs[name] = Output(folder, (folder / Path(video).name if name else Path(video)) if video else None)
        check_output(outputs[name], picture=picture, may_exist=may_exist, is_one_of_many=bool(name))
    return outputs


def check_output(output: Output, *, picture: str, may_exist: bool, is_one_of_many: bool) -> None:
    """Raise InputError if the output lies among the pictures, is a file, or exists and may not."""
    folder, video = output
    given = Path(picture).resolve()
    if (given.is_dir() and folder.resolve().is_relative_to(given)) or given.parent == folder.resolve():
        raise InputError(f"--out {folder}: lies where the blurry pictures are; name another one")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: is a file")
    if may_exist:
        return
    if folder.exists() and any(folder.iterdir()):
        go_on = ", or continue with --missing" if is_one_of_many else ""
        raise InputError(
            f"--out {folder}: exists and is not empty; name another one, or write into it with --force{go_on}"
        )
    if video and video.exists():
        raise InputError(f"--video {video}: exists; name another one, or write over it with --force")


def is_complete(output: Output, times: Iterable[int], record: dict[str, Any], *, has_mask: bool = False) -> bool:
    """Return whether all frames, the video and the mask of a pair are there; a frame that was cut short is not.

    Raises: InputError if what is there was made otherwise than the record says, naming what differs.
    """
    check_record(output.folder, record)
    pictures = [*output.frames(times), *([output.folder / MASK] if has_mask else [])]
    return all(is_whole(path) for path in pictures) and (not output.video or output.video.is_file())


def check_record(folder: Path, record: dict[str, Any]) -> None:
    """Raise InputError if frames are in a folder that were made otherwise than the record says, naming what differs."""
    if not folder.is_dir() or not any(folder.glob("*.png")):
        return
    held = manifest.read(folder / RECORD, otherwise="name a new --out")
    if not held:
        raise InputError(f"--missing: {folder} has no {RECORD} that says what made it; restore it with --force")
    differences = [
        f"{name}: {_told(held.get(name))} then, {_told(record.get(name))} now"
        for name in {**held, **record}
        if name != REGISTRATION and held.get(name) != record.get(name)
    ]
    if differences:
        raise InputError(
            f"--missing: {folder} was made otherwise ({'; '.join(differences)}); name a new --out, or restore "
            "all with --force"
        )


def record_of(
    recording: Recording, settings: RestorationSettings, *, compare: bool, precision: str, rig: str
) -> dict[str, object]:
    """Return what the frames of a pair depend on: options by flag, times, the content of inputs and weights.

    rig: its file, if there is one. What was found of the registration is added.
    """
    acquisition, placement = recording.acquisition, recording.placement
    record = {
        "--method": settings.method,
        "--compare": compare,
        "--align": acquisition.align,
        "--orientation": acquisition.orientation,
        "--repair": acquisition.repair,
        "--gamma": acquisition.gamma,
        "--spike_input": settings.spike_input,
        "--consistency": settings.consistency,
        "--colour": settings.colour,
        "--iterations": settings.iterations,
        "--center_weight": settings.center_weight,
        "--bsn_len": settings.bsn_len,
        "--spike_deblur_len": settings.spike_deblur_len,
        "--flow": settings.flow,
        "--precision": precision,
        "reading": str(recording.spike_format),
        "exposure": [recording.start + recording.exposure.margin, recording.exposure.length],
        "times": recording.times,
        REGISTRATION: {
            "model": "rig" if acquisition.rig else acquisition.model or "homography",
            "homography": placement.registration.homography.tolist(),  # picture pixel (x, y) -> pixel of upright spikes
            "confidence": placement.registration.confidence,
            "is_used": placement.view is not None,
        },
    }
    files = {"picture": recording.pair.picture, "spike file": recording.pair.spikes}
    files |= {f"--{flag}": path for flag, path in settings.weights().items()} | ({"--rig": rig} if rig else {})
    return record | fingerprint(files)


def begin(output: Output, paths: Iterable[Path], record: dict[str, Any], *, may_exist: bool) -> None:
    """Write the record of a pair, and name the frames of another run that stay beside the new ones.

    Raises: InputError if another program began to write there since `check_output`, and it may not.
    """
    if not may_exist and (output.folder / RECORD).exists():
        raise InputError(f"--out {output.folder}: another program writes there; name another one")
    stale = sorted({path.name for path in output.folder.glob("*.png")} - {MASK, *(path.name for path in paths)})
    if stale:
        listed = ", ".join(stale[:5]) + (", ..." if len(stale) > 5 else "")
        print(f"  {len(stale)} frames of another run stay in {output.folder}: {listed}")
    manifest.write(output.folder / RECORD, record)


@torch.inference_mode()
def write_frames(
    recording: Recording,
    arrays: Arrays,
    restore: Restore,
    output: Output,
    *,
    device: torch.device,
    compare: bool,
    rate: float,
    is_tiled: bool,
    has_mask: bool,
) -> None:
    """Write the frames of a recording, and the video of them.

    arrays: of the recording. compare: the blurry picture to the left of each frame. rate: frames a second of the video.
    is_tiled: whether the method restores tiles, of which smaller ones need less memory. has_mask: MASK is written,
    white where the spikes show the picture; beyond it, the blurry picture stays.
    Raises: InputError if memory does not suffice.
    """
    view = recording.placement.view
    blur, spikes = tensors(arrays.picture, arrays.spikes, device, is_same_view=view is None)
    blur = recording.response.undo(blur)
    times = [time - recording.start for time in recording.times]
    paths, (height, width) = output.frames(recording.times), arrays.picture.shape[:2]
    try:
        with tqdm(paths, unit="frame") as waiting:  # shown now: the first frame may take minutes
            frames = restore(blur, spikes, times, exposure=recording.exposure, view=view)
            for path, frame in zip(waiting, frames, strict=True):
                image = covered(view, frame.float(), blur)[0, :, :height, :width].clamp(0, 1)
                image = recording.response.apply(image).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
                write_image(path, np.hstack((arrays.picture, image)) if compare else image)
    except (MemoryError, RuntimeError) as error:
        is_memory = isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "allocate memory" in str(error)
        if not is_memory:
            raise
        remedy = "name a smaller --tile, or restore" if is_tiled else "restore"
        raise InputError(
            f"{device}: too little memory for {len(times)} frames of {height}x{width}; {remedy} fewer --times"
        ) from None
    if has_mask:
        seen = (view.coverage() if view else torch.ones(height, width))[:height, :width]
        write_image(output.folder / MASK, seen.mul(255).round().byte().numpy())
    if output.video:
        write_video(output.video, map(read_image, paths), rate=rate)
    print(f"  {len(paths)} frames in {output.folder}{f', video {output.video}' if output.video else ''}")


def _told(value: object) -> str:
    """Write what a record holds of an option, or of the content of a file."""
    if isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", value):
        return f"content sha256 {value[:16]}"
    return "not set" if value in (None, "", []) else str(value)


def is_whole(path: Path) -> bool:
    """Return whether a picture is there and undamaged."""
    try:
        read_image(path)  # the whole of it: a header and an end may enclose damaged data
    except InputError:
        return False
    return True
