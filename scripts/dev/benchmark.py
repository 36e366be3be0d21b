"""Measure what the project promises, each thing beside the yardstick it is promised against.

python scripts/dev/benchmark.py data FRAMES              # making a data set, beside cv2.imread of its frames
python scripts/dev/benchmark.py interpolation FOLDER     # frames left out and rebuilt, beside simpler ways
python scripts/dev/benchmark.py metrics                  # of one output, beside reading the files of its sample
python scripts/dev/benchmark.py load                     # samples of each stage, beside cv2.imread of their picture
python scripts/dev/benchmark.py train                    # steps of each stage, beside a matrix product
python scripts/dev/benchmark.py eval                     # pictures a second, beside copying what the metrics read
python scripts/dev/benchmark.py infer                    # LDN at 720p, beside a matrix product
python scripts/dev/benchmark.py recipes                  # steps and sequences of each recipe, beside the published one
python scripts/dev/benchmark.py growth growth.svg        # time and memory of steps and data sets of all sizes
"""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import MISSING, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import mean, median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np

from codes.cli import option, program
from codes.errors import InputError
from codes.files import replacing
from codes.motion.interpolation import INTERPOLATORS, dis_flow, interpolator
from codes.reporting.machine import copy_rate, matmul_rate, seconds_of, spread, timed
from codes.simulation.footage import find

# What is trained for `train`: script, folder of its runs, options. LDN alone has no teacher at all.
STAGES = {
    "BSN": ("train_bsn", "bsn", {}),
    "SR": ("train_sr", "sr", {}),
    "LDN": ("train_deblur", "deblur", {"teacher_cache": "ram"}),
    "LDN live": ("train_deblur", "deblur", {}),
    "LDN alone": ("train_deblur", "deblur", {"lambda_tea": 0.0}),
}
# Steps of the published trainings: epochs times batches of 4 crops of 512; BSN takes five steps a batch.
PUBLISHED = {"BSN": 1001 * 420 * 5} | dict.fromkeys(("SR", "LDN", "LDN live", "LDN alone"), 101 * 420)
SPEED = ("seconds a step", "waiting for data")
MAKE = Path(__file__).resolve().parents[1] / "make_gopro.py"


@dataclass(frozen=True)
class DataOptions:
    frames: str = option(MISSING, "folder of frames, taken as already interpolated", positional=True)
    count: int = option(250, "how many of them")
    workers: tuple[int, ...] = option((1, 2), "numbers of processes; each gets such a folder of its own")
    repeats: int = option(5, "runs of each, in turn; medians are told")
    interpolator: str = option("none", "as of make_gopro.py", choices=INTERPOLATORS)
    json: bool = option(False, "one JSON object a line")


def data(o: DataOptions) -> None:
    """Time make_gopro.py from start to end, per frame, in turn with cv2.imread of the same frames."""
    frames = sorted(path for path in Path(o.frames).resolve().iterdir() if path.suffix in (".png", ".jpg"))[: o.count]
    if len(frames) < o.count:
        raise InputError(f"{o.frames}: {len(frames)} frames; --count {o.count} were asked for")
    reading, making = ({workers: [] for workers in o.workers} for _ in range(2))
    with tempfile.TemporaryDirectory() as place:
        for workers in o.workers:
            for copy in range(workers):
                for frame in frames:
                    link = Path(place, f"raw{workers}", str(copy), frame.name)
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(frame)
        for run in range(o.repeats):
            for workers in o.workers:
                with ProcessPoolExecutor(workers) as pool:
                    call = partial(list, pool.map(_read, [frames] * workers))
                    reading[workers].append(seconds_of(call) / (workers * len(frames)))
                command = [sys.executable, MAKE, f"{place}/raw{workers}", "--output", f"{place}/set{workers}_{run}"]
                command += ["--interpolator", o.interpolator, "--workers", str(workers)]
                call = partial(subprocess.run, command, check=True, capture_output=True)
                making[workers].append(seconds_of(call) / (workers * len(frames)))
    height, width = cv2.imread(str(frames[0])).shape[:2]
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    print(f"{len(frames)} frames of {height}x{width} for each process, medians of {o.repeats}", file=sys.stderr)
    print(f"largest process {largest:.0f} MB", file=sys.stderr)
    rows = []
    for workers in o.workers:
        ratios = [make / read for make, read in zip(making[workers], reading[workers], strict=True)]
        read, make = (1e3 * median(seconds[workers]) for seconds in (reading, making))
        row = {"processes": workers, "cv2.imread, ms a frame": read, "make_gopro, ms a frame": make}
        rows.append(row | {"of cv2.imread": median(ratios), "spread": spread(ratios)})
    _table(rows, o.json)


