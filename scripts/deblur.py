"""Restore the sharp frames inside a blurry picture from the spikes of its exposure.

    python scripts/deblur.py blur.png spikes.dat --frames 25 --out out/
    python scripts/deblur.py blur.png spikes.dat --times 20 68 116 --out out/
    python scripts/deblur.py blur.png spikes.dat --out out/ --method teacher \\
        --bsn_path model/published_recipe/BSN.pth --sr_path model/published_recipe/SR.pth
    python scripts/deblur.py PICTURES SPIKES --out out/ --video video.mp4 --compare     # files of the same name
    python scripts/deblur.py GOPRO/test --out out/
    python scripts/deblur.py PICTURES stream.dat --rig rig.json --out out/              # of scripts/calibrate.py
    python scripts/deblur.py FILM STREAM --fps_out 1000 --help        # a whole recording: scripts/deblur_film.py

How a spike file is read follows from the size of the picture and the file format. If picture and spikes then show
different scenes, nothing is written.
"""

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from codes.cli import beside, check_range, check_used, option, program, without
from codes.engine import distributed
from codes.errors import InputError
from codes.motion.warping import FLOWS
from codes.recipe import CONSISTENCIES, FILES, FORMER_VALUES, SPIKE_INPUTS
from codes.registration.rig_file import read_rig
from codes.restoration.description import describe
from codes.restoration.options import BY_RIG, LDN, NETWORKS, RecordingOptions, by_method
from codes.restoration.outputs import begin, is_complete, outputs_of, record_of, write_frames
from codes.restoration.pairs import SHOWN, find_pairs
from codes.restoration.placement import MODELS
from codes.restoration.preparation import prepare
from codes.restoration.refinement import ITERATIONS
from codes.restoration.restorers import AVERAGING, COLOURED, TILED, RestorationSettings, restorer

TEACHER, ALONG_MOTION = by_method("teacher"), by_method("ldn", "mfsr")
OF_FILMS = ("--fps_out", "--clock", "--page", "--slowmo", "--slice", "--spike_rate")  # options of deblur_film.py alone
BSN, SR = (f"[model/{' or '.join(FILES[flag])}]" for flag in ("bsn_path", "sr_path"))


@dataclass(frozen=True)
class Options(RecordingOptions):
    picture: str = option(MISSING, "blurry picture, or a folder of them", positional=True)
    spikes: str = option("", "spike file (.dat, .npz, .npy), or a folder; none: beside the pictures", positional=True)
    out: str = option("out", "folder of the sharp pictures, a folder in it for each of several pairs")
    frames: int = option(25, "number of sharp pictures, evenly over the exposure", unused=beside("times"))
    times: tuple[int, ...] = option((), "target times in spike frames, instead of --frames")
    exposure: tuple[str, ...] = option((), "first spike frame and length, or auto: estimated [20 97, for 137 frames]")
    video: str = option("", "also write a video, .mp4, .mkv or .gif; of several pairs, one in each folder")
    fps: float = option(12.0, "frames a second of the video", unused=without("video"))
    compare: bool = option(False, "put the blurry picture to the left of every frame")
    align: str = option("", "registration of the picture to the spikes; resize, crop: bring it to their size "
                        "[homography, where they do not show the same view]", choices=(*MODELS, "resize", "crop"),
                        unused=BY_RIG)  # fmt: skip
    mask: bool = option(False, "also write mask.png, white where the spikes show the picture")
    bsn_path: str = option("", f"weights of BSN, for the teacher {BSN}", unused=TEACHER)
    sr_path: str = option("", f"weights of EDSR, for the teacher {SR}", unused=TEACHER)
    spike_input: str = option("", "spike counts or ISI intensity [sdm: isi; ldn, teacher: as the weights say]",
                              choices=("", *SPIKE_INPUTS), unused=by_method("ldn", "teacher", "sdm"),
                              renamed=FORMER_VALUES["spike_input"])  # fmt: skip
    consistency: str = option("", "picture: add the data-consistency residual [as the weights say]",
                              choices=("", *CONSISTENCIES), unused=LDN)  # fmt: skip
    colour: str = option("motion", "motion: correct colours and average luminance along motion; picture: do neither",
                         choices=("motion", "picture"), unused=by_method(*COLOURED))  # fmt: skip
    iterations: int = option(0, f"number of refinement iterations; 0: {ITERATIONS} where spikes are few, else 1",
                             aliases=("looks",), unused=LDN)  # fmt: skip
    center_weight: float = option(0.0, "weight of measured intensity beside the output of BSN", unused=TEACHER)
    bsn_len: int = option(9, "spike frames averaged around a target time; for ldn, of ISI intensity",
                          unused=by_method(*AVERAGING))  # fmt: skip
    spike_deblur_len: int = option(21, "spike frames around a target time in the input of LDN", unused=LDN)
    flow: str = option("dis", "optical flow; dis: OpenCV, on the CPU; raft: RAFT, which needs a GPU to be fast",
                       choices=FLOWS, unused=ALONG_MOTION)  # fmt: skip
    raft_path: str = option("", "weights of RAFT: a state dict of torchvision's raft_large or raft_small",
                            unused=lambda o: ALONG_MOTION(o) or (o.flow != "raft" and "with --flow dis"))  # fmt: skip
    precision: str = option("fp32", "number format of the networks", choices=("fp32", "tf32", "bf16"), unused=NETWORKS,
                            idle=distributed.no_tf32)  # fmt: skip
    compile: bool = option(False, "compile LDN: starts a minute or two later, then is faster", unused=LDN)
    missing: bool = option(False, "continue a stopped run: restore only the pairs whose frames or video are missing")


