"""From the options of a training script to its run: what all three stages share; `student*` are parts of stage 3."""

from codes.stage.loaders import exposure_read, keep_labels
from codes.stage.networks import initial_network, network
from codes.stage.options import (
    StageOptions,
    as_reference,
    in_test_mode,
    need,
    refuse_full_spikes,
    settle_recipe,
    training_option,
    with_defaults,
)
from codes.stage.run import Run, open_run
from codes.stage.training import train_or_evaluate

__all__ = [
    "Run",
    "StageOptions",
    "as_reference",
    "exposure_read",
    "in_test_mode",
    "initial_network",
    "keep_labels",
    "need",
    "network",
    "open_run",
    "refuse_full_spikes",
    "settle_recipe",
    "train_or_evaluate",
    "training_option",
    "with_defaults",
]
