"""Export LDN for other runtimes, as ONNX and as a torch.export program, for any size and number of target times.

    python scripts/export.py model/LDN.pth --out exported/

Inputs, by the recipe of the weight file:
    blur    float32 [1,3,H,W]: the blurry picture, BGR in [0,1], H and W multiples of 4. For weights whose input is the
            multi-frame super-resolved picture: [N,3,H,W], that picture at each of the N target times.
    spikes  float32 [N,21,H/4,W/4]: windows of 21 spike frames centred at the N target times. Spikes of 0 and 1 for
            weights on spike counts, else ISI intensity in the scale of the picture.
    start   float32 [N,3,H,W]: the closed-form result at each target time; only for weights on ISI intensity that are
            given the blurry picture (`codes.distillation.student_input.closed_form_input` computes all three inputs).
Output:
    sharp   float32 [N,3,H,W], to be clipped to [0,1]. For weights with data consistency, first add the residual of
            `codes.physics.data_consistency.data_consistency_residual`.

Every written file is read again, run at other sizes, and compared with PyTorch.
"""

import io
import sys
import warnings
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from torch import Tensor

from codes.cli import option, program
from codes.data.spikes import UPSCALE
from codes.errors import InputError
from codes.files import replacing
from codes.networks import LDN, load, read_recipe
from codes.recipe import Recipe

Run = Callable[..., Tensor]
SMALLEST, LARGEST = 8, 4096  # sides in spike pixels
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Options:
    weights: str = option(MISSING, "weights of LDN", positional=True)
    out: str = option("exported", "folder of LDN.onnx and LDN.pt2")
    formats: tuple[str, ...] = option(("onnx", "pt2"), "formats to write", choices=("onnx", "pt2"))
    spike_deblur_len: int = option(21, "spike frames around a target time in the input of LDN")
    force: bool = option(False, "overwrite existing files")


def main(o: Options) -> None:
    net = load(LDN(o.spike_deblur_len), o.weights).eval()
    recipe = read_recipe(o.weights)
    paths = {name: Path(o.out, f"LDN.{name}") for name in o.formats}
    for path in paths.values():
        if path.exists() and not o.force:
            raise InputError(f"{path}: exists already; choose another --out, or overwrite it with --force")
    for name, path in paths.items():
        write, read = FORMATS[name]
        content = write(net, recipe)
        difference = compare(net, read(content), recipe)
        if difference > TOLERANCE:
            raise InputError(
                f"{path}: not written, its output differs from PyTorch's by {difference:.1e}; {TOLERANCE:g} is accepted"
            )
        with replacing(path) as file:
            file.write(content)
        print(f"{path}: {len(content) / 1e6:.2f} MB, largest difference to PyTorch {difference:.1e}")


def example(times: int, height: int, width: int, frames: int, recipe: Recipe) -> tuple[Tensor, ...]:
    """Return random inputs of LDN for spikes of height x width, as the recipe asks for them."""
    spikes = torch.randint(2, (times, frames, height, width)).float()
    blur, start = (torch.rand(count, 3, UPSCALE * height, UPSCALE * width) for count in (1, times))
    if recipe["input"] == "mfsr":
        return start, spikes
    return (blur, spikes, start) if recipe["spike_input"] == "isi" else (blur, spikes)


@torch.inference_mode()
def compare(net: LDN, run: Run, recipe: Recipe) -> float:
    """Return the largest difference of an exported program to the network, over several sizes."""
    frames = net.spike_enc[0].in_channels
    inputs = [example(*size, frames, recipe) for size in ((1, 45, 80), (3, 24, 32), (2, 33, 17))]
    return max((run(*given) - net(*given)).abs().max().item() for given in inputs)


def to_onnx(net: LDN, recipe: Recipe) -> bytes:
    sides = {2: "height", 3: "width"}
    axes = {"blur": sides, "spikes": {0: "times", 2: "height/4", 3: "width/4"}, "sharp": {0: "times", **sides}}
    axes["start"] = axes["sharp"]
    if recipe["input"] == "mfsr":
        axes["blur"] = axes["sharp"]
    inputs, content = example(2, 24, 32, net.spike_enc[0].in_channels, recipe), io.BytesIO()
    names = ["blur", "spikes", "start"][: len(inputs)]
    try:
        with warnings.catch_warnings():
            # The tracing exporter is deprecated, but the only one that PyTorch has from 2.4 on.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                net,
                inputs,
                content,
                dynamo=False,
                input_names=names,
                output_names=["sharp"],
                dynamic_axes={name: axes[name] for name in (*names, "sharp")},
            )
    except (ImportError, torch.onnx.errors.OnnxExporterError) as error:
        raise _missing(error) from None
    return content.getvalue()


def from_onnx(content: bytes) -> Run:
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing(error) from None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return lambda *inputs: torch.from_numpy(
        np.asarray(session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})[0])
    )


def _missing(error: Exception) -> InputError:
    return InputError(
        f"--formats onnx needs the packages onnx and onnxruntime ({error}): pip install onnx onnxruntime, or choose "
        "--formats pt2"
    )


def to_program(net: LDN, recipe: Recipe) -> bytes:
    height, width = (torch.export.Dim(name, min=SMALLEST, max=LARGEST) for name in ("height", "width"))
    times, sides = torch.export.Dim("times"), {2: UPSCALE * height, 3: UPSCALE * width}
    each = {0: times, **sides}
    shapes = (each if recipe["input"] == "mfsr" else sides, {0: times, 2: height, 3: width}, each)
    inputs, content = example(2, 24, 32, net.spike_enc[0].in_channels, recipe), io.BytesIO()
    torch.export.save(torch.export.export(net, inputs, dynamic_shapes=shapes[: len(inputs)]), content)
    return content.getvalue()


def from_program(content: bytes) -> Run:
    return torch.export.load(io.BytesIO(content)).module()


FORMATS = {"onnx": (to_onnx, from_onnx), "pt2": (to_program, from_program)}

if __name__ == "__main__":
    program(main, Options, __doc__)
