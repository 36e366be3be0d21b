"""Deblur your own recording: a blurry picture and the spikes of its exposure in, sharp pictures out.

    python scripts/deblur.py blur.png spikes.dat --frames 25 --out out/
    python scripts/deblur.py blur.png spikes.dat --times 20 68 116 --method teacher --out out/
    python scripts/deblur.py PICTURES SPIKES --out out/ --video film.mp4 --compare      # files of the same name

A spike file is read as the picture and the format say; if it looks otherwise, that is said and nothing is written.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from codes.cli import option, program
from codes.data.images import read_image, write_image
from codes.data.spikes import UPSCALE, Exposure
from codes.distillation.teachers import NetworkTeacher
from codes.engine import distributed
from codes.errors import InputError
from codes.networks import BSN, EDSR, LDN, load, read_recipe
from codes.networks.tiling import TiledBSN, TiledEDSR, compiled
from codes.recipe import (
    CONSISTENCIES,
    FILES,
    FORMER_VALUES,
    PUBLISHED,
    SPIKE_INPUTS,
    Recipe,
    check_bsn_len,
    in_model,
    no_weights,
    settle,
)
from codes.restoration.file_format import Reading, align, is_aligned, lost, read, tone
from codes.restoration.methods import (
    mfsr_frames,
    sdm_count_frames,
    sdm_frames,
    teacher_frames,
    tfi_frames,
    tfp_frames,
)
from codes.restoration.pipeline import ITERATIONS, Student
from codes.restoration.pipeline import restore as restore_by_ldn
from codes.restoration.recording import find_reading, fit, tensors
from codes.restoration.registration import ORIENTATIONS, better_start, upright
from codes.restoration.video import check_video, write_video

PICTURES, SPIKES = (".png", ".jpg", ".jpeg"), (".dat", ".npz", ".npy")
TFI_REACH = 1000  # spike frames to either side in which TFI looks for the spikes around an instant
METHODS = ("ldn", "mfsr", "teacher", "sdm", "tfi", "tfp")  # mfsr: sdm on multi-frame super-resolution
RATES_REACH = 128  # spike frames beyond the exposure that rates are told by: fusion takes 52, motion twice 34
LINEAR = (0.8, 1.3)  # powers of light that values may be without a word
DARKEST = 32  # of 255, below which a picture is hardly one
SATURATED = 0.01  # share of white pixels that is told
OTHER = 0.3  # a correlation between long TFP and picture below which they show different things


@dataclass(frozen=True)
class Options:
    picture: str = option(MISSING, "blurry picture, or a folder of them", positional=True)
    spikes: str = option("", "spike file (.dat, .npz, .npy), or a folder; none: beside the pictures", positional=True)
    out: str = option("out", "folder of the sharp pictures, a folder in it for each of several pairs")
    method: str = option("ldn", "how to restore", choices=METHODS, renamed={"fused": "mfsr"})
    frames: int = option(25, "sharp pictures, evenly over the exposure")
    times: tuple[int, ...] = option((), "instants in spike frames, instead of --frames")
    exposure: tuple[int, ...] = option((), "first spike frame and length of the exposure [20 97, for 137 frames]")
    video: str = option("", "also a film, .mp4 or .gif; of several pairs its name in each one's folder")
    fps: float = option(12.0, "frames a second of the film")
    compare: bool = option(False, "put the blurry picture to the left of every frame")
    align: str = option("", "where sizes differ: resize the picture, or crop to the middle", choices=("resize", "crop"))
    geometry: tuple[int, ...] = option((), "height and width of the spikes [a quarter of the picture]")
    rows: str = option(
        "", "the row that a spike file starts with [bottom; top in .npz, .npy]", choices=("bottom", "top")
    )
    orientation: str = option("upright", "how the spikes show the picture", choices=tuple(ORIENTATIONS))
    bits: str = option("", "the bit of a byte that is its leftmost pixel [lowest]", choices=("lowest", "highest"))
    gamma: float = option(1.0, "the picture is light to the power of 1/gamma, as cameras write it: 2.2 is usual")
    deblur_path: str = option("", f"weights of LDN [model/{' or '.join(FILES['deblur_path'])}]")
    bsn_path: str = option("", f"weights of BSN, for the teacher [model/{' or '.join(FILES['bsn_path'])}]")
    sr_path: str = option("", f"weights of EDSR, for the teacher [model/{' or '.join(FILES['sr_path'])}]")
    spike_input: str = option(
        "",
        "sdm: counts, the closed form as published, or isi, ISI intensity [isi; ldn, teacher: that of the weights]",
        choices=("", *SPIKE_INPUTS),
        renamed=FORMER_VALUES["spike_input"],
    )
    consistency: str = option(
        "",
        "of ldn; picture: to all that it restores is added what its mean lacks of the picture [as the weights say]",
        choices=("", *CONSISTENCIES),
    )
    iterations: int = option(
        0,
        "of ldn that is fed by fusion: how often spikes are explained, from the second time on by what was restored "
        f"before [{ITERATIONS} where they are few, else 1]",
        aliases=("looks",),
    )
    center_weight: float = option(0.0, "of the teacher: share of the measured light beside BSN's; published: 0")
    bsn_len: int = option(9, "spike frames that ldn, teacher, sdm and tfp average")
    spike_deblur_len: int = option(21, "spike frames that LDN sees")
    tile: int = option(2048, "side of the tiles of large pictures, in pixels; 0: whole")
    device: str = option("", "cpu, cuda, cuda:1 [cuda where there is one]")
    precision: str = option("fp32", "of the arithmetic", choices=("fp32", "tf32", "bf16"))
    compile: bool = option(False, "of ldn: a minute or two to start, then faster frames; on a GPU as CUDA graphs")
    force: bool = option(False, "write into folders and over films that are there")
    missing: bool = option(False, "restore the pairs whose frames and film are not all there: goes on where it stopped")


@dataclass(frozen=True)
class Recording:
    """A pair that fits, and what to restore of it."""

    picture: np.ndarray  # [H,W,3] uint8 BGR
    spikes: np.ndarray  # [T,h,w] uint8, of the file what is needed
    reading: Reading
    start: int  # spike frame of the file that `spikes` begin with
    exposure: Exposure  # counted from there
    instants: list[int]  # counted as in the file
    is_cut: bool  # the stream is too short to restore the exposure to its ends
    aligned: tuple[float, tuple[float, float]]  # correlation, (x, y) of the spikes in picture pixels
    tone: float  # power of light that the values of the picture are


def main(o: Options) -> None:
    check(o)
    found = pairs(o)
    for name in found:
        refuse_existing(o, name)
    device, nets = start(o), {}
    for flag, net in needed(o).items():
        nets[flag] = load(net, weights(o, flag)).to(device).eval()
    if o.method == "ldn":
        check_recipe(o)
    if o.compile and o.method == "ldn":
        distributed.check_compiler(device)
        compiled(nets["deblur_path"])
    for picture, spikes in found.values():
        prepare(o, picture, spikes)  # all before any is written
    for name, (picture, spikes) in found.items():
        recording = prepare(o, picture, spikes)
        if o.missing and all(path.exists() for path in outputs(o, recording, name)):
            print(f"{picture}: its frames are in {places(o, name)[0]}")
            continue
        describe(o, recording, picture, spikes)
        restore(o, recording, name, nets, device)


def check(o: Options) -> None:
    """Refuse values that mean nothing."""
    if o.video:
        check_video(o.video)
    if o.exposure and (len(o.exposure) != 2 or o.exposure[0] < 0 or o.exposure[1] < 1):
        raise InputError(f"--exposure {' '.join(map(str, o.exposure))}: first spike frame and length are accepted")
    if o.geometry and (len(o.geometry) != 2 or min(o.geometry) < 1):
        raise InputError(f"--geometry {' '.join(map(str, o.geometry))}: height and width are accepted")
    if o.tile % (UPSCALE * UPSCALE) or o.tile < 0:
        raise InputError(f"--tile {o.tile}: a multiple of {UPSCALE * UPSCALE}, or 0, is accepted")
    if o.consistency and o.method != "ldn":
        raise InputError(f"--consistency {o.consistency}: of --method ldn alone, not of {o.method}")
    if o.iterations < 0 or (o.iterations and o.method != "ldn"):
        raise InputError(f"--iterations {o.iterations}: 1 or more, of --method ldn, is accepted")
    for name in ("frames", "bsn_len", "spike_deblur_len"):
        if getattr(o, name) < 1:
            raise InputError(f"--{name} {getattr(o, name)}: 1 or more is accepted")
    for name, least, most in (("fps", 0.1, 240), ("gamma", 0.1, 10)):
        if not least <= getattr(o, name) <= most:
            raise InputError(f"--{name} {getattr(o, name):g}: {least} to {most} is accepted")


def check_recipe(o: Options) -> None:
    """Refuse what the weights of LDN were not made for."""
    recipe, path = eaten(o, "deblur_path"), weights(o, "deblur_path")
    check_bsn_len(recipe, o.bsn_len, path=path)
    if o.iterations and recipe["input"] != "mfsr":
        raise InputError(f"--iterations {o.iterations}: {path} is not fed by fusion, it looks once")


def pairs(o: Options) -> dict[str, tuple[Path, Path]]:
    """Return the pictures and spike files by name; the name of a single pair is empty."""
    pictures, spikes = Path(o.picture), Path(o.spikes or o.picture)
    if not pictures.is_dir():
        if not o.spikes:
            raise InputError(f"{pictures}: its spike file is missing on the command line")
        if spikes.is_dir():
            raise InputError(f"{spikes}: is a folder, {pictures} is none; two files or two folders are accepted")
        return {"": (pictures, spikes)}
    if not o.spikes and (pictures / "blur_data").is_dir():
        pictures, spikes = pictures / "blur_data", spikes / "spike_data"
    pictures, spikes = _named(pictures, PICTURES), _named(spikes, SPIKES)
    for name in sorted(pictures.keys() ^ spikes.keys()):
        one, other = (pictures[name], "spike file") if name in pictures else (spikes[name], "picture")
        raise InputError(f"{one}: no {other} of the same name")
    if not pictures:
        raise InputError(f"{o.picture}: no pictures in it ({', '.join(PICTURES)})")
    return {name: (pictures[name], spikes[name]) for name in sorted(pictures)}


def refuse_existing(o: Options, name: str) -> None:
    """Refuse what would be written over, unless told to."""
    folder, film = places(o, name)
    given = Path(o.picture).resolve()
    if (given.is_dir() and folder.resolve().is_relative_to(given)) or given.parent == folder.resolve():
        raise InputError(f"--out {folder}: lies where the blurry pictures are; name another one")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: is a file")
    may_exist = o.force or o.missing
    if not may_exist and folder.exists() and any(folder.iterdir()):
        go_on = ", or go on with --missing" if name else ""
        raise InputError(
            f"--out {folder}: exists and is not empty; name another one, or write into it with --force{go_on}"
        )
    if not may_exist and film and film.exists():
        raise InputError(f"--video {film}: exists; name another one, or write over it with --force")


def places(o: Options, name: str) -> tuple[Path, Path | None]:
    """Return the folder of a pair's frames and its film."""
    folder = Path(o.out, name)
    return folder, (folder / Path(o.video).name if name else Path(o.video)) if o.video else None


