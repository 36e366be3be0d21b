"""Export LDN for other runtimes, as ONNX and as a program of torch.export: any size, any number of instants.

    python scripts/export.py model/LDN.pth --out exported/

Inputs:  blur    float32 [1,3,H,W], BGR in [0,1], H and W multiples of 4; of weights of the recipe "fused" [N,3,H,W],
                 what fusion along motion made of it
         spikes  float32 [N,21,H/4,W/4] of 0 and 1, N windows of spike frames, an instant in the middle of each
         start   float32 [N,3,H,W], what the closed form makes of them; only of weights of the recipe "rates"
         (instead of spikes, both recipes take rates in the scale of the picture: of "rates"
         `codes.physics.intensity.ldn_input` makes all three; of "fused"
         `codes.restoration.restorers.looks` shows how motion-compensated intensity is cut and given)
Output:  sharp   float32 [N,3,H,W], around [0,1]: clip it; of the recipe "fused" after what the mean of instants over
                 the exposure lacks of the blurry picture was added to all
                 (`codes.physics.sdm.data_consistency_residual`)

What was written is read again, run at other sizes than it was made at, and compared with torch.
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
    out: str = option("exported", "folder for LDN.onnx and LDN.pt2")
    formats: tuple[str, ...] = option(("onnx", "pt2"), "what to write", choices=("onnx", "pt2"))
    spike_deblur_len: int = option(21, "raw spike frames that LDN sees")
    force: bool = option(False, "write over what is there")


def main(o: Options) -> None:
    net = load(LDN(o.spike_deblur_len), o.weights).eval()
    recipe = read_recipe(o.weights)
    paths = {name: Path(o.out, f"LDN.{name}") for name in o.formats}
    for path in paths.values():
        if path.exists() and not o.force:
            raise InputError(f"{path}: exists; name another --out, or write over it with --force")
    for name, path in paths.items():
        write, read = FORMATS[name]
        content = write(net, recipe)
        difference = compare(net, read(content), recipe)
        if difference > TOLERANCE:
            raise InputError(f"{path}: not written, its output differs from torch's by {difference:.1e}")
        with replacing(path) as file:
            file.write(content)
        print(f"{path}: {len(content) / 1e6:.2f} MB, differs from torch by {difference:.1e} at most")


def example(instants: int, height: int, width: int, frames: int, recipe: Recipe) -> tuple[Tensor, ...]:
    """Return random pictures, windows of spikes of height x width, and, of the recipe "rates", where to start."""
    spikes = torch.randint(2, (instants, frames, height, width)).float()
    blur, start = (torch.rand(count, 3, UPSCALE * height, UPSCALE * width) for count in (1, instants))
    if recipe["picture"] == "fused":
        return start, spikes
    return (blur, spikes, start) if recipe["spike_input"] == "rates" else (blur, spikes)


@torch.inference_mode()
def compare(net: LDN, run: Run, recipe: Recipe) -> float:
    """Return the largest difference of what was exported to the network, over several sizes."""
    frames = net.spike_enc[0].in_channels
    inputs = [example(*size, frames, recipe) for size in ((1, 45, 80), (3, 24, 32), (2, 33, 17))]
    return max((run(*given) - net(*given)).abs().max().item() for given in inputs)


def to_onnx(net: LDN, recipe: Recipe) -> bytes:
    sides = {2: "height", 3: "width"}
    axes = {"blur": sides, "spikes": {0: "instants", 2: "height/4", 3: "width/4"}, "sharp": {0: "instants", **sides}}
    axes["start"] = axes["sharp"]
    if recipe["picture"] == "fused":
        axes["blur"] = axes["sharp"]
    content = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # The exporter by tracing is called old; it is the one that all versions from 2.4 on have.
            warnings.simplefilter("ignore")
            inputs = example(2, 24, 32, net.spike_enc[0].in_channels, recipe)
            names = {
                "input_names": ["blur", "spikes", "start"][: len(inputs)],
                "output_names": ["sharp"],
            }
            names["dynamic_axes"] = {name: axes[name] for name in (*names["input_names"], "sharp")}
            torch.onnx.export(net, inputs, content, dynamo=False, **names)
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
    return InputError(f"--formats onnx needs the packages onnx and onnxruntime ({error}); pip install onnx onnxruntime")


def to_program(net: LDN, recipe: Recipe) -> bytes:
    height, width = (torch.export.Dim(name, min=SMALLEST, max=LARGEST) for name in ("height", "width"))
    instants, sides = torch.export.Dim("instants"), {2: UPSCALE * height, 3: UPSCALE * width}
    each = {0: instants, **sides}
    shapes = (each if recipe["picture"] == "fused" else sides, {0: instants, 2: height, 3: width}, each)
    inputs, content = example(2, 24, 32, net.spike_enc[0].in_channels, recipe), io.BytesIO()
    torch.export.save(torch.export.export(net, inputs, dynamic_shapes=shapes[: len(inputs)]), content)
    return content.getvalue()


def from_program(content: bytes) -> Run:
    return torch.export.load(io.BytesIO(content)).module()


FORMATS = {"onnx": (to_onnx, from_onnx), "pt2": (to_program, from_program)}

if __name__ == "__main__":
    program(main, Options, __doc__)
