"""Make a high-speed film out of a blurry one and the continuous spike stream that was recorded with it.

    python scripts/deblur_film.py FILM spikes.dat --clock 20 162 97 --spike_rate 20000 --fps_out 1000 --out out/
    python scripts/deblur_film.py film.mp4 spikes.dat --clock 20 667 333 --spike_rate 20000 --fps_out 1000 --out out/ \\
        --video slow.mp4 --slowmo 40 --page film.html
    python scripts/deblur_film.py FILM stream.dat --rig rig.json --spike_rate 20000 --fps_out 1000 --out out/

FILM is a folder of pictures in the order of their numbers, or a video. Frames within an exposure are restored from its
picture. Between exposures, where no picture was exposed, restored frames are carried along motion and corrected by the
spikes. A rig of calibrate.py tells when and how the pictures lie in the stream. `deblur.py` with --fps_out does the
same. A run that was stopped continues with --missing.
"""

import sys
import tempfile
from bisect import bisect_right
from dataclasses import MISSING, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from tqdm import tqdm

from codes.cli import check_range, check_used, option, program
from codes.data.fingerprint import combined, fingerprint
from codes.data.images import read_image, write_image
from codes.engine import distributed
from codes.errors import InputError
from codes.files import replacing
from codes.registration.rig_file import CalibratedRig, read_rig
from codes.reporting.film_page import html_film, strip_and_slice
from codes.restoration.description import describe
from codes.restoration.film import film
from codes.restoration.film_measurements import read_measured, write_measured
from codes.restoration.film_recording import FilmRecording, Pictures
from codes.restoration.options import BY_RIG, NETWORKS, RecordingOptions
from codes.restoration.outputs import Output, begin, check_output, check_record, is_whole
from codes.restoration.pairs import Pair
from codes.restoration.preparation import Recording, format_of, prepare
from codes.restoration.restorers import RestorationSettings, restorer
from codes.restoration.video import check_video, write_video
from codes.simulation.footage import Footage

PLAYED_AT = 25.0  # frames a second of a video without --slowmo


@dataclass(frozen=True)
class Options(RecordingOptions):
    film: str = option(MISSING, "folder of blurry pictures in the order of their numbers, or a video", positional=True)
    spikes: str = option(MISSING, "file of the whole spike stream (.dat, .npz, .npy)", positional=True)
    clock: tuple[float, ...] = option(
        (), "first spike frame of the first picture, period and length of the exposures [those of --rig]"
    )
    spike_rate: float = option(20_000.0, "spike frames a second")
    fps_out: float = option(1000.0, "frames a second of the scene's time")
    out: str = option("out", "folder of the frames, which are named by their spike frame")
    video: str = option("", "also write a video: .mp4 (H.264), .mkv (FFV1, lossless), .gif")
    slowmo: float = option(0.0, f"slow motion of the video, a factor [at {PLAYED_AT:g} frames a second]",
                           unused=lambda o: not (o.video or o.page) and "without --video or --page")  # fmt: skip
    page: str = option("", "also write a self-contained page (.html) to play the film, zoom and compare")
    slice: str = option("", "also write a picture (.png): a strip of frames, and one row of the frames over time")
    align: str = option("", "where sizes differ: resize the picture, or crop to its middle", choices=("resize", "crop"),
                        unused=BY_RIG)  # fmt: skip
    precision: str = option("fp32", "number format of the networks", choices=("fp32", "tf32", "bf16"), unused=NETWORKS,
                            idle=distributed.no_tf32)  # fmt: skip
    missing: bool = option(False, "continue a stopped run: make only the frames that are missing")


def main(o: Options) -> None:
    check(o)
    output = Output(Path(o.out), Path(o.video) if o.video else None)
    check_output(output, picture=o.film, may_exist=o.force or o.missing, is_one_of_many=True)
    device = distributed.initialize(o.device)
    distributed.allow_tf32(o.precision)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        recording = recorded(o, device, Path(folder))
        made_with = record(o, recording)
        if o.missing:
            check_record(output.folder, made_with)
            recording.measured = read_measured(output.folder)
        describe_film(o, recording)
        paths = {time: output.folder / f"{time:06d}.png" for time in recording.plan.times}
        begin(output, paths.values(), made_with, may_exist=o.force or o.missing)
        missing = {time for time, path in paths.items() if not (o.missing and is_whole(path))}
        made = film(recording.plan, missing, restore=recording.restore, read=recording.read, view=recording.view)
        with distributed.autocast(device, o.precision):
            for time, frame in tqdm(made, total=len(missing), unit="frame"):
                write_measured(output.folder, recording.measured)  # before the frame: it is not made again
                write_image(paths[time], recording.as_picture(frame))
        print(f"  {len(missing)} frames made in {output.folder}, which holds {len(paths)}")
        for name, value in recording.facts().items():
            print(f"  {name}: {value}")
        write_pictures(o, recording, paths)


