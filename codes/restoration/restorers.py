"""Choose a method of restoration by its name, and load the weights of its networks."""

from dataclasses import dataclass
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
from codes.restoration.colour import with_colour_along_motion
from codes.restoration.reconstruction import Student

METHODS = ("ldn", "mfsr", "teacher", "sdm", "tfi", "tfp")
AVERAGING = ("ldn", "teacher", "sdm", "tfp")  # methods that average `bsn_len` spike frames
COLOURED = ("ldn", "mfsr", "teacher", "sdm")  # methods that restore colours
TILED = ("ldn", "teacher")  # methods that restore large pictures in tiles
WEIGHTS = {"ldn": ("deblur_path",), "teacher": ("bsn_path", "sr_path")}  # flags that name weights, by method
SHORT = 9  # spike frames averaged by default


@dataclass(frozen=True)
class RestorationSettings:
    """How pictures are restored: one of METHODS, its weights and its settings, which are those of scripts/deblur.py."""

    method: str = "ldn"
    deblur_path: str = ""
    bsn_path: str = ""
    sr_path: str = ""
    spike_input: str = ""
    consistency: str = ""
    colour: str = "motion"
    iterations: int = 0
    center_weight: float = 0.0
    bsn_len: int = SHORT
    spike_deblur_len: int = 21
    flow: str = "dis"
    raft_path: str = ""
    tile: int = 2048  # side in picture pixels; 0: the whole picture

    @property
    def window(self) -> int:
        """Spike frames that the method needs around a target time."""
        windows = {"ldn": max(self.spike_deblur_len, self.bsn_len), "tfi": 1, "mfsr": 1}
        return windows.get(self.method, self.bsn_len)

    @property
    def reach(self) -> int:
        """Spike frames beyond the exposure that the method uses."""
        reaches = {"tfi": methods.TFI_REACH, "tfp": self.window, "teacher": self.window}
        return reaches.get(self.method, max(self.window, methods.MOTION_REACH))

    @property
    def corrects_colour(self) -> bool:
        """Whether colours are corrected along motion."""
        return self.method in COLOURED and self.colour == "motion"

    @property
    def requires_data_consistency(self) -> bool:
        """Whether data consistency is asked for, so that windows have to fit around both ends of the exposure."""
        return self.consistency == "picture"

    def uses_data_consistency(self) -> bool:
        """Return whether the data-consistency residual is added: as `consistency` says, or else the weights of LDN."""
        if self.method != "ldn" or self.consistency:
            return self.requires_data_consistency
        path = weight_file("deblur_path", self.deblur_path)
        return settle({}, {path: read_recipe(path)}, PUBLISHED)["consistency"] == "picture"

    def weights(self) -> dict[str, str]:
        """Return the weight files that the method uses, by flag."""
        named = {"deblur_path": self.deblur_path, "bsn_path": self.bsn_path, "sr_path": self.sr_path}
        files = {flag: weight_file(flag, named[flag]) for flag in WEIGHTS.get(self.method, ())}
        return files | ({"raft_path": self.raft_path} if self.raft_path else {})


def restorer(settings: RestorationSettings, *, device: torch.device, is_compiled: bool = False) -> methods.Restore:
    """Return the function (blur, spikes, times, exposure=, view=) that restores so.

    Raises: InputError for weights that are missing or do not fit the settings.
    """
    if settings.tile % UPSCALE**2:
        raise InputError(f"--tile {settings.tile}: a multiple of {UPSCALE**2} is accepted, or 0")
    restore = _method(settings, device, is_compiled)
    return with_colour_along_motion(restore, settings.window) if settings.corrects_colour else restore


def _method(settings: RestorationSettings, device: torch.device, is_compiled: bool) -> methods.Restore:
    if settings.method == "ldn":
        student = load_student(settings, device=device)
        if is_compiled:
            compiled(student.net)
        return partial(refinement.restore, student, iterations=settings.iterations)
    if settings.method == "teacher":
        return partial(methods.teacher_frames, load_teacher(settings, device=device))
    if settings.method == "mfsr":
        return partial(
            methods.mfsr_frames, flow=flow_by_name(settings.flow, raft_path=settings.raft_path, device=device)
        )
    if settings.method == "tfi":
        return methods.tfi_frames
    if settings.method == "tfp":
        return partial(methods.tfp_frames, short=settings.bsn_len)
    return partial(
        methods.sdm_count_frames if settings.spike_input == "counts" else methods.sdm_frames, short=settings.bsn_len
    )


def load_student(settings: RestorationSettings, *, device: torch.device) -> Student:
    """Load LDN with its recipe.

    Raises: InputError for settings that its weights do not fit or do not use.
    """
    path = weight_file("deblur_path", settings.deblur_path)
    net = load(LDN(settings.spike_deblur_len), path)
    recipe = settle({"spike_input": settings.spike_input}, {path: read_recipe(path)}, PUBLISHED)
    check_bsn_len(recipe, settings.bsn_len, path=path)
    is_super_resolved = recipe["input"] == "mfsr"
    if settings.bsn_len != SHORT and (recipe["spike_input"] == "counts" or is_super_resolved):
        raise InputError(f"--bsn_len {settings.bsn_len}: {path} averages no spike frames; leave it out")
    if settings.iterations and not is_super_resolved:
        raise InputError(
            f"--iterations {settings.iterations}: {path} is not fed super-resolved input, it has one iteration"
        )
    if settings.flow != "dis" and not is_super_resolved:
        raise InputError(f"--flow {settings.flow}: {path} is not fed super-resolved input, it uses no flow")
    return Student(
        net.to(device, memory_format=memory_format(device)).eval(),
        recipe | ({"consistency": settings.consistency} if settings.consistency else {}),
        short=settings.bsn_len,
        tile=settings.tile // UPSCALE,
        flow=flow_by_name(settings.flow, raft_path=settings.raft_path, device=device),
    )


def load_teacher(settings: RestorationSettings, *, device: torch.device) -> NetworkTeacher:
    """Load the published teacher, BSN and EDSR."""
    bsn_path, sr_path = weight_file("bsn_path", settings.bsn_path), weight_file("sr_path", settings.sr_path)
    recipes = {path: read_recipe(path) for path in (bsn_path, sr_path)}
    bsn, edsr = (
        load(net, path).to(device, memory_format=memory_format(device)).eval()
        for net, path in ((BSN(), bsn_path), (EDSR(), sr_path))
    )
    return NetworkTeacher(
        TiledBSN(bsn, tile=settings.tile // UPSCALE),
        TiledEDSR(edsr, tile=settings.tile // UPSCALE),
        short=settings.bsn_len,
        center_weight=settings.center_weight,
        spike_input=settle({"spike_input": settings.spike_input}, recipes, PUBLISHED)["spike_input"],
    )


def weight_file(flag: str, path: str) -> str:
    """Return the weight file that a flag names, or else the one in model/."""
    if found := path or in_model(flag):
        return found
    raise no_weights(flag)
