"""Restore the sharp frames inside a blurry picture from the spikes of its exposure.

    python scripts/deblur.py blur.png spikes.dat --frames 25 --out out/
    python scripts/deblur.py blur.png spikes.dat --times 20 68 116 --method teacher --out out/
    python scripts/deblur.py PICTURES SPIKES --out out/ --video film.mp4 --compare      # files of the same name
    python scripts/deblur.py GOPRO/test --out out/

The size of the picture and the file format say how a spike file is read; if it looks otherwise, nothing is written.
"""

import sys
from dataclasses import MISSING, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from codes.cli import check_range, option, program
from codes.data.fingerprint import fingerprint
from codes.data.spikes import UPSCALE
from codes.engine import distributed
from codes.errors import InputError
from codes.networks.tiling import compiled
from codes.recipe import CONSISTENCIES, FILES, FORMER_VALUES, SPIKE_INPUTS
from codes.restoration import methods, pipeline
from codes.restoration.methods import METHODS, USED_BY, weight_file
from codes.restoration.outputs import begin, check_output, is_complete, output_of, write_frames
from codes.restoration.pairs import find_pairs
from codes.restoration.pipeline import ITERATIONS
from codes.restoration.preparation import Recording, describe, prepare
from codes.restoration.registration import ORIENTATIONS
from codes.restoration.video import check_video


@dataclass(frozen=True)
class Options:
    picture: str = option(MISSING, "blurry picture, or a folder of them", positional=True)
    spikes: str = option("", "spike file (.dat, .npz, .npy), or a folder; none: beside the pictures", positional=True)
    out: str = option("out", "folder of the sharp pictures, a folder in it for each of several pairs")
    method: str = option("ldn", "how to restore", choices=METHODS, renamed={"fused": "mfsr"})
    frames: int = option(25, "sharp pictures, evenly over the exposure")
    times: tuple[int, ...] = option((), "target times in spike frames, instead of --frames")
    exposure: tuple[int, ...] = option((), "first spike frame and length of the exposure [20 97, for 137 frames]")
    video: str = option("", "also a video, .mp4 or .gif; of several pairs, its name in the folder of each")
    fps: float = option(12.0, "frames a second of the video")
    compare: bool = option(False, "put the blurry picture to the left of every frame")
    align: str = option("", "where sizes differ: resize the picture, or crop to the middle", choices=("resize", "crop"))
    geometry: tuple[int, ...] = option((), "height and width of the spikes [a quarter of the picture]")
    rows: str = option(
        "", "the row that a spike file starts with [bottom; top in .npz, .npy]", choices=("bottom", "top")
    )
    orientation: str = option("upright", "how the spikes show the picture", choices=tuple(ORIENTATIONS))
    bits: str = option("", "the bit of a byte that is its leftmost pixel [lowest]", choices=("lowest", "highest"))
    gamma: float = option(1.0, "the picture is intensity to the power of 1/gamma, as cameras write it: 2.2 is usual")
    deblur_path: str = option("", f"weights of LDN [model/{' or '.join(FILES['deblur_path'])}]")
    bsn_path: str = option("", f"weights of BSN, for the teacher [model/{' or '.join(FILES['bsn_path'])}]")
    sr_path: str = option("", f"weights of EDSR, for the teacher [model/{' or '.join(FILES['sr_path'])}]")
    spike_input: str = option(
        "",
        "for sdm: counts, as published, or ISI intensity [isi; ldn, teacher: that of the weights]",
        choices=("", *SPIKE_INPUTS),
        renamed=FORMER_VALUES["spike_input"],
    )
    consistency: str = option(
        "",
        "for ldn: picture: the data-consistency residual is added to all frames [as the weights say]",
        choices=("", *CONSISTENCIES),
    )
    iterations: int = option(
        0,
        f"for ldn on super-resolved input: refinement iterations [{ITERATIONS} where spikes are few, else 1]",
        aliases=("looks",),
    )
    center_weight: float = option(0.0, "for the teacher: weight of the measured intensity beside BSN's; published: 0")
    bsn_len: int = option(9, "spike frames averaged by teacher, sdm, tfp, and ldn on ISI intensity")
    spike_deblur_len: int = option(21, "spike frames that LDN is fed")
    tile: int = option(2048, "side of the tiles of large pictures, in pixels; 0: whole")
    device: str = option("", "cpu, cuda, cuda:1 [cuda where there is one]")
    precision: str = option("fp32", "of the networks", choices=("fp32", "tf32", "bf16"))
    compile: bool = option(False, "for ldn: a minute or two to start, then faster frames; on a GPU as CUDA graphs")
    force: bool = option(False, "write into folders and over videos that exist")
    missing: bool = option(False, "restore only the pairs whose frames or video are missing: continues after a stop")


