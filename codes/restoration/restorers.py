"""Restorers: the methods of restoration by name, with the weights of their networks loaded."""

from functools import partial

import torch

from codes.data.spikes import UPSCALE
from codes.distillation.teachers import NetworkTeacher
from codes.errors import InputError
from codes.memory_format import memory_format
from codes.motion.warping import flow_by_name
from codes.networks import BSN, EDSR, LDN, load, read_recipe
from codes.networks.tiling import TiledBSN, TiledEDSR, compiled
from codes.recipe import PUBLISHED, check_bsn_len, in_model, no_weights, settle
from codes.restoration import methods, refinement
from codes.restoration.reconstruction import Student

METHODS = ("ldn", "mfsr", "teacher", "sdm", "tfi", "tfp")
AVERAGING = ("ldn", "teacher", "sdm", "tfp")  # methods that average `short` spike frames
COLOURED = ("ldn", "mfsr", "teacher", "sdm")  # methods that restore colours
WEIGHTS = {"ldn": ("deblur_path",), "teacher": ("bsn_path", "sr_path")}  # flags that name weights, by method
SHORT = 9  # spike frames averaged by default


def restorer(
    method: str,
    *,
    device: torch.device,
    deblur_path: str,
    bsn_path: str,
    sr_path: str,
    spike_deblur_len: int,
    short: int,
    spike_input: str,
    consistency: str,
    iterations: int,
    center_weight: float,
    tile: int,
    is_compiled: bool,
    flow: str = "dis",
    raft_path: str = "",
) -> methods.Restore:
    """Return the function (blur, spikes, times, exposure=) of one of METHODS. Arguments are those of scripts/deblur.py.

    short: spike frames averaged; tile: side in picture pixels, 0: the whole picture.
    Raises: InputError for weights that are missing or do not fit the other arguments.
    """
    if tile % UPSCALE**2:
        raise InputError(f"--tile {tile}: a multiple of {UPSCALE**2} is accepted, or 0")
    if method == "ldn":
        student = load_student(
            deblur_path,
            device=device,
            spike_deblur_len=spike_deblur_len,
            short=short,
            spike_input=spike_input,
            consistency=consistency,
            iterations=iterations,
            tile=tile // UPSCALE,
        )
        if flow != "dis" and student.recipe["input"] != "mfsr":
            path = weight_file("deblur_path", deblur_path)
            raise InputError(f"--flow {flow}: {path} is not fed super-resolved input, it uses no flow")
        student = student._replace(flow=flow_by_name(flow, raft_path=raft_path, device=device))
        if is_compiled:
            compiled(student.net)
        return partial(refinement.restore, student, iterations=iterations)
    if method == "teacher":
        teacher = load_teacher(
            bsn_path,
            sr_path,
            device=device,
            short=short,
            spike_input=spike_input,
            center_weight=center_weight,
            tile=tile // UPSCALE,
        )
        return partial(methods.teacher_frames, teacher)
    if method == "mfsr":
        return partial(methods.mfsr_frames, flow=flow_by_name(flow, raft_path=raft_path, device=device))
    if method == "tfi":
        return methods.tfi_frames
    if method == "tfp":
        return partial(methods.tfp_frames, short=short)
    return partial(methods.sdm_count_frames if spike_input == "counts" else methods.sdm_frames, short=short)


def load_student(
    path: str,
    *,
    device: torch.device,
    spike_deblur_len: int,
    short: int,
    spike_input: str,
    consistency: str,
    iterations: int,
    tile: int,
) -> Student:
    """Load LDN with its recipe, for pictures in tiles of a side in spike pixels.

    Raises: InputError for arguments that its weights do not fit or do not use.
    """
    path = weight_file("deblur_path", path)
    net = load(LDN(spike_deblur_len), path)
    recipe = settle({"spike_input": spike_input}, {path: read_recipe(path)}, PUBLISHED)
    check_bsn_len(recipe, short, path=path)
    if short != SHORT and (recipe["spike_input"] == "counts" or recipe["input"] == "mfsr"):
        raise InputError(f"--bsn_len {short}: {path} averages no spike frames; leave it out")
    if iterations and recipe["input"] != "mfsr":
        raise InputError(f"--iterations {iterations}: {path} is not fed super-resolved input, it has one iteration")
    net = net.to(device, memory_format=memory_format(device)).eval()
    return Student(net, recipe | ({"consistency": consistency} if consistency else {}), short, tile)


def load_teacher(
    bsn_path: str,
    sr_path: str,
    *,
    device: torch.device,
    short: int,
    spike_input: str,
    center_weight: float,
    tile: int,
) -> NetworkTeacher:
    """Load the published teacher, BSN and EDSR, for pictures in tiles of a side in spike pixels."""
    bsn_path, sr_path = weight_file("bsn_path", bsn_path), weight_file("sr_path", sr_path)
    recipes = {path: read_recipe(path) for path in (bsn_path, sr_path)}
    return NetworkTeacher(
        TiledBSN(load(BSN(), bsn_path).to(device, memory_format=memory_format(device)).eval(), tile=tile),
        TiledEDSR(load(EDSR(), sr_path).to(device, memory_format=memory_format(device)).eval(), tile=tile),
        short=short,
        center_weight=center_weight,
        spike_input=settle({"spike_input": spike_input}, recipes, PUBLISHED)["spike_input"],
    )


def weight_file(flag: str, path: str) -> str:
    """Return the weight file that a flag names, or else the one in model/."""
    if found := path or in_model(flag):
        return found
    raise no_weights(flag)


def weights_of(method: str, *, deblur_path: str, bsn_path: str, sr_path: str) -> dict[str, str]:
    """Return the weight files that a method uses, by flag."""
    named = {"deblur_path": deblur_path, "bsn_path": bsn_path, "sr_path": sr_path}
    return {flag: weight_file(flag, named[flag]) for flag in WEIGHTS.get(method, ())}


def has_consistency(method: str, *, deblur_path: str, consistency: str) -> bool:
    """Return whether a method adds the data-consistency residual: as `consistency` says, or else the weights."""
    if method != "ldn" or consistency:
        return consistency == "picture"
    path = weight_file("deblur_path", deblur_path)
    return settle({}, {path: read_recipe(path)}, PUBLISHED)["consistency"] == "picture"
