"""From the options of a training script to its run: what all three stages share; `student*` are parts of stage 3."""

from codes.stage.loaders import exposure_read, keep_labels
from codes.stage.networks import initial_network, network
from codes.stage.options import (
    StageOptions,
    as_reference,
    refuse_full_spikes,
    settle_recipe,
    training_option,
    with_defaults,
)
from codes.stage.run import open_run
from codes.stage.training import train_or_evaluate

__all__ = [
    "StageOptions",
    "as_reference",
    "exposure_read",
    "initial_network",
    "keep_labels",
    "network",
    "open_run",
    "refuse_full_spikes",
    "settle_recipe",
    "train_or_evaluate",
    "training_option",
    "with_defaults",
]