def main(o: Options) -> None:
    check(o)
    rig = read_rig(o.rig) if o.rig else None
    known = o.acquisition(rig, align=o.align, exposure=o.exposure)
    settings = RestorationSettings(
        method=o.method, deblur_path=o.deblur_path, bsn_path=o.bsn_path, sr_path=o.sr_path, spike_input=o.spike_input,
        consistency=o.consistency, colour=o.colour, iterations=o.iterations, center_weight=o.center_weight,
        bsn_len=o.bsn_len, spike_deblur_len=o.spike_deblur_len, flow=o.flow, raft_path=o.raft_path, tile=o.tile,
    )  # fmt: skip
    pairs = find_pairs(o.picture, o.spikes, is_recording=bool(rig))
    outputs = outputs_of(pairs, o.out, o.video, picture=o.picture, may_exist=o.force or o.missing)
    device = distributed.initialize(o.device)
    distributed.allow_tf32(o.precision)
    if o.compile:
        distributed.check_compiler(device)
    restore = restorer(settings, device=device, is_compiled=o.compile)
    to_restore = {}
    for name, pair in pairs.items():  # all are checked before any is written
        recording = prepare(
            pair, known, frames=o.frames, times=o.times, window=settings.window, reach=settings.reach,
            requires_data_consistency=settings.requires_data_consistency,
        )  # fmt: skip
        made_with = record_of(recording, settings, compare=o.compare, precision=o.precision, rig=o.rig)
        if o.missing and is_complete(outputs[name], recording.times, made_with, has_mask=o.mask):
            print(f"{pair.picture}: its frames are in {outputs[name].folder}")
        else:
            to_restore[name] = recording, made_with
    unlike = []
    for name, (recording, made_with) in to_restore.items():
        arrays = recording.load()
        if not describe(
            recording,
            arrays,
            has_consistency=settings.uses_data_consistency(),
            corrects_colour=settings.corrects_colour,
        ):
            unlike.append(str(recording.pair.picture))
        begin(outputs[name], outputs[name].frames(recording.times), made_with, may_exist=o.force or o.missing)
        with distributed.autocast(device, o.precision):
            write_frames(
                recording, arrays, restore, outputs[name], device=device, compare=o.compare, rate=o.fps,
                is_tiled=o.method in TILED, has_mask=o.mask,
            )  # fmt: skip
    if unlike and len(to_restore) > 1:  # what was printed of each pair is far above
        listed = ", ".join(unlike[:SHOWN]) + (", ..." if len(unlike) > SHOWN else "")
        print(f"NOT ALIGNED are {len(unlike)} of {len(to_restore)} pairs, see above: {listed}")


def check(o: Options) -> None:
    """Raise InputError for options that have no effect and for values out of range."""
    check_range(o, ("frames", "bsn_len", "spike_deblur_len"), 1, 10**6)
    check_range(o, "fps", 0.1, 240)
    if o.fps > 50 and o.video.lower().endswith(".gif"):
        raise InputError(f"--fps {o.fps:g}: a GIF shows at most 50 frames a second; make an .mp4, or lower it")
    check_range(o, "center_weight", 0, 1)
    check_range(o, "iterations", 0, 2**16)
    o.check()
    check_used(o)


if __name__ == "__main__":
    if any(argument.split("=")[0] in OF_FILMS for argument in sys.argv[1:]):
        from scripts import deblur_film

        program(deblur_film.main, deblur_film.Options, deblur_film.__doc__)
    else:
        program(main, Options, __doc__)