def main(o: Options) -> None:
    check(o)
    pairs = find_pairs(o.picture, o.spikes)
    for name in pairs:
        check_output(
            output_of(o.out, o.video, name),
            picture=o.picture,
            may_exist=o.force or o.missing,
            is_one_of_many=bool(name),
        )
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = o.precision != "fp32"
    device = distributed.start(o.device)
    restore = restorer(o, device)
    complete = set()
    for name, (picture, spikes) in pairs.items():  # all are checked before any is written
        recording, output = prepared(o, picture, spikes), output_of(o.out, o.video, name)
        if o.missing and is_complete(output, recording.times, made_with(o, recording, picture, spikes)):
            complete.add(name)
    for name, (picture, spikes) in pairs.items():
        output = output_of(o.out, o.video, name)
        if name in complete:
            print(f"{picture}: its frames are in {output.folder}")
            continue
        recording = prepared(o, picture, spikes)
        record = made_with(o, recording, picture, spikes)
        describe(recording, picture, spikes, gamma=o.gamma)
        begin(output, recording.times, record)
        with distributed.autocast(device, o.precision):
            write_frames(recording, restore, output, device=device, gamma=o.gamma, compare=o.compare, rate=o.fps)


def check(o: Options) -> None:
    """Raise InputError for values out of range and for flags that the method does not use."""
    check_range(o, ("frames", "bsn_len", "spike_deblur_len"), 1, 10**6)
    check_range(o, "fps", 0.1, 240)
    check_range(o, "gamma", 0.1, 10)
    check_range(o, "center_weight", 0, 1)
    check_range(o, "iterations", 0, 100)
    for flag, used_by in USED_BY.items():
        if getattr(o, flag) != getattr(Options, flag) and o.method not in used_by:
            raise InputError(f"--{flag}: not used by --method {o.method}, only by {', '.join(used_by)}; leave it out")
    if o.times and o.frames != Options.frames:
        raise InputError("--frames: not used beside --times; leave one of them out")
    if o.fps != Options.fps and not o.video:
        raise InputError("--fps: not used without --video; leave it out")
    if o.force and o.missing:
        raise InputError("--force restores all pairs, --missing only some; leave one of them out")
    if o.video:
        check_video(o.video)
    if len(o.exposure) not in (0, 2) or any(value < least for value, least in zip(o.exposure, (0, 1), strict=False)):
        raise InputError(f"--exposure {' '.join(map(str, o.exposure))}: first spike frame and length are accepted")
    if len(o.geometry) not in (0, 2) or min(o.geometry, default=1) < 1:
        raise InputError(f"--geometry {' '.join(map(str, o.geometry))}: height and width are accepted")
    if o.tile % (UPSCALE * UPSCALE) or not 0 <= o.tile <= 2**16:
        raise InputError(f"--tile {o.tile}: a multiple of {UPSCALE * UPSCALE}, up to {2**16}, or 0, is accepted")


def restorer(o: Options, device: torch.device) -> methods.Restore:
    """Return the function (blur, spikes, times, exposure=) of the method, with its networks loaded."""
    tile = o.tile // UPSCALE
    if o.method == "ldn":
        student = methods.load_student(
            o.deblur_path,
            device=device,
            spike_deblur_len=o.spike_deblur_len,
            short=o.bsn_len,
            spike_input=o.spike_input,
            consistency=o.consistency,
            iterations=o.iterations,
            tile=tile,
        )
        if o.compile:
            distributed.check_compiler(device)
            compiled(student.net)
        return partial(pipeline.restore, student, iterations=o.iterations)
    if o.method == "teacher":
        teacher = methods.load_teacher(
            o.bsn_path,
            o.sr_path,
            device=device,
            short=o.bsn_len,
            spike_input=o.spike_input,
            center_weight=o.center_weight,
            tile=tile,
        )
        return partial(methods.teacher_frames, teacher)
    if o.method in ("mfsr", "tfi"):
        return methods.mfsr_frames if o.method == "mfsr" else methods.tfi_frames
    if o.method == "tfp":
        return partial(methods.tfp_frames, short=o.bsn_len)
    return partial(methods.sdm_count_frames if o.spike_input == "counts" else methods.sdm_frames, short=o.bsn_len)


def prepared(o: Options, picture: Path, spikes: Path) -> Recording:
    """Read a pair as the options say."""
    window, reach = methods.window_and_reach(o.method, short=o.bsn_len, spike_deblur_len=o.spike_deblur_len)
    recording = prepare(
        picture,
        spikes,
        exposure=o.exposure,
        frames=o.frames,
        times=o.times,
        window=window,
        reach=reach,
        geometry=o.geometry,
        rows=o.rows,
        bits=o.bits,
        align_by=o.align,
        orientation=o.orientation,
    )
    if o.consistency == "picture" and recording.is_cut:
        raise InputError(
            f"--consistency picture: the stream of {spikes} ends too near to the exposure: no window of {window} spike "
            "frames fits around its ends, and its mean is not known"
        )
    return recording


def made_with(o: Options, recording: Recording, picture: Path, spikes: Path) -> dict[str, object]:
    """Return what the frames of a pair depend on: options, times, and the content of inputs and weights."""
    named = ("method", "compare", "align", "orientation", "gamma", "spike_input", "consistency", "iterations",
             "center_weight", "bsn_len", "spike_deblur_len", "precision")  # fmt: skip
    options = {f"--{name}": getattr(o, name) for name in named}
    weights = [flag for flag, used_by in USED_BY.items() if flag.endswith("_path") and o.method in used_by]
    files = {"picture": picture, "spike file": spikes} | {f"--{w}": weight_file(w, getattr(o, w)) for w in weights}
    exposure = [recording.start + recording.exposure.margin, recording.exposure.length]
    reading = {"reading": str(recording.reading), "exposure": exposure}
    return options | reading | {"times": recording.times} | fingerprint(files)


if __name__ == "__main__":
    program(main, Options, __doc__)