def check(o: Options) -> None:
    """Raise InputError for options that have no effect and for values out of range."""
    check_range(o, ("spike_rate", "fps_out"), 1e-3, 1e7)
    check_range(o, "slowmo", 0)
    o.check()
    check_used(o)
    if len(o.clock) != 3 and (o.clock or not o.rig):
        given = " ".join(map(str, o.clock)) or "is missing"
        raise InputError(
            f"--clock {given}: first spike frame, period and length are accepted, or a --rig that tells it"
        )
    if o.fps_out > o.spike_rate:
        raise InputError(f"--fps_out {o.fps_out:g}: at most the {o.spike_rate:g} of --spike_rate are accepted")
    if o.video:
        check_video(o.video)
    for flag, suffix in (("page", ".html"), ("slice", ".png")):
        path = getattr(o, flag)
        if path and Path(path).suffix.lower() != suffix:
            raise InputError(f"--{flag} {path}: a name that ends with {suffix} is accepted")
        if path and Path(path).exists() and not (o.force or o.missing):
            raise InputError(f"--{flag} {path}: exists; name another one, or write over it with --force")


def clock_of(o: Options, rig: CalibratedRig | None) -> tuple[float, float, float]:
    """Return first spike frame, period and length of the exposures.

    Raises: InputError if neither --clock nor the rig tells them.
    """
    if o.clock:
        return o.clock
    if not rig.clock or not rig.clock["period"]:
        raise InputError(f"--rig {o.rig}: has no clock of pictures in one stream; give --clock FIRST PERIOD LENGTH")
    return rig.clock["first"], rig.clock["period"], rig.clock["length"]


def recorded(o: Options, device: torch.device, folder: Path) -> FilmRecording:
    """Find how the stream is read by the first picture, and lay the film over it. folder: for frames of a video."""
    pictures, settings = Pictures(Footage("", Path(o.film).name, Path(o.film)), folder), restoration(o)
    rig = read_rig(o.rig) if o.rig else None
    clock = clock_of(o, rig)
    known = o.acquisition(rig, align=o.align or "none")
    spike_format = format_of(Pair(pictures[0], Path(o.spikes)), pictures.read(0), replace(known, align=o.align))

    def prepared(picture: Path, exposure: tuple[int, int], times: list[int], reach: int, is_first: bool) -> Recording:
        # Only the first pair is refused if it shows two scenes: a dark moment does not end a film.
        geometry = o.geometry if is_first else (spike_format.height, spike_format.width)
        exposed = replace(known, exposure=tuple(map(str, exposure)), geometry=geometry)
        pair = Pair(picture, Path(o.spikes))
        return prepare(pair, exposed, frames=1, times=tuple(times), window=settings.window, reach=reach, most_lost=1.0)

    return FilmRecording(
        pictures, prepare=prepared, restore=restorer(settings, device=device), clock=clock, total=spike_format.frames,
        step=o.spike_rate / o.fps_out, window=settings.window, reach=settings.reach, device=device,
    )  # fmt: skip


def restoration(o: Options) -> RestorationSettings:
    """Return how exposures are restored."""
    return RestorationSettings(method=o.method, deblur_path=o.deblur_path, tile=o.tile)


def record(o: Options, recording: FilmRecording) -> dict[str, object]:
    """Return what the frames depend on: options, and the content of inputs and weights."""
    named = ("clock", "spike_rate", "fps_out", "method", "align", "orientation", "rows", "bits", "repair", "gamma",
             "precision")  # fmt: skip
    given = {f"--{name}": getattr(o, name) for name in named}
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    files = {"spike file": o.spikes} | {f"--{flag}": path for flag, path in restoration(o).weights().items()}
    if o.rig:
        files["--rig"] = o.rig
    return options | {"film": combined(fingerprint(recording.pictures.footage.files()))} | fingerprint(files)


def describe_film(o: Options, recording: FilmRecording) -> None:
    """Print how the film lies in the stream, and how its first pair was read."""
    first, count = recording.first, len(recording.plan.starts)
    total = recording.pictures.footage.count()
    print(f"{o.film}: pictures {first + 1} to {first + count} of {total} lie in the stream")
    pair, settings = recording.prepared(0, [recording.plan.starts[0]], is_first=True), restoration(o)
    describe(
        pair,
        pair.load(),
        has_consistency=settings.uses_data_consistency(),
        corrects_colour=settings.corrects_colour,
        clock=recording.clock,
    )


def write_pictures(o: Options, recording: FilmRecording, paths: dict[int, Path]) -> None:
    """Write the video, the page and the slice of a complete film."""
    files, slower = list(paths.values()), o.slowmo or max(o.fps_out / PLAYED_AT, 1.0)
    starts, first = recording.plan.starts, recording.first
    if o.video:
        write_video(o.video, map(read_image, files), rate=o.fps_out / slower)
        print(f"  {o.video}: {len(files)} frames, {slower:g} times slower than the scene")
    if o.slice:
        write_image(o.slice, strip_and_slice(files))
    if o.page:
        page = html_film(
            Path(o.film).name,
            [(f"{1000 * (time - starts[0]) / o.spike_rate:.1f} ms", path) for time, path in paths.items()],
            recording.pictures.read,
            [first + bisect_right(starts, time) - 1 for time in paths],
            recording.facts(),
            rate=o.fps_out / slower,
        )
        with replacing(o.page) as file:
            file.write(page.encode())


if __name__ == "__main__":
    program(main, Options, __doc__)