def _read(frames: list[Path]) -> None:
    cv2.setNumThreads(1)
    for frame in frames:
        cv2.imread(str(frame))


@dataclass(frozen=True)
class InterpolationOptions:
    folder: str = option(MISSING, "folder of frame folders or videos", positional=True)
    frames: int = option(24, "frames left out of each sequence, spread over it")
    weights: str = option("", "RAFT weights, to compare RAFT too")


def interpolation(o: InterpolationOptions) -> None:
    """Leave frames out, rebuild each from its neighbours, compare."""
    from skimage.metrics import structural_similarity

    def ours(flow: str, **settings: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        return lambda before, after: next(interpolator(flow, **settings)(before, after, (0.5,)))

    ways = {"blend": _blend, "forward DIS flow": _forward_only, "ours, DIS": ours("dis")}
    if o.weights:
        ways["ours, RAFT"] = ours("raft", weights=o.weights)
    scores = {way: [] for way in ways}
    for sequence in find(o.folder):
        of_sequence = {way: [] for way in ways}
        for middle in np.unique(np.linspace(1, sequence.count() - 2, o.frames).astype(int) // 2 * 2 + 1):
            if middle + 1 >= sequence.count():
                continue
            before, truth, after = sequence.read(middle - 1, middle + 1)
            for way, rebuild in ways.items():
                frame = rebuild(before, after)
                ssim = structural_similarity(frame, truth, channel_axis=2)
                of_sequence[way].append((cv2.PSNR(frame, truth), ssim))
        for way, rows in of_sequence.items():
            _print_score(sequence.name, way, rows)
            scores[way] += rows
    for way, rows in scores.items():
        _print_score("all", way, rows)


def _print_score(name: str, way: str, rows: list[tuple[float, float]]) -> None:
    print(f"{name:20s} {way:18s} PSNR {mean(p for p, _ in rows):6.2f}  SSIM {mean(s for _, s in rows):.4f}", flush=True)


def _blend(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return cv2.addWeighted(before, 0.5, after, 0.5, 0)


def _forward_only(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    height, width = before.shape[:2]
    grid = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
    places = grid - 0.5 * dis_flow(before, after)
    return cv2.remap(before, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@dataclass(frozen=True)
class MetricsOptions:
    base_folder: str = option("", "data set, of which the first test sample is taken [a demo scene of --size]")
    size: tuple[int, ...] = option((720, 1280), "height and width of that scene")
    repeats: int = option(30, "runs of each, in turn; medians are told")
    threads: int = option(1, "threads that may compute")


def metrics(o: MetricsOptions) -> None:
    """Time psnr, ssim and ssim_paper of one output, as evaluation measures them, in turn with reading the sample."""
    import torch

    from codes.data.batches import Packed
    from codes.data.dataset import SpikeDataset
    from codes.evaluation.metrics import measure

    torch.set_num_threads(o.threads)
    cv2.setNumThreads(o.threads)
    with tempfile.TemporaryDirectory() as place:
        if not o.base_folder:
            _one_sample(Path(place), *o.size)
        samples = SpikeDataset(o.base_folder or place, "test")
        batch = Packed.collate([samples[0]]).to(torch.device("cpu"))
        calls = {"reading": lambda: samples[0], "metrics": lambda: measure(batch.blur, batch.sharp)}
        seconds = {name: [] for name in calls}
        for _ in range(o.repeats):
            for name, call in calls.items():
                seconds[name].append(seconds_of(call))
    print("{}x{} x3, {} thread(s), medians of {}, ms".format(*samples.shape(0), o.threads, o.repeats))
    for name, times in seconds.items():
        print(f"{name:10s} {1e3 * median(times):6.1f}   fastest {1e3 * min(times):6.1f}")
    print(f"ratio      {median(seconds['metrics']) / median(seconds['reading']):6.2f}")


def _one_sample(folder: Path, height: int, width: int, *, split: str = "test", name: str = "000019") -> None:
    """Write the three files of a sample: a photograph of scikit-image, blurred, and spikes at a rate that is usual."""
    from skimage.data import astronaut

    from codes.data.images import write_image
    from codes.data.spikes import Exposure, write_spikes

    sharp = cv2.resize(astronaut()[..., ::-1], (width, height), interpolation=cv2.INTER_CUBIC)
    write_image(folder / f"{split}/sharp_data/scene/{name}.png", sharp)
    write_image(folder / f"{split}/blur_data/scene/{name}.png", cv2.blur(sharp, (25, 1)))
    spikes = np.random.default_rng(0).random((Exposure().total, height // 4, width // 4)) < 0.3
    write_spikes(folder / f"{split}/spike_data/scene/{name}.dat", spikes)


@dataclass(frozen=True)
class LoadOptions:
    base_folder: str = option("", "data set, of which training samples are read [made, of --size]")
    size: tuple[int, ...] = option((720, 1280), "height and width of what is made")
    samples: int = option(8, "how many")
    roi_size: int = option(512, "side of the crops")
    repeats: int = option(15, "times that each is read, in turn; medians are told")
    device: str = option("cpu", "of --cache device")
    json: bool = option(False, "one JSON object a line")


def load(o: LoadOptions) -> None:
    """Time a sample of each stage as training reads it, in turn with cv2.imread of its picture; files are in memory."""
    import torch

    from codes.data.batches import Packed
    from codes.data.dataset import SpikeDataset
    from codes.data.spikes import Exposure
    from codes.engine import distributed

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    device = distributed.start(o.device)
    stages = {
        "BSN": (("spikes",), Exposure(margin=4)),
        "SR": (("spikes", "blur"), Exposure(margin=0)),
        "LDN": (("spikes", "blur"), Exposure()),
    }
    with tempfile.TemporaryDirectory() as place:
        for sample in range(0 if o.base_folder else o.samples):
            _one_sample(Path(place), *o.size, split="train", name=f"{sample:06d}")
        folder = Path(o.base_folder or place)
        calls = {}
        for stage, (parts, exposure) in stages.items():
            for cache in ("none", "ram") if device.type == "cpu" else ("none", "ram", "device"):
                settings = {"parts": parts, "exposure": exposure, "crop": (o.roi_size, o.roi_size)}
                samples = SpikeDataset(folder, "train", **settings)
                samples.names, samples.sizes = samples.names[: o.samples], samples.sizes[: o.samples]
                if cache != "none":
                    samples.keep(device if cache == "device" else None)
                calls[f"{stage}, --cache {cache}"] = lambda key, samples=samples: Packed.collate([samples[key]])
        pictures = [str(samples._picture("blur", name)) for name in samples.names]
        calls = {"cv2.imread": lambda key: cv2.imread(pictures[key[1]])} | calls
        times = {name: [] for name in calls}
        for epoch in range(-2, o.repeats):  # two to warm up
            for index in range(len(pictures)):
                for name, call in calls.items():
                    seconds = seconds_of(partial(call, (abs(epoch), index)), device)
                    if epoch >= 0:
                        times[name].append(seconds)
    height, width = samples.sizes[0]
    print(f"samples of {height}x{width}, crops of {o.roi_size}, one thread", file=sys.stderr)
    rows = [{"reading": name, "ms": 1e3 * median(found), "spread": spread(found)} for name, found in times.items()]
    _table([row | {"of cv2.imread": row["ms"] / rows[0]["ms"]} for row in rows], o.json)


@dataclass(frozen=True)
class TrainOptions:
    base_folder: str = option("data/demo", "data set to train on, its pictures no smaller than the crops")
    stages: tuple[str, ...] = option(("BSN", "SR", "LDN", "LDN live", "LDN alone"), "which", choices=tuple(STAGES))
    roi_size: int = option(256, "side of the crops")
    bs: int = option(1, "pictures a batch")
    steps: int = option(60, "steps of each")
    tea_loss: str = option("ssim", "of LDN; published: lpips, which may download VGG", choices=("lpips", "ssim"))
    precision: str = option("auto", "as of the stages")
    compile: bool = option(False, "as of the stages")
    cache: str = option("none", "as of the stages")
    workers: int = option(2, "as of the stages")
    device: str = option("", "as of the stages")
    json: bool = option(False, "one JSON object a line")


def train(o: TrainOptions) -> None:
    """Train each stage for some steps on real data, and tell its arithmetic beside matrix products made before.

    The hours are those of the published length at the rate measured: nearest with --roi_size 512 --bs 4, as there, and
    for LDN with --tea_loss lpips. Demo scenes have 256x256 pixels; larger ones:
    python scripts/make_demo.py --output data/large --size 512
    """
    import torch

    from codes.data.dataset import SpikeDataset
    from codes.engine import distributed
    from codes.networks import BSN, EDSR
    from codes.reporting.run_record import read_curves, read_options

    height, width = min(SpikeDataset(o.base_folder, "train", parts=("spikes",)).sizes, key=min)
    if not 0 < o.roi_size <= min(height, width):  # a smaller crop would be trained on than is counted
        raise InputError(
            f"--roi_size {o.roi_size}: {o.base_folder} has pictures of {height}x{width}, into which crops of 4 to "
            f"{min(height, width)} fit. Larger pictures: python scripts/make_demo.py --output data/large --size "
            f"{max(512, -(-o.roi_size // 16) * 16)}, then --base_folder data/large"
        )
    device = distributed.chosen(o.device)
    rows, ceilings = [], {}
    with tempfile.TemporaryDirectory() as place:
        torch.save(BSN().state_dict(), f"{place}/bsn.pth")
        torch.save(EDSR().state_dict(), f"{place}/sr.pth")
        shared = {"base_folder": o.base_folder, "save_folder": place, "evaluate_every": 0, "epochs": 10**6}
        for name in ("bs", "steps", "precision", "compile", "cache", "workers"):
            shared[name] = getattr(o, name)
        for name in o.stages:
            script, folder, of_stage = STAGES[name]
            if script == "train_deblur":
                weights = {"bsn_path": f"{place}/bsn.pth", "sr_path": f"{place}/sr.pth"}
                of_stage = weights | {"tea_loss": o.tea_loss} | of_stage
            module, run = import_module(script), {"exp_name": name, "roi_size": (o.roi_size,), "device": device}
            module.main(module.Options(**shared, **run, **of_stage))
            curves = read_curves(f"{place}/{folder}/{name}")
            steps, waits = ([value for _, value in curves[f"speed/{what}"][1:]] for what in SPEED)
            precision = read_options(f"{place}/{folder}/{name}")["options"]["precision"]
            if precision not in ceilings:
                ceilings[precision] = matmul_rate(device, precision)
            rate = _step_flops(name, o.bs, o.roi_size) / median(steps)
            taught = script == "train_deblur" and of_stage.get("lambda_tea", 1)
            rows.append(
                {
                    "stage": name,
                    "teacher loss": o.tea_loss if taught else "none",
                    "precision": precision,
                    "ms a step": 1e3 * median(steps),
                    "spread": spread(steps),
                    "GFLOP/s": rate / 1e9,
                    "product GFLOP/s": ceilings[precision] / 1e9,
                    "share": rate / ceilings[precision],
                    "waiting": mean(waits),
                    "hours of published length": PUBLISHED[name] * _step_flops(name, 4, 512) / rate / 3600,
                }
            )
    if any(row["teacher loss"] == "ssim" for row in rows):
        print("hours of LDN are with ssim, not with the published loss: --tea_loss lpips", file=sys.stderr)
    _table(rows, o.json)


def _step_flops(name: str, batch: int, side: int) -> int:
    """Count the operations of a network, forward and backward, in one step of its stage."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from codes.data.spikes import UPSCALE
    from codes.networks import BSN, EDSR, LDN

    light = torch.empty(batch, 1, side // UPSCALE, side // UPSCALE, device="meta")
    windows = light.expand(-1, 21, -1, -1).repeat(5, 1, 1, 1)
    pictures = torch.empty(batch, 3, side, side, device="meta")
    net, inputs = {"BSN": (BSN, (light,)), "SR": (EDSR, (light,))}.get(name, (LDN, (pictures, windows)))
    with FlopCounterMode(display=False) as counter:
        net().to("meta")(*inputs).sum().backward()
    return counter.get_total_flops()


@dataclass(frozen=True)
class EvalOptions:
    size: tuple[int, ...] = option((720, 1280), "height and width of the pictures")
    repeats: int = option(15, "runs; medians are told")
    device: str = option("cpu", "where")
    json: bool = option(False, "one JSON object a line")


def evaluation(o: EvalOptions) -> None:
    """Time psnr, ssim and ssim_paper of one output, beside copying the two pictures that they read."""
    import torch

    from codes.evaluation.metrics import measure

    image, truth = (torch.rand(1, 3, *o.size, device=o.device) for _ in range(2))
    seconds = timed(lambda: measure(image, truth), repeats=o.repeats, device=o.device)
    copied = (image.nbytes + truth.nbytes) / (copy_rate(o.device) / 2)
    row = {"measuring": "psnr, ssim, ssim_paper", "pictures/s": 1 / median(seconds), "ms": 1e3 * median(seconds)}
    row |= {"spread": spread(seconds), "ms to copy both": 1e3 * copied, "copies": median(seconds) / copied}
    _table([row], o.json)


@dataclass(frozen=True)
class InferOptions:
    size: tuple[int, ...] = option((720, 1280), "height and width of the picture")
    instants: tuple[int, ...] = option((1, 7), "instants restored at once from one picture")
    precision: str = option("fp32", "of the arithmetic", choices=("fp32", "tf32", "bf16"))
    compile: bool = option(False, "torch.compile; on a GPU with CUDA graphs")
    repeats: int = option(7, "runs; medians are told")
    device: str = option("", "where [cuda where there is one]")
    json: bool = option(False, "one JSON object a line")


def infer(o: InferOptions) -> None:
    """Time LDN, its picture and spikes on the device already, beside a matrix product in the same precision."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from codes.data.spikes import UPSCALE
    from codes.engine import distributed
    from codes.networks import LDN

    device = distributed.start(o.device)
    torch.backends.cudnn.allow_tf32 = o.precision != "fp32"
    ceiling, rows = matmul_rate(device, o.precision), []
    net = LDN().to(device, memory_format=torch.channels_last).eval()
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    fast = torch.compile(net, mode=mode, dynamic=False) if o.compile else net
    height, width = (side // UPSCALE for side in o.size)
    blur = torch.rand(1, 3, *o.size, device=device).contiguous(memory_format=torch.channels_last)
    for instants in o.instants:
        spikes = torch.randint(2, (instants, 21, height, width), device=device).float()
        with torch.no_grad(), distributed.autocast(device, o.precision):
            with FlopCounterMode(display=False) as counter:
                net(blur, spikes)
            seconds = timed(lambda: fast(blur, spikes), repeats=o.repeats, device=device)  # noqa: B023
        flops, frame = counter.get_total_flops(), median(seconds) / instants
        row = {"instants": instants, "frames/s": 1 / frame, "ms a frame": 1e3 * frame, "spread": spread(seconds)}
        row |= {"GFLOP a frame": flops / instants / 1e9, "GFLOP/s": flops / median(seconds) / 1e9}
        rows.append(row | {"product GFLOP/s": ceiling / 1e9, "share": flops / median(seconds) / ceiling})
    print(f"LDN, {o.size[0]}x{o.size[1]}, {o.precision}{', compiled' if o.compile else ''}, {device}", file=sys.stderr)
    _table(rows, o.json)


@dataclass(frozen=True)
class RecipesOptions:
    size: tuple[int, ...] = option((720, 1280), "height and width of the picture of a sequence")
    roi_size: int = option(256, "side of the crops of a step")
    bs: int = option(1, "pictures a batch")
    repeats: int = option(7, "runs of each, in turn; medians are told")
    device: str = option("", "where [cuda where there is one]")
    json: bool = option(False, "one JSON object a line")


def recipes(o: RecipesOptions) -> None:
    """Time what recipes feed and restore beside the published one, in turn: steps of BSN and of LDN, whose labels are
    kept and loss is SSIM, and a sequence of LDN, thirteen instants. Spikes are on the device, not packed any more."""
    import torch

    from codes.data.spikes import UPSCALE, Exposure
    from codes.distillation.teachers import OWN_STEP
    from codes.engine import distributed
    from codes.evaluation.losses import mse, perceptual
    from codes.networks import BSN, LDN
    from codes.physics.intensity import estimate_intensity, ldn_input, match_picture_scale
    from codes.physics.sdm import tfp, windows
    from codes.recipe import RECIPES
    from codes.restoration.restorers import LOOKS, by_ldn

    device = distributed.start(o.device)
    exposure, short, length = Exposure(), 9, 21
    near, instants, shown = perceptual("ssim"), exposure.centers(24), exposure.evenly(OWN_STEP)

    def given(batch: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
        spikes = torch.rand(batch, exposure.total, height // UPSCALE, width // UPSCALE, device=device) < 0.3
        return torch.rand(batch, 3, height, width, device=device), spikes.to(torch.uint8)

    def step(net: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)

        def call() -> None:
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()

        return call

    bsn, ldn = (net.to(device, memory_format=torch.channels_last) for net in (BSN(), LDN(length)))
    blur, spikes = given(o.bs, o.roi_size, o.roi_size)
    labels = torch.rand(o.bs * len(instants), 3, o.roi_size, o.roi_size, device=device)

    def of_bsn(spike_input: str) -> torch.Tensor:
        noisy = tfp(estimate_intensity(spikes, spike_input), exposure.center, short)
        return mse(bsn(noisy), noisy)

    def of_ldn(name: str) -> torch.Tensor:
        light = estimate_intensity(spikes, RECIPES[name]["spike_input"])
        if RECIPES[name]["picture"] == "fused":
            return near(ldn(labels, windows(match_picture_scale(light, blur, exposure), instants, length)), labels)
        sizes = {"length": length, "short": short, "exposure": exposure}
        given = ldn_input(blur, light, **sizes, spike_input=RECIPES[name]["spike_input"])
        return near(ldn(*given(instants)), labels)

    def sequence(name: str, looks: int) -> None:
        settings = {"exposure": exposure, "short": short, "recipe": RECIPES[name], "number": looks}
        with torch.inference_mode():
            restore = by_ldn(ldn, *whole, **settings)
            for instant in shown:
                restore(instant)

    whole = given(1, *o.size)
    calls = {("a step of BSN", kind): step(bsn, partial(of_bsn, kind)) for kind in ("counts", "rates")}
    calls |= {("a step of LDN", name): step(ldn, partial(of_ldn, name)) for name in RECIPES}
    calls |= {("a sequence", name): partial(sequence, name, 1) for name in RECIPES}
    calls["a sequence", f"fused, {LOOKS} looks"] = partial(sequence, "fused", LOOKS)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for run in range(o.repeats + 1):  # one to warm up
        for key, call in calls.items():
            found = seconds_of(call, device)
            seconds[key] += [found] * (run > 0)
    first, rows = {}, []
    for (what, name), found in seconds.items():
        ratios = [one / other for one, other in zip(found, first.setdefault(what, found), strict=True)]
        row = {"what": what, "recipe": name, "ms": 1e3 * median(found), "of the first": median(ratios)}
        rows.append(row | {"spread": spread(ratios)})
    print("sequence of {}x{}, {} crop(s) of {}, {}".format(*o.size, o.bs, o.roi_size, device), file=sys.stderr)
    _table(rows, o.json)


@dataclass(frozen=True)
class GrowthOptions:
    picture: str = option(MISSING, "SVG file to write; what it draws goes beside it as CSV", positional=True)
    sides: tuple[int, ...] = option((64, 96, 128, 192, 256), "crops in spike pixels, each as a batch of one")
    batches: tuple[int, ...] = option((1, 2, 4, 8), "batches, each of crops of the first side")
    samples: tuple[int, ...] = option((16, 64, 128, 256), "sizes of data sets")
    size: tuple[int, ...] = option((360, 640), "height and width of their pictures")
    precision: str = option("fp32", "of the arithmetic", choices=("fp32", "tf32", "bf16"))
    repeats: int = option(3, "steps, after two to warm up; medians are told")
    device: str = option("", "where [cuda where there is one]")
    json: bool = option(False, "one JSON object a line")


def growth(o: GrowthOptions) -> None:
    """Measure a step of each network from small to large, then reading data sets."""
    from codes.engine import distributed
    from codes.reporting.cost import step_cost
    from codes.reporting.curves import HEIGHT, WIDTH, svg

    curves: dict[str, dict[str, list]] = {}

    def add(title: str, line: str, at: int, value: float) -> None:
        curves.setdefault(title, {}).setdefault(line, []).append((at, value))

    device = distributed.chosen(o.device)
    sizes = [("crop", side, 1) for side in o.sides] + [("batch", o.sides[0], batch) for batch in o.batches]
    for name in ("BSN", "SR", "LDN"):
        for against, side, batch in sizes:
            settings = {"precision": o.precision, "device": device, "repeats": o.repeats}
            found = step_cost(name, side=side, batch=batch, **settings)
            at = side if against == "crop" else batch
            add(f"ms a step against {against}", name, at, found["milliseconds"])
            if found["memory"] is not None:
                add(f"MB a step against {against}", name, at, found["memory"] / 1e6)
    for count in o.samples:
        for line, megabytes in _memory_of_data(count, o.size).items():
            add("MB of reading against samples", line, count, megabytes)
    panels = [svg(title, lines) for title, lines in curves.items()]
    places = ((WIDTH * (n % 2), (HEIGHT + 20) * (n // 2)) for n in range(len(panels)))
    placed = (f'<g transform="translate({x},{y})">{panel}</g>' for (x, y), panel in zip(places, panels, strict=True))
    size = f'width="{2 * WIDTH}" height="{(HEIGHT + 20) * -(-len(panels) // 2)}"'
    page = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(placed)}</svg>\n'
    rows = [
        {"curve": title, "of": line, "at": at, "value": value}
        for title, lines in curves.items()
        for line, points in lines.items()
        for at, value in points
    ]
    table = "".join(",".join(map(str, line)) + "\n" for line in (rows[0], *(row.values() for row in rows)))
    for path, text in ((Path(o.picture), page), (Path(o.picture).with_suffix(".csv"), table)):
        with replacing(path) as file:
            file.write(text.encode())
    _table(rows, o.json)


def _memory_of_data(count: int, size: tuple[int, ...]) -> dict[str, float]:
    """Return the megabytes that reading so many samples takes, and those that `--cache ram` says it keeps."""
    from codes.reporting.cost import reading_cost

    with tempfile.TemporaryDirectory() as place:
        _one_sample(Path(place), *size, split="train", name="0000")
        for first in list(Path(place).rglob("0000.*")):
            for number in range(1, count):
                first.with_stem(f"{number:04d}").hardlink_to(first)
        found = {f"--cache {cache}": reading_cost(place, cache, crop=128) for cache in ("none", "ram")}
    told = {line: one["memory"] / 1e6 for line, one in found.items() if one["memory"] is not None}
    return told | {"as ram says": found["--cache ram"]["kept"] / 1e6}


def _table(rows: list[dict], as_json: bool) -> None:
    if as_json:
        print("\n".join(json.dumps(row) for row in rows))
        return
    cells = [[f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    lines = [list(rows[0]), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


BENCHMARKS = {
    "data": (data, DataOptions),
    "interpolation": (interpolation, InterpolationOptions),
    "metrics": (metrics, MetricsOptions),
    "load": (load, LoadOptions),
    "train": (train, TrainOptions),
    "eval": (evaluation, EvalOptions),
    "infer": (infer, InferOptions),
    "recipes": (recipes, RecipesOptions),
    "growth": (growth, GrowthOptions),
}

if __name__ == "__main__":
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        sys.exit(f"{__doc__}\n{name or 'nothing'}: one of {', '.join(BENCHMARKS)} is accepted")
    program(*BENCHMARKS[name], __doc__)