def outputs(o: Options, recording: Recording, name: str) -> list[Path]:
    """Return what a pair is written to: its frames, and last its film if there is one."""
    folder, film = places(o, name)
    return [*(folder / f"{instant:03d}.png" for instant in recording.instants), *([film] if film else [])]


def start(o: Options) -> torch.device:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = o.precision != "fp32"
    return distributed.start(o.device)


def needed(o: Options) -> dict[str, nn.Module]:
    """Return the networks of the method, by the flag that names their weights."""
    if o.method == "ldn":
        return {"deblur_path": LDN(o.spike_deblur_len)}
    return {"bsn_path": BSN(), "sr_path": EDSR()} if o.method == "teacher" else {}


def weights(o: Options, flag: str) -> Path:
    """Return the weight file that a flag names, or else the one in model/."""
    if path := getattr(o, flag) or in_model(flag):
        return Path(path)
    raise no_weights(flag)


def eaten(o: Options, *flags: str) -> Recipe:
    """Return the recipe of weights; refuse another spike input."""
    recipes = {str(weights(o, flag)): read_recipe(weights(o, flag)) for flag in flags}
    return settle({"spike_input": o.spike_input}, recipes, PUBLISHED)


def prepare(o: Options, picture_path: Path, spike_path: Path) -> Recording:
    """Read a pair and check all that can be wrong with it."""
    picture = read_image(picture_path)
    reading = find_reading(
        spike_path,
        picture,
        geometry=o.geometry or None,
        rows=o.rows,
        bits=o.bits,
        align=o.align,
        orientation=o.orientation,
    )
    total = reading.frames
    if not o.exposure and total != Exposure().total:
        raise InputError(
            f"{spike_path}: has {total} frames, not the {Exposure().total} of a sample; "
            "say by --exposure START LENGTH which of them the picture was exposed over"
        )
    first, length = o.exposure or (Exposure().margin, Exposure().length)
    last = first + length - 1
    if last >= total:
        raise InputError(f"--exposure {first} {length}: frames {first}..{last}, {spike_path} has 0..{total - 1}")
    around = {"ldn": max(o.spike_deblur_len, o.bsn_len), "tfi": 1, "mfsr": 1}.get(o.method, o.bsn_len)
    begin, end = max(first, around // 2), min(last, total - around + around // 2)  # where windows fit into the stream
    if not o.times and o.frames > (within := max(end - begin + 1, 0)):
        raise InputError(
            f"--frames {o.frames}: the exposure has {within} instants with {around} spike frames around them"
        )
    even = np.linspace(begin, end, o.frames) if o.frames > 1 else [min(max(first + length // 2, begin), end)]
    instants = list(dict.fromkeys(o.times or np.rint(even).astype(int).tolist()))
    check_instants(instants, length=around, total=total)
    reach = {"tfi": TFI_REACH, "tfp": around, "teacher": around}.get(o.method, max(around, RATES_REACH))
    start, stop = max(0, min(first, *instants) - reach), max(last, *instants) + reach + 1
    picture, spikes = fit(
        picture, upright(read(spike_path, reading, first=start, stop=stop), o.orientation), align=o.align
    )
    # An exposure that starts at START is one with that margin before it; nothing here asks for the one after it.
    exposure = Exposure(length=length, margin=first - start)
    long = spikes[exposure.margin : exposure.margin + length].mean(0)
    aligned = align(long, picture)
    if aligned[0] < OTHER and not o.geometry:
        raise InputError(
            f"{spike_path}: as {reading} it does not show what {picture_path} shows (correlation {aligned[0]:.2f}): "
            "it is of another picture, or --exposure names other frames; to continue, give --geometry HEIGHT WIDTH"
        )
    is_cut = not o.times and o.frames > 1 and (begin, end) != (first, last)
    return Recording(picture, spikes, reading, start, exposure, instants, is_cut, aligned, tone(long, picture))


def check_instants(instants: Iterable[int], *, length: int, total: int) -> None:
    """Raise InputError for a target time around which a stream of `total` frames has no window of `length`."""
    first, last = length // 2, total - length + length // 2
    for instant in instants:
        if not first <= instant <= last:
            raise InputError(
                f"instant {instant}: {length} spike frames around it are needed, and the stream has 0..{total - 1}; "
                f"{first}..{last} are accepted"
            )


def describe(o: Options, recording: Recording, picture: Path, spikes: Path) -> None:
    """Print how a pair was read, and whether both show the same."""
    correlation, (x, y) = recording.aligned
    verdict = "aligned" if is_aligned(correlation, (x, y)) else "NOT ALIGNED, see inspect_spikes.py"
    print(f"{picture}: {recording.picture.shape[0]}x{recording.picture.shape[1]}")
    print(f"{spikes}: {recording.reading}")
    print(f"  {verdict}: correlation {correlation:.3f}, the spikes lie {x:+.1f} {y:+.1f} pixels (right, down)")
    margin, length = recording.exposure.margin, recording.exposure.length
    if better := better_start(recording.spikes, recording.picture, start=margin, length=length):
        start, best, given = better
        print(
            f"  NOT ALIGNED IN TIME: {length} frames from {recording.start + start} on fit the picture better "
            f"(correlation {best:.3f}) than those from {recording.start + margin} on ({given:.3f}): "
            f"--exposure {recording.start + start} {length}"
        )
    if correlation > 0.8 and not LINEAR[0] < recording.tone * o.gamma < LINEAR[1]:
        found = f"  the picture is light to the power of {recording.tone:.2f}"
        print(f"{found}: if its camera has a gamma, say --gamma {1 / recording.tone:.1f}")
    if len(empty := lost(recording.spikes.sum((1, 2), dtype=np.int64))):
        print(
            f"  NO SPIKE in {len(empty)} frames, first in {recording.start + empty[0]}: they were lost on the way from "
            "the camera, and instants near them come out dark"
        )
    if (brightest := recording.picture.max()) < DARKEST:
        print(f"  the picture is nearly black: {brightest} of 255 at most; of 16 bits the upper 8 are read")
    if (full := (recording.picture == 255).all(2).mean()) > SATURATED:
        print(f"  {full:.0%} of the picture is saturated: its moving edges get rims")
    if recording.is_cut:
        print(
            f"  from {recording.instants[0]} to {recording.instants[-1]}: nearer the ends of the stream no window fits"
        )


def frames_by_method(
    o: Options, recording: Recording, nets: dict[str, nn.Module], device: torch.device
) -> Iterator[torch.Tensor]:
    """Yield the sharp frames of a recording by the method that the options name."""
    blur, spikes = tensors(recording.picture, recording.spikes, device)
    blur = blur**o.gamma  # the model is of light
    exposure, tile = recording.exposure, o.tile // UPSCALE
    times = [instant - recording.start for instant in recording.instants]
    if o.method == "ldn":
        recipe = eaten(o, "deblur_path")
        recipe |= {"consistency": o.consistency} if o.consistency else {}
        student = Student(nets["deblur_path"], recipe, short=o.bsn_len, tile=tile)
        return restore_by_ldn(student, blur, spikes, times, exposure=exposure, iterations=o.iterations)
    if o.method == "teacher":
        teacher = NetworkTeacher(
            TiledBSN(nets["bsn_path"], tile=tile),
            TiledEDSR(nets["sr_path"], tile=tile),
            short=o.bsn_len,
            center_weight=o.center_weight,
            spike_input=eaten(o, "bsn_path", "sr_path")["spike_input"],
            exposure=exposure,
        )
        return teacher_frames(teacher, blur, spikes, times)
    if o.method == "mfsr":
        return mfsr_frames(blur, spikes, times, exposure=exposure)
    if o.method == "tfi":
        return tfi_frames(blur, spikes, times, exposure=exposure)
    if o.method == "tfp":
        return tfp_frames(blur, spikes, times, exposure=exposure, short=o.bsn_len)
    if o.spike_input == "counts":
        return sdm_count_frames(blur, spikes, times, exposure=exposure, short=o.bsn_len)
    return sdm_frames(blur, spikes, times, exposure=exposure, short=o.bsn_len)


@torch.inference_mode()
def restore(o: Options, recording: Recording, name: str, nets: dict[str, nn.Module], device: torch.device) -> None:
    """Write the frames of a recording, and the film of them."""
    folder, film = places(o, name)
    height, width = recording.picture.shape[:2]
    paths = outputs(o, recording, name)[: len(recording.instants)]
    try:
        with distributed.autocast(device, o.precision):
            waiting = tqdm(recording.instants, o.method, unit="frame")  # shown now: the first frame may take minutes
            sharp = frames_by_method(o, recording, nets, device)
            for _, path, frame in zip(waiting, paths, sharp, strict=True):
                image = frame[0, :, :height, :width].float().clamp(0, 1)
                image = image.pow(1 / o.gamma).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
                write_image(path, np.hstack((recording.picture, image)) if o.compare else image)
    except torch.cuda.OutOfMemoryError:
        raise InputError(f"--tile {o.tile}: too large for the memory of {device}; choose a smaller one") from None
    if film:
        write_video(film, map(read_image, paths), rate=o.fps)
    print(f"  {len(paths)} frames in {folder}{f', film {film}' if film else ''}")


def _named(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise InputError(f"{path}: {found[name].name} has the same name; one of them is too much")
        found[name] = path
    return found


if __name__ == "__main__":
    program(main, Options, __doc__)
