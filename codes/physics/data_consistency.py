"""Data-consistency step: the blurry picture minus the mean of restored frames is added to each of them."""

from torch import Tensor

from codes.data.spikes import Exposure

STEP = 8  # spike frames at most between the times that are averaged
INTERVALS = 12  # at least, where the exposure has as many spike frames


def consistency_times(exposure: Exposure) -> list[int]:
    """List the times, evenly over the exposure from its first frame to its last, whose mean is the picture."""
    return exposure.evenly(max(min(STEP, (exposure.length - 1) // INTERVALS), 1))


def mean_over_exposure(sharp: Tensor) -> Tensor:
    """Average frames [B,N,3,H,W], evenly over the exposure from end to end, into its picture: trapezoidal rule."""
    return (sharp.sum(1) - (sharp[:, 0] + sharp[:, -1]) / 2) / (sharp.shape[1] - 1)


def data_consistency_residual(sharp: Tensor, blur: Tensor) -> Tensor:
    """Return the picture [B,3,H,W] minus the mean of frames [B,N,3,H,W] over its exposure.

    Added to all of them it makes their mean the picture: the data consistency step of iterative reconstruction.
    """
    return blur - mean_over_exposure(sharp)
