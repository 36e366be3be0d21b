"""Stage 1: train BSN, which denoises the short TFP of a spike stream with nothing but spikes to learn from.

    python train_bsn.py --base_folder GOPRO/ --bsn_len 9 --data_type GOPRO
    python train_bsn.py --test_mode --bsn_path model/BSN_1000.pth --data_type GOPRO

Input: the TFP of 9 spike frames at five target times of each sample, an optimiser step for each.
Loss: the distance of the output to its own input, which it cannot see (blind spot).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from codes import stage
from codes.cli import option, program
from codes.data.batches import Batch
from codes.engine import Pair, cosine
from codes.engine.tables import Rows
from codes.evaluation.losses import mse
from codes.networks import BSN
from codes.physics.intensity import estimate_intensity
from codes.physics.sdm import at_spike_size, gray, tfp


@dataclass(frozen=True)
class Options(stage.StageOptions):
    bsn_path: str = option("", "weights of BSN: to evaluate with --test_mode, else to start from (fine-tuning)")
    lr: float = stage.training_option(3e-4, "learning rate of Adam, falling to 0 along a cosine")
    epochs: int = stage.training_option(1001, "passes over the training data")
    blur_step: int = stage.training_option(24, "spike frames between the target times of a sample")


def main(o: Options) -> Rows:
    o = stage.with_defaults(o)
    recipe = stage.settle_recipe(o, o.bsn_path)
    run, exposure = stage.open_run(o, "bsn"), stage.exposure_read(recipe, margin=o.bsn_len // 2)
    net = stage.initial_network(o, BSN(kaiming=not stage.as_reference(o)), "--bsn_path", run)

    def losses(net: nn.Module, batch: Batch) -> Iterator[dict[str, Tensor]]:
        intensity = estimate_intensity(batch.spikes, recipe["spike_input"])
        for center in exposure.centers(o.blur_step):
            noisy = tfp(intensity, center, o.bsn_len)
            clean = net(noisy)
            yield {"self": mse(clean.clamp(0, 1) if stage.as_reference(o) else clean, noisy)}

    def compare(net: nn.Module, batch: Batch) -> dict[str, Pair]:
        noisy = tfp(estimate_intensity(batch.spikes, recipe["spike_input"]), exposure.center, o.bsn_len)
        truth = None if batch.sharp is None else at_spike_size(gray(batch.sharp), noisy)
        return {f"TFP_{o.bsn_len}": Pair(noisy, truth), "BSN": Pair(net(noisy), truth)}

    return stage.train_or_evaluate(
        o,
        run,
        net,
        losses,
        compare,
        train_fields=("spikes",),
        test_fields=("spikes", "sharp"),
        exposure=exposure,
        lr=lambda batches: cosine(o.lr, levels=batches.epochs if stage.as_reference(o) else 0),
        name="BSN",
        recipe=recipe,
    )


if __name__ == "__main__":
    program(main, Options, __doc__)
