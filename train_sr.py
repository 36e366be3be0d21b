"""Stage 2: train EDSR, which enlarges gray pictures of the spike camera by 4, taught by the blurry picture alone.

    python train_sr.py --base_folder GOPRO/ --data_type GOPRO
    python train_sr.py --test_mode --bsn_path model/BSN_1000.pth --sr_path model/SR_70.pth --data_type GOPRO

Input: the TFP over the whole exposure, which is as blurry as the picture.
Loss: the distance to the gray blurry picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from codes import stage
from codes.cli import option, program
from codes.data.batches import Batch
from codes.data.spikes import UPSCALE
from codes.engine import Pair, constant
from codes.engine.tables import Rows
from codes.evaluation.losses import mse
from codes.networks import BSN, EDSR
from codes.physics.intensity import estimate_intensity
from codes.physics.sdm import gray, tfp


@dataclass(frozen=True)
class Options(stage.StageOptions):
    lr: float = stage.training_option(2e-4, "learning rate of Adam, constant")
    bsn_len: int = option(
        9,
        "spike frames averaged around a target time: the short TFP that BSN denoises",
        aliases=("spike_bsn_len",),
        idle=lambda o: "" if o.bsn_path else "without --bsn_path",
    )
    bsn_path: str = option(
        "",
        "weights of BSN, for the rows BSN of the table",
        idle=lambda o: "" if o.test_mode or o.evaluate_every else "with --evaluate_every 0",
    )
    sr_path: str = option("", "weights of EDSR: to evaluate with --test_mode, else to start from (fine-tuning)")


def nearest(intensity: Tensor) -> Tensor:
    return F.interpolate(intensity, scale_factor=UPSCALE, mode="nearest")


def main(o: Options) -> Rows:
    stage.refuse_full_spikes(o)
    o = stage.with_defaults(o)
    recipe = stage.settle_recipe(o, o.sr_path, o.bsn_path)
    run, exposure = stage.open_run(o, "sr"), stage.exposure_read(recipe, margin=0)
    net = stage.initial_network(o, EDSR(), "--sr_path", run)
    bsn = stage.network(BSN(), o.bsn_path, run).eval() if o.bsn_path else None

    def losses(net: nn.Module, batch: Batch) -> Iterator[dict[str, Tensor]]:
        long = tfp(estimate_intensity(batch.spikes, recipe["spike_input"]), exposure.center, exposure.length)
        fine = net(long)
        yield {"sr": mse(fine.clamp(0, 1) if stage.as_reference(o) else fine, gray(batch.blur))}

    def compare(net: nn.Module, batch: Batch) -> dict[str, Pair]:
        intensity = estimate_intensity(batch.spikes, recipe["spike_input"])
        long = tfp(intensity, exposure.center, exposure.length)
        blur = gray(batch.blur)
        pairs = {f"TFP_{exposure.length} nearest": Pair(nearest(long), blur), "SR against blur": Pair(net(long), blur)}
        if bsn:
            short = tfp(intensity, exposure.center, o.bsn_len)
            clean = bsn(short).clamp(0, 1)
            sharp = None if batch.sharp is None else gray(batch.sharp)
            outputs = {f"TFP_{o.bsn_len} nearest": nearest(short), "BSN nearest": nearest(clean), "BSN SR": net(clean)}
            pairs |= {name: Pair(image, sharp) for name, image in outputs.items()}
        return pairs

    return stage.train_or_evaluate(
        o,
        run,
        net,
        losses,
        compare,
        train_fields=("spikes", "blur"),
        test_fields=("spikes", "blur", "sharp") if bsn else ("spikes", "blur"),
        exposure=exposure,
        lr=lambda batches: constant(o.lr),
        name="SR",
        recipe=recipe,
    )


if __name__ == "__main__":
    program(main, Options, __doc__)
